/* SPDX-License-Identifier: Apache-2.0 */
/* file.c - see file.h. */
#include "kernel/file.h"

#include "base/sys.h"

#include <errno.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/statfs.h>
#include <sys/sysmacros.h>

#define XFS_MAGIC            0x58465342
#define PAGE_BYTES           4096u
#define SAMPLES              32
#define SAMPLE_BYTES         MIB
#define DROP_WINDOW_BYTES    (64 * MIB)
#define DIRECT_ALIGN_ASSUMED 4096u /* where the kernel does not tell */

static const struct filesystem_row {
	long magic;
	const char *name;
	bool in_memory;
} filesystem_rows[] = {
	{ EXT4_SUPER_MAGIC, "ext4", false },
	{ XFS_MAGIC, "xfs", false },
	{ BTRFS_SUPER_MAGIC, "btrfs", false },
	{ TMPFS_MAGIC, "tmpfs", true },
	{ RAMFS_MAGIC, "ramfs", true },
	{ NFS_SUPER_MAGIC, "nfs", false },
	{ OVERLAYFS_SUPER_MAGIC, "overlay", false },
	{ F2FS_SUPER_MAGIC, "f2fs", false },
	{ FUSE_SUPER_MAGIC, "fuse", false },
};

static void name_filesystem(int fd, struct file_facts *facts)
{
	struct statfs fs;

	TEXT_SET(facts->filesystem, "unknown");
	if (sys_fstatfs(fd, &fs) < 0)
		return;
	(void)snprintf(
		facts->filesystem, sizeof(facts->filesystem), "0x%lx", (unsigned long)fs.f_type);
	for (size_t i = 0; i < ARRAY_LEN(filesystem_rows); i++)
		if (filesystem_rows[i].magic == fs.f_type) {
			TEXT_SET(facts->filesystem, filesystem_rows[i].name);
			facts->in_memory = filesystem_rows[i].in_memory;
		}
}

static uint64_t device_read_ahead(dev_t device)
{
	char path[64], text[24] = { 0 };
	uint64_t kib = 0;
	int fd;

	(void)snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", major(device),
		minor(device));
	fd = sys_openat(AT_FDCWD, path, O_RDONLY, 0);
	if (fd < 0)
		return 0;
	if (sys_read(fd, text, sizeof(text) - 1) > 0)
		kib = strtoull(text, NULL, 10);
	sys_close(fd);
	return kib * KIB;
}

/* Pages of part of the file and how many of them are in the page cache. Negative errno. */
static int count_resident(int fd, struct zh_extent part, uint64_t *pages, uint64_t *resident)
{
	uint64_t there;
	int r = sys_resident_pages(fd, part.offset, part.length, &there);

	if (r < 0)
		return r;
	*pages += div_up(part.offset % PAGE_BYTES + part.length, PAGE_BYTES);
	*resident += there;
	return 0;
}

int32_t file_resident_permille(int fd, struct zh_extent extent)
{
	uint64_t pages = 0, resident = 0;
	uint64_t stride = extent.length;
	int r = 0;

	if (extent.length == 0)
		return -1;
	/* The kernel looks at each page: samples tell as much of a large file. */
	if (extent.length > SAMPLES * SAMPLE_BYTES)
		stride = extent.length / SAMPLES;
	for (uint64_t at = 0; at < extent.length && r == 0; at += stride) {
		struct zh_extent part = { extent.offset + at, extent.length - at };
		if (stride < extent.length)
			part.length = min_u64(part.length, SAMPLE_BYTES);
		r = count_resident(fd, part, &pages, &resident);
	}
	return r < 0 ? -1 : (int32_t)(min_u64(resident, pages) * 1000 / pages);
}

uint64_t file_bytes_of_permille(uint64_t size, int32_t permille)
{
	uint64_t part = permille > 0 ? (uint64_t)permille : 0;

	return size / 1000 * part + size % 1000 * part / 1000;
}

uint64_t file_leave(int fd, uint64_t size, bool drop)
{
	if (drop) /* advice: what it did not do is in what follows */
		(void)sys_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return file_bytes_of_permille(
		size, file_resident_permille(fd, (struct zh_extent){ 0, size }));
}

/* Pages that a socket still holds stay; they are asked about again a few windows long. */
void file_drop_behind(int fd, uint64_t offset)
{
	uint64_t start = offset > DROP_WINDOW_BYTES ? offset - DROP_WINDOW_BYTES : 0;

	if (offset > 0)
		(void)sys_fadvise(fd, start, offset - start, POSIX_FADV_DONTNEED);
}

static void direct_alignment(int fd, struct file_facts *facts)
{
	uint32_t memory = 0, offset = 0;
	int r = sys_statx_dio(fd, &memory, &offset);

	if (r == -EOPNOTSUPP && !facts->in_memory)
		memory = offset = DIRECT_ALIGN_ASSUMED;
	facts->direct_memory_align = memory;
	facts->direct_offset_align = offset;
}

int file_facts(int fd, struct zh_extent extent, struct file_facts *ret_facts)
{
	struct file_facts facts = { .resident_permille = -1 };
	struct stat st;
	int flags;
	int r = sys_fstat(fd, &st);

	if (r < 0)
		return r;
	flags = sys_fcntl(fd, F_GETFL, 0);
	if (flags < 0)
		return flags;
	facts.regular = S_ISREG(st.st_mode);
	facts.append_only = flags & O_APPEND;
	facts.size = (uint64_t)st.st_size;
	name_filesystem(fd, &facts);
	if (facts.regular) {
		direct_alignment(fd, &facts);
		facts.dontcache = (flags & O_ACCMODE) != O_RDONLY &&
				  sys_takes_write_flags(fd, SYS_WRITE_DONTCACHE);
		facts.resident_permille = file_resident_permille(fd, extent);
		facts.read_ahead_bytes = facts.in_memory ? 0 : device_read_ahead(st.st_dev);
	}
	*ret_facts = facts;
	return 0;
}

int file_open_direct(int fd, enum zh_side side)
{
	int flags = sys_fcntl(fd, F_GETFL, 0);

	if (flags < 0)
		return flags;
	/* Whoever may open the file again must not get more from it than the descriptor allows. */
	if ((flags & O_ACCMODE) == (side == ZH_SEND ? O_WRONLY : O_RDONLY))
		return -EBADF;
	return sys_reopen(fd, (side == ZH_SEND ? O_RDONLY : O_WRONLY) | O_DIRECT);
}
