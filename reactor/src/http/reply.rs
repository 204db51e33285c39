//! Answers: the builder, and the encoder of heads.

use std::fmt;
use std::io::Write;
use std::ops::Range;
use std::rc::Rc;

use super::headers::{has_member, is_token, is_value};
use super::parse::Head;
use super::request::Request;
use super::server::DATE_LEN;
use super::status::Status;
use super::stream::BodyStream;
use crate::evbuffer::{Evbuffer, FileSegment};

/// The memory of one exchange, used again for others.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) head: Head,
    /// Header lines that the handler set.
    pub(super) lines: Vec<u8>,
    /// One was set that cannot be sent.
    is_broken: bool,
    /// A body that is copied.
    pub(super) body: Vec<u8>,
    /// What is sent.
    pub(super) out: Vec<u8>,
}

/// What a scratch may hold in idle memory.
const MOST_KEPT: usize = 64 * 1024;

impl Scratch {
    pub(super) fn is_worth_keeping(&self) -> bool {
        let vecs = [&self.head.headers.bytes, &self.lines, &self.body, &self.out];
        vecs.into_iter().map(Vec::capacity).sum::<usize>() <= MOST_KEPT
    }

    /// Adds a header line to the answer, or has it broken if that cannot be sent.
    pub(super) fn add_line(&mut self, name: &str, value: &[u8]) {
        if !is_token(name.as_bytes()) || !is_value(value) {
            self.is_broken = true;
            return;
        }
        self.lines.extend_from_slice(name.as_bytes());
        self.lines.extend_from_slice(b": ");
        self.lines.extend_from_slice(value);
        self.lines.extend_from_slice(b"\r\n");
    }

    pub(super) fn clear(&mut self) {
        self.lines.clear();
        self.is_broken = false;
        self.body.clear();
        self.out.clear();
    }
}

/// An answer that is being put together. [`send`](Self::send) and [`stream`](Self::stream) end it; dropped before, the
/// request is answered 500.
///
/// `Date`, `Content-Length`, `Transfer-Encoding` and `Connection` are written by the library; a body is left out where
/// there can be none: for HEAD, and with 204 and 304.
#[must_use = "an answer goes out by send or stream; dropped, it is a 500"]
pub struct Reply {
    request: Request,
    status: Status,
    content: Content,
    has_date: bool,
    closes: bool,
    /// A part of a file that is not there was set.
    is_broken: bool,
}

/// A body that is there.
pub(super) enum Content {
    None,
    /// In the scratch.
    Copied,
    Buffer(Evbuffer),
    File(FileSegment, Range<u64>),
}

impl Reply {
    pub(super) fn new(request: Request, status: Status) -> Reply {
        let status = status.finalized();
        Reply { request, status, content: Content::None, has_date: false, closes: false, is_broken: false }
    }

    /// The request that it answers.
    pub fn request(&self) -> &Request {
        &self.request
    }

