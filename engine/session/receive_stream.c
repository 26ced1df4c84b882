/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receive_stream.c - one data connection of a receiver: DATA into the partial, its SUM compared,
 * NAKs for what is wrong. A leaf counts once it is right and nothing of it is in flight to the disk
 * any more. When the connection breaks the sender is told how many frames were complete.
 */
#include "base/clock.h"
#include "session/arrival.h"
#include "store/digest.h"

#include <errno.h>

#define SETTLE_FRAMES 64   /* frames of one file between two looks at what the disk has taken */
#define GOT_FRAMES    16   /* after so many the sender is told to forget them */
#define LOOK_MS       1000 /* how often a waiting stream asks whether all is over */

struct stream_work {
	struct receiver *receiver;
	struct session_stream *stream;
	struct link *link;
	struct channel *channel;
	struct digester digester;
	struct leaf_run run;
	struct digest mine[LIMIT_DATA_BYTES / LEAF_BYTES];
	struct digest claimed[LIMIT_DATA_BYTES / LEAF_BYTES];
	struct arrival *file;     /* that the channel is turned to */
	uint64_t file_id;         /* its id: the struct may be gone */
	uint64_t settling_leaves; /* right, but perhaps still on their way to the disk */
	uint32_t settling_frames; /* that hold on to the arrival until then */
	struct buffer buffer;     /* of packs */
};

static int fail_write(struct receiver *receiver, struct arrival *arrival, int r)
{
	struct zh_error error;

	err_init(&error);
	(void)err_set(&error, err_of_destination(r), r, "write", "cannot write the file");
	return arrival_fail(receiver, arrival, &error, true);
}

/* Until the disk has all of the file in hand; then its leaves count. Fails the file, not more. */
static int settle(struct stream_work *work)
{
	struct receiver *receiver = work->receiver;
	struct session *session = receiver->session;
	int r;

	if (work->settling_frames == 0)
		return 0;
	r = channel_settle(work->channel);
	if (r < 0 && work->channel->failed != CHANNEL_END_FILE)
		return session_fail_link(session, r, "data connection");
	if (r < 0 && fail_write(receiver, work->file, r) < 0)
		return -ECANCELED;
	arrival_release(receiver, work->file, work->settling_frames, work->settling_leaves);
	work->settling_leaves = work->settling_frames = 0;
	return receiver_extend_credit(receiver);
}

/*
 * Waits for a head. A sender closes its data connections before it says BYE, so one that stays open
 * much longer is not waited for.
 */
static int await_head(struct stream_work *work, struct frame *ret_frame)
{
	struct session *session = work->receiver->session;
	uint64_t finishing_ns = 0;
	bool finishing;
	int r;

	for (;;) {
		r = link_recv(work->link, ret_frame, LOOK_MS);
		if (r != -EAGAIN)
			return r;
		(void)pthread_mutex_lock(&session->lock);
		finishing = session->finishing;
		(void)pthread_mutex_unlock(&session->lock);
		if (finishing && finishing_ns == 0)
			finishing_ns = clock_now_ns();
		if (finishing &&
			clock_now_ns() - finishing_ns >= (uint64_t)LIMIT_PING_MS * NS_PER_MS)
			return -ETIMEDOUT;
	}
}

/* The next head. While none is there the disk is given time, then the peer. 1: the connection
 * broke, or was closed: whether too early, the control connection tells. */
static int next_head(struct stream_work *work, struct frame *ret_frame)
{
	struct session *session = work->receiver->session;
	uint64_t start;
	int r = work->settling_frames >= SETTLE_FRAMES ? -EAGAIN
						       : link_recv(work->link, ret_frame, 0);

	if (r == -EAGAIN) {
		r = settle(work);
		if (r < 0)
			return r;
		start = clock_now_ns();
		r = await_head(work, ret_frame);
		channel_note_wait(work->channel, CHANNEL_WAIT_DATA, clock_now_ns() - start);
	}
	if (r < 0) {
		int broke = session_stream_broke(session, r);
		r = broke < 0 ? broke : settle(work);
		return r < 0 ? r : 1;
	}
	if (!stream_may_receive(ROLE_RECEIVER, STREAM_HEAD, (enum frame_type)ret_frame->type))
		return session_failf(session, ZH_PROTO, 0, "data connection",
			"%s is not expected now", wire_name(ret_frame->type));
	return 0;
}

