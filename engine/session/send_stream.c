/* SPDX-License-Identifier: Apache-2.0 */
/*
 * send_stream.c - one data connection of a sender: takes pieces of files and packs from the
 * schedule and sends them with their digests; answers to NEED with PROVE are made here, too,
 * because they read as much.
 */
#include "session/departure.h"

#include "base/clock.h"
#include "kernel/file.h"
#include "kernel/sock.h"
#include "store/digest.h"

#include <errno.h>

#define DATA_BYTES (LANE_LEAVES * LEAF_BYTES) /* of one DATA frame */
#define LOOK_MS    1000 /* how often a stream without work looks at its connection */

struct stream_work {
	struct sender *sender;
	struct link *link;
	struct channel *channel;
	struct lane *lane;
	uint64_t number; /* on the lane, of the piece in hand */
	bool broke;
	struct digester digester;
	struct leaf_run run;
	struct digest digest[LANE_LEAVES];
	uint64_t file_id;     /* that the channel is turned to */
	struct buffer buffer; /* of packs */
};

/*
 * Nothing ever comes back on a data connection, so one that has something to read was cut or
 * closed. What was on its way in it is lost, and who waits for work would never find out. Reported
 * the second time in a row only: the control connection may know a better reason.
 */
static bool connection_is_lost(const struct stream_work *work, bool *was_quiet)
{
	struct pollfd look = { .fd = work->link->fd, .events = POLLIN | POLLRDHUP };
	bool quiet = sys_poll(&look, 1, 0) == 0;
	bool lost = !quiet && !*was_quiet;

	*was_quiet = quiet;
	return lost;
}

/* A while, or until there is work. Locked. */
static void wait_for_work(struct sender *sender)
{
	uint64_t until = clock_now_ns() + (uint64_t)LOOK_MS * NS_PER_MS;
	struct timespec deadline = {
		.tv_sec = (time_t)(until / NS_PER_S),
		.tv_nsec = (long)(until % NS_PER_S),
	};

	(void)pthread_cond_timedwait(&sender->work, &sender->session->lock, &deadline);
}

/* The next piece, noted as sent on this connection if it is to be sent. Locked. */
static int next_piece(struct stream_work *work, struct schedule_work *ret_piece,
	struct departure **ret_departure, bool *ret_proving)
{
	struct sender *sender = work->sender;
	int r = lane_reserve(work->lane);

	if (r < 0)
		return r;
	if (!schedule_next(&sender->schedule, DATA_BYTES, ret_piece))
		return -EAGAIN;
	*ret_departure = departure_find(sender, ret_piece->id);
	(*ret_departure)->frames++;
	*ret_proving = (*ret_departure)->state == DEPARTURE_PROVING;
	if (!*ret_proving)
		work->number = lane_push(work->lane, ret_piece);
	return 0;
}

/* Waits for work. 0; 1: there is none for this connection; or it has failed the session. */
static int take_work(struct stream_work *work, struct schedule_work *ret_piece,
	struct departure **ret_departure, bool *ret_proving)
{
	struct sender *sender = work->sender;
	struct session *session = sender->session;
	uint64_t start = clock_now_ns();
	bool lost = false, was_quiet = true, over;
	int r = -EAGAIN;

	(void)pthread_mutex_lock(&session->lock);
	for (;;) {
		over = session->aborted || session->finishing;
		if (over || lost || work->lane->ended)
			break;
		r = next_piece(work, ret_piece, ret_departure, ret_proving);
		if (r != -EAGAIN)
			break;
		wait_for_work(sender);
		lost = connection_is_lost(work, &was_quiet);
	}
	(void)pthread_mutex_unlock(&session->lock);
	channel_note_idle(work->channel, clock_now_ns() - start);
	if (r == -ENOMEM)
		return session_failf(session, ZH_INTERNAL, r, "data connection", "no memory");
	work->broke = r < 0 && !over;
	if (work->broke)
		return session_stream_broke(session, -ECONNRESET);
	return r < 0 ? 1 : 0;
}

/* Unless the user wants to see what Nagle's algorithm does, or there is none. */
static bool pushes(const struct session *session)
{
	return !session->never_corks && session->sock.nagle != ZH_NAGLE_NODELAY;
}

