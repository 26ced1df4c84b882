/* SPDX-License-Identifier: Apache-2.0 */
/* staging_test.c - partials: their place, their size, their lock, and who may take them over. */
#include "store_kit.h"

#include "base/clock.h"
#include "store/root.h"

#include <errno.h>
#include <linux/magic.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

static void staged_path(const struct partial *partial, char *ret_path, size_t cap)
{
	(void)snprintf(ret_path, cap, "%s/%s", STAGING_DIRECTORY, partial->name);
}

/* The name that a key leads to. */
static struct partial named_by(struct staging *staging, const struct staging_key *key)
{
	struct partial partial;

	assert_int_equal(kit_open(staging, key, &partial), ZH_OK);
	partial_discard(staging, &partial);
	return partial;
}

/* ------------------------------------------------------------------ place and size -------------
 */

static void a_partial_has_its_full_size_at_once(void **state)
{
	static const uint64_t sizes[] = { 0, 1, 4096, MIB + 1, 8 * MIB };
	struct arena *a = arena_of(state);
	bool on_tmpfs = arena_is_on(a, TMPFS_MAGIC);
	struct staging staging;
	struct partial partial;
	struct stat st;

	staging_init(&staging, a->root);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct staging_key key = kit_key(a->root, "file", sizes[i]);
		assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
		assert_int_equal(fstat(partial.fd, &st), 0);
		assert_int_equal(st.st_size, sizes[i]);
		assert_int_equal(st.st_dev, partial.device);
		assert_int_equal(st.st_ino, partial.inode);
		assert_int_equal(partial.size, sizes[i]);
		if (!on_tmpfs) /* the blocks are there before the bytes are */
			assert_true((uint64_t)st.st_blocks * 512 >= sizes[i]);
		assert_int_equal(fcntl(partial.fd, F_GETFL) & (O_ACCMODE | O_APPEND), O_RDWR);
		assert_int_equal(fcntl(partial.fd, F_GETFD), FD_CLOEXEC);
		partial_discard(&staging, &partial);
	}
	staging_fini(&staging);
}

static void the_staging_directory_and_what_is_in_it_is_private(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100);
	mode_t mask = umask(0);
	struct staging staging;
	struct partial partial;
	struct stat st;
	char path[100];

	staging_init(&staging, a->root);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
	(void)umask(mask);
	assert_int_equal(fstatat(a->root, STAGING_DIRECTORY, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFDIR | 0700);
	staged_path(&partial, path, sizeof(path));
	assert_int_equal(fstatat(a->root, path, &st, AT_SYMLINK_NOFOLLOW), 0);
	assert_int_equal(st.st_mode, S_IFREG | 0600);
	assert_int_equal(st.st_ino, partial.inode);
	assert_int_equal(strspn(partial.name, "0123456789abcdef"), 32);
	assert_string_equal(partial.name + 32, ".part");
	partial_discard(&staging, &partial);
	staging_fini(&staging);
}

static void a_name_depends_on_the_whole_key_and_nothing_else(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100), other[7];
	struct staging staging;

	staging_init(&staging, a->root);
	struct partial first = named_by(&staging, &key);
	struct partial again = named_by(&staging, &key);
	assert_string_equal(first.name, again.name);
	for (size_t i = 0; i < ARRAY_LEN(other); i++)
		other[i] = key;
	other[0].parent_device++;
	other[1].parent_inode++;
	other[2].name = "filf";
	other[3].name_length = 3;
	other[4].size++;
	other[5].mtime_s = -key.mtime_s;
	other[6].mtime_ns++;
	for (size_t i = 0; i < ARRAY_LEN(other); i++) {
		struct partial differs = named_by(&staging, &other[i]);
		if (strcmp(differs.name, first.name) == 0)
			fail_msg("field %zu is not part of the name", i);
	}
	staging_fini(&staging);
}

static void the_directory_goes_when_it_is_empty_and_only_then(void **state)
{
	struct arena *a = arena_of(state);
	struct staging one, two;
	enum { UNUSED_ROOT = -1 };

	staging_init(&one, a->root);
	staging_init(&two, a->root);
	struct partial partial = kit_received(&one, a->root, "file", 10, 1);
	struct partial second = kit_received(&two, a->root, "second", 10, 1);
	partial_discard(&two, &second);
	staging_fini(&two);
	assert_int_equal(kit_staged(a), 1);
	partial_discard(&one, &partial);
	assert_int_equal(faccessat(a->root, STAGING_DIRECTORY, F_OK, 0), 0);
	staging_fini(&one);
	assert_int_equal(faccessat(a->root, STAGING_DIRECTORY, F_OK, 0), -1);
	/* one that never had a partial made nothing and removes nothing */
	staging_init(&two, UNUSED_ROOT);
	staging_fini(&two);
}

