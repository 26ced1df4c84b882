/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store_fault_test.c - every system call of every operation of the store fails: once, for good, and
 * all calls of its kind for good, each in several ways. After each: no descriptor lost, the visible
 * name absent, old or complete, nothing left in staging, a named outcome, and never a success that
 * is none. Then the same operation works again.
 */
#include "batch_kit.h"
#include "store_kit.h"
#include "tree_manifest.h"

#include "store/digest.h"
#include "store/dirs.h"
#include "store/prune.h"
#include "store/root.h"
#include "store/scratch.h"
#include "store/source.h"
#include "store/walk.h"
#include "store/xattrs.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define SIZE      300001
#define SMALL     8192
#define OLD_SIZE  777
#define OLD       1
#define NEW       2
#define NTH_LIMIT 200 /* no operation makes so many calls: a sweep that gets here does not end */

struct way {
	enum sys_fault_kind kind;
	int error;
};

static const struct way ways[] = {
	{ SYS_FAULT_ERRNO, EIO },
	{ SYS_FAULT_ERRNO, ENOSPC },
	{ SYS_FAULT_ERRNO, EDQUOT },
	{ SYS_FAULT_ERRNO, EPERM },
	{ SYS_FAULT_ERRNO, EACCES },
	{ SYS_FAULT_ERRNO, EROFS },
	{ SYS_FAULT_ERRNO, ENOMEM },
	{ SYS_FAULT_ERRNO, EMFILE },
	{ SYS_FAULT_ERRNO, EINVAL },
	{ SYS_FAULT_ERRNO, ENOSYS },
	{ SYS_FAULT_ERRNO, EOPNOTSUPP },
	{ SYS_FAULT_EINTR, 0 },
	{ SYS_FAULT_SHORT, 0 },
};

static const enum sys_call store_calls[] = { SYS_OPEN, SYS_MKDIR, SYS_RENAME, SYS_LINK, SYS_STAT,
	SYS_FALLOCATE, SYS_FTRUNCATE, SYS_FSYNC, SYS_CHMOD, SYS_UTIMENS, SYS_FLOCK, SYS_FCNTL,
	SYS_READ, SYS_PREAD, SYS_UNLINK, SYS_READDIR, SYS_READLINK, SYS_WRITE, SYS_SYNCFS,
	SYS_SYMLINK, SYS_CHOWN, SYS_UNAME, SYS_LISTXATTR, SYS_GETXATTR, SYS_SETXATTR,
	SYS_REMOVEXATTR };

/* What an operation under test is given, and what it tells. */
struct trial {
	struct arena *arena;
	struct sys_fault fault;
	int variant;
	/* out */
	bool struck;
	enum sys_call struck_call;
	bool succeeded;
};

static void begin(struct trial *trial)
{
	sys_fault_arm(&trial->fault);
}

static void end(struct trial *trial, int r, const struct zh_error *err)
{
	trial->struck = sys_fault_struck() > 0;
	trial->struck_call = sys_fault_struck_call();
	sys_fault_arm(NULL);
	trial->succeeded = r >= 0;
	if (r >= 0) {
		if (err)
			assert_false(err_is_set(err));
		return;
	}
	assert_true(trial->struck); /* nothing else was wrong */
	if (err) {
		assert_true(err->outcome != ZH_OK && err->outcome != ZH_USAGE);
		assert_true(err->errnum > 0);
		assert_string_not_equal(zh_outcome_name(err->outcome), "UNKNOWN");
		assert_true(err->stage[0] != '\0' && err->text[0] != '\0');
	}
	if (trial->fault.kind != SYS_FAULT_ERRNO)
		fail_msg("an interruption or a short call became an error: %d", r);
}

typedef void operation(struct trial *trial);

/* Runs one way of failing, call after call, until an operation ends without meeting it. */
static size_t sweep_way(struct arena *a, operation *run, int variant, const struct sys_fault *fault)
{
	size_t points = 0;

	for (uint64_t nth = 1;; nth++) {
		struct trial trial = { .arena = a, .variant = variant, .fault = *fault };
		size_t fds = fd_count();
		trial.fault.nth = nth;
		run(&trial);
		assert_int_equal(fd_count(), fds);
		if (!trial.struck) {
			assert_true(trial.succeeded);
			return points;
		}
		points++;
		assert_true(nth < NTH_LIMIT);
	}
}

static size_t sweep_variant(struct arena *a, operation *run, int variant, const struct way *way)
{
	struct sys_fault fault = {
		.kind = way->kind, .call = SYS_CALL_COUNT, .error = way->error, .times = 1
	};
	size_t points = sweep_way(a, run, variant, &fault);

	if (way->kind == SYS_FAULT_EINTR)
		return points; /* for good it would be asked for ever */
	fault.times = 0;
	points += sweep_way(a, run, variant, &fault);
	/* the clean-up after a failure meets the same failure, but its other calls work */
	for (size_t i = 0; i < ARRAY_LEN(store_calls); i++) {
		fault.call = store_calls[i];
		points += sweep_way(a, run, variant, &fault);
	}
	return points;
}

