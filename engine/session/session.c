/* SPDX-License-Identifier: Apache-2.0 */
/* session.c - see session.h. */
#include "session/session.h"

#include "base/clock.h"
#include "base/stats.h"
#include "kernel/file.h"
#include "kernel/probe.h"
#include "kernel/sock.h"
#include "move/plan.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>

#define FAILURES_KEPT 10000

/* Even an idle peer has answered a PING by then. */
#define SILENT_MS (LIMIT_PING_MS + LIMIT_PING_MS / 2)

/*
 * A role that is full has no frame read for so long. Then what has come is read nevertheless: a
 * frame that the peer cannot be rid of within LIMIT_STALL_MS ends the session.
 */
#define FULL_MS (2 * LIMIT_PING_MS)

/* Memory for blocks in flight, whatever a peer asks for: so much in all and for each stream. */
#define BUFFERS_SHARED     (48 * MIB)
#define BUFFERS_PER_STREAM (4 * MIB)

int session_init(struct session *session, enum session_end end, int fd)
{
	int r;

	memset(session, 0, sizeof(*session));
	err_init(&session->error);
	session->end = end;
	session->log_fd = -1;
	session->control.fd = -1;
	(void)pthread_mutex_init(&session->send_lock, NULL);
	(void)pthread_mutex_init(&session->list_lock, NULL);
	(void)pthread_mutex_init(&session->lock, NULL);
	session->abort_fd = sys_eventfd();
	session->nudge_fd = session->abort_fd < 0 ? session->abort_fd : sys_eventfd();
	session->finish_fd = session->nudge_fd < 0 ? session->nudge_fd : sys_eventfd();
	for (uint32_t i = 0; i < LIMIT_STREAMS; i++)
		session->stream[i].live_fd = -1;
	if (session->finish_fd < 0) {
		sys_close(fd);
		return session->finish_fd;
	}
	r = link_init(&session->control, fd, session->abort_fd);
	if (r < 0)
		return r;
	IGNORE(sock_set_nodelay(fd)); /* its frames are small, and somebody waits for each */
	sock_peer_text(fd, session->peer, sizeof(session->peer));
	sock_facts(fd, &session->route);
	return 0;
}

void session_fini(struct session *session)
{
	link_fini(&session->control);
	sys_close(session->abort_fd);
	sys_close(session->nudge_fd);
	sys_close(session->finish_fd);
	auth_wipe(&session->handshake.secret, sizeof(session->handshake.secret));
	free(session->failure);
	(void)pthread_mutex_destroy(&session->send_lock);
	(void)pthread_mutex_destroy(&session->list_lock);
	(void)pthread_mutex_destroy(&session->lock);
}

static void session_wake_all(struct session *session)
{
	sys_eventfd_signal(session->abort_fd);
	sys_eventfd_signal(session->finish_fd);
	if (session->ops)
		session->ops->wake(session);
}

int session_fail(struct session *session, const struct zh_error *error)
{
	bool first;

	(void)pthread_mutex_lock(&session->lock);
	first = !session->aborted;
	session->aborted = true;
	if (!err_is_set(&session->error)) {
		session->error = *error;
		if (!session->error.peer[0])
			TEXT_SET(session->error.peer, session->peer);
	}
	(void)pthread_mutex_unlock(&session->lock);
	if (first)
		session_wake_all(session);
	return -ECANCELED;
}

int session_failf(struct session *session, enum zh_outcome outcome, int errnum, const char *stage,
	const char *format, ...)
{
	struct zh_error error;
	char text[sizeof(error.text)];
	va_list arguments;

	err_init(&error);
	va_start(arguments, format);
	(void)vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	(void)err_set(&error, outcome, errnum, stage, "%s", text);
	return session_fail(session, &error);
}

