/* Bufferevents: sockets, pairs, filters, rate limits. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

/* The first member lets buffer_of() find the buffers without knowing this type. */
struct bev {
	struct bufferevent *bev;   /* NULL after free */
	char name[32];
	const char *in_kind, *out_kind;
	int reads, writes, events, ins, outs;
};

static const struct flag what_flags[] = {
	{ "READING", BEV_EVENT_READING }, { "WRITING", BEV_EVENT_WRITING }, { "CONNECTED", BEV_EVENT_CONNECTED },
	{ "EOF", BEV_EVENT_EOF }, { "ERROR", BEV_EVENT_ERROR }, { "TIMEOUT", BEV_EVENT_TIMEOUT },
};
static const struct flag trigger_flags[] = {
	{ "IGNORE_WATERMARKS", BEV_TRIG_IGNORE_WATERMARKS }, { "DEFER", BEV_TRIG_DEFER_CALLBACKS },
};

static struct bev *bev_of(const char *name) { return named_get(KIND_BEV, name); }
static short direction(const char *text) { return (short)flags_parse(direction_flags, COUNT(direction_flags), text); }
static int deferred(int given, const char *word)
{
	return BEV_OPT_CLOSE_ON_FREE | (given && strcmp(word, "DEFER") == 0 ? BEV_OPT_DEFER_CALLBACKS : 0);
}

/* ---- callbacks ---- */
static void take_all(struct bev *b, int merged)
{
	struct evbuffer *in = bufferevent_get_input(b->bev);
	size_t len = evbuffer_get_length(in);
	char *bytes = malloc(len + 1);
	evbuffer_remove(in, bytes, len);
	if (merged)
		say_read(b->name, bytes, len);
	else
		say("take %s bytes=%zu digest=%08x", b->name, len, digest(DIGEST_START, bytes, len));
	free(bytes);
}

/* A read callback whose reaction starts with "take" empties the input and is merged with its neighbours. */
static void on_read(struct bufferevent *bev, void *arg)
{
	struct bev *b = arg;
	const char *ops = script_reaction(b->name, "r", ++b->reads);
	const char *outer = trace_enter(b->name);

	if (ops && strncmp(ops, "take", 4) == 0 && (ops[4] == 0 || ops[4] == ';')) {
		take_all(b, 1);
		ops = ops[4] ? ops + 5 : NULL;
	} else {
		say_cb("cb=%s read len=%zu", b->name, evbuffer_get_length(bufferevent_get_input(bev)));
	}
	script_run(ops);
	trace_leave(outer);
}

static void on_write(struct bufferevent *bev, void *arg)
{
	struct bev *b = arg;
	int call = ++b->writes;
	const char *outer = trace_enter(b->name);
	say_cb("cb=%s write len=%zu", b->name, evbuffer_get_length(bufferevent_get_output(bev)));
	script_run(script_reaction(b->name, "w", call));
	trace_leave(outer);
}

static void print_event(struct bev *b, const char *label, short what)
{
	int err = errno;
	const char *flags = flags_text(what_flags, COUNT(what_flags), what);
	if (what & BEV_EVENT_ERROR)
		say_cb("cb=%s %s=%s%s", b->name, label, flags, err_suffix(err));
	else
		say_cb("cb=%s %s=%s", b->name, label, flags);
}

static void on_what(struct bufferevent *bev UNUSED, short what, void *arg)
{
	struct bev *b = arg;
	int call = ++b->events;
	int err = errno;
	const char *outer = trace_enter(b->name);
	errno = err;
	print_event(b, "event", what);
	script_run(script_reaction(b->name, "e", call));
	trace_leave(outer);
}

/* The second set of callbacks, for `recall`. */
static void on_read2(struct bufferevent *bev, void *arg)
{
	struct bev *b = arg;
	const char *outer = trace_enter(b->name);
	say_cb("cb=%s read2 len=%zu", b->name, evbuffer_get_length(bufferevent_get_input(bev)));
	trace_leave(outer);
}

