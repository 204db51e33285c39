//! Records to another machine.

mod mark;
mod report;
#[allow(dead_code, unused_imports)]
mod spool;

pub(crate) use mark::Mark;
pub use report::Report;
