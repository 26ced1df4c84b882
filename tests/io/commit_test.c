/* SPDX-License-Identifier: Apache-2.0 */
/* commit_test.c - the visible name is absent, old or complete, and what it replaces is a file. */
#include "store_kit.h"

#include "base/clock.h"
#include "store/root.h"

#include <errno.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SIZE 100001
#define OLD  1 /* seeds of contents */
#define NEW  2

static void staged_path(const struct partial *partial, char *ret_path, size_t cap)
{
	(void)snprintf(ret_path, cap, "%s/%s", STAGING_DIRECTORY, partial->name);
}

/* Receives and commits "file" with NEW content into the arena's root. */
static int commit_new(struct arena *a, bool no_clobber, enum zh_durability durability)
{
	struct commit commit = kit_commit(a->root, "file");
	struct staging staging;

	commit.no_clobber = no_clobber;
	commit.durability = durability;
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", SIZE, NEW);
	int outcome = kit_finish(&staging, &partial, &commit);
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
	assert_int_equal(faccessat(a->root, STAGING_DIRECTORY, F_OK, 0), -1);
	return outcome;
}

/* ------------------------------------------------------------------ success --------------------
 */

static void a_committed_file_has_its_content_mode_and_times(void **state)
{
	struct arena *a = arena_of(state);
	struct stat st;

	for (int durability = ZH_DURABLE_FULL; durability <= ZH_DURABLE_NONE; durability++)
		for (int no_clobber = 0; no_clobber < 2; no_clobber++) {
			(void)unlinkat(a->root, "file", 0);
			assert_int_equal(
				commit_new(a, no_clobber, (enum zh_durability)durability), ZH_OK);
			assert_true(random_at(a->root, "file", SIZE, NEW));
			assert_int_equal(fstatat(a->root, "file", &st, AT_SYMLINK_NOFOLLOW), 0);
			assert_int_equal(st.st_mode, S_IFREG | 0644);
			assert_int_equal(st.st_nlink, 1);
			assert_int_equal(st.st_mtim.tv_sec, KIT_MTIME_S);
			assert_int_equal(st.st_mtim.tv_nsec, KIT_MTIME_NS);
		}
}

static void the_umask_narrows_the_mode_and_set_id_bits_never_pass(void **state)
{
	static const struct {
		mode_t umask;
		uint32_t mode;
		mode_t expected;
	} rows[] = {
		{ 022, 0777, 0755 },
		{ 027, 07777, 0750 },
		{ 0, 06666, 0666 },
		{ 077, 0, 0 },
		{ 0, 0100644, 0644 },
		{ 0777, 0777, 0 },
	};
	struct arena *a = arena_of(state);
	mode_t before = umask(0);
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct commit commit = kit_commit(a->root, "file");
		struct staging staging;
		commit.mode = rows[i].mode;
		(void)umask(rows[i].umask);
		staging_init(&staging, a->root);
		(void)umask(0); /* it was read once, at the start */
		struct partial partial = kit_received(&staging, a->root, "file", 10, NEW);
		assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
		staging_fini(&staging);
		assert_int_equal(fstatat(a->root, "file", &st, 0), 0);
		assert_int_equal(st.st_mode & 07777, rows[i].expected);
	}
	(void)umask(before);
}

static void a_file_has_what_its_directory_hands_down(void **state)
{
	struct arena *a = arena_of(state);
	int dir;

	kit_hands_down(a->root); /* which the staging directory is made in */
	dir = kit_plain_directory(a->root, "plain");
	for (int i = 0; i < 2; i++) {
		int parent = i == 1 ? dir : a->root;
		struct commit commit = kit_commit(parent, "file");
		struct staging staging;
		staging_init(&staging, a->root);
		struct partial partial = kit_received(&staging, parent, "file", SIZE, NEW);
		assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
		staging_fini(&staging);
		kit_is_as_made(parent, "file", commit.mode);
	}
	assert_int_equal(close(dir), 0);
}

