//! Folders, listed as JSON.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use reactor::http::{BodyStream, Request};
use serde::Serialize;

use super::entity::{Entity, rfc3339};
use super::grant::Grant;
use super::problem::Problem;
use super::service::Service;
use super::target;
use crate::storage::{Class, Entry, Folder, ListOptions, Page, Scope, Store, StoreError};

/// How a listing is asked for.
struct Wanted {
    folder: Folder,
    prefix: String,
    after: Option<String>,
    /// At most so many entries, then a cursor; all if there is none.
    limit: Option<usize>,
    is_deep: bool,
    sort: Sort,
    /// What who asks may read.
    scope: Scope,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Sort {
    Name,
    By(Key, Order),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Key {
    Name,
    Class,
    Size,
    Modified,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Order {
    Up,
    Down,
}

pub(crate) const SORTS: [(&str, Sort); 8] = [
    ("name", Sort::Name),
    ("-name", Sort::By(Key::Name, Order::Down)),
    ("class", Sort::By(Key::Class, Order::Up)),
    ("-class", Sort::By(Key::Class, Order::Down)),
    ("size", Sort::By(Key::Size, Order::Up)),
    ("-size", Sort::By(Key::Size, Order::Down)),
    ("modified", Sort::By(Key::Modified, Order::Up)),
    ("-modified", Sort::By(Key::Modified, Order::Down)),
];

/// Entries that are read at a time.
const PAGE: usize = 1000;
/// Entries that are sorted by anything but their name, in memory.
const MOST_SORTED: usize = 10_000;

/// Answers GET and HEAD for a folder, with what may be read.
pub(crate) fn get(service: &Rc<Service>, request: Request, folder: Folder, grant: &Grant) {
    let wanted = match wanted(&request, folder, grant) {
        Ok(wanted) => wanted,
        Err(problem) => return service.refuse(request, problem),
    };
    let store = service.store().clone();
    let options = wanted.options(wanted.after.clone(), wanted.limit);
    let folder = wanted.folder.clone();
    let service = Rc::clone(service);
    store.list(&folder, options, move |result| match result {
        Ok(page) if page.entries.is_empty() && wanted.is_about_the_folder() => {
            service.refuse(request, Problem::no_such_folder(&wanted.folder));
        }
        Ok(page) => begin(&service, request, wanted, page),
        Err(error) => service.refuse(request, error.into()),
    });
}

fn wanted(request: &Request, folder: Folder, grant: &Grant) -> Result<Wanted, Problem> {
    let limit = match target::parameter(request, "limit")? {
        None => None,
        Some(text) => match text.parse::<usize>() {
            Ok(limit @ 1..) => Some(limit),
            _ => {
                let message = format!("limit={} is no number from 1", text.escape_debug());
                return Err(Problem::new(400, "parameter_invalid", message));
            }
        },
    };
    let is_deep = target::word(request, "delimiter", &[("/", false), ("", true)])?.unwrap_or(false);
    let sort = target::word(request, "sort", &SORTS)?.unwrap_or(Sort::Name);
    let after = target::parameter(request, "after")?;
    if sort != Sort::Name && after.is_some() {
        let message = "a listing goes on behind a name only in the order of names: leave out sort or after";
        return Err(Problem::new(400, "parameter_invalid", message));
    }
    let prefix = target::parameter(request, "prefix")?.unwrap_or_default();
    Ok(Wanted { folder, prefix, after, limit, is_deep, sort, scope: grant.scope() })
}

impl Wanted {
    fn options(&self, after: Option<String>, left: Option<usize>) -> ListOptions {
        let limit = match self.sort {
            Sort::Name => left.map_or(PAGE, |left| left.min(PAGE)),
            Sort::By(..) => MOST_SORTED,
        };
        ListOptions {
            prefix: self.prefix.clone(),
            after,
            limit,
            is_deep: self.is_deep,
            scope: self.scope.clone(),
        }
    }

    /// Whether nothing found means that there is no such folder.
    fn is_about_the_folder(&self) -> bool {
        !self.folder.prefix().is_empty() && self.prefix.is_empty() && self.after.is_none()
    }
}

fn begin(service: &Rc<Service>, request: Request, wanted: Wanted, mut page: Page) {
    if let Sort::By(key, order) = wanted.sort {
        if page.next.is_some() {
            let message = format!(
                "the folder has more than {MOST_SORTED} entries: list it by name, which has no bound"
            );
            return service.refuse(request, Problem::new(400, "too_many_to_sort", message));
        }
        sort(&mut page.entries, key, order);
        page.entries.truncate(wanted.limit.unwrap_or(usize::MAX));
    }
    let is_head = request.method() == "HEAD";
    let stream = request
        .reply(200)
        .header("Content-Type", "application/json")
        .header("X-Content-Type-Options", "nosniff")
        .header("Cache-Control", "no-cache")
        // Browsers get a page.
        .header("Vary", "Accept")
        .stream();
    if is_head {
        return stream.finish();
    }
    let mut head = b"{\"folder\":".to_vec();
    push_json(&mut head, wanted.folder.prefix());
    head.extend_from_slice(b",\"entries\":[");
    if stream.write(&head).is_err() {
        return;
    }
    let store = service.store().clone();
    let writer = Rc::new(Writer {
        store,
        left: Cell::new(wanted.limit),
        wanted,
        has_written: Cell::new(false),
        next: RefCell::new(None),
        is_reading: Cell::new(false),
    });
    writer.write(&stream, &page);
    writer.next.replace(Some(page.next));
    stream.on_drained(move |stream| writer.advance(stream));
}

/// Puts entries in order; folders stay in front, in the order of their names.
pub(crate) fn sort(entries: &mut [Entry], key: Key, order: Order) {
    let value = |entry: &Entry| match entry {
        Entry::Object { meta, .. } => match key {
            Key::Name => 0,
            Key::Class => i128::from(meta.class == Class::Deep),
            Key::Size => i128::from(meta.size),
            Key::Modified => i128::from(meta.modified),
        },
        Entry::Folder(_) => -1,
    };
    entries.sort_by(|a, b| {
        let by_value = value(a).cmp(&value(b));
        match (order, a, b) {
            (Order::Down, Entry::Object { name: a, .. }, Entry::Object { name: b, .. }) => {
                by_value.reverse().then_with(|| if key == Key::Name { b.cmp(a) } else { a.cmp(b) })
            }
            _ => by_value,
        }
    });
}

/// Writes page after page, as the client takes them.
struct Writer {
    store: Store,
    wanted: Wanted,
    /// Entries that may still be written.
    left: Cell<Option<usize>>,
    has_written: Cell<bool>,
    /// Where the next page begins, or that there is none; None while it is asked for.
    next: RefCell<Option<Option<String>>>,
    is_reading: Cell<bool>,
}

#[derive(Serialize)]
struct FolderShown<'a> {
    name: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
}

#[derive(Serialize)]
struct ObjectShown<'a> {
    #[serde(flatten)]
    object: super::entity::Shown<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    accessed: Option<String>,
}

impl Writer {
    fn write(&self, stream: &BodyStream, page: &Page) {
        let mut text = Vec::with_capacity(page.entries.len() * 200);
        for entry in &page.entries {
            if self.has_written.replace(true) {
                text.push(b',');
            }
            text.push(b'\n');
            match entry {
                Entry::Folder(folder) => {
                    push_json(&mut text, &FolderShown { name: folder.prefix(), kind: "folder" });
                }
                Entry::Object { name, meta, accessed } => {
                    let object = Entity { name, meta }.shown();
                    push_json(&mut text, &ObjectShown { object, accessed: accessed.map(rfc3339) });
                }
            }
        }
        self.left.set(self.left.get().map(|left| left.saturating_sub(page.entries.len())));
        // A client that has left is noticed by the stream's end.
        let _ = stream.write(&text);
    }

