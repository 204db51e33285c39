//! The one system call that no safe crate offers, and the only file of this crate with unsafe code.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use libc::{c_int, socklen_t};

/// Sets `TCP_DEFER_ACCEPT`: the kernel holds a connection back until it has bytes, or for about this many seconds.
pub(crate) fn set_tcp_defer_accept(socket: BorrowedFd<'_>, seconds: c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call, since it is borrowed. The kernel reads `optlen` bytes
    // at `optval`, which are the bytes of `seconds`, alive and initialised until the call returns; it keeps neither.
    let outcome = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of::<c_int>() as socklen_t,
        )
    };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
