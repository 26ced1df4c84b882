# SPDX-License-Identifier: Apache-2.0
"""
One run of a sweep: rounds of all blocks in turn, in each a fresh order of the cells with the anchor at the
start, in the middle and at the end. A directory holds it: plan.json comes first, then each trial is one
line at the end of trials.jsonl. What a round's order is follows from the seed, so that a run that was
interrupted goes on where it was.

A trial during which others used the machine is marked, kept, and repeated at the end of its round. A
trial that fails is a line with an error and no figure.
"""

import datetime
import json
import os
import random
import subprocess
import time

import machine
import noise
import sweep
from machine import MIB, TrialError, say

ATTEMPTS = 3        # of one place in a round: the first and two more
REPEATED = 0.25     # of a round at most: where it is never quiet more trials are no better
TRIAL_SECONDS = 60
CHECK_BYTES = 16 * MIB
STORED = {"tmpfs", "disk", "disk+fdatasync"}
PATIENCE = {True: (30.0, 60.0), False: (0.5, 2.0)}  # of the gate: for a trial, for a round


def utc():
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def words_of(cell, cap_ms, source, target):
    """The command line of the program trial."""
    words = ["--strategy=" + cell["strategy"], "--receive=" + cell["receive"], "--warm-up",
             f"--buffer={cell['buffer']}", "--nagle=" + cell["nagle"], "--congestion=" + cell["cc"],
             "--cache=" + cell["cache"], f"--file-bytes={cell['file_bytes']}",
             f"--files={cell['files'] or 0}", f"--streams={cell['streams']}"]
    for factor in ("mss", "sndbuf", "rcvbuf", "notsent_lowat", "depth"):
        if cell[factor] is not None:
            words.append(f"--{factor.replace('_', '-')}={cell[factor]}")
    if cell["kind"] == "requests":
        words += ["--framing=" + cell["framing"], f"--window={cell['window']}", f"--cap-ms={cap_ms or 0}"]
    if cell["sink"] == "disk+fdatasync":
        words.append("--sync=each")
    return words + [source] + ([target] if target else [])


class Log:
    """Lines of JSON that are only ever added to. A line that was cut off by a crash is taken away."""

    def __init__(self, path):
        self.path = path
        self.lines = []
        if os.path.exists(path):
            with open(path, "r+b") as file:
                data = file.read()
                whole = data[:data.rfind(b"\n") + 1]
                file.truncate(len(whole))
            self.lines = [json.loads(line) for line in whole.splitlines()]
        self.file = open(path, "a", encoding="ascii")

    def add(self, record):
        self.file.write(json.dumps(record, separators=(",", ":")) + "\n")
        self.file.flush()
        self.lines.append(record)

    def close(self):
        self.file.close()


class Place:
    """A place in the order of a round."""

    def __init__(self, order, role, cell):
        self.order, self.role, self.cell = order, role, cell


def places(plan, block, number):
    """The order of a round, from the seed alone."""
    cells = list(block["cells"])
    random.Random(f"{plan['seed']}/{block['name']}/{number}").shuffle(cells)
    half = len(cells) // 2
    anchor = [("anchor", plan["anchor"])]
    order = anchor + [("cell", cell) for cell in cells[:half]] + anchor
    order += [("cell", cell) for cell in cells[half:]] + anchor
    return [Place(index, role, cell) for index, (role, cell) in enumerate(order)]


