/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sock_test.c - TCP sockets: listening and connecting by text, options and what became of them,
 * waiting, facts about the route.
 */
#include "move_kit.h"

#include "base/clock.h"
#include "kernel/sock.h"

#include <arpa/inet.h>
#include <linux/sockios.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>

static struct zh_error err;

/* ------------------------------------------------------------------ listening ------------------
 */

static uint16_t port_of(int fd)
{
	char text[80];

	sock_local_text(fd, text, sizeof(text));
	return (uint16_t)strtoul(strrchr(text, ':') + 1, NULL, 10);
}

static void an_address_is_listened_on_as_written(void **state)
{
	static const struct {
		const char *text;
		const char *host; /* as it is told afterwards */
	} rows[] = {
		{ "127.0.0.1:0", "127.0.0.1:" },
		{ "127.0.0.2:0", "127.0.0.2:" },
		{ "[::1]:0", "[::1]:" },
		{ "localhost:0", "" },
	};
	char text[80];

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int fd = -1;
		err_init(&err);
		int r = sock_listen(rows[i].text, true, &fd, &err);
		if (r == -EAFNOSUPPORT || r == -EADDRNOTAVAIL)
			continue; /* a host without IPv6 */
		if (r != 0)
			fail_msg("%s: %s", rows[i].text, err.text);
		assert_false(err_is_set(&err));
		sock_local_text(fd, text, sizeof(text));
		assert_int_equal(strncmp(text, rows[i].host, strlen(rows[i].host)), 0);
		assert_true(port_of(fd) != 0);
		assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
		assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
		close(fd);
	}
}

static void what_is_no_address_is_refused_with_a_sentence(void **state)
{
	static const char *const texts[] = { "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x",
		"127.0.0.1:1x", "127.0.0.1:-1", "::1", "[::1", "[::1]x", "[::1]80", "1:2:3",
		"no such host:0", "999.1.1.1:0" };
	char long_text[400];
	int fd = -1;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		err_init(&err);
		if (sock_listen(texts[i], true, &fd, &err) >= 0)
			fail_msg("'%s' is listened on", texts[i]);
		assert_int_equal(err.outcome, ZH_CONFIG);
		assert_string_equal(err.stage, "listen");
		assert_non_null(strstr(err.text, texts[i]));
	}
	memset(long_text, 'a', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	err_init(&err);
	assert_true(sock_listen(long_text, true, &fd, &err) < 0);
	assert_int_equal(err.outcome, ZH_CONFIG);
	assert_int_equal(fd, -1);
}

static void without_a_key_only_loopback_is_listened_on(void **state)
{
	static const char *const texts[] = { ":0", "0.0.0.0:0", "[::]:0", "192.0.2.1:0" };
	int fd = -1;

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		err_init(&err);
		assert_true(sock_listen(texts[i], true, &fd, &err) < 0);
		assert_int_equal(err.outcome, ZH_POLICY);
		assert_int_equal(fd, -1);
	}
	err_init(&err);
	assert_int_equal(sock_listen("0.0.0.0:0", false, &fd, &err), 0);
	close(fd);
}

static void no_address_is_all_addresses(void **state)
{
	struct zh_sockopts options = zh_sockopts_default();
	struct sock_facts facts;
	int listener = -1, fd = -1;

	(void)state;
	err_init(&err);
	assert_int_equal(sock_listen(":0", false, &listener, &err), 0);
	assert_int_equal(
		sock_connect("127.0.0.1", port_of(listener), &options, -1, 5000, &fd, &err), 0);
	assert_int_equal(sock_wait(listener, POLLIN, -1, 5000), 0);
	int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	/* the peer is the same one, in whatever family the listener sees it */
	assert_true(sock_peer_is_loopback(accepted));
	sock_facts(accepted, &facts);
	assert_true(facts.tcp && facts.local_peer);
	assert_string_equal(facts.device, "lo");
	close(accepted);
	close(fd);
	close(listener);
}

static void a_port_in_use_is_told(void **state)
{
	char text[80];
	int one = -1, two = -1;

	(void)state;
	err_init(&err);
	assert_int_equal(sock_listen("127.0.0.1:0", true, &one, &err), 0);
	sock_local_text(one, text, sizeof(text));
	assert_int_equal(sock_listen(text, true, &two, &err), -EADDRINUSE);
	assert_int_equal(err.outcome, ZH_CONFIG);
	assert_int_equal(err.errnum, EADDRINUSE);
	assert_int_equal(two, -1);
	close(one);
}

