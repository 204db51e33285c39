/* Buffers. Each operation prints one line with its result and the length afterwards. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oracle.h"

#define MAX_VECTORS 64

struct watcher { char name[32]; struct evbuffer_cb_entry *entry; int calls; };
struct reference { char name[32]; char *start; size_t len; };
struct segment { char name[32]; struct evbuffer_file_segment *seg; };

static const struct { const char *name; enum evbuffer_eol_style style; } eols[] = {
	{ "ANY", EVBUFFER_EOL_ANY }, { "CRLF", EVBUFFER_EOL_CRLF }, { "CRLF_STRICT", EVBUFFER_EOL_CRLF_STRICT },
	{ "LF", EVBUFFER_EOL_LF }, { "NUL", EVBUFFER_EOL_NUL },
};

static enum evbuffer_eol_style eol_of(const char *name)
{
	for (size_t i = 0; i < COUNT(eols); i++)
		if (strcmp(eols[i].name, name) == 0)
			return eols[i].style;
	script_fail("no such line end", name);
}

/* "NAME.in" and "NAME.out" are the two buffers of a bufferevent. */
struct evbuffer *buffer_of(const char *name)
{
	const char *dot = strrchr(name, '.');
	if (dot && (strcmp(dot, ".in") == 0 || strcmp(dot, ".out") == 0)) {
		char owner[32];
		snprintf(owner, sizeof owner, "%.*s", (int)(dot - name), name);
		struct bufferevent *bev = *(struct bufferevent **)named_get(KIND_BEV, owner);
		return strcmp(dot, ".in") == 0 ? bufferevent_get_input(bev) : bufferevent_get_output(bev);
	}
	return named_get(KIND_BUFFER, name);
}

static void result(const char *op, const char *name, int ret)
{
	size_t len = evbuffer_get_length(buffer_of(name));
	say("%s %s %s len=%zu", op, name, ret == 0 ? "ok" : "failed", len);
}

static char *bytes_for(const char *name, size_t n)
{
	char *bytes = malloc(n + 1);
	pattern(name, bytes, n);
	return bytes;
}

/* By peeking: copying out of a buffer with a frozen front fails. */
static uint32_t content(struct evbuffer *b)
{
	int count = evbuffer_peek(b, -1, NULL, NULL, 0);
	struct evbuffer_iovec *v = calloc((size_t)count + 1, sizeof *v);
	uint32_t hash = DIGEST_START;

	evbuffer_peek(b, -1, NULL, v, count);
	for (int i = 0; i < count; i++)
		hash = digest(hash, v[i].iov_base, v[i].iov_len);
	free(v);
	return hash;
}

static void op_buffer(char **arg, int n)
{
	for (int i = 0; i < n; i++)
		named_put(KIND_BUFFER, arg[i], evbuffer_new());
}

static void op_bfree(char **arg, int n UNUSED)
{
	evbuffer_free(buffer_of(arg[0]));
	named_put(KIND_BUFFER, arg[0], NULL);
	say("bfree %s", arg[0]);
}

static void op_show(char **arg, int n UNUSED)
{
	struct evbuffer *b = buffer_of(arg[0]);
	size_t len = evbuffer_get_length(b);
	uint32_t hash = content(b);
	say("show %s len=%zu digest=%08x", arg[0], len, hash);
}

static void op_append(char **arg, int n UNUSED)
{
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = bytes_for(arg[0], size);
	result("append", arg[0], evbuffer_add(buffer_of(arg[0]), bytes, size));
	free(bytes);
}

/* appends:NAME:COUNT:SIZE, one line for all. */
static void op_appends(char **arg, int n UNUSED)
{
	size_t size = (size_t)to_num(arg[2]);
	int ret = 0;
	for (long i = to_num(arg[1]); i > 0; i--) {
		char *bytes = bytes_for(arg[0], size);
		ret |= evbuffer_add(buffer_of(arg[0]), bytes, size);
		free(bytes);
	}
	result("appends", arg[0], ret);
}

