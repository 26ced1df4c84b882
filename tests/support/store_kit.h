/* SPDX-License-Identifier: Apache-2.0 */
/* store_kit.h - receiving one file without a network: what the tests of staging and commit share.
 */
#ifndef ZH_TESTS_STORE_KIT_H
#define ZH_TESTS_STORE_KIT_H

#include "support.h"

#include "base/err.h"
#include "base/sys.h"
#include "store/commit.h"
#include "store/staging.h"

#define KIT_MTIME_S  1234567890
#define KIT_MTIME_NS 123456789u

static inline struct staging_key kit_key(int parent, const char *name, uint64_t size)
{
	struct stat st;

	assert_int_equal(fstat(parent, &st), 0);
	return (struct staging_key){ .parent_device = st.st_dev,
		.parent_inode = st.st_ino,
		.name = name,
		.name_length = strlen(name),
		.size = size,
		.mtime_s = KIT_MTIME_S,
		.mtime_ns = KIT_MTIME_NS };
}

static inline struct commit kit_commit(int parent, const char *name)
{
	return (struct commit){ .parent = parent,
		.name = name,
		.name_length = strlen(name),
		.mode = 0644,
		.mtime_s = KIT_MTIME_S,
		.mtime_ns = KIT_MTIME_NS };
}

/* A partial with its content, as a session has it before it commits. */
static inline struct partial kit_received(
	struct staging *staging, int parent, const char *name, uint64_t size, uint64_t seed)
{
	struct staging_key key = kit_key(parent, name, size);
	struct zh_error err;
	struct partial partial;

	err_init(&err);
	if (partial_open(staging, &key, &partial, &err) < 0)
		fail_msg("partial_open: %s: %s", err.stage, err.text);
	random_write(partial.fd, size, seed);
	return partial;
}

/* The outcome of a failure that has to be complete: outcome, stage and text. ZH_OK for success. */
static inline int kit_outcome(int r, const struct zh_error *err)
{
	if (r == 0) {
		assert_false(err_is_set(err));
		return ZH_OK;
	}
	assert_true(r < 0);
	assert_true(err_is_set(err));
	assert_true(err->stage[0] != '\0' && err->text[0] != '\0');
	return err->outcome;
}

/* The two results that are compared most, on one line. */
static inline int kit_open(
	struct staging *staging, const struct staging_key *key, struct partial *ret_partial)
{
	struct zh_error err;

	err_init(&err);
	int r = partial_open(staging, key, ret_partial, &err);
	if (r < 0)
		assert_int_equal(ret_partial->fd, -1);
	return kit_outcome(r, &err);
}

static inline int kit_finish(
	struct staging *staging, struct partial *partial, const struct commit *commit)
{
	struct zh_error err;

	err_init(&err);
	int r = commit_file(staging, partial, commit, &err);
	assert_int_equal(partial->fd, -1);
	return kit_outcome(r, &err);
}

static inline size_t kit_staged(const struct arena *arena)
{
	return entry_count(arena->root, STAGING_DIRECTORY);
}

/* The next call of this kind fails once with error. */
static inline void kit_fail_next(enum sys_call call, int error)
{
	struct sys_fault fault = {
		.kind = SYS_FAULT_ERRNO, .call = call, .error = error, .nth = 1, .times = 1
	};

	sys_fault_arm(&fault);
}

/* Ends what kit_fail_next began; false when it never struck. */
static inline bool kit_struck(void)
{
	bool struck = sys_fault_struck() > 0;

	sys_fault_arm(NULL);
	return struck;
}

#endif
