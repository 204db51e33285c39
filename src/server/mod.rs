//! The server: what the fields of its requests mean, and what its answers say.

pub mod accept;
pub mod conditions;
pub mod digest;
pub mod media;
pub mod range;
pub mod structured;