/* Moves one frame's bytes into the file. *ret_file_error: why they are not there. */
static int take_data(struct stream_work *work, struct arrival *arrival, const struct frame *data,
	bool store, bool digest, int *ret_file_error)
{
	struct channel *channel = work->channel;
	struct zh_extent extent = { data->offset, data->length };
	int r = 0;

	*ret_file_error = 0;
	if (!store)
		return channel_skip(channel, data->length);
	if (work->file_id != data->id) {
		r = channel_file(channel, arrival->partial.fd, arrival->plan);
		work->file = arrival;
		work->file_id = data->id;
		if (r < 0) {
			*ret_file_error = r;
			work->file_id = 0;
			return channel_skip(channel, data->length);
		}
	}
	bool sees = digest && channel_sees_data(channel);
	if (sees)
		leaf_run_begin(&work->run, data->offset, work->mine, ARRAY_LEN(work->mine));
	r = channel_move(channel, extent, 0, false, sees ? &work->run : NULL);
	if (r < 0 && channel->failed != CHANNEL_END_FILE)
		return r;
	if (r < 0) {
		*ret_file_error = r;
		return channel_skip(channel, channel->end - channel->offset);
	}
	if (sees)
		(void)leaf_run_end(&work->run);
	else if (digest)
		*ret_file_error =
			digester_read(&work->digester, arrival->partial.fd, extent, work->mine);
	return 0;
}

/* The bytes of a pack, into memory; they are written once they are known to be right. */
static int take_pack(struct stream_work *work, const struct frame *data, bool store, bool digest)
{
	int r;

	if (!store)
		return channel_skip(work->channel, data->length);
	r = buffer_reserve(&work->buffer, LIMIT_PACK_BYTES);
	if (r == 0)
		r = channel_recv_memory(work->channel, work->buffer.memory, data->length);
	if (r < 0)
		return r;
	work->channel->stats.bytes += data->length;
	if (digest) {
		work->mine[0] = digest_of(work->buffer.memory, data->length);
		work->run.total += data->length;
	}
	return 0;
}

static void list_link(
	struct receiver *receiver, const struct wire_member *member, const uint8_t *target)
{
	char path[MANIFEST_PATH_MAX + 1];

	receiver_path(receiver, member->parent, member->name, path, sizeof(path));
	session_list_link(receiver->session, path, target, member->size);
}

int receive_members(struct receiver *receiver, struct arrival *arrival, const uint8_t *bytes)
{
	struct session *session = receiver->session;
	struct arriving_pack *pack = arrival->pack;
	struct zh_error error;
	int r = 0;

	for (size_t i = 0; i < pack->count && r == 0; i++) {
		struct wire_member got;
		const struct wire_member *member = &got;
		arriving_member(receiver, pack, i, &got);
		(void)pthread_mutex_lock(&session->lock);
		uint8_t state = pack->state[i];
		(void)pthread_mutex_unlock(&session->lock);
		if (!(state & MEMBER_WANTED))
			continue;
		err_init(&error);
		if (pack->digest && member->kind == MEMBER_FILE)
			pack->digest[i] = digest_of(bytes ? (const void *)bytes : "", member->size);
		if (pack->digest && member->kind == MEMBER_LINK)
			list_link(receiver, member, bytes);
		if (!(state & MEMBER_FAILED) && batch_write(receiver->batch, &pack->file[i], bytes,
							member->size, &error) < 0)
			r = arrival_fail_member(receiver, arrival, i, &error, true);
		if (bytes)
			bytes += member->size;
	}
	pack->written = true;
	return r;
}

/*
 * The connection broke within a frame, whose leaves are lacking again. First nothing of it may be
 * on its way to the disk, where it would meet what comes by another connection. 1, or failed.
 */
