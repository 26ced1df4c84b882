/* SPDX-License-Identifier: Apache-2.0 */
/* manifest_test.c - what is written is read again as it was, and nothing else is. */
#include "unit.h"

#include "base/sys.h"
#include "store/manifest.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/mman.h>
#include <xxhash.h>

static char directory[64];

static const char *path_of(const char *name)
{
	static char path[sizeof(directory) + 32];

	(void)snprintf(path, sizeof(path), "%s/%s", directory, name);
	return path;
}

static int make_directory(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)state;
	(void)snprintf(directory, sizeof(directory), "%.32s/zerohaul-manifest.XXXXXX",
		base ? base : P_tmpdir);
	return mkdtemp(directory) ? 0 : -1;
}

static int remove_directory(void **state)
{
	(void)state;
	(void)unlink(path_of("m"));
	return rmdir(directory); /* fails when anything else was left behind */
}

static struct manifest_entry file_entry(const char *path, uint64_t size)
{
	struct manifest_entry entry = { .kind = MANIFEST_FILE,
		.size = size,
		.mtime_s = 1700000000,
		.mtime_ns = 5,
		.mode = 0644,
		.path = path,
		.path_bytes = strlen(path) };

	memset(entry.root.byte, 0xa5, sizeof(entry.root.byte));
	return entry;
}

static struct manifest_entry link_entry(const char *path, const char *target)
{
	return (struct manifest_entry){ .kind = MANIFEST_LINK,
		.path = path,
		.path_bytes = strlen(path),
		.target = target,
		.target_bytes = strlen(target) };
}

static struct manifest *open_manifest(void)
{
	struct manifest *manifest;
	struct zh_error err;

	err_init(&err);
	assert_int_equal(manifest_open(path_of("m"), &manifest, &err), 0);
	return manifest;
}

static void close_manifest(struct manifest *manifest)
{
	struct zh_error err;

	err_init(&err);
	assert_int_equal(manifest_close(manifest, &err), 0);
	assert_false(err_is_set(&err));
}

static size_t read_text(char *text, size_t cap)
{
	int fd = open(path_of("m"), O_RDONLY | O_CLOEXEC);
	ssize_t length = read(fd, text, cap - 1);

	assert_true(length >= 0);
	text[length] = '\0';
	close(fd);
	return (size_t)length;
}

/* Reads a text to its end. Returns the number of entries or the error; *ret_err may be NULL. */
static int read_all(const void *text, size_t length, struct zh_error *ret_err)
{
	int fd = memfd_create("manifest", MFD_CLOEXEC);
	struct manifest_reader reader;
	struct manifest_entry entry;
	struct zh_error err;
	int r, count = 0;

	assert_int_equal(write(fd, text, length), length);
	assert_int_equal(manifest_reader_init(&reader, fd), 0);
	err_init(&err);
	while ((r = manifest_reader_next(&reader, &entry, &err)) > 0)
		count++;
	assert_int_equal(err_is_set(&err), r < 0);
	if (r == 0) /* and stays at the end */
		assert_int_equal(manifest_reader_next(&reader, &entry, &err), 0);
	manifest_reader_fini(&reader);
	close(fd);
	if (ret_err)
		*ret_err = err;
	return r < 0 ? r : count;
}

/* ------------------------------ the format --------------------------------------------- */

static void the_text_is_what_the_decision_says(void **state)
{
	static const char expected[] =
		"zerohaul-manifest 1\n"
		"file a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5a5 12 1700000000.000000005 0644 a b/\\x5c\\x0a\\xff\n"
		"dir 2755 a b\n"
		"link ../to\\x20there a b/l l\n"
		"end 1 12 ";
	struct manifest *manifest = open_manifest();
	struct manifest_entry file = file_entry("a b/\\\n\xff", 12);
	struct manifest_entry dir = {
		.kind = MANIFEST_DIRECTORY, .mode = 02755, .path = "a b", .path_bytes = 3
	};
	struct manifest_entry link = link_entry("a b/l l", "../to there");
	char text[1024];

	(void)state;
	manifest_add(manifest, &file);
	manifest_add(manifest, &dir);
	manifest_add(manifest, &link);
	close_manifest(manifest);
	size_t length = read_text(text, sizeof(text));
	assert_int_equal(length, strlen(expected) + 33);
	assert_memory_equal(text, expected, strlen(expected));
	assert_int_equal(strspn(text + strlen(expected), "0123456789abcdef"), 32);
	assert_int_equal(text[length - 1], '\n');
	assert_int_equal(read_all(text, length, NULL), 3);
}

