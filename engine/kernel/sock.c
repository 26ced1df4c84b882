/* SPDX-License-Identifier: Apache-2.0 */
/* sock.c - see sock.h. */
#include "kernel/sock.h"

#include "base/clock.h"
#include "base/sys.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <ifaddrs.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <linux/tcp.h>
#include <net/if.h>
#include <stdio.h>

#define USER_TIMEOUT_MS      30000
#define KEEPALIVE_IDLE_S     10
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_COUNT      4
#define LISTEN_BACKLOG       128

int sock_set_nonblocking(int fd)
{
	int flags = sys_fcntl(fd, F_GETFL, 0);
	return flags < 0 ? flags : sys_fcntl(fd, F_SETFL, flags | O_NONBLOCK);
}

static int set_int(int fd, int level, int name, int value)
{
	return sys_setsockopt(fd, level, name, &value, sizeof(value));
}

static int get_int(int fd, int level, int name)
{
	int value = 0;
	socklen_t length = sizeof(value);
	return sys_getsockopt(fd, level, name, &value, &length) < 0 ? 0 : value;
}

int sock_cork(int fd, unsigned on)
{
	return set_int(fd, IPPROTO_TCP, TCP_CORK, (int)on);
}

int sock_set_nodelay(int fd)
{
	return set_int(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

int sock_push(int fd)
{
	int r = sock_set_nodelay(fd); /* which sends what is held back, see tcp(7) */

	return r < 0 ? r : set_int(fd, IPPROTO_TCP, TCP_NODELAY, 0);
}

uint32_t sock_wake_bytes(int fd)
{
	int protocol = 0, bytes = 0;
	socklen_t length = sizeof(int);

	if (sys_getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &length) < 0 ||
		protocol != IPPROTO_TCP ||
		sys_getsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &bytes, &length) < 0)
		return 0;
	return (uint32_t)bytes;
}

int sock_set_wake_bytes(int fd, uint32_t bytes)
{
	return set_int(fd, SOL_SOCKET, SO_RCVLOWAT, (int)bytes);
}

static int apply_int(
	int fd, int level, int name, uint32_t value, const char *text, struct zh_error *err)
{
	int r;

	if (value == 0)
		return 0;
	r = value > INT_MAX ? -ERANGE : set_int(fd, level, name, (int)value);
	return r < 0 ? err_set(err, ZH_CONFIG, r, "socket option", "the kernel refuses %s %u", text,
			       value)
		     : 0;
}

int sock_apply(int fd, const struct zh_sockopts *options, struct zh_error *err)
{
	uint64_t pacing = options->pacing_bytes_per_s;
	size_t name_length = strnlen(options->congestion, sizeof(options->congestion));
	int r;

	if (name_length) {
		r = sys_setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, options->congestion,
			(socklen_t)name_length);
		if (r < 0)
			return err_set(err, ZH_CONFIG, r, "socket option",
				"the kernel refuses congestion control '%.15s'",
				options->congestion);
	}
	if (pacing) {
		r = sys_setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, &pacing, sizeof(pacing));
		if (r < 0)
			return err_set(err, ZH_CONFIG, r, "socket option",
				"the kernel refuses the pacing rate");
	}
	r = apply_int(fd, SOL_SOCKET, SO_SNDBUF, options->sndbuf_bytes, "SO_SNDBUF", err);
	if (r == 0)
		r = apply_int(fd, SOL_SOCKET, SO_RCVBUF, options->rcvbuf_bytes, "SO_RCVBUF", err);
	if (r == 0)
		r = apply_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, options->notsent_lowat_bytes,
			"TCP_NOTSENT_LOWAT", err);
	if (r == 0)
		r = apply_int(fd, IPPROTO_TCP, TCP_MAXSEG, options->mss_bytes, "TCP_MAXSEG", err);
	if (r == 0)
		r = apply_int(fd, IPPROTO_TCP, TCP_NODELAY, options->nagle == ZH_NAGLE_NODELAY,
			"TCP_NODELAY", err);
	return r;
}

int sock_guard(int fd)
{
	static const struct {
		int level, name, value;
	} rows[] = {
		{ IPPROTO_TCP, TCP_USER_TIMEOUT, USER_TIMEOUT_MS },
		{ SOL_SOCKET, SO_KEEPALIVE, 1 },
		{ IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_IDLE_S },
		{ IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S },
		{ IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT },
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		int r = set_int(fd, rows[i].level, rows[i].name, rows[i].value);
		if (r < 0)
			return r;
	}
	return 0;
}

