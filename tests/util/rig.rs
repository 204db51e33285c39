//! A store and its loop, for tests: calls wait for their answers.
#![allow(dead_code, missing_docs, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cloudstore::storage::*;
use reactor::{Evbuffer, EventBase};

pub type Contents = BTreeMap<String, (Class, Vec<u8>)>;

pub fn name(text: &str) -> Name {
    Name::parse(text).unwrap()
}

/// A store and its loop; calls wait for their answers.
pub struct Rig {
    pub store: Store,
    pub base: EventBase,
}

impl Rig {
    pub fn open(options: &Options) -> Result<Rig, StoreError> {
        let base = EventBase::new().unwrap();
        Ok(Rig { store: Store::open(&base, options.clone())?, base })
    }

    pub fn wait<T: 'static>(&self, call: impl FnOnce(Box<dyn FnOnce(T)>)) -> T {
        let slot = Rc::new(RefCell::new(None));
        let mine = Rc::clone(&slot);
        call(Box::new(move |result| *mine.borrow_mut() = Some(result)));
        self.base.dispatch().unwrap();
        slot.take().expect("an answer")
    }

    pub fn put(&self, text: &str, class: Class, bytes: &[u8]) -> Result<Changed, StoreError> {
        self.put_with(text, class, bytes, PutOptions::default())
    }

    pub fn put_with(
        &self,
        text: &str,
        class: Class,
        bytes: &[u8],
        options: PutOptions,
    ) -> Result<Changed, StoreError> {
        let upload = self.store.begin_put(&name(text), class, options, || ())?;
        for piece in bytes.chunks(300_000) {
            let _ = upload.write(piece)?;
        }
        self.wait(|done| upload.finish(done))
    }

    pub fn delete(&self, text: &str) -> Result<Changed, StoreError> {
        self.wait(|done| self.store.delete(&name(text), Precondition::None, done))
    }

    pub fn rename(&self, from: &str, to: &str) -> Result<Changed, StoreError> {
        let any = Precondition::None;
        self.wait(|done| self.store.rename(&name(from), &name(to), any.clone(), any, done))
    }

    pub fn copy(&self, from: &str, to: &str) -> Result<Changed, StoreError> {
        let any = Precondition::None;
        self.wait(|done| self.store.copy(&name(from), &name(to), any.clone(), any, done))
    }

    pub fn change_class(&self, text: &str, class: Class) -> Result<Changed, StoreError> {
        self.wait(|done| self.store.change_class(&name(text), class, Precondition::None, done))
    }

    pub fn read(&self, object: &Object, range: std::ops::Range<u64>) -> Result<Vec<u8>, StoreError> {
        let mut reader = object.read(range)?;
        let buffer = Evbuffer::new();
        loop {
            let (next, n) = self.wait(|done| reader.next(&buffer, done))?;
            if n == 0 {
                break;
            }
            reader = next;
        }
        let mut bytes = vec![0; buffer.len()];
        buffer.remove(&mut bytes).unwrap();
        Ok(bytes)
    }

    pub fn get(&self, text: &str) -> Result<Vec<u8>, StoreError> {
        let object = self.store.open_read(&name(text))?;
        self.read(&object, 0..object.meta().size)
    }

    pub fn list(&self) -> BTreeMap<String, Meta> {
        let options = ListOptions { is_deep: true, limit: usize::MAX, ..ListOptions::default() };
        let page = self.wait(|done| self.store.list(&Folder::root(), options, done)).unwrap();
        let object = |entry| match entry {
            Entry::Object { name, meta, .. } => (name.to_string(), meta),
            Entry::Folder(folder) => panic!("{folder:?}"),
        };
        page.entries.into_iter().map(object).collect()
    }

    /// Lets what may follow an answer be done.
    pub fn settle(&self) -> Result<(), StoreError> {
        self.wait(|done| self.store.note_reads(done))
    }

    pub fn export(&self) -> String {
        let buffer = Evbuffer::new();
        let mut export = self.store.export_index();
        loop {
            let (next, n) = self.wait(|done| export.next(&buffer, done)).unwrap();
            if n == 0 {
                break;
            }
            export = next;
        }
        let mut bytes = vec![0; buffer.len()];
        buffer.remove(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    pub fn import(&self, text: &str) -> Result<ImportReport, StoreError> {
        let import = self.store.import_index(|| ());
        for piece in text.as_bytes().chunks(10_000) {
            let _ = import.write(piece)?;
        }
        self.wait(|done| import.finish(done))
    }

    /// Checks that files, their metadata and the index say the same, and that nothing else lies about.
    pub fn check(&self, data: &Path) -> Contents {
        let mut contents = BTreeMap::new();
        let mut expected = BTreeSet::new();
        for (text, meta) in self.list() {
            let bytes = self.get(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(self.store.stat(&name(&text)).unwrap(), meta, "{text}");
            assert_eq!((meta.size, meta.crc32c), (bytes.len() as u64, crc32c::crc32c(&bytes)), "{text}");
            expected.insert(match meta.class {
                Class::Low => data.join("low_storage").join(&text),
                Class::Deep => data.join("deep_storage").join(format!("{text}.gz")),
            });
            contents.insert(text, (meta.class, bytes));
        }
        if fs::read_dir(data.join("stage")).unwrap().next().is_some() {
            self.settle().unwrap();
        }
        let mut found = BTreeSet::new();
        for folder in ["low_storage", "deep_storage", "stage"] {
            files(&data.join(folder), true, &mut found);
        }
        assert_eq!(found, expected);
        contents
    }
}

/// All files below a folder, which has no empty folder below.
pub fn files(folder: &Path, is_top: bool, found: &mut BTreeSet<PathBuf>) {
    let mut is_empty = true;
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        is_empty = false;
        if path.is_dir() {
            files(&path, false, found);
        } else {
            found.insert(path);
        }
    }
    assert!(is_top || !is_empty, "{folder:?} was left empty");
}

/// Half of it shrinks.
pub fn sample(len: usize, seed: u32) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..len).map(|n| if n % 64 < 32 { next() } else { b'a' }).collect()
}
