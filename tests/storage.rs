//! What the store promises, through its public calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "util/rig.rs"]
mod rig;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::rc::Rc;

use cloudstore::storage::*;
use flate2::read::{GzDecoder, MultiGzDecoder};
use proptest::prelude::*;
use reactor::{Evbuffer, EventBase};
use rig::{Contents, Rig, name, sample};

const MIB: usize = 1024 * 1024;

fn relaxed(data: &Path) -> Options {
    Options { durability: Durability::Relaxed, threads: 2, ..Options::new(data) }
}

fn rig() -> (tempfile::TempDir, Rig) {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(&relaxed(folder.path())).unwrap();
    (folder, rig)
}

/// Promise 15.
#[test]
fn restart_keeps_the_list() {
    for durability in [Durability::Sync, Durability::Relaxed] {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { durability, ..Options::new(folder.path()) };
        let rig = Rig::open(&options).unwrap();
        for n in 0..20 {
            let class = if n % 2 == 0 { Class::Low } else { Class::Deep };
            rig.put(&format!("folder {}/name {n} 文", n % 3), class, &sample(n * 100, n as u32)).unwrap();
        }
        rig.delete("folder 0/name 3 文").unwrap();
        let before = rig.list();
        assert_eq!(before.len(), 19);
        drop(rig);
        let rig = Rig::open(&options).unwrap();
        assert_eq!(rig.list(), before);
        drop(rig);
        // Also without the index: each object says the same of itself.
        fs::remove_file(folder.path().join("storage.data")).unwrap();
        let rig = Rig::open(&options).unwrap();
        assert_eq!(rig.list(), before);
        rig.check(folder.path());
    }
}

/// Promise 16. What a crash in between leaves is tested with every operation, beside the code.
#[test]
fn delete_is_atomic() {
    let (folder, rig) = rig();
    for class in [Class::Low, Class::Deep] {
        let put = rig.put("a/b/c", class, b"gone").unwrap().now;
        let object = rig.store.open_read(&name("a/b/c")).unwrap();
        assert_eq!(rig.delete("a/b/c").unwrap(), Changed { now: None, before: put });
        assert!(matches!(rig.store.stat(&name("a/b/c")), Err(StoreError::NotFound { .. })));
        assert!(rig.check(folder.path()).is_empty());
        assert!(matches!(rig.delete("a/b/c"), Err(StoreError::NotFound { .. })));
        assert_eq!(rig.read(&object, 0..4).unwrap(), b"gone");
    }
}

/// Promise 20: links planted in the folders are not followed, and what they lead to is not touched.
#[test]
fn names_cannot_escape() {
    for text in ["..", "../x", "a/../../x", "/etc/passwd", "a/./b", "..\\x", "a\0", "a//b", "", "a/"] {
        assert!(Name::parse(text).is_err(), "{text:?}");
    }
    let (folder, rig) = rig();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("secret"), b"secret").unwrap();
    for (class, tier, ending) in [(Class::Low, "low_storage", ""), (Class::Deep, "deep_storage", ".gz")] {
        let tier = folder.path().join(tier);
        fs::rename(outside.path().join("secret"), outside.path().join(format!("secret{ending}"))).unwrap();
        symlink(outside.path(), tier.join("out")).unwrap();
        symlink(outside.path().join(format!("secret{ending}")), tier.join(format!("leaf{ending}"))).unwrap();
        symlink("..", tier.join("up")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            tier.join(format!("pipe{ending}")),
            rustix::fs::FileType::Fifo,
            0o600.into(),
            0,
        )
        .unwrap();
        for text in ["out/secret", "leaf", "up/storage.data", "up/lock", "pipe"] {
            assert!(matches!(rig.store.open_read(&name(text)), Err(StoreError::NotFound { .. })), "{text}");
            assert!(rig.put(text, class, b"overwritten").is_err(), "{text}");
            assert!(rig.delete(text).is_err(), "{text}");
        }
        assert!(rig.put("out/new", class, b"x").is_err());
        rig.put("inside", class, b"x").unwrap();
        assert!(rig.rename("inside", "out/moved").is_err());
        assert_eq!(rig.get("inside").unwrap(), b"x");
        assert!(rig.rename("inside", "leaf").is_err());
        rig.delete("inside").unwrap();
        assert_eq!(fs::read(outside.path().join(format!("secret{ending}"))).unwrap(), b"secret");
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 1);
        fs::rename(outside.path().join(format!("secret{ending}")), outside.path().join("secret")).unwrap();
    }
    rig.settle().unwrap();
    assert!(fs::read_dir(folder.path().join("stage")).unwrap().next().is_none());
    // A lost index does not take them in.
    drop(rig);
    fs::remove_file(folder.path().join("storage.data")).unwrap();
    let rig = Rig::open(&relaxed(folder.path())).unwrap();
    assert!(rig.list().is_empty());
    assert_eq!(rig.store.foreign().unwrap().len(), 8);
}

#[test]
fn every_size_in_every_class() {
    let (folder, rig) = rig();
    for len in [0, 1, 4095, MIB - 1, MIB, MIB + 1, 3 * MIB + 17] {
        let bytes = sample(len, 3);
        for class in [Class::Low, Class::Deep] {
            let options =
                PutOptions { sha256: true, expected_size: Some(len as u64), ..PutOptions::default() };
            let meta = rig.put_with("x", class, &bytes, options).unwrap().now.unwrap();
            assert_eq!((meta.size, meta.crc32c), (len as u64, crc32c::crc32c(&bytes)));
            assert!(meta.sha256.is_some());
            assert!(rig.get("x").unwrap() == bytes, "{class:?} {len}");
        }
        let file = fs::read(folder.path().join("deep_storage/x.gz")).unwrap();
        let mut gunzipped = Vec::new();
        MultiGzDecoder::new(&file[..]).read_to_end(&mut gunzipped).unwrap();
        assert!(gunzipped == bytes);
        // What a client that takes gzip gets.
        let object = rig.store.open_read(&name("x")).unwrap();
        let raw = Evbuffer::new();
        object.append_raw(&raw, 0..object.raw_len()).unwrap();
        let mut first = vec![0; raw.len()];
        raw.remove(&mut first).unwrap();
        gunzipped.clear();
        GzDecoder::new(&first[..]).read_to_end(&mut gunzipped).unwrap();
        assert!(gunzipped == bytes);
    }
    rig.check(folder.path());
}

