/* SPDX-License-Identifier: Apache-2.0 */
/* prune_test.c - what was not named goes, and nothing else does, whatever stands in the way. */
#include "store_kit.h"

#include "store/prune.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mount.h>
#include <unistd.h>

#define STAYS_MOST 16

/* A pruning and what is told of it. */
struct trial {
	struct arena *arena;
	struct prune *prune;
	struct prune_names names;
	char *stays[STAYS_MOST]; /* "path errno" */
	size_t count;
	size_t left;         /* entries until it is enough */
	const char *appears; /* is made when it goes on the next time */
	uint64_t spared;     /* inode */
};

static bool trial_goes_on(void *context)
{
	struct trial *trial = context;

	if (trial->appears && trial->left < SIZE_MAX)
		text_file(trial->arena->root, trial->appears, "x");
	if (trial->left == 0)
		return false;
	trial->left--;
	return true;
}

static void trial_stays(void *context, const char *path, int r, const char *what)
{
	struct trial *trial = context;

	assert_true(r < 0);
	assert_true(what[0] != '\0');
	assert_true(trial->count < STAYS_MOST);
	assert_true(asprintf(&trial->stays[trial->count++], "%s %d", path, -r) > 0);
}

static bool trial_spares(void *context, const struct stat *st)
{
	const struct trial *trial = context;

	return st->st_ino == trial->spared;
}

static void trial_begin(struct trial *trial, struct arena *a)
{
	*trial = (struct trial){ .arena = a, .left = SIZE_MAX };
	trial->prune = calloc(1, sizeof(*trial->prune));
	assert_non_null(trial->prune);
	trial->prune->goes_on = trial_goes_on;
	trial->prune->stays = trial_stays;
	trial->prune->context = trial;
}

static void trial_name(struct trial *trial, const char *name)
{
	assert_int_equal(prune_names_add(&trial->names, name, strlen(name)), 0);
}

static int trial_run(struct trial *trial)
{
	return prune_directory(trial->prune, trial->arena->root, &trial->names);
}

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* What stays has to be this, in the order of the paths, "; " between. */
static void trial_end(struct trial *trial, const char *expected)
{
	char all[2048] = "";
	size_t used = 0;

	qsort(trial->stays, trial->count, sizeof(*trial->stays), compare_lines);
	for (size_t i = 0; i < trial->count; i++) {
		used += (size_t)snprintf(
			all + used, sizeof(all) - used, "%s%s", i ? "; " : "", trial->stays[i]);
		assert_true(used < sizeof(all));
		free(trial->stays[i]);
	}
	assert_string_equal(all, expected);
	prune_names_free(&trial->names);
	free(trial->prune);
}

/* Prunes the root of all but names, ended by NULL; nothing stands in the way. */
static uint64_t prune_all_but(struct arena *a, const char *const *name)
{
	struct trial trial;
	uint64_t removed;

	trial_begin(&trial, a);
	for (; *name; name++)
		trial_name(&trial, *name);
	assert_int_equal(trial_run(&trial), 0);
	removed = trial.prune->removed;
	trial_end(&trial, "");
	return removed;
}

