/*
 * What few active among many watched descriptors cost: the work of libevent's own bench program.
 *
 * -n PAIRS (100)   socket pairs, each with a persistent read event
 * -a ACTIVE (1)    pairs that get a byte at the start of a round
 * -w WRITES (n)    bytes that the callbacks forward to the next pair, in all
 *
 * Each of 25 rounds deletes and adds all events again, then steps the loop until every byte was read. One line a round:
 * microseconds of the dispatching part. The last line is for programs.
 */
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "bench.h"

#define ROUNDS 25
#define SPARE_FDS 50

struct pair { int reader, writer; struct event event; int added; };

static struct event_base *base;
static struct pair *pairs;
static long pair_count = 100, active_count = 1, forward_count = -1;
static long received, sent, left, failures;

static int64_t rusage_us(void)
{
	struct rusage r;
	getrusage(RUSAGE_SELF, &r);
	return ((int64_t)r.ru_utime.tv_sec + r.ru_stime.tv_sec) * 1000000 + r.ru_utime.tv_usec + r.ru_stime.tv_usec;
}

static int64_t wall_us(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (int64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}

static void send_byte(long to)
{
	if (send(pairs[to].writer, "x", 1, 0) == 1)
		sent++;
	else
		failures++;
}

static void on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct pair *p = arg;
	char byte;
	(void)what;

	if (recv(fd, &byte, 1, 0) == 1)
		received++;
	else
		failures++;
	if (left > 0) {
		left--;
		send_byte((p - pairs + 1) % pair_count);
	}
}

static void add_all(void)
{
	for (long i = 0; i < pair_count; i++) {
		struct pair *p = &pairs[i];
		if (p->added)
			event_del(&p->event);
		event_assign(&p->event, base, p->reader, EV_READ | EV_PERSIST, on_readable, p);
		event_add(&p->event, NULL);
		p->added = 1;
	}
}

static void round_trip(int64_t *wall, int64_t *cpu)
{
	add_all();
	event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);

	received = sent = 0;
	left = forward_count;
	for (long i = 0; i < active_count; i++)
		send_byte(i * (pair_count / active_count));

	int64_t wall_start = wall_us(), cpu_start = rusage_us();
	do
		event_base_loop(base, EVLOOP_ONCE | EVLOOP_NONBLOCK);
	while (received != sent);
	*cpu += rusage_us() - cpu_start;
	*wall = wall_us() - wall_start;

	expect("failed transfers", failures, 0);
	expect("bytes received", received, active_count + forward_count);
}

int main(int argc, char **argv)
{
	int option;
	while ((option = getopt(argc, argv, "n:a:w:")) != -1) {
		long value = optarg ? atol(optarg) : 0;
		if (option == 'n')
			pair_count = value;
		else if (option == 'a')
			active_count = value;
		else if (option == 'w')
			forward_count = value;
		else
			return 2;
	}
	if (forward_count < 0)
		forward_count = pair_count;
	if (pair_count < 1 || active_count < 1 || active_count > pair_count) {
		fputs("usage: pipes [-n PAIRS] [-a ACTIVE] [-w WRITES], 1 <= ACTIVE <= PAIRS\n", stderr);
		return 2;
	}

	struct rlimit files;
	rlim_t wanted = (rlim_t)(pair_count * 2 + SPARE_FDS);
	getrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur < wanted) {
		files.rlim_cur = wanted;
		if (files.rlim_max < wanted)
			files.rlim_max = wanted; /* for the superuser */
		if (setrlimit(RLIMIT_NOFILE, &files) < 0) {
			perror("setrlimit");
			return 1;
		}
	}
	base = event_base_new();
	pairs = calloc((size_t)pair_count, sizeof *pairs);
	for (long i = 0; i < pair_count; i++) {
		int fd[2];
		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) < 0) {
			perror("socketpair");
			return 1;
		}
		pairs[i].reader = fd[0];
		pairs[i].writer = fd[1];
	}

	int64_t all_wall = 0, all_cpu = 0;
	for (int i = 0; i < ROUNDS; i++) {
		int64_t wall = 0;
		round_trip(&wall, &all_cpu);
		all_wall += wall;
		printf("%ld\n", (long)wall);
	}
	printf("pipes n=%ld a=%ld w=%ld rounds=%d dispatch_wall_us=%ld dispatch_cpu_us=%ld process_cpu_us=%ld\n", pair_count,
	    active_count, forward_count, ROUNDS, (long)all_wall, (long)all_cpu, (long)rusage_us());
	return 0;
}
