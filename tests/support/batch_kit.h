/* SPDX-License-Identifier: Apache-2.0 */
/* batch_kit.h - a batch below an arena's root, as a session has one: what its tests share. */
#ifndef ZH_TESTS_BATCH_KIT_H
#define ZH_TESTS_BATCH_KIT_H

#include "store_kit.h"

#include "store/batch.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

struct batch_kit {
	struct staging staging;
	struct dirs *dirs;
	struct batch *batch;
};

/* Sets how many descriptors this process may have, for batches to come. Returns how many it was. */
static inline rlim_t batch_kit_limit(rlim_t descriptors)
{
	struct rlimit limit;
	rlim_t before;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	before = limit.rlim_cur;
	limit.rlim_cur = descriptors;
	assert_int_equal(setrlimit(RLIMIT_NOFILE, &limit), 0);
	return before;
}

#define KIT_ALL_NAMED 255 /* so few descriptors that a batch keeps none */

static inline void batch_kit_init(struct batch_kit *kit, int root)
{
	staging_init(&kit->staging, root);
	assert_int_equal(dirs_new(root, 4, &kit->dirs), 0);
	assert_int_equal(batch_new(&kit->staging, kit->dirs, &kit->batch), 0);
}

static inline void batch_kit_fini(struct batch_kit *kit)
{
	batch_free(kit->batch);
	dirs_free(kit->dirs);
	staging_fini(&kit->staging);
}

static inline struct batch_file batch_kit_file(const char *name)
{
	return (struct batch_file){ .name = name,
		.name_length = strlen(name),
		.mode = 0644,
		.mtime_s = KIT_MTIME_S,
		.mtime_ns = KIT_MTIME_NS };
}

/* The outcome of writing random content, or of a link whose target is given. */
static inline int batch_kit_write(
	struct batch_kit *kit, struct batch_file *file, size_t length, uint64_t seed)
{
	uint8_t *bytes = malloc(length + 1);
	struct zh_error err;
	int r;

	assert_non_null(bytes);
	random_fill(bytes, length, seed, 0);
	err_init(&err);
	r = batch_write(kit->batch, file, bytes, length, &err);
	free(bytes);
	assert_true((r == 0) == (file->staged != 0));
	return kit_outcome(r, &err);
}

static inline int batch_kit_link(struct batch_kit *kit, struct batch_file *file, const char *target)
{
	struct zh_error err;

	err_init(&err);
	file->link = true;
	int r = batch_write(kit->batch, file, target, strlen(target), &err);
	assert_true((r == 0) == (file->staged != 0));
	return kit_outcome(r, &err);
}

/* Commits one; its outcome. */
static inline int batch_kit_commit(
	struct batch_kit *kit, struct batch_file *file, enum zh_durability durability)
{
	int outcome = ZH_OK;

	batch_commit(kit->batch, &file, 1, durability);
	assert_int_equal(file->staged, 0);
	if (file->error) {
		outcome = kit_outcome(-1, file->error);
		assert_string_not_equal(file->error->file, "");
	}
	free(file->error);
	file->error = NULL;
	return outcome;
}

static inline bool batch_kit_link_is(int dir, const char *name, const char *target)
{
	char bytes[4096];
	ssize_t length = readlinkat(dir, name, bytes, sizeof(bytes));

	return length == (ssize_t)strlen(target) && memcmp(bytes, target, (size_t)length) == 0;
}

#endif
