//! Bodies: where their bytes are between the framing. Pure, in pieces of any size, without touching the bytes.
//!
//! The owner of the stream asks what comes next ([`Decoder::next`]): bytes of the body, which it moves as it likes and
//! counts ([`Decoder::took`]), or framing, which it shows to [`Decoder::frame`].

use super::headers::{is_token_byte, is_value_byte};
use super::parse::{Framing, ParseError};

/// What stands next in the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// At most this many bytes of the body, at least one.
    Data(u64),
    /// The lines between.
    Framing,
    /// The next message.
    End,
}

/// Extensions of chunks beyond the bytes of the body: they mean nothing to anybody, and could be most of what comes.
const MAX_EXTENSION_BYTES: u32 = 16 * 1024;
/// The trailer fields, which are skipped.
const MAX_TRAILER_BYTES: u32 = 16 * 1024;
/// Hexadecimal digits of a size, leading zeros included.
const MAX_SIZE_DIGITS: u8 = 16;

/// Takes a body apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoder {
    state: State,
    /// Of extensions, or of trailers.
    overhead: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Sized(u64),
    UntilClose,
    /// Digits so far.
    Size(u64, u8),
    /// White space behind a size, which only an extension may follow.
    Space(u64),
    Extension(u64),
    SizeLf(u64),
    Chunk(u64),
    ChunkCr,
    ChunkLf,
    /// At the beginning of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    End,
}

impl Decoder {
    pub(super) fn new(framing: Framing) -> Decoder {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::End,
            Framing::Length(n) => State::Sized(n),
            Framing::Chunked => State::Size(0, 0),
            Framing::Close => State::UntilClose,
        };
        Decoder { state, overhead: 0 }
    }

    pub(super) fn next(&self) -> Next {
        match self.state {
            State::Sized(n) | State::Chunk(n) => Next::Data(n),
            State::UntilClose => Next::Data(u64::MAX),
            State::End => Next::End,
            _ => Next::Framing,
        }
    }

    /// Bytes that are to come, where that is known.
    pub(super) fn known_rest(&self) -> Option<u64> {
        match self.state {
            State::Sized(n) => Some(n),
            State::End => Some(0),
            _ => None,
        }
    }

    /// Notes that `n` bytes of the body were taken, no more than [`next`](Self::next) said.
    pub(super) fn took(&mut self, n: u64) {
        self.overhead = self.overhead.saturating_sub(u32::try_from(n).unwrap_or(u32::MAX));
        self.state = match self.state {
            State::Sized(left) if left <= n => State::End,
            State::Sized(left) => State::Sized(left - n),
            State::Chunk(left) if left <= n => State::ChunkCr,
            State::Chunk(left) => State::Chunk(left - n),
            state => state,
        };
    }

    /// Whether the body is whole if the stream ends here.
    pub(super) fn may_end(&self) -> bool {
        matches!(self.state, State::UntilClose | State::End)
    }

    /// Reads framing and returns how many of the bytes it is: all, or those before a byte of the body or the end.
    pub(super) fn frame(&mut self, bytes: &[u8]) -> Result<usize, ParseError> {
        for (n, &b) in bytes.iter().enumerate() {
            if self.next() != Next::Framing {
                return Ok(n);
            }
            self.state = self.step(b)?;
        }
        Ok(bytes.len())
    }

    fn step(&mut self, b: u8) -> Result<State, ParseError> {
        match (self.state, b) {
            (State::Size(size, digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                if digits == MAX_SIZE_DIGITS {
                    return Err(ParseError::ChunkSize);
                }
                let digit = char::from(b).to_digit(16).unwrap_or(0);
                Ok(State::Size(size << 4 | u64::from(digit), digits + 1))
            }
            (State::Size(_, 0), _) => Err(ParseError::ChunkSize),
            (State::Size(size, _), _) if i64::try_from(size).is_err() => Err(ParseError::ChunkSize),
            (State::Size(size, _) | State::Extension(size), b'\r') => Ok(State::SizeLf(size)),
            (State::Size(..) | State::Space(_) | State::Extension(_), b'\n') => Err(ParseError::BareLf),
            (State::Size(size, _) | State::Space(size), b' ' | b'\t') => self.overhead(State::Space(size)),
            (State::Size(size, _) | State::Space(size), b';') => self.overhead(State::Extension(size)),
            (State::Size(..), _) => Err(ParseError::ChunkSize),
            (State::Extension(size), b) if is_value_byte(b) => self.overhead(State::Extension(size)),
            (State::Space(_) | State::Extension(_), _) => Err(ParseError::ChunkExtension),
            (State::SizeLf(0), b'\n') => {
                self.overhead = 0;
                Ok(State::Trailer)
            }
            (State::SizeLf(size), b'\n') => Ok(State::Chunk(size)),
            (State::ChunkCr, b'\r') => Ok(State::ChunkLf),
            (State::ChunkLf, b'\n') => Ok(State::Size(0, 0)),
            (State::ChunkCr | State::ChunkLf, _) => Err(ParseError::ChunkEnd),
            (State::Trailer, b'\r') => Ok(State::LastLf),
            (State::Trailer | State::TrailerName, b) if is_token_byte(b) => self.trailer(State::TrailerName),
            (State::TrailerName, b':') => self.trailer(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, b) if is_value_byte(b) => self.trailer(State::TrailerValue),
            (State::TrailerLf, b'\n') => self.trailer(State::Trailer),
            (State::LastLf, b'\n') => Ok(State::End),
            (State::SizeLf(_) | State::TrailerLf | State::LastLf, _) => Err(ParseError::BareCr),
            (State::Trailer | State::TrailerName | State::TrailerValue, b'\n') => Err(ParseError::BareLf),
            (State::Trailer | State::TrailerName | State::TrailerValue, _) => Err(ParseError::Trailer),
            (state @ (State::Sized(_) | State::UntilClose | State::Chunk(_) | State::End), _) => Ok(state),
        }
    }

    fn overhead(&mut self, state: State) -> Result<State, ParseError> {
        self.overhead += 1;
        if self.overhead > MAX_EXTENSION_BYTES { Err(ParseError::ChunkExtension) } else { Ok(state) }
    }

    fn trailer(&mut self, state: State) -> Result<State, ParseError> {
        self.overhead += 1;
        if self.overhead > MAX_TRAILER_BYTES { Err(ParseError::Trailer) } else { Ok(state) }
    }
}

