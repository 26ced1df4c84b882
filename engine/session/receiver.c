/* SPDX-License-Identifier: Apache-2.0 */
/*
 * receiver.c - see receiver.h.
 *
 * The control thread places files (FILE) and learns their roots (END). Stream threads move DATA
 * into the partial and compare digests (SUM); a leaf counts once it is right and nothing of it is
 * in flight to the disk any more. The committing thread makes complete files visible and durable,
 * so that syncing one overlaps with receiving the next and nobody who must answer a PING waits for
 * a disk.
 */
#include "session/receiver.h"

#include "base/clock.h"
#include "store/commit.h"
#include "store/digest.h"
#include "store/root.h"
#include "store/staging.h"

#include <errno.h>
#include <stdio.h>

#define WINDOW        LIMIT_OPEN_IDS
#define CREDIT_STEP   (WINDOW / 4)
#define SETTLE_FRAMES 64 /* frames of one file between two looks at what the disk has taken */

struct arrival {
	uint64_t id;
	enum arrival_state state;
	struct partial partial;
	struct zh_plan plan;
	char name[LIMIT_NAME_BYTES + 1];
	uint64_t size;
	int64_t mtime_s;
	uint32_t mtime_ns;
	uint32_t mode;
	bool no_clobber;
	bool discard;         /* measured, not stored */
	uint32_t users;       /* DATA frames being received now, and the committing thread */
	uint64_t leaves_left; /* not yet on their way to disk and settled */
	uint8_t *have;        /* bit per leaf: settled, or being received */
	uint8_t *resends;     /* per leaf, made by the first NAK */
	struct leaf_sum sum;
	bool end_seen;
	struct wire_end end;
	struct arrival *next; /* to be committed */
};

struct receiver {
	struct session *session;
	struct staging staging;
	int place; /* borrowed */
	uint64_t place_device;
	uint64_t place_inode;
	char only_name[LIMIT_NAME_BYTES + 1];
	struct arrival *window[WINDOW]; /* by id; finished ones stay until their place is needed */
	uint64_t next_id;
	uint64_t low_id; /* every id below is finished */
	uint64_t credit;
	pthread_t committer;
	pthread_cond_t commit; /* with session->lock */
	struct arrival *queue_head;
	struct arrival *queue_tail;
	bool committer_ends;
};

static const struct session_role_ops receiver_ops;
static void *committer_main(void *argument);

int receiver_new(struct session *session, int root, struct receiver **ret_receiver)
{
	struct receiver *receiver = calloc(1, sizeof(*receiver));

	if (!receiver)
		return -ENOMEM;
	receiver->session = session;
	receiver->place = root;
	receiver->next_id = receiver->low_id = 1;
	receiver->credit = WINDOW;
	staging_init(&receiver->staging, root);
	(void)pthread_cond_init(&receiver->commit, NULL);
	session->role = ROLE_RECEIVER;
	session->ops = &receiver_ops;
	session->role_state = receiver;
	int r = pthread_create(&receiver->committer, NULL, committer_main, receiver);
	if (r != 0) {
		staging_fini(&receiver->staging);
		free(receiver);
		return -r;
	}
	*ret_receiver = receiver;
	return 0;
}

int receiver_place(struct receiver *receiver, int directory, const char *only_name)
{
	struct stat st;
	int r = sys_fstat(directory, &st);

	if (r < 0)
		return r;
	receiver->place = directory;
	receiver->place_device = st.st_dev;
	receiver->place_inode = st.st_ino;
	TEXT_SET(receiver->only_name, only_name ? only_name : "");
	return 0;
}

static bool is_finished(const struct arrival *arrival)
{
	return arrival->state == ARRIVAL_DURABLE || arrival->state == ARRIVAL_FAILED;
}

/* Nobody needs it any more: its id may be forgotten. Locked. */
static bool is_over(const struct arrival *arrival)
{
	return is_finished(arrival) && arrival->users == 0;
}

