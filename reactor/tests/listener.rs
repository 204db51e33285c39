//! Listeners: what they accept, when, and what becomes of failures. Names carry the ids of the conformance list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr)]

mod streams;

use std::cell::RefCell;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use reactor::{
    Address, BevOptions, Bufferevent, Error, Event, EventBase, ListenOptions, Listener, LoopFlags, Outcome,
    SteppedClock,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use socket2::Socket;
use static_assertions::assert_not_impl_any;
use streams::*;

assert_not_impl_any!(Listener: Send, Sync);

type Accepted = Rc<RefCell<Vec<(Socket, Address)>>>;

/// A listener that keeps what it accepts.
fn listening(base: &EventBase, kind: Kind, options: &ListenOptions) -> (Listener, Address, Accepted) {
    let accepted = Accepted::default();
    let keep = accepted.clone();
    let listener = Listener::bind_with(base, &anywhere(kind), options, move |_, socket, peer| {
        keep.borrow_mut().push((Socket::from(socket), peer));
    })
    .unwrap();
    let address = listener.local_address().unwrap();
    (listener, address, accepted)
}

fn anywhere(kind: Kind) -> Address {
    match kind {
        Kind::Tcp => "127.0.0.1:0".parse().unwrap(),
        Kind::Unix => Address::Abstract(unused_name().into_bytes()),
    }
}

#[test]
fn lis_01_all_that_wait_are_accepted_in_order_in_one_turn() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let (_listener, address, accepted) = listening(&base, kind, &ListenOptions::default());
        let clients: Vec<_> = (0..3).map(|_| dial(&address)).collect();
        base.run(LoopFlags::ONCE).unwrap();
        if kind == Kind::Tcp {
            // The last acknowledgement of a handshake may still be on its way.
            until(&base, || accepted.borrow().len() == 3);
        }
        let accepted = accepted.borrow();
        assert_eq!(accepted.len(), 3);
        for ((socket, peer), client) in accepted.iter().zip(&clients) {
            match kind {
                Kind::Tcp => assert_eq!(*peer, address_of(&client.local_addr().unwrap())),
                Kind::Unix => assert_eq!(*peer, Address::Unnamed),
            }
            let fd_flags = rustix::io::fcntl_getfd(socket).unwrap();
            assert!(fd_flags.contains(rustix::io::FdFlags::CLOEXEC));
        }
    }
}

#[test]
fn lis_02_sockets_are_non_blocking_and_the_listening_one_keeps_alive() {
    let non_blocking =
        |fd: &dyn AsFd| rustix::fs::fcntl_getfl(fd.as_fd()).unwrap().contains(rustix::fs::OFlags::NONBLOCK);
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let (socket, address) = bound(kind, Some(8));
        socket.set_nonblocking(false).unwrap();
        let watched = socket.try_clone().unwrap();
        let (accepted, _client) = (Accepted::default(), dial(&address));
        let keep = accepted.clone();
        Listener::adopt(&base, socket, move |_, socket, peer| {
            keep.borrow_mut().push((Socket::from(socket), peer));
        })
        .unwrap();
        assert!(non_blocking(&watched));
        until(&base, || accepted.borrow().len() == 1);
        assert!(non_blocking(&accepted.borrow()[0].0));
    }
    let base = EventBase::new().unwrap();
    let (_listener, address, accepted) = listening(&base, Kind::Tcp, &ListenOptions::default());
    let _client = dial(&address);
    until(&base, || accepted.borrow().len() == 1);
    let accepted = accepted.borrow();
    assert!(accepted[0].0.keepalive().unwrap() && accepted[0].0.tcp_nodelay().unwrap());
}

#[test]
fn lis_03_disabled_in_its_callback_it_accepts_no_more_until_enabled() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let count = Count::default();
        let calls = count.clone();
        let listener = Listener::bind(&base, &anywhere(kind), move |listener, _, _| {
            calls.up();
            listener.disable();
        })
        .unwrap();
        let address = listener.local_address().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| dial(&address)).collect();
        for nth in 1..=3 {
            assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents, "a disabled one keeps no loop alive");
            assert_eq!(count.get(), nth);
            assert!(!listener.is_enabled());
            listener.enable();
        }
    }
}

