/* SPDX-License-Identifier: Apache-2.0 */
/*
 * err.h - the error record: filled once, at the lowest place that knows, and carried up unchanged.
 * Not for control flow: that is the negative errno beside it.
 */
#ifndef ZH_BASE_ERR_H
#define ZH_BASE_ERR_H

#include "base/util.h"
#include "zerohaul.h"

void err_init(struct zh_error *err);

static inline bool err_is_set(const struct zh_error *err)
{
	return err->outcome != ZH_OK;
}

/*
 * Fills the record unless it is filled already. errnum may have either sign; its text is appended
 * to the sentence when it is not 0. err may be NULL.
 * Returns -errnum, or -EPROTO when errnum is 0, so that callers can `return err_set(...)`.
 */
int err_set(struct zh_error *err, enum zh_outcome outcome, int errnum, const char *stage,
	const char *format, ...) printf_like(5, 6);

/* Adds the file's name (raw bytes, escaped here) and the offset to a record just filled. */
void err_file(struct zh_error *err, const char *name, size_t name_bytes, uint64_t offset);

/* The outcome that an errno of a destination (mkdir, write, fsync, rename) or a source means. */
enum zh_outcome err_of_destination(int errnum);
enum zh_outcome err_of_source(int errnum);
enum zh_outcome err_of_socket(int errnum);

#endif
