//! Finding bytes, patterns and line ends across segments.

use std::ops::Range;

use memchr::{memchr, memchr2, memmem};

use super::chain::Chain;
use crate::error::Result;

/// What ends a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[doc(alias = "evbuffer_eol_style")]
pub enum Eol {
    /// Any run of CR and LF, in any order, taken as one end.
    #[doc(alias = "EVBUFFER_EOL_ANY")]
    Any,
    /// LF, with a CR before it or without.
    #[doc(alias = "EVBUFFER_EOL_CRLF")]
    Crlf,
    /// CR and LF, in this order.
    #[doc(alias = "EVBUFFER_EOL_CRLF_STRICT")]
    CrlfStrict,
    /// LF; a CR before it belongs to the line.
    #[doc(alias = "EVBUFFER_EOL_LF")]
    Lf,
    /// A zero byte.
    #[doc(alias = "EVBUFFER_EOL_NUL")]
    Nul,
}

/// Where a line ends: the offset of its end mark and the mark's length, both in bytes.
pub(super) fn eol(chain: &Chain, range: Range<usize>, eol: Eol) -> Result<Option<(usize, usize)>> {
    match eol {
        Eol::Any => any_eol(chain, range),
        Eol::Crlf => crlf_eol(chain, range),
        Eol::CrlfStrict => Ok(pattern(chain, range, b"\r\n")?.map(|at| (at, 2))),
        Eol::Lf => Ok(byte(chain, range, b'\n')?.map(|at| (at, 1))),
        Eol::Nul => Ok(byte(chain, range, 0)?.map(|at| (at, 1))),
    }
}

fn byte(chain: &Chain, range: Range<usize>, wanted: u8) -> Result<Option<usize>> {
    chain.scan(range, |base, piece| memchr(wanted, piece).map(|i| base + i))
}

fn crlf_eol(chain: &Chain, range: Range<usize>) -> Result<Option<(usize, usize)>> {
    let mut before = None;
    chain.scan(range, |base, piece| {
        let Some(i) = memchr(b'\n', piece) else {
            before = piece.last().copied();
            return None;
        };
        if i > 0 {
            before = Some(piece[i - 1]);
        }
        Some(if before == Some(b'\r') { (base + i - 1, 2) } else { (base + i, 1) })
    })
}

fn any_eol(chain: &Chain, range: Range<usize>) -> Result<Option<(usize, usize)>> {
    let mut found: Option<(usize, usize)> = None;
    let ended = chain.scan(range, |base, piece| {
        let (at, before, rest) = match found {
            Some((at, len)) => (at, len, piece),
            None => {
                let i = memchr2(b'\r', b'\n', piece)?;
                (base + i, 0, &piece[i..])
            }
        };
        let run = rest.iter().take_while(|&&b| b == b'\r' || b == b'\n').count();
        found = Some((at, before + run));
        // The run may go on in the next piece.
        if run < rest.len() { found } else { None }
    })?;
    Ok(ended.or(found))
}

/// Where `wanted` begins for the first time, wholly inside `range`.
#[inline]
pub(super) fn pattern(chain: &Chain, range: Range<usize>, wanted: &[u8]) -> Result<Option<usize>> {
    match wanted {
        [] => Ok(Some(range.start)),
        &[one] => byte(chain, range, one),
        _ if wanted.len() > range.len() => Ok(None),
        _ => match chain.in_first(&range) {
            Some(piece) => Ok(find_in(piece, wanted).map(|i| range.start + i)),
            None => long_pattern(chain, range, wanted),
        },
    }
}

/// So many chances has the quick way, which goes from one occurrence of the first byte to the next.
const QUICK_TRIES: usize = 3;
/// Up to so many bytes are searched without vectors: where that is faster was measured.
const QUICK_LENGTH: usize = 128;

