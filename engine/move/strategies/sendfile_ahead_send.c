/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sendfile_ahead_send.c - sendfile(2) with the file's next megabytes asked for beforehand, by
 * POSIX_FADV_WILLNEED. For sources that are not in the page cache on devices whose own read-ahead
 * is short: sendfile itself reads no further ahead than the device does, and waits for each read.
 */
#include "move/channel.h"

#include <errno.h>

#define AHEAD_BYTES (32 * MIB) /* kept asked for beyond what is being sent */
#define AHEAD_STEP  (4 * MIB)  /* asked for at once */

struct sendfile_ahead {
	int file;       /* that asked belongs to */
	uint64_t asked; /* end of what was asked for */
};

static int sendfile_ahead_open(struct channel *channel, void *state)
{
	struct sendfile_ahead *ahead = state;

	(void)channel;
	ahead->file = -1;
	return 0;
}

/* Advice that is not taken costs speed, not bytes: errors are of no interest. */
static void ask_ahead(struct channel *channel, struct sendfile_ahead *ahead)
{
	if (ahead->file != channel->file || ahead->asked < channel->offset) {
		ahead->file = channel->file;
		ahead->asked = channel->offset;
	}
	while (ahead->asked < channel->horizon && ahead->asked < channel->offset + AHEAD_BYTES) {
		uint64_t step = min_u64(AHEAD_STEP, channel->horizon - ahead->asked);
		(void)sys_fadvise(channel->file, ahead->asked, step, POSIX_FADV_WILLNEED);
		ahead->asked += step;
	}
}

static ssize_t sendfile_ahead_step(struct channel *channel, void *state)
{
	ask_ahead(channel, state);
	return channel_sendfile(channel);
}

static int sendfile_ahead_drain(struct channel *channel, void *state)
{
	struct sendfile_ahead *ahead = state;

	(void)channel;
	ahead->file = -1; /* the number may be another file's next time */
	return 0;
}

const struct strategy sendfile_ahead_send = {
	.pub = {
		.name = "sendfile-ahead",
		.summary = "sendfile, with the next 32 MiB asked for beforehand",
		.needs = "as sendfile; pays off for files that are not in the page cache",
		.falls_back_to = "sendfile",
		.since = "2.6",
		.side = ZH_SEND,
		.sees_data = 0,
		.user_copies = 0,
		.total_copies = 0,
	},
	.corks = true,
	.state_bytes = sizeof(struct sendfile_ahead),
	.admit = strategy_admit_sendfile,
	.open = sendfile_ahead_open,
	.step = sendfile_ahead_step,
	.drain = sendfile_ahead_drain,
	.close = strategy_close_nothing,
};
