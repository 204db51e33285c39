//! When to try again.

use std::time::Duration;

use logger::forward::Backoff;

/// How much waiting is left for something that gets no further, and how long the next wait is.
///
/// Waits double from 100 ms to 5 s, each drawn from its upper half, so that many clients of a server that has just started do
/// not come all at once. What gets further than ever before has all its time again.
#[derive(Debug)]
pub(super) struct Retry {
    most: Duration,
    left: Duration,
    backoff: Backoff,
}

const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(5);

impl Retry {
    pub(super) fn new(most: Duration) -> Retry {
        Retry { most, left: most, backoff: Backoff::new(FIRST, LONGEST) }
    }

    /// It got further.
    pub(super) fn advanced(&mut self) {
        self.left = self.most;
        self.backoff.reset();
    }

    /// A try has failed that took `time` in which nothing moved: how long to wait before the next, none if it is not worth
    /// while any more.
    pub(super) fn failed(&mut self, time: Duration) -> Option<Duration> {
        self.left = self.left.saturating_sub(time);
        if self.left.is_zero() {
            return None;
        }
        let wait = self.backoff.take().min(self.left);
        self.left -= wait;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_use_up_the_time() {
        let most = Duration::from_secs(60);
        let mut retry = Retry::new(most);
        let (mut full, mut all) = (FIRST, Duration::ZERO);
        while let Some(wait) = retry.failed(Duration::ZERO) {
            all += wait;
            assert!(wait <= full && (wait >= full / 2 || all == most), "{wait:?} of {full:?}");
            full = (full * 2).min(LONGEST);
        }
        assert_eq!((all, full), (most, LONGEST));
        retry.advanced();
        assert!(retry.failed(Duration::ZERO).unwrap() <= FIRST);
        assert_eq!(retry.failed(most), None, "a try that took all of it was the last");
        assert_eq!(Retry::new(Duration::ZERO).failed(Duration::ZERO), None);
    }
}