class Run:
    def __init__(self, plan, directory, build, work, memory):
        """work, memory: directories for files that do not outlive the run; memory may be None."""
        self.plan = plan
        self.build = build
        self.trial_program = os.path.join(build, "bench", "trial")
        self.work, self.memory = work, memory
        self.log = Log(os.path.join(directory, "trials.jsonl"))
        self.canaries = Log(os.path.join(directory, "canaries.jsonl"))
        self.gate = noise.Gate(*PATIENCE[plan["for_inference"]])
        self.expected = {}  # cell -> seconds, by the trials so far
        self.begun = time.monotonic()
        self.shown = 0.0
        self.left_s = 0.0

    def close(self):
        self.log.close()
        self.canaries.close()

    # ------------------------------------------------------------------ files

    def make_sources(self):
        """Two files with the same bytes: one stays in the page cache, the other one leaves it."""
        cells = [cell for block in self.plan["blocks"] for cell in block["cells"]] + [self.plan["anchor"]]
        for kind, path in (("warm", self.source("warm")), ("cold", self.source("cold"))):
            sizes = [cell["file_bytes"] for cell in cells if (cell["cache"] == "warm") == (kind == "warm")]
            if sizes:
                size = max(sizes + [noise.CANARY_BYTES]) if kind == "warm" else max(sizes)
                machine.make_file(path, size, random.Random(self.plan["seed"]))

    def source(self, cache):
        return os.path.join(self.work, "source.warm" if cache == "warm" else "source.cold")

    def target(self, sink):
        if sink not in STORED:
            return None
        if sink == "tmpfs" and not self.memory:
            raise TrialError("there is no tmpfs with room")
        return os.path.join(self.memory if sink == "tmpfs" else self.work, "target")

    # ------------------------------------------------------------------ one trial

    def compare(self, cell, source, target):
        """Whether what was stored is what was sent."""
        size = cell["file_bytes"]
        done = subprocess.run(["cmp", "-s", "-n", str(size), source, target], check=False)
        return {"equal": done.returncode == 0 and os.path.getsize(target) == size, "bytes": size}

    def measure(self, cell, cap_ms):
        """What the program trial says, with the bytes compared where they were stored."""
        source, target = self.source(cell["cache"]), self.target(cell["sink"])
        if cell["cache"] != "warm":
            machine.cool(source)
        if target and cell["sink"] != "tmpfs":
            machine.sync_file_system(self.work)
        try:
            found = machine.run_trial([self.trial_program, *words_of(cell, cap_ms, source, target)],
                                      TRIAL_SECONDS)
            if target and found["status"] == "ok":
                found["hash"] = self.compare(cell, source, target)
                if not found["hash"]["equal"]:
                    found.update(failure("what was stored is not what was sent"), hash=found["hash"])
            return found
        finally:
            if target and os.path.exists(target):
                os.unlink(target)

    def make_trial(self, block, number, place, attempt):
        gate_flags, _ = self.gate.wait()
        before = noise.Snapshot()
        record = {
            "schema": "zerohaul.trial/1", "run": self.plan["run"], "block": block["name"],
            "role": place.role, "round": number, "order": place.order, "attempt": attempt,
            "seed": self.plan["seed"], "t_utc": utc(), "harness": "native",
        }
        try:
            found = self.measure(place.cell, block["cap_ms"])
        except TrialError as error:
            found = failure(str(error))
        after = noise.Snapshot()
        system = after.since(before)
        flags = gate_flags + noise.flags_of(system)
        quality = "noisy" if flags else "clean"
        if found["status"] == "ok" and len(set(found["effective"]["cpus"])) == 1:
            flags.append("one-cpu")
        if place.cell["strategy"] == "copy-slow":
            flags.append("injected")
        record.update(quality=quality, flags=flags, cell=place.cell, **found)
        record.update(system={name: round(value, 4) for name, value in system.items()},
                      mib=after.counted_since(before))
        record.setdefault("hash", None)
        self.log.add(record)
        self.expected[place.cell["id"]] = system["wall_s"] + noise.SAMPLE_S
        return record

    # ------------------------------------------------------------------ rounds

    def check_bytes(self):
        """Each way of sending once into a file, compared byte by byte: what is discarded is not looked at."""
        done = {line["cell"]["id"] for line in self.log.lines if line["role"] == "check"}
        wanted = {}
        for block in self.plan["blocks"]:
            for cell in block["cells"]:
                if cell["kind"] == "bulk" and cell["sink"] not in STORED and cell["streams"] == 1:
                    levels = {name: level for name, level in cell.items() if name != "id"}
                    levels.update(sink="tmpfs" if self.memory else "disk", receive="copy", files=1,
                                  file_bytes=min(CHECK_BYTES, cell["file_bytes"]), buffer=64 * 1024,
                                  mss=None, sndbuf=None, rcvbuf=None, notsent_lowat=None, cc="cubic")
                    made = sweep.make_cell(levels)
                    wanted.setdefault(made["id"], (block, made))
        for order, (block, cell) in enumerate(wanted.values()):
            if cell["id"] in done:
                continue
            record = self.make_trial(block, 0, Place(order, "check", cell), 1)
            if record["hash"] and not record["hash"]["equal"]:
                raise SystemExit(f"bench/run: {cell['id']}: {record['error']}")

    def canary(self, block, number):
        if any(line["block"] == block["name"] and line["round"] == number for line in self.canaries.lines):
            return
        figures = self.canary_figures()
        seen = noise.sample()
        self.canaries.add({
            "schema": "zerohaul.canary/1", "run": self.plan["run"], "block": block["name"],
            "round": number, "t_utc": utc(), **figures, "steal_pct": round(seen["steal_pct"], 3),
            "others_pct": round(seen["others_pct"], 3), "load1": os.getloadavg()[0], **noise.pressure()})

    def canary_figures(self):
        return noise.canary_figures(self.build, self.source("warm"))

    def attempts(self, block, number):
        """order -> trials of that place so far."""
        found = {}
        for line in self.log.lines:
            if line["block"] == block["name"] and line["round"] == number and line["role"] != "check":
                found.setdefault(line["order"], []).append(line)
        return found

    def round(self, block, number):
        order = places(self.plan, block, number)
        done = self.attempts(block, number)
        if len(done) < len(order):
            self.canary(block, number)
            forget_paths()
        self.gate.new_round()
        for place in order:
            if place.order not in done:
                done[place.order] = [self.make_trial(block, number, place, 1)]
                self.progress(block, number, place.cell)
        if self.plan["for_inference"]:
            self.repeat_noisy(block, number, order, done)

    def repeat_noisy(self, block, number, order, done):
        most = max(1, int(len(order) * REPEATED))
        most -= sum(len(tried) - 1 for tried in done.values())
        for attempt in range(2, ATTEMPTS + 1):
            for place in order:
                tried = done[place.order]
                if most > 0 and len(tried) == attempt - 1 and tried[-1]["quality"] == "noisy":
                    tried.append(self.make_trial(block, number, place, attempt))
                    most -= 1

    def go(self):
        self.left_s = self.time_left()
        self.check_bytes()
        rounds = max(block["rounds"] for block in self.plan["blocks"])
        for number in range(1, rounds + 1):
            for block in self.plan["blocks"]:
                if number <= block["rounds"]:
                    self.round(block, number)

    # ------------------------------------------------------------------ progress

    def seconds_of(self, cell, block):
        return self.expected.get(cell["id"], sweep.estimate(cell, block["cap_ms"] or 0))

    def time_left(self):
        left = 0.0
        for block in self.plan["blocks"]:
            for number in range(1, block["rounds"] + 1):
                done = self.attempts(block, number)
                left += sum(self.seconds_of(place.cell, block)
                            for place in places(self.plan, block, number) if place.order not in done)
        return left

    def progress(self, block, number, cell):
        """A line every few seconds. The whole is only added up now and then: it is long."""
        now = time.monotonic()
        self.left_s -= self.seconds_of(cell, block)
        if now - self.shown < 5:
            return
        if self.shown == 0 or now - self.shown > 60:
            self.left_s = self.time_left()
        self.shown = now
        failed = sum(line["status"] == "error" for line in self.log.lines)
        noisy = sum(line["quality"] == "noisy" for line in self.log.lines)
        say(f"block {block['name']}, round {number} of {block['rounds']}: {len(self.log.lines)} trials, "
            f"{noisy} noisy, {failed} failed; {duration(now - self.begun)}, "
            f"{duration(max(0.0, self.left_s))} to go")


def failure(text):
    """What stands in the place of figures."""
    nothing = ("effective", "time", "throughput_Bps", "tx", "rx", "tcp", "zc", "latency_us", "hash")
    return {"status": "error", "error": text, "bytes": 0, **dict.fromkeys(nothing)}


def forget_paths():
    """TCP remembers what it learnt of a destination; each round starts without that."""
    if machine.is_root() and machine.find_program("ip"):
        subprocess.run([machine.find_program("ip"), "tcp_metrics", "flush"], check=False,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def duration(seconds):
    minutes, seconds = divmod(int(seconds), 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min {seconds} s"
