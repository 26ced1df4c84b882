/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.c - one way to write each line, and so one to read it: a line is right when writing what
 * was read from it gives the same bytes again.
 */
#include "store/manifest.h"

#include "base/clock.h"
#include "base/sys.h"
#include "store/root.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <xxhash.h>

#define HEAD        "zerohaul-manifest 1\n"
#define STAGE       "manifest"
#define FLUSH_BYTES (64 * KIB)
#define TRIES       100
#define NS_END      1000000000u

struct manifest {
	pthread_mutex_t lock; /* guards all that follows */
	int dir;
	int fd;
	char *name;    /* below dir, when it is complete */
	char temp[64]; /* until then */
	uint64_t files;
	uint64_t bytes;
	XXH3_state_t *hash;
	struct zh_error error; /* the first one */
	size_t fill;
	char buffer[FLUSH_BYTES + MANIFEST_LINE_MAX];
};

/* ------------------------------ the format --------------------------------------------- */

static const char hex[] = "0123456789abcdef";

/* Escapes as zh_escape does; in a target a blank too, because a path follows. Returns the end. */
static char *put_bytes(char *out, const char *bytes, size_t length, bool blank_too)
{
	for (size_t i = 0; i < length; i++) {
		unsigned char c = (unsigned char)bytes[i];
		if (c > 0x20 && c < 0x7f && c != '\\') {
			*out++ = (char)c;
		} else if (c == ' ' && !blank_too) {
			*out++ = ' ';
		} else {
			*out++ = '\\';
			*out++ = 'x';
			*out++ = hex[c >> 4];
			*out++ = hex[c & 15];
		}
	}
	return out;
}

static char *put_digest(char *out, const struct digest *digest)
{
	for (size_t i = 0; i < DIGEST_BYTES; i++) {
		*out++ = hex[digest->byte[i] >> 4];
		*out++ = hex[digest->byte[i] & 15];
	}
	return out;
}

/* Writes the line of an entry that is entry_ok, its newline included. Returns its length. */
static size_t put_entry(char *line, const struct manifest_entry *entry)
{
	char *out = line;

	switch (entry->kind) {
	case MANIFEST_FILE:
		out = put_digest(stpcpy(out, "file "), &entry->root);
		out += sprintf(out, " %" PRIu64 " %" PRId64 ".%09u %04o ", entry->size,
			entry->mtime_s, entry->mtime_ns, entry->mode);
		break;
	case MANIFEST_DIRECTORY:
		out += sprintf(out, "dir %04o ", entry->mode);
		break;
	case MANIFEST_LINK:
		out = put_bytes(stpcpy(out, "link "), entry->target, entry->target_bytes, true);
		*out++ = ' ';
		break;
	}
	out = put_bytes(out, entry->path, entry->path_bytes, false);
	*out++ = '\n';
	return (size_t)(out - line);
}

static bool path_ok(const char *path, size_t length)
{
	const char *slash;

	for (unsigned depth = 1; (slash = memchr(path, '/', length)); depth++) {
		if (depth == MANIFEST_DEPTH_MAX || !root_name_ok(path, (size_t)(slash - path)))
			return false;
		length -= (size_t)(slash + 1 - path);
		path = slash + 1;
	}
	return root_name_ok(path, length);
}

static bool entry_ok(const struct manifest_entry *entry)
{
	if (!path_ok(entry->path, entry->path_bytes))
		return false;
	if (entry->kind == MANIFEST_LINK)
		return entry->target_bytes > 0 && entry->target_bytes <= MANIFEST_TARGET_MAX &&
		       !memchr(entry->target, '\0', entry->target_bytes);
	return entry->mode <= 07777 &&
	       (entry->kind == MANIFEST_DIRECTORY ||
		       (entry->size <= INT64_MAX && entry->mtime_ns < NS_END));
}

