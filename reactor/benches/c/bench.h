/* Shared by the C benches: CPU time, a checked assertion, the random numbers that the Rust twins use as well. */
#ifndef BENCH_H
#define BENCH_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* User and system time of the process together, in nanoseconds. */
static inline int64_t cpu_ns(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* A figure counts only if the work was done. */
static inline void expect(const char *what, long found, long wanted)
{
	if (found == wanted)
		return;
	fprintf(stderr, "%s: found %ld, expected %ld\n", what, found, wanted);
	exit(1);
}

/* One line per figure: name n value unit. */
static inline void report(const char *name, long n, double value, const char *unit)
{
	printf("%s %ld %.1f %s\n", name, n, value, unit);
	fflush(stdout);
}

/*
 * state = state * 6364136223846793005 + 1442695040888963407 modulo 2^64, starting from the seed;
 * the number is the upper 31 bits of the new state.
 */
static inline uint32_t lcg(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return (uint32_t)(*state >> 33);
}

#endif