static void on_write2(struct bufferevent *bev, void *arg)
{
	struct bev *b = arg;
	const char *outer = trace_enter(b->name);
	say_cb("cb=%s write2 len=%zu", b->name, evbuffer_get_length(bufferevent_get_output(bev)));
	trace_leave(outer);
}

static void on_what2(struct bufferevent *bev UNUSED, short what, void *arg)
{
	struct bev *b = arg;
	const char *outer = trace_enter(b->name);
	print_event(b, "event2", what);
	trace_leave(outer);
}

static struct bev *make(const char *name, struct bufferevent *bev)
{
	struct bev *b = calloc(1, sizeof *b);
	if (!bev)
		script_fail("bufferevent", name);
	b->bev = bev;
	snprintf(b->name, sizeof b->name, "%s", name);
	named_put(KIND_BEV, name, b);
	bufferevent_setcb(bev, on_read, on_write, on_what, b);
	return b;
}

/* bev:NAME:FD[:DEFER]; the bufferevent owns the descriptor. */
static void op_bev(char **arg, int n)
{
	make(arg[0], bufferevent_socket_new(base, fd_of(arg[1]), deferred(n > 2, n > 2 ? arg[2] : "")));
}

static void op_bevpair(char **arg, int n)
{
	struct bufferevent *two[2];
	if (bufferevent_pair_new(base, deferred(n > 2, n > 2 ? arg[2] : ""), two) < 0)
		script_fail("pair", arg[0]);
	make(arg[0], two[0]);
	make(arg[1], two[1]);
}

static void op_partner(char **arg, int n UNUSED)
{
	say("partner %s %s", arg[0], bufferevent_pair_get_partner(bev_of(arg[0])->bev) ? "there" : "none");
}

static void op_bevfree(char **arg, int n UNUSED)
{
	struct bev *b = bev_of(arg[0]);
	bufferevent_free(b->bev);
	b->bev = NULL;
}

/* setcb:NAME:rwe with any of the letters; recall installs the second set. */
static void op_setcb(char **arg, int n UNUSED)
{
	struct bev *b = bev_of(arg[0]);
	bufferevent_setcb(b->bev, strchr(arg[1], 'r') ? on_read : NULL, strchr(arg[1], 'w') ? on_write : NULL,
	    strchr(arg[1], 'e') ? on_what : NULL, b);
}

static void op_recall(char **arg, int n UNUSED)
{
	struct bev *b = bev_of(arg[0]);
	bufferevent_setcb(b->bev, on_read2, on_write2, on_what2, b);
}

static void op_connect(char **arg, int n UNUSED)
{
	struct address *a = address_of(arg[1]);
	int ret = bufferevent_socket_connect(bev_of(arg[0])->bev, (struct sockaddr *)&a->sa, (int)a->len);
	say("connect %s %s", arg[0], ret < 0 ? "failed" : "ok");
}

static void op_connectnothing(char **arg, int n UNUSED)
{
	int ret = bufferevent_socket_connect(bev_of(arg[0])->bev, NULL, 0);
	say("connectnothing %s %s", arg[0], ret < 0 ? "failed" : "ok");
}

/* connecthost:NAME:HOST:PORT[:FAMILY] */
static void op_connecthost(char **arg, int n)
{
	int family = n > 3 ? (int)to_num(arg[3]) : AF_UNSPEC;
	int ret = bufferevent_socket_connect_hostname(bev_of(arg[0])->bev, NULL, family, arg[1], (int)to_num(arg[2]));
	say("connecthost %s %s %s %s", arg[0], arg[1], arg[2], ret < 0 ? "failed" : "ok");
}

static void op_enable(char **arg, int n UNUSED)
{
	if (bufferevent_enable(bev_of(arg[0])->bev, direction(arg[1])) < 0)
		say("enable %s failed", arg[0]);
}

static void op_disable(char **arg, int n UNUSED)
{
	if (bufferevent_disable(bev_of(arg[0])->bev, direction(arg[1])) < 0)
		say("disable %s failed", arg[0]);
}

static void op_enabled(char **arg, int n UNUSED)
{
	short bits = bufferevent_get_enabled(bev_of(arg[0])->bev);
	say("enabled %s=%s", arg[0], flags_text(direction_flags, COUNT(direction_flags), bits));
}

