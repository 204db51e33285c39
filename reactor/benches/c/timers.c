/*
 * What timers cost: add, add again with another timeout, delete about half at random, let the rest expire.
 *
 * -n TIMERS (1000000)
 *
 * Once with a heap entry per timer (timeouts spread over one second, by the microsecond), once with common timeouts
 * (QUEUES durations over the same second). Figures are CPU nanoseconds per operation; the seed is the same for both.
 */
#include <unistd.h>

#include <event2/event.h>
#include <event2/event_struct.h>

#include "bench.h"

#define SEED 1
#define SPREAD_US 1000000
#define QUEUES 16

static struct event_base *base;
static struct event *events;
static const struct timeval *queue[QUEUES];
static long timer_count = 1000000, fired;

static void on_timeout(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	(void)arg;
	fired++;
}

static const struct timeval *next_timeout(uint64_t *random, int common)
{
	static struct timeval tv;
	uint32_t number = lcg(random);
	if (common)
		return queue[number % QUEUES];
	tv.tv_sec = 0;
	tv.tv_usec = number % SPREAD_US;
	return &tv;
}

static void add_all(const char *name, uint64_t *random, int common)
{
	int64_t start = cpu_ns();
	for (long i = 0; i < timer_count; i++)
		event_add(&events[i], next_timeout(random, common));
	report(name, timer_count, (double)(cpu_ns() - start) / (double)timer_count, "ns");
}

static void run(int common)
{
	uint64_t random = SEED;
	long deleted = 0;

	base = event_base_new();
	for (int i = 0; i < QUEUES; i++) {
		struct timeval tv = { 0, SPREAD_US / QUEUES * (i + 1) - 1 };
		queue[i] = event_base_init_common_timeout(base, &tv);
	}
	for (long i = 0; i < timer_count; i++)
		event_assign(&events[i], base, -1, 0, on_timeout, NULL);
	fired = 0;

	add_all(common ? "timers_common_add" : "timers_heap_add", &random, common);
	add_all(common ? "timers_common_readd" : "timers_heap_readd", &random, common);
	expect("pending timers", event_base_get_num_events(base, EVENT_BASE_COUNT_ADDED), timer_count);

	int64_t start = cpu_ns();
	for (long i = 0; i < timer_count; i++) {
		if (lcg(&random) & 1) {
			event_del(&events[i]);
			deleted++;
		}
	}
	report(common ? "timers_common_delete" : "timers_heap_delete", deleted, (double)(cpu_ns() - start) / (double)deleted, "ns");

	start = cpu_ns();
	event_base_dispatch(base);
	int64_t took = cpu_ns() - start;
	expect("expired timers", fired, timer_count - deleted);
	report(common ? "timers_common_expire" : "timers_heap_expire", fired, (double)took / (double)fired, "ns");
	event_base_free(base);
}

int main(int argc, char **argv)
{
	int option;
	while ((option = getopt(argc, argv, "n:")) != -1) {
		if (option != 'n' || (timer_count = atol(optarg)) < 1)
			return 2;
	}
	events = calloc((size_t)timer_count, sizeof *events);
	run(0);
	run(1);
	return 0;
}
