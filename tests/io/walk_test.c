/* SPDX-License-Identifier: Apache-2.0 */
/* walk_test.c - everything of a tree is found once, nothing beside it, and rules are kept. */
#include "store_kit.h"

#include "store/dirs.h"
#include "store/walk.h"

#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/mount.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* ------------------------------------------------------------------ what a walk finds ----------
 */

struct hike {
	struct dirs *dirs;
	struct walk *walk;
	struct walk_entry entry;
	uint64_t next_id;
};

static void hike_begin_listed(struct hike *hike, const struct arena *a,
	const struct walk_rules *rules, const struct walk_list *list)
{
	hike->next_id = 1;
	assert_int_equal(dirs_new(a->root, 4, &hike->dirs), 0);
	assert_int_equal(
		walk_new(hike->dirs, 0, rules, list, true, &hike->next_id, &hike->walk), 0);
}

static void hike_begin(struct hike *hike, const struct arena *a, const struct walk_rules *rules)
{
	hike_begin_listed(hike, a, rules, NULL);
}

static void hike_end(struct hike *hike)
{
	walk_free(hike->walk);
	dirs_free(hike->dirs);
}

static bool hike_next(struct hike *hike)
{
	int r = walk_next(hike->walk, &hike->entry);

	assert_in_range(r, 0, 1);
	return r == 1;
}

/* Goes on to what has this kind and name, which has to come. */
static void hike_to(struct hike *hike, enum walk_kind kind, const char *name)
{
	while (hike_next(hike))
		if (hike->entry.kind == kind && strcmp(hike->entry.name, name) == 0)
			return;
	fail_msg("\"%s\" does not come as kind %d", name, (int)kind);
}

#define LIST_MOST 64

