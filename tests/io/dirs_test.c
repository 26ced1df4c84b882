/* SPDX-License-Identifier: Apache-2.0 */
/* dirs_test.c - numbers lead to the directories they were given for, or to none. */
#include "support.h"

#include "base/sys.h"
#include "store/dirs.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

static struct dirs *dirs_of(const struct arena *a, unsigned open_most)
{
	struct dirs *dirs = NULL;

	assert_int_equal(dirs_new(a->root, open_most, &dirs), 0);
	return dirs;
}

static uint64_t inode_of(int dir, const char *name)
{
	struct stat st;

	assert_int_equal(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW), 0);
	return st.st_ino;
}

/* What dirs_get says; the descriptor has to be that of the inode expected. */
static int get(struct dirs *dirs, uint64_t id, uint64_t inode)
{
	struct stat st;
	int fd = -1;
	int r = dirs_get(dirs, id, &fd);

	if (r < 0)
		return r;
	assert_int_equal(fstat(fd, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_ino, inode);
	dirs_put(dirs, id);
	return 0;
}

/* Makes the directories first to last, each in the one before. */
static void chain(struct dirs *dirs, uint64_t first, uint64_t last)
{
	bool made;

	for (uint64_t id = first; id <= last; id++)
		assert_int_equal(dirs_make(dirs, id, id - 1, "d", 0755, &made), 0);
}

/* ------------------------------------------------------------------ numbers --------------------
 */

static void a_directory_is_new_when_it_was_made(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);
	bool made;

	assert_int_equal(mkdirat(a->root, "old", 0755), 0);
	assert_int_equal(dirs_make(dirs, 1, 0, "old", 0755, &made), 0);
	assert_false(made);
	assert_int_equal(dirs_make(dirs, 2, 0, "new", 0755, &made), 0);
	assert_true(made);
	assert_false(dirs_is_new(dirs, 0));
	assert_false(dirs_is_new(dirs, 1));
	assert_true(dirs_is_new(dirs, 2));
	assert_false(dirs_is_new(dirs, 3));
	dirs_forget(dirs, 2);
	assert_false(dirs_is_new(dirs, 2));
	dirs_free(dirs);
}

static void what_was_left_is_known_until_it_is_forgotten(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);
	bool made;
	int fd;

	assert_int_equal(dirs_make(dirs, 1, 0, "d", 0755, &made), 0);
	assert_false(dirs_is_left(dirs, 0));
	assert_false(dirs_is_left(dirs, 1));
	dirs_leave(dirs, 1);
	dirs_leave(dirs, 2); /* there is none */
	assert_true(dirs_is_left(dirs, 1));
	assert_false(dirs_is_left(dirs, 0));
	assert_false(dirs_is_left(dirs, 2));
	assert_int_equal(dirs_get(dirs, 1, &fd), 0);
	dirs_put(dirs, 1);
	dirs_forget(dirs, 1);
	assert_false(dirs_is_left(dirs, 1));
	dirs_leave(dirs, 0);
	assert_true(dirs_is_left(dirs, 0));
	dirs_free(dirs);
}

static void a_number_leads_to_its_directory(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);
	uint64_t device, inode;
	char path[64];

	assert_int_equal(mkdirat(a->root, "a", 0755), 0);
	assert_int_equal(mkdirat(a->root, "a/b", 0755), 0);
	assert_int_equal(dirs_add(dirs, 7, 0, "a"), 0);
	assert_int_equal(dirs_add(dirs, UINT64_MAX, 7, "b"), 0);
	assert_int_equal(dirs_identity(dirs, UINT64_MAX, &device, &inode), -ENOENT);
	assert_int_equal(get(dirs, UINT64_MAX, inode_of(a->root, "a/b")), 0);
	assert_int_equal(get(dirs, 7, inode_of(a->root, "a")), 0);
	assert_int_equal(get(dirs, 0, inode_of(a->root, ".")), 0);
	assert_int_equal(get(dirs, 8, 0), -ENOENT);
	assert_int_equal(dirs_identity(dirs, UINT64_MAX, &device, &inode), 0);
	assert_int_equal(inode, inode_of(a->root, "a/b"));
	assert_int_equal(dirs_identity(dirs, 0, &device, &inode), 0);
	assert_int_equal(inode, inode_of(a->root, "."));

	assert_int_equal(dirs_path(dirs, UINT64_MAX, path, sizeof(path)), 3);
	assert_string_equal(path, "a/b");
	assert_int_equal(dirs_path(dirs, UINT64_MAX, path, 3), 2);
	assert_string_equal(path, "a/");
	assert_int_equal(dirs_path(dirs, 0, path, sizeof(path)), 0);
	assert_string_equal(path, "");
	dirs_free(dirs);
}