/* marks:NAME:DIRECTION:LOW:HIGH */
static void op_marks(char **arg, int n UNUSED)
{
	bufferevent_setwatermark(bev_of(arg[0])->bev, direction(arg[1]), (size_t)to_num(arg[2]), (size_t)to_num(arg[3]));
}

static void op_getmarks(char **arg, int n UNUSED)
{
	size_t low = 0, high = 0;
	int ret = bufferevent_getwatermark(bev_of(arg[0])->bev, direction(arg[1]), &low, &high);
	if (ret < 0)
		say("marks %s %s failed", arg[0], arg[1]);
	else
		say("marks %s %s low=%zu high=%zu", arg[0], arg[1], low, high);
}

/* timeouts:NAME:READ_MS:WRITE_MS, 0 for none. */
static void op_timeouts(char **arg, int n UNUSED)
{
	struct timeval r, w;
	long rms = to_num(arg[1]), wms = to_num(arg[2]);
	to_timeval(rms, &r);
	to_timeval(wms, &w);
	bufferevent_set_timeouts(bev_of(arg[0])->bev, rms ? &r : NULL, wms ? &w : NULL);
}

/* ---- data ---- */
static void op_write(char **arg, int n UNUSED)
{
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = malloc(size + 1);
	pattern(arg[0], bytes, size);
	if (bufferevent_write(bev_of(arg[0])->bev, bytes, size) < 0)
		say("write %s failed", arg[0]);
	free(bytes);
}

static void op_writebuf(char **arg, int n UNUSED)
{
	if (bufferevent_write_buffer(bev_of(arg[0])->bev, buffer_of(arg[1])) < 0)
		say("writebuf %s failed", arg[0]);
}

static void op_read(char **arg, int n UNUSED)
{
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = malloc(size + 1);
	size_t got = bufferevent_read(bev_of(arg[0])->bev, bytes, size);
	say("read %s bytes=%zu digest=%08x", arg[0], got, digest(DIGEST_START, bytes, got));
	free(bytes);
}

static void op_readbuf(char **arg, int n UNUSED)
{
	int ret = bufferevent_read_buffer(bev_of(arg[0])->bev, buffer_of(arg[1]));
	say("readbuf %s %s len=%zu", arg[0], ret < 0 ? "failed" : "ok", evbuffer_get_length(buffer_of(arg[1])));
}

static void op_take(char **arg, int n UNUSED) { take_all(bev_of(arg[0]), 0); }

static void op_lens(char **arg, int n UNUSED)
{
	struct bufferevent *bev = bev_of(arg[0])->bev;
	size_t in = evbuffer_get_length(bufferevent_get_input(bev)), out = evbuffer_get_length(bufferevent_get_output(bev));
	say("lens %s in=%zu out=%zu", arg[0], in, out);
}

/* ---- triggers, flushing, descriptors ---- */
static void op_trigger(char **arg, int n)
{
	int options = n > 2 ? (int)flags_parse(trigger_flags, COUNT(trigger_flags), arg[2]) : 0;
	bufferevent_trigger(bev_of(arg[0])->bev, direction(arg[1]), options);
	say("triggered %s", arg[0]);
}

static void op_triggerevent(char **arg, int n)
{
	int options = n > 2 ? (int)flags_parse(trigger_flags, COUNT(trigger_flags), arg[2]) : 0;
	short what = (short)flags_parse(what_flags, COUNT(what_flags), arg[1]);
	errno = 0;
	bufferevent_trigger_event(bev_of(arg[0])->bev, what, options);
	say("triggered %s", arg[0]);
}

static enum bufferevent_flush_mode mode_of(const char *name)
{
	return strcmp(name, "FINISHED") == 0 ? BEV_FINISHED : strcmp(name, "FLUSH") == 0 ? BEV_FLUSH : BEV_NORMAL;
}

/* flush:NAME:DIRECTIONS:MODE */
static void op_flush(char **arg, int n UNUSED)
{
	int ret = bufferevent_flush(bev_of(arg[0])->bev, direction(arg[1]), mode_of(arg[2]));
	say("flush %s %s %s ret=%d", arg[0], arg[1], arg[2], ret);
}

