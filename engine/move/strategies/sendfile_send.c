/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sendfile_send.c - sendfile(2): pages of the page cache go into the socket by reference. Where the
 * route has no scatter-gather the kernel copies silently, so a plan prefers the plain loop there.
 * The pages stay shared with the file until the peer has acknowledged them: a file written to in
 * the meantime is sent as it is then, which digests find.
 */
#include "move/channel.h"

static ssize_t sendfile_send_step(struct channel *channel, void *state)
{
	(void)state;
	return channel_sendfile(channel);
}

const struct strategy sendfile_send = {
	.pub = {
		.name = "sendfile",
		.summary = "page cache to socket by reference, one call",
		.needs = "a regular file; TCP over a device with scatter-gather, else the kernel copies",
		.falls_back_to = "copy",
		.since = "2.2",
		.side = ZH_SEND,
		.sees_data = 0,
		.user_copies = 0,
		.total_copies = 0,
	},
	.corks = true,
	.state_bytes = 1, /* it keeps nothing */
	.admit = strategy_admit_sendfile,
	.open = strategy_open_nothing,
	.step = sendfile_send_step,
	.drain = strategy_drain_nothing,
	.close = strategy_close_nothing,
};