static int give_back(struct stream_work *work, struct arrival *arrival, const struct frame *data,
	bool store, int r)
{
	struct receiver *receiver = work->receiver;
	struct session *session = receiver->session;
	struct channel *channel = work->channel;
	int broke = session_stream_broke(session, r);

	if (broke < 0)
		return broke;
	IGNORE(sys_shutdown(work->link->fd, SHUT_RDWR)); /* ends a receive that is in flight */
	r = channel_settle(channel);
	if (r < 0 && channel->failed != CHANNEL_END_FILE)
		r = channel_settle(channel); /* what was left over of the extent is gone now */
	if (r < 0 && channel->failed != CHANNEL_END_FILE)
		return session_fail_link(session, r, "data connection");
	if (r < 0 && fail_write(receiver, arrival, r) < 0)
		return -ECANCELED;
	if (store)
		arrival_unclaim(receiver, arrival, data);
	arrival_release(receiver, arrival, work->settling_frames + 1, work->settling_leaves);
	work->settling_leaves = work->settling_frames = 0;
	return receiver_extend_credit(receiver) < 0 ? -ECANCELED : 1;
}

/* One frame is complete, and so is what came before it. */
static int count_frame(struct stream_work *work)
{
	struct session *session = work->receiver->session;
	struct frame got = { .type = FRAME_GOT, .id = work->stream->index };

	(void)pthread_mutex_lock(&session->lock);
	got.offset = ++work->stream->frames;
	(void)pthread_mutex_unlock(&session->lock);
	return got.offset % GOT_FRAMES == 0 ? session_send(session, &got, NULL) : 0;
}

/*
 * Reads the SUM that follows. *ret_void: the reason if the sender takes the frame back. *ret_broke:
 * the error of a connection that may break.
 */
static int take_sum(struct stream_work *work, const struct frame *data, bool digest,
	enum zh_outcome *ret_void, int *ret_broke)
{
	struct session *session = work->receiver->session;
	struct frame sum;
	size_t count = 0;
	int r = link_recv(work->link, &sum, (int)LIMIT_STALL_MS);

	*ret_void = ZH_OK;
	*ret_broke = r == -EAGAIN ? -ETIMEDOUT : r;
	if (r < 0)
		return 0;
	if (!stream_may_receive(ROLE_RECEIVER, STREAM_AFTER_DATA, (enum frame_type)sum.type) ||
		sum.id != data->id || sum.offset != data->offset)
		return session_failf(
			session, ZH_PROTO, 0, "data connection", "DATA is not followed by its SUM");
	if (sum.flags & SUM_VOID)
		r = wire_parse_void(work->link->payload, sum.length, ret_void);
	else
		r = wire_parse_digests(work->link->payload, sum.length, work->claimed,
			ARRAY_LEN(work->claimed), &count);
	if (r < 0 || (*ret_void == ZH_OK && count != (digest ? leaf_count(data->length) : 0)))
		return session_failf(
			session, ZH_PROTO, 0, "data connection", "a SUM of the wrong size");
	return 0;
}

static int send_nak(struct stream_work *work, uint64_t id, uint64_t leaf, size_t index)
{
	struct wire_nak nak = { .reason = ZH_VERIFY, .claimed = work->claimed[index] };
	uint8_t bytes[64];
	int length = wire_build_nak(&nak, bytes, sizeof(bytes));
	struct frame frame = { .type = FRAME_NAK, .id = id, .offset = leaf * LEAF_BYTES };

	CHECK(length > 0);
	frame.length = (uint32_t)length;
	return session_send(work->receiver->session, &frame, bytes);
}

/* A leaf is wrong: ask again, or give the file up. */
static int refuse_leaf(
	struct stream_work *work, struct arrival *arrival, uint64_t leaf, size_t index)
{
	struct receiver *receiver = work->receiver;
	struct session *session = receiver->session;
	struct zh_error error;
	bool again = false;

	(void)pthread_mutex_lock(&session->lock);
	arrival_set_had(arrival, leaf, false);
	if (!arrival->resends)
		arrival->resends = calloc(1, leaf_count(arrival->size));
	if (arrival->resends)
		again = arrival->resends[leaf]++ < LIMIT_RESENDS;
	(void)pthread_mutex_unlock(&session->lock);
	if (again) {
		/* The wrong bytes must not reach the disk after the right ones, which may come by
		 * another stream. */
		int r = channel_settle(work->channel);
		if (r < 0 && work->channel->failed != CHANNEL_END_FILE)
			return session_fail_link(session, r, "data connection");
		if (r < 0)
			return fail_write(receiver, arrival, r);
		atomic_fetch_add(&session->resent_leaves, 1);
		return send_nak(work, arrival->id, leaf, index);
	}
	err_init(&error);
	error.offset = leaf * LEAF_BYTES;
	(void)err_set(&error, ZH_VERIFY, 0, "verify",
		"a leaf differs from what the sender read after %u re-sends", LIMIT_RESENDS);
	return arrival_fail(receiver, arrival, &error, true);
}

