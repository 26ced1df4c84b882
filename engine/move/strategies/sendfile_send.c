/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sendfile_send.c - sendfile(2): pages of the page cache go into the socket by reference. Where the
 * route has no scatter-gather the kernel copies silently, so a plan prefers the plain loop there.
 * The pages stay shared with the file until the peer has acknowledged them: a file written to in
 * the meantime is sent as it is then, which digests find.
 */
#include "move/channel.h"

/* One call can run for as long as its length takes, and is not interrupted: keep it short. */
#define CHUNK_PREFERRED MIB
#define CHUNK_MOST      (8 * MIB)

static int sendfile_send_admit(
	const struct facts *facts, struct zh_plan *plan, char *ret_reason, size_t cap)
{
	if (!facts->file.regular)
		return strategy_refuse(ret_reason, cap, "not a regular file");
	if (!facts->host.sendfile)
		return strategy_refuse(ret_reason, cap, "sendfile is refused");
	plan->chunk_bytes = strategy_chunk(facts, CHUNK_PREFERRED, CHUNK_MOST);
	plan->depth = 1;
	return 0;
}

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
	.admit = sendfile_send_admit,
	.open = strategy_open_nothing,
	.step = sendfile_send_step,
	.drain = strategy_drain_nothing,
	.close = strategy_close_nothing,
};