static void a_directory_removed_by_another_receiver_is_made_again(void **state)
{
	struct arena *a = arena_of(state);
	struct staging one, two;

	staging_init(&one, a->root);
	staging_init(&two, a->root);
	struct partial partial = kit_received(&one, a->root, "file", 10, 1);
	partial_discard(&one, &partial);
	partial = kit_received(&two, a->root, "file", 10, 1);
	partial_discard(&two, &partial);
	staging_fini(&two); /* what one still has open is gone */
	partial = kit_received(&one, a->root, "file", 10, 1);
	assert_int_equal(kit_staged(a), 1);
	partial_discard(&one, &partial);
	staging_fini(&one);
}

static void discard_and_keep_do_what_they_say_and_twice_is_harmless(void **state)
{
	struct arena *a = arena_of(state);
	struct staging staging;

	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", 10, 1);
	partial_keep(&partial);
	partial_keep(&partial);
	assert_int_equal(kit_staged(a), 1);
	partial = kit_received(&staging, a->root, "file", 10, 1);
	partial_discard(&staging, &partial);
	partial_discard(&staging, &partial);
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
}

/* ------------------------------------------------------------------ taking over ----------------
 */

static void a_second_receiver_of_the_same_file_is_told_it_is_busy(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 5000);
	struct staging one, two;
	struct partial second;

	staging_init(&one, a->root);
	staging_init(&two, a->root);
	struct partial first = kit_received(&one, a->root, "file", 5000, 1);
	assert_int_equal(kit_open(&two, &key, &second), ZH_BUSY);
	assert_true(random_is(first.fd, 5000, 1)); /* and the first one is none the worse */
	partial_discard(&one, &first);
	assert_int_equal(kit_open(&two, &key, &second), ZH_OK);
	partial_discard(&two, &second);
	staging_fini(&one);
	staging_fini(&two);
}

static void an_older_partial_is_taken_over_and_emptied(void **state)
{
	static const uint8_t zeros[5000];
	uint8_t bytes[5000];
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 5000);
	struct staging staging;

	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", 5000, 1);
	uint64_t inode = partial.inode;
	partial_keep(&partial);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
	assert_int_equal(partial.inode, inode);
	assert_int_equal(pread(partial.fd, bytes, sizeof(bytes), 0), 5000);
	assert_memory_equal(bytes, zeros, sizeof(zeros));
	partial_discard(&staging, &partial);
	staging_fini(&staging);
}

/* As a crash between linkat and unlinkat of a commit leaves it. */
static void an_older_partial_that_is_a_finished_file_is_not_emptied(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 5000);
	struct staging staging;
	char path[100];

	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", 5000, 1);
	staged_path(&partial, path, sizeof(path));
	assert_int_equal(linkat(a->root, path, a->root, "file", 0), 0);
	partial_keep(&partial);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
	assert_true(random_at(a->root, "file", 5000, 1));
	partial_discard(&staging, &partial);
	assert_true(random_at(a->root, "file", 5000, 1));
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
}

static void what_else_bears_the_name_is_replaced_and_not_followed(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100);
	struct staging staging, keeper;
	struct stat st;
	char path[100];

	staging_init(&staging, a->root);
	staging_init(&keeper, a->root);
	struct partial partial = named_by(&staging, &key);
	struct partial other = kit_received(&keeper, a->root, "other", 1, 1);
	staged_path(&partial, path, sizeof(path));
	(void)alarm(20);
	for (int kind = 0; kind < 3; kind++) {
		if (kind == 0)
			assert_int_equal(symlinkat("../../outside/precious", a->root, path), 0);
		if (kind == 1)
			assert_int_equal(symlinkat("nowhere", a->root, path), 0);
		if (kind == 2)
			assert_int_equal(mkfifoat(a->root, path, 0600), 0);
		assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
		assert_int_equal(fstat(partial.fd, &st), 0);
		assert_true(S_ISREG(st.st_mode) && st.st_size == 100);
		partial_discard(&staging, &partial);
	}
	(void)alarm(0);
	/* a directory is nobody's rubbish */
	assert_int_equal(mkdirat(a->root, path, 0700), 0);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_EXISTS);
	assert_int_equal(unlinkat(a->root, path, AT_REMOVEDIR), 0);
	partial_discard(&keeper, &other);
	staging_fini(&staging);
	staging_fini(&keeper);
}

