//! Folders of a server, page by page.

use reactor::http::Connection;
use serde::{Deserialize, Serialize};

use super::error::ClientError;
use super::exchange::ask;
use super::remote::{Remote, encoded, path_of};

/// Entries that are asked for at a time.
const PAGE: usize = 1000;

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    folder: String,
    prefix: String,
    is_deep: bool,
}

impl Wanted {
    /// All whose names begin with `text`: `a/` is what is in the folder, `a/b` what begins so in it. With `is_deep` also what
    /// is in folders below, and not those.
    ///
    /// ```
    /// use cloudstore::client::Wanted;
    ///
    /// assert_eq!(Wanted::new("a/b c", false).path(None, 10), "/files/a/?limit=10&prefix=b%20c");
    /// assert_eq!(Wanted::new("", true).path(Some("é"), 10), "/files/?limit=10&delimiter=&after=%C3%A9");
    /// ```
    pub fn new(text: &str, is_deep: bool) -> Wanted {
        let (folder, prefix) = text.split_at(text.rfind('/').map_or(0, |at| at + 1));
        Wanted { folder: folder.to_owned(), prefix: prefix.to_owned(), is_deep }
    }

    /// The path that is asked for at most `limit` of them, behind the name `after`.
    pub fn path(&self, after: Option<&str>, limit: usize) -> String {
        let mut path = format!("{}?limit={limit}", path_of(&self.folder));
        if self.is_deep {
            path.push_str("&delimiter=");
        }
        for (name, value) in [("prefix", Some(self.prefix.as_str())), ("after", after)] {
            if let Some(value) = value.filter(|value| !value.is_empty()) {
                path.push_str(&format!("&{name}={}", encoded(value)));
            }
        }
        path
    }

    /// The path of a page of the usual length.
    pub fn page(&self, after: Option<&str>) -> String {
        self.path(after, PAGE)
    }
}

/// A part of a listing, as the server writes it.
#[derive(Debug, Deserialize)]
pub struct Page {
    /// In the order of their names.
    pub entries: Vec<Entry>,
    /// Behind which name it goes on; none at the end.
    pub next: Option<String>,
}

/// What a server says of an object, or of a folder.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Entry {
    /// The whole name; a folder's ends with a slash. It is what the server says, and may be anything.
    pub name: String,
    /// `file` or `folder`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Everything else.
    #[serde(flatten)]
    pub more: serde_json::Map<String, serde_json::Value>,
}

impl Entry {
    /// Another of its texts.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.more.get(key)?.as_str()
    }

    /// The CRC-32C of its content.
    pub fn crc32c(&self) -> Option<u32> {
        u32::from_str_radix(self.text("crc32c")?, 16).ok()
    }

    /// Whether it is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == "folder"
    }
}

/// Reads what a server has answered.
///
/// # Errors
/// [`ClientError::Strange`].
pub fn page_of(remote: &super::ServerUrl, answer: &[u8]) -> Result<Page, ClientError> {
    serde_json::from_slice(answer).map_err(|error| ClientError::strange(remote, error))
}

/// Asks for the page behind `after`.
pub(super) fn page(
    remote: &Remote,
    connection: &Connection,
    wanted: &Wanted,
    after: Option<&str>,
    on_done: impl FnOnce(Result<Page, ClientError>) + 'static,
) {
    let path = wanted.page(after);
    let asker = remote.clone();
    ask(
        remote,
        connection,
        move |remote, connection| remote.request(connection, "GET", &path),
        move |result| on_done(result.and_then(|answer| page_of(asker.server(), &answer.body))),
    );
}