static void arrival_free(struct receiver *receiver, struct arrival *arrival)
{
	if (!arrival)
		return;
	partial_discard(&receiver->staging, &arrival->partial);
	free(arrival->have);
	free(arrival->resends);
	free(arrival);
}

void receiver_free(struct receiver *receiver)
{
	struct session *session;

	if (!receiver)
		return;
	session = receiver->session;
	(void)pthread_mutex_lock(&session->lock);
	receiver->committer_ends = true;
	(void)pthread_cond_broadcast(&receiver->commit);
	(void)pthread_mutex_unlock(&session->lock);
	(void)pthread_join(receiver->committer, NULL);
	for (size_t i = 0; i < WINDOW; i++)
		arrival_free(receiver, receiver->window[i]);
	staging_fini(&receiver->staging);
	(void)pthread_cond_destroy(&receiver->commit);
	free(receiver);
}

static void arrival_advance(struct arrival *arrival, enum arrival_state to)
{
	CHECK(arrival_may_follow(arrival->state, to));
	arrival->state = to;
}

/* NULL: not announced, or long gone. Locked. */
static struct arrival *find(const struct receiver *receiver, uint64_t id)
{
	struct arrival *arrival = receiver->window[id % WINDOW];

	return arrival && arrival->id == id ? arrival : NULL;
}

/*
 * The partial of a failed file that no thread uses any more (fd -1: none), to be discarded once
 * unlocked: removing a large file takes the disk a while. Locked.
 */
static struct partial take_unused(struct arrival *arrival)
{
	struct partial partial = { .fd = -1 };

	if (arrival->state == ARRIVAL_FAILED && arrival->users == 0) {
		partial = arrival->partial;
		arrival->partial.fd = -1;
	}
	return partial;
}

/* Gives the sender more ids when enough of the old ones are finished. */
static int extend_credit(struct receiver *receiver)
{
	struct session *session = receiver->session;
	struct frame frame = { .type = FRAME_CREDIT };

	(void)pthread_mutex_lock(&session->lock);
	while (receiver->low_id < receiver->next_id) {
		const struct arrival *arrival = find(receiver, receiver->low_id);
		if (arrival && !is_over(arrival))
			break;
		receiver->low_id++;
	}
	if (receiver->low_id + WINDOW >= receiver->credit + CREDIT_STEP)
		frame.id = receiver->credit = receiver->low_id + WINDOW;
	(void)pthread_mutex_unlock(&session->lock);
	return frame.id ? session_send(session, &frame, NULL) : 0;
}

/* Fails one file for the reason in error; tell: the sender has to hear of it. */
static int fail_file(
	struct receiver *receiver, struct arrival *arrival, const struct zh_error *error, bool tell)
{
	struct session *session = receiver->session;
	bool mine;

	(void)pthread_mutex_lock(&session->lock);
	mine = !is_finished(arrival);
	if (mine)
		arrival_advance(arrival, ARRIVAL_FAILED);
	struct partial unused = take_unused(arrival);
	(void)pthread_mutex_unlock(&session->lock);
	partial_discard(&receiver->staging, &unused);
	if (!mine)
		return 0;
	session_file_failed(session, arrival->name, strlen(arrival->name), error);
	return tell ? session_send_err(session, arrival->id, error) : 0;
}

/* ------------------------------ committing --------------------------------------------- */

/* Complete, and its root is known: hand it to the committing thread. Locked. */
static void queue_if_complete(struct receiver *receiver, struct arrival *arrival)
{
	if (arrival->state != ARRIVAL_RECEIVING || !arrival->end_seen || arrival->leaves_left > 0 ||
		arrival->users > 0)
		return;
	arrival_advance(arrival, ARRIVAL_VERIFIED);
	arrival->users++;
	arrival->next = NULL;
	if (receiver->queue_tail)
		receiver->queue_tail->next = arrival;
	else
		receiver->queue_head = arrival;
	receiver->queue_tail = arrival;
	(void)pthread_cond_signal(&receiver->commit);
}

