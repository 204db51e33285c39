//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double, from [`FIRST`] to [`LONGEST`], each drawn from its upper half, so that the clients of many hosts do
/// not come back all at once.
#[derive(Debug)]
pub(super) struct Backoff {
    next: Duration,
}

pub(super) const FIRST: Duration = Duration::from_millis(100);
pub(super) const LONGEST: Duration = Duration::from_secs(30);

impl Backoff {
    pub(super) fn new() -> Backoff {
        Backoff { next: FIRST }
    }

    /// Begins again with the shortest.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// The next wait.
    pub(super) fn take(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(LONGEST);
        half + half.mul_f64(random())
    }
}

/// From 0 to 1; 1 where the system has no random numbers.
fn random() -> f64 {
    let mut bytes = [0xff; 4];
    let _ = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty());
    f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_differ() {
        let mut waits = Vec::new();
        for _ in 0..2 {
            let mut backoff = Backoff::new();
            let mut full = FIRST;
            for _ in 0..20 {
                let wait = backoff.take();
                assert!(wait >= full / 2 && wait <= full, "{wait:?} of {full:?}");
                full = (full * 2).min(LONGEST);
                waits.push(wait);
            }
            assert_eq!(full, LONGEST);
            backoff.reset();
            assert!(backoff.take() <= FIRST);
        }
        assert_ne!(waits[..20], waits[20..]);
    }
}
