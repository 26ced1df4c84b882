/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sender.c - see sender.h.
 *
 * The control thread announces files (as many as may be open at once), and takes NEED, NAK, ACK and
 * ERR. Stream threads take work from the schedule, one DATA frame at a time. Whichever thread
 * settles the last byte that was asked for sends END. A source stays open until its
 * acknowledgement.
 */
#include "session/sender.h"

#include "base/clock.h"
#include "kernel/file.h"
#include "move/plan.h"
#include "session/schedule.h"
#include "store/digest.h"

#include <errno.h>

#define OPEN_MOST  64        /* files announced and not yet acknowledged */
#define DATA_BYTES (8 * MIB) /* of one DATA frame; a leaf's multiple */
#define LOOK_MS    1000      /* how often a stream without work looks at its connection */

struct departure {
	uint64_t id;
	enum departure_state state;
	struct source source;
	struct zh_plan *plan; /* goes with the source: files are many */
	char *path;
	char name[LIMIT_NAME_BYTES + 1];
	int dir; /* borrowed */
	int beneath;
	uint64_t unsent; /* bytes asked for and not yet settled */
	uint32_t frames; /* DATA frames being sent now */
	bool ending;     /* END is being sent, and the source looked at */
	struct leaf_sum sum;
	struct digest root; /* as in the last END */
	uint8_t *resends;   /* per leaf, made by the first NAK */
};

struct sender {
	struct session *session;
	pthread_cond_t work; /* with session->lock */
	struct schedule schedule;
	struct departure **file; /* by id - 1 */
	size_t count;
	size_t cap;
	size_t next;     /* to be announced */
	size_t open;     /* announced, not settled */
	size_t settled;  /* done or failed */
	uint64_t credit; /* ids below this may be used */
	bool no_more;
};

static const struct session_role_ops sender_ops;

int sender_new(struct session *session, struct sender **ret_sender)
{
	struct sender *sender = calloc(1, sizeof(*sender));
	pthread_condattr_t monotonic;

	if (!sender)
		return -ENOMEM;
	sender->session = session;
	sender->credit = LIMIT_OPEN_IDS; /* what every receiver gives to begin with */
	(void)pthread_condattr_init(&monotonic);
	(void)pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	(void)pthread_cond_init(&sender->work, &monotonic);
	(void)pthread_condattr_destroy(&monotonic);
	session->role = ROLE_SENDER;
	session->ops = &sender_ops;
	session->role_state = sender;
	*ret_sender = sender;
	return 0;
}

/* Lets go of what only a file that is being sent needs. */
static void departure_shed(struct departure *departure)
{
	source_close(&departure->source);
	free(departure->plan);
	free(departure->resends);
	departure->plan = NULL;
	departure->resends = NULL;
}

static void departure_free(struct departure *departure)
{
	departure_shed(departure);
	free(departure->path);
	free(departure);
}

void sender_free(struct sender *sender)
{
	if (!sender)
		return;
	for (size_t i = 0; i < sender->count; i++)
		departure_free(sender->file[i]);
	free(sender->file);
	schedule_fini(&sender->schedule);
	(void)pthread_cond_destroy(&sender->work);
	free(sender);
}

int sender_add(struct sender *sender, int dir, const char *path, int beneath, const char *name)
{
	struct departure *departure = calloc(1, sizeof(*departure));

	if (departure)
		departure->path = strdup(path);
	if (sender->count == sender->cap) {
		struct departure **grown =
			reallocarray(sender->file, sender->cap + 64, sizeof(struct departure *));
		if (grown) {
			sender->file = grown;
			sender->cap += 64;
		}
	}
	if (!departure || !departure->path || sender->count == sender->cap) {
		if (departure)
			free(departure->path);
		free(departure);
		return -ENOMEM;
	}
	departure->source.fd = -1;
	departure->dir = dir;
	departure->beneath = beneath;
	TEXT_SET(departure->name, name);
	sender->file[sender->count++] = departure;
	departure->id = sender->count;
	atomic_fetch_add(&sender->session->files_known, 1);
	return 0;
}

