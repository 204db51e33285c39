//! Makes `CONFORMANCE.md`: for every contract of `oracle/conformance.txt`, what proves it.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::catalog::{self, Contract};

const FILE: &str = "CONFORMANCE.md";
const UPDATE: &str = "UPDATE_CONFORMANCE";

/// What is known about one contract.
#[derive(Default)]
struct Proof {
    /// Scenarios that are played as libevent played them.
    equal: Vec<String>,
    /// Scenarios that differ on purpose, by reason.
    differing: BTreeMap<String, Vec<String>>,
    /// Scenarios that are not played, by reason.
    skipped: BTreeMap<String, Vec<String>>,
    /// Tests whose names begin with its id.
    tests: Vec<String>,
}

#[test]
fn conformance_md_is_up_to_date() {
    let made = document();
    let path = catalog::path(FILE);
    if env::var_os(UPDATE).is_some() {
        fs::write(&path, made).expect("a file that can be written");
        return;
    }
    let is_current = fs::read_to_string(&path).is_ok_and(|found| found == made);
    assert!(is_current, "{FILE} is out of date: {UPDATE}=1 cargo test -p reactor --test oracle conformance");
}

#[test]
fn every_scenario_and_every_numbered_test_has_a_contract() {
    let contracts = catalog::contracts();
    let is_known = |id: &String| contracts.iter().any(|contract| contract.id == *id);
    for scenario in catalog::scenarios() {
        let id = catalog::id(&scenario.name);
        assert!(is_known(&id), "scenario {}: there is no contract {id}", scenario.name);
    }
    for (id, tests) in numbered_tests() {
        assert!(is_known(&id), "test {}: there is no contract {id}", tests.join(", "));
    }
}

fn document() -> String {
    let contracts = catalog::contracts();
    let mut proofs = proofs();
    let rows: Vec<_> = contracts
        .iter()
        .map(|contract| (contract, proofs.remove(&contract.id).unwrap_or_default()))
        .collect();
    let mut text = format!("{HEAD}{}", summary(&rows));
    for (series, title) in SERIES {
        let _ = write!(text, "\n## {title}\n\n| Id | ★ | Contract | Proof |\n|---|---|---|---|\n");
        for (contract, proof) in rows.iter().filter(|(contract, _)| contract.id.starts_with(series)) {
            let star = if contract.is_starred { "★" } else { "" };
            let proof = proof.text(contract);
            let _ = writeln!(text, "| {} | {star} | {} | {proof} |", contract.id, contract.text);
        }
    }
    text
}

const HEAD: &str = "\
# What is proven of libevent's behaviour

Made from `oracle/conformance.txt`, the scenarios and traces beside it, and the tests whose names begin with an id. Change
those, then: `UPDATE_CONFORMANCE=1 cargo test -p reactor --test oracle conformance`.

A scenario was played on libevent 2.1.12 and is played on this crate by `cargo test`; the traces are equal unless *differs*
says on purpose why they are not. HTTP is held to its RFCs by tests, and not played. ★ marks the most fundamental contracts. Ids missing from a series are not errors.

";

const SERIES: [(&str, &str); 5] = [
    ("EV-", "Event loop"),
    ("BUF-", "Evbuffer"),
    ("BEV-", "Bufferevent"),
    ("LIS-", "Listener"),
    ("HTTP-", "HTTP, where RFC 9110 and 9112 win"),
];

fn summary(rows: &[(&Contract, Proof)]) -> String {
    type Which = fn(&Proof) -> bool;
    let lines: [(&str, Which); 5] = [
        ("contracts", |_| true),
        ("with scenarios that run as on libevent", |proof| !proof.equal.is_empty()),
        ("with scenarios that differ on purpose", |proof| !proof.differing.is_empty()),
        ("with tests of their own", |proof| !proof.tests.is_empty()),
        ("not here", |proof| !proof.is_here()),
    ];
    let mut text = "| | all | ★ |\n|---|---|---|\n".to_owned();
    for (what, which) in lines {
        let rows: Vec<_> = rows.iter().filter(|(_, proof)| which(proof)).collect();
        let (all, starred) = (rows.len(), rows.iter().filter(|(contract, _)| contract.is_starred).count());
        let _ = writeln!(text, "| {what} | {all} | {starred} |");
    }
    text
}

