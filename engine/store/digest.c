/* SPDX-License-Identifier: Apache-2.0 */
/* digest.c - reads a file piece by piece through one small buffer and digests its leaves. */
#include "store/digest.h"

#include "base/sys.h"

#include <errno.h>

/* Fits a second-level cache beside the page cache's copy: read and digested without leaving it. */
#define PIECE_BYTES (256 * KIB)

int digester_init(struct digester *digester)
{
	int r;

	digester->buffer = sys_map_memory(PIECE_BYTES, false, &r);
	if (!digester->buffer) {
		digester->run.state = NULL;
		return r;
	}
	r = leaf_run_init(&digester->run);
	if (r < 0) {
		sys_unmap_memory(digester->buffer, PIECE_BYTES);
		digester->buffer = NULL;
	}
	return r;
}

void digester_fini(struct digester *digester)
{
	leaf_run_fini(&digester->run);
	sys_unmap_memory(digester->buffer, PIECE_BYTES);
	digester->buffer = NULL;
}

int digester_read(
	struct digester *digester, int file_fd, struct zh_extent extent, struct digest *out)
{
	size_t expected = (size_t)leaf_count(extent.length);
	uint64_t done = 0;

	leaf_run_begin(&digester->run, extent.offset, out, expected);
	while (done < extent.length) {
		size_t piece = (size_t)min_u64(PIECE_BYTES, extent.length - done);
		ssize_t got = sys_pread(file_fd, digester->buffer, piece, extent.offset + done);
		if (got < 0)
			return (int)got;
		if (got == 0)
			return -ENODATA; /* the end of the file */
		leaf_run_add(&digester->run, digester->buffer, (size_t)got);
		done += (size_t)got;
	}
	CHECK(leaf_run_end(&digester->run) == expected);
	return 0;
}
