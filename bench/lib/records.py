# SPDX-License-Identifier: Apache-2.0
"""
A run as it lies on disk (bench/schema), made into tables. Reads, and judges nothing.

plan.json, machine.json and trials.jsonl have to be there, canaries.jsonl may. Lines of *.jsonl may be
compressed, as trials.jsonl.gz or trials.jsonl.zst. Trials are of bench/run or, whole commands, of bench/peers.

Of the attempts of one cell in one round one counts: the last clean one, or the last one if none was
clean. Nothing is deleted; with clean_only those that stayed noisy are left out.
"""

import json
import os
from dataclasses import dataclass, field

import packed
import pandas

FACTORS = ("strategy", "receive", "buffer", "nagle", "mss", "file_bytes", "files", "streams", "sndbuf",
           "rcvbuf", "notsent_lowat", "cc", "cache", "sink", "path", "framing", "window", "depth")
METRICS = ("throughput_Bps", "tx_cpu_s_per_GB", "rx_cpu_s_per_GB", "cpu_s_per_GB", "syscalls_per_GB",
           "segments_per_GB", "latency_p50_us", "latency_p99_us", "zc_copied_pct")
MORE_IS_BETTER = {"throughput_Bps"}
HARNESSES = ("native", "hyperfine")     # gbench has no rounds, zerohaul neither anchor nor canaries
SAME_THING = {"copy-dup": "copy"}       # A/A: the same code under two names


class RunError(Exception):
    """A run that cannot be read; the text says what is wrong with it."""


@dataclass
class Run:
    directory: str
    plan: dict
    machine: dict
    trials: pandas.DataFrame            # one row for each trial that is in the file
    canaries: pandas.DataFrame
    cells: dict = field(default_factory=dict)      # block -> [cell of the plan]

    @property
    def id(self):
        return self.plan["run"]


def read_json(directory, name):
    path = os.path.join(directory, name)
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)
    except NotADirectoryError:
        raise RunError(f"{directory} is a file, not the directory of a run; records of zerohaul bench are no run, "
                       "for nothing says what they were to show") from None
    except FileNotFoundError:
        raise RunError(f"there is no {path}") from None
    except ValueError as error:
        raise RunError(f"{path}: {error}") from None


def read_lines(directory, name):
    """The records of a file, [] without it. A last line that an interruption cut short is left out."""
    path, found = packed.find(directory, name), []
    try:
        lines = packed.read(path).split("\n") if path else []
    except packed.PackedError as error:
        raise RunError(str(error)) from None
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found.append(json.loads(line))
        except ValueError as error:
            if number == len(lines):
                break
            raise RunError(f"{os.path.join(directory, name)}:{number}: {error}") from None
    return found


def per_gigabyte(amount, size):
    return None if amount is None or not size else amount * 1e9 / size


def side_figures(side, size):
    if not side:
        return None, None, None
    calls = side["syscalls"]
    return (per_gigabyte(side["cpu_ns"] / 1e9, size),
            None if calls is None else per_gigabyte(sum(calls.values()), size), side["maxrss_bytes"])


def both_sides(trial, tx_cpu, rx_cpu):
    """A whole command may have no receiver, as cp; elsewhere a side that is missing is not known."""
    if tx_cpu is not None and rx_cpu is None and trial["cell"]["kind"] == "command":
        return tx_cpu
    return None if tx_cpu is None or rx_cpu is None else tx_cpu + rx_cpu


