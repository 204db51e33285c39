//! libevent's design over mio.
pub mod evbuffer;
mod error;
mod slot;
pub use error::{Error, Result};
pub use evbuffer::Evbuffer;