#[test]
fn ranges_at_every_edge_of_a_block() {
    let (_folder, rig) = rig();
    let bytes = sample(2 * MIB + 100, 5);
    let edges = [0, 1, MIB - 1, MIB, MIB + 1, 2 * MIB - 1, 2 * MIB, 2 * MIB + 1, 2 * MIB + 99, 2 * MIB + 100];
    for class in [Class::Low, Class::Deep] {
        rig.put("x", class, &bytes).unwrap();
        let object = rig.store.open_read(&name("x")).unwrap();
        for (at, &start) in edges.iter().enumerate() {
            for &end in &edges[at..] {
                let read = rig.read(&object, start as u64..end as u64).unwrap();
                assert!(read == bytes[start..end], "{class:?} {start}..{end}");
            }
        }
        for (start, end) in [(5, 4), (0, bytes.len() as u64 + 1), (u64::MAX, u64::MAX)] {
            assert!(matches!(object.read(start..end), Err(StoreError::Range { .. })));
        }
    }
}

#[test]
fn damage_is_an_error_and_not_wrong_bytes() {
    let folder = tempfile::tempdir().unwrap();
    // Nothing is kept from before the damage.
    let rig = Rig::open(&Options { hot_bytes: 0, ..relaxed(folder.path()) }).unwrap();
    let bytes = sample(2 * MIB + 9, 5);
    rig.put("x", Class::Deep, &bytes).unwrap();
    let path = folder.path().join("deep_storage/x.gz");
    let good = fs::read(&path).unwrap();
    let write = |bytes: &[u8]| {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.write_all_at(bytes, 0).unwrap();
        file.set_len(bytes.len() as u64).unwrap();
    };
    for at in (12..good.len()).step_by(good.len() / 37).chain(good.len() - 60..good.len()) {
        let mut bad = good.clone();
        bad[at] ^= 1;
        write(&bad);
        assert!(rig.get("x").map_or(true, |read| read == bytes), "{at}");
    }
    let mut bad = good.clone();
    bad[MIB / 4] ^= 0x40;
    write(&bad);
    assert!(matches!(rig.get("x"), Err(StoreError::Packed { .. })));
    write(&good[..good.len() - 1]);
    assert!(matches!(rig.get("x"), Err(StoreError::Damaged { .. })));
    write(&good);
    assert!(rig.get("x").unwrap() == bytes);
}

/// No range can be read to its end out of a block that is damaged anywhere, also behind the range.
#[test]
fn a_range_of_a_damaged_block_ends_in_an_error() {
    use std::os::unix::fs::FileExt;

    let (folder, rig) = rig();
    let bytes = sample(3 * MIB, 7);
    rig.put("x", Class::Deep, &bytes).unwrap();
    let path = folder.path().join("deep_storage/x.gz");
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let whole = rig.store.open_read(&name("x")).unwrap();
    let near = [0, 1, PIECE, PIECE + 1, MIB - 1, MIB, MIB + 1, 2 * MIB - PIECE, 3 * MIB - 1, 3 * MIB];
    let ranges = || {
        near.iter().flat_map(|&from| near.iter().map(move |&to| from..to)).filter(|range| !range.is_empty())
    };
    for range in ranges() {
        let read = rig.read(&whole, range.start as u64..range.end as u64).unwrap();
        assert!(read == bytes[range.clone()], "{range:?}");
    }
    // In the second of three blocks.
    let at = path.metadata().unwrap().len() / 2;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    for range in ranges() {
        let is_touched = range.start < 2 * MIB && range.end > MIB;
        let read = rig.read(&whole, range.start as u64..range.end as u64);
        assert_eq!(read.is_err(), is_touched, "{range:?}");
    }
}

#[test]
fn an_aborted_overwrite_keeps_the_old_object() {
    let (folder, rig) = rig();
    let new = sample(3 * MIB, 9);
    for class in [Class::Low, Class::Deep] {
        rig.put("x", class, b"old").unwrap();
        let before = rig.list();
        for len in [0, 1, new.len() / 2, new.len() - 1] {
            let upload = rig.store.begin_put(&name("x"), class, PutOptions::default(), || ()).unwrap();
            let _ = upload.write(&new[..len]).unwrap();
            drop(upload);
            // Small writes go behind what the abort left to the pool.
            rig.put("y", Class::Deep, b"").unwrap();
            rig.delete("y").unwrap();
            assert_eq!(rig.get("x").unwrap(), b"old");
            assert_eq!(rig.list(), before);
        }
    }
    drop(rig);
    let rig = Rig::open(&relaxed(folder.path())).unwrap();
    assert_eq!(rig.check(folder.path()).len(), 1);
}

#[test]
fn readers_of_an_object_under_replacement_read_one_version() {
    let (_folder, rig) = rig();
    let (old, new) = (sample(2 * MIB + 5, 1), sample(2 * MIB + 9, 2));
    for class in [Class::Low, Class::Deep] {
        rig.put("x", class, &old).unwrap();
        let object = rig.store.open_read(&name("x")).unwrap();
        let first = rig.read(&object, 0..MIB as u64).unwrap();
        rig.put("x", class, &new).unwrap();
        let second = rig.read(&object, MIB as u64..old.len() as u64).unwrap();
        assert!([first, second].concat() == old);
        rig.delete("x").unwrap();
        assert!(rig.read(&object, 0..old.len() as u64).unwrap() == old);
    }
}

