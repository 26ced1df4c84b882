/* SPDX-License-Identifier: Apache-2.0 */
/*
 * server.c - the listener: accepts, reads the fixed-size HELLO of each connection within a
 * deadline, and forks one process for each new session or passes a data connection to the session
 * it belongs to. It opens no file after start-up and parses nothing but the HELLO, so that is all a
 * stranger can reach.
 */
#include "base/clock.h"
#include "base/err.h"
#include "base/sys.h"
#include "kernel/probe.h"
#include "kernel/sock.h"
#include "session/handshake.h"
#include "session/serve.h"
#include "store/root.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define GRACE_MS_DEFAULT 10000u
#define REAP_MS          250 /* how soon the end of a session process is noticed */

struct pending {
	int fd;             /* -1: free */
	uint8_t source[16]; /* address, IPv4 mapped */
	struct passed_hello hello;
	size_t got;
};

struct running {
	pid_t pid; /* 0: free */
	int socket;
	bool authenticated;
	uint8_t source[16]; /* of its control connection */
	uint8_t session[SESSION_ID_BYTES];
};

struct zh_server {
	int listener;
	int root;
	int stop_fd;
	int log_fd;
	uint32_t flags;
	uint32_t grace_ms;
	char address[64];
	struct auth_key key;
	enum hello_auth auth;
	struct pending pending[LIMIT_PENDING_CONNECTIONS];
	struct running running[LIMIT_SESSIONS];
	uint64_t log_second;
	uint32_t log_lines;
	bool once_over;
	int once_outcome;
};

static int server_prepare(
	struct zh_server *server, const struct zh_server_options *options, struct zh_error *err)
{
	bool insecure = options->flags & ZH_INSECURE;
	bool bench = options->flags & ZH_SERVE_BENCH;
	int r;

	if (options->size < sizeof(*options) || bench == !!options->root ||
		insecure == !!options->key_file)
		return err_set(err, ZH_USAGE, 0, "start",
			"a root or the wish to store nothing, and either a key or the wish to do "
			"without one, are needed");
	if (bench && options->flags & ZH_SERVE_READ_ONLY)
		return err_set(err, ZH_USAGE, 0, "start",
			"a server for measuring is pushed to, so it cannot be read-only");
	server->stop_fd = sys_eventfd();
	if (server->stop_fd < 0)
		return err_set(err, ZH_INTERNAL, server->stop_fd, "start", "no descriptor");
	server->auth = insecure ? HELLO_AUTH_NONE : HELLO_AUTH_PSK;
	if (insecure)
		auth_key_none(&server->key);
	else if (auth_key_load(options->key_file, &server->key, err) < 0)
		return -EINVAL;
	server->root = bench ? -1 : root_open(options->root, err);
	if (!bench && server->root < 0)
		return server->root;
	r = sock_listen(
		options->listen ? options->listen : "127.0.0.1", insecure, &server->listener, err);
	if (r < 0)
		return r;
	sock_local_text(server->listener, server->address, sizeof(server->address));
	return 0;
}

ZH_API int zh_server_new(const struct zh_server_options *options, struct zh_server **ret_server,
	struct zh_error *ret_error)
{
	struct zh_server *server = calloc(1, sizeof(*server));
	struct host_facts unused;
	struct zh_error error;
	int r;

	err_init(&error);
	r = server ? 0 : err_set(&error, ZH_INTERNAL, ENOMEM, "start", "no memory");
	if (r == 0) {
		server->listener = server->root = server->stop_fd = -1;
		server->log_fd = options->log_fd;
		server->flags = options->flags;
		server->grace_ms = options->grace_ms ? options->grace_ms : GRACE_MS_DEFAULT;
		for (size_t i = 0; i < ARRAY_LEN(server->pending); i++)
			server->pending[i].fd = -1;
		r = server_prepare(server, options, &error);
	}
	if (r < 0) {
		if (ret_error)
			*ret_error = error;
		zh_server_free(server);
		return r;
	}
	probe_host(&unused); /* once, before the first fork, for all sessions */
	*ret_server = server;
	return 0;
}

ZH_API const char *zh_server_address(const struct zh_server *server)
{
	return server->address;
}

ZH_API void zh_server_stop(struct zh_server *server)
{
	sys_eventfd_signal(server->stop_fd);
}

ZH_API void zh_server_free(struct zh_server *server)
{
	if (!server)
		return;
	for (size_t i = 0; i < ARRAY_LEN(server->pending); i++)
		sys_close(server->pending[i].fd);
	for (size_t i = 0; i < ARRAY_LEN(server->running); i++)
		if (server->running[i].pid)
			sys_close(server->running[i].socket);
	sys_close(server->listener);
	sys_close(server->root);
	sys_close(server->stop_fd);
	auth_wipe(&server->key, sizeof(server->key));
	free(server);
}

