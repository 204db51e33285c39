//! How often somebody may be wrong about a password, and how many passwords are looked at.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use reactor::Address;

use crate::jobs::{Jobs, Submitter};
use crate::users::MAX_NAME;

/// So many wrong passwords may come at once from one place, and one more in each [`PARDON`].
const MOST_WRONG: u32 = 10;
const PARDON: Duration = Duration::from_secs(6);
/// Places that are remembered.
const MOST_PLACES: usize = 10_000;
/// Of the refusals so many are told in each [`TOLD_PERIOD`]; the rest is counted.
const MOST_TOLD: u32 = 10;
const TOLD_PERIOD: Duration = Duration::from_secs(10);
/// Passwords that wait to be looked at, half a second's worth: each takes a thread some 30 ms.
const MOST_WAITING: usize = 32;

/// Shared by all loops; asked only where a password must be looked at anew.
#[derive(Debug, Default)]
pub(crate) struct Doorman {
    state: Mutex<State>,
    /// The threads that look at passwords: two, so that a flood takes 38 MiB and not the store's threads. They are started when
    /// they are needed first; None if that failed.
    jobs: OnceLock<Option<Jobs>>,
    waiting: Arc<AtomicUsize>,
    refused: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    wrong: HashMap<Place, Wrong>,
    period: Option<Instant>,
    told: u32,
    untold: u64,
}

/// Where attempts come from.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Place {
    V4([u8; 4]),
    /// A network of one subscriber.
    V6([u8; 8]),
    /// From this machine, where a proxy may ask for everybody: then it matters for whom.
    Local(String),
}

#[derive(Debug)]
struct Wrong {
    /// Attempts that are not pardoned.
    count: u32,
    /// From when on the next pardon is counted.
    since: Instant,
}

impl Place {
    pub(crate) fn of(peer: &Address, user: &str) -> Place {
        let local = || Place::Local(if user.len() > MAX_NAME { String::new() } else { user.to_owned() });
        match peer {
            Address::Inet(address) => match address.ip().to_canonical() {
                ip if ip.is_loopback() => local(),
                IpAddr::V4(ip) => Place::V4(ip.octets()),
                IpAddr::V6(ip) => {
                    let octets = ip.octets();
                    Place::V6(std::array::from_fn(|n| octets[n]))
                }
            },
            _ => local(),
        }
    }
}

impl Wrong {
    fn pardon(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.since);
        let pardons = u32::try_from(passed.as_secs() / PARDON.as_secs()).unwrap_or(u32::MAX);
        self.count = self.count.saturating_sub(pardons);
        self.since = if self.count == 0 { now } else { self.since + PARDON * pardons };
    }
}

impl Doorman {
    /// Counts an attempt as wrong, until [`right`](Self::right) says that it was not.
    ///
    /// # Errors
    /// How long to wait, if there were too many.
    pub(crate) fn attempt(&self, place: &Place, now: Instant) -> Result<(), Duration> {
        let mut state = lock(&self.state);
        if state.wrong.len() >= MOST_PLACES && !state.wrong.contains_key(place) {
            state.wrong.retain(|_, wrong| {
                wrong.pardon(now);
                wrong.count > 0
            });
            // Who has so many places is held up by the few passwords that are looked at.
            if state.wrong.len() >= MOST_PLACES {
                state.wrong.clear();
            }
        }
        let wrong = state.wrong.entry(place.clone()).or_insert(Wrong { count: 0, since: now });
        wrong.pardon(now);
        if wrong.count >= MOST_WRONG {
            return Err((wrong.since + PARDON).saturating_duration_since(now));
        }
        wrong.count += 1;
        Ok(())
    }

    /// The attempt was none with a wrong password.
    pub(crate) fn right(&self, place: &Place) {
        if let Some(wrong) = lock(&self.state).wrong.get_mut(place) {
            wrong.count = wrong.count.saturating_sub(1);
        }
    }

    /// How many were refused, ever.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Counts a refusal, and says whether it is told: then with how many that were not, before it.
    pub(crate) fn tells(&self, now: Instant) -> Option<u64> {
        self.refused.fetch_add(1, Ordering::Relaxed);
        let mut state = lock(&self.state);
        if state.period.is_none_or(|period| now.saturating_duration_since(period) >= TOLD_PERIOD) {
            state.period = Some(now);
            state.told = 0;
        }
        if state.told >= MOST_TOLD {
            state.untold += 1;
            return None;
        }
        state.told += 1;
        Some(std::mem::take(&mut state.untold))
    }

