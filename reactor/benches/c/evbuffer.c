/* The twin of ../evbuffer.rs on libevent: same operations, sizes, counts and output.
 * cc -O2 -o evbuffer_c reactor/benches/c/evbuffer.c -levent_core && ./evbuffer_c [name] */
#include <event2/buffer.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define QUEUE (1024 * 1024)
#define ROUNDS 7
#define OPERATIONS 200000
#define BYTES (64 * 1024 * 1024)
#define LINE "Accept-Something: text/html;q=\r\n"

static const size_t sizes[] = {1, 16, 64, 512, 4096, 65536};
/* Kept from being constant, so that nothing is computed in advance. */
static char *bytes;
static struct evbuffer *a, *b;

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			exit(1); \
		} \
	} while (0)

static uint64_t
cpu_ns(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static size_t
min(size_t x, size_t y)
{
	return x < y ? x : y;
}

static size_t
operations(size_t size)
{
	return min(OPERATIONS, BYTES / size);
}

static void
fill(struct evbuffer *buf, size_t size, size_t n)
{
	while (n--)
		CHECK(evbuffer_add(buf, bytes, size) == 0);
}

static void
drain_all(struct evbuffer *buf, size_t expected)
{
	CHECK(evbuffer_get_length(buf) == expected);
	CHECK(evbuffer_drain(buf, expected) == 0);
}

typedef uint64_t (*batch_fn)(size_t size, size_t n);

static uint64_t
add(size_t size, size_t n)
{
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++)
		CHECK(evbuffer_add(b, bytes, size) == 0);
	uint64_t ns = cpu_ns() - start;
	drain_all(b, n * size);
	return ns;
}

static uint64_t
drain(size_t size, size_t n)
{
	fill(b, size, n);
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++)
		CHECK(evbuffer_drain(b, size) == 0);
	uint64_t ns = cpu_ns() - start;
	CHECK(evbuffer_get_length(b) == 0);
	return ns;
}

static uint64_t
add_drain(size_t size, size_t n)
{
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++) {
		CHECK(evbuffer_add(b, bytes, size) == 0);
		CHECK(evbuffer_drain(b, size) == 0);
	}
	uint64_t ns = cpu_ns() - start;
	CHECK(evbuffer_get_length(b) == 0);
	return ns;
}

static uint64_t
remove_bytes(size_t size, size_t n)
{
	static char into[65536];
	fill(b, size, n);
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++)
		CHECK(evbuffer_remove(b, into, size) == (int)size);
	uint64_t ns = cpu_ns() - start;
	CHECK(evbuffer_get_length(b) == 0 && into[size - 1] == 'x');
	return ns;
}

static uint64_t
prepend(size_t size, size_t n)
{
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++)
		CHECK(evbuffer_prepend(b, bytes, size) == 0);
	uint64_t ns = cpu_ns() - start;
	drain_all(b, n * size);
	return ns;
}

static uint64_t
move_all(size_t size, size_t n)
{
	fill(a, size, 1);
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n / 2; i++) {
		CHECK(evbuffer_add_buffer(b, a) == 0);
		CHECK(evbuffer_add_buffer(a, b) == 0);
	}
	uint64_t ns = cpu_ns() - start;
	drain_all(a, size);
	return ns;
}

static uint64_t
move_some(size_t size, size_t n)
{
	fill(a, size, n);
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++)
		CHECK(evbuffer_remove_buffer(a, b, size) == (int)size);
	uint64_t ns = cpu_ns() - start;
	drain_all(b, n * size);
	return ns;
}

static uint64_t
reserve_commit(size_t size, size_t n)
{
	struct evbuffer_iovec room;
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++) {
		CHECK(evbuffer_reserve_space(b, (ev_ssize_t)size, &room, 1) == 1);
		*(char *)room.iov_base = 'x';
		room.iov_len = size;
		CHECK(evbuffer_commit_space(b, &room, 1) == 0);
	}
	uint64_t ns = cpu_ns() - start;
	drain_all(b, n * size);
	return ns;
}

static uint64_t
pull_up(size_t size, size_t n)
{
	size_t sum = 0;
	fill(b, size, 1);
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++)
		sum += evbuffer_pullup(b, (ev_ssize_t)size)[size - 1];
	uint64_t ns = cpu_ns() - start;
	CHECK(sum == n * 'x');
	drain_all(b, size);
	return ns;
}

static uint64_t
find(size_t n, size_t expected)
{
	size_t sum = 0;
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++)
		sum += (size_t)evbuffer_search(b, "\r\n\r\n", 4, NULL).pos;
	uint64_t ns = cpu_ns() - start;
	CHECK(sum == n * expected);
	CHECK(evbuffer_drain(b, evbuffer_get_length(b)) == 0);
	return ns;
}