    fn advance(self: &Rc<Writer>, stream: &BodyStream) {
        if self.is_reading.get() {
            return;
        }
        let Some(next) = self.next.take() else { return };
        // What is sorted is complete, or cut where it was asked to be.
        let next = next.filter(|_| self.wanted.sort == Sort::Name);
        let after = match next {
            Some(after) if self.left.get() != Some(0) => after,
            next => return self.end(stream, next.as_deref()),
        };
        self.is_reading.set(true);
        let options = self.wanted.options(Some(after), self.left.get());
        let (me, stream) = (Rc::clone(self), stream.clone());
        self.store.list(&self.wanted.folder, options, move |result| me.continued(&stream, result));
    }

    fn continued(self: &Rc<Writer>, stream: &BodyStream, result: Result<Page, StoreError>) {
        self.is_reading.set(false);
        match result {
            Ok(page) => {
                self.next.replace(Some(page.next.clone()));
                self.write(stream, &page);
                if stream.pending() == 0 {
                    self.advance(stream);
                }
            }
            Err(error) => {
                logger::error!(target: "storage", folder = self.wanted.folder.prefix(); "a listing was cut short: {error}");
                stream.abort();
            }
        }
    }

    fn end(&self, stream: &BodyStream, next: Option<&str>) {
        let mut text = b"\n],\"next\":".to_vec();
        push_json(&mut text, &next);
        text.extend_from_slice(b"}\n");
        if stream.write(&text).is_ok() {
            stream.finish();
        }
    }
}

/// Values are structures of text and numbers, which all can be written.
fn push_json(out: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    let _ = serde_json::to_writer(out, value);
}
