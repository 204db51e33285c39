//! Calls to a server that wait for their answers.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::time::Duration;

use reactor::http::{self, BodyStream, ClientTimeouts, Connection, ReplyEvent, RequestBuilder, Status};
use reactor::{Evbuffer, EventBase};

use super::credentials::Credentials;
use super::error::ClientError;
use super::remote::Remote;
use super::url::ServerUrl;

/// A server, and the connection to it, which is kept from one call to the next.
pub struct Client {
    base: EventBase,
    connection: Connection,
    remote: Remote,
}

/// What is read of a body before it is sent. Two of them wait at most.
const PIECE: usize = 64 * 1024;
/// Answers that are kept in memory.
const MOST_KEPT: usize = 64 * 1024 * 1024;
/// What is read of the answer of a server that has refused.
const MOST_OF_REFUSAL: usize = 64 * 1024;

impl Client {
    /// Looks up the server. If it has several addresses, the first that takes a connection is used.
    ///
    /// # Errors
    /// [`ClientError::Unknown`], [`ClientError::Unreachable`] if it has several addresses, [`ClientError::Loop`].
    pub fn new(server: ServerUrl, credentials: Option<Credentials>) -> Result<Client, ClientError> {
        let base = EventBase::new()?;
        let remote = Remote::find(&base, server, credentials, Duration::ZERO)?;
        let connection = remote.connection()?;
        Ok(Client { base, connection, remote })
    }

    /// The server.
    pub fn server(&self) -> &ServerUrl {
        self.remote.server()
    }

    /// Sets how long it waits, from the next call on.
    pub fn set_timeouts(&self, timeouts: ClientTimeouts) {
        self.connection.set_timeouts(timeouts);
    }

    /// Asks without a body, and gives the answer's.
    ///
    /// # Errors
    /// [`ClientError::Refused`] if the answer is no success, and what else a [`ClientError`] says.
    pub fn ask(&self, method: &str, path: &str) -> Result<Vec<u8>, ClientError> {
        self.ask_with(method, path, &[])
    }

    /// As [`ask`](Self::ask), with header fields.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub fn ask_with(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Vec<u8>, ClientError> {
        let kept = Rc::<RefCell<Vec<u8>>>::default();
        self.call(method, path, headers, None, Box::new(Kept(Rc::clone(&kept))))?;
        Ok(kept.take())
    }

    /// Asks with what `from` gives as body, to its end, and gives the answer's. A server that refuses is not sent the rest.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and [`ClientError::Read`].
    pub fn send(&self, method: &str, path: &str, from: impl Read + 'static) -> Result<Vec<u8>, ClientError> {
        let kept = Rc::<RefCell<Vec<u8>>>::default();
        self.call(method, path, &[], Some(Box::new(from)), Box::new(Kept(Rc::clone(&kept))))?;
        Ok(kept.take())
    }

    /// Asks without a body, and writes the answer's to `to` as it comes.
    ///
    /// # Errors
    /// As [`ask`](Self::ask), and [`ClientError::Write`]. What came until then is written.
    pub fn fetch(&self, path: &str, to: impl Write + 'static) -> Result<(), ClientError> {
        self.call("GET", path, &[], None, Box::new(to))
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        from: Option<Box<dyn Read>>,
        to: Box<dyn Write>,
    ) -> Result<(), ClientError> {
        let mut request = self.remote.request(&self.connection, method, path);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let call = Rc::new(Call {
            remote: self.remote.clone(),
            to: RefCell::new(to),
            refused: RefCell::default(),
            failed: Cell::default(),
            is_over: Cell::new(false),
        });
        let begun = call.begin(request, from);
        begun.map_err(|error| self.remote.failure(error))?;
        self.base.dispatch()?;
        match call.failed.take() {
            Some(error) => Err(error),
            None if call.is_over.get() => Ok(()),
            None => Err(self.remote.failure(http::ClientError::Closed)),
        }
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("server", self.server()).finish_non_exhaustive()
    }
}

/// An answer in memory.
struct Kept(Rc<RefCell<Vec<u8>>>);

impl Write for Kept {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut kept = self.0.borrow_mut();
        if kept.len() + bytes.len() > MOST_KEPT {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the answer is far too long"));
        }
        kept.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One request and its answer.
struct Call {
    remote: Remote,
    to: RefCell<Box<dyn Write>>,
    /// The status of an answer that is no success, and what came of it.
    refused: RefCell<Option<(Status, Vec<u8>)>>,
    failed: Cell<Option<ClientError>>,
    is_over: Cell<bool>,
}

impl Call {
    fn begin(
        self: &Rc<Call>,
        request: RequestBuilder,
        from: Option<Box<dyn Read>>,
    ) -> Result<(), http::ClientError> {
        let call = Rc::clone(self);
        let on_event = move |connection: &Connection, event: ReplyEvent<'_>| call.happened(connection, event);
        let Some(mut from) = from else { return request.send(on_event) };
        let stream = request.stream(on_event)?;
        let mut piece = vec![0; PIECE];
        let call = Rc::clone(self);
        stream.on_drained(move |stream| {
            if let Err(error) = pass_on(&mut from, &mut piece, stream) {
                call.fail(ClientError::Read(error));
                stream.abort();
            }
        });
        Ok(())
    }

    fn happened(&self, connection: &Connection, event: ReplyEvent<'_>) {
        if let ReplyEvent::Head(_) = event {
            self.remote.answered();
        }
        match event {
            ReplyEvent::Head(head) if head.status().code() / 100 == 2 => (),
            ReplyEvent::Head(head) => _ = self.refused.replace(Some((head.status(), Vec::new()))),
            ReplyEvent::Data(data) => {
                if let Err(error) = self.take(data) {
                    self.fail(ClientError::Write(error));
                    self.end(connection);
                    connection.close();
                }
            }
            ReplyEvent::End => {
                let ended = self.to.borrow_mut().flush();
                if let Some((status, body)) = self.refused.take() {
                    self.fail(self.remote.refusal(status, &body));
                } else if let Err(error) = ended {
                    self.fail(ClientError::Write(error));
                }
                self.end(connection);
            }
            ReplyEvent::Failed(error) => {
                self.fail(self.remote.failure(error));
                self.end(connection);
            }
        }
    }

    fn take(&self, data: &Evbuffer) -> io::Result<()> {
        let peek = data.peek(..).map_err(io::Error::other)?;
        for slice in peek.slices() {
            match &mut *self.refused.borrow_mut() {
                Some((_, body)) => {
                    let room = MOST_OF_REFUSAL.saturating_sub(body.len());
                    body.extend(slice.iter().take(room));
                }
                None => self.to.borrow_mut().write_all(slice)?,
            }
        }
        drop(peek);
        data.drain(usize::MAX).map_err(io::Error::other)?;
        Ok(())
    }

    /// The first failure is the reason of those that follow.
    fn fail(&self, error: ClientError) {
        let first = self.failed.take();
        self.failed.set(Some(first.unwrap_or(error)));
    }

    fn end(&self, connection: &Connection) {
        self.is_over.set(true);
        connection.base().loop_break();
    }
}

/// Sends the next piece, or the end.
fn pass_on(from: &mut Box<dyn Read>, piece: &mut [u8], stream: &BodyStream) -> io::Result<()> {
    let n = loop {
        match from.read(piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => (),
            read => break read?,
        }
    };
    match piece.get(..n) {
        Some([]) | None => stream.finish(),
        // A server that has left, or wants no more, is told of by its connection.
        Some(bytes) => _ = stream.write(bytes),
    }
    Ok(())
}
