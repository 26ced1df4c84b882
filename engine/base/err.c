/* SPDX-License-Identifier: Apache-2.0 */
/* err.c - error records, and the words for outcomes. */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

static const struct outcome_row {
	enum zh_outcome outcome;
	const char *name;
	const char *text;
} outcome_rows[] = {
	{ ZH_OK, "OK", "every file is acknowledged at the durability asked for" },
	{ ZH_USAGE, "USAGE", "the command line or the request makes no sense" },
	{ ZH_CONFIG, "CONFIG", "a key file, root, address or option cannot be used on this host" },
	{ ZH_PARTIAL, "PARTIAL", "some files arrived and some did not" },
	{ ZH_AUTH, "AUTH", "the two sides do not hold the same key" },
	{ ZH_PROTO, "PROTO", "the peer broke the protocol" },
	{ ZH_VERSION, "VERSION",
		"no protocol version in common, or a required feature is missing" },
	{ ZH_LIMIT, "LIMIT", "a documented limit was reached" },
	{ ZH_POLICY, "POLICY", "the configuration of one side forbids it" },
	{ ZH_UNSAFE_NAME, "UNSAFE_NAME", "a file name that will not be created" },
	{ ZH_SRC_CHANGED, "SRC_CHANGED", "the source changed while it was sent; try again" },
	{ ZH_SRC_IO, "SRC_IO", "the source cannot be read" },
	{ ZH_SRC_GONE, "SRC_GONE", "the source does not exist" },
	{ ZH_EXISTS, "EXISTS", "the destination exists and may not be replaced" },
	{ ZH_NOSPACE, "NOSPACE", "no space left at the destination" },
	{ ZH_QUOTA, "QUOTA", "a disk quota is used up at the destination" },
	{ ZH_PERM, "PERM", "the destination is read-only, immutable or not permitted" },
	{ ZH_DST_IO, "DST_IO", "the destination cannot be written" },
	{ ZH_VERIFY, "VERIFY", "digests differ after all re-sends" },
	{ ZH_NET, "NET", "no connection could be made, or it broke" },
	{ ZH_TIMEOUT, "TIMEOUT", "the peer was silent or stalled for too long" },
	{ ZH_BUSY, "BUSY", "the server has no room for another session" },
	{ ZH_CANCELLED, "CANCELLED", "the transfer was cancelled" },
	{ ZH_INTERNAL, "INTERNAL", "a resource of this host or an invariant failed" },
};

static const struct outcome_row *outcome_find(int outcome)
{
	for (size_t i = 0; i < ARRAY_LEN(outcome_rows); i++)
		if ((int)outcome_rows[i].outcome == outcome)
			return &outcome_rows[i];
	return NULL;
}

ZH_API const char *zh_outcome_name(int outcome)
{
	const struct outcome_row *row = outcome_find(outcome);
	return row ? row->name : "UNKNOWN";
}

ZH_API const char *zh_outcome_text(int outcome)
{
	const struct outcome_row *row = outcome_find(outcome);
	return row ? row->text : "not an outcome of zerohaul";
}

ZH_API void zh_escape(const void *bytes, size_t length, char *ret_text, size_t cap)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *in = bytes;
	size_t used = 0;

	if (cap == 0)
		return;
	for (size_t i = 0; i < length; i++) {
		bool plain = in[i] >= 0x20 && in[i] < 0x7f && in[i] != '\\';
		size_t need = plain ? 1 : 4;
		if (used + need >= cap)
			break;
		if (plain) {
			ret_text[used++] = (char)in[i];
			continue;
		}
		ret_text[used++] = '\\';
		ret_text[used++] = 'x';
		ret_text[used++] = hex[in[i] >> 4];
		ret_text[used++] = hex[in[i] & 15];
	}
	ret_text[used] = '\0';
}

void err_init(struct zh_error *err)
{
	memset(err, 0, sizeof(*err));
	err->size = sizeof(*err);
}

int err_set(struct zh_error *err, enum zh_outcome outcome, int errnum, const char *stage,
	const char *format, ...)
{
	int positive = errnum < 0 ? -errnum : errnum;
	va_list arguments;

	if (err && !err_is_set(err)) {
		char text[sizeof(err->text)];
		int length;

		va_start(arguments, format);
		length = vsnprintf(text, sizeof(text), format, arguments);
		va_end(arguments);
		if (positive && length >= 0 && (size_t)length + 3 < sizeof(text))
			(void)snprintf(text + length, sizeof(text) - (size_t)length, ": %s",
				strerrordesc_np(positive) ? strerrordesc_np(positive)
							  : "unknown error");
		err->outcome = (int32_t)outcome;
		err->errnum = positive;
		TEXT_SET(err->stage, stage);
		TEXT_SET(err->text, text);
		for (char *c = err->text; *c; c++)
			if (*c < 0x20 || *c > 0x7e)
				*c = '?'; /* names come in through err_file, which escapes them */
	}
	return positive ? -positive : -EPROTO;
}

void err_file(struct zh_error *err, const char *name, size_t name_bytes, uint64_t offset)
{
	if (err->file[0] != '\0')
		return;
	zh_escape(name, name_bytes, err->file, sizeof(err->file));
	err->offset = offset;
}

enum zh_outcome err_of_destination(int errnum)
{
	switch (errnum < 0 ? -errnum : errnum) {
	case ENOSPC:
		return ZH_NOSPACE;
	case EDQUOT:
		return ZH_QUOTA;
	case EEXIST:
	case EISDIR:
	case ENOTDIR:
	case ENOTEMPTY:
	case ELOOP:
		return ZH_EXISTS;
	case EROFS:
	case EACCES:
	case EPERM:
		return ZH_PERM;
	case EFBIG:
	case ENAMETOOLONG:
		return ZH_LIMIT;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return ZH_INTERNAL;
	default:
		return ZH_DST_IO;
	}
}

enum zh_outcome err_of_source(int errnum)
{
	switch (errnum < 0 ? -errnum : errnum) {
	case ENOENT:
		return ZH_SRC_GONE;
	case ENODATA:
	case ESTALE:
		return ZH_SRC_CHANGED;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return ZH_INTERNAL;
	default:
		return ZH_SRC_IO;
	}
}

enum zh_outcome err_of_socket(int errnum)
{
	switch (errnum < 0 ? -errnum : errnum) {
	case ETIMEDOUT:
		return ZH_TIMEOUT;
	case ECANCELED:
		return ZH_CANCELLED;
	case EPROTO:
	case EBADMSG:
		return ZH_PROTO;
	case ENOMEM:
	case EMFILE:
	case ENFILE:
		return ZH_INTERNAL;
	default:
		return ZH_NET;
	}
}