/* The last one of a piece: the peer waits for it with nothing to say. */
static int send_sum(struct stream_work *work, const struct schedule_work *piece, size_t digests,
	enum zh_outcome void_reason)
{
	uint8_t bytes[sizeof(work->digest)];
	struct frame sum = { .type = FRAME_SUM, .id = piece->id, .offset = piece->extent.offset };
	int length;

	if (void_reason != ZH_OK) {
		sum.flags = SUM_VOID;
		length = wire_build_void(void_reason, bytes, sizeof(bytes));
	} else {
		length = wire_build_digests(work->digest, digests, bytes, sizeof(bytes));
	}
	CHECK(length >= 0);
	sum.length = (uint32_t)length;
	int r = link_send(work->link, &sum, bytes);
	if (r == 0 && pushes(work->sender->session))
		IGNORE(sock_push(work->link->fd));
	return r;
}

static int describe_source_error(struct zh_error *error, int r, uint64_t offset)
{
	err_init(error);
	error->offset = offset;
	return err_set(error, err_of_source(r), r, "read source",
		r == -ENODATA ? "the source has become shorter" : "the source cannot be read");
}

/*
 * One DATA frame with its SUM. An error of the source leaves the stream in step: zeros make up for
 * what is missing and the SUM says VOID. Returns an error of the connection only.
 */
static int send_piece(struct stream_work *work, struct departure *departure,
	const struct schedule_work *piece, size_t *ret_digests, struct zh_error *ret_source_error)
{
	struct channel *channel = work->channel;
	const struct zh_extent extent = piece->extent;
	bool full = work->sender->session->setup.verify == ZH_VERIFY_FULL;
	struct frame data = {
		.type = FRAME_DATA,
		.length = (uint32_t)extent.length,
		.id = piece->id,
		.offset = extent.offset,
	};
	int file_error = 0;
	int r;

	if (work->file_id != piece->id) {
		file_error = channel_file(channel, departure->source.fd, departure->plan);
		work->file_id = piece->id;
	}
	bool sees = full && file_error == 0 && channel_sees_data(channel);
	if (full && !sees && file_error == 0)
		file_error =
			digester_read(&work->digester, departure->source.fd, extent, work->digest);
	r = link_send(work->link, &data, NULL);
	if (r < 0)
		return r;
	if (sees)
		leaf_run_begin(&work->run, extent.offset, work->digest, ARRAY_LEN(work->digest));
	channel->offset = extent.offset;
	channel->end = extent.offset + extent.length;
	if (file_error == 0) {
		r = channel_move(channel, extent, piece->horizon, true, sees ? &work->run : NULL);
		if (r < 0 && channel->failed != CHANNEL_END_FILE)
			return r;
		file_error = r;
	}
	if (file_error < 0) {
		(void)describe_source_error(ret_source_error, file_error, channel->offset);
		r = channel_zero(channel, channel->end - channel->offset);
		if (r < 0)
			return r;
	}
	if (file_error == 0 && departure_leaves_no_cache(work->sender->session, departure))
		file_drop_behind(departure->source.fd, extent.offset);
	*ret_digests = !full ? 0 : sees ? leaf_run_end(&work->run) : leaf_count(extent.length);
	return send_sum(work, piece, *ret_digests, (enum zh_outcome)ret_source_error->outcome);
}

/* ------------------------------ packs -------------------------------------------------- */

