//! How lines begin, kept from line to line: up to their microseconds, most begin as one of the last ones did.

use crate::clock::Micros;
use crate::format::{Layout, Stamper, Thread, put_micros};
use crate::header::Header;
use crate::level::Level;
use crate::place::Place;

/// The starts of recent lines, each at the place that its origin hashes to.
pub(crate) struct Starts {
    kept: Vec<Start>,
}

#[derive(Clone)]
struct Start {
    header: Header,
    second: u64,
    text: Vec<u8>,
    /// Where the digits of the microseconds are in it.
    micros: usize,
}

/// A power of two.
const KEPT: usize = 64;

impl Starts {
    pub(crate) fn new() -> Starts {
        let none = Start {
            header: Header::of_whole(Level::Trace, false),
            second: u64::MAX,
            text: Vec::new(),
            micros: 0,
        };
        Starts { kept: vec![none; KEPT] }
    }

    /// The start of a line with this header and time: everything before the text that the caller rendered.
    #[inline]
    pub(crate) fn of(&mut self, header: Header, at: Micros, layout: Layout, stamper: &mut Stamper) -> &[u8] {
        let (second, micros) = (at / 1_000_000, (at % 1_000_000) as u32);
        // Neighbouring places and threads fall apart.
        let hash = header.place.wrapping_add(header.thread.wrapping_mul(11)) as usize % KEPT;
        let start = &mut self.kept[hash];
        if start.second != second || start.header != header {
            start.render(header, second, layout, stamper);
        }
        if let Some(digits) = start.text.get_mut(start.micros..).and_then(|text| text.first_chunk_mut()) {
            put_micros(digits, micros);
        }
        &start.text
    }
}

impl Start {
    #[cold]
    fn render(&mut self, header: Header, second: u64, layout: Layout, stamper: &mut Stamper) {
        (self.header, self.second) = (header, second);
        self.text.clear();
        self.text.extend_from_slice(layout.lead());
        self.micros = stamper.write(&mut self.text, second);
        if let Some(place) = Place::numbered(header.place) {
            layout.write_start(&mut self.text, &place.site(header.level), Thread::Numbered(header.thread));
        }
    }
}
