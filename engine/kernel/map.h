/* SPDX-License-Identifier: Apache-2.0 */
/*
 * map.h - a part of a file as memory, for calls that copy from it or to it. Nobody reads or writes
 * that memory from user space: where the file has been cut short, a call given it fails with
 * EFAULT, and the program would die of SIGBUS.
 */
#ifndef ZH_KERNEL_MAP_H
#define ZH_KERNEL_MAP_H

#include "base/util.h"
#include "zerohaul.h"

#define MAP_WINDOW_BYTES (16 * MIB)

struct map {
	uint8_t *bytes; /* NULL: nothing is mapped */
	size_t length;
	uint64_t start; /* in the file; on a page */
	int file;       /* borrowed */
};

/*
 * Makes offset and what follows it addressable, as far as one window reaches and at most up to end.
 * side: read from (ZH_SEND) or written to. Stays mapped until it is moved on or closed.
 */
int map_cover(struct map *map, int file, uint64_t offset, uint64_t end, enum zh_side side,
	uint8_t **ret_bytes, size_t *ret_length) must_check;
void map_close(struct map *map); /* a zeroed map is fine */

#endif
