//! Frames on their way whose answers are awaited.

use std::collections::VecDeque;

use super::relp::{LAST_TXNR, next_txnr};

/// The frames of one connection, by the numbers that RELP gives them: one after the other, 1 again behind the last.
#[derive(Debug)]
pub(super) struct Window {
    frames: VecDeque<Frame>,
    /// The number of the first of them.
    front: u32,
    /// How many frames of this connection are done with; their numbers lie before `front`.
    settled: u64,
}

#[derive(Clone, Copy, Debug)]
struct Frame {
    sequence: u64,
    is_answered: bool,
}

/// What an answer means.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Answer {
    /// For a frame that waited for it.
    First,
    /// For one that has its answer.
    Again,
    /// For none that was sent.
    Stray,
}

impl Window {
    /// For a connection whose next frame has this number; those before have their answers.
    pub(super) fn starting_at(front: u32) -> Window {
        Window { frames: VecDeque::new(), front, settled: u64::from(front) - 1 }
    }

    /// For a new connection; nothing of the old one is awaited any more.
    pub(super) fn restart_at(&mut self, front: u32) {
        self.frames.clear();
        (self.front, self.settled) = (front, u64::from(front) - 1);
    }

    /// Frames that wait to be settled.
    pub(super) fn len(&self) -> usize {
        self.frames.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Takes in a frame with the record of this sequence number; the frame's number.
    pub(super) fn push(&mut self, sequence: u64) -> u32 {
        let txnr = ahead(self.front, self.frames.len() as u64);
        self.frames.push_back(Frame { sequence, is_answered: false });
        txnr
    }

    /// Notes an answer.
    pub(super) fn answer(&mut self, txnr: u32) -> Answer {
        if !(1..=LAST_TXNR).contains(&txnr) {
            return Answer::Stray;
        }
        let distance = distance(self.front, txnr);
        let frame = usize::try_from(distance).ok().and_then(|at| self.frames.get_mut(at));
        match frame {
            Some(frame) if frame.is_answered => Answer::Again,
            Some(frame) => {
                frame.is_answered = true;
                Answer::First
            }
            None if u64::from(LAST_TXNR) - distance <= self.settled => Answer::Again,
            None => Answer::Stray,
        }
    }

    /// As if all had their answer.
    pub(super) fn answer_all(&mut self) {
        self.frames.iter_mut().for_each(|frame| frame.is_answered = true);
    }

    /// Lets go of the frames up to the first one without an answer; the last one's sequence number.
    pub(super) fn settle(&mut self) -> Option<u64> {
        let mut settled = None;
        while let Some(frame) = self.frames.front().filter(|frame| frame.is_answered) {
            settled = Some(frame.sequence);
            self.frames.pop_front();
            self.front = next_txnr(self.front);
            self.settled += 1;
        }
        settled
    }
}

/// How many numbers `to` is behind `from`.
fn distance(from: u32, to: u32) -> u64 {
    if to >= from { u64::from(to - from) } else { u64::from(LAST_TXNR - from) + u64::from(to) }
}

fn ahead(from: u32, by: u64) -> u32 {
    let at = (u64::from(from) - 1 + by) % u64::from(LAST_TXNR) + 1;
    u32::try_from(at).unwrap_or(LAST_TXNR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_out_of_order_settle_in_order() {
        let mut window = Window::starting_at(2);
        let numbers: Vec<u32> = (100..104).map(|sequence| window.push(sequence)).collect();
        assert_eq!(numbers, [2, 3, 4, 5]);
        assert_eq!(window.answer(4), Answer::First);
        assert_eq!(window.settle(), None);
        assert_eq!(window.answer(2), Answer::First);
        assert_eq!(window.settle(), Some(100));
        assert_eq!(window.answer(3), Answer::First);
        assert_eq!(window.settle(), Some(102));
        assert_eq!(window.len(), 1);
        assert_eq!(window.push(104), 6);
    }

    #[test]
    fn answers_are_told_apart() {
        let mut window = Window::starting_at(2);
        for sequence in 0..3 {
            window.push(sequence);
        }
        for (txnr, answer) in [
            (2, Answer::First),
            (2, Answer::Again),
            (1, Answer::Again),
            (5, Answer::Stray),
            (LAST_TXNR, Answer::Stray),
            (0, Answer::Stray),
            (u32::MAX, Answer::Stray),
        ] {
            assert_eq!(window.answer(txnr), answer, "{txnr}");
        }
        assert_eq!(window.settle(), Some(0));
        assert_eq!(window.answer(2), Answer::Again);
        assert_eq!(window.answer(1), Answer::Again);
        window.restart_at(2);
        assert_eq!(window.answer(2), Answer::Stray);
        assert!(window.is_empty());
    }

    #[test]
    fn numbers_begin_again_behind_the_last() {
        let mut window = Window::starting_at(LAST_TXNR - 1);
        let numbers: Vec<u32> = (0..4).map(|sequence| window.push(sequence)).collect();
        assert_eq!(numbers, [LAST_TXNR - 1, LAST_TXNR, 1, 2]);
        for txnr in [2, LAST_TXNR, 1, LAST_TXNR - 1] {
            assert_eq!(window.answer(txnr), Answer::First);
        }
        assert_eq!(window.settle(), Some(3));
        assert_eq!(window.push(4), 3);
        assert_eq!(window.answer(LAST_TXNR), Answer::Again);
    }
}
