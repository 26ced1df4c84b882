/* SPDX-License-Identifier: Apache-2.0 */
/*
 * support.h - what many tests need: a directory to work in with a canary beside it, files of
 * reproducible random content, counts of descriptors and directory entries, mounts that die with
 * the program. Everything here stops the running test when the host fails it.
 */
#ifndef ZH_TESTS_SUPPORT_H
#define ZH_TESTS_SUPPORT_H

/* the order that cmocka asks for */
#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <stdbool.h>
#include <stdint.h>
#include <cmocka.h>

#include <sys/types.h>

/*
 * A test with an arena. Its state is the directory to make the arena in: NULL is $TMPDIR or
 * /var/tmp, which is to be a disk.
 */
/* clang-format off */
#define ARENA_TEST(f)          { #f, f, arena_setup, arena_teardown, NULL }
#define ARENA_TEST_ON_TMPFS(f) { #f "_on_tmpfs", f, arena_setup, arena_teardown, arena_tmpfs }
/* clang-format on */

/* Skips the running test and says why. */
#define SKIP(reason)                                                      \
	do {                                                              \
		print_message("# skipped, %s: %s\n", __func__, (reason)); \
		skip();                                                   \
	} while (0)

/*
 * What main returns: runs an array of tests. cmocka 1.1 reports a skipped test as "not ok # SKIP",
 * which readers of TAP take for a failure; here it becomes "ok # SKIP".
 */
#define RUN_TESTS(group, tests) run_group((group), (tests), sizeof(tests) / sizeof((tests)[0]))
int run_group(const char *group, const struct CMUnitTest *tests, size_t count);

#define ARENA_PATH_CAP 128

struct arena {
	char path[ARENA_PATH_CAP]; /* absolute */
	char root_path[ARENA_PATH_CAP + 8];
	int root;        /* path/root, where the code under test works */
	int outside;     /* path/outside, a canary: nobody may touch it */
	uint64_t canary; /* tree_hash of outside */
	size_t fds;      /* open before the arena was made */
	bool usable;
};

/* In the setups for valgrind, which lacks newer system calls and runs one thread at a time. */
bool under_valgrind(void);

extern char arena_tmpfs[];

int arena_setup(void **state);
/* Fails the test when the canary changed or a descriptor leaked; removes everything. */
int arena_teardown(void **state);
/* The arena of a running test; skips it when there is none. */
struct arena *arena_of(void **state);
/* True when the arena's files lie on this file system (a magic number of statfs(2)). */
bool arena_is_on(const struct arena *arena, long magic);

/* Removes path and everything below it, without following links. Immutable flags are taken off. */
void tree_remove(const char *path);
/* Changes with any name, kind, mode, owner, size, inode, mtime, link target or content below dir.
 */
uint64_t tree_hash(int dir);
/* Names in the directory name below dir, "." and ".." not counted; 0 when there is none. */
size_t entry_count(int dir, const char *name);
/* Descriptors open in this process. */
size_t fd_count(void);

/* Content of a file that is a function of seed and offset alone. */
void random_fill(void *ret_bytes, size_t length, uint64_t seed, uint64_t offset);
void random_write(int fd, uint64_t size, uint64_t seed);
bool random_is(int fd, uint64_t size, uint64_t seed);
/* The same for a name below dir, which is created or emptied; random_at is false when it is absent.
 */
void random_file(int dir, const char *name, uint64_t size, uint64_t seed);
bool random_at(int dir, const char *name, uint64_t size, uint64_t seed);
/* A pseudo-random number, and the next state. */
uint64_t random_next(uint64_t *state);

/* Same size and content. */
bool files_equal(int dir_a, const char *name_a, int dir_b, const char *name_b);
/* Writes text into a new or emptied file. */
void text_file(int dir, const char *name, const char *text);

/*
 * Mounts made from now on belong to this process alone. False when that is not permitted. First
 * asked in main: a descriptor opened before does not see the mounts made after.
 */
bool mounts_are_private(void);

#endif