/* ------------------------------------------------------------------ connecting -----------------
 */

static void a_connection_is_made_and_both_ends_know_it(void **state)
{
	struct zh_sockopts options = zh_sockopts_default();
	char ours[80], theirs[80];
	int listener = -1, fd = -1;

	(void)state;
	err_init(&err);
	assert_int_equal(sock_listen("127.0.0.1:0", true, &listener, &err), 0);
	assert_int_equal(
		sock_connect("127.0.0.1", port_of(listener), &options, -1, 5000, &fd, &err), 0);
	assert_false(err_is_set(&err));
	assert_int_equal(sock_wait(listener, POLLIN, -1, 5000), 0);
	int accepted = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	assert_true(accepted >= 0);
	sock_local_text(fd, ours, sizeof(ours));
	sock_peer_text(accepted, theirs, sizeof(theirs));
	assert_string_equal(ours, theirs);
	sock_peer_text(fd, ours, sizeof(ours));
	sock_local_text(accepted, theirs, sizeof(theirs));
	assert_string_equal(ours, theirs);
	assert_true(sock_peer_is_loopback(fd) && sock_peer_is_loopback(accepted));
	assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	close(accepted);
	close(fd);
	close(listener);
}

static void a_connection_that_cannot_be_made_is_told(void **state)
{
	struct zh_sockopts options = zh_sockopts_default();
	int listener = -1, fd = -1;
	size_t fds = fd_count();

	(void)state;
	err_init(&err);
	assert_int_equal(sock_listen("127.0.0.1:0", true, &listener, &err), 0);
	uint16_t port = port_of(listener);
	close(listener);
	assert_int_equal(
		sock_connect("127.0.0.1", port, &options, -1, 5000, &fd, &err), -ECONNREFUSED);
	assert_int_equal(err.outcome, ZH_NET);
	assert_int_equal(err.errnum, ECONNREFUSED);
	err_init(&err);
	assert_true(sock_connect("no such host", 1, &options, -1, 5000, &fd, &err) < 0);
	assert_int_equal(err.outcome, ZH_NET);
	assert_string_equal(err.stage, "resolve");
	options.mss_bytes = 1; /* refused before the connection is made */
	err_init(&err);
	assert_int_equal(sock_connect("127.0.0.1", port, &options, -1, 5000, &fd, &err), -EINVAL);
	assert_int_equal(err.outcome, ZH_CONFIG);
	assert_non_null(strstr(err.text, "TCP_MAXSEG"));
	assert_int_equal(fd, -1);
	assert_int_equal(fd_count(), fds);
}

/* A listener whose queue is full answers nothing. */
static void a_connection_without_an_answer_ends_in_time_or_by_abort(void **state)
{
	struct zh_sockopts options = zh_sockopts_default();
	struct sockaddr_in address = { .sin_family = AF_INET };
	socklen_t length = sizeof(address);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int abort_fd = eventfd(1, EFD_CLOEXEC);
	int filler[4], fd = -1, r;

	(void)state;
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(listener, (struct sockaddr *)&address, length), 0);
	assert_int_equal(listen(listener, 0), 0);
	assert_int_equal(getsockname(listener, (struct sockaddr *)&address, &length), 0);
	for (size_t i = 0; i < ARRAY_LEN(filler); i++) {
		filler[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		(void)connect(filler[i], (struct sockaddr *)&address, length);
	}
	(void)usleep(20000);
	uint64_t start = clock_now_ns();
	err_init(&err);
	r = sock_connect("127.0.0.1", ntohs(address.sin_port), &options, -1, 150, &fd, &err);
	assert_int_equal(r, -ETIMEDOUT);
	assert_int_equal(err.outcome, ZH_TIMEOUT);
	assert_true(clock_now_ns() - start >= 140 * (uint64_t)NS_PER_MS);
	assert_true(clock_now_ns() - start < 5000 * (uint64_t)NS_PER_MS);
	err_init(&err);
	r = sock_connect(
		"127.0.0.1", ntohs(address.sin_port), &options, abort_fd, 60000, &fd, &err);
	assert_int_equal(r, -ECANCELED);
	assert_int_equal(fd, -1);
	for (size_t i = 0; i < ARRAY_LEN(filler); i++)
		close(filler[i]);
	close(abort_fd);
	close(listener);
}