/* Reads exactly size bytes of one member. -ESTALE: it is not what was announced. */
static int read_member(const struct wire_member *member, int dir, uint8_t *ret_bytes)
{
	struct stat st;
	ssize_t got;
	int r = 0;

	if (member->kind == MEMBER_LINK) {
		got = sys_readlinkat(dir, member->name, (char *)ret_bytes, member->size);
		return got < 0 ? (int)got : (uint32_t)got == member->size ? 0 : -ESTALE;
	}
	int fd = root_open_inside(dir, member->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return fd;
	for (uint32_t done = 0; r == 0 && done < member->size; done += (uint32_t)got) {
		got = sys_pread(fd, ret_bytes + done, member->size - done, done);
		if (got <= 0)
			r = got < 0 ? (int)got : -ENODATA;
	}
	if (r == 0)
		r = sys_fstat(fd, &st);
	if (r == 0 && (!S_ISREG(st.st_mode) || (uint64_t)st.st_size != member->size ||
			      st.st_mtim.tv_sec != member->mtime_s ||
			      (uint32_t)st.st_mtim.tv_nsec != member->mtime_ns))
		r = -ESTALE;
	sys_close(fd);
	return r;
}

/* The same from its folder. What cannot be read is zeros, and the member fails. */
static int take_member(struct stream_work *work, struct departure *departure, size_t index,
	const struct wire_member *member, uint8_t *ret_bytes)
{
	struct folder *folder = departure->pack->folder[index];
	struct dirs *dirs = folder->tree->dirs;
	uint64_t id = folder == folder->tree->root ? 0 : folder->id;
	struct zh_error error;
	int dir, r;

	r = dirs_get(dirs, id, &dir);
	if (r == 0) {
		r = read_member(member, dir, ret_bytes);
		dirs_put(dirs, id);
	}
	if (r == 0)
		return 0;
	memset(ret_bytes, 0, member->size);
	err_init(&error);
	if (r == -ESTALE || r == -ENODATA)
		(void)err_set(
			&error, ZH_SRC_CHANGED, 0, "send", "the source changed while it was sent");
	else
		(void)err_set(
			&error, err_of_source(r), r, "read source", "the source cannot be read");
	return member_fail(work->sender, departure, index, &error, true);
}

/* For the manifest, while the bytes are at hand: files are listed when they are acknowledged. */
static void list_member(struct session *session, const struct pack *pack, size_t index,
	const struct wire_member *member, const uint8_t *bytes)
{
	char path[MANIFEST_PATH_MAX + 1];

	if (member->kind == MEMBER_FILE) {
		pack->digest[index] = digest_of(bytes, member->size);
		return;
	}
	folder_path(pack->folder[index], member->name, path, sizeof(path));
	session_list_link(session, path, bytes, member->size);
}

/* The members that were asked for, end to end. Returns an error of the session only. */
static int gather_pack(struct stream_work *work, struct departure *departure)
{
	const struct pack *pack = departure->pack;
	struct session *session = work->sender->session;
	struct wire_member member;
	uint8_t *next = work->buffer.memory;
	size_t at = 0;
	int r = 0;

	for (size_t i = 0; r == 0 && wire_pack_next(pack->table, pack->table_length, &at, &member);
		i++) {
		(void)pthread_mutex_lock(&session->lock);
		bool wanted = pack->state[i] & MEMBER_WANTED;
		(void)pthread_mutex_unlock(&session->lock);
		if (!wanted)
			continue;
		r = take_member(work, departure, i, &member, next);
		if (r == 0 && session->manifest)
			list_member(session, pack, i, &member, next);
		next += member.size;
	}
	CHECK(r < 0 || next == work->buffer.memory + departure->size);
	return r;
}

/* Returns an error of the connection, or -ECANCELED. */
static int send_pack(struct stream_work *work, struct departure *departure,
	const struct schedule_work *piece, size_t *ret_digests)
{
	struct session *session = work->sender->session;
	bool full = session->setup.verify == ZH_VERIFY_FULL;
	struct frame data = {
		.type = FRAME_DATA,
		.length = (uint32_t)piece->extent.length,
		.id = piece->id,
	};
	int r = buffer_reserve(&work->buffer, LIMIT_PACK_BYTES);

	if (r < 0)
		return session_failf(session, ZH_INTERNAL, r, "data connection", "no memory");
	r = gather_pack(work, departure);
	if (r < 0)
		return r;
	if (full)
		work->digest[0] = digest_of(work->buffer.memory, piece->extent.length);
	work->run.total += full ? piece->extent.length : 0;
	*ret_digests = full;
	r = link_send(work->link, &data, NULL);
	if (r == 0)
		r = channel_send_memory(work->channel, work->buffer.memory, piece->extent.length);
	if (r == 0) {
		work->channel->stats.bytes += piece->extent.length;
		r = send_sum(work, piece, *ret_digests, ZH_OK);
	}
	return r;
}

/* ------------------------------ proofs ------------------------------------------------- */

static int send_leaves(struct stream_work *work, uint64_t id, uint64_t first,
	const struct digest *digest, size_t count)
{
	struct session *session = work->sender->session;
	uint8_t bytes[LIMIT_MEMBERS * DIGEST_BYTES];
	struct frame frame = { .type = FRAME_LEAF, .id = id, .offset = first };
	int length = wire_build_digests(digest, count, bytes, sizeof(bytes));

	CHECK(length > 0);
	frame.length = (uint32_t)length;
	return session_send(session, &frame, bytes);
}

/* Digests of members first to first + count; a failed one has that of zeros. */
static int digest_members(
	struct stream_work *work, struct departure *departure, size_t first, size_t count)
{
	const struct pack *pack = departure->pack;
	struct wire_member member;
	size_t at = 0;
	int r = buffer_reserve(&work->buffer, LIMIT_PACK_BYTES);

	if (r < 0)
		return session_failf(
			work->sender->session, ZH_INTERNAL, r, "data connection", "no memory");
	for (size_t i = 0; r == 0 && wire_pack_next(pack->table, pack->table_length, &at, &member);
		i++) {
		if (i < first || i >= first + count)
			continue;
		r = take_member(work, departure, i, &member, work->buffer.memory);
		departure->proof[i] = digest_of(work->buffer.memory, member.size);
		work->run.total += member.size;
	}
	return r < 0 ? r : send_leaves(work, departure->id, first, departure->proof + first, count);
}

/* The leaves of a file; they count in its sum unless they are asked for all the same. */
static int digest_leaves(
	struct stream_work *work, struct departure *departure, struct zh_extent extent)
{
	struct sender *sender = work->sender;
	struct session *session = sender->session;
	bool full = session->setup.verify == ZH_VERIFY_FULL;
	uint64_t first = extent.offset / LEAF_BYTES;
	size_t count = leaf_count(extent.length);
	struct zh_error error;
	int r = digester_read(&work->digester, departure->source.fd, extent, work->digest);

	if (r < 0) {
		err_init(&error);
		(void)describe_source_error(&error, r, extent.offset);
		return departure_fail(sender, departure, &error, true);
	}
	(void)pthread_mutex_lock(&session->lock);
	bool proving = departure->state == DEPARTURE_PROVING;
	for (size_t i = 0; proving && i < count; i++) {
		departure->proof[first + i] = work->digest[i];
		departure->proved[(first + i) / 8] |= (uint8_t)(1u << (first + i) % 8);
		if (full)
			leaf_sum_add(&departure->sum, first + i, &work->digest[i]);
	}
	(void)pthread_mutex_unlock(&session->lock);
	return proving ? send_leaves(work, departure->id, first, work->digest, count) : 0;
}

static int prove(
	struct stream_work *work, struct departure *departure, const struct schedule_work *piece)
{
	int r = departure->pack ? digest_members(work, departure, piece->extent.offset,
					  piece->extent.length)
				: digest_leaves(work, departure, piece->extent);
	int left = departure_put(work->sender, departure);
	return r < 0 ? r : left;
}

/* ------------------------------ pieces ------------------------------------------------- */

/* The account of a sent piece. Returns an error of the connection only. */
static int finish_piece(struct stream_work *work, struct departure *departure,
	const struct schedule_work *piece, size_t digests, const struct zh_error *source_error)
{
	struct sender *sender = work->sender;
	struct session *session = sender->session;
	bool failed = err_is_set(source_error), due, other, failing;
	struct held held;
	int r = 0;

	(void)pthread_mutex_lock(&session->lock);
	departure->frames--;
	departure->unsent -= piece->extent.length;
	struct sent *sent = lane_find(work->lane, work->number);
	if (sent) {
		sent->counted = true;
		sent->digests = (uint32_t)digests;
		memcpy(sent->digest, work->digest, digests * sizeof(*work->digest));
	}
	for (size_t i = 0; i < digests; i++)
		leaf_sum_add(
			&departure->sum, piece->extent.offset / LEAF_BYTES + i, &work->digest[i]);
	due = !failed && departure_end_is_due(departure);
	other = !failed && departure_end_was_wrong(departure);
	failing = failed || other;
	departure->frames += failing; /* until it has failed */
	held = departure_shed(departure);
	(void)pthread_mutex_unlock(&session->lock);
	atomic_fetch_add(&session->bytes_moved, piece->extent.length);
	if (failed)
		r = departure_fail(sender, departure, source_error, true);
	else if (other)
		r = departure_fail_changed(sender, departure);
	else if (due)
		return departure_send_end(sender, departure);
	int left = failing ? departure_put(sender, departure) : held_release(sender, &held);
	return r < 0 ? r : left;
}

/* The connection broke under a piece, which stays on the lane until it is sent again. */
static int abandon_piece(struct stream_work *work, struct departure *departure, int error)
{
	int r = session_stream_broke(work->sender->session, error);

	if (r < 0)
		return r;
	work->broke = true;
	return departure_put(work->sender, departure) < 0 ? -ECANCELED : 1;
}

/* One piece of work, whatever it is. 0, 1: the connection broke, or it has failed the session. */
static int do_piece(
	struct stream_work *work, struct departure *departure, const struct schedule_work *piece)
{
	struct zh_error source_error;
	size_t digests = 0;
	int r;

	err_init(&source_error);
	session_note_data(work->sender->session);
	r = departure->pack ? send_pack(work, departure, piece, &digests)
			    : send_piece(work, departure, piece, &digests, &source_error);
	return r < 0 ? abandon_piece(work, departure, r)
		     : finish_piece(work, departure, piece, digests, &source_error);
}

static void repeat_one(struct sender *sender, struct departure *departure, const struct sent *sent)
{
	if (!sent->counted)
		return;
	departure->unsent += sent->extent.length;
	for (uint32_t i = 0; i < sent->digests; i++)
		leaf_sum_remove(
			&departure->sum, sent->extent.offset / LEAF_BYTES + i, &sent->digest[i]);
	atomic_fetch_sub(&sender->session->bytes_moved, sent->extent.length);
}

int sender_repeat(struct sender *sender, struct lane *lane)
{
	int r = 0;

	while (lane->count > 0 && r == 0) { /* the first shall be first again */
		struct sent *sent = &lane->sent[lane->head + --lane->count];
		struct departure *departure = departure_find(sender, sent->id);
		if (!departure || departure_is_settled(departure))
			continue;
		repeat_one(sender, departure, sent);
		r = schedule_add(&sender->schedule, sent->id, sent->extent, true);
	}
	lane->first = 0;
	(void)pthread_cond_broadcast(&sender->work);
	return r;
}

static int stream_loop(struct stream_work *work)
{
	struct schedule_work piece;
	struct departure *departure = NULL;
	bool proving = false;
	int r;

	for (;;) {
		r = take_work(work, &piece, &departure, &proving);
		if (r == 0)
			r = proving ? prove(work, departure, &piece)
				    : do_piece(work, departure, &piece);
		if (r != 0)
			return r < 0 ? r : work->broke;
	}
}

/* The receiver may have said already that the connection is over. */
static void lane_opens(
	struct session *session, const struct session_stream *stream, struct lane *lane)
{
	(void)pthread_mutex_lock(&session->lock);
	lane_begin(lane, stream->heard > stream->said_start);
	(void)pthread_mutex_unlock(&session->lock);
}

static int lane_closes(struct sender *sender, struct lane *lane)
{
	struct session *session = sender->session;
	int r = 0;

	(void)pthread_mutex_lock(&session->lock);
	lane->busy = false;
	if (lane->ended)
		r = sender_repeat(sender, lane);
	(void)pthread_mutex_unlock(&session->lock);
	return r < 0 ? session_failf(session, ZH_INTERNAL, r, "data connection", "no memory") : 0;
}

int send_stream(struct session *session, struct session_stream *stream, struct link *link,
	struct channel *channel)
{
	struct stream_work *work = calloc(1, sizeof(*work));
	int r = work ? 0 : -ENOMEM;

	if (r == 0) {
		work->sender = session->role_state;
		work->link = link;
		work->channel = channel;
		work->lane = &work->sender->lane[stream->index];
		lane_opens(session, stream, work->lane);
		r = digester_init(&work->digester);
		if (r == 0)
			r = leaf_run_init(&work->run);
		if (r == 0)
			r = stream_loop(work);
		else
			r = session_failf(session, ZH_INTERNAL, r, "data connection", "no memory");
		if (lane_closes(work->sender, work->lane) < 0)
			r = -ECANCELED;
		leaf_run_fini(&work->run);
		digester_fini(&work->digester);
		buffer_free(&work->buffer);
		channel->stats.digest_bytes += work->run.total + work->digester.run.total;
	} else {
		r = session_failf(session, ZH_INTERNAL, r, "data connection", "no memory");
	}
	free(work);
	return r;
}
