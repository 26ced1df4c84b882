# SPDX-License-Identifier: Apache-2.0
"""
What else the machine does: before a trial (the gate) and during one, in percent of all CPUs, by the tick; and
what it does without us (canaries).
"""

import contextlib
import json
import os
import resource
import subprocess
import time

import machine

OTHERS_MOST, STEAL_MOST = 5.0, 1.0
SAMPLE_S = 0.1
CANARY_BYTES = 64 << 20
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
FIELDS = ("user", "nice", "sys", "idle", "iowait", "irq", "softirq", "steal")
COUNTERS = {
    "/proc/net/netstat": {"DelayedACKs", "TCPAutoCorking", "TCPPureAcks", "TCPOrigDataSent", "TCPTimeouts"},
    "/proc/net/snmp": {"InSegs", "OutSegs", "RetransSegs"},
}


class Snapshot:
    """/proc/stat, our own CPU time and that of children that have ended, and counters of the network."""

    def __init__(self):
        self.at = time.monotonic()
        numbers = machine.read_text("/proc/stat").split("\n", 1)[0].split()[1:]
        self.cpu = dict(zip(FIELDS, (int(number) * TICK_S for number in numbers)))
        self.ours = 0.0
        for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
            usage = resource.getrusage(whose)
            self.ours += usage.ru_utime + usage.ru_stime
        self.network = counters()

    def since(self, before):
        """Seconds by kind, and what others and the hypervisor took in percent of all CPUs."""
        spent = {name: max(0.0, self.cpu[name] - before.cpu[name]) for name in self.cpu}
        total = sum(spent.values())
        busy = total - spent["idle"] - spent["iowait"] - spent["steal"]
        # One tick is not to be told from none: a short sample would see others that are not there.
        others = max(0.0, busy - (self.ours - before.ours) - 2 * TICK_S)
        return {
            "wall_s": self.at - before.at, "user_s": spent["user"] + spent["nice"],
            "sys_s": spent["sys"] + spent["irq"], "softirq_s": spent["softirq"],
            "steal_s": spent["steal"], "idle_s": spent["idle"] + spent["iowait"],
            "others_pct": 100 * others / total if total else 0.0,
            "steal_pct": 100 * max(0.0, spent["steal"] - TICK_S) / total if total else 0.0,
        }

    def counted_since(self, before):
        return {name: count - before.network.get(name, count) for name, count in self.network.items()}


def counters():
    found = {}
    for path, wanted in COUNTERS.items():
        with contextlib.suppress(OSError):
            lines = [line.split() for line in machine.read_text(path).splitlines()]
            for names, values in zip(lines[::2], lines[1::2]):
                found.update({name: int(value) for name, value in zip(names[1:], values[1:])
                              if name in wanted})
    return found


def flags_of(sample):
    return (["others-cpu"] if sample["others_pct"] > OTHERS_MOST else []) + (
        ["steal"] if sample["steal_pct"] > STEAL_MOST else [])


def sample(seconds=SAMPLE_S):
    before = Snapshot()
    time.sleep(seconds)
    return Snapshot().since(before)


class Gate:
    """Waits until nobody else works, but not for ever: patience_s for a trial, budget_s for a round."""

    def __init__(self, patience_s, budget_s):
        self.patience_s, self.budget_s = patience_s, budget_s
        self.left_s = budget_s

    def new_round(self):
        self.left_s = self.budget_s

    def wait(self):
        """(flags, last sample)"""
        begun = time.monotonic()
        patience = min(self.patience_s, self.left_s)
        pause = SAMPLE_S
        while True:
            seen = sample()
            waited = time.monotonic() - begun
            if not flags_of(seen):
                break
            if waited + pause > patience:
                self.left_s -= waited - SAMPLE_S
                return ["gate-timeout"], seen
            time.sleep(pause)
            pause = min(2 * pause, 5)
        self.left_s -= waited - SAMPLE_S
        return [], seen


def canary_figures(build, path):
    """Of the program canary of that build; path: CANARY_BYTES that are in the page cache."""
    done = subprocess.run([os.path.join(build, "bench", "canary"), path], check=True, capture_output=True)
    return json.loads(done.stdout)


def pressure():
    """The shares of the last 10 s in which something waited, by the kernel's account, or None."""
    found = {}
    for what in ("cpu", "io", "memory"):
        found[f"psi_{what}_avg10"] = None
        with contextlib.suppress(OSError):
            first = machine.read_text("/proc/pressure/" + what).split()
            found[f"psi_{what}_avg10"] = float(first[1].split("=")[1])
    return found
