/* SPDX-License-Identifier: Apache-2.0 */
/*
 * strategy_fault_test.c - every call that a strategy makes fails, is short or is interrupted: the
 * n-th one, once and from then on, for all n until a run ends without meeting the fault. After
 * each: success only with the right bytes, on the wire or in the file; no descriptor or memory
 * kept; an error that is the one injected; a demotion on record when the fallback took over; and
 * after an error of the file a stream that is still in step.
 *
 * The peer is a process of its own, forked before the fault is armed.
 * With the argument "complete": smaller chunks, every combination. ZH_STRATEGY_STEP in the
 * environment: only every so many-th n.
 */
#include "move_kit.h"

#include <malloc.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>

#define LENGTH      (3 * MIB + 17)
#define START       4096u /* of the extent in the file */
#define ALARM_S     60    /* for one run: what lasts longer hangs */
#define NTH_LIMIT   5000  /* no run makes so many calls: a sweep that gets here does not end */
#define LEAK_BYTES  (256 * KIB)
#define SOCK_BUFFER (1 << 20)
#define TRAILER     "what follows the extent"

static bool complete;
static uint64_t step = 1;

struct way {
	enum sys_fault_kind kind;
	int error;
};

static const struct way ways[] = {
	{ SYS_FAULT_ERRNO, EIO },
	{ SYS_FAULT_ERRNO, ENOSPC },
	{ SYS_FAULT_ERRNO, EINVAL },
	{ SYS_FAULT_ERRNO, ENOSYS },
	{ SYS_FAULT_ERRNO, EOPNOTSUPP },
	{ SYS_FAULT_ERRNO, EPERM },
	{ SYS_FAULT_ERRNO, ENOMEM },
	{ SYS_FAULT_ERRNO, ECONNRESET },
	{ SYS_FAULT_ERRNO, EAGAIN },
	{ SYS_FAULT_SHORT, 0 },
	{ SYS_FAULT_EINTR, 0 },
};

/* ------------------------------------------------------------------ the peer -------------------
 */

/* What a receiving peer got, in memory shared with it. */
struct got {
	uint64_t bytes;
	uint8_t byte[LENGTH + sizeof(TRAILER)];
};

static struct got *got;
static uint8_t content[LENGTH]; /* of the extent */

static _Noreturn void peer_receives(int sock)
{
	got->bytes = kit_recv_all(sock, got->byte, sizeof(got->byte));
	_exit(0);
}

static _Noreturn void peer_sends(int sock)
{
	if (kit_send_all(sock, content, LENGTH))
		(void)kit_send_all(sock, TRAILER, sizeof(TRAILER));
	_exit(0);
}

/* Returns our end of a connection to a peer that does the opposite of side. */
static int peer_start(enum zh_side side, pid_t *ret_peer)
{
	int end[2];

	kit_tcp_pair_sized(end, false, SOCK_BUFFER);
	*ret_peer = fork();
	assert_true(*ret_peer >= 0);
	if (*ret_peer == 0) {
		close(end[0]);
		kit_set_blocking(end[1], true);
		if (side == ZH_SEND)
			peer_receives(end[1]);
		peer_sends(end[1]);
	}
	close(end[1]);
	return end[0];
}

