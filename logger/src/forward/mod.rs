//! Records to another machine.

pub(crate) mod framing;
pub(crate) mod mark;
pub(crate) mod relp;
mod report;
pub(crate) mod syslog;

pub(crate) use mark::Mark;
pub use report::Report;
