/* Trace lines: symbolic names instead of numbers, merged reads, grouping by stream, a cap. */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

#define DEFAULT_CAP 200
#define MAX_HELD 4096
#define MAX_STREAMS 64

struct line { char stream[32]; char *text; };
struct merged { char stream[32]; size_t bytes; uint32_t hash; };
struct generator { char name[32]; uint32_t state; };

int pass_shown;
static char current[32];
static int depth; /* of callbacks inside callbacks; two blanks of indent each */
static int grouping;
static struct line held[MAX_HELD];
static size_t held_count;
static struct merged reads[MAX_STREAMS];
static size_t read_count;
static long printed;
static unsigned long activity;

static void release_held(void)
{
	/* A stable sort: the order inside a stream is the subject. */
	for (size_t i = 1; i < held_count; i++) {
		struct line moving = held[i];
		size_t j = i;
		for (; j > 0 && strcmp(held[j - 1].stream, moving.stream) > 0; j--)
			held[j] = held[j - 1];
		held[j] = moving;
	}
	for (size_t i = 0; i < held_count; i++) {
		puts(held[i].text);
		free(held[i].text);
	}
	held_count = 0;
}

static void put_line(const char *stream, const char *text)
{
	if (++printed > script_num("cap", DEFAULT_CAP) || held_count == MAX_HELD) {
		release_held();
		puts("cap reached");
		fflush(stdout);
		_Exit(0);
	}
	if (!grouping) {
		puts(text);
		return;
	}
	struct line *l = &held[held_count++];
	snprintf(l->stream, sizeof l->stream, "%s", stream);
	l->text = strdup(text);
}

static void flush_reads(const char *stream)
{
	for (size_t i = 0; i < read_count; i++) {
		struct merged *m = &reads[i];
		if (m->bytes == 0 || (stream && strcmp(stream, m->stream) != 0))
			continue;
		char text[256];
		snprintf(text, sizeof text, "cb=%.31s read bytes=%zu digest=%08x", m->stream, m->bytes, m->hash);
		m->bytes = 0;
		put_line(m->stream, text);
	}
}

static void say_list(int indent, const char *prefix, const char *fmt, va_list ap)
{
	char text[1024];
	int n = snprintf(text, sizeof text, "%*s%s", indent * 2, "", prefix);
	vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
	flush_reads(current);
	put_line(current, text);
}

void say(const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	say_list(depth, "", fmt, ap);
	va_end(ap);
}

void say_cb(const char *fmt, ...)
{
	char prefix[32] = "";
	va_list ap;
	activity++;
	if (pass_shown)
		snprintf(prefix, sizeof prefix, "pass=%d ", pass_shown);
	va_start(ap, fmt);
	say_list(depth > 0 ? depth - 1 : 0, prefix, fmt, ap);
	va_end(ap);
}

void say_read(const char *stream, const void *data, size_t n)
{
	struct merged *m = NULL;
	activity++;
	for (size_t i = 0; i < read_count && !m; i++)
		if (strcmp(reads[i].stream, stream) == 0)
			m = &reads[i];
	if (!m) {
		if (read_count == MAX_STREAMS)
			script_fail("too many streams", stream);
		m = &reads[read_count++];
		snprintf(m->stream, sizeof m->stream, "%s", stream);
	}
	if (m->bytes == 0)
		m->hash = DIGEST_START;
	m->bytes += n;
	m->hash = digest(m->hash, data, n);
}

/* Lines up to the matching trace_leave belong to `stream`. `outer` is what to hand back. */
const char *trace_enter(const char *stream)
{
	char *outer = strdup(current);
	snprintf(current, sizeof current, "%s", stream);
	depth++;
	return outer;
}

void trace_leave(const char *outer)
{
	snprintf(current, sizeof current, "%s", outer);
	depth--;
	free((void *)outer);
}

int trace_depth(void) { return depth; }
void trace_group(void) { grouping++; }

void trace_ungroup(void)
{
	flush_reads(NULL);
	if (--grouping == 0)
		release_held();
}

unsigned long trace_activity(void) { return activity; }

/* FNV-1a, 32 bits. */
uint32_t digest(uint32_t h, const void *data, size_t n)
{
	const unsigned char *p = data;
	while (n--)
		h = (h ^ *p++) * 16777619u;
	return h;
}

