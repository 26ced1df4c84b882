/* SPDX-License-Identifier: Apache-2.0 */
/* extra.c - digests of paths, and a walk that asks for each name whether its path is among them. */
#include "store/extra.h"

#include "base/sys.h"
#include "store/root.h"

#include <dirent.h>
#include <errno.h>
#include <xxhash.h>

#define FIRST_CAP    1024u
#define RECORD_BYTES 4096u

static struct digest digest_path(const char *path, size_t length)
{
	XXH128_canonical_t canonical;
	struct digest digest;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(path, length));
	memcpy(&digest, &canonical, sizeof(digest));
	return digest;
}

static int add_digest(struct listed *listed, struct digest digest)
{
	if (listed->count == listed->cap) {
		size_t cap = listed->cap ? 2 * listed->cap : FIRST_CAP;
		struct digest *grown = reallocarray(listed->path, cap, sizeof(*grown));
		if (!grown)
			return -ENOMEM;
		listed->path = grown;
		listed->cap = cap;
	}
	listed->path[listed->count++] = digest;
	return 0;
}

/* Whether one of the digests added just before is this one: neighbours share their directories. */
static bool added_lately(const struct listed *listed, const struct digest *digest)
{
	size_t first = listed->count > 8 ? listed->count - 8 : 0;

	for (size_t i = listed->count; i > first; i--)
		if (digest_equal(&listed->path[i - 1], digest))
			return true;
	return false;
}

int listed_add(struct listed *listed, const char *path, size_t path_bytes)
{
	int r = add_digest(listed, digest_path(path, path_bytes));

	for (size_t i = path_bytes; i > 0 && r == 0; i--) {
		struct digest digest;
		if (path[i - 1] != '/')
			continue;
		digest = digest_path(path, i - 1);
		/* whoever added that directory added those above it */
		if (added_lately(listed, &digest))
			break;
		r = add_digest(listed, digest);
	}
	return r;
}

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct digest));
}

void listed_sort(struct listed *listed)
{
	if (listed->count > 0)
		qsort(listed->path, listed->count, sizeof(*listed->path), compare);
}

static bool listed_has(const struct listed *listed, const char *path, size_t path_bytes)
{
	struct digest digest = digest_path(path, path_bytes);

	return listed->count > 0 && bsearch(&digest, listed->path, listed->count,
					    sizeof(*listed->path), compare) != NULL;
}

void listed_free(struct listed *listed)
{
	free(listed->path);
	*listed = (struct listed){ 0 };
}

/* Where a walk is. */
struct place {
	struct extra_walk *walk;
	size_t length; /* of the path, without a "/" at its end */
	char path[MANIFEST_PATH_MAX + 1 + ROOT_NAME_MAX];
};

static bool is_skipped(const struct extra_walk *walk, int dir, const char *name)
{
	struct stat st;

	return sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	       st.st_dev == walk->skip_device && st.st_ino == walk->skip_inode;
}

static int walk_directory(struct place *place, int dir);

/* The path is that of a listed directory, or of something else that is listed. */
static int enter(struct place *place, int dir, const char *name)
{
	struct extra_walk *walk = place->walk;
	int inner = root_open_inside(dir, name, O_RDONLY | O_DIRECTORY | O_NONBLOCK);
	int r = 0;

	if (inner == -ENOTDIR || inner == -ELOOP || inner == -ENOENT)
		return 0; /* no directory, which is for the proof of what is listed to tell */
	if (inner < 0)
		walk->found(walk->context, place->path, place->length, inner);
	else
		r = walk_directory(place, inner);
	sys_close(inner);
	return r;
}

static int look_at(struct place *place, int dir, const struct dirent64 *record)
{
	struct extra_walk *walk = place->walk;
	size_t before = place->length, length = strlen(record->d_name);
	int r = 0;

	if (!root_name_ok(record->d_name, length))
		return 0;
	if (place->length > 0)
		place->path[place->length++] = '/';
	memcpy(place->path + place->length, record->d_name, length);
	place->length += length;
	if (listed_has(walk->listed, place->path, place->length)) {
		if (record->d_type == DT_DIR || record->d_type == DT_UNKNOWN)
			r = enter(place, dir, record->d_name);
	} else if (!is_skipped(walk, dir, record->d_name)) {
		walk->found(walk->context, place->path, place->length, 0);
	}
	place->length = before;
	return r;
}

/* No deeper than what is listed, and that is at most MANIFEST_DEPTH_MAX. */
static int walk_directory(struct place *place, int dir)
{
	struct extra_walk *walk = place->walk;
	_Alignas(struct dirent64) char records[RECORD_BYTES];
	ssize_t got;

	while ((got = sys_getdents(dir, records, sizeof(records))) > 0) {
		for (ssize_t at = 0; at < got;) {
			const struct dirent64 *record = (const void *)(records + at);
			int r = atomic_load(walk->cancel) ? -ECANCELED
							  : look_at(place, dir, record);
			if (r < 0)
				return r;
			at += record->d_reclen;
		}
	}
	if (got < 0)
		walk->found(walk->context, place->path, place->length, (int)got);
	return 0;
}

int extra_walk(struct extra_walk *walk)
{
	struct place *place = malloc(sizeof(*place));
	int dir, r;

	if (!place)
		return -ENOMEM;
	place->walk = walk;
	place->length = 0;
	/* a descriptor of its own, because reading a directory moves its offset */
	dir = sys_openat(walk->root, ".", O_RDONLY | O_DIRECTORY, 0);
	if (dir < 0)
		walk->found(walk->context, ".", 1, dir);
	r = dir < 0 ? 0 : walk_directory(place, dir);
	sys_close(dir);
	free(place);
	return r;
}
