//! libevent's design over mio.
mod active;
mod base;
mod builder;
mod clock;
mod error;
pub mod evbuffer;
mod event;
mod flags;
mod io_map;
mod notify;
mod once;
mod selector;
mod signal;
mod slot;
mod table;
mod timer;

pub use base::{CommonTimeout, Counts, EventBase, Outcome};
pub use builder::Builder;
pub use clock::SteppedClock;
pub use error::{Error, Result};
pub use evbuffer::Evbuffer;
pub use event::{Event, EventTicket};
pub use flags::{EventFlags, LoopFlags};
pub use notify::Notifier;
