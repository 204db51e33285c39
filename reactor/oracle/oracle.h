/*
 * The oracle: a small interpreter that plays the scenarios of scenarios.txt on the real libevent and prints what
 * happened. README.md has the language of the scenarios and the grammar of the traces.
 */
#ifndef ORACLE_H
#define ORACLE_H

#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/event.h>
#include <event2/listener.h>

#define UNUSED __attribute__((unused))
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* One word of the scenario language. `arg` holds at least `min` and at most `max` arguments. */
struct op {
	const char *name;
	int min, max;
	void (*run)(char **arg, int n);
};

extern const struct op sock_ops[], event_ops[], buffer_ops[], bev_ops[], listener_ops[];

/* ---- script.c: scenarios and their operations ---- */
void script_load(const char *path);
size_t script_count(void);
const char *script_name(size_t i);
int script_select(const char *name);
const char *script_get(const char *key);             /* NULL when the running scenario has no such key */
long script_num(const char *key, long fallback);
const char *script_reaction(const char *who, const char *what, int call); /* what a callback does at its n-th call */
void script_run(const char *ops);
_Noreturn void script_fail(const char *why, const char *what);
long to_num(const char *text);                       /* decimal; "max" and "all" are -1 */
size_t unescape(const char *text, char *out);        /* %XX; returns the length */

/* ---- trace.c: lines, passes, normalisation ---- */
extern int pass_shown;                               /* number of the current step, 0 outside of steps */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void say_cb(const char *fmt, ...) __attribute__((format(printf, 1, 2))); /* the same, with the pass in front */
void say_read(const char *stream, const void *data, size_t n);           /* merged with its neighbours */
const char *trace_enter(const char *stream);
void trace_leave(const char *outer);
int trace_depth(void);                               /* how many callbacks are running, one inside the other */
void trace_group(void);                              /* hold lines, to be grouped by stream */
void trace_ungroup(void);
unsigned long trace_activity(void);                  /* grows with every callback */
uint32_t digest(uint32_t h, const void *data, size_t n);
#define DIGEST_START 2166136261u
void pattern(const char *name, void *out, size_t n); /* the next n bytes of the name's own byte stream */
const char *err_name(int err);
const char *err_suffix(int err);
const char *sig_name(int sig);
int sig_number(const char *name);
struct flag { const char *name; long bit; };
const char *flags_text(const struct flag *table, size_t n, long bits);
long flags_parse(const struct flag *table, size_t n, const char *text);
extern const struct flag event_flags[7];
extern const struct flag direction_flags[2];
const char *event_flags_text(long bits);
long event_flags_parse(const char *text);

/* ---- the world ---- */
enum kind { KIND_FD, KIND_ADDR, KIND_EVENT, KIND_BUFFER, KIND_BEV, KIND_LISTENER, KIND_OTHER };
void *named_get(enum kind kind, const char *name);   /* ends the program when there is none */
void *named_find(enum kind kind, const char *name);
void named_put(enum kind kind, const char *name, void *object);
const char *named_where(enum kind kind, int (*same)(void *object, const void *key), const void *key);

extern struct event_base *base;
void world_open(void);

struct address { struct sockaddr_storage sa; socklen_t len; };
int fd_of(const char *name);                         /* "-" is -1 */
void fd_put(const char *name, int fd);
int fd_release(const char *name);                    /* the name is forgotten, the descriptor stays open */
const char *fd_name_by_port(const struct sockaddr *peer);
struct address *address_of(const char *name);
void address_put(const char *name, const struct address *a);
int64_t now_us(void);
void settle(void);                                   /* steps until nothing happens any more */
void run_for(long ms);
const struct timeval *to_timeval(long ms, struct timeval *tv);
struct evbuffer *buffer_of(const char *name);        /* also "bev.in" and "bev.out" */

#endif
