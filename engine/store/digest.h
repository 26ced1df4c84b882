/* SPDX-License-Identifier: Apache-2.0 */
/* digest.h - leaf digests of a file at rest, for strategies whose bytes never pass through us. */
#ifndef ZH_STORE_DIGEST_H
#define ZH_STORE_DIGEST_H

#include "base/leaf.h"
#include "zerohaul.h"

struct digester {
	struct leaf_run run;
	uint8_t *buffer;
};

int digester_init(struct digester *digester) must_check;
void digester_fini(struct digester *digester);

/*
 * Digests one leaf-aligned extent of file_fd into out (room for leaf_count(extent.length)).
 * Reads through the page cache, in pieces that stay in the second-level cache.
 * Errors: -ENODATA the file ends before the extent does; what pread reports.
 */
int digester_read(struct digester *digester, int file_fd, struct zh_extent extent,
	struct digest *out) must_check;

#endif
