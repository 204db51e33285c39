//! What the benches share: CPU time, the checked assertion, the random numbers that the C twins use as well.
#![allow(dead_code, unreachable_pub, reason = "each bench uses a part")]

use rustix::time::{ClockId, clock_gettime};

/// User and system time of this process together, in nanoseconds.
pub fn cpu_ns() -> i64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec * 1_000_000_000 + time.tv_nsec
}

/// One line per figure: name n value unit.
pub fn report(name: &str, n: usize, value: f64, unit: &str) {
    println!("{name} {n} {value:.1} {unit}");
}

/// `state * 6364136223846793005 + 1442695040888963407` modulo 2^64 from the seed on; the number is the upper 31 bits.
pub struct Lcg(pub u64);

impl Lcg {
    pub fn number(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as u32
    }
}

/// The value after `name` on the command line. Other arguments are left alone: cargo adds one of its own.
pub fn option(name: &str) -> Option<usize> {
    let mut args = std::env::args().skip_while(|arg| arg != name);
    args.next()?;
    args.next()?.parse().ok()
}
