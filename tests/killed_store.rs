//! A process that is killed in the middle of its work loses nothing that it had answered.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stdout)]

#[path = "util/rig.rs"]
mod rig;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::rc::Rc;

use cloudstore::storage::*;
use rig::{Rig, name};

/// Names that the child works on; few, so that each is written, replaced and removed. Those of a batch differ.
const NAMES: u64 = 41;

fn options(data: impl Into<std::path::PathBuf>) -> Options {
    Options { durability: Durability::Relaxed, threads: 2, ..Options::new(data) }
}

fn content(step: u64) -> Vec<u8> {
    let len = if step.is_multiple_of(7) { 20_000 } else { step % 2000 + 8 };
    step.to_le_bytes().into_iter().cycle().take(len as usize).collect()
}

/// Run by the test below, in a process of its own: it changes objects and says of each change when it begins and when it
/// was answered, until it is killed.
#[test]
#[ignore = "is killed by another test"]
fn child() {
    let Ok(data) = std::env::var("KILLED_STORE") else { return };
    let rig = Rig::open(&options(data)).unwrap();
    let say = |text: String| {
        let mut out = std::io::stdout().lock();
        out.write_all(text.as_bytes()).unwrap();
        out.flush().unwrap();
    };
    for batch in 0u64.. {
        let count = batch % 9 + 1;
        let answered = Rc::new(Cell::new(0));
        for step in (0..count).map(|n| batch * 9 + n) {
            let n = step % NAMES;
            let text = format!("{}/{n}", n % 3);
            let mine = Rc::clone(&answered);
            if step % 5 == 4 {
                say(format!("\n- {text} {step}\n"));
                rig.store.delete(&name(&text), Precondition::None, move |result| {
                    mine.set(mine.get() + 1);
                    if result.is_ok() {
                        say(format!("\n= {text} {step}\n"));
                    }
                });
            } else {
                let class = if step.is_multiple_of(11) { Class::Deep } else { Class::Low };
                say(format!("\n+ {text} {step}\n"));
                let upload = rig.store.begin_put(&name(&text), class, PutOptions::default(), || ()).unwrap();
                let _ = upload.write(&content(step)).unwrap();
                upload.finish(move |result| {
                    result.unwrap();
                    mine.set(mine.get() + 1);
                    say(format!("\n= {text} {step}\n"));
                });
            }
        }
        rig.base.dispatch().unwrap();
        assert_eq!(answered.get(), count);
    }
}

#[test]
fn what_was_answered_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    // What each name may be: the last that was answered, or one that was begun since.
    let mut may_be: BTreeMap<String, Vec<Option<u64>>> = BTreeMap::new();
    for round in 0..8 {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child", "--exact", "--ignored", "--nocapture"])
            .env("KILLED_STORE", folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut changes: BTreeMap<u64, Option<u64>> = BTreeMap::new();
        let (mut heard, most) = (0, 300 + round * 331);
        for line in lines {
            let line = line.unwrap();
            let words: Vec<&str> = line.split(' ').collect();
            let (Some(sign @ ("+" | "-" | "=")), [_, text, step]) = (words.first().copied(), &words[..])
            else {
                continue;
            };
            let Ok(step) = step.parse::<u64>() else { continue };
            let known = may_be.entry((*text).to_owned()).or_insert_with(|| vec![None]);
            match sign {
                "+" => {
                    changes.insert(step, Some(step));
                    known.push(Some(step));
                }
                "-" => {
                    changes.insert(step, None);
                    known.push(None);
                }
                _ => {
                    let at = known.iter().rposition(|one| *one == changes[&step]).unwrap();
                    known.drain(..at);
                }
            }
            // All that it said before its end is heard.
            heard += 1;
            if heard == most {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        let rig = Rig::open(&options(folder.path())).unwrap();
        let found = rig.check(folder.path());
        for (text, known) in &mut may_be {
            let now = found.get(text).map(|(_, bytes)| {
                let step = u64::from_le_bytes(bytes[..8].try_into().unwrap());
                assert!(*bytes == content(step), "{text} is whole");
                step
            });
            assert!(known.contains(&now), "round {round}: {text} is {now:?}, not one of {known:?}");
            *known = vec![now];
        }
        for text in found.keys() {
            assert!(may_be.contains_key(text), "{text} was never written");
        }
    }
}