void sock_tcp(int fd, struct zh_tcp *ret_tcp)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);
	struct zh_tcp tcp = { 0 };

	if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0) {
		tcp.valid = 1;
		tcp.nodelay = (uint32_t)get_int(fd, IPPROTO_TCP, TCP_NODELAY);
		tcp.cork = (uint32_t)get_int(fd, IPPROTO_TCP, TCP_CORK);
		tcp.sndbuf_bytes = (uint32_t)get_int(fd, SOL_SOCKET, SO_SNDBUF);
		tcp.rcvbuf_bytes = (uint32_t)get_int(fd, SOL_SOCKET, SO_RCVBUF);
		tcp.notsent_lowat_bytes = (uint32_t)get_int(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT);
		tcp.mss_bytes = info.tcpi_snd_mss;
		tcp.rtt_us = info.tcpi_rtt;
		tcp.min_rtt_us = info.tcpi_min_rtt;
		tcp.cwnd_segments = info.tcpi_snd_cwnd;
		tcp.retransmits = info.tcpi_total_retrans;
		tcp.segments_out = info.tcpi_segs_out;
		tcp.delivery_rate = info.tcpi_delivery_rate;
		tcp.pacing_rate = info.tcpi_pacing_rate;
		tcp.busy_us = info.tcpi_busy_time;
		tcp.rwnd_limited_us = info.tcpi_rwnd_limited;
		tcp.sndbuf_limited_us = info.tcpi_sndbuf_limited;
		length = sizeof(tcp.congestion) - 1;
		if (sys_getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, tcp.congestion, &length) < 0)
			tcp.congestion[0] = '\0';
	}
	*ret_tcp = tcp;
}

uint64_t sock_tcp_bytes(int fd, enum zh_side side)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return 0;
	return side == ZH_SEND ? info.tcpi_bytes_acked : info.tcpi_bytes_received;
}

int sock_wait(int fd, short events, int abort_fd, int timeout_ms)
{
	struct pollfd set[2] = { { .fd = fd, .events = events },
		{ .fd = abort_fd, .events = POLLIN } };
	uint64_t deadline = timeout_ms < 0 ? 0 : clock_now_ns() + (uint64_t)timeout_ms * NS_PER_MS;

	for (;;) {
		int left = -1;
		int r;
		if (timeout_ms >= 0) {
			uint64_t now = clock_now_ns();
			left = now >= deadline ? 0 : (int)div_up(deadline - now, NS_PER_MS);
		}
		r = sys_poll(set, 2, left);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return r;
		if (set[1].revents)
			return -ECANCELED;
		if (set[0].revents)
			return 0;
		if (r == 0 && timeout_ms >= 0)
			return -ETIMEDOUT;
	}
}

static int connect_one(const struct addrinfo *address, const struct zh_sockopts *options,
	int abort_fd, int timeout_ms, int *ret_fd, struct zh_error *err)
{
	socklen_t length = sizeof(int);
	int error = 0;
	int r;
	/* IPPROTO_TCP by name: where MPTCP is the default it would copy silently. */
	int fd = sys_socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);

	if (fd < 0)
		return fd;
	r = options ? sock_apply(fd, options, err) : 0;
	if (r == 0)
		r = sock_guard(fd);
	if (r == 0)
		r = sys_connect(fd, address->ai_addr, address->ai_addrlen);
	if (r == -EINPROGRESS || r == -EINTR)
		r = sock_wait(fd, POLLOUT, abort_fd, timeout_ms);
	if (r == 0)
		r = sys_getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &length);
	if (r == 0)
		r = -error;
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

static int resolve(const char *host, uint16_t port, int flags, struct addrinfo **ret_list)
{
	struct addrinfo hints = {
		.ai_family = AF_UNSPEC,
		.ai_socktype = SOCK_STREAM,
		.ai_flags = AI_NUMERICSERV | flags,
	};
	char service[8];

	(void)snprintf(service, sizeof(service), "%u", (unsigned)port);
	return getaddrinfo(host, service, &hints, ret_list);
}

int sock_connect(const char *host, uint16_t port, const struct zh_sockopts *options, int abort_fd,
	int timeout_ms, int *ret_fd, struct zh_error *err)
{
	struct addrinfo *list;
	int r = resolve(host, port, 0, &list);

	if (r != 0)
		return err_set(
			err, ZH_NET, EHOSTUNREACH, "resolve", "%s: %s", host, gai_strerror(r));
	r = -EHOSTUNREACH;
	for (const struct addrinfo *a = list; a; a = a->ai_next) {
		r = connect_one(a, options, abort_fd, timeout_ms, ret_fd, err);
		if (r == 0 || r == -ECANCELED)
			break;
	}
	freeaddrinfo(list);
	if (r < 0)
		return err_set(err, err_of_socket(r), r, "connect", "cannot connect to %s port %u",
			host, (unsigned)port);
	return 0;
}