static void only_new_numbers_in_known_directories_are_taken(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);
	bool made = true;

	assert_int_equal(dirs_add(dirs, 1, 0, "a"), 0);
	assert_int_equal(dirs_add(dirs, 1, 0, "b"), -EEXIST);
	assert_int_equal(dirs_add(dirs, 0, 0, "b"), -EEXIST);
	assert_int_equal(dirs_add(dirs, 2, 3, "b"), -ENOENT);
	assert_int_equal(dirs_make(dirs, 1, 0, "b", 0755, &made), -EEXIST);
	assert_false(made);
	assert_int_equal(dirs_make(dirs, 2, 3, "b", 0755, &made), -ENOENT);
	assert_int_equal(entry_count(a->root, "."), 0);
	dirs_free(dirs);
}

static void names_are_any_bytes_but_one_component(void **state)
{
	static const char *const bad[] = { "", ".", "..", "a/b", "/", ROOT_RESERVED };
	static const char *const good[] = { "...", " ", "\xff\xfe\x01\n\t\"\\", "-rf", "*",
		ROOT_RESERVED "2" };
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 2);
	char longest[ROOT_NAME_MAX + 2];
	bool made;

	memset(longest, 'x', sizeof(longest));
	longest[ROOT_NAME_MAX + 1] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		assert_int_equal(dirs_add(dirs, 1, 0, bad[i]), -EINVAL);
		assert_int_equal(dirs_make(dirs, 1, 0, bad[i], 0755, &made), -EINVAL);
	}
	assert_int_equal(dirs_add(dirs, 1, 0, longest), -EINVAL);
	longest[ROOT_NAME_MAX] = '\0';
	assert_int_equal(dirs_make(dirs, 1, 0, longest, 0755, &made), 0);
	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		assert_int_equal(dirs_make(dirs, 2 + i, 0, good[i], 0755, &made), 0);
		assert_true(made);
		assert_int_equal(get(dirs, 2 + i, inode_of(a->root, good[i])), 0);
	}
	assert_int_equal(entry_count(a->root, "."), ARRAY_LEN(good) + 1);
	dirs_free(dirs);
}

static void nothing_is_opened_or_made_without_a_top(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = NULL;
	char path[16];
	bool made = true;

	assert_int_equal(dirs_new(-1, 4, &dirs), 0);
	assert_int_equal(get(dirs, 0, 0), -EBADF);
	assert_int_equal(dirs_add(dirs, 1, 0, "a"), 0);
	assert_int_equal(get(dirs, 1, 0), -EBADF);
	assert_int_equal(dirs_make(dirs, 2, 0, "b", 0755, &made), -EBADF);
	assert_false(made);
	assert_int_equal(get(dirs, 2, 0), -ENOENT);
	assert_int_equal(dirs_path(dirs, 1, path, sizeof(path)), 1);
	assert_int_equal(entry_count(a->root, "."), 0);
	dirs_free(dirs);
}

static void forgotten_numbers_are_gone_and_may_come_again(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 8);
	char path[16];
	bool made;
	int fd;

	chain(dirs, 1, 3);
	dirs_forget(dirs, 1); /* kept by 2 */
	assert_int_equal(get(dirs, 1, 0), -ENOENT);
	assert_int_equal(dirs_add(dirs, 9, 1, "x"), -ENOENT);
	assert_int_equal(dirs_add(dirs, 1, 0, "x"), -EEXIST);
	assert_int_equal(get(dirs, 3, inode_of(a->root, "d/d/d")), 0);
	assert_int_equal(dirs_path(dirs, 3, path, sizeof(path)), 5);

	assert_int_equal(dirs_get(dirs, 3, &fd), 0);
	dirs_forget(dirs, 3); /* kept by its user */
	dirs_forget(dirs, 2);
	assert_int_equal(inode_of(fd, "."), inode_of(a->root, "d/d/d"));
	dirs_put(dirs, 3);
	for (uint64_t id = 1; id <= 3; id++)
		assert_int_equal(get(dirs, id, 0), -ENOENT);
	assert_int_equal(dirs_make(dirs, 1, 0, "x", 0755, &made), 0);
	dirs_forget(dirs, 0);
	dirs_forget(dirs, 77);
	assert_int_equal(get(dirs, 1, inode_of(a->root, "x")), 0);
	dirs_free(dirs);
}

