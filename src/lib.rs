//! Self-hosted cloud storage for a LAN: the library behind the program `cloudstore`.
//!
//! [`storage`] keeps objects on a disk so that a crash leaves each of them whole; [`server`] gives them to others over HTTP;
//! [`users`] says who may; [`client`] asks for them; [`jobs`] runs what would block a loop; [`config`] has the settings.

pub mod client;
pub mod config;
pub mod jobs;
pub mod server;
pub mod storage;
pub mod users;

// So that the helpers of the tests in `tests/` serve those beside the code too.
#[cfg(test)]
extern crate self as cloudstore;
