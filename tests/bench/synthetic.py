#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""
Made-up runs whose truth is known: what a report and its statistics are tested with. They have the form
of bench/schema, every block, and effects that this file decides. No figure of it says anything about a
machine.   By hand: synthetic.py DIRECTORY [--small] [--seed N]
"""
import argparse
import itertools
import json
import math
import os

import numpy as np

RUN = "synthetic-1"
KIB, MIB, GB = 1 << 10, 1 << 20, 10 ** 9
CELL = dict(kind="bulk", strategy="copy", receive="discard", buffer=64 * KIB, nagle="default", mss=None,
            file_bytes=1 << 30, files=1, streams=1, sndbuf=None, rcvbuf=None, notsent_lowat=None, cc="cubic",
            cache="warm", sink="discard", path="lo", framing=None, window=None, depth=None)
# Whole commands: verified, durable, and seconds for a gibibyte and for many small files.
COMMANDS = {"zerohaul": ("digest of each MiB, both sides", "data and name", 1.3, 2.5),
            "rsync": ("digest of the file", "no, then sync -f", 3.2, 4.0), "scp": ("no", "no, then sync -f", 4.5, 30.0),
            "nc": ("no", "no, then sync -f", 1.6, None), "cp": ("no", "no, then sync -f", 0.9, 2.0)}
ZERO_COPY = ("msg-zerocopy", "uring-zc")
PEAK_GBPS = {"copy": 4.0, "copy-dup": 4.0, "mmap": 3.0, "msg-zerocopy": 3.6, "sendfile": 7.0, "splice": 8.0,
             "uring-copy": 4.4, "uring-zc": 3.9}
TX_CPU = {"copy": 0.20, "copy-dup": 0.20, "mmap": 0.25, "msg-zerocopy": 0.22, "sendfile": 0.10,
          "splice": 0.09, "uring-copy": 0.19, "uring-zc": 0.21}


def cell(**levels):
    made = dict(CELL, **levels)
    made["id"] = ",".join(f"{name}={value}" for name, value in made.items()
                          if name == "strategy" or value != CELL[name])
    return made


def every(**levels):
    """A cell for each combination of the levels."""
    return [cell(**dict(zip(levels, chosen))) for chosen in itertools.product(*levels.values())]


def commands(large):
    """The cells of whole commands, as bench/peers has them."""
    files = dict(file_bytes=1 << 30, files=1) if large else dict(file_bytes=8 * KIB, files=20000)
    return [cell(kind="command", strategy=name, receive=None, buffer=None, nagle=None, streams=None, sink=sink, **files)
            for name, of in COMMANDS.items() if of[2 if large else 3]
            for sink in (("tmpfs", "disk+syncfs") if large else ("disk+syncfs",))]


def blocks(small):
    modes = ["default", "nodelay", "cork", "msg_more", "nodelay+cork"]
    rounds = {"A": 15, "B": 11, "C": 9, "D": 11, "E": 11, "F": 9, "large": 11, "small": 11}
    some = slice(None, None, 3) if small else slice(None)
    cells = {
        "A": every(strategy=list(PEAK_GBPS),
                   buffer=[4 * KIB, 16 * KIB, 64 * KIB, 128 * KIB, 256 * KIB, MIB, 4 * MIB]),
        "B": every(strategy=["copy", "sendfile", "splice", "uring-zc"][:2 if small else 4], nagle=modes,
                   buffer=[64, 256, KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB][some],
                   mss=[None, 1448]),
        "C": [dict(one, kind="requests", files=None, id="requests," + one["id"]) for one in every(
            framing=["writev", "send,send", "send,sendfile", "more,sendfile"][1:3 if small else 4],
            window=[1] if small else [1, 8], nagle=modes,
            file_bytes=[KIB, 4 * KIB, 16 * KIB, 64 * KIB, 256 * KIB, MIB, 16 * MIB][some])],
        "D": [one for size in (None, 64 * KIB, 256 * KIB, MIB, 4 * MIB)
              for one in every(strategy=["copy", "sendfile"], buffer=[16 * KIB, 128 * KIB, MIB][some],
                               notsent_lowat=[None, 128 * KIB], sndbuf=[size], rcvbuf=[size])],
        "E": every(strategy=["copy", "sendfile", "uring-zc"], streams=[1, 2, 4, 8],
                   cc=["cubic", "bbr", "reno"][:2 if small else 3]),
        "F": [one for one in every(strategy=["copy", "sendfile", "splice"], cache=["warm", "cold", "direct"],
                                   sink=["discard", "tmpfs", "disk", "disk+fdatasync"])
              if one["cache"] != "direct" or one["strategy"] == "copy"],
        "large": commands(True), "small": commands(False),
    }
    titles = {"A": "strategy x buffer", "B": "Nagle", "C": "small files", "D": "socket buffers",
              "E": "streams x congestion control", "F": "cache x sink",
              "large": "one large file", "small": "many small files"}
    return [dict(name=name, title=titles[name], rounds=rounds[name], cap_ms=None, cells=cells[name],
                 left_out=[dict(id="F sendfile direct", why="sendfile does not read by O_DIRECT")]
                 if name == "F" else []) for name in cells]


def family(name, block, question, metric, factor, base, split=(), where=None):
    return dict(name=name, block=block, question=question, metric=metric, factor=factor, base=base,
                where=where or {}, split=list(split), by=["buffer"])


def families():
    return [
        family("A", "A", "Which strategy moves more than copy with the same buffer?", "throughput_Bps",
               "strategy", "copy"),
        family("A-cpu", "A", "Which costs less CPU?", "cpu_s_per_GB", "strategy", "copy"),
        family("B", "B", "What does the Nagle mode change?", "throughput_Bps", "nagle", "default",
               ["strategy", "mss"]),
        family("C", "C", "What does it change for small files?", "latency_p50_us", "nagle", "default",
               ["framing", "window", "nagle"]),
        family("D", "D", "Do set socket buffers help?", "throughput_Bps", "sndbuf", None, ["strategy"]),
        family("E", "E", "Does the congestion control matter?", "throughput_Bps", "cc", "cubic",
               ["strategy"]),
        family("E-streams", "E", "Do more streams move more than one?", "throughput_Bps", "streams", 1,
               ["strategy"]),
        family("F", "F", "Is copy to be beaten from this cache to this sink?", "throughput_Bps", "strategy",
               "copy", ["cache"]),
        *(family("peers-" + block, block, "Which is faster or slower than zerohaul?", "throughput_Bps", "strategy",
                 "zerohaul", ["sink"], dict(kind=["command"])) for block in ("large", "small")),
    ]


def test(kind, block, metric, a, least=None, most=None, b=None, by=("buffer",)):
    return dict(kind=kind, block=block, metric=metric, a=a, b=b, by=list(by), min=least, max=most)


def hypotheses():
    big = [64 * KIB, 128 * KIB, 256 * KIB, MIB, 4 * MIB]
    stalling = dict(framing=["send,sendfile"], window=[1], file_bytes=[KIB, 16 * KIB])
    return [
        dict(id="H1", text="sendfile needs less than 60 % of copy's sender CPU from 64 KiB on", must_hold=False,
             tests=[test("ratio", "A", "tx_cpu_s_per_GB", dict(strategy=["sendfile"], buffer=big), None, 0.6,
                         dict(strategy=["copy"], buffer=big))]),
        dict(id="H2", text="splice is within 10 % of sendfile", must_hold=False,
             tests=[test("ratio", "A", "throughput_Bps", dict(strategy=["splice"], buffer=big), 0.9, 1.1,
                         dict(strategy=["sendfile"], buffer=big))]),
        dict(id="H3", text="on loopback all zero-copy sends are copied after all", must_hold=True,
             tests=[test("value", "A", "zc_copied_pct", dict(strategy=["uring-zc"]), 100, 100)]),
        dict(id="H4", text="copy is at its best from 64 to 256 KiB on", must_hold=False,
             tests=[test("knee", "A", "throughput_Bps", dict(strategy=["copy"]), 64 * KIB, 256 * KIB)]),
        dict(id="H6", text="header and sendfile stall for 40 ms, unless Nagle is out of the way", must_hold=True,
             tests=[test("value", "C", "latency_p50_us", dict(stalling, nagle=["default"]), 35000, 45000,
                         by=["nagle", "file_bytes"]),
                    test("value", "C", "latency_p50_us", dict(stalling, nagle=["nodelay", "cork", "msg_more"]),
                         None, 5000, by=["nagle", "file_bytes"])]),
        dict(id="H7", text="bbr is slower than cubic on loopback", must_hold=False,
             tests=[test("ratio", "E", "throughput_Bps", dict(cc=["bbr"]), None, 1.0, dict(cc=["cubic"]),
                         by=["strategy", "streams"])]),
        dict(id="H8", text="buffers of 64 KiB cost more than 20 %", must_hold=False,
             tests=[test("ratio", "G", "throughput_Bps", dict(sndbuf=[64 * KIB]), None, 0.8,
                         dict(sndbuf=[None]))]),
    ]


# ---------------------------------------------------------------------- the truth


def true_rate(one):
    """Bytes per second."""
    if one["kind"] == "command":
        return one["file_bytes"] * one["files"] / COMMANDS[one["strategy"]][2 if one["files"] == 1 else 3]
    knee = 8 * KIB if one["strategy"] != "splice" else 24 * KIB
    rate = PEAK_GBPS[one["strategy"]] * one["buffer"] / (one["buffer"] + knee)
    if one["buffer"] > MIB:
        rate *= 0.93
    if one["mss"]:
        rate *= 0.45
    if one["buffer"] < 4 * (one["mss"] or 16 * KIB):
        rate *= {"nodelay": 0.5, "cork": 1.3, "msg_more": 1.3}.get(one["nagle"], 1.0)
    rate *= {"bbr": 0.7, "reno": 1.0}.get(one["cc"], 1.0) * (1 if one["streams"] == 1 else 1.15)
    rate *= (one["sndbuf"] / (one["sndbuf"] + 64 * KIB)) if one["sndbuf"] else 1.0
    rate = min(rate, {"warm": 99, "cold": 1.9, "direct": 2.1}[one["cache"]])
    rate = min(rate, {"discard": 99, "tmpfs": 3.2, "disk": 1.6, "disk+fdatasync": 0.9}[one["sink"]])
    return rate * GB


def true_latency_us(one):
    wire = 25 + one["file_bytes"] / 4000
    stalls = (one["framing"] in ("send,send", "send,sendfile") and one["window"] == 1
              and one["nagle"] == "default" and one["file_bytes"] < 64 * KIB)
    return wire + (40000 if stalls else 0)


def side(cpu_s, calls):
    return dict(cpu_ns=int(cpu_s * 1e9), user_s=0.2 * cpu_s, sys_s=0.8 * cpu_s, nvcsw=100, nivcsw=5, minflt=10,
                maxrss_bytes=4 * MIB, syscalls={"calls": int(calls)}, wait_s=None, shorts=0, agains=0,
                cycles=None, cycles_source="none")


def measured(one, luck, generator):
    """What varies with the cell. luck: of the round, common to all its trials."""
    def noise(width=0.01):
        return math.exp(generator.normal(0, width))

    if one["kind"] == "command":
        return measured_command(one, true_rate(one) * luck * noise())
    size = int(min(max(one["buffer"] * 4000, 4 * MIB), GB)) if one["kind"] == "bulk" else one["file_bytes"] * 50
    rate = true_rate(one) * luck * noise()
    seconds = size / rate
    cpu = (TX_CPU[one["strategy"]] + 500 / one["buffer"]) * noise() / luck
    segment = min(one["mss"] or 65483, max(one["buffer"], 1448) if one["nagle"] == "nodelay" else 65483)
    latency = None
    if one["kind"] == "requests":
        p50, p99 = true_latency_us(one) * noise() / luck, true_latency_us(one) * 2.2 * noise(0.1) / luck
        latency = dict(files=400, p50=p50, p90=1.3 * p50, p99=p99, p999=1.1 * p99, max=1.3 * p99,
                       stalls_30ms=400 if p50 > 30000 else 0)
    limited = (one["sndbuf"] or 0) and 64 * KIB / (one["sndbuf"] + 64 * KIB)
    zero_copy = one["strategy"] in ZERO_COPY
    return dict(
        bytes=size, throughput_Bps=rate, latency_us=latency,
        time=dict(connect_s=0.0001, send_return_s=0.98 * seconds, acked_s=seconds, rx_last_s=0.99 * seconds,
                  first_done_s=seconds * (1 if one["streams"] == 1 else 0.9),
                  durable_s=0.1 * seconds if one["sink"] == "disk+fdatasync" else None),
        tx=side(cpu * size / GB, 2 * size / one["buffer"]), rx=side(0.05 * size / GB * noise(), size / 65536),
        tcp=dict(mss=one["mss"] or 65483, rtt_us=40, min_rtt_us=10, cwnd=10, retransmits=0,
                 segments_out=size // segment + 1, data_segments_out=size // segment, delivery_rate_Bps=int(rate),
                 pacing_rate_Bps=None, busy_us=int(seconds * 1e6) + 1, rwnd_limited_us=0,
                 sndbuf_limited_us=int(limited * seconds * 1e6)),
        zc=dict(bytes=size, copied_bytes=size, copied_pct=100) if zero_copy else None,
        hash=None)


def measured_command(one, rate):
    size = one["file_bytes"] * one["files"]
    known, seconds = dict(side(0.3 * size / GB, 0), syscalls=None), size / rate
    verified, durable = COMMANDS[one["strategy"]][:2]
    return dict(
        bytes=size, throughput_Bps=rate, latency_us=None, tcp=None, zc=None, hash=dict(equal=True, bytes=size),
        time=dict(connect_s=None, send_return_s=None, acked_s=seconds, rx_last_s=None, first_done_s=None,
                  durable_s=None),
        tx=known, rx=None if one["strategy"] == "cp" else known,
        command=dict(name=one["strategy"], packages={}, verified=verified, durable=durable, pinned=True,
                     cpu_time_by="nobody", sender_strategy=None, receiver_strategy=None,
                     hyperfine=dict(time_s=seconds, user_s=0.1, system_s=0.2)))


def effective(one):
    return dict(mss=one["mss"] or 65483, sndbuf=4 * MIB, rcvbuf=4 * MIB, pipe=None, cc=one["cc"], nodelay=0, cork=0,
                chunk=one["buffer"], depth=8, strategy=one["strategy"], receive=one["receive"], direct=0,
                resident_pct=100.0, cpus=[0, 1])


def trial(seed, block, one, role, number, order, luck, generator):
    """A line of trials.jsonl. One in fifty is noisy, in one round that is bad."""
    noisy = generator.random() < 0.02
    minute, second = divmod(number * 17 + order, 3600)[1] // 60, order % 60
    return dict(
        schema="zerohaul.trial/1", run=RUN, block=block, role=role, round=number, order=order, attempt=1,
        seed=seed, t_utc=f"2026-01-02T{number:02}:{minute:02}:{second:02}Z", status="ok",
        harness="hyperfine" if one["kind"] == "command" else "native", quality="noisy" if noisy else "clean",
        flags=["others-cpu"] if noisy else [], error=None, cell=one,
        effective=None if one["kind"] == "command" else effective(one),
        system=dict(wall_s=1.0, user_s=0.1, sys_s=0.8, softirq_s=0.1, steal_s=0.0, idle_s=1.0,
                    others_pct=1.0, steal_pct=0.0),
        mib={"OutSegs": 1000}, **measured(one, luck, generator))


def make_trials(plan, generator):
    anchor = plan["anchor"]
    for block in plan["blocks"]:
        for number in range(1, block["rounds"] + 1):
            luck = math.exp(generator.normal(0, 0.05))
            order = list(block["cells"])
            generator.shuffle(order)
            middle = len(order) // 2
            line = [(anchor, "anchor"), *((one, "cell") for one in order[:middle]), (anchor, "anchor"),
                    *((one, "cell") for one in order[middle:]), (anchor, "anchor")]
            if not anchor or block["cells"][0]["kind"] == "command":
                line = [(one, "cell") for one in order]
            for place, (one, role) in enumerate(line):
                yield trial(plan["seed"], block["name"], one, role, number, place, luck, generator)


def make_canaries(plan, generator):
    for block in plan["blocks"]:
        for number in range(1, block["rounds"] + 1):
            a, b, c = np.exp(generator.normal(0, 0.03, 3))
            yield dict(schema="zerohaul.canary/1", run=RUN, block=block["name"], round=number,
                       t_utc=f"2026-01-02T{number:02}:00:00Z", memcpy_Bps=9e9 * a, getppid_ns=110 * b,
                       pread_Bps=7e9 * c, steal_pct=0.1, others_pct=1.0, load1=1.0, psi_cpu_avg10=0.0,
                       psi_io_avg10=0.0, psi_memory_avg10=0.0)


def machine():
    return dict(
        schema="zerohaul.machine/1", run=RUN, recorded_utc="2026-01-02T00:00:00Z", host_hash="0f" * 8,
        commit="0123456789ab", dirty=False, version="0.0.0", kernel="0.0", kernel_build="synthetic",
        cmdline=None, distribution="none", memory_bytes=4 << 30, hypervisor=None, clocksource="tsc", hz=250,
        root=True, cpu=dict(model="made up", online=2, used=[0, 1], caches={"L2": "1 MiB"}, flags=["sse2"]),
        network=dict(path="lo", mtu=65536, qdisc="noqueue", offloads={}, sysctl={"tcp_wmem": "4096 16384 4194304"}),
        limits={"memlock": 8 * MIB}, compiler="none", build_options={"buildtype": "release"}, packages={},
        file_systems={"disk": dict(kind="ext4", options="rw", device="none")}, tuners=[],
        strategies=[dict(name=name, side="send", summary="made up", user_copies=0, total_copies=1)
                    for name in PEAK_GBPS],
        ceilings=dict(memcpy_Bps=9e9, pread_Bps=7e9, getppid_ns=110.0, disk_read_Bps=None, disk_write_Bps=None))


def make(directory, small=False, seed=1, rounds=None, for_inference=True, only=None):
    """Writes a run; rounds: of every block, instead of its own; only: names of blocks."""
    generator = np.random.default_rng(seed)
    made = [block for block in blocks(small) if not only or block["name"] in only]
    for block in made:
        block["rounds"] = rounds or block["rounds"]
    plan = dict(schema="zerohaul.plan/1", run=RUN, sweep="synthetic", title="Made-up figures",
                created_utc="2026-01-02T00:00:00Z", commit="0123456789ab", dirty=False, seed=seed,
                for_inference=for_inference, estimate_s=60.0, blocks=made,
                anchor=cell() if any(one["cells"][0]["kind"] != "command" for one in made) else None,
                families=[one for one in families() if not only or one["block"] in only],
                hypotheses=hypotheses())
    os.makedirs(directory, exist_ok=True)
    for name, record in (("plan.json", plan), ("machine.json", machine())):
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            json.dump(record, file)
    lines = {"trials.jsonl": make_trials(plan, generator), "canaries.jsonl": make_canaries(plan, generator)}
    for name, records in lines.items():
        with open(os.path.join(directory, name), "w", encoding="utf-8") as file:
            file.writelines(json.dumps(record) + "\n" for record in records)
    return directory


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory")
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    make(options.directory, options.small, options.seed)
