//! One client: create a base, create a bufferevent, connect, dispatch. It keeps the connection up, sends one stream over it,
//! and lets go of a record when the collector has acknowledged it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use reactor::{
    Address, BevEvent, BevOptions, Bufferevent, Direction, Event, EventBase, EventFlags, EventTicket,
    Notifier,
};

use super::backoff::Backoff;
use super::relp::{self, RelpError, Response};
use super::report::Report;
use super::shared::Shared;
use super::spool::Reader;
use super::window::{Answer, Window};
use super::{Wire, framing};

/// How long it waits before it connects again.
const FIRST: Duration = Duration::from_millis(100);
const LONGEST: Duration = Duration::from_secs(30);

/// What all clients of a pool have in common.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) collector: Address,
    pub(super) wire: Wire,
    /// The most records that are sent and not acknowledged.
    pub(super) window: usize,
    /// How long the collector may take to answer.
    pub(super) patience: Duration,
}

/// Reaches a client from other threads.
pub(super) struct Line {
    notifier: Notifier,
    wake: EventTicket,
    signals: Arc<Signals>,
}

/// What other threads tell a client.
#[derive(Default)]
struct Signals {
    /// The client has sent everything, and is to be woken for more.
    is_hungry: AtomicBool,
    reconnects: AtomicBool,
    /// A flood is under way, and the client is to see to its end.
    sweeps: AtomicBool,
}

impl Line {
    /// There are new records in the spool.
    pub(super) fn feed(&self) {
        if self.signals.is_hungry.swap(false, Ordering::AcqRel) {
            self.wake();
        }
    }

    /// A client that waits for its next try tries now.
    pub(super) fn reconnect_now(&self) {
        self.signals.reconnects.store(true, Ordering::Release);
        self.wake();
    }

    /// Records of a flood were held back, which somebody has to say when it is over.
    pub(super) fn sweep(&self) {
        if !self.signals.sweeps.swap(true, Ordering::AcqRel) {
            self.wake();
        }
    }

    pub(super) fn stop(&self) {
        // Posted, since a break that comes before the loop runs would be forgotten.
        let _ = self.notifier.post(EventBase::loop_break);
    }

    fn wake(&self) {
        // A base that is gone has nothing to wake.
        let _ = self.notifier.activate(self.wake, EventFlags::empty());
    }
}

/// A client on its thread.
pub(super) struct Client {
    me: Weak<RefCell<Client>>,
    number: usize,
    settings: Arc<Settings>,
    shared: Arc<Shared>,
    signals: Arc<Signals>,
    base: EventBase,
    /// What earlier runs left on streams that no client has any more, and the client's own stream, last.
    streams: VecDeque<Reader>,
    window: Window,
    link: Link,
    /// Held, since an idle event goes with its last handle.
    _wake: Event,
    retry: Event,
    patience: Event,
    /// Until a spool that could not be read is looked at again.
    recovery: Event,
    /// Until floods are looked at again.
    sweep: Event,
    backoff: Backoff,
    said: Said,
    /// Sessions in a row that the collector ended soon, without a record acknowledged.
    short_sessions: u32,
    frames: Vec<u8>,
}

/// What was reported last.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Said {
    Nothing,
    Connected,
    Disconnected,
}

/// Why a connection ends.
enum End {
    /// The collector says that it ends it, as one does that restarts or was not spoken to for long. No trouble, if the
    /// next connect succeeds.
    Orderly,
    Failure(String),
}

impl From<String> for End {
    fn from(reason: String) -> End {
        End::Failure(reason)
    }
}

impl From<reactor::Error> for End {
    fn from(error: reactor::Error) -> End {
        End::Failure(error.to_string())
    }
}

impl From<RelpError> for End {
    fn from(error: RelpError) -> End {
        End::Failure(error.to_string())
    }
}

enum Link {
    /// Between two tries, or before the first one.
    Down,
    Connecting(Bufferevent),
    /// Connected, and RELP's `open` is not answered yet.
    Opening(Bufferevent),
    Up {
        bev: Bufferevent,
        since: Instant,
    },
}