int session_fail_link(struct session *session, int r, const char *what)
{
	uint64_t heard_ns = atomic_load(&session->heard_ns);

	if (r == -ECANCELED && atomic_load(&session->cancelled))
		return session_failf(session, ZH_CANCELLED, 0, what, "cancelled");
	/* It gave us up first, for the same reason. */
	if (err_of_socket(r) == ZH_NET && heard_ns &&
		clock_now_ns() - heard_ns >= (uint64_t)SILENT_MS * NS_PER_MS)
		return session_failf(session, ZH_TIMEOUT, r, what,
			"the peer had been silent for long when the connection broke");
	return session_failf(session, err_of_socket(r), r, what, "%s",
		r == -ECONNRESET ? "the peer closed the connection" : "the connection broke");
}

void session_cancel(struct session *session)
{
	atomic_store(&session->cancelled, true);
	sys_eventfd_signal(session->abort_fd);
	sys_eventfd_signal(session->finish_fd);
}

int session_send(struct session *session, const struct frame *frame, const void *payload)
{
	int r;

	(void)pthread_mutex_lock(&session->send_lock);
	r = link_send(&session->control, frame, payload);
	(void)pthread_mutex_unlock(&session->send_lock);
	return r < 0 ? session_fail_link(session, r, "control connection") : 0;
}

static int send_err(struct session *session, struct frame *frame, const struct zh_error *error)
{
	uint8_t bytes[512];
	struct wire_err wire = {
		.outcome = (uint16_t)error->outcome,
		.errnum = (uint16_t)error->errnum,
	};
	int length;

	TEXT_SET(wire.stage, error->stage);
	TEXT_SET(wire.text, error->text);
	length = wire_build_err(&wire, bytes, sizeof(bytes));
	CHECK(length > 0);
	frame->type = FRAME_ERR;
	frame->length = (uint32_t)length;
	return session_send(session, frame, bytes);
}

int session_send_err(
	struct session *session, uint64_t id, uint64_t offset, const struct zh_error *error)
{
	struct frame frame = { .id = id, .offset = offset };
	return send_err(session, &frame, error);
}

int session_send_dir_err(struct session *session, uint64_t id, const struct zh_error *error)
{
	struct frame frame = { .id = id, .flags = ERR_DIRECTORY };
	return send_err(session, &frame, error);
}

void session_error_from_wire(const struct wire_err *wire, struct zh_error *ret_error)
{
	err_init(ret_error);
	ret_error->outcome = wire->outcome;
	ret_error->errnum = wire->errnum;
	ret_error->at_peer = 1;
	TEXT_SET(ret_error->stage, wire->stage);
	TEXT_SET(ret_error->text, wire->text);
}

void session_nudge(struct session *session)
{
	sys_eventfd_signal(session->nudge_fd);
}

void session_note_data(struct session *session)
{
	uint64_t none = 0;

	if (atomic_load(&session->data_ns) == 0)
		(void)atomic_compare_exchange_strong(&session->data_ns, &none, clock_now_ns());
}

void session_count(struct session *session, const struct session_tally *tally)
{
	atomic_fetch_add(&session->files_done, tally->files);
	atomic_fetch_add(&session->files_skipped, tally->there);
	(void)pthread_mutex_lock(&session->lock);
	session->done_bytes += tally->bytes;
	session->skipped_bytes += tally->there_bytes;
	session->done_ns = clock_now_ns();
	(void)pthread_mutex_unlock(&session->lock);
}

void session_list_lacking(struct session *session, const char *path, uint64_t bytes, bool link)
{
	struct zh_listed listed = {
		.size = sizeof(listed),
		.link = link,
		.bytes = bytes,
		.path = path,
	};

	if (!session->list)
		return;
	(void)pthread_mutex_lock(&session->list_lock);
	session->list(session->list_context, &listed);
	(void)pthread_mutex_unlock(&session->list_lock);
}

