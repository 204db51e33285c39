//! The files of `reactor/oracle/`: scenarios, contracts, golden traces, and what is not played here.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::script::{Scenario, parse};

/// One line of `conformance.txt`.
pub(crate) struct Contract {
    pub(crate) id: String,
    pub(crate) is_starred: bool,
    pub(crate) text: String,
    /// How the port differs; empty if it does not.
    pub(crate) difference: String,
}

/// A path under `reactor/`.
pub(crate) fn path(under: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(under)
}

fn read(under: &str) -> String {
    let path = path(under);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn scenarios() -> Vec<Scenario> {
    parse(&read("oracle/scenarios.txt"))
}

/// `ev-04-exit-lets-the-pass-finish` belongs to `EV-04`.
pub(crate) fn id(scenario: &str) -> String {
    let end = scenario.match_indices('-').nth(1).map_or(scenario.len(), |(at, _)| at);
    scenario[..end].to_ascii_uppercase()
}

pub(crate) fn contracts() -> Vec<Contract> {
    let contract = |line: &String| {
        let fields = fields(line);
        Contract {
            id: fields[0].to_owned(),
            is_starred: fields[1] == "star",
            text: fields[2].to_owned(),
            difference: fields[3].to_owned(),
        }
    };
    table("oracle/conformance.txt").iter().map(contract).collect()
}

/// The scenarios that are not played here, with the reasons.
pub(crate) fn skipped() -> BTreeMap<String, String> {
    let pair = |line: String| {
        let fields = fields(&line);
        (fields[0].to_owned(), fields[1].to_owned())
    };
    table("oracle/skipped.txt").into_iter().map(pair).collect()
}

fn table(under: &str) -> Vec<String> {
    read(under).lines().filter(|line| !line.starts_with('#') && !line.is_empty()).map(str::to_owned).collect()
}

fn fields(line: &str) -> Vec<&str> {
    line.split('|').map(str::trim).collect()
}

/// What the port has to print, and the reason if that is not what libevent prints.
pub(crate) fn golden(scenario: &str) -> (Vec<String>, Option<String>) {
    let own = format!("oracle/golden/{scenario}.port.trace");
    if !path(&own).exists() {
        return (trace_lines(&read(&format!("oracle/golden/{scenario}.trace"))), None);
    }
    let text = read(&own);
    let reason = text.lines().next().and_then(|line| line.strip_prefix("# "));
    let reason = reason.unwrap_or_else(|| panic!("{own}: its first line gives no reason"));
    (trace_lines(&text), Some(reason.to_owned()))
}

fn trace_lines(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}
