//! A listener, and the name of its socket.

use std::fs;

use reactor::{Address, EventBase, ListenOptions, Listener, Result};

/// Takes the address; nothing is accepted before the listener is enabled. The name of a Unix socket on which nobody listens
/// is replaced.
pub(crate) fn listen(base: &EventBase, address: &Address) -> Result<Listener> {
    let options = ListenOptions { disabled: true, replace_left_over: true, ..ListenOptions::default() };
    Listener::bind_with(base, address, &options, |_, _, _| ())
}

/// Ends a listener and takes its name away.
pub(crate) fn free(listener: &Listener) {
    // In this order: a name without a listener is anybody's.
    if let Ok(Address::Path(path)) = listener.local_address() {
        let _ = fs::remove_file(path);
    }
    listener.free();
}
