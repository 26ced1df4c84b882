/* SPDX-License-Identifier: Apache-2.0 */
/* source.c - opening what is to be sent, and asking later whether it is still the same. */
#include "store/source.h"

#include "base/sys.h"
#include "store/root.h"

#include <errno.h>
#include <unistd.h>

#define STAGE "open source"
/* O_NONBLOCK: a FIFO without a writer must not hold us; it is taken off again for regular files. */
#define SOURCE_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY)

/* Says what r means, unless err says it already. */
static int source_fail(struct zh_error *err, const char *name, int r)
{
	switch (-r) {
	case ELOOP:
		(void)err_set(err, ZH_USAGE, r, STAGE, "a symbolic link, which is not followed");
		break;
	case EXDEV:
		(void)err_set(err, ZH_USAGE, r, STAGE, "on another file system than its root");
		break;
	case EISDIR:
	case ENXIO: /* a socket, or a device without a driver */
	case ENODEV:
		(void)err_set(err, ZH_USAGE, r, STAGE, "not a regular file");
		break;
	case ENOTDIR: /* a path through a file: nothing bears that name */
		(void)err_set(err, ZH_SRC_GONE, r, STAGE, "the source does not exist");
		break;
	default:
		(void)err_set(err, err_of_source(r), r, STAGE, "the source cannot be opened");
		break;
	}
	if (err)
		err_file(err, name, strlen(name), 0);
	return r;
}

static bool path_ok(const char *path)
{
	for (;;) {
		size_t length = strcspn(path, "/");
		if (!root_name_ok(path, length))
			return false;
		if (path[length] == '\0')
			return true;
		path += length + 1;
	}
}

/* Walks path, which is path_ok, below dir, one component at a time, and opens the last one. */
static int open_beneath(int dir, const char *path, int flags)
{
	int at = dir;

	for (;;) {
		char name[ROOT_NAME_MAX + 1];
		size_t length = strcspn(path, "/");
		bool last = path[length] == '\0';
		int fd;

		memcpy(name, path, length);
		name[length] = '\0';
		fd = last ? root_open_inside(at, name, flags) : root_enter(at, name);
		if (at != dir)
			sys_close(at);
		if (last || fd < 0)
			return fd;
		at = fd;
		path += length + 1;
	}
}

/*
 * A file that says it is empty and is not, as those in /proc, cannot be announced with its size.
 * Returns 1 for such a one.
 */
static int hides_size(int fd, struct stat *st)
{
	char byte;
	ssize_t got = sys_pread(fd, &byte, 1, 0);
	int r;

	if (got <= 0)
		return (int)got;
	r = sys_fstat(fd, st); /* it may have grown this very moment */
	return r == 0 ? st->st_size == 0 : r;
}

/* Returns 1 when the file hides its size. */
static int source_take(struct source *source)
{
	struct stat st;
	int r = sys_fstat(source->fd, &st);

	if (r == 0 && !S_ISREG(st.st_mode))
		r = S_ISDIR(st.st_mode) ? -EISDIR : -ENXIO;
	if (r == 0 && st.st_size == 0)
		r = hides_size(source->fd, &st);
	/* io_uring never waits for the disk on a descriptor with O_NONBLOCK, it fails with EAGAIN
	 */
	if (r == 0)
		r = sys_fcntl(source->fd, F_SETFL, 0);
	if (r != 0)
		return r;
	source->size = (uint64_t)st.st_size;
	source->mtime_s = st.st_mtim.tv_sec;
	source->mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
	source->mode = st.st_mode & 07777;
	source->device = st.st_dev;
	source->inode = st.st_ino;
	source->uid = st.st_uid;
	source->gid = st.st_gid;
	source->sparse = (uint64_t)st.st_blocks * 512 < source->size;
	return 0;
}

static int open_at(int dir, const char *name, int beneath, int flags)
{
	return beneath ? open_beneath(dir, name, flags) : sys_openat(dir, name, flags, 0);
}

static int refuse_name(struct zh_error *err, const char *name)
{
	return source_fail(err, name,
		err_set(err, ZH_UNSAFE_NAME, EINVAL, STAGE, "a name that may not be asked for"));
}

int source_open(
	int dir, const char *name, int beneath, struct source *ret_source, struct zh_error *err)
{
	struct source source = { .fd = -1 };
	int r;

	ret_source->fd = -1;
	if (beneath && !path_ok(name))
		return refuse_name(err, name);
	source.fd = open_at(dir, name, beneath, SOURCE_FLAGS);
	if (source.fd < 0)
		return source_fail(err, name, source.fd);
	r = source_take(&source);
	if (r > 0)
		r = err_set(err, ZH_USAGE, EINVAL, STAGE, "a file that does not tell its size");
	if (r < 0) {
		sys_close(source.fd);
		return source_fail(err, name, r);
	}
	*ret_source = source;
	return 0;
}

int source_open_directory(int dir, const char *name, int beneath, struct zh_error *err)
{
	int flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NOCTTY;
	int fd;

	if (beneath && name[0] == '\0') {
		beneath = 0; /* the root itself */
		name = ".";
	}
	if (beneath && !path_ok(name))
		return refuse_name(err, name);
	fd = open_at(dir, name, beneath, flags);
	if (fd == -ELOOP)
		fd = -ENOTDIR;
	return fd < 0 && fd != -ENOTDIR ? source_fail(err, name, fd) : fd;
}

void source_close(struct source *source)
{
	sys_close(source->fd);
	source->fd = -1;
}

/* Halves the number of extents by filling the smaller holes up. */
static size_t fill_holes(struct zh_extent *extent, size_t count)
{
	uint64_t largest = 0, most;
	size_t kept = count;

	for (size_t i = 1; i < count; i++)
		largest = max_u64(
			largest, extent[i].offset - extent[i - 1].offset - extent[i - 1].length);
	for (most = 4 * KIB; kept > count / 2 && most <= 2 * largest; most *= 2) {
		size_t out = 0;
		for (size_t i = 1; i < kept; i++) {
			uint64_t end = extent[out].offset + extent[out].length;
			if (extent[i].offset - end <= most)
				extent[out].length =
					extent[i].offset + extent[i].length - extent[out].offset;
			else
				extent[++out] = extent[i];
		}
		kept = out + 1;
	}
	return kept;
}

int source_map(
	const struct source *source, struct zh_extent *ret_extent, size_t cap, size_t *ret_count)
{
	uint64_t at = 0;
	size_t count = 0;

	while (at < source->size) {
		uint64_t data, hole;
		int r = sys_seek(source->fd, at, SEEK_DATA, &data);
		if (r == -ENXIO)
			break; /* only a hole from here on */
		if (r == 0)
			r = sys_seek(source->fd, data, SEEK_HOLE, &hole);
		if (r < 0)
			return r == -EINVAL ? -EOPNOTSUPP : r;
		data = min_u64(data, source->size);
		at = min_u64(hole, source->size);
		if (at <= data)
			break; /* it has shrunk */
		if (count == cap)
			count = fill_holes(ret_extent, count);
		ret_extent[count++] = (struct zh_extent){ data, at - data };
	}
	*ret_count = count;
	return 0;
}

int source_unchanged(const struct source *source)
{
	struct stat st;
	int r = sys_fstat(source->fd, &st);

	if (r < 0)
		return r;
	if ((uint64_t)st.st_size != source->size || st.st_mtim.tv_sec != source->mtime_s ||
		(uint32_t)st.st_mtim.tv_nsec != source->mtime_ns)
		return -ESTALE;
	return 0;
}
