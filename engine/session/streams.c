/* SPDX-License-Identifier: Apache-2.0 */
/*
 * streams.c - the data connections of a session: a thread each, their handshakes, and what becomes
 * of one that is lost. The control thread tends them; a client opens lost ones again, with longer
 * and longer pauses as long as nothing comes of it.
 */
#include "session/session.h"

#include "base/clock.h"
#include "base/stats.h"
#include "kernel/sock.h"

#include <errno.h>

#define ATTEMPTS_MOST  10u /* in a row without progress */
#define PAUSE_MS_FIRST 200u
#define PAUSE_MS_MOST  5000u

/* ------------------------------ one thread --------------------------------------------- */

static int stream_handshake(struct session_stream *stream, struct link *link, struct zh_error *err)
{
	const struct session *session = stream->session;
	struct handshake handshake = {
		.kind = HELLO_DATA,
		.auth = session->handshake.auth,
		.intent = session->handshake.intent,
		.data_index = stream->index,
		.secret = session->handshake.secret,
	};
	int r;

	memcpy(handshake.session, session->handshake.session, sizeof(handshake.session));
	r = stream->passed ? handshake_accept(link, &handshake, stream->hello.bytes,
				     stream->hello.deadline_ns, err)
			   : handshake_connect(link, &handshake, err);
	auth_wipe(&handshake.secret, sizeof(handshake.secret));
	return r;
}

static void stream_account(struct session *session, struct channel *channel)
{
	struct zh_stats stats;

	channel_stats(channel, &stats);
	(void)pthread_mutex_lock(&session->lock);
	stats_add(&session->mine.stats, &stats);
	(void)pthread_mutex_unlock(&session->lock);
}

static void note_lost(struct session *session, const struct zh_error *error)
{
	(void)pthread_mutex_lock(&session->lock);
	session->stream_error = *error;
	if (session->streams_live == 0 && session->streamless_ns == 0)
		session->streamless_ns = clock_now_ns();
	(void)pthread_mutex_unlock(&session->lock);
}

int session_stream_broke(struct session *session, int r)
{
	enum zh_outcome outcome = err_of_socket(r);
	struct zh_error error;

	if (outcome != ZH_NET && outcome != ZH_TIMEOUT)
		return session_fail_link(session, r, "data connection");
	err_init(&error);
	(void)err_set(&error, outcome, r, "data connection",
		r == -ECONNRESET ? "the peer closed the connection" : "the connection broke");
	(void)pthread_mutex_lock(&session->lock);
	session->stream_error = error;
	(void)pthread_mutex_unlock(&session->lock);
	return 1;
}

static void stream_has_socket(struct session_stream *stream, int fd)
{
	struct session *session = stream->session;

	(void)pthread_mutex_lock(&session->lock);
	stream->live_fd = fd;
	if (stream->heard > stream->said) /* it is over at the peer already */
		IGNORE(sys_shutdown(fd, SHUT_RDWR));
	(void)pthread_mutex_unlock(&session->lock);
}

static void stream_begins(struct session_stream *stream)
{
	struct session *session = stream->session;

	(void)pthread_mutex_lock(&session->lock);
	stream->running = stream->worked = true;
	session->streams_live++;
	session->streamless_ns = 0;
	(void)pthread_mutex_unlock(&session->lock);
}

/*
 * The thread has done with its connection. broke: before its time, which the peer has to hear.
 * What a receiver has it need not ask for: then the end is that of the session, or the sender
 * notices.
 */
static void stream_ends(struct session_stream *stream, bool broke)
{
	struct session *session = stream->session;
	bool needless = session->role == ROLE_RECEIVER && session->ops->settled(session);
	uint64_t frames;

	(void)pthread_mutex_lock(&session->lock);
	if (stream->running && --session->streams_live == 0)
		session->streamless_ns = clock_now_ns();
	stream->running = false;
	stream->live_fd = -1;
	frames = stream->frames;
	stream->progressed |= frames > 0;
	/* what was heard already has to be answered, needed or not */
	bool tell = !session->finishing && !session->aborted &&
		    ((broke && !needless) || stream->heard > stream->said);
	if (tell)
		stream->said++;
	stream->told = true;
	stream->frames = 0;
	(void)pthread_mutex_unlock(&session->lock);
	if (tell)
		IGNORE(session->ops->tell_end(
			session, stream->index, frames)); /* it has failed the session */
}

