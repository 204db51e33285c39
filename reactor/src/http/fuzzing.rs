//! What fuzz targets call: the pure decoders, with everything that has to hold.
// A broken promise is to end the run.
#![allow(clippy::panic)]

use super::body::{Decoder, Next};
use super::parse::{Framing, Head, HeadLimits, ParseError, ResponseHead, Scan};

const LIMITS: HeadLimits = HeadLimits { target: 256, head: 768 };

/// A request's head and its body from any bytes, cut anywhere: the outcome is one.
pub fn request(bytes: &[u8], cut: usize) {
    let whole = request_in(&[bytes]);
    let (one, other) = bytes.split_at(cut.min(bytes.len()));
    assert_eq!(request_in(&[one, other]), whole);
    if let Ok(Some((_, end))) = &whole {
        let head = &bytes[..*end];
        assert!(!head.contains(&0) && head.ends_with(b"\r\n\r\n"));
    }
}

/// A response's head from any bytes.
pub fn response(bytes: &[u8], to_head: bool) {
    let mut scan = Scan::default();
    if let Ok(Some(range)) = scan.advance(bytes, &LIMITS) {
        let mut head = ResponseHead::default();
        if head.parse(&bytes[range], to_head).is_ok() {
            assert!((100..600).contains(&head.status));
            assert!(!to_head || head.framing == Framing::None);
        }
    }
}

/// A chunked body from any bytes, cut anywhere.
pub fn chunked(bytes: &[u8], piece: usize) {
    let whole = body_in(Framing::Chunked, std::iter::once(bytes));
    assert_eq!(body_in(Framing::Chunked, bytes.chunks(piece.max(1))), whole);
}

/// The framing of the head and where it ends.
fn request_in(pieces: &[&[u8]]) -> Result<Option<(Framing, usize)>, ParseError> {
    let (mut scan, mut have) = (Scan::default(), Vec::new());
    for piece in pieces {
        have.extend_from_slice(piece);
        if let Some(range) = scan.advance(&have, &LIMITS)? {
            let mut head = Head::default();
            head.parse(&have[range.clone()])?;
            assert!(head.path().starts_with('/') || head.path() == "*" || head.method() == "CONNECT");
            return Ok(Some((head.framing, range.end)));
        }
    }
    Ok(None)
}

/// The body's length, and the message's if it is whole.
fn body_in<'a>(
    framing: Framing,
    pieces: impl Iterator<Item = &'a [u8]>,
) -> Result<(usize, Option<usize>), ParseError> {
    let mut decoder = Decoder::new(framing);
    let (mut body, mut used) = (0, 0);
    for mut piece in pieces {
        while !piece.is_empty() {
            let n = match decoder.next() {
                Next::End => return Ok((body, Some(used))),
                Next::Framing => decoder.frame(piece)?,
                Next::Data(most) => {
                    let n = piece.len().min(usize::try_from(most).unwrap_or(usize::MAX));
                    decoder.took(n as u64);
                    body += n;
                    n
                }
            };
            assert!(n > 0 || decoder.next() != Next::Framing, "it stands still");
            piece = &piece[n..];
            used += n;
        }
    }
    Ok((body, (decoder.next() == Next::End).then_some(used)))
}
