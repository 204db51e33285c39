//! A hundred thousand lives of each object leave no descriptor and no memory behind. One test, so that nobody else
//! allocates meanwhile.
#![allow(missing_docs, clippy::panic, clippy::unwrap_used)]

#[path = "util/world.rs"]
mod world;

use std::alloc::System;
use std::cell::RefCell;
use std::rc::Rc;

use reactor::{Event, EventBase, EventFlags};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use world::*;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const CYCLES: usize = 100_000;

#[test]
fn create_add_and_free_leave_nothing_behind() {
    let fds = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let (fds_before, whole) = (fds(), Region::new(ALLOCATOR));
    {
        let w = World::new();
        let (ours, theirs) = pair();
        let queue = w.base.common_timeout(ms(10)).unwrap();
        // What stays allocated for reuse is allocated by the first of them.
        (0..1000).for_each(|_| cycle(&w, &theirs, queue));
        let (fds_before, region) = (fds(), Region::new(ALLOCATOR));
        (0..CYCLES).for_each(|_| cycle(&w, &theirs, queue));
        assert_eq!(live(&region), 0);
        assert_eq!((fds(), w.base.counts().added, Rc::strong_count(&theirs)), (fds_before, 0, 1));
        drop(ours);
    }
    for _ in 0..1000 {
        drop(EventBase::new().unwrap());
    }
    // The tables of the standard library and of signal-hook are made on first use.
    assert!(live(&whole) < 4096, "{} bytes more than at the start", live(&whole));
    assert_eq!(fds(), fds_before);
}

/// Bytes that were allocated since and are not free; what a reallocation grew or shrank by is in both sums.
fn live(region: &Region<'_, System>) -> isize {
    let change = region.change();
    change.bytes_allocated as isize - change.bytes_deallocated as isize
}

fn cycle(w: &World, socket: &Rc<std::os::unix::net::UnixStream>, queue: reactor::CommonTimeout) {
    let owns_itself: Rc<RefCell<Option<Event>>> = Rc::default();
    let event = Event::fd(&w.base, socket.clone(), READ | PERSIST, {
        let owns_itself = owns_itself.clone();
        move |_, _| drop(owns_itself.clone())
    })
    .unwrap();
    owns_itself.replace(Some(event.clone()));
    event.add(Some(ms(5))).unwrap();
    event.activate(EventFlags::WRITE);
    w.step();
    event.activate(EventFlags::WRITE);
    event.free();
    let timer = Event::timer(&w.base, |_, _| ()).unwrap();
    timer.add(Some(ms(5))).unwrap();
    timer.add_common(queue).unwrap();
    timer.del();
    w.base.once(None, |_| ()).unwrap();
    w.base.notifier().post(|_| ()).unwrap();
    w.step();
}
