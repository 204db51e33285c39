//! How long to wait before the next try.

use std::time::Duration;

/// Waits that double, each drawn from its upper half, so that the clients of many hosts do not come back all at once.
///
/// ```
/// use std::time::Duration;
///
/// let second = Duration::from_secs(1);
/// let mut backoff = logger::forward::Backoff::new(second, 30 * second);
/// assert!(backoff.take() <= second && backoff.take() >= second);
/// backoff.reset();
/// assert!(backoff.take() <= second);
/// ```
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits from `first` to `longest`.
    pub fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, next: first }
    }

    /// Begins again with the shortest.
    pub fn reset(&mut self) {
        self.next = self.first;
    }

    /// The next wait.
    pub fn take(&mut self) -> Duration {
        let half = self.next / 2;
        self.next = (self.next * 2).min(self.longest);
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

    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_secs(30);

    #[test]
    fn waits_double_up_to_the_longest_and_differ() {
        let mut waits = Vec::new();
        for _ in 0..2 {
            let mut backoff = Backoff::new(FIRST, LONGEST);
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
