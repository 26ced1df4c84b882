/* SPDX-License-Identifier: Apache-2.0 */
/* serve.c - see serve.h. */
#include "session/serve.h"

#include "kernel/sock.h"
#include "session/receiver.h"
#include "session/sender.h"
#include "session/session.h"
#include "store/root.h"

#include <errno.h>
#include <stdio.h>

/* The root has no name of its own; whoever pulls it as a directory has one for it. */
#define ROOT_CALLED "root"

struct served {
	const struct serve *serve;
	struct session session;
	struct sender *sender;
	struct receiver *receiver;
	int place;       /* directory that files go to; owned unless it is the root */
	uint32_t wanted; /* places so far: of a pull its sources */
	uint32_t rules;
};

int serve_pass(int socket, int fd, const struct passed_hello *hello)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct passed_hello payload = *hello;
	struct iovec iov = { .iov_base = &payload, .iov_len = sizeof(payload) };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
	ssize_t r;

	rights->cmsg_level = SOL_SOCKET;
	rights->cmsg_type = SCM_RIGHTS;
	rights->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(rights), &fd, sizeof(int));
	r = sys_sendmsg(socket, &message, MSG_DONTWAIT);
	return r < 0 ? (int)r : 0;
}

/* Takes one passed connection. -ECONNRESET: the listener is gone. */
static int serve_take(int socket, int *ret_fd, struct passed_hello *ret_hello)
{
	union {
		struct cmsghdr header;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct iovec iov = { .iov_base = ret_hello, .iov_len = sizeof(*ret_hello) };
	struct msghdr message = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.bytes,
		.msg_controllen = sizeof(control.bytes),
	};
	ssize_t r = sys_recvmsg(socket, &message, MSG_DONTWAIT);
	const struct cmsghdr *rights;

	if (r < 0)
		return (int)r;
	rights = CMSG_FIRSTHDR(&message);
	if (r == 0)
		return -ECONNRESET;
	if (r != (ssize_t)sizeof(*ret_hello) || !rights || rights->cmsg_type != SCM_RIGHTS)
		return -EBADMSG;
	memcpy(ret_fd, CMSG_DATA(rights), sizeof(int));
	return 0;
}

/* A data connection has come. A bad one is closed and does not disturb the session. */
static int on_listener(struct session *session, int listener)
{
	struct passed_hello passed;
	struct hello hello;
	int fd = -1;
	int r;

	r = serve_take(listener, &fd, &passed);
	if (r == -EAGAIN)
		return 0;
	if (r < 0)
		return session_failf(session, ZH_NET, 0, "serve", "the server is ending");
	if (wire_parse_hello(passed.bytes, &hello) < 0 ||
		hello.intent != session->handshake.intent) {
		sys_close(fd);
		return 0;
	}
	r = session_add_stream(session, fd, hello.data_index, &passed);
	if (r == -EINVAL)
		session_log(session, "a data connection too many was closed");
	return r == -ECANCELED ? r : 0;
}

/* ------------------------------ places ------------------------------------------------- */

/* The last but one component's directory, and the last component. Both outputs set on success. */
static int walk_to_parent(
	int root, const struct wire_path *path, int *ret_directory, char *ret_name)
{
	int directory = root;
	const char *name;
	uint8_t length;
	size_t at = 0;

	ret_name[0] = '\0';
	for (unsigned i = 0; wire_path_next(path, &at, &name, &length); i++) {
		memcpy(ret_name, name, length);
		ret_name[length] = '\0';
		if (i + 1 == path->count)
			break;
		int next = root_enter(directory, ret_name);
		if (directory != root)
			sys_close(directory);
		if (next < 0)
			return next;
		directory = next;
	}
	*ret_directory = directory;
	return 0;
}

static int send_place(struct session *session, uint64_t id, enum root_kind kind, uint64_t size)
{
	static const uint8_t place_of_kind[] = {
		[ROOT_ABSENT] = PLACE_ABSENT,
		[ROOT_DIRECTORY] = PLACE_DIRECTORY,
		[ROOT_FILE] = PLACE_FILE,
		[ROOT_OTHER] = PLACE_OTHER,
	};
	struct wire_place_info place = { .kind = place_of_kind[kind], .size = size };
	uint8_t bytes[32];
	int length = wire_build_place(&place, bytes, sizeof(bytes));
	struct frame frame = { .type = FRAME_PLACE, .id = id };

	CHECK(length > 0);
	frame.length = (uint32_t)length;
	return session_send(session, &frame, bytes);
}

static int use_place(struct served *served, int directory, struct zh_error *err)
{
	int r = receiver_place(served->receiver, directory, NULL);

	served->place = directory;
	served->wanted++;
	return r < 0 ? err_set(err, ZH_DST_IO, r, "destination", "cannot be examined") : 0;
}

