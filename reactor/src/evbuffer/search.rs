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
pub(super) fn pattern(chain: &Chain, range: Range<usize>, wanted: &[u8]) -> Result<Option<usize>> {
    match wanted {
        [] => Ok(Some(range.start)),
        &[one] => byte(chain, range, one),
        _ if wanted.len() > range.len() => Ok(None),
        _ => long_pattern(chain, range, wanted),
    }
}

fn long_pattern(chain: &Chain, range: Range<usize>, wanted: &[u8]) -> Result<Option<usize>> {
    let keep = wanted.len() - 1;
    let end = range.end;
    // The last bytes seen, too few to hold a match: one that begins in them ends in the next piece.
    let mut seam: Vec<u8> = Vec::new();
    chain.scan(range, |base, piece| {
        if !seam.is_empty() {
            let before = seam.len();
            seam.extend_from_slice(&piece[..keep.min(piece.len())]);
            if let Some(i) = memmem::find(&seam, wanted) {
                return Some(base - before + i);
            }
        }
        if let Some(i) = memmem::find(piece, wanted) {
            return Some(base + i);
        }
        if base + piece.len() < end {
            if piece.len() >= keep {
                seam.clear();
                seam.extend_from_slice(&piece[piece.len() - keep..]);
            } else {
                if seam.is_empty() {
                    seam.extend_from_slice(piece);
                }
                seam.drain(..seam.len().saturating_sub(keep));
            }
        }
        None
    })
}