/* A peer can make files fail as fast as it likes; the sum is told at the end. */
static bool may_log_file(struct session *session)
{
	uint64_t second = clock_now_ns() / NS_PER_S;
	bool may;

	(void)pthread_mutex_lock(&session->lock);
	if (second != session->log_second) {
		session->log_second = second;
		session->log_lines = 0;
	}
	may = session->log_lines++ < LIMIT_LOG_LINES_PER_S;
	(void)pthread_mutex_unlock(&session->lock);
	return may;
}

/* Under lock. Without memory, or beyond what is kept, the count alone tells. */
static void keep_failure(struct session *session, const struct zh_failure *failure)
{
	size_t cap = session->failure_cap;

	if (session->failure_count == cap && cap < FAILURES_KEPT) {
		struct zh_failure *grown;
		cap = cap ? min_size(2 * cap, FAILURES_KEPT) : 16;
		grown = reallocarray(session->failure, cap, sizeof(*grown));
		if (!grown)
			return;
		session->failure = grown;
		session->failure_cap = cap;
	}
	if (session->failure_count < cap)
		session->failure[session->failure_count++] = *failure;
}

void session_file_failed(
	struct session *session, const char *name, size_t name_length, const struct zh_error *error)
{
	struct zh_failure failure = { .size = sizeof(failure), .error = *error };

	err_file(&failure.error, name, name_length, error->offset);
	atomic_fetch_add(&session->files_failed, 1);
	if (may_log_file(session))
		session_log(session, "%s failed: %s (%s, %s)",
			failure.error.file[0] ? failure.error.file : "a file", failure.error.text,
			zh_outcome_name(failure.error.outcome),
			failure.error.at_peer ? "said by the peer" : "here");
	(void)pthread_mutex_lock(&session->lock);
	keep_failure(session, &failure);
	(void)pthread_mutex_unlock(&session->lock);
}

void session_list_file(struct session *session, const char *path, uint64_t size, uint32_t mode,
	int64_t mtime_s, uint32_t mtime_ns, const struct digest *root)
{
	struct manifest_entry entry = {
		.kind = MANIFEST_FILE,
		.mode = mode & 07777,
		.size = size,
		.root = *root,
		.mtime_s = mtime_s,
		.mtime_ns = mtime_ns,
		.path = path,
		.path_bytes = strlen(path),
	};

	if (session->manifest)
		manifest_add(session->manifest, &entry);
}

void session_list_member(struct session *session, const char *path,
	const struct wire_member *member, const struct digest *digest)
{
	struct leaf_sum sum = { 0 };
	struct digest root;

	if (member->size > 0)
		leaf_sum_add(&sum, 0, digest);
	root = leaf_root(&sum, member->size);
	session_list_file(session, path, member->size, member->mode, member->mtime_s,
		member->mtime_ns, &root);
}

void session_list_link(
	struct session *session, const char *path, const void *target, size_t target_bytes)
{
	struct manifest_entry entry = {
		.kind = MANIFEST_LINK,
		.path = path,
		.path_bytes = strlen(path),
		.target = target,
		.target_bytes = target_bytes,
	};

	if (session->manifest)
		manifest_add(session->manifest, &entry);
}

void session_list_directory(struct session *session, const char *path, uint32_t mode)
{
	struct manifest_entry entry = {
		.kind = MANIFEST_DIRECTORY,
		.mode = mode & 07777,
		.path = path,
		.path_bytes = strlen(path),
	};

	if (session->manifest && path[0] != '\0')
		manifest_add(session->manifest, &entry);
}

void session_note_cache(struct session *session, uint64_t before_bytes, uint64_t after_bytes)
{
	(void)pthread_mutex_lock(&session->lock);
	session->mine.cached_before_bytes += before_bytes;
	session->mine.cached_after_bytes += after_bytes;
	(void)pthread_mutex_unlock(&session->lock);
}