/* Push: where files shall go. The directory is kept. */
static int place_destination(struct served *served, const struct wire_path *path,
	bool must_be_directory, struct zh_error *err, enum root_kind *ret_kind)
{
	int root = served->serve->root;
	bool deletes = served->session.setup.tree & TREE_DELETE;
	char name[LIMIT_NAME_BYTES + 1];
	uint64_t size;
	int directory, r;

	*ret_kind = ROOT_DIRECTORY;
	if (served->serve->bench)
		return use_place(served, root, err); /* there is none */
	r = walk_to_parent(root, path, &directory, name);
	if (r < 0)
		return err_set(err, err_of_destination(r), r, "destination",
			"a directory on the way to the destination");
	if (path->count > 0) {
		r = root_look(directory, name, ret_kind, &size);
		if (r == 0 && *ret_kind == ROOT_DIRECTORY) {
			int inner = root_enter(directory, name);
			if (directory != root)
				sys_close(directory);
			directory = inner;
			r = inner < 0 ? inner : 0;
		} else if (r == 0 && (must_be_directory || (deletes && *ret_kind != ROOT_ABSENT))) {
			r = -ENOTDIR;
		}
	}
	if (r < 0) {
		if (directory >= 0 && directory != root)
			sys_close(directory);
		return err_set(err, err_of_destination(r), r, "destination",
			deletes && r == -ENOTDIR ? "with --delete it has to be a directory"
						 : "the destination cannot be used");
	}
	return use_place(served, directory, err);
}

/* The components with "/" between them. */
static char *path_text(const struct wire_path *path)
{
	char *text = malloc(path->length + 1), *out = text;
	const char *name;
	uint8_t length;
	size_t at = 0;

	while (text && wire_path_next(path, &at, &name, &length)) {
		if (out != text)
			*out++ = '/';
		memcpy(out, name, length);
		out += length;
	}
	if (text)
		*out = '\0';
	return text;
}

/*
 * Pull: what is wanted, flags being those of WANT. The sender walks to it again when its turn
 * comes: many may wait.
 */
static int place_source(struct served *served, const struct wire_path *path, uint8_t flags,
	struct zh_error *err, enum root_kind *ret_kind, uint64_t *ret_size)
{
	int root = served->serve->root;
	char name[LIMIT_NAME_BYTES + 1];
	int directory;
	int r;

	if (served->wanted++ >= LIMIT_OPEN_IDS)
		return err_set(err, ZH_LIMIT, 0, "open source", "too many sources at once");
	r = walk_to_parent(root, path, &directory, name);
	if (r < 0)
		return err_set(err, err_of_source(r), r, "open source", "a directory on the way");
	*ret_kind = ROOT_DIRECTORY;
	if (path->count > 0)
		r = root_look(directory, name, ret_kind, ret_size);
	if (directory != root)
		sys_close(directory);
	if (r < 0)
		return err_set(err, err_of_source(r), r, "open source", "cannot look");
	if (*ret_kind == ROOT_ABSENT)
		return err_set(err, ZH_SRC_GONE, ENOENT, "open source", "the source");
	if (flags & (WANT_DIRECTORY | WANT_CONTENTS) && *ret_kind != ROOT_DIRECTORY)
		return err_set(err, ZH_SRC_GONE, ENOTDIR, "open source", "the source");
	if (*ret_kind == ROOT_DIRECTORY && !(served->session.setup.tree & TREE_RECURSIVE))
		return err_set(err, ZH_USAGE, EISDIR, "open source", "the source");
	if (*ret_kind == ROOT_OTHER)
		return err_set(err, ZH_USAGE, 0, "open source",
			"the source is a link or a special file, which are not sent");
	if (flags & WANT_CONTENTS)
		name[0] = '\0';
	else if (path->count == 0)
		TEXT_SET(name, ROOT_CALLED);
	char *text = path_text(path);
	r = text ? sender_add(served->sender, root, text, 1, name) : -ENOMEM;
	free(text);
	return r < 0 ? err_set(err, ZH_INTERNAL, r, "open source", "no memory") : 0;
}

