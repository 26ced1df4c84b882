/* SPDX-License-Identifier: Apache-2.0 */
/* pipe.c - see pipe.h. */
#include "kernel/pipe.h"

#include "base/sys.h"

int pipe_open(struct pipe *pipe, uint32_t size_bytes)
{
	int end[2];
	int r = sys_pipe(end, O_NONBLOCK);

	if (r < 0)
		return r;
	pipe->out = end[0];
	pipe->in = end[1];
	pipe->held_bytes = 0;
	pipe->opened = true;
	/* Refused above pipe-max-size or past the user's soft limit: what there is then counts. */
	IGNORE(sys_fcntl(pipe->in, F_SETPIPE_SZ, (long)size_bytes));
	r = sys_fcntl(pipe->in, F_GETPIPE_SZ, 0);
	if (r < 0) {
		pipe_close(pipe);
		return r;
	}
	pipe->size_bytes = (uint32_t)r;
	return 0;
}

void pipe_close(struct pipe *pipe)
{
	if (!pipe->opened)
		return;
	sys_close(pipe->in);
	sys_close(pipe->out);
	pipe->in = pipe->out = -1; /* held_bytes stays: a pipe_empty that failed is tried again */
	pipe->opened = false;
}

int pipe_empty(struct pipe *pipe)
{
	if (pipe->held_bytes == 0)
		return 0;
	pipe_close(pipe);
	return pipe_open(pipe, pipe->size_bytes);
}
