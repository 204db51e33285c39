//! The server: what its HTTP fields mean.

pub mod range;
