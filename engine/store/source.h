/* SPDX-License-Identifier: Apache-2.0 */
/*
 * source.h - a file to be sent: opened without following links or blocking, checked to be regular,
 * kept open until the receiver has acknowledged it, and compared with what it was at the end.
 */
#ifndef ZH_STORE_SOURCE_H
#define ZH_STORE_SOURCE_H

#include "base/err.h"
#include "base/util.h"
#include "zerohaul.h"

struct source {
	int fd; /* O_RDONLY, blocking */
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode; /* 07777 at most */
	uint64_t device;
	uint64_t inode;
	uint32_t uid;
	uint32_t gid;
	bool sparse; /* fewer blocks than its size needs */
};

/*
 * Opens name relative to dir (AT_FDCWD: a path of this host's user, whose directories may be links;
 * the last component may not). beneath: name is one or more root_name_ok components with a "/"
 * between them, each entered as root_enter does.
 * Fills err: SRC_GONE, USAGE (directory, link, FIFO, device, socket, a file as in /proc that does
 * not tell its size), UNSAFE_NAME (beneath), SRC_IO, INTERNAL.
 */
int source_open(int dir, const char *name, int beneath, struct source *ret_source,
	struct zh_error *err) must_check;
/*
 * The same for a directory; its descriptor, or the outcome in err. -ENOTDIR, with err untouched: it
 * is something else, or a link.
 */
int source_open_directory(int dir, const char *name, int beneath, struct zh_error *err) must_check;
void source_close(struct source *source);

/*
 * Its data extents, at most cap, the smallest holes being filled up if there are more. 0;
 * -EOPNOTSUPP: the file system cannot tell; what lseek reports.
 */
int source_map(const struct source *source, struct zh_extent *ret_extent, size_t cap,
	size_t *ret_count) must_check;
/* 0, or -ESTALE when size or mtime are no longer what source_open saw; what fstat reports. */
int source_unchanged(const struct source *source) must_check;

#endif
