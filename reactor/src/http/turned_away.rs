//! A connection that was one too many.

use std::cell::Cell;
use std::rc::Rc;

use super::exchange::Entry;
use super::reply::{Frame, Length};
use super::server::Server;
use super::status::Status;
use crate::address::Address;
use crate::bufferevent::{Bufferevent, FarewellWatcher};

/// An answer without a body, the last of its connection.
pub(super) fn refusal(server: &Server, status: Status) -> Vec<u8> {
    let mut out = Vec::new();
    let frame = Frame {
        status,
        length: Some(Length::Known(0)),
        closes: true,
        stays: false,
        date: Some(server.date()),
    };
    frame.encode(b"", &mut out);
    out
}

/// It is answered, and nothing else.
pub(super) struct TurnedAway {
    server: Rc<Server>,
    peer: Address,
    /// Until it is told.
    entry: Cell<Option<Entry>>,
}

impl TurnedAway {
    pub(super) fn start(server: &Rc<Server>, bev: &Bufferevent, peer: Address) {
        let status = Status::from(503);
        if !server.turns_away() {
            // So many go without an answer that another one would only cost what the limit saves.
            return bev.free();
        }
        // A connection that is gone needs no answer.
        let _ = bev.write(&refusal(server, status));
        server.refused_later(&peer, status);
        let entry = Cell::new(Some(Entry::refused(status, server.base().clock().fresh())));
        bev.free_when_sent_watched(Rc::new(TurnedAway { server: server.clone(), peer, entry }));
    }
}

impl FarewellWatcher for TurnedAway {
    fn sent(&self) {
        if let Some(mut entry) = self.entry.take() {
            entry.finish(0);
            self.server.tell(&entry, &self.peer, b"", 0);
        }
    }

    fn gone(&self, _unsent: usize) {
        if let Some(entry) = self.entry.take() {
            let (server, peer) = (self.server.clone(), self.peer.clone());
            // Refused only by a base that is gone.
            let _ = self.server.base().defer(move |_| server.tell(&entry, &peer, b"", 0));
        }
        self.server.turned_away();
    }
}
