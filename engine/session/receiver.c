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
#include "session/arrival.h"
#include "store/commit.h"
#include "store/root.h"

#include <errno.h>
#include <stdio.h>

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

/* ------------------------------ committing --------------------------------------------- */

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
		return arrival_fail(receiver, arrival, &error, true);
	}
	if (commit_one(receiver, arrival, &error) < 0)
		return arrival_fail(receiver, arrival, &error, true);
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
		struct partial unused = arrival_take_unused(arrival);
		(void)pthread_mutex_unlock(&session->lock);
		partial_discard(&receiver->staging, &unused);
		if (!aborted)
			IGNORE(receiver_extend_credit(receiver)); /* likewise */
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
		const struct arrival *other = arrival_find(receiver, id);
		open = other && !arrival_is_finished(other) &&
		       strcmp(other->name, arrival->name) == 0;
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
		CHECK(!old || arrival_is_over(old)); /* credit ends before an open one is reached */
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
		return arrival_fail(receiver, arrival, &error, true);
	TEXT_SET(arrival->name, receiver->only_name[0] ? receiver->only_name : file.name);
	arrival->size = file.size;
	arrival->mode = file.mode;
	arrival->mtime_s = file.mtime_s;
	arrival->mtime_ns = file.mtime_ns;
	arrival->no_clobber = session->no_clobber || frame->flags & FILE_NO_CLOBBER;
	atomic_fetch_add(&session->bytes_known, file.size);
	if (prepare(receiver, arrival, &error) < 0)
		return arrival_fail(receiver, arrival, &error, true);
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
		arrival_queue_if_complete(receiver, arrival);
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
	arrival = arrival_find(receiver, frame->id);
	(void)pthread_mutex_unlock(&session->lock);
	if (!arrival) /* a file that failed before it could be announced: it uses up its id
		       */
		arrival = take_id(receiver, frame->id);
	if (!arrival)
		return proto(session, "ERR for a file that was not announced");
	return arrival_fail(receiver, arrival, &error, false);
}

static int receiver_frame(struct session *session, const struct frame *frame)
{
	struct receiver *receiver = session->role_state;
	struct arrival *arrival;

	if (frame->type == FRAME_FILE || frame->type == FRAME_ERR) {
		int r = frame->type == FRAME_FILE ? frame_file(receiver, frame)
						  : frame_err(receiver, frame);
		return r < 0 ? r : receiver_extend_credit(receiver);
	}
	(void)pthread_mutex_lock(&session->lock);
	arrival = arrival_find(receiver, frame->id);
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

static const struct session_role_ops receiver_ops = {
	.frame = receiver_frame,
	.pump = receiver_pump,
	.stream = receive_stream,
	.wake = receiver_wake,
};