#[test]
fn preconditions_are_kept_and_versions_change() {
    let (_folder, rig) = rig();
    let put = |precondition, bytes: &[u8]| {
        rig.put_with("x", Class::Low, bytes, PutOptions { precondition, ..PutOptions::default() })
    };
    let refused = |result| matches!(result, Err(StoreError::Precondition { .. }));
    assert!(refused(put(Precondition::Present, b"0")));
    assert!(refused(put(Precondition::OneOf(vec![Version(1)]), b"0")));
    let first = put(Precondition::Absent, b"same").unwrap().now.unwrap();
    assert!(refused(put(Precondition::Absent, b"0")));
    let second = put(Precondition::OneOf(vec![first.version]), b"same").unwrap();
    assert_eq!(second.before, Some(first));
    let second = second.now.unwrap();
    assert!(second.version > first.version);
    assert_eq!(second.created, first.created);
    assert!(refused(put(Precondition::OneOf(vec![first.version]), b"0")));
    assert!(refused(put(Precondition::NoneOf(vec![second.version]), b"0")));
    put(Precondition::NoneOf(vec![first.version]), b"last").unwrap();
    assert_eq!(rig.get("x").unwrap(), b"last");
    let stale = Precondition::OneOf(vec![first.version]);
    let deleted = rig.wait(|done| rig.store.delete(&name("x"), stale.clone(), done));
    assert!(refused(deleted));
    let copied =
        rig.wait(|done| rig.store.copy(&name("x"), &name("x2"), stale.clone(), Precondition::None, done));
    assert!(refused(copied));
    rig.put("y", Class::Low, b"y").unwrap();
    let moved = rig.wait(|done| {
        rig.store.rename(&name("x"), &name("y"), Precondition::None, Precondition::Absent, done)
    });
    assert!(refused(moved));
    let changed = rig.wait(|done| rig.store.change_class(&name("x"), Class::Deep, stale, done));
    assert!(refused(changed));
}

#[test]
fn what_does_not_arrive_as_announced_is_refused() {
    let (folder, rig) = rig();
    let sum = rig
        .put_with("x", Class::Low, b"content", PutOptions { sha256: true, ..PutOptions::default() })
        .unwrap();
    let sum = sum.now.unwrap().sha256.unwrap();
    for class in [Class::Low, Class::Deep] {
        let good = PutOptions {
            expected_sha256: Some(sum),
            expected_size: Some(7),
            expected_crc32c: Some(crc32c::crc32c(b"content")),
            ..PutOptions::default()
        };
        rig.put_with("x", class, b"content", good.clone()).unwrap();
        for bad in [
            PutOptions { expected_sha256: Some([0; 32]), ..good.clone() },
            PutOptions { expected_size: Some(8), ..good.clone() },
            PutOptions { expected_crc32c: Some(0), ..good.clone() },
        ] {
            let result = rig.put_with("x", class, b"content", bad);
            assert!(matches!(result, Err(StoreError::Mismatch { .. })), "{result:?}");
        }
    }
    assert_eq!(rig.check(folder.path()).len(), 1);
}

#[test]
fn a_name_is_an_object_or_a_folder() {
    let (folder, rig) = rig();
    for class in [Class::Low, Class::Deep] {
        for other in [Class::Low, Class::Deep] {
            rig.put("a/b", class, b"1").unwrap();
            assert!(matches!(rig.put("a", other, b"2"), Err(StoreError::IsFolder { .. })));
            assert!(matches!(rig.put("a/b/c", other, b"2"), Err(StoreError::BelowObject { .. })));
            assert!(matches!(rig.put("a/b/c/d", other, b"2"), Err(StoreError::BelowObject { .. })));
            assert!(matches!(rig.rename("a/b", "a/b/c"), Err(StoreError::BelowObject { .. })));
            assert!(matches!(rig.rename("a/b", "a"), Err(StoreError::IsFolder { .. })));
            assert_eq!(rig.check(folder.path()).len(), 1);
            rig.delete("a/b").unwrap();
            rig.put("a", other, b"2").unwrap();
            rig.delete("a").unwrap();
        }
    }
}

/// `a.gz` is where `a` lies packed, and a folder of `a.gz/b`.
#[test]
fn a_packed_file_and_a_folder_do_not_share_a_place() {
    let (folder, rig) = rig();
    let clash = |result| matches!(result, Err(StoreError::PackedClash { .. }));
    rig.put("a", Class::Deep, b"1").unwrap();
    rig.put("a.gz", Class::Low, b"2").unwrap();
    rig.put("a.gz", Class::Deep, b"3").unwrap();
    rig.delete("a.gz").unwrap();
    assert!(clash(rig.put("a.gz/b", Class::Deep, b"4")));
    assert!(clash(rig.put("a.gz/b/c", Class::Deep, b"4")));
    rig.put("a.gz/b", Class::Low, b"4").unwrap();
    assert!(clash(rig.change_class("a.gz/b", Class::Deep)));
    rig.put("x.gz/y/z", Class::Deep, b"5").unwrap();
    for text in ["x", "x.gz/y"] {
        let result = rig.put(text, Class::Deep, b"6");
        assert!(clash(result.clone()) || matches!(result, Err(StoreError::IsFolder { .. })), "{text}");
    }
    rig.put("x", Class::Low, b"6").unwrap();
    assert!(clash(rig.change_class("x", Class::Deep)));
    rig.put("y", Class::Deep, b"7").unwrap();
    assert!(clash(rig.rename("y", "a.gz/y")));
    rig.delete("x").unwrap();
    assert!(clash(rig.rename("y", "x")));
    assert!(clash(rig.copy("y", "x")));
    assert_eq!(rig.check(folder.path()).len(), 4);
    rig.delete("x.gz/y/z").unwrap();
    rig.rename("y", "x").unwrap();
    rig.delete("a").unwrap();
    rig.change_class("a.gz/b", Class::Deep).unwrap();
    assert_eq!(rig.check(folder.path()).len(), 2);
    // A file of somebody's is no folder.
    fs::write(folder.path().join("low_storage/file"), b"").unwrap();
    assert!(matches!(rig.put("file/below", Class::Low, b""), Err(StoreError::Occupied { .. })));
    symlink("/", folder.path().join("low_storage/link")).unwrap();
    assert!(matches!(rig.put("link/below", Class::Low, b""), Err(StoreError::Occupied { .. })));
}

