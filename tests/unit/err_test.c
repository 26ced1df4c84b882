/* SPDX-License-Identifier: Apache-2.0 */
/* err_test.c - error records keep the first cause, outcomes have their names, texts are printable.
 */
#include "unit.h"

#include "base/err.h"

#include <errno.h>

static void fresh_record_is_empty_and_knows_its_size(void **state)
{
	struct zh_error err;

	(void)state;
	memset(&err, 0xff, sizeof(err));
	err_init(&err);
	assert_int_equal(err.size, sizeof(err));
	assert_false(err_is_set(&err));
	assert_int_equal(err.errnum, 0);
	assert_string_equal(err.text, "");
	assert_string_equal(err.file, "");
}

static void setting_takes_errno_of_either_sign_and_returns_it_negative(void **state)
{
	struct zh_error err;

	(void)state;
	err_init(&err);
	assert_int_equal(
		err_set(&err, ZH_NOSPACE, ENOSPC, "fallocate", "no room for %d", 7), -ENOSPC);
	assert_int_equal(err.outcome, ZH_NOSPACE);
	assert_int_equal(err.errnum, ENOSPC);
	assert_string_equal(err.stage, "fallocate");
	assert_string_equal(err.text, "no room for 7: No space left on device");
	err_init(&err);
	assert_int_equal(err_set(&err, ZH_NOSPACE, -ENOSPC, "fallocate", "no room"), -ENOSPC);
	assert_int_equal(err.errnum, ENOSPC);
	assert_int_equal(err_set(NULL, ZH_NET, EPIPE, "send", "gone"), -EPIPE);
}

static void setting_without_errno_returns_eproto_and_adds_nothing(void **state)
{
	struct zh_error err;

	(void)state;
	err_init(&err);
	assert_int_equal(err_set(&err, ZH_PROTO, 0, "receive", "odd frame"), -EPROTO);
	assert_int_equal(err.errnum, 0);
	assert_string_equal(err.text, "odd frame");
}

static void first_cause_is_kept(void **state)
{
	struct zh_error err;

	(void)state;
	err_init(&err);
	assert_int_equal(err_set(&err, ZH_DST_IO, EIO, "fsync", "first"), -EIO);
	assert_int_equal(err_set(&err, ZH_NET, EPIPE, "send", "second"), -EPIPE);
	assert_int_equal(err.outcome, ZH_DST_IO);
	assert_int_equal(err.errnum, EIO);
	assert_string_equal(err.stage, "fsync");
	assert_string_equal(err.text, "first: Input/output error");
}

static void unknown_errno_still_has_words(void **state)
{
	struct zh_error err;

	(void)state;
	err_init(&err);
	assert_int_equal(err_set(&err, ZH_INTERNAL, 9999, "x", "odd"), -9999);
	assert_string_equal(err.text, "odd: unknown error");
}

static void texts_that_do_not_fit_are_cut_and_ended(void **state)
{
	struct zh_error err;
	char long_text[600];

	(void)state;
	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	for (size_t length = 0; length < sizeof(long_text) - 1; length++) {
		err_init(&err);
		(void)err_set(&err, ZH_NET, EIO, long_text, "%s", long_text + length);
		assert_int_equal(strlen(err.stage), sizeof(err.stage) - 1);
		assert_true(strlen(err.text) < sizeof(err.text));
		assert_int_equal(err.text[0], 'x');
	}
}

static void texts_are_printable_whatever_comes_in(void **state)
{
	struct zh_error err;
	char bytes[256];

	(void)state;
	for (unsigned value = 1; value < 256; value++)
		bytes[value - 1] = (char)value;
	bytes[255] = '\0';
	err_init(&err);
	(void)err_set(&err, ZH_CONFIG, 0, "key file", "%s", bytes);
	assert_int_equal(strlen(err.text), 255);
	for (unsigned value = 1; value < 256; value++)
		assert_int_equal(
			err.text[value - 1], value >= 0x20 && value <= 0x7e ? (char)value : '?');
}

static void file_names_are_escaped_and_the_first_is_kept(void **state)
{
	struct zh_error err;

	(void)state;
	err_init(&err);
	(void)err_set(&err, ZH_SRC_IO, EIO, "read", "cannot read");
	err_file(&err, "a\n\xff\\b", 5, 4096);
	assert_string_equal(err.file, "a\\x0a\\xff\\x5cb");
	assert_int_equal(err.offset, 4096);
	err_file(&err, "other", 5, 1);
	assert_string_equal(err.file, "a\\x0a\\xff\\x5cb");
	assert_int_equal(err.offset, 4096);
}

static void escaping_never_leaves_its_room_or_half_an_escape(void **state)
{
	(void)state;
	for (size_t cap = 1; cap < 20; cap++) {
		char *room = exact_copy("zzzzzzzzzzzzzzzzzzzz", cap);
		size_t expected = cap - 1 < 1 ? 0 : cap - 1 < 5 ? 1 : cap - 1 < 9 ? 5 : 9;
		zh_escape("a\x01\x02", 3, room, cap);
		assert_int_equal(strlen(room), expected);
		assert_memory_equal("a\\x01\\x02", room, expected);
		free(room);
	}
	zh_escape("a", 1, NULL, 0); /* no room: nothing is touched */
}

static void escaping_covers_all_bytes(void **state)
{
	(void)state;
	for (unsigned value = 0; value < 256; value++) {
		bool plain = value >= 0x20 && value < 0x7f && value != '\\';
		uint8_t byte = (uint8_t)value;
		char text[8];
		zh_escape(&byte, 1, text, sizeof(text));
		assert_int_equal(strlen(text), plain ? 1 : 4);
		if (plain)
			assert_int_equal(text[0], (char)value);
		else
			assert_int_equal(strtoul(text + 2, NULL, 16), value);
	}
}

