//! Messages that begin before they are complete.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::ops::Range;
use std::rc::{Rc, Weak};

use super::body::{CHUNK_END, LAST_CHUNK, chunk_line};
use super::conn::Conn;
use crate::error::{Error, Result};
use crate::evbuffer::{Evbuffer, FileSegment};

/// The body of a message whose head is out: of a server's reply, or of a client's request.
///
/// It is a handle, cheap to clone. When the last one is dropped before [`finish`](Self::finish), the connection is
/// closed, so that the peer sees that the message is cut short. In answer to HEAD, and with a status that has no body,
/// what is written goes nowhere.
///
/// Nothing is held back by itself: a producer that writes whatever it has fills memory if the peer is slow. One that
/// produces on demand does so in [`on_drained`](Self::on_drained).
#[derive(Clone)]
pub struct BodyStream {
    guard: Rc<Guard>,
}

/// What sends a body: a connection of either side.
pub(super) trait Outlet {
    /// Whether this message is what it sends.
    fn is_streaming(&self, serial: u64) -> bool;
    fn output(&self) -> Evbuffer;
    /// So many bytes were put into the output.
    fn queued(&self, n: usize);
    /// Gives up the connection.
    fn cut(&self);
    /// The body is queued whole.
    fn finish(&self);
    fn set_on_drained(&self, stream: BodyStream, on_drained: Box<dyn FnMut(&BodyStream)>);
}

struct Guard {
    conn: Weak<dyn Outlet>,
    serial: u64,
    framing: Cell<StreamFraming>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StreamFraming {
    Chunked,
    Sized(u64),
    Close,
    /// There is no body to send.
    Nothing,
}

impl BodyStream {
    pub(super) fn new(conn: Weak<dyn Outlet>, serial: u64, framing: StreamFraming) -> BodyStream {
        BodyStream { guard: Rc::new(Guard { conn, serial, framing: Cell::new(framing) }) }
    }

    pub(super) fn closed() -> BodyStream {
        Self::new(Weak::<Conn>::new(), 0, StreamFraming::Nothing)
    }

    /// Sends a piece; an empty one is nothing.
    ///
    /// # Errors
    /// [`Error::Io`] if the peer has left or the body is finished; [`Error::OutOfRange`] if it is more than the
    /// length that was announced. Nothing is sent then.
    #[doc(alias = "evhttp_send_reply_chunk")]
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.put(bytes.len() as u64, |output| output.append(bytes))
    }

    /// Moves all of `buffer` into the body.
    ///
    /// # Errors
    /// As [`write`](Self::write), and as [`Evbuffer::append_buffer`].
    #[doc(alias = "evhttp_send_reply_chunk")]
    pub fn write_buffer(&self, buffer: &Evbuffer) -> Result<()> {
        self.put(buffer.len() as u64, |output| output.append_buffer(buffer))?;
        if self.guard.framing.get() == StreamFraming::Nothing {
            buffer.drain(usize::MAX)?;
        }
        Ok(())
    }

    /// Sends a part of a file; `range` is relative to the segment.
    ///
    /// # Errors
    /// As [`write`](Self::write), and as [`Evbuffer::append_file`].
    pub fn write_file(&self, file: &FileSegment, range: Range<u64>) -> Result<()> {
        if range.start > range.end || range.end > file.len() {
            return Err(Error::OutOfRange { at: range.end.max(range.start), len: file.len() });
        }
        self.put(range.end - range.start, |output| output.append_file(file, range))
    }

    fn put(&self, n: u64, append: impl FnOnce(&Evbuffer) -> Result<()>) -> Result<()> {
        let conn = self.conn().ok_or_else(left)?;
        let output = &conn.output();
        if n == 0 {
            return Ok(());
        }
        let before = output.len();
        let outcome = self.frame(&*conn, output, n, append);
        conn.queued(output.len().saturating_sub(before));
        outcome
    }

    fn frame(
        &self,
        conn: &dyn Outlet,
        output: &Evbuffer,
        n: u64,
        append: impl FnOnce(&Evbuffer) -> Result<()>,
    ) -> Result<()> {
        match self.guard.framing.get() {
            StreamFraming::Nothing => Ok(()),
            StreamFraming::Close => append(output),
            StreamFraming::Sized(rest) if n > rest => Err(Error::OutOfRange { at: n, len: rest }),
            StreamFraming::Sized(rest) => {
                append(output)?;
                self.guard.framing.set(StreamFraming::Sized(rest - n));
                Ok(())
            }
            StreamFraming::Chunked => {
                let mut line = [0; 18];
                let len = chunk_line(usize::try_from(n).map_err(|_| Error::TooLong)?, &mut line);
                output.append(&line[..len])?;
                // A chunk that was announced and cannot follow leaves nothing but to give up.
                append(output).and_then(|()| output.append(CHUNK_END)).inspect_err(|_| conn.cut())
            }
        }
    }

    /// Bytes of this connection that wait for the peer.
    pub fn pending(&self) -> usize {
        self.conn().map_or(0, |conn| conn.output().len())
    }

    /// Whether more can be sent: it is not finished, and the peer has not left as far as is known.
    pub fn is_open(&self) -> bool {
        self.conn().is_some()
    }

    /// Has `on_drained` run from the loop soon, and then each time that something was sent and at most 64 KiB wait: the
    /// place to write more, or to [`finish`](Self::finish). The connection keeps the stream from then on. It is dropped
    /// when the body is finished or the peer leaves; if it panics in a server, the connection is closed.
    #[doc(alias = "evhttp_send_reply_chunk_with_cb")]
    pub fn on_drained(&self, on_drained: impl FnMut(&BodyStream) + 'static) {
        if let Some(conn) = self.conn() {
            conn.set_on_drained(self.clone(), Box::new(on_drained));
        }
    }

    /// Closes the connection, so that the peer sees that the message is cut short.
    pub fn abort(&self) {
        if let Some(conn) = self.conn() {
            conn.cut();
        }
    }

    /// Ends the body. If fewer bytes were written than announced, the connection is closed.
    #[doc(alias = "evhttp_send_reply_end")]
    pub fn finish(&self) {
        let Some(conn) = self.conn() else { return };
        match self.guard.framing.get() {
            StreamFraming::Sized(1..) => return conn.cut(),
            StreamFraming::Chunked => match conn.output().append(LAST_CHUNK) {
                Ok(()) => conn.queued(LAST_CHUNK.len()),
                Err(_) => return conn.cut(),
            },
            _ => (),
        }
        conn.finish();
    }

    /// The connection, while this message is what it sends.
    fn conn(&self) -> Option<Rc<dyn Outlet>> {
        self.guard.conn.upgrade().filter(|conn| conn.is_streaming(self.guard.serial))
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.upgrade()
            && conn.is_streaming(self.serial)
        {
            conn.cut();
        }
    }
}

impl fmt::Debug for BodyStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BodyStream")
            .field("is_open", &self.is_open())
            .field("pending", &self.pending())
            .finish_non_exhaustive()
    }
}

fn left() -> Error {
    let source = io::Error::new(io::ErrorKind::NotConnected, "the peer has left, or the body is finished");
    Error::io("send more of a body")(source)
}
