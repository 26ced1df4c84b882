/* SPDX-License-Identifier: Apache-2.0 */
/* source_test.c - what may be sent, what may not, and noticing that it changed. */
#include "store_kit.h"

#include "base/clock.h"
#include "store/root.h"
#include "store/source.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

/* Returns the outcome; on success the source is open. */
static int open_source(int dir, const char *name, int beneath, struct source *ret_source)
{
	struct zh_error err;
	int r;

	err_init(&err);
	r = source_open(dir, name, beneath, ret_source, &err);
	if (r < 0) {
		assert_int_equal(ret_source->fd, -1);
		assert_string_equal(err.stage, "open source");
		assert_true(err.file[0] != '\0' || name[0] == '\0');
	}
	return kit_outcome(r, &err);
}

static void a_regular_file_is_opened_with_what_it_is(void **state)
{
	struct arena *a = arena_of(state);
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 1000000001, 987654321 } };
	struct source source;
	struct stat st;

	random_file(a->root, "file", 100001, 1);
	assert_int_equal(fchmodat(a->root, "file", 04751, 0), 0);
	assert_int_equal(utimensat(a->root, "file", times, 0), 0);
	assert_int_equal(fstatat(a->root, "file", &st, 0), 0);
	for (int beneath = 0; beneath < 2; beneath++) {
		assert_int_equal(open_source(a->root, "file", beneath, &source), ZH_OK);
		assert_int_equal(source.size, 100001);
		assert_int_equal(source.mtime_s, 1000000001);
		assert_int_equal(source.mtime_ns, 987654321);
		assert_int_equal(source.mode, 04751);
		assert_int_equal(source.device, st.st_dev);
		assert_int_equal(source.inode, st.st_ino);
		assert_true(random_is(source.fd, 100001, 1));
		source_close(&source);
		assert_int_equal(source.fd, -1);
		source_close(&source); /* again is harmless */
	}
}

static void a_source_is_read_only_and_blocking(void **state)
{
	struct arena *a = arena_of(state);
	struct source source;

	random_file(a->root, "file", 10, 1);
	assert_int_equal(open_source(a->root, "file", 1, &source), ZH_OK);
	int flags = fcntl(source.fd, F_GETFL);
	assert_int_equal(flags & O_ACCMODE, O_RDONLY);
	assert_int_equal(flags & O_NONBLOCK, 0);
	assert_int_equal(fcntl(source.fd, F_GETFD), FD_CLOEXEC);
	source_close(&source);
}

static void an_empty_file_is_a_source(void **state)
{
	struct arena *a = arena_of(state);
	struct source source;

	random_file(a->root, "empty", 0, 1);
	assert_int_equal(open_source(a->root, "empty", 1, &source), ZH_OK);
	assert_int_equal(source.size, 0);
	source_close(&source);
}

static void a_file_that_does_not_tell_its_size_is_refused(void **state)
{
	struct source source;

	(void)state;
	assert_int_equal(open_source(AT_FDCWD, "/proc/self/status", 0, &source), ZH_USAGE);
}

static void plant_socket(const struct arena *a)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/socket", a->root_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

static void what_is_no_regular_file_is_refused_without_blocking(void **state)
{
	static const char *const names[] = { "directory", "fifo", "socket", "link", "dangling",
		"out" };
	struct arena *a = arena_of(state);
	struct source source;

	assert_int_equal(mkdirat(a->root, "directory", 0755), 0);
	assert_int_equal(mkfifoat(a->root, "fifo", 0644), 0);
	random_file(a->root, "file", 10, 1);
	assert_int_equal(symlinkat("file", a->root, "link"), 0);
	assert_int_equal(symlinkat("nowhere", a->root, "dangling"), 0);
	assert_int_equal(symlinkat("../outside/precious", a->root, "out"), 0);
	plant_socket(a);
	(void)alarm(20); /* a FIFO that blocks ends the program */
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		for (int beneath = 0; beneath < 2; beneath++)
			if (open_source(a->root, names[i], beneath, &source) != ZH_USAGE)
				fail_msg("%s was not refused as such", names[i]);
	assert_int_equal(open_source(AT_FDCWD, "/dev/null", 0, &source), ZH_USAGE);
	(void)alarm(0);
}

static void an_absent_source_is_gone(void **state)
{
	struct arena *a = arena_of(state);
	struct source source;

	random_file(a->root, "file", 10, 1);
	for (int beneath = 0; beneath < 2; beneath++) {
		assert_int_equal(open_source(a->root, "absent", beneath, &source), ZH_SRC_GONE);
		assert_int_equal(open_source(a->root, "no/where", beneath, &source), ZH_SRC_GONE);
		assert_int_equal(open_source(a->root, "file/x", beneath, &source), ZH_SRC_GONE);
	}
}

