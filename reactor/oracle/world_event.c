/* The base and its events. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

struct ev {
	char name[32];
	struct event *event;   /* NULL after free, and for base_once */
	int calls;
	int64_t due;           /* 0 when the deadline is not checked */
	int64_t period;
};

static const struct flag loop_flags[] = {
	{ "ONCE", EVLOOP_ONCE }, { "NONBLOCK", EVLOOP_NONBLOCK }, { "NO_EXIT_ON_EMPTY", EVLOOP_NO_EXIT_ON_EMPTY },
};

const struct timeval *to_timeval(long ms, struct timeval *tv)
{
	tv->tv_sec = ms / 1000;
	tv->tv_usec = ms % 1000 * 1000;
	return tv;
}

static struct ev *ev_of(const char *name) { return named_get(KIND_EVENT, name); }

/* "not-early" is checked for deadlines that were set outside of callbacks: inside, the cached time counts. */
static const char *early_text(struct ev *e, short what)
{
	if (!(what & EV_TIMEOUT) || e->due == 0)
		return "";
	int ok = now_us() >= e->due;
	e->due = e->event && (event_get_events(e->event) & EV_PERSIST) ? e->due + e->period : 0;
	return ok ? " not-early=1" : " not-early=0";
}

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	struct ev *e = arg;
	int call = ++e->calls;
	const char *outer = trace_enter(e->name);
	const char *flags = event_flags_text(what), *early = early_text(e, what);

	if (what & EV_SIGNAL)
		say_cb("cb=%s flags=%s signal=%s", e->name, flags, sig_name((int)fd));
	else
		say_cb("cb=%s flags=%s%s", e->name, flags, early);
	script_run(script_reaction(e->name, NULL, call));
	trace_leave(outer);
}

static struct ev *make(const char *name)
{
	struct ev *e = calloc(1, sizeof *e);
	snprintf(e->name, sizeof e->name, "%s", name);
	named_put(KIND_EVENT, name, e);
	return e;
}

static void finish(struct ev *e, struct event *event, const char *op)
{
	e->event = event;
	if (!event)
		say("%s %s failed", op, e->name);
}

/* event:NAME[:FD[:FLAGS]] */
static void op_event(char **arg, int n)
{
	struct ev *e = make(arg[0]);
	int fd = n > 1 ? fd_of(arg[1]) : -1;
	short flags = n > 2 ? (short)event_flags_parse(arg[2]) : 0;
	finish(e, event_new(base, fd, flags, on_event, e), "event");
}

static void op_signal(char **arg, int n)
{
	struct ev *e = make(arg[0]);
	short flags = EV_SIGNAL | (n > 2 ? (short)event_flags_parse(arg[2]) : 0);
	finish(e, event_new(base, sig_number(arg[1]), flags, on_event, e), "signal");
}

/* add:NAME[:MS | @COMMON] */
static void op_add(char **arg, int n)
{
	struct ev *e = ev_of(arg[0]);
	struct timeval tv;
	const struct timeval *timeout = NULL;

	if (n > 1 && arg[1][0] == '@') {
		timeout = named_get(KIND_OTHER, arg[1]);
	} else if (n > 1) {
		long ms = to_num(arg[1]);
		timeout = to_timeval(ms, &tv);
		e->period = ms * 1000;
		e->due = trace_depth() ? 0 : now_us() + e->period;
	}
	errno = 0;
	if (event_add(e->event, timeout) < 0)
		say("add %s failed%s", e->name, err_suffix(errno));
}

static void op_del(char **arg, int n UNUSED)
{
	if (event_del(ev_of(arg[0])->event) < 0)
		say("del %s failed", arg[0]);
}

static void op_free(char **arg, int n UNUSED)
{
	struct ev *e = ev_of(arg[0]);
	event_free(e->event);
	e->event = NULL;
}

static void op_rmtimer(char **arg, int n UNUSED)
{
	if (event_remove_timer(ev_of(arg[0])->event) < 0)
		say("rmtimer %s failed", arg[0]);
}

/* active:NAME:FLAGS[:CALLS] */
static void op_active(char **arg, int n)
{
	event_active(ev_of(arg[0])->event, (int)event_flags_parse(arg[1]), n > 2 ? (short)to_num(arg[2]) : 1);
}

