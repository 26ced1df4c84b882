/* SPDX-License-Identifier: Apache-2.0 */
/* host.c - see host.h. */
#include "host.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define HONEST_BYTES 300007
#define HONEST_SEED  77

static struct zh_server *running;

static void on_term(int number)
{
	(void)number;
	zh_server_stop(running);
}

static void nap(void)
{
	struct timespec while_ = { .tv_nsec = 10000000 };

	(void)nanosleep(&while_, NULL);
}

/* ------------------------------ processes ---------------------------------------------- */

static size_t children(pid_t pid, pid_t *ret_first)
{
	char path[64], text[4096];
	size_t count = 0, got;
	FILE *file;

	*ret_first = 0;
	(void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)pid, (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	got = fread(text, 1, sizeof(text) - 1, file);
	(void)fclose(file);
	text[got] = '\0';
	for (char *next = text, *end;; next = end, count++) {
		long child = strtol(next, &end, 10);
		if (end == next)
			return count;
		if (count == 0)
			*ret_first = (pid_t)child;
	}
}

size_t host_sessions(const struct host *host)
{
	pid_t unused;

	return children(host->pid, &unused);
}

pid_t host_session_pid(const struct host *host)
{
	pid_t pid;

	assert_true(children(host->pid, &pid) <= 1);
	return pid;
}

static size_t status_field(pid_t pid, const char *name)
{
	char path[64], line[256];
	size_t value = 0;
	FILE *file;

	(void)snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
	file = fopen(path, "re");
	if (!file)
		return 0;
	while (fgets(line, sizeof(line), file))
		if (strncmp(line, name, strlen(name)) == 0 && line[strlen(name)] == ':')
			value = strtoull(line + strlen(name) + 1, NULL, 10);
	(void)fclose(file);
	return value;
}

size_t process_peak_kib(pid_t pid)
{
	return status_field(pid, "VmHWM");
}

size_t process_threads(pid_t pid)
{
	return status_field(pid, "Threads");
}

size_t process_fds(pid_t pid)
{
	char path[64];

	(void)snprintf(path, sizeof(path), "/proc/%d/fd", (int)pid);
	return entry_count(AT_FDCWD, path);
}

bool host_log_has(const struct host *host, const char *text)
{
	char line[4096];
	bool has = false;
	FILE *file = fopen(host->log_path, "re");

	assert_non_null(file);
	while (!has && fgets(line, sizeof(line), file))
		has = strstr(line, text) != NULL;
	(void)fclose(file);
	return has;
}

/* ------------------------------ the server --------------------------------------------- */

static _Noreturn void serve(struct zh_server *server, int log)
{
	struct sigaction term = { .sa_handler = on_term };

	running = server;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)sigaction(SIGTERM, &term, NULL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)dup2(log, STDERR_FILENO);
	(void)dup2(log, STDOUT_FILENO);
	int outcome = zh_server_run(server);
	zh_server_free(server);
	_exit(outcome);
}

