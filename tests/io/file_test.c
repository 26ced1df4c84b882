/* SPDX-License-Identifier: Apache-2.0 */
/* file_test.c - facts about open files, and the second descriptor that direct I/O needs. */
#include "move_kit.h"

#include "kernel/file.h"

#include <linux/magic.h>
#include <sys/mman.h>

static struct file_facts facts_of(int fd, uint64_t offset, uint64_t length)
{
	struct file_facts facts;

	assert_int_equal(file_facts(fd, (struct zh_extent){ offset, length }, &facts), 0);
	return facts;
}

static void a_file_is_described_as_it_is(void **state)
{
	struct arena *a = arena_of(state);
	int fd = kit_source(a, "file", 123457);
	struct file_facts facts = facts_of(fd, 0, 123457);

	assert_true(facts.regular);
	assert_false(facts.append_only);
	assert_int_equal(facts.size, 123457);
	if (arena_is_on(a, TMPFS_MAGIC)) {
		assert_string_equal(facts.filesystem, "tmpfs");
		assert_true(facts.in_memory);
		assert_int_equal(facts.read_ahead_bytes, 0);
	} else if (arena_is_on(a, EXT4_SUPER_MAGIC)) {
		assert_string_equal(facts.filesystem, "ext4");
		assert_false(facts.in_memory);
		assert_true(facts.direct_offset_align > 0 && facts.direct_offset_align <= 4096);
		assert_true(facts.direct_memory_align > 0);
	}
	close(fd);
	fd = kit_open(a->root, "file", O_WRONLY | O_APPEND);
	assert_true(facts_of(fd, 0, 1).append_only);
	close(fd);
}

static void asking_changes_nothing(void **state)
{
	struct arena *a = arena_of(state);
	int fd = kit_source(a, "file", 100000);
	uint64_t before = tree_hash(a->root);

	assert_int_equal(lseek(fd, 77, SEEK_SET), 77);
	(void)facts_of(fd, 5, 99995);
	assert_int_equal(lseek(fd, 0, SEEK_CUR), 77);
	assert_int_equal(tree_hash(a->root), before);
	close(fd);
}

static void other_kinds_are_told_from_files(void **state)
{
	int end[2];

	(void)state;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	assert_false(facts_of(null, 0, 4096).regular);
	assert_int_equal(facts_of(null, 0, 4096).resident_permille, -1);
	close(null);
	assert_int_equal(pipe2(end, O_CLOEXEC), 0);
	assert_false(facts_of(end[0], 0, 1).regular);
	kit_close_pair(end);
	int directory = open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	assert_false(facts_of(directory, 0, 1).regular);
	close(directory);
}

static void what_is_in_the_page_cache_is_told(void **state)
{
	struct arena *a = arena_of(state);
	const uint64_t size = 4 * MIB;
	int fd = kit_source(a, "file", size);

	assert_int_equal(
		facts_of(fd, 0, size).resident_permille, 1000); /* it was written just now */
	assert_int_equal(facts_of(fd, 0, 0).resident_permille, -1);
	/* valgrind reads the first page of what is mapped, and so disturbs what is cached */
	if (!arena_is_on(a, EXT4_SUPER_MAGIC) || under_valgrind()) {
		close(fd);
		return;
	}
	int writer = kit_open(a->root, "file", O_RDWR);
	assert_int_equal(fsync(writer), 0);
	close(writer);
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED), 0);
	assert_int_equal(facts_of(fd, 0, size).resident_permille, 0);
	assert_int_equal(facts_of(fd, 0, size).resident_permille, 0); /* asking reads nothing */
	assert_int_equal(posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM), 0);
	char byte;
	assert_int_equal(pread(fd, &byte, 1, MIB), 1);
	int32_t one = file_resident_permille(fd, (struct zh_extent){ MIB, 4096 });
	assert_int_equal(one, 1000);
	assert_int_equal(file_resident_permille(fd, (struct zh_extent){ 0, 4096 }), 0);
	close(fd);
}

/* Linux before 6.5 has no cachestat(2); what answers there must agree. */
static void the_older_way_of_asking_agrees(void **state)
{
	struct arena *a = arena_of(state);
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_CACHESTAT, ENOSYS, 1, 0 };
	struct zh_extent extents[] = { { 0, 8 * MIB }, { 1, 1 }, { 4095, 2 }, { 5000, 5 * MIB } };
	int fd = kit_source(a, "file", 8 * MIB);

	for (size_t i = 0; i < ARRAY_LEN(extents); i++) {
		int32_t now = file_resident_permille(fd, extents[i]);
		sys_fault_arm(&fault);
		int32_t before = file_resident_permille(fd, extents[i]);
		sys_fault_arm(NULL);
		assert_int_equal(now, 1000);
		/* mincore tells only the owner, or who may write */
		assert_true(before == now || geteuid() != 0);
	}
	close(fd);
}