static void op_prio(char **arg, int n UNUSED)
{
	if (event_priority_set(ev_of(arg[0])->event, (int)to_num(arg[1])) < 0)
		say("prio %s %s failed", arg[0], arg[1]);
}

static void op_getprio(char **arg, int n UNUSED) { say("prio %s=%d", arg[0], event_get_priority(ev_of(arg[0])->event)); }

static void op_priorities(char **arg, int n UNUSED)
{
	int ret = event_base_priority_init(base, (int)to_num(arg[0]));
	say("priorities %s %s now=%d", arg[0], ret < 0 ? "failed" : "ok", event_base_get_npriorities(base));
}

/* pending:NAME[:MASK] */
static void op_pending(char **arg, int n)
{
	long mask = n > 1 ? event_flags_parse(arg[1]) : EV_READ | EV_WRITE | EV_CLOSED | EV_SIGNAL | EV_TIMEOUT;
	int is = event_pending(ev_of(arg[0])->event, (short)mask, NULL);
	say("state %s pending=%s", arg[0], event_flags_text(is));
}

/* Is the deadline, on the wall clock, about MS from now? */
static void op_deadline(char **arg, int n UNUSED)
{
	struct timeval at = { 0, 0 }, now, left;
	long ms = to_num(arg[1]);
	int is = event_pending(ev_of(arg[0])->event, EV_TIMEOUT, &at);
	evutil_gettimeofday(&now, NULL);
	evutil_timersub(&at, &now, &left);
	long found = (long)left.tv_sec * 1000 + left.tv_usec / 1000;
	say("deadline %s about-%ld-ms=%s", arg[0], ms, is && found > ms - 100 && found < ms + 100 ? "yes" : "no");
}

static void op_counts(char **arg UNUSED, int n UNUSED)
{
	int added = event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED);
	int active = event_base_get_num_events(base, EVENT_BASE_COUNT_ACTIVE);
	int both = event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED | EVENT_BASE_COUNT_ACTIVE);
	say("counts added=%d active=%d both=%d", added, active, both);
}

static void op_peaks(char **arg UNUSED, int n)
{
	int added = event_base_get_max_events(base, EVENT_BASE_COUNT_ADDED, n > 0);
	int active = event_base_get_max_events(base, EVENT_BASE_COUNT_ACTIVE, n > 0);
	say("peaks added=%d active=%d", added, active);
}

/* What an event was made of, and whether it is the one that runs. */
static void op_info(char **arg, int n UNUSED)
{
	struct ev *e = ev_of(arg[0]);
	int own = event_get_base(e->event) == base && event_get_callback(e->event) == on_event &&
	    event_get_callback_arg(e->event) == e;
	/* libevent 2.1 crashes when asked outside of a callback. */
	int running = trace_depth() && event_base_get_running_event(base) == e->event;
	say("info %s interest=%s own=%d running=%d", e->name, event_flags_text(event_get_events(e->event)), own, running);
}

/* once:NAME:FD:FLAGS[:MS] */
static void op_once(char **arg, int n)
{
	struct ev *e = make(arg[0]);
	struct timeval tv;
	const struct timeval *timeout = n > 3 ? to_timeval(to_num(arg[3]), &tv) : NULL;
	if (event_base_once(base, fd_of(arg[1]), (short)event_flags_parse(arg[2]), on_event, e, timeout) < 0)
		say("once %s failed", e->name);
}

static void on_final(struct event *event UNUSED, void *arg)
{
	struct ev *e = arg;
	const char *outer = trace_enter(e->name);
	say_cb("cb=%s finalized", e->name);
	trace_leave(outer);
}

static void op_finalize(char **arg, int n UNUSED)
{
	struct ev *e = ev_of(arg[0]);
	if (event_finalize(0, e->event, on_final) < 0)
		say("finalize %s failed", e->name);
}

/* common:@NAME:MS */
static void op_common(char **arg, int n UNUSED)
{
	struct timeval tv;
	const struct timeval *handle = event_base_init_common_timeout(base, to_timeval(to_num(arg[1]), &tv));
	const struct timeval *again = event_base_init_common_timeout(base, &tv);
	const struct timeval *itself = event_base_init_common_timeout(base, handle);
	say("common %s made=%d again-same=%d itself-same=%d", arg[0], handle != NULL, again == handle, itself == handle);
	named_put(KIND_OTHER, arg[0], (void *)handle);
}

