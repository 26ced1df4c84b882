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

#define LOST_MS LIMIT_PING_MS /* what else may come after a data connection was closed */

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
	receiver->placed = true;
	receiver->place_device = st.st_dev;
	receiver->place_inode = st.st_ino;
	TEXT_SET(receiver->only_name, only_name ? only_name : "");
	return 0;
}

int receiver_ask(struct receiver *receiver, const char *name, size_t length)
{
	char **grown;

	receiver->asks = true;
	if (!name)
		return 0;
	grown = reallocarray(receiver->asked, receiver->asked_count + 1, sizeof(char *));
	if (!grown)
		return -ENOMEM;
	receiver->asked = grown;
	grown[receiver->asked_count] = strndup(name, length);
	if (!grown[receiver->asked_count])
		return -ENOMEM;
	receiver->asked_count++;
	return 0;
}

static void arrival_free(struct receiver *receiver, struct arrival *arrival)
{
	if (!arrival)
		return;
	partial_discard(&receiver->staging, &arrival->partial);
	free(arrival->plan);
	free(arrival->have);
	free(arrival->resends);
	free(arrival);
}

/* Ends the committing thread; what is unfinished is discarded. */
static void receiver_clear(struct receiver *receiver)
{
	struct session *session = receiver->session;

	if (receiver->cleared)
		return;
	receiver->cleared = true;
	(void)pthread_mutex_lock(&session->lock);
	receiver->committer_ends = true;
	(void)pthread_cond_broadcast(&receiver->commit);
	(void)pthread_mutex_unlock(&session->lock);
	(void)pthread_join(receiver->committer, NULL);
	for (size_t i = 0; i < WINDOW; i++) {
		arrival_free(receiver, receiver->window[i]);
		receiver->window[i] = NULL;
	}
	staging_fini(&receiver->staging);
}

static void receiver_finish(struct session *session)
{
	receiver_clear(session->role_state);
}

void receiver_free(struct receiver *receiver)
{
	if (!receiver)
		return;
	receiver_clear(receiver);
	for (uint64_t i = 0; i < receiver->asked_count; i++)
		free(receiver->asked[i]);
	free(receiver->asked);
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
		.drop_cache = session->setup.cache == ZH_CACHE_DROP,
	};
	uint64_t start = clock_now_ns();
	int r;

	if (arrival->discard)
		return 0;
	r = commit_file(&receiver->staging, &arrival->partial, &commit, err);
	atomic_fetch_add(&session->disk_ns, clock_now_ns() - start);
	if (r == 0)
		session_note_cache(session, 0, arrival->partial.cached_bytes);
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
	arrival->plan = calloc(1, sizeof(*arrival->plan));
	arrival->have = calloc(1, leaves / 8 + 1);
	if (!arrival->plan || !arrival->have)
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
	r = session_plan(session, arrival->partial.fd, arrival->size, arrival->plan);
	if (r < 0)
		return err_set(err, r == -EINVAL ? ZH_CONFIG : ZH_DST_IO, r, "plan",
			"the receive strategy cannot be used: %s", arrival->plan->reason);
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
	old = receiver->window[id % WINDOW];
	/* Credit ends before an open file is reached, but DATA may still come for a failed one. */
	allowed = id == receiver->next_id && id < receiver->credit &&
		  (!old || arrival_is_over(old)) &&
		  (!receiver->asks || id <= receiver->asked_count);
	if (allowed) {
		receiver->window[id % WINDOW] = arrival;
		receiver->next_id++;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (!allowed) {
		free(arrival);
		return NULL;
	}
	arrival_free(receiver, old);
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
	if (!receiver->placed)
		return proto(session, "FILE without a place");
	arrival = take_id(receiver, frame->id);
	if (!arrival)
		return proto(session, "FILE with an id out of order or beyond the credit");
	err_init(&error);
	if (parsed == -ERANGE)
		(void)err_set(&error, ZH_LIMIT, EFBIG, "announce", "the file is too large");
	else if (parsed < 0)
		(void)err_set(&error, ZH_UNSAFE_NAME, 0, "announce", "a name that cannot be");
	else if (receiver->asks && strcmp(file.name, receiver->asked[frame->id - 1]) != 0)
		(void)err_set(&error, ZH_UNSAFE_NAME, 0, "announce",
			"the server sends another name than was asked for");
	if (err_is_set(&error))
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
		end.mtime_ns == arrival->mtime_ns && !arrival->end_seen &&
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

/* Every file that was announced has arrived or failed. */
static bool receiver_settled(struct session *session)
{
	const struct receiver *receiver = session->role_state;
	bool settled = true;

	(void)pthread_mutex_lock(&session->lock);
	for (uint64_t id = receiver->low_id; id < receiver->next_id && settled; id++) {
		const struct arrival *arrival = arrival_find(receiver, id);
		settled = !arrival || arrival_is_finished(arrival);
	}
	(void)pthread_mutex_unlock(&session->lock);
	return settled;
}

/*
 * The sender decides when a session is over. It closes its data connections when every file is
 * settled; one that was cut between two frames looks the same, but then files stay open.
 */
static int receiver_pump(struct session *session)
{
	const struct receiver *receiver = session->role_state;
	uint64_t lost_ns = atomic_load(&receiver->lost_ns);

	if (lost_ns == 0 || clock_now_ns() - lost_ns < (uint64_t)LOST_MS * NS_PER_MS ||
		receiver_settled(session))
		return 0;
	return session_failf(session, ZH_NET, 0, "data connection",
		"a data connection was closed before every file had arrived");
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
	.settled = receiver_settled,
	.finish = receiver_finish,
};