static void times_before_the_epoch_are_kept(void **state)
{
	struct arena *a = arena_of(state);
	struct commit commit = kit_commit(a->root, "file");
	struct staging staging;
	struct stat st;

	commit.mtime_s = -1;
	commit.mtime_ns = 999999999;
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", 10, NEW);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
	staging_fini(&staging);
	assert_int_equal(fstatat(a->root, "file", &st, 0), 0);
	assert_int_equal(st.st_mtim.tv_sec, -1);
	assert_int_equal(st.st_mtim.tv_nsec, 999999999);
}

static void an_existing_file_is_replaced_whole(void **state)
{
	struct arena *a = arena_of(state);

	random_file(a->root, "file", 777, OLD);
	int reader = openat(a->root, "file", O_RDONLY | O_CLOEXEC);
	assert_int_equal(commit_new(a, false, ZH_DURABLE_FULL), ZH_OK);
	assert_true(random_at(a->root, "file", SIZE, NEW));
	assert_true(random_is(reader, 777, OLD)); /* who has it open keeps what it was */
	close(reader);
}

static void only_the_given_length_of_a_name_counts(void **state)
{
	struct arena *a = arena_of(state);
	struct commit commit = kit_commit(a->root, "file and more");
	struct staging staging;
	char longest[ROOT_NAME_MAX + 1] = { 0 };

	commit.name_length = 4;
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", 10, NEW);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
	assert_true(random_at(a->root, "file", 10, NEW));
	memset(longest, 'x', ROOT_NAME_MAX);
	commit = kit_commit(a->root, longest);
	partial = kit_received(&staging, a->root, longest, 10, NEW);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
	assert_true(random_at(a->root, longest, 10, NEW));
	staging_fini(&staging);
}

static void blocks_written_past_the_end_are_cut_off(void **state)
{
	struct arena *a = arena_of(state);
	struct commit commit = kit_commit(a->root, "file");
	struct staging staging;
	struct stat st;

	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", SIZE, NEW);
	assert_int_equal(pwrite(partial.fd, "padding", 7, SIZE), 7);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
	staging_fini(&staging);
	assert_true(random_at(a->root, "file", SIZE, NEW));
	assert_int_equal(fstatat(a->root, "file", &st, 0), 0);
	assert_int_equal(st.st_mtim.tv_sec, KIT_MTIME_S); /* cut before the times were set */
}

static void each_durability_costs_its_syncs_and_no_more(void **state)
{
	static const uint64_t expected[] = {
		[ZH_DURABLE_FULL] = 2, [ZH_DURABLE_FILE] = 1, [ZH_DURABLE_NONE] = 0
	};
	struct arena *a = arena_of(state);

	for (int durability = ZH_DURABLE_FULL; durability <= ZH_DURABLE_NONE; durability++) {
		uint64_t before = sys_calls[SYS_FSYNC];
		assert_int_equal(commit_new(a, false, (enum zh_durability)durability), ZH_OK);
		assert_int_equal(sys_calls[SYS_FSYNC] - before, expected[durability]);
	}
}

/* ------------------------------------------------------------------ what is in the way ---------
 */