#[test]
fn lis_04_clients_connect_to_a_disabled_listener_and_wait() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let options = ListenOptions { disabled: true, ..ListenOptions::default() };
        let (listener, address, accepted) = listening(&base, kind, &options);
        let _client = dial(&address);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        settle(&base);
        assert_eq!(accepted.borrow().len(), 0);
        listener.enable();
        until(&base, || accepted.borrow().len() == 1);
    }
}

#[test]
fn lis_05_freed_in_its_callback_it_drops_what_waits_and_refuses_the_rest() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let (count, dropped) = (Count::default(), Count::default());
        let (calls, token) = (count.clone(), Dropped(dropped.clone()));
        let own: Rc<RefCell<Option<Listener>>> = Rc::default();
        let captured = own.clone();
        let listener = Listener::bind(&base, &anywhere(kind), move |listener, _, _| {
            calls.up();
            listener.free();
            listener.free();
            assert_eq!(token.0.get(), 0, "what runs is dropped when it returns");
            assert_eq!(captured.borrow().as_ref(), Some(listener));
        })
        .unwrap();
        own.replace(Some(listener.clone()));
        let address = listener.local_address().unwrap();
        let clients: Vec<_> = (0..3).map(|_| dial(&address)).collect();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!((count.get(), dropped.get()), (1, 1));
        assert!(listener.is_freed() && listener.raw_fd().is_none() && !listener.is_enabled());
        assert!(matches!(listener.local_address(), Err(Error::Freed { what: "listener" })));
        listener.enable();
        listener.on_accept(|_, _, _| ());
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        for client in &clients {
            assert!(is_closed(&base, client));
        }
        let bev = Bufferevent::unconnected(&base, BevOptions::empty()).unwrap();
        let log = Log::default();
        log.watch(&bev);
        bev.connect(&address).unwrap();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(log.take(), ["ERROR"]);
        drop(own.take());
    }
}

#[test]
fn lis_06_without_a_callback_it_accepts_nothing_until_one_is_set() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let (listener, address, accepted) = listening(&base, kind, &ListenOptions::default());
        listener.clear_on_accept();
        let _client = dial(&address);
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert_eq!(accepted.borrow().len(), 0);
        let count = Count::default();
        let calls = count.clone();
        listener.on_accept(move |_, _, _| assert!(calls.up() > 0));
        until(&base, || count.get() == 1);
    }
}

#[test]
fn lis_07_a_callback_that_closes_its_sockets_does_no_harm() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let count = Count::default();
        let calls = count.clone();
        let listener = Listener::bind(&base, &anywhere(kind), move |_, socket, _| {
            drop(socket);
            calls.up();
        })
        .unwrap();
        let address = listener.local_address().unwrap();
        for nth in 1..=20 {
            let client = dial(&address);
            until(&base, || count.get() == nth);
            assert!(is_closed(&base, &client));
        }
    }
}

#[test]
fn lis_08_a_backlog_below_one_is_refused() {
    let base = EventBase::new().unwrap();
    for backlog in [0, -1] {
        let options = ListenOptions { backlog, ..ListenOptions::default() };
        let error = Listener::bind_with(&base, &anywhere(Kind::Tcp), &options, |_, _, _| ()).unwrap_err();
        assert!(error.to_string().contains(&format!("a backlog of {backlog}")), "{error}");
    }
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
}

#[test]
fn lis_09_a_port_is_shared_only_if_all_want_it() {
    let shared = ListenOptions { reuse_port: true, ..ListenOptions::default() };
    let alone = ListenOptions::default();
    for (first, second, is_fine) in [
        (&alone, &alone, false),
        (&shared, &shared, true),
        (&shared, &alone, false),
        (&alone, &shared, false),
    ] {
        let base = EventBase::new().unwrap();
        let (_listener, address, _) = listening(&base, Kind::Tcp, first);
        match Listener::bind_with(&base, &address, second, |_, _, _| ()) {
            Ok(_) => assert!(is_fine),
            Err(Error::Listen { address: told, source }) => {
                assert!(!is_fine);
                assert_eq!(source.raw_os_error(), Some(libc::EADDRINUSE));
                assert_eq!(told, address.to_string());
            }
            Err(other) => panic!("{other}"),
        }
    }
}