/// Several blocks at a time, in any order, on pools of any size.
#[test]
fn a_large_object_changes_its_class() {
    for threads in [1, 4] {
        let folder = tempfile::tempdir().unwrap();
        let rig = Rig::open(&Options { threads, ..relaxed(folder.path()) }).unwrap();
        for len in [0, 1, MIB, 9 * MIB + 17] {
            let bytes = sample(len, 5);
            let first =
                rig.put_with("x", Class::Low, &bytes, PutOptions { sha256: true, ..PutOptions::default() });
            let first = first.unwrap().now.unwrap();
            for class in [Class::Deep, Class::Deep, Class::Low] {
                let now = rig.change_class("x", class).unwrap().now.unwrap();
                assert_eq!((now.class, now.sha256, now.modified), (class, first.sha256, first.modified));
                assert!(rig.get("x").unwrap() == bytes, "{len} {class:?}");
            }
            rig.copy("x", "y").unwrap();
            assert!(rig.get("y").unwrap() == bytes);
        }
        // Of a damaged one nothing is made.
        rig.change_class("x", Class::Deep).unwrap();
        let path = folder.path().join("deep_storage/x.gz");
        let mut bad = fs::read(&path).unwrap();
        bad[5 * MIB / 2] ^= 1;
        let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bad, 0).unwrap();
        assert!(matches!(rig.change_class("x", Class::Low), Err(StoreError::Packed { .. })));
        assert!(fs::read_dir(folder.path().join("stage")).unwrap().next().is_none());
    }
}

/// What goes on when the last handle goes is broken off, and nothing of it stays.
#[test]
fn a_store_that_closes_does_not_wait_for_long_work() {
    let folder = tempfile::tempdir().unwrap();
    let options = Options { threads: 1, ..relaxed(folder.path()) };
    let rig = Rig::open(&options).unwrap();
    rig.put("x", Class::Low, &sample(40 * MIB, 5)).unwrap();
    let before = rig.list();
    let any = Precondition::None;
    rig.store.change_class(&name("x"), Class::Deep, any.clone(), |_| ());
    rig.store.copy(&name("x"), &name("y"), any.clone(), any, |_| ());
    rig.store.rebuild_index(|_| ());
    drop(rig);
    let rig = Rig::open(&options).unwrap();
    let mut after = rig.list();
    after.remove("y");
    assert_eq!(after, before);
    rig.check(folder.path());
}

#[test]
fn a_second_server_is_refused() {
    let (folder, rig) = rig();
    assert!(matches!(Rig::open(&relaxed(folder.path())), Err(StoreError::InUse { .. })));
    drop(rig);
    Rig::open(&relaxed(folder.path())).unwrap();
}

#[test]
fn a_damaged_index_is_made_anew() {
    let folder = tempfile::tempdir().unwrap();
    let rig = Rig::open(&relaxed(folder.path())).unwrap();
    for n in 0..300 {
        rig.put(&format!("f/{n}"), Class::Low, format!("{n}").as_bytes()).unwrap();
    }
    let before = rig.list();
    drop(rig);
    let path = folder.path().join("storage.data");
    let good = fs::read(&path).unwrap();
    let mut cases =
        vec![b"not an index".to_vec(), good[..good.len() / 2].to_vec(), good[..4096].to_vec(), vec![0; 8192]];
    for at in [0, 10, 64, 200, 4096, 5000, 9000] {
        let mut bad = good.clone();
        for byte in bad.iter_mut().skip(at).take(64) {
            *byte = !*byte;
        }
        cases.push(bad);
    }
    for bad in cases {
        fs::write(&path, &bad).unwrap();
        let rig = Rig::open(&relaxed(folder.path())).unwrap();
        assert_eq!(rig.list(), before);
        rig.put("new", Class::Low, b"").unwrap();
        rig.delete("new").unwrap();
    }
}

#[test]
fn files_without_metadata_are_taken_in_and_foreign_ones_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let low = folder.path().join("low_storage/by/hand");
    let deep = folder.path().join("deep_storage");
    fs::create_dir_all(&low).unwrap();
    fs::create_dir_all(&deep).unwrap();
    fs::write(low.join("a.txt"), b"by hand").unwrap();
    fs::write(deep.join("b.zip"), b"bundled").unwrap();
    fs::write(deep.join("c.gz"), b"not ours").unwrap();
    fs::write(low.join("bad\\name"), b"bad").unwrap();
    let rig = Rig::open(&relaxed(folder.path())).unwrap();
    assert_eq!(rig.list().keys().collect::<Vec<_>>(), ["by/hand/a.txt"]);
    assert_eq!(rig.get("by/hand/a.txt").unwrap(), b"by hand");
    let foreign: Vec<String> = rig.store.foreign().unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(foreign, ["deep_storage/b.zip", "deep_storage/c.gz", "low_storage/by/hand/bad\\name"]);
    assert!(matches!(rig.put("c", Class::Deep, b"x"), Err(StoreError::Occupied { .. })));
    assert_eq!(fs::read(deep.join("c.gz")).unwrap(), b"not ours");
    fs::write(low.join("later"), b"later").unwrap();
    assert!(matches!(rig.put("by/hand/later", Class::Low, b"x"), Err(StoreError::Occupied { .. })));
    assert!(matches!(rig.store.stat(&name("by/hand/later")), Err(StoreError::Damaged { .. })));
    assert_eq!(fs::read(low.join("later")).unwrap(), b"later");
}

#[test]
fn the_originals_list_is_taken_over() {
    let folder = tempfile::tempdir().unwrap();
    for tier in ["low_storage", "deep_storage"] {
        fs::create_dir(folder.path().join(tier)).unwrap();
    }
    fs::write(folder.path().join("low_storage/a b.txt"), b"kept").unwrap();
    fs::write(folder.path().join("deep_storage/c.txt"), b"bundle").unwrap();
    let list = r#"[{"atime_":1700000000,"mtime_":1690000000,"fsize_":4,"storage_path_":"./low_storage/a b.txt","url_":"/download/a b.txt"},
        {"atime_":1700000001,"mtime_":1690000001,"fsize_":6,"storage_path_":"./deep_storage/c.txt","url_":"/download/c.txt"}]"#;
    fs::write(folder.path().join("storage.data"), list).unwrap();
    let rig = Rig::open(&relaxed(folder.path())).unwrap();
    assert_eq!(rig.get("a b.txt").unwrap(), b"kept");
    let page = rig.wait(|done| rig.store.list(&Folder::root(), ListOptions::default(), done)).unwrap();
    assert!(matches!(&page.entries[..], [Entry::Object { accessed: Some(1_700_000_000_000_000), .. }]));
    assert_eq!(fs::read(folder.path().join("storage.data.original")).unwrap(), list.as_bytes());
    assert_eq!(fs::read(folder.path().join("deep_storage/c.txt")).unwrap(), b"bundle");
    let foreign = rig.store.foreign().unwrap();
    assert!(foreign.iter().any(|(path, _)| path == "deep_storage/c.txt"), "{foreign:?}");
}

