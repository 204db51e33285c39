//! No loop reads what was before an answered change, whatever it keeps ready.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/rig.rs"]
mod rig;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cloudstore::storage::*;
use reactor::{Evbuffer, EventBase};
use rig::{Rig, name};

/// Kept as bytes, and kept as a descriptor.
const SIZES: [usize; 2] = [1024, 20_000];
const WRITES: u64 = 40;

/// The number that an object consists of.
fn number(object: &Object) -> u64 {
    let buffer = Evbuffer::new();
    object.append_raw(&buffer, 0..object.raw_len()).unwrap();
    let mut bytes = vec![0; buffer.len()];
    buffer.remove(&mut bytes).unwrap();
    assert_eq!(crc32c::crc32c(&bytes), object.meta().crc32c, "one version, whole");
    u64::from_le_bytes(bytes[..8].try_into().unwrap())
}

fn content(number: u64, len: usize) -> Vec<u8> {
    number.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// One loop writes ever greater numbers, two others read all the time.
fn race(durability: Durability, write: impl Fn(&Rig, u64, usize) + Copy + Send + Sync) {
    for len in SIZES {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { durability, threads: 2, ..Options::new(folder.path()) };
        let rig = Rig::open(&options).unwrap();
        rig.put("x", Class::Low, &content(0, len)).unwrap();
        let (answered, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                let shared = rig.store.share();
                let (answered, is_over) = (&answered, &is_over);
                scope.spawn(move || {
                    let base = EventBase::new().unwrap();
                    let store = shared.attach(&base).unwrap();
                    while !is_over.load(Ordering::Acquire) {
                        let least = answered.load(Ordering::Acquire);
                        match store.open_read(&name("x")) {
                            Ok(object) => {
                                let found = number(&object);
                                assert!(found >= least, "{found} was read, {least} was answered before");
                            }
                            // Between a removal and the next write.
                            Err(StoreError::NotFound { .. }) => (),
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
            for number in 1..=WRITES {
                write(&rig, number, len);
                answered.store(number, Ordering::Release);
                assert_eq!(self::number(&rig.store.open_read(&name("x")).unwrap()), number);
            }
            is_over.store(true, Ordering::Release);
        });
    }
}

#[test]
fn a_replaced_object_is_not_read_again() {
    for durability in [Durability::Sync, Durability::Relaxed] {
        race(durability, |rig, number, len| {
            rig.put("x", Class::Low, &content(number, len)).unwrap();
        });
    }
}

#[test]
fn an_object_that_another_was_moved_over_is_not_read_again() {
    race(Durability::Relaxed, |rig, number, len| {
        rig.put("y", Class::Low, &content(number, len)).unwrap();
        rig.rename("y", "x").unwrap();
        assert!(matches!(rig.store.open_read(&name("y")), Err(StoreError::NotFound { .. })));
    });
}

#[test]
fn a_removed_object_is_not_read_again() {
    race(Durability::Relaxed, |rig, number, len| {
        rig.delete("x").unwrap();
        assert!(matches!(rig.store.open_read(&name("x")), Err(StoreError::NotFound { .. })));
        rig.put("x", Class::Low, &content(number, len)).unwrap();
    });
}