/* The last line, for what has been counted and hashed up to it. */
static size_t put_end(char *line, uint64_t files, uint64_t bytes, const XXH3_state_t *hash)
{
	XXH128_canonical_t canonical;
	struct digest digest;
	char *out = line;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(hash));
	memcpy(&digest, &canonical, sizeof(digest));
	out += sprintf(out, "end %" PRIu64 " %" PRIu64 " ", files, bytes);
	out = put_digest(out, &digest);
	*out++ = '\n';
	return (size_t)(out - line);
}

/* Counts a file; false when the sum would not fit. */
static bool count_entry(const struct manifest_entry *entry, uint64_t *files, uint64_t *bytes)
{
	if (entry->kind != MANIFEST_FILE)
		return true;
	(*files)++;
	return !__builtin_add_overflow(*bytes, entry->size, bytes);
}

/* ------------------------------ writing ------------------------------------------------ */

static int say_unwritable(struct zh_error *err, int r)
{
	return err_set(err, err_of_destination(r), r, STAGE, "the manifest cannot be written");
}

static int write_all(int fd, const char *bytes, size_t length)
{
	while (length > 0) {
		ssize_t done = sys_write(fd, bytes, length);
		if (done < 0)
			return (int)done;
		bytes += done;
		length -= (size_t)done;
	}
	return 0;
}

static void flush(struct manifest *manifest)
{
	int r = 0;

	if (!err_is_set(&manifest->error))
		r = write_all(manifest->fd, manifest->buffer, manifest->fill);
	if (r < 0)
		(void)say_unwritable(&manifest->error, r);
	manifest->fill = 0;
}

static void put_hashed(struct manifest *manifest, size_t length)
{
	(void)XXH3_128bits_update(manifest->hash, manifest->buffer + manifest->fill, length);
	manifest->fill += length;
	if (manifest->fill >= FLUSH_BYTES)
		flush(manifest);
}

void manifest_add(struct manifest *manifest, const struct manifest_entry *entry)
{
	(void)pthread_mutex_lock(&manifest->lock);
	if (entry_ok(entry) && count_entry(entry, &manifest->files, &manifest->bytes)) {
		put_hashed(manifest, put_entry(manifest->buffer + manifest->fill, entry));
	} else if (!err_is_set(&manifest->error)) {
		(void)err_set(&manifest->error, ZH_UNSAFE_NAME, EINVAL, STAGE,
			"something that a manifest cannot list");
		err_file(&manifest->error, entry->path, entry->path_bytes, 0);
	}
	(void)pthread_mutex_unlock(&manifest->lock);
}

