/* SPDX-License-Identifier: Apache-2.0 */
/* root_test.c - nothing below a root leads out of it, and everything inside stays reachable. */
#include "store_kit.h"

#include "base/clock.h"
#include "store/root.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

/* ------------------------------------------------------------------ opening a root -------------
 */

static void a_root_may_be_named_through_a_link(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 16];
	struct stat expected, st;
	struct zh_error err;
	int fd;

	assert_int_equal(symlinkat("../root", a->root, "way"), 0);
	(void)snprintf(path, sizeof(path), "%s/way", a->root_path);
	err_init(&err);
	fd = root_open(path, &err);
	assert_true(fd >= 0);
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(fstat(a->root, &expected), 0);
	assert_int_equal(st.st_ino, expected.st_ino);
	assert_int_equal(fsync(fd), 0); /* not O_PATH */
	close(fd);
}

static void a_root_that_is_no_directory_is_a_config_error(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 16];
	struct zh_error err;
	int fd;

	text_file(a->root, "file", "x");
	(void)snprintf(path, sizeof(path), "%s/file", a->root_path);
	err_init(&err);
	fd = root_open(path, &err);
	assert_int_equal(fd, -ENOTDIR);
	assert_int_equal(kit_outcome(fd, &err), ZH_CONFIG);
	assert_string_equal(err.file, path);

	(void)snprintf(path, sizeof(path), "%s/absent", a->root_path);
	err_init(&err);
	fd = root_open(path, &err);
	assert_int_equal(fd, -ENOENT);
	assert_int_equal(kit_outcome(fd, &err), ZH_CONFIG);
}

/* ------------------------------------------------------------------ names ----------------------
 */

static void only_single_components_are_names(void **state)
{
	static const struct {
		const char *name;
		size_t length;
		bool ok;
	} rows[] = {
		{ "a", 1, true },
		{ "...", 3, true },
		{ ".hidden", 7, true },
		{ "\xff\x01\n", 3, true },
		{ ".zerohaul-staging2", 18, true },
		{ ".zerohaul-stagin", 16, true },
		{ "", 0, false },
		{ ".", 1, false },
		{ "..", 2, false },
		{ "a/b", 3, false },
		{ "/", 1, false },
		{ "a/", 2, false },
		{ "a\0b", 3, false },
		{ "\0", 1, false },
		{ ".zerohaul-staging", 17, false },
	};
	char longest[ROOT_NAME_MAX + 1];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (root_name_ok(rows[i].name, rows[i].length) != rows[i].ok)
			fail_msg("row %zu: \"%s\"", i, rows[i].name);
	memset(longest, 'x', sizeof(longest));
	assert_true(root_name_ok(longest, ROOT_NAME_MAX));
	assert_false(root_name_ok(longest, ROOT_NAME_MAX + 1));
}

static void names_that_are_paths_are_not_looked_up(void **state)
{
	static const char *const names[] = { "..", ".", "", "d/inner", "../outside", "/",
		STAGING_DIRECTORY };
	struct arena *a = arena_of(state);
	enum root_kind kind;
	uint64_t size;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(mkdirat(a->root, "d/inner", 0755), 0);
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY, 0700), 0);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		assert_int_equal(root_enter(a->root, names[i]), -EINVAL);
		assert_int_equal(root_look(a->root, names[i], &kind, &size), -EINVAL);
	}
}

static void look_tells_what_a_name_is(void **state)
{
	struct arena *a = arena_of(state);
	static const struct {
		const char *name;
		enum root_kind kind;
		uint64_t size;
	} rows[] = {
		{ "absent", ROOT_ABSENT, 0 },
		{ "directory", ROOT_DIRECTORY, 0 },
		{ "file", ROOT_FILE, 12345 },
		{ "fifo", ROOT_OTHER, 0 },
		{ "link_to_file", ROOT_OTHER, 0 },
		{ "link_to_directory", ROOT_OTHER, 0 },
		{ "dangling", ROOT_OTHER, 0 },
	};

	assert_int_equal(mkdirat(a->root, "directory", 0755), 0);
	random_file(a->root, "file", 12345, 1);
	assert_int_equal(mkfifoat(a->root, "fifo", 0644), 0);
	assert_int_equal(symlinkat("file", a->root, "link_to_file"), 0);
	assert_int_equal(symlinkat("directory", a->root, "link_to_directory"), 0);
	assert_int_equal(symlinkat("nowhere", a->root, "dangling"), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		enum root_kind kind = 99;
		uint64_t size = 99;
		assert_int_equal(root_look(a->root, rows[i].name, &kind, &size), 0);
		assert_int_equal(kind, rows[i].kind);
		assert_int_equal(size, rows[i].size);
	}
	kit_fail_next(SYS_STAT, EIO);
	enum root_kind kind;
	uint64_t size;
	assert_int_equal(root_look(a->root, "file", &kind, &size), -EIO);
	assert_true(kit_struck());
}

