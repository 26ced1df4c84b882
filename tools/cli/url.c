/* SPDX-License-Identifier: Apache-2.0 */
/* url.c - parses zh:// locations. It resolves nothing. */
#include <string.h>
#include <strings.h>

#include <zerohaul.h>

#include "size.h"
#include "url.h"

static const char scheme[] = "zh://";

bool url_looks_like(const char *text)
{
	return strncasecmp(text, scheme, sizeof(scheme) - 1) == 0;
}

static const char *take_host(const char *from, size_t length, bool bracketed, struct url *url)
{
	static const char allowed[] =
		"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";

	if (length == 0)
		return "the host is missing: zh://HOST[:PORT]/PATH";
	if (length >= sizeof(url->host))
		return "the host is too long";
	memcpy(url->host, from, length);
	url->host[length] = '\0';
	if (bracketed) {
		/* An address may carry a zone: fe80::1%eth0. */
		const size_t address = strspn(url->host, "0123456789abcdefABCDEF:.");
		const size_t zone = url->host[address] == '%' ? address + 1 : address;
		return zone + strspn(url->host + zone, allowed) == length && address > 0
			       ? NULL
			       : "the brackets do not hold an IPv6 address";
	}
	if (memchr(from, '@', length))
		return "a user name has no place in zh://HOST[:PORT]/PATH";
	if (url->host[0] == '-' || strspn(url->host, allowed) != length)
		return "the host has characters that no host name has";
	return NULL;
}

static const char *take_port(const char *from, size_t length, struct url *url)
{
	char digits[8];
	uint64_t port = 0;

	if (length >= sizeof(digits))
		return "the port is not a number from 1 to 65535";
	memcpy(digits, from, length);
	digits[length] = '\0';
	if (count_parse(digits, &port) < 0 || port == 0 || port > UINT16_MAX)
		return "the port is not a number from 1 to 65535";
	url->port = (uint16_t)port;
	return NULL;
}

const char *url_parse(const char *text, struct url *ret_url)
{
	if (!url_looks_like(text))
		return "it does not begin with zh://";

	const char *authority = text + sizeof(scheme) - 1;
	const char *slash = strchr(authority, '/');
	if (!slash)
		return "the '/' after the host is missing: zh://HOST[:PORT]/PATH";

	const bool bracketed = *authority == '[';
	const char *host = authority + (bracketed ? 1 : 0);
	const char *end = memchr(host, bracketed ? ']' : ':', (size_t)(slash - host));
	if (bracketed && !end)
		return "the ']' after the IPv6 address is missing";
	if (!end)
		end = slash;

	const char *wrong = take_host(host, (size_t)(end - host), bracketed, ret_url);
	if (wrong)
		return wrong;
	const char *rest = bracketed ? end + 1 : end;
	ret_url->port = ZH_DEFAULT_PORT;
	ret_url->path = slash + 1;
	if (rest == slash)
		return NULL;
	if (*rest != ':')
		return "only a port may follow the ']'";
	return take_port(rest + 1, (size_t)(slash - rest - 1), ret_url);
}

bool url_same_server(const struct url *a, const struct url *b)
{
	return a->port == b->port && strcasecmp(a->host, b->host) == 0;
}
