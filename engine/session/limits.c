/* SPDX-License-Identifier: Apache-2.0 */
/* limits.c - the limits of limits.h with the words that explain them. */
#include "session/limits.h"

#include "zerohaul.h"

static const struct zh_limit limit_rows[] = {
	{ "handshake-time", "ms", "from accept to the last proof, whatever arrives",
		LIMIT_HANDSHAKE_MS },
	{ "pending-connections", "connections", "that have not proved their key",
		LIMIT_PENDING_CONNECTIONS },
	{ "pending-per-source", "connections", "of those, from one address",
		LIMIT_PENDING_PER_SOURCE },
	{ "sessions", "sessions", "at the same time, one process each", LIMIT_SESSIONS },
	{ "streams", "connections", "that carry data in one session", LIMIT_STREAMS },
	{ "open-ids", "files", "announced and not yet settled", LIMIT_OPEN_IDS },
	{ "open-files", "files", "that a sender holds open at a time", LIMIT_OPEN_FILES },
	{ "open-dirs", "directories", "announced and not yet settled", LIMIT_OPEN_DIRS },
	{ "file-size", "bytes", "of one file", LIMIT_FILE_BYTES },
	{ "depth", "components", "of a path that a client names", LIMIT_DEPTH },
	{ "name-length", "bytes", "of one component of a name", LIMIT_NAME_BYTES },
	{ "data-frame", "bytes", "that one DATA frame carries", LIMIT_DATA_BYTES },
	{ "pack-size", "bytes", "of the files of one PACK together", LIMIT_PACK_BYTES },
	{ "pack-members", "files", "that one PACK announces", LIMIT_MEMBERS },
	{ "open-members", "files", "in packs that are not settled", LIMIT_OPEN_MEMBERS },
	{ "rules", "patterns", "of one transfer", LIMIT_RULES },
	{ "xattrs", "attributes", "of one file or directory, with 64 KiB in all", LIMIT_XATTRS },
	{ "held-xattrs", "bytes", "of attributes that are not set yet", LIMIT_HELD_XATTRS },
	{ "told-names", "bytes", "kept of the names in open directories, for --delete",
		LIMIT_TOLD_BYTES },
	{ "resends", "times", "one leaf is sent again after a wrong digest", LIMIT_RESENDS },
	{ "ping-after", "ms", "of silence on the control connection", LIMIT_PING_MS },
	{ "idle-time", "ms", "of silence before the peer counts as gone", LIMIT_IDLE_MS },
	{ "stall-time", "ms", "without a byte moved while the peer owes some", LIMIT_STALL_MS },
	{ "reopen-time", "ms", "without any data connection, after one was lost", LIMIT_REOPEN_MS },
	{ "log-lines", "lines/s", "that strangers can cause in the log", LIMIT_LOG_LINES_PER_S },
};

ZH_API const struct zh_limit *zh_limit_at(size_t index)
{
	return index < ARRAY_LEN(limit_rows) ? &limit_rows[index] : NULL;
}
