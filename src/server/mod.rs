//! The server: what its HTTP fields mean.

pub mod conditions;
pub mod digest;
pub mod range;
pub mod structured;