static void discard_leaves_what_is_not_its_own(void **state)
{
	struct arena *a = arena_of(state);
	struct staging staging;
	char path[100];

	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", 10, 1);
	staged_path(&partial, path, sizeof(path));
	assert_int_equal(unlinkat(a->root, path, 0), 0);
	text_file(a->root, path, "of somebody else");
	partial_discard(&staging, &partial);
	assert_int_equal(kit_staged(a), 1);
	staging_fini(&staging);
}

/* ------------------------------------------------------------------ a staging place of others --
 */

static void a_staging_name_that_is_taken_is_refused_and_left_alone(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100);
	struct staging staging;
	struct partial partial;

	staging_init(&staging, a->root);
	assert_int_equal(symlinkat("../outside", a->root, STAGING_DIRECTORY), 0);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_EXISTS);
	/* the same where the kernel has no openat2 */
	kit_fail_next(SYS_OPEN, ENOSYS);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_EXISTS);
	assert_true(kit_struck());
	assert_int_equal(unlinkat(a->root, STAGING_DIRECTORY, 0), 0);
	text_file(a->root, STAGING_DIRECTORY, "x");
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_EXISTS);
	staging_fini(&staging);
	assert_int_equal(faccessat(a->root, STAGING_DIRECTORY, F_OK, 0), 0);
}

static void a_staging_directory_that_others_write_to_is_refused(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100);
	struct staging staging;
	struct partial partial;

	staging_init(&staging, a->root);
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY, 0700), 0);
	assert_int_equal(fchmodat(a->root, STAGING_DIRECTORY, 0770, 0), 0);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_PERM);
	assert_int_equal(fchmodat(a->root, STAGING_DIRECTORY, 0702, 0), 0);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_PERM);
	assert_int_equal(fchmodat(a->root, STAGING_DIRECTORY, 0755, 0), 0);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
	partial_discard(&staging, &partial);
	staging_fini(&staging);
}

static void a_staging_directory_of_another_user_is_refused(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100);
	struct staging staging;
	struct partial partial;

	if (geteuid() != 0)
		SKIP("only root can give a directory away");
	staging_init(&staging, a->root);
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY, 0700), 0);
	assert_int_equal(fchownat(a->root, STAGING_DIRECTORY, 65534, 65534, 0), 0);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_PERM);
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
}

static void a_staging_directory_on_another_file_system_is_refused(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100);
	char path[ARENA_PATH_CAP + 32];
	struct staging staging;
	struct partial partial;

	if (!mounts_are_private())
		SKIP("mounting is not permitted");
	staging_init(&staging, a->root);
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY, 0700), 0);
	(void)snprintf(path, sizeof(path), "%s/%s", a->root_path, STAGING_DIRECTORY);
	assert_int_equal(mount("none", path, "tmpfs", 0, "size=1m,mode=700"), 0);
	int with = kit_open(&staging, &key, &partial);
	kit_fail_next(SYS_OPEN, ENOSYS);
	int without = kit_open(&staging, &key, &partial);
	bool struck = kit_struck();
	assert_int_equal(umount(path), 0);
	assert_int_equal(with, ZH_DST_IO);
	assert_int_equal(without, ZH_DST_IO);
	assert_true(struck);
	staging_fini(&staging);
}

static void a_root_that_may_not_be_written_to_is_a_permission_error(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", 100);
	struct staging staging;
	struct partial partial;
	int outcome;

	assert_int_equal(fchmod(a->root, 0555), 0);
	staging_init(&staging, a->root);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0);
	outcome = kit_open(&staging, &key, &partial);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(outcome, ZH_PERM);
	staging_fini(&staging);
	assert_int_equal(fchmod(a->root, 0755), 0);
}

/* ------------------------------------------------------------------ room -----------------------
 */

static void a_disk_that_is_too_small_says_so_before_a_byte_moves(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", (uint64_t)1 << 50);
	struct staging staging;
	struct partial partial;

	staging_init(&staging, a->root);
	uint64_t tried = sys_calls[SYS_FALLOCATE];
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_NOSPACE);
	/* and does not first take what others could use */
	assert_int_equal(sys_calls[SYS_FALLOCATE], tried);
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
}

