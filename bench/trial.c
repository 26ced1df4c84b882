/* SPDX-License-Identifier: Apache-2.0 */
/*
 * trial.c - see trial.h: the conversation of the two processes. Orders and accounts go over a
 * socket pair of their own, so that they are no part of what is measured; the acknowledgement of a
 * move comes over the connection that it was made on.
 */
#include "trial.h"

#include "cache.h"
#include "side.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STREAMS_MOST  64
#define WARM_UP_BYTES (16u << 20)
#define WARM_UP_PIECE (1u << 20)
#define WARM_UP_S     0.2
#define TIMESTAMPS    12 /* bytes of each segment that TCP_MAXSEG counts and the MSS does not */

/* What the sender asks of the receiver. */
struct order {
	uint64_t length;
	uint64_t files;
	uint32_t warm_up;
	uint32_t end;
};

struct bench_link {
	struct bench_cell cell;
	pid_t receiver;
	int control; /* both ways, packets */
	int source;  /* -1: opened file by file */
	int memory;  /* what the warm-up sends */
	uint32_t streams;
	int sock[STREAMS_MOST];
	float *latency_us[STREAMS_MOST];
	int cpu[2];
	cpu_set_t before; /* the CPUs of the sender's process, given back at the end */
	double connect_s;
	uint64_t length;
};

typedef char bench_error[BENCH_ERROR_CAP];

static int fail(char *ret_error, int error, const char *what)
{
	(void)snprintf(ret_error, BENCH_ERROR_CAP, "%.100s: %.50s", what, strerror(-error));
	return error;
}

/* The first CPU of this process for the sender, the second one for the receiver, as far as there
 * are two. */
static void choose_cpus(const cpu_set_t *set, int ret_cpu[2])
{
	int found = 0;

	ret_cpu[0] = ret_cpu[1] = 0;
	for (int cpu = 0; cpu < CPU_SETSIZE && found < 2; cpu++) {
		if (!CPU_ISSET((size_t)cpu, set))
			continue;
		ret_cpu[1] = cpu;
		if (found++ == 0)
			ret_cpu[0] = cpu;
	}
}

static void pin(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET((size_t)cpu, &set);
	(void)sched_setaffinity(0, sizeof(set), &set); /* then both share what there is */
}

/* ------------------------------ control ------------------------------------------------ */

static int tell(int control, const void *bytes, size_t length)
{
	return send(control, bytes, length, MSG_NOSIGNAL) == (ssize_t)length ? 0 : -EPIPE;
}

/* Waits for one packet of exactly that size. -EPIPE: the other process has gone. */
static int hear(int control, void *bytes, size_t length, int patience_ms)
{
	struct pollfd one = { .fd = control, .events = POLLIN };
	int r;

	do
		r = poll(&one, 1, patience_ms);
	while (r < 0 && errno == EINTR);
	if (r == 0)
		return -ETIMEDOUT;
	return recv(control, bytes, length, 0) == (ssize_t)length ? 0 : -EPIPE;
}

/* ------------------------------ sockets ------------------------------------------------ */

struct wish {
	int level, name;
	uint32_t value;
};

/* Before the connection is made: the window's scale and the MSS are agreed on then. */
static int prepare_socket(int sock, const struct bench_cell *cell, bool sends, bench_error error)
{
	bool nodelay = !sends || cell->nagle == BENCH_NAGLE_NODELAY ||
		       cell->nagle == BENCH_NAGLE_NODELAY_CORK;
	const struct wish wishes[] = {
		{ SOL_SOCKET, SO_SNDBUF, cell->sndbuf },
		{ SOL_SOCKET, SO_RCVBUF, cell->rcvbuf },
		{ IPPROTO_TCP, TCP_MAXSEG, cell->mss ? cell->mss + TIMESTAMPS : 0 },
		{ IPPROTO_TCP, TCP_NOTSENT_LOWAT, cell->notsent_lowat },
		{ IPPROTO_TCP, TCP_NODELAY, nodelay },
	};

	for (size_t i = 0; i < sizeof(wishes) / sizeof(wishes[0]); i++)
		if (wishes[i].value && setsockopt(sock, wishes[i].level, wishes[i].name,
					       &wishes[i].value, sizeof(wishes[i].value)) < 0)
			return fail(error, -errno, "socket option");
	if (cell->congestion && setsockopt(sock, IPPROTO_TCP, TCP_CONGESTION, cell->congestion,
					(socklen_t)strlen(cell->congestion)) < 0)
		return fail(error, errno == ENOENT || errno == EPERM ? -EINVAL : -errno,
			"congestion control");
	return 0;
}

