/* SPDX-License-Identifier: Apache-2.0 */
/* prove.c - looks up one thing below a root, and reads and digests it if it is a file. */
#include "store/prove.h"

#include "base/sys.h"
#include "kernel/file.h"
#include "store/root.h"

#include <errno.h>
#include <inttypes.h>

#define STAGE       "verify"
#define ALIGN_BYTES 4096u
#define DROP_BYTES  (64 * MIB)
/* O_NONBLOCK: what is a FIFO by now, and was none when it was looked at, must not hold us. */
#define FILE_FLAGS (O_RDONLY | O_NONBLOCK | O_NOCTTY)

int prover_init(struct prover *prover)
{
	int r;

	prover->direct_bytes = 0;
	prover->run.state = NULL;
	prover->buffer = sys_map_memory(LEAF_BYTES, false, &r);
	if (!prover->buffer)
		return r;
	r = leaf_run_init(&prover->run);
	if (r < 0)
		prover_fini(prover);
	return r;
}

void prover_fini(struct prover *prover)
{
	leaf_run_fini(&prover->run);
	sys_unmap_memory(prover->buffer, LEAF_BYTES);
	prover->buffer = NULL;
}

/* ------------------------------ reading what is on the disk ---------------------------- */

struct proven_file {
	int fd;
	bool direct;
};

/*
 * From here on through the page cache, which is emptied of the file first. What is dirty has to be
 * written back for that; EIO says that it never got there.
 */
static int go_buffered(struct proven_file *file)
{
	int r = sys_fcntl(file->fd, F_SETFL, 0);

	file->direct = false;
	if (r >= 0)
		r = sys_fdatasync(file->fd);
	(void)sys_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
	return r == -EIO ? r : 0; /* EINVAL: there is nothing to sync to */
}

static bool refuses_direct(ssize_t r)
{
	return r == -EINVAL || r == -EOPNOTSUPP;
}

static int open_file(int dir, const char *name, struct proven_file *ret_file)
{
	uint32_t memory, offset;

	ret_file->direct = true;
	ret_file->fd = root_open_inside(dir, name, FILE_FLAGS | O_DIRECT);
	if (refuses_direct(ret_file->fd)) {
		ret_file->direct = false;
		ret_file->fd = root_open_inside(dir, name, FILE_FLAGS);
	}
	if (ret_file->fd < 0)
		return ret_file->fd;
	/* Some file systems take O_DIRECT and go through the page cache all the same. */
	if (ret_file->direct && (sys_statx_dio(ret_file->fd, &memory, &offset) != 0 || offset != 0))
		return 0;
	return go_buffered(ret_file);
}

/* Reads and digests one leaf of want bytes. -ENODATA: the file ends before. */
static int read_leaf(struct prover *prover, struct proven_file *file, uint64_t offset, size_t want)
{
	size_t done = 0;

	while (done < want) {
		/* with O_DIRECT whole blocks are asked for, and the end of the file cuts them */
		size_t ask = file->direct ? LEAF_BYTES - done : want - done;
		ssize_t got = sys_pread(file->fd, prover->buffer, ask, offset + done);
		size_t part;
		if (got < 0 && !(file->direct && refuses_direct(got)))
			return (int)got;
		if (got == 0)
			return -ENODATA;
		part = got < 0 ? 0 : min_size((size_t)got, want - done);
		if (file->direct && done + part < want)
			part = (size_t)round_down(part, ALIGN_BYTES);
		if (part == 0) { /* refused, or stopped where no direct read can begin */
			int r = go_buffered(file);
			if (r < 0)
				return r;
			continue;
		}
		leaf_run_add(&prover->run, prover->buffer, part);
		done += part;
		atomic_fetch_add(prover->bytes, part);
		if (file->direct)
			prover->direct_bytes += part;
	}
	return 0;
}

/* The root of the first size bytes; *ret_offset is where it failed. */
static int read_root(struct prover *prover, struct proven_file *file, uint64_t size,
	struct digest *ret_root, uint64_t *ret_offset)
{
	struct leaf_sum sum = { 0 };
	struct digest leaf;