static void the_last_digest_is_xxh128_of_the_lines_before(void **state)
{
	static const char head[] = "zerohaul-manifest 1\n";
	XXH128_hash_t hash = XXH3_128bits(head, strlen(head));
	char text[256], expected[256];

	(void)state;
	/* as xxh128sum(1) prints it */
	(void)snprintf(expected, sizeof(expected), "%send 0 0 %016llx%016llx\n", head,
		(unsigned long long)hash.high64, (unsigned long long)hash.low64);
	close_manifest(open_manifest());
	assert_int_equal(read_text(text, sizeof(text)), strlen(expected));
	assert_string_equal(text, expected);
	assert_int_equal(read_all(text, strlen(text), NULL), 0);
}

static void any_bytes_of_a_name_come_back(void **state)
{
	char path[3 * 255 + 2], target[256] = { 0 };
	struct manifest *manifest = open_manifest();
	struct manifest_entry expected[2], entry;
	struct manifest_reader reader;
	struct zh_error err;
	size_t length = 0;

	(void)state;
	for (int c = 1; c < 256; c++) {
		target[c - 1] = (char)c;
		if (c != '/')
			path[length++] = (char)c;
	}
	path[length++] = '/';
	memset(path + length, ' ', 255);
	length += 255;
	expected[0] = file_entry(path, INT64_MAX);
	expected[0].path_bytes = length;
	expected[0].mtime_s = INT64_MIN;
	expected[0].mtime_ns = 999999999;
	expected[0].mode = 07777;
	expected[1] = link_entry("l", target);
	manifest_add(manifest, &expected[0]);
	manifest_add(manifest, &expected[1]);
	close_manifest(manifest);

	int fd = open(path_of("m"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(manifest_reader_init(&reader, fd), 0);
	err_init(&err);
	assert_int_equal(manifest_reader_next(&reader, &entry, &err), 1);
	assert_int_equal(entry.kind, MANIFEST_FILE);
	assert_int_equal(entry.path_bytes, length);
	assert_memory_equal(entry.path, path, length);
	assert_true(entry.size == INT64_MAX && entry.mtime_s == INT64_MIN);
	assert_true(entry.mtime_ns == 999999999 && entry.mode == 07777);
	assert_true(digest_equal(&entry.root, &expected[0].root));
	assert_int_equal(manifest_reader_next(&reader, &entry, &err), 1);
	assert_int_equal(entry.kind, MANIFEST_LINK);
	assert_int_equal(entry.target_bytes, 255);
	assert_memory_equal(entry.target, target, 255);
	assert_int_equal(manifest_reader_next(&reader, &entry, &err), 0);
	manifest_reader_fini(&reader);
	close(fd);
}

static void the_longest_line_comes_back_and_a_longer_one_is_refused(void **state)
{
	static char path[MANIFEST_PATH_MAX + 3], target[MANIFEST_TARGET_MAX + 1];
	struct manifest_entry entry = link_entry("x", "t"), back;
	struct manifest_reader reader;
	struct zh_error err;

	(void)state;
	memset(path, 1, sizeof(path));
	for (size_t i = 255; i < MANIFEST_PATH_MAX; i += 256)
		path[i] = '/';
	path[MANIFEST_PATH_MAX] = '/';
	memset(target, 2, sizeof(target));
	entry.path = path;
	entry.target = target;
	entry.path_bytes = MANIFEST_PATH_MAX;
	entry.target_bytes = MANIFEST_TARGET_MAX;
	struct manifest *manifest = open_manifest();
	manifest_add(manifest, &entry);
	manifest_add(manifest, &entry);
	close_manifest(manifest);
	int fd = open(path_of("m"), O_RDONLY | O_CLOEXEC);
	assert_int_equal(manifest_reader_init(&reader, fd), 0);
	err_init(&err);
	for (int i = 0; i < 2; i++) {
		assert_int_equal(manifest_reader_next(&reader, &back, &err), 1);
		assert_int_equal(back.path_bytes, MANIFEST_PATH_MAX);
		assert_memory_equal(back.path, path, MANIFEST_PATH_MAX);
		assert_int_equal(back.target_bytes, MANIFEST_TARGET_MAX);
	}
	assert_int_equal(manifest_reader_next(&reader, &back, &err), 0);
	manifest_reader_fini(&reader);
	close(fd);

	for (int i = 0; i < 2; i++) {
		entry.path_bytes = MANIFEST_PATH_MAX + (i == 0 ? 2 : 0);
		entry.target_bytes = MANIFEST_TARGET_MAX + (i == 1 ? 1 : 0);
		manifest = open_manifest();
		manifest_add(manifest, &entry);
		err_init(&err);
		assert_int_equal(manifest_close(manifest, &err), -EINVAL);
		assert_int_equal(err.outcome, ZH_UNSAFE_NAME);
	}
}

/* ------------------------------ strictness --------------------------------------------- */

/* Whether a line is taken, in a manifest that is wrong behind it. */
static bool read_line(const char *line, uint64_t files, uint64_t bytes)
{
	char text[4096];
	struct zh_error err;
	int length = snprintf(text, sizeof(text), "zerohaul-manifest 1\n%s\nend %llu %llu ", line,
		(unsigned long long)files, (unsigned long long)bytes);

	(void)snprintf(text + length, sizeof(text) - (size_t)length, "%032d\n", 0);
	assert_int_equal(read_all(text, strlen(text), &err), -EINVAL);
	assert_int_equal(err.outcome, ZH_CONFIG);
	return strncmp(err.text, "line 2: ", 8) != 0;
}

static void only_lines_as_they_are_written_are_read(void **state)
{
#define D "0123456789abcdef0123456789abcdef"
	static const char *const good[] = {
		"file " D " 0 0.000000000 0000 a",
		"file " D " 1 -1.000000001 0644 a/b c",
		"dir 0755 .hidden",
		"link t p",
		"link /abs/.. p",
		"file " D " 1 1.000000001 0644 \\x7f",
	};
	static const char *const bad[] = {
		"",
		"file",
		"file ",
		"File " D " 0 0.000000000 0000 a",
		"file  " D " 0 0.000000000 0000 a",
		"file 0123456789abcdef0123456789abcde 0 0.000000000 0000 a",
		"file 0123456789ABCDEF0123456789abcdef 0 0.000000000 0000 a",
		"file " D " 00 0.000000000 0000 a",
		"file " D " +1 0.000000000 0000 a",
		"file " D " -1 0.000000000 0000 a",
		"file " D "  0.000000000 0000 a",
		"file " D " 9223372036854775808 0.000000000 0000 a",
		"file " D " 18446744073709551617 0.000000000 0000 a",
		"file " D " 1 1.00000001 0644 a",
		"file " D " 1 1.0000000001 0644 a",
		"file " D " 1 -0.000000000 0644 a",
		"file " D " 1 9223372036854775808.000000000 0644 a",
		"file " D " 1 1 0644 a",
		"file " D " 1 1.000000000 644 a",
		"file " D " 1 1.000000000 0648 a",
		"file " D " 1 1.000000000 10000 a",
		"file " D " 1 1.000000000 40000000644 a",
		"file " D " 1 1.000000000 0644 ",
		"file " D " 1 1.000000000 0644 /a",
		"file " D " 1 1.000000000 0644 a/",
		"file " D " 1 1.000000000 0644 a//b",
		"file " D " 1 1.000000000 0644 a/../b",
		"file " D " 1 1.000000000 0644 .",
		"file " D " 1 1.000000000 0644 .zerohaul-staging/x",
		"file " D " 1 1.000000000 0644 a\\",
		"file " D " 1 1.000000000 0644 a\\x",
		"file " D " 1 1.000000000 0644 a\\x0",
		"file " D " 1 1.000000000 0644 a\\x61",
		"file " D " 1 1.000000000 0644 a\\x0A",
		"file " D " 1 1.000000000 0644 a\\x00",
		"file " D " 1 1.000000000 0644 a\\x2fb",
		"file " D " 1 1.000000000 0644 a\\n",
		"file " D " 1 1.000000000 0644 a\xff",
		"file " D " 1 1.000000000 0644 a\r",
		"file " D " 1 1.000000000 0644 a\t",
		"dir 0755",
		"dir 755 a",
		"dir  a",
		"link t",
		"link  p",
		"link t\\x00 p",
		"link \\x74 p",
		"fifo 0644 a",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		if (!read_line(good[i], good[i][0] == 'f', (uint64_t)(i == 1 || i == 5)))
			fail_msg("good line %zu is refused: %s", i, good[i]);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (read_line(bad[i], 1, 1))
			fail_msg("bad line %zu is taken: %s", i, bad[i]);
}

static size_t three_files(char *text, size_t cap)
{
	struct manifest *manifest = open_manifest();
	static const char *const names[] = { "a", "b/c", "d" };

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct manifest_entry entry = file_entry(names[i], 10 + i);
		manifest_add(manifest, &entry);
	}
	close_manifest(manifest);
	return read_text(text, cap);
}

static void every_cut_is_found(void **state)
{
	char text[1024];
	size_t length = three_files(text, sizeof(text));

	(void)state;
	assert_int_equal(read_all(text, length, NULL), 3);
	for (size_t cut = 0; cut < length; cut++)
		if (read_all(text, cut, NULL) != -EINVAL)
			fail_msg("%zu of %zu bytes are taken for a manifest", cut, length);
}

static void every_changed_byte_is_found(void **state)
{
	char text[1024];
	size_t length = three_files(text, sizeof(text));

	(void)state;
	for (size_t i = 0; i < length; i++)
		for (int bit = 0; bit < 8; bit++) {
			text[i] = (char)(text[i] ^ 1 << bit);
			if (read_all(text, length, NULL) != -EINVAL)
				fail_msg("bit %d of byte %zu may be another", bit, i);
			text[i] = (char)(text[i] ^ 1 << bit);
		}
	assert_int_equal(read_all(text, length, NULL), 3);
}

static void a_line_taken_out_put_in_or_appended_is_found(void **state)
{
	char text[1024], other[2048];
	size_t length = three_files(text, sizeof(text));
	char *second = strchr(strchr(text, '\n') + 1, '\n') + 1;
	char *third = strchr(second, '\n') + 1;

	(void)state;
	(void)snprintf(other, sizeof(other), "%.*s%s", (int)(second - text), text, third);
	assert_int_equal(read_all(other, strlen(other), NULL), -EINVAL);
	(void)snprintf(other, sizeof(other), "%.*s%s", (int)(third - text), text, second);
	assert_int_equal(read_all(other, strlen(other), NULL), -EINVAL);
	(void)snprintf(other, sizeof(other), "%s%s", text, text);
	assert_int_equal(read_all(other, strlen(other), NULL), -EINVAL);
	(void)snprintf(other, sizeof(other), "%s\n", text);
	assert_int_equal(read_all(other, strlen(other), NULL), -EINVAL);
	assert_int_equal(read_all(text, length, NULL), 3);
}

static void a_sum_of_sizes_that_overflows_is_refused(void **state)
{
	struct manifest *manifest = open_manifest();
	struct manifest_entry entry = file_entry("a", INT64_MAX);
	struct zh_error err;

	(void)state;
	manifest_add(manifest, &entry);
	manifest_add(manifest, &entry);
	close_manifest(manifest);
	manifest = open_manifest();
	for (int i = 0; i < 3; i++)
		manifest_add(manifest, &entry);
	err_init(&err);
	assert_int_equal(manifest_close(manifest, &err), -EINVAL);
}

/* ------------------------------ the writer --------------------------------------------- */

static void what_cannot_be_listed_is_told_at_the_end(void **state)
{
	static const char *const names[] = { "", "/a", "a/", "..", "a/../b", ".zerohaul-staging" };
	struct zh_error err;

	(void)state;
	(void)unlink(path_of("m"));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		struct manifest *manifest = open_manifest();
		struct manifest_entry bad = file_entry(names[i], 1), good = file_entry("a", 1);
		manifest_add(manifest, &bad);
		manifest_add(manifest, &good);
		err_init(&err);
		assert_int_equal(manifest_close(manifest, &err), -EINVAL);
		assert_int_equal(err.outcome, ZH_UNSAFE_NAME);
		assert_string_equal(err.file, names[i]);
		assert_int_equal(access(path_of("m"), F_OK), -1);
	}
}

static void a_manifest_has_its_name_only_when_it_is_complete(void **state)
{
	struct manifest *manifest = open_manifest();
	struct manifest_entry entry = file_entry("a", 1);
	char text[1024];

	(void)state;
	close_manifest(manifest);
	size_t length = read_text(text, sizeof(text));
	manifest = open_manifest();
	manifest_add(manifest, &entry);
	manifest_abandon(manifest);
	assert_int_equal(read_text(text, sizeof(text)), length); /* the old one */
	manifest = open_manifest();
	manifest_add(manifest, &entry);
	close_manifest(manifest);
	assert_true(read_text(text, sizeof(text)) > length);
	manifest_abandon(NULL);
}

static void only_a_regular_file_is_replaced(void **state)
{
	struct manifest *manifest;
	struct zh_error err;

	(void)state;
	(void)unlink(path_of("m"));
	assert_int_equal(symlink("/dev/null", path_of("m")), 0);
	err_init(&err);
	assert_int_equal(manifest_open(path_of("m"), &manifest, &err), -EEXIST);
	assert_int_equal(err.outcome, ZH_EXISTS);
	assert_string_equal(err.file, path_of("m"));
	assert_null(manifest);
	assert_int_equal(unlink(path_of("m")), 0);
	err_init(&err);
	assert_int_equal(manifest_open(directory, &manifest, &err), -EISDIR);
	err_init(&err);
	assert_int_equal(manifest_open(path_of("none/m"), &manifest, &err), -ENOENT);
	err_init(&err);
	assert_int_equal(manifest_open("", &manifest, &err), -EISDIR);
	close_manifest(open_manifest());
}

enum { THREADS = 4, EACH = 20000 };

static void *add_many(void *argument)
{
	struct manifest *manifest = argument;
	struct manifest_entry entry = file_entry("some/name of a file", 3);

	for (int i = 0; i < EACH; i++)
		manifest_add(manifest, &entry);
	return NULL;
}

static void threads_add_whole_lines(void **state)
{
	static char text[THREADS * EACH * 120];
	struct manifest *manifest = open_manifest();
	pthread_t thread[THREADS];

	(void)state;
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&thread[i], NULL, add_many, manifest), 0);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_join(thread[i], NULL), 0);
	close_manifest(manifest);
	size_t length = read_text(text, sizeof(text));
	assert_true(length < sizeof(text) - 1);
	assert_int_equal(read_all(text, length, NULL), THREADS * EACH);
}