static void op_text(char **arg, int n UNUSED)
{
	char bytes[1024];
	size_t size = unescape(arg[1], bytes);
	result("text", arg[0], evbuffer_add(buffer_of(arg[0]), bytes, size));
}

/* text in pieces that stay in chunks of their own: text:NAME:A,B,C by reference. */
static void op_pieces(char **arg, int n UNUSED)
{
	char *rest = arg[1], *piece;
	int ret = 0;
	while ((piece = strsep(&rest, ",")) != NULL) {
		char *bytes = malloc(strlen(piece) + 1);
		size_t size = unescape(piece, bytes);
		ret |= evbuffer_add_reference(buffer_of(arg[0]), bytes, size, NULL, NULL);
	}
	result("pieces", arg[0], ret);
}

static void op_format(char **arg, int n UNUSED)
{
	long number = to_num(arg[1]);
	int ret = evbuffer_add_printf(buffer_of(arg[0]), "<%ld>", number);
	size_t len = evbuffer_get_length(buffer_of(arg[0]));
	say("format %s ret=%d len=%zu", arg[0], ret, len);
}

static void op_prepend(char **arg, int n UNUSED)
{
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = bytes_for(arg[0], size);
	result("prepend", arg[0], evbuffer_prepend(buffer_of(arg[0]), bytes, size));
	free(bytes);
}

static void op_drain(char **arg, int n UNUSED)
{
	result("drain", arg[0], evbuffer_drain(buffer_of(arg[0]), (size_t)to_num(arg[1])));
}

static void print_bytes(const char *op, const char *name, long got, const char *bytes)
{
	size_t len = evbuffer_get_length(buffer_of(name));
	if (got < 0)
		say("%s %s failed len=%zu", op, name, len);
	else
		say("%s %s got=%ld digest=%08x len=%zu", op, name, got, digest(DIGEST_START, bytes, (size_t)got), len);
}

static void op_remove(char **arg, int n UNUSED)
{
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = malloc(size + 1);
	int got = evbuffer_remove(buffer_of(arg[0]), bytes, size);
	print_bytes("remove", arg[0], got, bytes);
	free(bytes);
}

/* copyout:NAME:N[:AT] */
static void op_copyout(char **arg, int n)
{
	struct evbuffer *b = buffer_of(arg[0]);
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = malloc(size + 1);
	ev_ssize_t got;
	if (n > 2) {
		struct evbuffer_ptr at;
		evbuffer_ptr_set(b, &at, (size_t)to_num(arg[2]), EVBUFFER_PTR_SET);
		got = evbuffer_copyout_from(b, &at, bytes, size);
	} else {
		got = evbuffer_copyout(b, bytes, size);
	}
	print_bytes("copyout", arg[0], (long)got, bytes);
	free(bytes);
}

static void op_pullup(char **arg, int n UNUSED)
{
	struct evbuffer *b = buffer_of(arg[0]);
	long want = to_num(arg[1]);
	unsigned char *front = evbuffer_pullup(b, want);
	size_t size = want < 0 ? evbuffer_get_length(b) : (size_t)want;
	size_t contiguous = evbuffer_get_contiguous_space(b);
	if (!front)
		say("pullup %s %s none", arg[0], arg[1]);
	else
		say("pullup %s %s digest=%08x contiguous=%d", arg[0], arg[1], digest(DIGEST_START, front, size), contiguous >= size);
}

static void both(const char *op, const char *to, const char *from, const char *how)
{
	size_t a = evbuffer_get_length(buffer_of(to)), b = evbuffer_get_length(buffer_of(from));
	say("%s %s<-%s %s len=%zu,%zu", op, to, from, how, a, b);
}

static void op_move(char **arg, int n UNUSED)
{
	int ret = evbuffer_add_buffer(buffer_of(arg[0]), buffer_of(arg[1]));
	both("move", arg[0], arg[1], ret == 0 ? "ok" : "failed");
}

