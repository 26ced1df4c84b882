/* SPDX-License-Identifier: Apache-2.0 */
/* batch_test.c - many small files: each absent, old or complete, and what syncs they share. */
#include "batch_kit.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#define SIZE    8192
#define OLD     1 /* seeds of contents */
#define NEW     2

#define MANY    40
#define THREADS 4

/* Every file of a batch has a staging name, as where there is no other way. */
static rlim_t limit_before;

static int named_setup(void **state)
{
	limit_before = batch_kit_limit(KIT_ALL_NAMED);
	return arena_setup(state);
}

static int named_teardown(void **state)
{
	(void)batch_kit_limit(limit_before);
	return arena_teardown(state);
}

static bool all_named(void)
{
	struct rlimit limit;

	assert_int_equal(getrlimit(RLIMIT_NOFILE, &limit), 0);
	return limit.rlim_cur == KIT_ALL_NAMED;
}

/* clang-format off */
#define NAMED_TEST(f)          { #f "_named", f, named_setup, named_teardown, NULL }
#define NAMED_TEST_ON_TMPFS(f) { #f "_named_on_tmpfs", f, named_setup, named_teardown, arena_tmpfs }
/* clang-format on */

struct many {
	struct batch_file file[MANY];
	struct batch_file *pointer[MANY];
	char name[MANY][12];
};

/* Staged files of NEW + i, spread over as many directories of the root as dirs tells. */
static void write_many(struct arena *a, struct batch_kit *kit, struct many *many, size_t dirs)
{
	for (size_t d = 1; d <= dirs; d++) {
		char name[12];
		bool made;
		(void)snprintf(name, sizeof(name), "d%zu", d);
		if (faccessat(a->root, name, F_OK, 0) == 0)
			assert_int_equal(dirs_add(kit->dirs, d, 0, name), 0);
		else
			assert_int_equal(dirs_make(kit->dirs, d, 0, name, 0755, &made), 0);
	}
	for (size_t i = 0; i < MANY; i++) {
		(void)snprintf(many->name[i], sizeof(many->name[i]), "f%zu", i);
		many->file[i] = batch_kit_file(many->name[i]);
		many->file[i].parent = dirs ? 1 + i % dirs : 0;
		many->pointer[i] = &many->file[i];
		assert_int_equal(batch_kit_write(kit, &many->file[i], SIZE + i, NEW + i), ZH_OK);
	}
}

static bool is_there(struct arena *a, const struct many *many, size_t i)
{
	char path[40];
	uint64_t parent = many->file[i].parent;

	if (parent == 0)
		(void)snprintf(path, sizeof(path), "%s", many->name[i]);
	else
		(void)snprintf(
			path, sizeof(path), "d%llu/%s", (unsigned long long)parent, many->name[i]);
	return random_at(a->root, path, SIZE + i, NEW + i);
}

static void forget_errors(struct many *many)
{
	for (size_t i = 0; i < MANY; i++) {
		free(many->file[i].error);
		many->file[i].error = NULL;
	}
}

/* Path of what is staged: there is one scratch directory, and the names in it are numbers. */
static void staged_path(const struct arena *a, uint64_t number, char *ret_path, size_t cap)
{
	char command[2 * ARENA_PATH_CAP], name[64] = "";

	(void)snprintf(command, sizeof(command), "ls %s/" STAGING_DIRECTORY, a->root_path);
	FILE *list = popen(command, "r");
	assert_non_null(list);
	assert_non_null(fgets(name, sizeof(name), list));
	name[strcspn(name, "\n")] = '\0';
	assert_int_equal(pclose(list), 0);
	(void)snprintf(
		ret_path, cap, STAGING_DIRECTORY "/%s/%llx", name, (unsigned long long)number);
}

/* ------------------------------------------------------------------ success --------------------
 */

static void a_file_has_its_content_mode_and_times(void **state)
{
	static const uint32_t modes[] = { 0644, 0444, 0200, 0, 07777 };
	struct arena *a = arena_of(state);
	mode_t before = umask(027);
	struct batch_kit kit;
	struct stat st;

	batch_kit_init(&kit, a->root);
	for (int durability = ZH_DURABLE_FULL; durability <= ZH_DURABLE_NONE; durability++)
		for (size_t i = 0; i < ARRAY_LEN(modes); i++) {
			struct batch_file file = batch_kit_file("file");
			file.mode = modes[i];
			assert_int_equal(batch_kit_write(&kit, &file, SIZE, NEW), ZH_OK);
			assert_int_equal(
				batch_kit_commit(&kit, &file, (enum zh_durability)durability),
				ZH_OK);
			assert_int_equal(fstatat(a->root, "file", &st, AT_SYMLINK_NOFOLLOW), 0);
			assert_int_equal(st.st_mode, S_IFREG | (modes[i] & 0750));
			assert_int_equal(st.st_mtim.tv_sec, KIT_MTIME_S);
			assert_int_equal(st.st_mtim.tv_nsec, KIT_MTIME_NS);
			if (geteuid() == 0 || (modes[i] & 0400))
				assert_true(random_at(a->root, "file", SIZE, NEW));
		}
	batch_kit_fini(&kit);
	(void)umask(before);
	assert_int_equal(faccessat(a->root, STAGING_DIRECTORY, F_OK, 0), -1);
}

static void a_file_has_what_its_directory_hands_down(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_kit kit;
	int dir;

	kit_hands_down(a->root); /* which the staging directory is made in */
	dir = kit_plain_directory(a->root, "plain");
	batch_kit_init(&kit, a->root);
	assert_int_equal(dirs_add(kit.dirs, 1, 0, "plain"), 0);
	for (uint64_t i = 0; i < 2; i++) {
		struct batch_file file = batch_kit_file("file");
		file.mode = 0640;
		file.parent = i;
		assert_int_equal(batch_kit_write(&kit, &file, SIZE, NEW), ZH_OK);
		assert_int_equal(file.unnamed, !all_named());
		assert_int_equal(batch_kit_commit(&kit, &file, ZH_DURABLE_NONE), ZH_OK);
		kit_is_as_made(i == 1 ? dir : a->root, "file", 0640);
	}
	batch_kit_fini(&kit);
	assert_int_equal(close(dir), 0);
}

