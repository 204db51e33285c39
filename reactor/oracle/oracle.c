/*
 * oracle [-p FILE] list          the names of the scenarios
 * oracle [-p FILE] NAME          one trace on standard output
 * oracle [-p FILE] all DIR       DIR/NAME.trace for every scenario
 * oracle [-p FILE] version       the version of the library it runs on
 *
 * FILE is scenarios.txt unless given. Every scenario of `all` runs in a process of its own, so that signal handlers,
 * threads and leaked descriptors of one cannot reach the next.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <event2/thread.h>

#include "oracle.h"

#define SECONDS_PER_SCENARIO 30
#define JOBS 4 /* most scenarios sleep most of their time */
#define MAX_NAMED 256

struct event_base *base;

struct named { enum kind kind; char name[32]; void *object; };
static struct named all_named[MAX_NAMED];
static size_t named_count;

void *named_find(enum kind kind, const char *name)
{
	for (size_t i = 0; i < named_count; i++)
		if (all_named[i].kind == kind && strcmp(all_named[i].name, name) == 0)
			return all_named[i].object;
	return NULL;
}

void *named_get(enum kind kind, const char *name)
{
	void *object = named_find(kind, name);
	if (!object)
		script_fail("unknown name", name);
	return object;
}

void named_put(enum kind kind, const char *name, void *object)
{
	for (size_t i = 0; i < named_count; i++) {
		if (all_named[i].kind == kind && strcmp(all_named[i].name, name) == 0) {
			all_named[i].object = object;
			return;
		}
	}
	if (named_count == MAX_NAMED)
		script_fail("too many names", name);
	struct named *n = &all_named[named_count++];
	n->kind = kind;
	snprintf(n->name, sizeof n->name, "%s", name);
	n->object = object;
}

const char *named_where(enum kind kind, int (*same)(void *object, const void *key), const void *key)
{
	for (size_t i = 0; i < named_count; i++)
		if (all_named[i].kind == kind && all_named[i].object && same(all_named[i].object, key))
			return all_named[i].name;
	return "unknown";
}

/* The precise clock is on: with the default coarse one a timer may come up to one kernel tick early. */
void world_open(void)
{
	if (script_num("threads", 0) && evthread_use_pthreads() < 0)
		script_fail("cannot use threads", "evthread");
	struct event_config *config = event_config_new();
	int flags = EVENT_BASE_FLAG_PRECISE_TIMER;
	if (script_num("nocache", 0))
		flags |= EVENT_BASE_FLAG_NO_CACHE_TIME;
	event_config_set_flag(config, flags);
	base = event_base_new_with_config(config);
	event_config_free(config);
	if (!base)
		script_fail("no base", "world");
	long priorities = script_num("priorities", 0);
	if (priorities && event_base_priority_init(base, (int)priorities) < 0)
		script_fail("bad priorities", "world");
}

static void quiet_log(int severity UNUSED, const char *msg UNUSED) {}

static void play(const char *name)
{
	if (!script_select(name))
		script_fail("no such scenario", name);
	signal(SIGPIPE, SIG_IGN);
	alarm(SECONDS_PER_SCENARIO);
	event_set_log_callback(quiet_log);
	world_open();
	script_run(script_get("do"));
	fflush(stdout);
}

static pid_t start(const char *dir, const char *name)
{
	char path[4096];
	snprintf(path, sizeof path, "%s/%s.trace", dir, name);
	pid_t child = fork();
	if (child < 0)
		abort();
	if (child > 0)
		return child;
	if (!freopen(path, "w", stdout))
		_exit(2);
	play(name);
	_exit(0);
}

/* Waits for one child; 1 when it failed. */
static int reap(const pid_t *children)
{
	int status;
	size_t i = 0;
	pid_t child = wait(&status);
	while (i < script_count() && children[i] != child)
		i++;
	if (status == 0)
		return 0;
	fprintf(stderr, "oracle: %s ended with %s %d\n", script_name(i), WIFSIGNALED(status) ? "signal" : "code",
	    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
	return 1;
}

static int play_all(const char *dir)
{
	int failed = 0, running = 0;
	pid_t *children = calloc(script_count(), sizeof *children);
	for (size_t i = 0; i < script_count(); i++) {
		if (running == JOBS) {
			failed |= reap(children);
			running--;
		}
		children[i] = start(dir, script_name(i));
		running++;
	}
	while (running-- > 0)
		failed |= reap(children);
	free(children);
	return failed;
}

int main(int argc, char **argv)
{
	const char *path = "scenarios.txt";
	if (argc > 2 && strcmp(argv[1], "-p") == 0) {
		path = argv[2];
		argv += 2;
		argc -= 2;
	}
	if (argc == 2 && strcmp(argv[1], "version") == 0) {
		puts(event_get_version());
		return 0;
	}
	script_load(path);
	if (argc == 2 && strcmp(argv[1], "list") == 0) {
		for (size_t i = 0; i < script_count(); i++)
			puts(script_name(i));
		return 0;
	}
	if (argc == 3 && strcmp(argv[1], "all") == 0)
		return play_all(argv[2]);
	if (argc == 2) {
		play(argv[1]);
		return 0;
	}
	fputs("usage: oracle [-p FILE] list | NAME | all DIR | version\n", stderr);
	return 2;
}
