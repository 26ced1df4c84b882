/* SPDX-License-Identifier: Apache-2.0 */
/* report.c - says what a transfer achieved. The same in JSON is in json.c. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "report.h"
#include "say.h"
#include "size.h"
#include "wrap.h"

struct paragraph {
	char text[4096];
	size_t used;
};

__attribute__((format(printf, 2, 3))) static void add(
	struct paragraph *paragraph, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	int n = vsnprintf(paragraph->text + paragraph->used,
		sizeof(paragraph->text) - paragraph->used, format, arguments);
	va_end(arguments);
	if (n > 0)
		paragraph->used += (size_t)n;
	if (paragraph->used >= sizeof(paragraph->text))
		paragraph->used = sizeof(paragraph->text) - 1;
}

static void add_side(struct paragraph *out, const char *who, const struct zh_side_report *side)
{
	const double cpu_s = (double)(side->cpu_user_ns + side->cpu_sys_ns) / 1e9;

	if (!side->valid) {
		add(out, "%s: not reported", who);
		return;
	}
	add(out, "%s: %s, ", who,
		side->stats.strategy[0] ? side->stats.strategy
		: side->stats.bytes     ? "small files in packs"
					: "nothing moved");
	if (side->stats.bytes)
		add(out, "%.3f CPU s/GB", cpu_s / ((double)side->stats.bytes / 1e9));
	else
		add(out, "%.3f CPU s", cpu_s);
	if (side->stats.demotions)
		add(out, " (%" PRIu32 " demotion%s: %s)", side->stats.demotions,
			side->stats.demotions == 1 ? "" : "s", side->stats.demotion);
	if (side->stats.calibration[0])
		add(out, " (calibrated: %s)", side->stats.calibration);
}

static const char *durability_text(const struct zh_report *report)
{
	if (strcmp(report->receiver.stats.strategy, "discard") == 0)
		return "Nothing was stored: the receiver discarded the bytes.";
	switch (report->durability) {
	case ZH_DURABLE_FULL:
		return "Durable: data and names are on stable storage (full).";
	case ZH_DURABLE_FILE:
		return "Data is on stable storage, names may not be yet (file).";
	default:
		return "Not durable: nothing was synced (none).";
	}
}

static void add_count(struct paragraph *out, uint32_t count, const char *one, const char *many)
{
	if (count)
		add(out, "%" PRIu32 " %s. ", count, count == 1 ? one : many);
}

static void add_left_out(struct paragraph *out, const struct zh_side_report *sender)
{
	add_count(out, sender->links_skipped, "symbolic link left out", "symbolic links left out");
	add_count(out, sender->special_skipped, "special file left out", "special files left out");
}

static void add_tree(struct paragraph *out, const struct zh_report *report)
{
	add_count(out, report->directories, "directory", "directories");
	if (report->receiver.deleted)
		add(out, "%" PRIu64 " name%s removed that the source has not. ",
			report->receiver.deleted,
			report->receiver.deleted == 1 ? " was" : "s were");
	add_count(out, report->files_skipped, "file was there already", "files were there already");
	add_left_out(out, &report->sender);
	add_count(out, report->sender.hard_links,
		"file has other names, too, and was sent by itself",
		"files have other names, too, and were sent by themselves");
}

void report_print(const struct zh_report *report)
{
	struct paragraph out = { .used = 0 };
	const double seconds = (double)report->elapsed_ns / 1e9;
	const double gb_per_s = seconds > 0 ? (double)report->bytes / 1e9 / seconds : 0;

	add(&out,
		"%" PRIu32 " file%s, %s (%" PRIu64 " bytes) in %.3f s: %.3f GB/s over %" PRIu32
		" data connection%s. ",
		report->files_done, report->files_done == 1 ? "" : "s",
		size_text(report->bytes).text, report->bytes, seconds, gb_per_s, report->streams,
		report->streams == 1 ? "" : "s");
	if (report->streams_lost)
		add(&out, "%" PRIu32 " data connection%s lost. ", report->streams_lost,
			report->streams_lost == 1 ? " was" : "s were");
	add_tree(&out, report);
	if (report->files_failed)
		add(&out, "%" PRIu32 " file%s failed. ", report->files_failed,
			report->files_failed == 1 ? "" : "s");
	add_side(&out, "Sender", &report->sender);
	add(&out, "; ");
	add_side(&out, "receiver", &report->receiver);
	add(&out, ". %s", report->verified ? "Verified" : "Not verified");
	if (report->resent_leaves)
		add(&out, " after %" PRIu32 " re-sent chunk%s", report->resent_leaves,
			report->resent_leaves == 1 ? "" : "s");
	add(&out, ". %s", durability_text(report));
	if (report->limited_by[0] && strcmp(report->limited_by, "nothing") != 0)
		add(&out, " Limited by the %s: %s.", report->limited_by, report->limit_evidence);
	wrap_print(out.text, 0, 0);
}

void report_print_dry(const struct zh_report *report)
{
	struct paragraph out = { .used = 0 };

	add(&out,
		"Nothing was changed. %" PRIu32 " file%s, %s (%" PRIu64
		" bytes), would be sent; %" PRIu32 " file%s, %s (%" PRIu64
		" bytes), %s there already. ",
		report->files_done, report->files_done == 1 ? "" : "s",
		size_text(report->bytes).text, report->bytes, report->files_skipped,
		report->files_skipped == 1 ? "" : "s", size_text(report->bytes_skipped).text,
		report->bytes_skipped, report->files_skipped == 1 ? "is" : "are");
	if (report->directories)
		add(&out, "Of %" PRIu32 " director%s %" PRIu32 " would be made. ",
			report->directories, report->directories == 1 ? "y" : "ies",
			report->receiver.directories_made);
	if (report->receiver.deleted)
		add(&out, "%" PRIu64 " name%s would be removed that the source has not. ",
			report->receiver.deleted, report->receiver.deleted == 1 ? "" : "s");
	add_left_out(&out, &report->sender);
	add_count(&out, report->files_failed, "would fail", "would fail");
	wrap_print(out.text, 0, 0);
}

/* A file that failed with the session adds nothing to the line about the session. */
static bool consequence(
	const struct zh_error *session, const struct zh_error *file, const struct zh_report *report)
{
	if (session->outcome == ZH_OK || session->file[0])
		return false;
	return file->outcome == session->outcome && report->files_done == 0;
}

void report_print_failures(const struct zh_transfer *transfer, int outcome)
{
	const struct zh_error *session = zh_transfer_error(transfer);
	const struct zh_report *report = zh_transfer_report(transfer);
	const struct zh_failure *failure;
	bool listed = false;
	size_t lines = 0;

	for (size_t i = 0; (failure = zh_transfer_failure_at(transfer, i)); i++)
		if (session->file[0] && strcmp(failure->error.file, session->file) == 0)
			listed = true;
	if (session->outcome != ZH_OK && !listed) {
		say_record(session);
		lines++;
	}
	for (size_t i = 0; (failure = zh_transfer_failure_at(transfer, i)); i++) {
		if (consequence(session, &failure->error, report))
			continue;
		say_record(&failure->error);
		lines++;
	}
	if (outcome != ZH_OK && lines == 0)
		(void)say_error(
			outcome, "%s [%s]", zh_outcome_text(outcome), zh_outcome_name(outcome));
}
