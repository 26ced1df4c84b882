/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tree_manifest.h - the manifest of a tree that lies here already, written by the writer of the
 * engine: for tests that need one and have no transfer. Ends the program when the host fails it.
 */
#ifndef ZH_TESTS_TREE_MANIFEST_H
#define ZH_TESTS_TREE_MANIFEST_H

#include "store/digest.h"
#include "store/manifest.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static inline struct digest tree_root_of(int dir, const char *name, uint64_t size)
{
	struct digester digester;
	struct leaf_sum sum = { 0 };
	int fd = openat(dir, name, O_RDONLY | O_CLOEXEC);

	CHECK(fd >= 0 && digester_init(&digester) == 0);
	for (uint64_t at = 0; at < size; at += LEAF_BYTES) {
		struct zh_extent extent = { at, min_u64(LEAF_BYTES, size - at) };
		struct digest leaf;
		CHECK(digester_read(&digester, fd, extent, &leaf) == 0);
		leaf_sum_add(&sum, at / LEAF_BYTES, &leaf);
	}
	digester_fini(&digester);
	close(fd);
	return leaf_root(&sum, size);
}

static inline void tree_add(struct manifest *manifest, int dir, const char *name, const char *path)
{
	struct manifest_entry entry = { .path = path, .path_bytes = strlen(path) };
	char target[MANIFEST_TARGET_MAX];
	struct stat st;
	ssize_t length;

	CHECK(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0);
	entry.mode = st.st_mode & 07777;
	switch (st.st_mode & S_IFMT) {
	case S_IFREG:
		entry.kind = MANIFEST_FILE;
		entry.size = (uint64_t)st.st_size;
		entry.mtime_s = st.st_mtim.tv_sec;
		entry.mtime_ns = (uint32_t)st.st_mtim.tv_nsec;
		entry.root = tree_root_of(dir, name, entry.size);
		break;
	case S_IFDIR:
		entry.kind = MANIFEST_DIRECTORY;
		break;
	case S_IFLNK:
		entry.kind = MANIFEST_LINK;
		length = readlinkat(dir, name, target, sizeof(target));
		CHECK(length > 0);
		entry.target = target;
		entry.target_bytes = (size_t)length;
		break;
	default:
		return;
	}
	manifest_add(manifest, &entry);
}

/* dir is that of path, "" for the root. */
static inline void tree_add_below(struct manifest *manifest, int dir, const char *path)
{
	DIR *stream = fdopendir(openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct dirent *record;

	CHECK(stream);
	while ((record = readdir(stream))) {
		char inner[4096];
		int fd;
		if (strcmp(record->d_name, ".") == 0 || strcmp(record->d_name, "..") == 0)
			continue;
		(void)snprintf(
			inner, sizeof(inner), "%s%s%s", path, *path ? "/" : "", record->d_name);
		tree_add(manifest, dir, record->d_name, inner);
		fd = openat(dir, record->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (fd < 0)
			continue;
		tree_add_below(manifest, fd, inner);
		close(fd);
	}
	(void)closedir(stream);
}

static inline void tree_manifest(int root, const char *out)
{
	struct manifest *manifest;

	CHECK(manifest_open(out, &manifest, NULL) == 0);
	tree_add_below(manifest, root, "");
	CHECK(manifest_close(manifest, NULL) == 0);
}

#endif
