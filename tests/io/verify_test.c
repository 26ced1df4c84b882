/* SPDX-License-Identifier: Apache-2.0 */
/* verify_test.c - a tree is proven right only when it is, and what is wrong is named. */
#include "store_kit.h"
#include "tree_manifest.h"

#include <errno.h>
#include <linux/magic.h>
#include <sys/wait.h>

#define LARGE (3 * MIB + 4567)

static const char *manifest_path(const struct arena *a)
{
	static char path[ARENA_PATH_CAP + 16];

	(void)snprintf(path, sizeof(path), "%s/m", a->path);
	return path;
}

/* A tree of 9 things, 5 of them files, and its manifest beside it. */
static void make_tree(const struct arena *a)
{
	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(mkdirat(a->root, "d/inner", 0755), 0);
	random_file(a->root, "large", LARGE, 1);
	random_file(a->root, "d/leaf", MIB, 2);
	random_file(a->root, "d/inner/small", 5, 3);
	random_file(a->root, "empty", 0, 4);
	random_file(a->root, "odd \n\\\xff", 4097, 5);
	assert_int_equal(symlinkat("d/leaf", a->root, "link"), 0);
	assert_int_equal(symlinkat("../../outside/precious", a->root, "d/dangling way"), 0);
	tree_manifest(a->root, manifest_path(a));
}

#define THINGS  9
#define CONTENT (LARGE + MIB + 5 + 4097)

static struct zh_verifier *verifier_of(const struct arena *a, uint32_t flags, uint32_t threads)
{
	struct zh_verify_options options = zh_verify_options_default();
	struct zh_verifier *verifier;

	options.manifest = manifest_path(a);
	options.directory = a->root_path;
	options.flags = flags;
	options.threads = threads;
	assert_int_equal(zh_verifier_new(&options, &verifier), 0);
	return verifier;
}

static struct zh_verify_report run_report(const struct arena *a, uint32_t flags, int outcome)
{
	struct zh_verifier *verifier = verifier_of(a, flags, 1);
	struct zh_verify_report report;

	assert_int_equal(zh_verifier_run(verifier), outcome);
	report = *zh_verifier_report(verifier);
	assert_int_equal(report.right + report.wrong + report.missing + report.unreadable, THINGS);
	zh_verifier_free(verifier);
	return report;
}

/* One finding of this kind at this name, which says this. */
static void one_finding(const struct arena *a, uint32_t flags, int outcome, uint32_t kind,
	const char *name, const char *text)
{
	struct zh_verifier *verifier = verifier_of(a, flags, 1);
	const struct zh_finding *finding;

	assert_int_equal(zh_verifier_run(verifier), outcome);
	finding = zh_verifier_finding_at(verifier, 0);
	assert_non_null(finding);
	assert_null(zh_verifier_finding_at(verifier, 1));
	assert_int_equal(finding->kind, kind);
	assert_string_equal(finding->error.file, name);
	if (!strstr(finding->error.text, text))
		fail_msg("\"%s\" does not say \"%s\"", finding->error.text, text);
	assert_memory_equal(zh_verifier_error(verifier), &finding->error, sizeof(finding->error));
	assert_int_equal(
		zh_verifier_report(verifier)->right, kind == ZH_FOUND_EXTRA ? THINGS : THINGS - 1);
	zh_verifier_free(verifier);
}

static void wrong(const struct arena *a, const char *name, const char *text)
{
	one_finding(a, 0, ZH_VERIFY, ZH_FOUND_WRONG, name, text);
}

static void flip(const struct arena *a, const char *name, off_t offset)
{
	int fd = openat(a->root, name, O_RDWR | O_CLOEXEC);
	char byte;

	assert_int_equal(pread(fd, &byte, 1, offset), 1);
	byte ^= 0x10;
	assert_int_equal(pwrite(fd, &byte, 1, offset), 1);
	close(fd);
}

/* ------------------------------ content ------------------------------------------------ */