static void a_connect_that_is_interrupted_is_completed(void **state)
{
	struct zh_sockopts options = zh_sockopts_default();
	struct sys_fault fault = { SYS_FAULT_EINTR, SYS_POLL, 0, 1, 1 };
	int listener = -1, fd = -1;

	(void)state;
	err_init(&err);
	assert_int_equal(sock_listen("127.0.0.1:0", true, &listener, &err), 0);
	sys_fault_arm(&fault);
	int r = sock_connect("127.0.0.1", port_of(listener), &options, -1, 5000, &fd, &err);
	sys_fault_arm(NULL);
	assert_int_equal(r, 0);
	close(fd);
	close(listener);
}

/* ------------------------------------------------------------------ options --------------------
 */

static int option(int fd, int level, int name)
{
	int value = 0;
	socklen_t length = sizeof(value);

	assert_int_equal(getsockopt(fd, level, name, &value, &length), 0);
	return value;
}

static void options_are_set_and_told(void **state)
{
	struct zh_sockopts options = zh_sockopts_default();
	struct zh_tcp tcp;
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	options.sndbuf_bytes = 100000;
	options.rcvbuf_bytes = 200000;
	options.notsent_lowat_bytes = 131072;
	options.nagle = ZH_NAGLE_NODELAY;
	options.pacing_bytes_per_s = 12345678;
	TEXT_SET(options.congestion, "reno"); /* which every kernel has */
	err_init(&err);
	assert_int_equal(sock_apply(end[0], &options, &err), 0);
	sock_tcp(end[0], &tcp);
	assert_int_equal(tcp.valid, 1);
	assert_int_equal(tcp.nodelay, 1);
	assert_int_equal(tcp.cork, 0);
	assert_int_equal(tcp.sndbuf_bytes, 200000); /* the kernel doubles what is asked for */
	assert_int_equal(tcp.rcvbuf_bytes, 400000);
	assert_int_equal(tcp.notsent_lowat_bytes, 131072);
	assert_string_equal(tcp.congestion, "reno");
	assert_true(tcp.mss_bytes > 0);
	assert_int_equal(sock_cork(end[0], 1), 0);
	sock_tcp(end[0], &tcp);
	assert_int_equal(tcp.cork, 1);
	assert_int_equal(sock_cork(end[0], 0), 0);
	assert_int_equal(option(end[0], IPPROTO_TCP, TCP_CORK), 0);
	kit_close_pair(end);
}

static void nothing_wished_for_changes_nothing(void **state)
{
	struct zh_sockopts options = zh_sockopts_default();
	struct zh_tcp before, after;
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	sock_tcp(end[0], &before);
	sys_calls[SYS_SETSOCKOPT] = 0;
	err_init(&err);
	assert_int_equal(sock_apply(end[0], &options, &err), 0);
	assert_int_equal(sys_calls[SYS_SETSOCKOPT], 0); /* or the kernel's tuning would end */
	sock_tcp(end[0], &after);
	assert_int_equal(before.sndbuf_bytes, after.sndbuf_bytes);
	assert_int_equal(before.nodelay, after.nodelay);
	kit_close_pair(end);
}

static void a_refused_option_is_named(void **state)
{
	static const struct {
		struct zh_sockopts options;
		const char *name;
	} rows[] = {
		{ { .congestion = "no-such-one" }, "no-such-one" },
		{ { .sndbuf_bytes = UINT32_MAX }, "SO_SNDBUF" },
		{ { .rcvbuf_bytes = UINT32_MAX }, "SO_RCVBUF" },
		{ { .mss_bytes = 3 }, "TCP_MAXSEG" },
		{ { .mss_bytes = 1u << 30 }, "TCP_MAXSEG" },
	};
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		err_init(&err);
		assert_true(sock_apply(end[0], &rows[i].options, &err) < 0);
		assert_int_equal(err.outcome, ZH_CONFIG);
		assert_non_null(strstr(err.text, rows[i].name));
		assert_true(sock_apply(end[0], &rows[i].options, NULL) < 0);
	}
	kit_close_pair(end);
}

static void a_guarded_connection_notices_a_dead_peer(void **state)
{
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	assert_int_equal(sock_guard(end[0]), 0);
	assert_int_equal(option(end[0], SOL_SOCKET, SO_KEEPALIVE), 1);
	assert_in_range(option(end[0], IPPROTO_TCP, TCP_USER_TIMEOUT), 1000, 60000);
	assert_in_range(option(end[0], IPPROTO_TCP, TCP_KEEPIDLE), 1, 60);
	kit_close_pair(end);
	assert_true(sock_guard(-1) < 0);
}