static const struct {
	int number;
	const char *name;
} outcome_list[] = {
	{ 0, "OK" },
	{ 1, "USAGE" },
	{ 2, "CONFIG" },
	{ 3, "PARTIAL" },
	{ 10, "AUTH" },
	{ 11, "PROTO" },
	{ 12, "VERSION" },
	{ 13, "LIMIT" },
	{ 14, "POLICY" },
	{ 15, "UNSAFE_NAME" },
	{ 20, "SRC_CHANGED" },
	{ 21, "SRC_IO" },
	{ 22, "SRC_GONE" },
	{ 30, "EXISTS" },
	{ 31, "NOSPACE" },
	{ 32, "QUOTA" },
	{ 33, "PERM" },
	{ 34, "DST_IO" },
	{ 35, "VERIFY" },
	{ 40, "NET" },
	{ 41, "TIMEOUT" },
	{ 42, "BUSY" },
	{ 43, "CANCELLED" },
	{ 70, "INTERNAL" },
};

static void outcomes_have_the_names_and_numbers_they_were_given(void **state)
{
	size_t next = 0;

	(void)state;
	for (int number = -2; number < 300; number++) {
		if (next < sizeof(outcome_list) / sizeof(outcome_list[0]) &&
			outcome_list[next].number == number) {
			assert_string_equal(zh_outcome_name(number), outcome_list[next].name);
			assert_true(strlen(zh_outcome_text(number)) > 10);
			assert_null(strchr(zh_outcome_text(number), '\n'));
			next++;
		} else {
			assert_string_equal(zh_outcome_name(number), "UNKNOWN");
			assert_string_equal(zh_outcome_text(number), "not an outcome of zerohaul");
		}
	}
	assert_int_equal(next, sizeof(outcome_list) / sizeof(outcome_list[0]));
}

static void errnos_become_the_outcome_of_their_place(void **state)
{
	static const struct {
		int errnum;
		enum zh_outcome destination, source, socket;
	} rows[] = {
		{ ENOSPC, ZH_NOSPACE, ZH_SRC_IO, ZH_NET },
		{ EDQUOT, ZH_QUOTA, ZH_SRC_IO, ZH_NET },
		{ EEXIST, ZH_EXISTS, ZH_SRC_IO, ZH_NET },
		{ EISDIR, ZH_EXISTS, ZH_SRC_IO, ZH_NET },
		{ ENOTDIR, ZH_EXISTS, ZH_SRC_IO, ZH_NET },
		{ ELOOP, ZH_EXISTS, ZH_SRC_IO, ZH_NET },
		{ EROFS, ZH_PERM, ZH_SRC_IO, ZH_NET },
		{ EACCES, ZH_PERM, ZH_SRC_IO, ZH_NET },
		{ EPERM, ZH_PERM, ZH_SRC_IO, ZH_NET },
		{ EFBIG, ZH_LIMIT, ZH_SRC_IO, ZH_NET },
		{ ENAMETOOLONG, ZH_LIMIT, ZH_SRC_IO, ZH_NET },
		{ EIO, ZH_DST_IO, ZH_SRC_IO, ZH_NET },
		{ ENOENT, ZH_DST_IO, ZH_SRC_GONE, ZH_NET },
		{ ESTALE, ZH_DST_IO, ZH_SRC_CHANGED, ZH_NET },
		{ ENODATA, ZH_DST_IO, ZH_SRC_CHANGED, ZH_NET },
		{ ENOMEM, ZH_INTERNAL, ZH_INTERNAL, ZH_INTERNAL },
		{ EMFILE, ZH_INTERNAL, ZH_INTERNAL, ZH_INTERNAL },
		{ ETIMEDOUT, ZH_DST_IO, ZH_SRC_IO, ZH_TIMEOUT },
		{ ECANCELED, ZH_DST_IO, ZH_SRC_IO, ZH_CANCELLED },
		{ EPROTO, ZH_DST_IO, ZH_SRC_IO, ZH_PROTO },
		{ EBADMSG, ZH_DST_IO, ZH_SRC_IO, ZH_PROTO },
		{ ECONNRESET, ZH_DST_IO, ZH_SRC_IO, ZH_NET },
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		for (int sign = -1; sign <= 1; sign += 2) {
			int errnum = sign * rows[i].errnum;
			assert_int_equal(err_of_destination(errnum), rows[i].destination);
			assert_int_equal(err_of_source(errnum), rows[i].source);
			assert_int_equal(err_of_socket(errnum), rows[i].socket);
		}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(fresh_record_is_empty_and_knows_its_size),
		cmocka_unit_test(setting_takes_errno_of_either_sign_and_returns_it_negative),
		cmocka_unit_test(setting_without_errno_returns_eproto_and_adds_nothing),
		cmocka_unit_test(first_cause_is_kept),
		cmocka_unit_test(unknown_errno_still_has_words),
		cmocka_unit_test(texts_that_do_not_fit_are_cut_and_ended),
		cmocka_unit_test(texts_are_printable_whatever_comes_in),
		cmocka_unit_test(file_names_are_escaped_and_the_first_is_kept),
		cmocka_unit_test(escaping_never_leaves_its_room_or_half_an_escape),
		cmocka_unit_test(escaping_covers_all_bytes),
		cmocka_unit_test(outcomes_have_the_names_and_numbers_they_were_given),
		cmocka_unit_test(errnos_become_the_outcome_of_their_place),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
