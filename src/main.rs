//! The one binary: parse, build, run.
fn main() {}
