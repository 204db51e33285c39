//! The places in the source that log: what their records have in common is rendered once by the worker, so that a
//! record carries a number instead.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::format::Site;
use crate::level::Level;

/// Where a macro stands.
#[derive(Debug)]
pub struct Place {
    target: &'static str,
    file: &'static str,
    line: u32,
    /// From 1 on; 0 until it first logs.
    number: AtomicU32,
}

/// All that have logged, in the order of their numbers. They are statics, so there are as many as the program has.
static PLACES: Mutex<Vec<&'static Place>> = Mutex::new(Vec::new());

impl Place {
    /// A place that has not logged.
    pub const fn new(target: &'static str, file: &'static str, line: u32) -> Place {
        Place { target, file, line, number: AtomicU32::new(0) }
    }

    /// What its records are about.
    #[inline]
    pub fn target(&self) -> &'static str {
        self.target
    }

    pub(crate) fn site(&self, level: Level) -> Site<'static> {
        Site { level, target: self.target, file: self.file, line: self.line }
    }

    #[inline]
    pub(crate) fn number(&'static self) -> u32 {
        match self.number.load(Ordering::Relaxed) {
            0 => self.enter(),
            number => number,
        }
    }

    #[cold]
    fn enter(&'static self) -> u32 {
        let mut places = places();
        if self.number.load(Ordering::Relaxed) == 0 {
            places.push(self);
            self.number.store(u32::try_from(places.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        }
        self.number.load(Ordering::Relaxed)
    }

    /// The place of this number, if there is one.
    pub(crate) fn numbered(number: u32) -> Option<&'static Place> {
        places().get((number as usize).checked_sub(1)?).copied()
    }
}

fn places() -> MutexGuard<'static, Vec<&'static Place>> {
    PLACES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The one argument of a `"{}"`, which is not formatted if it is text already. The two traits are told apart by the
/// receiver of their method: [`Text`] takes `&Single`, and is found first; [`NoText`] takes `&&Single`.
#[derive(Debug)]
pub struct Single<'a, T: ?Sized>(pub &'a T);

/// For the types that are text.
pub trait Text {
    /// Itself.
    fn text(&self) -> Option<&str>;
}

/// For all others.
pub trait NoText {
    /// Nothing.
    fn text(&self) -> Option<&str>;
}

impl Text for Single<'_, str> {
    #[inline]
    fn text(&self) -> Option<&str> {
        Some(self.0)
    }
}

impl Text for Single<'_, &str> {
    #[inline]
    fn text(&self) -> Option<&str> {
        Some(self.0)
    }
}

impl Text for Single<'_, String> {
    #[inline]
    fn text(&self) -> Option<&str> {
        Some(self.0)
    }
}

impl Text for Single<'_, &String> {
    #[inline]
    fn text(&self) -> Option<&str> {
        Some(self.0)
    }
}

impl<T: ?Sized> NoText for &Single<'_, T> {
    #[inline]
    fn text(&self) -> Option<&str> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::needless_borrow)] // It is what `NoText` is found by.
    fn text_is_told_from_what_must_be_formatted() {
        let text = String::from("x");
        assert_eq!((&Single(&text)).text(), Some("x"));
        assert_eq!((&Single(&&text)).text(), Some("x"));
        assert_eq!((&Single("x")).text(), Some("x"));
        assert_eq!((&Single(&"x")).text(), Some("x"));
        assert_eq!((&Single(&7)).text(), None);
        fn of_any<T: std::fmt::Display>(value: T) -> bool {
            (&Single(&value)).text().is_none()
        }
        assert!(of_any("x"));
    }

    #[test]
    fn a_place_keeps_its_number() {
        static HERE: Place = Place::new("a", "b", 1);
        let number = HERE.number();
        assert_eq!(HERE.number(), number);
        assert!(std::ptr::eq(Place::numbered(number).unwrap(), &HERE));
        assert!(Place::numbered(0).is_none() && Place::numbered(u32::MAX).is_none());
    }
}
