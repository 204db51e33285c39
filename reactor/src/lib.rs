//! libevent's design over mio.
mod error;
pub mod evbuffer;
mod slot;
pub use error::{Error, Result};
pub use evbuffer::Evbuffer;