static uint64_t
search(size_t size, size_t n)
{
	char *text = malloc(size);
	for (size_t i = 0; i < size; i++)
		text[i] = LINE[i % 32];
	CHECK(evbuffer_add(b, text, size) == 0);
	CHECK(evbuffer_add(b, "\r\n\r\n", 4) == 0);
	free(text);
	return find(n, size >= 32 ? size - 2 : size);
}

static uint64_t
search_absent(size_t size, size_t n)
{
	fill(b, size, 1);
	CHECK(evbuffer_add(b, "\r\n\r\n", 4) == 0);
	return find(n, size);
}

static uint64_t
read_line(size_t size, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		fill(b, size, 1);
		CHECK(evbuffer_add(b, "\r\n", 2) == 0);
	}
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++) {
		size_t len;
		char *line = evbuffer_readln(b, &len, EVBUFFER_EOL_CRLF);
		CHECK(len == size);
		free(line);
	}
	uint64_t ns = cpu_ns() - start;
	CHECK(evbuffer_get_length(b) == 0);
	return ns;
}

static uint64_t
echo(size_t size, size_t n)
{
	int fds[2];
	CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
	uint64_t start = cpu_ns();
	for (size_t i = 0; i < n; i++) {
		CHECK(write(fds[0], bytes, size) == (ssize_t)size);
		for (size_t got = 0; got < size;) {
			int part = evbuffer_read(a, fds[1], 16384);
			CHECK(part > 0);
			got += (size_t)part;
			CHECK(evbuffer_add_buffer(b, a) == 0);
			CHECK(evbuffer_write(b, fds[1]) == part);
		}
		for (size_t got = 0; got < size;) {
			ssize_t part = read(fds[0], bytes + got, size - got);
			CHECK(part > 0);
			got += (size_t)part;
		}
	}
	uint64_t ns = cpu_ns() - start;
	CHECK(evbuffer_get_length(b) == 0 && bytes[size - 1] == 'x');
	close(fds[0]);
	close(fds[1]);
	return ns;
}

enum count { BATCHES, LINES, WHOLE, FIXED, FEW, FEWER };

static const struct {
	const char *name;
	batch_fn run;
	enum count count;
} all[] = {
	{"add", add, BATCHES},
	{"drain", drain, BATCHES},
	{"add_drain", add_drain, WHOLE},
	{"remove", remove_bytes, BATCHES},
	{"prepend", prepend, BATCHES},
	{"move", move_all, FIXED},
	{"move_some", move_some, BATCHES},
	{"reserve_commit", reserve_commit, BATCHES},
	{"pull_up", pull_up, FIXED},
	{"search", search, FEW},
	{"search_absent", search_absent, FEW},
	{"read_line", read_line, LINES},
	{"echo", echo, FEWER},
};

static double
once(size_t op, size_t size)
{
	size_t per_batch, batches = 1;
	uint64_t ns = 0;
	switch (all[op].count) {
	case BATCHES:
	case LINES: {
		size_t unit = all[op].count == LINES ? size + 2 : size;
		per_batch = min(QUEUE / unit, operations(unit));
		batches = (operations(unit) + per_batch - 1) / per_batch;
		break;
	}
	case WHOLE:
		per_batch = operations(size);
		break;
	case FIXED:
		per_batch = OPERATIONS;
		break;
	case FEW:
		per_batch = min(operations(size), 50000);
		break;
	default:
		per_batch = min(operations(size), 10000);
	}
	for (size_t i = 0; i < batches; i++)
		ns += all[op].run(size, per_batch);
	return (double)ns / (double)(batches * per_batch);
}

int
main(int argc, char **argv)
{
	bytes = malloc(65536);
	memset(bytes, 'x', 65536);
	a = evbuffer_new();
	b = evbuffer_new();
	for (size_t op = 0; op < sizeof(all) / sizeof(*all); op++) {
		if (argc > 1 && strcmp(argv[1], all[op].name) != 0)
			continue;
		for (size_t s = 0; s < sizeof(sizes) / sizeof(*sizes); s++) {
			double best = 1e300;
			for (int round = 0; round < ROUNDS; round++) {
				double ns = once(op, sizes[s]);
				if (ns < best)
					best = ns;
			}
			printf("%s %zu %.2f %.0f\n", all[op].name, sizes[s], best, (double)sizes[s] * 1e3 / best);
		}
	}
	evbuffer_free(a);
	evbuffer_free(b);
	free(bytes);
	return 0;
}