static void a_direct_descriptor_is_of_the_same_file(void **state)
{
	struct arena *a = arena_of(state);
	int fd = kit_open(a->root, "file", O_RDWR | O_CREAT);
	struct stat st, direct_st;

	random_write(fd, 4096, KIT_SEED);
	assert_int_equal(unlinkat(a->root, "file", 0), 0); /* by no name of its own */
	for (int side = 0; side < 2; side++) {
		int direct = file_open_direct(fd, (enum zh_side)side);
		if (direct == -EINVAL)
			continue; /* a file system without it */
		assert_true(direct >= 0);
		assert_int_equal(fstat(fd, &st), 0);
		assert_int_equal(fstat(direct, &direct_st), 0);
		assert_int_equal(st.st_ino, direct_st.st_ino);
		int flags = fcntl(direct, F_GETFL);
		assert_true(flags & O_DIRECT);
		assert_int_equal(flags & O_ACCMODE, side == ZH_SEND ? O_RDONLY : O_WRONLY);
		assert_int_equal(fcntl(direct, F_GETFD), FD_CLOEXEC);
		assert_false(fcntl(fd, F_GETFL) & O_DIRECT); /* the caller's is as it was */
		close(direct);
	}
	close(fd);
}

static void a_direct_descriptor_may_no_more_than_the_first(void **state)
{
	struct arena *a = arena_of(state);

	close(kit_source(a, "file", 4096));
	int reader = kit_open(a->root, "file", O_RDONLY);
	assert_int_equal(file_open_direct(reader, ZH_RECEIVE), -EBADF);
	int writer = kit_open(a->root, "file", O_WRONLY);
	assert_int_equal(file_open_direct(writer, ZH_SEND), -EBADF);
	assert_int_equal(file_open_direct(-1, ZH_SEND), -EBADF);
	close(reader);
	close(writer);
}

static void facts_that_cannot_be_had_are_left_unknown(void **state)
{
	struct arena *a = arena_of(state);
	int fd = kit_source(a, "file", 4096);
	struct file_facts facts;
	struct zh_extent extent = { 0, 4096 };

	assert_int_equal(file_facts(-1, extent, &facts), -EBADF);
	for (uint64_t nth = 1; nth < 20; nth++) {
		struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_CALL_COUNT, EACCES, nth, 1 };
		sys_fault_arm(&fault);
		int r = file_facts(fd, extent, &facts);
		uint64_t struck = sys_fault_struck();
		enum sys_call call = sys_fault_struck_call();
		sys_fault_arm(NULL);
		if (!struck)
			break;
		if (r < 0) {
			assert_int_equal(r, -EACCES);
			assert_true(call == SYS_STAT || call == SYS_FCNTL);
			continue;
		}
		assert_true(facts.regular);
		assert_int_equal(facts.size, 4096);
		if (call == SYS_CACHESTAT)
			assert_int_equal(facts.resident_permille, -1);
		if (call == SYS_OPEN || call == SYS_READ)
			assert_int_equal(facts.read_ahead_bytes, 0);
	}
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		ARENA_TEST(a_file_is_described_as_it_is),
		ARENA_TEST_ON_TMPFS(a_file_is_described_as_it_is),
		ARENA_TEST(asking_changes_nothing),
		ARENA_TEST_ON_TMPFS(asking_changes_nothing),
		cmocka_unit_test(other_kinds_are_told_from_files),
		ARENA_TEST(what_is_in_the_page_cache_is_told),
		ARENA_TEST_ON_TMPFS(what_is_in_the_page_cache_is_told),
		ARENA_TEST(the_older_way_of_asking_agrees),
		ARENA_TEST(a_direct_descriptor_is_of_the_same_file),
		ARENA_TEST_ON_TMPFS(a_direct_descriptor_is_of_the_same_file),
		ARENA_TEST(a_direct_descriptor_may_no_more_than_the_first),
		ARENA_TEST(facts_that_cannot_be_had_are_left_unknown),
	};

	return RUN_TESTS("file", tests);
}
