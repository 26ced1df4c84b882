/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prune.c - see prune.h. The directory is listed once before anything is removed: most have nothing
 * that would have to go, and of the others it is then known which of the names are in them. On the
 * way down each directory has a level, with its descriptor and its listing.
 */
#include "store/prune.h"

#include "base/sys.h"
#include "store/listing.h"

#include <errno.h>

#define NAMES_CAP_FIRST 512

/* Some file systems pass over entries while others go: it is listed again while that helps. */
#define PASSES_MOST 8

struct level {
	struct level *above; /* NULL: this is the directory that is pruned */
	size_t path_length;  /* of prune.path */
	uint64_t removed;    /* prune.removed when this pass began */
	unsigned passes;
	bool keeps;             /* something that does not go, */
	bool tells;             /* and some of it has been told */
	struct listing listing; /* whose descriptor is ours */
};

struct pruning {
	struct prune *prune;
	const struct prune_names *names;
	uint32_t *at;        /* where each begins, sorted */
	size_t count;        /* of different ones */
	uint8_t *seen;       /* bit for each: it is listed */
	struct level *level; /* the deepest one */
	unsigned depth;
};

enum verdict { STAYS, GOES, GOES_AS_DIRECTORY };

/* ------------------------------ names -------------------------------------------------- */

int prune_names_add(struct prune_names *names, const char *name, size_t length)
{
	CHECK(length <= ROOT_NAME_MAX);
	if (names->cap - names->length < length + 1) {
		size_t cap = names->cap ? 2 * names->cap : NAMES_CAP_FIRST;
		char *grown = realloc(names->text, cap);
		if (!grown)
			return -ENOMEM;
		names->text = grown;
		names->cap = cap;
	}
	memcpy(names->text + names->length, name, length);
	names->text[names->length + length] = '\0';
	names->length += length + 1;
	names->count++;
	return 0;
}

void prune_names_free(struct prune_names *names)
{
	free(names->text);
	*names = (struct prune_names){ 0 };
}

static int compare(const void *a, const void *b, void *text)
{
	return strcmp((const char *)text + *(const uint32_t *)a,
		(const char *)text + *(const uint32_t *)b);
}

/* One may have been given more than once. */
static int sort_names(struct pruning *pruning)
{
	const struct prune_names *names = pruning->names;
	uint32_t *all = calloc(names->count + 1, sizeof(*all)), at = 0;

	CHECK(names->length <= UINT32_MAX);
	pruning->at = all;
	pruning->seen = calloc(1, names->count / 8 + 1);
	if (!all || !pruning->seen)
		return -ENOMEM;
	for (size_t i = 0; i < names->count; i++) {
		all[i] = at;
		at += (uint32_t)strlen(names->text + at) + 1;
	}
	qsort_r(all, names->count, sizeof(*all), compare, names->text);
	for (size_t i = 0; i < names->count; i++)
		if (i == 0 || compare(&all[i], &all[pruning->count - 1], names->text) != 0)
			all[pruning->count++] = all[i];
	return 0;
}

/* Also notes that it is there. */
static bool is_named(struct pruning *pruning, const char *name)
{
	size_t low = 0, high = pruning->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		int order = strcmp(name, pruning->names->text + pruning->at[middle]);
		if (order == 0) {
			pruning->seen[middle / 8] |= (uint8_t)(1u << middle % 8);
			return true;
		}
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return false;
}

/* ------------------------------ paths -------------------------------------------------- */

/* The path of a name in the deepest level; false: there is no room for it, and it is the level's.
 */
static bool set_path(struct pruning *pruning, const char *name)
{
	size_t used = pruning->level->path_length, length = strlen(name);
	size_t at = used > 0 ? used + 1 : 0;
	char *path = pruning->prune->path;

	path[used] = '\0';
	if (at + length >= PRUNE_PATH_CAP)
		return false;
	if (used > 0)
		path[used] = '/';
	memcpy(path + at, name, length + 1);
	return true;
}

/* What the path names does not go. */
static void keep(struct pruning *pruning, int r, const char *what)
{
	struct prune *prune = pruning->prune;

	pruning->level->keeps = pruning->level->tells = true;
	prune->stays(prune->context, prune->path, r, what);
}

/* The same for the rest of the deepest level's directory. */
static void keep_level(struct pruning *pruning, int r, const char *what)
{
	pruning->prune->path[pruning->level->path_length] = '\0';
	keep(pruning, r, what);
}

/* ------------------------------ levels ------------------------------------------------- */

