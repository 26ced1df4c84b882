/* SPDX-License-Identifier: Apache-2.0 */
/* json.c - turns what the library reports into JSON. The shape is fixed by schema/copy.schema.json.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "json.h"
#include "say.h"

json_t *json_of_u64(uint64_t number)
{
	/* JSON as others read it ends at 2^63-1; nothing measured gets there. */
	return json_integer(number > INT64_MAX ? INT64_MAX : (json_int_t)number);
}

json_t *json_of_bytes(const char *text)
{
	return json_string(shown(text).text);
}

const char *json_side(uint32_t side)
{
	return side == ZH_SEND ? "send" : "receive";
}

/* A failed allocation shows as a missing value; json_print finds it. */
static void set(json_t *object, const char *name, json_t *value)
{
	(void)json_object_set_new(object, name, value);
}

static void set_u64(json_t *object, const char *name, uint64_t number)
{
	set(object, name, json_of_u64(number));
}

static void set_text(json_t *object, const char *name, const char *text)
{
	set(object, name, json_string(text));
}

json_t *json_of_outcome(const char *schema, int outcome, int exit_status)
{
	json_t *out = json_object();

	set_text(out, "schema", schema);
	set_text(out, "version", zh_version());
	set_text(out, "outcome", zh_outcome_name(outcome));
	set(out, "exit_status", json_integer(exit_status));
	return out;
}

json_t *json_of_error(const struct zh_error *error, int exit_status)
{
	json_t *out = json_object();

	set_text(out, "outcome", zh_outcome_name(error->outcome));
	set(out, "exit_status", json_integer(exit_status));
	set(out, "errno", json_integer(error->errnum));
	set(out, "at_peer", json_boolean(error->at_peer));
	set_u64(out, "offset", error->offset);
	set_text(out, "stage", error->stage);
	set_text(out, "peer", error->peer);
	set_text(out, "file", error->file);
	set_text(out, "text", error->text[0] ? error->text : zh_outcome_text(error->outcome));
	return out;
}

static json_t *of_tcp(const struct zh_tcp *tcp)
{
	if (!tcp->valid)
		return json_null();
	json_t *out = json_object();
	set_text(out, "congestion", tcp->congestion);
	set(out, "nodelay", json_boolean(tcp->nodelay));
	set(out, "cork", json_boolean(tcp->cork));
	set_u64(out, "sndbuf_bytes", tcp->sndbuf_bytes);
	set_u64(out, "rcvbuf_bytes", tcp->rcvbuf_bytes);
	set_u64(out, "notsent_lowat_bytes", tcp->notsent_lowat_bytes);
	set_u64(out, "mss_bytes", tcp->mss_bytes);
	set_u64(out, "rtt_us", tcp->rtt_us);
	set_u64(out, "min_rtt_us", tcp->min_rtt_us);
	set_u64(out, "cwnd_segments", tcp->cwnd_segments);
	set_u64(out, "retransmits", tcp->retransmits);
	set_u64(out, "segments_out", tcp->segments_out);
	set_u64(out, "delivery_rate_bytes_per_s", tcp->delivery_rate);
	set(out, "pacing_rate_bytes_per_s",
		tcp->pacing_rate == UINT64_MAX ? json_null() : json_of_u64(tcp->pacing_rate));
	set_u64(out, "busy_us", tcp->busy_us);
	set_u64(out, "rwnd_limited_us", tcp->rwnd_limited_us);
	set_u64(out, "sndbuf_limited_us", tcp->sndbuf_limited_us);
	return out;
}

json_t *json_of_calls(const struct zh_stats *stats)
{
	json_t *out = json_object();

	for (size_t i = 0; i < ZH_CALL_MAX && zh_call_name(i); i++)
		if (stats->calls[i])
			set_u64(out, zh_call_name(i), stats->calls[i]);
	return out;
}

static json_t *of_stats(const struct zh_stats *stats)
{
	json_t *out = json_object();

	set_text(out, "side", json_side(stats->side));
	set_text(out, "strategy", stats->strategy);
	set_u64(out, "bytes", stats->bytes);
	set_u64(out, "elapsed_ns", stats->elapsed_ns);
	set_u64(out, "cpu_ns", stats->cpu_ns);
	set_u64(out, "wait_space_ns", stats->wait_space_ns);
	set_u64(out, "wait_data_ns", stats->wait_data_ns);
	set_u64(out, "wait_disk_ns", stats->wait_disk_ns);
	set_u64(out, "wait_run_ns", stats->wait_run_ns);
	set_u64(out, "shorts", stats->shorts);
	set_u64(out, "agains", stats->agains);
	set_u64(out, "zc_copied_bytes", stats->zc_copied_bytes);
	set_u64(out, "digest_bytes", stats->digest_bytes);
	set_u64(out, "chunk_bytes", stats->chunk_bytes);
	set_u64(out, "depth", stats->depth);
	set_u64(out, "pipe_bytes", stats->pipe_bytes);
	set_u64(out, "ring_flags", stats->ring_flags);
	set(out, "registered", json_boolean(stats->registered));
	set(out, "huge_pages", json_boolean(stats->huge_pages));
	set(out, "direct", json_boolean(stats->direct));
	set_u64(out, "demotions", stats->demotions);
	set_text(out, "demotion", stats->demotion);
	set_text(out, "calibration", stats->calibration);
	set(out, "calls", json_of_calls(stats));
	set(out, "tcp", of_tcp(&stats->tcp));
	return out;
}

