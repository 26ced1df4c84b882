/* SPDX-License-Identifier: Apache-2.0 */
/*
 * manifest.h - a list of what a tree holds, as text: written while files are received or sent, read
 * to prove the tree later. The format is in docs/decisions/0016-manifest.md: a head, a line for
 * each thing, and a last line with counts and a digest of all before it, so that a manifest that
 * was cut or edited is found. Owns its files; looks at nothing that it lists.
 */
#ifndef ZH_STORE_MANIFEST_H
#define ZH_STORE_MANIFEST_H

#include "base/err.h"
#include "base/leaf.h"

struct stat;

#define MANIFEST_DEPTH_MAX  256
#define MANIFEST_PATH_MAX   65535 /* so many names of 255 bytes, with what is between them */
#define MANIFEST_TARGET_MAX 4095  /* no Linux makes a longer link */
/* every byte escaped, and what stands before the path */
#define MANIFEST_LINE_MAX (4 * (MANIFEST_PATH_MAX + MANIFEST_TARGET_MAX) + 128)

enum manifest_kind { MANIFEST_FILE, MANIFEST_DIRECTORY, MANIFEST_LINK };

/*
 * One thing of a tree. path has at most MANIFEST_DEPTH_MAX root_name_ok components with a "/"
 * between them, any bytes else.
 */
struct manifest_entry {
	enum manifest_kind kind;
	uint32_t mode;      /* 07777 at most; files and directories */
	uint64_t size;      /* from here on: files alone */
	struct digest root; /* of the content: leaf_root */
	int64_t mtime_s;
	uint32_t mtime_ns;
	const char *path; /* neither is ended by a NUL */
	size_t path_bytes;
	const char *target; /* of a link, never empty, no NUL in it */
	size_t target_bytes;
};

/* ------------------------------ writing ------------------------------------------------ */

struct manifest;

/*
 * Begins a manifest that is to be named path. It is written to a temporary file beside path, which
 * gets the name when it is complete; a regular file of that name is replaced then, anything else is
 * refused now. Fills err.
 */
int manifest_open(
	const char *path, struct manifest **ret_manifest, struct zh_error *err) must_check;
/*
 * Adds a line. Any thread, any order; what entry points to is copied. What goes wrong is kept, and
 * told by manifest_close: the transfer goes on, but the manifest gets no name.
 */
void manifest_add(struct manifest *manifest, const struct manifest_entry *entry);
/* Whether this is what is being written, or what that is to replace. NULL: it is not. */
bool manifest_is(const struct manifest *manifest, const struct stat *st);
/*
 * Ends it: synced and named, or an error and, unless only the directory could not be synced, as if
 * it had not been begun. Frees it in any case. Fills err.
 */
int manifest_close(struct manifest *manifest, struct zh_error *err) must_check;
/* Drops it, and what was written. NULL is fine. */
void manifest_abandon(struct manifest *manifest);

/* ------------------------------ reading ------------------------------------------------ */

/* Memory of a fixed size, whatever the manifest has in it. */
struct manifest_reader {
	int fd; /* borrowed; a regular file, read by offset */
	uint64_t offset;
	uint64_t line_number; /* of the line read last, from 1 */
	uint64_t files;
	uint64_t bytes;
	void *hash; /* XXH3_state_t over the lines so far */
	bool ended;
	size_t start; /* of what is in buffer and not yet used */
	size_t fill;
	char *buffer; /* MANIFEST_LINE_MAX, as the next one */
	char *again;  /* a line as it has to be */
	char *text;   /* of the entry returned last: path and target without their escapes */
};

int manifest_reader_init(struct manifest_reader *reader, int fd) must_check;
void manifest_reader_fini(struct manifest_reader *reader);
/*
 * The next thing. Returns 1 and an entry, which points into the reader and is good until the next
 * call; 0 when the last line was right and nothing follows it; a negative errno with err filled:
 * -EINVAL not a manifest, or one that was cut or edited (CONFIG), or what pread reports (SRC_IO).
 */
int manifest_reader_next(struct manifest_reader *reader, struct manifest_entry *ret_entry,
	struct zh_error *err) must_check;

#endif
