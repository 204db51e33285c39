//! Buffered sockets: bytes come in and go out by themselves, callbacks hear of it.

mod farewell;
mod flags;
mod pair;
mod socket;
mod state;
mod timeout;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;

use crate::address::Address;
use crate::base::EventBase;
use crate::clock::nanos;
use crate::error::{Error, Result};
use crate::evbuffer::Evbuffer;

pub(crate) use farewell::FarewellWatcher;
pub use flags::{BevEvent, BevOptions, Direction, FlushMode, TriggerOptions};
use pair::Pair;
use socket::{Side, Socket};
use state::{State, Transport};

/// A stream with an input buffer, an output buffer and three callbacks.
///
/// While [`READ`](Direction::READ) is enabled, what the peer sends is put into [`input`](Self::input) and the read
/// callback runs. What is put into [`output`](Self::output) leaves from the loop while [`WRITE`](Direction::WRITE) is
/// enabled, as it is from the start; when the output has run down to its low mark, the write callback runs. Everything
/// else reaches the event callback as a [`BevEvent`].
///
/// `Bufferevent` is a handle, cheap to clone. The base keeps the object until [`free`](Self::free), handle or not; a
/// callback may free it, replace itself, or do anything else but run the base.
///
/// A stream that carries file descriptors (`SCM_RIGHTS`) needs an [`Event`](crate::Event) of its own: reads here do
/// not take them and may stop at them.
///
/// ```
/// use reactor::{BevOptions, Bufferevent, Direction, EventBase};
///
/// let base = EventBase::new()?;
/// let (ours, theirs) = Bufferevent::pair(&base, BevOptions::empty())?;
/// theirs.on_read(|theirs| {
///     let _ = theirs.output().append_buffer(theirs.input()); // an echo
/// });
/// theirs.enable(Direction::READ)?;
/// ours.on_read(|ours| {
///     let mut answer = [0; 5];
///     assert_eq!(ours.read(&mut answer), 5);
///     assert_eq!(&answer, b"hello");
///     ours.base().loop_break();
/// });
/// ours.enable(Direction::READ)?;
/// ours.write(b"hello")?;
/// base.dispatch()?;
/// # Ok::<(), reactor::Error>(())
/// ```
#[derive(Clone)]
#[doc(alias = "struct bufferevent")]
pub struct Bufferevent {
    state: Rc<State>,
}

/// The most that one pass reads or writes unless it is told otherwise.
const MAX_SINGLE_DEFAULT: usize = 16 * 1024;

/// Making one.
impl Bufferevent {
    /// A bufferevent on a connected stream socket, which it makes non-blocking and owns. Nothing is read until
    /// [`Direction::READ`] is enabled.
    ///
    /// # Errors
    /// [`Error::Io`] if the socket cannot be polled or made non-blocking (the socket is closed), [`Error::Freed`] when
    /// the base is gone.
    #[doc(alias = "bufferevent_socket_new")]
    pub fn socket(base: &EventBase, socket: impl Into<OwnedFd>, options: BevOptions) -> Result<Bufferevent> {
        let bev = Self::unconnected(base, options)?;
        match socket::adopt(&bev.state, socket.into()) {
            Ok(()) => Ok(bev),
            Err(error) => {
                bev.free();
                Err(error)
            }
        }
    }

    /// A bufferevent without a socket, to [`connect`](Self::connect).
    ///
    /// # Errors
    /// [`Error::Freed`] when the base is gone.
    #[doc(alias = "bufferevent_socket_new")]
    pub fn unconnected(base: &EventBase, options: BevOptions) -> Result<Bufferevent> {
        let state = State::new(base, options, Transport::Socket(Socket::new()))?;
        Ok(Bufferevent { state })
    }