/* Answers one WANT. 1: it was the last. */
static int answer_want(struct served *served, const struct frame *want)
{
	struct session *session = &served->session;
	enum root_kind kind = ROOT_ABSENT;
	struct wire_path path;
	struct zh_error error;
	uint64_t size = 0;
	int r;

	err_init(&error);
	if (wire_parse_path(session->control.payload, want->length, &path) < 0)
		return session_failf(session, ZH_PROTO, 0, "WANT", "malformed path");
	if (want->flags & WANT_CONTENTS && served->receiver && !(session->setup.tree & TREE_DELETE))
		return session_failf(
			session, ZH_PROTO, 0, "WANT", "CONTENTS is for a pull, or with DELETE");
	if (served->receiver && served->wanted > 0)
		return session_failf(session, ZH_PROTO, 0, "WANT", "a push has one destination");
	r = served->receiver
		    ? place_destination(served, &path, want->flags & WANT_DIRECTORY, &error, &kind)
		    : place_source(served, &path, want->flags, &error, &kind, &size);
	if (r == 0 && served->receiver && want->flags & WANT_CONTENTS && kind == ROOT_DIRECTORY &&
		receiver_mirror_place(served->receiver) < 0)
		return -ECANCELED;
	if (r < 0)
		r = session_send_err(session, want->id, 0, &error);
	else
		r = send_place(session, want->id, kind, size);
	if (r < 0)
		return r;
	return (want->flags & WANT_LAST) != 0;
}

static int take_rule(struct served *served, const struct frame *frame)
{
	struct session *session = &served->session;
	char pattern[WIRE_RULE_BYTES_MAX + 1];
	int r = wire_parse_rule(session->control.payload, frame->length, pattern);

	if (r < 0 || served->wanted > 0 ||
		(served->receiver && !(session->setup.tree & TREE_DELETE)))
		return session_failf(session, ZH_PROTO, 0, "RULE", "malformed, or too late");
	bool exclude = frame->flags & RULE_EXCLUDE;
	r = served->rules++ >= LIMIT_RULES ? -ENOSPC
	    : served->sender               ? sender_rule(served->sender, pattern, exclude)
					   : receiver_rule(served->receiver, pattern, exclude);
	if (r == -EINVAL)
		return session_failf(session, ZH_USAGE, 0, "RULE", "no pattern: '%.100s'", pattern);
	if (r < 0)
		return session_failf(session, ZH_LIMIT, -r, "RULE", "too many patterns");
	return 0;
}

/* 1: the client has said BYE, and that was all. */
static int placing(struct served *served)
{
	struct session *session = &served->session;
	struct frame frame;
	int r;

	do {
		r = link_recv(&session->control, &frame, (int)LIMIT_IDLE_MS);
		if (r < 0)
			return session_fail_link(
				session, r == -EAGAIN ? -ETIMEDOUT : r, "control connection");
		switch (frame.type) {
		case FRAME_PING:
			r = session_send(session,
				&(struct frame){ .type = FRAME_PONG, .id = frame.id }, NULL);
			break;
		case FRAME_PONG:
			break;
		case FRAME_ERR:
			return session_heard_err(session, &frame);
		case FRAME_BYE:
			r = session_heard_bye(session, &frame);
			return r < 0 ? r : 1;
		case FRAME_WANT:
			r = answer_want(served, &frame);
			break;
		case FRAME_CREDIT:
			r = session->role == ROLE_SENDER
				    ? session->ops->frame(session, &frame)
				    : session_failf(session, ZH_PROTO, 0, "control connection",
					      "CREDIT is not expected now");
			break;
		case FRAME_RULE:
			r = take_rule(served, &frame);
			break;
		default:
			return session_failf(session, ZH_PROTO, 0, "control connection",
				"%s is not expected now", wire_name(frame.type));
		}
	} while (r == 0);
	return r < 0 ? r : 0;
}

/* ------------------------------ setting up --------------------------------------------- */

static void take_setup(struct session *session, const struct wire_setup *setup)
{
	session->setup = *setup;
	TEXT_SET(session->strategy, setup->strategy);
	session->sock = zh_sockopts_default();
	session->sock.nagle = setup->nagle;
	session->sock.sndbuf_bytes = setup->sndbuf_bytes;
	session->sock.rcvbuf_bytes = setup->rcvbuf_bytes;
	session->sock.notsent_lowat_bytes = setup->notsent_lowat_bytes;
	session->sock.pacing_bytes_per_s = setup->pacing_bytes_per_s;
	TEXT_SET(session->sock.congestion, setup->congestion);
}