static bool is_there(const struct arena *a, const char *path)
{
	return faccessat(a->root, path, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

static void make_directory(const struct arena *a, const char *path)
{
	assert_int_equal(mkdirat(a->root, path, 0755), 0);
}

/* ------------------------------ what goes ---------------------------------------------- */

static void what_is_named_stays_with_all_that_is_in_it(void **state)
{
	struct arena *a = arena_of(state);
	uint64_t before;

	make_directory(a, "kept");
	make_directory(a, "kept/gone");
	text_file(a->root, "kept/gone/file", "x");
	text_file(a->root, "file", "x");
	text_file(a->root, "\xff\n* ", "x");
	assert_int_equal(symlinkat("../outside", a->root, "link"), 0);
	before = tree_hash(a->root);
	assert_int_equal(prune_all_but(a, (const char *const[]){ "file", "kept", "\xff\n* ", "link",
						  "absent", NULL }),
		0);
	assert_true(tree_hash(a->root) == before);
}

static void what_is_not_named_goes_whatever_it_is(void **state)
{
	struct arena *a = arena_of(state);

	make_directory(a, "d");
	make_directory(a, "d/e");
	make_directory(a, "d/e/empty");
	make_directory(a, "d/named"); /* there, but not here */
	text_file(a->root, "d/e/file", "x");
	text_file(a->root, "file", "x");
	text_file(a->root, "named", "x");
	text_file(a->root, "name", "x");
	text_file(a->root, "named2", "x");
	assert_int_equal(mkfifoat(a->root, "d/fifo", 0600), 0);
	assert_int_equal(mknodat(a->root, "d/e/socket", S_IFSOCK | 0600, 0), 0);
	assert_int_equal(prune_all_but(a, (const char *const[]){ "named", NULL }), 11 - 1);
	assert_int_equal(entry_count(a->root, "."), 1);
	assert_true(is_there(a, "named"));
	assert_int_equal(prune_all_but(a, (const char *const[]){ NULL }), 1);
	assert_int_equal(entry_count(a->root, "."), 0);
	assert_int_equal(prune_all_but(a, (const char *const[]){ NULL }), 0);
}

/* The canary is looked at after each test. */
static void in_a_dry_run_all_that_would_go_is_counted_and_stays(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_rules *rules;
	struct trial trial;

	make_directory(a, "d");
	make_directory(a, "d/e");
	make_directory(a, "d/empty");
	make_directory(a, "named");
	make_directory(a, "f");
	text_file(a->root, "d/e/file", "x");
	text_file(a->root, "f/kept.o", "x");
	text_file(a->root, "f/file", "x");
	text_file(a->root, "named/file", "x");
	assert_int_equal(symlinkat("d", a->root, "link"), 0);
	assert_int_equal(walk_rules_new(&rules), 0);
	assert_int_equal(walk_rules_add(rules, "*.o", true), 0);
	for (unsigned dry = 2; dry-- > 0;) {
		trial_begin(&trial, a);
		trial_name(&trial, "named");
		trial.prune->rules = rules;
		trial.prune->dry = dry;
		assert_int_equal(trial_run(&trial), 0);
		assert_int_equal(trial.prune->removed, 6);
		trial_end(&trial, "");
		assert_int_equal(entry_count(a->root, "."), dry ? 4 : 2);
		assert_int_equal(entry_count(a->root, "f"), dry ? 2 : 1);
		assert_int_equal(entry_count(a->root, "named"), 1);
		assert_int_equal(is_there(a, "d/e/file"), dry);
		assert_int_equal(is_there(a, "d/empty"), dry);
	}
	walk_rules_free(rules);
}

static void links_are_removed_and_never_followed(void **state)
{
	struct arena *a = arena_of(state);
	char outside[ARENA_PATH_CAP + 16];

	(void)snprintf(outside, sizeof(outside), "%s/outside", a->path);
	make_directory(a, "d");
	assert_int_equal(symlinkat("../outside", a->root, "up"), 0);
	assert_int_equal(symlinkat(outside, a->root, "absolute"), 0);
	assert_int_equal(symlinkat("../../outside", a->root, "d/up"), 0);
	assert_int_equal(symlinkat(".", a->root, "d/self"), 0);
	assert_int_equal(symlinkat("nowhere", a->root, "dangling"), 0);
	assert_int_equal(prune_all_but(a, (const char *const[]){ NULL }), 6);
	assert_int_equal(entry_count(a->root, "."), 0);
}

static void many_names_are_as_good_as_few(void **state)
{
	struct arena *a = arena_of(state);
	enum { FILES = 3000 };
	struct trial trial;
	char name[64];

	trial_begin(&trial, a);
	for (unsigned i = 0; i < FILES; i++) {
		(void)snprintf(name, sizeof(name), "file %u", i * 7919 % FILES);
		text_file(a->root, name, "");
		if (i % 3 > 0)
			trial_name(&trial, name);
		if (i % 3 == 2) /* twice */
			trial_name(&trial, name);
	}
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, FILES / 3);
	assert_int_equal(entry_count(a->root, "."), FILES - FILES / 3);
	trial_end(&trial, "");
	assert_int_equal(prune_all_but(a, (const char *const[]){ "file 7919", NULL }), 2000);
	assert_int_equal(entry_count(a->root, "."), 0);
}

/* ------------------------------ what stays --------------------------------------------- */

static void what_rules_leave_out_stays_at_any_depth(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_rules *rules;
	struct trial trial;

	make_directory(a, "gone");
	make_directory(a, "gone/deep");
	make_directory(a, "gone/deep/tmp");
	make_directory(a, "gone/empty");
	make_directory(a, "anchored");
	text_file(a->root, "gone/deep/tmp/inside", "x");
	text_file(a->root, "gone/deep/keep.log", "x");
	text_file(a->root, "gone/deep/file", "x");
	text_file(a->root, "gone/tmp", "x"); /* no directory */
	text_file(a->root, "top.log", "x");
	text_file(a->root, "taken.log", "x");
	text_file(a->root, "gone/anchored", "x");
	text_file(a->root, "anchored/file", "x");
	assert_int_equal(walk_rules_new(&rules), 0);
	assert_int_equal(walk_rules_add(rules, "taken.log", false), 0);
	assert_int_equal(walk_rules_add(rules, "*.log", true), 0);
	assert_int_equal(walk_rules_add(rules, "tmp/", true), 0);
	assert_int_equal(walk_rules_add(rules, "/anchored", true), 0);
	trial_begin(&trial, a);
	trial.prune->rules = rules;
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, 5);
	trial_end(&trial, "");
	assert_int_equal(entry_count(a->root, "."), 3);
	assert_int_equal(entry_count(a->root, "gone"), 1);
	assert_int_equal(entry_count(a->root, "gone/deep"), 2);
	assert_true(is_there(a, "gone/deep/tmp/inside"));
	assert_true(is_there(a, "top.log"));
	assert_true(is_there(a, "anchored/file"));
	walk_rules_free(rules);
}

