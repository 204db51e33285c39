//! Records to another machine: a pool of clients that keep a record until the collector has acknowledged it.

mod backoff;
mod client;
mod feed;
mod flood;
pub(crate) mod framing;
mod inlet;
pub(crate) mod mark;
mod pool;
pub(crate) mod relp;
mod report;
mod shared;
pub(crate) mod spool;
pub(crate) mod syslog;
mod window;

pub use backoff::Backoff;
pub use feed::Feed;
pub(crate) use mark::Mark;
pub use pool::{Builder, Pool, Wire};
pub use reactor::Address;
pub use report::Report;
pub use shared::Counters;
