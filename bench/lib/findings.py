# SPDX-License-Identifier: Apache-2.0
"""
What a run shows: the comparisons and hypotheses that its plan decided on, with their verdicts. Takes a
run (records.py), returns plain dicts and lists, which are also summary.json.
"""

import collections
import statistics

import records
import stats

SCHEMA = "zerohaul.summary/1"
EFFECT = ("n", "ratio", "low", "high", "p")

CONFIRMED, REFUTED, UNDECIDED = "confirmed", "refuted", "undecided"
NOT_MEASURED = "not measured"


# ---------------------------------------------------------------------- comparisons


def same_thing_pairs(run):
    """(block, copy, its duplicate)"""
    for block, cells in run.cells.items():
        for cell in cells:
            for base in cells:
                if (records.SAME_THING.get(cell["strategy"]) == base["strategy"]
                        and records.alike(cell, base, "strategy")):
                    yield block, base, cell


def judge_same_thing(run, figures):
    """metric -> {"band", "fails", "pairs"}: by how much the harness finds equal things to differ."""
    found = {}
    for metric in ("throughput_Bps", "cpu_s_per_GB"):
        pairs = []
        for block, base, cell in same_thing_pairs(run):
            one = stats.effect(figures.of(block, cell["id"], metric), figures.of(block, base["id"], metric))
            if one:
                pairs.append((block, cell, one))
        effects = [one for _, _, one in pairs]
        found[metric] = {
            "band": stats.same_thing_band(effects),
            "fails": stats.same_thing_fails(effects) if metric == "throughput_Bps" else None,
            "pairs": [dict(block=block, cell=cell["id"], buffer=cell["buffer"],
                           **{name: getattr(one, name) for name in EFFECT}) for block, cell, one in pairs],
        }
    return found


def families(run):
    """(family of the plan, levels of its split, [(cell, base)]), as Holm's correction has them apart."""
    for family in run.plan["families"]:
        cells = [cell for cell in run.cells.get(family["block"], [])
                 if records.matches(cell, family["where"])]
        bases = [cell for cell in cells if cell[family["factor"]] == family["base"]]
        groups = collections.OrderedDict()
        for cell in cells:
            if cell in bases or cell["strategy"] in records.SAME_THING:
                continue
            base = next((one for one in bases if records.alike(cell, one, family["factor"])), None)
            if base:
                split = tuple((name, cell[name]) for name in family["split"])
                groups.setdefault(split, []).append((cell, base))
        for split, pairs in groups.items():
            yield family, dict(split), pairs


def compare(run, figures, bands):
    """[comparison]: every pair of every family, with its verdict."""
    found = []
    for family, split, pairs in families(run):
        block, metric = family["block"], family["metric"]
        band = bands.get(metric, bands["throughput_Bps"])["band"]
        effects = [stats.effect(figures.of(block, cell["id"], metric), figures.of(block, base["id"], metric))
                   for cell, base in pairs]
        judged = stats.judge_family(effects, band, metric in records.MORE_IS_BETTER
                                    or metric.startswith("latency"))
        size = sum(one is not None for one in effects)
        for (cell, base), one, (adjusted, word) in zip(pairs, effects, judged):
            if one is None:
                continue
            if metric.startswith("latency"):    # less of it is faster
                word = {stats.FASTER: stats.SLOWER, stats.SLOWER: stats.FASTER}.get(word, word)
            found.append(dict(
                family=family["name"], split=split, block=block, metric=metric, cell=cell["id"],
                base=base["id"], **{name: getattr(one, name) for name in EFFECT}, p_holm=adjusted,
                verdict=word, comparisons=size, fits=size <= stats.largest_family(one.n)))
    return found


def key_of(comparison):
    return comparison["family"], comparison["cell"], comparison["base"]


# ---------------------------------------------------------------------- hypotheses


def state_of(low, high, least, most):
    """Of an interval against limits, either of which may be None."""
    if low is None:
        return UNDECIDED
    if (least is None or low >= least) and (most is None or high <= most):
        return CONFIRMED
    if (least is not None and high < least) or (most is not None and low > most):
        return REFUTED
    return UNDECIDED


def item(middle, low, high, test, **where):
    return dict(where, value=middle, low=low, high=high, state=state_of(low, high, test["min"], test["max"]))


def apart(cells, names=()):
    """cell -> its levels of these factors and of all others in which the cells are not alike."""
    differ = [name for name in records.FACTORS
              if name in names or name == "strategy" or len({cell[name] for cell in cells}) > 1]
    return lambda cell: {name: cell[name] for name in differ}


def test_value(figures, test, cells):
    at = apart(cells, test["by"])
    for cell in cells:
        values = [value for value in figures.of(test["block"], cell["id"], test["metric"]) if value is not None]
        found = stats.median(values)
        if found:
            # Too few rounds for an interval, or nothing that varies: then all rounds have to say the same.
            low, high = (found.low, found.high) if found.low is not None else (min(values), max(values))
            yield item(found.value, low, high, test, at=at(cell))


def test_ratio(figures, test, cells, others):
    at = apart(cells, test["by"])
    for cell in cells:
        for other in others:
            if cell["id"] == other["id"] or any(cell[name] != other[name] for name in test["by"]):
                continue
            found = stats.effect(figures.of(test["block"], cell["id"], test["metric"]),
                                 figures.of(test["block"], other["id"], test["metric"]))
            if found:
                yield item(found.ratio, found.low, found.high, test, at=at(cell))


