/* SPDX-License-Identifier: Apache-2.0 */
/*
 * harness.cc - see harness.h. In C++ because Google Benchmark's loop is inline C++; nothing else
 * is.
 *
 * Iterations and repetitions are fixed, so that each repetition is one call of a fixed amount of
 * work. Then a minimal warm-up time would end the program (1.7): warming up is the set-up's. Time
 * is manual, because that of the calling thread says nothing about a transfer. No rate is left for
 * the library to make of it by CPU time. No counter is a division by 0, and none is always 0: the
 * library divides the spread of repetitions by their mean, and would write NaN into JSON.
 */
#include "harness.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

namespace
{

const size_t TEXT_CAP = 200;

void add(zh_gb_result &sum, const zh_gb_result &one)
{
	sum.elapsed_s += one.elapsed_s;
	sum.tx_cpu_s += one.tx_cpu_s;
	sum.rx_cpu_s += one.rx_cpu_s;
	sum.bytes += one.bytes;
	sum.syscalls += one.syscalls;
	sum.switches += one.switches;
	sum.segments += one.segments;
	sum.zc_copied_bytes += one.zc_copied_bytes;
}

void report(benchmark::State &state, const zh_gb_result &sum)
{
	double gigabytes = static_cast<double>(sum.bytes) / 1e9;

	state.SetBytesProcessed(static_cast<int64_t>(sum.bytes));
	state.counters["tx_cpu_s_per_GB"] = sum.tx_cpu_s / gigabytes;
	state.counters["rx_cpu_s_per_GB"] = sum.rx_cpu_s / gigabytes;
	state.counters["syscalls_per_GB"] = static_cast<double>(sum.syscalls) / gigabytes;
	state.counters["switches_per_GB"] = static_cast<double>(sum.switches) / gigabytes;
	state.counters["segments_per_GB"] = static_cast<double>(sum.segments) / gigabytes;
	if (sum.zc_copied_bytes > 0)
		state.counters["zc_copied_pct"] = static_cast<double>(sum.zc_copied_bytes) * 100 /
						  static_cast<double>(sum.bytes);
}

/* All iterations of one repetition at one point. After an error there is no number. */
void run(benchmark::State &state, const zh_gb_ops &ops, const zh_gb_point &point)
{
	char text[TEXT_CAP] = "";
	void *context = nullptr;
	zh_gb_result sum = {};
	bool failed = false;

	if (ops.label) {
		ops.label(&point, text, sizeof(text));
		state.SetLabel(text);
	}
	if (ops.setup(&context, &point, text, sizeof(text)) < 0) {
		state.SkipWithError(text);
		return;
	}
	for (auto _ : state) {
		zh_gb_result one = {};
		(void)_;
		failed = ops.trial(context, &one, text, sizeof(text)) < 0;
		if (failed) {
			state.SkipWithError(text);
			break;
		}
		state.SetIterationTime(one.elapsed_s);
		add(sum, one);
	}
	ops.teardown(context);
	if (!failed && sum.bytes > 0)
		report(state, sum);
}

} // namespace

/*
 * The library writes the host's name into what it exports, and results are published: machine.json
 * says what there is to say of a host. When this fails it writes none.
 */
extern "C" int gethostname(char *, size_t) noexcept
{
	return -1;
}

void zh_gb_add(const struct zh_gb_ops *ops, const struct zh_gb_point *points, size_t point_count,
	int64_t iterations, int repetitions)
{
	std::vector<std::string> names;

	for (const char *const *name = ops->factor; *name; name++)
		names.push_back(*name);
	for (size_t i = 0; i < point_count; i++) {
		zh_gb_point point = points[i];
		std::vector<int64_t> levels(point.level, point.level + point.count);
		benchmark::RegisterBenchmark(ops->name,
			[ops, point](benchmark::State &state) { run(state, *ops, point); })
			->Args(levels)
			->ArgNames(names)
			->UseManualTime()
			->Unit(benchmark::kMillisecond)
			->Iterations(iterations)
			->Repetitions(repetitions);
	}
}

void zh_gb_note(const char *key, const char *value)
{
	benchmark::AddCustomContext(key, value);
}

int zh_gb_run(int *argc, char **argv)
{
	benchmark::Initialize(argc, argv);
	if (benchmark::ReportUnrecognizedArguments(*argc, argv))
		return 1;
	benchmark::RunSpecifiedBenchmarks();
	benchmark::Shutdown();
	return 0;
}