static int commit_one(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	struct session *session = receiver->session;
	struct commit commit = {
		.parent = receiver->place,
		.name = arrival->name,
		.name_length = strlen(arrival->name),
		.mode = arrival->mode,
		.mtime_s = arrival->mtime_s,
		.mtime_ns = arrival->mtime_ns,
		.no_clobber = arrival->no_clobber,
		.durability = (enum zh_durability)session->setup.durability,
	};
	uint64_t start = clock_now_ns();
	int r;

	if (arrival->discard)
		return 0;
	r = commit_file(&receiver->staging, &arrival->partial, &commit, err);
	atomic_fetch_add(&session->disk_ns, clock_now_ns() - start);
	return r;
}

static int acknowledge(struct receiver *receiver, struct arrival *arrival)
{
	struct session *session = receiver->session;
	uint8_t bytes[DIGEST_BYTES];
	int length = wire_build_digests(&arrival->end.root, 1, bytes, sizeof(bytes));
	struct frame ack = {
		.type = FRAME_ACK,
		.id = arrival->id,
		.flags = session->setup.durability == ZH_DURABLE_FULL ? ACK_DURABLE : 0,
	};

	CHECK(length == DIGEST_BYTES);
	ack.length = DIGEST_BYTES;
	(void)pthread_mutex_lock(&session->lock);
	bool failed = arrival->state == ARRIVAL_FAILED; /* the sender gave it up meanwhile */
	if (!failed) {
		arrival_advance(arrival, ARRIVAL_SYNCED);
		arrival_advance(arrival, ARRIVAL_LINKED);
		arrival_advance(arrival, ARRIVAL_DURABLE);
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (failed)
		return 0;
	session_file_done(session, arrival->size);
	return session_send(session, &ack, bytes);
}

/* Roots compared, committed, acknowledged. Errors of the connection only. */
static int finish_file(struct receiver *receiver, struct arrival *arrival)
{
	struct digest mine = leaf_root(&arrival->sum, arrival->size);
	struct zh_error error;

	err_init(&error);
	if (!digest_equal(&mine, &arrival->end.root)) {
		(void)err_set(
			&error, ZH_VERIFY, 0, "verify", "what arrived is not what the sender read");
		return fail_file(receiver, arrival, &error, true);
	}
	if (commit_one(receiver, arrival, &error) < 0)
		return fail_file(receiver, arrival, &error, true);
	return acknowledge(receiver, arrival);
}

static void *committer_main(void *argument)
{
	struct receiver *receiver = argument;
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	for (;;) {
		struct arrival *arrival = receiver->queue_head;
		if (!arrival && receiver->committer_ends)
			break;
		if (!arrival) {
			(void)pthread_cond_wait(&receiver->commit, &session->lock);
			continue;
		}
		receiver->queue_head = arrival->next;
		if (!receiver->queue_head)
			receiver->queue_tail = NULL;
		bool aborted = session->aborted;
		(void)pthread_mutex_unlock(&session->lock);
		if (!aborted)
			IGNORE(finish_file(receiver, arrival)); /* it has failed the session */
		(void)pthread_mutex_lock(&session->lock);
		arrival->users--;
		struct partial unused = take_unused(arrival);
		(void)pthread_mutex_unlock(&session->lock);
		partial_discard(&receiver->staging, &unused);
		if (!aborted)
			IGNORE(extend_credit(receiver)); /* likewise */
		(void)pthread_mutex_lock(&session->lock);
	}
	(void)pthread_mutex_unlock(&session->lock);
	return NULL;
}

/* ------------------------------ placing a file ----------------------------------------- */

/* What is there now may forbid the file before a byte is moved. */
static int check_target(
	const struct receiver *receiver, const struct arrival *arrival, struct zh_error *err)
{
	enum root_kind kind;
	uint64_t size;
	int r = root_look(receiver->place, arrival->name, &kind, &size);

	if (r < 0)
		return err_set(err, err_of_destination(r), r, "look at destination", "cannot look");
	if (kind == ROOT_DIRECTORY || kind == ROOT_OTHER)
		return err_set(err, ZH_EXISTS, 0, "look at destination",
			"the destination is a %s and will not be replaced",
			kind == ROOT_DIRECTORY ? "directory" : "link or special file");
	if (kind == ROOT_FILE && arrival->no_clobber)
		return err_set(err, ZH_EXISTS, 0, "look at destination",
			"the destination exists and is not to be replaced");
	return 0;
}

static bool name_is_open(const struct receiver *receiver, const struct arrival *arrival)
{
	struct session *session = receiver->session;
	bool open = false;

	(void)pthread_mutex_lock(&session->lock);
	for (uint64_t id = receiver->low_id; id < arrival->id && !open; id++) {
		const struct arrival *other = find(receiver, id);
		open = other && !is_finished(other) && strcmp(other->name, arrival->name) == 0;
	}
	(void)pthread_mutex_unlock(&session->lock);
	return open;
}

static int open_partial(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	struct staging_key key = {
		.parent_device = receiver->place_device,
		.parent_inode = receiver->place_inode,
		.name = arrival->name,
		.name_length = strlen(arrival->name),
		.size = arrival->size,
		.mtime_s = arrival->mtime_s,
		.mtime_ns = arrival->mtime_ns,
	};
	uint64_t start = clock_now_ns();
	int r = partial_open(&receiver->staging, &key, &arrival->partial, err);

	atomic_fetch_add(&receiver->session->disk_ns, clock_now_ns() - start);
	return r;
}

/* Everything that has to be there before the first byte. */
static int prepare(struct receiver *receiver, struct arrival *arrival, struct zh_error *err)
{
	struct session *session = receiver->session;
	uint64_t leaves = leaf_count(arrival->size);
	int r;

	if (wire_name_strict(arrival->name, strlen(arrival->name)) < 0 ||
		strcmp(arrival->name, STAGING_DIRECTORY) == 0)
		return err_set(err, ZH_UNSAFE_NAME, 0, "check name",
			"the name has control characters, is not UTF-8, or is reserved");
	arrival->discard = strcmp(session->strategy, "discard") == 0;
	arrival->have = calloc(1, leaves / 8 + 1);
	if (!arrival->have)
		return err_set(err, ZH_INTERNAL, ENOMEM, "open partial", "no memory");
	arrival->leaves_left = leaves;
	if (!arrival->discard) {
		r = check_target(receiver, arrival, err);
		if (r == 0 && name_is_open(receiver, arrival))
			r = err_set(err, ZH_EXISTS, 0, "check name",
				"another file of this session has the same name");
		if (r == 0)
			r = open_partial(receiver, arrival, err);
		if (r < 0)
			return r;
	}
	r = session_plan(session, arrival->partial.fd, arrival->size, &arrival->plan);
	if (r < 0)
		return err_set(err, r == -EINVAL ? ZH_CONFIG : ZH_DST_IO, r, "plan",
			"the receive strategy cannot be used: %s", arrival->plan.reason);
	return 0;
}

static int send_need(struct receiver *receiver, const struct arrival *arrival)
{
	struct zh_extent all = { 0, arrival->size };
	uint8_t bytes[64];
	int length = wire_build_ranges(&all, arrival->size > 0, bytes, sizeof(bytes));
	struct frame need = { .type = FRAME_NEED, .id = arrival->id };

	CHECK(length >= 0);
	need.length = (uint32_t)length;
	return session_send(receiver->session, &need, bytes);
}

static int proto(struct session *session, const char *what)
{
	return session_failf(session, ZH_PROTO, 0, "control connection", "%s", what);
}

/* Takes the next id, which has to be this one, and puts a new arrival there. */
static struct arrival *take_id(struct receiver *receiver, uint64_t id)
{
	struct session *session = receiver->session;
	struct arrival *arrival = calloc(1, sizeof(*arrival)), *old = NULL;
	bool allowed;

	if (!arrival)
		return NULL;
	arrival->id = id;
	arrival->partial.fd = -1;
	(void)pthread_mutex_lock(&session->lock);
	allowed = id == receiver->next_id && id < receiver->credit;
	if (allowed) {
		old = receiver->window[id % WINDOW];
		CHECK(!old || is_over(old)); /* credit ends before an open one is reached */
		receiver->window[id % WINDOW] = arrival;
		receiver->next_id++;
	}
	(void)pthread_mutex_unlock(&session->lock);
	arrival_free(receiver, old);
	if (!allowed) {
		free(arrival);
		return NULL;
	}
	atomic_fetch_add(&session->files_known, 1);
	return arrival;
}

static int frame_file(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct wire_file file;
	struct zh_error error;
	int parsed = wire_parse_file(session->control.payload, frame->length, &file);
	struct arrival *arrival;
	int r;

	if (parsed == -EPROTO || (parsed == 0 && file.parent != 0))
		return proto(session, "malformed FILE");
	arrival = take_id(receiver, frame->id);
	if (!arrival)
		return proto(session, "FILE with an id out of order or beyond the credit");
	err_init(&error);
	if (parsed == -ERANGE)
		(void)err_set(&error, ZH_LIMIT, EFBIG, "announce", "the file is too large");
	else if (parsed < 0)
		(void)err_set(&error, ZH_UNSAFE_NAME, 0, "announce", "a name that cannot be");
	if (parsed < 0)
		return fail_file(receiver, arrival, &error, true);
	TEXT_SET(arrival->name, receiver->only_name[0] ? receiver->only_name : file.name);
	arrival->size = file.size;
	arrival->mode = file.mode;
	arrival->mtime_s = file.mtime_s;
	arrival->mtime_ns = file.mtime_ns;
	arrival->no_clobber = session->no_clobber || frame->flags & FILE_NO_CLOBBER;
	atomic_fetch_add(&session->bytes_known, file.size);
	if (prepare(receiver, arrival, &error) < 0)
		return fail_file(receiver, arrival, &error, true);
	(void)pthread_mutex_lock(&session->lock);
	arrival_advance(arrival, ARRIVAL_ALLOCATED);
	arrival_advance(arrival, ARRIVAL_RECEIVING);
	(void)pthread_mutex_unlock(&session->lock);
	r = send_need(receiver, arrival);
	return r;
}

static int frame_end(struct receiver *receiver, struct arrival *arrival, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct wire_end end;
	bool right = wire_parse_end(session->control.payload, frame->length, &end) == 0;

	(void)pthread_mutex_lock(&session->lock);
	right = right && end.size == arrival->size && end.mtime_s == arrival->mtime_s &&
		end.mtime_ns == arrival->mtime_ns &&
		(arrival->state == ARRIVAL_RECEIVING || arrival->state == ARRIVAL_FAILED);
	if (right) {
		arrival->end = end;
		arrival->end_seen = true;
		queue_if_complete(receiver, arrival);
	}
	(void)pthread_mutex_unlock(&session->lock);
	return right ? 0 : proto(session, "END that does not belong to its FILE");
}

static int frame_err(struct receiver *receiver, const struct frame *frame)
{
	struct session *session = receiver->session;
	struct arrival *arrival;
	struct wire_err wire;
	struct zh_error error;

	if (wire_parse_err(session->control.payload, frame->length, &wire) < 0)
		return proto(session, "malformed ERR");
	session_error_from_wire(&wire, &error);
	(void)pthread_mutex_lock(&session->lock);
	arrival = find(receiver, frame->id);
	(void)pthread_mutex_unlock(&session->lock);
	if (!arrival) /* a file that failed before it could be announced: it uses up its id */
		arrival = take_id(receiver, frame->id);
	if (!arrival)
		return proto(session, "ERR for a file that was not announced");
	return fail_file(receiver, arrival, &error, false);
}

static int receiver_frame(struct session *session, const struct frame *frame)
{
	struct receiver *receiver = session->role_state;
	struct arrival *arrival;

	if (frame->type == FRAME_FILE || frame->type == FRAME_ERR) {
		int r = frame->type == FRAME_FILE ? frame_file(receiver, frame)
						  : frame_err(receiver, frame);
		return r < 0 ? r : extend_credit(receiver);
	}
	(void)pthread_mutex_lock(&session->lock);
	arrival = find(receiver, frame->id);
	(void)pthread_mutex_unlock(&session->lock);
	if (!arrival || frame->type != FRAME_END)
		return proto(session, "a frame for a file that was not announced");
	return frame_end(receiver, arrival, frame);
}

/* The sender decides when a session is over. */
static int receiver_pump(struct session *session)
{
	(void)session;
	return 0;
}

static void receiver_wake(struct session *session)
{
	(void)session; /* streams wait on their sockets, and on abort_fd */
}

/* ------------------------------ a stream ----------------------------------------------- */

struct stream_work {
	struct receiver *receiver;
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
};

static bool leaf_is_had(const struct arrival *arrival, uint64_t leaf)
{
	return arrival->have[leaf / 8] & 1u << leaf % 8;
}

static void leaf_set_had(struct arrival *arrival, uint64_t leaf, bool had)
{
	if (had)
		arrival->have[leaf / 8] |= (uint8_t)(1u << leaf % 8);
	else
		arrival->have[leaf / 8] &= (uint8_t) ~(1u << leaf % 8);
}

/*
 * Checks a DATA head against its file and takes its leaves. NULL: it has no business here.
 * *ret_store false: the file has failed and the bytes are to be thrown away.
 */
static struct arrival *claim(struct receiver *receiver, const struct frame *data, bool *ret_store)
{
	struct session *session = receiver->session;
	uint64_t first = data->offset / LEAF_BYTES;
	uint64_t count = leaf_count(data->length);
	struct arrival *arrival;
	bool fits;

	(void)pthread_mutex_lock(&session->lock);
	arrival = find(receiver, data->id);
	fits = arrival &&
	       (arrival->state == ARRIVAL_RECEIVING || arrival->state == ARRIVAL_FAILED) &&
	       range_fits(data->offset, data->length, arrival->size) &&
	       ((data->offset + data->length) % LEAF_BYTES == 0 ||
		       data->offset + data->length == arrival->size);
	*ret_store = fits && arrival->state == ARRIVAL_RECEIVING;
	for (uint64_t i = 0; *ret_store && i < count; i++)
		if (leaf_is_had(arrival, first + i))
			fits = *ret_store = false; /* twice */
	for (uint64_t i = 0; *ret_store && i < count; i++)
		leaf_set_had(arrival, first + i, true);
	if (fits)
		arrival->users++;
	(void)pthread_mutex_unlock(&session->lock);
	return fits ? arrival : NULL;
}

/* frames of an arrival are over. */
static void release(
	struct receiver *receiver, struct arrival *arrival, uint32_t frames, uint64_t leaves)
{
	struct session *session = receiver->session;

	(void)pthread_mutex_lock(&session->lock);
	arrival->leaves_left -= leaves;
	arrival->users -= frames;
	struct partial unused = take_unused(arrival);
	queue_if_complete(receiver, arrival);
	(void)pthread_mutex_unlock(&session->lock);
	partial_discard(&receiver->staging, &unused);
}

/* Until the disk has all of the file in hand; then its leaves count. Fails the file, not the
 * session. */
static int settle(struct stream_work *work)
{
	struct receiver *receiver = work->receiver;
	struct session *session = receiver->session;
	struct zh_error error;
	int r;

	if (work->settling_frames == 0)
		return 0;
	r = channel_settle(work->channel);
	if (r < 0 && work->channel->failed != CHANNEL_END_FILE)
		return session_fail_link(session, r, "data connection");
	err_init(&error);
	if (r < 0) {
		(void)err_set(&error, err_of_destination(r), r, "write", "cannot write the file");
		if (fail_file(receiver, work->file, &error, true) < 0)
			return -ECANCELED;
	}
	release(receiver, work->file, work->settling_frames, work->settling_leaves);
	work->settling_leaves = work->settling_frames = 0;
	return extend_credit(receiver);
}

/* The next head. While none is there the disk is given time, then the peer. 1: the stream is over.
 */
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
		r = link_recv(work->link, ret_frame, -1);
		channel_note_wait(work->channel, CHANNEL_WAIT_DATA, clock_now_ns() - start);
	}
	if (r == -ECONNRESET) {
		r = settle(work);
		return r < 0 ? r
			     : 1; /* closed between frames; acknowledgements tell if too early */
	}
	if (r < 0)
		return session_fail_link(session, r, "data connection");
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
		r = channel_file(channel, arrival->partial.fd, &arrival->plan);
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