static void an_unreadable_source_is_an_input_error(void **state)
{
	struct arena *a = arena_of(state);
	struct source source;
	int outcome;

	random_file(a->root, "file", 10, 1);
	assert_int_equal(fchmodat(a->root, "file", 0, 0), 0);
	assert_int_equal(fchmod(a->root, 0755), 0);
	if (geteuid() == 0)
		assert_int_equal(seteuid(65534), 0); /* root reads everything */
	outcome = open_source(a->root, "file", 1, &source);
	if (getuid() == 0)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(outcome, ZH_SRC_IO);
}

/* ------------------------------------------------------------------ paths ----------------------
 */

static void a_user_may_name_a_source_through_linked_directories(void **state)
{
	struct arena *a = arena_of(state);
	struct source source;

	assert_int_equal(symlinkat("../outside", a->root, "way"), 0);
	assert_int_equal(open_source(a->root, "way/precious", 0, &source), ZH_OK);
	source_close(&source);
	assert_int_equal(open_source(a->root, "../outside/precious", 0, &source), ZH_OK);
	source_close(&source);
}

static void beneath_a_path_is_walked_with_and_without_openat2(void **state)
{
	struct arena *a = arena_of(state);
	struct source source;
	struct sys_fault none = {
		.kind = SYS_FAULT_ERRNO, .call = SYS_OPEN, .error = ENOSYS, .times = 1
	};

	if (under_valgrind())
		SKIP("valgrind has no openat2");
	assert_int_equal(mkdirat(a->root, "a", 0755), 0);
	assert_int_equal(mkdirat(a->root, "a/b", 0755), 0);
	random_file(a->root, "a/b/file", 5000, 3);
	/* 0: openat2 everywhere; n: the n-th call is an openat2 that the kernel lacks */
	for (none.nth = 0; none.nth <= 3; none.nth++) {
		sys_fault_arm(none.nth ? &none : NULL);
		assert_int_equal(open_source(a->root, "a/b/file", 1, &source), ZH_OK);
		assert_int_equal(sys_fault_struck(), none.nth != 0);
		sys_fault_arm(NULL);
		assert_true(random_is(source.fd, 5000, 3));
		source_close(&source);
	}
}

static void beneath_no_path_leads_out_of_the_root(void **state)
{
	static const struct {
		const char *path;
		int outcome;
	} rows[] = {
		{ "../outside/precious", ZH_UNSAFE_NAME },
		{ "a/../../outside/precious", ZH_UNSAFE_NAME },
		{ "a/..", ZH_UNSAFE_NAME },
		{ "/etc/passwd", ZH_UNSAFE_NAME },
		{ "", ZH_UNSAFE_NAME },
		{ ".", ZH_UNSAFE_NAME },
		{ "a//file", ZH_UNSAFE_NAME },
		{ "a/", ZH_UNSAFE_NAME },
		{ "a/./file", ZH_UNSAFE_NAME },
		{ STAGING_DIRECTORY "/file", ZH_UNSAFE_NAME },
		{ "a/" STAGING_DIRECTORY "/file", ZH_UNSAFE_NAME },
		{ "out/precious", ZH_USAGE },
		{ "a/out/precious", ZH_USAGE },
		{ "in/file", ZH_USAGE },
	};
	struct arena *a = arena_of(state);
	struct source source;

	assert_int_equal(mkdirat(a->root, "a", 0755), 0);
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY, 0700), 0);
	random_file(a->root, "a/file", 10, 1);
	random_file(a->root, STAGING_DIRECTORY "/file", 10, 1);
	assert_int_equal(symlinkat("../outside", a->root, "out"), 0);
	assert_int_equal(symlinkat("../../outside", a->root, "a/out"), 0);
	assert_int_equal(symlinkat("a", a->root, "in"), 0);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int outcome = open_source(a->root, rows[i].path, 1, &source);
		/* a link is met with O_DIRECTORY: ENOTDIR or ELOOP, by the kernel's choice */
		if (rows[i].outcome == ZH_USAGE && outcome == ZH_SRC_GONE)
			continue;
		if (outcome != rows[i].outcome)
			fail_msg("\"%s\": %s", rows[i].path, zh_outcome_name(outcome));
	}
}

#define RACE_NS    NS_PER_S
#define RACE_TO_NS (60 * (uint64_t)NS_PER_S) /* when it takes so long until both have happened */

struct racer {
	pthread_t thread;
	atomic_bool stop;
	int root;
};

static void *race(void *argument)
{
	struct racer *racer = argument;

	while (!atomic_load(&racer->stop))
		(void)renameat2(racer->root, "d", racer->root, "out", RENAME_EXCHANGE);
	return NULL;
}