static int receive_setup(struct served *served)
{
	struct session *session = &served->session;
	bool push = served->serve->intent == HELLO_PUSH;
	struct wire_setup setup;
	struct frame frame;
	int r = link_recv(&session->control, &frame, (int)LIMIT_HANDSHAKE_MS);

	if (r < 0)
		return session_fail_link(
			session, r == -EAGAIN ? -ETIMEDOUT : r, "control connection");
	if (frame.type == FRAME_ERR)
		return session_heard_err(session, &frame);
	if (frame.type != FRAME_SETUP ||
		wire_parse_setup(session->control.payload, frame.length, &setup) < 0 ||
		setup.direction != (push ? ZH_PUSH : ZH_PULL))
		return session_failf(session, ZH_PROTO, 0, "SETUP", "malformed or missing");
	take_setup(session, &setup);
	if (push && served->serve->read_only)
		return session_failf(session, ZH_POLICY, 0, "SETUP", "this server is read-only");
	if (setup.tree & TREE_PRIVILEGED && !served->serve->privileged_xattrs)
		return session_failf(session, ZH_POLICY, 0, "SETUP",
			"this server has no part in privileged attributes");
	if (served->serve->bench &&
		(!push || setup.dry_run || strcmp(setup.strategy, "discard") != 0))
		return session_failf(session, ZH_POLICY, 0, "SETUP",
			"this server is for measuring: it takes what is pushed to be discarded, "
			"and nothing else");
	if (setup.strategy[0] && !strategy_find(push ? ZH_RECEIVE : ZH_SEND, setup.strategy))
		return session_failf(session, ZH_CONFIG, 0, "SETUP",
			"this server has no strategy '%s'", setup.strategy);
	if (strcmp(setup.strategy, "discard") == 0 &&
		(setup.verify != ZH_VERIFY_NONE || setup.durability != ZH_DURABLE_NONE))
		return session_failf(session, ZH_CONFIG, 0, "SETUP",
			"'discard' stores nothing: it needs --verify=none --durability=none");
	if (strcmp(setup.strategy, "discard") == 0 && setup.tree & TREE_DELETE)
		return session_failf(session, ZH_CONFIG, 0, "SETUP",
			"'discard' stores nothing: there is nothing to --delete from");
	r = push ? receiver_new(session, served->serve->root, &served->receiver)
		 : sender_new(session, &served->sender);
	return r < 0 ? session_failf(session, ZH_INTERNAL, r, "SETUP", "no memory") : 0;
}

static int serve_all(struct served *served)
{
	struct session *session = &served->session;
	int r = receive_setup(served);

	if (r < 0)
		return r;
	session->state = SESSION_PLACING;
	r = placing(served);
	if (r != 0)
		return r < 0 ? r : 0;
	session->state = SESSION_OPEN;
	return session_run(session, served->serve->listener, on_listener);
}

static void log_result(struct session *session, bool push)
{
	const struct zh_error *error = &session->error;
	uint32_t done = atomic_load(&session->files_done);
	uint32_t failed = atomic_load(&session->files_failed);
	unsigned long long deleted = atomic_load(&session->deleted);

	if (err_is_set(error))
		session_log(session, "session failed: %s: %s (%s)", error->stage, error->text,
			zh_outcome_name(error->outcome));
	session_log(session, "%s%s: %u files, %llu bytes, %u failed",
		session->setup.dry_run ? "dry run, not " : "", push ? "received" : "sent", done,
		(unsigned long long)session->done_bytes, failed);
	if (deleted > 0)
		session_log(session, "%s: %llu names",
			session->setup.dry_run ? "would be removed" : "removed", deleted);
}

int serve_session(const struct serve *serve, int fd)
{
	static const char authenticated = SERVE_AUTHENTICATED;
	struct served *served = calloc(1, sizeof(*served));
	struct zh_error error;
	struct session *session;
	int r;

	if (!served) {
		sys_close(fd);
		return ZH_INTERNAL;
	}
	session = &served->session;
	served->serve = serve;
	served->place = serve->root;
	err_init(&error);
	r = session_init(session, END_SERVER, fd);
	session->log_fd = serve->log_fd;
	if (r == 0) {
		session->handshake.kind = HELLO_CONTROL;
		session->handshake.auth = serve->auth;
		session->handshake.intent = serve->intent;
		session->handshake.key = serve->key;
		memcpy(session->handshake.session, serve->session, SESSION_ID_BYTES);
		session_begin_report(session);
		r = handshake_accept(&session->control, &session->handshake, serve->hello.bytes,
			serve->hello.deadline_ns, &error);
		if (r < 0)
			(void)session_fail(session, &error);
	}
	if (r == 0) {
		IGNORE(sys_write(serve->listener, &authenticated, 1)); /* gone: we end anyway */
		r = serve_all(served);
		/* A failure before session_run has not been told to the client yet. */
		if (r < 0 && session->state < SESSION_OPEN && !session->error.at_peer)
			IGNORE(session_send_err(session, 0, 0, &session->error));
	}
	log_result(session, serve->intent == HELLO_PUSH);
	r = session->error.outcome;
	if (r == ZH_OK && atomic_load(&session->files_failed) > 0)
		r = ZH_PARTIAL;
	receiver_free(served->receiver);
	sender_free(served->sender);
	if (served->place != serve->root)
		sys_close(served->place);
	session_fini(session);
	free(served);
	return r;
}
