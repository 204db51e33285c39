//! The path of a Unix socket whose listener was killed.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};

/// Binds to a path, and once more if it was that of a socket on which nobody listens.
pub(crate) fn bind_over<T>(path: &Path, bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    // Two that start must not remove each other's names.
    let folder = lock_folder(path);
    match bind() {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse && folder.is_some() && remove(path) => bind(),
        outcome => outcome,
    }
}

/// The folder of a path, locked until it is dropped; `None` if that cannot be had.
fn lock_folder(path: &Path) -> Option<fs::File> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = fs::File::open(folder.unwrap_or(Path::new("."))).ok()?;
    flock(&folder, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(folder)
}

/// Removes a socket on which nobody listens. Whether the path is free now.
fn remove(path: &Path) -> bool {
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
