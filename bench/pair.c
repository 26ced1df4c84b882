/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.c - one transfer of one file between two processes of this host over loopback, by zh_send
 * and zh_recv, each pinned to a CPU of its own. Prints one JSON line: time, bytes, CPU of both
 * sides, what was used. The trial that bench/compare is made of; says nothing about differences
 * itself.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <zerohaul.h>

struct side_result {
	int error;
	double seconds;
	double cpu_seconds;
	double durable_seconds; /* with fdatasync, from the same start */
	struct zh_stats stats;
};

struct trial {
	const char *source;
	const char *target; /* NULL: nothing is stored */
	const char *congestion;
	struct zh_options send;
	struct zh_options receive;
	int sync;
	uint64_t bytes;
};

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static double cpu_used(void)
{
	struct rusage u;

	(void)getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	       (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set); /* a machine with one CPU: both share it */
}

static _Noreturn void die(const char *what)
{
	fprintf(stderr, "pair: %s: %s\n", what, strerror(errno));
	exit(1);
}

static void set_congestion(int fd, const char *name)
{
	if (setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, name, (socklen_t)strlen(name)) < 0)
		die(name);
}

/* A listening and a connected socket; the accepted one comes from the listening one. */
static void make_sockets(const struct trial *trial, int *ret_listener, int *ret_client)
{
	struct sockaddr_in address = {
		.sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);

	if (listener < 0 || client < 0)
		die("socket");
	set_congestion(listener, trial->congestion);
	set_congestion(client, trial->congestion);
	if (bind(listener, (struct sockaddr *)&address, length) < 0 || listen(listener, 1) < 0 ||
		getsockname(listener, (struct sockaddr *)&address, &length) < 0 ||
		connect(client, (struct sockaddr *)&address, length) < 0)
		die("connect");
	*ret_listener = listener;
	*ret_client = client;
}

static struct side_result receive_side(const struct trial *trial, int sock)
{
	struct zh_extent all = { 0, trial->bytes };
	struct side_result result = { 0 };
	int file = -1;

	pin(1);
	if (trial->target) {
		file = open(trial->target, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		if (file < 0)
			die(trial->target);
	} else {
		file = open("/dev/null", O_WRONLY | O_CLOEXEC);
	}
	double start = now(), cpu = cpu_used();
	if (trial->target && trial->bytes > 0)
		result.error = fallocate(file, 0, 0, (off_t)trial->bytes) < 0 ? -errno : 0;
	if (result.error == 0)
		result.error = zh_recv(sock, file, all, &trial->receive, &result.stats);
	result.seconds = now() - start;
	if (result.error == 0 && trial->sync && fdatasync(file) < 0)
		result.error = -errno;
	/* The peer's clock ends when the byte comes: then all is where it was asked to be. */
	char done = 1;
	if (write(sock, &done, 1) != 1)
		result.error = -EPIPE;
	result.durable_seconds = now() - start;
	result.cpu_seconds = cpu_used() - cpu;
	close(file);
	return result;
}

static struct side_result send_side(const struct trial *trial, int sock)
{
	struct zh_extent all = { 0, trial->bytes };
	struct side_result result = { 0 };
	int file = open(trial->source, O_RDONLY | O_CLOEXEC);
	char done;

	if (file < 0)
		die(trial->source);
	pin(0);
	double start = now(), cpu = cpu_used();
	result.error = zh_send(file, sock, all, &trial->send, &result.stats);
	if (result.error == 0) {
		(void)shutdown(sock, SHUT_WR);
		(void)fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) & ~O_NONBLOCK);
		if (read(sock, &done, 1) != 1)
			result.error = -EPIPE;
	}
	result.seconds = result.durable_seconds = now() - start;
	result.cpu_seconds = cpu_used() - cpu;
	close(file);
	return result;
}

static void print_side(const char *name, const struct side_result *side)
{
	const struct zh_stats *s = &side->stats;
	uint64_t calls = 0;

	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		calls += s->calls[i];
	printf("\"%s\":{\"strategy\":\"%s\",\"error\":%d,\"seconds\":%.6f,\"cpu_seconds\":%.6f,"
	       "\"chunk\":%u,\"calls\":%llu,\"demotions\":%u,\"copied\":%llu,\"congestion\":\"%s\"}",
		name, s->strategy, side->error, side->seconds, side->cpu_seconds, s->chunk_bytes,
		(unsigned long long)calls, s->demotions, (unsigned long long)s->zc_copied_bytes,
		s->tcp.congestion);
}

static const char usage[] =
	"usage: pair [-s STRATEGY] [-r STRATEGY] [-c CHUNK] [-C CHUNK] [-g CONGESTION] [-y] SOURCE [TARGET]\n"
	"  -s, -c  strategy and bytes per call of the sender; -r, -C of the receiver\n"
	"  -g      congestion control (cubic)    -y  the receiver syncs before it answers\n"
	"  without TARGET nothing is stored\n";

static int parse(int argc, char **argv, struct trial *trial)
{
	int option;

	trial->send = trial->receive = zh_options_default();
	trial->send.flags = trial->receive.flags = ZH_NO_FALLBACK;
	trial->congestion = "cubic";
	while ((option = getopt(argc, argv, "s:r:c:C:g:y")) != -1) {
		switch (option) {
		case 's':
			trial->send.strategy = optarg;
			break;
		case 'r':
			trial->receive.strategy = optarg;
			break;
		case 'c':
			trial->send.chunk_bytes = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'C':
			trial->receive.chunk_bytes = (uint32_t)strtoul(optarg, NULL, 10);
			break;
		case 'g':
			trial->congestion = optarg;
			break;
		case 'y':
			trial->sync = 1;
			break;
		default:
			return -1;
		}
	}
	if (optind >= argc || argc - optind > 2)
		return -1;
	trial->source = argv[optind];
	trial->target = argv[optind + 1];
	if (!trial->target)
		trial->receive.strategy = "discard";
	return 0;
}

int main(int argc, char **argv)
{
	struct trial trial = { 0 };
	struct side_result mine, theirs;
	struct stat st;
	int listener, client, result[2];

	if (parse(argc, argv, &trial) < 0) {
		fputs(usage, stderr);
		return 1;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	if (stat(trial.source, &st) < 0)
		die(trial.source);
	trial.bytes = (uint64_t)st.st_size;
	make_sockets(&trial, &listener, &client);
	if (pipe2(result, O_CLOEXEC) < 0)
		die("pipe");
	pid_t child = fork();
	if (child < 0)
		die("fork");
	if (child == 0) {
		close(client);
		int sock = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		struct side_result own = receive_side(&trial, sock);
		_exit(write(result[1], &own, sizeof(own)) == (ssize_t)sizeof(own) ? 0 : 1);
	}
	close(listener);
	(void)fcntl(client, F_SETFL, fcntl(client, F_GETFL) | O_NONBLOCK);
	mine = send_side(&trial, client);
	close(client);
	if (read(result[0], &theirs, sizeof(theirs)) != (ssize_t)sizeof(theirs))
		theirs.error = -EPIPE;
	(void)waitpid(child, NULL, 0);
	printf("{\"bytes\":%llu,\"seconds\":%.6f,", (unsigned long long)trial.bytes, mine.seconds);
	print_side("sender", &mine);
	printf(",");
	print_side("receiver", &theirs);
	printf("}\n");
	return mine.error || theirs.error ? 1 : 0;
}
