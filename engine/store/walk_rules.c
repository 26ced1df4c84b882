/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_rules.c - which names of a tree are taken, see walk.h. fnmatch(3) knows no "**", so only a
 * bracket expression is left to it.
 */
#include "store/walk.h"

#include <errno.h>
#include <fnmatch.h>

#define BRACKET_MOST 255

struct walk_rule {
	struct walk_rule *next;
	bool exclude;
	bool whole_path;
	bool directories_only;
	char pattern[];
};

struct walk_rules {
	struct walk_rule *first;
	struct walk_rule **end;
};

int walk_rules_new(struct walk_rules **ret_rules)
{
	struct walk_rules *rules = calloc(1, sizeof(*rules));

	if (!rules)
		return -ENOMEM;
	rules->end = &rules->first;
	*ret_rules = rules;
	return 0;
}

void walk_rules_free(struct walk_rules *rules)
{
	while (rules && rules->first) {
		struct walk_rule *rule = rules->first;
		rules->first = rule->next;
		free(rule);
	}
	free(rules);
}

/* Bytes of the bracket expression that p begins with; 0: it does not end within its component. */
static size_t bracket_length(const char *p)
{
	const char *at = p + 1;

	if (*at == '!' || *at == '^')
		at++;
	for (const char *first = at; *at != '\0' && *at != '/'; at++) {
		if (*at == ']' && at > first)
			return (size_t)(at - p) + 1;
		if (*at == '\\' && at[1] != '\0') {
			at++;
		} else if (*at == '[' && at[1] != '\0' && strchr(":.=", at[1])) {
			const char end[] = { at[1], ']', '\0' };
			const char *found = strstr(at + 2, end);
			if (found)
				at = found + 1;
		}
	}
	return 0;
}

/* What of the pattern after p is not finished makes it no pattern. */
static bool pattern_ok(const char *p)
{
	if (*p == '\0')
		return false;
	while (*p != '\0') {
		size_t length = *p == '[' ? bracket_length(p) : *p == '\\' ? 2 : 1;
		if (length == 0 || length > BRACKET_MOST || (*p == '\\' && p[1] == '\0'))
			return false;
		p += length;
	}
	return true;
}

int walk_rules_add(struct walk_rules *rules, const char *pattern, bool exclude)
{
	size_t length = strlen(pattern);
	bool directories_only = length > 0 && pattern[length - 1] == '/';
	bool anchored = pattern[0] == '/';
	struct walk_rule *rule;

	while (length > 0 && pattern[length - 1] == '/')
		length--;
	for (; length > 0 && *pattern == '/'; length--)
		pattern++;
	rule = calloc(1, sizeof(*rule) + length + 1);
	if (!rule)
		return -ENOMEM;
	memcpy(rule->pattern, pattern, length);
	rule->exclude = exclude;
	rule->directories_only = directories_only;
	rule->whole_path = anchored || strchr(rule->pattern, '/');
	if (!pattern_ok(rule->pattern)) {
		free(rule);
		return -EINVAL;
	}
	*rules->end = rule;
	rules->end = &rule->next;
	return 0;
}

static bool bracket_matches(const char *p, size_t length, char byte)
{
	char bracket[BRACKET_MOST + 1];
	const char text[] = { byte, '\0' };

	memcpy(bracket, p, length);
	bracket[length] = '\0';
	return byte != '/' && fnmatch(bracket, text, 0) == 0;
}

/* Whether what *p stands at, which is no star, matches byte; *p is moved behind it then. */
static bool byte_matches(const char **p, char byte)
{
	const char *at = *p;
	size_t length = *at == '[' ? bracket_length(at) : *at == '\\' ? 2 : 1;
	bool matches = *at == '['    ? bracket_matches(at, length, byte)
		       : *at == '?'  ? byte != '/'
		       : *at == '\\' ? at[1] == byte
				     : *at == byte;

	if (matches)
		*p += length;
	return matches;
}

/*
 * Where a mismatch leads back to: a star that takes more. The latest "*" and the latest "**" will
 * do. What an earlier one could reach by taking more, these reach as well: "*" up to the next "/",
 * "**" everything.
 */
static bool matches(const char *pattern, const char *text)
{
	const char *p = pattern, *t = text;
	const char *star = NULL, *star_text = NULL, *deep = NULL, *deep_text = NULL;
	bool deep_by_component = false;

	for (;;) {
		if (*p == '*' && p[1] != '*') {
			star = ++p;
			star_text = t;
		} else if (*p == '*') {
			bool begins = p == pattern || p[-1] == '/';
			p += strspn(p, "*");
			deep_by_component = begins && *p == '/';
			deep = deep_by_component ? ++p : p;
			deep_text = t;
			star = NULL;
		} else if (*t == '\0') {
			return *p == '\0';
		} else if (*p != '\0' && byte_matches(&p, *t)) {
			t++;
		} else if (star && *star_text != '/') {
			p = star;
			t = ++star_text;
		} else if (deep) {
			if (deep_by_component)
				deep_text = strchr(deep_text, '/');
			if (!deep_text)
				return false;
			p = deep;
			t = ++deep_text;
			star = NULL;
		} else {
			return false;
		}
	}
}

bool walk_rules_take(const struct walk_rules *rules, const char *path, bool directory)
{
	const char *slash = strrchr(path, '/');
	const char *last = slash ? slash + 1 : path;

	for (const struct walk_rule *rule = rules ? rules->first : NULL; rule; rule = rule->next)
		if ((directory || !rule->directories_only) &&
			matches(rule->pattern, rule->whole_path ? path : last))
			return !rule->exclude;
	return true;
}