static void peer_join(pid_t peer)
{
	int status = 0;

	assert_int_equal(waitpid(peer, &status, 0), peer);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

/* ------------------------------------------------------------------ a trial --------------------
 */

struct subject {
	const struct zh_strategy *strategy;
	struct zh_plan plan;
	uint32_t chunk_bytes;
	int file;
	bool whole_call; /* by zh_send or zh_recv, with all that they ask before */
	bool by_hand;    /* no plan would choose it over loopback: only on a channel */
};

struct trial {
	const struct subject *subject;
	struct sys_fault fault;
	bool no_fallback;
	/* out */
	int result;
	enum channel_end failed;
	uint64_t moved; /* off the file, or off the socket */
	bool in_step;   /* the extent was made up for */
	uint64_t struck;
	enum sys_call struck_call;
	struct zh_stats stats;
};

static void describe(const struct trial *trial, const char *problem)
{
	fail_msg("%s %s%s%s: call %llu (%s) %s %d %s: %s (result %d, moved by %s, %u demotions %s)",
		trial->subject->strategy->side == ZH_SEND ? "send" : "receive",
		trial->subject->strategy->name, trial->no_fallback ? ", no fallback" : "",
		trial->subject->whole_call ? ", whole call" : "",
		(unsigned long long)trial->fault.nth,
		sys_call_text(trial->struck_call) ? sys_call_text(trial->struck_call) : "none",
		trial->fault.kind == SYS_FAULT_ERRNO   ? "fails with"
		: trial->fault.kind == SYS_FAULT_SHORT ? "is short"
						       : "is interrupted",
		trial->fault.error, trial->fault.times ? "once" : "from then on", problem,
		trial->result, trial->stats.strategy, trial->stats.demotions,
		trial->stats.demotion);
}

static void note_strikes(struct trial *trial)
{
	trial->struck = sys_fault_struck();
	trial->struck_call = sys_fault_struck_call();
}

static void run_on_channel(struct trial *trial, int sock)
{
	const struct subject *subject = trial->subject;
	enum zh_side side = subject->strategy->side;
	struct zh_extent extent = { START, LENGTH };
	struct zh_plan plan = subject->plan;
	struct channel channel;

	plan.no_fallback = trial->no_fallback;
	channel_open(&channel, side, sock, -1, KIT_STALL_MS);
	sys_fault_arm(&trial->fault);
	trial->result = channel_file(&channel, subject->file, &plan);
	bool began = trial->result == 0;
	if (began)
		trial->result = channel_move(&channel, extent, 0, false, NULL);
	if (trial->result == 0)
		trial->result = channel_settle(&channel);
	note_strikes(trial);
	trial->failed = channel.failed;
	trial->moved = began ? channel.offset - START : 0;
	channel_stats(&channel, &trial->stats);
	sys_fault_arm(NULL);
	if (trial->result < 0 && trial->failed == CHANNEL_END_FILE) {
		uint64_t left = LENGTH - trial->moved;
		int r = side == ZH_SEND ? channel_zero(&channel, left)
					: channel_skip(&channel, left);
		if (r < 0)
			describe(trial, "the stream could not be kept in step");
		trial->in_step = true;
	}
	sys_fault_arm(&trial->fault);
	channel_close(&channel);
	sys_fault_arm(NULL);
}

static void run_whole_call(struct trial *trial, int sock)
{
	const struct subject *subject = trial->subject;
	struct zh_extent extent = { START, LENGTH };
	struct zh_options options = zh_options_default();

	options.strategy = subject->strategy->name;
	options.chunk_bytes = subject->chunk_bytes;
	options.stall_ms = KIT_STALL_MS;
	options.flags = trial->no_fallback ? ZH_NO_FALLBACK : 0;
	sys_fault_arm(&trial->fault);
	trial->result = subject->strategy->side == ZH_SEND
				? zh_send(subject->file, sock, extent, &options, &trial->stats)
				: zh_recv(sock, subject->file, extent, &options, &trial->stats);
	note_strikes(trial);
	sys_fault_arm(NULL);
	trial->moved = trial->stats.bytes;
}

/* ------------------------------------------------------------------ judging --------------------
 */

static bool is_refusal(int error)
{
	return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS || error == EPERM;
}

static bool moves_data(enum sys_call call)
{
	return call == SYS_PREAD || call == SYS_PWRITE || call == SYS_SEND || call == SYS_RECV ||
	       call == SYS_SENDFILE || call == SYS_SPLICE;
}

/* Before Linux 6.2 SEND_ZC refuses to report copies with EINVAL, and is asked without. */
static bool is_retried_by_design(const struct trial *trial)
{
	return strcmp(trial->subject->strategy->name, "uring-zc") == 0 &&
	       trial->struck_call == SYS_SEND && trial->fault.error == EINVAL &&
	       trial->fault.times == 1;
}

static void check_result(const struct trial *trial)
{
	const struct zh_stats *stats = &trial->stats;
	const char *wish = trial->subject->strategy->name;
	bool as_wished = strcmp(stats->strategy, wish) == 0;

	if (trial->struck == 0 && trial->result != 0)
		describe(trial, "failed without a fault");
	if (trial->fault.kind != SYS_FAULT_ERRNO && trial->result != 0)
		describe(trial, "an interruption or a short call became an error");
	if (trial->fault.kind != SYS_FAULT_ERRNO && stats->demotions != 0 &&
		!strstr(stats->demotion, "the kernel copies")) /* more calls, so it is noticed */
		describe(trial, "an interruption or a short call became a demotion");
	if (trial->result > 0)
		describe(trial, "a result that is none");
	if (trial->result == 0) {
		if (stats->bytes != LENGTH)
			describe(trial, "success with a wrong count");
		if (!as_wished && stats->demotions == 0 && !trial->subject->whole_call)
			describe(trial, "another strategy took over, and nothing says so");
		if (trial->no_fallback && (!as_wished || stats->demotions != 0))
			describe(trial, "demoted against the will of its user");
		if (trial->no_fallback && trial->struck > 0 &&
			trial->fault.kind == SYS_FAULT_ERRNO && trial->fault.error != EAGAIN &&
			moves_data(trial->struck_call) && !is_retried_by_design(trial))
			describe(trial, "the failure of a call that moves data was hidden");
		if ((stats->demotions == 0) != (stats->demotion[0] == '\0'))
			describe(trial, "a demotion without a reason");
		return;
	}
	if (!trial->subject->whole_call && trial->failed == CHANNEL_END_NONE)
		describe(trial, "nothing says which end failed");
	if (trial->result == -trial->fault.error && trial->fault.error != EAGAIN)
		return;
	if (trial->fault.error == EAGAIN && trial->result == -EIO)
		return; /* by itself it would mean: wait for the socket */
	/* what the plan is made from may say anything, and so may a plan that cannot be made */
	if (!trial->subject->whole_call ||
		(trial->result != -trial->fault.error && trial->result != -EINVAL))
		describe(trial, "the error is not the one injected");
}

static void check_wire(const struct trial *trial)
{
	uint64_t right = trial->result == 0 ? LENGTH : trial->moved;

	if (trial->result == 0 || trial->in_step) {
		if (got->bytes != sizeof(got->byte) ||
			memcmp(got->byte + LENGTH, TRAILER, sizeof(TRAILER)) != 0)
			describe(trial, "the stream is out of step");
		for (uint64_t i = right; i < LENGTH; i++)
			if (got->byte[i] != 0)
				describe(trial, "not zero behind the failed offset");
	} else {
		right = min_u64(got->bytes, LENGTH);
	}
	if (memcmp(got->byte, content, right) != 0)
		describe(trial, "wrong bytes on the wire");
}

static void check_file(const struct trial *trial, int sock)
{
	const struct zh_strategy *strategy = trial->subject->strategy;
	char trailer[sizeof(TRAILER)];

	if (trial->result == 0 || trial->in_step)
		if (kit_recv_all(sock, trailer, sizeof(trailer)) != sizeof(trailer) ||
			memcmp(trailer, TRAILER, sizeof(TRAILER)) != 0)
			describe(trial, "the stream is out of step");
	if (trial->result == 0 && kit_stores(strategy) &&
		!kit_is_at(trial->subject->file, START, LENGTH, KIT_SEED, START))
		describe(trial, "success, but the file is not right");
	if (!kit_guards_stand(trial->subject->file, (struct zh_extent){ START, LENGTH }))
		describe(trial, "bytes outside the extent were touched");
}

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak));

