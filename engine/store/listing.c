/* SPDX-License-Identifier: Apache-2.0 */
/* listing.c - see listing.h. */
#include "store/listing.h"

#include "base/sys.h"

int listing_next(struct listing *listing, const struct dirent64 **ret_entry)
{
	const struct dirent64 *entry;

	do {
		if (listing->at == listing->length) {
			ssize_t got = sys_getdents(
				listing->dir, listing->records, sizeof(listing->records));
			if (got <= 0)
				return (int)got;
			listing->at = 0;
			listing->length = (size_t)got;
		}
		entry = (const struct dirent64 *)(listing->records + listing->at);
		listing->at += entry->d_reclen;
	} while (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0);
	*ret_entry = entry;
	return 1;
}
