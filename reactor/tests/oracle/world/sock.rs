//! Descriptors, addresses, files, signals and time: the surroundings of a scenario.

use std::cell::{Cell, RefCell};
use std::fs;
use std::io::Write as _;
use std::mem::MaybeUninit;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process;
use std::rc::Rc;
use std::thread;
use std::time::{Duration, Instant};

use reactor::{Address, LoopFlags};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{Errno, FdFlags, fcntl_getfd, ioctl_fionbio};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, Shutdown, SocketFlags, SocketType, accept, getsockname, recv, send,
    shutdown, socketpair,
};
use signal_hook::low_level::raise;
use socket2::{Domain, SockAddr, SockRef, Socket, Type};

use super::{Named, Op, World, op};
use crate::names::{err_name, signal_number};
use crate::script::{num, size};
use crate::trace::Digest;

/// `settle` ends after so many steps in a row without a callback ...
const QUIET_STEPS: u32 = 20;
/// ... with this pause between them.
const QUIET_PAUSE: Duration = Duration::from_millis(2);
/// Until the listening side has seen the last packet of a handshake, too.
const HANDSHAKE: Duration = Duration::from_millis(5);
/// The longest `pump`.
const PUMP: Duration = Duration::from_secs(10);
/// One `recv`.
const CHUNK: usize = 65_536;

#[derive(Default)]
pub(super) struct Surroundings {
    fds: Named<Rc<Fd>>,
    addresses: Named<Address>,
    paths: Cell<u32>,
    stopwatch: Cell<Option<Instant>>,
}

/// A descriptor that has a name. In C the name is a number that anybody may use; here somebody owns the descriptor,
/// and the name keeps the number.
struct Fd {
    number: RawFd,
    /// `None` while something of the crate owns it.
    owned: RefCell<Option<Rc<OwnedFd>>>,
}

pub(super) const OPS: &[Op] = &[
    op("pair", 2, 2, pair),
    op("server", 1, 1, |world, arg| world.serve(arg[0])),
    op("deadport", 1, 1, deadport),
    op("unixpath", 1, 2, unixpath),
    op("unlink", 1, 1, unlink),
    op("dial", 2, 2, |world, arg| world.dial(arg[0], arg[1])),
    op("accept", 2, 2, |world, arg| world.accept(arg[0], arg[1])),
    op("tcp", 2, 2, tcp),
    op("file", 2, 2, file),
    op("dup", 2, 2, |world, arg| world.fd_put(arg[0], world.fd(arg[1]).try_clone().expect("a duplicate"))),
    op("close", 1, 1, |world, arg| drop(world.fd_release(arg[0]))),
    op("reset", 1, 1, reset),
    op("shut", 2, 2, shut),
    op("sndbuf", 2, 2, sndbuf),
    op("isopen", 1, 1, isopen),
    op("fdflags", 1, 1, fdflags),
    op("put", 2, 2, put),
    op("fill", 1, 1, fill),
    op("get", 2, 2, get),
    op("pump", 2, 2, pump),
    op("raise", 1, 2, raise_signal),
    op("sleep", 1, 1, |world, arg| world.sleep(millis(arg[0]))),
    op("clock", 0, 0, |world, _| world.surroundings.stopwatch.set(Some(world.now()))),
    op("elapsed", 2, 2, elapsed),
    op("note", 1, 1, |world, arg| world.say(format!("note {}", arg[0]))),
    op("settle", 0, 0, |world, _| world.settle()),
    op("run", 1, 1, |world, arg| world.run_for(millis(arg[0]))),
];

pub(super) fn millis(text: &str) -> Duration {
    Duration::from_millis(num(text) as u64)
}

/// For others of this world.
impl World {
    /// A named descriptor that nothing of the crate owns.
    pub(super) fn fd(&self, name: &str) -> Rc<OwnedFd> {
        let owned = self.surroundings.fds.get(name).owned.borrow().clone();
        owned.unwrap_or_else(|| panic!("{name} was given away"))
    }

    pub(super) fn fd_put(&self, name: &str, fd: OwnedFd) {
        let fd = Fd { number: fd.as_raw_fd(), owned: RefCell::new(Some(Rc::new(fd))) };
        self.surroundings.fds.put(name, Rc::new(fd));
    }

    /// The descriptor itself, for somebody who owns it from now on; the name keeps the number.
    pub(super) fn fd_give(&self, name: &str) -> OwnedFd {
        let owned = self.surroundings.fds.get(name).owned.take();
        sole(owned.unwrap_or_else(|| panic!("{name} was given away")), name)
    }

    /// Takes a descriptor back under the name that has its number.
    pub(super) fn fd_return(&self, fd: OwnedFd) {
        if let Some(name) = self.fd_name(fd.as_raw_fd()) {
            self.fd_put(&name, fd);
        }
    }

