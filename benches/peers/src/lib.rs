//! The frame of all drivers: arguments, workloads, clocks, and the JSON line that each prints.
//!
//! Arguments are `key=value`:
//! - `mode`: `tput` (as many lines as can be), `lat` (paced; what a call costs), `delay` (from a call until the line is
//!   in the file), `idle` (some lines, then nothing for 8 s)
//! - `threads`, `lines` (of all threads together), `fmt`: `const`, `str`, `args`
//! - `rate`: calls a second of all threads together, `group`: calls that are timed together, for `lat`
//! - `file`, `variant` (of the peer), `queue`: records or, for ours, bytes of a half; 0 is the peer's default
//!
//! `spdlog.cpp` has the same frame in C++.

use std::collections::HashMap;
use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// What each line says, 100 bytes.
#[macro_export]
macro_rules! message {
    () => {
        "a client asked for the third part of a video; it is sent from the cache, which has the rest as well."
    };
}

const MESSAGE: &str = message!();
const _: () = assert!(MESSAGE.len() == 100);

/// Writes about the same with values, through any macro that takes a format.
#[macro_export]
macro_rules! with_values {
    ($log:path, $sale:expr $(, $($before:tt)+)?) => {
        $log!($($($before)+)? "part {} of file {} sent to {} at offset {} after {} microseconds by {} from the cache",
            $sale.part, $sale.file, $sale.client, $sale.offset, $sale.micros, $sale.server)
    };
}

/// Values for `fmt=args`.
#[derive(Clone, Copy)]
pub struct Values {
    pub part: u64,
    pub file: u32,
    pub client: &'static str,
    pub offset: i64,
    pub micros: u32,
    pub server: &'static str,
}

impl Values {
    fn nth(nth: u64) -> Values {
        Values {
            part: 100_000 + nth,
            file: 40_000 + (nth % 10_000) as u32,
            client: ["10.0.0.17", "10.0.0.204", "10.0.1.8"][(nth % 3) as usize],
            offset: 1_048_576 - (nth % 4096) as i64,
            micros: 100 + (nth % 900) as u32,
            server: ["store-a", "store-b"][(nth % 2) as usize],
        }
    }
}

/// A logger under test. It writes into the file that it was made with.
pub trait Peer: Sync {
    /// Logs [`message!`] as a literal.
    fn constant(&self);
    /// Logs a text known only now.
    fn text(&self, text: &str);
    /// Logs with [`with_values!`].
    fn values(&self, values: Values);
    /// Returns when every line is in the file.
    fn finish(self);
}

/// The arguments.
pub struct Plan {
    mode: String,
    threads: usize,
    lines: u64,
    fmt: Fmt,
    rate: u64,
    group: u64,
    pub file: String,
    pub variant: String,
    pub queue: usize,
}

#[derive(Clone, Copy)]
enum Fmt {
    Const,
    Str,
    Args,
}

impl Fmt {
    fn name(self) -> &'static str {
        match self {
            Fmt::Const => "const",
            Fmt::Str => "str",
            Fmt::Args => "args",
        }
    }
}

impl Plan {
    fn from_arguments() -> Plan {
        let mut given: HashMap<String, String> = std::env::args()
            .skip(1)
            .map(|pair| {
                let (key, value) = pair.split_once('=').expect("key=value");
                (key.to_owned(), value.to_owned())
            })
            .collect();
        let mut take = |key: &str, default: &str| given.remove(key).unwrap_or_else(|| default.to_owned());
        let number = |text: String| text.parse::<u64>().expect("a number");
        let plan = Plan {
            mode: take("mode", "tput"),
            threads: number(take("threads", "1")) as usize,
            lines: number(take("lines", "1000000")),
            fmt: match take("fmt", "str").as_str() {
                "const" => Fmt::Const,
                "str" => Fmt::Str,
                "args" => Fmt::Args,
                other => panic!("fmt={other}: const, str or args"),
            },
            rate: number(take("rate", "100000")),
            group: number(take("group", "1")).max(1),
            file: take("file", "peer.log"),
            variant: take("variant", ""),
            queue: number(take("queue", "0")) as usize,
        };
        assert!(given.is_empty(), "unknown: {given:?}");
        plan
    }

