//! The server: what its HTTP fields mean.

pub mod conditions;
pub mod range;
