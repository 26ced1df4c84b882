/* SPDX-License-Identifier: Apache-2.0 */
/* xattrs_test.c - extended attributes are read as they are, and become what they are to be. */
#include "store_kit.h"

#include "store/xattrs.h"

#include <errno.h>
#include <stdio.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ALL (XATTR_USER | XATTR_ACL | XATTR_PRIVILEGED)

/* An empty file that may have attributes. */
static int new_file(const struct arena *a)
{
	int fd = openat(a->root, "file", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	assert_true(fd >= 0);
	if (fsetxattr(fd, "user.a", "", 0, 0) != 0) {
		close(fd);
		SKIP("no extended attributes here");
	}
	assert_int_equal(fremovexattr(fd, "user.a"), 0);
	return fd;
}

static void give(int fd, const char *name, const char *value)
{
	assert_int_equal(fsetxattr(fd, name, value, strlen(value), 0), 0);
}

static bool has(int fd, const char *name, const char *value)
{
	char bytes[256];
	ssize_t length = fgetxattr(fd, name, bytes, sizeof(bytes));

	return length == (ssize_t)strlen(value) && memcmp(bytes, value, strlen(value)) == 0;
}

/* Of pairs of name and value, ended by NULL. */
static struct xattrs *of_pairs(unsigned kinds, const char *const *pair)
{
	struct xattrs *xattrs = xattrs_new(kinds, 8, 1024);

	assert_non_null(xattrs);
	for (; *pair; pair += 2)
		xattrs_add(xattrs, pair[0], strlen(pair[0]), pair[1], strlen(pair[1]));
	return xattrs;
}

/* The outcome of applying pairs of kind user. */
static int apply(int fd, const char *const *pair)
{
	struct xattrs *xattrs = of_pairs(XATTR_USER, pair);
	struct zh_error err;

	err_init(&err);
	int r = xattrs_apply(fd, xattrs, &err);
	free(xattrs);
	return kit_outcome(r, &err);
}

/* ------------------------------------------------------------------ names and lists -----------
 */

static void names_have_their_kinds(void **state)
{
	static const struct {
		const char *name;
		unsigned kind;
	} rows[] = {
		{ "user.a", XATTR_USER },
		{ "user.", 0 },
		{ "user", 0 },
		{ "users.a", 0 },
		{ "USER.a", 0 },
		{ " user.a", 0 },
		{ "", 0 },
		{ "system.posix_acl_access", XATTR_ACL },
		{ "system.posix_acl_default", XATTR_ACL },
		{ "system.posix_acl_defaults", 0 },
		{ "system.posix_acl", 0 },
		{ "system.nfs4_acl", 0 },
		{ "security.capability", XATTR_PRIVILEGED },
		{ "security.capability2", 0 },
		{ "security.selinux", 0 },
		{ "security.ima", 0 },
		{ "trusted.a", XATTR_PRIVILEGED },
		{ "trusted.", 0 },
		{ "btrfs.compression", 0 },
	};
	char longest[257] = "user.";

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (xattr_kind_of(rows[i].name, strlen(rows[i].name)) != rows[i].kind)
			fail_msg("%s", rows[i].name);
	assert_int_equal(xattr_kind_of("user.a and more", 6), XATTR_USER);
	assert_int_equal(xattr_kind_of("user.a", 5), 0);
	memset(longest + 5, 'x', 251);
	assert_int_equal(xattr_kind_of(longest, 255), XATTR_USER);
	assert_int_equal(xattr_kind_of(longest, 256), 0);
}

/* As they lie in memory: version 2, then tag, permissions and id of each entry. */
#define ACL_ENTRY(tag, permissions, id) tag, 0, permissions, 0, id, 0, 0, 0

static void lists_are_bounded_by_the_umask(void **state)
{
	static const uint8_t masked[] = { 2, 0, 0, 0, ACL_ENTRY(0x01, 7, 0xff),
		ACL_ENTRY(0x02, 7, 9), ACL_ENTRY(0x04, 7, 0xff), ACL_ENTRY(0x10, 7, 0xff),
		ACL_ENTRY(0x20, 7, 0xff) };
	static const uint8_t plain[] = { 2, 0, 0, 0, ACL_ENTRY(0x01, 7, 0xff),
		ACL_ENTRY(0x04, 7, 0xff), ACL_ENTRY(0x20, 7, 0xff) };
	struct xattrs *xattrs = xattrs_new(ALL, 4, 512);

	(void)state;
	assert_non_null(xattrs);
	xattrs_add(xattrs, "system.posix_acl_access", 23, masked, sizeof(masked));
	xattrs_add(xattrs, "system.posix_acl_default", 24, plain, sizeof(plain));
	xattrs_add(xattrs, "trusted.posix_acl", 17, plain, sizeof(plain));
	xattrs_add(xattrs, "user.acl", 8, plain, sizeof(plain));
	xattrs_narrow(xattrs, 0);
	assert_memory_equal(xattrs->item[0].value, masked, sizeof(masked));
	xattrs_narrow(xattrs, 0127);
	assert_int_equal(xattrs->item[0].value[6], 6);      /* the owner */
	assert_int_equal(xattrs->item[0].value[8 + 6], 7);  /* who is named: by the mask */
	assert_int_equal(xattrs->item[0].value[16 + 6], 7); /* the group: likewise */
	assert_int_equal(xattrs->item[0].value[24 + 6], 5);
	assert_int_equal(xattrs->item[0].value[32 + 6], 0);
	assert_int_equal(xattrs->item[1].value[6], 6);
	assert_int_equal(xattrs->item[1].value[8 + 6], 5); /* without a mask by itself */
	assert_int_equal(xattrs->item[1].value[16 + 6], 0);
	assert_memory_equal(xattrs->item[2].value, plain, sizeof(plain));
	assert_memory_equal(xattrs->item[3].value, plain, sizeof(plain));
	free(xattrs);
}

static void a_list_that_is_none_is_left_to_the_kernel(void **state)
{
	static const uint8_t bytes[] = { 2, 0, 0, 0, ACL_ENTRY(0x01, 7, 0), 0x20, 0, 7 };

	(void)state;
	for (size_t length = 0; length <= sizeof(bytes); length++) {
		struct xattrs *xattrs = xattrs_new(XATTR_ACL, 1, 24 + length);
		assert_non_null(xattrs);
		xattrs_add(xattrs, "system.posix_acl_access", 23, bytes, length);
		xattrs_narrow(xattrs, 0777);
		assert_int_equal(xattrs->item[0].length, length);
		if (length > 12)
			assert_memory_equal(xattrs->item[0].value + 12, bytes + 12, length - 12);
		free(xattrs);
	}
}

/* ------------------------------------------------------------------ reading -------------------
 */

static void what_a_file_has_is_read_by_name(void **state)
{
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct xattrs *xattrs;

	assert_int_equal(xattrs_any(fd, ALL), 0);
	assert_int_equal(xattrs_read(fd, ALL, &xattrs), 0);
	assert_int_equal(xattrs->count, 0);
	free(xattrs);
	give(fd, "user.z", "last");
	give(fd, "user.a", "");
	give(fd, "user.ab", "middle");
	assert_int_equal(xattrs_any(fd, XATTR_USER), 1);
	assert_int_equal(xattrs_any(fd, XATTR_ACL), 0);
	assert_int_equal(xattrs_read(fd, ALL, &xattrs), 0);
	assert_int_equal(xattrs->kinds, ALL);
	assert_int_equal(xattrs->count, 3);
	assert_string_equal(xattrs->item[0].name, "user.a");
	assert_int_equal(xattrs->item[0].length, 0);
	assert_string_equal(xattrs->item[1].name, "user.ab");
	assert_int_equal(xattrs->item[1].length, 6);
	assert_memory_equal(xattrs->item[1].value, "middle", 6);
	assert_string_equal(xattrs->item[2].name, "user.z");
	assert_memory_equal(xattrs->item[2].value, "last", 4);
	free(xattrs);
	assert_int_equal(xattrs_read(fd, XATTR_ACL | XATTR_PRIVILEGED, &xattrs), 0);
	assert_int_equal(xattrs->count, 0);
	free(xattrs);
	close(fd);
}

static void a_file_system_without_attributes_has_none(void **state)
{
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct xattrs *xattrs;

	give(fd, "user.a", "1");
	kit_fail_next(SYS_LISTXATTR, EOPNOTSUPP);
	int r = xattrs_read(fd, ALL, &xattrs);
	assert_true(kit_struck());
	assert_int_equal(r, 0);
	assert_int_equal(xattrs->count, 0);
	free(xattrs);
	close(fd);
}

static void what_goes_while_it_is_read_is_not_there(void **state)
{
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct xattrs *xattrs;

	give(fd, "user.a", "1");
	give(fd, "user.b", "2");
	kit_fail_next(SYS_GETXATTR, ENODATA);
	int r = xattrs_read(fd, ALL, &xattrs);
	assert_true(kit_struck());
	assert_int_equal(r, 0);
	assert_int_equal(xattrs->count, 1);
	assert_string_equal(xattrs->item[0].name, "user.b");
	assert_memory_equal(xattrs->item[0].value, "2", 1);
	free(xattrs);
	close(fd);
}

static void more_than_there_is_room_for_is_refused(void **state)
{
	static char large[40000];
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct xattrs *xattrs;
	char name[32];

	if (fsetxattr(fd, "user.a", large, sizeof(large), 0) != 0) {
		close(fd);
		SKIP("no large attributes here");
	}
	assert_int_equal(xattrs_read(fd, ALL, &xattrs), 0);
	assert_int_equal(xattrs->item[0].length, sizeof(large));
	free(xattrs);
	assert_int_equal(fsetxattr(fd, "user.b", large, 65536 - sizeof(large), 0), 0);
	assert_int_equal(xattrs_read(fd, ALL, &xattrs), 0);
	assert_int_equal(xattrs->item[1].length, 65536 - sizeof(large));
	free(xattrs);
	give(fd, "user.c", "");
	assert_int_equal(xattrs_read(fd, ALL, &xattrs), 0);
	free(xattrs);
	give(fd, "user.c", "1");
	assert_int_equal(xattrs_read(fd, ALL, &xattrs), -E2BIG);
	assert_int_equal(fremovexattr(fd, "user.a"), 0);
	assert_int_equal(fremovexattr(fd, "user.b"), 0);
	assert_int_equal(fremovexattr(fd, "user.c"), 0);
	for (unsigned i = 0; i <= XATTRS_MOST; i++) {
		(void)snprintf(name, sizeof(name), "user.%u", i);
		if (fsetxattr(fd, name, "", 0, 0) != 0) {
			close(fd);
			SKIP("not as many attributes here");
		}
		if (i >= XATTRS_MOST - 1) {
			int r = xattrs_read(fd, ALL, &xattrs);
			assert_int_equal(r, i < XATTRS_MOST ? 0 : -E2BIG);
			if (r == 0)
				free(xattrs);
		}
	}
	close(fd);
}

/* ------------------------------------------------------------------ applying ------------------
 */

static void what_is_there_becomes_what_is_told(void **state)
{
	static const char *const told[] = { "user.a", "1", "user.b", "", "user.c", "new", NULL };
	static const char *const nothing[] = { NULL };
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct xattrs *xattrs;

	give(fd, "user.0", "to go");
	give(fd, "user.a", "1");
	give(fd, "user.c", "old");
	give(fd, "user.z", "to go");
	assert_int_equal(apply(fd, told), ZH_OK);
	assert_true(has(fd, "user.a", "1") && has(fd, "user.b", "") && has(fd, "user.c", "new"));
	assert_int_equal(xattrs_read(fd, ALL, &xattrs), 0);
	assert_int_equal(xattrs->count, 3);
	free(xattrs);
	uint64_t set = sys_calls[SYS_SETXATTR], removed = sys_calls[SYS_REMOVEXATTR];
	assert_int_equal(apply(fd, told), ZH_OK); /* there is nothing to do */
	assert_int_equal(sys_calls[SYS_SETXATTR], set);
	assert_int_equal(sys_calls[SYS_REMOVEXATTR], removed);
	assert_int_equal(apply(fd, nothing), ZH_OK);
	assert_int_equal(xattrs_any(fd, ALL), 0);
	close(fd);
}

static void of_other_kinds_nothing_is_touched(void **state)
{
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct zh_error err;

	give(fd, "user.a", "1");
	err_init(&err);
	for (unsigned kinds = 0; kinds <= XATTR_ACL; kinds += XATTR_ACL) {
		const struct xattrs none = { .kinds = kinds };
		assert_int_equal(xattrs_apply(fd, &none, &err), 0);
	}
	assert_true(has(fd, "user.a", "1"));
	close(fd);
}

static void directories_have_them_too(void **state)
{
	static const char *const told[] = { "user.a", "1", NULL };
	struct arena *a = arena_of(state);

	close(new_file(a));
	assert_int_equal(apply(a->root, told), ZH_OK);
	assert_true(has(a->root, "user.a", "1"));
	assert_int_equal(fremovexattr(a->root, "user.a"), 0);
}

static void a_mode_without_write_permission_is_put_back(void **state)
{
	static const char *const told[] = { "user.a", "1", "user.b", "2", NULL };
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct stat st;

	assert_int_equal(fchmod(fd, 0444), 0);
	kit_fail_next(SYS_SETXATTR, EACCES); /* root is never refused */
	int outcome = apply(fd, told);
	assert_true(kit_struck());
	assert_int_equal(outcome, ZH_OK);
	assert_true(has(fd, "user.a", "1") && has(fd, "user.b", "2"));
	assert_int_equal(fstat(fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0444);
	/* where the owner may write it was not for want of that */
	assert_int_equal(fchmod(fd, 0644), 0);
	assert_int_equal(fremovexattr(fd, "user.b"), 0);
	uint64_t chmods = sys_calls[SYS_CHMOD];
	kit_fail_next(SYS_SETXATTR, EACCES);
	outcome = apply(fd, told);
	assert_true(kit_struck());
	assert_int_equal(outcome, ZH_PERM);
	assert_int_equal(sys_calls[SYS_CHMOD], chmods);
	close(fd);
}

static void a_failure_names_the_attribute_and_what_it_means(void **state)
{
	static const struct {
		int error;
		enum zh_outcome outcome;
	} rows[] = {
		{ ENOSPC, ZH_NOSPACE },
		{ EDQUOT, ZH_QUOTA },
		{ EPERM, ZH_PERM },
		{ EOPNOTSUPP, ZH_DST_IO },
		{ EIO, ZH_DST_IO },
	};
	static const char *const told[] = { "user.named", "1", NULL };
	struct arena *a = arena_of(state);
	int fd = new_file(a);
	struct xattrs *xattrs = of_pairs(XATTR_USER, told);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct zh_error err;
		err_init(&err);
		kit_fail_next(SYS_SETXATTR, rows[i].error);
		int r = xattrs_apply(fd, xattrs, &err);
		assert_true(kit_struck());
		assert_int_equal(r, -rows[i].error);
		assert_int_equal(err.outcome, rows[i].outcome);
		assert_non_null(strstr(err.text, "user.named"));
	}
	free(xattrs);
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(names_have_their_kinds),
		cmocka_unit_test(lists_are_bounded_by_the_umask),
		cmocka_unit_test(a_list_that_is_none_is_left_to_the_kernel),
		ARENA_TEST(what_a_file_has_is_read_by_name),
		ARENA_TEST_ON_TMPFS(what_a_file_has_is_read_by_name),
		ARENA_TEST(a_file_system_without_attributes_has_none),
		ARENA_TEST(what_goes_while_it_is_read_is_not_there),
		ARENA_TEST_ON_TMPFS(more_than_there_is_room_for_is_refused),
		ARENA_TEST(what_is_there_becomes_what_is_told),
		ARENA_TEST_ON_TMPFS(what_is_there_becomes_what_is_told),
		ARENA_TEST(of_other_kinds_nothing_is_touched),
		ARENA_TEST(directories_have_them_too),
		ARENA_TEST(a_mode_without_write_permission_is_put_back),
		ARENA_TEST(a_failure_names_the_attribute_and_what_it_means),
	};

	return RUN_TESTS("xattrs", tests);
}