/* Rules begin below the source, whose name is a part of the path. */
static void rules_know_paths_below_the_source(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_rules *rules;
	struct trial trial;

	make_directory(a, "d");
	text_file(a->root, "d/x", "x");
	text_file(a->root, "x", "x");
	assert_int_equal(walk_rules_new(&rules), 0);
	assert_int_equal(walk_rules_add(rules, "/sub/d/x", true), 0);
	trial_begin(&trial, a);
	trial.prune->rules = rules;
	TEXT_SET(trial.prune->path, "source/sub");
	trial.prune->rules_from = strlen("source/");
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, 1);
	trial_end(&trial, "");
	assert_true(is_there(a, "d/x"));
	walk_rules_free(rules);
}

static void the_reserved_name_stays(void **state)
{
	struct arena *a = arena_of(state);
	struct trial trial;

	make_directory(a, ROOT_RESERVED);
	text_file(a->root, ROOT_RESERVED "/partial", "x");
	make_directory(a, "d");
	make_directory(a, "d/" ROOT_RESERVED);
	text_file(a->root, "d/file", "x");
	trial_begin(&trial, a);
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, 1);
	trial_end(&trial, "d/" ROOT_RESERVED " 16");
	assert_true(is_there(a, ROOT_RESERVED "/partial"));
	assert_true(is_there(a, "d/" ROOT_RESERVED));
}

static void what_is_spared_stays_without_a_word(void **state)
{
	struct arena *a = arena_of(state);
	struct trial trial;
	struct stat st;

	make_directory(a, "d");
	text_file(a->root, "d/spared", "x");
	text_file(a->root, "d/file", "x");
	assert_int_equal(fstatat(a->root, "d/spared", &st, 0), 0);
	trial_begin(&trial, a);
	trial.prune->spares = trial_spares;
	trial.spared = st.st_ino;
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, 1);
	trial_end(&trial, "");
	assert_true(is_there(a, "d/spared"));
}

static void another_file_system_stays(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 16];

	if (!mounts_are_private())
		SKIP("mounting is not permitted");
	if (under_valgrind())
		SKIP("valgrind has no openat2, which alone can tell a bind mount");
	(void)snprintf(path, sizeof(path), "%s/d/other", a->root_path);
	for (size_t i = 0; i < 2; i++) {
		struct trial trial;
		make_directory(a, "d");
		make_directory(a, "d/other");
		text_file(a->root, "d/file", "x");
		text_file(a->root, "file", "x");
		assert_int_equal(i == 0 ? mount("none", path, "tmpfs", 0, "size=64k")
					: mount(a->path, path, NULL, MS_BIND, NULL),
			0);
		text_file(a->root, "d/other/precious", "x");
		trial_begin(&trial, a);
		assert_int_equal(trial_run(&trial), 0);
		assert_int_equal(trial.prune->removed, 2);
		trial_end(&trial, "d/other 18");
		assert_true(is_there(a, "d/other/precious"));
		if (i == 1)
			assert_int_equal(unlinkat(a->root, "d/other/precious", 0), 0);
		assert_int_equal(umount(path), 0);
		assert_int_equal(prune_all_but(a, (const char *const[]){ NULL }), 2);
	}
}