/// What is done by hand to the folders of a live store is found, then mended.
#[test]
fn a_live_index_is_checked_and_rebuilt() {
    let (folder, rig) = rig();
    let (low, deep) = (folder.path().join("low_storage"), folder.path().join("deep_storage"));
    for n in 0..600 {
        let class = if n % 3 == 0 { Class::Deep } else { Class::Low };
        rig.put(&format!("f/{}/{n}", n % 5), class, format!("{n}").as_bytes()).unwrap();
    }
    for text in ["renamed", "gone", "changed", "cut"] {
        rig.put(text, Class::Low, b"content").unwrap();
    }
    rig.put("packed", Class::Deep, b"packed").unwrap();
    let check = || rig.wait(|done| rig.store.check_index(done)).unwrap();
    assert_eq!(check(), IndexReport { objects: 605, ..IndexReport::default() });

    fs::rename(low.join("renamed"), low.join("elsewhere")).unwrap();
    fs::remove_file(low.join("gone")).unwrap();
    fs::create_dir(low.join("by")).unwrap();
    fs::write(low.join("by/hand"), b"by hand").unwrap();
    fs::write(low.join("bad\\name"), b"").unwrap();
    fs::write(deep.join("no.zip"), b"").unwrap();
    fs::write(deep.join("f.gz"), b"").unwrap();
    fs::copy(deep.join("packed.gz"), deep.join("copied.gz")).unwrap();
    fs::write(low.join("changed"), b"somewhat longer").unwrap();
    // As if its end had been lost with the power.
    let cut = fs::OpenOptions::new().write(true).open(low.join("cut")).unwrap();
    cut.set_len(3).unwrap();
    cut.set_modified(std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000)).unwrap();
    let expected = [
        ("by/hand", Difference::NoMetadata),
        ("changed", Difference::NoMetadata),
        ("copied", Difference::NoMetadata),
        ("cut", Difference::CutShort),
        ("elsewhere", Difference::NotInIndex),
        ("gone", Difference::NoFile),
        ("renamed", Difference::NoFile),
    ];
    let expected = expected.map(|(text, difference)| (name(text), difference));
    let sorted = |report: &IndexReport| {
        let mut all = report.differences.clone();
        all.sort();
        all
    };
    let before = rig.list();
    for _ in 0..2 {
        let report = check();
        assert_eq!((report.objects, report.foreign, report.different), (603, 3, 7), "{report:?}");
        assert_eq!(sorted(&report), expected);
        assert_eq!(rig.list(), before);
    }
    let foreign: Vec<String> = rig.store.foreign().unwrap().into_iter().map(|(path, _)| path).collect();
    assert_eq!(foreign, ["deep_storage/f.gz", "deep_storage/no.zip", "low_storage/bad\\name"]);

    let report = rig.wait(|done| rig.store.rebuild_index(done)).unwrap();
    assert_eq!(sorted(&report), expected);
    assert_eq!(report.objects, 606);
    let report = check();
    assert_eq!((report.objects, report.foreign, report.different), (606, 3, 1), "{report:?}");
    fs::remove_file(deep.join("no.zip")).unwrap();
    assert_eq!(check().foreign, 2);
    // An upload mends what was cut short.
    assert!(matches!(rig.store.stat(&name("cut")), Err(StoreError::Damaged { .. })));
    rig.put("cut", Class::Low, b"whole").unwrap();
    fs::remove_file(deep.join("f.gz")).unwrap();
    fs::remove_file(low.join("bad\\name")).unwrap();
    assert_eq!(check().different, 0);
    let contents = rig.check(folder.path());
    assert_eq!(contents["by/hand"], (Class::Low, b"by hand".to_vec()));
    assert_eq!(contents["changed"].1, b"somewhat longer");
    assert_eq!(contents["copied"], (Class::Deep, b"packed".to_vec()));
    assert_eq!(contents["elsewhere"].1, b"content");
    // A start without the index finds the same.
    let before = rig.list();
    drop(rig);
    fs::remove_file(folder.path().join("storage.data")).unwrap();
    assert_eq!(Rig::open(&relaxed(folder.path())).unwrap().list(), before);
}

/// Changes that go on meanwhile are no differences, and a second check waits for the first.
#[test]
fn a_store_works_while_its_index_is_checked() {
    let (folder, rig) = rig();
    for n in 0..1000 {
        rig.put(&format!("f/{}/{n}", n % 10), Class::Low, b"old").unwrap();
    }
    let (reports, is_busy) = (Rc::new(RefCell::new(Vec::new())), Rc::new(Cell::new(false)));
    fn again(store: Store, reports: Rc<RefCell<Vec<IndexReport>>>) {
        let next = store.clone();
        let done = move |report: Result<IndexReport, StoreError>| {
            reports.borrow_mut().push(report.unwrap());
            let count = reports.borrow().len();
            if count < 6 {
                again(next, reports);
            }
        };
        store.rebuild_index(done);
    }
    again(rig.store.clone(), Rc::clone(&reports));
    let mine = Rc::clone(&is_busy);
    rig.store.check_index(move |result| mine.set(matches!(result, Err(StoreError::Busy))));
    for n in 0..1000 {
        let old = format!("f/{}/{n}", n % 10);
        match n % 4 {
            0 => drop(rig.put(&old, Class::Deep, b"new").unwrap()),
            1 => drop(rig.rename(&old, &format!("g/{n}")).unwrap()),
            2 => drop(rig.delete(&old).unwrap()),
            _ => drop(rig.put(&old, Class::Low, b"new").unwrap()),
        }
    }
    rig.base.dispatch().unwrap();
    assert!(is_busy.get());
    for report in reports.borrow().iter() {
        assert_eq!((report.different, report.foreign), (0, 0), "{report:?}");
    }
    assert_eq!(rig.check(folder.path()).len(), 750);
    assert_eq!(rig.wait(|done| rig.store.check_index(done)).unwrap().objects, 750);
}

