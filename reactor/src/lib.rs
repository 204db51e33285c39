//! libevent's design over mio: one loop per thread, explicit callbacks, no async runtime.
//!
//! An [`EventBase`] polls; [`Event`]s call back on descriptors, signals and times; an [`Evbuffer`] is a queue of bytes
//! that moves by pointer; a [`Bufferevent`] fills and empties two of them through a socket; a [`Listener`] hands out
//! connections; a [`Notifier`] reaches the loop from other threads. Upon these, [`http`] is a server and a client.
//!
//! # From libevent's calls to these
//!
//! Every method also carries libevent's name as a search alias.
//!
//! | libevent | here |
//! |---|---|
//! | `event_base_new`, `event_base_new_with_config`, `event_base_free` | [`EventBase::new`], [`EventBase::builder`], drop |
//! | `event_base_dispatch`, `event_base_loop` | [`EventBase::dispatch`], [`EventBase::run`] with [`LoopFlags`], ended by an [`Outcome`] |
//! | `event_base_loopexit`, `_loopbreak`, `_loopcontinue` | [`loop_exit`](EventBase::loop_exit), [`loop_break`](EventBase::loop_break), [`loop_continue`](EventBase::loop_continue) |
//! | `event_base_once` | [`EventBase::once`], [`EventBase::once_fd`] |
//! | `event_base_gettimeofday_cached`, `event_base_update_cache_time` | [`EventBase::now`], [`EventBase::refresh_now`] |
//! | `event_base_init_common_timeout` | [`EventBase::common_timeout`] |
//! | `event_base_get_num_events`, `event_base_get_max_events` | [`EventBase::counts`] |
//! | `event_new`, `evtimer_new`, `evsignal_new` | [`Event::fd`], [`Event::timer`] or [`Event::interval`], [`Event::signal`] |
//! | `event_add`, `event_del`, `event_active`, `event_pending`, `event_free` | [`add`](Event::add), [`del`](Event::del), [`activate`](Event::activate), [`pending`](Event::pending), [`free`](Event::free) |
//! | `event_priority_set` | [`Event::set_priority`] |
//! | the above from another thread | [`Notifier::post`], [`Notifier::activate`] with an [`EventTicket`] |
//! | `evbuffer_add`, `_prepend`, `_add_reference`, `_add_file` | [`append`](Evbuffer::append), [`prepend`](Evbuffer::prepend), [`append_shared`](Evbuffer::append_shared), [`append_file`](Evbuffer::append_file) |
//! | `evbuffer_file_segment_new`, `evbuffer_add_file_segment` | [`FileSegment::new`](evbuffer::FileSegment::new), [`append_file`](Evbuffer::append_file) |
//! | `evbuffer_add_buffer`, `_prepend_buffer`, `_remove_buffer` | [`append_buffer`](Evbuffer::append_buffer), [`prepend_buffer`](Evbuffer::prepend_buffer), [`remove_buffer`](Evbuffer::remove_buffer) |
//! | `evbuffer_remove`, `_copyout`, `_drain`, `_pullup` | [`remove`](Evbuffer::remove), [`copy_out`](Evbuffer::copy_out), [`drain`](Evbuffer::drain), [`pull_up`](Evbuffer::pull_up) |
//! | `evbuffer_readln`, `_search_eol`, `_search` | [`read_line`](Evbuffer::read_line), [`find_eol`](Evbuffer::find_eol), [`find`](Evbuffer::find) |
//! | `evbuffer_peek`, `_reserve_space`, `_commit_space` | [`peek`](Evbuffer::peek), [`reserve`](Evbuffer::reserve), [`Reservation::commit`](evbuffer::Reservation::commit) |
//! | `evbuffer_read`, `evbuffer_write_atmost` | [`read_from`](Evbuffer::read_from), [`write_to`](Evbuffer::write_to) |
//! | `evbuffer_add_cb`, `evbuffer_defer_callbacks` | [`on_change`](Evbuffer::on_change), [`EventBase::defer_changes`] |
//! | `bufferevent_socket_new`, `bufferevent_pair_new` | [`Bufferevent::socket`] or [`Bufferevent::unconnected`], [`Bufferevent::pair`] |
//! | `bufferevent_socket_connect` | [`Bufferevent::connect`] |
//! | `bufferevent_setcb` | [`on_read`](Bufferevent::on_read), [`on_write`](Bufferevent::on_write), [`on_event`](Bufferevent::on_event) |
//! | `bufferevent_enable`, `_disable`, `_setwatermark`, `_set_timeouts` | [`enable`](Bufferevent::enable), [`disable`](Bufferevent::disable), [`set_read_marks`](Bufferevent::set_read_marks), [`set_timeouts`](Bufferevent::set_timeouts) |
//! | `bufferevent_get_input`, `_get_output`, `_write`, `_read` | [`input`](Bufferevent::input), [`output`](Bufferevent::output), [`write`](Bufferevent::write), [`read`](Bufferevent::read) |
//! | `bufferevent_free`, `bufferevent_setfd` | [`free`](Bufferevent::free), [`take_socket`](Bufferevent::take_socket) or [`replace_socket`](Bufferevent::replace_socket) |
//! | `shutdown`, `getpeername`, `setsockopt` on `bufferevent_getfd` | [`shutdown`](Bufferevent::shutdown), [`peer_address`](Bufferevent::peer_address), [`set_keepalive`](Bufferevent::set_keepalive), [`with_socket`](Bufferevent::with_socket) |
//! | a write callback that frees, to send a last reply | [`free_when_sent`](Bufferevent::free_when_sent) |
//! | `evconnlistener_new_bind`, `evconnlistener_new` | [`Listener::bind`] or [`Listener::bind_with`], [`Listener::adopt`] |
//! | `evconnlistener_enable`, `_disable`, `_set_error_cb`, `_get_fd` | [`enable`](Listener::enable), [`disable`](Listener::disable), [`on_error`](Listener::on_error), [`raw_fd`](Listener::raw_fd) |
//! | `evhttp` | [`http`] |
//! | `event_set_log_callback` | [`EventBase::on_diagnostic`] |
//! | `void *arg` | what the closure captures |
//!
//! # What is not here
//!
//! | libevent | instead |
//! |---|---|
//! | `evdns`, `bufferevent_socket_connect_hostname` | an [`Address`] is numeric or a path; look names up on another thread and [`post`](Notifier::post) the result |
//! | filters, TLS, rate limits, `evrpc`, `evtag` | nothing |
//! | a length of -1 for the rest of a file | ask the file's metadata |
//! | `event_reinit` after a fork | make the base in the child |
//! | locks, `BEV_OPT_THREADSAFE`, `evthread` | a base for each thread, and [`Notifier`] |
//! | `event_base_foreach_event`, `_dump_events`, `evwatch` | [`EventBase::counts`] |
//! | fatal and memory callbacks | every failure is an [`Error`], reaches a callback, or [`EventBase::on_diagnostic`] |
//!
//! # Who owns what
//!
//! - **The base owns what is live.** [`Event`], [`Bufferevent`] and [`Listener`] are handles: cloning is cheap, dropping
//!   one stops nothing. A pending event, and every bufferevent and listener, lives until its `free`; an event that is
//!   idle goes with its last handle. Dropping the [`EventBase`] frees everything on it.
//! - **`free` ends.** At once no callback runs any more and closures are dropped, which also frees an object whose own
//!   closure holds its handle; what is on the stack returns first, then the descriptor is closed. A freed handle
//!   answers [`Error::Freed`] or nothing. Freeing twice is harmless.
//! - **Sockets are owned.** A bufferevent and a listener close theirs; an event closes its descriptor, or shares it by
//!   `Rc`. So nothing closed is ever polled.
//! - **A callback may do anything** to any object, its own included: free, replace, delete, add, trigger. Nothing of the
//!   library is borrowed while it runs, and the library looks at the world again when it returns. The one exception is
//!   to run the same base: [`Error::AlreadyRunning`].
//! - **No closure runs inside itself.** Triggering the callback that runs has it run once more, from the loop.
//! - **A panic** passes through [`EventBase::dispatch`]. The closure that panicked is lost; the base can be run again.
//!   The object itself stays, without that closure: an event is idle, a listener accepts no more, a bufferevent whose
//!   read callback is lost reads no more. A program that goes on sets the closure again, and enables what is off, or frees
//!   the object.
//! - **One thread.** A base and its handles are `!Send`; only [`Notifier`] and [`EventTicket`] cross. [`Notifier`] shows
//!   how a result from another thread reaches state that cannot.
//!
//! # An echo server
//!
//! ```no_run
//! use reactor::{BevOptions, Bufferevent, Direction, EventBase, Listener};
//!
//! let base = EventBase::new()?;
//! let _listener = Listener::bind(&base, &"127.0.0.1:8000".parse()?, |listener, socket, _peer| {
//!     let Ok(bev) = Bufferevent::socket(listener.base(), socket, BevOptions::empty()) else { return };
//!     bev.on_read(|bev| {
//!         let _ = bev.output().append_buffer(bev.input());
//!     });
//!     bev.on_event(|bev, what| {
//!         if what.ends() {
//!             bev.free();
//!         }
//!     });
//!     let _ = bev.enable(Direction::READ);
//! })?;
//! base.dispatch()?;
//! # Ok::<(), reactor::Error>(())
//! ```
//!
//! # Where this differs from libevent
//!
//! | libevent 2.1.12 | here, and why |
//! |---|---|
//! | a callback that triggers itself recurses | it runs once more from the loop: a closure cannot be entered twice |
//! | `BEV_OPT_CLOSE_ON_FREE` | the socket is always owned; [`Bufferevent::take_socket`] gets it back |
//! | a wait is computed from the time cached before the callbacks | from a fresh clock, so no timer waits for another's callback |
//! | equal deadlines run in heap order | in the order in which they were set |
//! | a timer and data in one turn report `TIMEOUT` alone | `TIMEOUT` and `READ` together, as libevent's master does |
//! | events of both triggering modes on one descriptor are undefined | [`Error::MixedTrigger`] |
//! | an input at its high mark calls back again and again | only when bytes came in |
//! | a Unix connect that succeeds at once runs the write callback before `CONNECTED` | `CONNECTED` first |
//! | files leave the output whole, past every limit | limits count for files too |
//! | files may be mapped | never: a file that is cut short would kill the process |
//! | a file shorter than promised is sent with zeros | [`Error::FileShort`] |
//! | `evbuffer_readln` tells watchers of the line and of its end apart | once, of both |
//! | a listener whose callback is taken away accepts and closes | connections wait in the kernel's queue |
//! | one base gets the signals | every base that asked gets each delivery |
//! | a signal that nobody waits for any more does what it did before | it is ignored: its handler stays, with nothing to do |
//! | `accept` errors are reported in every turn | once for each pause of 10 ms to 1 s |
//! | bufferevents read 4096 bytes a pass | 16 KiB, as master does |
//! | warnings go to the standard error until a log callback is set | nowhere until [`EventBase::on_diagnostic`] is set |
//! | interest is told to the kernel at each `event_add` and `event_del` | what is added at once, what is taken away at the next poll |
//! | timers have the poll's precision of a millisecond | 50 µs when they are less than 20 ms away |
//!
//! Linux is the platform that is promised and tested.

mod active;
mod address;
mod base;
mod bufferevent;
mod builder;
mod clock;
mod diagnostic;
mod error;
pub mod evbuffer;
mod event;
mod flags;
pub mod http;
mod io_map;
mod left_over;
mod listener;
mod notify;
mod once;
mod selector;
mod signal;
mod slot;
mod sys;
mod table;
mod timer;

pub use address::Address;
pub use base::{CommonTimeout, Counts, EventBase, Outcome};
pub use bufferevent::{BevEvent, BevOptions, Bufferevent, Direction, FlushMode, TriggerOptions};
pub use builder::Builder;
pub use clock::SteppedClock;
pub use diagnostic::Diagnostic;
pub use error::{Error, Result};
pub use evbuffer::Evbuffer;
pub use event::{Event, EventTicket};
pub use flags::{EventFlags, LoopFlags};
pub use listener::{ListenOptions, Listener};
pub use notify::Notifier;