void session_keep_plan(struct session *session, const struct zh_plan *plan, uint64_t size)
{
	(void)pthread_mutex_lock(&session->lock);
	if (!session->plan.strategy[0] || size > session->plan_size) {
		session->plan = *plan;
		session->plan_size = size;
	}
	(void)pthread_mutex_unlock(&session->lock);
}

bool session_discards(const struct session *session)
{
	return session->role == ROLE_RECEIVER && strcmp(session->strategy, "discard") == 0;
}

int session_plan(struct session *session, int file, uint64_t size, struct zh_plan *ret_plan)
{
	struct facts facts = {
		.side = session->role == ROLE_SENDER ? ZH_SEND : ZH_RECEIVE,
		.extent = { 0, size },
		.sock = session->route,
		/* what is thrown away is to cost nothing, whatever the sender is asked for */
		.chunk_bytes = session_discards(session) ? 0 : session->setup.chunk_bytes,
		.no_fallback = session->setup.no_fallback,
		.calibrate = session->calibrate,
		.cache = (enum zh_cache)session->setup.cache,
	};
	uint64_t most;
	int r = file >= 0 ? file_facts(file, facts.extent, &facts.file) : 0;

	if (r < 0)
		return r;
	probe_host(&facts.host);
	TEXT_SET(facts.strategy, session->strategy);
	r = plan_make(&facts, ret_plan);
	most = BUFFERS_SHARED / session->setup.streams + BUFFERS_PER_STREAM;
	if (r == 0 && (uint64_t)ret_plan->depth * ret_plan->chunk_bytes > most) {
		facts.chunk_bytes = (uint32_t)min_u64(
			ret_plan->chunk_bytes, ret_plan->depth > 1 ? most / 2 : most);
		facts.depth = (uint32_t)(most / facts.chunk_bytes);
		r = plan_make(&facts, ret_plan);
	}
	if (r == 0)
		session_keep_plan(session, ret_plan, size);
	return r;
}

/* ------------------------------ control thread ----------------------------------------- */

static int frame_ping(struct session *session, const struct frame *frame)
{
	struct frame pong = { .type = FRAME_PONG, .id = frame->id };
	return session_send(session, &pong, NULL);
}

int session_heard_err(struct session *session, const struct frame *frame)
{
	struct wire_err wire;
	struct zh_error error;

	if (wire_parse_err(session->control.payload, frame->length, &wire) < 0)
		return session_failf(session, ZH_PROTO, 0, "ERR", "malformed");
	session_error_from_wire(&wire, &error);
	return session_fail(session, &error);
}