#[test]
fn an_export_is_imported_where_objects_lack_what_it_knows() {
    let (folder, rig) = rig();
    let hashed = PutOptions { sha256: true, ..PutOptions::default() };
    for n in 0..2500 {
        rig.put_with(&format!("f/{n} \"文"), Class::Low, format!("{n}").as_bytes(), hashed.clone()).unwrap();
    }
    rig.put("other", Class::Deep, b"before").unwrap();
    rig.put("gone", Class::Low, b"").unwrap();
    rig.get("f/7 \"文").unwrap();
    rig.wait(|done| rig.store.note_reads(done)).unwrap();
    let text = rig.export();
    assert_eq!(text.lines().count(), 2502);
    let line = text.lines().find(|line| line.contains("\"f/7 \\\"文\"")).unwrap();
    let meta = rig.store.stat(&name("f/7 \"文")).unwrap();
    let expected = format!(
        "{{\"name\":\"f/7 \\\"文\",\"class\":\"low\",\"size\":1,\"stored\":1,\"version\":\"{}\",\"crc32c\":\"{:08x}\",\"sha256\":\"7902699be42c8a8e46fbbb4501726517e86b22c56a189f7625a6da49081b2451\",\"modified\":{},\"created\":{},\"accessed\":",
        meta.version, meta.crc32c, meta.modified, meta.created
    );
    assert!(line.starts_with(&expected), "{line}\n{expected}");
    assert_eq!(rig.import(&text).unwrap(), ImportReport { entries: 2502, updated: 0, missing: 0 });

    // All but the contents is lost.
    rig.delete("gone").unwrap();
    rig.put("other", Class::Deep, b"after").unwrap();
    drop(rig);
    let low = folder.path().join("low_storage/f");
    for entry in fs::read_dir(&low).unwrap() {
        let path = entry.unwrap().path();
        let bytes = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        fs::write(&path, bytes).unwrap();
    }
    fs::remove_file(folder.path().join("storage.data")).unwrap();
    let rig = Rig::open(&relaxed(folder.path())).unwrap();
    assert_eq!(rig.store.stat(&name("f/7 \"文")).unwrap().sha256, None);
    assert_eq!(rig.import(&text).unwrap(), ImportReport { entries: 2502, updated: 2500, missing: 2 });
    assert_eq!(rig.store.stat(&name("f/7 \"文")).unwrap().sha256, meta.sha256);
    assert_eq!(rig.get("other").unwrap(), b"after");
    rig.check(folder.path());
    let again = rig.export();
    assert_eq!(again.matches("accessed").count(), 1);
    assert_eq!(rig.import(&again).unwrap().updated, 0);
    // A bad entry ends it; what stood before it was taken.
    let error = rig.import(&format!("{}\n{{\"name\":\"..\"}}\n", again.lines().next().unwrap())).unwrap_err();
    assert!(matches!(&error, StoreError::Manifest { source } if source.entry == 2), "{error}");
    let original = r#"[{"atime_":1790000000,"storage_path_":"./deep_storage/other"},{"storage_path_":"./low_storage/x"}]"#;
    assert_eq!(rig.import(original).unwrap(), ImportReport { entries: 2, updated: 1, missing: 1 });
}

#[test]
fn a_folder_is_listed_page_by_page() {
    let (_folder, rig) = rig();
    let names = ["a", "a.b", "b/1", "b/2/x", "b/2/y", "b/3", "b!", "c/d/e/f", "d", "文/字"];
    for text in names {
        rig.put(text, Class::Low, text.as_bytes()).unwrap();
    }
    let list_in = |scope: &Scope, folder: &str, prefix: &str, limit, is_deep| {
        let folder = Folder::parse(folder).unwrap();
        let mut found = Vec::new();
        let mut after = None;
        loop {
            let (prefix, scope) = (prefix.to_owned(), scope.clone());
            let options = ListOptions { prefix, after, limit, is_deep, scope };
            let page: Page = rig.wait(|done| rig.store.list(&folder, options, done)).unwrap();
            assert!(page.entries.len() <= limit);
            found.extend(page.entries.into_iter().map(|entry| match entry {
                Entry::Object { name, .. } => name.to_string(),
                Entry::Folder(folder) => folder.prefix().to_owned(),
            }));
            after = page.next;
            if after.is_none() {
                return found;
            }
        }
    };
    let list =
        |folder: &str, prefix: &str, limit, is_deep| list_in(&Scope::all(), folder, prefix, limit, is_deep);
    for limit in [1, 2, 3, 100] {
        assert_eq!(list("", "", limit, false), ["a", "a.b", "b!", "b/", "c/", "d", "文/"]);
        assert_eq!(list("b", "", limit, false), ["b/1", "b/2/", "b/3"]);
        assert_eq!(list("b/", "2", limit, true), ["b/2/x", "b/2/y"]);
        assert_eq!(list("", "a", limit, false), ["a", "a.b"]);
        assert_eq!(list("nothing", "", limit, false), Vec::<String>::new());
        let scope = Scope::new(["b/2/", "c", "d", "x"]);
        let scoped = |folder: &str, is_deep| list_in(&scope, folder, "", limit, is_deep);
        assert_eq!(scoped("", false), ["b/", "c/", "d"]);
        assert_eq!(scoped("b", false), ["b/2/"]);
        assert_eq!(scoped("", true), ["b/2/x", "b/2/y", "c/d/e/f", "d"]);
        assert_eq!(scoped("文", false), Vec::<String>::new());
        let mut all: Vec<_> = names.to_vec();
        all.sort_unstable();
        assert_eq!(list("", "", limit, true), all);
    }
}

#[test]
fn a_folder_is_removed_with_all_below() {
    let (folder, rig) = rig();
    for n in 0..600 {
        rig.put(&format!("gone/{}/{n}", n % 7), Class::Low, b"x").unwrap();
    }
    rig.put("gone.txt", Class::Low, b"stays").unwrap();
    rig.put("gone2/x", Class::Low, b"stays").unwrap();
    let gone = Folder::parse("gone").unwrap();
    assert_eq!(rig.wait(|done| rig.store.delete_folder(&gone, done)).unwrap(), 600);
    assert_eq!(rig.check(folder.path()).len(), 2);
    assert_eq!(rig.wait(|done| rig.store.delete_folder(&gone, done)).unwrap(), 0);
}

