/* Descriptors, addresses, files, signals, time and threads: the surroundings of a scenario. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "oracle.h"

#define QUIET_STEPS 20         /* settle: so many steps in a row without a callback ... */
#define QUIET_PAUSE_US 2000    /* ... with this pause between them */
#define HANDSHAKE_US 5000      /* until the listening side has seen the last packet of a handshake, too */
#define BLOCKED_AFTER_US 50000 /* by then a loop that opened the gate sleeps in its poll */

static int64_t stopwatch;
static sem_t gate;
static int gate_made;

/* ---- descriptors ---- */
int fd_of(const char *name)
{
	if (strcmp(name, "-") == 0)
		return -1;
	return *(int *)named_get(KIND_FD, name);
}

void fd_put(const char *name, int fd)
{
	int *kept = malloc(sizeof *kept);
	*kept = fd;
	named_put(KIND_FD, name, kept);
}

int fd_release(const char *name)
{
	int fd = fd_of(name);
	named_put(KIND_FD, name, NULL);
	return fd;
}

static void nonblocking(int fd)
{
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

static int same_port(void *object, const void *key)
{
	struct sockaddr_in own;
	socklen_t len = sizeof own;
	return getsockname(*(int *)object, (struct sockaddr *)&own, &len) == 0 && own.sin_family == AF_INET &&
	    own.sin_port == ((const struct sockaddr_in *)key)->sin_port;
}

const char *fd_name_by_port(const struct sockaddr *peer)
{
	return named_where(KIND_FD, same_port, peer);
}

struct address *address_of(const char *name) { return named_get(KIND_ADDR, name); }

void address_put(const char *name, const struct address *a)
{
	struct address *kept = malloc(sizeof *kept);
	*kept = *a;
	named_put(KIND_ADDR, name, kept);
}

static void op_pair(char **arg, int n UNUSED)
{
	int fd[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0)
		script_fail("socketpair", arg[0]);
	fd_put(arg[0], fd[0]);
	fd_put(arg[1], fd[1]);
}

static int bound_socket(struct address *a)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in *in = (struct sockaddr_in *)&a->sa;
	memset(a, 0, sizeof *a);
	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	a->len = sizeof *in;
	if (fd < 0 || bind(fd, (struct sockaddr *)&a->sa, a->len) < 0 ||
	    getsockname(fd, (struct sockaddr *)&a->sa, &a->len) < 0)
		script_fail("bind", strerror(errno));
	return fd;
}

/* A listening socket outside of the loop. */
static void op_server(char **arg, int n UNUSED)
{
	struct address a;
	int fd = bound_socket(&a);
	listen(fd, 16);
	fd_put(arg[0], fd);
	address_put(arg[0], &a);
}

/* An address that refuses: its port is held, nobody listens. */
static void op_deadport(char **arg, int n UNUSED)
{
	struct address a;
	fd_put(arg[0], bound_socket(&a));
	address_put(arg[0], &a);
}

/* A path in the file system; with "listen" there is a server behind it. */
static void op_unixpath(char **arg, int n)
{
	static int count;
	struct address a;
	struct sockaddr_un *un = (struct sockaddr_un *)&a.sa;
	const char *tmp = getenv("TMPDIR");

	memset(&a, 0, sizeof a);
	un->sun_family = AF_UNIX;
	snprintf(un->sun_path, sizeof un->sun_path, "%s/oracle.%d.%d", tmp ? tmp : "/tmp", (int)getpid(), count++);
	a.len = sizeof *un;
	address_put(arg[0], &a);
	if (n == 2) {
		int fd = socket(AF_UNIX, SOCK_STREAM, 0);
		if (bind(fd, (struct sockaddr *)&a.sa, a.len) < 0 || listen(fd, 16) < 0)
			script_fail("unix socket", strerror(errno));
		fd_put(arg[0], fd);
	}
}

static void op_unlink(char **arg, int n UNUSED)
{
	unlink(((struct sockaddr_un *)&address_of(arg[0])->sa)->sun_path);
}

/* Connects at kernel level; prints only a failure. */
static void op_dial(char **arg, int n UNUSED)
{
	struct address *a = address_of(arg[1]);
	int fd = socket(a->sa.ss_family, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&a->sa, a->len) < 0) {
		say("dial %s failed err=%s", arg[0], err_name(errno));
		close(fd);
		return;
	}
	usleep(HANDSHAKE_US);
	nonblocking(fd);
	fd_put(arg[0], fd);
}

