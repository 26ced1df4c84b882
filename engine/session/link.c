/* SPDX-License-Identifier: Apache-2.0 */
/*
 * link.c - whole frames over one socket. A transmission is tried first and waited for only when the
 * socket says so; only link_recv waits first, so that a cancelled session stops even while frames
 * keep coming, while its last ERR can still be sent. After any error but -EAGAIN from link_recv the
 * stream is out of step and the link is good for link_fini only.
 */
#include "session/link.h"

#include "base/clock.h"
#include "base/sys.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>

#define SEND_COPY_BYTES 4096 /* payloads up to this travel in one call with their head */

_Static_assert(LIMIT_STALL_MS <= INT32_MAX, "fits poll");

int link_init(struct link *link, int fd, int abort_fd)
{
	int flags;

	link->fd = fd;
	link->abort_fd = abort_fd;
	link->mac_out = link->mac_in = NULL;
	link->count_out = link->count_in = 0;
	flags = sys_fcntl(fd, F_GETFL, 0);
	if (flags < 0)
		return flags;
	return sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

void link_fini(struct link *link)
{
	EVP_MAC_CTX_free(link->mac_out); /* wipes the key; NULL is fine */
	EVP_MAC_CTX_free(link->mac_in);
	link->mac_out = link->mac_in = NULL;
	sys_close(link->fd);
	link->fd = -1;
}

/* ------------------------------ tags --------------------------------------------------- */

static EVP_MAC_CTX *mac_new(EVP_MAC *mac, const struct auth_secret *key)
{
	char digest_name[] = "SHA256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest_name, 0),
		OSSL_PARAM_construct_end(),
	};
	EVP_MAC_CTX *context = EVP_MAC_CTX_new(mac);

	if (context && !EVP_MAC_init(context, key->byte, SECRET_BYTES, params)) {
		EVP_MAC_CTX_free(context);
		context = NULL;
	}
	return context;
}

int link_secure(struct link *link, const struct link_keys *keys)
{
	EVP_MAC *mac = EVP_MAC_fetch(NULL, OSSL_MAC_NAME_HMAC, NULL);

	CHECK(!link->mac_out && !link->mac_in);
	if (mac) {
		link->mac_out = mac_new(mac, &keys->out);
		link->mac_in = mac_new(mac, &keys->in);
		EVP_MAC_free(mac);
	}
	return link->mac_out && link->mac_in ? 0 : -ENOMEM;
}

/* The counter makes a frame that is repeated, left out or moved a wrong one. */
static int tag_make(EVP_MAC_CTX *mac, uint64_t counter, const uint8_t head[FRAME_HEAD_BYTES],
	const void *payload, size_t length, uint8_t ret_tag[FRAME_TAG_BYTES])
{
	uint8_t count[8], full[32];
	size_t full_length = 0;

	put_le64(count, counter);
	if (!EVP_MAC_init(mac, NULL, 0, NULL) || !EVP_MAC_update(mac, count, sizeof(count)) ||
		!EVP_MAC_update(mac, head, FRAME_HEAD_BYTES) ||
		(length > 0 && !EVP_MAC_update(mac, payload, length)) ||
		!EVP_MAC_final(mac, full, &full_length, sizeof(full)))
		return -ENOMEM;
	memcpy(ret_tag, full, FRAME_TAG_BYTES);
	return 0;
}

/* ------------------------------ waiting ------------------------------------------------ */

/* Milliseconds until the deadline, rounded up so that a wait does not end short of it. */
static int left_ms(uint64_t deadline_ns)
{
	uint64_t now = clock_now_ns();

	if (deadline_ns == 0)
		return -1;
	if (now >= deadline_ns)
		return 0;
	return (int)min_u64(div_up(deadline_ns - now, NS_PER_MS), INT32_MAX);
}

/* 0 when the socket may have become ready; -ETIMEDOUT, -ECANCELED, or what poll reports. */
static int link_wait(const struct link *link, short events, uint64_t deadline_ns)
{
	struct pollfd fds[2] = {
		{ .fd = link->fd, .events = events },
		{ .fd = link->abort_fd, .events = POLLIN }, /* -1: poll passes over it */
	};

	for (;;) {
		int timeout_ms = left_ms(deadline_ns);
		int r = sys_poll(fds, ARRAY_LEN(fds), timeout_ms);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return r;
		if (fds[1].revents != 0)
			return -ECANCELED;
		if (fds[0].revents != 0)
			return 0;
		if (timeout_ms == 0)
			return -ETIMEDOUT;
	}
}

