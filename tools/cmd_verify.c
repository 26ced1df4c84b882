/* SPDX-License-Identifier: Apache-2.0 */
/* cmd_verify.c - `zerohaul verify`: has the library prove a tree by its manifest, and reports. */
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include <zerohaul.h>

#include "command.h"
#include "cli/json.h"
#include "cli/progress.h"
#include "cli/rows.h"
#include "cli/say.h"
#include "cli/size.h"
#include "cli/stop.h"

struct verify {
	struct zh_verify_options options;
	uint32_t json;
	uint32_t quiet;
	uint32_t progress; /* enum progress_mode */
};

static const struct arg_option rows[] = {
	{ .name = "mtime",
		.kind = ARG_BITS,
		.help = "Compare the times of modification of files too.",
		ARG_AT(struct verify, options.flags),
		.value = ZH_VERIFY_MTIME },
	{ .name = "mode",
		.kind = ARG_BITS,
		.help = "Compare the permissions of files and directories too.",
		ARG_AT(struct verify, options.flags),
		.value = ZH_VERIFY_MODE },
	{ .name = "extra",
		.kind = ARG_BITS,
		.help = "Find what is in DIR and not in MANIFEST; it counts as a difference.",
		ARG_AT(struct verify, options.flags),
		.value = ZH_VERIFY_EXTRA },
	{ .name = "threads",
		.letter = 'n',
		.kind = ARG_COUNT,
		.argument = "N",
		.help = "How many files are read at a time, at most 64; as many as there are CPUs by "
			"default.",
		ARG_AT(struct verify, options.threads),
		.minimum = 1,
		.maximum = 64 },
	{ .name = "json",
		.letter = 'j',
		.kind = ARG_BITS,
		.help = "Print one JSON object instead of the summary, on failure too.",
		ARG_AT(struct verify, json),
		.value = 1 },
	{ .name = "quiet",
		.letter = 'q',
		.kind = ARG_BITS,
		.help = "Print no summary, and no progress unless --progress=always asks for it.",
		ARG_AT(struct verify, quiet),
		.value = 1 },
	ROW_PROGRESS(struct verify),
	{ .name = "help", .letter = 'h', .kind = ARG_HELP, .help = "Print this help and exit." },
};

static void snapshot(const void *verifier, struct zh_progress *ret_progress)
{
	zh_verifier_progress(verifier, ret_progress);
}

static void cancel(void *verifier)
{
	zh_verifier_cancel(verifier);
}

static int run(const struct verify *given, struct zh_verifier *verifier)
{
	struct progress progress;
	enum progress_mode mode = (enum progress_mode)given->progress;

	if (mode == PROGRESS_AUTO && given->quiet)
		mode = PROGRESS_NEVER;
	stop_arm(cancel, verifier);
	progress_start(&progress, snapshot, verifier, mode);
	int outcome = zh_verifier_run(verifier);
	progress_stop(&progress);
	stop_disarm();
	return outcome;
}

/* Whether the run itself failed, and not something in the tree. */
static bool run_failed(const struct zh_verifier *verifier)
{
	const struct zh_finding *first = zh_verifier_finding_at(verifier, 0);
	const struct zh_error *error = zh_verifier_error(verifier);

	return error->outcome != ZH_OK &&
	       (!first || memcmp(error, &first->error, sizeof(*error)) != 0);
}

static void print_findings(const struct zh_verifier *verifier)
{
	const struct zh_verify_report *report = zh_verifier_report(verifier);
	const uint64_t found = report->wrong + report->missing + report->unreadable + report->extra;
	const struct zh_finding *finding;
	size_t count = 0;

	for (; (finding = zh_verifier_finding_at(verifier, count)); count++)
		say_record(&finding->error);
	if (count < found)
		(void)say_error(ZH_OK, "and %" PRIu64 " more", found - count);
	if (run_failed(verifier))
		say_record(zh_verifier_error(verifier));
}

static void print_summary(const struct zh_verify_report *report)
{
	printf("%" PRIu64 " of %" PRIu64 " right", report->right, report->listed);
	if (report->wrong)
		printf(", %" PRIu64 " wrong", report->wrong);
	if (report->missing)
		printf(", %" PRIu64 " missing", report->missing);
	if (report->unreadable)
		printf(", %" PRIu64 " unreadable", report->unreadable);
	if (report->extra)
		printf(", %" PRIu64 " extra", report->extra);
	printf("; read %s", size_text(report->bytes).text);
	if (report->direct_bytes < report->bytes)
		printf(" (%s of them through the page cache)",
			size_text(report->bytes - report->direct_bytes).text);
	printf(" in %.2f s\n", (double)report->elapsed_ns / 1e9);
}