static void a_directory_swapped_for_a_link_never_sends_what_is_outside(void **state)
{
	struct arena *a = arena_of(state);
	struct racer racer = { .root = a->root };
	uint64_t opened = 0, refused = 0;
	struct source source;
	struct stat st;

	if (under_valgrind())
		SKIP("valgrind runs one thread at a time: there is no race");
	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	random_file(a->root, "d/file", 100, 1);
	assert_int_equal(fstatat(a->root, "d/file", &st, 0), 0);
	assert_int_equal(symlinkat("../outside", a->root, "out"), 0); /* it has a "file", too */
	assert_int_equal(pthread_create(&racer.thread, NULL, race, &racer), 0);
	uint64_t start = clock_now_ns();
	while (clock_now_ns() - start < (opened > 10 && refused > 10 ? RACE_NS : RACE_TO_NS)) {
		int outcome = open_source(a->root, "d/file", 1, &source);
		if (outcome != ZH_OK) {
			refused++;
			continue;
		}
		assert_int_equal(source.inode, st.st_ino);
		source_close(&source);
		opened++;
	}
	atomic_store(&racer.stop, true);
	assert_int_equal(pthread_join(racer.thread, NULL), 0);
	assert_true(opened > 10 && refused > 10);
}

/* ------------------------------------------------------------------ change ---------------------
 */

static struct source sent_file(const struct arena *a)
{
	struct timespec times[2] = { { .tv_nsec = UTIME_OMIT }, { 1000000001, 5 } };
	struct source source;

	random_file(a->root, "file", 4096, 1);
	assert_int_equal(utimensat(a->root, "file", times, 0), 0);
	assert_int_equal(open_source(a->root, "file", 1, &source), ZH_OK);
	return source;
}

static void what_leaves_the_content_alone_is_no_change(void **state)
{
	struct arena *a = arena_of(state);
	struct source source = sent_file(a);

	assert_int_equal(source_unchanged(&source), 0);
	assert_int_equal(fchmodat(a->root, "file", 0600, 0), 0);
	assert_int_equal(linkat(a->root, "file", a->root, "again", 0), 0);
	assert_int_equal(unlinkat(a->root, "file", 0), 0);
	random_file(a->root, "file", 10, 2); /* another file of that name */
	assert_int_equal(source_unchanged(&source), 0);
	source_close(&source);
}

static void growing_shrinking_and_rewriting_are_changes(void **state)
{
	struct arena *a = arena_of(state);
	struct timespec next_ns[2] = { { .tv_nsec = UTIME_OMIT }, { 1000000001, 6 } };
	struct timespec next_s[2] = { { .tv_nsec = UTIME_OMIT }, { 1000000002, 5 } };
	struct timespec as_sent[2] = { { .tv_nsec = UTIME_OMIT }, { 1000000001, 5 } };

	for (int way = 0; way < 5; way++) {
		struct source source = sent_file(a);
		int fd = openat(a->root, "file", O_WRONLY | O_CLOEXEC);
		assert_true(fd >= 0);
		if (way == 0)
			assert_int_equal(ftruncate(fd, 4097), 0);
		if (way == 1)
			assert_int_equal(ftruncate(fd, 4095), 0);
		if (way == 2)
			assert_int_equal(pwrite(fd, "x", 1, 7), 1); /* mtime is now */
		if (way < 2) /* the size alone must be enough */
			assert_int_equal(futimens(fd, as_sent), 0);
		if (way == 3)
			assert_int_equal(futimens(fd, next_ns), 0);
		if (way == 4)
			assert_int_equal(futimens(fd, next_s), 0);
		close(fd);
		assert_int_equal(source_unchanged(&source), -ESTALE);
		source_close(&source);
	}
}

static void a_source_that_cannot_be_asked_is_not_called_unchanged(void **state)
{
	struct arena *a = arena_of(state);
	struct source source = sent_file(a);

	kit_fail_next(SYS_STAT, EIO);
	int r = source_unchanged(&source);
	assert_true(kit_struck());
	assert_int_equal(r, -EIO);
	source_close(&source);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_regular_file_is_opened_with_what_it_is),
		ARENA_TEST_ON_TMPFS(a_regular_file_is_opened_with_what_it_is),
		ARENA_TEST(a_source_is_read_only_and_blocking),
		ARENA_TEST(an_empty_file_is_a_source),
		cmocka_unit_test(a_file_that_does_not_tell_its_size_is_refused),
		ARENA_TEST(what_is_no_regular_file_is_refused_without_blocking),
		ARENA_TEST(an_absent_source_is_gone),
		ARENA_TEST(an_unreadable_source_is_an_input_error),
		ARENA_TEST(a_user_may_name_a_source_through_linked_directories),
		ARENA_TEST(beneath_a_path_is_walked_with_and_without_openat2),
		ARENA_TEST(beneath_no_path_leads_out_of_the_root),
		ARENA_TEST(a_directory_swapped_for_a_link_never_sends_what_is_outside),
		ARENA_TEST(what_leaves_the_content_alone_is_no_change),
		ARENA_TEST(growing_shrinking_and_rewriting_are_changes),
		ARENA_TEST(a_source_that_cannot_be_asked_is_not_called_unchanged),
	};

	return RUN_TESTS("source", tests);
}