static void sweep(void **state, operation *run, int variants)
{
	struct arena *a = arena_of(state);
	size_t points = 0;

	for (int variant = 0; variant < variants; variant++)
		for (size_t i = 0; i < ARRAY_LEN(ways); i++)
			points += sweep_variant(a, run, variant, &ways[i]);
	print_message("# %zu points of failure\n", points);
	assert_true(points > 0);
}

/* A file may stay behind when its own removal was made to fail, and only then. */
static bool may_stay(const struct trial *trial)
{
	bool all_calls = trial->fault.call == SYS_CALL_COUNT && trial->fault.times == 0;

	return trial->struck && (trial->struck_call == SYS_UNLINK || all_calls);
}

static void check_staging(const struct trial *trial)
{
	if (kit_staged(trial->arena) != 0 && !may_stay(trial))
		fail_msg("left in staging after call %llu (%s) failed with %d",
			(unsigned long long)trial->fault.nth, sys_call_text(trial->struck_call),
			trial->fault.error);
}

/* ------------------------------------------------------------------ operations -----------------
 */

static void run_partial_open(struct trial *trial)
{
	struct arena *a = trial->arena;
	struct staging_key key = kit_key(a->root, "file", SIZE);
	struct staging staging;
	struct partial partial;
	struct zh_error err;
	struct stat st;
	bool takes_over = trial->variant == 1;

	if (takes_over) { /* an older one is there */
		staging_init(&staging, a->root);
		struct partial older = kit_received(&staging, a->root, "file", SIZE, OLD);
		partial_keep(&older);
		staging_fini(&staging);
	}
	err_init(&err);
	begin(trial);
	staging_init(&staging, a->root);
	int r = partial_open(&staging, &key, &partial, &err);
	end(trial, r, &err);
	if (r == 0) {
		static const uint8_t zeros[4096];
		uint8_t bytes[4096];
		assert_int_equal(fstat(partial.fd, &st), 0);
		assert_int_equal(st.st_size, SIZE);
		assert_int_equal(pread(partial.fd, bytes, sizeof(bytes), 0), sizeof(bytes));
		assert_memory_equal(bytes, zeros, sizeof(bytes));
		assert_int_equal(kit_staged(a), 1);
	} else {
		assert_int_equal(partial.fd, -1);
		if (!takes_over)
			check_staging(trial);
	}
	partial_discard(&staging, &partial);
	staging_fini(&staging);
	/* whatever stayed, the next attempt works and cleans up */
	staging_init(&staging, a->root);
	assert_int_equal(kit_open(&staging, &key, &partial), ZH_OK);
	partial_discard(&staging, &partial);
	staging_fini(&staging);
	assert_int_equal(kit_staged(a), 0);
}

static bool is_new(const struct arena *a)
{
	struct stat st;

	return random_at(a->root, "file", SIZE, NEW) && fstatat(a->root, "file", &st, 0) == 0 &&
	       (st.st_mode & 07777) == 0644 && st.st_mtim.tv_sec == KIT_MTIME_S &&
	       st.st_mtim.tv_nsec == (long)KIT_MTIME_NS;
}

static bool is_old(const struct arena *a, bool was_absent)
{
	if (was_absent)
		return faccessat(a->root, "file", F_OK, AT_SYMLINK_NOFOLLOW) != 0;
	return random_at(a->root, "file", OLD_SIZE, OLD);
}

/* Variants: durability (3) x no_clobber onto nothing, or replacing a file, or onto nothing (3). */
static void run_commit(struct trial *trial)
{
	enum { NO_CLOBBER, REPLACES, ONTO_NOTHING, TARGETS };
	struct arena *a = trial->arena;
	struct commit commit = kit_commit(a->root, "file");
	bool absent = trial->variant % TARGETS != REPLACES;
	struct staging staging;
	struct zh_error err;

	commit.no_clobber = trial->variant % TARGETS == NO_CLOBBER;
	commit.durability = (enum zh_durability)(trial->variant / TARGETS);
	(void)unlinkat(a->root, "file", 0);
	if (!absent)
		random_file(a->root, "file", OLD_SIZE, OLD);
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", SIZE, NEW);
	assert_int_equal(pwrite(partial.fd, "padding", 7, SIZE), 7); /* so that it is cut, too */

	err_init(&err);
	begin(trial);
	int r = commit_file(&staging, &partial, &commit, &err);
	end(trial, r, &err);

	assert_int_equal(partial.fd, -1);
	check_staging(trial);
	if (r == 0) {
		assert_true(is_new(a)); /* never a false success */
	} else if (!is_old(a, absent)) {
		/* only when all that failed is the directory's fsync may the new name be there */
		assert_true(is_new(a));
		assert_int_equal(commit.durability, ZH_DURABLE_FULL);
		assert_string_equal(err.stage, "fsync directory");
	}
	staging_fini(&staging);
	/* and the next attempt is none the worse */
	commit.no_clobber = false;
	staging_init(&staging, a->root);
	partial = kit_received(&staging, a->root, "file", SIZE, NEW);
	assert_int_equal(kit_finish(&staging, &partial, &commit), ZH_OK);
	assert_true(is_new(a));
	staging_fini(&staging);
	assert_int_equal(kit_staged(a), 0);
}