static void every_failing_call_leaves_the_old_or_the_new(void **state)
{
	static const int errors[] = { EIO, ENOSPC, EPERM, EINVAL, ENOSYS };
	struct manifest_entry entry = file_entry("new", 1);
	char text[1024];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(errors); i++)
		for (uint64_t nth = 1;; nth++) {
			struct sys_fault fault = { .kind = SYS_FAULT_ERRNO,
				.call = SYS_CALL_COUNT,
				.error = errors[i],
				.nth = nth,
				.times = 1 };
			struct manifest *manifest;
			struct zh_error err;
			close_manifest(open_manifest()); /* the old one lists nothing */
			size_t descriptors = open_descriptors();
			err_init(&err);
			sys_fault_arm(&fault);
			int r = manifest_open(path_of("m"), &manifest, &err);
			if (r == 0) {
				manifest_add(manifest, &entry);
				r = manifest_close(manifest, &err);
			}
			bool struck = sys_fault_struck() > 0;
			enum sys_call call = sys_fault_struck_call();
			sys_fault_arm(NULL);
			assert_int_equal(open_descriptors(), descriptors);
			int listed = read_all(text, read_text(text, sizeof(text)), NULL);
			assert_int_equal(err_is_set(&err), r < 0);
			assert_true(struck || r == 0);
			if (r == 0)
				assert_int_equal(listed, 1);
			else if (call != SYS_FSYNC) /* of the directory: it has its name */
				assert_int_equal(listed, 0);
			assert_true(listed == 0 || listed == 1);
			if (!struck)
				break;
			assert_true(nth < 50);
		}
}

