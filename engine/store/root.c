/* SPDX-License-Identifier: Apache-2.0 */
/*
 * root.c - one component at a time below a held directory. Whatever another process of this host
 * does to the names meanwhile, what is opened is the inode that the kernel found inside.
 */
#include "store/root.h"

#include "base/sys.h"

#include <errno.h>
#include <linux/openat2.h>

#define INSIDE (RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV)

bool root_name_ok(const char *name, size_t length)
{
	if (length == 0 || length > ROOT_NAME_MAX)
		return false;
	if (memchr(name, '/', length) || memchr(name, '\0', length))
		return false;
	if (name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')))
		return false;
	return length != strlen(ROOT_RESERVED) || memcmp(name, ROOT_RESERVED, length) != 0;
}

int root_open(const char *path, struct zh_error *err)
{
	int fd = sys_openat(AT_FDCWD, path, O_RDONLY | O_DIRECTORY | O_NOCTTY, 0);

	if (fd < 0) {
		(void)err_set(
			err, ZH_CONFIG, fd, "open root", "the root directory cannot be opened");
		if (err)
			err_file(err, path, strlen(path), 0);
	}
	return fd;
}

int root_look(int dir, const char *name, enum root_kind *ret_kind, uint64_t *ret_size)
{
	struct stat st;
	int r;

	if (!root_name_ok(name, strlen(name)))
		return -EINVAL;
	r = sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);
	if (r < 0 && r != -ENOENT)
		return r;
	*ret_size = 0;
	if (r == -ENOENT) {
		*ret_kind = ROOT_ABSENT;
	} else if (S_ISDIR(st.st_mode)) {
		*ret_kind = ROOT_DIRECTORY;
	} else if (S_ISREG(st.st_mode)) {
		*ret_kind = ROOT_FILE;
		*ret_size = (uint64_t)st.st_size;
	} else {
		*ret_kind = ROOT_OTHER;
	}
	return 0;
}

/* Refuses what lies on another file system: as near to NO_XDEV as one gets without openat2. */
static int same_device(int dir, int fd)
{
	struct stat outer, inner;
	int r = sys_fstat(dir, &outer);

	if (r == 0)
		r = sys_fstat(fd, &inner);
	if (r == 0 && outer.st_dev != inner.st_dev)
		r = -EXDEV;
	return r;
}

int root_open_inside(int dir, const char *name, int flags)
{
	int fd = sys_openat2(dir, name, flags | O_NOFOLLOW, 0, INSIDE);
	int r;

	/* ENOSYS: before Linux 5.6. EPERM: a seccomp filter that is older than the call. */
	if (fd != -ENOSYS && fd != -EPERM)
		return fd;
	fd = sys_openat(dir, name, flags | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	r = same_device(dir, fd);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	return fd;
}

int root_enter(int dir, const char *name)
{
	if (!root_name_ok(name, strlen(name)))
		return -EINVAL;
	/* not O_PATH: a directory that is committed to is also synced */
	return root_open_inside(dir, name, O_RDONLY | O_DIRECTORY);
}
