//! The sink that takes a logger's records into the spool.

use std::fmt;
use std::io;
use std::sync::Arc;

use super::shared::Shared;
use crate::sink::{Lines, Sink};

/// Takes records into the spool of a [`Pool`](super::Pool), which gives it out by [`sink`](super::Pool::sink).
///
/// A record is accepted when it is written there: when a logger's `flush` returns, and with
/// [`Durability::Sync`](crate::Durability::Sync) when it is on the disk. Each thread's records go to one stream. A spool
/// on a full disk is tried again and again, as any sink.
///
/// The sink outlives its pool: records that come then wait in the spool for the next one, which can have the spool when the
/// sink is gone too.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
}

impl Feed {
    pub(super) fn new(shared: Arc<Shared>) -> Feed {
        Feed { shared }
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl Sink for Feed {
    fn write(&mut self, lines: &Lines<'_>) -> io::Result<()> {
        self.shared.take(lines)
    }

    fn retry(&mut self) -> io::Result<()> {
        self.shared.write()
    }

    fn flush(&mut self) -> io::Result<()> {
        self.shared.write()
    }

    fn sync(&mut self) -> io::Result<()> {
        self.shared.sync()
    }

    fn name(&self) -> String {
        format!("the spool {}", self.shared.folder().display())
    }
}
