//! Objects by (slot, generation): a key that outlives its object finds nothing, even when the slot is used again.

use slab::Slab;

/// Names one object of one [`Table`], for as long as that object is in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
pub(crate) struct Key {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

impl Key {
    /// The key as a poll token.
    pub(crate) fn token(self) -> u64 {
        u64::from(self.generation) << 32 | u64::from(self.slot)
    }

    pub(crate) fn from_token(token: u64) -> Key {
        Key { slot: token as u32, generation: (token >> 32) as u32 }
    }
}

/// A slab whose slots count their users.
pub(crate) struct Table<T> {
    slots: Slab<T>,
    generations: Vec<u32>,
}

impl<T> Table<T> {
    pub(crate) fn new() -> Self {
        Table { slots: Slab::new(), generations: Vec::new() }
    }

    pub(crate) fn insert(&mut self, value: T) -> Key {
        let slot = self.slots.insert(value);
        if slot == self.generations.len() {
            self.generations.push(0);
        }
        Key { slot: slot as u32, generation: self.generations[slot] }
    }

    #[inline]
    pub(crate) fn get(&self, key: Key) -> Option<&T> {
        (self.generations.get(key.slot as usize) == Some(&key.generation))
            .then(|| self.slots.get(key.slot as usize))
            .flatten()
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        (self.generations.get(key.slot as usize) == Some(&key.generation))
            .then(|| self.slots.get_mut(key.slot as usize))
            .flatten()
    }

    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        let generation = self.generations.get_mut(key.slot as usize)?;
        if *generation != key.generation {
            return None;
        }
        let value = self.slots.try_remove(key.slot as usize)?;
        *generation = generation.wrapping_add(1);
        Some(value)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.slots.iter().map(|(_, value)| value)
    }

    /// Empties the table; the keys of its objects die.
    pub(crate) fn take_all(&mut self) -> Vec<T> {
        let slots: Vec<usize> = self.slots.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.generations[slot] = self.generations[slot].wrapping_add(1);
        }
        std::mem::take(&mut self.slots).into_iter().map(|(_, value)| value).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stale_key_misses_a_reused_slot() {
        let mut table = Table::new();
        let old = table.insert("old");
        assert_eq!(table.remove(old), Some("old"));
        let new = table.insert("new");
        assert_eq!(new.slot, old.slot);
        assert_ne!(new, old);
        assert_eq!(table.get(old), None);
        assert_eq!(table.remove(old), None);
        assert_eq!(table.get(new), Some(&"new"));
        assert_eq!(Key::from_token(new.token()), new);
    }

    #[test]
    fn taking_all_kills_every_key() {
        let mut table = Table::new();
        let keys = [table.insert(1), table.insert(2)];
        assert_eq!(table.take_all(), [1, 2]);
        let again = table.insert(3);
        assert!(keys.iter().all(|&key| table.get(key).is_none()));
        assert_eq!((table.get(again), table.iter().count()), (Some(&3), 1));
    }
}