static void a_right_tree_is_right(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_verifier *verifier;
	const struct zh_verify_report *report;

	make_tree(a);
	for (uint32_t threads = 0; threads <= 5; threads++) {
		verifier =
			verifier_of(a, ZH_VERIFY_EXTRA | ZH_VERIFY_MTIME | ZH_VERIFY_MODE, threads);
		assert_int_equal(zh_verifier_run(verifier), ZH_OK);
		report = zh_verifier_report(verifier);
		assert_int_equal(report->listed, THINGS);
		assert_int_equal(report->right, THINGS);
		assert_int_equal(report->extra, 0);
		assert_true(threads == 0 || report->threads == threads);
		assert_false(err_is_set(zh_verifier_error(verifier)));
		assert_null(zh_verifier_finding_at(verifier, 0));
		zh_verifier_free(verifier);
	}
}

static void one_flipped_bit_anywhere_is_found(void **state)
{
	static const struct {
		const char *name, *shown;
		off_t offset;
	} rows[] = {
		{ "large", "large", 0 },
		{ "large", "large", LARGE - 1 },
		{ "large", "large", MIB },
		{ "d/leaf", "d/leaf", MIB - 1 },
		{ "d/inner/small", "d/inner/small", 4 },
		{ "odd \n\\\xff", "odd \\x0a\\x5c\\xff", 4096 },
	};
	struct arena *a = arena_of(state);

	make_tree(a);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		flip(a, rows[i].name, rows[i].offset);
		wrong(a, rows[i].shown, "content differs");
		flip(a, rows[i].name, rows[i].offset);
	}
	run_report(a, 0, ZH_OK);
}

/* Pages of the file in the page cache. */
static uint64_t resident(const struct arena *a, const char *name, uint64_t size)
{
	uint64_t pages = 99;
	int fd = openat(a->root, name, O_RDONLY | O_CLOEXEC);

	assert_int_equal(sys_resident_pages(fd, 0, size, &pages), 0);
	close(fd);
	return pages;
}

static void content_is_read_past_the_page_cache(void **state)
{
	struct arena *a = arena_of(state);
	uint32_t memory = 0, offset = 0;

	make_tree(a);
	int fd = openat(a->root, "large", O_RDONLY | O_CLOEXEC);
	int r = sys_statx_dio(fd, &memory, &offset);
	assert_int_equal(fsync(fd), 0);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	close(fd);
	if (r < 0 || offset == 0)
		SKIP("this file system does not tell of direct reads");
	assert_int_equal(resident(a, "large", LARGE), 0);
	struct zh_verify_report report = run_report(a, 0, ZH_OK);
	assert_int_equal(report.direct_bytes, report.bytes);
	assert_int_equal(resident(a, "large", LARGE), 0);
}

static void what_is_dirty_is_compared_too(void **state)
{
	struct arena *a = arena_of(state);

	make_tree(a);
	flip(a, "large", MIB + 5); /* not synced */
	wrong(a, "large", "content differs");
	flip(a, "large", MIB + 5);
	run_report(a, 0, ZH_OK);
}

#define FIRST_OF_CONTENT 4 /* reads: the manifest to its end, and its first piece once more */

static void a_direct_read_that_is_refused_short_or_interrupted_changes_nothing(void **state)
{
	static const struct sys_fault faults[] = {
		{ SYS_FAULT_ERRNO, SYS_PREAD, EINVAL, FIRST_OF_CONTENT, 1 },
		{ SYS_FAULT_ERRNO, SYS_PREAD, EOPNOTSUPP, FIRST_OF_CONTENT + 1, 1 },
		{ SYS_FAULT_SHORT, SYS_PREAD, 0, 1, 0 },
		{ SYS_FAULT_EINTR, SYS_PREAD, 0, 1, 9 },
	};
	struct arena *a = arena_of(state);

	make_tree(a);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		sys_fault_arm(&faults[i]);
		struct zh_verify_report report = run_report(a, 0, ZH_OK);
		assert_true(kit_struck());
		assert_int_equal(report.bytes, CONTENT);
		flip(a, "large", LARGE - 1);
		sys_fault_arm(&faults[i]);
		wrong(a, "large", "content differs");
		assert_true(kit_struck());
		flip(a, "large", LARGE - 1);
	}
}