static void no_clobber_leaves_an_existing_file_as_it_was(void **state)
{
	struct arena *a = arena_of(state);
	struct stat before, after;

	random_file(a->root, "file", 777, OLD);
	assert_int_equal(fstatat(a->root, "file", &before, 0), 0);
	assert_int_equal(commit_new(a, true, ZH_DURABLE_FULL), ZH_EXISTS);
	assert_int_equal(fstatat(a->root, "file", &after, 0), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_int_equal(before.st_ctim.tv_nsec, after.st_ctim.tv_nsec);
	assert_true(random_at(a->root, "file", 777, OLD));
}

/* The look at the target is no promise; here it finds nothing, and the kernel has the last word. */
static void no_clobber_is_kept_by_the_kernel(void **state)
{
	struct arena *a = arena_of(state);
	struct sys_fault look = {
		.kind = SYS_FAULT_ERRNO, .call = SYS_STAT, .error = ENOENT, .nth = 4, .times = 1
	};
	struct commit commit = kit_commit(a->root, "file");
	struct staging staging;

	commit.no_clobber = true;
	random_file(a->root, "file", 777, OLD);
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", SIZE, NEW);
	uint64_t renames = sys_calls[SYS_RENAME];
	sys_fault_arm(&look);
	int outcome = kit_finish(&staging, &partial, &commit);
	assert_true(kit_struck());
	assert_int_equal(outcome, ZH_EXISTS);
	assert_int_equal(sys_calls[SYS_RENAME] - renames, 1);
	assert_true(random_at(a->root, "file", 777, OLD));
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
}

static void without_renameat2_flags_a_link_does_the_same(void **state)
{
	static const int answers[] = { EINVAL, ENOSYS };
	struct arena *a = arena_of(state);
	struct stat st;

	for (size_t i = 0; i < ARRAY_LEN(answers); i++) {
		(void)unlinkat(a->root, "file", 0);
		struct sys_fault fault = { .kind = SYS_FAULT_ERRNO,
			.call = SYS_RENAME,
			.error = answers[i],
			.nth = 1,
			.times = 1 };
		uint64_t links = sys_calls[SYS_LINK];
		sys_fault_arm(&fault);
		int outcome = commit_new(a, true, ZH_DURABLE_FULL);
		assert_true(kit_struck());
		assert_int_equal(outcome, ZH_OK);
		assert_int_equal(sys_calls[SYS_LINK] - links, 1);
		assert_true(random_at(a->root, "file", SIZE, NEW));
		assert_int_equal(fstatat(a->root, "file", &st, 0), 0);
		assert_int_equal(st.st_nlink, 1);
		/* without no_clobber nothing is asked for that could be lacking: a plain error */
		kit_fail_next(SYS_RENAME, answers[i]);
		outcome = commit_new(a, false, ZH_DURABLE_FULL);
		assert_true(kit_struck());
		assert_int_equal(outcome, ZH_DST_IO);
	}
}

struct rival {
	pthread_t thread;
	atomic_bool stop;
	int dir;
	uint64_t created;
	bool replaced;
};

/* Somebody else who creates the same name and expects to keep it until he removes it himself. */
static void *rival_run(void *argument)
{
	struct rival *rival = argument;

	while (!atomic_load(&rival->stop)) {
		struct stat own, st;
		int fd = openat(rival->dir, "file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
		if (fd < 0)
			continue;
		rival->created++;
		(void)fstat(fd, &own);
		for (int i = 0; i < 20; i++)
			if (fstatat(rival->dir, "file", &st, AT_SYMLINK_NOFOLLOW) < 0 ||
				st.st_ino != own.st_ino)
				rival->replaced = true;
		(void)unlinkat(rival->dir, "file", 0);
		close(fd);
	}
	return NULL;
}

static void check_rival(struct arena *a, enum sys_call refusing, const struct sys_fault *fault)
{
	struct commit commit = kit_commit(a->root, "file");
	struct rival rival = { .dir = a->root };
	uint64_t end_ns = clock_now_ns() + 10 * (uint64_t)NS_PER_S;
	uint64_t committed = 0, refused = 0, calls = sys_calls[refusing];
	struct staging staging;

	commit.no_clobber = true;
	commit.durability = ZH_DURABLE_NONE;
	staging_init(&staging, a->root);
	assert_int_equal(pthread_create(&rival.thread, NULL, rival_run, &rival), 0);
	/* a refusal by the look makes no such call; those by the kernel are what is to be seen */
	while (clock_now_ns() < end_ns && (refused < 20 || committed < 100)) {
		struct partial partial = kit_received(&staging, a->root, "file", 100, NEW);
		sys_fault_arm(fault);
		int outcome = kit_finish(&staging, &partial, &commit);
		sys_fault_arm(NULL);
		assert_true(outcome == ZH_OK || outcome == ZH_EXISTS);
		if (outcome == ZH_OK) {
			committed++;
			assert_true(random_at(a->root, "file", 100, NEW));
			assert_int_equal(unlinkat(a->root, "file", 0), 0);
		}
		refused = sys_calls[refusing] - calls - committed;
	}
	atomic_store(&rival.stop, true);
	assert_int_equal(pthread_join(rival.thread, NULL), 0);
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
	print_message("# rival created %llu, committed %llu, refused by the kernel %llu\n",
		(unsigned long long)rival.created, (unsigned long long)committed,
		(unsigned long long)refused);
	assert_false(rival.replaced);
	assert_true(rival.created > 0 && committed > 0 && refused > 0);
}

static void no_clobber_never_replaces_a_rival(void **state)
{
	check_rival(arena_of(state), SYS_RENAME, NULL);
}

static void no_clobber_by_link_never_replaces_a_rival(void **state)
{
	static const struct sys_fault no_flags = {
		.kind = SYS_FAULT_ERRNO, .call = SYS_RENAME, .error = EINVAL, .nth = 1
	};

	check_rival(arena_of(state), SYS_LINK, &no_flags);
}

static void plant_socket(const struct arena *a)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	assert_true(fd >= 0);
	(void)snprintf(address.sun_path, sizeof(address.sun_path), "%.90s/file", a->root_path);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	close(fd);
}

static void what_is_no_regular_file_is_not_replaced(void **state)
{
	struct arena *a = arena_of(state);

	for (int kind = 0; kind < 6; kind++)
		for (int no_clobber = 0; no_clobber < 2; no_clobber++) {
			struct stat before, after;
			if (kind == 0 || kind == 1)
				assert_int_equal(mkdirat(a->root, "file", 0755), 0);
			if (kind == 1)
				text_file(a->root, "file/inner", "x");
			if (kind == 2)
				assert_int_equal(symlinkat("../outside/file", a->root, "file"), 0);
			if (kind == 3)
				assert_int_equal(symlinkat("nowhere", a->root, "file"), 0);
			if (kind == 4)
				assert_int_equal(mkfifoat(a->root, "file", 0644), 0);
			if (kind == 5)
				plant_socket(a);
			assert_int_equal(fstatat(a->root, "file", &before, AT_SYMLINK_NOFOLLOW), 0);
			assert_int_equal(commit_new(a, no_clobber, ZH_DURABLE_FULL), ZH_EXISTS);
			assert_int_equal(fstatat(a->root, "file", &after, AT_SYMLINK_NOFOLLOW), 0);
			assert_int_equal(before.st_ino, after.st_ino);
			assert_int_equal(before.st_mode, after.st_mode);
			assert_int_equal(faccessat(a->root, "nowhere", F_OK, 0), -1);
			(void)unlinkat(a->root, "file/inner", 0);
			assert_int_equal(unlinkat(a->root, "file", kind < 2 ? AT_REMOVEDIR : 0), 0);
		}
}

static void a_directory_that_appears_late_is_not_replaced(void **state)
{
	struct arena *a = arena_of(state);
	struct sys_fault late = {
		.kind = SYS_FAULT_ERRNO, .call = SYS_STAT, .error = ENOENT, .nth = 4, .times = 1
	};
	struct commit commit = kit_commit(a->root, "file");
	struct staging staging;

	assert_int_equal(mkdirat(a->root, "file", 0755), 0);
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", SIZE, NEW);
	sys_fault_arm(&late);
	int outcome = kit_finish(&staging, &partial, &commit);
	assert_true(kit_struck());
	assert_int_equal(outcome, ZH_EXISTS);
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
}

static void an_immutable_file_is_a_permission_error(void **state)
{
	struct arena *a = arena_of(state);
	int immutable = FS_IMMUTABLE_FL, none = 0;

	if (geteuid() != 0)
		SKIP("only root can make a file immutable");
	random_file(a->root, "file", 777, OLD);
	int fd = openat(a->root, "file", O_RDONLY | O_CLOEXEC);
	if (ioctl(fd, FS_IOC_SETFLAGS, &immutable) < 0) {
		close(fd);
		SKIP("this file system has no immutable files");
	}
	int replaced = commit_new(a, false, ZH_DURABLE_FULL);
	int refused = commit_new(a, true, ZH_DURABLE_FULL);
	assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &none), 0);
	close(fd);
	assert_int_equal(replaced, ZH_PERM);
	assert_int_equal(refused, ZH_EXISTS);
	assert_true(random_at(a->root, "file", 777, OLD));
}