#[test]
fn lis_12_deferred_accept_waits_for_the_first_bytes() {
    let base = EventBase::new().unwrap();
    let options = ListenOptions { deferred_accept: true, ..ListenOptions::default() };
    let (_listener, address, accepted) = listening(&base, Kind::Tcp, &options);
    let client = dial(&address);
    settle(&base);
    assert_eq!(accepted.borrow().len(), 0);
    client.send(b"hello").unwrap();
    until(&base, || accepted.borrow().len() == 1);
    let mut bytes = [std::mem::MaybeUninit::uninit(); 8];
    assert_eq!(accepted.borrow()[0].0.recv(&mut bytes).unwrap(), 5, "they are there at once");
}

#[test]
fn lis_14_a_path_listens_whatever_the_reuse_option_says() {
    let base = EventBase::new().unwrap();
    let dir = tempfile::tempdir().unwrap();
    for reuse_address in [true, false] {
        let path = dir.path().join(format!("{reuse_address}.sock"));
        let options = ListenOptions { reuse_address, ..ListenOptions::default() };
        let count = Count::default();
        let calls = count.clone();
        let address = Address::from(path.as_path());
        let listener =
            Listener::bind_with(&base, &address, &options, move |_, _, _| assert!(calls.up() > 0)).unwrap();
        assert_eq!(listener.local_address().unwrap(), address);
        let _client = dial(&address);
        until(&base, || count.get() == 1);
        let again = Listener::bind_with(&base, &address, &options, |_, _, _| ()).unwrap_err();
        assert!(
            matches!(again, Error::Listen { source, .. } if source.raw_os_error() == Some(libc::EADDRINUSE))
        );
    }
}

#[test]
fn more_than_one_turn_takes_are_all_accepted() {
    let base = EventBase::new().unwrap();
    let (_listener, address, accepted) = listening(&base, Kind::Unix, &ListenOptions::default());
    let _clients: Vec<_> = (0..600).map(|_| dial(&address)).collect();
    let turn = Count::default();
    let sizes: Rc<RefCell<Vec<usize>>> = Rc::default();
    let (seen, counted) = (sizes.clone(), accepted.clone());
    let watch = Event::interval(&base, move |_, _| {
        seen.borrow_mut().push(counted.borrow().len());
        turn.up();
    })
    .unwrap();
    watch.add(Some(Duration::from_nanos(1))).unwrap();
    until(&base, || accepted.borrow().len() == 600);
    watch.free();
    let sizes = sizes.borrow();
    assert!(sizes.windows(2).all(|pair| pair[1] - pair[0] <= 256), "the others get their turns: {sizes:?}");
}

#[test]
fn a_callback_may_be_replaced_while_it_runs() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let log = Log::default();
        let (first, second) = (log.clone(), log.clone());
        let listener = Listener::bind(&base, &anywhere(kind), move |listener, _, _| {
            let second = second.clone();
            listener.on_accept(move |_, _, _| second.note("second"));
            first.note("first");
        })
        .unwrap();
        let address = listener.local_address().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| dial(&address)).collect();
        until(&base, || log.len() == 3);
        assert_eq!(log.take(), ["first", "second", "second"]);
    }
}

#[test]
fn a_panic_loses_the_closure_and_nothing_else() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let listener = Listener::bind(&base, &anywhere(kind), |_, _, _| panic!("in a callback")).unwrap();
        let address = listener.local_address().unwrap();
        let _clients: Vec<_> = (0..3).map(|_| dial(&address)).collect();
        assert!(catch_unwind(AssertUnwindSafe(|| base.dispatch())).is_err());
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents, "without a callback nothing is waited for");
        let count = Count::default();
        let calls = count.clone();
        listener.on_accept(move |_, _, _| assert!(calls.up() > 0));
        until(&base, || count.get() == 2);
        // Freed by a callback that panics then: closed all the same.
        listener.on_accept(|listener, _, _| {
            listener.free();
            panic!("in a callback");
        });
        let client = dial(&address);
        assert!(catch_unwind(AssertUnwindSafe(|| base.dispatch())).is_err());
        assert!(listener.is_freed() && listener.raw_fd().is_none());
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        assert!(is_closed(&base, &client));
    }
}

