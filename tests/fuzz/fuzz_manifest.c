/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_manifest.c - any bytes as a manifest. Where they are one but for the last line, that line is
 * put behind them, and then it has to be one: nothing gets past a digest by chance.
 */
#include "fuzz.h"

#include "base/err.h"
#include "store/manifest.h"
#include "store/root.h"

#include <errno.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#define INPUT_BYTES_MAX (1u << 20)

static void check_path(const char *path, size_t length)
{
	CHECK(length > 0 && length <= MANIFEST_PATH_MAX);
	CHECK(path[length - 1] != '/');
	while (length > 0) {
		const char *slash = memchr(path, '/', length);
		size_t component = slash ? (size_t)(slash - path) : length;
		size_t step = slash ? component + 1 : component;
		CHECK(root_name_ok(path, component));
		path += step;
		length -= step;
	}
}

/* The line that was read last ends with the path, escaped as everywhere else. */
static void check_escapes(const struct manifest_reader *reader, const struct manifest_entry *entry)
{
	static char text[4 * MANIFEST_PATH_MAX + 1];
	size_t length;

	zh_escape(entry->path, entry->path_bytes, text, sizeof(text));
	length = strlen(text);
	CHECK(length + 2 <= reader->start);
	CHECK(memcmp(reader->buffer + reader->start - 1 - length, text, length) == 0);
	CHECK(reader->buffer[reader->start - 1] == '\n');
	CHECK(reader->buffer[reader->start - 2 - length] == ' ');
}

static void check_entry(const struct manifest_entry *entry)
{
	check_path(entry->path, entry->path_bytes);
	switch (entry->kind) {
	case MANIFEST_FILE:
		CHECK(entry->size <= INT64_MAX && entry->mtime_ns < 1000000000);
		CHECK(entry->mode <= 07777);
		break;
	case MANIFEST_DIRECTORY:
		CHECK(entry->mode <= 07777);
		break;
	case MANIFEST_LINK:
		CHECK(entry->target_bytes > 0 && entry->target_bytes <= MANIFEST_TARGET_MAX);
		CHECK(!memchr(entry->target, '\0', entry->target_bytes));
		break;
	default:
		CHECK(false);
	}
}

/* Reads to the end. Returns what the reader says; true in *ret_lacks_end when that is all it lacks.
 */
static int read_all(int fd, uint64_t *ret_files, uint64_t *ret_bytes, bool *ret_lacks_end)
{
	struct manifest_reader reader;
	struct manifest_entry entry;
	struct zh_error err;
	int r;

	err_init(&err);
	CHECK(manifest_reader_init(&reader, fd) == 0);
	while ((r = manifest_reader_next(&reader, &entry, &err)) > 0) {
		check_entry(&entry);
		check_escapes(&reader, &entry);
	}
	CHECK(r == 0 || r == -EINVAL);
	CHECK(err_is_set(&err) == (r < 0));
	*ret_files = reader.files;
	*ret_bytes = reader.bytes;
	*ret_lacks_end = r < 0 && strstr(err.text, "the last line is missing") != NULL;
	manifest_reader_fini(&reader);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("manifest", MFD_CLOEXEC);
	uint64_t files, bytes;
	bool lacks_end;

	CHECK(fd >= 0);
	if (size > INPUT_BYTES_MAX) {
		close(fd);
		return 0;
	}
	CHECK(write(fd, data, size) == (ssize_t)size);
	IGNORE(read_all(fd, &files, &bytes, &lacks_end)); /* either is fine */
	if (lacks_end) {
		XXH128_hash_t hash = XXH3_128bits(data, size);
		CHECK(dprintf(fd, "end %llu %llu %016llx%016llx\n", (unsigned long long)files,
			      (unsigned long long)bytes, (unsigned long long)hash.high64,
			      (unsigned long long)hash.low64) > 0);
		CHECK(read_all(fd, &files, &bytes, &lacks_end) == 0);
	}
	close(fd);
	return 0;
}