static void op_movefront(char **arg, int n UNUSED)
{
	int ret = evbuffer_prepend_buffer(buffer_of(arg[0]), buffer_of(arg[1]));
	both("movefront", arg[0], arg[1], ret == 0 ? "ok" : "failed");
}

/* moven:TO:FROM:N */
static void op_moven(char **arg, int n UNUSED)
{
	char how[32];
	int got = evbuffer_remove_buffer(buffer_of(arg[1]), buffer_of(arg[0]), (size_t)to_num(arg[2]));
	snprintf(how, sizeof how, got < 0 ? "failed" : "moved=%d", got);
	both("moven", arg[0], arg[1], how);
}

static void op_freeze(char **arg, int n UNUSED) { evbuffer_freeze(buffer_of(arg[0]), strcmp(arg[1], "front") == 0); }
static void op_unfreeze(char **arg, int n UNUSED) { evbuffer_unfreeze(buffer_of(arg[0]), strcmp(arg[1], "front") == 0); }
static void op_expand(char **arg, int n UNUSED) { result("expand", arg[0], evbuffer_expand(buffer_of(arg[0]), (size_t)to_num(arg[1]))); }

/* vectors:NAME:10,20,30 */
static void op_vectors(char **arg, int n UNUSED)
{
	struct evbuffer_iovec v[MAX_VECTORS];
	int count = 0;
	char *rest = arg[1], *size;
	while ((size = strsep(&rest, ",")) != NULL) {
		v[count].iov_len = (size_t)to_num(size);
		v[count].iov_base = bytes_for(arg[0], v[count].iov_len);
		count++;
	}
	size_t added = evbuffer_add_iovec(buffer_of(arg[0]), v, count);
	say("vectors %s added=%zu len=%zu", arg[0], added, evbuffer_get_length(buffer_of(arg[0])));
	while (count)
		free(v[--count].iov_base);
}

/* ---- lines and searching ---- */
static void op_readln(char **arg, int n UNUSED)
{
	size_t size = 77;
	char *line = evbuffer_readln(buffer_of(arg[0]), &size, eol_of(arg[1]));
	size_t len = evbuffer_get_length(buffer_of(arg[0]));
	if (line)
		say("readln %s %s size=%zu digest=%08x len=%zu", arg[0], arg[1], size, digest(DIGEST_START, line, size), len);
	else
		say("readln %s %s none size=%zu len=%zu", arg[0], arg[1], size, len);
	free(line);
}

/* Offset AT of a buffer as a position; "end" of the buffer is its length. */
static struct evbuffer_ptr position(struct evbuffer *b, const char *at)
{
	struct evbuffer_ptr p;
	if (evbuffer_ptr_set(b, &p, (size_t)to_num(at), EVBUFFER_PTR_SET) < 0)
		p.pos = -1;
	return p;
}

/* eol:NAME:AT:STYLE */
static void op_eol(char **arg, int n UNUSED)
{
	struct evbuffer *b = buffer_of(arg[0]);
	struct evbuffer_ptr at = position(b, arg[1]);
	size_t size = 77;
	struct evbuffer_ptr found = evbuffer_search_eol(b, &at, &size, eol_of(arg[2]));
	say("eol %s from=%s %s at=%ld size=%zu", arg[0], arg[1], arg[2], (long)found.pos, size);
}

/* find:NAME:TEXT[:FROM[:TO]] */
static void op_find(char **arg, int n)
{
	struct evbuffer *b = buffer_of(arg[0]);
	char text[1024];
	size_t size = unescape(arg[1], text);
	struct evbuffer_ptr from, to, found;
	if (n > 2)
		from = position(b, arg[2]);
	if (n > 3) {
		to = position(b, arg[3]);
		found = evbuffer_search_range(b, text, size, &from, &to);
	} else {
		found = evbuffer_search(b, text, size, n > 2 ? &from : NULL);
	}
	say("find %s %s from=%s to=%s at=%ld", arg[0], arg[1], n > 2 ? arg[2] : "0", n > 3 ? arg[3] : "end", (long)found.pos);
}

