/* SPDX-License-Identifier: Apache-2.0 */
/*
 * walk_list.c - names that alone are to be found by a walk, see walk.h. They are looked at
 * component by component where they lie, whatever slashes and "." are between them, so none is
 * copied.
 */
#include "store/walk.h"

#include <errno.h>

struct walk_list {
	const char **name;
	size_t count;
	size_t cap;
	bool whole;
};

/* Behind what only separates: slashes, and components that are ".". */
static const char *skip(const char *at)
{
	for (;;) {
		at += strspn(at, "/");
		if (at[0] != '.' || (at[1] != '/' && at[1] != '\0'))
			return at;
		at++;
	}
}

static size_t component(const char *at)
{
	return strcspn(at, "/");
}

int walk_list_new(bool whole, struct walk_list **ret_list)
{
	struct walk_list *list = calloc(1, sizeof(*list));

	if (!list)
		return -ENOMEM;
	list->whole = whole;
	*ret_list = list;
	return 0;
}

void walk_list_free(struct walk_list *list)
{
	if (list)
		free(list->name);
	free(list);
}

static bool stays_below(const char *name)
{
	if (name[0] == '\0' || name[0] == '/')
		return false;
	for (const char *at = skip(name); *at != '\0'; at = skip(at + component(at)))
		if (component(at) == 2 && at[0] == '.' && at[1] == '.')
			return false;
	return true;
}

int walk_list_add(struct walk_list *list, const char *name)
{
	if (!stays_below(name))
		return -EINVAL;
	if (list->count == WALK_LIST_MOST)
		return -EOVERFLOW;
	if (list->count == list->cap) {
		size_t cap = list->cap ? 2 * list->cap : 64;
		const char **grown = reallocarray(list->name, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		list->name = grown;
		list->cap = cap;
	}
	list->name[list->count++] = name;
	return 0;
}

static int compare_components(const char *a, const char *b)
{
	size_t a_length = component(a), b_length = component(b);
	int order = memcmp(a, b, min_size(a_length, b_length));

	return order ? order : (a_length > b_length) - (a_length < b_length);
}

/* What is in a directory comes behind it, and before what is not. */
static int compare_names(const void *a, const void *b)
{
	const char *a_at = skip(*(const char *const *)a);
	const char *b_at = skip(*(const char *const *)b);

	for (;;) {
		int order = compare_components(a_at, b_at);
		if (order != 0 || *a_at == '\0')
			return order;
		a_at = skip(a_at + component(a_at));
		b_at = skip(b_at + component(b_at));
	}
}

void walk_list_sort(struct walk_list *list)
{
	if (list->count > 0)
		qsort(list->name, list->count, sizeof(*list->name), compare_names);
}

size_t walk_list_count(const struct walk_list *list)
{
	return list->count;
}

bool walk_list_takes_whole(const struct walk_list *list)
{
	return list->whole;
}

const char *walk_list_rest(const struct walk_list *list, size_t index, size_t depth)
{
	const char *at = skip(list->name[index]);

	for (; depth > 0; depth--)
		at = skip(at + component(at));
	return at;
}

bool walk_list_is_repeated(const struct walk_list *list, size_t index)
{
	return index + 1 < list->count &&
	       compare_names(&list->name[index], &list->name[index + 1]) == 0;
}

size_t walk_list_end(const struct walk_list *list, size_t first, size_t end, size_t depth)
{
	const char *rest = walk_list_rest(list, first, depth);
	size_t at = first + 1;

	while (at < end && compare_components(rest, walk_list_rest(list, at, depth)) == 0)
		at++;
	return at;
}