/// Finds a pattern of two bytes or more. Preparing a search that never looks at a byte twice takes longer than
/// searching a short text, or one in which the first byte is rare.
#[inline]
fn find_in(piece: &[u8], wanted: &[u8]) -> Option<usize> {
    let (&first, others) = wanted.split_first()?;
    let starts = piece.len().checked_sub(others.len())?;
    let mut at = 0;
    for _ in 0..QUICK_TRIES {
        at += quick_memchr(first, piece.get(at..starts)?)?;
        if begins_with(&piece[at + 1..], others) {
            return Some(at);
        }
        at += 1;
    }
    memmem::find(&piece[at..], wanted).map(|i| at + i)
}

/// Whether `piece`, which is not shorter, begins with `wanted`. Most differ in the first byte or two, and a call to
/// compare so few takes longer than the comparison.
#[inline]
fn begins_with(piece: &[u8], wanted: &[u8]) -> bool {
    match wanted {
        &[a] => piece[0] == a,
        &[a, b] => piece[0] == a && piece[1] == b,
        &[a, b, c, ref rest @ ..] => {
            piece[0] == a
                && piece[1] == b
                && piece[2] == c
                && (rest.is_empty() || piece[3..].starts_with(rest))
        }
        [] => true,
    }
}

/// `memchr` without its preparations where there is little to search.
#[inline]
fn quick_memchr(wanted: u8, piece: &[u8]) -> Option<usize> {
    if piece.len() > QUICK_LENGTH {
        return memchr(wanted, piece);
    }
    let Some(last) = piece.last_chunk::<16>() else {
        return piece.iter().position(|&b| b == wanted);
    };
    for (i, chunk) in piece.as_chunks::<16>().0.iter().enumerate() {
        if let Some(at) = find_in_chunk(wanted, chunk) {
            return Some(i * 16 + at);
        }
    }
    // It overlaps what was searched in vain, so its first match is the first of all.
    find_in_chunk(wanted, last).map(|at| piece.len() - 16 + at)
}

#[inline]
fn find_in_chunk(wanted: u8, chunk: &[u8; 16]) -> Option<usize> {
    const ONES: u128 = u128::from_ne_bytes([1; 16]);
    // Written so that the compiler makes one vector comparison of it.
    if !chunk.iter().fold(false, |found, &b| found | (b == wanted)) {
        return None;
    }
    let differing = u128::from_le_bytes(*chunk) ^ u128::from_le_bytes([wanted; 16]);
    // The lowest bit that is left marks the first zero byte.
    let zeros = differing.wrapping_sub(ONES) & !differing & (ONES << 7);
    Some(zeros.trailing_zeros() as usize / 8)
}

/// Patterns of up to so many bytes are searched across segments without allocating.
const SHORT_PATTERN: usize = 64;

fn long_pattern(chain: &Chain, range: Range<usize>, wanted: &[u8]) -> Result<Option<usize>> {
    let keep = wanted.len() - 1;
    let end = range.end;
    // The last bytes seen, too few to hold a match: one that begins in them ends in the next piece.
    let (mut short, mut long);
    let seam: &mut [u8] = if keep < SHORT_PATTERN {
        short = [0; 2 * SHORT_PATTERN];
        &mut short
    } else {
        long = vec![0; 2 * keep];
        &mut long
    };
    let mut held = 0;
    chain.scan(range, |base, piece| {
        if held > 0 {
            let n = keep.min(piece.len());
            seam[held..held + n].copy_from_slice(&piece[..n]);
            if let Some(i) = find_in(&seam[..held + n], wanted) {
                return Some(base - held + i);
            }
        }
        if let Some(i) = find_in(piece, wanted) {
            return Some(base + i);
        }
        if base + piece.len() == end {
            return None;
        }
        if piece.len() >= keep {
            seam[..keep].copy_from_slice(&piece[piece.len() - keep..]);
            held = keep;
        } else {
            seam[held..held + piece.len()].copy_from_slice(piece);
            let seen = held + piece.len();
            held = seen.min(keep);
            seam.copy_within(seen - held..seen, 0);
        }
        None
    })
}