static void more_depth_than_can_be_followed_stays(void **state)
{
	struct arena *a = arena_of(state);
	char expected[2 * (PRUNE_DEPTH_MOST + 1) + 8] = "";
	struct trial trial;
	int at = dup(a->root);
	size_t fds = fd_count();

	for (unsigned i = 0; i <= PRUNE_DEPTH_MOST; i++) {
		assert_int_equal(mkdirat(at, "d", 0755), 0);
		int below = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = below;
		(void)snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected),
			"%sd", i ? "/" : "");
	}
	(void)snprintf(expected + strlen(expected), sizeof(expected) - strlen(expected), " %d",
		ENAMETOOLONG);
	trial_begin(&trial, a);
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, 0);
	trial_end(&trial, expected);
	assert_int_equal(fd_count(), fds);
	/* one less is removed, all of it */
	assert_int_equal(renameat(a->root, "d/d", a->root, "e"), 0);
	assert_int_equal(prune_all_but(a, (const char *const[]){ NULL }), PRUNE_DEPTH_MOST + 1);
	close(at);
}

/* ------------------------------ what fails --------------------------------------------- */

/* One of three files: the first that the system is asked to remove. */
static void what_cannot_be_removed_is_told_and_the_rest_goes(void **state)
{
	static const int errors[] = { EPERM, EBUSY, EROFS, ENOENT };
	static const char *const names[] = { "1", "2", "3" };
	struct arena *a = arena_of(state);

	for (size_t i = 0; i < ARRAY_LEN(errors); i++) {
		char expected[32] = "";
		struct trial trial;
		for (size_t k = 0; k < ARRAY_LEN(names); k++)
			text_file(a->root, names[k], "x");
		trial_begin(&trial, a);
		kit_fail_next(SYS_UNLINK, errors[i]);
		assert_int_equal(trial_run(&trial), 0);
		assert_true(kit_struck());
		for (size_t k = 0; k < ARRAY_LEN(names); k++)
			if (is_there(a, names[k]))
				(void)snprintf(
					expected, sizeof(expected), "%s %d", names[k], errors[i]);
		/* what is gone already is no failure, and was not: another pass has found it */
		assert_int_equal(trial.prune->removed, errors[i] == ENOENT ? 3 : 2);
		assert_int_equal(entry_count(a->root, "."), errors[i] == ENOENT ? 0 : 1);
		trial_end(&trial, expected);
	}
}

static void a_closed_directory_stays(void **state)
{
	struct arena *a = arena_of(state);
	bool root = geteuid() == 0;
	struct trial trial;

	make_directory(a, "closed");
	make_directory(a, "locked");
	text_file(a->root, "closed/file", "x");
	text_file(a->root, "locked/file", "x");
	text_file(a->root, "file", "x");
	assert_int_equal(fchmodat(a->root, "closed", 0, 0), 0);
	assert_int_equal(fchmodat(a->root, "locked", 0555, 0), 0);
	assert_int_equal(fchmodat(a->root, ".", 0777, 0), 0);
	trial_begin(&trial, a);
	if (root)
		assert_int_equal(seteuid(65534), 0); /* root may do everything */
	assert_int_equal(trial_run(&trial), 0);
	if (root)
		assert_int_equal(seteuid(0), 0);
	assert_int_equal(trial.prune->removed, 1);
	trial_end(&trial, "closed 13; locked/file 13");
	assert_int_equal(fchmodat(a->root, "closed", 0700, 0), 0);
	assert_int_equal(fchmodat(a->root, "locked", 0700, 0), 0);
	assert_int_equal(entry_count(a->root, "closed"), 1);
	assert_int_equal(entry_count(a->root, "locked"), 1);
}