static void a_full_tmpfs_says_so_before_a_byte_moves(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 16];
	struct staging staging;
	struct partial partial;

	if (!mounts_are_private())
		SKIP("mounting is not permitted");
	assert_int_equal(mkdirat(a->root, "small", 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/small", a->root_path);
	assert_int_equal(mount("none", path, "tmpfs", 0, "size=4m"), 0);
	int small = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	staging_init(&staging, small);
	struct staging_key too_big = kit_key(small, "big", 4 * MIB + 1);
	struct staging_key fits = kit_key(small, "fits", 2 * MIB);
	int refused = kit_open(&staging, &too_big, &partial);
	size_t left = entry_count(small, STAGING_DIRECTORY);
	int taken = kit_open(&staging, &fits, &partial);
	partial_discard(&staging, &partial);
	staging_fini(&staging);
	close(small);
	assert_int_equal(umount(path), 0);
	assert_int_equal(refused, ZH_NOSPACE);
	assert_int_equal(left, 0);
	assert_int_equal(taken, ZH_OK);
}

static void a_tmpfs_without_a_limit_takes_everything(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 16];
	struct staging staging;
	struct partial partial;

	if (!mounts_are_private())
		SKIP("mounting is not permitted");
	assert_int_equal(mkdirat(a->root, "endless", 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/endless", a->root_path);
	assert_int_equal(mount("none", path, "tmpfs", 0, "size=0"), 0);
	int endless = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	staging_init(&staging, endless);
	struct staging_key key = kit_key(endless, "file", 100 * MIB);
	int outcome = kit_open(&staging, &key, &partial);
	partial_discard(&staging, &partial);
	staging_fini(&staging);
	close(endless);
	assert_int_equal(umount(path), 0);
	assert_int_equal(outcome, ZH_OK);
}

static void a_failed_allocation_leaves_nothing(void **state)
{
	static const struct {
		int error;
		int outcome;
	} rows[] = {
		{ ENOSPC, ZH_NOSPACE },
		{ EDQUOT, ZH_QUOTA },
		{ EFBIG, ZH_LIMIT },
		{ EIO, ZH_DST_IO },
		{ EPERM, ZH_PERM },
	};
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", MIB);
	struct staging staging;
	struct partial partial;

	if (arena_is_on(a, TMPFS_MAGIC))
		SKIP("tmpfs is not allocated");
	staging_init(&staging, a->root);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		kit_fail_next(SYS_FALLOCATE, rows[i].error);
		int outcome = kit_open(&staging, &key, &partial);
		assert_true(kit_struck());
		assert_int_equal(outcome, rows[i].outcome);
		assert_int_equal(kit_staged(a), 0);
	}
	staging_fini(&staging);
}

static void where_nothing_can_be_allocated_the_size_is_set(void **state)
{
	static const int answers[] = { EOPNOTSUPP, ENOSYS };
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", MIB);
	struct staging staging;
	struct partial partial;
	struct stat st;

	if (arena_is_on(a, TMPFS_MAGIC))
		SKIP("tmpfs is not allocated");
	staging_init(&staging, a->root);
	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		kit_fail_next(SYS_FALLOCATE, answers[i]);
		int outcome = kit_open(&staging, &key, &partial);
		assert_true(kit_struck());
		assert_int_equal(outcome, ZH_OK);
		assert_int_equal(fstat(partial.fd, &st), 0);
		assert_int_equal(st.st_size, MIB);
		partial_discard(&staging, &partial);
	}
	staging_fini(&staging);
}

/* In a process of its own, because SIGXFSZ would end it and limits stay. Returns its exit status.
 */
static int open_under_limit(struct arena *a, uint64_t limit, uint64_t size)
{
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) {
		struct rlimit rlimit = { limit, limit };
		struct staging_key key = kit_key(a->root, "file", size);
		struct staging staging;
		struct partial partial;
		struct zh_error err;
		(void)signal(SIGXFSZ, SIG_DFL);
		(void)setrlimit(RLIMIT_FSIZE, &rlimit);
		staging_init(&staging, a->root);
		err_init(&err);
		int r = partial_open(&staging, &key, &partial, &err);
		partial_discard(&staging, &partial);
		staging_fini(&staging);
		_exit(r < 0 ? err.outcome : ZH_OK);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

static void a_file_size_limit_is_an_answer_and_no_signal(void **state)
{
	struct arena *a = arena_of(state);

	assert_int_equal(open_under_limit(a, MIB, MIB + 1), ZH_LIMIT);
	assert_int_equal(open_under_limit(a, MIB, MIB), ZH_OK);
	assert_int_equal(kit_staged(a), 0);
}

static void a_size_that_no_file_can_have_is_a_limit(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "file", (uint64_t)INT64_MAX + 1);
	struct staging staging;
	struct partial partial;

	staging_init(&staging, a->root);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_LIMIT);
	key.size = UINT64_MAX;
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_LIMIT);
	key.size = INT64_MAX;
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_NOSPACE);
	staging_fini(&staging);
}