static json_t *json_of_findings(const struct zh_verifier *verifier)
{
	static const char *const kinds[] = { "wrong", "missing", "unreadable", "extra" };
	const struct zh_finding *finding;
	json_t *out = json_array();

	for (size_t i = 0; (finding = zh_verifier_finding_at(verifier, i)); i++) {
		json_t *row = json_object();
		(void)json_object_set_new(row, "kind", json_string(kinds[finding->kind]));
		(void)json_object_set_new(row, "file", json_string(finding->error.file));
		(void)json_object_set_new(row, "text", json_string(finding->error.text));
		(void)json_object_set_new(row, "errno", json_integer(finding->error.errnum));
		(void)json_object_set_new(row, "offset", json_of_u64(finding->error.offset));
		(void)json_array_append_new(out, row);
	}
	return out;
}

static json_t *json_of_counts(const struct zh_verify_report *report)
{
	json_t *out = json_object();

	(void)json_object_set_new(out, "listed", json_of_u64(report->listed));
	(void)json_object_set_new(out, "right", json_of_u64(report->right));
	(void)json_object_set_new(out, "wrong", json_of_u64(report->wrong));
	(void)json_object_set_new(out, "missing", json_of_u64(report->missing));
	(void)json_object_set_new(out, "unreadable", json_of_u64(report->unreadable));
	(void)json_object_set_new(out, "extra", json_of_u64(report->extra));
	(void)json_object_set_new(out, "bytes", json_of_u64(report->bytes));
	(void)json_object_set_new(out, "direct_bytes", json_of_u64(report->direct_bytes));
	(void)json_object_set_new(out, "elapsed_ns", json_of_u64(report->elapsed_ns));
	(void)json_object_set_new(out, "threads", json_of_u64(report->threads));
	return out;
}

static json_t *json_of_verify(
	const struct verify *given, const struct zh_verifier *verifier, int outcome, int status)
{
	json_t *out = json_of_outcome("zerohaul-verify/1", outcome, status);

	(void)json_object_set_new(out, "manifest", json_of_bytes(given->options.manifest));
	(void)json_object_set_new(out, "directory", json_of_bytes(given->options.directory));
	(void)json_object_set_new(out, "error",
		run_failed(verifier) ? json_of_error(zh_verifier_error(verifier), status)
				     : json_null());
	(void)json_object_set_new(out, "findings", json_of_findings(verifier));
	(void)json_object_set_new(out, "report", json_of_counts(zh_verifier_report(verifier)));
	return out;
}

/* Tell how it ended, on both streams. Returns the exit status. */
static int finish(const struct verify *given, const struct zh_verifier *verifier, int outcome)
{
	const int status = stop_status(outcome);

	print_findings(verifier);
	if (given->json && json_print(json_of_verify(given, verifier, outcome, status)) < 0)
		return say_error(ZH_INTERNAL, "no memory for the report");
	if (!given->json && !given->quiet && !run_failed(verifier))
		print_summary(zh_verifier_report(verifier));
	return status;
}

static int verify_run(const struct command *command, int argc, char **argv)
{
	struct verify given = { .options = zh_verify_options_default() };
	struct zh_verifier *verifier;
	int operand_count = 0;
	int r = args_parse(command, argc, argv, &given, &operand_count);

	if (r != ARGS_OK)
		return args_status(r);
	if (operand_count != 2)
		return say_usage(command->name, "a MANIFEST and a DIR are needed");
	given.options.manifest = argv[0];
	given.options.directory = argv[1];
	r = zh_verifier_new(&given.options, &verifier);
	if (r < 0)
		return say_error(outcome_of_errno(-r), "cannot set up: %s", strerror(-r));
	r = finish(&given, verifier, run(&given, verifier));
	zh_verifier_free(verifier);
	return r;
}

const struct command cmd_verify = {
	.name = "verify",
	.summary = "prove that a directory holds what a manifest lists",
	.synopsis = "[OPTION...] MANIFEST DIR",
	.about =
		"Reads every file that MANIFEST lists below DIR, past the page cache, and compares it "
		"with its digest; looks at directories and links too. Says what is wrong, missing "
		"or unreadable. Nothing is changed and no link is followed.",
	.page = "zerohaul-verify(1)",
	.options = rows,
	.option_count = sizeof(rows) / sizeof(rows[0]),
	.run = verify_run,
};