/* The mode is given by open, which the umask of that moment takes from. */
static void the_umask_of_the_beginning_counts(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file file = batch_kit_file("file");
	mode_t before = umask(022);
	struct batch_kit kit;
	struct stat st;

	batch_kit_init(&kit, a->root);
	(void)umask(077);
	assert_int_equal(batch_kit_write(&kit, &file, SIZE, NEW), ZH_OK);
	(void)umask(before);
	assert_int_equal(batch_kit_commit(&kit, &file, ZH_DURABLE_NONE), ZH_OK);
	assert_int_equal(fstatat(a->root, "file", &st, 0), 0);
	assert_int_equal(st.st_mode & 07777, 0644);
	batch_kit_fini(&kit);
}

static void an_empty_file_is_a_file(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file file = batch_kit_file("file");
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	assert_int_equal(batch_kit_write(&kit, &file, 0, NEW), ZH_OK);
	assert_int_equal(batch_kit_commit(&kit, &file, ZH_DURABLE_FULL), ZH_OK);
	assert_true(random_at(a->root, "file", 0, NEW));
	batch_kit_fini(&kit);
}

static void a_link_has_its_target_and_times(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_kit kit;
	struct stat st;
	char target[4096];

	memset(target, 'x', sizeof(target) - 1);
	target[sizeof(target) - 1] = '\0';
	const char *const targets[] = { "nowhere", "../outside/file", target };
	batch_kit_init(&kit, a->root);
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		struct batch_file file = batch_kit_file("link");
		assert_int_equal(batch_kit_link(&kit, &file, targets[i]), ZH_OK);
		assert_int_equal(batch_kit_commit(&kit, &file, ZH_DURABLE_FULL), ZH_OK);
		assert_true(batch_kit_link_is(a->root, "link", targets[i]));
		assert_int_equal(fstatat(a->root, "link", &st, AT_SYMLINK_NOFOLLOW), 0);
		assert_int_equal(st.st_mtim.tv_sec, KIT_MTIME_S);
	}
	batch_kit_fini(&kit);
}

static void an_owner_is_set_when_it_is_asked_for(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_kit kit;
	struct stat st;

	if (geteuid() != 0)
		SKIP("only root can give files away");
	batch_kit_init(&kit, a->root);
	for (int set = 0; set < 2; set++)
		for (int link = 0; link < 2; link++) {
			struct batch_file file = batch_kit_file("file");
			file.set_owner = set;
			file.uid = 1234;
			file.gid = 4321;
			assert_int_equal(link ? batch_kit_link(&kit, &file, "precious")
					      : batch_kit_write(&kit, &file, SIZE, NEW),
				ZH_OK);
			assert_int_equal(batch_kit_commit(&kit, &file, ZH_DURABLE_FULL), ZH_OK);
			assert_int_equal(fstatat(a->root, "file", &st, AT_SYMLINK_NOFOLLOW), 0);
			assert_int_equal(st.st_uid, set ? 1234 : 0);
			assert_int_equal(st.st_gid, set ? 4321 : 0);
			if (!link)
				assert_int_equal(st.st_mode & 07777, 0644);
			assert_int_equal(st.st_mtim.tv_sec, KIT_MTIME_S);
		}
	batch_kit_fini(&kit);
}

static void many_files_share_their_syncs(void **state)
{
	static const struct {
		enum zh_durability durability;
		size_t dirs;
		bool old_kernel;
		uint64_t syncfs, fsync;
	} rows[] = {
		{ ZH_DURABLE_FULL, 1, false, 1, 1 },
		{ ZH_DURABLE_FULL, 8, false, 1, 8 },
		{ ZH_DURABLE_FULL, 9, false, 2, 0 },
		{ ZH_DURABLE_FILE, 9, false, 1, 0 },
		{ ZH_DURABLE_NONE, 9, false, 0, 0 },
		{ ZH_DURABLE_FULL, 8, true, 0, MANY + 8 },
		{ ZH_DURABLE_FILE, 9, true, 0, MANY },
		{ ZH_DURABLE_NONE, 9, true, 0, 0 },
	};
	struct arena *a = arena_of(state);

	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		struct batch_kit kit;
		struct many many;
		if (rows[row].old_kernel)
			kit_fail_next(SYS_UNAME, ENOSYS);
		batch_kit_init(&kit, a->root);
		assert_true(kit_struck() == rows[row].old_kernel);
		write_many(a, &kit, &many, rows[row].dirs);
		uint64_t syncfs = sys_calls[SYS_SYNCFS], fsync = sys_calls[SYS_FSYNC];
		batch_commit(kit.batch, many.pointer, MANY, rows[row].durability);
		assert_int_equal(sys_calls[SYS_SYNCFS] - syncfs, rows[row].syncfs);
		assert_int_equal(sys_calls[SYS_FSYNC] - fsync, rows[row].fsync);
		for (size_t i = 0; i < MANY; i++) {
			assert_null(many.file[i].error);
			assert_true(is_there(a, &many, i));
		}
		batch_kit_fini(&kit);
	}
}