static void there_is_a_most_of_numbers(void **state)
{
	struct dirs *dirs = dirs_of(arena_of(state), 2);

	/* far apart and in one residue, as a peer might choose them */
	for (uint64_t i = 1; i <= DIRS_MOST; i++)
		assert_int_equal(dirs_add(dirs, i << 40, 0, "same"), 0);
	assert_int_equal(dirs_add(dirs, 1, 0, "same"), -EMFILE);
	dirs_forget(dirs, (uint64_t)1 << 40);
	assert_int_equal(dirs_add(dirs, 1, 0, "same"), 0);
	dirs_free(dirs);
}

static void there_is_a_most_of_depth(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 0);
	static char path[4 * DIRS_DEPTH_MOST];
	bool made = true;

	chain(dirs, 1, DIRS_DEPTH_MOST);
	assert_int_equal(dirs_make(dirs, 1000, DIRS_DEPTH_MOST, "d", 0755, &made), -ENAMETOOLONG);
	assert_false(made);
	assert_int_equal(dirs_add(dirs, 1000, DIRS_DEPTH_MOST, "d"), -ENAMETOOLONG);
	assert_int_equal(
		dirs_path(dirs, DIRS_DEPTH_MOST, path, sizeof(path)), 2 * DIRS_DEPTH_MOST - 1);
	assert_int_equal(get(dirs, DIRS_DEPTH_MOST, inode_of(a->root, path)), 0);
	assert_int_equal(entry_count(a->root, path), 0);
	dirs_free(dirs);
}

/* ------------------------------------------------------------------ making ---------------------
 */

static void make_makes_or_enters(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);
	mode_t mask = umask(0);
	struct stat st;
	bool made = false;

	assert_int_equal(mkdirat(a->root, "old", 0711), 0);
	assert_int_equal(dirs_make(dirs, 1, 0, "new", 0052, &made), 0);
	(void)umask(mask);
	assert_true(made);
	assert_int_equal(fstatat(a->root, "new", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0752);
	assert_int_equal(get(dirs, 1, st.st_ino), 0);
	assert_int_equal(dirs_make(dirs, 2, 0, "old", 0755, &made), 0);
	assert_false(made);
	assert_int_equal(fstatat(a->root, "old", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0711);
	dirs_free(dirs);
}

static void make_goes_through_nothing_else(void **state)
{
	static const char *const names[] = { "file", "fifo", "out", "in", "dangling" };
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);
	bool made;

	text_file(a->root, "file", "x");
	assert_int_equal(mkfifoat(a->root, "fifo", 0600), 0);
	assert_int_equal(symlinkat("../outside", a->root, "out"), 0);
	assert_int_equal(symlinkat(".", a->root, "in"), 0);
	assert_int_equal(symlinkat("../outside/new", a->root, "dangling"), 0);
	uint64_t before = tree_hash(a->root);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		made = true;
		assert_int_equal(dirs_make(dirs, 1, 0, names[i], 0755, &made), -ENOTDIR);
		assert_false(made);
		assert_int_equal(get(dirs, 1, 0), -ENOENT);
	}
	assert_int_equal(tree_hash(a->root), before);
	assert_int_equal(dirs_make(dirs, 1, 0, "directory", 0755, &made), 0);
	dirs_free(dirs);
}