/* Requests block, so that the time of a call is the time of what it does; bulk waits by poll. */
static int finish_socket(int sock, const struct bench_cell *cell)
{
	struct timeval patience = { .tv_sec = BENCH_PATIENCE_MS / 1000 };

	if (cell->framing == BENCH_BULK)
		return fcntl(sock, F_SETFL, fcntl(sock, F_GETFL) | O_NONBLOCK) < 0 ? -errno : 0;
	if (setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) < 0 ||
		setsockopt(sock, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience)) < 0)
		return -errno;
	return 0;
}

static int listen_on_loopback(
	const struct bench_cell *cell, struct sockaddr_in *ret_address, bench_error error)
{
	socklen_t length = sizeof(*ret_address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP), r;

	*ret_address = (struct sockaddr_in){ .sin_family = AF_INET,
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	if (listener < 0)
		return fail(error, -errno, "socket");
	r = prepare_socket(listener, cell, false, error);
	if (r == 0 && (bind(listener, (struct sockaddr *)ret_address, length) < 0 ||
			      listen(listener, STREAMS_MOST) < 0 ||
			      getsockname(listener, (struct sockaddr *)ret_address, &length) < 0))
		r = fail(error, -errno, "listen");
	if (r == 0)
		return listener;
	close(listener);
	return r;
}

static int connect_one(const struct bench_cell *cell, const struct sockaddr_in *address,
	int *ret_sock, bench_error error)
{
	int r;

	*ret_sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_TCP);
	if (*ret_sock < 0)
		return fail(error, -errno, "socket");
	r = prepare_socket(*ret_sock, cell, true, error);
	if (r == 0 && connect(*ret_sock, (const struct sockaddr *)address, sizeof(*address)) < 0)
		r = fail(error, -errno, "connect");
	if (r == 0)
		r = finish_socket(*ret_sock, cell);
	return r;
}

/* ------------------------------ one move ----------------------------------------------- */

static void *run_side(void *argument)
{
	struct bench_side *side = argument;
	bool requests = side->cell->framing != BENCH_BULK;

	if (side->sends)
		(requests ? bench_requests_send : bench_bulk_send)(side);
	else
		(requests ? bench_requests_receive : bench_bulk_receive)(side);
	return NULL;
}

/* Runs all streams of this process, each in a thread when there are several. */
static int run_sides(struct bench_side *sides, uint32_t count)
{
	pthread_t thread[STREAMS_MOST];
	uint32_t started = 0;
	int r = 0;

	if (count == 1) {
		(void)run_side(sides);
		return 0;
	}
	for (; started < count && r == 0; started++)
		r = -pthread_create(&thread[started], NULL, run_side, &sides[started]);
	if (r < 0) { /* who waits for a stream that never came is woken */
		started--;
		for (uint32_t i = 0; i < count; i++)
			(void)shutdown(sides[i].sock, SHUT_RDWR);
	}
	while (started > 0)
		(void)pthread_join(thread[--started], NULL);
	return r;
}

/* ------------------------------ the receiver ------------------------------------------- */

static void receive_order(const struct bench_link *link, const struct order *order)
{
	struct bench_side side[STREAMS_MOST] = { 0 };
	struct bench_account account;
	const char ready = 1;
	double start;
	int r;

	bench_account_begin(&account);
	start = account.seconds;
	for (uint32_t i = 0; i < link->streams; i++)
		side[i] = (struct bench_side){ .cell = &link->cell,
			.sock = link->sock[i],
			.length = order->length,
			.files = order->files,
			.warm_up = order->warm_up,
			.start = start };
	if (tell(link->control, &ready, sizeof(ready)) < 0)
		_exit(1);
	r = run_sides(side, link->streams);
	bench_account_end(&account);
	account.error = r;
	for (uint32_t i = 0; i < link->streams; i++) {
		bench_account_add(&account, &side[i].account);
		if (side[i].received_s > account.last_s)
			account.last_s = side[i].received_s;
	}
	(void)getsockopt(link->sock[0], SOL_SOCKET, SO_RCVBUF, &account.rcvbuf,
		&(socklen_t){ sizeof(account.rcvbuf) });
	if (tell(link->control, &account, sizeof(account)) < 0 || account.error)
		_exit(1); /* and with it the connections end, which the sender notices */
}