static void what_is_read_by_the_cache_leaves_it(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PREAD, EINVAL, FIRST_OF_CONTENT, 1 };
	struct arena *a = arena_of(state);

	if (arena_is_on(a, TMPFS_MAGIC))
		SKIP("nothing leaves memory there");
	random_file(a->root, "large", LARGE, 1);
	tree_manifest(a->root, manifest_path(a));
	assert_true(resident(a, "large", LARGE) > 0);
	struct zh_verifier *verifier = verifier_of(a, 0, 1);
	sys_fault_arm(&fault);
	assert_int_equal(zh_verifier_run(verifier), ZH_OK);
	assert_true(kit_struck());
	assert_int_equal(zh_verifier_report(verifier)->bytes, LARGE);
	assert_int_equal(zh_verifier_report(verifier)->direct_bytes, 0);
	assert_int_equal(resident(a, "large", LARGE), 0);
	zh_verifier_free(verifier);
}

static void a_disk_that_cannot_be_read_is_named(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_PREAD, EIO, FIRST_OF_CONTENT + 2, 1 };
	struct arena *a = arena_of(state);

	random_file(a->root, "large", LARGE, 1);
	tree_manifest(a->root, manifest_path(a));
	struct zh_verifier *verifier = verifier_of(a, 0, 1);
	sys_fault_arm(&fault);
	assert_int_equal(zh_verifier_run(verifier), ZH_SRC_IO); /* nothing else is right */
	assert_true(kit_struck());
	const struct zh_finding *finding = zh_verifier_finding_at(verifier, 0);
	assert_int_equal(finding->kind, ZH_FOUND_UNREADABLE);
	assert_int_equal(finding->error.errnum, EIO);
	assert_int_equal(finding->error.offset, 2 * MIB);
	assert_string_equal(finding->error.file, "large");
	zh_verifier_free(verifier);

	random_file(a->root, "z", 5, 1);
	tree_manifest(a->root, manifest_path(a));
	verifier = verifier_of(a, 0, 1);
	fault.nth = FIRST_OF_CONTENT;
	sys_fault_arm(&fault);
	assert_int_equal(zh_verifier_run(verifier), ZH_PARTIAL);
	assert_true(kit_struck());
	assert_int_equal(zh_verifier_report(verifier)->unreadable, 1);
	assert_int_equal(zh_verifier_report(verifier)->right, 1);
	zh_verifier_free(verifier);
}

/* ------------------------------ sizes, kinds, attributes ------------------------------- */

static void resize(const struct arena *a, const char *name, off_t size)
{
	int fd = openat(a->root, name, O_WRONLY | O_CLOEXEC);

	assert_int_equal(ftruncate(fd, size), 0);
	close(fd);
}

static void a_cut_or_longer_file_is_wrong(void **state)
{
	struct arena *a = arena_of(state);

	make_tree(a);
	resize(a, "large", LARGE - 1);
	wrong(a, "large", "3150294 bytes long, not 3150295");
	resize(a, "large", LARGE + 1);
	wrong(a, "large", "3150296 bytes long");
	resize(a, "large", LARGE);
	flip(a, "large", LARGE - 1); /* the cut has made it 0 */
	random_file(a->root, "large", LARGE, 1);
	run_report(a, 0, ZH_OK);
	resize(a, "empty", 1);
	wrong(a, "empty", "1 bytes long, not 0");
}

static void what_is_missing_is_named(void **state)
{
	struct arena *a = arena_of(state);

	make_tree(a);
	assert_int_equal(unlinkat(a->root, "empty", 0), 0);
	one_finding(a, 0, ZH_PARTIAL, ZH_FOUND_MISSING, "empty", "missing");
	random_file(a->root, "empty", 0, 1);
	assert_int_equal(unlinkat(a->root, "link", 0), 0);
	one_finding(a, 0, ZH_PARTIAL, ZH_FOUND_MISSING, "link", "missing");
	/* wrong is told before missing */
	flip(a, "large", 0);
	run_report(a, 0, ZH_VERIFY);
	flip(a, "large", 0);
	assert_int_equal(symlinkat("d/leaf", a->root, "link"), 0);
	run_report(a, 0, ZH_OK);
	/* a directory and everything in it */
	assert_int_equal(renameat(a->root, "d", a->root, "moved"), 0);
	assert_int_equal(run_report(a, 0, ZH_PARTIAL).missing, 5);
}