/* A line about something that strangers can cause: at most a few in a second. */
static void log_stranger(struct zh_server *server, int fd, const char *what)
{
	uint64_t second = clock_now_ns() / NS_PER_S;
	char line[160], peer[64];
	int length;

	if (server->log_fd < 0)
		return;
	if (second != server->log_second) {
		server->log_second = second;
		server->log_lines = 0;
	}
	if (server->log_lines++ >= LIMIT_LOG_LINES_PER_S)
		return;
	sock_peer_text(fd, peer, sizeof(peer));
	length = snprintf(line, sizeof(line), "%s: %s\n", peer, what);
	IGNORE(sys_write(server->log_fd, line, (size_t)length)); /* a full log loses lines only */
}

static void pending_close(struct pending *pending)
{
	sys_close(pending->fd);
	pending->fd = -1;
}

/* ------------------------------ sessions ----------------------------------------------- */

/* In the new process: everything that is the listener's goes, then the session. */
static _Noreturn void session_process(
	struct zh_server *server, const struct pending *pending, struct serve *serve)
{
	int outcome;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* a killed listener takes its sessions along */
	(void)signal(SIGTERM, SIG_DFL); /* what the program does on signals is the listener's */
	(void)signal(SIGINT, SIG_IGN);
	(void)signal(SIGPIPE, SIG_IGN);
	sys_raise_open_files_limit(); /* many small files are open until they are committed */
	sys_close(server->listener);
	for (size_t i = 0; i < ARRAY_LEN(server->pending); i++)
		if (&server->pending[i] != pending)
			sys_close(server->pending[i].fd);
	for (size_t i = 0; i < ARRAY_LEN(server->running); i++)
		if (server->running[i].pid)
			sys_close(server->running[i].socket);
	outcome = serve_session(serve, pending->fd);
	sys_close(serve->listener);
	_exit(outcome);
}

static struct running *running_free_slot(struct zh_server *server)
{
	for (size_t i = 0; i < ARRAY_LEN(server->running); i++)
		if (server->running[i].pid == 0)
			return &server->running[i];
	return NULL;
}

static int session_start(
	struct zh_server *server, struct pending *pending, const struct hello *hello)
{
	struct running *running = running_free_slot(server);
	struct serve serve = {
		.root = server->root,
		.read_only = server->flags & ZH_SERVE_READ_ONLY,
		.privileged_xattrs = server->flags & ZH_PRIVILEGED_XATTRS,
		.bench = server->flags & ZH_SERVE_BENCH,
		.log_fd = server->log_fd,
		.auth = server->auth,
		.key = &server->key,
		.intent = (enum hello_intent)hello->intent,
	};
	int pair[2];
	int r;

	if (!running)
		return -EBUSY;
	r = auth_random(serve.session, sizeof(serve.session));
	if (r == 0)
		r = sys_socketpair(AF_UNIX, SOCK_SEQPACKET, pair);
	if (r < 0)
		return r;
	serve.hello = pending->hello;
	serve.listener = pair[1];
	pid_t pid = fork();
	if (pid == 0) {
		sys_close(pair[0]);
		session_process(server, pending, &serve);
	}
	sys_close(pair[1]);
	if (pid < 0) {
		sys_close(pair[0]);
		return -EAGAIN;
	}
	running->pid = pid;
	running->socket = pair[0];
	running->authenticated = false;
	memcpy(running->source, pending->source, sizeof(running->source));
	memcpy(running->session, serve.session, sizeof(running->session));
	return 0;
}

/* A session says by one byte that its client has proved itself. */
static void running_hear(struct running *running)
{
	char byte;

	if (!running->authenticated && sys_recv(running->socket, &byte, 1, MSG_DONTWAIT) == 1)
		running->authenticated = true;
}

/* Data connections count only for who has proved itself: they are not bounded here any more. */
static int data_route(
	struct zh_server *server, const struct pending *pending, const struct hello *hello)
{
	for (size_t i = 0; i < ARRAY_LEN(server->running); i++) {
		struct running *running = &server->running[i];
		if (!running->pid ||
			memcmp(running->session, hello->session, SESSION_ID_BYTES) != 0)
			continue;
		running_hear(running);
		if (running->authenticated)
			return serve_pass(running->socket, pending->fd, &pending->hello);
	}
	return -ENOENT;
}

/* A whole HELLO is there: refuse it, or hand the connection on. Either way it is no longer pending.
 */
