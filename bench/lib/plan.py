# SPDX-License-Identifier: Apache-2.0
"""
The planner's choice against every fixed pair of strategies, in a grid of situations: source warm or cold,
source and target on ext4, xfs or tmpfs, files of four sizes. Trials are runs of bench/trial.c; small files
are many in one trial. Disks are synced inside of the timed part, tmpfs is not.

Which pair is the best fixed one, of so many, is itself a measurement, and the luckiest of many is lucky:

- A first pass tries each sender with the planned receiver and each receiver with the planned sender, and
  then the three best of both with each other. The best few go into the rounds.
- In each round the planner's opponent is the pair that was best by the median of all OTHER trials (the
  first pass and the other rounds), so that no trial both chooses the opponent and is compared with.
- Where the planner's own pair, asked for by name, is the best in most rounds, the plan is right by that.
  How far the two are apart, the median over the rounds, is the noise of this situation: A/A in the table.
- The plan counts as worse than copy to copy when the median ratio exceeds 1 by more than 3 % and by more
  than twice that noise. A plan that is copy to copy is not worse than itself.
"""

import json
import os
import statistics
import subprocess
import time

import machine
from figures import Verdict
from machine import KIB, MIB, TrialError

WITHIN, SHARE, NOISE = 1.05, 0.90, 0.03
NAMES = {"plan-best": "plan: share of situations in which it is within 5 % of the best fixed pair",
         "plan-copy": "plan: situations in which it is worse than copy to copy"}
PLAIN = ("copy", "copy")
PLAN = None  # the candidate for whom no strategy is named
KEEP = 5     # candidates of the first pass that go into the rounds


