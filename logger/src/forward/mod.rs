//! Records to another machine.

mod mark;
mod report;

pub(crate) use mark::Mark;
pub use report::Report;
