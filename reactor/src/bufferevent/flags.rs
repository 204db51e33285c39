//! The flag sets that bufferevents speak in, with libevent's values.

use bitflags::bitflags;

bitflags! {
    /// One side of a bufferevent, or both.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct Direction: u8 {
        /// From the peer into the input buffer.
        #[doc(alias = "EV_READ")]
        const READ = 0x02;
        /// From the output buffer to the peer.
        #[doc(alias = "EV_WRITE")]
        const WRITE = 0x04;
    }
}

bitflags! {
    /// What an event callback is told.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct BevEvent: u8 {
        /// It happened while reading.
        #[doc(alias = "BEV_EVENT_READING")]
        const READING = 0x01;
        /// It happened while writing.
        #[doc(alias = "BEV_EVENT_WRITING")]
        const WRITING = 0x02;
        /// The peer will send no more; reading is disabled now, writing is not.
        #[doc(alias = "BEV_EVENT_EOF")]
        const EOF = 0x10;
        /// Something failed; [`Bufferevent::take_error`](crate::Bufferevent::take_error) has it. The direction that
        /// comes with it is disabled now. With none it was a connect: see
        /// [`Bufferevent::connect`](crate::Bufferevent::connect).
        #[doc(alias = "BEV_EVENT_ERROR")]
        const ERROR = 0x20;
        /// A time-out passed; that direction is disabled now.
        #[doc(alias = "BEV_EVENT_TIMEOUT")]
        const TIMEOUT = 0x40;
        /// A connect that was asked for has succeeded.
        #[doc(alias = "BEV_EVENT_CONNECTED")]
        const CONNECTED = 0x80;
    }
}

impl BevEvent {
    /// Whether most programs give the connection up now: end of stream, error or time-out.
    pub fn ends(self) -> bool {
        self.intersects(BevEvent::EOF | BevEvent::ERROR | BevEvent::TIMEOUT)
    }
}

bitflags! {
    /// How a bufferevent is made. There is no `BEV_OPT_CLOSE_ON_FREE`: it owns its socket, and
    /// [`Bufferevent::take_socket`](crate::Bufferevent::take_socket) gets it back.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct BevOptions: u8 {
        /// Callbacks run from the loop, never inside the call that caused them; several occasions become one call.
        #[doc(alias = "BEV_OPT_DEFER_CALLBACKS")]
        const DEFER_CALLBACKS = 0x04;
    }
}

bitflags! {
    /// How [`Bufferevent::trigger`](crate::Bufferevent::trigger) calls.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
    pub struct TriggerOptions: u8 {
        /// Whatever the low marks say.
        #[doc(alias = "BEV_TRIG_IGNORE_WATERMARKS")]
        const IGNORE_WATERMARKS = 0x01;
        /// From the loop, not inside this call.
        #[doc(alias = "BEV_TRIG_DEFER_CALLBACKS")]
        const DEFER_CALLBACKS = 0x04;
    }
}

/// How much a flush moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FlushMode {
    /// What would move anyway.
    #[doc(alias = "BEV_NORMAL")]
    Normal,
    /// All there is.
    #[doc(alias = "BEV_FLUSH")]
    Flush,
    /// All there is, and nothing comes after it.
    #[doc(alias = "BEV_FINISHED")]
    Finished,
}
