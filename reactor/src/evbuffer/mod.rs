//! A chain of segments.
/// A queue of bytes.
pub struct Evbuffer;
