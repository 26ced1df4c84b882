/* SPDX-License-Identifier: Apache-2.0 */
/*
 * listing.h - the entries of a directory, one after the other, without memory of its own beside a
 * buffer. For directories that are changed meanwhile: what is read is read, whatever goes.
 */
#ifndef ZH_STORE_LISTING_H
#define ZH_STORE_LISTING_H

#include "base/util.h"

#include <dirent.h>

/* Begins with a directory and zeros. */
struct listing {
	int dir; /* borrowed; read from where it stands, so nobody else reads it */
	size_t at, length;
	_Alignas(struct dirent64) uint8_t records[8192];
};

/*
 * 1: *ret_entry is the next one, good until the next call; "." and ".." do not come. 0: that was
 * all. Errors: what getdents reports.
 */
int listing_next(struct listing *listing, const struct dirent64 **ret_entry) must_check;

#endif