static void hello_arrived(struct zh_server *server, struct pending *pending)
{
	const struct hello mine = {
		.kind = HELLO_CONTROL,
		.link = HELLO_LINK_PLAIN,
		.version_min = WIRE_VERSION,
		.version_max = WIRE_VERSION,
	};
	struct hello hello;
	enum zh_outcome refusal = ZH_OK;

	/* The number of a session is the server's to give. */
	if (wire_parse_hello(pending->hello.bytes, &hello) < 0 ||
		(hello.kind == HELLO_CONTROL &&
			memcmp(hello.session, mine.session, SESSION_ID_BYTES) != 0)) {
		log_stranger(server, pending->fd, "does not speak zerohaul");
		pending_close(pending);
		return;
	}
	if (wire_negotiate(&mine, &hello, 0) < 0)
		refusal = ZH_VERSION;
	else if (hello.link != HELLO_LINK_PLAIN || hello.auth != server->auth)
		refusal = ZH_POLICY;
	else if (hello.kind == HELLO_CONTROL)
		refusal = session_start(server, pending, &hello) < 0 ? ZH_BUSY : ZH_OK;
	else
		refusal = data_route(server, pending, &hello) < 0 ? ZH_AUTH : ZH_OK;
	if (refusal != ZH_OK) {
		log_stranger(server, pending->fd, zh_outcome_text((int)refusal));
		handshake_refuse(pending->fd, refusal);
	}
	pending_close(pending);
}

/* ------------------------------ connections -------------------------------------------- */

static void pending_read(struct zh_server *server, struct pending *pending)
{
	ssize_t r = sys_recv(pending->fd, pending->hello.bytes + pending->got,
		HELLO_BYTES - pending->got, MSG_DONTWAIT);

	if (r == -EAGAIN)
		return;
	if (r <= 0) { /* 0: closed before it said anything whole */
		pending_close(pending);
		return;
	}
	pending->got += (size_t)r;
	/* Somebody who speaks something else is not waited for until the deadline. */
	if (memcmp(pending->hello.bytes, HELLO_MAGIC,
		    min_size(pending->got, sizeof(HELLO_MAGIC) - 1)) != 0) {
		log_stranger(server, pending->fd, "does not speak zerohaul");
		pending_close(pending);
	} else if (pending->got == HELLO_BYTES) {
		hello_arrived(server, pending);
	}
}

static void address_bytes(const struct sockaddr_storage *address, uint8_t ret_bytes[16])
{
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	memset(ret_bytes, 0, 16);
	if (address->ss_family == AF_INET6) {
		memcpy(&in6, address, sizeof(in6));
		memcpy(ret_bytes, &in6.sin6_addr, 16);
	} else {
		memcpy(&in, address, sizeof(in));
		memcpy(ret_bytes + 12, &in.sin_addr, 4);
	}
}

static unsigned pending_of_source(const struct zh_server *server, const uint8_t source[16])
{
	unsigned count = 0;

	for (size_t i = 0; i < ARRAY_LEN(server->pending); i++)
		count += server->pending[i].fd >= 0 &&
			 memcmp(server->pending[i].source, source, 16) == 0;
	return count;
}

/*
 * When all slots are taken the oldest connection of the address that has most of them goes: silent
 * ones from many addresses do not keep out a client that has something to say.
 */
static struct pending *pending_evict(struct zh_server *server)
{
	struct pending *victim = NULL;
	unsigned most = 1;

	for (size_t i = 0; i < ARRAY_LEN(server->pending); i++) {
		struct pending *pending = &server->pending[i];
		unsigned count = pending_of_source(server, pending->source);
		if (count > most ||
			(victim && count == most &&
				pending->hello.deadline_ns < victim->hello.deadline_ns)) {
			victim = pending;
			most = count;
		}
	}
	if (victim) {
		log_stranger(server, victim->fd, "made room for another connection");
		pending_close(victim);
	}
	return victim;
}

static void accept_one(struct zh_server *server)
{
	struct sockaddr_storage address = { 0 };
	socklen_t length = sizeof(address);
	struct pending *slot = NULL;
	unsigned same;
	uint8_t source[16];
	int fd = sys_accept(server->listener, (struct sockaddr *)&address, &length, SOCK_NONBLOCK);

	if (fd < 0)
		return; /* gone again, or no descriptors: the next round tries again */
	address_bytes(&address, source);
	for (size_t i = 0; i < ARRAY_LEN(server->pending) && !slot; i++)
		slot = server->pending[i].fd < 0 ? &server->pending[i] : NULL;
	same = pending_of_source(server, source);
	/* A session that has not proved itself yet is still a stranger's. */
	for (size_t i = 0; i < ARRAY_LEN(server->running); i++) {
		const struct running *running = &server->running[i];
		same += running->pid && !running->authenticated &&
			memcmp(running->source, source, sizeof(source)) == 0;
	}
	if (!slot && same < LIMIT_PENDING_PER_SOURCE)
		slot = pending_evict(server);
	if (!slot || same >= LIMIT_PENDING_PER_SOURCE) {
		log_stranger(server, fd, "too many connections without a HELLO");
		sys_close(fd);
		return;
	}
	IGNORE(sock_guard(fd)); /* a dead peer is then noticed by our own timers alone */
	slot->fd = fd;
	slot->got = 0;
	slot->hello.deadline_ns = clock_now_ns() + (uint64_t)LIMIT_HANDSHAKE_MS * NS_PER_MS;
	memcpy(slot->source, source, sizeof(source));
}