    /// Two bufferevents, each connected to the other without a socket: what one writes moves into the other's input
    /// when that one reads, without a copy. Callbacks are always deferred.
    ///
    /// # Errors
    /// [`Error::Freed`] when the base is gone.
    #[doc(alias = "bufferevent_pair_new")]
    pub fn pair(base: &EventBase, options: BevOptions) -> Result<(Bufferevent, Bufferevent)> {
        let options = options | BevOptions::DEFER_CALLBACKS;
        let one = State::new(base, options, Transport::Pair(Pair::new()))?;
        let other = State::new(base, options, Transport::Pair(Pair::new()))?;
        pair::link(&one, &other);
        Ok((Bufferevent { state: one }, Bufferevent { state: other }))
    }

    /// Begins to connect. The outcome arrives on the loop: [`BevEvent::CONNECTED`], or [`BevEvent::ERROR`] with
    /// neither direction; a refusal that the system tells at once arrives the same way, and turns both directions off.
    /// What is written meanwhile is sent after it. The write time-out bounds the wait.
    ///
    /// A socket that it has, connected or not, is closed first. TCP sockets get `TCP_NODELAY`, and the
    /// keep-alive of [`set_keepalive`](Self::set_keepalive). The buffers keep what
    /// they hold: what the last peer left in the input, and what it was not sent, which this one gets. To begin anew,
    /// make a new bufferevent, as this client does, which comes back after every failure and waits longer each time:
    ///
    /// ```no_run
    /// use reactor::{Address, BevEvent, BevOptions, Bufferevent, Direction, EventBase, TriggerOptions};
    /// use std::time::Duration;
    ///
    /// const FIRST: Duration = Duration::from_millis(100);
    /// const LONGEST: Duration = Duration::from_secs(30);
    ///
    /// fn keep_connected(base: &EventBase, to: Address, after: Duration) -> reactor::Result<()> {
    ///     base.once(Some(after), move |base| {
    ///         let Ok(bev) = Bufferevent::unconnected(base, BevOptions::empty()) else { return };
    ///         bev.set_timeouts(None, Some(Duration::from_secs(10))); // bounds the connect
    ///         let (again, mut wait) = (to.clone(), (after * 2).clamp(FIRST, LONGEST));
    ///         bev.on_event(move |bev, what| {
    ///             if what.contains(BevEvent::CONNECTED) {
    ///                 wait = FIRST;
    ///             } else if what.ends() {
    ///                 bev.free();
    ///                 let _ = keep_connected(bev.base(), again.clone(), wait);
    ///             }
    ///         });
    ///         let _ = bev.enable(Direction::READ);
    ///         if bev.connect(&to).is_err() {
    ///             bev.trigger_event(BevEvent::ERROR, TriggerOptions::empty()); // one way for both kinds of failure
    ///         }
    ///     })
    /// }
    ///
    /// let base = EventBase::new()?;
    /// keep_connected(&base, "127.0.0.1:8000".parse()?, Duration::ZERO)?;
    /// base.dispatch()?;
    /// # Ok::<(), reactor::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Connect`] if the system refuses for another reason than that nobody listens: nothing follows then, and
    /// the bufferevent has no socket. [`Error::NotASocket`] for one end of a pair, [`Error::Freed`].
    #[doc(alias = "bufferevent_socket_connect")]
    pub fn connect(&self, address: &Address) -> Result<()> {
        self.state.check()?;
        socket::connect(&self.state, address)
    }
}

/// Callbacks.
impl Bufferevent {
    /// Sets what runs when bytes have come in, at least the low read mark of them in the input. Bytes that it leaves
    /// there cause no further call until more come. Reading goes on without a callback too: until the high mark, or
    /// without end. Only a callback that panics takes reading with it: it is lost, and [`Direction::READ`] disabled.
    #[doc(alias = "bufferevent_setcb")]
    pub fn on_read(&self, callback: impl FnMut(&Bufferevent) + 'static) {
        if self.state.check().is_ok() {
            self.state.on_read.set(Some(Box::new(callback)));
        }
    }