/* position:NAME:AT[:ADVANCE] */
static void op_position(char **arg, int n)
{
	struct evbuffer *b = buffer_of(arg[0]);
	struct evbuffer_ptr p;
	int ret = evbuffer_ptr_set(b, &p, (size_t)to_num(arg[1]), EVBUFFER_PTR_SET);
	if (n == 2)
		say("position %s %s %s at=%ld", arg[0], arg[1], ret < 0 ? "failed" : "ok", (long)p.pos);
	if (n == 3) {
		ret = evbuffer_ptr_set(b, &p, (size_t)to_num(arg[2]), EVBUFFER_PTR_ADD);
		say("position %s %s+%s %s at=%ld", arg[0], arg[1], arg[2], ret < 0 ? "failed" : "ok", (long)p.pos);
	}
}

/* ---- direct access ---- */
/* peek:NAME:AT:LEN:VECTORS */
static void op_peek(char **arg, int n UNUSED)
{
	struct evbuffer *b = buffer_of(arg[0]);
	struct evbuffer_iovec v[MAX_VECTORS];
	struct evbuffer_ptr at = position(b, arg[1]);
	int room = (int)to_num(arg[3]);
	int need = evbuffer_peek(b, to_num(arg[2]), &at, room ? v : NULL, room);
	size_t bytes = 0;
	uint32_t hash = DIGEST_START;
	for (int i = 0; i < need && i < room; i++) {
		bytes += v[i].iov_len;
		hash = digest(hash, v[i].iov_base, v[i].iov_len);
	}
	say("peek %s at=%s len=%s vectors=%s needs=%d bytes=%zu digest=%08x", arg[0], arg[1], arg[2], arg[3], need, bytes, hash);
}

/* reserve:NAME:N:VECTORS:COMMIT[:CHANGE] where CHANGE is an operation key to run in between */
static void op_reserve(char **arg, int n)
{
	struct evbuffer *b = buffer_of(arg[0]);
	struct evbuffer_iovec v[2];
	size_t want = (size_t)to_num(arg[1]), commit = (size_t)to_num(arg[3]);
	int room = (int)to_num(arg[2]);
	int got = evbuffer_reserve_space(b, (ev_ssize_t)want, v, room);
	if (got <= 0) {
		say("reserve %s %s vectors=%s failed len=%zu", arg[0], arg[1], arg[2], evbuffer_get_length(b));
		return;
	}
	size_t offered = v[0].iov_len + (got > 1 ? v[1].iov_len : 0);
	say("reserve %s %s vectors=%s enough=%d len=%zu", arg[0], arg[1], arg[2], offered >= want, evbuffer_get_length(b));
	if (n > 4 && strcmp(arg[4], "foreign") == 0) {
		static char elsewhere[64];
		v[0].iov_base = elsewhere;
	} else if (n > 4) {
		script_run(script_get(arg[4]));
	}
	if (n <= 4 && commit <= v[0].iov_len)
		pattern(arg[0], v[0].iov_base, commit);
	v[0].iov_len = commit; /* may be more than was offered, to see it refused */
	result("commit", arg[0], evbuffer_commit_space(b, v, commit ? 1 : 0));
}

/* ---- references and files ---- */
static void on_cleanup(const void *data, size_t len, void *arg)
{
	struct reference *r = arg;
	say("cleanup %s same-start=%d len=%zu", r->name, data == r->start, len);
}

/* ref:NAME:REFERENCE:N */
static void op_ref(char **arg, int n UNUSED)
{
	struct reference *r = calloc(1, sizeof *r);
	snprintf(r->name, sizeof r->name, "%s", arg[1]);
	r->len = (size_t)to_num(arg[2]);
	r->start = bytes_for(arg[1], r->len);
	named_put(KIND_OTHER, arg[1], r);
	result("ref", arg[0], evbuffer_add_reference(buffer_of(arg[0]), r->start, r->len, on_cleanup, r));
}