/* Connects and shakes hands. 0, or why it is not one. */
static int stream_greet(struct session_stream *stream, struct link *link, struct zh_error *err)
{
	struct session *session = stream->session;
	bool again = stream->fd < 0;
	int r = again ? session->reach(session->reach_context, &stream->fd, err) : 0;

	if (r < 0)
		return r;
	r = link_init(link, stream->fd, again ? session->finish_fd : session->abort_fd);
	if (r < 0)
		return err_set(err, ZH_INTERNAL, r, "data connection", "cannot be set up");
	stream_has_socket(stream, link->fd);
	r = stream_handshake(stream, link, err);
	link->abort_fd = session->abort_fd;
	return r;
}

/* What could not become a data connection ends the session only if it is the first of its kind. */
static void stream_refused(struct session_stream *stream, bool again, const struct zh_error *error)
{
	struct session *session = stream->session;
	bool network = error->outcome == ZH_NET || error->outcome == ZH_TIMEOUT;

	if (stream->passed) {
		/* Whoever knows the number of a session cannot end it by that. */
		session_log(session, "a data connection was closed: %s", error->text);
		stream_ends(stream, false);
		return;
	}
	if (!again && !(network && session->setup.streams > 1)) {
		(void)session_fail(session, error);
		stream_ends(stream, false);
		return;
	}
	note_lost(session, error);
	stream_ends(stream, true); /* the peer may take it for open */
}

static void *stream_main(void *argument)
{
	struct session_stream *stream = argument;
	struct session *session = stream->session;
	enum zh_side side = session->role == ROLE_SENDER ? ZH_SEND : ZH_RECEIVE;
	struct link *link = calloc(1, sizeof(*link));
	bool again = stream->fd < 0;
	struct channel channel;
	struct zh_error error;
	int r;

	err_init(&error);
	if (!link) {
		sys_close(stream->fd);
		(void)session_failf(session, ZH_INTERNAL, ENOMEM, "data connection", "no memory");
		return NULL;
	}
	link->fd = -1;
	r = stream_greet(stream, link, &error);
	atomic_fetch_add(&session->streams_greeted, 1);
	if (r < 0) {
		stream_refused(stream, again, &error);
	} else if (sock_apply(link->fd, &session->sock, &error) < 0) {
		(void)session_fail(session, &error);
		stream_ends(stream, false);
	} else {
		stream_begins(stream);
		channel_open(&channel, side, link->fd, session->abort_fd, (int)LIMIT_STALL_MS);
		channel.nagle = (enum zh_nagle)session->sock.nagle;
		channel.never_corks = session->never_corks;
		r = session->ops->stream(session, stream, link, &channel);
		stream_account(session, &channel);
		channel_close(&channel);
		stream_ends(stream, r == 1);
	}
	link_fini(link);
	free(link);
	(void)pthread_mutex_lock(&session->lock);
	stream->over = true;
	(void)pthread_mutex_unlock(&session->lock);
	session_nudge(session);
	return NULL;
}

/* ------------------------------ all of them -------------------------------------------- */

/* The connection has ended, and both sides have been told or none has. Locked. */
static bool is_free(const struct session_stream *stream)
{
	return !stream->started || (stream->told && stream->said == stream->heard);
}

/* Joins a thread that has done with its connection: it closes it, and that is all. */
static void stream_join(struct session_stream *stream)
{
	struct session *session = stream->session;

	(void)pthread_join(stream->thread, NULL);
	(void)pthread_mutex_lock(&session->lock);
	if (stream->worked && stream->said > stream->said_start)
		session->streams_lost++;
	if (stream->progressed)
		stream->attempts = 0;
	stream->started = stream->worked = stream->progressed = false;
	(void)pthread_mutex_unlock(&session->lock);
}

static int stream_start(struct session_stream *stream)
{
	struct session *session = stream->session;
	int r;

	(void)pthread_mutex_lock(&session->lock);
	stream->over = stream->told = stream->down = false;
	stream->frames = 0;
	stream->said_start = stream->said;
	(void)pthread_mutex_unlock(&session->lock);
	r = pthread_create(&stream->thread, NULL, stream_main, stream);
	if (r != 0) {
		sys_close(stream->fd);
		return session_failf(session, ZH_INTERNAL, r, "data connection", "no thread");
	}
	(void)pthread_mutex_lock(&session->lock);
	session->stream_count += !stream->opened;
	stream->started = stream->opened = true;
	(void)pthread_mutex_unlock(&session->lock);
	return 0;
}

int session_add_stream(
	struct session *session, int fd, uint32_t index, const struct passed_hello *hello)
{
	struct session_stream *stream = &session->stream[min_u64(index, LIMIT_STREAMS - 1)];
	bool may, join;

