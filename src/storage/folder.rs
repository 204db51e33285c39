//! What is done to all objects of a folder: to each by itself, in the order of their names.

use std::cell::RefCell;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

use super::Store;
use super::commit::Precondition;
use super::engine::Engine;
use super::error::StoreError;
use super::index::{self, Step};
use super::name::{Folder, Name};

/// What is done.
#[derive(Clone)]
pub(super) enum Act {
    Remove,
    Move(Target),
    Copy(Target),
}

/// Where objects go.
#[derive(Clone)]
pub(super) struct Target {
    pub(super) folder: Folder,
    /// What must be true of each name there.
    pub(super) is: Precondition,
}

type Done = Box<dyn FnOnce(Result<u64, StoreError>)>;

struct Walk {
    store: Store,
    folder: Folder,
    act: Act,
    /// The last name that was begun.
    after: Option<Name>,
    count: u64,
    done: Done,
}

/// Objects that are worked on at a time: each copy holds a file open.
const AT_ONCE: usize = 64;

/// Looks whether all can be done, then does it, object by object.
pub(super) fn begin(store: Store, folder: Folder, act: Act, done: Done) {
    let (engine, jobs, desk) = (Arc::clone(store.engine()), store.engine().jobs.clone(), store.desk.clone());
    let (from, checked) = (folder.clone(), act.clone());
    let walk = Walk { store, folder, act, after: None, count: 0, done };
    let work = move || match &checked {
        Act::Remove => Ok(()),
        Act::Move(target) | Act::Copy(target) => check(&engine, &from, target),
    };
    desk.run(&jobs, work, move |checked| match checked.unwrap_or_else(|lost| Err(lost.into())) {
        Ok(()) => walk.next(),
        Err(error) => (walk.done)(Err(error)),
    });
}

/// Refuses before anything is changed what would be refused in the middle.
fn check(engine: &Engine, from: &Folder, target: &Target) -> Result<(), StoreError> {
    if target.folder.prefix().starts_with(from.prefix()) {
        return Err(StoreError::IntoItself { from: from.clone(), to: target.folder.clone() });
    }
    engine.index.read(|rows| {
        let mut refused = Ok(());
        index::scan(rows, Bound::Included(from.prefix()), |name, _| {
            let Some(rest) = name.strip_prefix(from.prefix()) else { return Step::End };
            refused = target.name(from, rest).and_then(|to| {
                target.is.check(&to, rows.get(to.as_str())?.as_ref())?;
                rows.check_free(&to)
            });
            if refused.is_ok() { Step::Next } else { Step::End }
        })?;
        refused
    })
}

impl Target {
    /// The name of an object that was `rest` in the folder `from`.
    fn name(&self, from: &Folder, rest: &str) -> Result<Name, StoreError> {
        let text = format!("{}{rest}", self.folder.prefix());
        // It would be met again, and moved twice.
        if text.starts_with(from.prefix()) {
            return Err(StoreError::IntoItself { from: from.clone(), to: self.folder.clone() });
        }
        Name::parse(&text).map_err(|source| StoreError::NameInvalid { name: text, source })
    }
}

impl Walk {
    fn next(self) {
        let (engine, jobs, desk) =
            (Arc::clone(self.store.engine()), self.store.engine().jobs.clone(), self.store.desk.clone());
        let (folder, after) = (self.folder.clone(), self.after.clone());
        let work = move || names(&engine, &folder, after.as_ref());
        desk.run(&jobs, work, move |names| match names.unwrap_or_else(|lost| Err(lost.into())) {
            Err(error) => (self.done)(Err(error)),
            Ok(names) if names.is_empty() => (self.done)(Ok(self.count)),
            Ok(names) => self.act_on(names),
        });
    }

    fn act_on(mut self, names: Vec<Name>) {
        self.after = names.last().cloned();
        let (store, folder, act) = (self.store.clone(), self.folder.clone(), self.act.clone());
        let page = Rc::new(RefCell::new(Page { left: names.len(), failed: None, walk: Some(self) }));
        for name in names {
            let page = Rc::clone(&page);
            let from = name.clone();
            let done = move |result: Result<_, StoreError>| Page::count(&page, &from, result.map(|_| ()));
            let target = |target: &Target| {
                let rest = name.as_str().strip_prefix(folder.prefix()).unwrap_or_default();
                target.name(&folder, rest).map(|to| (to, target.is.clone()))
            };
            match &act {
                Act::Remove => store.delete(&name, Precondition::None, done),
                Act::Move(to) => match target(to) {
                    Ok((to, to_is)) => store.rename(&name, &to, Precondition::None, to_is, done),
                    Err(error) => store.refuse(error, done),
                },
                Act::Copy(to) => match target(to) {
                    Ok((to, to_is)) => store.copy(&name, &to, Precondition::None, to_is, done),
                    Err(error) => store.refuse(error, done),
                },
            }
        }
    }
}

/// Objects that are worked on.
struct Page {
    left: usize,
    failed: Option<StoreError>,
    walk: Option<Walk>,
}

impl Page {
    fn count(page: &RefCell<Page>, from: &Name, result: Result<(), StoreError>) {
        let mut now = page.borrow_mut();
        now.left -= 1;
        match result {
            Ok(()) => {
                if let Some(walk) = &mut now.walk {
                    walk.count += 1;
                }
            }
            // Somebody else was faster.
            Err(StoreError::NotFound { name }) if name == *from => (),
            Err(error) => {
                now.failed.get_or_insert(error);
            }
        }
        if now.left > 0 {
            return;
        }
        let (walk, failed) = (now.walk.take(), now.failed.take());
        drop(now);
        match (walk, failed) {
            (Some(walk), Some(error)) => (walk.done)(Err(error)),
            (Some(walk), None) => walk.next(),
            (None, _) => (),
        }
    }
}

/// The next names of a folder.
fn names(engine: &Engine, folder: &Folder, after: Option<&Name>) -> Result<Vec<Name>, StoreError> {
    let mut names = Vec::new();
    let from = match after {
        Some(after) => Bound::Excluded(after.as_str()),
        None => Bound::Included(folder.prefix()),
    };
    engine.index.read(|rows| {
        index::scan(rows, from, |name, _| {
            if !name.starts_with(folder.prefix()) || names.len() >= AT_ONCE {
                return Step::End;
            }
            names.extend(Name::parse(name));
            Step::Next
        })
    })?;
    Ok(names)
}
