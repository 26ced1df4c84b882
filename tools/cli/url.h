/* SPDX-License-Identifier: Apache-2.0 */
/*
 * url.h - zh://HOST[:PORT]/PATH. Nothing in it is percent-decoded: PATH is the bytes after the
 * first slash, as the file system has them.
 */
#ifndef CLI_URL_H
#define CLI_URL_H

#include <stdbool.h>
#include <stdint.h>

struct url {
	char host[256]; /* without the brackets of an IPv6 address */
	uint16_t port;
	const char *path; /* into the text that was parsed; "" is the root */
};

bool url_looks_like(const char *text);

/* Returns NULL, or a static sentence that says what is wrong. */
const char *url_parse(const char *text, struct url *ret_url);

/* The same server, as far as names tell. */
bool url_same_server(const struct url *a, const struct url *b);

#endif
