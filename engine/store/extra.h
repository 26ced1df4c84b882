/* SPDX-License-Identifier: Apache-2.0 */
/*
 * extra.h - what lies in a tree without being listed. Of the paths that are listed it keeps a
 * digest each, 16 bytes, and of the directories on the way to them; never a name.
 */
#ifndef ZH_STORE_EXTRA_H
#define ZH_STORE_EXTRA_H

#include "store/manifest.h"

#include <stdatomic.h>

struct listed {
	struct digest *path; /* sorted by listed_sort */
	size_t count;
	size_t cap;
};

/* Zeroed: empty. Returns 0 or -ENOMEM. */
int listed_add(struct listed *listed, const char *path, size_t path_bytes) must_check;
void listed_sort(struct listed *listed);
void listed_free(struct listed *listed);

struct extra_walk {
	int root;                    /* borrowed */
	const struct listed *listed; /* sorted */
	const atomic_bool *cancel;
	uint64_t skip_device; /* an inode that may be there: the manifest itself */
	uint64_t skip_inode;
	/* r: 0 it is not listed, else why a directory on the way to what is listed cannot be read
	 */
	void (*found)(void *context, const char *path, size_t path_bytes, int r);
	void *context;
};

/*
 * Walks the tree and tells what is extra. A directory that leads to nothing listed is told and not
 * entered; what has a reserved name is passed over. Returns 0, -ECANCELED or -ENOMEM.
 */
int extra_walk(struct extra_walk *walk) must_check;

#endif