static void short_writes_change_nothing(void **state)
{
	struct sys_fault fault = { .kind = SYS_FAULT_SHORT, .call = SYS_WRITE, .nth = 1 };
	char text[1024], other[1024];
	size_t length = three_files(text, sizeof(text));

	(void)state;
	sys_fault_arm(&fault);
	size_t again = three_files(other, sizeof(other));
	assert_true(sys_fault_struck() > 0);
	sys_fault_arm(NULL);
	assert_int_equal(again, length);
	assert_memory_equal(text, other, length);
}

static void a_read_error_is_told_and_short_reads_change_nothing(void **state)
{
	struct sys_fault fault = { .kind = SYS_FAULT_SHORT, .call = SYS_PREAD, .nth = 1 };
	char text[1024];
	size_t length = three_files(text, sizeof(text));
	struct zh_error err;

	(void)state;
	sys_fault_arm(&fault);
	assert_int_equal(read_all(text, length, NULL), 3);
	assert_true(sys_fault_struck() > 0);
	fault = (struct sys_fault){
		.kind = SYS_FAULT_ERRNO, .call = SYS_PREAD, .error = EIO, .nth = 1, .times = 1
	};
	sys_fault_arm(&fault);
	assert_int_equal(read_all(text, length, &err), -EIO);
	sys_fault_arm(NULL);
	assert_int_equal(err.outcome, ZH_SRC_IO);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_text_is_what_the_decision_says),
		cmocka_unit_test(the_last_digest_is_xxh128_of_the_lines_before),
		cmocka_unit_test(any_bytes_of_a_name_come_back),
		cmocka_unit_test(the_longest_line_comes_back_and_a_longer_one_is_refused),
		cmocka_unit_test(only_lines_as_they_are_written_are_read),
		cmocka_unit_test(every_cut_is_found),
		cmocka_unit_test(every_changed_byte_is_found),
		cmocka_unit_test(a_line_taken_out_put_in_or_appended_is_found),
		cmocka_unit_test(a_sum_of_sizes_that_overflows_is_refused),
		cmocka_unit_test(what_cannot_be_listed_is_told_at_the_end),
		cmocka_unit_test(a_manifest_has_its_name_only_when_it_is_complete),
		cmocka_unit_test(only_a_regular_file_is_replaced),
		cmocka_unit_test(threads_add_whole_lines),
		cmocka_unit_test(every_failing_call_leaves_the_old_or_the_new),
		cmocka_unit_test(short_writes_change_nothing),
		cmocka_unit_test(a_read_error_is_told_and_short_reads_change_nothing),
	};

	return cmocka_run_group_tests_name("manifest", tests, make_directory, remove_directory);
}
