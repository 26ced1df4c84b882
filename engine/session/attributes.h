/* SPDX-License-Identifier: Apache-2.0 */
/*
 * attributes.h - owner and extended attributes between a file and an ATTR: which of them a session
 * carries, what a sender says of an open file, and what a receiver makes of what it is told.
 */
#ifndef ZH_SESSION_ATTRIBUTES_H
#define ZH_SESSION_ATTRIBUTES_H

#include "session/wire.h"
#include "store/xattrs.h"

/* Kinds of extended attributes that both sides have agreed on (enum xattr_kind); 0: none. */
unsigned attributes_kinds(const struct wire_setup *setup);

/* Payload of an ATTR. bytes NULL: there is nothing to say. Owned: free(). */
struct attributes {
	uint8_t *bytes;
	uint32_t length;
};

/*
 * Of an open file or directory whose owner is known; fd is used only where attributes_kinds are.
 * Fills err: LIMIT (more than an ATTR takes), SRC_IO, INTERNAL; then there is nothing to say.
 */
int attributes_read(const struct wire_setup *setup, int fd, uint32_t uid, uint32_t gid,
	struct attributes *ret_attributes, struct zh_error *err) must_check;

/*
 * Takes the payload of an ATTR apart. *ret_xattrs: owned, NULL where none are agreed on. -EPROTO:
 * malformed, or an attribute of a kind that is not agreed on; -ENOMEM.
 */
int attributes_take(const struct wire_setup *setup, const uint8_t *bytes, size_t length,
	struct wire_attr *ret_attr, struct xattrs **ret_xattrs) must_check;

#endif
