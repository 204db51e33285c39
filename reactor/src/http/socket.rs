//! What HTTP asks of its sockets.

use std::os::fd::AsFd;

use socket2::SockRef;

/// Bytes of a message that the kernel holds unsent. Twice what it sends while the loop turns on a fast network.
const MOST_HELD: u32 = 128 * 1024;

/// Has the kernel take no more of a message than it can send soon, so that it takes more each time that the peer has read a
/// little. Else it would take megabytes at once and then, of a slow peer, nothing for so long that this would be given up.
pub(super) fn hold_little_unsent(socket: impl AsFd) {
    // Sockets that are not TCP have no such thing.
    let _ = SockRef::from(&socket).set_tcp_notsent_lowat(MOST_HELD);
}