static void op_setfd(char **arg, int n UNUSED) { bufferevent_setfd(bev_of(arg[0])->bev, fd_of(arg[1])); }

static int same_fd(void *object, const void *key) { return *(int *)object == *(const int *)key; }

static void op_getfd(char **arg, int n UNUSED)
{
	int fd = bufferevent_getfd(bev_of(arg[0])->bev);
	const char *name = fd < 0 ? "none" : named_where(KIND_FD, same_fd, &fd);
	say("fd %s=%s", arg[0], strcmp(name, "unknown") == 0 ? "own" : name);
}

/* ---- filters ---- */
/*
 * pass   moves everything
 * four   moves whole groups of four bytes and asks for more when less is left
 * one    moves one byte per call
 * fail   moves nothing and reports an error
 */
static enum bufferevent_filter_result filter(const char *kind, struct evbuffer *src, struct evbuffer *dst)
{
	size_t len = evbuffer_get_length(src);
	if (strcmp(kind, "fail") == 0)
		return BEV_ERROR;
	if (strcmp(kind, "four") == 0) {
		if (len < 4)
			return BEV_NEED_MORE;
		evbuffer_remove_buffer(src, dst, len - len % 4);
		return BEV_OK;
	}
	if (len == 0)
		return BEV_NEED_MORE;
	evbuffer_remove_buffer(src, dst, strcmp(kind, "one") == 0 ? 1 : len);
	return BEV_OK;
}

static enum bufferevent_filter_result run_filter(struct bev *b, const char *side, struct evbuffer *src,
    struct evbuffer *dst, ev_ssize_t limit, enum bufferevent_flush_mode mode)
{
	static const char *const modes[] = { "NORMAL", "FLUSH", "FINISHED" };
	const char *outer = trace_enter(b->name);
	say_cb("filter %s %s src=%zu limit=%ld mode=%s", b->name, side, evbuffer_get_length(src), (long)limit, modes[mode]);
	int in = strcmp(side, "in") == 0;
	enum bufferevent_filter_result r = filter(in ? b->in_kind : b->out_kind, src, dst);
	script_run(script_reaction(b->name, side, in ? ++b->ins : ++b->outs));
	trace_leave(outer);
	return r;
}

static enum bufferevent_filter_result filter_in(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit,
    enum bufferevent_flush_mode mode, void *ctx)
{
	return run_filter(ctx, "in", src, dst, limit, mode);
}

static enum bufferevent_filter_result filter_out(struct evbuffer *src, struct evbuffer *dst, ev_ssize_t limit,
    enum bufferevent_flush_mode mode, void *ctx)
{
	return run_filter(ctx, "out", src, dst, limit, mode);
}

/* filter:NAME:UNDER:IN_KIND:OUT_KIND */
static void op_filter(char **arg, int n UNUSED)
{
	struct bev *b = calloc(1, sizeof *b);
	snprintf(b->name, sizeof b->name, "%s", arg[0]);
	b->in_kind = strdup(arg[2]);
	b->out_kind = strdup(arg[3]);
	b->bev = bufferevent_filter_new(bev_of(arg[1])->bev, filter_in, filter_out, BEV_OPT_CLOSE_ON_FREE, NULL, b);
	named_put(KIND_BEV, arg[0], b);
	bufferevent_setcb(b->bev, on_read, on_write, on_what, b);
}

/* ---- rate limits ---- */
static struct ev_token_bucket_cfg *bucket(char **arg)
{
	struct timeval tick;
	return ev_token_bucket_cfg_new((size_t)to_num(arg[0]), (size_t)to_num(arg[1]), (size_t)to_num(arg[2]),
	    (size_t)to_num(arg[3]), to_timeval(to_num(arg[4]), &tick));
}