void sender_no_more(struct sender *sender)
{
	sender->no_more = true;
}

static void departure_advance(struct departure *departure, enum departure_state to)
{
	CHECK(departure_may_follow(departure->state, to));
	departure->state = to;
}

/* NULL: no such file was announced. Locked. */
static struct departure *find(struct sender *sender, uint64_t id)
{
	return id >= 1 && id <= sender->next ? sender->file[id - 1] : NULL;
}

static bool is_settled(const struct departure *departure)
{
	return departure->state == DEPARTURE_DONE || departure->state == DEPARTURE_FAILED;
}

/* Closes the source of a file that is over, once no thread uses it. Locked. */
static void shed_if_unused(struct departure *departure)
{
	if (is_settled(departure) && departure->frames == 0 && !departure->ending)
		departure_shed(departure);
}

/* The file is over. Locked. */
static void settle(struct sender *sender, struct departure *departure, enum departure_state to)
{
	departure_advance(departure, to);
	schedule_drop(&sender->schedule, departure->id);
	sender->settled++;
	sender->open--;
	shed_if_unused(departure);
}

/* Fails one file for the reason in error; tell: the receiver has to hear of it. */
static int fail_file(
	struct sender *sender, struct departure *departure, const struct zh_error *error, bool tell)
{
	struct session *session = sender->session;
	bool mine;

	(void)pthread_mutex_lock(&session->lock);
	mine = !is_settled(departure);
	if (mine)
		settle(sender, departure, DEPARTURE_FAILED);
	(void)pthread_mutex_unlock(&session->lock);
	if (!mine)
		return 0;
	session_file_failed(session, departure->name, strlen(departure->name), error);
	return tell ? session_send_err(session, departure->id, error) : 0;
}

/* ------------------------------ announcing --------------------------------------------- */

static int announce(struct sender *sender, struct departure *departure)
{
	struct session *session = sender->session;
	uint8_t bytes[512];
	struct wire_file file = {
		.size = departure->source.size,
		.mtime_s = departure->source.mtime_s,
		.mtime_ns = departure->source.mtime_ns,
		.mode = departure->source.mode,
		.name_length = (uint8_t)strlen(departure->name),
	};
	int length;

	TEXT_SET(file.name, departure->name);
	length = wire_build_file(&file, bytes, sizeof(bytes));
	CHECK(length > 0);
	struct frame frame = {
		.type = FRAME_FILE,
		.flags = session->no_clobber ? FILE_NO_CLOBBER : 0,
		.length = (uint32_t)length,
		.id = departure->id,
	};
	atomic_fetch_add(&session->bytes_known, departure->source.size);
	return session_send(session, &frame, bytes);
}

/* Opens, plans and announces the next file. One that cannot be opened fails and is not announced.
 */
static int announce_next(struct sender *sender)
{
	struct session *session = sender->session;
	struct departure *departure = sender->file[sender->next];
	struct zh_error error;
	int r;

	err_init(&error);
	r = source_open(
		departure->dir, departure->path, departure->beneath, &departure->source, &error);
	if (r == 0 && departure->source.size > LIMIT_FILE_BYTES)
		r = err_set(&error, ZH_LIMIT, EFBIG, "open source", "the file is too large");
	if (r == 0) {
		departure->plan = calloc(1, sizeof(*departure->plan));
		if (!departure->plan)
			r = err_set(&error, ZH_INTERNAL, ENOMEM, "plan", "no memory");
	}
	if (r == 0) {
		r = session_plan(
			session, departure->source.fd, departure->source.size, departure->plan);
		if (r < 0)
			(void)err_set(&error, r == -EINVAL ? ZH_CONFIG : ZH_SRC_IO, r, "plan",
				"the strategy cannot be used: %s", departure->plan->reason);
	}
	(void)pthread_mutex_lock(&session->lock);
	sender->next++;
	sender->open++;
	(void)pthread_mutex_unlock(&session->lock);
	if (r < 0)
		return fail_file(sender, departure, &error, true);
	return announce(sender, departure);
}