static void a_tree_of_which_nothing_is_there_is_gone(void **state)
{
	struct arena *a = arena_of(state);

	make_tree(a);
	tree_remove(a->root_path);
	assert_int_equal(mkdir(a->root_path, 0755), 0);
	assert_int_equal(run_report(a, 0, ZH_SRC_GONE).missing, THINGS);
}

static void another_kind_in_the_place_of_a_file_is_wrong(void **state)
{
	struct arena *a = arena_of(state);

	make_tree(a);
	/* a link to a file that is right in every way */
	assert_int_equal(renameat(a->root, "large", a->root, "d/moved"), 0);
	assert_int_equal(symlinkat("d/moved", a->root, "large"), 0);
	wrong(a, "large", "a link stands in its place");
	assert_int_equal(unlinkat(a->root, "large", 0), 0);
	assert_int_equal(mkfifoat(a->root, "large", 0644), 0);
	wrong(a, "large", "FIFO");
	assert_int_equal(unlinkat(a->root, "large", 0), 0);
	assert_int_equal(mkdirat(a->root, "large", 0755), 0);
	wrong(a, "large", "a directory stands in its place");
	assert_int_equal(unlinkat(a->root, "large", AT_REMOVEDIR), 0);
	assert_int_equal(renameat(a->root, "d/moved", a->root, "large"), 0);
	run_report(a, 0, ZH_OK);
	assert_int_equal(unlinkat(a->root, "link", 0), 0);
	text_file(a->root, "link", "d/leaf");
	wrong(a, "link", "a file stands in its place");
}

static void a_link_that_points_elsewhere_is_wrong(void **state)
{
	static const char *const targets[] = { "d/lea", "d/leaf2", "D/leaf", "d/leaf\n" };
	struct arena *a = arena_of(state);

	make_tree(a);
	for (size_t i = 0; i < ARRAY_LEN(targets); i++) {
		assert_int_equal(unlinkat(a->root, "link", 0), 0);
		assert_int_equal(symlinkat(targets[i], a->root, "link"), 0);
		wrong(a, "link", i == 3 ? "points to d/leaf\\x0a" : targets[i]);
	}
}

static void a_directory_that_became_a_link_is_not_followed(void **state)
{
	struct arena *a = arena_of(state);

	make_tree(a);
	assert_int_equal(renameat(a->root, "d/inner", a->root, "d/real"), 0);
	assert_int_equal(symlinkat("real", a->root, "d/inner"), 0);
	struct zh_verifier *verifier = verifier_of(a, ZH_VERIFY_EXTRA, 1);
	assert_int_equal(zh_verifier_run(verifier), ZH_VERIFY);
	assert_int_equal(zh_verifier_report(verifier)->wrong, 2);
	assert_int_equal(zh_verifier_report(verifier)->extra, 1);
	for (size_t i = 0; i < 2; i++) {
		const struct zh_finding *finding = zh_verifier_finding_at(verifier, i);
		if (strcmp(finding->error.file, "d/inner/small") == 0)
			assert_non_null(strstr(finding->error.text, "one of its directories"));
		else
			assert_string_equal(finding->error.file, "d/inner");
	}
	zh_verifier_free(verifier);
}

static void times_and_modes_are_compared_on_request(void **state)
{
	const struct timespec times[2] = { { .tv_nsec = UTIME_OMIT },
		{ .tv_sec = 1, .tv_nsec = 2 } };
	struct arena *a = arena_of(state);
	struct stat st;

	make_tree(a);
	run_report(a, ZH_VERIFY_MTIME | ZH_VERIFY_MODE, ZH_OK);
	assert_int_equal(fstatat(a->root, "large", &st, 0), 0);
	assert_int_equal(utimensat(a->root, "large", times, 0), 0);
	run_report(a, ZH_VERIFY_MODE, ZH_OK);
	one_finding(a, ZH_VERIFY_MTIME, ZH_VERIFY, ZH_FOUND_WRONG, "large", "time of modification");
	assert_int_equal(
		utimensat(a->root, "large", (struct timespec[2]){ st.st_atim, st.st_mtim }, 0), 0);
	assert_int_equal(fchmodat(a->root, "d", 0700, 0), 0);
	run_report(a, ZH_VERIFY_MTIME, ZH_OK);
	one_finding(a, ZH_VERIFY_MODE, ZH_VERIFY, ZH_FOUND_WRONG, "d", "0700, not 0755");
}

