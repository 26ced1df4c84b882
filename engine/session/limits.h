/* SPDX-License-Identifier: Apache-2.0 */
/* limits.h - every limit of the protocol and of a server, in one place. Shown by zh_limit_at(). */
#ifndef ZH_SESSION_LIMITS_H
#define ZH_SESSION_LIMITS_H

#include "base/util.h"

/* before a peer has proved its key */
#define LIMIT_HANDSHAKE_MS        10000u
#define LIMIT_PENDING_CONNECTIONS 64u
#define LIMIT_PENDING_PER_SOURCE  8u

/* a session */
#define LIMIT_SESSIONS        64u
#define LIMIT_STREAMS         64u
#define LIMIT_OPEN_IDS        65536u
#define LIMIT_OPEN_FILES      64u
#define LIMIT_OPEN_DIRS       65536u
#define LIMIT_FILE_BYTES      ((uint64_t)1 << 46)
#define LIMIT_DEPTH           256u
#define LIMIT_NAME_BYTES      255u
#define LIMIT_DATA_BYTES      (16u * 1024 * 1024)
#define LIMIT_PACK_BYTES      (1u * 1024 * 1024)
#define LIMIT_MEMBERS         2048u
#define LIMIT_OPEN_MEMBERS    131072u
#define LIMIT_RULES           4096u
#define LIMIT_XATTRS          1024u
#define LIMIT_HELD_XATTRS     (64u * 1024 * 1024)
#define LIMIT_TOLD_BYTES      (128u * 1024 * 1024)
#define LIMIT_RESENDS         3u
#define LIMIT_PING_MS         10000u
#define LIMIT_IDLE_MS         30000u
#define LIMIT_STALL_MS        60000u
#define LIMIT_REOPEN_MS       30000u
#define LIMIT_LOG_LINES_PER_S 10u

#endif