static void pending_expire(struct zh_server *server)
{
	uint64_t now = clock_now_ns();

	for (size_t i = 0; i < ARRAY_LEN(server->pending); i++) {
		struct pending *pending = &server->pending[i];
		if (pending->fd < 0 || now < pending->hello.deadline_ns)
			continue;
		log_stranger(server, pending->fd, "no HELLO in time");
		pending_close(pending);
	}
}

/* A session that ends by a signal is a bug, or somebody's kill. */
static void log_crash(const struct zh_server *server, int status)
{
	char line[80];
	int length;

	if (server->log_fd < 0 || !WIFSIGNALED(status))
		return;
	length = snprintf(
		line, sizeof(line), "a session was ended by signal %d\n", WTERMSIG(status));
	IGNORE(sys_write(server->log_fd, line, (size_t)length)); /* a full log loses lines only */
}

/* Notices sessions that have proved themselves, and collects those that have ended. */
static unsigned running_collect(struct zh_server *server)
{
	unsigned count = 0;

	for (size_t i = 0; i < ARRAY_LEN(server->running); i++) {
		struct running *running = &server->running[i];
		int status = 0;
		if (running->pid == 0)
			continue;
		running_hear(running);
		if (waitpid(running->pid, &status, WNOHANG) != running->pid) {
			count++;
			continue;
		}
		sys_close(running->socket);
		running->pid = 0;
		log_crash(server, status);
		if (running->authenticated && server->flags & ZH_SERVE_ONCE && !server->once_over) {
			server->once_over = true;
			server->once_outcome =
				WIFEXITED(status) ? WEXITSTATUS(status) : ZH_INTERNAL;
		}
	}
	return count;
}

/* One wait and what came of it. True: told to stop. */
static bool server_turn(struct zh_server *server)
{
	struct pollfd set[2 + LIMIT_PENDING_CONNECTIONS + LIMIT_SESSIONS];
	struct pending *of[LIMIT_PENDING_CONNECTIONS];
	nfds_t count = 0, sessions;

	set[count++] = (struct pollfd){ .fd = server->stop_fd, .events = POLLIN };
	set[count++] = (struct pollfd){ .fd = server->listener, .events = POLLIN };
	for (size_t i = 0; i < ARRAY_LEN(server->pending); i++)
		if (server->pending[i].fd >= 0) {
			of[count - 2] = &server->pending[i];
			set[count++] =
				(struct pollfd){ .fd = server->pending[i].fd, .events = POLLIN };
		}
	sessions = count;
	for (size_t i = 0; i < ARRAY_LEN(server->running); i++)
		if (server->running[i].pid)
			set[count++] = (struct pollfd){ .fd = server->running[i].socket,
				.events = POLLIN };
	if (sys_poll(set, count, REAP_MS) > 0) {
		for (nfds_t i = 2; i < sessions; i++)
			if (set[i].revents)
				pending_read(server, of[i - 2]);
		if (set[1].revents)
			accept_one(server);
		if (set[0].revents)
			return true;
	}
	pending_expire(server);
	(void)running_collect(server);
	return false;
}

/* Lets running sessions finish within the grace time, then ends them. */
static void server_wind_down(struct zh_server *server)
{
	uint64_t deadline = clock_now_ns() + (uint64_t)server->grace_ms * NS_PER_MS;

	sys_close(server->listener);
	server->listener = -1;
	while (running_collect(server) > 0 && clock_now_ns() < deadline)
		IGNORE(sys_poll(NULL, 0, 20));
	for (size_t i = 0; i < ARRAY_LEN(server->running); i++)
		if (server->running[i].pid)
			(void)kill(server->running[i].pid, SIGKILL);
	while (running_collect(server) > 0)
		IGNORE(sys_poll(NULL, 0, 5));
}

ZH_API int zh_server_run(struct zh_server *server)
{
	while (!server->once_over)
		if (server_turn(server))
			break;
	server_wind_down(server);
	return server->once_over ? server->once_outcome : ZH_OK;
}