static bool address_is_loopback(const struct sockaddr *address)
{
	if (address->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, address, sizeof(in));
		return ntohl(in.sin_addr.s_addr) >> 24 == 127;
	}
	if (address->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, address, sizeof(in6));
		return IN6_IS_ADDR_LOOPBACK(&in6.sin6_addr) ||
		       (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr) && in6.sin6_addr.s6_addr[12] == 127);
	}
	return false;
}

bool sock_peer_is_loopback(int fd)
{
	struct sockaddr_storage address;
	socklen_t length = sizeof(address);

	return sys_getpeername(fd, (struct sockaddr *)&address, &length) == 0 &&
	       address_is_loopback((const struct sockaddr *)&address);
}

/* Splits "ADDR:PORT", "[ADDR6]:PORT", ":PORT", "ADDR". */
static int listen_split(const char *text, char *ret_host, size_t cap, uint16_t *ret_port)
{
	const char *colon = strrchr(text, ':');
	const char *host = text;
	size_t host_length;
	unsigned long port = ZH_DEFAULT_PORT;
	char *end;

	if (text[0] == '[') {
		const char *close = strchr(text, ']');
		if (!close || (close[1] != '\0' && close[1] != ':'))
			return -EINVAL;
		host = text + 1;
		host_length = (size_t)(close - host);
		colon = close[1] == ':' ? close + 1 : NULL;
	} else {
		if (colon && strchr(text, ':') != colon)
			return -EINVAL; /* an IPv6 address needs its brackets */
		host_length = colon ? (size_t)(colon - text) : strlen(text);
	}
	if (colon) {
		if (colon[1] < '0' || colon[1] > '9')
			return -EINVAL;
		port = strtoul(colon + 1, &end, 10);
		if (*end != '\0' || port > UINT16_MAX)
			return -EINVAL;
	}
	if (host_length >= cap)
		return -EINVAL;
	memcpy(ret_host, host, host_length);
	ret_host[host_length] = '\0';
	*ret_port = (uint16_t)port;
	return 0;
}

/* An IPv6 socket on all addresses takes IPv4 too. */
static int listen_one(const struct addrinfo *address, int *ret_fd)
{
	int fd = sys_socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK, IPPROTO_TCP);
	int r;

	if (fd < 0)
		return fd;
	r = set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (r == 0 && address->ai_family == AF_INET6)
		r = set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
	if (r == 0)
		r = sys_bind(fd, address->ai_addr, address->ai_addrlen);
	if (r == 0)
		r = sys_listen(fd, LISTEN_BACKLOG);
	if (r < 0) {
		sys_close(fd);
		return r;
	}
	*ret_fd = fd;
	return 0;
}

int sock_listen(const char *text, bool loopback_only, int *ret_fd, struct zh_error *err)
{
	struct addrinfo *list;
	char host[256];
	uint16_t port;
	int r = listen_split(text, host, sizeof(host), &port);

	if (r < 0)
		return err_set(
			err, ZH_CONFIG, 0, "listen", "'%s' is not ADDR:PORT or [ADDR6]:PORT", text);
	r = resolve(host[0] ? host : NULL, port, AI_PASSIVE, &list);
	if (r != 0)
		return err_set(err, ZH_CONFIG, 0, "listen", "%s: %s", text, gai_strerror(r));
	if (loopback_only && !address_is_loopback(list->ai_addr)) {
		freeaddrinfo(list);
		return err_set(err, ZH_POLICY, EPERM, "listen",
			"without a key only loopback addresses may be served, not %s", text);
	}
	r = -EADDRNOTAVAIL;
	/* No host means all addresses: IPv6 with IPv4 in it where there is IPv6. */
	for (const struct addrinfo *a = list; a && !host[0] && r < 0; a = a->ai_next)
		if (a->ai_family == AF_INET6)
			r = listen_one(a, ret_fd);
	if (r < 0)
		r = listen_one(list, ret_fd);
	freeaddrinfo(list);
	return r < 0 ? err_set(err, ZH_CONFIG, r, "listen", "cannot listen on %s", text) : 0;
}

