/* SPDX-License-Identifier: Apache-2.0 */
/*
 * xattrs.c - see xattrs.h. Buffers are as large as the kernel lets a list or a value become. So
 * nothing is measured first and read then, between which it could grow, and nothing has to be tried
 * again.
 */
#include "store/xattrs.h"

#include "base/sys.h"
#include "store/publish.h"

#include <errno.h>
#include <linux/limits.h>

/* ------------------------------ names -------------------------------------------------- */

#define ACL_ACCESS  "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

static bool is(const char *name, size_t length, const char *whole)
{
	return length == strlen(whole) && memcmp(name, whole, length) == 0;
}

static bool begins(const char *name, size_t length, const char *prefix)
{
	size_t prefix_length = strlen(prefix);

	return length > prefix_length && memcmp(name, prefix, prefix_length) == 0;
}

unsigned xattr_kind_of(const char *name, size_t length)
{
	if (length > XATTR_NAME_MAX)
		return 0;
	if (begins(name, length, "user."))
		return XATTR_USER;
	if (is(name, length, ACL_ACCESS) || is(name, length, ACL_DEFAULT))
		return XATTR_ACL;
	if (is(name, length, "security.capability") || begins(name, length, "trusted."))
		return XATTR_PRIVILEGED;
	return 0;
}

/* Names as the kernel lists them, each with its end. */
struct listing {
	char *bytes; /* owned */
	size_t length;
};

/* A file system without attributes has none. */
static int list_names(int fd, struct listing *ret_listing)
{
	char *bytes = malloc(XATTR_LIST_MAX + 1);
	ssize_t length;

	*ret_listing = (struct listing){ .bytes = bytes };
	if (!bytes)
		return -ENOMEM;
	length = sys_flistxattr(fd, bytes, XATTR_LIST_MAX);
	if (length == -EOPNOTSUPP)
		length = 0;
	if (length < 0) {
		free(bytes);
		ret_listing->bytes = NULL;
		return (int)length;
	}
	bytes[length] = '\0'; /* what a file system in user space lists may lack its end */
	ret_listing->length = (size_t)length;
	return 0;
}

/* The next name of these kinds: *at starts at 0. NULL past the last one. */
static const char *next_name(const struct listing *listing, unsigned kinds, size_t *at)
{
	while (*at < listing->length) {
		const char *name = listing->bytes + *at;
		size_t length = strlen(name);
		*at += length + 1;
		if (xattr_kind_of(name, length) & kinds)
			return name;
	}
	return NULL;
}