#[test]
fn a_folder_is_moved_and_copied_with_all_below() {
    let (folder, rig) = rig();
    let folder_of = |text: &str| Folder::parse(text).unwrap();
    for n in 0..150 {
        let class = if n % 2 == 0 { Class::Low } else { Class::Deep };
        rig.put(&format!("a/{}/{n}", n % 7), class, format!("{n}").as_bytes()).unwrap();
    }
    rig.put("a.txt", Class::Low, b"stays").unwrap();
    let before = rig.check(folder.path());
    let absent = Precondition::Absent;
    let copied =
        rig.wait(|done| rig.store.copy_folder(&folder_of("a"), &folder_of("b/c"), absent.clone(), done));
    assert_eq!(copied.unwrap(), 150);
    let both = rig.check(folder.path());
    assert_eq!(both.len(), 301);
    for (text, object) in &before {
        assert_eq!(both.get(text), Some(object));
        if let Some(rest) = text.strip_prefix("a/") {
            assert_eq!(both.get(&format!("b/c/{rest}")), Some(object));
        }
    }
    let root = Folder::root();
    let moved =
        rig.wait(|done| rig.store.rename_folder(&folder_of("b/c"), &folder_of("d"), absent.clone(), done));
    assert_eq!(moved.unwrap(), 150);
    // To the top, past a name that is there.
    let gone = rig.wait(|done| rig.store.delete_folder(&folder_of("a"), done));
    assert_eq!(gone.unwrap(), 150);
    let moved = rig.wait(|done| rig.store.rename_folder(&folder_of("d"), &root, absent.clone(), done));
    assert_eq!(moved.unwrap(), 150);
    let after = rig.check(folder.path());
    assert_eq!(after.len(), 151);
    assert!(before.iter().all(|(text, object)| after.get(text.trim_start_matches("a/")) == Some(object)));
    let none = rig.wait(|done| rig.store.rename_folder(&folder_of("x"), &folder_of("y"), absent, done));
    assert_eq!(none.unwrap(), 0);
}

#[test]
fn a_folder_does_not_go_into_itself_nor_over_others() {
    let (folder, rig) = rig();
    for text in ["a/x", "a/y/z", "b/y/z", "e/f", "g/h/h/i", "long/x", "o"] {
        rig.put(text, Class::Low, text.as_bytes()).unwrap();
    }
    let long = format!("{0}/{0}/{0}/{0}", "n".repeat(250));
    rig.put(&format!("long/{long}"), Class::Low, b"").unwrap();
    let before = rig.check(folder.path());
    let refused = |from: &str, to: &str, to_is: Precondition| {
        let (from, to) = (Folder::parse(from).unwrap(), Folder::parse(to).unwrap());
        let moved = rig.wait(|done| rig.store.rename_folder(&from, &to, to_is.clone(), done)).unwrap_err();
        let copied = rig.wait(|done| rig.store.copy_folder(&from, &to, to_is, done)).unwrap_err();
        assert_eq!(moved.to_string(), copied.to_string());
        assert_eq!(rig.check(folder.path()), before, "{moved}");
        moved
    };
    for (from, to) in [("a", "a"), ("a", "a/y"), ("", "a"), ("", ""), ("g/h", "g")] {
        let error = refused(from, to, Precondition::None);
        assert!(matches!(error, StoreError::IntoItself { .. }), "{from} {to} {error}");
    }
    let error = refused("a", "b", Precondition::Absent);
    assert!(matches!(&error, StoreError::Precondition { name, .. } if name.as_str() == "b/y/z"), "{error}");
    let error = refused("a", "e/f", Precondition::None);
    assert!(matches!(&error, StoreError::BelowObject { object, .. } if object.as_str() == "e/f"), "{error}");
    let error = refused("b", "a/x", Precondition::None);
    assert!(matches!(error, StoreError::BelowObject { .. }), "{error}");
    rig.put("c/x/y", Class::Low, b"").unwrap();
    rig.put("c/y/z/1", Class::Low, b"").unwrap();
    let before = rig.check(folder.path());
    let (a, c) = (Folder::parse("a").unwrap(), Folder::parse("c").unwrap());
    let error = rig.wait(|done| rig.store.rename_folder(&a, &c, Precondition::None, done)).unwrap_err();
    assert!(matches!(&error, StoreError::IsFolder { name } if name.as_str() == "c/x"), "{error}");
    let (long, to) = (Folder::parse("long").unwrap(), Folder::parse("longer/than/it/was/before").unwrap());
    let error = rig.wait(|done| rig.store.rename_folder(&long, &to, Precondition::None, done)).unwrap_err();
    assert!(matches!(error, StoreError::NameInvalid { .. }), "{error}");
    assert_eq!(rig.check(folder.path()), before);
    // Replaced when that is asked for.
    let b = Folder::parse("b").unwrap();
    let moved = rig.wait(|done| rig.store.rename_folder(&a, &b, Precondition::None, done)).unwrap();
    assert_eq!(moved, 2);
    assert_eq!(rig.get("b/y/z").unwrap(), b"a/y/z");
}

#[test]
fn reads_are_noted_with_the_next_change() {
    let (folder, rig) = rig();
    rig.put("x", Class::Low, b"x").unwrap();
    let accessed = |rig: &Rig| {
        let page = rig.wait(|done| rig.store.list(&Folder::root(), ListOptions::default(), done)).unwrap();
        match page.entries[0] {
            Entry::Object { accessed, .. } => accessed,
            Entry::Folder(_) => None,
        }
    };
    assert_eq!(accessed(&rig), None);
    rig.get("x").unwrap();
    rig.wait(|done| rig.store.note_reads(done)).unwrap();
    let at = accessed(&rig);
    assert!(at.is_some());
    drop(rig);
    assert_eq!(accessed(&Rig::open(&relaxed(folder.path())).unwrap()), at);
}