static void a_directory_without_write_permission_is_a_permission_error(void **state)
{
	struct arena *a = arena_of(state);
	bool root = geteuid() == 0;

	assert_int_equal(mkdirat(a->root, "closed", 0555), 0);
	if (root) {
		assert_int_equal(fchown(a->root, 65534, 65534), 0);
		assert_int_equal(seteuid(65534), 0);
	}
	int closed = root_enter(a->root, "closed");
	struct commit commit = kit_commit(closed, "file");
	struct staging staging;
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, closed, "file", SIZE, NEW);
	int outcome = kit_finish(&staging, &partial, &commit);
	size_t staged = kit_staged(a);
	staging_fini(&staging);
	close(closed);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(outcome, ZH_PERM);
	assert_int_equal(staged, 0);
}

static void a_directory_on_another_file_system_is_an_error(void **state)
{
	struct arena *a = arena_of(state);
	int other = open(arena_tmpfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct stat here, there;
	struct staging staging;

	if (other < 0 || fstat(other, &there) < 0 || fstat(a->root, &here) < 0 ||
		here.st_dev == there.st_dev) {
		if (other >= 0)
			close(other);
		SKIP("there is no second file system");
	}
	struct commit commit = kit_commit(other, "zerohaul-test-never-there");
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, other, commit.name, SIZE, NEW);
	int outcome = kit_finish(&staging, &partial, &commit);
	bool appeared = unlinkat(other, commit.name, 0) == 0;
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
	close(other);
	assert_int_equal(outcome, ZH_DST_IO);
	assert_false(appeared);
}