    /// Sets what runs when bytes have gone out and the output has at most the low write mark left, or when
    /// [`Direction::WRITE`] is enabled and there is nothing to send.
    #[doc(alias = "bufferevent_setcb")]
    pub fn on_write(&self, callback: impl FnMut(&Bufferevent) + 'static) {
        if self.state.check().is_ok() {
            self.state.on_write.set(Some(Box::new(callback)));
        }
    }

    /// Sets what runs when the stream is connected, ends, fails or times out. Failures and time-outs of a stream without
    /// one go to [`EventBase::on_diagnostic`].
    #[doc(alias = "bufferevent_setcb")]
    pub fn on_event(&self, callback: impl FnMut(&Bufferevent, BevEvent) + 'static) {
        if self.state.check().is_ok() {
            self.state.on_event.set(Some(Box::new(callback)));
        }
    }

    /// Drops all three callbacks; one that runs is dropped when it returns.
    #[doc(alias = "bufferevent_setcb")]
    pub fn clear_callbacks(&self) {
        self.state.clear_callbacks();
    }

    /// What failed when the last [`BevEvent::ERROR`] was reported. Taken once.
    #[doc(alias = "EVUTIL_SOCKET_ERROR")]
    pub fn take_error(&self) -> Option<Error> {
        self.state.error.take()
    }

    /// Runs the callback of each direction as if there was an occasion: for reading if the input has its low mark, for
    /// writing if the output is down to its low mark. In libevent a callback that triggers itself recurses; here it
    /// runs once more, from the loop.
    #[doc(alias = "bufferevent_trigger")]
    pub fn trigger(&self, direction: Direction, options: TriggerOptions) {
        self.state.occasion(direction, options);
    }

    /// Runs the event callback with exactly these flags; nothing else changes. From within itself it runs once more,
    /// from the loop.
    #[doc(alias = "bufferevent_trigger_event")]
    pub fn trigger_event(&self, what: BevEvent, options: TriggerOptions) {
        self.state.event(what, options);
    }
}

/// Bytes.
impl Bufferevent {
    /// What came in. Its back is frozen: only the bufferevent adds to it.
    #[doc(alias = "bufferevent_get_input")]
    pub fn input(&self) -> &Evbuffer {
        &self.state.input
    }

    /// What is to go out. Its front is frozen: only the bufferevent takes from it. Adding to it starts the sending.
    #[doc(alias = "bufferevent_get_output")]
    pub fn output(&self) -> &Evbuffer {
        &self.state.output
    }

    /// Puts bytes into the output.
    ///
    /// # Errors
    /// [`Error::Freed`]; [`Error::Lent`] while a guard of the output is alive.
    #[doc(alias = "bufferevent_write")]
    pub fn write(&self, bytes: &[u8]) -> Result<()> {
        self.state.check()?;
        self.state.output.append(bytes)
    }

    /// Moves all of `buffer` into the output, without a copy.
    ///
    /// # Errors
    /// [`Error::Freed`]; [`Error::Lent`] and [`Error::Frozen`] as [`Evbuffer::append_buffer`].
    #[doc(alias = "bufferevent_write_buffer")]
    pub fn write_buffer(&self, buffer: &Evbuffer) -> Result<()> {
        self.state.check()?;
        self.state.output.append_buffer(buffer)
    }

    /// Takes up to `into.len()` bytes out of the input and returns how many; 0 if it is empty or lent.
    #[doc(alias = "bufferevent_read")]
    pub fn read(&self, into: &mut [u8]) -> usize {
        self.state.input.remove(into).unwrap_or(0)
    }

    /// Moves the whole input to the end of `buffer`, without a copy.
    ///
    /// # Errors
    /// [`Error::Freed`]; [`Error::Lent`] and [`Error::Frozen`] as [`Evbuffer::append_buffer`].
    #[doc(alias = "bufferevent_read_buffer")]
    pub fn read_buffer(&self, buffer: &Evbuffer) -> Result<()> {
        self.state.check()?;
        buffer.append_buffer(&self.state.input)
    }