static int sender_pump(struct session *session)
{
	struct sender *sender = session->role_state;

	if (session->state != SESSION_OPEN)
		return 0;
	while (sender->next < sender->count && sender->next + 1 < sender->credit) {
		bool room;
		(void)pthread_mutex_lock(&session->lock);
		room = sender->open < OPEN_MOST;
		(void)pthread_mutex_unlock(&session->lock);
		if (!room)
			return 0;
		int r = announce_next(sender);
		if (r < 0)
			return r;
	}
	(void)pthread_mutex_lock(&session->lock);
	bool done = sender->no_more && sender->settled == sender->count;
	(void)pthread_mutex_unlock(&session->lock);
	return done;
}

/* ------------------------------ ending a file ------------------------------------------ */

static int fail_changed(struct sender *sender, struct departure *departure)
{
	struct zh_error error;

	err_init(&error);
	(void)err_set(&error, ZH_SRC_CHANGED, 0, "send", "the source changed while it was sent");
	return fail_file(sender, departure, &error, true);
}

/* The page cache is to be left as the file was found, or without it. */
static bool leaves_no_cache(const struct session *session, const struct departure *departure)
{
	return session->setup.cache == ZH_CACHE_DROP ||
	       (session->setup.cache == ZH_CACHE_AUTO &&
		       plan_is_large_and_cold(
			       departure->source.size, departure->plan->resident_permille));
}

static void note_cache(struct session *session, const struct departure *departure)
{
	uint64_t size = departure->source.size;

	session_note_cache(session,
		file_bytes_of_permille(size, departure->plan->resident_permille),
		file_leave(departure->source.fd, size, leaves_no_cache(session, departure)));
}

/* Tells the root, unless the source has changed under us. */
static int tell_end(struct sender *sender, struct departure *departure)
{
	struct session *session = sender->session;
	struct zh_error error;
	uint8_t bytes[64];
	int r = source_unchanged(&departure->source);

	if (r == -ESTALE)
		return fail_changed(sender, departure);
	if (r < 0) {
		err_init(&error);
		(void)err_set(&error, ZH_SRC_IO, r, "send", "the source cannot be examined");
		return fail_file(sender, departure, &error, true);
	}
	note_cache(session, departure);
	struct wire_end end = {
		.root = departure->root,
		.size = departure->source.size,
		.mtime_s = departure->source.mtime_s,
		.mtime_ns = departure->source.mtime_ns,
	};
	int length = wire_build_end(&end, bytes, sizeof(bytes));
	CHECK(length > 0);
	struct frame frame = { .type = FRAME_END, .length = (uint32_t)length, .id = departure->id };
	return session_send(session, &frame, bytes);
}

/*
 * All that was asked for is on its way: END, once, after end_is_due. What a NAK asks for after that
 * has to lead to the same root.
 */
static int send_end(struct sender *sender, struct departure *departure)
{
	struct session *session = sender->session;
	int r = tell_end(sender, departure);

	(void)pthread_mutex_lock(&session->lock);
	departure->ending = false;
	shed_if_unused(departure);
	(void)pthread_mutex_unlock(&session->lock);
	return r;
}

/* True when END is due; the state moves so that only one thread sends it. Locked. */
static bool end_is_due(struct departure *departure)
{
	if (departure->state != DEPARTURE_SENDING || departure->unsent > 0 || departure->frames > 0)
		return false;
	departure_advance(departure, DEPARTURE_ENDED);
	departure->ending = true;
	departure->root = leaf_root(&departure->sum, departure->source.size);
	return true;
}

