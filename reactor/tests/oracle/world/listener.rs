//! Listeners.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;

use reactor::{Address, EventBase, ListenOptions, Listener, LoopFlags, Result};
use socket2::SockRef;

use super::{Named, Op, World, op};
use crate::names::{err_name, err_suffix};
use crate::script::num;

#[derive(Default)]
pub(super) struct Listeners {
    named: Named<Rc<NamedListener>>,
}

struct NamedListener {
    name: String,
    /// `None` after `lisfree`.
    listener: RefCell<Option<Listener>>,
    accepted: Cell<u32>,
    errors: Cell<u32>,
}

pub(super) const OPS: &[Op] = &[
    op("listen", 1, 3, listen),
    op("listenat", 2, 3, |world, arg| world.listen(arg[0], world.address(arg[1]), arg.get(2), None)),
    op("listenfd", 3, 3, listenfd),
    op("lissetcb", 2, 2, lissetcb),
    op("liserrcb", 1, 1, liserrcb),
    op("lisenable", 1, 1, |world, arg| world.listener(arg[0]).enable()),
    op("lisdisable", 1, 1, |world, arg| world.listener(arg[0]).disable()),
    op("lisfree", 1, 1, lisfree),
    op("lisflags", 1, 1, lisflags),
];

impl World {
    fn listener(&self, name: &str) -> Listener {
        self.listeners.named.get(name).listener.borrow().clone().expect("a listener that was not freed")
    }

    fn new_listener(&self, name: &str) -> Rc<NamedListener> {
        let named = Rc::new(NamedListener {
            name: name.to_owned(),
            listener: RefCell::new(None),
            accepted: Cell::new(0),
            errors: Cell::new(0),
        });
        self.listeners.named.put(name, named.clone());
        named
    }

    /// The accepted descriptor is named LISTENER.1, LISTENER.2, ...
    fn on_accept(&'static self, named: &NamedListener, fd: OwnedFd, peer: Address) {
        let call = named.accepted.get() + 1;
        named.accepted.set(call);
        let _inside = self.trace.enter(&named.name);
        let peer = match peer {
            Address::Inet(address) => {
                self.fd_name_by_address(address).unwrap_or_else(|| "unknown".to_owned())
            }
            _ => "local".to_owned(),
        };
        let fd_name = format!("{}.{call}", named.name);
        self.fd_put(&fd_name, fd);
        self.trace.say_cb(&format!("cb={} accept fd={fd_name} peer={peer}", named.name));
        self.run(self.scenario.reaction(&named.name, Some("a"), call));
    }

    fn on_accept_error(&'static self, named: &NamedListener, error: &io::Error) {
        let call = named.errors.get() + 1;
        named.errors.set(call);
        let _inside = self.trace.enter(&named.name);
        self.trace.say_cb(&format!("cb={} error err={}", named.name, err_name(error)));
        self.run(self.scenario.reaction(&named.name, Some("e"), call));
    }

    fn listen(&'static self, name: &str, address: Address, flags: Option<&&str>, backlog: Option<i32>) {
        let flags: Vec<_> = flags.map_or(Vec::new(), |flags| flags.split('|').collect());
        let has = |flag| flags.contains(&flag);
        let known = ["none", "REUSEABLE", "REUSEABLE_PORT", "DISABLED", "DEFERRED_ACCEPT", "NOCALLBACK"];
        assert!(flags.iter().all(|flag| known.contains(flag)), "no such option: {flags:?}");
        let defaults = ListenOptions::default();
        let options = ListenOptions {
            // A negative number asks for the default.
            backlog: backlog.filter(|&backlog| backlog >= 0).unwrap_or(defaults.backlog),
            reuse_address: has("REUSEABLE"),
            reuse_port: has("REUSEABLE_PORT"),
            deferred_accept: has("DEFERRED_ACCEPT"),
            disabled: has("DISABLED") || has("NOCALLBACK"),
            ..defaults
        };
        let named = self.new_listener(name);
        let own = named.clone();
        let made = Listener::bind_with(&self.base(), &address, &options, move |_, fd, peer| {
            self.on_accept(&own, fd, peer);
        });
        let listener = match made {
            Ok(listener) => listener,
            Err(error) => return self.say(format!("listen {name} failed{}", err_suffix(Some(&error)))),
        };
        if has("NOCALLBACK") {
            listener.clear_on_accept();
            listener.enable();
        }
        self.address_put(name, listener.local_address().expect("its address"));
        named.listener.replace(Some(listener));
    }
}