/* The referenced memory itself, to see that nobody wrote to it. */
static void op_memory(char **arg, int n UNUSED)
{
	struct reference *r = named_get(KIND_OTHER, arg[0]);
	say("memory %s digest=%08x", arg[0], digest(DIGEST_START, r->start, r->len));
}

/* Does the buffer's front lie in the referenced memory itself, i.e. was nothing copied? */
static void op_nocopy(char **arg, int n UNUSED)
{
	struct reference *r = named_get(KIND_OTHER, arg[1]);
	struct evbuffer_iovec v;
	int got = evbuffer_peek(buffer_of(arg[0]), 1, NULL, &v, 1);
	const char *front = got == 1 ? v.iov_base : NULL;
	say("nocopy %s %s=%d", arg[0], arg[1], front >= r->start && front < r->start + r->len);
}

static void op_refbuf(char **arg, int n UNUSED)
{
	int ret = evbuffer_add_buffer_reference(buffer_of(arg[0]), buffer_of(arg[1]));
	both("refbuf", arg[0], arg[1], ret == 0 ? "ok" : "failed");
}

/* addfile:NAME:FILE:OFFSET:N; the buffer owns the descriptor. */
static void op_addfile(char **arg, int n UNUSED)
{
	int ret = evbuffer_add_file(buffer_of(arg[0]), fd_of(arg[1]), to_num(arg[2]), to_num(arg[3]));
	result("addfile", arg[0], ret);
}

static void on_segment_cleanup(const struct evbuffer_file_segment *seg UNUSED, int flags UNUSED, void *arg)
{
	say("cleanup %s", ((struct segment *)arg)->name);
}

/* segment:SEGMENT:FILE:OFFSET:N; the descriptor is closed with the segment. */
static void op_segment(char **arg, int n UNUSED)
{
	struct segment *s = calloc(1, sizeof *s);
	snprintf(s->name, sizeof s->name, "%s", arg[0]);
	s->seg = evbuffer_file_segment_new(fd_of(arg[1]), to_num(arg[2]), to_num(arg[3]),
	    EVBUF_FS_CLOSE_ON_FREE | EVBUF_FS_DISABLE_MMAP);
	if (!s->seg)
		script_fail("segment", arg[0]);
	evbuffer_file_segment_add_cleanup_cb(s->seg, on_segment_cleanup, s);
	named_put(KIND_OTHER, arg[0], s);
}

/* addsegment:NAME:SEGMENT:OFFSET:N */
static void op_addsegment(char **arg, int n UNUSED)
{
	struct segment *s = named_get(KIND_OTHER, arg[1]);
	result("addsegment", arg[0], evbuffer_add_file_segment(buffer_of(arg[0]), s->seg, to_num(arg[2]), to_num(arg[3])));
}

static void op_freesegment(char **arg, int n UNUSED)
{
	struct segment *s = named_get(KIND_OTHER, arg[0]);
	evbuffer_file_segment_free(s->seg);
	say("freesegment %s", arg[0]);
}

/* ---- descriptors ---- */
static void print_io(const char *op, const char *name, const char *fd, int got)
{
	int err = errno;
	size_t len = evbuffer_get_length(buffer_of(name));
	if (got < 0)
		say("%s %s %s failed%s len=%zu", op, name, fd, err_suffix(err), len);
	else
		say("%s %s %s n=%d len=%zu", op, name, fd, got, len);
}

/* readfd:NAME:FD:N */
static void op_readfd(char **arg, int n UNUSED)
{
	errno = 0;
	print_io("readfd", arg[0], arg[1], evbuffer_read(buffer_of(arg[0]), fd_of(arg[1]), (int)to_num(arg[2])));
}

/* writefd:NAME:FD:N */
static void op_writefd(char **arg, int n UNUSED)
{
	errno = 0;
	print_io("writefd", arg[0], arg[1], evbuffer_write_atmost(buffer_of(arg[0]), fd_of(arg[1]), to_num(arg[2])));
}