/* Reads the SUM that follows. *ret_void: the reason if the sender takes the frame back. */
static int take_sum(
	struct stream_work *work, const struct frame *data, bool digest, enum zh_outcome *ret_void)
{
	struct session *session = work->receiver->session;
	struct frame sum;
	size_t count = 0;
	int r = link_recv(work->link, &sum, (int)LIMIT_STALL_MS);

	*ret_void = ZH_OK;
	if (r < 0)
		return session_fail_link(session, r == -EAGAIN ? -ETIMEDOUT : r, "data connection");
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
	leaf_set_had(arrival, leaf, false);
	if (!arrival->resends)
		arrival->resends = calloc(1, leaf_count(arrival->size));
	if (arrival->resends)
		again = arrival->resends[leaf]++ < LIMIT_RESENDS;
	(void)pthread_mutex_unlock(&session->lock);
	if (again) {
		atomic_fetch_add(&session->resent_leaves, 1);
		return send_nak(work, arrival->id, leaf, index);
	}
	err_init(&error);
	error.offset = leaf * LEAF_BYTES;
	(void)err_set(&error, ZH_VERIFY, 0, "verify",
		"a leaf differs from what the sender read after %u re-sends", LIMIT_RESENDS);
	return fail_file(receiver, arrival, &error, true);
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

static int one_frame(struct stream_work *work, const struct frame *data)
{
	struct receiver *receiver = work->receiver;
	struct session *session = receiver->session;
	bool digest = session->setup.verify == ZH_VERIFY_FULL;
	enum zh_outcome voided;
	struct zh_error error;
	int file_error, r;
	bool store;

	if (work->file_id != data->id) {
		r = settle(work); /* leaves of the file before must not wait for this one */
		if (r < 0)
			return r;
	}
	struct arrival *arrival = claim(receiver, data, &store);
	if (!arrival)
		return session_failf(
			session, ZH_PROTO, 0, "data connection", "DATA for what was not asked for");
	r = take_data(work, arrival, data, store, digest, &file_error);
	if (r < 0)
		return session_fail_link(session, r, "data connection");
	atomic_fetch_add(&session->bytes_moved, data->length);
	r = take_sum(work, data, digest, &voided);
	if (r < 0)
		return r;
	err_init(&error);
	if (file_error < 0)
		(void)err_set(&error, err_of_destination(file_error), file_error, "write",
			"cannot write the file");
	else if (voided != ZH_OK)
		(void)err_set(&error, voided, 0, "receive", "the source failed while it was sent");
	if (store && file_error == 0 && voided == ZH_OK) {
		work->settling_frames++;
		return judge(work, arrival, data, digest);
	}
	if (err_is_set(&error) && fail_file(receiver, arrival, &error, file_error < 0) < 0)
		return -ECANCELED;
	release(receiver, arrival, 1, 0);
	return extend_credit(receiver);
}

static int receiver_stream(struct session *session, struct link *link, struct channel *channel)
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
		work->link = link;
		work->channel = channel;
		while (r == 0) {
			r = next_head(work, &frame);
			if (r == 0)
				r = one_frame(work, &frame);
		}
		channel->stats.digest_bytes += work->run.total + work->digester.run.total;
	}
	if (work) {
		leaf_run_fini(&work->run);
		digester_fini(&work->digester);
	}
	free(work);
	return r < 0 ? r : 0;
}

static const struct session_role_ops receiver_ops = {
	.frame = receiver_frame,
	.pump = receiver_pump,
	.stream = receiver_stream,
	.wake = receiver_wake,
};