	(void)pthread_mutex_lock(&session->lock);
	may = index < session->setup.streams && is_free(stream);
	join = may && stream->started;
	(void)pthread_mutex_unlock(&session->lock);
	if (!may) {
		sys_close(fd);
		return -EINVAL;
	}
	stream->session = session;
	if (join)
		stream_join(stream);
	stream->fd = fd;
	stream->index = index;
	stream->passed = hello != NULL;
	if (hello)
		stream->hello = *hello;
	return stream_start(stream);
}

void session_join_streams(struct session *session)
{
	(void)pthread_mutex_lock(&session->lock);
	session->finishing = true;
	(void)pthread_mutex_unlock(&session->lock);
	sys_eventfd_signal(session->finish_fd);
	session->ops->wake(session);
	for (uint32_t i = 0; i < LIMIT_STREAMS; i++)
		if (session->stream[i].started)
			stream_join(&session->stream[i]);
}

/* ------------------------------ control thread ----------------------------------------- */

int session_heard_end(struct session *session, uint64_t index)
{
	struct session_stream *stream;
	bool answer;

	if (index >= session->setup.streams)
		return session_failf(session, ZH_PROTO, 0, "control connection",
			"the end of a data connection that cannot be");
	stream = &session->stream[index];
	(void)pthread_mutex_lock(&session->lock);
	stream->heard++;
	/* a thread that has not done with its connection tells of its end by itself */
	bool works = stream->started && !stream->told;
	if (works && stream->live_fd >= 0)
		IGNORE(sys_shutdown(stream->live_fd, SHUT_RDWR)); /* it may be gone already */
	answer = !works && stream->heard > stream->said && !session->finishing;
	if (answer)
		stream->said++;
	(void)pthread_mutex_unlock(&session->lock);
	return answer ? session->ops->tell_end(session, (uint32_t)index, 0) : 0;
}

static uint64_t pause_ns(uint32_t attempts)
{
	return min_u64((uint64_t)PAUSE_MS_FIRST << min_u64(attempts, 16), PAUSE_MS_MOST) *
	       NS_PER_MS;
}

/* Client: a lost connection is taken up; true while it is hoped for. */
static bool stream_tend(struct session_stream *stream, uint64_t now_ns)
{
	struct session *session = stream->session;
	bool lost, down;

	(void)pthread_mutex_lock(&session->lock);
	lost = stream->started && stream->over && is_free(stream) &&
	       stream->said > stream->said_start;
	(void)pthread_mutex_unlock(&session->lock);
	if (lost)
		stream_join(stream);
	(void)pthread_mutex_lock(&session->lock);
	if (lost && stream->attempts < ATTEMPTS_MOST) {
		stream->down = true;
		stream->retry_ns = now_ns + pause_ns(stream->attempts++);
	}
	down = stream->down && now_ns >= stream->retry_ns;
	bool hoped = stream->down || stream->started;
	(void)pthread_mutex_unlock(&session->lock);
	if (!down)
		return hoped;
	stream->fd = -1;
	return stream_start(stream) == 0;
}

int streams_tend(struct session *session)
{
	uint64_t now_ns = clock_now_ns();
	struct zh_error error;
	uint64_t since_ns;
	bool hope = !session->reach;

	for (uint32_t i = 0; session->reach && i < session->setup.streams; i++)
		if (session->stream[i].session)
			hope |= stream_tend(&session->stream[i], now_ns);
	(void)pthread_mutex_lock(&session->lock);
	since_ns = session->finishing || session->aborted ? 0 : session->streamless_ns;
	error = session->stream_error;
	(void)pthread_mutex_unlock(&session->lock);
	if (since_ns == 0 || session->ops->settled(session))
		return 0;
	if (hope && clock_now_ns() - since_ns < (uint64_t)LIMIT_REOPEN_MS * NS_PER_MS)
		return 0;
	return session_failf(session, err_is_set(&error) ? (enum zh_outcome)error.outcome : ZH_NET,
		error.errnum, "data connection", "the last data connection was lost: %.120s",
		error.text);
}

int streams_wait_ms(struct session *session)
{
	uint64_t now_ns = clock_now_ns(), next_ns = now_ns + (uint64_t)LIMIT_PING_MS * NS_PER_MS;

	(void)pthread_mutex_lock(&session->lock);
	for (uint32_t i = 0; i < session->setup.streams && !session->finishing; i++)
		if (session->stream[i].down)
			next_ns = min_u64(next_ns, session->stream[i].retry_ns);
	uint64_t end_ns = session->streamless_ns + (uint64_t)LIMIT_REOPEN_MS * NS_PER_MS;
	if (session->streamless_ns && end_ns > now_ns)
		next_ns = min_u64(next_ns, end_ns);
	(void)pthread_mutex_unlock(&session->lock);
	return next_ns <= now_ns ? 1 : (int)div_up(next_ns - now_ns, NS_PER_MS);
}