static _Noreturn void receiver_main(struct bench_link *link, int listener)
{
	struct order order;
	const char ready = 1;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	pin(link->cpu[1]);
	for (uint32_t i = 0; i < link->streams; i++) {
		link->sock[i] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (link->sock[i] < 0 || finish_socket(link->sock[i], &link->cell) < 0)
			_exit(1);
	}
	close(listener);
	if (tell(link->control, &ready, sizeof(ready)) < 0)
		_exit(1);
	while (hear(link->control, &order, sizeof(order), -1) == 0 && !order.end)
		receive_order(link, &order);
	_exit(0);
}

/* ------------------------------ the sender --------------------------------------------- */

static int by_size(const void *one, const void *other)
{
	float a = *(const float *)one, b = *(const float *)other;

	return (a > b) - (a < b);
}

static double at_rank(const float *sorted, uint64_t count, double share)
{
	uint64_t rank = (uint64_t)((double)count * share);

	return sorted[rank < count ? rank : count - 1];
}

/* Of the streams together; sorts what it is given. */
static void judge_latency(struct bench_side *sides, uint32_t count, struct bench_latency *result)
{
	uint64_t total = 0, at = 0;
	float *all;

	for (uint32_t i = 0; i < count; i++)
		total += sides[i].latencies;
	all = total ? malloc(total * sizeof(*all)) : NULL;
	if (!all)
		return;
	for (uint32_t i = 0; i < count; i++) {
		memcpy(all + at, sides[i].latency_us, sides[i].latencies * sizeof(*all));
		at += sides[i].latencies;
	}
	qsort(all, total, sizeof(*all), by_size);
	result->files = total;
	result->p50_us = at_rank(all, total, 0.5);
	result->p90_us = at_rank(all, total, 0.9);
	result->p99_us = at_rank(all, total, 0.99);
	result->p999_us = at_rank(all, total, 0.999);
	result->max_us = all[total - 1];
	for (uint64_t i = 0; i < total; i++)
		result->stalls += all[i] > 30000;
	free(all);
}

static void gather_streams(
	struct bench_link *link, struct bench_side *side, struct bench_result *result)
{
	result->first_done_s = side[0].acked_s;
	for (uint32_t i = 0; i < link->streams; i++) {
		bench_account_add(&result->tx, &side[i].account);
		if (side[i].send_return_s > result->send_return_s)
			result->send_return_s = side[i].send_return_s;
		if (side[i].acked_s > result->acked_s)
			result->acked_s = side[i].acked_s;
		if (side[i].acked_s < result->first_done_s)
			result->first_done_s = side[i].acked_s;
		link->latency_us[i] = side[i].latency_us;
	}
	judge_latency(side, link->streams, &result->latency);
	result->bytes = result->tx.bytes;
}

/* The reason of a failure is on the side that did not merely lose its peer. */
static int judge_errors(const struct bench_account *tx, const struct bench_account *rx, int heard,
	bench_error error)
{
	if (heard < 0)
		return fail(error, heard == -ETIMEDOUT ? heard : -EPIPE,
			heard == -ETIMEDOUT ? "the receiver is silent" : "the receiver has gone");
	if (rx->error && rx->error != -ECONNRESET && rx->error != -EPIPE)
		return fail(error, rx->error, "receiver");
	if (tx->error)
		return fail(error, tx->error, "sender");
	if (rx->error)
		return fail(error, rx->error, "receiver");
	if (rx->bytes != tx->bytes)
		return fail(error, -EIO, "sender and receiver count different bytes");
	return 0;
}