static void a_name_that_is_no_component_is_unsafe(void **state)
{
	static const char *const names[] = { "", ".", "..", "a/b", STAGING_DIRECTORY };
	char long_name[ROOT_NAME_MAX + 2] = { 0 };
	struct arena *a = arena_of(state);
	struct staging staging;
	struct partial partial;

	staging_init(&staging, a->root);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct staging_key key = kit_key(a->root, names[i], 10);
		assert_int_equal(kit_open(&staging, &key, &partial), ZH_UNSAFE_NAME);
	}
	memset(long_name, 'x', ROOT_NAME_MAX + 1);
	struct staging_key key = kit_key(a->root, long_name, 10);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_UNSAFE_NAME);
	key.name_length--;
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
	partial_discard(&staging, &partial);
	staging_fini(&staging);
}

static void an_error_names_the_file_and_may_be_unwanted(void **state)
{
	struct arena *a = arena_of(state);
	struct staging_key key = kit_key(a->root, "new\nline", UINT64_MAX);
	struct staging staging;
	struct partial partial;
	struct zh_error err;

	staging_init(&staging, a->root);
	err_init(&err);
	assert_int_equal(partial_open(&staging, &key, &partial, &err), -EFBIG);
	assert_string_equal(err.file, "new\\x0aline");
	assert_int_equal(partial_open(&staging, &key, &partial, NULL), -EFBIG);
	staging_fini(&staging);
}

/* ------------------------------------------------------------------ many receivers -------------
 */

#define RECEIVERS  4
#define ENOUGH     100
#define RACE_NS    (2 * (uint64_t)NS_PER_S)
#define RACE_TO_NS (60 * (uint64_t)NS_PER_S) /* when it takes so long until they have met */

/* What the receivers have done, all of them. */
struct contest {
	atomic_int holders;
	atomic_ulong held;
	atomic_ulong busy;
	atomic_bool broken;
};

struct receiver {
	pthread_t thread;
	int root;
	unsigned id;
	uint64_t start_ns;
	struct contest *contest;
};

static bool contest_goes_on(const struct receiver *receiver)
{
	const struct contest *contest = receiver->contest;
	uint64_t passed_ns = clock_now_ns() - receiver->start_ns;
	bool enough = atomic_load(&contest->held) > ENOUGH && atomic_load(&contest->busy) > 0;

	return !atomic_load(&contest->broken) && passed_ns < (enough ? RACE_NS : RACE_TO_NS);
}

/* Everything that a receiver may do with one contested file, by turns. */
static void hold(
	struct receiver *receiver, struct staging *staging, struct partial *partial, uint64_t turn)
{
	struct commit commit = { .parent = receiver->root,
		.name = "file",
		.name_length = 4,
		.mode = 0644,
		.durability = ZH_DURABLE_NONE };
	struct contest *contest = receiver->contest;
	uint64_t mine = receiver->id, seen = 0;

	if (atomic_fetch_add(&contest->holders, 1) != 0)
		contest->broken = true; /* two own the same partial */
	if (pwrite(partial->fd, &mine, sizeof(mine), 0) != sizeof(mine))
		contest->broken = true;
	(void)sched_yield();
	if (pread(partial->fd, &seen, sizeof(seen), 0) != sizeof(seen) || seen != mine)
		contest->broken = true;
	contest->held++;
	atomic_fetch_sub(&contest->holders, 1);
	if (turn % 3 == 0) {
		if (commit_file(staging, partial, &commit, NULL) != 0)
			contest->broken = true;
	} else if (turn % 3 == 1) {
		partial_discard(staging, partial);
	} else {
		partial_keep(partial);
	}
}

