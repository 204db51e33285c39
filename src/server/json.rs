//! Answers in JSON.

use reactor::http::Reply;
use serde::Serialize;

/// Makes a value the body of a reply, with a line end behind it for those who read it in a terminal.
pub(crate) fn body(reply: Reply, value: &impl Serialize) -> Reply {
    let mut text = Vec::with_capacity(256);
    // Values are structures of text and numbers, which all can be written.
    let _ = serde_json::to_writer(&mut text, value);
    text.push(b'\n');
    reply.header("Content-Type", "application/json").header("X-Content-Type-Options", "nosniff").body(text)
}
