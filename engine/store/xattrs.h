/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xattrs.h - extended attributes of an open file or directory: read as they are, and made what they
 * are elsewhere. Names are of kinds. What is of none is never read, set or removed, whoever asks;
 * which of the kinds may be is for the caller to say.
 */
#ifndef ZH_STORE_XATTRS_H
#define ZH_STORE_XATTRS_H

#include "base/err.h"
#include "base/util.h"

#include <sys/types.h>

#define XATTRS_MOST 1024u /* of one file */

/* Of names, together. */
enum xattr_kind {
	XATTR_USER = 1u << 0,       /* user.* */
	XATTR_ACL = 1u << 1,        /* system.posix_acl_access and _default; ids are numbers */
	XATTR_PRIVILEGED = 1u << 2, /* security.capability and trusted.*: only root may set them */
};

struct xattr {
	const char *name; /* ended */
	uint8_t *value;
	size_t length;
};

/* All that a file has of these kinds. One piece of memory: free(). */
struct xattrs {
	unsigned kinds; /* enum xattr_kind */
	size_t bytes;   /* of that memory */
	uint8_t *next;  /* of it, not yet used */
	size_t count;
	struct xattr item[]; /* sorted by name, each name once */
};

/* 0: of none. The name needs no end. Pure. */
unsigned xattr_kind_of(const char *name, size_t length);

/*
 * Room for so many attributes, with so many bytes of names, their ends and values; NULL: no memory.
 * xattrs_add copies one more, in the order of the names.
 */
struct xattrs *xattrs_new(unsigned kinds, size_t most, size_t bytes);
void xattrs_add(struct xattrs *xattrs, const char *name, size_t name_length, const void *value,
	size_t length);
/*
 * Access control lists give no more than the umask lets a mode give, as chmod(2) would have it: the
 * one of a file to those who are there, the default one to what is made there later.
 */
void xattrs_narrow(struct xattrs *xattrs, mode_t umask);

/*
 * What fd has of these kinds; none where the file system has no attributes. -E2BIG: more than
 * XATTRS_MOST, or than 64 KiB of values; -ENOMEM; what the calls report.
 */
int xattrs_read(int fd, unsigned kinds, struct xattrs **ret_xattrs) must_check;
/* Whether it has any: 1 or 0, or as xattrs_read. */
int xattrs_any(int fd, unsigned kinds) must_check;
/*
 * Makes what fd has of the kinds equal to xattrs. What is equal already is not written; where the
 * mode keeps the owner from writing, it does not for as long as this takes. On failure some are
 * changed and some are not, and err, filled as by err_of_destination, names the one.
 */
int xattrs_apply(int fd, const struct xattrs *xattrs, struct zh_error *err) must_check;

/*
 * Gives fd the default access list of the directory parent, if that has one, as its own. -EINVAL:
 * it names ids that this user namespace has not; without it the file could be open to more than it
 * says.
 */
int xattrs_inherit(int parent, int fd) must_check;
/* Takes the default access list of a directory away. */
int xattrs_disinherit(int dir) must_check;

#endif