static int compare_lines(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/*
 * Goes to the end and writes what was given, sorted: "D" directory, "F" file, "L" link, "S"
 * special,
 * "!" failed, "x" left out, each with its path. Directories have to be left in the order of a
 * stack.
 */
static void hike_list(struct hike *hike, char *ret_list, size_t cap)
{
	char *line[LIST_MOST];
	uint64_t open[LIST_MOST] = { 0 };
	size_t count = 0, depth = 0, used = 0;

	while (hike_next(hike)) {
		const struct walk_entry *e = &hike->entry;
		char path[512];

		if (e->kind == WALK_LEAVE) {
			assert_true(depth > 0);
			assert_int_equal(e->id, open[depth--]);
			assert_int_equal(e->parent, open[depth]);
			continue;
		}
		if (e->kind != WALK_FAILED || depth == 0 || e->parent != open[depth - 1])
			assert_int_equal(e->parent, open[depth]);
		assert_int_equal(err_is_set(&e->error), e->kind == WALK_FAILED);
		(void)dirs_path(hike->dirs, e->parent, path, sizeof(path));
		assert_true(count < LIST_MOST);
		assert_true(asprintf(&line[count++], "%c %s%s%s", "D.FLS!x"[e->kind], path,
				    path[0] ? "/" : "", e->name) > 0);
		if (e->kind == WALK_DIRECTORY) {
			assert_true(depth + 1 < LIST_MOST);
			open[++depth] = e->id;
		}
	}
	assert_int_equal(depth, 0);
	qsort(line, count, sizeof(*line), compare_lines);
	ret_list[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		used += (size_t)snprintf(ret_list + used, cap - used, "%s\n", line[i]);
		assert_true(used < cap);
		free(line[i]);
	}
}

static void check_list(const struct arena *a, const struct walk_rules *rules, const char *expected)
{
	struct hike hike;
	char list[4096];

	hike_begin(&hike, a, rules);
	hike_list(&hike, list, sizeof(list));
	hike_end(&hike);
	assert_string_equal(list, expected);
}

static void everything_is_found_once(void **state)
{
	struct arena *a = arena_of(state);

	assert_int_equal(mkdirat(a->root, "a", 0755), 0);
	assert_int_equal(mkdirat(a->root, "a/b", 0755), 0);
	assert_int_equal(mkdirat(a->root, "a/empty", 0755), 0);
	assert_int_equal(mkdirat(a->root, "c", 0755), 0);
	text_file(a->root, "a/b/file", "x");
	text_file(a->root, "a/file", "x");
	text_file(a->root, "file", "x");
	text_file(a->root, "c/\xff\x01\n\"* ", "x");
	assert_int_equal(symlinkat("a", a->root, "link"), 0);
	assert_int_equal(symlinkat("../../outside", a->root, "a/out"), 0);
	check_list(a, NULL,
		"D a\nD a/b\nD a/empty\nD c\nF a/b/file\nF a/file\nF c/\xff\x01\n\"* \nF file\n"
		"L a/out\nL link\n");
}

static void an_empty_tree_is_no_failure(void **state)
{
	check_list(arena_of(state), NULL, "");
}

static void an_entry_is_what_lstat_says(void **state)
{
	struct arena *a = arena_of(state);
	struct timespec times[2] = { { 5, 6 }, { -77, 123456789 } };
	struct hike hike;
	struct stat st;

	random_file(a->root, "file", 5000, 1);
	assert_int_equal(linkat(a->root, "file", a->root, "second", 0), 0);
	assert_int_equal(fchmodat(a->root, "file", 04751, 0), 0);
	assert_int_equal(utimensat(a->root, "file", times, 0), 0);
	assert_int_equal(fstatat(a->root, "file", &st, 0), 0);
	hike_begin(&hike, a, NULL);
	hike_to(&hike, WALK_FILE, "file");
	assert_int_equal(hike.entry.size, 5000);
	assert_int_equal(hike.entry.mtime_s, -77);
	assert_int_equal(hike.entry.mtime_ns, 123456789);
	assert_int_equal(hike.entry.mode, 04751);
	assert_int_equal(hike.entry.uid, st.st_uid);
	assert_int_equal(hike.entry.gid, st.st_gid);
	assert_int_equal(hike.entry.device, st.st_dev);
	assert_int_equal(hike.entry.inode, st.st_ino);
	assert_int_equal(hike.entry.links, 2);
	assert_int_equal(hike.entry.blocks, st.st_blocks);
	hike_end(&hike);
}

static void targets_of_links_are_read_if_wanted(void **state)
{
	struct arena *a = arena_of(state);
	char longest[PATH_MAX];
	struct hike hike;

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	assert_int_equal(symlinkat("../outside/\xff", a->root, "link"), 0);
	hike_begin(&hike, a, NULL);
	hike_to(&hike, WALK_LINK, "link");
	assert_string_equal(hike.entry.target, "../outside/\xff");
	walk_free(hike.walk);
	assert_int_equal(walk_new(hike.dirs, 0, NULL, NULL, false, &hike.next_id, &hike.walk), 0);
	hike_to(&hike, WALK_LINK, "link");
	assert_null(hike.entry.target);
	hike_end(&hike);

	if (symlinkat(longest, a->root, "long") == 0) { /* some file systems want it shorter */
		hike_begin(&hike, a, NULL);
		hike_to(&hike, WALK_LINK, "long");
		assert_string_equal(hike.entry.target, longest);
		hike_end(&hike);
	}
}

static void what_is_no_file_is_special(void **state)
{
	struct arena *a = arena_of(state);
	bool device;

	assert_int_equal(mknodat(a->root, "socket", S_IFSOCK | 0600, 0), 0);
	assert_int_equal(mkfifoat(a->root, "fifo", 0600), 0);
	device = mknodat(a->root, "device", S_IFCHR | 0600, makedev(1, 3)) == 0;
	if (!device)
		print_message("# no device: making one is not permitted\n");
	check_list(a, NULL, device ? "S device\nS fifo\nS socket\n" : "S fifo\nS socket\n");
}

static void the_reserved_name_is_passed_over(void **state)
{
	struct arena *a = arena_of(state);

	assert_int_equal(mkdirat(a->root, ROOT_RESERVED, 0700), 0);
	text_file(a->root, ROOT_RESERVED "/partial", "x");
	assert_int_equal(mkdirat(a->root, "d", 0700), 0);
	assert_int_equal(mkdirat(a->root, "d/" ROOT_RESERVED, 0700), 0);
	text_file(a->root, ROOT_RESERVED "2", "x");
	check_list(a, NULL, "D d\nF " ROOT_RESERVED "2\n");
}

static void a_walk_begins_anywhere(void **state)
{
	struct arena *a = arena_of(state);
	struct hike hike;
	bool made;

	hike_begin(&hike, a, NULL);
	assert_int_equal(dirs_make(hike.dirs, 50, 0, "a", 0755, &made), 0);
	text_file(a->root, "beside", "x");
	text_file(a->root, "a/file", "x");
	assert_int_equal(mkdirat(a->root, "a/d", 0755), 0);
	walk_free(hike.walk);
	assert_int_equal(
		walk_new(hike.dirs, 49, NULL, NULL, false, &hike.next_id, &hike.walk), -ENOENT);
	hike.next_id = 200;
	assert_int_equal(walk_new(hike.dirs, 50, NULL, NULL, false, &hike.next_id, &hike.walk), 0);
	size_t count = 0;
	while (hike_next(&hike)) {
		count++;
		assert_string_not_equal(hike.entry.name, "beside");
		assert_int_equal(hike.entry.parent, 50);
		if (hike.entry.kind == WALK_DIRECTORY)
			assert_int_equal(hike.entry.id, 200);
	}
	assert_int_equal(count, 3);
	assert_int_equal(hike.next_id, 201);
	hike_end(&hike);
}

static void a_skipped_directory_is_left_at_once(void **state)
{
	struct arena *a = arena_of(state);
	struct hike hike;
	size_t files = 0;

	assert_int_equal(mkdirat(a->root, "skipped", 0755), 0);
	assert_int_equal(mkdirat(a->root, "taken", 0755), 0);
	text_file(a->root, "skipped/file", "x");
	text_file(a->root, "taken/file", "x");
	hike_begin(&hike, a, NULL);
	while (hike_next(&hike)) {
		files += hike.entry.kind == WALK_FILE;
		if (hike.entry.kind == WALK_DIRECTORY && strcmp(hike.entry.name, "skipped") == 0) {
			uint64_t id = hike.entry.id;
			walk_skip(hike.walk);
			assert_true(hike_next(&hike));
			assert_int_equal(hike.entry.kind, WALK_LEAVE);
			assert_int_equal(hike.entry.id, id);
			assert_string_equal(hike.entry.name, "skipped");
		}
	}
	assert_int_equal(files, 1);
	hike_end(&hike);
}

/* ------------------------------------------------------------------ much of it -----------------
 */

static size_t heap_bytes(void)
{
	struct mallinfo2 info = mallinfo2();

	return info.uordblks + info.hblkhd;
}

/* Walks `count` files; returns by how much the heap grew at the most. */
static size_t walk_files(struct arena *a, const char *name, unsigned count)
{
	size_t before, most = 0;
	struct hike hike;
	char path[ARENA_PATH_CAP + 64];
	unsigned found = 0;
	uint64_t sum = 0;

	assert_int_equal(mkdirat(a->root, name, 0755), 0);
	for (unsigned i = 0; i < count; i++) {
		(void)snprintf(path, sizeof(path), "%s/a file with the number %05u", name, i);
		text_file(a->root, path, "");
	}
	before = heap_bytes();
	hike_begin(&hike, a, NULL);
	while (hike_next(&hike)) {
		size_t now = heap_bytes();
		most = now > most ? now : most;
		if (hike.entry.kind != WALK_FILE)
			continue;
		found++;
		sum += strtoull(hike.entry.name + strlen("a file with the number "), NULL, 10);
	}
	hike_end(&hike);
	assert_int_equal(found, count);
	assert_int_equal(sum, (uint64_t)count * (count - 1) / 2); /* each once */
	assert_int_equal(entry_count(a->root, name), count);
	(void)snprintf(path, sizeof(path), "%s/%s", a->root_path, name);
	tree_remove(path);
	return most - before;
}

static void memory_does_not_grow_with_the_files(void **state)
{
	struct arena *a = arena_of(state);
	size_t few = walk_files(a, "few", 100);
	size_t many = walk_files(a, "many", 3000);
	size_t most = walk_files(a, "most", 10000);

	print_message("# 100 files: %zu bytes, 3000: %zu, 10000: %zu\n", few, many, most);
	if (few == 0)
		SKIP("this allocator does not tell what it has given");
	assert_true(most < many + 64 * 1024);
}

/* Makes directories "d", each in the other, from the top on. */
static void make_deep(const struct arena *a, unsigned depth)
{
	int at = dup(a->root);

	for (unsigned i = 0; i < depth; i++) {
		assert_int_equal(mkdirat(at, "d", 0755), 0);
		int below = openat(at, "d", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		close(at);
		at = below;
	}
	text_file(at, "file", "x");
	close(at);
}

static void check_deep(struct arena *a, unsigned depth, bool too_deep)
{
	struct hike hike;
	size_t kinds[WALK_LEFT_OUT + 1] = { 0 };

	make_deep(a, depth);
	hike_begin(&hike, a, NULL);
	while (hike_next(&hike)) {
		kinds[hike.entry.kind]++;
		if (hike.entry.kind == WALK_FAILED) {
			assert_int_equal(hike.entry.error.outcome, ZH_LIMIT);
			assert_int_equal(hike.entry.parent, DIRS_DEPTH_MOST);
			assert_string_equal(hike.entry.name, "d");
		}
	}
	assert_int_equal(kinds[WALK_DIRECTORY], DIRS_DEPTH_MOST);
	assert_int_equal(kinds[WALK_LEAVE], DIRS_DEPTH_MOST);
	assert_int_equal(kinds[WALK_FILE], too_deep ? 0 : 1);
	assert_int_equal(kinds[WALK_FAILED], too_deep ? 1 : 0);
	hike_end(&hike);
}

static void the_greatest_depth_is_walked(void **state)
{
	check_deep(arena_of(state), DIRS_DEPTH_MOST, false);
}

static void more_depth_is_a_failure(void **state)
{
	check_deep(arena_of(state), DIRS_DEPTH_MOST + 1, true);
}

static void few_descriptors_are_enough(void **state)
{
	struct arena *a = arena_of(state);
	size_t before = fd_count(), most = 0;
	struct hike hike;

	make_deep(a, 50);
	hike_begin(&hike, a, NULL);
	while (hike_next(&hike)) {
		size_t now = fd_count();
		most = now > most ? now : most;
		assert_int_not_equal(hike.entry.kind, WALK_FAILED);
	}
	hike_end(&hike);
	assert_true(most <= before + 4 + 1); /* as many as dirs may keep, and the one in hand */
}

/* ------------------------------------------------------------------ what fails -----------------
 */

static void a_closed_directory_fails_alone(void **state)
{
	struct arena *a = arena_of(state);
	bool root = geteuid() == 0;
	struct hike hike;
	char list[512];

	assert_int_equal(mkdirat(a->root, "closed", 0700), 0);
	assert_int_equal(mkdirat(a->root, "open", 0755), 0);
	text_file(a->root, "closed/file", "x");
	text_file(a->root, "open/file", "x");
	assert_int_equal(fchmodat(a->root, "closed", 0, 0), 0);
	hike_begin(&hike, a, NULL);
	if (root)
		assert_int_equal(seteuid(65534), 0); /* root reads everything */
	hike_list(&hike, list, sizeof(list));
	if (root)
		assert_int_equal(seteuid(0), 0);
	hike_end(&hike);
	assert_int_equal(fchmodat(a->root, "closed", 0700, 0), 0);
	assert_string_equal(list, "! closed\nD closed\nD open\nF open/file\n");
}

static void a_directory_swapped_under_the_walk_fails(void **state)
{
	struct arena *a = arena_of(state);
	static const char *const swaps[] = { "link", "directory", "file", "gone" };
	static const enum zh_outcome outcomes[] = { ZH_SRC_CHANGED, ZH_SRC_CHANGED, ZH_SRC_CHANGED,
		ZH_SRC_GONE };

	for (size_t i = 0; i < ARRAY_LEN(swaps); i++) {
		struct hike hike;

		assert_int_equal(mkdirat(a->root, "d", 0755), 0);
		text_file(a->root, "d/file", "x");
		hike_begin(&hike, a, NULL);
		hike_to(&hike, WALK_DIRECTORY, "d");
		uint64_t id = hike.entry.id;
		assert_int_equal(renameat(a->root, "d", a->outside, "../kept"), 0);
		if (strcmp(swaps[i], "link") == 0)
			assert_int_equal(symlinkat("../outside", a->root, "d"), 0);
		else if (strcmp(swaps[i], "directory") == 0)
			assert_int_equal(mkdirat(a->root, "d", 0755), 0);
		else if (strcmp(swaps[i], "file") == 0)
			text_file(a->root, "d", "x");
		assert_true(hike_next(&hike));
		assert_int_equal(hike.entry.kind, WALK_FAILED);
		assert_int_equal(hike.entry.error.outcome, outcomes[i]);
		assert_string_equal(hike.entry.name, "d");
		assert_string_equal(hike.entry.error.file, "d");
		assert_true(hike_next(&hike));
		assert_int_equal(hike.entry.kind, WALK_LEAVE);
		assert_int_equal(hike.entry.id, id);
		assert_false(hike_next(&hike));
		hike_end(&hike);
		(void)unlinkat(a->root, "d", 0);
		(void)unlinkat(a->root, "d", AT_REMOVEDIR);
		assert_int_equal(renameat(a->outside, "../kept", a->root, "d"), 0);
		assert_int_equal(unlinkat(a->root, "d/file", 0), 0);
		assert_int_equal(unlinkat(a->root, "d", AT_REMOVEDIR), 0);
	}
}

static void a_directory_removed_while_it_is_walked_is_no_crash(void **state)
{
	struct arena *a = arena_of(state);
	struct hike hike;
	size_t failed = 0;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	text_file(a->root, "d/1", "x");
	text_file(a->root, "d/2", "x");
	text_file(a->root, "d/3", "x");
	hike_begin(&hike, a, NULL);
	hike_to(&hike, WALK_DIRECTORY, "d");
	assert_true(hike_next(&hike));
	assert_int_equal(hike.entry.kind, WALK_FILE);
	char path[ARENA_PATH_CAP + 16];
	(void)snprintf(path, sizeof(path), "%s/d", a->root_path);
	tree_remove(path);
	while (hike_next(&hike) && hike.entry.kind == WALK_FAILED) {
		assert_int_equal(hike.entry.error.outcome, ZH_SRC_GONE);
		failed++;
	}
	assert_int_equal(hike.entry.kind, WALK_LEAVE);
	assert_int_equal(failed, 2);
	assert_false(hike_next(&hike));
	hike_end(&hike);
}

static void another_file_system_is_not_entered(void **state)
{
	struct arena *a = arena_of(state);
	char path[ARENA_PATH_CAP + 16];
	struct hike hike;
	char list[2][512];

	if (!mounts_are_private())
		SKIP("mounting is not permitted");
	if (under_valgrind())
		SKIP("valgrind has no openat2, which alone can tell a bind mount");
	assert_int_equal(mkdirat(a->root, "other", 0755), 0);
	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	(void)snprintf(path, sizeof(path), "%s/other", a->root_path);
	for (size_t i = 0; i < 2; i++) { /* a bind mount shows only when it is entered */
		assert_int_equal(i == 0 ? mount("none", path, "tmpfs", 0, "size=64k")
					: mount(a->path, path, NULL, MS_BIND, NULL),
			0);
		hike_begin(&hike, a, NULL);
		hike_list(&hike, list[i], sizeof(list[i]));
		hike_end(&hike);
		assert_int_equal(umount(path), 0);
	}
	assert_string_equal(list[0], "! other\nD d\n");
	assert_string_equal(list[1], "! other\nD d\nD other\n");
	check_list(a, NULL, "D d\nD other\n");
}

/* ------------------------------------------------------------------ rules ----------------------
 */

static struct walk_rules *rules_of(const char *const *pattern, bool exclude)
{
	struct walk_rules *rules;

	assert_int_equal(walk_rules_new(&rules), 0);
	for (; *pattern; pattern++)
		assert_int_equal(walk_rules_add(rules, *pattern, exclude), 0);
	return rules;
}

static void a_pattern_matches_what_it_says(void **state)
{
	static const struct {
		const char *pattern;
		const char *path;
		bool directory;
		bool matches;
	} rows[] = {
		{ "*.o", "a.o", false, true },
		{ "*.o", "deep/down/a.o", false, true },
		{ "*.o", "a.o/b", false, false },
		{ "*.o", "a.oo", false, false },
		{ "*.o", ".o", false, true },
		{ "*", "x", false, true },
		{ "a*b*c", "abbbcc", false, true },
		{ "a*b*c", "acb", false, false },
		{ "?", "x", false, true },
		{ "?", "xy", false, false },
		{ "?", "\xff", false, true },
		{ "x", "d/x", false, true },
		{ "/x", "x", false, true },
		{ "/x", "d/x", false, false },
		{ "d/x", "d/x", false, true },
		{ "d/x", "e/d/x", false, false },
		{ "d/*", "d/x", false, true },
		{ "d/*", "d/x/y", false, false },
		{ "d?x", "d/x", false, false },
		{ "/d?x", "d/x", false, false },
		{ "/d[^a]x", "d/x", false, false },
		{ "/d[^a]x", "dbx", false, true },
		{ "d/**", "d/x/y", false, true },
		{ "d/**", "d", true, false },
		{ "**/x", "x", false, true },
		{ "**/x", "a/b/x", false, true },
		{ "**/x", "a/bx", false, false },
		{ "a/**/b", "a/b", false, true },
		{ "a/**/b", "a/x/y/b", false, true },
		{ "a/**/b", "ab", false, false },
		{ "a/**/b", "a/xb", false, false },
		{ "a/**/b/*.c", "a/x/b/y/b/z.c", false, true },
		{ "a/**/b/*.c", "a/x/b/y/z.c", false, false },
		{ "/a**b", "a/x/b", false, true },
		{ "/a**b", "ab", false, true },
		{ "/a**b*c", "a/b/xb/c", false, false },
		{ "/a**b*c", "a/b/xbxc", false, true },
		{ "/***", "a/b", false, true },
		{ "tmp/", "tmp", true, true },
		{ "tmp/", "tmp", false, false },
		{ "tmp/", "d/tmp", true, true },
		{ "/tmp/", "d/tmp", true, false },
		{ "a/tmp/", "a/tmp", true, true },
		{ "[abc]", "b", false, true },
		{ "[abc]", "d", false, false },
		{ "[!abc]", "d", false, true },
		{ "[!abc]", "b", false, false },
		{ "[]x]", "]", false, true },
		{ "[]x]", "[", false, false },
		{ "[!]x]", "]", false, false },
		{ "[a-c]x", "bx", false, true },
		{ "[[:digit:]]*", "7up", false, true },
		{ "[[:digit:]]*", "up7", false, false },
		{ "[\\]]", "]", false, true },
		{ "\\*", "*", false, true },
		{ "\\*", "x", false, false },
		{ "\\[a", "[a", false, true },
		{ "]", "]", false, true },
		{ "a b\n\xff", "a b\n\xff", false, true },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct walk_rules *rules =
			rules_of((const char *const[]){ rows[i].pattern, NULL }, true);
		if (walk_rules_take(rules, rows[i].path, rows[i].directory) == rows[i].matches)
			fail_msg("\"%s\" and \"%s\"", rows[i].pattern, rows[i].path);
		walk_rules_free(rules);
	}
}

static void a_pattern_that_is_none_is_refused(void **state)
{
	static const char *const bad[] = { "", "/", "//", "[", "a[b", "[]", "[!]", "[a/b]",
		"[[:digit:]", "a\\", "\\/", "[a\\]" };
	struct walk_rules *rules;
	char bracket[300];

	(void)state;
	assert_int_equal(walk_rules_new(&rules), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (walk_rules_add(rules, bad[i], true) != -EINVAL)
			fail_msg("\"%s\"", bad[i]);
	memset(bracket, 'x', sizeof(bracket));
	bracket[0] = '[';
	bracket[255] = ']';
	bracket[256] = '\0';
	assert_int_equal(walk_rules_add(rules, bracket, true), -EINVAL);
	bracket[254] = ']';
	bracket[255] = '\0';
	assert_int_equal(walk_rules_add(rules, bracket, true), 0);
	assert_true(walk_rules_take(rules, "y", false));
	assert_false(walk_rules_take(rules, "x", false));
	walk_rules_free(rules);
	assert_true(walk_rules_take(NULL, "x", false));
}

static void the_first_rule_that_matches_decides(void **state)
{
	struct walk_rules *rules;

	(void)state;
	assert_int_equal(walk_rules_new(&rules), 0);
	assert_int_equal(walk_rules_add(rules, "keep.o", false), 0);
	assert_int_equal(walk_rules_add(rules, "*.o", true), 0);
	assert_int_equal(walk_rules_add(rules, "late.o", false), 0);
	assert_true(walk_rules_take(rules, "keep.o", false));
	assert_false(walk_rules_take(rules, "late.o", false));
	assert_false(walk_rules_take(rules, "other.o", false));
	assert_true(walk_rules_take(rules, "other.c", false));
	walk_rules_free(rules);
}

static void many_stars_take_no_longer(void **state)
{
	struct walk_rules *rules = rules_of(
		(const char *const[]){ "/**a*a*a**a*a*a**a*a*a**a*a*a**a*a*a*b", NULL }, true);
	char path[4096];

	(void)state;
	memset(path, 'a', sizeof(path) - 1);
	path[sizeof(path) - 1] = '\0';
	assert_true(walk_rules_take(rules, path, false)); /* or the time limit ends it */
	path[sizeof(path) - 2] = 'b';
	assert_false(walk_rules_take(rules, path, false));
	walk_rules_free(rules);
}

static void what_rules_leave_out_is_not_given(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_rules *rules;

	assert_int_equal(mkdirat(a->root, "src", 0755), 0);
	assert_int_equal(mkdirat(a->root, "src/tmp", 0755), 0);
	assert_int_equal(mkdirat(a->root, "src/deep", 0755), 0);
	text_file(a->root, "src/tmp/keep.c", "x");
	text_file(a->root, "src/deep/tmp", "x");
	text_file(a->root, "src/a.o", "x");
	text_file(a->root, "src/deep/keep.o", "x");
	text_file(a->root, "only_here", "x");
	text_file(a->root, "src/only_here", "x");
	assert_int_equal(symlinkat("x", a->root, "link.o"), 0);
	assert_int_equal(walk_rules_new(&rules), 0);
	assert_int_equal(walk_rules_add(rules, "src/**/keep.*", false), 0);
	assert_int_equal(walk_rules_add(rules, "*.o", true), 0);
	assert_int_equal(walk_rules_add(rules, "tmp/", true), 0);
	assert_int_equal(walk_rules_add(rules, "/only_here", true), 0);
	check_list(a, rules,
		"D src\nD src/deep\nF src/deep/keep.o\nF src/deep/tmp\nF src/only_here\n");
	walk_rules_free(rules);
}

static void what_is_left_out_cannot_fail(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_rules *rules = rules_of((const char *const[]){ "x", NULL }, true);
	struct hike hike;
	char list[64];

	text_file(a->root, "x", "x");
	for (int with_rules = 0; with_rules < 2; with_rules++) {
		hike_begin(&hike, a, with_rules ? rules : NULL);
		kit_fail_next(SYS_STAT, EIO);
		hike_list(&hike, list, sizeof(list));
		assert_true(kit_struck());
		hike_end(&hike);
		assert_string_equal(list, with_rules ? "" : "! x\n");
	}
	walk_rules_free(rules);
}

/* ------------------------------------------------------------------ lists ----------------------
 */

static struct walk_list *list_of(bool whole, const char *const *name)
{
	struct walk_list *list;

	assert_int_equal(walk_list_new(whole, &list), 0);
	for (; *name; name++)
		assert_int_equal(walk_list_add(list, *name), 0);
	walk_list_sort(list);
	return list;
}

/* What a walk gives of these names, as hike_list writes it. */
static void check_listed(const struct arena *a, bool whole, const struct walk_rules *rules,
	const char *const *name, const char *expected)
{
	struct walk_list *list = list_of(whole, name);
	struct hike hike;
	char text[1024];

	hike_begin_listed(&hike, a, rules, list);
	hike_list(&hike, text, sizeof(text));
	hike_end(&hike);
	walk_list_free(list);
	assert_string_equal(text, expected);
}

#define NAMES(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* a/b/file, a/file, a.txt, file, link to a, fifo, empty */
static void make_listed(const struct arena *a)
{
	assert_int_equal(mkdirat(a->root, "a", 0755), 0);
	assert_int_equal(mkdirat(a->root, "a/b", 0755), 0);
	assert_int_equal(mkdirat(a->root, "empty", 0755), 0);
	text_file(a->root, "a/b/file", "x");
	text_file(a->root, "a/file", "x");
	text_file(a->root, "a.txt", "x");
	text_file(a->root, "file", "x");
	assert_int_equal(symlinkat("a", a->root, "link"), 0);
	assert_int_equal(mkfifoat(a->root, "fifo", 0600), 0);
}

static void only_what_is_listed_is_given(void **state)
{
	struct arena *a = arena_of(state);

	make_listed(a);
	check_listed(a, false, NULL, (const char *const[]){ NULL }, "");
	check_listed(a, false, NULL, NAMES("file"), "F file\n");
	check_listed(a, false, NULL, NAMES("a/b/file", "a.txt", "link", "a/file", "fifo"),
		"D a\nD a/b\nF a.txt\nF a/b/file\nF a/file\nL link\nS fifo\n");
	check_listed(a, false, NULL,
		NAMES("./a//b/./file", "a/b/file", "a/./file/", "file", "./file"),
		"D a\nD a/b\nF a/b/file\nF a/file\nF file\n");
}

static void listed_directories_are_taken_whole_or_fail(void **state)
{
	struct arena *a = arena_of(state);

	make_listed(a);
	check_listed(a, true, NULL, NAMES("a", "a/file", "empty/"),
		"D a\nD a/b\nD empty\nF a/b/file\nF a/file\n");
	check_listed(a, false, NULL, NAMES("a", "a/file", "empty", "."),
		"! \n! a\n! empty\nD a\nF a/file\n");
	check_listed(a, true, NULL, NAMES("file", "./"),
		"D a\nD a/b\nD empty\nF a.txt\nF a/b/file\nF a/file\nF file\nL link\nS fifo\n");
}

static void what_is_listed_and_cannot_be_found_fails_by_itself(void **state)
{
	struct arena *a = arena_of(state);
	char longest[300] = "a/";
	struct walk_list *list;
	struct hike hike;

	make_listed(a);
	check_listed(a, false, NULL,
		NAMES("file/x", "no/x", "no/y", "no", "a/no", "file", "link/file"),
		"! a/no\n! file/x\n! link/file\n! no\n! no/x\n! no/y\nD a\nF file\n");
	assert_int_equal(mkdirat(a->root, ROOT_RESERVED, 0700), 0);
	text_file(a->root, ROOT_RESERVED "/partial", "x");
	check_listed(a, true, NULL, NAMES(ROOT_RESERVED, ROOT_RESERVED "/partial"),
		"! " ROOT_RESERVED "\n! " ROOT_RESERVED "/partial\n");

	memset(longest + 2, 'n', sizeof(longest) - 3);
	list = list_of(false, NAMES(longest, "a/file"));
	hike_begin_listed(&hike, a, NULL, list);
	hike_to(&hike, WALK_FILE, "file");
	assert_true(hike_next(&hike));
	assert_int_equal(hike.entry.kind, WALK_FAILED);
	assert_int_equal(hike.entry.error.outcome, ZH_LIMIT);
	hike_end(&hike);
	walk_list_free(list);
}

static void rules_hold_for_what_is_listed(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_rules *rules = rules_of((const char *const[]){ "b/", "a.*", NULL }, true);

	make_listed(a);
	check_listed(a, false, rules, NAMES("a/b/file", "a/b/no", "a/file", "a.txt", "a.no"),
		"D a\nF a/file\n");
	walk_rules_free(rules);
}

static void a_listed_directory_that_is_skipped_is_left_at_once(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_list *list = list_of(false, NAMES("a/b/file", "a/file", "file"));
	struct hike hike;

	make_listed(a);
	hike_begin_listed(&hike, a, NULL, list);
	assert_true(hike_next(&hike));
	assert_int_equal(hike.entry.kind, WALK_DIRECTORY);
	walk_skip(hike.walk);
	assert_true(hike_next(&hike));
	assert_int_equal(hike.entry.kind, WALK_LEAVE);
	assert_true(hike_next(&hike));
	assert_string_equal(hike.entry.name, "file");
	assert_false(hike_next(&hike));
	hike_end(&hike);
	walk_list_free(list);
}

static void names_that_lead_elsewhere_are_not_listed(void **state)
{
	static const char *const bad[] = { "", "/", "/a", "..", "../a", "a/..", "a/../b", "./..",
		"a/./../b", ".././a" };
	static const char *const good[] = { ".", "./", "a", "...", "..a", "a..", ".a/b..", " " };
	struct walk_list *list;

	(void)state;
	assert_int_equal(walk_list_new(false, &list), 0);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (walk_list_add(list, bad[i]) != -EINVAL)
			fail_msg("\"%s\"", bad[i]);
	assert_int_equal(walk_list_count(list), 0);
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_int_equal(walk_list_add(list, good[i]), 0);
	assert_int_equal(walk_list_count(list), ARRAY_LEN(good));
	walk_list_free(list);
}

static void what_is_left_out_is_told_when_asked_for(void **state)
{
	struct arena *a = arena_of(state);
	struct walk_rules *rules = rules_of((const char *const[]){ "*.o", "tmp/", NULL }, true);
	struct hike hike;
	char list[256];

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(mkdirat(a->root, "d/tmp", 0755), 0);
	text_file(a->root, "d/tmp/inside", "x");
	text_file(a->root, "d/a.o", "x");
	text_file(a->root, "d/tmp.c", "x");
	assert_int_equal(symlinkat("nowhere", a->root, "l.o"), 0);
	hike_begin(&hike, a, rules);
	walk_tell_left_out(hike.walk);
	hike_list(&hike, list, sizeof(list));
	assert_true(hike.entry.whole);
	hike_end(&hike);
	assert_string_equal(list, "D d\nF d/tmp.c\nx d/a.o\nx d/tmp\nx l.o\n");
	walk_rules_free(rules);
}

static void only_a_directory_that_was_read_to_its_end_is_whole(void **state)
{
	struct arena *a = arena_of(state);
	struct hike hike;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	assert_int_equal(mkdirat(a->root, "d/e", 0755), 0);
	text_file(a->root, "d/file", "x");
	hike_begin(&hike, a, NULL);
	hike_to(&hike, WALK_LEAVE, "e");
	assert_true(hike.entry.whole);
	hike_to(&hike, WALK_LEAVE, "d");
	assert_true(hike.entry.whole);
	assert_false(hike_next(&hike));
	assert_true(hike.entry.whole);
	hike_end(&hike);
	/* passed over */
	hike_begin(&hike, a, NULL);
	hike_to(&hike, WALK_DIRECTORY, "d");
	walk_skip(hike.walk);
	hike_to(&hike, WALK_LEAVE, "d");
	assert_false(hike.entry.whole);
	assert_false(hike_next(&hike));
	assert_true(hike.entry.whole);
	hike_end(&hike);
}

static void a_directory_that_cannot_be_read_is_not_whole(void **state)
{
	static const struct sys_fault faults[] = {
		{ SYS_FAULT_ERRNO, SYS_READDIR, EIO, 1, 1 }, /* nothing of it */
		{ SYS_FAULT_ERRNO, SYS_READDIR, EIO, 2, 1 }, /* its end */
		{ SYS_FAULT_ERRNO, SYS_OPEN, EACCES, 1, 1 },
	};
	struct arena *a = arena_of(state);
	struct hike hike;

	assert_int_equal(mkdirat(a->root, "d", 0755), 0);
	text_file(a->root, "d/file", "x");
	for (size_t i = 0; i < ARRAY_LEN(faults); i++) {
		hike_begin(&hike, a, NULL);
		hike_to(&hike, WALK_DIRECTORY, "d");
		sys_fault_arm(&faults[i]);
		hike_to(&hike, WALK_FAILED, "d");
		assert_true(kit_struck());
		hike_to(&hike, WALK_LEAVE, "d");
		assert_false(hike.entry.whole);
		assert_false(hike_next(&hike));
		assert_true(hike.entry.whole);
		hike_end(&hike);
	}
	/* the start */
	hike_begin(&hike, a, NULL);
	kit_fail_next(SYS_READDIR, EIO);
	hike_to(&hike, WALK_FAILED, "");
	assert_true(kit_struck());
	assert_false(hike_next(&hike));
	assert_false(hike.entry.whole);
	hike_end(&hike);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(everything_is_found_once),
		ARENA_TEST_ON_TMPFS(everything_is_found_once),
		ARENA_TEST(an_empty_tree_is_no_failure),
		ARENA_TEST(an_entry_is_what_lstat_says),
		ARENA_TEST(targets_of_links_are_read_if_wanted),
		ARENA_TEST(what_is_no_file_is_special),
		ARENA_TEST(the_reserved_name_is_passed_over),
		ARENA_TEST(a_walk_begins_anywhere),
		ARENA_TEST(a_skipped_directory_is_left_at_once),
		ARENA_TEST(memory_does_not_grow_with_the_files),
		ARENA_TEST_ON_TMPFS(memory_does_not_grow_with_the_files),
		ARENA_TEST(the_greatest_depth_is_walked),
		ARENA_TEST(more_depth_is_a_failure),
		ARENA_TEST(few_descriptors_are_enough),
		ARENA_TEST(a_closed_directory_fails_alone),
		ARENA_TEST(a_directory_swapped_under_the_walk_fails),
		ARENA_TEST(a_directory_removed_while_it_is_walked_is_no_crash),
		ARENA_TEST(another_file_system_is_not_entered),
		cmocka_unit_test(a_pattern_matches_what_it_says),
		cmocka_unit_test(a_pattern_that_is_none_is_refused),
		cmocka_unit_test(the_first_rule_that_matches_decides),
		cmocka_unit_test(many_stars_take_no_longer),
		ARENA_TEST(what_rules_leave_out_is_not_given),
		ARENA_TEST(what_is_left_out_cannot_fail),
		ARENA_TEST(only_what_is_listed_is_given),
		ARENA_TEST(listed_directories_are_taken_whole_or_fail),
		ARENA_TEST(what_is_listed_and_cannot_be_found_fails_by_itself),
		ARENA_TEST(rules_hold_for_what_is_listed),
		ARENA_TEST(a_listed_directory_that_is_skipped_is_left_at_once),
		cmocka_unit_test(names_that_lead_elsewhere_are_not_listed),
		ARENA_TEST(what_is_left_out_is_told_when_asked_for),
		ARENA_TEST(only_a_directory_that_was_read_to_its_end_is_whole),
		ARENA_TEST(a_directory_that_cannot_be_read_is_not_whole),
	};

	(void)mounts_are_private();
	return RUN_TESTS("walk", tests);
}