/*
 * Memory of this process. A sanitizer maps as it likes, but knows what is allocated, and the seam
 * knows what is mapped; otherwise it is all that is mapped.
 */
static uint64_t kept_bytes(void)
{
	char text[64] = { 0 };
	int fd;

	if (__sanitizer_get_current_allocated_bytes)
		return __sanitizer_get_current_allocated_bytes() + sys_fault_mapped();
	fd = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
	assert_true(fd >= 0);
	assert_true(read(fd, text, sizeof(text) - 1) > 0);
	close(fd);
	return strtoull(text, NULL, 10) * 4096;
}

static uint64_t kept_before;

/* Returns whether the fault struck. */
static bool run_trial(struct trial *trial)
{
	enum zh_side side = trial->subject->strategy->side;
	size_t fds = fd_count();
	pid_t peer;

	if (side == ZH_RECEIVE)
		kit_prepare(trial->subject->file, (struct zh_extent){ START, LENGTH });
	else
		memset(got, 0, sizeof(*got));
	(void)alarm(ALARM_S);
	int sock = peer_start(side, &peer);
	if (trial->subject->whole_call)
		run_whole_call(trial, sock);
	else
		run_on_channel(trial, sock);
	check_result(trial);
	if (side == ZH_RECEIVE)
		check_file(trial, sock);
	else if (trial->result == 0 || trial->in_step)
		(void)kit_send_all(sock, TRAILER, sizeof(TRAILER));
	close(sock);
	peer_join(peer);
	if (side == ZH_SEND)
		check_wire(trial);
	(void)alarm(0);
	if (fd_count() != fds)
		describe(trial, "descriptors were left open");
	if (kept_before && kept_bytes() > kept_before + LEAK_BYTES)
		describe(trial, "memory was kept");
	return trial->struck > 0;
}