    fn share(&self, thread: usize) -> u64 {
        let threads = self.threads as u64;
        self.lines / threads + u64::from((thread as u64) < self.lines % threads)
    }
}

/// Runs what the arguments ask for and prints the outcome.
pub fn run<P: Peer>(name: &str, make: impl FnOnce(&Plan) -> P) {
    let plan = Plan::from_arguments();
    let _ = std::fs::remove_file(&plan.file);
    let peer = make(&plan);
    let name = if plan.variant.is_empty() { name.to_owned() } else { format!("{name}-{}", plan.variant) };
    let outcome = match plan.mode.as_str() {
        "tput" => throughput(&plan, peer),
        "lat" => calls(&plan, peer),
        "delay" => delay(&plan, peer),
        "idle" => idle(&plan, peer),
        other => panic!("mode={other}: tput, lat, delay or idle"),
    };
    println!(
        "{{\"peer\":\"{name}\",\"mode\":\"{}\",\"threads\":{},\"fmt\":\"{}\",{outcome},\"rss_kib\":{}}}",
        plan.mode,
        plan.threads,
        plan.fmt.name(),
        peak_rss()
    );
}

#[inline(always)]
fn log(peer: &impl Peer, fmt: Fmt, text: &str, nth: u64) {
    match fmt {
        Fmt::Const => peer.constant(),
        Fmt::Str => peer.text(text),
        Fmt::Args => peer.values(Values::nth(nth)),
    }
}

fn text() -> String {
    std::hint::black_box(MESSAGE.to_owned())
}

/// Runs `produce` on each thread; the results, the moment of the start, and the processor time until then.
fn on_threads<T: Send>(plan: &Plan, produce: impl Fn(usize) -> T + Sync) -> (Vec<T>, Instant, Duration) {
    let (barrier, produce) = (Barrier::new(plan.threads + 1), &produce);
    thread::scope(|scope| {
        let start = |nth| {
            let barrier = &barrier;
            let body = move || {
                barrier.wait();
                produce(nth)
            };
            thread::Builder::new().name(format!("w{nth}")).spawn_scoped(scope, body).expect("a thread")
        };
        let threads: Vec<_> = (0..plan.threads).map(start).collect();
        barrier.wait();
        let (begun, busy) = (Instant::now(), processor_time());
        (threads.into_iter().map(|thread| thread.join().expect("a result")).collect(), begun, busy)
    })
}

fn throughput(plan: &Plan, peer: impl Peer) -> String {
    let (_, begun, busy) = on_threads(plan, |nth| {
        let text = text();
        (0..plan.share(nth)).for_each(|line| log(&peer, plan.fmt, &text, line));
    });
    let produced = begun.elapsed();
    peer.finish();
    let (wall, busy) = (begun.elapsed(), processor_time() - busy);
    format!(
        "\"lines\":{},\"produced_s\":{:.6},\"wall_s\":{:.6},\"cpu_s\":{:.6}",
        plan.lines,
        produced.as_secs_f64(),
        wall.as_secs_f64(),
        busy.as_secs_f64()
    )
}

/// Calls before anything is timed, spread over some milliseconds.
const WARM_UP: u64 = 1000;

fn calls(plan: &Plan, peer: impl Peer) -> String {
    let (nanos, ..) = on_threads(plan, |nth| {
        let text = text();
        for line in 0..WARM_UP {
            log(&peer, plan.fmt, &text, line);
            if line % 50 == 0 {
                thread::sleep(Duration::from_millis(1));
            }
        }
        let rate = plan.rate as f64 / plan.threads as f64;
        if plan.threads == 1 {
            paced_by_spinning(plan, &peer, &text, rate)
        } else {
            paced_by_ticks(plan, &peer, &text, rate, plan.share(nth))
        }
    });
    let mut nanos: Vec<_> = nanos.into_iter().flatten().collect();
    peer.finish();
    let lines = plan.lines + WARM_UP * plan.threads as u64;
    let clock = cost_of_the_clock() / plan.group as f64;
    format!("\"lines\":{lines},\"group\":{},\"clock_ns\":{clock:.1},{}", plan.group, quantiles(&mut nanos))
}