static void op_accept(char **arg, int n UNUSED)
{
	int fd = accept(fd_of(arg[1]), NULL, NULL);
	if (fd < 0)
		script_fail("accept", strerror(errno));
	nonblocking(fd);
	fd_put(arg[0], fd);
}

/* Both ends of a TCP connection over loopback. */
static void op_tcp(char **arg, int n UNUSED)
{
	char *dial[] = { arg[0], "tcp.server" }, *take[] = { arg[1], "tcp.server" };
	op_server(&dial[1], 1);
	op_dial(dial, 2);
	op_accept(take, 2);
	close(fd_release("tcp.server"));
}

static void op_file(char **arg, int n UNUSED)
{
	FILE *f = tmpfile();
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = malloc(size + 1);
	pattern(arg[0], bytes, size);
	if (!f || pwrite(fileno(f), bytes, size, 0) != (ssize_t)size)
		script_fail("temporary file", arg[0]);
	free(bytes);
	fd_put(arg[0], dup(fileno(f)));
	fclose(f);
}

/* The number of a descriptor that is closed. */
static void op_closedfd(char **arg, int n UNUSED)
{
	int fd = fcntl(0, F_DUPFD, 500);
	close(fd);
	fd_put(arg[0], fd);
}

static void op_dup(char **arg, int n UNUSED) { fd_put(arg[0], dup(fd_of(arg[1]))); }
static void op_redup(char **arg, int n UNUSED) { dup2(fd_of(arg[1]), fd_of(arg[0])); }
static void op_close(char **arg, int n UNUSED) { close(fd_release(arg[0])); }
static void op_closeraw(char **arg, int n UNUSED) { close(fd_of(arg[0])); }

static void op_reset(char **arg, int n UNUSED)
{
	struct linger now = { 1, 0 };
	int fd = fd_release(arg[0]);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
	close(fd);
}

static void op_shut(char **arg, int n UNUSED)
{
	shutdown(fd_of(arg[0]), strcmp(arg[1], "READ") == 0 ? SHUT_RD : SHUT_WR);
}

