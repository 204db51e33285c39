/* Reads scenarios.txt and runs the operations of one scenario. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "oracle.h"

#define MAX_SCENARIOS 512
#define MAX_KEYS 48
#define MAX_ARGS 12

struct scenario {
	char *name;
	char *key[MAX_KEYS], *value[MAX_KEYS];
	size_t keys;
};

static struct scenario scenarios[MAX_SCENARIOS];
static size_t scenario_count;
static const struct scenario *running;

_Noreturn void script_fail(const char *why, const char *what)
{
	fflush(stdout);
	fprintf(stderr, "oracle: %s: %s: %s\n", running ? running->name : "-", why, what);
	exit(2);
}

static char *keep(const char *text)
{
	char *copy = strdup(text);
	if (!copy)
		abort();
	return copy;
}

/* A key that comes again continues its list of operations. */
static void add_pair(struct scenario *s, char *word)
{
	char *eq = strchr(word, '=');
	if (!eq)
		script_fail("not key=value", word);
	*eq = 0;
	for (size_t i = 0; i < s->keys; i++) {
		if (strcmp(s->key[i], word) == 0) {
			char *joined = malloc(strlen(s->value[i]) + strlen(eq + 1) + 2);
			if (!joined)
				abort();
			sprintf(joined, "%s;%s", s->value[i], eq + 1);
			free(s->value[i]);
			s->value[i] = joined;
			return;
		}
	}
	if (s->keys == MAX_KEYS)
		script_fail("too many keys", s->name);
	s->key[s->keys] = keep(word);
	s->value[s->keys++] = keep(eq + 1);
}

void script_load(const char *path)
{
	static char line[8192];
	FILE *f = fopen(path, "r");
	struct scenario *s = NULL;

	if (!f)
		script_fail("cannot open", path);
	while (fgets(line, sizeof line, f)) {
		int continued = isspace((unsigned char)line[0]);
		char *save, *word = strtok_r(line, " \t\n", &save);
		if (!word || word[0] == '#')
			continue;
		if (!continued) {
			if (scenario_count == MAX_SCENARIOS)
				script_fail("too many scenarios", word);
			s = &scenarios[scenario_count++];
			s->name = keep(word);
			word = strtok_r(NULL, " \t\n", &save);
		}
		if (!s)
			script_fail("pairs before the first name", path);
		for (; word; word = strtok_r(NULL, " \t\n", &save))
			add_pair(s, word);
	}
	fclose(f);
}

size_t script_count(void) { return scenario_count; }
const char *script_name(size_t i) { return scenarios[i].name; }

int script_select(const char *name)
{
	for (size_t i = 0; i < scenario_count; i++) {
		if (strcmp(scenarios[i].name, name) == 0) {
			running = &scenarios[i];
			return 1;
		}
	}
	return 0;
}

const char *script_get(const char *key)
{
	for (size_t i = 0; i < running->keys; i++)
		if (strcmp(running->key[i], key) == 0)
			return running->value[i];
	return NULL;
}

long script_num(const char *key, long fallback)
{
	const char *text = script_get(key);
	return text ? to_num(text) : fallback;
}

/* `who.what.call` wins over `who.what`; without `what` it is `who.call` over `who`. */
const char *script_reaction(const char *who, const char *what, int call)
{
	char key[96];
	const char *dot = what ? "." : "";

	snprintf(key, sizeof key, "%s%s%s.%d", who, dot, what ? what : "", call);
	const char *found = script_get(key);
	if (found)
		return found;
	snprintf(key, sizeof key, "%s%s%s", who, dot, what ? what : "");
	return script_get(key);
}

static const struct op *find_op(const char *name)
{
	static const struct op *const tables[] = { sock_ops, event_ops, buffer_ops, bev_ops, listener_ops };
	for (size_t t = 0; t < COUNT(tables); t++)
		for (const struct op *op = tables[t]; op->name; op++)
			if (strcmp(op->name, name) == 0)
				return op;
	script_fail("no such operation", name);
}

void script_run(const char *ops)
{
	if (!ops)
		return;
	char *copy = keep(ops), *save, *one;
	for (one = strtok_r(copy, ";", &save); one; one = strtok_r(NULL, ";", &save)) {
		char *arg[MAX_ARGS], *rest = one;
		int n = 0;
		const char *name = strsep(&rest, ":");
		while (rest && n < MAX_ARGS)
			arg[n++] = strsep(&rest, ":");
		const struct op *op = find_op(name);
		if (n < op->min || n > op->max)
			script_fail("wrong number of arguments", name);
		op->run(arg, n);
	}
	free(copy);
}

long to_num(const char *text)
{
	char *end;
	if (strcmp(text, "max") == 0 || strcmp(text, "all") == 0)
		return -1;
	long n = strtol(text, &end, 10);
	if (end == text || *end)
		script_fail("not a number", text);
	return n;
}

size_t unescape(const char *text, char *out)
{
	size_t n = 0;
	while (*text) {
		unsigned hex;
		if (*text == '%' && sscanf(text + 1, "%2x", &hex) == 1) {
			out[n++] = (char)hex;
			text += 3;
		} else {
			out[n++] = *text++;
		}
	}
	return n;
}