/* A leaf that was sent again after END was read differently: END told of something else. Locked. */
static bool end_was_wrong(const struct departure *departure)
{
	struct digest root;

	if (departure->state != DEPARTURE_ENDED || departure->unsent > 0 || departure->frames > 0)
		return false;
	root = leaf_root(&departure->sum, departure->source.size);
	return !digest_equal(&root, &departure->root);
}

/* ------------------------------ a stream ----------------------------------------------- */

struct stream_work {
	struct sender *sender;
	struct link *link;
	struct channel *channel;
	struct digester digester;
	struct leaf_run run;
	struct digest digest[DATA_BYTES / LEAF_BYTES];
	uint64_t file_id; /* that the channel is turned to */
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

/* Waits for work. NULL: there will be none. */
static struct departure *take_work(struct stream_work *work, struct schedule_work *ret_piece)
{
	struct sender *sender = work->sender;
	struct session *session = sender->session;
	struct departure *departure = NULL;
	uint64_t start = clock_now_ns();
	bool lost = false, was_quiet = true;

	(void)pthread_mutex_lock(&session->lock);
	while (!session->aborted && !session->finishing && !departure && !lost) {
		if (schedule_next(&sender->schedule, DATA_BYTES, ret_piece)) {
			departure = find(sender, ret_piece->id);
			departure->frames++;
		} else {
			wait_for_work(sender);
			lost = connection_is_lost(work, &was_quiet);
		}
	}
	lost = lost && !session->aborted && !session->finishing;
	(void)pthread_mutex_unlock(&session->lock);
	if (lost)
		(void)session_fail_link(session, -ECONNRESET, "data connection");
	channel_note_idle(work->channel, clock_now_ns() - start);
	return departure;
}

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
	return link_send(work->link, &sum, bytes);
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
	if (file_error == 0 && leaves_no_cache(work->sender->session, departure))
		file_drop_behind(departure->source.fd, extent.offset);
	*ret_digests = !full ? 0 : sees ? leaf_run_end(&work->run) : leaf_count(extent.length);
	return send_sum(work, piece, *ret_digests, (enum zh_outcome)ret_source_error->outcome);
}

/* The account of a sent piece. Returns an error of the connection only. */
static int finish_piece(struct stream_work *work, struct departure *departure,
	const struct schedule_work *piece, size_t digests, const struct zh_error *source_error)
{
	struct sender *sender = work->sender;
	struct session *session = sender->session;
	bool due;

	(void)pthread_mutex_lock(&session->lock);
	departure->frames--;
	departure->unsent -= piece->extent.length;
	for (size_t i = 0; i < digests; i++)
		leaf_sum_add(
			&departure->sum, piece->extent.offset / LEAF_BYTES + i, &work->digest[i]);
	shed_if_unused(departure);
	due = !err_is_set(source_error) && end_is_due(departure);
	bool other = !err_is_set(source_error) && end_was_wrong(departure);
	(void)pthread_mutex_unlock(&session->lock);
	atomic_fetch_add(&session->bytes_moved, piece->extent.length);
	if (err_is_set(source_error))
		return fail_file(sender, departure, source_error, true);
	if (other)
		return fail_changed(sender, departure);
	return due ? send_end(sender, departure) : 0;
}

static int stream_loop(struct stream_work *work)
{
	struct session *session = work->sender->session;
	struct schedule_work piece;
	struct departure *departure;

	while ((departure = take_work(work, &piece))) {
		struct zh_error source_error;
		size_t digests = 0;
		int r;
		err_init(&source_error);
		r = send_piece(work, departure, &piece, &digests, &source_error);
		if (r < 0)
			return session_fail_link(session, r, "data connection");
		r = finish_piece(work, departure, &piece, digests, &source_error);
		if (r < 0)
			return r;
	}
	return 0;
}

