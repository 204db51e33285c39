//! One question and its answer, on the loop.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use reactor::Evbuffer;
use reactor::http::{self, Connection, Headers, ReplyEvent, RequestBuilder, Status};

use super::error::ClientError;
use super::remote::Remote;
use super::retry::Retry;

/// Answers that are kept in memory.
const MOST_KEPT: usize = 64 * 1024 * 1024;
/// What is read of the answer of a server that has refused.
const MOST_OF_REFUSAL: usize = 64 * 1024;

/// An answer that says success.
pub(super) struct Answer {
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
}

/// What an answer's body is put together in, up to a bound.
#[derive(Default)]
pub(super) struct Collected {
    status: Option<Status>,
    headers: Headers,
    body: Vec<u8>,
}

impl Collected {
    pub(super) fn begin(&mut self, status: Status, headers: &Headers) {
        *self = Collected { status: Some(status), headers: headers.clone(), body: Vec::new() };
    }

    fn is_success(&self) -> bool {
        self.status.is_some_and(|status| status.code() / 100 == 2)
    }

    /// Takes what has come; whether it is not too much.
    pub(super) fn take(&mut self, data: &Evbuffer) -> bool {
        let most = if self.is_success() { MOST_KEPT } else { MOST_OF_REFUSAL };
        let mut has_room = true;
        if let Ok(bytes) = data.peek(..) {
            for slice in bytes.slices() {
                let room = most - self.body.len();
                has_room &= slice.len() <= room;
                self.body.extend(slice.iter().take(room));
            }
        }
        // Nothing of it is lent any more.
        let _ = data.drain(usize::MAX);
        has_room || !self.is_success()
    }

    pub(super) fn end(self, remote: &Remote) -> Result<Answer, ClientError> {
        match self.status {
            Some(_) if self.is_success() => Ok(Answer { headers: self.headers, body: self.body }),
            Some(status) => Err(remote.refusal(status, &self.body)),
            None => Err(remote.failure(http::ClientError::Closed)),
        }
    }
}

/// The closure of a request whose answer is wanted whole.
pub(super) fn collect(
    remote: &Remote,
    on_done: impl FnOnce(Result<Answer, ClientError>) + 'static,
) -> impl for<'a> FnMut(&Connection, ReplyEvent<'a>) + 'static {
    let remote = remote.clone();
    let mut collected = Collected::default();
    let mut on_done = Some(on_done);
    move |connection: &Connection, event: ReplyEvent<'_>| {
        let result = match event {
            ReplyEvent::Head(head) => {
                remote.answered();
                return collected.begin(head.status(), head.headers());
            }
            ReplyEvent::Data(data) if collected.take(data) => return,
            ReplyEvent::Data(_) => Err(ClientError::strange(remote.server(), "its answer is far too long")),
            ReplyEvent::End => std::mem::take(&mut collected).end(&remote),
            ReplyEvent::Failed(error) => Err(remote.failure(error)),
        };
        if let Some(on_done) = on_done.take() {
            if connection.is_busy() {
                connection.close();
            }
            on_done(result);
        }
    }
}

/// Asks, and again for a while if the server is away for a moment.
pub(super) fn ask(
    remote: &Remote,
    connection: &Connection,
    question: impl Fn(&Remote, &Connection) -> RequestBuilder + 'static,
    on_done: impl FnOnce(Result<Answer, ClientError>) + 'static,
) {
    let asking = Asking {
        remote: remote.clone(),
        connection: connection.clone(),
        question: Box::new(question),
        retry: RefCell::new(Retry::new(remote.retry())),
        on_done: RefCell::new(Some(Box::new(on_done))),
    };
    Rc::new(asking).begin();
}

struct Asking {
    remote: Remote,
    connection: Connection,
    question: Box<Question>,
    retry: RefCell<Retry>,
    on_done: RefCell<Option<OnAnswer>>,
}

type Question = dyn Fn(&Remote, &Connection) -> RequestBuilder;
type OnAnswer = Box<dyn FnOnce(Result<Answer, ClientError>)>;

impl Asking {
    fn begin(self: Rc<Asking>) {
        let started = self.remote.base().now();
        let me = Rc::clone(&self);
        let on_done = collect(&self.remote, move |result| {
            let time = me.remote.base().now().saturating_duration_since(started);
            me.ended(result, time);
        });
        if let Err(error) = (self.question)(&self.remote, &self.connection).send(on_done) {
            let error = self.remote.failure(error);
            self.ended(Err(error), Duration::ZERO);
        }
    }

    fn ended(self: Rc<Asking>, result: Result<Answer, ClientError>, time: Duration) {
        let wait = match &result {
            Err(error) if self.remote.may_recover(error) => self.retry.borrow_mut().failed(time),
            _ => None,
        };
        if let Some(wait) = wait {
            let me = Rc::clone(&self);
            let base = self.remote.base().handle();
            if base.once(Some(wait), move |_| me.begin()).is_ok() {
                return;
            }
        }
        let on_done = self.on_done.take();
        if let Some(on_done) = on_done {
            on_done(result);
        }
    }
}

/// What an answer says the CRC-32C of the whole is (RFC 9530).
pub(super) fn crc32c_of(headers: &Headers) -> Option<u32> {
    headers.all("repr-digest").find_map(|value| crc32c_in(std::str::from_utf8(value).ok()?))
}

fn crc32c_in(field: &str) -> Option<u32> {
    use base64::Engine as _;
    field.split(',').find_map(|member| {
        let value = member.trim().strip_prefix("crc32c=:")?.strip_suffix(':')?;
        let bytes = base64::prelude::BASE64_STANDARD.decode(value).ok()?;
        Some(u32::from_be_bytes(bytes.try_into().ok()?))
    })
}

/// The value of `Repr-Digest` for content of this CRC-32C.
pub(super) fn digest_of(crc32c: u32) -> String {
    use base64::Engine as _;
    format!("crc32c=:{}:", base64::prelude::BASE64_STANDARD.encode(crc32c.to_be_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_among_others() {
        for (field, found) in [
            ("crc32c=:NT3Yvg==:", Some(0x353d_d8be)),
            ("sha-256=:abcd:, crc32c=:NT3Yvg==:", Some(0x353d_d8be)),
            ("sha-256=:abcd:", None),
            ("crc32c=:NT3Y:", None),
            ("crc32c=NT3Yvg==", None),
            ("", None),
        ] {
            assert_eq!(crc32c_in(field), found, "{field}");
        }
        assert_eq!(crc32c_in(&digest_of(7)), Some(7));
    }
}