static void op_byfd(char **arg, int n UNUSED)
{
	event_base_active_by_fd(base, fd_of(arg[0]), (short)event_flags_parse(arg[1]));
}

static void op_bysignal(char **arg, int n UNUSED) { event_base_active_by_signal(base, sig_number(arg[0])); }

/* exit[:MS] */
static void op_exit(char **arg, int n)
{
	struct timeval tv;
	event_base_loopexit(base, n ? to_timeval(to_num(arg[0]), &tv) : NULL);
}

static void op_break(char **arg UNUSED, int n UNUSED) { event_base_loopbreak(base); }
static void op_continue(char **arg UNUSED, int n UNUSED) { event_base_loopcontinue(base); }

static void op_got(char **arg UNUSED, int n UNUSED)
{
	int exit = event_base_got_exit(base), brk = event_base_got_break(base);
	say("got exit=%d break=%d", exit, brk);
}

/* loop[:FLAGS] */
static void op_loop(char **arg, int n)
{
	long flags = n ? flags_parse(loop_flags, COUNT(loop_flags), arg[0]) : 0;
	int ret = event_base_loop(base, (int)flags);
	int exit = event_base_got_exit(base), brk = event_base_got_break(base);
	if (flags)
		say("ret loop=%d flags=%s exit=%d break=%d", ret, flags_text(loop_flags, COUNT(loop_flags), flags), exit, brk);
	else
		say("ret dispatch=%d exit=%d break=%d", ret, exit, brk);
}

/* step[:COUNT]: one numbered loop call each. With sort=1 the lines of a step are grouped by name. */
static void op_step(char **arg, int n)
{
	static int steps;
	int sorted = script_num("sort", 0) != 0;
	for (long i = n ? to_num(arg[0]) : 1; i > 0; i--) {
		pass_shown = ++steps;
		if (sorted)
			trace_group();
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		if (sorted)
			trace_ungroup();
		pass_shown = 0;
	}
}

static void op_settle(char **arg UNUSED, int n UNUSED) { settle(); }
static void op_run(char **arg, int n UNUSED) { run_for(to_num(arg[0])); }

static int64_t wall_us(const struct timeval *tv) { return (int64_t)tv->tv_sec * 1000000 + tv->tv_usec; }

/* Does the base's clock stand still behind the real one (by more than 20 ms)? */
static void op_cached(char **arg UNUSED, int n UNUSED)
{
	struct timeval cached, now;
	event_base_gettimeofday_cached(base, &cached);
	evutil_gettimeofday(&now, NULL);
	say("cached behind=%d", wall_us(&now) - wall_us(&cached) > 20000);
}

static void op_refresh(char **arg UNUSED, int n UNUSED) { event_base_update_cache_time(base); }

static void op_freebase(char **arg UNUSED, int n UNUSED)
{
	event_base_free(base);
	base = NULL;
	say("base freed");
}

const struct op event_ops[] = {
	{ "event", 1, 3, op_event }, { "signal", 2, 3, op_signal }, { "add", 1, 2, op_add }, { "del", 1, 1, op_del },
	{ "free", 1, 1, op_free }, { "rmtimer", 1, 1, op_rmtimer }, { "active", 2, 3, op_active },
	{ "prio", 2, 2, op_prio }, { "getprio", 1, 1, op_getprio }, { "priorities", 1, 1, op_priorities },
	{ "pending", 1, 2, op_pending }, { "deadline", 2, 2, op_deadline }, { "counts", 0, 0, op_counts },
	{ "peaks", 0, 1, op_peaks }, { "info", 1, 1, op_info }, { "once", 3, 4, op_once },
	{ "finalize", 1, 1, op_finalize }, { "common", 2, 2, op_common }, { "byfd", 2, 2, op_byfd },
	{ "bysignal", 1, 1, op_bysignal }, { "exit", 0, 1, op_exit }, { "break", 0, 0, op_break },
	{ "continue", 0, 0, op_continue }, { "got", 0, 0, op_got }, { "loop", 0, 1, op_loop }, { "step", 0, 1, op_step },
	{ "settle", 0, 0, op_settle }, { "run", 1, 1, op_run }, { "cached", 0, 0, op_cached },
	{ "refresh", 0, 0, op_refresh }, { "freebase", 0, 0, op_freebase },
	{ NULL, 0, 0, NULL },
};