static int unsent_bytes(int fd)
{
	int unsent = -1;

	assert_int_equal(ioctl(fd, SIOCOUTQNSD, &unsent), 0);
	return unsent;
}

/* A receiver acknowledges the first segments of a connection at once, later ones after a while. */
static void what_is_held_back_is_pushed(void **state)
{
	int end[2], held = 0;
	struct zh_tcp tcp;

	(void)state;
	kit_tcp_pair(end, false);
	for (int i = 0; i < 1000 && held == 0; i++) {
		assert_int_equal(send(end[0], "ab", 2, 0), 2);
		held = unsent_bytes(end[0]);
	}
	assert_true(held > 0);
	assert_int_equal(sock_push(end[0]), 0);
	assert_int_equal(unsent_bytes(end[0]), 0);
	sock_tcp(end[0], &tcp);
	assert_int_equal(tcp.nodelay, 0);
	assert_int_equal(sock_set_nodelay(end[0]), 0);
	for (int i = 0; i < 3; i++) { /* the window has room for them */
		assert_int_equal(send(end[0], "ab", 2, 0), 2);
		assert_int_equal(unsent_bytes(end[0]), 0);
	}
	kit_close_pair(end);
}

static void bytes_that_tcp_moved_are_counted_at_both_ends(void **state)
{
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	uint64_t sent = sock_tcp_bytes(end[0], ZH_SEND);
	uint64_t received = sock_tcp_bytes(end[1], ZH_RECEIVE);
	assert_int_equal(write(end[0], "hello", 5), 5);
	assert_int_equal(sock_wait(end[1], POLLIN, -1, 5000), 0);
	assert_int_equal(sock_tcp_bytes(end[1], ZH_RECEIVE), received + 5);
	for (int i = 0; i < 100 && sock_tcp_bytes(end[0], ZH_SEND) < sent + 5; i++)
		(void)usleep(10000); /* the acknowledgement may be delayed */
	assert_int_equal(sock_tcp_bytes(end[0], ZH_SEND), sent + 5);
	kit_close_pair(end);
	kit_unix_pair(end);
	assert_int_equal(sock_tcp_bytes(end[0], ZH_SEND), 0);
	kit_close_pair(end);
}

/* ------------------------------------------------------------------ waiting --------------------
 */

static void a_wait_ends_by_event_time_or_abort(void **state)
{
	int end[2], abort_fd = eventfd(0, EFD_CLOEXEC);
	uint64_t one = 1;

	(void)state;
	kit_tcp_pair(end, false);
	assert_int_equal(sock_wait(end[0], POLLOUT, abort_fd, 5000), 0);
	uint64_t start = clock_now_ns();
	assert_int_equal(sock_wait(end[0], POLLIN, abort_fd, 50), -ETIMEDOUT);
	assert_true(clock_now_ns() - start >= 49 * (uint64_t)NS_PER_MS);
	assert_int_equal(sock_wait(end[0], POLLIN, -1, 0), -ETIMEDOUT);
	assert_int_equal(write(end[1], "x", 1), 1);
	assert_int_equal(sock_wait(end[0], POLLIN, abort_fd, -1), 0);
	assert_int_equal(write(abort_fd, &one, sizeof(one)), sizeof(one));
	assert_int_equal(sock_wait(end[0], POLLIN, abort_fd, -1), -ECANCELED);
	close(abort_fd);
	/* what is wrong with the socket itself is left to the next call on it */
	assert_int_equal(shutdown(end[0], SHUT_RDWR), 0);
	assert_int_equal(sock_wait(end[0], POLLIN, -1, 5000), 0);
	kit_close_pair(end);
	assert_int_equal(sock_wait(end[0], POLLIN, -1, 5000), 0); /* closed */
}

