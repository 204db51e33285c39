/*
 * What the loop adds to a callback: activation and call of 1, 100 and 1000 events per pass, and event_add with
 * event_del of a descriptor's event. Figures are CPU nanoseconds per event or per pair of calls.
 */
#include <sys/socket.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "bench.h"

#define ACTIVATIONS 2000000L
#define PAIRS 300000L
#define MOST 1000

static struct event_base *base;
static struct event events[MOST];
static long calls;

static void on_event(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	calls++;
}

static void activate(long per_pass)
{
	long passes = ACTIVATIONS / per_pass;
	calls = 0;
	int64_t start = cpu_ns();
	for (long pass = 0; pass < passes; pass++) {
		for (long i = 0; i < per_pass; i++)
			event_active(&events[i], EV_READ, 1);
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	}
	int64_t took = cpu_ns() - start;
	expect("callbacks", calls, passes * per_pass);
	report("dispatch_active", per_pass, (double)took / (double)calls, "ns");
}

static void add_and_delete(void)
{
	int fd[2];
	struct event event;
	long done = 0;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0) {
		perror("socketpair");
		exit(1);
	}
	event_assign(&event, base, fd[0], EV_READ | EV_PERSIST, on_event, NULL);
	int64_t start = cpu_ns();
	for (long i = 0; i < PAIRS; i++)
		done += event_add(&event, NULL) == 0 && event_del(&event) == 0;
	int64_t took = cpu_ns() - start;
	expect("add and delete", done, PAIRS);
	report("dispatch_add_del", 1, (double)took / (double)PAIRS, "ns");
}

int main(void)
{
	base = event_base_new();
	for (int i = 0; i < MOST; i++)
		event_assign(&events[i], base, -1, 0, on_event, NULL);
	activate(1);
	activate(100);
	activate(1000);
	add_and_delete();
	return 0;
}