static json_t *of_side(const struct zh_side_report *side)
{
	if (!side->valid)
		return json_null();
	const double cpu_s = (double)(side->cpu_user_ns + side->cpu_sys_ns) / 1e9;
	json_t *out = json_object();
	set_u64(out, "cpu_user_ns", side->cpu_user_ns);
	set_u64(out, "cpu_sys_ns", side->cpu_sys_ns);
	set(out, "cpu_s_per_gb",
		side->stats.bytes ? json_real(cpu_s / ((double)side->stats.bytes / 1e9))
				  : json_null());
	set_u64(out, "max_rss_bytes", side->max_rss_bytes);
	set_u64(out, "voluntary_switches", side->voluntary_switches);
	set_u64(out, "involuntary_switches", side->involuntary_switches);
	set_u64(out, "disk_ns", side->disk_ns);
	set_u64(out, "cached_before_bytes", side->cached_before_bytes);
	set_u64(out, "cached_after_bytes", side->cached_after_bytes);
	set(out, "stats", of_stats(&side->stats));
	return out;
}

json_t *json_of_plan(const struct zh_plan *plan)
{
	if (!plan->strategy[0])
		return json_null();
	json_t *out = json_object();
	json_t *facts = json_object();
	json_t *verdicts = json_array();
	for (size_t i = 0; i < plan->fact_count && i < ZH_PLAN_FACTS; i++)
		set_text(facts, plan->fact[i].name, plan->fact[i].value);
	for (size_t i = 0; i < plan->verdict_count && i < ZH_PLAN_VERDICTS; i++) {
		json_t *verdict = json_object();
		set_text(verdict, "strategy", plan->verdict[i].name);
		set(verdict, "admitted", json_boolean(plan->verdict[i].admitted));
		set_text(verdict, "reason", plan->verdict[i].reason);
		(void)json_array_append_new(verdicts, verdict);
	}
	set_text(out, "side", json_side(plan->side));
	set_text(out, "strategy", plan->strategy);
	set_text(out, "reason", plan->reason);
	set_u64(out, "chunk_bytes", plan->chunk_bytes);
	set_u64(out, "depth", plan->depth);
	set_u64(out, "pipe_bytes", plan->pipe_bytes);
	set(out, "no_fallback", json_boolean(plan->no_fallback));
	set(out, "facts", facts);
	set(out, "verdicts", verdicts);
	return out;
}

static const char *durability_name(uint32_t durability)
{
	return durability == ZH_DURABLE_FULL   ? "full"
	       : durability == ZH_DURABLE_FILE ? "file"
					       : "none";
}

json_t *json_of_report(const struct zh_report *report)
{
	const double seconds = (double)report->elapsed_ns / 1e9;
	json_t *out = json_object();

	set_u64(out, "files_done", report->files_done);
	set_u64(out, "files_skipped", report->files_skipped);
	set_u64(out, "directories", report->directories);
	set_u64(out, "directories_made", report->receiver.directories_made);
	set_u64(out, "deleted", report->receiver.deleted);
	set_u64(out, "hard_links", report->sender.hard_links);
	set_u64(out, "links_skipped", report->sender.links_skipped);
	set_u64(out, "special_skipped", report->sender.special_skipped);
	set_u64(out, "files_failed", report->files_failed);
	set_u64(out, "bytes", report->bytes);
	set_u64(out, "bytes_skipped", report->bytes_skipped);
	set_u64(out, "elapsed_ns", report->elapsed_ns);
	set_u64(out, "moving_ns", report->moving_ns);
	set(out, "gb_per_s",
		report->elapsed_ns ? json_real((double)report->bytes / 1e9 / seconds)
				   : json_null());
	set_u64(out, "streams", report->streams);
	set_u64(out, "streams_lost", report->streams_lost);
	set_u64(out, "resent_leaves", report->resent_leaves);
	set(out, "verified", json_boolean(report->verified));
	set_text(out, "durability", durability_name(report->durability));
	set_text(out, "limited_by", report->limited_by);
	set_text(out, "limit_evidence", report->limit_evidence);
	set(out, "sender", of_side(&report->sender));
	set(out, "receiver", of_side(&report->receiver));
	set(out, "send_plan", json_of_plan(&report->send_plan));
	set(out, "receive_plan", json_of_plan(&report->receive_plan));
	return out;
}

json_t *json_of_strategies(void)
{
	const struct zh_strategy *strategy;
	json_t *out = json_array();

	for (size_t i = 0; (strategy = zh_strategy_at(i)); i++) {
		json_t *row = json_object();
		set_text(row, "name", strategy->name);
		set_text(row, "side", json_side(strategy->side));
		set_text(row, "summary", strategy->summary);
		set_text(row, "needs", strategy->needs);
		set_text(row, "since", strategy->since);
		set(row, "falls_back_to",
			strategy->falls_back_to ? json_string(strategy->falls_back_to)
						: json_null());
		set(row, "sees_data", json_boolean(strategy->sees_data));
		set_u64(row, "user_copies", strategy->user_copies);
		set_u64(row, "total_copies", strategy->total_copies);
		(void)json_array_append_new(out, row);
	}
	return out;
}

int json_print(json_t *object)
{
	char *text = object ? json_dumps(object, JSON_INDENT(2) | JSON_ENSURE_ASCII) : NULL;

	json_decref(object);
	if (!text)
		return -ENOMEM;
	puts(text);
	free(text);
	return 0;
}