/* Without syncfs no directory is forgotten either, however many there are. */
static void every_directory_is_synced_by_itself_on_an_old_kernel(void **state)
{
	enum { DIRS = 20 };
	struct arena *a = arena_of(state);
	struct batch_kit kit;
	struct many many;

	for (uint64_t nth = 1; nth <= 2 * DIRS; nth++) {
		struct sys_fault fault = { .kind = SYS_FAULT_ERRNO,
			.call = SYS_FSYNC,
			.error = EIO,
			.nth = MANY + nth,
			.times = 1 };
		size_t failed = 0;
		kit_fail_next(SYS_UNAME, ENOSYS);
		batch_kit_init(&kit, a->root);
		assert_true(kit_struck());
		write_many(a, &kit, &many, DIRS);
		sys_fault_arm(&fault);
		batch_commit(kit.batch, many.pointer, MANY, ZH_DURABLE_FULL);
		bool struck = kit_struck();
		for (size_t i = 0; i < MANY; i++) {
			assert_true(is_there(a, &many, i));
			failed += many.file[i].error != NULL;
		}
		/* the directories come round twice, and the first time half of the files is there
		 */
		assert_true(struck);
		assert_true(failed == 1 || failed == 2);
		forget_errors(&many);
		batch_kit_fini(&kit);
	}
}

static void few_files_are_synced_by_themselves(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file file[3], *pointer[3];
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	for (size_t i = 0; i < 3; i++)
		pointer[i] = &file[i];
	file[0] = batch_kit_file("one");
	file[1] = batch_kit_file("link");
	file[2] = batch_kit_file("two");
	assert_int_equal(batch_kit_write(&kit, &file[0], SIZE, NEW), ZH_OK);
	assert_int_equal(batch_kit_link(&kit, &file[1], "one"), ZH_OK);
	assert_int_equal(batch_kit_write(&kit, &file[2], SIZE, NEW), ZH_OK);
	uint64_t syncfs = sys_calls[SYS_SYNCFS], fsync = sys_calls[SYS_FSYNC];
	batch_commit(kit.batch, pointer, 3, ZH_DURABLE_FULL);
	assert_int_equal(sys_calls[SYS_SYNCFS] - syncfs, 0);
	assert_int_equal(sys_calls[SYS_FSYNC] - fsync, 2 + 1 + 1); /* files, links, directory */
	for (size_t i = 0; i < 3; i++)
		assert_null(file[i].error);
	batch_kit_fini(&kit);
}

/* What a file of many costs, because it is what a tree of small files is made of. */
static void a_file_takes_few_calls(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_kit kit;
	struct many many;
	uint64_t before = 0, after = 0;

	batch_kit_init(&kit, a->root);
	write_many(a, &kit, &many, 1); /* enters staging */
	batch_commit(kit.batch, many.pointer, MANY, ZH_DURABLE_FULL);
	for (int call = 0; call < SYS_CALL_COUNT; call++)
		before += sys_calls[call];
	for (size_t i = 0; i < MANY; i++) {
		many.file[i].name_length = strlen(many.name[i]) + 1; /* a name that is free */
		many.name[i][strlen(many.name[i])] = 'x';
		assert_int_equal(batch_kit_write(&kit, &many.file[i], SIZE, NEW), ZH_OK);
	}
	batch_commit(kit.batch, many.pointer, MANY, ZH_DURABLE_FULL);
	for (int call = 0; call < SYS_CALL_COUNT; call++)
		after += sys_calls[call];
	/*
	 * open, write, futimens, fstat; linkat, or fstatat and rename, and two looks at what the
	 * directory hands down; two syncs and the directory
	 */
	uint64_t calls = all_named() ? 8 : 5;
	assert_in_range(after - before, MANY * calls, MANY * calls + 8);
	batch_kit_fini(&kit);
}

static void what_is_dropped_never_appears(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file dropped = batch_kit_file("dropped"), later = batch_kit_file("later");
	struct batch_file kept = batch_kit_file("kept");
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	assert_int_equal(faccessat(a->root, STAGING_DIRECTORY, F_OK, 0), -1);
	batch_drop(kit.batch, &dropped); /* nothing was written */
	assert_int_equal(batch_kit_write(&kit, &dropped, SIZE, NEW), ZH_OK);
	assert_int_equal(batch_kit_write(&kit, &later, SIZE, NEW), ZH_OK);
	assert_int_equal(batch_kit_write(&kit, &kept, SIZE, NEW), ZH_OK);
	batch_drop(kit.batch, &dropped);
	assert_int_equal(dropped.staged, 0);
	assert_int_equal(batch_kit_commit(&kit, &kept, ZH_DURABLE_FULL), ZH_OK);
	batch_drop(kit.batch, &later);
	batch_kit_fini(&kit);
	assert_int_equal(entry_count(a->root, "."), 1);
	assert_true(random_at(a->root, "kept", SIZE, NEW));
}

struct writer {
	pthread_t thread;
	struct batch_kit *kit;
	struct batch_file file[MANY];
	char name[MANY][12];
	int outcome;
};

static void *writer_run(void *argument)
{
	struct writer *writer = argument;
	static const uint8_t bytes[SIZE] = { 'x' };

	for (size_t i = 0; i < MANY; i++) {
		struct zh_error err;
		err_init(&err);
		if (batch_write(writer->kit->batch, &writer->file[i], bytes, SIZE, &err) < 0)
			writer->outcome = err.outcome;
	}
	return NULL;
}

static void threads_write_side_by_side(void **state)
{
	static struct writer writer[THREADS];
	struct batch_file *pointer[THREADS * MANY];
	struct arena *a = arena_of(state);
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	for (size_t t = 0; t < THREADS; t++) {
		writer[t] = (struct writer){ .kit = &kit };
		for (size_t i = 0; i < MANY; i++) {
			(void)snprintf(writer[t].name[i], 12, "%zu.%zu", t, i);
			writer[t].file[i] = batch_kit_file(writer[t].name[i]);
			pointer[t * MANY + i] = &writer[t].file[i];
		}
		assert_int_equal(
			pthread_create(&writer[t].thread, NULL, writer_run, &writer[t]), 0);
	}
	for (size_t t = 0; t < THREADS; t++) {
		assert_int_equal(pthread_join(writer[t].thread, NULL), 0);
		assert_int_equal(writer[t].outcome, ZH_OK);
	}
	batch_commit(kit.batch, pointer, ARRAY_LEN(pointer), ZH_DURABLE_FULL);
	for (size_t i = 0; i < ARRAY_LEN(pointer); i++)
		assert_null(pointer[i]->error);
	batch_kit_fini(&kit);
	assert_int_equal(entry_count(a->root, "."), THREADS * MANY);
}