/// The line before a chunk of `n` bytes, in `line`; its length.
pub(super) fn chunk_line(n: usize, line: &mut [u8; 18]) -> usize {
    let digits = (usize::BITS - n.leading_zeros()).div_ceil(4).max(1) as usize;
    for (i, slot) in line.iter_mut().take(digits).enumerate() {
        let digit = (n >> (4 * (digits - 1 - i))) & 0xf;
        *slot = b"0123456789abcdef"[digit];
    }
    line[digits] = b'\r';
    line[digits + 1] = b'\n';
    digits + 2
}

/// What follows a chunk.
pub(super) const CHUNK_END: &[u8] = b"\r\n";
/// What follows the last chunk.
pub(super) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What a stream that comes in pieces is: the body, and how long the message was, if it is whole.
    fn decode<'a>(
        framing: Framing,
        pieces: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<(Vec<u8>, Option<usize>), ParseError> {
        let mut decoder = Decoder::new(framing);
        let (mut body, mut used) = (Vec::new(), 0);
        for mut piece in pieces {
            loop {
                match decoder.next() {
                    Next::End => return Ok((body, Some(used))),
                    _ if piece.is_empty() => break,
                    Next::Data(most) => {
                        let n = piece.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                        body.extend_from_slice(&piece[..n]);
                        decoder.took(n as u64);
                        (piece, used) = (&piece[n..], used + n);
                    }
                    Next::Framing => {
                        let n = decoder.frame(piece)?;
                        (piece, used) = (&piece[n..], used + n);
                    }
                }
            }
        }
        Ok((body, (decoder.next() == Next::End).then_some(used)))
    }

    /// The same at every split, and byte by byte.
    fn everywhere(framing: Framing, bytes: &[u8]) -> Result<(Vec<u8>, Option<usize>), ParseError> {
        let whole = decode(framing, [bytes]);
        for cut in 0..=bytes.len() {
            let (one, other) = bytes.split_at(cut);
            assert_eq!(decode(framing, [one, other]), whole, "{} at {cut}", bytes.escape_ascii());
        }
        assert_eq!(decode(framing, bytes.chunks(1)), whole, "{}", bytes.escape_ascii());
        whole
    }

    #[test]
    fn bodies_of_each_kind() {
        for (framing, bytes, body, used) in [
            (Framing::None, &b"next"[..], &b""[..], Some(0)),
            (Framing::Length(0), b"next", b"", Some(0)),
            (Framing::Length(4), b"bodynext", b"body", Some(4)),
            (Framing::Length(5), b"body", b"body", None),
            (Framing::Close, b"all of it", b"all of it", None),
            (Framing::Chunked, b"0\r\n\r\nnext", b"", Some(5)),
            (Framing::Chunked, b"4\r\nbody\r\n0\r\n\r\nnext", b"body", Some(14)),
            (Framing::Chunked, b"2\r\nbo\r\n002\r\ndy\r\n000\r\n\r\n", b"body", Some(23)),
            (Framing::Chunked, b"A\r\n0123456789\r\n0\r\n\r\n", b"0123456789", Some(20)),
            (Framing::Chunked, b"1;a=b;c=\"d e\"\r\nx\r\n0 ;q\r\n\r\n", b"x", Some(26)),
            (Framing::Chunked, b"0\r\nTrailer: x y\r\nOther:\r\n\r\nnext", b"", Some(27)),
            (Framing::Chunked, b"4\r\nbod", b"bod", None),
        ] {
            assert_eq!(everywhere(framing, bytes), Ok((body.to_vec(), used)), "{}", bytes.escape_ascii());
        }
        assert!(Decoder::new(Framing::Close).may_end() && !Decoder::new(Framing::Chunked).may_end());
        assert_eq!(Decoder::new(Framing::Length(7)).known_rest(), Some(7));
        assert_eq!(Decoder::new(Framing::Chunked).known_rest(), None);
    }

    #[test]
    fn malformed_chunks() {
        use ParseError::*;
        for (bytes, error) in [
            (&b"\r\n"[..], ChunkSize),
            (b"x\r\n", ChunkSize),
            (b"-1\r\n", ChunkSize),
            (b"+1\r\n", ChunkSize),
            (b"0x1\r\n", ChunkSize),
            (b" 1\r\n", ChunkSize),
            (b";a\r\n", ChunkSize),
            (b"8000000000000000\r\n", ChunkSize),
            (b"ffffffffffffffff\r\n", ChunkSize),
            (b"00000000000000001\r\n", ChunkSize),
            (b"10000000000000000\r\n", ChunkSize),
            (b"1\nx\r\n", BareLf),
            (b"1;a\nx\r\n", BareLf),
            (b"1 \nx\r\n", BareLf),
            (b"1\rx", BareCr),
            (b"1;a\rx", BareCr),
            (b"1 \r\nx\r\n", ChunkExtension),
            (b"1 a\r\nx\r\n", ChunkExtension),
            (b"1;a\0\r\n", ChunkExtension),
            (b"1\r\nxy\r\n", ChunkEnd),
            (b"1\r\nx\n0\r\n\r\n", ChunkEnd),
            (b"1\r\nx\r0\r\n\r\n", ChunkEnd),
            (b"0\r\n\n", BareLf),
            (b"0\r\n\rx", BareCr),
            (b"0\r\na: b\n\r\n", BareLf),
            (b"0\r\na: b\rc\r\n", BareCr),
            (b"0\r\na : b\r\n\r\n", Trailer),
            (b"0\r\n: b\r\n\r\n", Trailer),
            (b"0\r\nab\r\n\r\n", Trailer),
            (b"0\r\na: b\r\n c\r\n\r\n", Trailer),
            (b"0\r\na: \0\r\n\r\n", Trailer),
            (b"0\r\nGET / HTTP/1.1\r\n\r\n", Trailer),
        ] {
            assert_eq!(everywhere(Framing::Chunked, bytes), Err(error), "{}", bytes.escape_ascii());
            assert_eq!(error.status().code(), 400);
        }
    }

    #[test]
    fn overhead_is_bounded() {
        let long = [b"1;".to_vec(), vec![b'a'; 20_000]].concat();
        assert_eq!(decode(Framing::Chunked, [&long[..]]), Err(ParseError::ChunkExtension));
        let many = b"1;aaaaaaaaaaaaaaa\r\nx\r\n".repeat(2000);
        assert_eq!(decode(Framing::Chunked, [&many[..]]), Err(ParseError::ChunkExtension));
        let trailers = [b"0\r\n".to_vec(), b"a: bbbbbbbbbbbb\r\n".repeat(2000)].concat();
        assert_eq!(decode(Framing::Chunked, [&trailers[..]]), Err(ParseError::Trailer));
    }

    #[test]
    fn chunk_lines() {
        for n in [0, 1, 9, 10, 15, 16, 255, 256, 4096, 65_535, usize::MAX] {
            let mut line = [0; 18];
            let len = chunk_line(n, &mut line);
            assert_eq!(line[..len], *format!("{n:x}\r\n").as_bytes());
        }
    }

    proptest! {
        /// What is cut into chunks, and those into pieces anyhow, comes out whole.
        #[test]
        fn chunks_are_put_together(
            chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..300), 0..8),
            piece in 1usize..50,
            rest in proptest::collection::vec(any::<u8>(), 0..20),
        ) {
            let mut bytes = Vec::new();
            for chunk in &chunks {
                let mut line = [0; 18];
                let len = chunk_line(chunk.len(), &mut line);
                bytes.extend_from_slice(&line[..len]);
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(CHUNK_END);
            }
            bytes.extend_from_slice(LAST_CHUNK);
            let used = bytes.len();
            bytes.extend_from_slice(&rest);
            prop_assert_eq!(decode(Framing::Chunked, bytes.chunks(piece)), Ok((chunks.concat(), Some(used))));
        }

        /// Anything at all gives the same in one piece and in many.
        #[test]
        fn pieces_make_no_difference(
            bytes in proptest::collection::vec(proptest::sample::select(&b"01a;\r\n x:"[..]), 0..60),
            piece in 1usize..10,
        ) {
            prop_assert_eq!(decode(Framing::Chunked, bytes.chunks(piece)), decode(Framing::Chunked, [&bytes[..]]));
        }
    }
}
