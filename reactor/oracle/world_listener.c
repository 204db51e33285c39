/* Listeners. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "oracle.h"

#define NO_CALLBACK 0x10000000u /* ours: start without an accept callback */

struct lis { struct evconnlistener *listener; char name[32]; int accepted, errors; };

static const struct flag listen_flags[] = {
	{ "REUSEABLE", LEV_OPT_REUSEABLE }, { "REUSEABLE_PORT", LEV_OPT_REUSEABLE_PORT }, { "DISABLED", LEV_OPT_DISABLED },
	{ "DEFERRED_ACCEPT", LEV_OPT_DEFERRED_ACCEPT }, { "BLOCKING", LEV_OPT_LEAVE_SOCKETS_BLOCKING },
	{ "CLOSE_ON_EXEC", LEV_OPT_CLOSE_ON_EXEC }, { "NOCALLBACK", NO_CALLBACK },
};

static struct lis *lis_of(const char *name) { return named_get(KIND_LISTENER, name); }

/* The accepted descriptor is named LISTENER.1, LISTENER.2, ... */
static void on_accept(struct evconnlistener *l UNUSED, evutil_socket_t fd, struct sockaddr *peer, int len UNUSED, void *arg)
{
	struct lis *lis = arg;
	int call = ++lis->accepted;
	const char *outer = trace_enter(lis->name);
	const char *who = peer->sa_family == AF_INET ? fd_name_by_port(peer) : "local";
	char name[48];

	snprintf(name, sizeof name, "%s.%d", lis->name, call);
	fd_put(name, fd);
	say_cb("cb=%s accept fd=%s peer=%s", lis->name, name, who);
	script_run(script_reaction(lis->name, "a", call));
	trace_leave(outer);
}

static void on_accept_error(struct evconnlistener *l UNUSED, void *arg)
{
	struct lis *lis = arg;
	int err = errno, call = ++lis->errors;
	const char *outer = trace_enter(lis->name);
	say_cb("cb=%s error err=%s", lis->name, err_name(err));
	script_run(script_reaction(lis->name, "e", call));
	trace_leave(outer);
}

static void bind_to(struct lis *lis, const struct sockaddr *sa, socklen_t len, unsigned flags, int backlog)
{
	errno = 0;
	lis->listener = evconnlistener_new_bind(base, flags & NO_CALLBACK ? NULL : on_accept, lis,
	    LEV_OPT_CLOSE_ON_FREE | (flags & ~NO_CALLBACK), backlog, sa, (int)len);
	if (!lis->listener) {
		say("listen %s failed%s", lis->name, err_suffix(errno));
		return;
	}
	struct address a;
	memset(&a, 0, sizeof a);
	a.len = sizeof a.sa;
	getsockname(evconnlistener_get_fd(lis->listener), (struct sockaddr *)&a.sa, &a.len);
	address_put(lis->name, &a);
}

static struct lis *make(const char *name)
{
	struct lis *lis = calloc(1, sizeof *lis);
	snprintf(lis->name, sizeof lis->name, "%s", name);
	named_put(KIND_LISTENER, name, lis);
	return lis;
}

/* listen:NAME[:FLAGS[:BACKLOG]] on a free port of 127.0.0.1 */
static void op_listen(char **arg, int n)
{
	struct sockaddr_in in;
	memset(&in, 0, sizeof in);
	in.sin_family = AF_INET;
	in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	bind_to(make(arg[0]), (struct sockaddr *)&in, sizeof in, n > 1 ? (unsigned)flags_parse(listen_flags, COUNT(listen_flags), arg[1]) : 0,
	    n > 2 ? (int)to_num(arg[2]) : -1);
}

/* listenat:NAME:ADDRESS[:FLAGS] on the address of another listener or path */
static void op_listenat(char **arg, int n)
{
	struct address a = *address_of(arg[1]);
	bind_to(make(arg[0]), (struct sockaddr *)&a.sa, a.len, n > 2 ? (unsigned)flags_parse(listen_flags, COUNT(listen_flags), arg[2]) : 0, -1);
}

/* listenfd:NAME:FD:BACKLOG on a descriptor that is bound, or listens already (backlog 0) */
static void op_listenfd(char **arg, int n UNUSED)
{
	struct lis *lis = make(arg[0]);
	evutil_make_socket_nonblocking(fd_of(arg[1]));
	lis->listener = evconnlistener_new(base, on_accept, lis, 0, (int)to_num(arg[2]), fd_of(arg[1]));
	if (!lis->listener)
		say("listen %s failed", lis->name);
}

/* From the callback's side: "none" takes the accept callback away, "own" gives it back. */
static void op_lissetcb(char **arg, int n UNUSED)
{
	struct lis *lis = lis_of(arg[0]);
	evconnlistener_set_cb(lis->listener, strcmp(arg[1], "own") == 0 ? on_accept : NULL, lis);
}

static void op_liserrcb(char **arg, int n UNUSED) { evconnlistener_set_error_cb(lis_of(arg[0])->listener, on_accept_error); }

static void op_lisenable(char **arg, int n UNUSED)
{
	if (evconnlistener_enable(lis_of(arg[0])->listener) < 0)
		say("lisenable %s failed", arg[0]);
}

static void op_lisdisable(char **arg, int n UNUSED)
{
	if (evconnlistener_disable(lis_of(arg[0])->listener) < 0)
		say("lisdisable %s failed", arg[0]);
}

static void op_lisfree(char **arg, int n UNUSED)
{
	struct lis *lis = lis_of(arg[0]);
	evconnlistener_free(lis->listener);
	lis->listener = NULL;
}

static void op_fdflags(char **arg, int n UNUSED)
{
	int fd = fd_of(arg[0]);
	int nonblock = (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, cloexec = (fcntl(fd, F_GETFD) & FD_CLOEXEC) != 0;
	say("fdflags %s nonblock=%d cloexec=%d", arg[0], nonblock, cloexec);
}

static void op_lisflags(char **arg, int n UNUSED)
{
	int fd = evconnlistener_get_fd(lis_of(arg[0])->listener), keep = 0;
	socklen_t len = sizeof keep;
	getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &keep, &len);
	say("lisflags %s nonblock=%d keepalive=%d", arg[0], (fcntl(fd, F_GETFL) & O_NONBLOCK) != 0, keep != 0);
}

const struct op listener_ops[] = {
	{ "listen", 1, 3, op_listen }, { "listenat", 2, 3, op_listenat }, { "listenfd", 3, 3, op_listenfd },
	{ "lissetcb", 2, 2, op_lissetcb }, { "liserrcb", 1, 1, op_liserrcb }, { "lisenable", 1, 1, op_lisenable },
	{ "lisdisable", 1, 1, op_lisdisable }, { "lisfree", 1, 1, op_lisfree },
	{ "fdflags", 1, 1, op_fdflags }, { "lisflags", 1, 1, op_lisflags },
	{ NULL, 0, 0, NULL },
};