/* ------------------------------------------------------------------ files without a name -------
 */

static size_t staged_names(const struct arena *a)
{
	char path[100];

	staged_path(a, 0, path, sizeof(path));
	*strrchr(path, '/') = '\0';
	return entry_count(a->root, path);
}

static void a_file_has_no_name_before_its_own(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_kit kit;
	struct many many;

	batch_kit_init(&kit, a->root);
	write_many(a, &kit, &many, 2);
	assert_int_equal(staged_names(a), 0);
	for (size_t i = 0; i < MANY; i++)
		assert_true(many.file[i].unnamed);
	assert_int_equal(entry_count(a->root, "d1"), 0);
	batch_commit(kit.batch, many.pointer, MANY, ZH_DURABLE_FULL);
	for (size_t i = 0; i < MANY; i++) {
		assert_null(many.file[i].error);
		assert_true(is_there(a, &many, i));
	}
	batch_kit_fini(&kit);
}

/* A quarter of what a process may open; the rest has names, until some are committed. */
static void descriptors_that_are_used_up_give_way_to_names(void **state)
{
	enum { OPEN = 16, LIMIT = 256, KEPT = 64 };
	struct arena *a = arena_of(state);
	struct batch_file file[KEPT + OPEN], *pointer[KEPT + OPEN];
	char name[KEPT + OPEN][12];
	rlim_t before = batch_kit_limit(LIMIT);
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	for (int round = 0; round < 2; round++) {
		for (size_t i = 0; i < ARRAY_LEN(file); i++) {
			(void)snprintf(name[i], sizeof(name[i]), "%d.%zu", round, i);
			file[i] = batch_kit_file(name[i]);
			pointer[i] = &file[i];
			assert_int_equal(batch_kit_write(&kit, &file[i], SIZE, NEW + i), ZH_OK);
			assert_int_equal(file[i].unnamed, i < KEPT);
		}
		assert_int_equal(staged_names(a), OPEN);
		batch_commit(kit.batch, pointer, ARRAY_LEN(pointer), ZH_DURABLE_FULL);
		for (size_t i = 0; i < ARRAY_LEN(file); i++) {
			assert_null(file[i].error);
			assert_true(random_at(a->root, name[i], SIZE, NEW + i));
		}
	}
	batch_kit_fini(&kit);
	(void)batch_kit_limit(before);
}

/* Whether a file was written without a name; it is committed either way. */
static bool is_written_unnamed(struct batch_kit *kit, int root, const char *name)
{
	struct batch_file file = batch_kit_file(name);
	bool unnamed;

	assert_int_equal(batch_kit_write(kit, &file, SIZE, NEW), ZH_OK);
	unnamed = file.unnamed;
	assert_int_equal(batch_kit_commit(kit, &file, ZH_DURABLE_NONE), ZH_OK);
	assert_true(random_at(root, name, SIZE, NEW));
	return unnamed;
}

/* The ways to name an open file that are refused at the beginning: 1 by descriptor, 2 also by
 * /proc. */
static void a_way_that_is_refused_gives_way_to_the_next(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_kit kit;

	for (uint64_t refused = 0; refused <= 2; refused++) {
		struct sys_fault fault = { .kind = SYS_FAULT_ERRNO,
			.call = SYS_LINK,
			.error = ENOENT,
			.nth = 1,
			.times = refused };
		uint64_t before = sys_calls[SYS_LINK];
		batch_kit_init(&kit, a->root);
		if (refused > 0)
			sys_fault_arm(&fault);
		assert_int_equal(is_written_unnamed(&kit, a->root, "first"), refused < 2);
		assert_int_equal(kit_struck(), refused > 0);
		before = sys_calls[SYS_LINK];
		assert_int_equal(is_written_unnamed(&kit, a->root, "second"), refused < 2);
		assert_int_equal(sys_calls[SYS_LINK] - before, refused < 2);
		batch_kit_fini(&kit);
		assert_int_equal(unlinkat(a->root, "first", 0), 0);
		assert_int_equal(unlinkat(a->root, "second", 0), 0);
	}
}

static void a_file_that_cannot_be_opened_without_a_name_has_one(void **state)
{
	static const int errors[] = { EOPNOTSUPP, EISDIR, ENOENT, EMFILE };
	struct arena *a = arena_of(state);
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	assert_true(is_written_unnamed(&kit, a->root, "before"));
	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		kit_fail_next(SYS_OPEN, errors[i]);
		(void)unlinkat(a->root, "file", 0);
		assert_false(is_written_unnamed(&kit, a->root, "file"));
		assert_true(kit_struck());
	}
	assert_true(is_written_unnamed(&kit, a->root, "after"));
	batch_kit_fini(&kit);
}