#[test]
fn the_base_frees_its_listeners() {
    for kind in KINDS {
        let base = EventBase::new().unwrap();
        let dropped = Count::default();
        let token = Dropped(dropped.clone());
        let own: Rc<RefCell<Option<Listener>>> = Rc::default();
        let captured = own.clone();
        let listener = Listener::bind(&base, &anywhere(kind), move |_, _, _| {
            assert!(captured.borrow().is_none() && token.0.get() == 0);
        })
        .unwrap();
        own.replace(Some(listener.clone()));
        let address = listener.local_address().unwrap();
        let client = dial(&address);
        drop(base);
        assert_eq!(dropped.get(), 1);
        assert!(listener.is_freed());
        assert!(matches!(
            Listener::bind(listener.base(), &address, |_, _, _| ()),
            Err(Error::Freed { what: "event base" })
        ));
        assert!(is_closed(&EventBase::new().unwrap(), &client));
        own.take();
    }
}

/// Runs one test of this file alone, in a process of its own.
fn alone(test: &str) {
    let this = std::env::current_exe().unwrap();
    let child = Command::new(this)
        .args(["--exact", test, "--include-ignored", "--nocapture", "--test-threads=1"])
        .output()
        .unwrap();
    let told =
        format!("{}\n{}", String::from_utf8_lossy(&child.stdout), String::from_utf8_lossy(&child.stderr));
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
}

#[test]
fn lis_10_without_descriptors_it_pauses_instead_of_spinning_and_recovers() {
    alone("lis_10_in_a_process_of_its_own");
}

#[test]
#[ignore = "lowers the limit of descriptors of its process; lis_10 runs it"]
fn lis_10_in_a_process_of_its_own() {
    let clock = SteppedClock::new();
    let base = EventBase::builder().clock(&clock).build().unwrap();
    let accepted = Accepted::default();
    let (keep, errors, told) = (accepted.clone(), Log::default(), Count::default());
    let listener = Listener::bind(&base, &anywhere(Kind::Unix), move |_, socket, peer| {
        keep.borrow_mut().push((Socket::from(socket), peer));
    })
    .unwrap();
    let (log, times, time) = (errors.clone(), told.clone(), clock.clone());
    listener.on_error(move |_, error| {
        assert_eq!(error.raw_os_error(), Some(libc::EMFILE));
        log.note(format!("{}", time.elapsed().as_millis()));
        if times.up() == 10 {
            log.note("enough");
        }
    });
    let address = listener.local_address().unwrap();
    let _clients: Vec<_> = (0..4).map(|_| dial(&address)).collect();

    let before = getrlimit(Resource::Nofile);
    let free = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let in_use = std::os::fd::AsRawFd::as_raw_fd(&free) as u64;
    drop(free);
    setrlimit(Resource::Nofile, Rlimit { current: Some(in_use), ..before }).unwrap();
    let turns = Count::default();
    while told.get() < 10 {
        base.run(LoopFlags::ONCE).unwrap();
        turns.up();
    }
    setrlimit(Resource::Nofile, before).unwrap();

    // One attempt for each pause: at 0 ms, then after 10, 20, 40 … at most 1000.
    let expected = ["0", "10", "30", "70", "150", "310", "630", "1270", "2270", "3270", "enough"];
    assert_eq!(errors.take(), expected);
    assert!(turns.get() <= 11, "{} turns for ten attempts", turns.get());
    assert!(accepted.borrow().is_empty());
    until(&base, || accepted.borrow().len() == 4);
    assert_eq!(errors.len(), 0);
    listener.free();
    assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents, "no pause is left over");
}

#[test]
fn lis_10_the_error_callback_may_disable_or_free_the_listener() {
    alone("lis_10_errors_in_a_process_of_its_own");
}

#[test]
#[ignore = "lowers the limit of descriptors of its process; lis_10 runs it"]
fn lis_10_errors_in_a_process_of_its_own() {
    let before = getrlimit(Resource::Nofile);
    let acts: [fn(&Listener); 3] = [Listener::disable, Listener::free, |_| panic!("in an error callback")];
    for act in acts {
        let base = EventBase::new().unwrap();
        let (listener, address, accepted) = listening(&base, Kind::Unix, &ListenOptions::default());
        listener.on_error(move |listener, _| act(listener));
        let _client = dial(&address);
        let free = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
        let in_use = std::os::fd::AsRawFd::as_raw_fd(&free) as u64;
        drop(free);
        setrlimit(Resource::Nofile, Rlimit { current: Some(in_use), ..before }).unwrap();
        let outcome = catch_unwind(AssertUnwindSafe(|| base.dispatch()));
        setrlimit(Resource::Nofile, before).unwrap();
        if let Ok(outcome) = outcome {
            assert_eq!(outcome.unwrap(), Outcome::NoEvents);
            assert_eq!(accepted.borrow().len(), 0);
            listener.enable();
        }
        if !listener.is_freed() {
            until(&base, || accepted.borrow().len() == 1);
        }
    }
}

