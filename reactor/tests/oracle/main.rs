//! The scenarios of `reactor/oracle/`, which libevent played before, played on this crate: the traces must be equal,
//! byte for byte. `reactor/oracle/README.md` has the language of the scenarios and the grammar of the traces.
//!
//! To look at some of them, with libevent's trace beside:
//!
//! ```text
//! SCENARIO=ev-04 cargo test -p reactor --test oracle -- --nocapture
//! ```
#![allow(clippy::expect_used, clippy::panic, clippy::print_stdout, reason = "a test fails by panicking")]

mod catalog;
mod child;
mod conformance;
mod names;
mod script;
mod trace;
mod world;

use std::collections::BTreeSet;
use std::env;
use std::fmt::Write as _;
use std::sync::Mutex;
use std::thread;

/// Most scenarios sleep most of their time.
const JOBS: usize = 4;

/// Not a test by itself: the others run it in processes of their own.
#[test]
fn one_scenario() {
    child::play_if_asked();
}

#[test]
fn every_scenario_is_played_as_libevent_played_it() {
    let wanted = env::var("SCENARIO").unwrap_or_default();
    let skipped = catalog::skipped();
    let names = catalog::scenarios().into_iter().map(|scenario| scenario.name);
    let names: Vec<_> =
        names.filter(|name| name.starts_with(&wanted) && !skipped.contains_key(name)).collect();
    let (queue, failures) = (Mutex::new(names.iter()), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..JOBS {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("whole").next();
                    let Some(name) = next else { return };
                    if let Some(failure) = check(name, !wanted.is_empty()) {
                        failures.lock().expect("whole").push(failure);
                    }
                }
            });
        }
    });
    let mut failures = failures.into_inner().expect("whole");
    failures.sort();
    assert!(!names.is_empty(), "no scenario begins with {wanted:?}");
    let (failed, all) = (failures.len(), names.len());
    assert!(failures.is_empty(), "{failed} of {all} scenarios differ:\n\n{}", failures.join("\n"));
}

/// Plays one scenario; how it differs, if it does.
fn check(name: &str, is_shown: bool) -> Option<String> {
    let (golden, reason) = catalog::golden(name);
    let played = child::play(name, "one_scenario").expect("a process of its own");
    let is_equal = played.failure.is_none() && played.trace == golden;
    if is_equal && !is_shown {
        return None;
    }
    let mut text = format!("{name}\n");
    if let Some(reason) = reason {
        let _ = writeln!(text, "  (not as libevent, on purpose: {reason})");
    }
    text.push_str(&beside(&golden, &played.trace));
    if let Some(failure) = played.failure {
        let _ = writeln!(text, "  its process failed: {failure}");
    }
    if is_shown {
        println!("{text}");
    }
    (!is_equal).then_some(text)
}

/// The expected and the found lines, side by side: `|` where they differ, `<` and `>` where one has no counterpart.
fn beside(golden: &[String], found: &[String]) -> String {
    let common = common_lines(golden, found);
    let width = golden.iter().map(|line| line.len()).max().unwrap_or(0).max("expected".len());
    let mut text = format!("  {:width$}   found\n", "expected");
    let (mut i, mut j) = (0, 0);
    for (to_i, to_j) in common.into_iter().chain([(golden.len(), found.len())]) {
        while i < to_i || j < to_j {
            let (left, right) = (golden[i..to_i].first(), found[j..to_j].first());
            let sign = match (left, right) {
                (Some(_), Some(_)) => '|',
                (Some(_), None) => '<',
                _ => '>',
            };
            let line = |line: Option<&String>| line.cloned().unwrap_or_default();
            let _ = writeln!(text, "  {:width$} {sign} {}", line(left), line(right));
            i = to_i.min(i + 1);
            j = to_j.min(j + 1);
        }
        if let Some(same) = golden.get(to_i) {
            let _ = writeln!(text, "  {same:width$}   {same}");
        }
        (i, j) = (to_i + 1, to_j + 1);
    }
    text
}

/// A longest common subsequence, as pairs of indices.
fn common_lines(one: &[String], other: &[String]) -> Vec<(usize, usize)> {
    let mut longest = vec![vec![0; other.len() + 1]; one.len() + 1];
    for i in (0..one.len()).rev() {
        for j in (0..other.len()).rev() {
            longest[i][j] = if one[i] == other[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let (mut i, mut j, mut pairs) = (0, 0, Vec::new());
    while i < one.len() && j < other.len() {
        if one[i] == other[j] {
            pairs.push((i, j));
            (i, j) = (i + 1, j + 1);
        } else if longest[i + 1][j] >= longest[i][j + 1] {
            i += 1;
        } else {
            j += 1;
        }
    }
    pairs
}

#[test]
fn every_starred_contract_has_a_scenario_that_runs_as_on_libevent() {
    let skipped = catalog::skipped();
    let as_libevent = |name: &String| !skipped.contains_key(name) && catalog::golden(name).1.is_none();
    let names = catalog::scenarios().into_iter().map(|scenario| scenario.name);
    let proven: BTreeSet<_> = names.filter(as_libevent).map(|name| catalog::id(&name)).collect();
    // The RFCs are what HTTP is held to, by tests.
    let is_played = |contract: &catalog::Contract| contract.is_starred && !contract.id.starts_with("HTTP-");
    let contracts = catalog::contracts().into_iter().filter(is_played);
    let unproven: Vec<_> = contracts.map(|contract| contract.id).filter(|id| !proven.contains(id)).collect();
    assert!(unproven.is_empty(), "starred, and no scenario shows them as on libevent: {unproven:?}");
}

#[test]
fn what_is_skipped_exists_and_has_a_reason_and_no_star() {
    let names: BTreeSet<_> = catalog::scenarios().into_iter().map(|scenario| scenario.name).collect();
    let starred: BTreeSet<_> = catalog::contracts()
        .into_iter()
        .filter(|contract| contract.is_starred)
        .map(|contract| contract.id)
        .collect();
    for (name, reason) in catalog::skipped() {
        assert!(names.contains(&name), "skipped.txt: there is no scenario {name}");
        assert!(!reason.is_empty(), "skipped.txt: {name} has no reason");
        assert!(!starred.contains(&catalog::id(&name)), "skipped.txt: {name} is of a starred contract");
    }
}