    /// Adds a header field; one of the same name stays. `Connection: close` closes the connection after the reply;
    /// otherwise `Connection`, `Content-Length` and `Transfer-Encoding` are ignored, since the library writes them.
    ///
    /// A name that is no token, or a value with a line end, another control character or white space around it, is
    /// a fault of the program that must not reach the client: the whole reply becomes an empty 500.
    #[doc(alias = "evhttp_add_header")]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Reply {
        let value = value.as_ref();
        let is = |known: &str| name.eq_ignore_ascii_case(known);
        if is("connection") {
            self.closes |= has_member(value, b"close");
        } else if !is("content-length") && !is("transfer-encoding") {
            self.has_date |= is("date");
            if let Some(scratch) = self.request.scratch_mut() {
                scratch.add_line(name, value);
            }
        }
        self
    }

    /// Closes the connection after the reply.
    pub fn close(mut self) -> Reply {
        self.closes = true;
        self
    }

    /// A body, which is copied. For large ones: [`shared`](Self::shared) or [`buffer`](Self::buffer).
    pub fn body(mut self, bytes: impl AsRef<[u8]>) -> Reply {
        if let Some(scratch) = self.request.scratch_mut() {
            scratch.body.clear();
            scratch.body.extend_from_slice(bytes.as_ref());
        }
        self.content = Content::Copied;
        self
    }

    /// A body in memory that is not copied, as [`Evbuffer::append_shared`].
    pub fn shared(mut self, owner: impl AsRef<[u8]> + 'static) -> Reply {
        let buffer = Evbuffer::new();
        // Refused only by a buffer that is frozen or lent out.
        let _ = buffer.append_shared(owner);
        self.content = Content::Buffer(buffer);
        self
    }

    /// The content of `buffer` as body, moved out of it when the reply is sent.
    pub fn buffer(mut self, buffer: &Evbuffer) -> Reply {
        self.content = Content::Buffer(buffer.clone());
        self
    }

    /// A file as body, sent by the kernel. If it turns out shorter than the segment says, the connection ends short.
    pub fn file(self, file: FileSegment) -> Reply {
        let all = 0..file.len();
        self.file_range(file, all)
    }

    /// A part of a file as body; `range` is relative to the segment. One that reaches beyond it makes the reply a 500.
    pub fn file_range(mut self, file: FileSegment, range: Range<u64>) -> Reply {
        self.is_broken |= range.start > range.end || range.end > file.len();
        self.content = Content::File(file, range);
        self
    }

    /// Sends it. If the client has left, nothing happens.
    #[doc(alias = "evhttp_send_reply")]
    pub fn send(mut self) {
        self.repair();
        let Some(mut scratch) = self.request.take_scratch() else { return };
        let length = match &self.content {
            Content::None => 0,
            Content::Copied => scratch.body.len() as u64,
            Content::Buffer(buffer) => buffer.len() as u64,
            Content::File(_, range) => range.end - range.start,
        };
        let plan = Plan { status: self.status, length: Length::Known(length), has_date: self.has_date };
        let conn = Rc::clone(&self.request.conn);
        let content = std::mem::replace(&mut self.content, Content::None);
        conn.send_whole(self.request.serial(), &mut scratch, plan, self.closes, content);
        conn.recycle(scratch);
    }

    /// Sends the head, and lets the body follow in chunks; for HTTP/1.0, until the connection closes.
    #[doc(alias = "evhttp_send_reply_start")]
    pub fn stream(self) -> BodyStream {
        self.start(Length::Chunked)
    }

    /// Sends the head, and lets a body of exactly `length` bytes follow.
    pub fn stream_sized(self, length: u64) -> BodyStream {
        self.start(Length::Known(length))
    }

    fn start(mut self, length: Length) -> BodyStream {
        self.repair();
        let conn = Rc::clone(&self.request.conn);
        let serial = self.request.serial();
        let Some(mut scratch) = self.request.take_scratch() else { return BodyStream::closed() };
        let plan = Plan { status: self.status, length, has_date: self.has_date };
        let stream = conn.send_head(serial, &mut scratch, plan, self.closes);
        conn.recycle(scratch);
        stream
    }

    fn repair(&mut self) {
        let Some(scratch) = self.request.scratch_mut() else { return };
        if self.is_broken || scratch.is_broken {
            scratch.clear();
            self.status = Status::from(500);
            self.content = Content::None;
            self.has_date = false;
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reply").field("status", &self.status).finish_non_exhaustive()
    }
}

/// What a reply is, before it is known to whom it goes.
#[derive(Clone, Copy)]
pub(super) struct Plan {
    pub(super) status: Status,
    pub(super) length: Length,
    pub(super) has_date: bool,
}

/// How the end of a reply's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Length {
    Known(u64),
    Chunked,
    Close,
}

/// What the connection adds to a head.
pub(super) struct Frame {
    pub(super) status: Status,
    pub(super) length: Option<Length>,
    pub(super) closes: bool,
    /// The client is told that the connection stays: an old one takes the opposite for granted.
    pub(super) stays: bool,
    pub(super) date: Option<[u8; DATE_LEN]>,
}

impl Frame {
    /// Writes a whole head.
    pub(super) fn encode(&self, lines: &[u8], out: &mut Vec<u8>) {
        // Writing to a Vec does not fail.
        let _ = write!(out, "HTTP/1.1 {} {}\r\n", self.status.code(), self.status.reason());
        if let Some(date) = &self.date {
            out.extend_from_slice(b"Date: ");
            out.extend_from_slice(date);
            out.extend_from_slice(b"\r\n");
        }
        match self.length {
            Some(Length::Known(length)) => {
                let _ = write!(out, "Content-Length: {length}\r\n");
            }
            Some(Length::Chunked) => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
            Some(Length::Close) | None => (),
        }
        if self.closes {
            out.extend_from_slice(b"Connection: close\r\n");
        } else if self.stays {
            out.extend_from_slice(b"Connection: keep-alive\r\n");
        }
        out.extend_from_slice(lines);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads() {
        let date = *b"Sun, 06 Nov 1994 08:49:37 GMT";
        for (status, length, closes, date, lines, expected) in [
            (200, Some(Length::Known(5)), false, None, "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"),
            (
                299,
                Some(Length::Close),
                true,
                None,
                "A: b\r\n",
                "HTTP/1.1 299 \r\nConnection: close\r\nA: b\r\n\r\n",
            ),
            (
                200,
                Some(Length::Chunked),
                false,
                Some(date),
                "",
                "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nTransfer-Encoding: chunked\r\n\r\n",
            ),
            (204, None, false, None, "", "HTTP/1.1 204 No Content\r\n\r\n"),
        ] {
            let mut out = Vec::new();
            Frame { status: Status::from(status), length, closes, stays: false, date }
                .encode(lines.as_bytes(), &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        }
    }
}