void host_start(struct host *host, struct arena *arena, unsigned flags)
{
	struct zh_server_options options = zh_server_options_default();
	struct zh_server *server;
	struct zh_error error;
	int log;

	memset(host, 0, sizeof(*host));
	host->arena = arena;
	host->flags = flags;
	(void)signal(SIGPIPE, SIG_IGN);
	(void)snprintf(host->key_path, sizeof(host->key_path), "%s/key", arena->path);
	(void)snprintf(host->log_path, sizeof(host->log_path), "%s/log", arena->path);
	log = open(host->log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	assert_true(log >= 0);
	auth_key_none(&host->key);
	if (flags & HOST_KEY) {
		assert_int_equal(zh_key_generate(host->key_path), 0);
		assert_int_equal(auth_key_load(host->key_path, &host->key, &error), 0);
		options.key_file = host->key_path;
	}
	options.flags = (flags & HOST_KEY ? 0 : ZH_INSECURE) |
			(flags & HOST_READ_ONLY ? ZH_SERVE_READ_ONLY : 0) |
			(flags & HOST_BENCH ? ZH_SERVE_BENCH : 0);
	options.root = flags & HOST_BENCH ? NULL : arena->root_path;
	options.listen = "127.0.0.1:0";
	options.log_fd = log;
	options.grace_ms = 1000;
	assert_int_equal(zh_server_new(&options, &server, &error), 0);
	host->port = (uint16_t)strtoul(strchr(zh_server_address(server), ':') + 1, NULL, 10);
	host->pid = fork();
	assert_true(host->pid >= 0);
	if (host->pid == 0)
		serve(server, log);
	zh_server_free(server);
	close(log);
	nap();
	host->fds = process_fds(host->pid);
}

void host_stop(struct host *host)
{
	int status = 0;

	assert_int_equal(kill(host->pid, SIGTERM), 0);
	assert_int_equal(waitpid(host->pid, &status, 0), host->pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
	assert_false(host_log_has(host, "ended by signal"));
	assert_false(host_log_has(host, "Sanitizer"));
	assert_false(host_log_has(host, "runtime error"));
}

/* ------------------------------ honest clients ----------------------------------------- */

static int transfer(const struct host *host, enum zh_direction direction, const char *source,
	const char *destination)
{
	struct zh_transfer_options options = zh_transfer_options_default();
	struct zh_transfer *transfer;
	int outcome;

	options.direction = direction;
	options.host = "127.0.0.1";
	options.port = host->port;
	options.flags = host->flags & HOST_KEY ? 0 : ZH_INSECURE;
	options.key_file = host->flags & HOST_KEY ? host->key_path : NULL;
	options.destination = destination;
	options.durability = ZH_DURABLE_NONE;
	assert_int_equal(zh_transfer_new(&options, &transfer), 0);
	assert_int_equal(zh_transfer_add(transfer, source), 0);
	outcome = zh_transfer_run(transfer);
	if (outcome != ZH_OK)
		print_message(
			"# %s: %s\n", zh_outcome_name(outcome), zh_transfer_error(transfer)->text);
	zh_transfer_free(transfer);
	return outcome;
}

int host_push(const struct host *host, const char *source, const char *destination)
{
	return transfer(host, ZH_PUSH, source, destination);
}

int host_pull(const struct host *host, const char *source, const char *destination)
{
	return transfer(host, ZH_PULL, source, destination);
}

static void serves_an_honest_client(const struct host *host)
{
	char source[192], back[192];
	int dir = open(host->arena->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(dir >= 0);
	(void)snprintf(source, sizeof(source), "%s/honest", host->arena->path);
	(void)snprintf(back, sizeof(back), "%s/back", host->arena->path);
	random_file(dir, "honest", HONEST_BYTES, HONEST_SEED);
	assert_int_equal(host_push(host, source, "/honest"), ZH_OK);
	assert_true(random_at(host->arena->root, "honest", HONEST_BYTES, HONEST_SEED));
	assert_int_equal(host_pull(host, "/honest", back), ZH_OK);
	assert_true(random_at(dir, "back", HONEST_BYTES, HONEST_SEED));
	assert_int_equal(unlinkat(dir, "honest", 0), 0);
	assert_int_equal(unlinkat(dir, "back", 0), 0);
	assert_int_equal(unlinkat(host->arena->root, "honest", 0), 0);
	close(dir);
}

static void wait_for_no_session(const struct host *host, int wait_ms)
{
	uint64_t deadline = now_ms() + (uint64_t)wait_ms;

	while (host_sessions(host) > 0 && now_ms() < deadline)
		nap();
	assert_int_equal(host_sessions(host), 0);
}

void host_is_well(struct host *host, size_t expected_names, int wait_ms)
{
	uint64_t deadline;

	wait_for_no_session(host, wait_ms);
	assert_int_equal(entry_count(host->arena->root, "."), expected_names);
	serves_an_honest_client(host);
	wait_for_no_session(host, 5000);
	assert_int_equal(entry_count(host->arena->root, "."), expected_names);
	deadline = now_ms() + 2000;
	while (process_fds(host->pid) != host->fds && now_ms() < deadline)
		nap();
	assert_int_equal(process_fds(host->pid), host->fds);
	assert_false(host_log_has(host, "ended by signal"));
}

/* ------------------------------ hostile ones ------------------------------------------- */

void host_connect(const struct host *host, enum hello_intent intent, struct peer *ret_peer)
{
	enum hello_auth auth = host->flags & HOST_KEY ? HELLO_AUTH_PSK : HELLO_AUTH_NONE;
	struct hello hello = peer_hello(HELLO_CONTROL, auth, intent);
	uint8_t bytes[HELLO_BYTES];

	memset(ret_peer, 0, sizeof(*ret_peer));
	wire_build_hello(&hello, bytes);
	ret_peer->fd = peer_dial(host->port, NULL);
	assert_int_equal(peer_greet(ret_peer, bytes), 0);
	assert_int_equal(peer_prove_control(ret_peer, &host->key), 0);
}

void host_setup(const struct host *host, enum hello_intent intent, struct peer *ret_peer)
{
	struct wire_setup setup = {
		.direction = intent == HELLO_PUSH ? ZH_PUSH : ZH_PULL,
		.durability = ZH_DURABLE_NONE,
		.streams = 4,
	};

	host_connect(host, intent, ret_peer);
	assert_true(peer_put_setup(ret_peer, &setup));
}

static void expect_place(struct peer *peer, enum wire_place kind)
{
	assert_int_equal(peer_get(peer, PEER_WAIT_MS), 0);
	assert_int_equal(peer->frame.type, FRAME_PLACE);
	assert_int_equal(peer->payload[0], kind);
}

void host_open_push(const struct host *host, struct peer *ret_peer)
{
	host_setup(host, HELLO_PUSH, ret_peer);
	assert_true(peer_put_want(ret_peer, 1, "", WANT_LAST));
	expect_place(ret_peer, PLACE_DIRECTORY);
}

void host_open_pull(const struct host *host, const char *name, struct peer *ret_peer)
{
	host_setup(host, HELLO_PULL, ret_peer);
	assert_true(peer_put_want(ret_peer, 1, name, WANT_LAST));
	expect_place(ret_peer, PLACE_FILE);
	assert_int_equal(peer_get_news(ret_peer, PEER_WAIT_MS), 0);
	assert_int_equal(ret_peer->frame.type, FRAME_FILE);
}

int host_attach(const struct host *host, const struct peer *control, enum hello_intent intent,
	uint32_t index, struct peer *ret_peer)
{
	enum hello_auth auth = host->flags & HOST_KEY ? HELLO_AUTH_PSK : HELLO_AUTH_NONE;
	struct hello hello = peer_hello(HELLO_DATA, auth, intent);
	uint8_t bytes[HELLO_BYTES];
	int r;

	memset(ret_peer, 0, sizeof(*ret_peer));
	hello.data_index = index;
	memcpy(hello.session, control->server_hello + 32, SESSION_ID_BYTES);
	wire_build_hello(&hello, bytes);
	ret_peer->fd = peer_dial(host->port, NULL);
	r = peer_greet(ret_peer, bytes);
	return r != 0 ? r : peer_prove_data(ret_peer, &control->secret);
}
