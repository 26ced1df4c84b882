/* SPDX-License-Identifier: Apache-2.0 */
/* support.c - arenas, random files and counts for tests. Uses plain system calls, not the engine.
 */
#include "support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/fs.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#define PIECE 65536

char arena_tmpfs[] = "/dev/shm";

bool under_valgrind(void)
{
	return getenv("ZH_VALGRIND") != NULL;
}

/* ------------------------------------------------------------------ random content -------------
 */

static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

uint64_t random_next(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15u;
	return mix(*state);
}

void random_fill(void *ret_bytes, size_t length, uint64_t seed, uint64_t offset)
{
	uint8_t *out = ret_bytes;

	while (length > 0) {
		uint64_t word = mix(mix(seed) ^ (offset / 8));
		size_t skip = offset % 8;
		size_t part = length < 8 - skip ? length : 8 - skip;
		if (part == 8)
			memcpy(out, &word, 8); /* of a fixed size, no call */
		else
			memcpy(out, (uint8_t *)&word + skip, part);
		out += part;
		offset += part;
		length -= part;
	}
}

void random_write(int fd, uint64_t size, uint64_t seed)
{
	static uint8_t piece[PIECE];

	for (uint64_t done = 0; done < size;) {
		size_t part = size - done < PIECE ? (size_t)(size - done) : PIECE;
		random_fill(piece, part, seed, done);
		assert_int_equal(pwrite(fd, piece, part, (off_t)done), part);
		done += part;
	}
}

bool random_is(int fd, uint64_t size, uint64_t seed)
{
	static uint8_t piece[PIECE], expected[PIECE];
	struct stat st;

	assert_int_equal(fstat(fd, &st), 0);
	if ((uint64_t)st.st_size != size)
		return false;
	for (uint64_t done = 0; done < size;) {
		size_t part = size - done < PIECE ? (size_t)(size - done) : PIECE;
		random_fill(expected, part, seed, done);
		if (pread(fd, piece, part, (off_t)done) != (ssize_t)part ||
			memcmp(piece, expected, part) != 0)
			return false;
		done += part;
	}
	return true;
}

static int create(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	return fd;
}

void random_file(int dir, const char *name, uint64_t size, uint64_t seed)
{
	int fd = create(dir, name);

	random_write(fd, size, seed);
	close(fd);
}

bool random_at(int dir, const char *name, uint64_t size, uint64_t seed)
{
	int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	bool is;

	if (fd < 0)
		return false;
	is = random_is(fd, size, seed);
	close(fd);
	return is;
}

bool files_equal(int dir_a, const char *name_a, int dir_b, const char *name_b)
{
	static uint8_t a[PIECE], b[PIECE];
	int fd_a = openat(dir_a, name_a, O_RDONLY | O_CLOEXEC);
	int fd_b = openat(dir_b, name_b, O_RDONLY | O_CLOEXEC);
	bool equal = fd_a >= 0 && fd_b >= 0;

	for (off_t offset = 0; equal;) {
		ssize_t got_a = pread(fd_a, a, PIECE, offset);
		ssize_t got_b = pread(fd_b, b, PIECE, offset);
		equal = got_a >= 0 && got_a == got_b && memcmp(a, b, (size_t)got_a) == 0;
		if (got_a <= 0)
			break;
		offset += got_a;
	}
	if (fd_a >= 0)
		close(fd_a);
	if (fd_b >= 0)
		close(fd_b);
	return equal;
}

void text_file(int dir, const char *name, const char *text)
{
	int fd = create(dir, name);

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	close(fd);
}

/* ------------------------------------------------------------------ counts and trees -----------
 */

static size_t count_and_close(int fd)
{
	DIR *dir = fdopendir(fd);
	size_t count = 0;

	assert_non_null(dir);
	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

size_t entry_count(int dir, const char *name)
{
	int fd = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0 && errno == ENOENT)
		return 0;
	assert_true(fd >= 0);
	return count_and_close(fd);
}

size_t fd_count(void)
{
	return entry_count(AT_FDCWD, "/proc/self/fd") - 1; /* one is the listing's own */
}

static int remove_one(const char *path, const struct stat *st, int kind, struct FTW *walk)
{
	(void)walk;
	if (remove(path) == 0)
		return 0;
	if (errno == EPERM && kind == FTW_F && S_ISREG(st->st_mode)) {
		int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		int no_flags = 0;
		if (fd >= 0) {
			(void)ioctl(fd, FS_IOC_SETFLAGS, &no_flags);
			close(fd);
		}
		(void)remove(path);
	}
	return 0;
}

void tree_remove(const char *path)
{
	(void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
	const uint8_t *in = bytes;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ in[i]) * 0x100000001b3u;
	return mix(hash);
}

static uint64_t hash_stat(const struct stat *st)
{
	uint64_t facts[] = { st->st_ino, st->st_mode, st->st_uid, st->st_gid, st->st_nlink,
		S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0, (uint64_t)st->st_mtim.tv_sec,
		(uint64_t)st->st_mtim.tv_nsec };

	return hash_bytes(1, facts, sizeof(facts));
}

static uint64_t hash_content(int dir, const char *name, const struct stat *st)
{
	static uint8_t piece[PIECE];
	uint64_t hash = 2;
	ssize_t got;

	if (S_ISLNK(st->st_mode)) {
		got = readlinkat(dir, name, (char *)piece, PIECE);
		assert_true(got >= 0);
		return hash_bytes(hash, piece, (size_t)got);
	}
	if (S_ISREG(st->st_mode)) {
		int fd = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
		assert_true(fd >= 0);
		while ((got = read(fd, piece, PIECE)) > 0)
			hash = hash_bytes(hash, piece, (size_t)got);
		close(fd);
	}
	return hash;
}

