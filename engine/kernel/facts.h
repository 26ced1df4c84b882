/* SPDX-License-Identifier: Apache-2.0 */
/* facts.h - what a decision is made from. Plain data; gathered by file.c, sock.c and probe.c. */
#ifndef ZH_KERNEL_FACTS_H
#define ZH_KERNEL_FACTS_H

#include "base/util.h"
#include "zerohaul.h"

struct file_facts {
	bool regular;
	bool append_only; /* opened with O_APPEND */
	uint64_t size;
	char filesystem[16];          /* "ext4", "tmpfs", or the magic number */
	bool in_memory;               /* tmpfs, ramfs: there is no disk behind it */
	uint32_t direct_memory_align; /* of O_DIRECT, 0: not offered */
	uint32_t direct_offset_align;
	bool dontcache;            /* takes RWF_DONTCACHE writes (tried with none) */
	int32_t resident_permille; /* of the extent, in the page cache; -1: cannot be told */
	uint64_t read_ahead_bytes; /* of the device, 0: unknown */
};

struct sock_facts {
	bool known; /* false: no socket was given, the rest is assumed */
	bool tcp;
	bool local_peer;     /* both ends on this host: zero-copy sends are copied on delivery */
	bool scatter_gather; /* the route's device can send pages in place */
	uint32_t mss_bytes;
	uint32_t receive_mss_bytes; /* payload of the peer's full segments, 0: unknown */
	char device[16];
	char congestion[16];
};

/* Of the kernel and of what it lets this process do. Each feature was tried. */
struct host_facts {
	bool ring;
	int ring_error; /* why not, negative errno */
	uint32_t ring_flags;
	bool ring_registers; /* 2 MiB of buffers could be registered */
	int register_error;
	bool ring_recv;
	bool ring_send_zc;
	bool splice;
	bool sendfile;
	uint32_t pipe_bytes; /* largest pipe granted, 0: none */
	uint64_t memory_available_bytes;
	uint64_t memlock_bytes; /* UINT64_MAX: unlimited, or not for this process */
};

struct facts {
	enum zh_side side;
	struct zh_extent extent;
	struct file_facts file;
	struct sock_facts sock;
	struct host_facts host;
	/* wishes */
	char strategy[ZH_NAME_CAP]; /* "": none */
	uint32_t chunk_bytes;
	uint32_t depth;
	bool no_fallback;
	bool calibrate; /* compare with the runner-up in a large extent */
	enum zh_cache cache;
};

#endif
