# SPDX-License-Identifier: Apache-2.0
"""
The files that a run of bench/peers writes into its directory: plan.json and machine.json before the first
trial, a line of trials.jsonl after each, and hyperfine.json, all results in the form of hyperfine's own
export, after each round. Their shapes are in bench/schema. What is not known is null.
"""

import json
import os
import time

import about
import commands
import hyperfine
import noise
from runner import utc


def new_run_id(seed):
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-peers-{seed:08x}"


class RunFiles:
    def __init__(self, directory, run, options, how, packages):
        """how: what all trials have in common: congestion, cpu_time_by."""
        self.directory, self.run, self.options, self.how = directory, run, options, how
        self.packages = packages       # installed ones -> version
        self.exports = []              # (id of a cell, what hyperfine exported)
        os.makedirs(directory, exist_ok=True)
        for name in ("plan.json", "machine.json", "trials.jsonl", "hyperfine.json"):
            if os.path.exists(self.path(name)):
                raise SystemExit(f"bench/peers: {self.path(name)} is there already")

    def path(self, name):
        return os.path.join(self.directory, name)

    def _write(self, name, data):
        with open(self.path(name), "w", encoding="utf-8") as file:
            json.dump(data, file, indent=1)
            file.write("\n")

    def cell(self, cell):
        """As the schema has it: everything that a whole command decides for itself is null."""
        return {"id": cell.id, "kind": "command", "strategy": cell.peer.name, "receive": None, "buffer": None,
                "nagle": None, "mss": None,
                "file_bytes": self.options.file_size * 1024 if cell.small else self.options.size << 20,
                "files": self.options.files if cell.small else 1, "streams": None, "sndbuf": None,
                "rcvbuf": None, "notsent_lowat": None, "cc": self.how["congestion"], "cache": "warm",
                "sink": commands.SINKS[cell.sink], "path": "lo", "framing": None, "window": None,
                "depth": None}

    def plan(self, cells, left_out):
        head, dirty = about.commit()
        blocks = [name for name in commands.BLOCKS if any(cell.block == name for cell in cells)]
        family = {"question": f"which is faster or slower than {commands.DEFAULT}?",
                  "metric": "throughput_Bps", "factor": "strategy", "base": commands.DEFAULT,
                  "where": {"kind": ["command"]}, "split": ["sink"], "by": []}
        self._write("plan.json", {
            "schema": "zerohaul.plan/1", "run": self.run, "sweep": "peers",
            "title": "whole commands against each other", "created_utc": utc(),
            "commit": head, "dirty": dirty, "seed": self.options.seed,
            "for_inference": self.options.rounds >= 11,
            "estimate_s": 5 * len(cells) * self.options.rounds, "anchor": None,
            "blocks": [{"name": name, "title": commands.BLOCKS[name], "rounds": self.options.rounds, "cap_ms": None,
                        "cells": [self.cell(cell) for cell in cells if cell.block == name],
                        "left_out": [{"id": one.name, "why": one.why}
                                     for one in left_out if one.block == name]} for name in blocks],
            "families": [dict(name="peers-" + name, block=name, **family) for name in blocks],
            "hypotheses": []})

    def machine(self, build, directories, canaries):
        self._write("machine.json", about.describe(self.run, utc(), build, directories, canaries))

    def _command(self, cell, record, export):
        return {"name": cell.peer.name,
                "packages": {name: self.packages[name] for name in cell.peer.packages
                             if name in self.packages},
                "verified": cell.peer.verified,
                "durable": cell.durable,
                "pinned": not self.options.no_pin, "cpu_time_by": self.how["cpu_time_by"],
                "sender_strategy": record.get("sender_strategy"),
                "receiver_strategy": record.get("receiver_strategy"),
                "hyperfine": export and {"time_s": export["times"][0], "user_s": export["user"],
                                         "system_s": export["system"]}}

    def trial(self, cell, number, order, begun_utc, system, counters, record, export):
        """record: figures of transfer.run, or one with "error"."""
        flags = noise.flags_of(system)
        good = "error" not in record
        status = "ok" if good else "invalid" if record["not_here"] else "error"
        size = record.get("bytes", 0)
        if good:
            self.exports.append((cell.id, export))

        def side(name):
            cpu = record.get(name + "_cpu")
            rss = record.get(name + "_rss")
            return None if cpu is None else {
                "cpu_ns": round(cpu * size), "user_s": None, "sys_s": None, "nvcsw": None, "nivcsw": None,
                "minflt": None, "maxrss_bytes": None if rss is None else round(rss * (1 << 20)),
                "syscalls": None, "wait_s": None, "shorts": None, "agains": None, "cycles": None,
                "cycles_source": "none"}

        line = {
            "schema": "zerohaul.trial/1", "run": self.run, "block": cell.block, "role": "cell",
            "round": number, "order": order, "attempt": 1, "seed": self.options.seed, "t_utc": begun_utc,
            "harness": "hyperfine", "status": status,
            "quality": "noisy" if flags else "clean", "flags": flags, "error": record.get("error"),
            "cell": self.cell(cell), "effective": None,
            "time": {"connect_s": None, "send_return_s": None, "acked_s": record["seconds"],
                     "rx_last_s": None, "first_done_s": None, "durable_s": None} if good else None,
            "bytes": size, "throughput_Bps": size / record["seconds"] if good else None,
            "tx": side("sender"), "rx": side("receiver"), "system": system, "tcp": None, "mib": counters,
            "zc": None, "latency_us": None,
            "hash": {"equal": good, "bytes": size} if good or record.get("wrong_file") else None,
            "command": self._command(cell, record, export)}
        with open(self.path("trials.jsonl"), "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def round_is_over(self):
        self._write("hyperfine.json", hyperfine.merged(self.exports))