static void an_ordinary_user_is_told_what_cannot_be_read(void **state)
{
	struct arena *a = arena_of(state);
	int status;

	make_tree(a);
	assert_int_equal(fchmodat(a->root, "large", 0, 0), 0);
	assert_int_equal(chmod(a->path, 0755), 0);
	assert_int_equal(fchmodat(a->root, ".", 0755, 0), 0);
	assert_int_equal(chmod(manifest_path(a), 0644), 0);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
			_exit(77);
		struct zh_verifier *verifier = verifier_of(a, 0, 2);
		int outcome = zh_verifier_run(verifier);
		const struct zh_finding *finding = zh_verifier_finding_at(verifier, 0);
		_exit(!(outcome == ZH_PARTIAL && finding && finding->kind == ZH_FOUND_UNREADABLE &&
			finding->error.errnum == EACCES &&
			strcmp(finding->error.file, "large") == 0 &&
			zh_verifier_report(verifier)->right == THINGS - 1));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
		SKIP("cannot become another user");
	assert_int_equal(status, 0);
}

/* ------------------------------ extra -------------------------------------------------- */

static void what_is_not_listed_is_found_on_request(void **state)
{
	struct arena *a = arena_of(state);

	make_tree(a);
	text_file(a->root, "d/inner/more", "x");
	run_report(a, 0, ZH_OK);
	one_finding(a, ZH_VERIFY_EXTRA, ZH_VERIFY, ZH_FOUND_EXTRA, "d/inner/more",
		"not in the manifest");
	assert_int_equal(unlinkat(a->root, "d/inner/more", 0), 0);
	assert_int_equal(mkdirat(a->root, "other", 0755), 0);
	text_file(a->root, "other/1", "x"); /* told by their directory */
	text_file(a->root, "other/2", "x");
	one_finding(a, ZH_VERIFY_EXTRA, ZH_VERIFY, ZH_FOUND_EXTRA, "other", "not in the manifest");
	assert_int_equal(unlinkat(a->root, "other/1", 0), 0);
	assert_int_equal(unlinkat(a->root, "other/2", 0), 0);
	assert_int_equal(unlinkat(a->root, "other", AT_REMOVEDIR), 0);
	assert_int_equal(symlinkat("nowhere", a->root, "d/\n"), 0);
	one_finding(
		a, ZH_VERIFY_EXTRA, ZH_VERIFY, ZH_FOUND_EXTRA, "d/\\x0a", "not in the manifest");
	assert_int_equal(unlinkat(a->root, "d/\n", 0), 0);
	/* ours is passed over */
	assert_int_equal(mkdirat(a->root, ".zerohaul-staging", 0700), 0);
	run_report(a, ZH_VERIFY_EXTRA, ZH_OK);
}

static void a_manifest_inside_the_tree_is_not_extra(void **state)
{
	char inside[ARENA_PATH_CAP + 32], outside[ARENA_PATH_CAP + 32];
	struct arena *a = arena_of(state);
	struct zh_verify_options options = zh_verify_options_default();
	struct zh_verifier *verifier;

	make_tree(a);
	(void)snprintf(outside, sizeof(outside), "%s", manifest_path(a));
	(void)snprintf(inside, sizeof(inside), "%s/d/m", a->root_path);
	assert_int_equal(rename(outside, inside), 0);
	options.manifest = inside;
	options.directory = a->root_path;
	options.flags = ZH_VERIFY_EXTRA;
	assert_int_equal(zh_verifier_new(&options, &verifier), 0);
	assert_int_equal(zh_verifier_run(verifier), ZH_OK);
	zh_verifier_free(verifier);
}