def test_knee(figures, test, cells):
    """The smallest level at which 95 % of the best median is reached; levels have no interval."""
    factor = test["by"][0]
    curves = collections.defaultdict(list)
    for cell in cells:
        middle = stats.median(figures.of(test["block"], cell["id"], test["metric"]))
        if middle:
            curves[cell["strategy"]].append((cell[factor], middle.value))
    for strategy, curve in curves.items():
        best = max(value for _, value in curve)
        knee = min(level for level, value in curve if value >= 0.95 * best)
        yield item(knee, knee, knee, test, at={"strategy": strategy})


def judge_test(run, figures, test):
    cells = [cell for cell in run.cells.get(test["block"], []) if records.matches(cell, test["a"])]
    if test["kind"] == "value":
        return list(test_value(figures, test, cells))
    if test["kind"] == "knee":
        return list(test_knee(figures, test, cells))
    others = [cell for cell in run.cells.get(test["block"], []) if records.matches(cell, test["b"])]
    return list(test_ratio(figures, test, cells, others))


def judge_hypotheses(run, figures):
    found = []
    for hypothesis in run.plan["hypotheses"]:
        tests = [dict(kind=test["kind"], metric=test["metric"], min=test["min"], max=test["max"],
                      items=judge_test(run, figures, test)) for test in hypothesis["tests"]]
        states = [one["state"] for test in tests for one in test["items"]]
        if not all(test["items"] for test in tests):
            verdict = REFUTED if REFUTED in states else NOT_MEASURED
        else:
            verdict = (REFUTED if REFUTED in states else UNDECIDED if UNDECIDED in states else CONFIRMED)
        found.append(dict(id=hypothesis["id"], text=hypothesis["text"], must_hold=hypothesis["must_hold"],
                          verdict=verdict, tests=tests))
    return found


# ---------------------------------------------------------------------- the data's quality


def judge_quality(run):
    """Counts of what went wrong, and how much the anchor wandered."""
    trials = run.trials
    first = trials[trials["attempt"] == 1]
    flags = collections.Counter(flag for flags in trials["flags"] for flag in flags)
    anchors = trials[(trials["role"] == "anchor") & (trials["status"] == "ok")]["throughput_Bps"].dropna()
    hashed = trials["hash_equal"].dropna() if "hash_equal" in trials else []
    planned = sum(len(block["cells"]) * block["rounds"] for block in run.plan["blocks"])
    return {
        "planned": planned,
        "trials": int(len(trials)),
        "repeated": int(len(trials) - len(first)),
        "errors": int((trials["status"] == "error").sum()),
        "invalid": int((trials["status"] == "invalid").sum()),
        "noisy": int((trials["quality"] == "noisy").sum()),
        "complete": round(len(records.counting(run)) / planned, 4),
        "flags": dict(flags),
        "hashed": len(hashed),
        "hashes_differ": int(sum(value is False or value == 0 for value in hashed)),
        "anchor_trials": len(anchors),
        "anchor_spread": float((anchors.quantile(0.9) - anchors.quantile(0.1)) / anchors.median())
        if len(anchors) > 2 else None,
    }


def words_that_need_noise(run, comparisons, bands):
    """How many verdict words are others when trials that stayed noisy are left out."""
    without = {key_of(one): one["verdict"]
               for one in compare(run, records.Figures(run, clean_only=True), bands)}
    return sum(without.get(key_of(one)) != one["verdict"] for one in comparisons)


# ---------------------------------------------------------------------- all of it


def summarize_cells(run, figures):
    found = []
    for block, cells in run.cells.items():
        for cell in cells:
            medians = {}
            for metric in records.METRICS:
                one = stats.median(figures.of(block, cell["id"], metric))
                if one:
                    medians[metric] = [one.value, one.low, one.high, one.n]
            if medians:
                found.append(dict(block=block, cell=cell["id"], medians=medians))
    return found


def judge(run):
    figures = records.Figures(run)
    bands = judge_same_thing(run, figures)
    comparisons = compare(run, figures, bands)
    quality = judge_quality(run)
    quality["words_that_need_noise"] = words_that_need_noise(run, comparisons, bands)
    return {
        "schema": SCHEMA, "run": run.id, "commit": run.plan["commit"], "dirty": run.plan["dirty"],
        "sweep": run.plan["sweep"], "for_inference": run.plan["for_inference"], "same_thing": bands,
        "quality": quality, "cells": summarize_cells(run, figures), "comparisons": comparisons,
        "hypotheses": judge_hypotheses(run, figures),
    }


def agreement(one, other):
    """(comparisons that both have, [(comparison of one, of other) whose verdict words differ])"""
    theirs = {key_of(comparison): comparison for comparison in other["comparisons"]}
    both = [(mine, theirs[key_of(mine)]) for mine in one["comparisons"] if key_of(mine) in theirs]
    return len(both), [pair for pair in both if pair[0]["verdict"] != pair[1]["verdict"]]


def count_words(comparisons):
    return collections.Counter(one["verdict"] for one in comparisons)


def middle_rounds(run):
    return int(statistics.median(block["rounds"] for block in run.plan["blocks"]))