/// RELP's `open` is a connection's first frame.
const OPEN_TXNR: u32 = 1;
const FIRST_TXNR: u32 = 2;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// A connection that is silent for this long is asked by the kernel whether its peer is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// Bytes that may wait to be sent.
const MAX_OUTPUT: usize = 1024 * 1024;
/// What the collector may say in one frame.
const MAX_ANSWER: usize = 64 * 1024;
/// A spool that cannot be read, as with too many open files, is looked at again after this long.
const RECOVERY: Duration = Duration::from_secs(1);
/// A collector that restarts may end so many sessions in a row soon, and is no trouble.
const ODD_SESSIONS: u32 = 3;
const MAX_SINGLE: usize = 256 * 1024;

impl Client {
    /// A client on a base of its own, whose connect is begun, and the line to it. The rest happens when the base is run.
    pub(super) fn start(
        number: usize,
        settings: Arc<Settings>,
        shared: Arc<Shared>,
        streams: VecDeque<Reader>,
    ) -> reactor::Result<(EventBase, Line)> {
        let base = EventBase::new()?;
        let wake = Event::manual(&base, EventFlags::empty(), |_, _| ())?;
        let retry = Event::timer(&base, |_, _| ())?;
        let patience = Event::timer(&base, |_, _| ())?;
        let recovery = Event::timer(&base, |_, _| ())?;
        let sweep = Event::timer(&base, |_, _| ())?;
        let signals = Arc::new(Signals::default());
        let line = Line { notifier: base.notifier(), wake: wake.ticket(), signals: signals.clone() };
        let client = Rc::new_cyclic(|me| {
            RefCell::new(Client {
                me: me.clone(),
                number,
                settings,
                shared,
                signals,
                base: base.handle(),
                streams,
                window: Window::starting_at(FIRST_TXNR),
                link: Link::Down,
                _wake: wake.clone(),
                retry: retry.clone(),
                patience: patience.clone(),
                recovery: recovery.clone(),
                sweep: sweep.clone(),
                backoff: Backoff::new(FIRST, LONGEST),
                said: Said::Nothing,
                short_sessions: 0,
                frames: Vec::new(),
            })
        });
        // These closures are what keeps the client alive; they go with the base.
        for (event, act) in [
            (&wake, Client::woken as fn(&mut Client)),
            (&retry, Client::connect),
            (&patience, Client::out_of_patience),
            (&recovery, Client::pump),
            (&sweep, Client::sweep),
        ] {
            let client = client.clone();
            event.set_callback(move |_, _| act(&mut client.borrow_mut()))?;
        }
        client.borrow_mut().connect();
        Ok((base, line))
    }

    fn woken(&mut self) {
        if self.signals.reconnects.swap(false, Ordering::AcqRel) && matches!(self.link, Link::Down) {
            self.backoff.reset();
            self.retry.del();
            self.connect();
        }
        if self.signals.sweeps.load(Ordering::Acquire) && self.sweep.pending(EventFlags::TIMEOUT).is_empty() {
            self.sweep();
        }
        self.pump();
    }

    /// Forwards how many records a flood had, when it is over, and looks again until all are.
    fn sweep(&mut self) {
        self.signals.sweeps.store(false, Ordering::Release);
        if let Some(again) = self.shared.sweep() {
            self.signals.sweeps.store(true, Ordering::Release);
            // A timer that cannot be set leaves it to the next record that is held back.
            if self.sweep.add(Some(again)).is_err() {
                self.signals.sweeps.store(false, Ordering::Release);
            }
        }
    }
}

/// The connection.
impl Client {
    fn connect(&mut self) {
        match self.bufferevent() {
            Ok(bev) => self.link = Link::Connecting(bev),
            Err(error) => self.fail(error),
        }
    }