	for (uint64_t offset = 0; offset < size; offset += LEAF_BYTES) {
		int r;
		*ret_offset = offset;
		if (atomic_load(prover->cancel))
			return -ECANCELED;
		leaf_run_begin(&prover->run, offset, &leaf, 1);
		r = read_leaf(prover, file, offset, (size_t)min_u64(LEAF_BYTES, size - offset));
		if (r < 0)
			return r;
		CHECK(leaf_run_end(&prover->run) == 1);
		leaf_sum_add(&sum, offset / LEAF_BYTES, &leaf);
		if (!file->direct && offset % DROP_BYTES == 0)
			file_drop_behind(file->fd, offset);
	}
	*ret_root = leaf_root(&sum, size);
	return 0;
}

/* ------------------------------ what is found ------------------------------------------ */

static enum proof wrong(struct zh_error *err, const char *text)
{
	(void)err_set(err, ZH_VERIFY, 0, STAGE, "%s", text);
	return PROOF_WRONG;
}

/* What an errno says about a thing that was looked up, opened or read. */
static enum proof failed(struct zh_error *err, int r)
{
	switch (-r) {
	case ECANCELED:
		return PROOF_CANCELLED;
	case ENOENT:
		(void)err_set(err, ZH_SRC_GONE, 0, STAGE, "missing");
		return PROOF_MISSING;
	case ENODATA:
		return wrong(err, "cut while it was read");
	case ELOOP:
	case ENOTDIR:
		return wrong(err, "a link or a file stands in the place of one of its directories");
	case EXDEV:
		(void)err_set(err, ZH_SRC_IO, 0, STAGE, "on another file system");
		return PROOF_UNREADABLE;
	default:
		(void)err_set(err, err_of_source(r), r, STAGE, "cannot be read");
		return PROOF_UNREADABLE;
	}
}

static enum proof prove_kind(const struct manifest_entry *entry, mode_t mode, struct zh_error *err)
{
	static const mode_t expected[] = {
		[MANIFEST_FILE] = S_IFREG,
		[MANIFEST_DIRECTORY] = S_IFDIR,
		[MANIFEST_LINK] = S_IFLNK,
	};

	if ((mode & S_IFMT) == expected[entry->kind])
		return PROOF_RIGHT;
	switch (mode & S_IFMT) {
	case S_IFREG:
		return wrong(err, "a file stands in its place");
	case S_IFDIR:
		return wrong(err, "a directory stands in its place");
	case S_IFLNK:
		return wrong(err, "a link stands in its place");
	default:
		return wrong(err, "a device, FIFO or socket stands in its place");
	}
}

static enum proof prove_size(
	const struct manifest_entry *entry, const struct stat *st, struct zh_error *err)
{
	if (entry->kind != MANIFEST_FILE || (uint64_t)st->st_size == entry->size)
		return PROOF_RIGHT;
	(void)err_set(err, ZH_VERIFY, 0, STAGE, "%" PRIu64 " bytes long, not %" PRIu64,
		(uint64_t)st->st_size, entry->size);
	return PROOF_WRONG;
}

static enum proof prove_attributes(uint32_t flags, const struct manifest_entry *entry,
	const struct stat *st, struct zh_error *err)
{
	if (flags & ZH_VERIFY_MTIME && entry->kind == MANIFEST_FILE &&
		(st->st_mtim.tv_sec != entry->mtime_s ||
			(uint32_t)st->st_mtim.tv_nsec != entry->mtime_ns))
		return wrong(err, "its time of modification differs");
	if (flags & ZH_VERIFY_MODE && entry->kind != MANIFEST_LINK &&
		(st->st_mode & 07777) != entry->mode) {
		(void)err_set(err, ZH_VERIFY, 0, STAGE, "its mode is %04o, not %04o",
			st->st_mode & 07777, entry->mode);
		return PROOF_WRONG;
	}
	return PROOF_RIGHT;
}

