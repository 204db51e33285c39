//! A scenario in a process of its own, so that signal handlers, threads and panics of one cannot reach the next.

use std::env;
use std::fs::{self, File};
use std::io;
use std::process::{self, Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::catalog;
use crate::world::World;

/// The name of the scenario, and where its trace goes.
const SCENARIO: &str = "ORACLE_SCENARIO";
const TRACE: &str = "ORACLE_TRACE";
/// The longest scenario takes two seconds.
const TOO_LONG: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(4);

/// What became of a scenario.
pub(crate) struct Played {
    pub(crate) trace: Vec<String>,
    /// How its process failed, if it did.
    pub(crate) failure: Option<String>,
}

/// Plays the scenario that this process was started for, if it was started for one, and ends the process.
pub(crate) fn play_if_asked() {
    let (Ok(name), Some(trace)) = (env::var(SCENARIO), env::var_os(TRACE)) else { return };
    let scenario = catalog::scenarios().into_iter().find(|scenario| scenario.name == name);
    let out = File::create(trace).expect("the file of the trace");
    World::play(scenario.expect("a scenario of this name"), out);
    // What is left is not torn down: libevent's side ends likewise.
    process::exit(0);
}

/// Plays a scenario in a process that runs `test`, which is to call [`play_if_asked`].
pub(crate) fn play(scenario: &str, test: &str) -> io::Result<Played> {
    let dir = tempfile::tempdir()?;
    let (trace, errors) = (dir.path().join("trace"), dir.path().join("errors"));
    let mut child = Command::new(env::current_exe()?)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(SCENARIO, scenario)
        .env(TRACE, &trace)
        .env("RUST_BACKTRACE", "0")
        // It ends without a teardown on purpose, which a leak checker cannot know.
        .env("ASAN_OPTIONS", "detect_leaks=0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors)?)
        .spawn()?;
    let failure = match wait(&mut child)? {
        Some(status) if status.success() => None,
        Some(status) => Some(format!("{status}\n{}", fs::read_to_string(&errors)?)),
        None => Some(format!("it did not end within {TOO_LONG:?}")),
    };
    let trace = fs::read_to_string(&trace).unwrap_or_default().lines().map(str::to_owned).collect();
    Ok(Played { trace, failure })
}

/// Waits for the process; ends it when it takes too long.
fn wait(child: &mut Child) -> io::Result<Option<process::ExitStatus>> {
    let until = Instant::now() + TOO_LONG;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() > until {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(LOOK_EVERY);
    }
}
