//! Parts of an object, sent one after the other as the client takes them.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

use reactor::Evbuffer;
use reactor::http::BodyStream;

use crate::storage::{Object, PIECE, Reader, StoreError};

/// What comes next in a body.
#[derive(Debug)]
pub(crate) enum Part {
    Bytes(Vec<u8>),
    /// A range of the object's content.
    Content(Range<u64>),
}

/// Sends parts into a body, and holds at most two pieces that the client has not taken.
pub(crate) struct Pump {
    stream: BodyStream,
    object: Object,
    parts: RefCell<VecDeque<Part>>,
    reader: RefCell<Option<Reader>>,
    /// The store is at work on the next piece.
    is_reading: Cell<bool>,
    failed: Box<dyn Fn(StoreError)>,
}

impl Pump {
    /// Begins. A part that cannot be read ends the connection, so that the client sees that the body is cut short;
    /// `failed` is told why.
    pub(crate) fn start(
        stream: BodyStream,
        object: Object,
        parts: VecDeque<Part>,
        failed: impl Fn(StoreError) + 'static,
    ) {
        // A circle that ends with the body, or with the connection: it drops the closure then.
        let pump = Rc::new(Pump {
            stream: stream.clone(),
            object,
            parts: RefCell::new(parts),
            reader: RefCell::default(),
            is_reading: Cell::new(false),
            failed: Box::new(failed),
        });
        stream.on_drained(move |_| pump.advance());
    }

    /// Sends what is there, and asks for the next piece.
    fn advance(self: &Rc<Pump>) {
        while !self.is_reading.get() && self.stream.pending() <= PIECE {
            if !self.stream.is_open() {
                return;
            }
            if let Some(reader) = self.reader.take() {
                return self.read(reader);
            }
            let part = self.parts.borrow_mut().pop_front();
            match part {
                None => return self.stream.finish(),
                Some(Part::Bytes(bytes)) => {
                    if self.stream.write(&bytes).is_err() {
                        return;
                    }
                }
                Some(Part::Content(range)) if range.is_empty() => (),
                Some(Part::Content(range)) => match self.object.read(range) {
                    Ok(reader) => {
                        self.reader.replace(Some(reader));
                    }
                    Err(error) => return self.fail(error),
                },
            }
        }
    }

    fn read(self: &Rc<Pump>, reader: Reader) {
        self.is_reading.set(true);
        let piece = Evbuffer::new();
        let (me, into) = (Rc::clone(self), piece.clone());
        reader.next(&into, move |result| {
            me.is_reading.set(false);
            match result {
                Err(error) => me.fail(error),
                Ok((reader, _)) => {
                    if !reader.range().is_empty() {
                        me.reader.replace(Some(reader));
                    }
                    if me.stream.write_buffer(&piece).is_ok() {
                        me.advance();
                    }
                }
            }
        });
    }

    fn fail(&self, error: StoreError) {
        (self.failed)(error);
        self.stream.abort();
    }
}