static void ordinary_users_write_without_a_name_too(void **state)
{
	enum { NOBODY = 65534 };
	struct arena *a = arena_of(state);
	int status;

	if (geteuid() == 0)
		assert_int_equal(fchown(a->root, NOBODY, NOBODY), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		bool right = true;
		if (geteuid() == 0)
			right = setresgid(NOBODY, NOBODY, NOBODY) == 0 &&
				setresuid(NOBODY, NOBODY, NOBODY) == 0;
		for (int by_proc = 0; by_proc < 2; by_proc++) {
			struct batch_kit kit;
			batch_kit_init(&kit, a->root);
			if (by_proc)
				kit_fail_next(SYS_LINK, EPERM);
			right = is_written_unnamed(&kit, a->root, by_proc ? "b" : "a") && right;
			sys_fault_arm(NULL);
			batch_kit_fini(&kit);
		}
		_exit(right ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(entry_count(a->root, "."), 2);
}

/* ------------------------------------------------------------------ what is in the way ---------
 */

static void plant(struct arena *a, int kind)
{
	if (kind == 0)
		assert_int_equal(mkdirat(a->root, "file", 0755), 0);
	if (kind == 1)
		assert_int_equal(mkfifoat(a->root, "file", 0644), 0);
	if (kind == 2)
		random_file(a->root, "file", 777, OLD);
	if (kind == 3)
		assert_int_equal(symlinkat("../outside/file", a->root, "file"), 0);
	if (kind == 4)
		assert_int_equal(symlinkat("../outside/below", a->root, "file"), 0);
}

/* Replaced are files and links, by files and links; a link is replaced, never followed. */
static void what_may_be_replaced_is(void **state)
{
	enum { DIRECTORY, FIFO, FILES, LINK, LINK_TO_DIRECTORY, KINDS };
	struct arena *a = arena_of(state);
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	for (int kind = 0; kind < KINDS; kind++)
		for (int variant = 0; variant < 8; variant++) {
			struct batch_file file = batch_kit_file("file");
			enum zh_durability durability =
				variant & 4 ? ZH_DURABLE_NONE : ZH_DURABLE_FULL;
			bool link = variant & 1;
			struct stat before, after;
			file.no_clobber = variant & 2;
			bool replaced = !file.no_clobber && kind >= FILES;
			plant(a, kind);
			assert_int_equal(fstatat(a->root, "file", &before, AT_SYMLINK_NOFOLLOW), 0);
			assert_int_equal(link ? batch_kit_link(&kit, &file, "target")
					      : batch_kit_write(&kit, &file, SIZE, NEW),
				ZH_OK);
			assert_int_equal(batch_kit_commit(&kit, &file, durability),
				replaced ? ZH_OK : ZH_EXISTS);
			assert_int_equal(fstatat(a->root, "file", &after, AT_SYMLINK_NOFOLLOW), 0);
			if (!replaced)
				assert_int_equal(before.st_ino, after.st_ino);
			else if (link)
				assert_true(batch_kit_link_is(a->root, "file", "target"));
			else
				assert_true(random_at(a->root, "file", SIZE, NEW));
			assert_int_equal(
				unlinkat(a->root, "file", kind == DIRECTORY ? AT_REMOVEDIR : 0), 0);
		}
	batch_kit_fini(&kit);
}

static void without_renameat2_flags_a_link_does_the_same(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_kit kit;

	batch_kit_init(&kit, a->root);
	for (int variant = 0; variant < 4; variant++) {
		struct sys_fault no_flags = {
			.kind = SYS_FAULT_ERRNO, .call = SYS_RENAME, .error = EINVAL, .nth = 1
		};
		struct batch_file file = batch_kit_file("file");
		bool there = variant & 1;
		(void)unlinkat(a->root, "file", 0);
		if (there)
			random_file(a->root, "file", 777, OLD);
		file.no_clobber = variant & 2;
		no_flags.times = file.no_clobber ? 2 : 1; /* a plain rename needs no flags */
		assert_int_equal(batch_kit_write(&kit, &file, SIZE, NEW), ZH_OK);
		sys_fault_arm(&no_flags);
		int outcome = batch_kit_commit(&kit, &file, ZH_DURABLE_FULL);
		assert_true(kit_struck());
		bool refused = there && file.no_clobber;
		assert_int_equal(outcome, refused ? ZH_EXISTS : ZH_OK);
		assert_true(random_at(a->root, "file", refused ? 777 : SIZE, refused ? OLD : NEW));
	}
	batch_kit_fini(&kit);
}

static void a_directory_that_is_not_known_fails_its_file_alone(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file good = batch_kit_file("good"), bad = batch_kit_file("bad");
	struct batch_file *pointer[] = { &bad, &good };
	struct batch_kit kit;

	bad.parent = 99;
	batch_kit_init(&kit, a->root);
	assert_int_equal(batch_kit_write(&kit, &good, SIZE, NEW), ZH_OK);
	assert_int_equal(batch_kit_write(&kit, &bad, SIZE, NEW), ZH_OK);
	batch_commit(kit.batch, pointer, 2, ZH_DURABLE_FULL);
	assert_null(good.error);
	assert_non_null(bad.error);
	assert_int_equal(bad.error->outcome, ZH_DST_IO);
	assert_string_equal(bad.error->file, "bad");
	free(bad.error);
	batch_kit_fini(&kit);
	assert_int_equal(entry_count(a->root, "."), 1);
}

/* ------------------------------------------------------------------ a staging file meddled with */

static void a_staging_file_that_was_meddled_with_is_not_committed(void **state)
{
	enum { REMOVED, REPLACED, REPLACED_BY_LINK, LINKED, CUT, UNTOUCHED, WAYS };
	struct arena *a = arena_of(state);

	for (int durability = ZH_DURABLE_FULL; durability <= ZH_DURABLE_NONE; durability++)
		for (int way = 0; way < WAYS; way++) {
			struct batch_file file = batch_kit_file("file");
			struct batch_kit kit;
			char path[100];
			random_file(a->root, "file", 777, OLD);
			batch_kit_init(&kit, a->root);
			assert_int_equal(batch_kit_write(&kit, &file, SIZE, NEW), ZH_OK);
			staged_path(a, file.staged, path, sizeof(path));
			assert_true(random_at(a->root, path, SIZE, NEW));
			if (way == REMOVED || way == REPLACED || way == REPLACED_BY_LINK)
				assert_int_equal(unlinkat(a->root, path, 0), 0);
			if (way == REPLACED)
				random_file(a->root, path, SIZE, NEW);
			if (way == REPLACED_BY_LINK)
				assert_int_equal(
					symlinkat("../../../outside/file", a->root, path), 0);
			if (way == LINKED)
				assert_int_equal(linkat(a->root, path, a->root, "second", 0), 0);
			if (way == CUT) {
				char whole[3 * ARENA_PATH_CAP];
				(void)snprintf(whole, sizeof(whole), "%s/%s", a->root_path, path);
				assert_int_equal(truncate(whole, SIZE - 1), 0);
			}
			int outcome = batch_kit_commit(&kit, &file, (enum zh_durability)durability);
			if (outcome != (way == UNTOUCHED ? ZH_OK : ZH_VERIFY))
				fail_msg("way %d: %s", way, zh_outcome_name(outcome));
			assert_true(random_at(a->root, "file", way == UNTOUCHED ? SIZE : 777,
				way == UNTOUCHED ? NEW : OLD));
			(void)unlinkat(a->root, "second", 0);
			batch_kit_fini(&kit);
			assert_int_equal(kit_staged(a), 0);
		}
}

/* ------------------------------------------------------------------ what a peer may send -------
 */

static void what_is_no_name_time_owner_or_target_is_refused(void **state)
{
	static const char *const names[] = { "", ".", "..", "../outside/file", "/file",
		STAGING_DIRECTORY };
	static const char nul[] = { 'a', '\0', 'b' };
	char too_long[4097];
	struct arena *a = arena_of(state);
	struct batch_kit kit;
	struct zh_error err;

	memset(too_long, 'x', sizeof(too_long) - 1);
	too_long[sizeof(too_long) - 1] = '\0';
	batch_kit_init(&kit, a->root);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct batch_file file = batch_kit_file(names[i]);
		assert_int_equal(batch_kit_write(&kit, &file, 10, NEW), ZH_UNSAFE_NAME);
		assert_int_equal(batch_kit_link(&kit, &file, "x"), ZH_UNSAFE_NAME);
	}
	struct batch_file file = batch_kit_file("file");
	file.mtime_ns = UTIME_NOW;
	assert_int_equal(batch_kit_write(&kit, &file, 10, NEW), ZH_PROTO);
	assert_int_equal(batch_kit_link(&kit, &file, "x"), ZH_PROTO);
	file = batch_kit_file("file");
	file.set_owner = true;
	file.uid = UINT32_MAX;
	assert_int_equal(batch_kit_write(&kit, &file, 10, NEW), ZH_PROTO);
	file = batch_kit_file("file");
	assert_int_equal(batch_kit_link(&kit, &file, ""), ZH_UNSAFE_NAME);
	assert_int_equal(batch_kit_link(&kit, &file, too_long), ZH_LIMIT);
	err_init(&err);
	assert_int_equal(batch_write(kit.batch, &file, nul, sizeof(nul), &err), -EINVAL);
	assert_int_equal(err.outcome, ZH_UNSAFE_NAME);
	assert_int_equal(batch_write(kit.batch, &file, nul, sizeof(nul), NULL), -EINVAL);
	/* and a batch that refused all that still works */
	file = batch_kit_file("file and more");
	file.name_length = 4;
	assert_int_equal(batch_kit_write(&kit, &file, 10, NEW), ZH_OK);
	assert_int_equal(batch_kit_commit(&kit, &file, ZH_DURABLE_FULL), ZH_OK);
	batch_kit_fini(&kit);
	assert_true(random_at(a->root, "file", 10, NEW));
	assert_int_equal(entry_count(a->root, "."), 1);
}

/* ------------------------------------------------------------------ storage that fails ---------
 */

static void a_failed_sync_fails_all_that_were_staged(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file later = batch_kit_file("later"), last = batch_kit_file("last");
	struct batch_kit kit;
	struct many many;

	batch_kit_init(&kit, a->root);
	write_many(a, &kit, &many, 2);
	assert_int_equal(batch_kit_write(&kit, &later, SIZE, NEW), ZH_OK);
	kit_fail_next(SYS_SYNCFS, EIO);
	batch_commit(kit.batch, many.pointer, MANY, ZH_DURABLE_FULL);
	assert_true(kit_struck());
	for (size_t i = 0; i < MANY; i++) {
		assert_non_null(many.file[i].error);
		assert_int_equal(many.file[i].error->outcome, ZH_DST_IO);
		assert_int_equal(many.file[i].staged, 0);
		assert_false(is_there(a, &many, i));
	}
	forget_errors(&many);
	/* the kernel will not tell of this one again */
	assert_int_equal(batch_kit_commit(&kit, &later, ZH_DURABLE_FULL), ZH_DST_IO);
	assert_int_equal(batch_kit_write(&kit, &last, SIZE, NEW), ZH_OK);
	assert_int_equal(batch_kit_commit(&kit, &last, ZH_DURABLE_FULL), ZH_OK);
	batch_kit_fini(&kit);
	assert_int_equal(entry_count(a->root, "."), 3);
}

static void names_that_are_not_durable_are_errors_though_visible(void **state)
{
	static const struct {
		size_t dirs, failed;
		enum sys_call call;
		uint64_t nth;
	} rows[] = { { 9, MANY, SYS_SYNCFS, 2 }, { 2, MANY / 2, SYS_FSYNC, 1 } };
	struct arena *a = arena_of(state);

	for (size_t row = 0; row < ARRAY_LEN(rows); row++) {
		struct sys_fault fault = { .kind = SYS_FAULT_ERRNO,
			.call = rows[row].call,
			.error = EIO,
			.nth = rows[row].nth,
			.times = 1 };
		struct batch_kit kit;
		struct many many;
		size_t failed = 0;
		batch_kit_init(&kit, a->root);
		write_many(a, &kit, &many, rows[row].dirs);
		sys_fault_arm(&fault);
		batch_commit(kit.batch, many.pointer, MANY, ZH_DURABLE_FULL);
		assert_true(kit_struck());
		for (size_t i = 0; i < MANY; i++) {
			assert_true(is_there(a, &many, i));
			failed += many.file[i].error != NULL;
		}
		assert_int_equal(failed, rows[row].failed);
		forget_errors(&many);
		batch_kit_fini(&kit);
	}
}

static void a_full_disk_fails_what_does_not_fit_and_no_more(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 32];
	struct batch_file *pointer[MANY];
	struct batch_file file[MANY];
	struct batch_kit kit;
	char name[MANY][12];
	size_t written = 0;

	if (!mounts_are_private())
		SKIP("no mounts of one's own");
	assert_int_equal(mkdirat(a->root, "small", 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/small", a->root_path);
	assert_int_equal(mount("tmpfs", path, "tmpfs", 0, "size=256k"), 0);
	int root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	batch_kit_init(&kit, root);
	for (size_t i = 0; i < MANY; i++) {
		(void)snprintf(name[i], sizeof(name[i]), "f%zu", i);
		file[i] = batch_kit_file(name[i]);
		int outcome = batch_kit_write(&kit, &file[i], SIZE, NEW);
		assert_int_equal(outcome, written == i ? outcome : ZH_NOSPACE);
		if (outcome == ZH_OK)
			pointer[written++] = &file[i];
	}
	print_message("# %zu fit\n", written);
	assert_in_range(written, 8, 32);
	batch_commit(kit.batch, pointer, written, ZH_DURABLE_FULL);
	for (size_t i = 0; i < written; i++) {
		assert_null(pointer[i]->error);
		assert_true(random_at(root, name[i], SIZE, NEW));
	}
	batch_kit_fini(&kit);
	size_t left = entry_count(root, ".");
	close(root);
	assert_int_equal(umount(path), 0);
	assert_int_equal(left, written);
}

static void a_file_size_limit_is_an_answer_and_no_signal(void **state)
{
	struct arena *a = arena_of(state);
	int status;
	pid_t child = fork();

	assert_true(child >= 0);
	if (child == 0) { /* of its own, because limits stay */
		struct rlimit limit = { SIZE, SIZE };
		struct batch_file file = batch_kit_file("file");
		struct batch_kit kit;
		(void)signal(SIGXFSZ, SIG_DFL);
		(void)setrlimit(RLIMIT_FSIZE, &limit);
		batch_kit_init(&kit, a->root);
		bool right = batch_kit_write(&kit, &file, SIZE + 1, NEW) == ZH_LIMIT &&
			     batch_kit_write(&kit, &file, SIZE, NEW) == ZH_OK;
		batch_drop(kit.batch, &file);
		batch_kit_fini(&kit);
		_exit(right ? 0 : 1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	assert_int_equal(kit_staged(a), 0);
}

/* ------------------------------------------------------------------ what others have left ------
 */

/* A process that stages MANY files and waits to be killed. */
static pid_t start_receiver(struct arena *a)
{
	int ends[2];
	char byte;

	assert_int_equal(pipe(ends), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct batch_kit kit;
		struct many many;
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* also when the test fails */
		batch_kit_init(&kit, a->root);
		write_many(a, &kit, &many, 0);
		(void)!write(ends[1], "x", 1);
		for (;;)
			pause();
	}
	close(ends[1]);
	assert_int_equal(read(ends[0], &byte, 1), 1);
	close(ends[0]);
	return child;
}

static void end_receiver(pid_t child)
{
	int status;

	assert_int_equal(kill(child, SIGKILL), 0);
	assert_int_equal(waitpid(child, &status, 0), child);
}

static void what_a_killed_receiver_left_is_removed_by_the_next(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file file = batch_kit_file("file");
	struct batch_kit kit;

	pid_t killed = start_receiver(a);
	pid_t living = start_receiver(a);
	end_receiver(killed);
	/* names that are not of ours stay, whatever they look like */
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY "/s.0123", 0700), 0);
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY "/s.0123456789abcdeF", 0700), 0);
	assert_int_equal(mkdirat(a->root, STAGING_DIRECTORY "/s.0123456789abcdef0", 0700), 0);
	assert_int_equal(
		symlinkat("../../outside", a->root, STAGING_DIRECTORY "/s.0123456789abcdef"), 0);
	assert_int_equal(kit_staged(a), 2 + 4);
	batch_kit_init(&kit, a->root);
	assert_int_equal(kit_staged(a), 2 + 4);
	assert_int_equal(batch_kit_write(&kit, &file, SIZE, NEW), ZH_OK);
	assert_int_equal(kit_staged(a), 1 + 4 + 1); /* the living one's, and ours */
	batch_drop(kit.batch, &file);
	batch_kit_fini(&kit);
	assert_int_equal(kit_staged(a), 1 + 4);
	end_receiver(living);
	batch_kit_init(&kit, a->root);
	assert_int_equal(batch_kit_write(&kit, &file, SIZE, NEW), ZH_OK);
	batch_drop(kit.batch, &file);
	batch_kit_fini(&kit);
	assert_int_equal(kit_staged(a), 4);
}

