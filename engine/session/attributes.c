/* SPDX-License-Identifier: Apache-2.0 */
/* attributes.c - see attributes.h. */
#include "session/attributes.h"

#include <errno.h>

#define STAGE "read attributes"

_Static_assert(LIMIT_XATTRS == XATTRS_MOST, "what can be read can be said");

unsigned attributes_kinds(const struct wire_setup *setup)
{
	unsigned kinds = XATTR_USER;

	if (!(setup->tree & TREE_XATTRS))
		return 0;
	if (setup->tree & TREE_OWNER) /* the numbers in a list mean what they mean there */
		kinds |= XATTR_ACL;
	if (setup->tree & TREE_PRIVILEGED)
		kinds |= XATTR_PRIVILEGED;
	return kinds;
}

/* ------------------------------ saying ------------------------------------------------- */

static size_t bytes_of(const struct xattrs *xattrs)
{
	size_t bytes = WIRE_ATTR_BYTES_MIN;

	for (size_t i = 0; xattrs && i < xattrs->count; i++)
		bytes += WIRE_XATTR_HEAD_BYTES + strlen(xattrs->item[i].name) +
			 xattrs->item[i].length;
	return bytes;
}

/* Adds one behind what has been built. */
static int add(struct attributes *attributes, const struct xattr *item, size_t cap)
{
	struct wire_xattr xattr = {
		.name = item->name,
		.name_length = (uint8_t)strlen(item->name),
		.value = item->value,
		.value_length = (uint32_t)item->length,
	};
	int r = wire_build_attr_add(&xattr, attributes->bytes, attributes->length, cap);

	if (r > 0)
		attributes->length += (uint32_t)r;
	return r < 0 ? r : 0;
}

/* -ENOBUFS: more than a frame takes. */
static int build(
	const struct xattrs *xattrs, uint32_t uid, uint32_t gid, struct attributes *ret_attributes)
{
	size_t cap = bytes_of(xattrs);
	struct attributes built;
	int r = 0;

	if (cap > FRAME_PAYLOAD_CAP)
		return -ENOBUFS;
	built.bytes = malloc(cap);
	if (!built.bytes)
		return -ENOMEM;
	built.length = (uint32_t)wire_build_attr_head(uid, gid, built.bytes, cap);
	for (size_t i = 0; xattrs && r == 0 && i < xattrs->count; i++)
		r = add(&built, &xattrs->item[i], cap);
	if (r < 0)
		free(built.bytes);
	else
		*ret_attributes = built;
	return r;
}

static int describe(struct zh_error *err, int r)
{
	if (r == -E2BIG || r == -ENOBUFS)
		return err_set(err, ZH_LIMIT, 0, STAGE,
			"it has more extended attributes than %u, or than 64 KiB", LIMIT_XATTRS);
	return err_set(err, err_of_source(r), r, STAGE, "its extended attributes cannot be read");
}

int attributes_read(const struct wire_setup *setup, int fd, uint32_t uid, uint32_t gid,
	struct attributes *ret_attributes, struct zh_error *err)
{
	unsigned kinds = attributes_kinds(setup);
	struct xattrs *xattrs = NULL;
	int r = 0;

	*ret_attributes = (struct attributes){ .bytes = NULL };
	if (!(setup->tree & (TREE_OWNER | TREE_XATTRS)))
		return 0;
	if (kinds != 0)
		r = xattrs_read(fd, kinds, &xattrs);
	if (r == 0)
		r = build(xattrs, uid, gid, ret_attributes);
	free(xattrs);
	return r < 0 ? describe(err, r) : 0;
}

/* ------------------------------ being told --------------------------------------------- */

int attributes_take(const struct wire_setup *setup, const uint8_t *bytes, size_t length,
	struct wire_attr *ret_attr, struct xattrs **ret_xattrs)
{
	unsigned kinds = attributes_kinds(setup);
	struct wire_xattr xattr;
	struct xattrs *xattrs;
	size_t at = 0;

	*ret_xattrs = NULL;
	if (wire_parse_attr(bytes, length, ret_attr) < 0)
		return -EPROTO;
	while (wire_attr_next(bytes, length, &at, &xattr))
		if (!(xattr_kind_of(xattr.name, xattr.name_length) & kinds))
			return -EPROTO;
	if (kinds == 0)
		return 0;
	xattrs =
		xattrs_new(kinds, ret_attr->count, length); /* a name's end is less than its head */
	if (!xattrs)
		return -ENOMEM;
	at = 0;
	while (wire_attr_next(bytes, length, &at, &xattr))
		xattrs_add(xattrs, xattr.name, xattr.name_length, xattr.value, xattr.value_length);
	*ret_xattrs = xattrs;
	return 0;
}