    /// A bufferevent that connects: the outcome is an event on the loop, or an error here.
    fn bufferevent(&self) -> reactor::Result<Bufferevent> {
        let bev = Bufferevent::unconnected(&self.base, BevOptions::empty())?;
        let on = |act: fn(&mut Client, &Bufferevent)| {
            let me = self.me.clone();
            move |bev: &Bufferevent| {
                if let Some(client) = me.upgrade() {
                    act(&mut client.borrow_mut(), bev);
                }
            }
        };
        bev.on_read(on(Client::on_read));
        bev.on_write(on(Client::on_write));
        let me = self.me.clone();
        bev.on_event(move |bev, what| {
            if let Some(client) = me.upgrade() {
                client.borrow_mut().on_event(bev, what);
            }
        });
        bev.set_timeouts(None, Some(CONNECT_TIMEOUT));
        bev.set_max_single_read(MAX_SINGLE);
        bev.set_max_single_write(MAX_SINGLE);
        bev.set_write_mark(MAX_OUTPUT / 2);
        let begun = bev
            .set_keepalive(Some(KEEPALIVE))
            .and_then(|()| bev.enable(Direction::READ))
            .and_then(|()| bev.connect(&self.settings.collector));
        begun.inspect_err(|_| bev.free())?;
        Ok(bev)
    }

    fn on_event(&mut self, bev: &Bufferevent, what: BevEvent) {
        if what.contains(BevEvent::CONNECTED) {
            self.connected(bev);
        } else if what.contains(BevEvent::ERROR) {
            let reason = bev.take_error().map_or_else(|| "it failed".to_owned(), |error| error.to_string());
            self.fail(reason);
        } else if what.contains(BevEvent::TIMEOUT) {
            let reason = match self.link {
                Link::Connecting(_) => format!("no connection within {CONNECT_TIMEOUT:?}"),
                _ => format!("it takes nothing for {:?}", self.settings.patience),
            };
            self.fail(reason);
        } else if what.contains(BevEvent::EOF) {
            self.fail("it closed the connection".to_owned());
        }
    }

    fn connected(&mut self, bev: &Bufferevent) {
        if is_own_end(bev) {
            return self.fail("nobody listens there".to_owned());
        }
        bev.set_timeouts(None, Some(self.settings.patience));
        match self.settings.wire {
            Wire::Relp => {
                self.link = Link::Opening(bev.clone());
                self.frames.clear();
                relp::write_frame(&mut self.frames, OPEN_TXNR, "open", relp::open_data());
                if self.send(bev) {
                    self.be_patient();
                }
            }
            Wire::OctetCounted | Wire::Newline => self.up(bev),
        }
    }

    /// The collector takes records.
    fn up(&mut self, bev: &Bufferevent) {
        self.link = Link::Up { bev: bev.clone(), since: Instant::now() };
        self.shared.client_is_up();
        if std::mem::replace(&mut self.said, Said::Connected) != Said::Connected {
            let (client, collector) = (self.number, self.settings.collector.clone());
            self.shared.report(&Report::Connected { client, collector });
        }
        self.window.restart_at(FIRST_TXNR);
        self.pump();
    }

    /// Gives the connection up, and comes back for it later. What was not acknowledged is sent again then.
    fn fail(&mut self, end: impl Into<End>) {
        self.short_sessions = self.short_sessions.saturating_add(1);
        match std::mem::replace(&mut self.link, Link::Down) {
            Link::Down => (),
            Link::Connecting(bev) | Link::Opening(bev) => bev.free(),
            Link::Up { bev, since } => {
                bev.free();
                self.shared.client_is_down();
                // One that lasted did not fail as those before it.
                if since.elapsed() >= LONGEST {
                    self.backoff.reset();
                    self.short_sessions = 0;
                }
            }
        }
        self.patience.del();
        self.window.restart_at(FIRST_TXNR);
        if let Some(reader) = self.streams.front_mut() {
            reader.rewind();
        }
        let retry_in = self.backoff.take();
        let reason = match end.into() {
            End::Failure(reason) => Some(reason),
            End::Orderly if self.short_sessions > ODD_SESSIONS => {
                Some("it ends every session at once".to_owned())
            }
            End::Orderly => None,
        };
        if let (Some(reason), Said::Nothing | Said::Connected) = (reason, self.said) {
            self.said = Said::Disconnected;
            let (client, collector) = (self.number, self.settings.collector.clone());
            self.shared.report(&Report::Disconnected { client, collector, reason, retry_in });
        }
        if let Err(error) = self.retry.add(Some(retry_in)) {
            self.shared.report(&Report::Stopped { client: self.number, reason: error.to_string() });
        }
    }