/* ---- change callbacks ---- */
static void on_change(struct evbuffer *b UNUSED, const struct evbuffer_cb_info *info, void *arg)
{
	struct watcher *w = arg;
	int call = ++w->calls;
	say("change %s before=%zu added=%zu removed=%zu", w->name, info->orig_size, info->n_added, info->n_deleted);
	script_run(script_reaction(w->name, NULL, call));
}

/* watch:NAME:WATCHER */
static void op_watch(char **arg, int n UNUSED)
{
	struct watcher *w = calloc(1, sizeof *w);
	snprintf(w->name, sizeof w->name, "%s", arg[1]);
	w->entry = evbuffer_add_cb(buffer_of(arg[0]), on_change, w);
	named_put(KIND_OTHER, arg[1], w);
}

static void op_unwatch(char **arg, int n UNUSED)
{
	struct watcher *w = named_get(KIND_OTHER, arg[1]);
	evbuffer_remove_cb_entry(buffer_of(arg[0]), w->entry);
}

static void op_unwatchunknown(char **arg, int n UNUSED)
{
	int ret = evbuffer_remove_cb(buffer_of(arg[0]), on_change, &n);
	say("unwatchunknown %s %s", arg[0], ret < 0 ? "failed" : "ok");
}

/* mute:NAME:WATCHER:0|1 */
static void op_mute(char **arg, int n UNUSED)
{
	struct watcher *w = named_get(KIND_OTHER, arg[1]);
	if (to_num(arg[2]))
		evbuffer_cb_clear_flags(buffer_of(arg[0]), w->entry, EVBUFFER_CB_ENABLED);
	else
		evbuffer_cb_set_flags(buffer_of(arg[0]), w->entry, EVBUFFER_CB_ENABLED);
}

static void op_defer(char **arg, int n UNUSED) { evbuffer_defer_callbacks(buffer_of(arg[0]), base); }

const struct op buffer_ops[] = {
	{ "buffer", 1, 8, op_buffer }, { "bfree", 1, 1, op_bfree }, { "show", 1, 1, op_show },
	{ "append", 2, 2, op_append }, { "appends", 3, 3, op_appends }, { "text", 2, 2, op_text },
	{ "pieces", 2, 2, op_pieces }, { "format", 2, 2, op_format }, { "prepend", 2, 2, op_prepend },
	{ "drain", 2, 2, op_drain }, { "remove", 2, 2, op_remove }, { "copyout", 2, 3, op_copyout },
	{ "pullup", 2, 2, op_pullup }, { "move", 2, 2, op_move }, { "movefront", 2, 2, op_movefront },
	{ "moven", 3, 3, op_moven }, { "freeze", 2, 2, op_freeze }, { "unfreeze", 2, 2, op_unfreeze },
	{ "expand", 2, 2, op_expand }, { "vectors", 2, 2, op_vectors }, { "readln", 2, 2, op_readln },
	{ "eol", 3, 3, op_eol }, { "find", 2, 4, op_find }, { "position", 2, 3, op_position },
	{ "peek", 4, 4, op_peek }, { "reserve", 4, 5, op_reserve }, { "ref", 3, 3, op_ref },
	{ "memory", 1, 1, op_memory }, { "nocopy", 2, 2, op_nocopy }, { "refbuf", 2, 2, op_refbuf },
	{ "addfile", 4, 4, op_addfile }, { "segment", 4, 4, op_segment }, { "addsegment", 4, 4, op_addsegment },
	{ "freesegment", 1, 1, op_freesegment }, { "readfd", 3, 3, op_readfd }, { "writefd", 3, 3, op_writefd },
	{ "watch", 2, 2, op_watch }, { "unwatch", 2, 2, op_unwatch }, { "unwatchunknown", 1, 1, op_unwatchunknown },
	{ "mute", 3, 3, op_mute }, { "defer", 1, 1, op_defer },
	{ NULL, 0, 0, NULL },
};