static int move(struct bench_link *link, const struct order *order, struct bench_result *result,
	bench_error error)
{
	struct bench_side side[STREAMS_MOST] = { 0 };
	struct bench_tcp before = { 0 };
	int r, heard;
	char ready;

	if (tell(link->control, order, sizeof(*order)) < 0 ||
		hear(link->control, &ready, sizeof(ready), BENCH_PATIENCE_MS) < 0)
		return fail(error, -EPIPE, "the receiver has gone");
	for (uint32_t i = 0; i < link->streams; i++)
		bench_tcp_add(&before, link->sock[i]);
	bench_account_begin(&result->tx);
	double start = result->tx.seconds;
	for (uint32_t i = 0; i < link->streams; i++)
		side[i] = (struct bench_side){ .cell = &link->cell,
			.sock = link->sock[i],
			.file = order->warm_up ? link->memory : link->source,
			.length = order->length,
			.files = order->files,
			.warm_up = order->warm_up,
			.start = start,
			.sends = true,
			.latency_us = link->latency_us[i] };
	r = run_sides(side, link->streams);
	bench_account_end(&result->tx);
	if (r < 0)
		return fail(error, r, "threads");
	gather_streams(link, side, result);
	for (uint32_t i = 0; i < link->streams; i++)
		bench_tcp_add(&result->tcp, link->sock[i]);
	bench_tcp_since(&result->tcp, &before);
	if (result->tx.error) /* so that the receiver gives up too */
		for (uint32_t i = 0; i < link->streams; i++)
			(void)shutdown(link->sock[i], SHUT_RDWR);
	heard = hear(link->control, &result->rx, sizeof(result->rx), BENCH_PATIENCE_MS);
	return judge_errors(&result->tx, &result->rx, heard, error);
}

/* ------------------------------ a link ------------------------------------------------- */

static int warm_up(struct bench_link *link, bench_error error)
{
	struct order order = { .files = 1, .warm_up = 1 };
	struct bench_result result;
	double start = bench_now();
	uint64_t moved = 0;
	int r = 0;

	order.length = link->length < WARM_UP_PIECE ? link->length : WARM_UP_PIECE;
	if (order.length == 0)
		return 0;
	/* Small files in larger lots: the wait between lots is no part of a warm connection. */
	order.files = link->cell.framing == BENCH_BULK ? WARM_UP_PIECE / order.length : 1;
	while (r == 0 && moved < WARM_UP_BYTES && bench_now() - start < WARM_UP_S) {
		memset(&result, 0, sizeof(result));
		r = move(link, &order, &result, error);
		moved += result.bytes;
	}
	return r;
}

static int open_source(struct bench_link *link, bench_error error)
{
	bool direct = link->cell.cache == BENCH_CACHE_DIRECT;
	char name[PATH_MAX];
	struct stat st;

	(void)snprintf(name, sizeof(name), link->cell.numbered ? "%s.0" : "%s", link->cell.source);
	link->source = open(name, O_RDONLY | O_CLOEXEC | (direct ? O_DIRECT : 0));
	if (link->source < 0)
		return fail(error, -errno, name);
	if (fstat(link->source, &st) < 0)
		return fail(error, -errno, name);
	link->length = link->cell.file_bytes ? link->cell.file_bytes : (uint64_t)st.st_size;
	if (link->length > (uint64_t)st.st_size)
		return fail(error, -ENODATA, name);
	if (link->cell.numbered) {
		close(link->source);
		link->source = -1;
	}
	link->memory = memfd_create("warm-up", MFD_CLOEXEC);
	if (link->memory < 0 || ftruncate(link->memory, WARM_UP_PIECE) < 0)
		return fail(error, -errno, "memfd");
	return 0;
}

static int fork_receiver(struct bench_link *link, int listener, bench_error error)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		return fail(error, -errno, "socketpair");
	link->control = pair[0];
	link->receiver = fork();
	if (link->receiver < 0) {
		int r = -errno;
		close(pair[1]);
		return fail(error, r, "fork");
	}
	if (link->receiver == 0) {
		close(pair[0]);
		link->control = pair[1];
		receiver_main(link, listener);
	}
	close(pair[1]);
	return 0;
}

static int join_sides(struct bench_link *link, bench_error error)
{
	struct sockaddr_in address;
	int listener = listen_on_loopback(&link->cell, &address, error), r;
	char ready;

	if (listener < 0)
		return listener;
	r = fork_receiver(link, listener, error);
	close(listener);
	pin(link->cpu[0]);
	double start = bench_now();
	for (uint32_t i = 0; i < link->streams && r == 0; i++)
		r = connect_one(&link->cell, &address, &link->sock[i], error);
	link->connect_s = bench_now() - start;
	if (r == 0 && hear(link->control, &ready, sizeof(ready), BENCH_PATIENCE_MS) < 0)
		r = fail(error, -EPIPE, "the receiver does not accept");
	return r;
}

