//! What a service manager is told: systemd, or another that sets `NOTIFY_SOCKET`. Elsewhere nobody listens.

use sd_notify::NotifyState;

/// The program serves from now on.
pub(crate) fn ready() {
    tell(NotifyState::Ready);
}

/// The program has begun to end.
pub(crate) fn stopping() {
    tell(NotifyState::Stopping);
}

fn tell(state: NotifyState<'_>) {
    // A manager that does not listen is no reason to do anything else.
    let _ = sd_notify::notify(&[state]);
}