static int compare_names(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorted. Returns how many, or -E2BIG. */
static int sort_names(
	const struct listing *listing, unsigned kinds, const char *ret_name[XATTRS_MOST])
{
	const char *name;
	size_t at = 0;
	int count = 0;

	while ((name = next_name(listing, kinds, &at))) {
		if (count == (int)XATTRS_MOST)
			return -E2BIG;
		ret_name[count++] = name;
	}
	qsort(ret_name, (size_t)count, sizeof(*ret_name), compare_names);
	return count;
}

/* ------------------------------ in memory ---------------------------------------------- */

struct xattrs *xattrs_new(unsigned kinds, size_t most, size_t bytes)
{
	size_t size = sizeof(struct xattrs) + most * sizeof(struct xattr) + bytes;
	struct xattrs *xattrs = malloc(size);

	if (!xattrs)
		return NULL;
	xattrs->kinds = kinds;
	xattrs->bytes = size;
	xattrs->next = (uint8_t *)&xattrs->item[most];
	xattrs->count = 0;
	return xattrs;
}

/* The one whose value the caller has put, or is about to put, behind its name. */
static struct xattr *add_name(struct xattrs *xattrs, const char *name, size_t name_length)
{
	struct xattr *item = &xattrs->item[xattrs->count++];

	memcpy(xattrs->next, name, name_length);
	xattrs->next[name_length] = '\0';
	item->name = (const char *)xattrs->next;
	item->value = xattrs->next + name_length + 1;
	item->length = 0;
	xattrs->next = item->value;
	return item;
}

void xattrs_add(struct xattrs *xattrs, const char *name, size_t name_length, const void *value,
	size_t length)
{
	struct xattr *item = add_name(xattrs, name, name_length);

	if (length > 0)
		memcpy(item->value, value, length);
	item->length = length;
	xattrs->next += length;
}

/* A list is le32 version and entries of le16 tag, le16 permissions, le32 id; see acl(5). */
#define ACL_HEAD_BYTES  4u
#define ACL_ENTRY_BYTES 8u

enum { ACL_OWNER = 0x01, ACL_GROUP = 0x04, ACL_MASK = 0x10, ACL_OTHER = 0x20 };

static uint16_t denied_to(uint16_t tag, bool has_mask, mode_t umask)
{
	switch (tag) {
	case ACL_OWNER:
		return umask >> 6 & 7;
	case ACL_GROUP:
		return has_mask ? 0 : umask >> 3 & 7;
	case ACL_MASK: /* bounds whoever is named, and the group */
		return umask >> 3 & 7;
	case ACL_OTHER:
		return umask & 7;
	default:
		return 0;
	}
}

/* One that is malformed is left to the kernel, which refuses it. */
static void narrow_acl(uint8_t *acl, size_t length, mode_t umask)
{
	bool has_mask = false;

	for (size_t at = ACL_HEAD_BYTES; at + ACL_ENTRY_BYTES <= length; at += ACL_ENTRY_BYTES)
		has_mask |= get_le16(acl + at) == ACL_MASK;
	for (size_t at = ACL_HEAD_BYTES; at + ACL_ENTRY_BYTES <= length; at += ACL_ENTRY_BYTES) {
		uint16_t denied = denied_to(get_le16(acl + at), has_mask, umask);
		put_le16(acl + at + 2, (uint16_t)(get_le16(acl + at + 2) & ~denied));
	}
}

void xattrs_narrow(struct xattrs *xattrs, mode_t umask)
{
	for (size_t i = 0; i < xattrs->count; i++) {
		struct xattr *item = &xattrs->item[i];
		if (xattr_kind_of(item->name, strlen(item->name)) == XATTR_ACL)
			narrow_acl(item->value, item->length, umask);
	}
}

/* ------------------------------ reading ------------------------------------------------ */

/* *left: bytes of values that there is room for, and one, by which more of them are noticed. */
static int read_one(int fd, const char *name, struct xattrs *xattrs, size_t *left)
{
	struct xattr *item = add_name(xattrs, name, strlen(name));
	ssize_t length = sys_fgetxattr(fd, name, item->value, *left);

	if (length == -ENODATA || length == -EOPNOTSUPP) {
		xattrs->count--; /* it has been removed since; its name costs a few bytes */
		return 0;
	}
	if (length == -ERANGE || length == (ssize_t)*left)
		return -E2BIG;
	if (length < 0)
		return (int)length;
	item->length = (size_t)length;
	xattrs->next += length;
	*left -= (size_t)length;
	return 0;
}

static int read_all(
	int fd, unsigned kinds, const struct listing *listing, struct xattrs **ret_xattrs)
{
	const char *name[XATTRS_MOST];
	size_t left = XATTR_SIZE_MAX + 1;
	int count = sort_names(listing, kinds, name), r = 0;
	struct xattrs *xattrs;

	if (count < 0)
		return count;
	xattrs = xattrs_new(kinds, (size_t)count, listing->length + 1 + (count > 0 ? left : 0));
	if (!xattrs)
		return -ENOMEM;
	for (int i = 0; i < count && r == 0; i++)
		if (i == 0 || strcmp(name[i], name[i - 1]) != 0) /* one in user space lists twice */
			r = read_one(fd, name[i], xattrs, &left);
	if (r < 0)
		free(xattrs);
	else
		*ret_xattrs = xattrs;
	return r;
}

int xattrs_read(int fd, unsigned kinds, struct xattrs **ret_xattrs)
{
	struct listing listing;
	int r = list_names(fd, &listing);

	if (r == 0)
		r = read_all(fd, kinds, &listing, ret_xattrs);
	free(listing.bytes);
	return r;
}

int xattrs_any(int fd, unsigned kinds)
{
	struct listing listing;
	size_t at = 0;
	int r = list_names(fd, &listing);

	if (r == 0)
		r = next_name(&listing, kinds, &at) != NULL;
	free(listing.bytes);
	return r;
}

/* ------------------------------ applying ----------------------------------------------- */

/* What is being done to a file. */
struct change {
	int fd;
	const struct xattrs *xattrs;
	uint8_t same[XATTRS_MOST / 8]; /* bit per item: it is there, and equal */
	uint8_t *room;                 /* for the largest value, and one byte */
	const char *name;              /* in hand */
	bool permitted;                /* the owner may write for the moment */
	mode_t mode;                   /* what it was before that */
};

/* Only the owner and root can do this, and root needs it not. */
static bool permit(struct change *change)
{
	struct stat st;

	if (change->permitted || sys_fstat(change->fd, &st) < 0 || st.st_mode & S_IWUSR)
		return false;
	change->mode = st.st_mode & 07777;
	change->permitted = sys_fchmod(change->fd, change->mode | S_IWUSR) == 0;
	return change->permitted;
}

/* NULL: removes it. */
static int change_once(struct change *change, const struct xattr *to)
{
	int r = to ? sys_fsetxattr(change->fd, change->name, to->value, to->length)
		   : sys_fremovexattr(change->fd, change->name);

	return !to && r == -ENODATA ? 0 : r;
}

static int change_one(struct change *change, const char *name, const struct xattr *to)
{
	int r;

	change->name = name;
	r = change_once(change, to);
	if (r == -EACCES && permit(change))
		r = change_once(change, to);
	return r;
}

static int compare_to_item(const void *name, const void *item)
{
	return strcmp(name, ((const struct xattr *)item)->name);
}

/* What cannot be read is taken for another value. */
static bool has_value(const struct change *change, const struct xattr *item)
{
	ssize_t length = sys_fgetxattr(change->fd, item->name, change->room, item->length + 1);

	return length == (ssize_t)item->length &&
	       memcmp(change->room, item->value, item->length) == 0;
}

/* Looks at what is there, and removes what is not to be: there may be no room for both. */
static int remove_others(struct change *change, const struct listing *listing)
{
	const struct xattrs *xattrs = change->xattrs;
	const char *name;
	size_t at = 0;
	int r = 0;

	while (r == 0 && (name = next_name(listing, xattrs->kinds, &at))) {
		const struct xattr *item = bsearch(
			name, xattrs->item, xattrs->count, sizeof(*xattrs->item), compare_to_item);
		if (!item) {
			r = change_one(change, name, NULL);
		} else if (has_value(change, item)) {
			size_t index = (size_t)(item - xattrs->item);
			change->same[index / 8] |= (uint8_t)(1u << index % 8);
		}
	}
	return r;
}

static int set_lacking(struct change *change)
{
	const struct xattrs *xattrs = change->xattrs;
	int r = 0;

	for (size_t i = 0; i < xattrs->count && r == 0; i++)
		if (!(change->same[i / 8] & 1u << i % 8))
			r = change_one(change, xattrs->item[i].name, &xattrs->item[i]);
	return r;
}

static int apply(struct change *change, const struct listing *listing, struct zh_error *err)
{
	int r = remove_others(change, listing);

	if (r < 0)
		(void)err_set(err, err_of_destination(r), r, PUBLISH_ATTRIBUTES,
			"the extended attribute %.100s cannot be removed", change->name);
	if (r == 0)
		r = set_lacking(change);
	if (r < 0) /* unless that is said already */
		(void)err_set(err, err_of_destination(r), r, PUBLISH_ATTRIBUTES,
			"the extended attribute %.100s cannot be set", change->name);
	if (change->permitted) {
		int back = sys_fchmod(change->fd, change->mode);
		if (r == 0 && back < 0)
			r = err_set(err, err_of_destination(back), back, PUBLISH_ATTRIBUTES,
				"the mode cannot be set back");
	}
	return r;
}

int xattrs_apply(int fd, const struct xattrs *xattrs, struct zh_error *err)
{
	struct change change = { .fd = fd, .xattrs = xattrs };
	struct listing listing;
	int r;

	CHECK(xattrs->count <= XATTRS_MOST);
	if (xattrs->kinds == 0)
		return 0;
	r = list_names(fd, &listing);
	change.room = malloc(XATTR_SIZE_MAX + 1);
	if (r == 0 && !change.room)
		r = -ENOMEM;
	if (r < 0)
		(void)err_set(err, err_of_destination(r), r, PUBLISH_ATTRIBUTES,
			"its extended attributes cannot be listed");
	else
		r = apply(&change, &listing, err);
	free(change.room);
	free(listing.bytes);
	return r;
}

/* ------------------------------ inheriting --------------------------------------------- */

int xattrs_inherit(int parent, int fd)
{
	uint8_t *acl = malloc(XATTR_SIZE_MAX);
	ssize_t length;
	int r = 0;

	if (!acl)
		return -ENOMEM;
	length = sys_fgetxattr(parent, ACL_DEFAULT, acl, XATTR_SIZE_MAX);
	if (length >= 0)
		r = sys_fsetxattr(fd, ACL_ACCESS, acl, (size_t)length);
	else if (length != -ENODATA && length != -EOPNOTSUPP)
		r = (int)length;
	free(acl);
	return r;
}

int xattrs_disinherit(int dir)
{
	int r = sys_fremovexattr(dir, ACL_DEFAULT);

	return r == -ENODATA || r == -EOPNOTSUPP ? 0 : r;
}