static void a_directory_removed_meanwhile_is_an_error(void **state)
{
	struct arena *a = arena_of(state);
	struct staging staging;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	int parent = root_enter(a->root, "d");
	struct commit commit = kit_commit(parent, "file");
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, parent, "file", SIZE, NEW);
	assert_int_equal(unlinkat(a->root, "d", AT_REMOVEDIR), 0);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_DST_IO);
	assert_int_equal(kit_staged(a), 0);
	staging_fini(&staging);
	close(parent);
}

static void a_directory_moved_meanwhile_is_still_the_one(void **state)
{
	struct arena *a = arena_of(state);
	struct staging staging;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	int parent = root_enter(a->root, "d");
	struct commit commit = kit_commit(parent, "file");
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, parent, "file", SIZE, NEW);
	assert_int_equal(renameat(a->root, "d", a->root, "moved"), 0);
	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
	assert_true(random_at(a->root, "moved/file", SIZE, NEW));
	assert_int_equal(entry_count(a->root, "d"), 0);
	staging_fini(&staging);
	close(parent);
}

/* ------------------------------------------------------------------ a staging file meddled with */

static void a_staging_file_that_was_meddled_with_is_not_committed(void **state)
{
	enum { REMOVED, REPLACED, REPLACED_BY_LINK, LINKED, CUT, WAYS };
	struct arena *a = arena_of(state);

	for (int way = 0; way < WAYS; way++) {
		struct commit commit = kit_commit(a->root, "file");
		struct staging staging;
		char path[100];
		random_file(a->root, "file", 777, OLD);
		staging_init(&staging, a->root);
		struct partial partial = kit_received(&staging, a->root, "file", SIZE, NEW);
		staged_path(&partial, path, sizeof(path));
		if (way == REMOVED || way == REPLACED || way == REPLACED_BY_LINK)
			assert_int_equal(unlinkat(a->root, path, 0), 0);
		if (way == REPLACED)
			random_file(a->root, path, SIZE, NEW);
		if (way == REPLACED_BY_LINK)
			assert_int_equal(symlinkat("../../outside/file", a->root, path), 0);
		if (way == LINKED)
			assert_int_equal(linkat(a->root, path, a->root, "second", 0), 0);
		if (way == CUT)
			assert_int_equal(ftruncate(partial.fd, SIZE - 1), 0);
		if (kit_finish(&staging, &partial, &commit) != ZH_VERIFY)
			fail_msg("way %d", way);
		assert_true(random_at(a->root, "file", 777, OLD));
		/* our own goes, what somebody else put there stays */
		assert_int_equal(kit_staged(a), way == REPLACED || way == REPLACED_BY_LINK);
		(void)unlinkat(a->root, path, 0);
		(void)unlinkat(a->root, "second", 0);
		staging_fini(&staging);
	}
}