static void *receive(void *argument)
{
	struct receiver *receiver = argument;
	uint64_t random = receiver->id;
	struct staging_key key = { .parent_inode = 1, .name = "file", .name_length = 4, .size = 8 };
	struct staging staging;

	while (contest_goes_on(receiver)) {
		uint64_t turn = random_next(&random);
		struct partial partial;
		struct zh_error err;
		staging_init(&staging, receiver->root);
		for (int i = 0; i < 4; i++) {
			err_init(&err);
			if (partial_open(&staging, &key, &partial, &err) == 0)
				hold(receiver, &staging, &partial, turn >> i);
			else if (err.outcome == ZH_BUSY)
				receiver->contest->busy++;
			else
				receiver->contest->broken = true;
		}
		staging_fini(&staging);
	}
	return NULL;
}

static void of_many_receivers_only_one_holds_a_partial(void **state)
{
	struct arena *a = arena_of(state);
	struct receiver receivers[RECEIVERS] = { 0 };
	struct contest contest = { 0 };
	uint64_t start_ns = clock_now_ns();

	for (unsigned i = 0; i < RECEIVERS; i++) {
		receivers[i].root = a->root;
		receivers[i].id = i + 1;
		receivers[i].start_ns = start_ns;
		receivers[i].contest = &contest;
		assert_int_equal(
			pthread_create(&receivers[i].thread, NULL, receive, &receivers[i]), 0);
	}
	for (unsigned i = 0; i < RECEIVERS; i++)
		assert_int_equal(pthread_join(receivers[i].thread, NULL), 0);
	print_message("# held %lu times, busy %lu times\n", contest.held, contest.busy);
	assert_false(contest.broken);
	assert_true(contest.held > ENOUGH && contest.busy > 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_partial_has_its_full_size_at_once),
		ARENA_TEST_ON_TMPFS(a_partial_has_its_full_size_at_once),
		ARENA_TEST(the_staging_directory_and_what_is_in_it_is_private),
		ARENA_TEST(a_name_depends_on_the_whole_key_and_nothing_else),
		ARENA_TEST(the_directory_goes_when_it_is_empty_and_only_then),
		ARENA_TEST(a_directory_removed_by_another_receiver_is_made_again),
		ARENA_TEST_ON_TMPFS(a_directory_removed_by_another_receiver_is_made_again),
		ARENA_TEST(discard_and_keep_do_what_they_say_and_twice_is_harmless),
		ARENA_TEST(a_second_receiver_of_the_same_file_is_told_it_is_busy),
		ARENA_TEST_ON_TMPFS(a_second_receiver_of_the_same_file_is_told_it_is_busy),
		ARENA_TEST(an_older_partial_is_taken_over_and_emptied),
		ARENA_TEST_ON_TMPFS(an_older_partial_is_taken_over_and_emptied),
		ARENA_TEST(an_older_partial_that_is_a_finished_file_is_not_emptied),
		ARENA_TEST(what_else_bears_the_name_is_replaced_and_not_followed),
		ARENA_TEST(discard_leaves_what_is_not_its_own),
		ARENA_TEST(a_staging_name_that_is_taken_is_refused_and_left_alone),
		ARENA_TEST(a_staging_directory_that_others_write_to_is_refused),
		ARENA_TEST(a_staging_directory_of_another_user_is_refused),
		ARENA_TEST(a_staging_directory_on_another_file_system_is_refused),
		ARENA_TEST(a_root_that_may_not_be_written_to_is_a_permission_error),
		ARENA_TEST(a_disk_that_is_too_small_says_so_before_a_byte_moves),
		ARENA_TEST_ON_TMPFS(a_disk_that_is_too_small_says_so_before_a_byte_moves),
		ARENA_TEST(a_full_tmpfs_says_so_before_a_byte_moves),
		ARENA_TEST(a_tmpfs_without_a_limit_takes_everything),
		ARENA_TEST(a_failed_allocation_leaves_nothing),
		ARENA_TEST(where_nothing_can_be_allocated_the_size_is_set),
		ARENA_TEST(a_file_size_limit_is_an_answer_and_no_signal),
		ARENA_TEST_ON_TMPFS(a_file_size_limit_is_an_answer_and_no_signal),
		ARENA_TEST(a_size_that_no_file_can_have_is_a_limit),
		ARENA_TEST(a_name_that_is_no_component_is_unsafe),
		ARENA_TEST(an_error_names_the_file_and_may_be_unwanted),
		ARENA_TEST(of_many_receivers_only_one_holds_a_partial),
		ARENA_TEST_ON_TMPFS(of_many_receivers_only_one_holds_a_partial),
	};

	(void)mounts_are_private();
	return RUN_TESTS("staging", tests);
}