/* What no kernel is needed to refuse. */
static int check_cell(const struct bench_cell *cell, bench_error error)
{
	const char *why = NULL;

	if (cell->streams == 0 || cell->streams > STREAMS_MOST)
		why = "too many streams";
	else if (cell->streams > 1 && (cell->target || cell->numbered))
		why = "several streams store nothing";
	else if (cell->nagle == BENCH_NAGLE_MSG_MORE && cell->framing == BENCH_BULK &&
		 !(cell->strategy && strncmp(cell->strategy, "copy", 4) == 0 && cell->buffer))
		why = "MSG_MORE is only for copy";
	else if (cell->framing != BENCH_BULK && (cell->window == 0 || cell->target))
		why = "requests have a window and store nothing";
	else if (cell->framing == BENCH_BULK && cell->files == 0)
		why = "bulk has a number of files";
	if (!why)
		return 0;
	(void)snprintf(error, BENCH_ERROR_CAP, "%s", why);
	return -EINVAL;
}

int bench_open(const struct bench_cell *cell, struct bench_link **ret_link, bench_error error)
{
	struct bench_link *link;
	int r = check_cell(cell, error);

	*ret_link = NULL;
	if (r < 0)
		return r;
	link = calloc(1, sizeof(*link));
	if (!link)
		return fail(error, -ENOMEM, "memory");
	link->cell = *cell;
	link->streams = cell->streams;
	link->receiver = link->control = link->source = link->memory = -1;
	for (uint32_t i = 0; i < STREAMS_MOST; i++)
		link->sock[i] = -1;
	CPU_ZERO(&link->before);
	(void)sched_getaffinity(0, sizeof(link->before), &link->before);
	choose_cpus(&link->before, link->cpu);
	r = open_source(link, error);
	if (r == 0)
		r = join_sides(link, error);
	if (r == 0 && cell->warm_up)
		r = warm_up(link, error);
	if (r == 0)
		*ret_link = link;
	else
		bench_close(link);
	return r;
}

static int prepare_source(struct bench_link *link, double *ret_resident, bench_error error)
{
	enum bench_cache cache = link->cell.cache;
	int r = 0;

	*ret_resident = -1;
	if (cache == BENCH_CACHE_AS_IS || link->source < 0)
		return 0;
	if (cache == BENCH_CACHE_WARM)
		r = bench_warm(link->source, link->length);
	else
		r = bench_cool(link->source, link->length);
	if (r == -ENODATA) {
		(void)snprintf(error, BENCH_ERROR_CAP, "the source does not %s the page cache",
			cache == BENCH_CACHE_WARM ? "stay in" : "leave");
		return -EIO;
	}
	*ret_resident = bench_resident_pct(link->source, link->length);
	return r < 0 ? fail(error, r, "page cache") : 0;
}

int bench_trial(struct bench_link *link, struct bench_result *ret_result, bench_error error)
{
	struct order order = { .length = link->length, .files = link->cell.files };
	int r;

	memset(ret_result, 0, sizeof(*ret_result));
	ret_result->connect_s = link->connect_s;
	ret_result->cpu[0] = link->cpu[0];
	ret_result->cpu[1] = link->cpu[1];
	r = prepare_source(link, &ret_result->resident_pct, error);
	return r < 0 ? r : move(link, &order, ret_result, error);
}

void bench_close(struct bench_link *link)
{
	struct order end = { .end = 1 };

	if (!link)
		return;
	for (uint32_t i = 0; i < STREAMS_MOST; i++) {
		if (link->sock[i] >= 0)
			close(link->sock[i]);
		free(link->latency_us[i]);
	}
	if (link->control >= 0) {
		(void)tell(link->control, &end, sizeof(end)); /* it may have gone already */
		close(link->control);
	}
	if (link->receiver > 0) {
		int gone = -1;
		for (int i = 0; i < 200 && gone <= 0; i++) {
			gone = waitpid(link->receiver, NULL, WNOHANG);
			if (gone == 0)
				(void)usleep(1000);
		}
		if (gone == 0) {
			(void)kill(link->receiver, SIGKILL);
			(void)waitpid(link->receiver, NULL, 0);
		}
	}
	if (link->source >= 0)
		close(link->source);
	if (link->memory >= 0)
		close(link->memory);
	(void)sched_setaffinity(0, sizeof(link->before), &link->before);
	free(link);
}