/* ------------------------------------------------------------------ entering -------------------
 */

/* How the kernel answers openat2: 0 has it, else the errno that makes root.c do without. */
static const int openat2_answers[] = { 0, ENOSYS, EPERM };

static int enter(int dir, const char *name, int openat2_answer)
{
	int fd;

	if (openat2_answer)
		kit_fail_next(SYS_OPEN, openat2_answer);
	fd = root_enter(dir, name);
	if (openat2_answer)
		assert_true(kit_struck());
	return fd;
}

static void enter_opens_a_directory_with_and_without_openat2(void **state)
{
	struct arena *a = arena_of(state);
	struct stat expected, st;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(fstatat(a->root, "d", &expected, 0), 0);
	for (size_t i = 0; i < ARRAY_LEN(openat2_answers); i++) {
		int fd = enter(a->root, "d", openat2_answers[i]);
		assert_true(fd >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_ino, expected.st_ino);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_int_equal(fsync(fd), 0);
		close(fd);
	}
}

static void enter_follows_no_link_and_opens_no_file(void **state)
{
	struct arena *a = arena_of(state);
	static const char *const names[] = { "out", "in", "absolute", "dangling", "loop", "file",
		"fifo" };

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(symlinkat("../outside", a->root, "out"), 0);
	assert_int_equal(symlinkat("d", a->root, "in"), 0);
	assert_int_equal(symlinkat(a->path, a->root, "absolute"), 0);
	assert_int_equal(symlinkat("nowhere", a->root, "dangling"), 0);
	assert_int_equal(symlinkat("loop", a->root, "loop"), 0);
	assert_int_equal(mkfifoat(a->root, "fifo", 0644), 0);
	text_file(a->root, "file", "x");
	for (size_t i = 0; i < ARRAY_LEN(openat2_answers); i++)
		for (size_t j = 0; j < ARRAY_LEN(names); j++) {
			int r = enter(a->root, names[j], openat2_answers[i]);
			if (r != -ELOOP && r != -ENOTDIR)
				fail_msg("%s, answer %zu: %d", names[j], i, r);
		}
	assert_int_equal(root_enter(a->root, "absent"), -ENOENT);
}

