/* SPDX-License-Identifier: Apache-2.0 */
/*
 * pair.c - one transfer of one file, or of many, between two processes of this host over loopback,
 * by zh_send and zh_recv, each pinned to a CPU of its own. Prints one JSON line: time, bytes, CPU
 * of both sides, what was used. The trial that bench/compare is made of; says nothing about
 * differences itself.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
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
	struct zh_stats stats;
};

struct trial {
	const char *source;
	const char *target; /* NULL: nothing is stored */
	const char *congestion;
	struct zh_options send;
	struct zh_options receive;
	int sync;
	unsigned int count; /* 0: SOURCE and TARGET themselves, else SOURCE.0, SOURCE.1, ... */
	uint64_t bytes;     /* of each */
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

static unsigned int files_of(const struct trial *trial)
{
	return trial->count ? trial->count : 1;
}

static void name_of(
	const struct trial *trial, const char *path, unsigned int index, char name[static PATH_MAX])
{
	(void)snprintf(name, PATH_MAX, trial->count ? "%s.%u" : "%s", path, index);
}

/* One file from the socket, with the space for it allocated first. */
static int receive_file(const struct trial *trial, int sock, unsigned int index, int last,
	struct side_result *result)
{
	struct zh_extent all = { 0, trial->bytes };
	char name[PATH_MAX] = "/dev/null";
	int flags = O_WRONLY | O_CLOEXEC, file, r = 0;

	if (trial->target) {
		name_of(trial, trial->target, index, name);
		flags = O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC;
	}
	file = open(name, flags, 0600);
	if (file < 0)
		die(name);
	if (trial->target && trial->bytes > 0 && fallocate(file, 0, 0, (off_t)trial->bytes) < 0)
		r = -errno;
	if (r == 0)
		r = zh_recv(sock, file, all, &trial->receive, &result->stats);
	/* Many files are synced at once, as one does who wants them all: not one by one. */
	if (r == 0 && trial->sync && last && (trial->count ? syncfs(file) : fsync(file)) < 0)
		r = -errno;
	close(file);
	return r;
}

static struct side_result receive_side(const struct trial *trial, int sock)
{
	struct side_result result = { 0 };
	unsigned int files = files_of(trial);

	pin(1);
	double start = now(), cpu = cpu_used();
	for (unsigned int i = 0; i < files && result.error == 0; i++)
		result.error = receive_file(trial, sock, i, i + 1 == files, &result);
	/* The peer's clock ends when the byte comes: then all is where it was asked to be. */
	char done = 1;
	if (result.error == 0 && write(sock, &done, 1) != 1)
		result.error = -EPIPE;
	result.seconds = now() - start;
	result.cpu_seconds = cpu_used() - cpu;
	return result;
}

static int send_file(
	const struct trial *trial, int sock, unsigned int index, struct side_result *result)
{
	struct zh_extent all = { 0, trial->bytes };
	char name[PATH_MAX];
	int file, r;

	name_of(trial, trial->source, index, name);
	file = open(name, O_RDONLY | O_CLOEXEC);
	if (file < 0)
		die(name);
	r = zh_send(file, sock, all, &trial->send, &result->stats);
	close(file);
	return r;
}

static struct side_result send_side(const struct trial *trial, int sock)
{
	struct side_result result = { 0 };
	char done;

	pin(0);
	double start = now(), cpu = cpu_used();
	for (unsigned int i = 0; i < files_of(trial) && result.error == 0; i++)
		result.error = send_file(trial, sock, i, &result);
	if (result.error == 0) {
		(void)shutdown(sock, SHUT_WR);
		(void)fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) & ~O_NONBLOCK);
		if (read(sock, &done, 1) != 1)
			result.error = -EPIPE;
	}
	result.seconds = now() - start;
	result.cpu_seconds = cpu_used() - cpu;
	return result;
}

static void print_side(const char *name, const struct side_result *side)
{
	const struct zh_stats *s = &side->stats;
	uint64_t calls = 0;

	for (size_t i = 0; i < ZH_CALL_MAX; i++)
		calls += s->calls[i];
	printf("\"%s\":{\"strategy\":\"%s\",\"error\":%d,\"seconds\":%.6f,\"cpu_seconds\":%.6f,"
	       "\"chunk\":%u,\"depth\":%u,\"calls\":%llu,\"demotions\":%u,\"copied\":%llu,"
	       "\"wait_space_s\":%.6f,\"wait_data_s\":%.6f,\"wait_disk_s\":%.6f,"
	       "\"wait_run_s\":%.6f,\"mss\":%u,\"retransmits\":%u,\"congestion\":\"%s\"}",
		name, s->strategy, side->error, side->seconds, side->cpu_seconds, s->chunk_bytes,
		s->depth, (unsigned long long)calls, s->demotions,
		(unsigned long long)s->zc_copied_bytes, (double)s->wait_space_ns * 1e-9,
		(double)s->wait_data_ns * 1e-9, (double)s->wait_disk_ns * 1e-9,
		(double)s->wait_run_ns * 1e-9, s->tcp.mss_bytes, s->tcp.retransmits,
		s->tcp.congestion);
}

static const char usage[] =
	"usage: pair [-s STRATEGY] [-r STRATEGY] [-c CHUNK] [-C CHUNK] [-g CONGESTION] [-y] [-n COUNT]\n"
	"            SOURCE [TARGET]\n"
	"  -s, -c  strategy and bytes per call of the sender; -r, -C of the receiver\n"
	"  -g      congestion control (cubic)    -y  the receiver syncs before it answers\n"
	"  -n      COUNT files of one size, one after the other over one connection: SOURCE.0, ...;\n"
	"          with -y they are synced once, after the last\n"
	"  without TARGET nothing is stored; without -s and -r the plan chooses\n"
	"The figures of a side are of the last file; time, CPU time and bytes are of all.\n";

static int parse(int argc, char **argv, struct trial *trial)
{
	int option;

	trial->send = trial->receive = zh_options_default();
	trial->send.flags = trial->receive.flags = ZH_NO_FALLBACK;
	trial->congestion = "cubic";
	while ((option = getopt(argc, argv, "s:r:c:C:g:yn:")) != -1) {
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
		case 'n':
			trial->count = (unsigned int)strtoul(optarg, NULL, 10);
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
	char name[PATH_MAX];
	int listener, client, result[2];

	if (parse(argc, argv, &trial) < 0) {
		fputs(usage, stderr);
		return 1;
	}
	(void)signal(SIGPIPE, SIG_IGN);
	name_of(&trial, trial.source, 0, name);
	if (stat(name, &st) < 0)
		die(name);
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
	printf("{\"bytes\":%llu,\"seconds\":%.6f,",
		(unsigned long long)trial.bytes * files_of(&trial), mine.seconds);
	print_side("sender", &mine);
	printf(",");
	print_side("receiver", &theirs);
	printf("}\n");
	return mine.error || theirs.error ? 1 : 0;
}