    /// The descriptor itself; the name is forgotten.
    fn fd_release(&self, name: &str) -> OwnedFd {
        let owned = self.surroundings.fds.take(name).owned.take();
        sole(owned.unwrap_or_else(|| panic!("{name} was given away")), name)
    }

    pub(super) fn fd_number(&self, name: &str) -> RawFd {
        if name == "-" { -1 } else { self.surroundings.fds.get(name).number }
    }

    pub(super) fn fd_name(&self, number: RawFd) -> Option<String> {
        self.surroundings.fds.name_of(|fd| fd.number == number)
    }

    /// The name of the end that has this address.
    pub(super) fn fd_name_by_address(&self, address: SocketAddr) -> Option<String> {
        self.surroundings.fds.name_of(|fd| {
            let owned = fd.owned.borrow().clone();
            owned.and_then(|fd| SocketAddr::try_from(getsockname(&fd).ok()?).ok()) == Some(address)
        })
    }

    pub(super) fn address(&self, name: &str) -> Address {
        self.surroundings.addresses.get(name)
    }

    pub(super) fn address_put(&self, name: &str, address: Address) {
        self.surroundings.addresses.put(name, address);
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        match self.address(name) {
            Address::Path(path) => path,
            other => panic!("{other} is not a path"),
        }
    }

    /// Steps until nothing happens any more.
    fn settle(&self) {
        self.trace.grouped(|| {
            let mut quiet = 0;
            while quiet < QUIET_STEPS {
                let before = self.trace.activity();
                let _ = self.turn();
                if self.trace.activity() != before {
                    quiet = 0;
                } else {
                    quiet += 1;
                    thread::sleep(QUIET_PAUSE);
                }
            }
        });
    }

    fn run_for(&self, time: Duration) {
        let base = self.base();
        self.trace.grouped(|| {
            base.loop_exit(Some(time)).expect("an exit");
            let _ = base.run(LoopFlags::NO_EXIT_ON_EMPTY);
        });
    }
}

/// In C an event on a closed descriptor is possible; here the event would keep it open.
fn sole(fd: Rc<OwnedFd>, name: &str) -> OwnedFd {
    Rc::try_unwrap(fd).unwrap_or_else(|_| panic!("{name} belongs to an event, too"))
}

fn pair(world: &'static World, arg: &[&str]) {
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (one, other) = socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a pair");
    world.fd_put(arg[0], one);
    world.fd_put(arg[1], other);
}

/// Connections.
impl World {
    /// A listening socket outside of the loop.
    fn serve(&self, name: &str) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a listening socket");
        self.address_put(name, server.local_addr().expect("its address").into());
        self.fd_put(name, server.into());
    }

    /// Connects at kernel level; prints only a failure.
    fn dial(&self, name: &str, to: &str) {
        let dialled = match self.address(to) {
            Address::Inet(address) => TcpStream::connect(address).map(OwnedFd::from),
            _ => UnixStream::connect(self.path(to)).map(OwnedFd::from),
        };
        match dialled {
            Ok(fd) => {
                thread::sleep(HANDSHAKE);
                set_nonblocking(&fd);
                self.fd_put(name, fd);
            }
            Err(error) => self.say(format!("dial {name} failed err={}", err_name(&error))),
        }
    }

    fn accept(&self, name: &str, server: &str) {
        let fd = accept(&*self.fd(server)).expect("a connection");
        set_nonblocking(&fd);
        self.fd_put(name, fd);
    }
}

fn set_nonblocking(fd: &OwnedFd) {
    ioctl_fionbio(fd, true).expect("non-blocking");
}

/// An address that refuses: its port is held, nobody listens.
fn deadport(world: &'static World, arg: &[&str]) {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).expect("a port");
    let address = socket.local_addr().ok().as_ref().and_then(SockAddr::as_socket).expect("its address");
    world.address_put(arg[0], address.into());
    world.fd_put(arg[0], socket.into());
}

/// A path in the file system; with "listen" there is a server behind it.
fn unixpath(world: &'static World, arg: &[&str]) {
    let nth = world.surroundings.paths.get();
    world.surroundings.paths.set(nth + 1);
    let path = std::env::temp_dir().join(format!("oracle.{}.{nth}", process::id()));
    if arg.len() == 2 {
        world.fd_put(arg[0], UnixListener::bind(&path).expect("a listening path").into());
    }
    world.address_put(arg[0], path.into());
}

fn unlink(world: &'static World, arg: &[&str]) {
    // It may never have been made.
    let _ = fs::remove_file(world.path(arg[0]));
}

/// Both ends of a TCP connection over loopback.
fn tcp(world: &'static World, arg: &[&str]) {
    const SERVER: &str = "tcp.server";
    world.serve(SERVER);
    world.dial(arg[0], SERVER);
    world.accept(arg[1], SERVER);
    drop(world.fd_release(SERVER));
}

fn file(world: &'static World, arg: &[&str]) {
    let mut file = tempfile::tempfile().expect("a temporary file");
    file.write_all(&world.trace.pattern(arg[0], size(arg[1]))).expect("its bytes");
    world.fd_put(arg[0], file.into());
}