void pattern(const char *name, void *out, size_t n)
{
	static struct generator all[MAX_STREAMS];
	static size_t count;
	struct generator *g = NULL;
	unsigned char *p = out;

	for (size_t i = 0; i < count && !g; i++)
		if (strcmp(all[i].name, name) == 0)
			g = &all[i];
	if (!g) {
		if (count == MAX_STREAMS)
			script_fail("too many byte streams", name);
		g = &all[count++];
		snprintf(g->name, sizeof g->name, "%s", name);
		g->state = digest(DIGEST_START, name, strlen(name));
	}
	while (n--) {
		g->state = g->state * 1664525u + 1013904223u;
		*p++ = (unsigned char)(g->state >> 24);
	}
}

/* " err=NAME", or nothing when the system reported nothing. */
const char *err_suffix(int err)
{
	static char text[32];
	text[0] = 0;
	if (err)
		snprintf(text, sizeof text, " err=%s", err_name(err));
	return text;
}

const char *err_name(int err)
{
	static const struct { int err; const char *name; } names[] = {
		{ EAGAIN, "EAGAIN" }, { EBADF, "EBADF" }, { EPERM, "EPERM" }, { EPIPE, "EPIPE" },
		{ ECONNREFUSED, "ECONNREFUSED" }, { ECONNRESET, "ECONNRESET" }, { EADDRINUSE, "EADDRINUSE" },
		{ EINVAL, "EINVAL" }, { ENOENT, "ENOENT" }, { EEXIST, "EEXIST" }, { ENOTCONN, "ENOTCONN" },
		{ ENOTSOCK, "ENOTSOCK" }, { ENETUNREACH, "ENETUNREACH" }, { EMFILE, "EMFILE" },
	};
	for (size_t i = 0; i < COUNT(names); i++)
		if (names[i].err == err)
			return names[i].name;
	return "other";
}

static const struct { int sig; const char *name; } signals[] = {
	{ SIGUSR1, "USR1" }, { SIGUSR2, "USR2" }, { SIGHUP, "HUP" }, { SIGTERM, "TERM" },
};

const char *sig_name(int sig)
{
	for (size_t i = 0; i < COUNT(signals); i++)
		if (signals[i].sig == sig)
			return signals[i].name;
	return "other";
}

int sig_number(const char *name)
{
	for (size_t i = 0; i < COUNT(signals); i++)
		if (strcmp(signals[i].name, name) == 0)
			return signals[i].sig;
	script_fail("no such signal", name);
}

const char *flags_text(const struct flag *table, size_t n, long bits)
{
	static char text[4][128]; /* several may stand in one call of say() */
	static unsigned turn;
	char *out = text[turn++ % 4];
	size_t used = 0;

	out[0] = 0;
	for (size_t i = 0; i < n; i++)
		if (bits & table[i].bit)
			used += (size_t)snprintf(out + used, sizeof text[0] - used, "%s%s", used ? "|" : "", table[i].name);
	return used ? out : "none";
}

long flags_parse(const struct flag *table, size_t n, const char *text)
{
	char copy[128], *save, *word;
	long bits = 0;

	snprintf(copy, sizeof copy, "%s", text);
	for (word = strtok_r(copy, "|", &save); word; word = strtok_r(NULL, "|", &save)) {
		size_t i = 0;
		while (i < n && strcmp(table[i].name, word) != 0)
			i++;
		if (i < n)
			bits |= table[i].bit;
		else if (strcmp(word, "none") != 0)
			script_fail("no such flag", word);
	}
	return bits;
}

const struct flag event_flags[7] = {
	{ "READ", EV_READ }, { "WRITE", EV_WRITE }, { "CLOSED", EV_CLOSED }, { "SIGNAL", EV_SIGNAL },
	{ "TIMEOUT", EV_TIMEOUT }, { "PERSIST", EV_PERSIST }, { "ET", EV_ET },
};
const struct flag direction_flags[2] = { { "READ", EV_READ }, { "WRITE", EV_WRITE } };

const char *event_flags_text(long bits) { return flags_text(event_flags, COUNT(event_flags), bits); }
long event_flags_parse(const char *text) { return flags_parse(event_flags, COUNT(event_flags), text); }