static int sender_stream(struct session *session, struct link *link, struct channel *channel)
{
	struct stream_work *work = calloc(1, sizeof(*work));
	int r = work ? 0 : -ENOMEM;

	if (r == 0) {
		work->sender = session->role_state;
		work->link = link;
		work->channel = channel;
		r = digester_init(&work->digester);
		if (r == 0)
			r = leaf_run_init(&work->run);
		if (r == 0)
			r = stream_loop(work);
		else
			r = session_failf(session, ZH_INTERNAL, r, "data connection", "no memory");
		leaf_run_fini(&work->run);
		digester_fini(&work->digester);
		channel->stats.digest_bytes += work->run.total + work->digester.run.total;
	} else {
		r = session_failf(session, ZH_INTERNAL, r, "data connection", "no memory");
	}
	free(work);
	return r;
}

/* ------------------------------ frames ------------------------------------------------- */

static int proto(struct session *session, const char *what)
{
	return session_failf(session, ZH_PROTO, 0, "control connection", "%s", what);
}

static bool range_is_of_leaves(const struct zh_extent *range, uint64_t size)
{
	uint64_t end = range->offset + range->length; /* the parser has seen to overflow */

	return range->offset % LEAF_BYTES == 0 && end <= size &&
	       (end % LEAF_BYTES == 0 || end == size);
}

static int frame_need(struct sender *sender, struct departure *departure, const struct frame *frame)
{
	struct session *session = sender->session;
	struct zh_extent *range = calloc(WIRE_RANGES_MAX, sizeof(*range));
	size_t count = 0;
	bool due = false;
	int r = range ? 0 : -ENOMEM;

	if (r == 0)
		r = wire_parse_ranges(
			session->control.payload, frame->length, range, WIRE_RANGES_MAX, &count);
	(void)pthread_mutex_lock(&session->lock);
	if (r == 0 && departure->state == DEPARTURE_ANNOUNCED) {
		departure_advance(departure, DEPARTURE_SENDING);
		for (size_t i = 0; i < count && r == 0; i++) {
			if (!range_is_of_leaves(&range[i], departure->source.size))
				r = -EPROTO;
			else
				r = schedule_add(&sender->schedule, departure->id, range[i], false);
			departure->unsent += range[i].length;
		}
		due = r == 0 && end_is_due(departure);
		(void)pthread_cond_broadcast(&sender->work);
	} else if (r == 0 && departure->state != DEPARTURE_FAILED) {
		r = -EPROTO;
	}
	(void)pthread_mutex_unlock(&session->lock);
	free(range);
	if (r == -ENOMEM)
		return session_failf(session, ZH_INTERNAL, r, "NEED", "no memory");
	if (r < 0)
		return proto(session, "NEED asks for what is not there");
	return due ? send_end(sender, departure) : 0;
}

/* Counts a NAK of one leaf. -EPROTO: it has been re-sent often enough. */
static int count_nak(struct departure *departure, uint64_t leaf)
{
	if (!departure->resends)
		departure->resends = calloc(1, leaf_count(departure->source.size));
	if (!departure->resends)
		return -ENOMEM;
	return departure->resends[leaf]++ < LIMIT_RESENDS ? 0 : -EPROTO;
}

