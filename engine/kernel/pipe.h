/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pipe.h - a pipe as a buffer of page references, for splice. Knows how many bytes it holds:
 * refilling a pipe that is not empty can hang both ends, so callers drain it first.
 */
#ifndef ZH_KERNEL_PIPE_H
#define ZH_KERNEL_PIPE_H

#include "base/util.h"

struct pipe {
	int in;              /* write end */
	int out;             /* read end */
	uint32_t size_bytes; /* as granted by the kernel */
	uint64_t held_bytes;
	bool opened;
};

/* Asks for size_bytes and takes what is granted: the unprivileged limit may be smaller. */
int pipe_open(struct pipe *pipe, uint32_t size_bytes) must_check;
void pipe_close(struct pipe *pipe); /* a zeroed pipe is fine */
/* Throws away what it holds, by taking a new one. On failure it is closed. */
int pipe_empty(struct pipe *pipe) must_check;

#endif