static void make_in_a_closed_directory_is_refused(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);
	bool root = geteuid() == 0, made;

	assert_int_equal(mkdirat(a->root, "closed", 0555), 0);
	assert_int_equal(mkdirat(a->root, "open", 0777), 0);
	assert_int_equal(fchmodat(a->root, "open", 0777, 0), 0);
	if (root)
		assert_int_equal(seteuid(65534), 0);
	int entered = dirs_make(dirs, 1, 0, "closed", 0755, &made);
	int closed = dirs_make(dirs, 2, 1, "x", 0755, &made);
	entered |= dirs_make(dirs, 3, 0, "open", 0755, &made);
	int opened = dirs_make(dirs, 4, 3, "x", 0755, &made);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(entered, 0);
	assert_int_equal(closed, -EACCES);
	assert_int_equal(opened, 0);
	dirs_free(dirs);
}

/* ------------------------------------------------------------------ names that change ----------
 */

/* open_most 0: every get opens anew */
static void a_directory_swapped_for_a_link_is_not_entered(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 0);
	bool made;

	chain(dirs, 1, 2);
	assert_int_equal(renameat(a->root, "d", a->root, "kept"), 0);
	assert_int_equal(symlinkat("kept", a->root, "d"), 0);
	for (uint64_t id = 1; id <= 2; id++) {
		int r = get(dirs, id, 0);
		assert_true(r == -ELOOP || r == -ENOTDIR);
	}
	assert_int_not_equal(dirs_make(dirs, 3, 2, "x", 0755, &made), 0);
	assert_int_equal(unlinkat(a->root, "d", 0), 0);
	assert_int_equal(get(dirs, 2, 0), -ENOENT);
	assert_int_equal(renameat(a->root, "kept", a->root, "d"), 0);
	assert_int_equal(get(dirs, 2, inode_of(a->root, "d/d")), 0);
	dirs_free(dirs);
}

static void another_directory_of_the_name_is_stale(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 0);

	chain(dirs, 1, 2);
	assert_int_equal(renameat(a->root, "d", a->root, "kept"), 0);
	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(mkdirat(a->root, "d/d", 0755), 0);
	assert_int_equal(get(dirs, 1, 0), -ESTALE);
	assert_int_equal(get(dirs, 2, 0), -ESTALE);
	dirs_free(dirs);
}

static void what_is_in_use_stays_though_its_name_goes(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 0);
	uint64_t inode;
	int fd, again;

	chain(dirs, 1, 1);
	inode = inode_of(a->root, "d");
	assert_int_equal(dirs_get(dirs, 1, &fd), 0);
	assert_int_equal(renameat(a->root, "d", a->root, "elsewhere"), 0);
	assert_int_equal(dirs_get(dirs, 1, &again), 0);
	assert_int_equal(again, fd);
	dirs_put(dirs, 1);
	assert_int_equal(inode_of(fd, "."), inode);
	dirs_put(dirs, 1);
	assert_int_equal(get(dirs, 1, 0), -ENOENT);
	dirs_free(dirs);
}

/* ------------------------------------------------------------------ descriptors ----------------
 */

#define MANY 100u

static void make_many(struct dirs *dirs)
{
	char name[16];
	bool made;

	for (unsigned i = 1; i <= MANY; i++) {
		(void)snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(dirs_make(dirs, i, i / 2, name, 0755, &made), 0);
	}
}

static void idle_directories_are_closed_the_oldest_first(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 2);
	size_t before = fd_count();
	int fd[MANY + 1];

	make_many(dirs);
	assert_int_equal(fd_count(), before + 2);
	for (unsigned i = 1; i <= MANY; i++) /* those in use are not counted, and not closed */
		assert_int_equal(dirs_get(dirs, i, &fd[i]), 0);
	assert_int_equal(fd_count(), before + MANY);
	for (unsigned i = 1; i <= MANY; i++)
		dirs_put(dirs, i);
	assert_int_equal(fd_count(), before + 2);
	assert_int_equal(fcntl(fd[MANY], F_GETFD), FD_CLOEXEC); /* the two put last */
	assert_int_equal(fcntl(fd[MANY - 1], F_GETFD), FD_CLOEXEC);

	uint64_t opens = sys_calls[SYS_OPEN];
	int again;
	assert_int_equal(dirs_get(dirs, MANY, &again), 0);
	assert_int_equal(again, fd[MANY]);
	assert_int_equal(sys_calls[SYS_OPEN], opens);
	dirs_put(dirs, MANY);
	dirs_free(dirs);
	assert_int_equal(fd_count(), before);
}

