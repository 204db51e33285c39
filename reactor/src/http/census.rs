//! How many connections there are.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::limits::Limits;
use crate::address::Address;

/// Counts the connections of servers, all of them and those of each IP address. Servers on several loops may share one:
/// the [`Limits`] hold for all of them together then.
///
/// Those count that are open, with those that have a last reply to send. It is a handle, cheap to clone; `Send` and `Sync`.
/// Its lock is taken when a connection comes and when it goes.
///
/// ```
/// use reactor::EventBase;
/// use reactor::http::{Census, Http};
///
/// let census = Census::new();
/// let base = EventBase::new()?;
/// let http = Http::with_census(&base, &census)?;
/// assert_eq!(census.connections(), 0);
/// # Ok::<(), reactor::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Census {
    counts: Arc<Mutex<Counts>>,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Census {
    /// Of nobody yet.
    pub fn new() -> Census {
        Census::default()
    }

    /// How many there are.
    pub fn connections(&self) -> usize {
        self.lock().all
    }

    /// Counts one more, unless that is one too many.
    pub(super) fn enter(&self, peer: &Address, limits: &Limits) -> bool {
        let mut counts = self.lock();
        if counts.all >= limits.max_connections {
            return false;
        }
        if let Some(ip) = ip_of(peer) {
            let most = limits.max_connections_per_address;
            let have = counts.by_address.entry(ip).or_insert(0);
            if most > 0 && *have >= most {
                return false;
            }
            *have += 1;
        }
        counts.all += 1;
        true
    }

    /// One that was counted is gone.
    pub(super) fn leave(&self, peer: &Address) {
        let mut counts = self.lock();
        counts.all = counts.all.saturating_sub(1);
        if let Some(ip) = ip_of(peer)
            && let Entry::Occupied(mut have) = counts.by_address.entry(ip)
        {
            *have.get_mut() -= 1;
            if *have.get() == 0 {
                have.remove();
            }
        }
    }

    /// Nothing panics under this lock.
    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same for an IPv4 address that comes mapped.
fn ip_of(peer: &Address) -> Option<IpAddr> {
    match peer {
        Address::Inet(inet) => Some(inet.ip().to_canonical()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_for_all_and_for_each_address() {
        let census = Census::new();
        let limits = Limits { max_connections: 3, max_connections_per_address: 2, ..Limits::default() };
        let peer = |text: &str| text.parse::<Address>().unwrap();
        let (here, mapped) = (peer("127.0.0.1:1"), peer("[::ffff:127.0.0.1]:2"));
        let (there, elsewhere) = (peer("127.0.0.2:3"), peer("127.0.0.3:3"));
        assert!(census.enter(&here, &limits) && census.enter(&mapped, &limits));
        assert!(!census.enter(&here, &limits), "a third of one address");
        assert!(census.clone().enter(&there, &limits));
        assert!(!census.enter(&elsewhere, &limits), "a fourth");
        census.leave(&mapped);
        assert_eq!(census.connections(), 2);
        assert!(census.enter(&here, &limits));
        for peer in [&here, &here, &there] {
            census.leave(peer);
        }
        assert_eq!(census.connections(), 0);
        assert!(census.lock().by_address.is_empty());
    }
}
