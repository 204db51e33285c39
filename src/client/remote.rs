//! A server, for all connections to it.

use std::cell::Cell;
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::rc::Rc;
use std::time::Duration;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reactor::http::{self, Connection, RequestBuilder, Status};
use reactor::{Address, EventBase};
use serde::Deserialize;

use super::credentials::Credentials;
use super::error::{ClientError, shown};
use super::url::ServerUrl;

/// How long each of several addresses is tried.
const TRIED: Duration = Duration::from_secs(5);

/// A server as a client of it knows it: where it is, who asks, and how long what gets no further is tried again.
///
/// It is a handle, cheap to clone, and lives on one loop.
#[derive(Clone)]
pub struct Remote {
    inner: Rc<Inner>,
}

struct Inner {
    base: EventBase,
    server: ServerUrl,
    place: Address,
    credentials: Option<Credentials>,
    retry: Duration,
    has_answered: Cell<bool>,
}

impl Remote {
    /// Looks up the server, which may block. If it has several addresses, the first that takes a connection is used.
    ///
    /// `retry` is for how long something that gets no further is tried again; zero for never.
    ///
    /// # Errors
    /// [`ClientError::Unknown`], [`ClientError::Unreachable`] if it has several addresses.
    pub fn find(
        base: &EventBase,
        server: ServerUrl,
        credentials: Option<Credentials>,
        retry: Duration,
    ) -> Result<Remote, ClientError> {
        let places = match server.resolve() {
            Ok(places) => places,
            Err(source) => return Err(ClientError::Unknown { server: server.told(), source }),
        };
        let place = reachable(&places).map_err(|source| {
            let source = http::ClientError::Io(reactor::Error::Io { what: "connect", source });
            ClientError::Unreachable { server: server.told(), source }
        })?;
        let has_answered = Cell::new(false);
        let inner = Inner { base: base.handle(), server, place, credentials, retry, has_answered };
        Ok(Remote { inner: Rc::new(inner) })
    }

    /// The server.
    pub fn server(&self) -> &ServerUrl {
        &self.inner.server
    }

    /// The loop.
    pub fn base(&self) -> &EventBase {
        &self.inner.base
    }

    /// A connection of its own, which is made when it is first used.
    pub(super) fn connection(&self) -> Result<Connection, ClientError> {
        let connection = Connection::new(&self.inner.base, &self.inner.place)?;
        connection.set_host(self.inner.server.host());
        Ok(connection)
    }

    /// For how long something that gets no further is tried again.
    pub(super) fn retry(&self) -> Duration {
        self.inner.retry
    }

    /// Whether the same may go well a moment later. A server that never was there is not waited for.
    pub(super) fn may_recover(&self, error: &ClientError) -> bool {
        error.is_passing() && (self.inner.has_answered.get() || !error.is_no_server())
    }

    pub(super) fn answered(&self) {
        self.inner.has_answered.set(true);
    }

    /// A request for this path, which begins with a slash, with what each has.
    pub(super) fn request(&self, connection: &Connection, method: &str, path: &str) -> RequestBuilder {
        let request = connection
            .request(method, &self.inner.server.target(path))
            .header("Accept", "application/json, */*");
        match &self.inner.credentials {
            Some(credentials) => request.header("Authorization", credentials.value()),
            None => request,
        }
    }

    pub(super) fn failure(&self, error: http::ClientError) -> ClientError {
        match error {
            // Something else may listen there.
            http::ClientError::Io(reactor::Error::Io { source, .. })
                if source.kind() == io::ErrorKind::ConnectionReset && !self.inner.has_answered.get() =>
            {
                ClientError::Silent { server: self.server().told(), source }
            }
            error => ClientError::of_exchange(self.server(), error),
        }
    }

    /// What an answer says that is no success.
    pub(super) fn refusal(&self, status: Status, body: &[u8]) -> ClientError {
        /// As the server writes it.
        #[derive(Deserialize)]
        struct Problem {
            error: String,
            message: String,
        }
        let (code, mut message) = match serde_json::from_slice::<Problem>(body) {
            Ok(Problem { error, message }) => (error, shown(&message)),
            Err(_) => {
                let (server, status) = (self.server(), status);
                (String::new(), format!("{server} answers {} {}", status.code(), status.reason()))
            }
        };
        const HOW: &str = "by --user NAME (password in CLOUDSTORE_PASSWORD) or --token TOKEN";
        match (status.code(), &self.inner.credentials) {
            (401, None) => {
                message = format!("{} wants to know who asks: say who you are {HOW}", self.server())
            }
            (403, None) if code != "foreign_origin" => message.push_str(&format!("; or say who asks {HOW}")),
            (401, Some(_)) => {
                message.push_str("; check --user and CLOUDSTORE_PASSWORD, or --token and CLOUDSTORE_TOKEN");
            }
            _ => (),
        }
        ClientError::Refused { status: status.code(), code, message }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("server", self.server()).finish_non_exhaustive()
    }
}

/// What need not be percent-encoded in a path or a parameter.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The path of an object or a folder.
///
/// ```
/// assert_eq!(cloudstore::client::path_of("a/100% é"), "/files/a/100%25%20%C3%A9");
/// ```
pub fn path_of(name: &str) -> String {
    format!("/files/{}", encoded(name))
}

/// A text as it stands in a path or as the value of a parameter.
pub fn encoded(text: &str) -> impl fmt::Display {
    utf8_percent_encode(text, PLAIN)
}

/// The first address that takes a connection; a single one is not asked.
fn reachable(places: &[Address]) -> io::Result<Address> {
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for place in places {
        let Address::Inet(inet) = place else { return Ok(place.clone()) };
        if places.len() == 1 {
            return Ok(place.clone());
        }
        match TcpStream::connect_timeout(inet, TRIED) {
            Ok(_) => return Ok(place.clone()),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