    /// Moves what a filter or a pair holds back. Whether something was done; on a socket it never is.
    ///
    /// On a pair, `Flush` and `Finished` move the named directions whatever the marks say and run the callbacks even
    /// if nothing moved; `Finished` also reports [`BevEvent::EOF`] to the partner.
    ///
    /// # Errors
    /// [`Error::NoPartner`] for a pair whose other end was freed; [`Error::Lent`] while a guard of one of the buffers is
    /// alive; [`Error::Freed`].
    #[doc(alias = "bufferevent_flush")]
    pub fn flush(&self, direction: Direction, mode: FlushMode) -> Result<bool> {
        self.state.check()?;
        match &self.state.transport {
            Transport::Socket(_) => Ok(false),
            Transport::Pair(pair) => pair.flush(&self.state, direction, mode),
        }
    }

    /// Ends one direction of the connection, the other goes on.
    ///
    /// `WRITE`: the peer is told the end of the stream after all that is in the output, by the loop, once a connect that
    /// is under way has succeeded and while [`Direction::WRITE`] is enabled. From this call on nothing can be added to the
    /// output, which answers [`Error::Frozen`]. When the write callback runs with an empty output, the peer was told. If
    /// it cannot be, the event callback hears [`WRITING`](BevEvent::WRITING) and [`ERROR`](BevEvent::ERROR).
    ///
    /// `READ`: the system is told at once that no more is wanted. What has arrived is read still, if reading is enabled,
    /// and [`EOF`](BevEvent::EOF) follows. The peer of a Unix socket can send no more; that of a TCP connection is not
    /// told, and what it sends may yet be read when reading is enabled again.
    ///
    /// Shutting down again does nothing. A new socket, by [`connect`](Self::connect) or
    /// [`replace_socket`](Self::replace_socket), begins with both directions open. libevent leaves this to the socket; a
    /// pair has [`flush`](Self::flush) with [`FlushMode::Finished`].
    ///
    /// # Errors
    /// [`Error::Io`] without a connection, for `READ` also while it is connecting; [`Error::NotASocket`] for one end of a
    /// pair; [`Error::Freed`].
    #[doc(alias = "SHUT_WR")]
    pub fn shutdown(&self, direction: Direction) -> Result<()> {
        self.state.check()?;
        socket::shutdown(&self.state, direction)
    }
}

/// Settings.
impl Bufferevent {
    /// Turns directions on. Reading begins with what is there already; an end of stream that was reported is reported
    /// again. Turning `WRITE` on, also when it is on, brings one write callback if there is nothing to send.
    ///
    /// # Errors
    /// [`Error::Freed`].
    #[doc(alias = "bufferevent_enable")]
    pub fn enable(&self, direction: Direction) -> Result<()> {
        self.state.check()?;
        self.state.enable(direction);
        Ok(())
    }

    /// Turns directions off: nothing is read or written there, nothing is lost. A connect goes on.
    #[doc(alias = "bufferevent_disable")]
    pub fn disable(&self, direction: Direction) {
        if self.state.check().is_ok() {
            self.state.disable(direction);
        }
    }

    /// The directions that are on; none once it is freed.
    #[doc(alias = "bufferevent_get_enabled")]
    pub fn enabled(&self) -> Direction {
        if self.is_freed() { Direction::empty() } else { self.state.enabled.get() }
    }

    /// The read marks, in bytes of the input: the read callback runs at `low` or more (0: always); reading stops at
    /// `high`, which is never passed, and goes on below it (0: no such mark).
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn set_read_marks(&self, low: usize, high: usize) {
        if self.state.check().is_ok() {
            self.state.set_read_marks(low, high);
        }
    }

    /// The read marks, low and high.
    #[doc(alias = "bufferevent_getwatermark")]
    pub fn read_marks(&self) -> (usize, usize) {
        (self.state.read_low.get(), self.state.read_high.get())
    }

    /// The low write mark, in bytes of the output: the write callback runs at `low` or less. 0 by default.
    #[doc(alias = "bufferevent_setwatermark")]
    pub fn set_write_mark(&self, low: usize) {
        self.state.write_low.set(low);
    }

