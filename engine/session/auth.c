/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.c - key files, and HMAC and HKDF by libcrypto. Every label ends with its zero byte, and what
 * follows has a fixed length, so that no two inputs of the same key can be the same bytes.
 */
#include "session/auth.h"

#include "base/sys.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <unistd.h>

#define KEY_NEW_BYTES 32

/* ------------------------------ key files ---------------------------------------------- */

static int key_file_check(const struct stat *st, const char *path, struct zh_error *err)
{
	if (!S_ISREG(st->st_mode))
		return err_set(
			err, ZH_CONFIG, EINVAL, "key file", "%s is not a regular file", path);
	if (st->st_uid != geteuid() && st->st_uid != 0)
		return err_set(
			err, ZH_CONFIG, EPERM, "key file", "%s belongs to another user", path);
	if ((st->st_mode & (S_IRWXG | S_IRWXO)) != 0)
		return err_set(err, ZH_CONFIG, EPERM, "key file",
			"%s is open to group or others; chmod 600 it", path);
	return 0;
}

/* Reads until the end or until cap is full; returns the number of bytes. */
static ssize_t read_all(int fd, uint8_t *ret_bytes, size_t cap)
{
	size_t have = 0;

	while (have < cap) {
		ssize_t n = sys_read(fd, ret_bytes + have, cap - have);
		if (n < 0)
			return n;
		if (n == 0)
			break; /* end of the file */
		have += (size_t)n;
	}
	return (ssize_t)have;
}

static int key_take(const uint8_t *bytes, size_t length, const char *path, struct auth_key *ret_key,
	struct zh_error *err)
{
	if (length > 0 && bytes[length - 1] == '\n')
		length--;
	if (length < KEY_BYTES_MIN)
		return err_set(err, ZH_CONFIG, EINVAL, "key file",
			"%s holds %zu bytes; a key has at least %d", path, length, KEY_BYTES_MIN);
	if (length > KEY_BYTES_MAX)
		return err_set(err, ZH_CONFIG, EINVAL, "key file",
			"%s is too large; a key has at most %d bytes", path, KEY_BYTES_MAX);
	memset(ret_key, 0, sizeof(*ret_key));
	memcpy(ret_key->byte, bytes, length);
	ret_key->length = length;
	return 0;
}

int auth_key_load(const char *path, struct auth_key *ret_key, struct zh_error *err)
{
	uint8_t bytes[KEY_BYTES_MAX + 2]; /* a newline, and one byte that shows there is more */
	struct stat st;
	ssize_t n;
	int r;
	/* O_NONBLOCK: a FIFO in the file's place must not make us wait for a writer */
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY, 0);

	if (fd == -ELOOP)
		return err_set(err, ZH_CONFIG, fd, "key file", "%s is a symbolic link", path);
	if (fd < 0)
		return err_set(err, ZH_CONFIG, fd, "key file", "cannot open %s", path);
	r = sys_fstat(fd, &st);
	if (r < 0) {
		r = err_set(err, ZH_CONFIG, r, "key file", "cannot examine %s", path);
		goto out;
	}
	r = key_file_check(&st, path, err);
	if (r < 0)
		goto out;
	n = read_all(fd, bytes, sizeof(bytes));
	r = n < 0 ? err_set(err, ZH_CONFIG, (int)n, "key file", "cannot read %s", path)
		  : key_take(bytes, (size_t)n, path, ret_key, err);
	auth_wipe(bytes, sizeof(bytes));
out:
	sys_close(fd);
	return r;
}

void auth_key_none(struct auth_key *ret_key)
{
	static const char none[] = "zh/1: no key, known to everyone.";

	memset(ret_key, 0, sizeof(*ret_key));
	memcpy(ret_key->byte, none, sizeof(none) - 1);
	ret_key->length = sizeof(none) - 1;
}

static int write_all(int fd, const uint8_t *bytes, size_t length)
{
	for (size_t done = 0; done < length;) {
		ssize_t n = sys_write(fd, bytes + done, length - done);
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -EIO; /* a regular file takes at least one byte or says why not */
		done += (size_t)n;
	}
	return 0;
}

static int key_text(uint8_t ret_text[2 * KEY_NEW_BYTES + 1])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t random[KEY_NEW_BYTES];
	int r = auth_random(random, sizeof(random));

	if (r < 0)
		return r;
	for (size_t i = 0; i < sizeof(random); i++) {
		ret_text[2 * i] = (uint8_t)hex[random[i] >> 4];
		ret_text[2 * i + 1] = (uint8_t)hex[random[i] & 15];
	}
	ret_text[2 * sizeof(random)] = '\n';
	auth_wipe(random, sizeof(random));
	return 0;
}