static void directories_on_the_way_to_a_file_are_not_extra(void **state)
{
	enum { WAYS = 20 };
	struct arena *a = arena_of(state);
	struct manifest *manifest;

	/* no line for any directory, and none in the order of the tree */
	assert_int_equal(manifest_open(manifest_path(a), &manifest, NULL), 0);
	for (int i = 0; i < WAYS; i++) {
		char path[64];
		(void)snprintf(path, sizeof(path), "d%d", i % 5);
		(void)mkdirat(a->root, path, 0755);
		(void)snprintf(path, sizeof(path), "d%d/e%d", i % 5, i);
		assert_int_equal(mkdirat(a->root, path, 0755), 0);
		(void)snprintf(path, sizeof(path), "d%d/e%d/small", i % 5, i);
		random_file(a->root, path, 5, 3);
		struct manifest_entry entry = { .kind = MANIFEST_FILE,
			.size = 5,
			.root = tree_root_of(a->root, path, 5),
			.path = path,
			.path_bytes = strlen(path) };
		manifest_add(manifest, &entry);
	}
	assert_int_equal(manifest_close(manifest, NULL), 0);
	struct zh_verifier *verifier = verifier_of(a, ZH_VERIFY_EXTRA, 1);
	assert_int_equal(zh_verifier_run(verifier), ZH_OK);
	zh_verifier_free(verifier);
	text_file(a->root, "d1/x", "x");
	text_file(a->root, "d4/e4/x", "x");
	verifier = verifier_of(a, ZH_VERIFY_EXTRA, 1);
	assert_int_equal(zh_verifier_run(verifier), ZH_VERIFY);
	assert_int_equal(zh_verifier_report(verifier)->extra, 2);
	zh_verifier_free(verifier);
}

static void many_listed_and_extra_names_are_told_apart(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_verifier *verifier;
	char name[256];

	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof(name), "dir%d", i);
		assert_int_equal(mkdirat(a->root, name, 0755), 0);
		for (int j = 0; j < 60; j++) {
			(void)snprintf(name, sizeof(name), "dir%d/%0200d", i, j);
			text_file(a->root, name, "x");
		}
	}
	tree_manifest(a->root, manifest_path(a));
	verifier = verifier_of(a, ZH_VERIFY_EXTRA, 0);
	assert_int_equal(zh_verifier_run(verifier), ZH_OK);
	assert_int_equal(zh_verifier_report(verifier)->right, 40 * 61);
	zh_verifier_free(verifier);
	for (int i = 0; i < 40; i++) {
		(void)snprintf(name, sizeof(name), "dir%d/extra", i);
		text_file(a->root, name, "x");
	}
	verifier = verifier_of(a, ZH_VERIFY_EXTRA, 0);
	assert_int_equal(zh_verifier_run(verifier), ZH_VERIFY);
	assert_int_equal(zh_verifier_report(verifier)->extra, 40);
	zh_verifier_free(verifier);
}

/* ------------------------------ the manifest and the run ------------------------------- */

static void no_manifest_proves_nothing(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_verifier *verifier = verifier_of(a, 0, 1);

	assert_int_equal(zh_verifier_run(verifier), ZH_SRC_GONE);
	assert_string_equal(zh_verifier_error(verifier)->file, manifest_path(a));
	zh_verifier_free(verifier);
	assert_int_equal(mkfifo(manifest_path(a), 0644), 0);
	verifier = verifier_of(a, 0, 1);
	assert_int_equal(zh_verifier_run(verifier), ZH_CONFIG);
	zh_verifier_free(verifier);
}

static void a_spoilt_manifest_is_found_before_the_tree_is_looked_at(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_verifier *verifier;
	struct stat st;

	make_tree(a);
	assert_int_equal(stat(manifest_path(a), &st), 0);
	assert_int_equal(truncate(manifest_path(a), st.st_size - 1), 0);
	verifier = verifier_of(a, ZH_VERIFY_EXTRA, 2);
	assert_int_equal(zh_verifier_run(verifier), ZH_CONFIG);
	assert_int_equal(zh_verifier_report(verifier)->right, 0);
	assert_int_equal(zh_verifier_report(verifier)->bytes, 0);
	assert_null(zh_verifier_finding_at(verifier, 0));
	assert_non_null(strstr(zh_verifier_error(verifier)->text, "line 11: "));
	zh_verifier_free(verifier);
}

static void no_directory_is_a_config_error(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_verifier *verifier;

	make_tree(a);
	tree_remove(a->root_path);
	verifier = verifier_of(a, 0, 1);
	assert_int_equal(zh_verifier_run(verifier), ZH_CONFIG);
	assert_string_equal(zh_verifier_error(verifier)->file, a->root_path);
	zh_verifier_free(verifier);
	assert_int_equal(mkdir(a->root_path, 0755), 0);
}

