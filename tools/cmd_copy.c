/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cmd_copy.c - `zerohaul copy`: turns a command line into one transfer, runs it and reports. It
 * opens none of the files itself: whether a source can be sent is for the library to say.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/json.h"
#include "cli/key.h"
#include "cli/listing.h"
#include "cli/names.h"
#include "cli/progress.h"
#include "cli/report.h"
#include "cli/rows.h"
#include "cli/say.h"
#include "cli/stop.h"
#include "cli/url.h"

struct copy {
	struct zh_transfer_options options;
	uint32_t json;
	uint32_t quiet;
	uint32_t progress; /* enum progress_mode */
	uint32_t retries;
	uint32_t nice;
	uint64_t limit; /* bytes per second of all data connections together */
	int source_count;
	char **source;
	const char *destination;
	struct arg_list rules;
	const char *files_from; /* NULL: whatever is in the sources */
	uint32_t null_ended;
	struct names names;
	struct url server;
	json_t *listed;               /* by a dry run, for --json */
	struct listing listing;       /* the same without it */
	bool unlisted;                /* there was no memory for some of it */
	struct zh_transfer *transfer; /* NULL: it did not come that far */
	/* What went wrong before the transfer ran; afterwards the transfer knows. */
	struct zh_error error;
};

static const struct arg_option rows[] = {
	ROW_KEY(struct copy),
	ROW_INSECURE(struct copy),
	{ .name = "strategy",
		.letter = 's',
		.kind = ARG_SEND,
		.argument = "NAME",
		.help = "How the sending side moves bytes, instead of what its plan chooses.",
		ARG_AT(struct copy, options.strategy) },
	{ .name = "receive-strategy",
		.kind = ARG_RECEIVE,
		.argument = "NAME",
		.help = "How the receiving side moves bytes, instead of what its plan chooses.",
		ARG_AT(struct copy, options.receive_strategy) },
	{ .name = "chunk",
		.letter = 'c',
		.kind = ARG_SIZE,
		.argument = "SIZE",
		.help = "How much one system call is asked to move, on both sides.",
		ARG_AT(struct copy, options.chunk_bytes),
		.minimum = 1,
		.maximum = INT32_MAX },
	{ .name = "streams",
		.letter = 'n',
		.kind = ARG_COUNT,
		.argument = "N",
		.help = "Number of data connections, at most 64; 1 unless given.",
		ARG_AT(struct copy, options.streams),
		.minimum = 1,
		.maximum = 64 },
	{ .name = "max-open",
		.kind = ARG_COUNT,
		.argument = "N",
		.help = "Number of files that each side holds open at a time, at most 64, the "
			"default. Small ones of directories go together and do not count.",
		ARG_AT(struct copy, options.max_open),
		.minimum = 1,
		.maximum = 64 },
	{ .name = "verify",
		.kind = ARG_CHOICE,
		.argument = "full|none",
		.help = "Compare digests of what was read and what was stored (full, the default), "
			"or do not; then the report says \"not verified\".",
		ARG_AT(struct copy, options.verify) },
	{ .name = "durability",
		.kind = ARG_CHOICE,
		.argument = "full|file|none",
		.help = "What is on stable storage before a file counts as copied: data and name "
			"(full, the default), data, or nothing.",
		ARG_AT(struct copy, options.durability) },
	{ .name = "cache",
		.kind = ARG_CHOICE,
		.argument = "auto|keep|drop",
		.help = "What is left in the page caches of both hosts: of a large source what was "
			"there before (auto, the default), all of it, or nothing.",
		ARG_AT(struct copy, options.cache) },
	{ .name = "recursive",
		.letter = 'r',
		.kind = ARG_BITS,
		.help = "Copy directories with everything in them, as cp -r does.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_RECURSIVE },
	{ .name = "links",
		.letter = 'l',
		.kind = ARG_BITS,
		.help = "Carry symbolic links in directories as they are. They are never followed; "
			"without this they are left out and counted.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_LINKS },
	{ .name = "owner",
		.letter = 'o',
		.kind = ARG_BITS,
		.help = "Keep owner and group, by number; the receiving side has to be root.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_OWNER },
	{ .name = "xattrs",
		.letter = 'x',
		.kind = ARG_BITS,
		.help = "Keep extended attributes of files and directories: user.*, and with --owner "
			"POSIX access control lists.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_XATTRS },
	{ .name = "privileged-xattrs",
		.kind = ARG_BITS,
		.help = "Keep security.capability and trusted.*, too, for root on both sides. The "
			"server has to be told the same.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_PRIVILEGED_XATTRS },
	{ .name = "exclude",
		.kind = ARG_LIST,
		.argument = "PATTERN",
		.help = "Leave out what matches in directories. The first --exclude or --include "
			"that matches decides; what none matches is copied.",
		ARG_AT(struct copy, rules),
		.value = 1 },
	{ .name = "include",
		.kind = ARG_LIST,
		.argument = "PATTERN",
		.help = "Copy what matches, whatever a later --exclude says.",
		ARG_AT(struct copy, rules),
		.value = 0 },
	{ .name = "files-from",
		.kind = ARG_FILE,
		.argument = "FILE",
		.help = "Copy only what is named in FILE, one name to a line, below the one SOURCE, "
			"a directory, with the directories that it is in; - is standard input. With "
			"-r names may be directories.",
		ARG_AT(struct copy, files_from) },
	{ .name = "null",
		.letter = '0',
		.kind = ARG_BITS,
		.help = "The names of --files-from end with a zero byte, not with a newline.",
		ARG_AT(struct copy, null_ended),
		.value = 1 },
	{ .name = "delete",
		.kind = ARG_BITS,
		.help = "With -r: remove from directories of the destination what those of the "
			"source have not, as for a mirror. What rules leave out stays. There is no "
			"way back.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_DELETE },
	{ .name = "existing",
		.kind = ARG_CHOICE,
		.argument = "prove|trust|digest",
		.help = "When a file is there already: with the size and time of the source compare "
			"digests, and send what differs (prove, the default); then take it for the "
			"same (trust); or compare digests if it has the size (digest).",
		ARG_AT(struct copy, options.existing) },
	{ .name = "dry-run",
		.kind = ARG_BITS,
		.help = "Change nothing: list what would be sent, each name behind its size, and "
			"count what is there already, which is found out as --existing says.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_DRY_RUN },
	{ .name = "manifest",
		.kind = ARG_FILE,
		.argument = "OUT",
		.help = "List in OUT what has arrived, with digests, for zerohaul verify.",
		ARG_AT(struct copy, options.manifest) },
	{ .name = "no-clobber",
		.kind = ARG_BITS,
		.help = "Never replace a file that exists.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_NO_CLOBBER },
	{ .name = "no-fallback",
		.kind = ARG_BITS,
		.help = "Fail rather than use another strategy when the kernel refuses the one "
			"that was planned.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_NO_FALLBACK },
	{ .name = "calibrate",
		.kind = ARG_BITS,
		.help = "Within each file of 256 MiB or more that is pushed, measure the planned "
			"strategy and the next best one, and go on with the cheaper.",
		ARG_AT(struct copy, options.flags),
		.value = ZH_CALIBRATE },
	{ .name = "nagle",
		.kind = ARG_CHOICE,
		.argument = "default|nodelay|cork",
		.help = "When small segments are sent: as is best for the strategy, at once (TCP_NODELAY), "
			"or not while a range of a file moves (TCP_CORK).",
		ARG_AT(struct copy, options.sock.nagle) },
	ROW_SNDBUF(struct copy),
	ROW_RCVBUF(struct copy),
	{ .name = "congestion",
		.kind = ARG_BUFFER,
		.argument = "NAME",
		.help = "Congestion control (TCP_CONGESTION), for example cubic or bbr.",
		ARG_AT(struct copy, options.sock.congestion) },
	ROW_NOTSENT_LOWAT(struct copy),
	{ .name = "pacing",
		.kind = ARG_SIZE,
		.argument = "RATE",
		.help = "Highest rate of one data connection in bytes per second, written like a "
			"SIZE (SO_MAX_PACING_RATE).",
		ARG_AT(struct copy, options.sock.pacing_bytes_per_s),
		.minimum = 1 },
	{ .name = "limit",
		.kind = ARG_SIZE,
		.argument = "RATE",
		.help = "Highest rate of all data connections together, in bytes per second; the "
			"kernel paces each with its share.",
		ARG_AT(struct copy, limit),
		.minimum = 1 },
	{ .name = "nice",
		.kind = ARG_BITS,
		.help = "Leave the disks of this host to others: idle I/O priority.",
		ARG_AT(struct copy, nice),
		.value = 1 },
	{ .name = "retry",
		.kind = ARG_COUNT,
		.argument = "N",
		.help = "Try again up to N times when the connection breaks, the peer is silent or "
			"the server is busy, after 1, 2, 4 and at most 30 seconds. What has arrived "
			"is proven and not sent again.",
		ARG_AT(struct copy, retries),
		.minimum = 1,
		.maximum = 1000000 },
	ROW_CONNECT_TIMEOUT(struct copy),
	{ .name = "json",
		.letter = 'j',
		.kind = ARG_BITS,
		.help = "Print one JSON object instead of the summary, on failure too.",
		ARG_AT(struct copy, json),
		.value = 1 },
	{ .name = "quiet",
		.letter = 'q',
		.kind = ARG_BITS,
		.help = "Print no summary, and no progress unless --progress=always asks for it.",
		ARG_AT(struct copy, quiet),
		.value = 1 },
	ROW_PROGRESS(struct copy),
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

/* Note what is wrong; file may be "". Returns the outcome. */
__attribute__((format(printf, 4, 5))) static int fail(
	struct copy *copy, int outcome, const char *file, const char *format, ...)
{
	struct zh_error *error = &copy->error;
	va_list arguments;

	*error = (struct zh_error){ .size = sizeof(*error), .outcome = outcome };
	snprintf(error->stage, sizeof(error->stage), "options");
	zh_escape(file, strlen(file), error->file, sizeof(error->file));
	va_start(arguments, format);
	vsnprintf(error->text, sizeof(error->text), format, arguments);
	va_end(arguments);
	return outcome;
}

static bool is_dry(const struct copy *copy)
{
	return copy->options.flags & ZH_DRY_RUN;
}

static int take_url(struct copy *copy, const char *text, struct url *ret_url)
{
	const char *wrong = url_parse(text, ret_url);

	return wrong ? fail(copy, ZH_USAGE, text, "not a location: %s", wrong) : ZH_OK;
}

static int settle_push(struct copy *copy)
{
	int outcome = take_url(copy, copy->destination, &copy->server);

	if (outcome != ZH_OK)
		return outcome;
	for (int i = 0; i < copy->source_count; i++)
		if (url_looks_like(copy->source[i]))
			return fail(copy, ZH_USAGE, copy->source[i],
				"a source cannot be remote when the destination is");
	copy->options.direction = ZH_PUSH;
	copy->options.destination = copy->server.path;
	return ZH_OK;
}

static int settle_pull(struct copy *copy)
{
	for (int i = 0; i < copy->source_count; i++) {
		struct url url = { .port = 0 };
		if (!url_looks_like(copy->source[i]))
			return fail(copy, ZH_USAGE, copy->source[i],
				"source and destination are both local; one side must be "
				"zh://HOST[:PORT]/PATH");
		int outcome = take_url(copy, copy->source[i], &url);
		if (outcome != ZH_OK)
			return outcome;
		if (i > 0 && !url_same_server(&url, &copy->server))
			return fail(copy, ZH_USAGE, copy->source[i],
				"all sources must be on the same HOST:PORT");
		copy->server = url;
	}
	if (copy->options.flags & ZH_CALIBRATE)
		return fail(copy, ZH_USAGE, "", "--calibrate is for what this host sends");
	copy->options.direction = ZH_PULL;
	copy->options.destination = copy->destination;
	return ZH_OK;
}

/* Whether nothing is to be kept while something is promised about what is kept. */
static bool discards(const struct zh_transfer_options *options)
{
	return options->receive_strategy && strcmp(options->receive_strategy, "discard") == 0 &&
	       (options->verify != ZH_VERIFY_NONE || options->durability != ZH_DURABLE_NONE);
}

/* Reads the list of names, if there is one; last, since it may be long. */
static int settle_names(struct copy *copy)
{
	if (!copy->files_from)
		return copy->null_ended ? fail(copy, ZH_USAGE, "", "--null is for --files-from")
					: ZH_OK;
	if (copy->options.direction != ZH_PUSH)
		return fail(copy, ZH_USAGE, "", "--files-from is for what this host sends");
	if (copy->source_count != 1)
		return fail(copy, ZH_USAGE, "",
			"--files-from takes one SOURCE, the directory that the names are in");
	const char *wrong = names_read(copy->files_from, copy->null_ended, &copy->names);
	if (wrong)
		return fail(copy, ZH_CONFIG, copy->files_from,
			"the list of names cannot be read: %s", wrong);
	copy->options.flags |= ZH_NAMED;
	return ZH_OK;
}

static int settle(struct copy *copy)
{
	int outcome = url_looks_like(copy->destination) ? settle_push(copy) : settle_pull(copy);

	if (outcome != ZH_OK)
		return outcome;
	if (discards(&copy->options))
		return fail(copy, ZH_USAGE, "",
			"--receive-strategy=discard stores nothing: it needs --verify=none and "
			"--durability=none");
	if (copy->limit && copy->options.sock.pacing_bytes_per_s)
		return fail(copy, ZH_USAGE, "", "either --limit or --pacing");
	if (copy->limit) {
		const uint64_t streams = copy->options.streams ? copy->options.streams : 1;
		copy->options.sock.pacing_bytes_per_s = (copy->limit + streams - 1) / streams;
	}
	const bool insecure = copy->options.flags & ZH_INSECURE;
	const char *wrong = key_settle(&copy->options.key_file, insecure);
	if (wrong)
		return fail(copy, ZH_USAGE, "", "%s", wrong);
	copy->options.host = copy->server.host;
	copy->options.port = copy->server.port;
	return settle_names(copy);
}

static int add_names(struct copy *copy)
{
	const char *name;
	size_t at = 0;

	while ((name = names_next(&copy->names, &at))) {
		int r = zh_transfer_name(copy->transfer, name);
		if (r == -EINVAL)
			return fail(copy, ZH_USAGE, name,
				"a name of --files-from is absolute or has '..' in it");
		if (r < 0)
			return fail(copy, r == -EOVERFLOW ? ZH_LIMIT : ZH_INTERNAL, "",
				"too many names: %s", strerror(-r));
	}
	return ZH_OK;
}

static void list_as_json(struct copy *copy, const struct zh_listed *listed, const char *name)
{
	json_t *entry = json_object();

	(void)json_object_set_new(entry, "name", json_string(name));
	(void)json_object_set_new(entry, "kind", json_string(listed->link ? "link" : "file"));
	(void)json_object_set_new(entry, "bytes", json_of_u64(listed->bytes));
	if (json_object_size(entry) != 3 || json_array_append(copy->listed, entry) < 0)
		copy->unlisted = true;
	json_decref(entry);
}

static void list_as_text(struct copy *copy, const struct zh_listed *listed, const char *name)
{
	char *line;
	int length = asprintf(&line, "%14" PRIu64 "  %s\n", listed->bytes, name);

	if (length < 0 || !listing_add(&copy->listing, line, (size_t)length))
		copy->unlisted = true;
	if (length >= 0)
		free(line);
}

/* zh_transfer_options.list: never by two threads at a time. */
static void list(void *context, const struct zh_listed *listed)
{
	struct copy *copy = context;
	const size_t length = strlen(listed->path);
	const size_t cap = 4 * length + 1; /* of a name with every byte escaped */
	char *name = malloc(cap);

	if (name)
		zh_escape(listed->path, length, name, cap);
	if (!name)
		copy->unlisted = true;
	else if (copy->listed)
		list_as_json(copy, listed, name);
	else
		list_as_text(copy, listed, name);
	free(name);
}

static int settle_dry_run(struct copy *copy)
{
	if (!is_dry(copy))
		return ZH_OK;
	if (copy->retries)
		return fail(copy, ZH_USAGE, "",
			"--dry-run lists what it finds as it comes, so it cannot be tried again");
	copy->options.list = list;
	copy->options.list_context = copy;
	copy->listed = copy->json ? json_array() : NULL;
	return copy->json && !copy->listed ? fail(copy, ZH_INTERNAL, "", "no memory") : ZH_OK;
}

static int prepare(struct copy *copy)
{
	int r = zh_transfer_new(&copy->options, &copy->transfer);

	if (r < 0) {
		copy->transfer = NULL;
		return fail(copy, outcome_of_errno(-r), "", "cannot set up the transfer: %s",
			strerror(-r));
	}
	for (int i = 0; i < copy->source_count; i++) {
		struct url url = { .path = copy->source[i] };
		if (copy->options.direction == ZH_PULL)
			(void)url_parse(copy->source[i], &url);
		r = zh_transfer_add(copy->transfer, url.path);
		if (r < 0)
			return fail(copy, outcome_of_errno(-r), copy->source[i],
				"cannot be a source: %s", strerror(-r));
	}
	for (size_t i = 0; i < copy->rules.count; i++) {
		const struct arg_item *rule = &copy->rules.item[i];
		r = zh_transfer_rule(copy->transfer, rule->text, rule->value != 0);
		if (r < 0)
			return fail(copy, outcome_of_errno(-r), rule->text,
				"cannot be a pattern: %s", strerror(-r));
	}
	int outcome = add_names(copy);
	if (outcome == ZH_OK && is_dry(copy) && !copy->listed && !listing_start(&copy->listing))
		return fail(copy, ZH_INTERNAL, "", "no thread for the list");
	return outcome;
}

static void snapshot(const void *transfer, struct zh_progress *ret_progress)
{
	zh_transfer_progress(transfer, ret_progress);
}

static void cancel(void *transfer)
{
	zh_transfer_cancel(transfer);
}

/* Small files of a tree that comes are open until they are committed: the more, the cheaper. */
static void allow_open_files(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &limit);
}

static int run(struct copy *copy)
{
	struct progress progress;
	enum progress_mode mode = (enum progress_mode)copy->progress;

	if (mode == PROGRESS_AUTO && (copy->quiet || is_dry(copy)))
		mode = PROGRESS_NEVER;
	allow_open_files();
	stop_arm(cancel, copy->transfer);
	progress_start(&progress, snapshot, copy->transfer, mode);
	int outcome = zh_transfer_run(copy->transfer);
	progress_stop(&progress);
	stop_disarm();
	listing_stop(&copy->listing);
	return outcome;
}

/* The first thing that went wrong, or NULL. */
static const struct zh_error *first_error(const struct copy *copy, bool has_run)
{
	if (!has_run)
		return &copy->error;
	const struct zh_error *session = zh_transfer_error(copy->transfer);
	const struct zh_failure *failure = zh_transfer_failure_at(copy->transfer, 0);
	return session->outcome != ZH_OK ? session : failure ? &failure->error : NULL;
}

static json_t *json_of_copy(const struct copy *copy, int outcome, int status, bool has_run)
{
	json_t *out = json_of_outcome("zerohaul-copy/1", outcome, status);
	json_t *sources = json_array();
	json_t *failures = json_array();
	const struct zh_error *error = outcome == ZH_OK ? NULL : first_error(copy, has_run);
	const struct zh_failure *failure;

	for (int i = 0; i < copy->source_count; i++)
		(void)json_array_append_new(sources, json_of_bytes(copy->source[i]));
	for (size_t i = 0; has_run && (failure = zh_transfer_failure_at(copy->transfer, i)); i++)
		(void)json_array_append_new(
			failures, json_of_error(&failure->error, failure->error.outcome));

	(void)json_object_set_new(out, "direction",
		json_string(copy->options.direction == ZH_PUSH ? "push" : "pull"));
	(void)json_object_set_new(out, "host", json_of_bytes(copy->server.host));
	(void)json_object_set_new(out, "port", json_integer(copy->server.port));
	(void)json_object_set_new(out, "sources", sources);
	(void)json_object_set_new(out, "destination", json_of_bytes(copy->destination));
	(void)json_object_set_new(out, "error",
		!error ? json_null()
		       : json_of_error(error, error->outcome == outcome ? status : error->outcome));
	(void)json_object_set_new(out, "failures", failures);
	(void)json_object_set_new(
		out, "would_send", copy->listed ? json_incref(copy->listed) : json_null());
	(void)json_object_set_new(out, "report",
		has_run ? json_of_report(zh_transfer_report(copy->transfer)) : json_null());
	return out;
}

static bool any_done(const struct zh_report *report)
{
	return report->files_done || report->files_skipped || report->receiver.deleted;
}

static void print_report(const struct copy *copy, int outcome)
{
	const struct zh_report *report = zh_transfer_report(copy->transfer);

	/* What failed altogether has no figures worth reading. */
	if (is_dry(copy) && (outcome == ZH_OK || any_done(report)))
		report_print_dry(report);
	else if (any_done(report))
		report_print(report);
}

/* Tell how it ended, on both streams. Returns the exit status. */
static int finish(const struct copy *copy, int outcome, bool has_run)
{
	const int status = stop_status(outcome);

	if (has_run)
		report_print_failures(copy->transfer, outcome);
	else
		say_record(&copy->error);
	if (copy->unlisted)
		return say_error(ZH_INTERNAL, "no memory for all that would be sent");
	if (copy->json && json_print(json_of_copy(copy, outcome, status, has_run)) < 0)
		return say_error(ZH_INTERNAL, "no memory for the report");
	if (!copy->json && !copy->quiet && has_run)
		print_report(copy, outcome);
	return status;
}

/* One transfer. *ret_has_run: it got as far as running. */
static int attempt(struct copy *copy, bool *ret_has_run)
{
	int outcome = prepare(copy);

	*ret_has_run = outcome == ZH_OK;
	return *ret_has_run ? run(copy) : outcome;
}

static bool may_help(int outcome)
{
	return outcome == ZH_NET || outcome == ZH_TIMEOUT || outcome == ZH_BUSY;
}

/* Says what happened and waits. A signal ends the program meanwhile: nothing is running. */
static void say_retry(const struct copy *copy, uint32_t attempts)
{
	const unsigned seconds = attempts < 5 ? 1u << attempts : 30;
	const struct zh_error *error = first_error(copy, true);

	if (error)
		say_record(error);
	if (!copy->quiet)
		fprintf(stderr, "zerohaul: trying again in %u s\n", seconds);
	(void)sleep(seconds);
}

/* For all threads that are made from here on. Where it is refused nothing is lost. */
static void be_nice(void)
{
	enum { WHO_PROCESS = 1, CLASS_IDLE = 3, CLASS_SHIFT = 13 }; /* of linux/ioprio.h */

	(void)syscall(SYS_ioprio_set, WHO_PROCESS, 0, CLASS_IDLE << CLASS_SHIFT);
}

static int copy_run(const struct command *command, int argc, char **argv)
{
	struct copy copy = { .options = zh_transfer_options_default() };
	int operand_count = 0;
	int r = args_parse(command, argc, argv, &copy, &operand_count);

	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count < 2)
		return say_usage(command->name, "a SOURCE and a DEST are needed");
	copy.source = argv;
	copy.source_count = operand_count - 1;
	copy.destination = argv[operand_count - 1];

	int outcome = settle(&copy);
	if (outcome == ZH_OK)
		outcome = settle_dry_run(&copy);
	if (outcome == ZH_OK && copy.nice)
		be_nice();
	bool has_run = false;
	if (outcome == ZH_OK)
		outcome = attempt(&copy, &has_run);
	for (uint32_t n = 0; n < copy.retries && has_run && may_help(outcome); n++) {
		say_retry(&copy, n);
		zh_transfer_free(copy.transfer);
		outcome = attempt(&copy, &has_run);
	}
	r = finish(&copy, outcome, has_run);
	zh_transfer_free(copy.transfer);
	free(copy.rules.item);
	names_free(&copy.names);
	json_decref(copy.listed);
	return r;
}

const struct command cmd_copy = {
	.name = "copy",
	.summary = "copy files to or from a server",
	.synopsis = "[OPTION...] SOURCE... zh://HOST[:PORT]/PATH\n"
		    "[OPTION...] zh://HOST[:PORT]/PATH... DEST",
	.about =
		"Copies files, and with -r directories, between this host and a server. A file "
		"appears under its "
		"name when all of it has arrived, never before. Sizes take the suffixes K, M, G, T "
		"or KiB and so on (1024), KB and so on (1000).",
	.page = "zerohaul-copy(1)",
	.options = rows,
	.option_count = sizeof(rows) / sizeof(rows[0]),
	.run = copy_run,
};