static bool same_inode(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

bool manifest_is(const struct manifest *manifest, const struct stat *st)
{
	struct stat own;

	if (!manifest)
		return false;
	return (sys_fstat(manifest->fd, &own) == 0 && same_inode(&own, st)) ||
	       (sys_fstatat(manifest->dir, manifest->name, &own, AT_SYMLINK_NOFOLLOW) == 0 &&
		       same_inode(&own, st));
}

/* A regular file may be replaced; a link to a device, say, must not become a file. */
static int check_target(int dir, const char *name)
{
	struct stat st;
	int r = sys_fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW);

	if (r == -ENOENT)
		return 0;
	if (r == 0 && !S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EEXIST;
	return r;
}

static int open_temp(struct manifest *manifest)
{
	uint64_t number = clock_read_ns(CLOCK_REALTIME);

	for (unsigned i = 0; i < TRIES; i++) {
		int fd;
		(void)snprintf(manifest->temp, sizeof(manifest->temp),
			".zerohaul-manifest-%016" PRIx64, number + i);
		fd = sys_openat(manifest->dir, manifest->temp, O_WRONLY | O_CREAT | O_EXCL, 0666);
		if (fd != -EEXIST)
			return fd;
	}
	return -EEXIST;
}

/* Opens the directory of path and keeps the name below it. */
static int open_directory(struct manifest *manifest, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	char *directory;

	if (strlen(name) > ROOT_NAME_MAX)
		return -ENAMETOOLONG;
	if (!root_name_ok(name, strlen(name)))
		return -EISDIR;
	manifest->name = strdup(name);
	directory = slash ? strndup(path, (size_t)(name - path)) : strdup(".");
	if (manifest->name && directory)
		manifest->dir = sys_openat(AT_FDCWD, directory, O_RDONLY | O_DIRECTORY, 0);
	else
		manifest->dir = -ENOMEM;
	free(directory);
	return manifest->dir;
}

static int begin(struct manifest *manifest, const char *path)
{
	int r;

	if (!manifest->hash)
		return -ENOMEM;
	(void)XXH3_128bits_reset(manifest->hash);
	r = open_directory(manifest, path);
	if (r >= 0)
		r = check_target(manifest->dir, manifest->name);
	if (r >= 0)
		r = manifest->fd = open_temp(manifest);
	if (r < 0)
		return r;
	memcpy(manifest->buffer, HEAD, strlen(HEAD));
	put_hashed(manifest, strlen(HEAD));
	return 0;
}

int manifest_open(const char *path, struct manifest **ret_manifest, struct zh_error *err)
{
	struct manifest *manifest = calloc(1, sizeof(*manifest));
	int r = -ENOMEM;

	*ret_manifest = NULL;
	if (manifest) {
		manifest->dir = manifest->fd = -1;
		err_init(&manifest->error);
		(void)pthread_mutex_init(&manifest->lock, NULL);
		manifest->hash = XXH3_createState();
		r = begin(manifest, path);
	}
	if (r == 0) {
		*ret_manifest = manifest;
		return 0;
	}
	manifest_abandon(manifest);
	r = say_unwritable(err, r);
	if (err)
		err_file(err, path, strlen(path), 0);
	return r;
}

void manifest_abandon(struct manifest *manifest)
{
	if (!manifest)
		return;
	if (manifest->fd >= 0)
		sys_unlinkat_quiet(manifest->dir, manifest->temp, 0);
	sys_close(manifest->fd);
	sys_close(manifest->dir);
	(void)XXH3_freeState(manifest->hash);
	(void)pthread_mutex_destroy(&manifest->lock);
	free(manifest->name);
	free(manifest);
}

/* Names what is complete and synced. Afterwards there is nothing to abandon. */
static int publish(struct manifest *manifest)
{
	int r = sys_fsync(manifest->fd);

	if (r == 0)
		r = sys_renameat2(manifest->dir, manifest->temp, manifest->dir, manifest->name, 0);
	if (r < 0)
		return r;
	sys_close(manifest->fd);
	manifest->fd = -1;
	return sys_fsync(manifest->dir);
}

int manifest_close(struct manifest *manifest, struct zh_error *err)
{
	int r = 0;

	manifest->fill += put_end(manifest->buffer + manifest->fill, manifest->files,
		manifest->bytes, manifest->hash);
	flush(manifest);
	if (!err_is_set(&manifest->error)) {
		r = publish(manifest);
		if (r < 0)
			(void)say_unwritable(&manifest->error, r);
	}
	if (err_is_set(&manifest->error)) {
		r = manifest->error.errnum ? -manifest->error.errnum : -EIO;
		if (err && !err_is_set(err))
			*err = manifest->error;
	}
	manifest_abandon(manifest);
	return r;
}

/* ------------------------------ reading ------------------------------------------------ */

int manifest_reader_init(struct manifest_reader *reader, int fd)
{
	*reader = (struct manifest_reader){
		.fd = fd,
		.hash = XXH3_createState(),
		.buffer = malloc(MANIFEST_LINE_MAX),
		.again = malloc(MANIFEST_LINE_MAX),
		.text = malloc(MANIFEST_PATH_MAX + MANIFEST_TARGET_MAX),
	};
	if (!reader->hash || !reader->buffer || !reader->again || !reader->text) {
		manifest_reader_fini(reader);
		return -ENOMEM;
	}
	(void)XXH3_128bits_reset(reader->hash);
	return 0;
}

void manifest_reader_fini(struct manifest_reader *reader)
{
	(void)XXH3_freeState(reader->hash);
	free(reader->buffer);
	free(reader->again);
	free(reader->text);
	*reader = (struct manifest_reader){ .fd = -1 };
}

static int say_malformed(
	const struct manifest_reader *reader, struct zh_error *err, const char *what)
{
	return err_set(
		err, ZH_CONFIG, EINVAL, STAGE, "line %" PRIu64 ": %s", reader->line_number, what);
}

/* Fills the buffer behind what is still in it. Returns what came, 0 at the end. */
static ssize_t refill(struct manifest_reader *reader)
{
	size_t rest = reader->fill - reader->start;
	ssize_t got;

	memmove(reader->buffer, reader->buffer + reader->start, rest);
	reader->start = 0;
	reader->fill = rest;
	got = sys_pread(
		reader->fd, reader->buffer + rest, MANIFEST_LINE_MAX - rest, reader->offset);
	if (got > 0) {
		reader->fill += (size_t)got;
		reader->offset += (uint64_t)got;
	}
	return got;
}

/* A line with its newline. Returns its length, 0 at the end, or an error with err filled. */
static ssize_t take_line(
	struct manifest_reader *reader, const char **ret_line, struct zh_error *err)
{
	const char *newline;

	reader->line_number++;
	while (!(newline = memchr(
			 reader->buffer + reader->start, '\n', reader->fill - reader->start))) {
		ssize_t got;
		if (reader->fill - reader->start == MANIFEST_LINE_MAX)
			return say_malformed(reader, err, "longer than any line of a manifest");
		got = refill(reader);
		if (got < 0)
			return err_set(err, err_of_source((int)got), (int)got, STAGE,
				"the manifest cannot be read");
		if (got == 0 && reader->fill > reader->start)
			return say_malformed(reader, err, "a line without its end; it was cut");
		if (got == 0)
			return 0;
	}
	*ret_line = reader->buffer + reader->start;
	reader->start = (size_t)(newline + 1 - reader->buffer);
	return newline + 1 - *ret_line;
}

static int hex_digit(char c)
{
	const char *at = c ? strchr(hex, c) : NULL;
	return at ? (int)(at - hex) : -1;
}

/* A part of a line that is still to be read. */
struct rest {
	const char *at;
	const char *end;
};

/* Takes word, a blank included. */
static bool take_word(struct rest *rest, const char *word)
{
	size_t length = strlen(word);

	if ((size_t)(rest->end - rest->at) < length || memcmp(rest->at, word, length) != 0)
		return false;
	rest->at += length;
	return true;
}

/* Digits of base and the character behind them. What is too large is another number, and found when
 * the line is written again. */
static bool take_number(struct rest *rest, unsigned base, char behind, uint64_t *ret_number)
{
	uint64_t number = 0;

	for (; rest->at < rest->end && *rest->at >= '0' && *rest->at < (char)('0' + base);
		rest->at++)
		number = number * base + (uint64_t)(*rest->at - '0');
	*ret_number = number;
	return rest->at < rest->end && *rest->at++ == behind;
}

static bool take_digest(struct rest *rest, struct digest *ret_digest)
{
	if ((size_t)(rest->end - rest->at) < 2 * DIGEST_BYTES + 1)
		return false;
	for (size_t i = 0; i < DIGEST_BYTES; i++, rest->at += 2) {
		int high = hex_digit(rest->at[0]), low = hex_digit(rest->at[1]);
		if (high < 0 || low < 0)
			return false;
		ret_digest->byte[i] = (uint8_t)(high << 4 | low);
	}
	return *rest->at++ == ' ';
}

static bool take_time(struct rest *rest, struct manifest_entry *entry)
{
	bool negative = take_word(rest, "-");
	uint64_t seconds, ns;

	if (!take_number(rest, 10, '.', &seconds) || !take_number(rest, 10, ' ', &ns))
		return false;
	entry->mtime_s = (int64_t)(negative ? 0 - seconds : seconds);
	entry->mtime_ns = (uint32_t)ns;
	return true;
}

/* Takes bytes without their escapes, up to one that is end. */
static bool take_bytes(struct rest *rest, char end, char *out, size_t cap, size_t *ret_length)
{
	size_t length = 0;

	for (; rest->at < rest->end && *rest->at != end; length++) {
		if (length == cap)
			return false;
		if (*rest->at != '\\') {
			out[length] = *rest->at++;
			continue;
		}
		int high = rest->end - rest->at < 4 ? -1 : hex_digit(rest->at[2]);
		int low = high < 0 ? -1 : hex_digit(rest->at[3]);
		if (low < 0)
			return false;
		out[length] = (char)(high << 4 | low);
		rest->at += 4;
	}
	*ret_length = length;
	return rest->at < rest->end && *rest->at++ == end;
}

static bool take_mode(struct rest *rest, struct manifest_entry *entry)
{
	uint64_t mode;

	if (!take_number(rest, 8, ' ', &mode))
		return false;
	entry->mode = (uint32_t)mode;
	return true;
}

/* Reads what a line says, leniently: what it should have been is compared afterwards. */
static bool take_entry(
	struct manifest_reader *reader, struct rest rest, struct manifest_entry *entry)
{
	bool ok = false;

	*entry = (struct manifest_entry){ .path = reader->text,
		.target = reader->text + MANIFEST_PATH_MAX };
	if (take_word(&rest, "file ")) {
		entry->kind = MANIFEST_FILE;
		ok = take_digest(&rest, &entry->root) &&
		     take_number(&rest, 10, ' ', &entry->size) && take_time(&rest, entry) &&
		     take_mode(&rest, entry);
	} else if (take_word(&rest, "dir ")) {
		entry->kind = MANIFEST_DIRECTORY;
		ok = take_mode(&rest, entry);
	} else if (take_word(&rest, "link ")) {
		entry->kind = MANIFEST_LINK;
		ok = take_bytes(&rest, ' ', reader->text + MANIFEST_PATH_MAX, MANIFEST_TARGET_MAX,
			&entry->target_bytes);
	}
	return ok && take_bytes(&rest, '\n', reader->text, MANIFEST_PATH_MAX, &entry->path_bytes);
}

/* The last line is what it has to be after the lines before it, and there is nothing behind it. */
static int read_end(
	struct manifest_reader *reader, const char *line, size_t length, struct zh_error *err)
{
	size_t expected = put_end(reader->again, reader->files, reader->bytes, reader->hash);
	ssize_t more;

	if (length != expected || memcmp(line, reader->again, length) != 0)
		return say_malformed(reader, err,
			"the last line is not that of the lines before it; they were edited");
	more = take_line(reader, &line, err);
	if (more > 0)
		return say_malformed(reader, err, "something after the last line");
	reader->ended = more == 0;
	return (int)more;
}

static int read_head(struct manifest_reader *reader, struct zh_error *err)
{
	const char *line;
	ssize_t length = take_line(reader, &line, err);

	if (length < 0)
		return (int)length;
	if ((size_t)length != strlen(HEAD) || memcmp(line, HEAD, (size_t)length) != 0)
		return say_malformed(reader, err, "not a manifest of version 1");
	(void)XXH3_128bits_update(reader->hash, line, (size_t)length);
	return 0;
}

int manifest_reader_next(
	struct manifest_reader *reader, struct manifest_entry *ret_entry, struct zh_error *err)
{
	const char *line;
	ssize_t length;
	int r = reader->line_number == 0 ? read_head(reader, err) : 0;

	if (r < 0 || reader->ended)
		return r;
	length = take_line(reader, &line, err);
	if (length < 0)
		return (int)length;
	if (length == 0)
		return say_malformed(reader, err, "the last line is missing; it was cut");
	if (length > 4 && memcmp(line, "end ", 4) == 0)
		return read_end(reader, line, (size_t)length, err);
	if (!take_entry(reader, (struct rest){ line, line + length }, ret_entry) ||
		!entry_ok(ret_entry) || put_entry(reader->again, ret_entry) != (size_t)length ||
		memcmp(reader->again, line, (size_t)length) != 0 ||
		!count_entry(ret_entry, &reader->files, &reader->bytes))
		return say_malformed(reader, err, "not a line of a manifest");
	(void)XXH3_128bits_update(reader->hash, line, (size_t)length);
	return 1;
}