/* ------------------------------------------------------------------ sweeps ---------------------
 */

static size_t sweep(const struct subject *subject, const struct way *way, enum sys_call call,
	uint64_t times, bool no_fallback)
{
	size_t points = 0;

	for (uint64_t nth = 1;; nth += step) {
		struct trial trial = { .subject = subject,
			.fault = { way->kind, call, way->error, nth, times },
			.no_fallback = no_fallback };
		if (!run_trial(&trial))
			return points;
		points++;
		assert_true(nth < NTH_LIMIT);
	}
}

/* An interruption that never ends is asked for again for ever; so is a ring that stays busy. */
static bool may_last(const struct way *way)
{
	return way->kind != SYS_FAULT_EINTR && way->error != EAGAIN;
}

static size_t sweep_ways(const struct subject *subject, bool no_fallback)
{
	size_t points = 0;

	for (size_t i = 0; i < ARRAY_LEN(ways); i++) {
		const struct way *way = &ways[i];
		/* without a fallback only refusals take another path */
		if (no_fallback && !complete && !is_refusal(way->error) && way->error != ENOMEM)
			continue;
		points += sweep(subject, way, SYS_CALL_COUNT, 1, no_fallback);
		if (may_last(way))
			points += sweep(subject, way, SYS_CALL_COUNT, 0, no_fallback);
		/* what one call does for good, while the others go on */
		static const enum sys_call calls[] = { SYS_SENDFILE, SYS_SPLICE, SYS_PWRITE,
			SYS_PREAD, SYS_READ, SYS_OPEN, SYS_URING_ENTER, SYS_PIPE };
		for (size_t j = 0; may_last(way) && complete && j < ARRAY_LEN(calls); j++)
			points += sweep(subject, way, calls[j], 0, no_fallback);
	}
	return points;
}

static void *thread_that_ends(void *nothing)
{
	return nothing;
}

/* The stack of a thread that has ended is kept for the next one, also for that of a fallback. */
static void have_a_stack_kept(void)
{
	pthread_t thread;

	assert_int_equal(pthread_create(&thread, NULL, thread_that_ends, NULL), 0);
	assert_int_equal(pthread_join(thread, NULL), 0);
}

/* Warms up what is allocated once, and tells whether the strategy is to be had here at all. */
static bool settle_down(struct arena *a, struct subject *subject)
{
	enum zh_side side = subject->strategy->side;
	struct zh_extent extent = { START, LENGTH };
	struct trial trial = { .subject = subject };

	if (side == ZH_SEND)
		subject->file = kit_source(a, "source", START + LENGTH + 1);
	else
		subject->file = kit_open(a->root, "destination", O_RDWR | O_CREAT);
	if (side == ZH_RECEIVE)
		kit_prepare(subject->file, extent);
	subject->plan = kit_plan(
		side, subject->file, -1, extent, subject->strategy->name, subject->chunk_bytes, 0);
	if (strcmp(subject->plan.strategy, subject->strategy->name) != 0) {
		if (strcmp(subject->strategy->name, "zerocopy") != 0)
			return false;
		subject->by_hand = true;
		TEXT_SET(subject->plan.strategy, subject->strategy->name);
		subject->plan.chunk_bytes = subject->chunk_bytes;
	}
	kept_before = 0;
	have_a_stack_kept();
	assert_false(run_trial(&trial));
	kept_before = kept_bytes();
	return trial.stats.demotions == 0;
}

