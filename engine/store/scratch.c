/* SPDX-License-Identifier: Apache-2.0 */
/*
 * scratch.c - directories for the staging names of batches. The name of one is the time; the
 * kernel's refusal to make it twice keeps owners apart, and the lock keeps cleaners from the
 * living.
 */
#include "store/scratch.h"

#include "base/clock.h"
#include "base/sys.h"
#include "store/listing.h"

#include <errno.h>
#include <stdio.h>
#include <sys/file.h>

#define STAGE_SCRATCH "open staging"

#define PREFIX        "s."
#define DIGITS        16

/* Entries that are looked at on behalf of killed owners, so that a beginning takes a second at
 * most. */
#define LEFTOVERS_MOST 65536

/* The next name, or NULL at the end or when it cannot be read. */
static const char *next_name(struct listing *listing)
{
	const struct dirent64 *entry;

	return listing_next(listing, &entry) > 0 ? entry->d_name : NULL;
}

static void remove_files(int dir, size_t *budget)
{
	struct listing listing = { .dir = dir };
	const char *name;

	while (*budget > 0 && (name = next_name(&listing))) {
		(*budget)--;
		sys_unlinkat_quiet(dir, name, 0);
	}
}

static bool is_scratch(const char *name)
{
	return strncmp(name, PREFIX, strlen(PREFIX)) == 0 &&
	       strspn(name + strlen(PREFIX), "0123456789abcdef") == DIGITS &&
	       name[strlen(PREFIX) + DIGITS] == '\0';
}

static void remove_leftover(const struct staging *staging, const char *name, size_t *budget)
{
	int dir = root_open_inside(staging->dir, name, O_RDONLY | O_DIRECTORY);

	if (dir < 0)
		return;
	if (staging_lock(dir, LOCK_EX | LOCK_NB) == 0) {
		remove_files(dir, budget);
		sys_unlinkat_quiet(staging->dir, name, AT_REMOVEDIR);
	}
	sys_close(dir);
}

static void remove_leftovers(const struct staging *staging)
{
	size_t budget = LEFTOVERS_MOST;
	const char *name;
	/* opened for its own position */
	struct listing listing = { .dir = root_open_inside(
					   staging->dir, ".", O_RDONLY | O_DIRECTORY) };

	if (listing.dir < 0)
		return;
	while (budget > 0 && (name = next_name(&listing))) {
		budget--;
		if (is_scratch(name))
			remove_leftover(staging, name, &budget);
	}
	sys_close(listing.dir);
}

/* Opens and locks what was just made. -ESTALE: a cleaner was quicker. */
static int claim(const struct staging *staging, struct scratch *scratch)
{
	int r = root_open_inside(staging->dir, scratch->name, O_RDONLY | O_DIRECTORY);

	if (r < 0)
		return r == -ENOENT ? -ESTALE : r;
	scratch->dir = r;
	r = staging_lock(scratch->dir, LOCK_EX | LOCK_NB);
	if (r < 0) {
		sys_close(scratch->dir);
		scratch->dir = -1;
	}
	return r == -EWOULDBLOCK ? -ESTALE : r;
}

static int make(const struct staging *staging, struct scratch *scratch, struct zh_error *err)
{
	int r;

	(void)snprintf(scratch->name, sizeof(scratch->name), PREFIX "%0*llx", DIGITS,
		(unsigned long long)clock_read_ns(CLOCK_REALTIME));
	r = sys_mkdirat(staging->dir, scratch->name, 0700);
	if (r == -EEXIST)
		return -ESTALE;
	if (r == 0) {
		r = claim(staging, scratch);
		if (r < 0)
			sys_unlinkat_quiet(staging->dir, scratch->name, AT_REMOVEDIR);
	}
	if (r < 0 && r != -ESTALE)
		return err_set(err, err_of_destination(r), r, STAGE_SCRATCH,
			"no directory can be made in the staging directory");
	return r;
}

int scratch_open(struct staging *staging, struct scratch *ret_scratch, struct zh_error *err)
{
	int r = -ESTALE;

	ret_scratch->dir = -1;
	for (int i = 0; r == -ESTALE && i < STAGING_TRIES; i++)
		r = staging_enter(staging, err);
	if (r == 0) {
		remove_leftovers(staging);
		r = -ESTALE;
		for (int i = 0; r == -ESTALE && i < STAGING_TRIES; i++)
			r = make(staging, ret_scratch, err);
	}
	if (r == -ESTALE)
		r = err_set(err, ZH_BUSY, EBUSY, STAGE_SCRATCH,
			"other transfers keep taking the staging directory away");
	return r;
}

void scratch_sweep(struct staging *staging)
{
	struct stat st;

	if (staging->dir < 0 &&
		(sys_fstatat(staging->root, STAGING_DIRECTORY, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
			staging_enter(staging, NULL) < 0))
		return; /* there is none, or it is not for us */
	remove_leftovers(staging);
}

void scratch_close(struct staging *staging, struct scratch *scratch)
{
	size_t budget = SIZE_MAX;

	if (scratch->dir < 0)
		return;
	if (sys_unlinkat(staging->dir, scratch->name, AT_REMOVEDIR) == -ENOTEMPTY) {
		remove_files(scratch->dir, &budget);
		sys_unlinkat_quiet(staging->dir, scratch->name, AT_REMOVEDIR);
	}
	sys_close(scratch->dir);
	scratch->dir = -1;
}
