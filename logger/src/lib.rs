//! An asynchronous double-buffer logger that never loses a record.
//!
//! A record is formatted by its caller into the *producer half* of a buffer of the calling thread; a worker *swaps* that
//! half with the *consumer half* and writes it to the sinks, out of the callers' way. A full buffer makes the caller wait
//! (or grows, or drops and counts: [`Overflow`]).
//!
//! ```
//! use logger::sink::{Console, File};
//! use logger::{Durability, Level, Logger, error, info};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("server.log");
//! let logger = Logger::builder("server")
//!     .level(Level::Debug)
//!     .sink_with(Console::stderr(), Level::Error, Durability::Buffered)
//!     .sink(File::open(&path)?)
//!     .install()?;
//! info!(name = "a.bin", size = 1048576; "stored");
//! log::warn!("the log facade works too");
//! logger.flush();
//! assert_eq!(std::fs::read_to_string(&path)?.lines().count(), 2);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! With the feature `forward`, which is on by default, records also go to another machine and stay on the disk until it has
//! them, and the server that receives them is here too: the modules `forward` and `backlog`. Without it, no socket is
//! touched and `reactor` is not needed.

#[cfg(feature = "forward")]
pub mod backlog;
mod clock;
mod cpu;
mod error;
mod exchange;
mod facade;
mod filter;
mod format;
#[cfg(feature = "forward")]
pub mod forward;
#[cfg(all(fuzzing, feature = "forward"))]
#[doc(hidden)]
pub mod fuzzing;
mod header;
mod level;
mod logger;
mod macros;
mod output;
mod pair;
#[cfg(feature = "forward")]
mod parts;
mod place;
mod producer;
mod registry;
mod round;
pub mod sink;
mod starts;
mod sync;
mod worker;
mod writer;

pub use error::Error;
pub use facade::{exit, flush_all, init};
pub use filter::Filter;
pub use format::{Layout, Offset, Site};
pub use level::Level;
pub use log::kv;
pub use logger::{Builder, Logger, Mode, Overflow};
#[doc(hidden)]
pub use place::{NoText, Place, Single, Text};
pub use registry::{default, get};
pub use sink::{Durability, Sink};
pub use writer::{Bytes, Writer};

/// No key-values.
#[doc(hidden)]
pub const NO_FIELDS: Option<(&str, &str)> = None;