/* Compares digests. Right leaves will count after the next settle. */
static int judge(
	struct stream_work *work, struct arrival *arrival, const struct frame *data, bool digest)
{
	struct session *session = work->receiver->session;
	uint64_t first = data->offset / LEAF_BYTES;
	size_t count = leaf_count(data->length);

	for (size_t i = 0; i < count; i++) {
		if (digest && !digest_equal(&work->mine[i], &work->claimed[i])) {
			int r = refuse_leaf(work, arrival, first + i, i);
			if (r < 0)
				return r;
			continue;
		}
		work->settling_leaves++;
		if (!digest)
			continue;
		(void)pthread_mutex_lock(&session->lock);
		leaf_sum_add(&arrival->sum, first + i, &work->claimed[i]);
		(void)pthread_mutex_unlock(&session->lock);
	}
	return 0;
}

/* 0, 1: the connection broke, or it has failed the session. */
static int one_frame(struct stream_work *work, const struct frame *data)
{
	struct receiver *receiver = work->receiver;
	struct session *session = receiver->session;
	bool digest = session->setup.verify == ZH_VERIFY_FULL;
	enum zh_outcome voided;
	struct zh_error error;
	int file_error, broke, r;
	bool store;

	session_note_data(session);
	if (work->file_id != data->id) {
		r = settle(work); /* leaves of the file before must not wait for this one */
		if (r < 0)
			return r;
	}
	struct arrival *arrival = arrival_claim(receiver, data, &store);
	if (!arrival)
		return session_failf(
			session, ZH_PROTO, 0, "data connection", "DATA for what was not asked for");
	bool pack = arrival->pack != NULL;
	file_error = 0;
	r = pack ? take_pack(work, data, store && !arrival->discard, digest)
		 : take_data(work, arrival, data, store, digest, &file_error);
	if (r < 0)
		return give_back(work, arrival, data, store, r);
	r = take_sum(work, data, digest, &voided, &broke);
	if (r < 0)
		return r;
	if (broke < 0)
		return give_back(work, arrival, data, store, broke);
	atomic_fetch_add(&session->bytes_moved, data->length);
	err_init(&error);
	if (file_error < 0)
		(void)err_set(&error, err_of_destination(file_error), file_error, "write",
			"cannot write the file");
	else if (voided != ZH_OK)
		(void)err_set(&error, voided, 0, "receive", "the source failed while it was sent");
	if (store && file_error == 0 && voided == ZH_OK) {
		if (pack && !arrival->discard &&
			(!digest || digest_equal(&work->mine[0], &work->claimed[0])) &&
			receive_members(receiver, arrival, work->buffer.memory) < 0)
			return -ECANCELED;
		work->file = arrival;
		work->file_id = data->id;
		work->settling_frames++;
		return judge(work, arrival, data, digest);
	}
	if (err_is_set(&error) && arrival_fail(receiver, arrival, &error, file_error < 0) < 0)
		return -ECANCELED;
	arrival_release(receiver, arrival, 1, 0);
	return receiver_extend_credit(receiver);
}

int receive_stream(struct session *session, struct session_stream *stream, struct link *link,
	struct channel *channel)
{
	struct stream_work *work = calloc(1, sizeof(*work));
	struct frame frame;
	int r = work ? 0 : -ENOMEM;

	if (r == 0)
		r = digester_init(&work->digester);
	if (r == 0)
		r = leaf_run_init(&work->run);
	if (r < 0) {
		r = session_failf(session, ZH_INTERNAL, r, "data connection", "no memory");
	} else {
		work->receiver = session->role_state;
		work->stream = stream;
		work->link = link;
		work->channel = channel;
		while (r == 0) {
			r = next_head(work, &frame);
			if (r == 0)
				r = one_frame(work, &frame);
			if (r == 0)
				r = count_frame(work);
		}
		channel->stats.digest_bytes += work->run.total + work->digester.run.total;
	}
	if (work) {
		leaf_run_fini(&work->run);
		digester_fini(&work->digester);
		buffer_free(&work->buffer);
	}
	free(work);
	return r;
}
