//! Records to another machine.

pub(crate) mod framing;
mod mark;
pub(crate) mod relp;
mod report;
pub(crate) mod syslog;
#[allow(dead_code, unused_imports)]
mod spool;

pub(crate) use mark::Mark;
pub use report::Report;