static int frame_bye(struct session *session, const struct frame *frame)
{
	struct zh_side_report report;

	if (wire_parse_bye(session->control.payload, frame->length, &report) < 0)
		return session_failf(session, ZH_PROTO, 0, "BYE", "malformed");
	if (!session->ops->settled(session))
		return session_failf(session, ZH_PROTO, 0, "BYE", "not every file was settled");
	(void)pthread_mutex_lock(&session->lock);
	session->theirs = report;
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

static int send_bye(struct session *session)
{
	uint8_t bytes[WIRE_BYE_BYTES];
	int length;

	session_join_streams(session);
	session->ops->finish(session);
	(void)pthread_mutex_lock(&session->lock);
	bool aborted = session->aborted;
	(void)pthread_mutex_unlock(&session->lock);
	if (aborted) /* ERR says why; a BYE would say that all is well */
		return -ECANCELED;
	session_end_report(session);
	length = wire_build_bye(&session->mine, bytes, sizeof(bytes));
	CHECK(length > 0);
	struct frame bye = { .type = FRAME_BYE, .length = (uint32_t)length };
	return session_send(session, &bye, bytes);
}

int session_heard_bye(struct session *session, const struct frame *frame)
{
	int r = frame_bye(session, frame);

	if (r < 0)
		return r;
	session->state = SESSION_CLOSED;
	return send_bye(session);
}

static int dispatch(struct session *session, const struct frame *frame, bool *ret_bye)
{
	if (!session_may_receive(
		    session->end, session->role, session->state, (enum frame_type)frame->type))
		return session_failf(session, ZH_PROTO, 0, "control connection",
			"%s is not expected now", wire_name(frame->type));
	switch (frame->type) {
	case FRAME_PING:
		return frame_ping(session, frame);
	case FRAME_PONG:
		return 0;
	case FRAME_BYE:
		*ret_bye = true;
		return frame_bye(session, frame);
	case FRAME_ERR:
		if (frame->id == 0 && !(frame->flags & ERR_DIRECTORY))
			return session_heard_err(session, frame);
		return session->ops->frame(session, frame);
	default:
		return session->ops->frame(session, frame);
	}
}

/* Whether frames are read now, or left where they are. */
static bool reads_frames(struct session *session, uint64_t silent_ms)
{
	uint64_t now_ns = clock_now_ns();

	if (session->ops->backlog(session) != BACKLOG_FULL) {
		session->full_ns = 0;
		return true;
	}
	if (session->full_ns == 0)
		session->full_ns = now_ns;
	return silent_ms >= FULL_MS || now_ns - session->full_ns >= FULL_MS * NS_PER_MS;
}

/* Waits for one frame while looking after the extra descriptor and liveness. -EAGAIN: go round. */
static int receive_one(struct session *session, struct frame *ret_frame, int extra_fd,
	int (*on_extra)(struct session *session, int extra_fd))
{
	uint64_t silent_ms = (clock_now_ns() - atomic_load(&session->heard_ns)) / NS_PER_MS;
	bool reads = reads_frames(session, silent_ms);
	struct pollfd set[] = {
		/* a peer that has gone is noticed, whatever it has said before */
		{ .fd = session->control.fd, .events = reads ? POLLIN : POLLRDHUP },
		{ .fd = session->abort_fd, .events = POLLIN },
		{ .fd = extra_fd, .events = POLLIN },
		{ .fd = session->nudge_fd, .events = POLLIN },
	};
	int wait_ms = streams_wait_ms(session);
	uint64_t nudges;
	int r;

	/* What came while this thread was busy has been heard in time. */
	r = sys_poll(set, ARRAY_LEN(set), silent_ms >= LIMIT_IDLE_MS ? 0 : wait_ms);
	if (r < 0)
		return r == -EINTR ? -EAGAIN : r;
	if (silent_ms >= LIMIT_IDLE_MS && !set[0].revents && !set[1].revents)
		return -ETIMEDOUT;
	if (reads && !set[0].revents)
		session->full_ns = 0; /* all has been read that had come */
	if (set[1].revents)
		return -ECANCELED;
	if (set[2].revents) {
		r = on_extra(session, extra_fd);
		return r < 0 ? r : -EAGAIN;
	}
	if (set[3].revents) {
		IGNORE(sys_read(session->nudge_fd, &nudges, sizeof(nudges))); /* only a reminder */
		if (!set[0].revents)
			return -EAGAIN;
	}
	if (r == 0 && wait_ms < (int)LIMIT_PING_MS && silent_ms < LIMIT_PING_MS)
		return -EAGAIN;
	if (r == 0) {
		struct frame ping = { .type = FRAME_PING };
		r = session_send(session, &ping, NULL);
		return r < 0 ? r : -EAGAIN;
	}
	r = link_recv(&session->control, ret_frame, 0);
	if (r == 0)
		atomic_store(&session->heard_ns, clock_now_ns());
	return r;
}

static int control_loop(struct session *session, int extra_fd,
	int (*on_extra)(struct session *session, int extra_fd))
{
	bool said_bye = false, heard_bye = false;
	struct frame frame;
	int r;

	atomic_store(&session->heard_ns, clock_now_ns());
	while (!(said_bye && heard_bye)) {
		r = said_bye ? 0 : session->ops->pump(session);
		if (r == 0 && !said_bye && !heard_bye)
			r = streams_tend(session);
		if (r < 0)
			return r;
		if (r == 1 || (heard_bye && session->ops->backlog(session) == BACKLOG_NONE)) {
			session->state = SESSION_CLOSING;
			said_bye = true;
			r = send_bye(session);
			if (r < 0)
				return r;
			continue;
		}
		r = receive_one(session, &frame, extra_fd, on_extra);
		if (r == -EAGAIN)
			continue;
		if (r < 0)
			return session_fail_link(session, r, "control connection");
		r = dispatch(session, &frame, &heard_bye);
		if (r < 0)
			return r;
		if (heard_bye && !said_bye && session->state != SESSION_SETTLING) {
			session->state = SESSION_SETTLING;
			session_join_streams(session);
		}
	}
	session->state = SESSION_CLOSED;
	return 0;
}

int session_run(struct session *session, int extra_fd,
	int (*on_extra)(struct session *session, int extra_fd))
{
	int r = control_loop(session, extra_fd, on_extra);

	if (r < 0 && session->control.mac_out) {
		/* The peer hears why, unless it told us. */
		if (!session->error.at_peer)
			IGNORE(session_send_err(session, 0, 0, &session->error));
	}
	session_join_streams(session);
	if (r < 0) /* what its threads do until they have ended is in the report */
		session->ops->finish(session);
	session_end_report(session);
	return r;
}

/* ------------------------------ the account -------------------------------------------- */

static uint64_t time_ns(struct timeval t)
{
	return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_usec * 1000;
}

static void read_usage(struct zh_side_report *ret_report)
{
	struct rusage usage = { 0 };

	(void)getrusage(RUSAGE_SELF, &usage); /* cannot fail for SELF */
	ret_report->cpu_user_ns = time_ns(usage.ru_utime);
	ret_report->cpu_sys_ns = time_ns(usage.ru_stime);
	ret_report->max_rss_bytes = (uint64_t)usage.ru_maxrss * 1024;
	ret_report->voluntary_switches = (uint64_t)usage.ru_nvcsw;
	ret_report->involuntary_switches = (uint64_t)usage.ru_nivcsw;
}

void session_begin_report(struct session *session)
{
	session->started_ns = clock_now_ns();
	read_usage(&session->mine);
}

void session_end_report(struct session *session)
{
	struct zh_side_report now = { 0 };
	struct zh_side_report *mine = &session->mine;

	if (mine->valid)
		return;
	read_usage(&now);
	mine->cpu_user_ns = now.cpu_user_ns - mine->cpu_user_ns;
	mine->cpu_sys_ns = now.cpu_sys_ns - mine->cpu_sys_ns;
	mine->voluntary_switches = now.voluntary_switches - mine->voluntary_switches;
	mine->involuntary_switches = now.involuntary_switches - mine->involuntary_switches;
	mine->max_rss_bytes = now.max_rss_bytes;
	mine->disk_ns = atomic_load(&session->disk_ns);
	mine->hard_links = atomic_load(&session->hard_links);
	mine->links_skipped = atomic_load(&session->links_skipped);
	mine->special_skipped = atomic_load(&session->special_skipped);
	mine->directories_made = atomic_load(&session->dirs_made);
	mine->deleted = atomic_load(&session->deleted);
	mine->valid = 1;
}

void session_log(const struct session *session, const char *format, ...)
{
	char line[1024];
	va_list arguments;
	int used;

	if (session->log_fd < 0)
		return;
	used = snprintf(line, sizeof(line), "%s: ", session->peer);
	va_start(arguments, format);
	used += vsnprintf(line + used, sizeof(line) - (size_t)used - 1, format, arguments);
	va_end(arguments);
	used = (int)min_u64((uint64_t)used, sizeof(line) - 2);
	line[used++] = '\n';
	IGNORE(sys_write(
		session->log_fd, line, (size_t)used)); /* a full log loses lines, not files */
}
