//! Failures that neither a result nor a callback of an object has told.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::address::Address;
use crate::base::EventBase;

/// A failure that would go unheard: the object that it concerns has no callback for it. See
/// [`EventBase::on_diagnostic`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Diagnostic {
    /// A listener without [`on_error`](crate::Listener::on_error) cannot accept. The connection waits in the kernel's
    /// queue. Once for each pause.
    #[error("cannot accept a connection on {address}, trying again in {pause:?}: {source}")]
    Accept {
        /// Where it listens.
        address: Address,
        /// How long it pauses.
        pause: Duration,
        /// What the system said.
        source: io::Error,
    },
    /// A bufferevent without [`on_event`](crate::Bufferevent::on_event) failed or timed out. That direction is off now.
    #[error("a stream {} has no event callback and failed: {reason}", To(.peer.as_ref()))]
    Stream {
        /// Who it was connected to, if the system still knows.
        peer: Option<Address>,
        /// What happened.
        reason: String,
    },
    /// A bufferevent that was to go by [`free_when_sent`](crate::Bufferevent::free_when_sent) went before: the rest of
    /// its output is lost.
    #[error("{bytes} bytes were not sent to a stream {}: {reason}", To(.peer.as_ref()))]
    Unsent {
        /// Who it was connected to, if the system knew.
        peer: Option<Address>,
        /// What was left in the output.
        bytes: usize,
        /// Why.
        reason: String,
    },
    /// The system refuses the descriptor for exact short waits: time-outs that are less than 20 ms away are up to a
    /// millisecond late until it gives one. Once for each base.
    #[error("timers are up to 1 ms late, since the system gives no timer descriptor: {source}")]
    CoarseTimers {
        /// What the system said.
        source: io::Error,
    },
}

/// A peer as part of a sentence.
struct To<'a>(Option<&'a Address>);

impl fmt::Display for To<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            None => f.write_str("whose peer is not known"),
            Some(Address::Unnamed) => f.write_str("to a peer without a name"),
            Some(peer) => write!(f, "to {peer}"),
        }
    }
}

pub(crate) type OnDiagnostic = dyn FnMut(&EventBase, &Diagnostic);

impl EventBase {
    /// Sets what is told of failures that reach no other callback and no result: a listener that cannot accept and has
    /// no error callback, a bufferevent that fails and has no event callback, and the like; [`Diagnostic`] has them all.
    /// Each says what failed, of which object and why, ready to be logged.
    ///
    /// Without it they are silent: a library does not write to the standard error of a program that did not ask for it, as
    /// libevent's default does. There it is also one function for the whole process, here one for each base.
    ///
    /// The loop runs it, never a call of yours; it may do anything but run the base. While the base is dropped it is not
    /// called any more.
    ///
    /// ```
    /// use reactor::EventBase;
    ///
    /// let base = EventBase::new()?;
    /// base.on_diagnostic(|_base, diagnostic| eprintln!("{diagnostic}"));
    /// # Ok::<(), reactor::Error>(())
    /// ```
    #[doc(alias = "event_set_log_callback")]
    pub fn on_diagnostic(&self, callback: impl FnMut(&EventBase, &Diagnostic) + 'static) {
        if self.check().is_ok() {
            self.diagnostics().set(Some(Box::new(callback)));
        }
    }

    /// Drops what is told of failures: they are silent again.
    pub fn clear_on_diagnostic(&self) {
        self.diagnostics().set(None);
    }

    /// Whether somebody hears of diagnostics.
    pub(crate) fn has_diagnostics(&self) -> bool {
        self.check().is_ok() && self.diagnostics().is_set()
    }

    /// Tells what nobody else is told, where the loop calls back. Runs user code.
    pub(crate) fn diagnose(&self, diagnostic: &Diagnostic) {
        if self.check().is_ok() {
            // Never from within itself, since the loop does not run there.
            let _ = self.diagnostics().call(|callback| callback(self, diagnostic));
        }
    }

    /// The same from anywhere: the loop will tell.
    pub(crate) fn diagnose_later(&self, diagnostic: Diagnostic) {
        if self.has_diagnostics() {
            // Refused only by a base that is gone.
            let _ = self.defer(move |base| base.diagnose(&diagnostic));
        }
    }
}