/* ------------------------------------------------------------------ what a peer may send -------
 */

static void a_time_that_is_none_is_refused(void **state)
{
	static const uint32_t values[] = { 1000000000, UTIME_NOW, UTIME_OMIT, UINT32_MAX };
	struct arena *a = arena_of(state);
	struct staging staging;

	staging_init(&staging, a->root);
	for (size_t i = 0; i < ARRAY_LEN(values); i++) {
		struct commit commit = kit_commit(a->root, "file");
		commit.mtime_ns = values[i];
		struct partial partial = kit_received(&staging, a->root, "file", 10, NEW);
		assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_PROTO);
		assert_int_equal(faccessat(a->root, "file", F_OK, 0), -1);
		assert_int_equal(kit_staged(a), 0);
	}
	staging_fini(&staging);
}

static void a_name_that_is_no_component_is_unsafe(void **state)
{
	static const char *const names[] = { "", ".", "..", "../outside/file", "d/file", "/file",
		STAGING_DIRECTORY };
	struct arena *a = arena_of(state);
	struct staging staging;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	staging_init(&staging, a->root);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct commit commit = kit_commit(a->root, names[i]);
		struct partial partial = kit_received(&staging, a->root, "file", 10, NEW);
		assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_UNSAFE_NAME);
		assert_int_equal(kit_staged(a), 0);
	}
	struct commit commit = kit_commit(a->root, "fi");
	commit.name_length = 3; /* a NUL inside */
	struct partial partial = kit_received(&staging, a->root, "file", 10, NEW);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_UNSAFE_NAME);
	staging_fini(&staging);
	assert_int_equal(entry_count(a->root, "d"), 0);
}

static void an_error_names_the_file_escaped_and_may_be_unwanted(void **state)
{
	struct arena *a = arena_of(state);
	struct staging staging;
	struct zh_error err;

	assert_int_equal(mkdirat(a->root, "es\x1b[2Jc", 0755), 0);
	staging_init(&staging, a->root);
	struct commit commit = kit_commit(a->root, "es\x1b[2Jc");
	struct partial partial = kit_received(&staging, a->root, commit.name, 10, NEW);
	err_init(&err);
	assert_int_equal(commit_file(&staging, &partial, &commit, &err), -EEXIST);
	assert_string_equal(err.file, "es\\x1b[2Jc");
	assert_string_equal(err.stage, "rename");
	partial = kit_received(&staging, a->root, commit.name, 10, NEW);
	assert_int_equal(commit_file(&staging, &partial, &commit, NULL), -EEXIST);
	staging_fini(&staging);
}

/* ------------------------------------------------------------------ storage that fails ---------
 */

static void a_failed_fsync_is_final(void **state)
{
	static const struct {
		int error;
		int outcome;
	} rows[] = { { EIO, ZH_DST_IO }, { ENOSPC, ZH_NOSPACE }, { EDQUOT, ZH_QUOTA } };
	struct arena *a = arena_of(state);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		random_file(a->root, "file", 777, OLD);
		uint64_t syncs = sys_calls[SYS_FSYNC];
		kit_fail_next(SYS_FSYNC, rows[i].error);
		int outcome = commit_new(a, false, ZH_DURABLE_FULL);
		assert_true(kit_struck());
		assert_int_equal(outcome, rows[i].outcome);
		assert_int_equal(sys_calls[SYS_FSYNC] - syncs, 1); /* never asked again */
		assert_true(random_at(a->root, "file", 777, OLD));
	}
}