/// `listen:NAME[:FLAGS[:BACKLOG]]` on a free port of 127.0.0.1.
fn listen(world: &'static World, arg: &[&str]) {
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    world.listen(arg[0], anywhere.into(), arg.get(1), arg.get(2).map(|backlog| num(backlog) as i32));
}

/// `listenfd:NAME:FD:BACKLOG` on a descriptor that listens already (backlog 0).
fn listenfd(world: &'static World, arg: &[&str]) {
    assert_eq!(num(arg[2]), 0, "a socket that is taken over listens already");
    let named = world.new_listener(arg[0]);
    let own = named.clone();
    let made = Listener::adopt(&world.base(), world.fd_give(arg[1]), move |_, fd, peer| {
        world.on_accept(&own, fd, peer);
    });
    match made {
        Ok(listener) => drop(named.listener.replace(Some(listener))),
        Err(_) => world.say(format!("listen {} failed", arg[0])),
    }
}

/// "none" takes the accept callback away, "own" gives it back.
fn lissetcb(world: &'static World, arg: &[&str]) {
    let listener = world.listener(arg[0]);
    if arg[1] == "own" {
        let named = world.listeners.named.get(arg[0]);
        listener.on_accept(move |_, fd, peer| world.on_accept(&named, fd, peer));
    } else {
        listener.clear_on_accept();
    }
}

fn liserrcb(world: &'static World, arg: &[&str]) {
    let named = world.listeners.named.get(arg[0]);
    world.listener(arg[0]).on_error(move |_, error| world.on_accept_error(&named, error));
}

fn lisfree(world: &'static World, arg: &[&str]) {
    let listener = world.listeners.named.get(arg[0]).listener.take();
    listener.expect("a listener that was not freed").free();
}

fn lisflags(world: &'static World, arg: &[&str]) {
    let number = world.listener(arg[0]).raw_fd().expect("a descriptor");
    let nonblock = is_nonblocking(number);
    let keepalive = keeps_alive().expect("a listener made for the purpose");
    world.say(format!(
        "lisflags {} nonblock={} keepalive={}",
        arg[0],
        u8::from(nonblock),
        u8::from(keepalive)
    ));
}

/// The listener lends its descriptor to nobody, but the system shows the mode of each.
fn is_nonblocking(number: std::os::fd::RawFd) -> bool {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}")).expect("its mode");
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("its mode");
    let bits = u32::from_str_radix(flags.trim(), 8).expect("an octal number");
    rustix::fs::OFlags::from_bits_retain(bits).contains(rustix::fs::OFlags::NONBLOCK)
}

/// Accepted sockets inherit the option, so one that another listener accepts tells.
fn keeps_alive() -> Result<bool> {
    let base = EventBase::new()?;
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let told = Rc::new(Cell::new(None));
    let tell = told.clone();
    let listener = Listener::bind(&base, &anywhere.into(), move |listener, fd, _| {
        tell.set(SockRef::from(&fd).keepalive().ok());
        listener.base().loop_break();
    })?;
    let Address::Inet(address) = listener.local_address()? else { return Ok(false) };
    let _client = TcpStream::connect(address).expect("a connection");
    base.run(LoopFlags::empty())?;
    Ok(told.get() == Some(true))
}