fn reset(world: &'static World, arg: &[&str]) {
    let fd = world.fd_release(arg[0]);
    SockRef::from(&fd).set_linger(Some(Duration::ZERO)).expect("no lingering");
}

fn shut(world: &'static World, arg: &[&str]) {
    let how = if arg[1] == "READ" { Shutdown::Read } else { Shutdown::Write };
    shutdown(&*world.fd(arg[0]), how).expect("a shutdown");
}

fn sndbuf(world: &'static World, arg: &[&str]) {
    SockRef::from(&*world.fd(arg[0])).set_send_buffer_size(size(arg[1])).expect("a buffer size");
}

fn isopen(world: &'static World, arg: &[&str]) {
    // Whoever owns it: the system has a link for each descriptor that is open.
    let link = format!("/proc/self/fd/{}", world.fd_number(arg[0]));
    world.say(format!("open {}={}", arg[0], u8::from(fs::symlink_metadata(link).is_ok())));
}

fn fdflags(world: &'static World, arg: &[&str]) {
    let fd = world.fd(arg[0]);
    let nonblock = fcntl_getfl(&*fd).expect("its mode").contains(OFlags::NONBLOCK);
    let cloexec = fcntl_getfd(&*fd).expect("its flags").contains(FdFlags::CLOEXEC);
    world.say(format!("fdflags {} nonblock={} cloexec={}", arg[0], u8::from(nonblock), u8::from(cloexec)));
}

fn put(world: &'static World, arg: &[&str]) {
    let bytes = world.trace.pattern(arg[0], size(arg[1]));
    match send(&*world.fd(arg[0]), &bytes, SendFlags::NOSIGNAL) {
        Ok(sent) if sent == bytes.len() => (),
        Ok(_) => world.say(format!("put {} failed err=short", arg[0])),
        Err(errno) => world.say(format!("put {} failed err={}", arg[0], err_name(&errno.into()))),
    }
}

/// Fills the send buffer until the kernel takes no more.
fn fill(world: &'static World, arg: &[&str]) {
    let fd = world.fd(arg[0]);
    while send(&*fd, &[0; 4096], SendFlags::NOSIGNAL).is_ok() {}
}

fn receive(fd: &OwnedFd, most: usize) -> Result<Vec<u8>, Errno> {
    let mut room = [MaybeUninit::<u8>::uninit(); CHUNK];
    let ((bytes, _), _) = recv(fd, &mut room[..most.min(CHUNK)], RecvFlags::empty())?;
    Ok(bytes.to_vec())
}

/// Reads at most n bytes with one call, or with "all" until nothing is left, and says how it ended.
fn get(world: &'static World, arg: &[&str]) {
    let fd = world.fd(arg[0]);
    let is_all = arg[1] == "all";
    let (mut total, mut digest) = (0, Digest::of(b""));
    let then = loop {
        match receive(&fd, size(arg[1])) {
            Ok(bytes) if bytes.is_empty() => break Some("eof"),
            Ok(bytes) => {
                total += bytes.len();
                digest.add(&bytes);
                if !is_all {
                    break None;
                }
            }
            Err(errno) => break Some(err_name(&errno.into())),
        }
    };
    let then = then.map_or_else(String::new, |end| format!(" then={end}"));
    if is_all {
        world.say(format!("get {} bytes={total} digest={digest}{then}", arg[0]));
    } else {
        world.say(format!("get {} bytes={total}{then}", arg[0]));
    }
}

/// Steps the loop and reads from the other end in turn until n bytes came.
fn pump(world: &'static World, arg: &[&str]) {
    let fd = world.fd(arg[0]);
    let (mut total, mut digest) = (0, Digest::of(b""));
    let until = Instant::now() + PUMP;
    world.trace.grouped(|| {
        while total < size(arg[1]) && Instant::now() < until {
            let _ = world.turn();
            match receive(&fd, CHUNK) {
                Ok(bytes) if bytes.is_empty() => break,
                Ok(bytes) => {
                    total += bytes.len();
                    digest.add(&bytes);
                }
                Err(_) => (),
            }
        }
    });
    world.say(format!("pump {} bytes={total} digest={digest}", arg[0]));
}

fn raise_signal(_: &'static World, arg: &[&str]) {
    for _ in 0..arg.get(1).map_or(1, |times| num(times)) {
        raise(signal_number(arg[0])).expect("a signal");
    }
}

/// Milliseconds since `clock`; the trace tells only whether they are in the range.
fn elapsed(world: &'static World, arg: &[&str]) {
    let elapsed = world.surroundings.stopwatch.get().map_or(Duration::ZERO, |since| world.now() - since);
    let is_in = (millis(arg[0])..=millis(arg[1])).contains(&elapsed);
    world.say(format!("elapsed {}..{} ms={}", arg[0], arg[1], if is_in { "yes" } else { "no" }));
}