static void enter_stays_on_its_file_system(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 16];

	if (!mounts_are_private())
		SKIP("mounting is not permitted");
	if (under_valgrind())
		SKIP("valgrind has no openat2, which alone can tell a bind mount");
	assert_int_equal(mkdirat(a->root, "other", 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/other", a->root_path);
	assert_int_equal(mount("none", path, "tmpfs", 0, "size=64k"), 0);
	int refused[ARRAY_LEN(openat2_answers)];
	for (size_t i = 0; i < ARRAY_LEN(openat2_answers); i++)
		refused[i] = enter(a->root, "other", openat2_answers[i]);
	assert_int_equal(umount(path), 0);
	/* a bind mount of the same file system: only openat2 can tell */
	assert_int_equal(mount(a->path, path, NULL, MS_BIND, NULL), 0);
	int bound = root_enter(a->root, "other");
	assert_int_equal(umount(path), 0);
	for (size_t i = 0; i < ARRAY_LEN(openat2_answers); i++)
		assert_int_equal(refused[i], -EXDEV);
	assert_int_equal(bound, -EXDEV);
	int fd =
		root_enter(a->root, "other"); /* without a mount it is a directory like any other */
	assert_true(fd >= 0);
	close(fd);
}

/* ------------------------------------------------------------------ a racer --------------------
 */

#define RACE_NS    (2 * (uint64_t)NS_PER_S)
#define RACE_TO_NS (60 * (uint64_t)NS_PER_S) /* when it takes so long until all has happened */

struct racer {
	pthread_t thread;
	atomic_bool stop;
	int root;
	uint64_t exchanges;
};

/* A local user who swaps a directory for a link, and a file for a link, as fast as it goes. */
static void *race(void *argument)
{
	struct racer *racer = argument;

	while (!atomic_load(&racer->stop)) {
		if (renameat2(racer->root, "d", racer->root, "out", RENAME_EXCHANGE) == 0)
			racer->exchanges++;
		/* anew each time, because a commit that wins replaces the link itself */
		(void)unlinkat(racer->root, "file_out", 0);
		(void)symlinkat("../../outside/precious", racer->root, "file_out");
		(void)renameat2(
			racer->root, "pinned/file", racer->root, "file_out", RENAME_EXCHANGE);
	}
	return NULL;
}

struct tally {
	uint64_t entered;
	uint64_t refused;
	uint64_t committed;
	uint64_t not_replaced;
};

static bool tally_is_enough(const struct tally *tally)
{
	return tally->entered > 10 && tally->refused > 10 && tally->committed > 10 &&
	       tally->not_replaced > 10;
}

static void receive_into(struct staging *staging, int parent, struct tally *tally)
{
	struct partial partial = kit_received(staging, parent, "file", 100, 5);
	struct commit commit = kit_commit(parent, "file");
	int outcome;

	commit.durability = ZH_DURABLE_NONE;
	outcome = kit_finish(staging, &partial, &commit);
	if (outcome == ZH_OK)
		tally->committed++;
	else if (outcome == ZH_EXISTS)
		tally->not_replaced++;
	else
		fail_msg("a swapped name ended as %s", zh_outcome_name(outcome));
}

static void race_once(struct arena *a, struct staging *staging, int pinned, ino_t inside,
	bool with_openat2, struct tally *tally)
{
	struct stat st;
	int fd = enter(a->root, "d", with_openat2 ? 0 : ENOSYS);

	receive_into(staging, pinned, tally);
	if (fd < 0) {
		assert_true(fd == -ELOOP || fd == -ENOTDIR);
		tally->refused++;
		return;
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_ino, inside);
	receive_into(staging, fd, tally);
	close(fd);
	tally->entered++;
}

static void check_race(struct arena *a, bool with_openat2)
{
	struct racer racer = { .root = a->root };
	struct tally tally = { 0 };
	struct staging staging;
	struct stat st;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(mkdirat(a->root, "pinned", 0755), 0);
	assert_int_equal(symlinkat("../outside", a->root, "out"), 0);
	text_file(a->root, "pinned/file", "old");
	assert_int_equal(fstatat(a->root, "d", &st, 0), 0);
	int pinned = root_enter(a->root, "pinned");
	assert_true(pinned >= 0);
	staging_init(&staging, a->root);

	assert_int_equal(pthread_create(&racer.thread, NULL, race, &racer), 0);
	uint64_t start = clock_now_ns();
	while (clock_now_ns() - start < (tally_is_enough(&tally) ? RACE_NS : RACE_TO_NS))
		race_once(a, &staging, pinned, st.st_ino, with_openat2, &tally);
	atomic_store(&racer.stop, true);
	assert_int_equal(pthread_join(racer.thread, NULL), 0);

	staging_fini(&staging);
	close(pinned);
	print_message("# %llu exchanges: entered %llu, refused %llu, committed %llu, exists %llu\n",
		(unsigned long long)racer.exchanges, (unsigned long long)tally.entered,
		(unsigned long long)tally.refused, (unsigned long long)tally.committed,
		(unsigned long long)tally.not_replaced);
	/* the race was one, and honest use went through it */
	assert_true(racer.exchanges > 100);
	assert_true(tally_is_enough(&tally));
	assert_int_equal(kit_staged(a), 0);
	/* arena_teardown: nothing appeared or changed outside */
}

static void a_directory_swapped_for_a_link_never_leads_outside(void **state)
{
	check_race(arena_of(state), true);
}

static void a_directory_swapped_for_a_link_never_leads_outside_without_openat2(void **state)
{
	check_race(arena_of(state), false);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_root_may_be_named_through_a_link),
		ARENA_TEST(a_root_that_is_no_directory_is_a_config_error),
		cmocka_unit_test(only_single_components_are_names),
		ARENA_TEST(names_that_are_paths_are_not_looked_up),
		ARENA_TEST(look_tells_what_a_name_is),
		ARENA_TEST(enter_opens_a_directory_with_and_without_openat2),
		ARENA_TEST_ON_TMPFS(enter_opens_a_directory_with_and_without_openat2),
		ARENA_TEST(enter_follows_no_link_and_opens_no_file),
		ARENA_TEST(enter_stays_on_its_file_system),
		ARENA_TEST(a_directory_swapped_for_a_link_never_leads_outside),
		ARENA_TEST_ON_TMPFS(a_directory_swapped_for_a_link_never_leads_outside),
		ARENA_TEST_ON_TMPFS(
			a_directory_swapped_for_a_link_never_leads_outside_without_openat2),
	};

	(void)mounts_are_private();
	return RUN_TESTS("root", tests);
}