impl Proof {
    /// Whether anything shows what the port does.
    fn is_here(&self) -> bool {
        !(self.equal.is_empty() && self.differing.is_empty() && self.tests.is_empty())
    }

    fn text(&self, contract: &Contract) -> String {
        let mut parts = Vec::new();
        parts.extend(quoted("", &self.equal));
        for (reason, scenarios) in &self.differing {
            parts.extend(quoted(&format!("differs: {reason} "), scenarios));
        }
        parts.extend(quoted("tests ", &self.tests));
        for (reason, scenarios) in &self.skipped {
            parts.extend(quoted(&format!("not here: {reason} "), scenarios));
        }
        let has_scenarios = !(self.equal.is_empty() && self.differing.is_empty() && self.skipped.is_empty());
        let difference = Some(contract.difference.as_str()).filter(|text| !text.is_empty());
        match (difference, parts.is_empty()) {
            (difference, true) => parts.push(format!("not here: {}", difference.unwrap_or("no proof yet"))),
            (Some(difference), false) if !has_scenarios => parts.push(format!("differs: {difference}")),
            _ => (),
        }
        parts.join("; ")
    }
}

fn quoted(before: &str, names: &[String]) -> Option<String> {
    let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    (!names.is_empty()).then(|| format!("{before}{}", names.join(", ")))
}

fn proofs() -> BTreeMap<String, Proof> {
    let mut proofs = BTreeMap::<String, Proof>::new();
    let skipped = catalog::skipped();
    for name in catalog::scenarios().into_iter().map(|scenario| scenario.name) {
        let proof = proofs.entry(catalog::id(&name)).or_default();
        match (skipped.get(&name), catalog::golden(&name).1) {
            (Some(reason), _) => proof.skipped.entry(reason.clone()).or_default().push(name),
            (None, Some(reason)) => proof.differing.entry(reason).or_default().push(name),
            (None, None) => proof.equal.push(name),
        }
    }
    for (id, tests) in numbered_tests() {
        proofs.entry(id).or_default().tests = tests;
    }
    proofs
}

/// The tests of the crate whose names begin with an id, by that id: `buf_23_to_25_...` is of three.
fn numbered_tests() -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<String, Vec<String>>::new();
    let mut files = Vec::new();
    rust_files(&catalog::path("src"), &mut files);
    rust_files(&catalog::path("tests"), &mut files);
    let text: String = files.iter().filter_map(|file| fs::read_to_string(file).ok()).collect();
    let names = text.lines().filter_map(|line| line.trim_start().strip_prefix("fn ")?.split('(').next());
    for name in names {
        for id in ids(name) {
            found.entry(id).or_default().push(name.to_owned());
        }
    }
    found.values_mut().for_each(|tests| tests.sort());
    found
}

fn ids(test: &str) -> Vec<String> {
    let mut words = test.split('_');
    let series = words.next().unwrap_or_default().to_ascii_uppercase() + "-";
    if !SERIES.iter().any(|(own, _)| *own == series) {
        return Vec::new();
    }
    let Some(first) = words.next().and_then(|word| word.parse::<u32>().ok()) else { return Vec::new() };
    let last = match (words.next(), words.next()) {
        (Some("to"), Some(last)) => last.parse().unwrap_or(first),
        _ => first,
    };
    (first..=last).map(|number| format!("{series}{number:02}")).collect()
}

fn rust_files(under: &Path, files: &mut Vec<std::path::PathBuf>) {
    let mut entries: Vec<_> =
        fs::read_dir(under).expect("a folder").flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            rust_files(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

#[test]
fn a_test_may_be_of_several_contracts() {
    assert_eq!(ids("buf_23_to_25_the_styles"), ["BUF-23", "BUF-24", "BUF-25"]);
    assert_eq!(ids("ev_04_exit_lets_the_pass_finish"), ["EV-04"]);
    assert!(ids("every_scenario").is_empty() && ids("event_1_at_once").is_empty());
}
