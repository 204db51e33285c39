//! A chain of segments.
use std::rc::Rc;
/// A queue of bytes.
#[derive(Clone)]
pub struct Evbuffer;
impl Evbuffer {
    pub(crate) fn set_deferral(&self, _: Option<Rc<dyn Fn(&Evbuffer)>>) {}
    pub(crate) fn deliver_deferred(&self) {}
}