class Situation:
    def __init__(self, scene, kind, directory, cold, size, files):
        self.scene, self.directory, self.cold, self.size = scene, directory, cold, size
        self.files = files
        self.sync = kind != "tmpfs"
        unit = f"{size // KIB} KiB" if size < MIB else f"{size // MIB} MiB"
        self.name = f"{'cold' if cold else 'warm'} {kind} {unit}" + (f" x {files}" if files > 1 else "")
        self.source = os.path.join(directory, f"source-{size}")
        self.trials = {}   # candidate -> seconds of the first pass
        self.rounds = []   # candidate -> seconds, for each round
        self.planned = None

    def sources(self):
        return [f"{self.source}.{index}" for index in range(self.files)]

    def targets(self):
        return [os.path.join(self.directory, f"target.{index}") for index in range(self.files)]

    def prepare(self, generator):
        for path in self.sources():
            if not os.path.exists(path):
                machine.make_file(path, self.size, generator)

    def run(self, candidate):
        """Seconds; TrialError if this pair does not work here."""
        for path in self.sources():
            (machine.cool if self.cold else machine.warm)(path)
        machine.sync_file_system(self.directory)
        arguments = ["--sync=once"] if self.sync else []
        if candidate is not PLAN:
            arguments += ["--strategy=" + candidate[0], "--receive=" + candidate[1]]
        try:
            figures = self.scene.run_trial(arguments, self.source,
                                          os.path.join(self.directory, "target"), self.files)
            for source, target in list(zip(self.sources(), self.targets()))[::max(1, self.files // 4)]:
                if not machine.same(source, target):
                    raise machine.WrongFile("WRONG FILE: what arrived is not what was sent")
        finally:
            for path in self.targets():
                if os.path.exists(path):
                    os.unlink(path)
        if candidate is PLAN:
            self.planned = tuple(figures["strategies"])
        return figures["seconds"]

    def first_pass(self, senders, receivers, generator, failures):
        def attempt(candidates):
            candidates = [one for one in candidates if one not in self.trials]
            generator.shuffle(candidates)
            for candidate in candidates:
                try:
                    self.trials[candidate] = self.run(candidate)
                except TrialError as error:
                    failures.append((self.name, candidate, str(error)))

        attempt([PLAN])
        if PLAN not in self.trials:
            return
        with_receiver = [(sender, self.planned[1]) for sender in senders]
        with_sender = [(self.planned[0], receiver) for receiver in receivers]
        attempt(with_receiver + with_sender + [PLAIN])
        time_of = self.trials.get
        best_senders = sorted(filter(time_of, with_receiver), key=time_of)[:3]
        best_receivers = sorted(filter(time_of, with_sender), key=time_of)[:3]
        attempt([(one[0], other[1]) for one in best_senders for other in best_receivers])

    def candidates(self):
        fixed = sorted((one for one in self.trials if one is not PLAN), key=self.trials.get)[:KEEP]
        chosen = dict.fromkeys([PLAN, self.planned, PLAIN, *fixed])
        return [one for one in chosen if one in self.trials]

    def round(self, generator, failures):
        order = self.candidates()
        generator.shuffle(order)
        self.rounds.append({})
        for candidate in order:
            try:
                self.rounds[-1][candidate] = self.run(candidate)
            except TrialError as error:
                failures.append((self.name, candidate, str(error)))

    def judge(self):
        """A dict of what was found; None if the plan gave no figure in any round."""
        played = [round_ for round_ in self.rounds if PLAN in round_]
        if not played:
            return None
        opponents, ratios = [], []
        for number, round_ in enumerate(played):
            def elsewhere(candidate, own=number):
                others = [self.trials[candidate]] + [
                    other[candidate] for index, other in enumerate(played)
                    if index != own and candidate in other]
                return statistics.median(others)
            fixed = [one for one in round_ if one is not PLAN]
            if fixed:
                opponents.append(min(fixed, key=elsewhere))
                ratios.append(round_[PLAN] / round_[opponents[-1]])
        if not ratios:
            return None

        def against(candidate):
            return [round_[PLAN] / round_[candidate] for round_ in played if candidate in round_]

        def middle(numbers):
            return statistics.median(numbers) if numbers else None

        opponent = max(opponents, key=opponents.count)
        ratio, plain = statistics.median(ratios), middle(against(PLAIN))
        noise = middle([abs(one - 1) for one in against(self.planned)])
        band = max(NOISE, 2 * (noise or 0))
        return {
            "situation": self.name, "planned": self.planned, "best": opponent, "ratio": ratio,
            "to_copy": plain, "noise": noise,
            "within": ratio <= WITHIN or (opponent == self.planned and
                                          opponents.count(opponent) * 2 > len(opponents)),
            "worse_than_copy": plain is not None and self.planned != PLAIN and plain > 1 + band,
        }


def places(scene, stack, needed):
    """(kind, directory) of the file systems that can be had."""
    found = []
    for kind in ("ext4", "xfs"):
        directory = machine.loop_mount(stack, scene.base, kind, 2 * needed + 512 * MIB)
        if directory:
            found.append((kind, directory))
    if not found:
        found.append((machine.file_system_of(scene.base), scene.base))
    if scene.memory:
        found.append(("tmpfs", scene.memory))
    else:
        machine.say("left out: tmpfs, there is none with enough room")
    return found


def sizes(largest):
    """(size of a file, how many in a trial)"""
    in_all = min(64 * MIB, largest)
    grid = [(64 * KIB, in_all // (64 * KIB)), (MIB, max(1, in_all // MIB)),
            (64 * MIB, max(1, min(4, largest // (64 * MIB)))), (largest, 1)]
    return [(size, files) for index, (size, files) in enumerate(grid)
            if size < largest or index == len(grid) - 1]


def run(scene, options, generator, stack):
    """Everything; returns (lines of a table, verdicts, data for --json)."""
    grid = sizes(scene.size)
    needed = sum(size * files for size, files in grid) + scene.size
    probe = json.loads(subprocess.run([scene.command, "probe", "--json"], check=True,
                                      capture_output=True).stdout)["strategies"]
    senders = [row["name"] for row in probe if row["side"] == "send"]
    receivers = [row["name"] for row in probe if row["side"] == "receive" and row["name"] != "discard"]
    situations = [Situation(scene, kind, directory, cold, size, files)
                  for kind, directory in places(scene, stack, needed)
                  for cold in (False, True) if not (cold and kind == "tmpfs")  # it is never cold
                  for size, files in grid]
    failures = []
    begun = time.monotonic()
    for number, situation in enumerate(situations, 1):
        situation.prepare(generator)
        situation.first_pass(senders, receivers, generator, failures)
        machine.say(f"plan: first pass {number} of {len(situations)}, {situation.name}; "
                    f"{time.monotonic() - begun:.0f} s so far")
    begun = time.monotonic()
    for number in range(1, options.rounds + 1):
        order = list(situations)
        generator.shuffle(order)
        for situation in order:
            situation.round(generator, failures)
        spent = time.monotonic() - begun
        machine.say(f"plan: round {number} of {options.rounds}; {spent:.0f} s, "
                    f"{spent / number * (options.rounds - number):.0f} s to go")
    judged = {one.name: one.judge() for one in situations}
    found = [one for one in judged.values() if one]
    lacking = [name for name, one in judged.items() if not one]
    return list(table(found, failures)), verdicts(found, lacking), {
        "situations": found, "failures": failures,
        "trials": {one.name: {"first": seconds_by_name(one.trials),
                              "rounds": [seconds_by_name(round_) for round_ in one.rounds]}
                   for one in situations}}


def seconds_by_name(trials):
    return {" > ".join(candidate or ["plan"]): seconds for candidate, seconds in trials.items()}


def verdicts(found, lacking):
    """lacking: situations without figures; there the plan is not known to be right, so it is not."""
    if not found:
        return [Verdict(name, "not judged", detail="no situation gave figures") for name in NAMES]

    def detail(name, what, situations):
        parts = [NAMES[name], "ratios of wall time"]
        parts += [f"{what}: {', '.join(situations)}"] if situations else []
        parts += [f"no figures: {', '.join(lacking)}"] if lacking else []
        return "; ".join(parts)

    outside = [one["situation"] for one in found if not one["within"]]
    within = (len(found) - len(outside)) / (len(found) + len(lacking))
    ratios = [one["ratio"] for one in found]
    result = [Verdict("plan-best", "held" if within >= SHARE else "MISSED", within, min(ratios),
                      max(ratios), f">= {SHARE:.2f}", detail("plan-best", "not in", outside))]
    plain = [one["to_copy"] for one in found if one["to_copy"] is not None]
    worse = [one["situation"] for one in found if one["worse_than_copy"]]
    state = "MISSED" if worse else "held" if len(plain) == len(found) + len(lacking) else "not judged"
    return result + [Verdict("plan-copy", state, len(worse), min(plain, default=0),
                             max(plain, default=0), "<= 0", detail("plan-copy", "worse in", worse))]


def table(found, failures):
    width = max([len(one["situation"]) for one in found] + [9])
    yield (f"{'situation':{width}}  {'planned':28} {'best fixed pair':28} {'ratio':>6} {'to copy':>8} "
           f"{'A/A':>6}  wall time, medians of ratios")
    for one in found:
        def number(key, row=one):
            return "-" if row[key] is None else f"{row[key]:.3f}"
        yield (f"{one['situation']:{width}}  {' > '.join(one['planned']):28} "
               f"{' > '.join(one['best']):28} {number('ratio'):>6} {number('to_copy'):>8} "
               f"{number('noise'):>6}  {'' if one['within'] else 'not within 5 %'}"
               f"{' WORSE THAN COPY' if one['worse_than_copy'] else ''}")
    together = {}
    for situation, candidate, why in failures:
        together.setdefault((" > ".join(candidate or ["the plan"]), why), {})[situation] = True
    for (candidate, why), where in sorted(together.items()):
        yield f"left out: {candidate}, {why}: in {', '.join(where)}"
