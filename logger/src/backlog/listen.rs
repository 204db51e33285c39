//! A listener, also where a server that was killed has left the name of its socket.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use reactor::{Address, Error, EventBase, ListenOptions, Listener, Result};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Takes the address; nothing is accepted before the listener is enabled. The name of a Unix socket on which nobody listens
/// is replaced.
pub(crate) fn listen(base: &EventBase, address: &Address) -> Result<Listener> {
    let options = ListenOptions { disabled: true, ..ListenOptions::default() };
    let bind = || Listener::bind_with(base, address, &options, |_, _, _| ());
    let Address::Path(path) = address else { return bind() };
    // Two servers that start must not remove each other's names.
    let folder = lock_folder(path);
    match bind() {
        Err(Error::Listen { source, .. })
            if source.kind() == io::ErrorKind::AddrInUse && folder.is_some() && remove_left_over(path) =>
        {
            bind()
        }
        outcome => outcome,
    }
}

/// Ends a listener and takes its name away.
pub(crate) fn free(listener: &Listener) {
    // In this order: a name without a listener is anybody's.
    if let Ok(Address::Path(path)) = listener.local_address() {
        let _ = fs::remove_file(path);
    }
    listener.free();
}

/// The folder of a path, locked until it is dropped; `None` if that cannot be had.
fn lock_folder(path: &Path) -> Option<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::File::open(folder.unwrap_or(Path::new("."))).ok()?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(folder)
}

/// Removes a socket on which nobody listens. Whether the path is free now.
fn remove_left_over(path: &Path) -> bool {
    let Ok(before) = fs::symlink_metadata(path) else { return false };
    if !before.file_type().is_socket() || try_connect(path) != Err(Errno::CONNREFUSED) {
        return false;
    }
    let is_same = |now: fs::Metadata| (now.dev(), now.ino()) == (before.dev(), before.ino());
    fs::symlink_metadata(path).is_ok_and(is_same) && fs::remove_file(path).is_ok()
}

/// Connects without waiting: a listener that is busy is one.
fn try_connect(path: &Path) -> rustix::io::Result<()> {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    connect(&socket, &SocketAddrUnix::new(path)?)
}