/* fd is the level's, on failure too. */
static int enter_level(struct pruning *pruning, int fd)
{
	struct level *level = malloc(sizeof(*level));

	if (!level) {
		sys_close(fd);
		return -ENOMEM;
	}
	level->above = pruning->level;
	level->path_length = strlen(pruning->prune->path);
	level->removed = pruning->prune->removed;
	level->passes = 1;
	level->keeps = level->tells = false;
	level->listing.dir = fd;
	level->listing.at = level->listing.length = 0;
	pruning->level = level;
	pruning->depth++;
	return 0;
}

static void leave_level(struct pruning *pruning)
{
	struct level *level = pruning->level;

	pruning->level = level->above;
	pruning->depth--;
	sys_close(level->listing.dir);
	free(level);
}

/* A descriptor of its own, from the first entry on. */
static int reopen(int dir)
{
	return sys_openat(dir, ".", O_RDONLY | O_DIRECTORY, 0);
}

/* Lists it from the beginning. */
static bool list_again(struct pruning *pruning)
{
	struct level *level = pruning->level;
	int fd = reopen(level->listing.dir);

	if (fd < 0) {
		keep_level(pruning, fd, "the directory cannot be opened once more");
		return false;
	}
	sys_close(level->listing.dir);
	level->listing.dir = fd;
	level->listing.at = level->listing.length = 0;
	level->removed = pruning->prune->removed;
	level->passes++;
	return true;
}

/* The same, if the last pass has removed something, so that more may turn up, and told nothing. */
static bool take_another_pass(struct pruning *pruning)
{
	const struct level *level = pruning->level;

	return !pruning->prune->dry && !level->tells && pruning->prune->removed > level->removed &&
	       level->passes < PASSES_MOST && list_again(pruning);
}

/* ------------------------------ entries ------------------------------------------------ */

/* What becomes of an entry whose path is set. Negative: that cannot be told. */
static int judge(struct pruning *pruning, const struct dirent64 *entry)
{
	const struct prune *prune = pruning->prune;
	bool directory = entry->d_type == DT_DIR;
	struct stat st = { .st_mode = 0 };
	int r = 0;

	if (entry->d_type == DT_UNKNOWN || prune->spares)
		r = sys_fstatat(
			pruning->level->listing.dir, entry->d_name, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0)
		return r;
	if (entry->d_type == DT_UNKNOWN)
		directory = S_ISDIR(st.st_mode);
	if (!walk_rules_take(prune->rules, prune->path + prune->rules_from, directory) ||
		(prune->spares && prune->spares(prune->context, &st)))
		return STAYS;
	return directory ? GOES_AS_DIRECTORY : GOES;
}

/* Of the directory that is pruned: in it by right. */
static bool belongs(struct pruning *pruning, const char *name)
{
	return is_named(pruning, name) || strcmp(name, ROOT_RESERVED) == 0;
}

static int descend(struct pruning *pruning, const char *name)
{
	int fd = root_open_inside(pruning->level->listing.dir, name, O_RDONLY | O_DIRECTORY);

	if (fd == -ENOENT)
		return 0;
	if (fd < 0) {
		keep(pruning, fd,
			fd == -EXDEV ? "another file system is mounted there"
				     : "the directory cannot be opened");
		return 0;
	}
	if (pruning->depth <= PRUNE_DEPTH_MOST)
		return enter_level(pruning, fd);
	keep(pruning, -ENAMETOOLONG, "the directory is too deep");
	sys_close(fd);
	return 0;
}

/* The only place where anything goes. */
static int take_out(const struct pruning *pruning, int dir, const char *name, int flags)
{
	return pruning->prune->dry ? 0 : sys_unlinkat(dir, name, flags);
}

/* What came of take_out on what the path names. What is gone already is as well as removed. */
static void note_removal(struct pruning *pruning, int r)
{
	if (r == 0)
		pruning->prune->removed++;
	else if (r != -ENOENT)
		keep(pruning, r, "it cannot be removed");
}