static void a_name_that_is_not_durable_is_an_error_though_it_is_visible(void **state)
{
	struct arena *a = arena_of(state);
	struct sys_fault second = {
		.kind = SYS_FAULT_ERRNO, .call = SYS_FSYNC, .error = EIO, .nth = 2, .times = 1
	};

	sys_fault_arm(&second);
	int outcome = commit_new(a, false, ZH_DURABLE_FULL);
	assert_true(kit_struck());
	assert_int_equal(outcome, ZH_DST_IO);
	assert_true(random_at(a->root, "file", SIZE, NEW));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_committed_file_has_its_content_mode_and_times),
		ARENA_TEST_ON_TMPFS(a_committed_file_has_its_content_mode_and_times),
		ARENA_TEST(the_umask_narrows_the_mode_and_set_id_bits_never_pass),
		ARENA_TEST(a_file_has_what_its_directory_hands_down),
		ARENA_TEST_ON_TMPFS(a_file_has_what_its_directory_hands_down),
		ARENA_TEST(times_before_the_epoch_are_kept),
		ARENA_TEST(an_existing_file_is_replaced_whole),
		ARENA_TEST_ON_TMPFS(an_existing_file_is_replaced_whole),
		ARENA_TEST(only_the_given_length_of_a_name_counts),
		ARENA_TEST(blocks_written_past_the_end_are_cut_off),
		ARENA_TEST_ON_TMPFS(blocks_written_past_the_end_are_cut_off),
		ARENA_TEST(each_durability_costs_its_syncs_and_no_more),
		ARENA_TEST(no_clobber_leaves_an_existing_file_as_it_was),
		ARENA_TEST(no_clobber_is_kept_by_the_kernel),
		ARENA_TEST_ON_TMPFS(no_clobber_is_kept_by_the_kernel),
		ARENA_TEST(without_renameat2_flags_a_link_does_the_same),
		ARENA_TEST_ON_TMPFS(without_renameat2_flags_a_link_does_the_same),
		ARENA_TEST(no_clobber_never_replaces_a_rival),
		ARENA_TEST_ON_TMPFS(no_clobber_never_replaces_a_rival),
		ARENA_TEST(no_clobber_by_link_never_replaces_a_rival),
		ARENA_TEST_ON_TMPFS(no_clobber_by_link_never_replaces_a_rival),
		ARENA_TEST(what_is_no_regular_file_is_not_replaced),
		ARENA_TEST_ON_TMPFS(what_is_no_regular_file_is_not_replaced),
		ARENA_TEST(a_directory_that_appears_late_is_not_replaced),
		ARENA_TEST(an_immutable_file_is_a_permission_error),
		ARENA_TEST(a_directory_without_write_permission_is_a_permission_error),
		ARENA_TEST(a_directory_on_another_file_system_is_an_error),
		ARENA_TEST(a_directory_removed_meanwhile_is_an_error),
		ARENA_TEST(a_directory_moved_meanwhile_is_still_the_one),
		ARENA_TEST(a_staging_file_that_was_meddled_with_is_not_committed),
		ARENA_TEST_ON_TMPFS(a_staging_file_that_was_meddled_with_is_not_committed),
		ARENA_TEST(a_time_that_is_none_is_refused),
		ARENA_TEST(a_name_that_is_no_component_is_unsafe),
		ARENA_TEST(an_error_names_the_file_escaped_and_may_be_unwanted),
		ARENA_TEST(a_failed_fsync_is_final),
		ARENA_TEST(a_name_that_is_not_durable_is_an_error_though_it_is_visible),
	};

	return RUN_TESTS("commit", tests);
}