    /// The collector has as long as the settings say, from now on.
    fn be_patient(&mut self) {
        if let Err(error) = self.patience.add(Some(self.settings.patience)) {
            self.fail(error);
        }
    }

    fn out_of_patience(&mut self) {
        let reason = format!("no answer for {:?}", self.settings.patience);
        self.fail(reason);
    }
}

/// Records and answers.
impl Client {
    /// Sends what the window and the output have room for.
    fn pump(&mut self) {
        let Link::Up { bev, .. } = &self.link else { return };
        let bev = bev.clone();
        let before = self.window.len();
        let mut is_hungry = false;
        self.frames.clear();
        while self.window.len() < self.settings.window && bev.output().len() + self.frames.len() < MAX_OUTPUT
        {
            let is_last = self.streams.len() == 1;
            let Some(reader) = self.streams.front_mut() else { break };
            if let Some(record) = reader.next() {
                let txnr = self.window.push(record.sequence);
                match self.settings.wire {
                    Wire::Relp => relp::write_frame(&mut self.frames, txnr, "syslog", record.payload),
                    Wire::OctetCounted => framing::write_counted(&mut self.frames, record.payload),
                    Wire::Newline => {
                        self.frames.extend_from_slice(record.payload);
                        self.frames.push(b'\n');
                    }
                }
            } else if reader.is_stalled() {
                // It has said so. A timer that cannot be set leaves it to the next record.
                let _ = self.recovery.add(Some(RECOVERY));
                break;
            } else if !is_last {
                // What an earlier run left is sent; it is done with when it is acknowledged.
                if !self.window.is_empty() {
                    break;
                }
                self.streams.pop_front();
            } else if !is_hungry {
                // Whoever writes to the spool from here on wakes this client; what was written before is found now.
                self.signals.is_hungry.store(true, Ordering::Release);
                is_hungry = true;
            } else {
                if self.window.is_empty() {
                    // What turned out to be damaged is waited for no more.
                    self.shared.look_again();
                }
                break;
            }
        }
        let sent = self.window.len() - before;
        if sent > 0 {
            self.shared.count_sent(sent as u64);
            if self.send(&bev) && before == 0 && self.settings.wire == Wire::Relp {
                self.be_patient();
            }
        }
    }

    /// Whether it goes on.
    fn send(&mut self, bev: &Bufferevent) -> bool {
        let written = bev.write(&self.frames);
        let is_up = written.is_ok();
        if let Err(error) = written {
            self.fail(error);
        }
        is_up
    }

    fn on_write(&mut self, bev: &Bufferevent) {
        if self.settings.wire != Wire::Relp && bev.output().is_empty() {
            // Nobody says what arrived: what the system has taken counts.
            self.window.answer_all();
            self.settle();
        }
        self.pump();
    }

    fn on_read(&mut self, bev: &Bufferevent) {
        let input = bev.input();
        let outcome = match self.settings.wire {
            Wire::Relp => self.take_answers(bev),
            // Nothing to hear.
            Wire::OctetCounted | Wire::Newline => input.drain(input.len()).map(|_| ()).map_err(End::from),
        };
        // What was acknowledged before the trouble stays so.
        self.settle();
        match outcome {
            Ok(()) => self.pump(),
            Err(reason) => self.fail(reason),
        }
    }

    fn take_answers(&mut self, bev: &Bufferevent) -> Result<(), End> {
        let input = bev.input();
        let mut taken = 0;
        let mut is_open = false;
        let outcome = match input.pull_up(input.len()) {
            Ok(None) => Ok(()),
            Ok(Some(bytes)) => loop {
                match relp::parse_frame(&bytes[taken..], MAX_ANSWER) {
                    Ok(None) => break Ok(()),
                    Ok(Some((frame, length))) => {
                        taken += length;
                        match self.take_answer(&frame) {
                            Ok(opens) => is_open |= opens,
                            Err(reason) => break Err(reason),
                        }
                    }
                    Err(error) => break Err(error.into()),
                }
            },
            Err(error) => Err(error.into()),
        };
        input.drain(taken)?;
        if is_open && outcome.is_ok() {
            self.patience.del();
            self.up(bev);
        }
        outcome
    }

