//! A request's body on its way to its handler.

use std::cell::Cell;
use std::rc::Weak;

use super::conn::Conn;
use super::parse::ParseError;
use super::reply::Scratch;
use super::request::Request;
use super::status::Status;
use crate::evbuffer::Evbuffer;
use crate::slot::Slot;

/// What happens to a body that is read.
#[derive(Debug)]
pub enum BodyEvent<'a> {
    /// Bytes have come. What the closure leaves in the buffer stays there for the next call; with 256 KiB left, reading
    /// pauses as by [`Body::pause`].
    Data(&'a Evbuffer),
    /// The body is whole, the answer is owed.
    End(Request),
    /// It will never be whole. The client has been answered if it could be, and the connection ends.
    Failed(BodyError),
}

/// Why a body will never be whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The client has left, or the server was freed.
    #[error("the connection ended before the body did")]
    Disconnected,
    /// It came too slowly. Answered 408.
    #[error("the body came too slowly")]
    TimedOut,
    /// It is longer than allowed. Answered 413.
    #[error("the body is longer than allowed")]
    TooLarge,
    /// Its chunks are malformed. Answered 400.
    #[error("the body is malformed: {0}")]
    Malformed(#[from] ParseError),
}

impl BodyError {
    /// What the client is told.
    pub(super) fn status(self) -> Option<Status> {
        match self {
            BodyError::Disconnected => None,
            BodyError::TimedOut => Some(Status::from(408)),
            BodyError::TooLarge => Some(Status::from(413)),
            BodyError::Malformed(error) => Some(error.status()),
        }
    }
}

/// A body that is being read: a handle that the closure of [`Request::on_body`] is given, and may keep.
#[derive(Clone)]
pub struct Body {
    pub(super) conn: Weak<Conn>,
    pub(super) serial: u64,
}

impl Body {
    /// Reads no more until [`resume`](Self::resume): the client is held up by its full connection. No time-out runs. A client
    /// that leaves is noticed, unless what it sent before may be the rest of the body.
    pub fn pause(&self) {
        if let Some(conn) = self.conn.upgrade() {
            conn.pause(self.serial);
        }
    }

    /// Goes on after [`pause`](Self::pause).
    pub fn resume(&self) {
        if let Some(conn) = self.conn.upgrade() {
            conn.resume(self.serial);
        }
    }

    /// Takes the request back to answer it before its body is whole, which is not read any more; `None` once it is over.
    /// Unless the rest is known and small, the connection ends with the reply: the reply is sent, what the client still
    /// sends is thrown away for a bounded time.
    pub fn take_request(&self) -> Option<Request> {
        self.conn.upgrade()?.take_request(self.serial)
    }

    /// Bytes of the body that have come.
    pub fn received(&self) -> u64 {
        self.conn
            .upgrade()
            .and_then(|conn| conn.reader(self.serial))
            .map_or(0, |reader| reader.received.get())
    }
}

type OnEvent = dyn for<'a> FnMut(&Body, BodyEvent<'a>);
type Then = dyn FnOnce(Request, &Evbuffer);

/// Where a body goes.
pub(super) enum Sink {
    Pieces(Slot<OnEvent>),
    Whole(Cell<Option<Box<Then>>>),
}

impl Sink {
    pub(super) fn pieces(on_event: impl for<'a> FnMut(&Body, BodyEvent<'a>) + 'static) -> Sink {
        Sink::Pieces(Slot::new(Box::new(on_event)))
    }

    pub(super) fn whole(then: impl FnOnce(Request, &Evbuffer) + 'static) -> Sink {
        Sink::Whole(Cell::new(Some(Box::new(then))))
    }
}

/// A body that is being read, for its connection.
pub(super) struct Reader {
    pub(super) sink: Sink,
    pub(super) scratch: Cell<Option<Box<Scratch>>>,
    pub(super) buffer: Evbuffer,
    pub(super) limit: u64,
    pub(super) received: Cell<u64>,
    pub(super) is_paused: Cell<bool>,
    /// Bytes received when the rate was looked at last; `None` if it was paused since.
    pub(super) mark: Cell<Option<u64>>,
}

impl Reader {
    pub(super) fn new(sink: Sink, scratch: Box<Scratch>, limit: u64) -> Reader {
        Reader {
            sink,
            scratch: Cell::new(Some(scratch)),
            buffer: Evbuffer::new(),
            limit,
            received: Cell::new(0),
            is_paused: Cell::new(false),
            mark: Cell::new(Some(0)),
        }
    }
}