static bool has_xattr(const struct arena *a, const char *name, const char *value)
{
	int fd = openat(a->root, "file", O_RDONLY | O_CLOEXEC);
	char bytes[16];
	ssize_t length = fgetxattr(fd, name, bytes, sizeof(bytes));

	close(fd);
	return length == (ssize_t)strlen(value) && memcmp(bytes, value, strlen(value)) == 0;
}

/* What "file" is to have. */
static struct xattrs *new_xattrs(void)
{
	struct xattrs *xattrs = xattrs_new(XATTR_USER, 2, 64);

	assert_non_null(xattrs);
	xattrs_add(xattrs, "user.a", 6, "new", 3);
	xattrs_add(xattrs, "user.b", 6, "2", 1);
	return xattrs;
}

/* "file" with others. */
static int old_xattrs(const struct arena *a, mode_t mode)
{
	int fd;

	(void)unlinkat(a->root, "file", 0);
	fd = openat(a->root, "file", O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	assert_true(fd >= 0);
	assert_int_equal(fsetxattr(fd, "user.a", "old", 3, 0), 0);
	assert_int_equal(fsetxattr(fd, "user.z", "other", 5, 0), 0);
	assert_int_equal(fchmod(fd, mode), 0);
	return fd;
}

static void run_commit_with_xattrs(struct trial *trial)
{
	struct arena *a = trial->arena;
	struct commit commit = kit_commit(a->root, "file");
	struct xattrs *xattrs = new_xattrs();
	struct staging staging;
	struct zh_error err;

	commit.xattrs = xattrs;
	commit.durability = ZH_DURABLE_NONE;
	(void)unlinkat(a->root, "file", 0);
	random_file(a->root, "file", OLD_SIZE, OLD);
	staging_init(&staging, a->root);
	struct partial partial = kit_received(&staging, a->root, "file", SIZE, NEW);
	err_init(&err);
	begin(trial);
	int r = commit_file(&staging, &partial, &commit, &err);
	end(trial, r, &err);
	check_staging(trial);
	if (r == 0)
		assert_true(
			is_new(a) && has_xattr(a, "user.a", "new") && has_xattr(a, "user.b", "2"));
	else
		assert_true(is_old(a, false));
	staging_fini(&staging);
	free(xattrs);
}

static void run_xattrs_read(struct trial *trial)
{
	int fd = old_xattrs(trial->arena, 0644);
	struct xattrs *xattrs = NULL;

	begin(trial);
	int r = xattrs_read(fd, XATTR_USER, &xattrs);
	end(trial, r, NULL);
	/* a file system may say that it has none */
	if (r == 0 && !(trial->struck && trial->fault.error == EOPNOTSUPP)) {
		assert_int_equal(xattrs->count, 2);
		assert_memory_equal(xattrs->item[0].value, "old", 3);
		assert_memory_equal(xattrs->item[1].value, "other", 5);
	}
	free(xattrs);
	close(fd);
}

/* Variants: the owner may write to the file, or not. */
static void run_xattrs_apply(struct trial *trial)
{
	struct arena *a = trial->arena;
	mode_t mode = trial->variant == 0 ? 0644 : 0444;
	int fd = old_xattrs(a, mode);
	struct xattrs *xattrs = new_xattrs();
	struct zh_error err;
	struct stat st;

	err_init(&err);
	begin(trial);
	int r = xattrs_apply(fd, xattrs, &err);
	end(trial, r, &err);
	if (r == 0) {
		assert_true(has_xattr(a, "user.a", "new") && has_xattr(a, "user.b", "2"));
		bool none_listed = trial->struck && trial->fault.error == EOPNOTSUPP;
		assert_true(none_listed || !has_xattr(a, "user.z", "other"));
	}
	assert_int_equal(fstat(fd, &st), 0);
	assert_true((st.st_mode & 07777) == mode || trial->struck_call == SYS_CHMOD);
	err_init(&err);
	assert_int_equal(xattrs_apply(fd, xattrs, &err), 0);
	assert_true(has_xattr(a, "user.a", "new") && has_xattr(a, "user.b", "2"));
	assert_false(has_xattr(a, "user.z", "other"));
	free(xattrs);
	close(fd);
}

#define BATCH_MOST 9

/* Variants: three files in one directory by durability (3), or one in each of nine directories. */
struct batch_trial {
	struct batch_kit kit;
	struct batch_file file[BATCH_MOST];
	struct batch_file *written[BATCH_MOST];
	char name[BATCH_MOST][8];
	size_t count;
	struct zh_error err; /* the first */
	int r;
};

static void batch_trial_failed(struct batch_trial *batch, int r, const struct zh_error *err)
{
	assert_true(err_is_set(err));
	assert_string_not_equal(err->file, "");
	if (batch->r < 0)
		return;
	batch->r = r;
	batch->err = *err;
}

/* The first is new and may not replace, the second a link in the place of a file, the rest files in
 * the place of links. */
static void batch_trial_prepare(struct arena *a, struct batch_trial *batch, int variant)
{
	bool spread = variant >= 3;

	tree_remove(a->root_path);
	assert_int_equal(mkdir(a->root_path, 0755), 0);
	close(a->root);
	a->root = open(a->root_path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_true(a->root >= 0);
	*batch = (struct batch_trial){ .count = spread ? BATCH_MOST : 3 };
	err_init(&batch->err);
	assert_int_equal(dirs_new(a->root, 4, &batch->kit.dirs), 0);
	for (size_t i = 0; i < batch->count; i++) {
		char path[20];
		bool made;
		(void)snprintf(batch->name[i], sizeof(batch->name[i]), "%zu", i);
		(void)snprintf(path, sizeof(path), spread ? "d%zu/%zu" : "%zu", i, i);
		batch->file[i] = batch_kit_file(batch->name[i]);
		batch->file[i].parent = spread ? i + 1 : 0;
		batch->file[i].link = i == 1;
		batch->file[i].no_clobber = i == 0;
		batch->file[i].set_owner = i == 2;
		batch->file[i].uid = geteuid();
		batch->file[i].gid = getegid();
		(void)snprintf(path, sizeof(path), "d%zu", i);
		if (spread)
			assert_int_equal(
				dirs_make(batch->kit.dirs, i + 1, 0, path, 0755, &made), 0);
		(void)snprintf(path, sizeof(path), spread ? "d%zu/%zu" : "%zu", i, i);
		if (i == 1)
			random_file(a->root, path, OLD_SIZE, OLD);
		if (i > 1)
			assert_int_equal(symlinkat("../outside/file", a->root, path), 0);
	}
}

/* Absent or old, or complete. */
static void batch_trial_check(struct arena *a, const struct batch_trial *batch, size_t i, bool new)
{
	const struct batch_file *file = &batch->file[i];
	char path[20];

	if (file->parent)
		(void)snprintf(path, sizeof(path), "d%zu/%zu", i, i);
	else
		(void)snprintf(path, sizeof(path), "%zu", i);
	if (new && file->link)
		assert_true(batch_kit_link_is(a->root, path, "target"));
	else if (new)
		assert_true(random_at(a->root, path, SMALL, NEW));
	else if (i == 0)
		assert_int_equal(faccessat(a->root, path, F_OK, AT_SYMLINK_NOFOLLOW), -1);
	else if (i == 1)
		assert_true(random_at(a->root, path, OLD_SIZE, OLD));
	else
		assert_true(batch_kit_link_is(a->root, path, "../outside/file"));
}

static void batch_trial_run(struct arena *a, struct batch_trial *batch, int durability)
{
	static uint8_t bytes[SMALL];
	size_t written = 0;

	random_fill(bytes, SMALL, NEW, 0);
	staging_init(&batch->kit.staging, a->root);
	assert_int_equal(batch_new(&batch->kit.staging, batch->kit.dirs, &batch->kit.batch), 0);
	for (size_t i = 0; i < batch->count; i++) {
		struct batch_file *file = &batch->file[i];
		struct zh_error err;
		err_init(&err);
		int r = file->link ? batch_write(batch->kit.batch, file, "target", 6, &err)
				   : batch_write(batch->kit.batch, file, bytes, SMALL, &err);
		assert_true((r == 0) == (file->staged != 0));
		if (r == 0)
			batch->written[written++] = file;
		else
			batch_trial_failed(batch, r, &err);
	}
	batch_commit(batch->kit.batch, batch->written, written, (enum zh_durability)durability);
	for (size_t i = 0; i < written; i++)
		if (batch->written[i]->error)
			batch_trial_failed(
				batch, -batch->written[i]->error->errnum, batch->written[i]->error);
	batch_free(batch->kit.batch);
}

static void run_batch(struct trial *trial)
{
	struct arena *a = trial->arena;
	enum zh_durability durability = (enum zh_durability)(trial->variant % 3);
	static struct batch_trial batch;

	batch_trial_prepare(a, &batch, trial->variant);
	begin(trial);
	batch_trial_run(a, &batch, (int)durability);
	end(trial, batch.r, &batch.err);
	check_staging(trial);
	for (size_t i = 0; i < batch.count; i++) {
		const struct zh_error *error = batch.file[i].error;
		bool was_written = false;
		for (size_t w = 0; w < batch.count; w++)
			was_written |= batch.written[w] == &batch.file[i];
		/* only when all that failed is the sync of the names may the new one be there */
		bool visible = error && strcmp(error->stage, "fsync directory") == 0;
		if (visible)
			assert_int_equal(durability, ZH_DURABLE_FULL);
		batch_trial_check(a, &batch, i, was_written && (!error || visible));
		assert_int_equal(batch.file[i].staged, 0);
		free(batch.file[i].error);
	}
	dirs_free(batch.kit.dirs);
	staging_fini(&batch.kit.staging);
	/* and the next attempt is none the worse, and cleans up */
	batch_trial_prepare(a, &batch, trial->variant);
	batch_trial_run(a, &batch, ZH_DURABLE_NONE);
	assert_int_equal(batch.r, 0);
	dirs_free(batch.kit.dirs);
	staging_fini(&batch.kit.staging);
	assert_int_equal(kit_staged(a), 0);
}

/* To remove what a killed receiver has left is a favour: it never hinders the next one. */
static void run_leftovers(struct trial *trial)
{
	struct arena *a = trial->arena;
	static const char left[] = STAGING_DIRECTORY "/s.0000000000000001";
	struct batch_file file = batch_kit_file("file");
	struct staging staging;
	struct scratch scratch;
	struct zh_error err;

	(void)mkdirat(a->root, STAGING_DIRECTORY, 0700);
	assert_int_equal(mkdirat(a->root, left, 0700), 0);
	text_file(a->root, STAGING_DIRECTORY "/s.0000000000000001/1", "left");
	err_init(&err);
	begin(trial);
	staging_init(&staging, a->root);
	int r = scratch_open(&staging, &scratch, &err);
	end(trial, r, &err);
	assert_true((r == 0) == (scratch.dir >= 0));
	scratch_close(&staging, &scratch);
	staging_fini(&staging);
	/* the next one has it removed */
	struct batch_kit kit;
	batch_kit_init(&kit, a->root);
	assert_int_equal(batch_kit_write(&kit, &file, SMALL, NEW), ZH_OK);
	batch_drop(kit.batch, &file);
	batch_kit_fini(&kit);
	assert_int_equal(kit_staged(a), 0);
}

/* Variants: by a user's path, beneath a root, beneath and empty. */
static void run_source_open(struct trial *trial)
{
	struct arena *a = trial->arena;
	uint64_t size = trial->variant == 2 ? 0 : SIZE;
	struct source source;
	struct zh_error err;

	(void)mkdirat(a->root, "d", 0755);
	random_file(a->root, "d/file", size, NEW);
	err_init(&err);
	begin(trial);
	int r = source_open(a->root, "d/file", trial->variant > 0, &source, &err);
	end(trial, r, &err);
	if (r == 0) {
		assert_int_equal(source.size, size);
		assert_true(random_is(source.fd, size, NEW));
		begin(trial);
		int same = source_unchanged(&source);
		sys_fault_arm(NULL);
		assert_true(same == 0 || same == -trial->fault.error);
	} else {
		assert_int_equal(source.fd, -1);
	}
	source_close(&source);
}

static void run_root_enter(struct trial *trial)
{
	struct arena *a = trial->arena;
	struct stat expected, st;

	(void)mkdirat(a->root, "d", 0755);
	assert_int_equal(fstatat(a->root, "d", &expected, 0), 0);
	begin(trial);
	int fd = root_enter(a->root, "d");
	end(trial, fd, NULL);
	if (fd >= 0) {
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_ino, expected.st_ino);
		close(fd);
	}
}

static void run_root_open(struct trial *trial)
{
	struct zh_error err;

	err_init(&err);
	begin(trial);
	int fd = root_open(trial->arena->root_path, &err);
	end(trial, fd, &err);
	sys_close(fd);
}

static void run_root_look(struct trial *trial)
{
	struct arena *a = trial->arena;
	enum root_kind kind = ROOT_ABSENT;
	uint64_t size = 0;

	random_file(a->root, "file", SIZE, NEW);
	begin(trial);
	int r = root_look(a->root, "file", &kind, &size);
	end(trial, r, NULL);
	if (r == 0) {
		assert_int_equal(kind, ROOT_FILE);
		assert_int_equal(size, SIZE);
	}
}

static void run_digest(struct trial *trial)
{
	enum { LEAVES = 3 };
	static const uint64_t size = 2 * MIB + 4567;
	static uint8_t bytes[2 * MIB + 4567];
	struct digest expected[LEAVES], got[LEAVES];
	struct digester digester;
	struct leaf_run run;

	assert_int_equal(leaf_run_init(&run), 0);
	leaf_run_begin(&run, 0, expected, LEAVES);
	random_fill(bytes, sizeof(bytes), NEW, 0);
	leaf_run_add(&run, bytes, sizeof(bytes));
	assert_int_equal(leaf_run_end(&run), LEAVES);
	leaf_run_fini(&run);
	if (faccessat(trial->arena->root, "file", F_OK, 0) != 0)
		random_file(trial->arena->root, "file", size, NEW);
	int fd = openat(trial->arena->root, "file", O_RDONLY | O_CLOEXEC);

	begin(trial);
	int r = digester_init(&digester);
	if (r == 0)
		r = digester_read(&digester, fd, (struct zh_extent){ 0, size }, got);
	end(trial, r, NULL);
	if (r == 0)
		assert_memory_equal(got, expected, sizeof(expected));
	else
		assert_int_equal(r, -trial->fault.error);
	digester_fini(&digester);
	close(fd);
}

/* The directory three below the top; none of them stays open. */
static void run_dirs_get(struct trial *trial)
{
	struct arena *a = trial->arena;
	struct dirs *dirs = NULL;
	struct stat expected, st;
	int fd = -1;

	(void)mkdirat(a->root, "d", 0755);
	(void)mkdirat(a->root, "d/d", 0755);
	(void)mkdirat(a->root, "d/d/d", 0755);
	assert_int_equal(fstatat(a->root, "d/d/d", &expected, 0), 0);
	begin(trial);
	int r = dirs_new(a->root, 0, &dirs);
	for (uint64_t id = 1; r == 0 && id <= 3; id++)
		r = dirs_add(dirs, id, id - 1, "d");
	if (r == 0)
		r = dirs_get(dirs, 3, &fd);
	end(trial, r, NULL);
	if (dirs) { /* none the worse for a failure */
		if (r < 0)
			assert_int_equal(dirs_get(dirs, 3, &fd), 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(st.st_ino, expected.st_ino);
		dirs_put(dirs, 3);
	}
	dirs_free(dirs);
}

/* Variants: a new directory, one that is there. */
static void run_dirs_make(struct trial *trial)
{
	struct arena *a = trial->arena;
	bool there = trial->variant == 1, made = true;
	struct dirs *dirs = NULL;
	int fd;

	(void)unlinkat(a->root, "made", AT_REMOVEDIR);
	if (there)
		assert_int_equal(mkdirat(a->root, "made", 0755), 0);
	assert_int_equal(dirs_new(a->root, 1, &dirs), 0);
	begin(trial);
	int r = dirs_make(dirs, 1, 0, "made", 0755, &made);
	end(trial, r, NULL);
	bool exists = faccessat(a->root, "made", F_OK, 0) == 0;
	if (r == 0) {
		assert_true(exists);
		assert_int_equal(made, !there);
	} else {
		assert_false(made);
		assert_int_equal(dirs_get(dirs, 1, &fd), -ENOENT);
		if (exists != there && !may_stay(trial))
			fail_msg("left behind after %s failed with %d",
				sys_call_text(trial->struck_call), trial->fault.error);
		assert_int_equal(dirs_make(dirs, 1, 0, "made", 0755, &made), 0);
	}
	assert_int_equal(dirs_get(dirs, 1, &fd), 0);
	dirs_put(dirs, 1);
	dirs_free(dirs);
}

/* Goes to the end; counts what is given, and keeps the first failure. */
static int walk_all(struct walk *walk, size_t *ret_given, struct zh_error *err)
{
	struct walk_entry entry;
	size_t inside = 0;
	int r;

	while ((r = walk_next(walk, &entry)) > 0) {
		inside += entry.kind == WALK_DIRECTORY;
		inside -= entry.kind == WALK_LEAVE;
		if (entry.kind != WALK_FAILED)
			(*ret_given)++;
		else if (!err_is_set(err))
			*err = entry.error;
	}
	assert_int_equal(r, 0);
	assert_int_equal(inside, 0);
	return err_is_set(err) ? -err->errnum : 0;
}

/* Variants: directories stay open, or none does. */
static void run_walk(struct trial *trial)
{
	struct arena *a = trial->arena;
	struct dirs *dirs = NULL;
	struct walk *walk = NULL;
	uint64_t next_id = 1;
	struct zh_error err;
	size_t given = 0;

	(void)mkdirat(a->root, "d", 0755);
	(void)mkdirat(a->root, "d/empty", 0755);
	(void)symlinkat("target", a->root, "d/link");
	(void)mkfifoat(a->root, "d/fifo", 0600);
	random_file(a->root, "file", 1, NEW);
	err_init(&err);
	begin(trial);
	int r = dirs_new(a->root, trial->variant == 0 ? 8 : 0, &dirs);
	if (r == 0)
		r = walk_new(dirs, 0, NULL, NULL, true, &next_id, &walk);
	if (r == 0)
		r = walk_all(walk, &given, &err);
	end(trial, r, err_is_set(&err) ? &err : NULL);
	if (r == 0) /* never is something missing without a word */
		assert_int_equal(given, 7);
	walk_free(walk);
	dirs_free(dirs);
}

static bool goes_on_for_ever(void *context)
{
	(void)context;
	return true;
}

static void count_what_stays(void *context, const char *path, int r, const char *what)
{
	assert_true(r < 0);
	assert_true(path[0] != '\0' && what[0] != '\0');
	(*(size_t *)context)++;
}

/* Prunes dir of all but names; how many are told to stay. */
static size_t prune_once(int dir, const struct prune_names *names)
{
	struct prune *prune = calloc(1, sizeof(*prune));
	size_t stays = 0;

	assert_non_null(prune);
	prune->goes_on = goes_on_for_ever;
	prune->stays = count_what_stays;
	prune->context = &stays;
	TEXT_SET(prune->path, "pruned");
	assert_int_equal(prune_directory(prune, dir, names), 0);
	free(prune);
	return stays;
}

static void run_prune(struct trial *trial)
{
	static const char *const goes[] = { "pruned/gone", "pruned/d", "pruned/d/file",
		"pruned/d/link", "pruned/d/e", "pruned/d/e/file" };
	struct arena *a = trial->arena;
	struct prune_names names = { 0 };
	size_t left = 0;

	(void)mkdirat(a->root, "pruned", 0755);
	(void)mkdirat(a->root, "pruned/named", 0755);
	(void)mkdirat(a->root, "pruned/d", 0755);
	(void)mkdirat(a->root, "pruned/d/e", 0755);
	random_file(a->root, "pruned/named/file", SMALL, OLD);
	text_file(a->root, "pruned/gone", "x");
	text_file(a->root, "pruned/d/file", "x");
	text_file(a->root, "pruned/d/e/file", "x");
	(void)symlinkat("../../outside", a->root, "pruned/d/link");
	assert_int_equal(prune_names_add(&names, "named", 5), 0);
	assert_int_equal(prune_names_add(&names, "absent", 6), 0);
	int dir = openat(a->root, "pruned", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	begin(trial);
	size_t stays = prune_once(dir, &names);
	end(trial, stays > 0 ? -EIO : 0, NULL);
	assert_true(random_at(a->root, "pruned/named/file", SMALL, OLD));
	for (size_t i = 0; i < ARRAY_LEN(goes); i++)
		left += faccessat(a->root, goes[i], F_OK, AT_SYMLINK_NOFOLLOW) == 0;
	if (stays == 0) /* never does something stay without a word */
		assert_int_equal(left, 0);
	/* whatever stayed, the next attempt works */
	assert_int_equal(prune_once(dir, &names), 0);
	assert_int_equal(entry_count(a->root, "pruned"), 1);
	assert_true(random_at(a->root, "pruned/named/file", SMALL, OLD));
	prune_names_free(&names);
	close(dir);
}

/* Variants: a tree that is right, then one with another content. */
static void run_verify(struct trial *trial)
{
	struct arena *a = trial->arena;
	struct zh_verify_options options = zh_verify_options_default();
	char manifest[ARENA_PATH_CAP + 8];
	struct zh_verifier *verifier;
	bool is_wrong = trial->variant == 1;

	(void)snprintf(manifest, sizeof(manifest), "%s/m", a->path);
	if (faccessat(a->root, "d", F_OK, 0) != 0) {
		assert_int_equal(mkdirat(a->root, "d", 0755), 0);
		assert_int_equal(symlinkat("nowhere", a->root, "d/link"), 0);
		random_file(a->root, "d/file", SIZE, NEW);
		tree_manifest(a->root, manifest);
	}
	if (is_wrong && !random_at(a->root, "d/file", SIZE, OLD))
		random_file(a->root, "d/file", SIZE, OLD);
	options.manifest = manifest;
	options.directory = a->root_path;
	options.flags = ZH_VERIFY_EXTRA;
	options.threads = 1;
	assert_int_equal(zh_verifier_new(&options, &verifier), 0);
	begin(trial);
	int outcome = zh_verifier_run(verifier);
	assert_int_not_equal(outcome, is_wrong ? ZH_OK : ZH_VERIFY);
	bool expected = outcome == (is_wrong ? ZH_VERIFY : ZH_OK);
	end(trial, expected ? 0 : -1, expected ? NULL : zh_verifier_error(verifier));
	zh_verifier_free(verifier);
}

/* ------------------------------------------------------------------ promises -------------------
 */

static void a_partial_is_opened_whole_or_not_at_all(void **state)
{
	sweep(state, run_partial_open, 2);
}

static void a_commit_is_seen_whole_or_not_at_all(void **state)
{
	sweep(state, run_commit, 9);
}

/* The arena of a test that needs extended attributes. */
static void need_xattrs(void **state)
{
	struct arena *a = arena_of(state);

	if (fsetxattr(a->root, "user.a", "", 0, 0) != 0)
		SKIP("no extended attributes here");
	assert_int_equal(fremovexattr(a->root, "user.a"), 0);
}

static void a_commit_with_attributes_has_all_of_them(void **state)
{
	need_xattrs(state);
	sweep(state, run_commit_with_xattrs, 1);
}

static void attributes_are_read_or_it_is_an_error(void **state)
{
	need_xattrs(state);
	sweep(state, run_xattrs_read, 1);
}

static void attributes_are_made_equal_or_it_is_an_error(void **state)
{
	need_xattrs(state);
	sweep(state, run_xattrs_apply, 2);
}

static void a_batch_is_seen_file_by_file_whole_or_not_at_all(void **state)
{
	/* of a disk's whole file system, syncfs waits for what everybody else writes */
	sweep(state, run_batch, arena_is_on(arena_of(state), TMPFS_MAGIC) ? 4 : 1);
}

/* As where every file has a staging name. */
static void a_batch_of_staging_names_is_seen_whole_or_not_at_all(void **state)
{
	rlim_t before = batch_kit_limit(KIT_ALL_NAMED);

	sweep(state, run_batch, arena_is_on(arena_of(state), TMPFS_MAGIC) ? 4 : 1);
	(void)batch_kit_limit(before);
}

static void leftovers_hinder_nobody(void **state)
{
	sweep(state, run_leftovers, 1);
}

static void a_source_is_opened_right_or_named_as_failed(void **state)
{
	sweep(state, run_source_open, 3);
}

static void a_directory_is_entered_or_refused(void **state)
{
	sweep(state, run_root_enter, 1);
}

static void a_root_is_opened_or_refused(void **state)
{
	sweep(state, run_root_open, 1);
}

static void a_name_is_told_right_or_not_at_all(void **state)
{
	sweep(state, run_root_look, 1);
}

static void a_numbered_directory_is_the_right_one_or_an_error(void **state)
{
	sweep(state, run_dirs_get, 1);
}

static void a_directory_is_made_and_known_or_neither(void **state)
{
	sweep(state, run_dirs_make, 2);
}

static void a_walk_is_complete_or_tells_what_is_missing(void **state)
{
	sweep(state, run_walk, 2);
}

static void what_is_not_named_goes_or_is_told(void **state)
{
	sweep(state, run_prune, 1);
}

static void a_digest_is_right_or_an_error(void **state)
{
	sweep(state, run_digest, 1);
}

static void a_tree_is_proven_right_or_not_at_all(void **state)
{
	sweep(state, run_verify, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_partial_is_opened_whole_or_not_at_all),
		ARENA_TEST_ON_TMPFS(a_partial_is_opened_whole_or_not_at_all),
		ARENA_TEST(a_commit_is_seen_whole_or_not_at_all),
		ARENA_TEST_ON_TMPFS(a_commit_is_seen_whole_or_not_at_all),
		ARENA_TEST(a_commit_with_attributes_has_all_of_them),
		ARENA_TEST_ON_TMPFS(a_commit_with_attributes_has_all_of_them),
		ARENA_TEST(attributes_are_read_or_it_is_an_error),
		ARENA_TEST(attributes_are_made_equal_or_it_is_an_error),
		ARENA_TEST_ON_TMPFS(attributes_are_made_equal_or_it_is_an_error),
		ARENA_TEST(a_batch_is_seen_file_by_file_whole_or_not_at_all),
		ARENA_TEST_ON_TMPFS(a_batch_is_seen_file_by_file_whole_or_not_at_all),
		ARENA_TEST(a_batch_of_staging_names_is_seen_whole_or_not_at_all),
		ARENA_TEST_ON_TMPFS(a_batch_of_staging_names_is_seen_whole_or_not_at_all),
		ARENA_TEST(leftovers_hinder_nobody),
		ARENA_TEST(a_source_is_opened_right_or_named_as_failed),
		ARENA_TEST_ON_TMPFS(a_source_is_opened_right_or_named_as_failed),
		ARENA_TEST(a_directory_is_entered_or_refused),
		ARENA_TEST(a_root_is_opened_or_refused),
		ARENA_TEST(a_name_is_told_right_or_not_at_all),
		ARENA_TEST(a_numbered_directory_is_the_right_one_or_an_error),
		ARENA_TEST(a_directory_is_made_and_known_or_neither),
		ARENA_TEST(a_walk_is_complete_or_tells_what_is_missing),
		ARENA_TEST(what_is_not_named_goes_or_is_told),
		ARENA_TEST_ON_TMPFS(what_is_not_named_goes_or_is_told),
		ARENA_TEST_ON_TMPFS(a_digest_is_right_or_an_error),
		ARENA_TEST(a_tree_is_proven_right_or_not_at_all),
		ARENA_TEST_ON_TMPFS(a_tree_is_proven_right_or_not_at_all),
	};

	return RUN_TESTS("store faults", tests);
}