static void op_sndbuf(char **arg, int n UNUSED)
{
	int size = (int)to_num(arg[1]);
	setsockopt(fd_of(arg[0]), SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
}

static void op_isopen(char **arg, int n UNUSED)
{
	say("open %s=%d", arg[0], fcntl(fd_of(arg[0]), F_GETFD) >= 0);
}

static void op_put(char **arg, int n UNUSED)
{
	size_t size = (size_t)to_num(arg[1]);
	char *bytes = malloc(size + 1);
	pattern(arg[0], bytes, size);
	ssize_t sent = send(fd_of(arg[0]), bytes, size, MSG_NOSIGNAL);
	free(bytes);
	if (sent != (ssize_t)size)
		say("put %s failed err=%s", arg[0], sent < 0 ? err_name(errno) : "short");
}

/* Fills the send buffer until the kernel takes no more. */
static void op_fill(char **arg, int n UNUSED)
{
	static char zeros[4096];
	while (send(fd_of(arg[0]), zeros, sizeof zeros, MSG_NOSIGNAL) > 0)
		;
}

/* Reads at most n bytes with one call, or with "all" until nothing is left, and says how it ended. */
static void op_get(char **arg, int n UNUSED)
{
	static char bytes[65536];
	long want = to_num(arg[1]);
	size_t total = 0;
	uint32_t hash = DIGEST_START;
	ssize_t got;

	do {
		size_t size = want < 0 || want > (long)sizeof bytes ? sizeof bytes : (size_t)want;
		got = recv(fd_of(arg[0]), bytes, size, 0);
		if (got > 0) {
			total += (size_t)got;
			hash = digest(hash, bytes, (size_t)got);
		}
	} while (want < 0 && got > 0);
	const char *end = got > 0 ? "more" : got == 0 ? "eof" : err_name(errno);
	if (want >= 0)
		say("get %s bytes=%zu%s%s", arg[0], total, got > 0 ? "" : " then=", got > 0 ? "" : end);
	else
		say("get %s bytes=%zu digest=%08x then=%s", arg[0], total, hash, end);
}

/* Steps the loop and reads from the other end in turn until n bytes came. */
static void op_pump(char **arg, int n UNUSED)
{
	static char bytes[65536];
	size_t want = (size_t)to_num(arg[1]), total = 0;
	uint32_t hash = DIGEST_START;
	int64_t until = now_us() + 10 * 1000000;

	trace_group();
	while (total < want && now_us() < until) {
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		ssize_t got = recv(fd_of(arg[0]), bytes, sizeof bytes, 0);
		if (got > 0) {
			total += (size_t)got;
			hash = digest(hash, bytes, (size_t)got);
		} else if (got == 0) {
			break;
		}
	}
	trace_ungroup();
	say("pump %s bytes=%zu digest=%08x", arg[0], total, hash);
}

/* ---- signals, time, threads ---- */
static void op_raise(char **arg, int n)
{
	for (long i = n > 1 ? to_num(arg[1]) : 1; i > 0; i--)
		raise(sig_number(arg[0]));
}

int64_t now_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void op_sleep(char **arg, int n UNUSED)
{
	int64_t until = now_us() + to_num(arg[0]) * 1000;
	while (now_us() < until)
		usleep((useconds_t)(until - now_us() + 1));
}

static void op_clock(char **arg UNUSED, int n UNUSED) { stopwatch = now_us(); }

/* Milliseconds since `clock`; the trace tells only whether they are in the range. */
static void op_elapsed(char **arg, int n UNUSED)
{
	int64_t us = now_us() - stopwatch;
	int in = us >= to_num(arg[0]) * 1000 && us <= to_num(arg[1]) * 1000;
	say("elapsed %s..%s ms=%s", arg[0], arg[1], in ? "yes" : "no");
	if (!in)
		fprintf(stderr, "oracle: elapsed %ld us, expected %s..%s ms\n", (long)us, arg[0], arg[1]);
}

static void op_gate(char **arg UNUSED, int n UNUSED) { sem_post(&gate); }

/* For another thread: waits until a callback opened the gate and the loop sleeps in its poll again. */
static void op_waitgate(char **arg UNUSED, int n UNUSED)
{
	while (sem_wait(&gate) < 0 && errno == EINTR)
		;
	usleep(BLOCKED_AFTER_US);
}

static void *thread_main(void *ops)
{
	script_run(ops);
	return NULL;
}

/* Runs the operations of key NAME in a thread. They must not print. */
static void op_thread(char **arg, int n UNUSED)
{
	pthread_t *t = malloc(sizeof *t);
	if (!gate_made++)
		sem_init(&gate, 0, 0);
	named_put(KIND_OTHER, arg[0], t);
	if (pthread_create(t, NULL, thread_main, (void *)script_get(arg[0])) != 0)
		script_fail("thread", arg[0]);
}

static void op_join(char **arg, int n UNUSED) { pthread_join(*(pthread_t *)named_get(KIND_OTHER, arg[0]), NULL); }

static void op_note(char **arg, int n UNUSED) { say("note %s", arg[0]); }

const struct op sock_ops[] = {
	{ "pair", 2, 2, op_pair }, { "server", 1, 1, op_server }, { "deadport", 1, 1, op_deadport },
	{ "unixpath", 1, 2, op_unixpath }, { "unlink", 1, 1, op_unlink }, { "dial", 2, 2, op_dial },
	{ "accept", 2, 2, op_accept }, { "tcp", 2, 2, op_tcp }, { "file", 2, 2, op_file },
	{ "closedfd", 1, 1, op_closedfd }, { "dup", 2, 2, op_dup }, { "redup", 2, 2, op_redup },
	{ "close", 1, 1, op_close }, { "closeraw", 1, 1, op_closeraw }, { "reset", 1, 1, op_reset },
	{ "shut", 2, 2, op_shut }, { "sndbuf", 2, 2, op_sndbuf }, { "isopen", 1, 1, op_isopen },
	{ "put", 2, 2, op_put }, { "fill", 1, 1, op_fill }, { "get", 2, 2, op_get }, { "pump", 2, 2, op_pump },
	{ "raise", 1, 2, op_raise }, { "sleep", 1, 1, op_sleep }, { "clock", 0, 0, op_clock },
	{ "elapsed", 2, 2, op_elapsed }, { "gate", 0, 0, op_gate }, { "waitgate", 0, 0, op_waitgate },
	{ "thread", 1, 1, op_thread }, { "join", 1, 1, op_join }, { "note", 1, 1, op_note },
	{ NULL, 0, 0, NULL },
};

/* ---- settling ---- */
void settle(void)
{
	trace_group();
	for (int quiet = 0; quiet < QUIET_STEPS; quiet++) {
		unsigned long before = trace_activity();
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
		if (trace_activity() != before)
			quiet = -1;
		else
			usleep(QUIET_PAUSE_US);
	}
	trace_ungroup();
}

void run_for(long ms)
{
	struct timeval tv;
	trace_group();
	event_base_loopexit(base, to_timeval(ms, &tv));
	event_base_loop(base, EVLOOP_NO_EXIT_ON_EMPTY);
	trace_ungroup();
}
