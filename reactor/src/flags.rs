//! The flag sets that events speak in.

use bitflags::bitflags;

bitflags! {
    /// What an event waits for, how it waits, and, in its callback, what happened.
    ///
    /// The bits have libevent's values.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct EventFlags: u8 {
        /// The time-out passed. Reported only; [`Event::add`](crate::Event::add) sets a time-out.
        #[doc(alias = "EV_TIMEOUT")]
        const TIMEOUT = 0x01;
        /// The descriptor can be read without blocking; an end of stream or an error counts.
        #[doc(alias = "EV_READ")]
        const READ = 0x02;
        /// The descriptor can be written without blocking; an error counts.
        #[doc(alias = "EV_WRITE")]
        const WRITE = 0x04;
        /// A signal was delivered. Never together with `READ`, `WRITE` or `CLOSED`.
        #[doc(alias = "EV_SIGNAL")]
        const SIGNAL = 0x08;
        /// The event stays pending when it triggers; its time-out starts anew.
        #[doc(alias = "EV_PERSIST")]
        const PERSIST = 0x10;
        /// Report each change of the descriptor once, instead of its state at every turn.
        #[doc(alias = "EV_ET")]
        const EDGE = 0x20;
        /// The peer closed the connection or shut down its sending side (`EPOLLRDHUP`), seen without reading.
        #[doc(alias = "EV_CLOSED")]
        const CLOSED = 0x80;
    }
}

impl EventFlags {
    /// The kinds of readiness that a descriptor can have.
    pub(crate) const IO: EventFlags = EventFlags::READ.union(EventFlags::WRITE).union(EventFlags::CLOSED);
}

bitflags! {
    /// How [`EventBase::run`](crate::EventBase::run) goes round.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct LoopFlags: u8 {
        /// Block until at least one callback has run, finish what is active, return.
        #[doc(alias = "EVLOOP_ONCE")]
        const ONCE = 0x01;
        /// Never block: run what is ready until nothing is active, return. While something is ready at every poll, as
        /// a level-triggered event on a writable socket is, that does not come; with `ONCE` it is one turn.
        #[doc(alias = "EVLOOP_NONBLOCK")]
        const NONBLOCK = 0x02;
        /// Go on waiting when no event is pending; a [`Notifier`](crate::Notifier) can still bring work.
        #[doc(alias = "EVLOOP_NO_EXIT_ON_EMPTY")]
        const NO_EXIT_ON_EMPTY = 0x04;
    }
}