static void sweep_strategy(void **state, enum zh_side side, const char *name)
{
	struct arena *a = arena_of(state);
	struct subject subject = { .strategy = &strategy_find(side, name)->pub };
	size_t points = 0;

	subject.chunk_bytes = complete ? 128 * KIB : MIB;
	if (!settle_down(a, &subject)) {
		close(subject.file);
		SKIP("the strategy is not to be had here");
	}
	if (kit_uses_ring(name) && kit_memlock_is_scarce()) {
		close(subject.file);
		SKIP("locked memory is scarce, so rings are refused now and then");
	}
	for (int no_fallback = 0; no_fallback < 2; no_fallback++)
		for (int whole_call = 0; whole_call < (subject.by_hand ? 1 : 2); whole_call++) {
			subject.whole_call = whole_call;
			points += sweep_ways(&subject, no_fallback);
		}
	close(subject.file);
	print_message("# %s: %zu points of failure\n", name, points);
	assert_true(points > 0);
}

/* side, name of the case, strategy: every row of the engine's table is here, see the last case */
#define SWEEPS(X)                                           \
	X(ZH_SEND, send_sendfile, "sendfile")               \
	X(ZH_SEND, send_sendfile_ahead, "sendfile-ahead")   \
	X(ZH_SEND, send_splice, "splice")                   \
	X(ZH_SEND, send_uring_copy, "uring-copy")           \
	X(ZH_SEND, send_uring_direct, "uring-direct")       \
	X(ZH_SEND, send_uring_zc, "uring-zc")               \
	X(ZH_SEND, send_msg_zerocopy, "msg-zerocopy")       \
	X(ZH_SEND, send_mmap, "mmap")                       \
	X(ZH_SEND, send_uring_splice, "uring-splice")       \
	X(ZH_SEND, send_copy, "copy")                       \
	X(ZH_RECEIVE, receive_uring_direct, "uring-direct") \
	X(ZH_RECEIVE, receive_uring_copy, "uring-copy")     \
	X(ZH_RECEIVE, receive_direct, "direct")             \
	X(ZH_RECEIVE, receive_splice, "splice")             \
	X(ZH_RECEIVE, receive_dontcache, "dontcache")       \
	X(ZH_RECEIVE, receive_mmap, "mmap")                 \
	X(ZH_RECEIVE, receive_copy, "copy")                 \
	X(ZH_RECEIVE, receive_zerocopy, "zerocopy")         \
	X(ZH_RECEIVE, receive_discard, "discard")

#define SWEEP_CASE(side, case, name)                          \
	static void case##_survives_every_fault(void **state) \
	{                                                     \
		sweep_strategy(state, side, name);            \
	}
SWEEPS(SWEEP_CASE)

static void every_strategy_has_its_sweep(void **state)
{
#define SWEEP_NAME(side, case, name) { side, name },
	static const struct {
		enum zh_side side;
		const char *name;
	} swept[] = { SWEEPS(SWEEP_NAME) };
	const struct zh_strategy *strategy;
	size_t count = 0;

	(void)state;
	for (; (strategy = zh_strategy_at(count)); count++) {
		bool found = false;
		for (size_t i = 0; i < ARRAY_LEN(swept); i++)
			found = found || (swept[i].side == strategy->side &&
						 strcmp(swept[i].name, strategy->name) == 0);
		if (!found)
			fail_msg("%s is swept by nobody", strategy->name);
	}
	assert_int_equal(count, ARRAY_LEN(swept));
}

int main(int argc, char **argv)
{
#define SWEEP_TEST(side, case, name) ARENA_TEST(case##_survives_every_fault),
	const struct CMUnitTest tests[] = {
		SWEEPS(SWEEP_TEST) cmocka_unit_test(every_strategy_has_its_sweep),
	};

	complete = argc > 1 && strcmp(argv[1], "complete") == 0;
	if (getenv("ZH_STRATEGY_STEP"))
		step = max_u64(strtoull(getenv("ZH_STRATEGY_STEP"), NULL, 10), 1);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)mallopt(M_MMAP_THRESHOLD, 64 * 1024); /* large buffers come and go as mappings */
	got = mmap(NULL, sizeof(*got), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (got == MAP_FAILED)
		return EXIT_FAILURE;
	random_fill(content, sizeof(content), KIT_SEED, START);
	return RUN_TESTS("strategy faults", tests);
}
