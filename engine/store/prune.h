/* SPDX-License-Identifier: Apache-2.0 */
/*
 * prune.h - takes out of a directory what nobody has named: files and links are unlinked,
 * directories emptied and removed. What is opened is opened through no link and on no other file
 * system, and what cannot be told or removed stays and is told; the rest goes on. Whatever has a
 * name that was given stays, as does everything in it, what a rule leaves out, and what has the
 * name ROOT_RESERVED.
 *
 * A name that was given and is found without being listed shows that the file system takes more
 * than one spelling for a name. Then nothing of the directory goes: what looks like another name
 * may be one of those given.
 *
 * Thread: one at a time for each struct.
 */
#ifndef ZH_STORE_PRUNE_H
#define ZH_STORE_PRUNE_H

#include "base/util.h"
#include "store/dirs.h"
#include "store/walk.h"

#include <sys/stat.h>

#define PRUNE_DEPTH_MOST DIRS_DEPTH_MOST /* of directories below what is pruned */
#define PRUNE_PATH_CAP   ((DIRS_DEPTH_MOST + 1) * (ROOT_NAME_MAX + 1))

/* Names as they are given. Zeroed: none. */
struct prune_names {
	char *text; /* each with a NUL behind it */
	size_t length;
	size_t cap;
	size_t count;
};

/* Adds one, which is a component of at most ROOT_NAME_MAX bytes. 0 or -ENOMEM. */
int prune_names_add(struct prune_names *names, const char *name, size_t length) must_check;
void prune_names_free(struct prune_names *names);

struct prune {
	const struct walk_rules
		*rules; /* what they leave out stays; NULL: they leave out nothing */
	/* Before each entry. False: enough. */
	bool (*goes_on)(void *context);
	/* What path names stays, because of r, a negative errno, or so does everything in it. */
	void (*stays)(void *context, const char *path, int r, const char *what);
	/* Whether this is to stay without a word. NULL: nothing. */
	bool (*spares)(void *context, const struct stat *st);
	void *context;
	bool dry;                  /* nothing goes; removed counts what would */
	uint64_t removed;          /* names, so far */
	size_t rules_from;         /* of a path: where begins what the rules know */
	char path[PRUNE_PATH_CAP]; /* of the directory, without a "/" at its end; is written to */
};

/* Prunes dir, a directory, of all but names. 0; -ENOMEM; -ECANCELED, as goes_on has wished. */
int prune_directory(struct prune *prune, int dir, const struct prune_names *names) must_check;

#endif