#[test]
fn without_an_error_callback_the_base_is_told() {
    alone("without_an_error_callback_in_a_process_of_its_own");
}

#[test]
#[ignore = "lowers the limit of descriptors of its process; without_an_error_callback runs it"]
fn without_an_error_callback_in_a_process_of_its_own() {
    let clock = SteppedClock::new();
    let base = EventBase::builder().clock(&clock).build().unwrap();
    let (listener, address, accepted) = listening(&base, Kind::Unix, &ListenOptions::default());
    let told = Log::default();
    let log = told.clone();
    base.on_diagnostic(move |base, diagnostic| {
        log.note(diagnostic.to_string());
        if log.len() == 2 {
            base.loop_break();
        }
    });
    let _client = dial(&address);
    let before = getrlimit(Resource::Nofile);
    let free = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let in_use = std::os::fd::AsRawFd::as_raw_fd(&free) as u64;
    drop(free);
    setrlimit(Resource::Nofile, Rlimit { current: Some(in_use), ..before }).unwrap();
    assert_eq!(base.dispatch().unwrap(), Outcome::Stopped);
    setrlimit(Resource::Nofile, before).unwrap();
    let emfile = std::io::Error::from_raw_os_error(libc::EMFILE);
    let expected = ["10ms", "20ms"]
        .map(|pause| format!("cannot accept a connection on {address}, trying again in {pause}: {emfile}"));
    assert_eq!(told.take(), expected);
    until(&base, || accepted.borrow().len() == 1);
    listener.free();
}

#[test]
fn a_short_wait_without_descriptors_is_a_wait_of_milliseconds() {
    alone("a_short_wait_in_a_process_of_its_own");
}

#[test]
#[ignore = "lowers the limit of descriptors of its process; a_short_wait_without_descriptors runs it"]
fn a_short_wait_in_a_process_of_its_own() {
    let base = EventBase::new().unwrap();
    let (fired, passed) = (Count::default(), Count::default());
    let up = fired.clone();
    let timer = Event::timer(&base, move |_, _| {
        up.up();
    })
    .unwrap();
    let before = getrlimit(Resource::Nofile);
    let free = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let in_use = std::os::fd::AsRawFd::as_raw_fd(&free) as u64;
    drop(free);
    setrlimit(Resource::Nofile, Rlimit { current: Some(in_use), ..before }).unwrap();
    let told = Log::default();
    let log = told.clone();
    base.on_diagnostic(move |_, diagnostic| log.note(diagnostic.to_string()));
    for _ in 0..3 {
        timer.add(Some(Duration::from_micros(300))).unwrap();
        assert_eq!(base.dispatch().unwrap(), Outcome::NoEvents);
        passed.up();
    }
    setrlimit(Resource::Nofile, before).unwrap();
    timer.add(Some(Duration::from_micros(300))).unwrap();
    base.dispatch().unwrap();
    assert_eq!((fired.get(), passed.get()), (4, 3));
    let told = told.take();
    assert_eq!(told.len(), 1, "once: {told:?}");
    assert!(told[0].starts_with("timers are up to 1 ms late"), "{told:?}");
}

#[test]
fn a_path_that_a_killed_process_left_is_taken_if_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let base = EventBase::new().unwrap();
    let bind = |replace_left_over| {
        let options = ListenOptions { replace_left_over, ..ListenOptions::default() };
        Listener::bind_with(&base, &path.clone().into(), &options, |_, _, _| ())
    };
    let first = bind(true).unwrap();
    assert!(bind(true).is_err(), "somebody listens");
    first.free();
    drop(first);
    assert!(path.exists());
    assert!(bind(false).is_err(), "it was not asked for");
    let second = bind(true).unwrap();
    assert!(std::os::unix::net::UnixStream::connect(&path).is_ok());
    second.free();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "text").unwrap();
    assert!(bind(true).is_err(), "it is no socket");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "text");
}
