//! The server that receives.

mod line;
mod seen;
mod session;
mod sniff;