static void address_text(
	const struct sockaddr *address, socklen_t length, char *ret_text, size_t cap)
{
	char host[INET6_ADDRSTRLEN + 24], service[8];

	ret_text[0] = '\0';
	if (getnameinfo(address, length, host, sizeof(host), service, sizeof(service),
		    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
		return;
	if (address->sa_family != AF_INET && address->sa_family != AF_INET6)
		return;
	(void)snprintf(
		ret_text, cap, address->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, service);
}

void sock_local_text(int fd, char *ret_text, size_t cap)
{
	struct sockaddr_storage address = { 0 }; /* an unnamed socket's is not filled in */
	socklen_t length = sizeof(address);

	ret_text[0] = '\0';
	if (sys_getsockname(fd, (struct sockaddr *)&address, &length) == 0)
		address_text((const struct sockaddr *)&address, length, ret_text, cap);
}

void sock_peer_text(int fd, char *ret_text, size_t cap)
{
	struct sockaddr_storage address = { 0 }; /* an unnamed socket's is not filled in */
	socklen_t length = sizeof(address);

	ret_text[0] = '\0';
	if (sys_getpeername(fd, (struct sockaddr *)&address, &length) == 0)
		address_text((const struct sockaddr *)&address, length, ret_text, cap);
}

/* An IPv4 address inside IPv6 is the same address. */
static void address_bytes(const struct sockaddr *address, struct in6_addr *ret_bytes)
{
	struct sockaddr_in6 in6;
	struct sockaddr_in in;

	memset(ret_bytes, 0, sizeof(*ret_bytes));
	if (address->sa_family == AF_INET6) {
		memcpy(&in6, address, sizeof(in6));
		*ret_bytes = in6.sin6_addr;
	} else if (address->sa_family == AF_INET) {
		memcpy(&in, address, sizeof(in));
		ret_bytes->s6_addr[10] = ret_bytes->s6_addr[11] = 0xff;
		memcpy(&ret_bytes->s6_addr[12], &in.sin_addr, sizeof(in.sin_addr));
	}
}

static bool address_equal(const struct sockaddr *a, const struct sockaddr *b)
{
	struct in6_addr x, y;

	address_bytes(a, &x);
	address_bytes(b, &y);
	return IN6_ARE_ADDR_EQUAL(&x, &y);
}

/* Name of the device that holds a local address, "" when none is found. */
static void device_of_address(const struct sockaddr *address, char *ret_name, size_t cap)
{
	struct ifaddrs *list;

	ret_name[0] = '\0';
	if (getifaddrs(&list) < 0)
		return;
	for (const struct ifaddrs *i = list; i; i = i->ifa_next)
		if (i->ifa_addr && address_equal(i->ifa_addr, address)) {
			text_set(ret_name, cap, i->ifa_name);
			break;
		}
	freeifaddrs(list);
}

static bool device_has_scatter_gather(int fd, const char *device)
{
	struct ethtool_value value = { .cmd = ETHTOOL_GSG };
	struct ifreq request = { 0 };

	TEXT_SET(request.ifr_name, device);
	request.ifr_data = (char *)&value;
	/* A device that cannot be asked is taken to have it, as nearly all do. */
	return sys_ioctl(fd, SIOCETHTOOL, &request) < 0 || value.data != 0;
}

/*
 * What the peer puts into a full segment: no more than we announced, nor than fits the route, which
 * what we may send tells. tcpi_rcv_mss would be what came; before there was anything it is a guess.
 */
static uint32_t receive_mss_bytes(int fd)
{
	struct tcp_info info = { 0 };
	socklen_t length = sizeof(info);

	if (sys_getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &length) < 0)
		return 0;
	return (uint32_t)min_u64(info.tcpi_advmss, info.tcpi_snd_mss);
}

void sock_facts(int fd, struct sock_facts *ret_facts)
{
	struct sockaddr_storage local = { 0 }, peer = { 0 };
	socklen_t local_length = sizeof(local), peer_length = sizeof(peer);
	struct sock_facts facts = { .tcp = true, .local_peer = true, .scatter_gather = true };
	struct zh_tcp tcp;

	TEXT_SET(facts.device, "lo");
	if (fd >= 0) {
		sock_tcp(fd, &tcp);
		facts.known = true;
		/* An MPTCP socket answers TCP_INFO too, but copies what others send in place. */
		facts.tcp = tcp.valid && get_int(fd, SOL_SOCKET, SO_PROTOCOL) == IPPROTO_TCP;
		facts.mss_bytes = tcp.mss_bytes;
		facts.receive_mss_bytes = facts.tcp ? receive_mss_bytes(fd) : 0;
		TEXT_SET(facts.congestion, tcp.congestion);
		if (facts.tcp &&
			sys_getsockname(fd, (struct sockaddr *)&local, &local_length) == 0 &&
			sys_getpeername(fd, (struct sockaddr *)&peer, &peer_length) == 0) {
			facts.local_peer = address_equal((struct sockaddr *)&local,
						   (struct sockaddr *)&peer) ||
					   address_is_loopback((struct sockaddr *)&peer);
			device_of_address(
				(struct sockaddr *)&local, facts.device, sizeof(facts.device));
			facts.scatter_gather = device_has_scatter_gather(fd, facts.device);
		} else {
			facts.scatter_gather = false;
			facts.device[0] = '\0';
		}
	}
	*ret_facts = facts;
}
