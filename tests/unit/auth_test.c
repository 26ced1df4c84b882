/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth_test.c - proofs and derived keys against values computed with another HMAC and HKDF
 * (Python's hmac and hashlib, checked there with RFC 5869 A.1), and key files that must and must
 * not load.
 */
#include "unit.h"

#include "base/sys.h"
#include "session/auth.h"

#include <errno.h>
#include <stdio.h>

static const char key_text[] = "sixteen bytes ok"; /* 16 bytes */
static uint8_t client_hello[HELLO_BYTES];          /* 00 01 .. 7f */
static uint8_t server_hello[HELLO_BYTES];          /* ff fe .. 80 */

static int fill_hellos(void **state)
{
	(void)state;
	for (unsigned i = 0; i < HELLO_BYTES; i++) {
		client_hello[i] = (uint8_t)i;
		server_hello[i] = (uint8_t)(255 - i);
	}
	return 0;
}

static void assert_hex(const uint8_t *bytes, size_t length, const char *hex)
{
	char text[2 * 64 + 1];

	assert_true(length <= 64);
	for (size_t i = 0; i < length; i++)
		(void)snprintf(text + 2 * i, 3, "%02x", bytes[i]);
	assert_string_equal(text, hex);
}

static void proof_of(enum hello_kind kind, bool of_client, uint8_t ret_proof[PROOF_BYTES])
{
	assert_int_equal(
		auth_proof(key_text, 16, kind, of_client, client_hello, server_hello, ret_proof),
		0);
}

/* ------------------------------------------------ proofs and keys ----------------------------- */

static void proofs_equal_values_computed_elsewhere(void **state)
{
	uint8_t proof[PROOF_BYTES];

	(void)state;
	proof_of(HELLO_CONTROL, true, proof);
	assert_hex(proof, 32, "c8ca4c37f9cd8ea44da55c43d3ffdc19b727030c76cefc73a44f73dfe879f448");
	proof_of(HELLO_CONTROL, false, proof);
	assert_hex(proof, 32, "f225dccd6262662a13a316da4b6c2f754146b2302514faac2e167158a2aaebf2");
	proof_of(HELLO_DATA, true, proof);
	assert_hex(proof, 32, "8f3aceee85fcc463004e4c457dc80988b2fb9e270a47bcc0e9e2fe988b4c7946");
	proof_of(HELLO_DATA, false, proof);
	assert_hex(proof, 32, "6c0c90a11d9f37d4a8cd267eba105e5871a485f2560483ccb52048aa7b1dbafc");
}

static void keys_equal_values_computed_elsewhere(void **state)
{
	struct auth_key key = { .length = 16 };
	struct auth_secret session;
	struct link_keys keys;

	(void)state;
	memcpy(key.byte, key_text, 16);
	assert_int_equal(auth_session_secret(&key, client_hello, server_hello, &session), 0);
	assert_hex(session.byte, 32,
		"f73e51650e1b5adbb881833a5667cf236a200e7da93f2e7853ed763db9e406e4");
	assert_int_equal(auth_link_keys(&session, client_hello, server_hello, true, &keys), 0);
	assert_hex(keys.out.byte, 32,
		"a64302cca64a735d9f95c1b68e2c60c36bfd6df76b7b8e7fe7ab9a9a0f7bea12");
	assert_hex(keys.in.byte, 32,
		"4282d2b263e85e9b3fe764f330b4dcb59534bde388e871278a9629bd8164784f");
}

static void link_keys_of_the_two_sides_cross(void **state)
{
	struct auth_secret session;
	struct link_keys client, server;

	(void)state;
	memset(&session, 0x33, sizeof(session));
	assert_int_equal(auth_link_keys(&session, client_hello, server_hello, true, &client), 0);
	assert_int_equal(auth_link_keys(&session, client_hello, server_hello, false, &server), 0);
	assert_memory_equal(&client.out, &server.in, SECRET_BYTES);
	assert_memory_equal(&client.in, &server.out, SECRET_BYTES);
	assert_memory_not_equal(&client.out, &client.in, SECRET_BYTES);
}

static void proofs_of_sides_kinds_and_keys_all_differ(void **state)
{
	uint8_t proof[5][PROOF_BYTES];

	(void)state;
	proof_of(HELLO_CONTROL, true, proof[0]);
	proof_of(HELLO_CONTROL, false, proof[1]);
	proof_of(HELLO_DATA, true, proof[2]);
	proof_of(HELLO_DATA, false, proof[3]);
	assert_int_equal(auth_proof("sixteen bytes no", 16, HELLO_CONTROL, true, client_hello,
				 server_hello, proof[4]),
		0);
	for (size_t i = 0; i < 5; i++)
		for (size_t j = 0; j < i; j++)
			assert_false(auth_proof_equal(proof[i], proof[j]));
}

/* A server that sends the client's own HELLO and proof back has proved nothing. */
static void reflected_hello_and_proof_fail(void **state)
{
	uint8_t sent[PROOF_BYTES], expected[PROOF_BYTES];

	(void)state;
	assert_int_equal(
		auth_proof(key_text, 16, HELLO_CONTROL, true, client_hello, client_hello, sent), 0);
	assert_int_equal(auth_proof(key_text, 16, HELLO_CONTROL, false, client_hello, client_hello,
				 expected),
		0);
	assert_false(auth_proof_equal(sent, expected));
}

static void hellos_that_trade_places_give_another_proof(void **state)
{
	uint8_t straight[PROOF_BYTES], crossed[PROOF_BYTES];

	(void)state;
	proof_of(HELLO_CONTROL, true, straight);
	assert_int_equal(
		auth_proof(key_text, 16, HELLO_CONTROL, true, server_hello, client_hello, crossed),
		0);
	assert_false(auth_proof_equal(straight, crossed));
}

static void flip(uint8_t *bytes, size_t bit)
{
	bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
}

static void every_flipped_bit_of_a_hello_changes_the_proof_and_the_keys(void **state)
{
	struct auth_key key = { .length = 16 };
	struct auth_secret right, session;
	uint8_t proof[PROOF_BYTES], wrong[PROOF_BYTES];

	(void)state;
	memcpy(key.byte, key_text, 16);
	proof_of(HELLO_CONTROL, false, proof);
	assert_int_equal(auth_session_secret(&key, client_hello, server_hello, &right), 0);
	for (size_t bit = 0; bit < 2 * 8 * HELLO_BYTES; bit++) {
		bool of_client = bit < 8 * HELLO_BYTES;
		uint8_t *hello = of_client ? client_hello : server_hello;
		size_t inside = bit % (8 * HELLO_BYTES);

		flip(hello, inside);
		proof_of(HELLO_CONTROL, false, wrong);
		assert_false(auth_proof_equal(proof, wrong));
		assert_int_equal(
			auth_session_secret(&key, client_hello, server_hello, &session), 0);
		assert_memory_not_equal(&session, &right, SECRET_BYTES);
		flip(hello, inside);
	}
}

static void every_flipped_bit_of_a_proof_or_key_is_seen(void **state)
{
	uint8_t proof[PROOF_BYTES], wrong[PROOF_BYTES];
	char key[16];

	(void)state;
	proof_of(HELLO_CONTROL, true, proof);
	memcpy(wrong, proof, sizeof(wrong));
	assert_true(auth_proof_equal(proof, wrong));
	for (size_t bit = 0; bit < 8 * PROOF_BYTES; bit++) {
		flip(wrong, bit);
		assert_false(auth_proof_equal(proof, wrong));
		flip(wrong, bit);
	}
	for (size_t bit = 0; bit < 8 * sizeof(key); bit++) {
		memcpy(key, key_text, sizeof(key));
		flip((uint8_t *)key, bit);
		assert_int_equal(auth_proof(key, sizeof(key), HELLO_CONTROL, true, client_hello,
					 server_hello, wrong),
			0);
		assert_false(auth_proof_equal(proof, wrong));
	}
}

static void random_bytes_fill_the_whole_length_and_differ(void **state)
{
	uint8_t a[1000] = { 0 }, b[1000] = { 0 };

	(void)state;
	assert_int_equal(auth_random(a, sizeof(a)), 0);
	assert_int_equal(auth_random(b, sizeof(b)), 0);
	assert_memory_not_equal(a, b, sizeof(a));
	for (size_t at = 0; at + 40 <= sizeof(a); at += 40) { /* 40 zeros do not happen by chance */
		static const uint8_t zeros[40] = { 0 };
		assert_memory_not_equal(a + at, zeros, 40);
	}
	assert_int_equal(auth_random(a, 0), 0);
}

static void wiped_secrets_are_zero(void **state)
{
	uint8_t secret[33], zeros[33] = { 0 };

	(void)state;
	memset(secret, 7, sizeof(secret));
	auth_wipe(secret, 32);
	assert_memory_equal(secret, zeros, 32);
	assert_int_equal(secret[32], 7);
}

static void stand_in_key_is_fixed_and_long_enough(void **state)
{
	struct auth_key a, b;

	(void)state;
	memset(&a, 0xff, sizeof(a));
	memset(&b, 0x00, sizeof(b));
	auth_key_none(&a);
	auth_key_none(&b);
	assert_memory_equal(&a, &b, sizeof(a));
	assert_true(a.length >= KEY_BYTES_MIN);
}

/* ------------------------------------------------ key files ----------------------------------- */

static char directory[256];
static char path[sizeof(directory) + 8];

static int make_directory(void **state)
{
	const char *base = getenv("TMPDIR");

	(void)snprintf(
		directory, sizeof(directory), "%s/zh-auth-test-XXXXXX", base ? base : P_tmpdir);
	if (!mkdtemp(directory))
		return -1;
	(void)snprintf(path, sizeof(path), "%s/key", directory);
	return fill_hellos(state);
}

static int remove_directory(void **state)
{
	(void)state;
	sys_fault_arm(NULL);
	(void)unlink(path);
	return rmdir(directory);
}

static void write_key(const void *bytes, size_t length, mode_t mode)
{
	FILE *file;

	(void)unlink(path);
	file = fopen(path, "w");
	assert_non_null(file);
	assert_int_equal(fwrite(bytes, 1, length, file), length);
	assert_int_equal(fclose(file), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void assert_refused(int errnum, const char *reason)
{
	struct auth_key key, before;
	struct zh_error err;
	size_t open_before = open_descriptors();

	memset(&key, 0xa5, sizeof(key));
	before = key;
	err_init(&err);
	assert_int_equal(auth_key_load(path, &key, &err), -errnum);
	assert_int_equal(err.outcome, ZH_CONFIG);
	assert_int_equal(err.errnum, errnum);
	if (!strstr(err.text, reason))
		fail_msg("\"%s\" does not say \"%s\"", err.text, reason);
	assert_memory_equal(&key, &before, sizeof(key));
	assert_int_equal(open_descriptors(), open_before);
}

static void assert_loads(const void *bytes, size_t length)
{
	struct zh_error err;
	struct auth_key key;

	err_init(&err);
	assert_int_equal(auth_key_load(path, &key, &err), 0);
	assert_false(err_is_set(&err));
	assert_int_equal(key.length, length);
	assert_memory_equal(key.byte, bytes, length);
}

static void key_file_loses_one_trailing_newline(void **state)
{
	(void)state;
	write_key("sixteen bytes ok\n", 17, 0600);
	assert_loads("sixteen bytes ok", 16);
	write_key("sixteen bytes ok", 16, 0400);
	assert_loads("sixteen bytes ok", 16);
	write_key("sixteen bytes ok\n\n", 18, 0600);
	assert_loads("sixteen bytes ok\n", 17);
	write_key("\nsixteen bytes \0k", 17, 0600);
	assert_loads("\nsixteen bytes \0k", 17);
}

static void key_file_of_wrong_length_is_refused(void **state)
{
	char bytes[KEY_BYTES_MAX + 2];

	(void)state;
	memset(bytes, 'k', sizeof(bytes));
	write_key(bytes, 0, 0600);
	assert_refused(EINVAL, "at least 16");
	write_key("\n", 1, 0600);
	assert_refused(EINVAL, "holds 0 bytes");
	write_key(bytes, 15, 0600);
	assert_refused(EINVAL, "holds 15 bytes");
	write_key("fifteen bytes n\n", 16, 0600);
	assert_refused(EINVAL, "holds 15 bytes");
	write_key(bytes, KEY_BYTES_MAX, 0600);
	assert_loads(bytes, KEY_BYTES_MAX);
	bytes[KEY_BYTES_MAX] = '\n';
	write_key(bytes, KEY_BYTES_MAX + 1, 0600);
	assert_loads(bytes, KEY_BYTES_MAX);
	bytes[KEY_BYTES_MAX] = 'k';
	write_key(bytes, KEY_BYTES_MAX + 1, 0600);
	assert_refused(EINVAL, "too large");
	bytes[KEY_BYTES_MAX + 1] = '\n';
	write_key(bytes, KEY_BYTES_MAX + 2, 0600);
	assert_refused(EINVAL, "too large");
}

static void key_file_open_to_others_is_refused_for_every_bit(void **state)
{
	(void)state;
	for (unsigned bit = 0; bit < 6; bit++) {
		write_key(key_text, 16, (mode_t)(0600 | 1u << bit));
		assert_refused(EPERM, "group or others");
	}
	write_key(key_text, 16, 0600);
	assert_loads(key_text, 16);
}

static void key_file_of_another_user_is_refused(void **state)
{
	(void)state;
	if (geteuid() != 0)
		skip(); /* only root can give a file away */
	write_key(key_text, 16, 0600);
	assert_int_equal(chown(path, 12345, (gid_t)-1), 0);
	assert_refused(EPERM, "another user");
	assert_int_equal(chown(path, 0, (gid_t)-1), 0);
	assert_loads(key_text, 16);
}

static void key_file_that_is_no_regular_file_is_refused(void **state)
{
	(void)state;
	(void)unlink(path);
	assert_refused(ENOENT, "cannot open");
	assert_int_equal(mkdir(path, 0700), 0);
	assert_refused(EINVAL, "not a regular file");
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_refused(EINVAL, "not a regular file"); /* and did not wait for a writer */
	assert_int_equal(unlink(path), 0);
	assert_int_equal(symlink("/dev/null", path), 0);
	assert_refused(ELOOP, "symbolic link");
}

static void generated_key_loads_and_is_private(void **state)
{
	struct zh_error err;
	struct auth_key first, second;
	struct stat st;
	mode_t before = umask(0777);

	(void)state;
	(void)unlink(path);
	assert_int_equal(zh_key_generate(path), 0);
	(void)umask(before);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, 65);
	err_init(&err);
	assert_int_equal(auth_key_load(path, &first, &err), 0);
	assert_int_equal(first.length, 64);
	for (size_t i = 0; i < 64; i++)
		assert_non_null(strchr("0123456789abcdef", first.byte[i]));
	assert_int_equal(zh_key_generate(path), -EEXIST);
	assert_int_equal(auth_key_load(path, &second, &err), 0);
	assert_memory_equal(&first, &second, sizeof(first));
	assert_int_equal(unlink(path), 0);
	assert_int_equal(zh_key_generate(path), 0);
	assert_int_equal(auth_key_load(path, &second, &err), 0);
	assert_memory_not_equal(&first, &second, sizeof(first));
}

static void generated_key_replaces_no_dangling_link(void **state)
{
	(void)state;
	(void)unlink(path);
	assert_int_equal(symlink("nowhere", path), 0);
	assert_int_equal(zh_key_generate(path), -EEXIST);
	assert_int_equal(unlink(path), 0);
	assert_int_equal(zh_key_generate("/nonexistent-directory/key"), -ENOENT);
}

/* ------------------------------------------------ faults -------------------------------------- */

static void loading_under_any_failing_call_leaks_nothing_and_never_succeeds(void **state)
{
	size_t open_before = open_descriptors();
	uint64_t nth = 1;

	(void)state;
	write_key("sixteen bytes ok\n", 17, 0600);
	for (;; nth++) {
		struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_CALL_COUNT, EIO, nth, 1 };
		struct auth_key key;
		struct zh_error err;
		err_init(&err);
		sys_fault_arm(&fault);
		int r = auth_key_load(path, &key, &err);
		uint64_t struck = sys_fault_struck();
		sys_fault_arm(NULL);
		assert_int_equal(open_descriptors(), open_before);
		if (struck == 0) {
			assert_int_equal(r, 0);
			break;
		}
		assert_int_equal(r, -EIO);
		assert_int_equal(err.outcome, ZH_CONFIG);
		assert_int_equal(err.errnum, EIO);
	}
	assert_true(nth > 3); /* open, stat and read were all struck */
}

static void loading_survives_short_and_interrupted_calls(void **state)
{
	static const enum sys_fault_kind kinds[] = { SYS_FAULT_SHORT, SYS_FAULT_EINTR };

	(void)state;
	write_key("sixteen bytes ok\n", 17, 0600);
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		for (uint64_t nth = 1;; nth++) {
			struct sys_fault fault = { kinds[k], SYS_CALL_COUNT, 0, nth, 1 };
			sys_fault_arm(&fault);
			assert_loads("sixteen bytes ok", 16);
			uint64_t struck = sys_fault_struck();
			sys_fault_arm(NULL);
			if (struck == 0) {
				assert_true(nth > 1);
				break;
			}
		}
}

static void generating_under_any_failing_call_leaves_no_file(void **state)
{
	size_t open_before = open_descriptors();
	uint64_t nth = 1;

	(void)state;
	for (;; nth++) {
		struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_CALL_COUNT, ENOSPC, nth, 1 };
		(void)unlink(path);
		sys_fault_arm(&fault);
		int r = zh_key_generate(path);
		uint64_t struck = sys_fault_struck();
		sys_fault_arm(NULL);
		assert_int_equal(open_descriptors(), open_before);
		if (struck == 0) {
			assert_int_equal(r, 0);
			break;
		}
		assert_int_equal(r, -ENOSPC);
		assert_int_equal(access(path, F_OK), -1);
	}
	assert_true(nth > 4); /* open, chmod, write and fsync were all struck */
}