    /// The low write mark.
    #[doc(alias = "bufferevent_getwatermark")]
    pub fn write_mark(&self) -> usize {
        self.state.write_low.get()
    }

    /// The time-outs, each from the last transfer in its direction; `None` or zero for none. The read one runs while
    /// reading is on and not held up by the high mark; the write one while there is something to send, or a connect
    /// is under way. When one passes, its direction is turned off and [`BevEvent::TIMEOUT`] reported.
    ///
    /// An input that stays at its high mark never times out: a read callback that finds it full has to take bytes out
    /// or give the connection up.
    #[doc(alias = "bufferevent_set_timeouts")]
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) {
        if self.state.check().is_ok() {
            self.state.set_timeouts(read.map(nanos), write.map(nanos));
        }
    }

    /// The most that one pass reads, in bytes; 0 for the default of 16 KiB.
    #[doc(alias = "bufferevent_set_max_single_read")]
    pub fn set_max_single_read(&self, max: usize) {
        self.state.max_single_read.set(if max == 0 { MAX_SINGLE_DEFAULT } else { max });
    }

    /// The most that one pass writes, in bytes; 0 for the default of 16 KiB.
    #[doc(alias = "bufferevent_set_max_single_write")]
    pub fn set_max_single_write(&self, max: usize) {
        self.state.max_single_write.set(if max == 0 { MAX_SINGLE_DEFAULT } else { max });
    }

    /// The most that one pass reads.
    #[doc(alias = "bufferevent_get_max_single_read")]
    pub fn max_single_read(&self) -> usize {
        self.state.max_single_read.get()
    }

    /// The most that one pass writes.
    #[doc(alias = "bufferevent_get_max_single_write")]
    pub fn max_single_write(&self) -> usize {
        self.state.max_single_write.get()
    }

    /// Has the kernel ask a silent peer, after this idle time, whether it is still there; `None` for never. A peer that
    /// does not answer becomes an [`ERROR`](BevEvent::ERROR) with `ETIMEDOUT`: on Linux by default after nine probes 75 s
    /// apart, which are options of the socket too. The time is rounded up to seconds, from 1 s to 32767 s.
    ///
    /// It holds for the socket that is there and for all that come, by [`connect`](Self::connect) or
    /// [`replace_socket`](Self::replace_socket). Unix sockets have no such thing and take no notice. Unless this is
    /// called, a socket keeps what it came with: on from a [`Listener`](crate::Listener), off from `connect`.
    ///
    /// # Errors
    /// [`Error::Io`] if the system refuses: nothing is kept then; [`Error::NotASocket`] for one end of a pair;
    /// [`Error::Freed`].
    #[doc(alias = "SO_KEEPALIVE")]
    #[doc(alias = "TCP_KEEPIDLE")]
    pub fn set_keepalive(&self, idle: Option<Duration>) -> Result<()> {
        self.state.check()?;
        socket::set_keepalive(&self.state, idle)
    }

    /// 0 is the most urgent; a new one has the base's middle priority.
    #[doc(alias = "bufferevent_get_priority")]
    pub fn priority(&self) -> usize {
        self.state.priority()
    }

    /// Sets the priority of everything that this bufferevent does in the loop, from its next turn.
    ///
    /// # Errors
    /// [`Error::Priority`] if the base has no such; [`Error::Freed`].
    #[doc(alias = "bufferevent_priority_set")]
    pub fn set_priority(&self, priority: usize) -> Result<()> {
        self.state.set_priority(priority)
    }
}

/// The object.
impl Bufferevent {
    /// The base it lives on.
    #[doc(alias = "bufferevent_get_base")]
    pub fn base(&self) -> &EventBase {
        self.state.base()
    }

    /// Its socket's number, while it has one.
    #[doc(alias = "bufferevent_getfd")]
    pub fn raw_fd(&self) -> Option<RawFd> {
        self.state.socket().and_then(Socket::raw_fd)
    }