static int frame_nak(struct sender *sender, struct departure *departure, const struct frame *frame)
{
	struct session *session = sender->session;
	uint64_t size = departure->source.size;
	struct wire_nak nak;
	int r = 0;

	if (wire_parse_nak(session->control.payload, frame->length, &nak) < 0 ||
		frame->offset % LEAF_BYTES != 0 || frame->offset >= size)
		return proto(session, "NAK for what was not sent");
	struct zh_extent leaf = { frame->offset, min_u64(LEAF_BYTES, size - frame->offset) };
	(void)pthread_mutex_lock(&session->lock);
	if (departure->state == DEPARTURE_SENDING || departure->state == DEPARTURE_ENDED) {
		r = count_nak(departure, frame->offset / LEAF_BYTES);
		if (r == 0)
			r = schedule_add(&sender->schedule, departure->id, leaf, true);
		departure->unsent += leaf.length;
		leaf_sum_remove(&departure->sum, frame->offset / LEAF_BYTES, &nak.claimed);
		(void)pthread_cond_broadcast(&sender->work);
	} else if (departure->state != DEPARTURE_FAILED) {
		r = -EPROTO;
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (r == -ENOMEM)
		return session_failf(session, ZH_INTERNAL, r, "NAK", "no memory");
	if (r < 0)
		return proto(session, "a leaf is refused too often");
	atomic_fetch_add(&session->resent_leaves, 1);
	return 0;
}

static int frame_ack(struct sender *sender, struct departure *departure, const struct frame *frame)
{
	struct session *session = sender->session;
	bool durable = session->setup.durability == ZH_DURABLE_FULL;
	struct digest root;
	size_t count = 0;
	bool right, ended;

	if (wire_parse_digests(session->control.payload, frame->length, &root, 1, &count) < 0 ||
		count != 1)
		return proto(session, "malformed ACK");
	(void)pthread_mutex_lock(&session->lock);
	ended = departure->state == DEPARTURE_ENDED;
	right = ended && digest_equal(&root, &departure->root) &&
		(!durable || frame->flags & ACK_DURABLE);
	if (right)
		settle(sender, departure, DEPARTURE_DONE);
	(void)pthread_mutex_unlock(&session->lock);
	if (right)
		session_file_done(session, departure->source.size);
	return right ? 0
		     : proto(session, ended ? "ACK with another root or less than asked for"
					    : "ACK before END");
}

static int frame_err(struct sender *sender, struct departure *departure, const struct frame *frame)
{
	struct wire_err wire;
	struct zh_error error;

	if (wire_parse_err(sender->session->control.payload, frame->length, &wire) < 0)
		return proto(sender->session, "malformed ERR");
	session_error_from_wire(&wire, &error);
	return fail_file(sender, departure, &error, false);
}

static int frame_credit(struct sender *sender, const struct frame *frame)
{
	sender->credit = max_u64(sender->credit, frame->id); /* two threads may give in turn */
	return 0;
}

static int sender_frame(struct session *session, const struct frame *frame)
{
	struct sender *sender = session->role_state;
	struct departure *departure;

	if (frame->type == FRAME_CREDIT)
		return frame_credit(sender, frame);
	departure = find(sender, frame->id);
	if (!departure)
		return proto(session, "a frame for a file that was not announced");
	switch (frame->type) {
	case FRAME_NEED:
		return frame_need(sender, departure, frame);
	case FRAME_NAK:
		return frame_nak(sender, departure, frame);
	case FRAME_ACK:
		return frame_ack(sender, departure, frame);
	case FRAME_ERR:
		return frame_err(sender, departure, frame);
	default:
		return proto(session, "unexpected frame");
	}
}

static void sender_wake(struct session *session)
{
	struct sender *sender = session->role_state;

	(void)pthread_mutex_lock(&session->lock);
	(void)pthread_cond_broadcast(&sender->work);
	(void)pthread_mutex_unlock(&session->lock);
}

/* A receiver that ends before the sender does gives up what has not been acknowledged. */
static bool sender_settled(struct session *session)
{
	struct sender *sender = session->role_state;
	bool settled;

	(void)pthread_mutex_lock(&session->lock);
	settled = session->state < SESSION_OPEN || sender->settled == sender->count;
	(void)pthread_mutex_unlock(&session->lock);
	return settled;
}

static void sender_finish(struct session *session)
{
	(void)session; /* sources were closed as their files were settled */
}

static const struct session_role_ops sender_ops = {
	.frame = sender_frame,
	.pump = sender_pump,
	.stream = sender_stream,
	.wake = sender_wake,
	.settled = sender_settled,
	.finish = sender_finish,
};