static void generating_survives_short_and_interrupted_calls(void **state)
{
	static const enum sys_fault_kind kinds[] = { SYS_FAULT_SHORT, SYS_FAULT_EINTR };

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(kinds); k++)
		for (uint64_t nth = 1;; nth++) {
			struct sys_fault fault = { kinds[k], SYS_CALL_COUNT, 0, nth, 1 };
			struct stat st;
			(void)unlink(path);
			sys_fault_arm(&fault);
			assert_int_equal(zh_key_generate(path), 0);
			uint64_t struck = sys_fault_struck();
			sys_fault_arm(NULL);
			assert_int_equal(stat(path, &st), 0);
			assert_int_equal(st.st_size, 65);
			if (struck == 0) {
				assert_true(nth > 1);
				break;
			}
		}
}

#define WITH_FILE(test) cmocka_unit_test_setup_teardown(test, make_directory, remove_directory)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(proofs_equal_values_computed_elsewhere, fill_hellos),
		cmocka_unit_test_setup(keys_equal_values_computed_elsewhere, fill_hellos),
		cmocka_unit_test_setup(link_keys_of_the_two_sides_cross, fill_hellos),
		cmocka_unit_test_setup(proofs_of_sides_kinds_and_keys_all_differ, fill_hellos),
		cmocka_unit_test_setup(reflected_hello_and_proof_fail, fill_hellos),
		cmocka_unit_test_setup(hellos_that_trade_places_give_another_proof, fill_hellos),
		cmocka_unit_test_setup(
			every_flipped_bit_of_a_hello_changes_the_proof_and_the_keys, fill_hellos),
		cmocka_unit_test_setup(every_flipped_bit_of_a_proof_or_key_is_seen, fill_hellos),
		cmocka_unit_test(random_bytes_fill_the_whole_length_and_differ),
		cmocka_unit_test(wiped_secrets_are_zero),
		cmocka_unit_test(stand_in_key_is_fixed_and_long_enough),
		WITH_FILE(key_file_loses_one_trailing_newline),
		WITH_FILE(key_file_of_wrong_length_is_refused),
		WITH_FILE(key_file_open_to_others_is_refused_for_every_bit),
		WITH_FILE(key_file_of_another_user_is_refused),
		WITH_FILE(key_file_that_is_no_regular_file_is_refused),
		WITH_FILE(generated_key_loads_and_is_private),
		WITH_FILE(generated_key_replaces_no_dangling_link),
		WITH_FILE(loading_under_any_failing_call_leaks_nothing_and_never_succeeds),
		WITH_FILE(loading_survives_short_and_interrupted_calls),
		WITH_FILE(generating_under_any_failing_call_leaves_no_file),
		WITH_FILE(generating_survives_short_and_interrupted_calls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