    /// Calls `act` with its socket, to read or set what this crate does not; `None` without a socket. Reading, writing
    /// or shutting down past the bufferevent confuses it.
    ///
    /// `act` may do anything to the bufferevent. A socket that is freed or replaced meanwhile is polled no more, and is
    /// closed when `act` returns; what [`take_socket`](Self::take_socket) gives is a duplicate then.
    ///
    /// ```
    /// use reactor::{BevOptions, Bufferevent, EventBase};
    /// use socket2::SockRef;
    ///
    /// # let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
    /// # let socket = std::net::TcpStream::connect(listener.local_addr()?)?;
    /// let base = EventBase::new()?;
    /// let bev = Bufferevent::socket(&base, socket, BevOptions::empty())?;
    /// bev.with_socket(|socket| SockRef::from(&socket).set_recv_buffer_size(256 * 1024)).transpose()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "bufferevent_getfd")]
    pub fn with_socket<R>(&self, act: impl FnOnce(BorrowedFd<'_>) -> R) -> Option<R> {
        self.state.check().ok()?;
        let fd = self.state.socket()?.fd()?;
        Some(act(fd.as_fd()))
    }

    /// Where its own end is.
    ///
    /// # Errors
    /// As [`peer_address`](Self::peer_address).
    #[doc(alias = "getsockname")]
    pub fn local_address(&self) -> Result<Address> {
        self.state.check()?;
        socket::address(&self.state, Side::Local)
    }

    /// Where the peer is. Ask while the connection is good: the system forgets the peer of one that was reset.
    ///
    /// # Errors
    /// [`Error::Io`] without a socket, before it is connected or after it was reset; [`Error::NotASocket`] for one end
    /// of a pair; [`Error::Freed`].
    #[doc(alias = "getpeername")]
    pub fn peer_address(&self) -> Result<Address> {
        self.state.check()?;
        socket::address(&self.state, Side::Peer)
    }

    /// Takes the socket away, unpolled, non-blocking and open. The buffers stay as they are, both ends of both free to
    /// the user.
    #[doc(alias = "bufferevent_setfd")]
    pub fn take_socket(&self) -> Option<OwnedFd> {
        self.state.check().ok()?;
        socket::take(&self.state)
    }

    /// Gives it a connected socket, or none, and returns the one it had. The directions that are on go on with it, as if
    /// they were turned on again: one write callback follows if there is nothing to send.
    ///
    /// # Errors
    /// [`Error::Io`] as [`socket`](Self::socket); the one that it has stays then; [`Error::NotASocket`] for one end of a pair;
    /// [`Error::Freed`].
    #[doc(alias = "bufferevent_replacefd")]
    #[doc(alias = "bufferevent_setfd")]
    pub fn replace_socket(&self, socket: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
        self.state.check()?;
        socket::replace(&self.state, socket)
    }

    /// The other end of a pair, until it is freed.
    #[doc(alias = "bufferevent_pair_get_partner")]
    pub fn partner(&self) -> Option<Bufferevent> {
        match &self.state.transport {
            Transport::Pair(pair) => pair.partner().map(|state| Bufferevent { state }),
            Transport::Socket(_) => None,
        }
    }

    /// Ends it: no callback runs any more, what was not sent is dropped; when the outermost callback of it has
    /// returned, its socket is closed. A second `free` does nothing.
    #[doc(alias = "bufferevent_free")]
    pub fn free(&self) {
        self.state.free();
    }

    /// Frees it once what is queued has been sent: the end of a connection whose last word is in the output.
    ///
    /// At once, as with [`free`](Self::free): no callback or watcher runs any more, the input is dropped, and every handle
    /// answers as a freed one, but that [`output`](Self::output) shows what is left and [`raw_fd`](Self::raw_fd) the socket
    /// until it is closed. Both directions go on by themselves, whatever was enabled. Then
    ///
    /// - a connect that is under way is waited for, the output is sent, and the sending side is shut down;
    /// - what comes in meanwhile is read and thrown away, since a socket that is closed with unread bytes resets the
    ///   connection, and a reset can destroy a reply that is still on its way: a server that refuses a request early may
    ///   call this with the rest of the request yet to come;
    /// - it is freed as soon as the peer has ended its side too: at the latest 5 s after the last byte was sent, when
    ///   16 MiB were thrown away, or at an error.
    ///
    /// The write time-out goes on bounding the sending, at 60 s where there is none; when it passes, or the connection
    /// fails, the rest is dropped and [`EventBase::on_diagnostic`] told. Until it is over it keeps the loop running; `free` ends it now, and so does dropping the
    /// base. Without a socket that is connected or connecting, this is `free`. One end of a pair goes when its partner has
    /// taken all, which hears [`BevEvent::EOF`].
    ///
    /// ```
    /// use reactor::{BevOptions, Bufferevent, Direction, EventBase, Listener};
    /// use std::io::{Read, Write};
    ///
    /// let base = EventBase::new()?;
    /// let listener = Listener::bind(&base, &"127.0.0.1:0".parse()?, |listener, socket, _peer| {
    ///     listener.disable();
    ///     let Ok(bev) = Bufferevent::socket(listener.base(), socket, BevOptions::empty()) else { return };
    ///     bev.on_read(|bev| {
    ///         let _ = bev.write(b"too long"); // whatever else is to come
    ///         bev.free_when_sent();
    ///     });
    ///     let _ = bev.enable(Direction::READ);
    /// })?;
    /// let address = listener.local_address()?.to_string();
    /// let client = std::thread::spawn(move || -> std::io::Result<String> {
    ///     let mut stream = std::net::TcpStream::connect(address)?;
    ///     stream.write_all(&[b'x'; 1_000_000])?;
    ///     let mut answer = String::new();
    ///     stream.read_to_string(&mut answer)?;
    ///     Ok(answer)
    /// });
    /// base.dispatch()?;
    /// assert_eq!(client.join().unwrap()?, "too long");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[doc(alias = "bufferevent_free")]
    #[doc(alias = "SO_LINGER")]
    pub fn free_when_sent(&self) {
        self.state.free_when_sent(None);
    }

    /// Gives a peer up as by the write time-out that takes less than this on average over each of them; 0, the default, for
    /// any. Without a write time-out nothing is measured.
    pub(crate) fn set_min_write_rate(&self, bytes_per_second: u64) {
        self.state.set_min_write_rate(bytes_per_second);
    }

    /// Has the event callback told, while reading is off, when the peer has left ([`BevEvent::ERROR`]) or sends no more
    /// ([`BevEvent::EOF`]): bytes that came before may still be unread.
    pub(crate) fn report_hangup(&self) {
        self.state.report_hangup();
    }

    /// Has the read time-out count from now on.
    pub(crate) fn restart_read_timeout(&self) {
        self.state.transferred(Direction::READ);
    }

    /// Bytes that the socket has and the input has not.
    pub(crate) fn unread(&self) -> Option<u64> {
        self.state.socket()?.unread()
    }

    /// [`free_when_sent`](Self::free_when_sent) for an owner that wants to know how it goes on.
    pub(crate) fn free_when_sent_watched(&self, watcher: Rc<dyn FarewellWatcher>) {
        self.state.free_when_sent(Some(watcher));
    }

    /// Whether it was freed, by hand or with its base.
    pub fn is_freed(&self) -> bool {
        self.state.is_freed()
    }
}

impl PartialEq for Bufferevent {
    /// Whether both are handles of one bufferevent.
    fn eq(&self, other: &Bufferevent) -> bool {
        Rc::ptr_eq(&self.state, &other.state)
    }
}

impl Eq for Bufferevent {}

impl fmt::Debug for Bufferevent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bufferevent")
            .field("fd", &self.raw_fd())
            .field("enabled", &self.enabled())
            .field("input", &self.input().len())
            .field("output", &self.output().len())
            .field("is_freed", &self.is_freed())
            .finish_non_exhaustive()
    }
}