static void a_wait_that_is_interrupted_goes_on_no_longer(void **state)
{
	struct sys_fault fault = { SYS_FAULT_EINTR, SYS_POLL, 0, 1, 3 };
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	uint64_t start = clock_now_ns();
	sys_fault_arm(&fault);
	assert_int_equal(sock_wait(end[0], POLLIN, -1, 60), -ETIMEDOUT);
	assert_int_equal(sys_fault_struck(), 3);
	uint64_t ms = (clock_now_ns() - start) / NS_PER_MS;
	assert_true(ms >= 59 && ms < 2000);
	fault = (struct sys_fault){ SYS_FAULT_ERRNO, SYS_POLL, ENOMEM, 1, 1 };
	sys_fault_arm(&fault);
	assert_int_equal(sock_wait(end[0], POLLIN, -1, 60), -ENOMEM);
	sys_fault_arm(NULL);
	kit_close_pair(end);
}

/* ------------------------------------------------------------------ facts ----------------------
 */

static void a_loopback_connection_is_described_as_it_is(void **state)
{
	struct sock_facts facts;
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	sock_facts(end[0], &facts);
	assert_true(facts.known && facts.tcp && facts.local_peer);
	assert_string_equal(facts.device, "lo");
	assert_true(facts.mss_bytes > 0);
	assert_true(facts.receive_mss_bytes >= 536 && facts.receive_mss_bytes <= 65535);
	assert_true(facts.congestion[0] != '\0');
	kit_close_pair(end);
}

static void other_sockets_are_told_from_tcp(void **state)
{
	struct sock_facts facts;
	struct zh_tcp tcp;
	char text[80] = "unchanged";
	int end[2];

	(void)state;
	kit_unix_pair(end);
	sock_facts(end[0], &facts);
	assert_true(facts.known);
	assert_false(facts.tcp);
	assert_false(facts.scatter_gather);
	assert_int_equal(facts.receive_mss_bytes, 0);
	assert_string_equal(facts.device, "");
	sock_tcp(end[0], &tcp);
	assert_int_equal(tcp.valid, 0);
	assert_int_equal(tcp.sndbuf_bytes, 0);
	sock_peer_text(end[0], text, sizeof(text));
	assert_string_equal(text, "");
	assert_false(sock_peer_is_loopback(end[0]));
	kit_close_pair(end);
}

static void without_a_socket_a_local_tcp_peer_is_assumed(void **state)
{
	struct sock_facts facts;

	(void)state;
	sock_facts(-1, &facts);
	assert_false(facts.known);
	assert_true(facts.tcp && facts.local_peer && facts.scatter_gather);
}

static void a_socket_that_cannot_be_asked_is_not_taken_for_tcp(void **state)
{
	struct sys_fault fault = { SYS_FAULT_ERRNO, SYS_GETSOCKOPT, EPERM, 1, 0 };
	struct sock_facts facts;
	int end[2];

	(void)state;
	kit_tcp_pair(end, false);
	sys_fault_arm(&fault);
	sock_facts(end[0], &facts);
	sys_fault_arm(NULL);
	assert_true(facts.known);
	assert_false(facts.tcp);
	kit_close_pair(end);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_address_is_listened_on_as_written),
		cmocka_unit_test(what_is_no_address_is_refused_with_a_sentence),
		cmocka_unit_test(without_a_key_only_loopback_is_listened_on),
		cmocka_unit_test(no_address_is_all_addresses),
		cmocka_unit_test(a_port_in_use_is_told),
		cmocka_unit_test(a_connection_is_made_and_both_ends_know_it),
		cmocka_unit_test(a_connection_that_cannot_be_made_is_told),
		cmocka_unit_test(a_connection_without_an_answer_ends_in_time_or_by_abort),
		cmocka_unit_test(a_connect_that_is_interrupted_is_completed),
		cmocka_unit_test(options_are_set_and_told),
		cmocka_unit_test(nothing_wished_for_changes_nothing),
		cmocka_unit_test(a_refused_option_is_named),
		cmocka_unit_test(a_guarded_connection_notices_a_dead_peer),
		cmocka_unit_test(what_is_held_back_is_pushed),
		cmocka_unit_test(bytes_that_tcp_moved_are_counted_at_both_ends),
		cmocka_unit_test(a_wait_ends_by_event_time_or_abort),
		cmocka_unit_test(a_wait_that_is_interrupted_goes_on_no_longer),
		cmocka_unit_test(a_loopback_connection_is_described_as_it_is),
		cmocka_unit_test(other_sockets_are_told_from_tcp),
		cmocka_unit_test(without_a_socket_a_local_tcp_peer_is_assumed),
		cmocka_unit_test(a_socket_that_cannot_be_asked_is_not_taken_for_tcp),
	};

	return RUN_TESTS("sock", tests);
}