ZH_API int zh_key_generate(const char *path)
{
	uint8_t text[2 * KEY_NEW_BYTES + 1];
	int fd, r;

	r = key_text(text);
	if (r < 0)
		return r;
	fd = sys_openat(AT_FDCWD, path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
	if (fd < 0) {
		r = fd;
		goto out;
	}
	r = sys_fchmod(fd, 0600); /* whatever the umask made of it */
	if (r == 0)
		r = write_all(fd, text, sizeof(text));
	if (r == 0)
		r = sys_fsync(fd);
	sys_close(fd);
	if (r < 0) {
		int removed = sys_unlinkat(AT_FDCWD, path, 0);
		(void)removed; /* the first failure is the one to tell */
	}
out:
	auth_wipe(text, sizeof(text));
	return r;
}

/* ------------------------------ primitives --------------------------------------------- */

void auth_wipe(void *secret, size_t length)
{
	OPENSSL_cleanse(secret, length);
}

int auth_random(void *ret_bytes, size_t length)
{
	uint8_t *next = ret_bytes;

	while (length > 0) {
		size_t part = min_size(length, 256); /* all that getentropy gives in one call */
		if (getentropy(next, part) < 0)
			return -EIO;
		next += part;
		length -= part;
	}
	return 0;
}

/* Parameters of OpenSSL are not const, even when they are only read. */
static void *unconst(const void *bytes)
{
	union {
		const void *in;
		void *out;
	} pointer = { .in = bytes };
	return pointer.out;
}

static int hkdf(const void *key, size_t key_length, const uint8_t salt[2 * HELLO_BYTES],
	const char *label, struct auth_secret *ret_secret)
{
	char digest_name[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest_name, 0),
		OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, unconst(key), key_length),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_SALT, unconst(salt), 2 * HELLO_BYTES),
		OSSL_PARAM_construct_octet_string(
			OSSL_KDF_PARAM_INFO, unconst(label), strlen(label) + 1),
		OSSL_PARAM_construct_end(),
	};
	EVP_KDF *kdf = EVP_KDF_fetch(NULL, OSSL_KDF_NAME_HKDF, NULL);
	EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
	int ok = context && EVP_KDF_derive(context, ret_secret->byte, SECRET_BYTES, params) > 0;

	EVP_KDF_CTX_free(context);
	EVP_KDF_free(kdf);
	return ok ? 0 : -ENOMEM;
}

/* ------------------------------ the handshake ------------------------------------------ */

static const char *proof_label(enum hello_kind kind, bool of_client)
{
	if (kind == HELLO_CONTROL)
		return of_client ? "zh/1 control client proof" : "zh/1 control server proof";
	return of_client ? "zh/1 data client proof" : "zh/1 data server proof";
}

int auth_proof(const void *secret, size_t secret_length, enum hello_kind kind, bool of_client,
	const uint8_t client_hello[HELLO_BYTES], const uint8_t server_hello[HELLO_BYTES],
	uint8_t ret_proof[PROOF_BYTES])
{
	const char *label = proof_label(kind, of_client);
	char digest_name[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);
	EVP_MAC_CTX *context = mac ? EVP_MAC_CTX_new(mac) : NULL;
	size_t length = 0;
	int ok = context && EVP_MAC_init(context, secret, secret_length, params) &&
		 EVP_MAC_update(context, (const uint8_t *)label, strlen(label) + 1) &&
		 EVP_MAC_update(context, client_hello, HELLO_BYTES) &&
		 EVP_MAC_update(context, server_hello, HELLO_BYTES) &&
		 EVP_MAC_final(context, ret_proof, &length, PROOF_BYTES) && length == PROOF_BYTES;

	EVP_MAC_CTX_free(context);
	EVP_MAC_free(mac);
	return ok ? 0 : -ENOMEM;
}

bool auth_proof_equal(const uint8_t a[PROOF_BYTES], const uint8_t b[PROOF_BYTES])
{
	return CRYPTO_memcmp(a, b, PROOF_BYTES) == 0;
}

static void both_hellos(const uint8_t client_hello[HELLO_BYTES],
	const uint8_t server_hello[HELLO_BYTES], uint8_t ret_salt[2 * HELLO_BYTES])
{
	memcpy(ret_salt, client_hello, HELLO_BYTES);
	memcpy(ret_salt + HELLO_BYTES, server_hello, HELLO_BYTES);
}

int auth_session_secret(const struct auth_key *key, const uint8_t client_hello[HELLO_BYTES],
	const uint8_t server_hello[HELLO_BYTES], struct auth_secret *ret_secret)
{
	uint8_t salt[2 * HELLO_BYTES];

	both_hellos(client_hello, server_hello, salt);
	return hkdf(key->byte, key->length, salt, "zh/1 session", ret_secret);
}

int auth_link_keys(const struct auth_secret *session, const uint8_t client_hello[HELLO_BYTES],
	const uint8_t server_hello[HELLO_BYTES], bool is_client, struct link_keys *ret_keys)
{
	uint8_t salt[2 * HELLO_BYTES];
	struct auth_secret *upward = is_client ? &ret_keys->out : &ret_keys->in;
	struct auth_secret *downward = is_client ? &ret_keys->in : &ret_keys->out;
	int r;

	both_hellos(client_hello, server_hello, salt);
	r = hkdf(session->byte, SECRET_BYTES, salt, "zh/1 client to server", upward);
	if (r == 0)
		r = hkdf(session->byte, SECRET_BYTES, salt, "zh/1 server to client", downward);
	return r;
}