/// A writer that heeds [`Flow::Full`] is called back until all is in.
#[test]
fn a_deep_upload_asks_its_writer_to_wait() {
    let (_folder, rig) = rig();
    let bytes = Rc::new(sample(20 * MIB, 4));
    let upload: Rc<RefCell<Option<Upload>>> = Rc::default();
    let (at, waits, done) = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)), Rc::new(Cell::new(false)));
    let pump = {
        let (upload, bytes, at, waits, done) =
            (upload.clone(), bytes.clone(), at.clone(), waits.clone(), done.clone());
        move || {
            while at.get() < bytes.len() {
                let end = bytes.len().min(at.get() + 100_000);
                let flow = upload.borrow().as_ref().unwrap().write(&bytes[at.get()..end]).unwrap();
                at.set(end);
                if flow == Flow::Full {
                    waits.set(waits.get() + 1);
                    return;
                }
            }
            let Some(upload) = upload.take() else { return };
            let done = done.clone();
            upload.finish(move |result| {
                result.unwrap();
                done.set(true);
            });
        }
    };
    let began = rig.store.begin_put(&name("x"), Class::Deep, PutOptions::default(), pump.clone()).unwrap();
    *upload.borrow_mut() = Some(began);
    pump();
    rig.base.dispatch().unwrap();
    assert!(done.get() && waits.get() > 0);
    assert!(rig.get("x").unwrap() == *bytes);
}

#[test]
fn several_loops_share_a_store() {
    let (folder, rig) = rig();
    let threads: Vec<_> = (0..3)
        .map(|thread| {
            let shared = rig.store.share();
            std::thread::spawn(move || {
                let base = EventBase::new().unwrap();
                let rig = Rig { store: shared.attach(&base).unwrap(), base };
                for n in 0..50 {
                    rig.put(&format!("{}", n % 10), Class::Low, format!("{thread}/{n}").as_bytes()).unwrap();
                    let _ = rig.get(&format!("{}", (n + 5) % 10)).unwrap_or_default();
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(rig.check(folder.path()).len(), 10);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, bool, u16),
    Delete(u8),
    Move(u8, u8),
    Copy(u8, u8),
    Class(u8, bool),
    List,
    Reopen,
    LoseIndex,
}

/// Some are folders of others.
const NAMES: [&str; 9] = ["a", "b", "a/x", "a/y", "a/x/1", "c/d/e", "c/d", "b.gz", "b.gz/z"];

fn steps() -> impl Strategy<Value = Step> {
    let n = || 0..NAMES.len() as u8;
    prop_oneof![
        6 => (n(), any::<bool>(), any::<u16>()).prop_map(|(n, deep, len)| Step::Put(n, deep, len)),
        3 => n().prop_map(Step::Delete),
        3 => (n(), n()).prop_map(|(from, to)| Step::Move(from, to)),
        2 => (n(), n()).prop_map(|(from, to)| Step::Copy(from, to)),
        2 => (n(), any::<bool>()).prop_map(|(n, deep)| Step::Class(n, deep)),
        2 => Just(Step::List),
        1 => Just(Step::Reopen),
        1 => Just(Step::LoseIndex),
    ]
}

/// Whether a name is free for an object of a class, beside those that there are.
fn is_free(model: &Contents, text: &str, class: Class) -> bool {
    let is_below =
        |text: &str, folder: &str| text.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
    let packed = format!("{text}.gz");
    !model.iter().any(|(other, (of, _))| {
        let is_packed_clash = class == Class::Deep
            && *of == Class::Deep
            && (is_below(other, &packed) || is_below(text, &format!("{other}.gz")));
        is_below(other, text) || is_below(text, other) || is_packed_clash
    })
}

fn class(is_deep: bool) -> Class {
    if is_deep { Class::Deep } else { Class::Low }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_operations_do_what_a_map_does(steps in proptest::collection::vec(steps(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let options = relaxed(folder.path());
        let mut rig = Rig::open(&options).unwrap();
        let mut model: Contents = BTreeMap::new();
        let mut versions = BTreeMap::new();
        for step in steps {
            let text = |n: u8| NAMES[usize::from(n)];
            match step {
                Step::Put(n, is_deep, len) => {
                    let bytes = sample(usize::from(len), u32::from(n));
                    let result = rig.put(text(n), class(is_deep), &bytes);
                    prop_assert_eq!(result.is_ok(), is_free(&model, text(n), class(is_deep)), "{:?}", result);
                    if result.is_ok() {
                        model.insert(text(n).to_owned(), (class(is_deep), bytes));
                    }
                }
                Step::Delete(n) => {
                    let result = rig.delete(text(n));
                    prop_assert_eq!(result.is_ok(), model.remove(text(n)).is_some(), "{:?}", result);
                }
                Step::Move(from, to) | Step::Copy(from, to) => {
                    let is_move = matches!(step, Step::Move(..));
                    let result = if is_move { rig.rename(text(from), text(to)) } else { rig.copy(text(from), text(to)) };
                    let may = from == to && model.contains_key(text(from))
                        || model.get(text(from)).is_some_and(|(class, _)| is_free(&model, text(to), *class));
                    prop_assert_eq!(result.is_ok(), may, "{:?}", result);
                    if may {
                        let object = if is_move { model.remove(text(from)) } else { model.get(text(from)).cloned() };
                        model.insert(text(to).to_owned(), object.unwrap());
                    }
                }
                Step::Class(n, is_deep) => {
                    let result = rig.change_class(text(n), class(is_deep));
                    let may = model.contains_key(text(n)) && is_free(&model, text(n), class(is_deep));
                    prop_assert_eq!(result.is_ok(), may, "{:?}", result);
                    if let Some(object) = model.get_mut(text(n)).filter(|_| may) {
                        object.0 = class(is_deep);
                    }
                }
                Step::List => {
                    let list = rig.list();
                    prop_assert!(list.keys().eq(model.keys()));
                    // A version, once given to a name, never comes back with other content.
                    for (text, meta) in &list {
                        let known = versions.insert((text.clone(), meta.version), meta.crc32c);
                        prop_assert!(known.is_none_or(|known| known == meta.crc32c));
                    }
                }
                Step::Reopen | Step::LoseIndex => {
                    drop(rig);
                    if matches!(step, Step::LoseIndex) {
                        fs::remove_file(folder.path().join("storage.data")).unwrap();
                    }
                    rig = Rig::open(&options).unwrap();
                }
            }
            // Known without a list, which would write the rows that are late.
            prop_assert_eq!(rig.store.count().unwrap(), model.len() as u64);
        }
        prop_assert_eq!(rig.check(folder.path()), model);
    }
}