static void what_cannot_be_listed_is_not_pruned(void **state)
{
	static const struct {
		enum sys_call call;
		uint64_t nth;
		const char *stays;
	} rows[] = {
		{ SYS_OPEN, 1, "sub 5" },
		{ SYS_READDIR, 1, "sub 5" },
		{ SYS_READDIR, 2, "sub 5" }, /* its end */
		{ SYS_STAT, 1, "sub/absent 5" },
	};
	struct arena *a = arena_of(state);
	uint64_t before;

	text_file(a->root, "named", "x");
	text_file(a->root, "file", "x");
	before = tree_hash(a->root);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct sys_fault fault = { .kind = SYS_FAULT_ERRNO,
			.call = rows[i].call,
			.error = EIO,
			.nth = rows[i].nth,
			.times = 1 };
		struct trial trial;
		trial_begin(&trial, a);
		TEXT_SET(trial.prune->path, "sub");
		trial_name(&trial, "named");
		trial_name(&trial, "absent");
		sys_fault_arm(&fault);
		assert_int_equal(trial_run(&trial), 0);
		assert_true(kit_struck());
		assert_int_equal(trial.prune->removed, 0);
		trial_end(&trial, rows[i].stays);
		assert_true(tree_hash(a->root) == before);
	}
}

/* A name that is found and was not listed: as if the file system took it for another. */
static void where_names_have_several_spellings_nothing_goes(void **state)
{
	struct arena *a = arena_of(state);
	struct trial trial;

	text_file(a->root, "File", "x");
	trial_begin(&trial, a);
	trial_name(&trial, "file");
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, 1);
	trial_end(&trial, "");

	text_file(a->root, "File", "x");
	trial_begin(&trial, a);
	trial_name(&trial, "file");
	trial.appears = "file"; /* after the listing has begun */
	assert_int_equal(trial_run(&trial), 0);
	assert_int_equal(trial.prune->removed, 0);
	trial_end(&trial, "file 17");
	assert_true(is_there(a, "File"));
}

static void it_ends_when_it_is_to(void **state)
{
	struct arena *a = arena_of(state);
	char name[16];

	for (size_t left = 0; left < 30; left += 3) {
		struct trial trial;
		for (unsigned i = 0; i < 8; i++) {
			(void)snprintf(name, sizeof(name), "%u", i);
			text_file(a->root, name, "x");
		}
		trial_begin(&trial, a);
		trial_name(&trial, "0");
		trial_name(&trial, "absent");
		trial.left = left;
		int r = trial_run(&trial);
		assert_true(r == -ECANCELED || left > 9 + 8);
		assert_true(r == 0 || r == -ECANCELED);
		assert_int_equal(entry_count(a->root, "."), 8 - trial.prune->removed);
		assert_true(left > 8 || trial.prune->removed == 0);
		assert_true(is_there(a, "0"));
		trial_end(&trial, "");
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(what_is_named_stays_with_all_that_is_in_it),
		ARENA_TEST(what_is_not_named_goes_whatever_it_is),
		ARENA_TEST_ON_TMPFS(what_is_not_named_goes_whatever_it_is),
		ARENA_TEST(in_a_dry_run_all_that_would_go_is_counted_and_stays),
		ARENA_TEST(links_are_removed_and_never_followed),
		ARENA_TEST(many_names_are_as_good_as_few),
		ARENA_TEST_ON_TMPFS(many_names_are_as_good_as_few),
		ARENA_TEST(what_rules_leave_out_stays_at_any_depth),
		ARENA_TEST(rules_know_paths_below_the_source),
		ARENA_TEST(the_reserved_name_stays),
		ARENA_TEST(what_is_spared_stays_without_a_word),
		ARENA_TEST(another_file_system_stays),
		ARENA_TEST(more_depth_than_can_be_followed_stays),
		ARENA_TEST(what_cannot_be_removed_is_told_and_the_rest_goes),
		ARENA_TEST(a_closed_directory_stays),
		ARENA_TEST(what_cannot_be_listed_is_not_pruned),
		ARENA_TEST(where_names_have_several_spellings_nothing_goes),
		ARENA_TEST(it_ends_when_it_is_to),
	};

	(void)mounts_are_private();
	return RUN_TESTS("prune", tests);
}