/// One thread: every call, or group of calls, at its own moment.
fn paced_by_spinning(plan: &Plan, peer: &impl Peer, text: &str, rate: f64) -> Vec<f64> {
    let mut nanos = touched(plan.lines / plan.group);
    let begun = Instant::now();
    for first in (0..plan.lines).step_by(plan.group as usize) {
        let due = Duration::from_secs_f64(first as f64 / rate);
        while begun.elapsed() < due {
            std::hint::spin_loop();
        }
        let group = plan.group.min(plan.lines - first);
        let before = Instant::now();
        (first..first + group).for_each(|line| log(peer, plan.fmt, text, line));
        nanos.push(before.elapsed().as_nanos() as f64 / group as f64);
    }
    nanos
}

/// Several threads: a tick each millisecond, and its share of calls back to back.
fn paced_by_ticks(plan: &Plan, peer: &impl Peer, text: &str, rate: f64, lines: u64) -> Vec<f64> {
    let mut nanos = touched(lines);
    let begun = Instant::now();
    let mut line = 0;
    while line < lines {
        let tick = Duration::from_millis(1 + begun.elapsed().as_millis() as u64);
        thread::sleep(tick.saturating_sub(begun.elapsed()));
        let due = ((tick.as_secs_f64() * rate) as u64).min(lines);
        while line < due {
            let before = Instant::now();
            log(peer, plan.fmt, text, line);
            nanos.push(before.elapsed().as_nanos() as f64);
            line += 1;
        }
    }
    nanos
}

/// Room whose pages are there, so that none is faulted in while calls are timed.
fn touched(capacity: u64) -> Vec<f64> {
    let mut room = vec![1.0; capacity as usize + 1];
    room.clear();
    room
}

/// What is not in the file by then is not waited for.
const LONGEST_DELAY: Duration = Duration::from_millis(100);

/// One record at a time, 3 ms apart: how long until the file has grown.
fn delay(plan: &Plan, peer: impl Peer) -> String {
    let size = || std::fs::metadata(&plan.file).map_or(0, |metadata| metadata.len());
    let text = text();
    let mut nanos = Vec::new();
    for line in 0..plan.lines {
        let (before, size_before) = (Instant::now(), size());
        log(&peer, plan.fmt, &text, line);
        while size() == size_before && before.elapsed() < LONGEST_DELAY {
            std::hint::spin_loop();
        }
        nanos.push(before.elapsed().as_nanos() as f64);
        thread::sleep(Duration::from_millis(3));
    }
    peer.finish();
    format!("\"lines\":{},{}", plan.lines, quantiles(&mut nanos))
}

fn idle(plan: &Plan, peer: impl Peer) -> String {
    let text = text();
    (0..plan.lines).for_each(|line| log(&peer, plan.fmt, &text, line));
    thread::sleep(Duration::from_secs(8));
    peer.finish();
    format!("\"lines\":{}", plan.lines)
}

fn quantiles(nanos: &mut [f64]) -> String {
    nanos.sort_by(f64::total_cmp);
    let at = |part: f64| nanos[((nanos.len() as f64 * part) as usize).min(nanos.len() - 1)];
    format!("\"p50\":{:.1},\"p99\":{:.1},\"p999\":{:.1},\"max\":{:.1}", at(0.5), at(0.99), at(0.999), at(1.0))
}

fn cost_of_the_clock() -> f64 {
    let mut nanos: Vec<_> = (0..20_000).map(|_| Instant::now().elapsed().as_nanos()).collect();
    nanos.sort_unstable();
    nanos[nanos.len() / 2] as f64
}

fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// The most memory that the process has had, in KiB.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).unwrap_or(0)
}