struct getter {
	pthread_t thread;
	struct dirs *dirs;
	const uint64_t *inode;
	uint64_t random;
	unsigned wrong;
};

static void *get_at_random(void *argument)
{
	struct getter *getter = argument;

	for (unsigned i = 0; i < 2000; i++) {
		uint64_t id = random_next(&getter->random) % MANY + 1;
		struct stat st;
		int fd;
		if (dirs_get(getter->dirs, id, &fd) < 0) {
			getter->wrong++;
			continue;
		}
		if (fstat(fd, &st) < 0 || st.st_ino != getter->inode[id])
			getter->wrong++;
		dirs_put(getter->dirs, id);
	}
	return NULL;
}

static void threads_get_at_once(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 2);
	struct getter getter[4];
	uint64_t inode[MANY + 1];
	size_t before = fd_count();
	char path[64];

	make_many(dirs);
	for (unsigned i = 1; i <= MANY; i++) {
		(void)dirs_path(dirs, i, path, sizeof(path));
		inode[i] = inode_of(a->root, path);
	}
	for (size_t i = 0; i < ARRAY_LEN(getter); i++) {
		getter[i] = (struct getter){ .dirs = dirs, .inode = inode, .random = i + 1 };
		assert_int_equal(
			pthread_create(&getter[i].thread, NULL, get_at_random, &getter[i]), 0);
	}
	for (size_t i = 0; i < ARRAY_LEN(getter); i++) {
		assert_int_equal(pthread_join(getter[i].thread, NULL), 0);
		assert_int_equal(getter[i].wrong, 0);
	}
	assert_int_equal(fd_count(), before + 2);
	dirs_free(dirs);
}

static void what_is_not_there_may_have_a_number(void **state)
{
	struct arena *a = arena_of(state);
	struct dirs *dirs = dirs_of(a, 4);

	assert_true(dirs_knows(dirs, 0));
	assert_false(dirs_knows(dirs, 1));
	assert_int_equal(dirs_add(dirs, 1, 0, "absent"), 0);
	assert_int_equal(dirs_add(dirs, 2, 1, "in it"), 0);
	assert_int_equal(get(dirs, 1, 0), -ENOENT);
	assert_int_equal(get(dirs, 2, 0), -ENOENT);
	assert_true(dirs_knows(dirs, 1) && dirs_knows(dirs, 2));
	assert_int_equal(mkdirat(a->root, "absent", 0755), 0);
	assert_int_equal(get(dirs, 1, inode_of(a->root, "absent")), 0);
	dirs_forget(dirs, 2);
	dirs_forget(dirs, 1);
	assert_false(dirs_knows(dirs, 1) || dirs_knows(dirs, 2));
	dirs_free(dirs);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_number_leads_to_its_directory),
		ARENA_TEST(a_directory_is_new_when_it_was_made),
		ARENA_TEST(what_was_left_is_known_until_it_is_forgotten),
		ARENA_TEST(only_new_numbers_in_known_directories_are_taken),
		ARENA_TEST(names_are_any_bytes_but_one_component),
		ARENA_TEST(nothing_is_opened_or_made_without_a_top),
		ARENA_TEST(forgotten_numbers_are_gone_and_may_come_again),
		ARENA_TEST(what_is_not_there_may_have_a_number),
		ARENA_TEST(there_is_a_most_of_numbers),
		ARENA_TEST(there_is_a_most_of_depth),
		ARENA_TEST(make_makes_or_enters),
		ARENA_TEST_ON_TMPFS(make_makes_or_enters),
		ARENA_TEST(make_goes_through_nothing_else),
		ARENA_TEST(make_in_a_closed_directory_is_refused),
		ARENA_TEST(a_directory_swapped_for_a_link_is_not_entered),
		ARENA_TEST(another_directory_of_the_name_is_stale),
		ARENA_TEST_ON_TMPFS(another_directory_of_the_name_is_stale),
		ARENA_TEST(what_is_in_use_stays_though_its_name_goes),
		ARENA_TEST(idle_directories_are_closed_the_oldest_first),
		ARENA_TEST(threads_get_at_once),
	};

	return RUN_TESTS("dirs", tests);
}