    /// True if it is the answer to `open`.
    fn take_answer(&mut self, frame: &relp::Frame<'_>) -> Result<bool, End> {
        if frame.command == b"serverclose" {
            return Err(End::Orderly);
        }
        if frame.command != b"rsp" {
            let command = String::from_utf8_lossy(frame.command);
            return Err(format!("it sent {command:?}, which is no answer").into());
        }
        let response = Response::parse(frame.data)?;
        if !response.is_ok() {
            let text = String::from_utf8_lossy(response.text);
            return Err(format!("it refuses with {} {text}", response.code).into());
        }
        match &self.link {
            Link::Opening(_) if frame.txnr == OPEN_TXNR => Ok(true),
            Link::Up { .. } if self.window.answer(frame.txnr) != Answer::Stray => Ok(false),
            _ => Err(format!("it answers frame {}, which was not sent", frame.txnr).into()),
        }
    }

    /// Lets go of what is acknowledged.
    fn settle(&mut self) {
        let Some(through) = self.window.settle() else { return };
        if let Some(reader) = self.streams.front_mut() {
            reader.acknowledge(through);
        }
        self.backoff.reset();
        self.short_sessions = 0;
        if self.window.is_empty() {
            self.shared.look_again();
        }
        if self.settings.wire != Wire::Relp {
            return;
        }
        if self.window.is_empty() {
            self.patience.del();
        } else {
            self.be_patient();
        }
    }
}

/// Whether a socket is connected to itself, as may happen where nobody listens on a port that the system also gives to
/// clients.
fn is_own_end(bev: &Bufferevent) -> bool {
    let local = bev.local_address().ok().filter(|local| *local != Address::Unnamed);
    local.is_some() && local == bev.peer_address().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
    use std::path::Path;

    use super::*;
    use crate::filter::{Filter, Gate};
    use crate::forward::inlet::Inlet;
    use crate::forward::spool::{Spool, SpoolOptions};
    use crate::forward::syslog::Origin;

    fn shared(folder: &Path) -> (Arc<Shared>, VecDeque<Reader>) {
        let options = SpoolOptions { streams: 1, ..SpoolOptions::default() };
        let spool = Spool::open(folder, &options, Arc::new(|_: &Report| ())).unwrap();
        let sender = spool.sender();
        let (writers, readers) = spool.into_streams();
        let streams = readers.iter().map(|reader| reader.shared().clone()).collect();
        let gate = Arc::new(Gate::new(Filter::default()));
        let origin = Origin::new("host", "app", "1");
        let inlet = Inlet::new(gate.clone(), origin, sender, 1024, writers, None);
        let shared = Shared::new(gate, folder.to_owned(), inlet, Arc::new(|_: &Report| ()), streams);
        (Arc::new(shared), readers.into())
    }

    #[test]
    fn a_socket_that_is_connected_to_itself_is_known() {
        let base = EventBase::new().unwrap();
        let bev = |socket: TcpStream| Bufferevent::socket(&base, socket, BevOptions::empty()).unwrap();
        let own = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        own.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        own.connect(&own.local_addr().unwrap()).unwrap();
        assert!(is_own_end(&bev(own.into())));

        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert!(!is_own_end(&bev(client)));
    }

    #[test]
    fn client_connects_before_dispatch() {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let settings = Settings {
            collector: listener.local_addr().unwrap().into(),
            wire: Wire::Relp,
            window: 1,
            patience: Duration::from_secs(30),
        };
        let (shared, streams) = shared(folder.path());
        let (base, line) = Client::start(0, Arc::new(settings), shared.clone(), streams).unwrap();
        // The loop has something to wait for, and the collector has the connection, before the loop runs.
        assert!(base.counts().added > 0);
        let (_connection, _) = listener.accept().unwrap();
        assert_eq!(shared.counters().connected, 0);
        line.stop();
        assert_eq!(base.dispatch().unwrap(), reactor::Outcome::Stopped);
    }
}
