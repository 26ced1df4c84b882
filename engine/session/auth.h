/* SPDX-License-Identifier: Apache-2.0 */
/*
 * auth.h - the pre-shared key: file, proofs, derived keys. Mutual HMAC-SHA256 over both HELLOs,
 * each proof bound to its side; a session key by HKDF; per connection and direction keys from that.
 */
#ifndef ZH_SESSION_AUTH_H
#define ZH_SESSION_AUTH_H

#include "base/err.h"
#include "session/wire.h"

#define KEY_BYTES_MIN 16
#define KEY_BYTES_MAX 1024
#define SECRET_BYTES  32

struct auth_key {
	uint8_t byte[KEY_BYTES_MAX];
	size_t length;
};

struct auth_secret {
	uint8_t byte[SECRET_BYTES];
};

/* Tag keys of one connection, seen from this side. */
struct link_keys {
	struct auth_secret out;
	struct auth_secret in;
};

/*
 * Reads a key file: regular, itself no symbolic link, owned by this user or root, without any
 * permission for group or others, KEY_BYTES_MIN to KEY_BYTES_MAX bytes after one trailing newline
 * is cut. Fills err with ZH_CONFIG and the reason.
 */
int auth_key_load(const char *path, struct auth_key *ret_key, struct zh_error *err) must_check;
/* The public stand-in used when both sides allow a session without a key. */
void auth_key_none(struct auth_key *ret_key);
void auth_wipe(void *secret, size_t length);
/* Fills with random bytes from the kernel; 0 or negative errno. */
int auth_random(void *ret_bytes, size_t length) must_check;

/*
 * Proof of one side: HMAC(secret, label of kind and side || client HELLO || server HELLO). The
 * secret is the key on a control connection and the session secret on a data connection. This and
 * what follows return 0 or -ENOMEM.
 */
int auth_proof(const void *secret, size_t secret_length, enum hello_kind kind, bool of_client,
	const uint8_t client_hello[HELLO_BYTES], const uint8_t server_hello[HELLO_BYTES],
	uint8_t ret_proof[PROOF_BYTES]) must_check;
bool auth_proof_equal(
	const uint8_t a[PROOF_BYTES], const uint8_t b[PROOF_BYTES]); /* constant time */
/* Session secret from the key and both control HELLOs. */
int auth_session_secret(const struct auth_key *key, const uint8_t client_hello[HELLO_BYTES],
	const uint8_t server_hello[HELLO_BYTES], struct auth_secret *ret_secret) must_check;
/* Tag keys of a connection from the session secret and that connection's HELLOs. */
int auth_link_keys(const struct auth_secret *session, const uint8_t client_hello[HELLO_BYTES],
	const uint8_t server_hello[HELLO_BYTES], bool is_client,
	struct link_keys *ret_keys) must_check;

#endif