static uint64_t stall_deadline(void)
{
	return clock_now_ns() + (uint64_t)LIMIT_STALL_MS * NS_PER_MS;
}

/* ------------------------------ bytes -------------------------------------------------- */

static int send_all(
	struct link *link, const void *bytes, size_t length, int flags, uint64_t deadline_ns)
{
	const uint8_t *next = bytes;

	while (length > 0) {
		ssize_t n = sys_send(link->fd, next, length, flags | MSG_DONTWAIT);
		if (n == -EAGAIN) {
			int r = link_wait(link, POLLOUT, deadline_ns);
			if (r < 0)
				return r;
			continue;
		}
		if (n < 0)
			return n == -EPIPE ? -ECONNRESET : (int)n;
		next += n;
		length -= (size_t)n;
	}
	return 0;
}

static int recv_all(struct link *link, void *ret_bytes, size_t length, uint64_t deadline_ns)
{
	uint8_t *next = ret_bytes;

	while (length > 0) {
		ssize_t n = sys_recv(link->fd, next, length, MSG_DONTWAIT);
		if (n == -EAGAIN) {
			int r = link_wait(link, POLLIN, deadline_ns);
			if (r < 0)
				return r;
			continue;
		}
		if (n < 0)
			return (int)n;
		if (n == 0)
			return -ECONNRESET; /* the peer closed before all of it was here */
		next += n;
		length -= (size_t)n;
	}
	return 0;
}

int link_send_bytes(struct link *link, const void *bytes, size_t length, uint64_t deadline_ns)
{
	return send_all(link, bytes, length, 0, deadline_ns);
}

int link_recv_bytes(struct link *link, void *ret_bytes, size_t length, uint64_t deadline_ns)
{
	return recv_all(link, ret_bytes, length, deadline_ns);
}

/* ------------------------------ frames ------------------------------------------------- */

int link_send(struct link *link, const struct frame *frame, const void *payload)
{
	uint8_t bytes[FRAME_FIXED_BYTES + SEND_COPY_BYTES];
	bool raw = wire_is_raw((enum frame_type)frame->type);
	size_t length = raw ? 0 : frame->length;
	uint64_t deadline_ns = stall_deadline();
	int r;

	CHECK(link->mac_out && (payload || length == 0));
	wire_build_head(frame, bytes);
	r = tag_make(
		link->mac_out, link->count_out, bytes, payload, length, bytes + FRAME_HEAD_BYTES);
	if (r < 0)
		return r;
	link->count_out++;
	if (length <= SEND_COPY_BYTES) {
		if (length > 0)
			memcpy(bytes + FRAME_FIXED_BYTES, payload, length);
		return send_all(
			link, bytes, FRAME_FIXED_BYTES + length, raw ? MSG_MORE : 0, deadline_ns);
	}
	r = send_all(link, bytes, FRAME_FIXED_BYTES, MSG_MORE, deadline_ns);
	return r < 0 ? r : send_all(link, payload, length, 0, deadline_ns);
}

/* Waits for the first byte of a frame: 0, -EAGAIN when the time is over, or an error. */
static int recv_await(struct link *link, int wait_ms)
{
	uint64_t deadline_ns = 0;
	int r;

	if (wait_ms >= 0)
		deadline_ns = clock_now_ns() + (uint64_t)wait_ms * NS_PER_MS;
	r = link_wait(link, POLLIN, deadline_ns);
	return r == -ETIMEDOUT ? -EAGAIN : r;
}

int link_recv(struct link *link, struct frame *ret_frame, int wait_ms)
{
	uint8_t fixed[FRAME_FIXED_BYTES], tag[FRAME_TAG_BYTES];
	uint64_t deadline_ns;
	struct frame frame;
	size_t length;
	int r;

	CHECK(link->mac_in);
	r = recv_await(link, wait_ms);
	if (r < 0)
		return r;
	deadline_ns = stall_deadline();
	r = recv_all(link, fixed, sizeof(fixed), deadline_ns);
	if (r < 0)
		return r;
	r = wire_parse_head(fixed, &frame);
	if (r < 0)
		return r;
	length = wire_is_raw((enum frame_type)frame.type) ? 0 : frame.length;
	r = recv_all(link, link->payload, length, deadline_ns);
	if (r < 0)
		return r;
	r = tag_make(link->mac_in, link->count_in, fixed, link->payload, length, tag);
	if (r < 0)
		return r;
	if (CRYPTO_memcmp(tag, fixed + FRAME_HEAD_BYTES, FRAME_TAG_BYTES) != 0)
		return -EBADMSG;
	link->count_in++;
	*ret_frame = frame;
	return 0;
}
