/* SPDX-License-Identifier: Apache-2.0 */
/* map.c - see map.h. */
#include "kernel/map.h"

#include "base/sys.h"

#include <errno.h>

#define PAGE_BYTES 4096u

static int map_move(struct map *map, int file, uint64_t offset, uint64_t end, enum zh_side side)
{
	uint64_t start = round_down(offset, PAGE_BYTES);
	size_t length = (size_t)min_u64(end - start, MAP_WINDOW_BYTES);
	int error = 0;

	map_close(map);
	map->bytes = sys_map_file(file, start, length, side, &error);
	if (!map->bytes) /* as a read would say it, for a file that may only be written */
		return error == -EACCES && side == ZH_SEND ? -EBADF : error;
	map->length = length;
	map->start = start;
	map->file = file;
	return 0;
}

int map_cover(struct map *map, int file, uint64_t offset, uint64_t end, enum zh_side side,
	uint8_t **ret_bytes, size_t *ret_length)
{
	bool covered = map->bytes && map->file == file && offset >= map->start &&
		       offset < map->start + map->length;
	int r = covered ? 0 : map_move(map, file, offset, end, side);

	if (r < 0)
		return r;
	*ret_bytes = map->bytes + (offset - map->start);
	*ret_length = (size_t)(min_u64(end, map->start + map->length) - offset);
	return 0;
}

void map_close(struct map *map)
{
	sys_unmap_memory(map->bytes, map->length);
	map->bytes = NULL;
}