static int treat(struct pruning *pruning, const struct dirent64 *entry)
{
	struct level *level = pruning->level;
	int r;

	if (!level->above && belongs(pruning, entry->d_name))
		return 0;
	if (!set_path(pruning, entry->d_name)) {
		keep(pruning, -ENAMETOOLONG, "the path of something in it is too long");
		return 0;
	}
	if (strcmp(entry->d_name, ROOT_RESERVED) == 0) {
		keep(pruning, -EBUSY, "it is for what is being received");
		return 0;
	}
	r = judge(pruning, entry);
	if (r == GOES_AS_DIRECTORY)
		return descend(pruning, entry->d_name);
	if (r == GOES)
		note_removal(pruning, take_out(pruning, level->listing.dir, entry->d_name, 0));
	else if (r == STAYS)
		level->keeps = true;
	else if (r != -ENOENT)
		keep(pruning, r, "it cannot be looked at");
	return 0;
}

/* The deepest level is at its end: its directory goes, unless something in it does not. */
static void end_level(struct pruning *pruning)
{
	struct level *level = pruning->level, *above = level->above;
	char *path = pruning->prune->path;
	bool keeps = level->keeps;
	int r = 0;

	path[level->path_length] = '\0';
	if (!above) {
		if (!take_another_pass(pruning))
			leave_level(pruning);
		return;
	}
	if (!keeps)
		r = take_out(pruning, above->listing.dir,
			path + above->path_length + (above->path_length > 0), AT_REMOVEDIR);
	if ((r == -ENOTEMPTY || r == -EEXIST) && take_another_pass(pruning))
		return;
	if (keeps) {
		above->keeps = true;
		above->tells |= level->tells;
	}
	leave_level(pruning);
	if (!keeps)
		note_removal(pruning, r);
}

static int remove_all(struct pruning *pruning)
{
	struct prune *prune = pruning->prune;
	const struct dirent64 *entry;
	int r = 0;

	while (r == 0 && pruning->level) {
		r = prune->goes_on(prune->context) ? listing_next(&pruning->level->listing, &entry)
						   : -ECANCELED;
		if (r == -ECANCELED)
			break;
		if (r == 1) {
			r = treat(pruning, entry);
			continue;
		}
		if (r < 0)
			keep_level(pruning, r, "the directory cannot be listed");
		end_level(pruning);
		r = 0;
	}
	return r;
}

/* ------------------------------ before anything goes ----------------------------------- */

/* 1: something is there that would have to go. 0: nothing, or it has been told why not. */
static int look_through(struct pruning *pruning)
{
	struct prune *prune = pruning->prune;
	struct listing *listing = &pruning->level->listing;
	const struct dirent64 *entry;
	bool found = false;
	int r;

	while ((r = listing_next(listing, &entry)) > 0) {
		if (!prune->goes_on(prune->context))
			return -ECANCELED;
		if (!belongs(pruning, entry->d_name) && !found)
			found = !set_path(pruning, entry->d_name) || judge(pruning, entry) != STAYS;
	}
	if (r == 0)
		return found;
	keep_level(pruning, r, "the directory cannot be listed: nothing in it is removed");
	return 0;
}

/* 1: no name that was given is there without being listed. 0: it has been told. */
static int check_spelling(struct pruning *pruning)
{
	struct prune *prune = pruning->prune;
	struct stat st;

	for (size_t i = 0; i < pruning->count; i++) {
		const char *name = pruning->names->text + pruning->at[i];
		int r;
		if (pruning->seen[i / 8] & 1u << i % 8)
			continue;
		if (!prune->goes_on(prune->context))
			return -ECANCELED;
		r = sys_fstatat(pruning->level->listing.dir, name, &st, AT_SYMLINK_NOFOLLOW);
		if (r == -ENOENT || r == -ENAMETOOLONG || r == -EINVAL) /* none of its names */
			continue;
		(void)set_path(pruning, name);
		keep(pruning, r == 0 ? -EEXIST : r,
			r == 0 ? "it has another spelling there: nothing beside it is removed"
			       : "it cannot be looked at: nothing beside it is removed");
		return 0;
	}
	return 1;
}

int prune_directory(struct prune *prune, int dir, const struct prune_names *names)
{
	struct pruning pruning = { .prune = prune, .names = names };
	int r = sort_names(&pruning);
	int fd = r == 0 ? reopen(dir) : -1;

	if (r == 0 && fd < 0)
		prune->stays(prune->context, prune->path, fd,
			"the directory cannot be opened: nothing in it is removed");
	else if (r == 0)
		r = enter_level(&pruning, fd);
	if (pruning.level)
		r = look_through(&pruning);
	if (r == 1)
		r = check_spelling(&pruning);
	if (r == 1)
		r = list_again(&pruning) ? remove_all(&pruning) : 0;
	while (pruning.level)
		leave_level(&pruning);
	free(pruning.at);
	free(pruning.seen);
	return r;
}