def row_of(trial):
    """Levels and figures of a trial side by side. A trial that is not "ok" has no figure."""
    row = {name: trial[name] for name in ("block", "role", "round", "order", "attempt", "t_utc", "harness",
                                          "status", "quality", "error")}
    row["flags"] = tuple(trial["flags"])
    row["id"] = trial["cell"]["id"]
    row.update({name: trial["cell"][name] for name in FACTORS})
    row.update(dict.fromkeys(METRICS))
    if trial["status"] != "ok":
        return row
    size = trial["bytes"]
    tx_cpu, tx_calls, tx_rss = side_figures(trial["tx"], size)
    rx_cpu, _, rx_rss = side_figures(trial["rx"], size)
    tcp, latency, time, zc = (trial[name] or {} for name in ("tcp", "latency_us", "time", "zc"))
    busy, command = tcp.get("busy_us"), trial.get("command") or {}
    row.update(
        throughput_Bps=trial["throughput_Bps"], tx_cpu_s_per_GB=tx_cpu, rx_cpu_s_per_GB=rx_cpu,
        cpu_s_per_GB=both_sides(trial, tx_cpu, rx_cpu),
        syscalls_per_GB=tx_calls, segments_per_GB=per_gigabyte(tcp.get("data_segments_out"), size),
        latency_p50_us=latency.get("p50"), latency_p99_us=latency.get("p99"),
        stalls=latency.get("stalls_30ms"), latency_files=latency.get("files"),
        zc_copied_pct=zc.get("copied_pct"), tx_rss=tx_rss, rx_rss=rx_rss,
        rwnd_limited_pct=100 * tcp["rwnd_limited_us"] / busy if busy else None,
        sndbuf_limited_pct=100 * tcp["sndbuf_limited_us"] / busy if busy else None,
        first_done_pct=100 * time["first_done_s"] / time["acked_s"] if time.get("first_done_s") else None,
        hash_equal=trial["hash"]["equal"] if trial["hash"] else None,
        effective_mss=(trial["effective"] or {}).get("mss"),
        effective_pipe=(trial["effective"] or {}).get("pipe"),
        wall_s=time.get("acked_s"), verified=command.get("verified"), durable=command.get("durable"))
    return row


def read_run(directory):
    plan, machine = read_json(directory, "plan.json"), read_json(directory, "machine.json")
    trials = read_lines(directory, "trials.jsonl")
    if not trials:
        raise RunError(f"{directory} has no trials")
    strangers = {trial["run"] for trial in trials} - {plan["run"]}
    if strangers:
        raise RunError(f"{directory}: trials of another run, {', '.join(sorted(strangers))}")
    known = [row_of(trial) for trial in trials if trial["harness"] in HARNESSES]
    if not known:
        raise RunError(f"{directory} has no trials of bench/run or bench/peers")
    rows = pandas.DataFrame(known).astype({name: object for name in FACTORS})
    for name in METRICS:
        rows[name] = pandas.to_numeric(rows[name])
    return Run(directory, plan, machine, rows, pandas.DataFrame(read_lines(directory, "canaries.jsonl")),
               {block["name"]: block["cells"] for block in plan["blocks"]})


def counting(run, clean_only=False):
    """The trials that stand for their cell and round."""
    found = run.trials[(run.trials["role"] == "cell") & (run.trials["status"] == "ok")]
    if clean_only:
        found = found[found["quality"] == "clean"]
    found = found.assign(is_clean=found["quality"] == "clean").sort_values(["is_clean", "attempt"])
    return found.drop_duplicates(["block", "id", "round"], keep="last").drop(columns="is_clean")


class Figures:
    """Figures by block, cell and round: what comparisons ask for."""

    def __init__(self, run, clean_only=False):
        found = counting(run, clean_only)
        self.rounds = {block["name"]: range(1, block["rounds"] + 1) for block in run.plan["blocks"]}
        # Plain dicts: comparisons ask for thousands of single series.
        self.by_cell = {key: part.set_index("round").to_dict() for key, part in found.groupby(["block", "id"])}

    def of(self, block, cell_id, metric):
        """One for each round of the block; None where there is none."""
        values = self.by_cell.get((block, cell_id), {}).get(metric, {})
        found = [values.get(number) for number in self.rounds[block]]
        return [None if pandas.isna(value) else float(value) for value in found]


def matches(cell, where):
    """Whether a cell has one of the levels of each factor named."""
    return all(cell[name] in levels for name, levels in where.items())


def alike(cell, other, but):
    """Whether two cells differ in nothing but this factor (socket buffers go together)."""
    may_differ = {"sndbuf", "rcvbuf"} if but in ("sndbuf", "rcvbuf") else {but}
    return all(cell[name] == other[name] for name in FACTORS if name not in may_differ)