static void options_that_make_no_sense_are_refused(void **state)
{
	struct zh_verify_options options = zh_verify_options_default();
	struct zh_verifier *verifier;

	(void)state;
	assert_int_equal(zh_verifier_new(NULL, &verifier), -EINVAL);
	assert_int_equal(zh_verifier_new(&options, &verifier), -EINVAL);
	options.manifest = options.directory = "x";
	options.threads = 65;
	assert_int_equal(zh_verifier_new(&options, &verifier), -EINVAL);
	options.threads = 64;
	options.size--;
	assert_int_equal(zh_verifier_new(&options, &verifier), -EINVAL);
	options.size++;
	assert_int_equal(zh_verifier_new(&options, &verifier), 0);
	zh_verifier_free(verifier);
	zh_verifier_free(NULL);
}

static void a_run_that_was_cancelled_says_so(void **state)
{
	struct arena *a = arena_of(state);
	struct zh_verifier *verifier;
	struct zh_progress progress;

	make_tree(a);
	verifier = verifier_of(a, ZH_VERIFY_EXTRA, 1);
	zh_verifier_cancel(verifier);
	assert_int_equal(zh_verifier_run(verifier), ZH_CANCELLED);
	assert_int_equal(zh_verifier_error(verifier)->outcome, ZH_CANCELLED);
	assert_int_equal(zh_verifier_report(verifier)->bytes, 0);
	zh_verifier_free(verifier);
	verifier = verifier_of(a, 0, 1);
	zh_verifier_progress(verifier, &progress);
	assert_string_equal(progress.phase, "reading");
	assert_int_equal(zh_verifier_run(verifier), ZH_OK);
	zh_verifier_progress(verifier, &progress);
	assert_string_equal(progress.phase, "done");
	assert_int_equal(progress.files_done, THINGS);
	assert_int_equal(progress.files_known, THINGS);
	assert_int_equal(progress.bytes_known, CONTENT);
	assert_int_equal(progress.bytes_moved, CONTENT);
	zh_verifier_free(verifier);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_right_tree_is_right),
		ARENA_TEST_ON_TMPFS(a_right_tree_is_right),
		ARENA_TEST(one_flipped_bit_anywhere_is_found),
		ARENA_TEST_ON_TMPFS(one_flipped_bit_anywhere_is_found),
		ARENA_TEST(content_is_read_past_the_page_cache),
		ARENA_TEST(what_is_dirty_is_compared_too),
		ARENA_TEST(a_direct_read_that_is_refused_short_or_interrupted_changes_nothing),
		ARENA_TEST_ON_TMPFS(
			a_direct_read_that_is_refused_short_or_interrupted_changes_nothing),
		ARENA_TEST(what_is_read_by_the_cache_leaves_it),
		ARENA_TEST(a_disk_that_cannot_be_read_is_named),
		ARENA_TEST(a_cut_or_longer_file_is_wrong),
		ARENA_TEST(what_is_missing_is_named),
		ARENA_TEST(a_tree_of_which_nothing_is_there_is_gone),
		ARENA_TEST(another_kind_in_the_place_of_a_file_is_wrong),
		ARENA_TEST(a_link_that_points_elsewhere_is_wrong),
		ARENA_TEST(a_directory_that_became_a_link_is_not_followed),
		ARENA_TEST(times_and_modes_are_compared_on_request),
		ARENA_TEST(an_ordinary_user_is_told_what_cannot_be_read),
		ARENA_TEST(what_is_not_listed_is_found_on_request),
		ARENA_TEST(a_manifest_inside_the_tree_is_not_extra),
		ARENA_TEST(directories_on_the_way_to_a_file_are_not_extra),
		ARENA_TEST(many_listed_and_extra_names_are_told_apart),
		ARENA_TEST(no_manifest_proves_nothing),
		ARENA_TEST(a_spoilt_manifest_is_found_before_the_tree_is_looked_at),
		ARENA_TEST(no_directory_is_a_config_error),
		cmocka_unit_test(options_that_make_no_sense_are_refused),
		ARENA_TEST(a_run_that_was_cancelled_says_so),
	};

	return RUN_TESTS("verify", tests);
}