static void two_receivers_do_not_meet(void **state)
{
	struct arena *a = arena_of(state);
	struct batch_file one = batch_kit_file("one"), two = batch_kit_file("two");
	struct batch_kit first, second;

	batch_kit_init(&first, a->root);
	batch_kit_init(&second, a->root);
	assert_int_equal(batch_kit_write(&first, &one, SIZE, NEW), ZH_OK);
	assert_int_equal(batch_kit_write(&second, &two, SIZE, NEW), ZH_OK);
	assert_int_equal(kit_staged(a), 2);
	batch_drop(second.batch, &two);
	batch_kit_fini(&second);
	assert_int_equal(batch_kit_commit(&first, &one, ZH_DURABLE_FULL), ZH_OK);
	batch_kit_fini(&first);
	assert_true(random_at(a->root, "one", SIZE, NEW));
	assert_int_equal(entry_count(a->root, "."), 1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_file_has_its_content_mode_and_times),
		NAMED_TEST(a_file_has_its_content_mode_and_times),
		ARENA_TEST_ON_TMPFS(a_file_has_its_content_mode_and_times),
		NAMED_TEST_ON_TMPFS(a_file_has_its_content_mode_and_times),
		ARENA_TEST(a_file_has_what_its_directory_hands_down),
		NAMED_TEST(a_file_has_what_its_directory_hands_down),
		NAMED_TEST_ON_TMPFS(a_file_has_what_its_directory_hands_down),
		ARENA_TEST(the_umask_of_the_beginning_counts),
		NAMED_TEST(the_umask_of_the_beginning_counts),
		ARENA_TEST(an_empty_file_is_a_file),
		ARENA_TEST(a_link_has_its_target_and_times),
		ARENA_TEST_ON_TMPFS(a_link_has_its_target_and_times),
		ARENA_TEST(an_owner_is_set_when_it_is_asked_for),
		NAMED_TEST(an_owner_is_set_when_it_is_asked_for),
		ARENA_TEST_ON_TMPFS(an_owner_is_set_when_it_is_asked_for),
		NAMED_TEST_ON_TMPFS(an_owner_is_set_when_it_is_asked_for),
		ARENA_TEST(many_files_share_their_syncs),
		NAMED_TEST(many_files_share_their_syncs),
		ARENA_TEST_ON_TMPFS(many_files_share_their_syncs),
		NAMED_TEST_ON_TMPFS(many_files_share_their_syncs),
		ARENA_TEST_ON_TMPFS(every_directory_is_synced_by_itself_on_an_old_kernel),
		NAMED_TEST_ON_TMPFS(every_directory_is_synced_by_itself_on_an_old_kernel),
		ARENA_TEST(few_files_are_synced_by_themselves),
		NAMED_TEST(few_files_are_synced_by_themselves),
		ARENA_TEST(a_file_takes_few_calls),
		NAMED_TEST(a_file_takes_few_calls),
		ARENA_TEST(what_is_dropped_never_appears),
		NAMED_TEST(what_is_dropped_never_appears),
		ARENA_TEST_ON_TMPFS(what_is_dropped_never_appears),
		NAMED_TEST_ON_TMPFS(what_is_dropped_never_appears),
		ARENA_TEST(threads_write_side_by_side),
		NAMED_TEST(threads_write_side_by_side),
		ARENA_TEST_ON_TMPFS(threads_write_side_by_side),
		NAMED_TEST_ON_TMPFS(threads_write_side_by_side),
		ARENA_TEST(a_file_has_no_name_before_its_own),
		ARENA_TEST_ON_TMPFS(a_file_has_no_name_before_its_own),
		ARENA_TEST(descriptors_that_are_used_up_give_way_to_names),
		ARENA_TEST_ON_TMPFS(descriptors_that_are_used_up_give_way_to_names),
		ARENA_TEST(a_way_that_is_refused_gives_way_to_the_next),
		ARENA_TEST_ON_TMPFS(a_way_that_is_refused_gives_way_to_the_next),
		ARENA_TEST(a_file_that_cannot_be_opened_without_a_name_has_one),
		ARENA_TEST_ON_TMPFS(a_file_that_cannot_be_opened_without_a_name_has_one),
		ARENA_TEST(ordinary_users_write_without_a_name_too),
		ARENA_TEST_ON_TMPFS(ordinary_users_write_without_a_name_too),
		ARENA_TEST(what_may_be_replaced_is),
		NAMED_TEST(what_may_be_replaced_is),
		ARENA_TEST_ON_TMPFS(what_may_be_replaced_is),
		NAMED_TEST_ON_TMPFS(what_may_be_replaced_is),
		NAMED_TEST(without_renameat2_flags_a_link_does_the_same),
		NAMED_TEST_ON_TMPFS(without_renameat2_flags_a_link_does_the_same),
		ARENA_TEST(a_directory_that_is_not_known_fails_its_file_alone),
		NAMED_TEST(a_directory_that_is_not_known_fails_its_file_alone),
		NAMED_TEST(a_staging_file_that_was_meddled_with_is_not_committed),
		NAMED_TEST_ON_TMPFS(a_staging_file_that_was_meddled_with_is_not_committed),
		ARENA_TEST(what_is_no_name_time_owner_or_target_is_refused),
		ARENA_TEST(a_failed_sync_fails_all_that_were_staged),
		NAMED_TEST(a_failed_sync_fails_all_that_were_staged),
		ARENA_TEST(names_that_are_not_durable_are_errors_though_visible),
		NAMED_TEST(names_that_are_not_durable_are_errors_though_visible),
		ARENA_TEST(a_full_disk_fails_what_does_not_fit_and_no_more),
		NAMED_TEST(a_full_disk_fails_what_does_not_fit_and_no_more),
		ARENA_TEST(a_file_size_limit_is_an_answer_and_no_signal),
		ARENA_TEST(what_a_killed_receiver_left_is_removed_by_the_next),
		NAMED_TEST(what_a_killed_receiver_left_is_removed_by_the_next),
		ARENA_TEST_ON_TMPFS(what_a_killed_receiver_left_is_removed_by_the_next),
		NAMED_TEST_ON_TMPFS(what_a_killed_receiver_left_is_removed_by_the_next),
		ARENA_TEST(two_receivers_do_not_meet),
	};

	(void)mounts_are_private();
	return RUN_TESTS("batch", tests);
}