/* rate:NAME:READ_RATE:READ_BURST:WRITE_RATE:WRITE_BURST:TICK_MS */
static void op_rate(char **arg, int n UNUSED)
{
	struct ev_token_bucket_cfg *cfg = bucket(arg + 1);
	say("rate %s %s/%s %s/%s %s", arg[0], arg[1], arg[2], arg[3], arg[4], cfg ? "ok" : "refused");
	if (cfg && strcmp(arg[0], "-") != 0)
		bufferevent_set_rate_limit(bev_of(arg[0])->bev, cfg);
}

static void op_norate(char **arg, int n UNUSED) { bufferevent_set_rate_limit(bev_of(arg[0])->bev, NULL); }

/* decrement:NAME:DIRECTION:N */
static void op_decrement(char **arg, int n UNUSED)
{
	struct bufferevent *bev = bev_of(arg[0])->bev;
	if (direction(arg[1]) == EV_READ)
		bufferevent_decrement_read_limit(bev, to_num(arg[2]));
	else
		bufferevent_decrement_write_limit(bev, to_num(arg[2]));
}

static void op_limits(char **arg, int n UNUSED)
{
	struct bufferevent *bev = bev_of(arg[0])->bev;
	long read = bufferevent_get_read_limit(bev), write = bufferevent_get_write_limit(bev);
	say("limits %s read=%ld write=%ld", arg[0], read, write);
}

static void op_maxread(char **arg, int n UNUSED)
{
	struct bufferevent *bev = bev_of(arg[0])->bev;
	bufferevent_set_max_single_read(bev, (size_t)to_num(arg[1]));
	long read = bufferevent_get_max_single_read(bev), write = bufferevent_get_max_single_write(bev);
	say("maxsingle %s read=%ld write=%ld", arg[0], read, write);
}

/* group:GROUP:READ_RATE:READ_BURST:WRITE_RATE:WRITE_BURST:TICK_MS */
static void op_group(char **arg, int n UNUSED)
{
	struct bufferevent_rate_limit_group *g = bufferevent_rate_limit_group_new(base, bucket(arg + 1));
	named_put(KIND_OTHER, arg[0], g);
}

static void op_joingroup(char **arg, int n UNUSED)
{
	bufferevent_add_to_rate_limit_group(bev_of(arg[1])->bev, named_get(KIND_OTHER, arg[0]));
}

static void op_leavegroup(char **arg, int n UNUSED) { bufferevent_remove_from_rate_limit_group(bev_of(arg[0])->bev); }

const struct op bev_ops[] = {
	{ "bev", 2, 3, op_bev }, { "bevpair", 2, 3, op_bevpair }, { "partner", 1, 1, op_partner },
	{ "bevfree", 1, 1, op_bevfree }, { "setcb", 2, 2, op_setcb }, { "recall", 1, 1, op_recall },
	{ "connect", 2, 2, op_connect }, { "connectnothing", 1, 1, op_connectnothing },
	{ "connecthost", 3, 4, op_connecthost }, { "enable", 2, 2, op_enable }, { "disable", 2, 2, op_disable },
	{ "enabled", 1, 1, op_enabled }, { "marks", 4, 4, op_marks }, { "getmarks", 2, 2, op_getmarks },
	{ "timeouts", 3, 3, op_timeouts }, { "write", 2, 2, op_write }, { "writebuf", 2, 2, op_writebuf },
	{ "read", 2, 2, op_read }, { "readbuf", 2, 2, op_readbuf }, { "take", 1, 1, op_take }, { "lens", 1, 1, op_lens },
	{ "trigger", 2, 3, op_trigger }, { "triggerevent", 2, 3, op_triggerevent }, { "flush", 3, 3, op_flush },
	{ "setfd", 2, 2, op_setfd }, { "getfd", 1, 1, op_getfd }, { "filter", 4, 4, op_filter },
	{ "rate", 6, 6, op_rate }, { "norate", 1, 1, op_norate }, { "decrement", 3, 3, op_decrement },
	{ "limits", 1, 1, op_limits }, { "maxread", 2, 2, op_maxread }, { "group", 6, 6, op_group },
	{ "joingroup", 2, 2, op_joingroup }, { "leavegroup", 1, 1, op_leavegroup },
	{ NULL, 0, 0, NULL },
};