static enum proof prove_target(
	int dir, const char *name, const struct manifest_entry *entry, struct zh_error *err)
{
	char target[MANIFEST_TARGET_MAX + 1], text[128];
	ssize_t length = sys_readlinkat(dir, name, target, sizeof(target));

	if (length < 0)
		return failed(err, (int)length);
	if ((size_t)length == entry->target_bytes &&
		memcmp(target, entry->target, (size_t)length) == 0)
		return PROOF_RIGHT;
	zh_escape(target, (size_t)length, text, sizeof(text));
	(void)err_set(err, ZH_VERIFY, 0, STAGE, "the link points to %s", text);
	return PROOF_WRONG;
}

static enum proof prove_content(struct prover *prover, struct proven_file *file,
	const struct manifest_entry *entry, struct zh_error *err)
{
	struct digest root;
	uint64_t offset = 0;
	int r = read_root(prover, file, entry->size, &root, &offset);

	if (!file->direct)
		(void)sys_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
	if (r < 0) {
		enum proof proof = failed(err, r);
		err->offset = offset;
		return proof;
	}
	return digest_equal(&root, &entry->root) ? PROOF_RIGHT : wrong(err, "its content differs");
}

static enum proof prove_file(struct prover *prover, int dir, const char *name,
	const struct manifest_entry *entry, struct zh_error *err)
{
	struct proven_file file;
	struct stat st;
	enum proof proof;
	int r = open_file(dir, name, &file);

	if (r == 0)
		r = sys_fstat(file.fd, &st);
	proof = r < 0 ? failed(err, r) : prove_kind(entry, st.st_mode, err);
	if (proof == PROOF_RIGHT)
		proof = prove_size(entry, &st, err);
	if (proof == PROOF_RIGHT)
		proof = prove_content(prover, &file, entry, err);
	if (proof == PROOF_RIGHT)
		proof = prove_attributes(prover->flags, entry, &st, err);
	sys_close(file.fd);
	return proof;
}

/* Looked at first, so that what is no file is never opened, and a wrong size is told unread. */
static enum proof prove_name(struct prover *prover, int dir, const char *name,
	const struct manifest_entry *entry, struct zh_error *err)
{
	struct stat st;
	int r = sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);
	enum proof proof = r < 0 ? failed(err, r) : prove_kind(entry, st.st_mode, err);

	if (proof == PROOF_RIGHT)
		proof = prove_size(entry, &st, err);
	if (proof != PROOF_RIGHT)
		return proof;
	if (entry->kind == MANIFEST_FILE)
		return prove_file(prover, dir, name, entry, err);
	if (entry->kind == MANIFEST_LINK)
		return prove_target(dir, name, entry, err);
	return prove_attributes(prover->flags, entry, &st, err);
}

/* The directory that holds the entry, root itself or one to be closed, and the name in it. */
static int enter_parent(
	int root, const struct manifest_entry *entry, char ret_name[ROOT_NAME_MAX + 1])
{
	const char *at = entry->path;
	size_t rest = entry->path_bytes;
	int dir = root;

	for (;;) {
		const char *slash = memchr(at, '/', rest);
		size_t length = slash ? (size_t)(slash - at) : rest;
		int next;
		memcpy(ret_name, at, length);
		ret_name[length] = '\0';
		if (!slash)
			return dir;
		/* O_PATH: a directory that may only be passed through is enough */
		next = root_open_inside(dir, ret_name, O_PATH | O_DIRECTORY);
		if (dir != root)
			sys_close(dir);
		if (next < 0)
			return next;
		dir = next;
		at = slash + 1;
		rest -= length + 1;
	}
}

enum proof prove_entry(
	struct prover *prover, const struct manifest_entry *entry, struct zh_error *err)
{
	char name[ROOT_NAME_MAX + 1];
	int dir = enter_parent(prover->root, entry, name);
	enum proof proof = dir < 0 ? failed(err, dir) : prove_name(prover, dir, name, entry, err);

	if (dir != prover->root)
		sys_close(dir);
	if (proof != PROOF_RIGHT && proof != PROOF_CANCELLED)
		err_file(err, entry->path, entry->path_bytes, err->offset);
	return proof;
}
