//! A closure that the loop runs once.

use std::rc::Rc;

use crate::active::{Callback, Node, When};
use crate::base::EventBase;
use crate::clock::Nanos;
use crate::flags::EventFlags;
use crate::slot::{Called, Slot};

/// Alive as long as a queue or a timer holds it.
pub(crate) struct Once {
    node: Node,
    base: EventBase,
    task: Slot<dyn FnMut(&EventBase)>,
}

impl Once {
    pub(crate) fn new(base: &EventBase, task: impl FnOnce(&EventBase) + 'static) -> Rc<Self> {
        let mut task = Some(task);
        let run = move |base: &EventBase| {
            if let Some(task) = task.take() {
                task(base);
            }
        };
        Rc::new(Once {
            node: Node::new(base.middle_priority()),
            base: base.handle(),
            task: Slot::new(Box::new(run)),
        })
    }
}

impl Callback for Once {
    fn node(&self) -> &Node {
        &self.node
    }

    fn run(self: Rc<Self>, _: EventFlags) -> bool {
        self.task.call(|task| task(&self.base)) == Called::Ran
    }

    fn expired(self: Rc<Self>, tag: EventFlags, _due: Nanos) {
        let base = self.base.handle();
        base.activate(self, tag, When::Now);
    }
}