uint64_t tree_hash(int dir)
{
	int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *list = fdopendir(fd);
	uint64_t sum = 0; /* does not depend on the order of readdir */
	struct dirent *entry;
	struct stat st;

	assert_non_null(list);
	assert_int_equal(fstat(fd, &st), 0);
	sum += hash_stat(&st);
	while ((entry = readdir(list))) {
		uint64_t hash = hash_bytes(3, entry->d_name, strlen(entry->d_name));
		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		assert_int_equal(fstatat(fd, entry->d_name, &st, AT_SYMLINK_NOFOLLOW), 0);
		hash = mix(hash ^ hash_stat(&st)) ^ hash_content(fd, entry->d_name, &st);
		if (S_ISDIR(st.st_mode)) {
			int below = openat(fd, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
			assert_true(below >= 0);
			hash ^= tree_hash(below);
			close(below);
		}
		sum += mix(hash);
	}
	closedir(list);
	return sum;
}

/* ------------------------------------------------------------------ arenas ---------------------
 */

/* What an escape would hit: the names that the tests transfer, and a directory to fall into. */
static void plant_canary(int outside)
{
	int below;

	text_file(outside, "precious", "do not touch\n");
	text_file(outside, "file", "do not touch either\n");
	assert_int_equal(mkdirat(outside, "below", 0755), 0);
	below = openat(outside, "below", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(below >= 0);
	text_file(below, "file", "nor this\n");
	close(below);
}

int arena_setup(void **state)
{
	const char *base = *state ? *state : getenv("TMPDIR");
	struct arena *arena = calloc(1, sizeof(*arena));
	int fd;

	if (!arena)
		return -1;
	*state = arena;
	arena->root = arena->outside = -1;
	arena->fds = fd_count();
	(void)snprintf(arena->path, sizeof(arena->path), "%s/zerohaul-test.XXXXXX",
		base && *base ? base : "/var/tmp");
	if (!mkdtemp(arena->path))
		return 0; /* arena_of skips */
	fd = open(arena->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_int_equal(mkdirat(fd, "root", 0755), 0);
	assert_int_equal(mkdirat(fd, "outside", 0755), 0);
	arena->root = openat(fd, "root", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	arena->outside = openat(fd, "outside", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(arena->root >= 0 && arena->outside >= 0);
	close(fd);
	(void)snprintf(arena->root_path, sizeof(arena->root_path), "%s/root", arena->path);
	plant_canary(arena->outside);
	arena->canary = tree_hash(arena->outside);
	arena->usable = true;
	return 0;
}

int arena_teardown(void **state)
{
	struct arena *arena = *state;
	bool touched = false;
	size_t fds;

	if (arena->usable) {
		touched = tree_hash(arena->outside) != arena->canary;
		close(arena->root);
		close(arena->outside);
		tree_remove(arena->path);
	}
	fds = fd_count() - arena->fds;
	free(arena);
	if (touched)
		fail_msg("something outside the root was touched");
	if (fds != 0)
		fail_msg("%zd descriptors leaked", (ssize_t)fds);
	return 0;
}

struct arena *arena_of(void **state)
{
	struct arena *arena = *state;

	if (!arena->usable)
		SKIP("no directory can be made there");
	return arena;
}

bool arena_is_on(const struct arena *arena, long magic)
{
	struct statfs fs;

	assert_int_equal(fstatfs(arena->root, &fs), 0);
	return fs.f_type == magic;
}

/* ------------------------------------------------------------------ running --------------------
 */

static void copy_tap(FILE *in)
{
	static const char skipped[] = "not ok ";
	char line[4096];

	while (fgets(line, sizeof(line), in)) {
		bool is_skip = strncmp(line, skipped, strlen(skipped)) == 0 &&
			       strncmp(line + strcspn(line, "#"), "# SKIP", 6) == 0;
		(void)fputs(is_skip ? line + strlen("not ") : line, stdout);
		(void)fflush(stdout);
	}
}

/* The tests run in a child, so that what they said before a crash is still copied. */
int run_group(const char *group, const struct CMUnitTest *tests, size_t count)
{
	const char *format = getenv("CMOCKA_MESSAGE_OUTPUT");
	int ends[2], status = 0;
	pid_t child;
	FILE *in;

	cmocka_set_test_filter(getenv("ZH_TESTS")); /* NULL: all of them */
	if (!format || strcasecmp(format, "TAP") != 0)
		return _cmocka_run_group_tests(group, tests, count, NULL, NULL);
	if (pipe(ends) < 0 || (child = fork()) < 0)
		return EXIT_FAILURE;
	if (child == 0) {
		(void)dup2(ends[1], STDOUT_FILENO);
		close(ends[0]);
		close(ends[1]);
		exit(_cmocka_run_group_tests(group, tests, count, NULL, NULL));
	}
	close(ends[1]);
	in = fdopen(ends[0], "r");
	if (in)
		copy_tap(in);
	if (waitpid(child, &status, 0) != child || !WIFEXITED(status)) {
		print_message("Bail out! the tests were ended by signal %d\n", WTERMSIG(status));
		return EXIT_FAILURE;
	}
	return WEXITSTATUS(status);
}

/* ------------------------------------------------------------------ mounts ---------------------
 */

bool mounts_are_private(void)
{
	static bool done;

	if (!done)
		done = unshare(CLONE_NEWNS) == 0 &&
		       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	return done;
}