    /// Has a password looked at, two at a time. False, and nothing is run, if too many wait.
    pub(crate) fn look(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let Some(submitter) = self.submitter() else { return false };
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return false;
        }
        let waiting = Waiting(Arc::clone(&self.waiting));
        // Both threads take what is urgent.
        submitter.submit_urgent(move || {
            job();
            drop(waiting);
        });
        true
    }

    /// Runs something off the loops, once it is its turn.
    pub(crate) fn run(&self, job: impl FnOnce() + Send + 'static) -> bool {
        let submitter = self.submitter();
        submitter.map(|submitter| submitter.submit_urgent(job)).is_some()
    }

    fn submitter(&self) -> Option<Submitter> {
        self.jobs.get_or_init(|| Jobs::new(1).ok()).as_ref().map(Jobs::submitter)
    }
}

/// Counts one that waits, also if it panics or is never run.
struct Waiting(Arc<AtomicUsize>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Nothing panics under this lock.
fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(peer: &str, user: &str) -> Place {
        Place::of(&peer.parse().unwrap(), user)
    }

    #[test]
    fn wrong_ones_are_few_and_pardoned() {
        let doorman = Doorman::default();
        let (begin, here) = (Instant::now(), place("10.0.0.1:5", "anna"));
        for _ in 0..MOST_WRONG {
            assert_eq!(doorman.attempt(&here, begin), Ok(()));
        }
        assert_eq!(doorman.attempt(&here, begin), Err(PARDON));
        assert_eq!(doorman.attempt(&here, begin + PARDON / 2), Err(PARDON / 2));
        assert_eq!(doorman.attempt(&here, begin + PARDON), Ok(()));
        assert!(doorman.attempt(&here, begin + PARDON).is_err());
        assert_eq!(
            doorman.attempt(&place("10.0.0.2:5", "anna"), begin),
            Ok(()),
            "of others nothing is held up"
        );
        // Who is right is never held up.
        doorman.right(&here);
        for _ in 0..100 {
            assert_eq!(doorman.attempt(&here, begin + PARDON), Ok(()));
            doorman.right(&here);
        }
    }

    #[test]
    fn places_are_addresses_and_names_on_this_machine() {
        assert_eq!(place("10.0.0.1:5", "a"), place("10.0.0.1:6", "b"));
        assert_eq!(place("[::ffff:10.0.0.1]:5", "a"), place("10.0.0.1:6", "b"));
        assert_eq!(place("[2001:db8::1]:5", "a"), place("[2001:db8::2]:5", "b"));
        assert_ne!(place("[2001:db8::1]:5", "a"), place("[2001:db8:0:1::1]:5", "a"));
        assert_ne!(place("127.0.0.1:5", "a"), place("127.0.0.1:5", "b"));
        assert_eq!(place("127.0.0.1:5", "a"), place("unix:/x", "a"));
    }

    #[test]
    fn places_are_bounded() {
        let doorman = Doorman::default();
        let now = Instant::now();
        for n in 0..3 * MOST_PLACES {
            assert_eq!(doorman.attempt(&Place::Local(n.to_string()), now), Ok(()));
        }
        assert!(lock(&doorman.state).wrong.len() <= MOST_PLACES);
    }

    #[test]
    fn refusals_are_told_until_there_are_many() {
        let doorman = Doorman::default();
        let now = Instant::now();
        let told = (0..100).filter(|_| doorman.tells(now) == Some(0)).count();
        assert_eq!(told, MOST_TOLD as usize);
        assert_eq!(doorman.tells(now + TOLD_PERIOD), Some(90));
        assert_eq!(doorman.tells(now + TOLD_PERIOD), Some(0));
        assert_eq!(doorman.refused(), 102);
    }

    #[test]
    fn only_so_many_wait() {
        let doorman = Doorman::default();
        let gate = Arc::new(Mutex::new(()));
        let closed = gate.lock().unwrap();
        let looks = |doorman: &Doorman| {
            let gate = Arc::clone(&gate);
            doorman.look(move || drop(gate.lock().unwrap()))
        };
        assert_eq!((0..100).filter(|_| looks(&doorman)).count(), MOST_WAITING);
        drop(closed);
        while doorman.waiting.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        assert!(looks(&doorman));
    }
}
