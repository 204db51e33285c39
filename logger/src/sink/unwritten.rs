//! Bytes that a writer has not taken yet.

use std::io::{self, ErrorKind, Write};

/// Keeps bytes until a writer has taken them, whatever goes wrong in between: none is lost, none is written twice.
#[derive(Debug, Default)]
pub struct Unwritten {
    bytes: Vec<u8>,
    /// How many of them are written.
    written: usize,
}

/// Room that is kept when there is nothing to keep.
const KEPT_CAPACITY: usize = 256 * 1024;

impl Unwritten {
    /// Nothing to write.
    pub fn new() -> Unwritten {
        Unwritten::default()
    }

    /// How many bytes are still to be written.
    pub fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// Whether everything is written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds bytes to the end.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Writes until nothing is left.
    ///
    /// # Errors
    /// What the writer said, or [`ErrorKind::WriteZero`] if it takes nothing; what is left is kept.
    pub fn write_to(&mut self, writer: &mut impl Write) -> io::Result<()> {
        while !self.is_empty() {
            match writer.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                Err(error) => return Err(error),
            }
        }
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_CAPACITY);
        self.written = 0;
        Ok(())
    }

    /// Writes `bytes` behind what is kept, without a copy of what the writer takes at once.
    ///
    /// # Errors
    /// As [`write_to`](Self::write_to); what is left of both is kept.
    pub fn write_through(&mut self, bytes: &[u8], writer: &mut impl Write) -> io::Result<()> {
        if let Err(error) = self.write_to(writer) {
            self.push(bytes);
            return Err(error);
        }
        let mut left = bytes;
        while !left.is_empty() {
            match writer.write(left) {
                Ok(n) if n > 0 => left = &left[n..],
                Err(error) if error.kind() == ErrorKind::Interrupted => (),
                outcome => {
                    self.push(left);
                    return Err(outcome.err().unwrap_or_else(|| ErrorKind::WriteZero.into()));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes at most three bytes a call, and fails at every other call.
    #[derive(Default)]
    struct Moody {
        taken: Vec<u8>,
        calls: usize,
    }

    impl Write for Moody {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            match self.calls % 4 {
                1 => Err(ErrorKind::StorageFull.into()),
                2 => Err(ErrorKind::Interrupted.into()),
                _ => {
                    let n = bytes.len().min(3);
                    self.taken.extend_from_slice(&bytes[..n]);
                    Ok(n)
                }
            }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn nothing_is_lost_or_doubled_by_a_moody_writer() {
        let mut writer = Moody::default();
        let mut kept = Unwritten::new();
        let mut expected = Vec::new();
        for nth in 0..200u8 {
            let bytes = vec![nth; usize::from(nth) % 11];
            expected.extend_from_slice(&bytes);
            if nth % 2 == 0 {
                let _ = kept.write_through(&bytes, &mut writer);
            } else {
                kept.push(&bytes);
                let _ = kept.write_to(&mut writer);
            }
        }
        while kept.write_to(&mut writer).is_err() {}
        assert!(kept.is_empty());
        assert_eq!(writer.taken, expected);
    }
}
