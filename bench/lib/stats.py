# SPDX-License-Identifier: Apache-2.0
"""
Statistics of a run. Pure: numbers in, estimates and verdict words out.

The unit that is resampled is the round. Two cells are compared by the log of their ratio within each
round, estimated by Hodges and Lehmann, with the interval of the signed-rank test from sorted Walsh
averages and the exact p of that test. Intervals are the narrowest exact ones that cover at least 95 %.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from scipy import stats as distributions

ALPHA = 0.05
LEAST_EFFECT = 0.03     # smaller ones are no difference that matters, whatever their p

FASTER, SLOWER, NOTHING = "faster", "slower", "no difference shown"
CHEAPER, DEARER = "cheaper", "dearer"


@dataclass
class Median:
    """Without an interval (low and high are None) where too few values cannot give one of 95 %."""
    n: int
    value: float
    low: float = None
    high: float = None


@dataclass
class Effect:
    """Ratios, not logs: 1.1 is 10 % more. p of the test that the ratio is 1."""
    n: int
    ratio: float
    low: float = None
    high: float = None
    p: float = 1.0


@functools.lru_cache
def median_ranks(n, alpha=ALPHA):
    """(r, coverage): the interval is the r-th smallest to the r-th largest of n. r is 0 if there is none."""
    rank = int(distributions.binom.ppf(alpha / 2, n, 0.5)) if n else 0
    while rank > 0 and 2 * distributions.binom.cdf(rank - 1, n, 0.5) > alpha:
        rank -= 1
    return rank, 1 - 2 * distributions.binom.cdf(rank - 1, n, 0.5) if rank else 0.0


def median(values, alpha=ALPHA):
    found = np.sort(np.asarray([value for value in values if value is not None], dtype=float))
    found = found[~np.isnan(found)]
    n = len(found)
    if not n:
        return None
    rank, _ = median_ranks(n, alpha)
    if not rank:
        return Median(n, float(np.median(found)))
    return Median(n, float(np.median(found)), float(found[rank - 1]), float(found[n - rank]))


def rank_sum_counts(doubled_ranks):
    """How many of the 2^n choices of signs give each sum of positive ranks. Ranks come doubled: ties halve."""
    counts = np.zeros(int(sum(doubled_ranks)) + 1)
    counts[0] = 1
    for rank in doubled_ranks:
        moved = np.zeros_like(counts)
        moved[rank:] = counts[:len(counts) - rank]
        counts += moved
    return counts


@functools.lru_cache
def walsh_rank(n, alpha=ALPHA):
    """The interval is the k-th smallest to the k-th largest Walsh average. 0 if there is none."""
    below = np.cumsum(rank_sum_counts([2 * rank for rank in range(1, n + 1)])[::2]) / 2.0 ** n
    return int(np.searchsorted(below, alpha / 2, side="right"))


def signed_rank_p(differences):
    """Exact and two-sided, with ties; zeros say nothing and are left out, as Wilcoxon did."""
    found = np.asarray(differences, dtype=float)
    found = found[found != 0]
    if not len(found):
        return 1.0
    doubled = np.rint(2 * distributions.rankdata(np.abs(found))).astype(int)
    counts = rank_sum_counts(doubled)
    smaller = min(int(doubled[found > 0].sum()), int(doubled[found < 0].sum()))
    return min(1.0, float(2 * counts[:smaller + 1].sum() / counts.sum()))


def walsh_averages(differences):
    found = np.asarray(differences, dtype=float)
    first, second = np.triu_indices(len(found))
    return np.sort((found[first] + found[second]) / 2)


def effect(ours, theirs, alpha=ALPHA):
    """
    Of ours against theirs: two sequences of the same rounds, None or NaN where a trial gave no figure.
    None if no round has both.
    """
    pairs = [(a, b) for a, b in zip(ours, theirs)
             if a is not None and b is not None and a > 0 and b > 0]
    if not pairs:
        return None
    logs = np.array([math.log(a / b) for a, b in pairs])
    averages = walsh_averages(logs)
    rank = walsh_rank(len(logs), alpha)
    found = Effect(len(logs), math.exp(np.median(averages)), p=signed_rank_p(logs))
    if rank:
        found.low, found.high = math.exp(averages[rank - 1]), math.exp(averages[-rank])
    return found


def largest_family(n, alpha=ALPHA):
    """The most comparisons of which Holm can let one pass: the smallest p of n rounds is 2^(1-n)."""
    return int(alpha * 2 ** (n - 1)) if n else 0


def holm(values):
    """p adjusted for all comparisons of one family, in their order."""
    adjusted, before = [1.0] * len(values), 0.0
    for at, index in enumerate(sorted(range(len(values)), key=lambda index: values[index])):
        before = max(before, min(1.0, (len(values) - at) * values[index]))
        adjusted[index] = before
    return adjusted


def excludes_one(found):
    return found.low is not None and (found.low > 1 or found.high < 1)


def verdict(found, adjusted_p, band, more_is_better=True):
    """
    A difference is shown if Holm lets it pass, the interval excludes 1, and it is larger than 3 % and than
    twice the band in which equal things differ (band: as a share, 0.01 is 1 %; None: not known).
    """
    size = abs(math.log(found.ratio))
    if adjusted_p > ALPHA or not excludes_one(found) or size <= least_log(band):
        return NOTHING
    if more_is_better:
        return FASTER if found.ratio > 1 else SLOWER
    return DEARER if found.ratio > 1 else CHEAPER


def least_log(band):
    return math.log1p(max(LEAST_EFFECT, 2 * (band or 0.0)))


def judge_family(effects, band, more_is_better=True):
    """[(p adjusted, verdict)] of one question; None among the effects takes no part and has no verdict."""
    present = [index for index, found in enumerate(effects) if found is not None]
    adjusted = holm([effects[index].p for index in present])
    judged = [(None, None)] * len(effects)
    for index, p in zip(present, adjusted):
        judged[index] = (p, verdict(effects[index], p, band, more_is_better))
    return judged


def same_thing_band(effects):
    """The A/A band: by how much, at most, equal things were estimated to differ. None without any."""
    found = [abs(math.log(one.ratio)) for one in effects if one is not None]
    return math.expm1(max(found)) if found else None


def same_thing_fails(effects):
    """What is wrong with an A/A comparison, in words, or None: the harness finds differences in itself."""
    apart = [one for one in effects if one is not None and excludes_one(one)]
    by = max((max(math.log(one.low), -math.log(one.high)) for one in apart), default=0)
    if by > math.log1p(LEAST_EFFECT):
        return f"an interval is {100 * math.expm1(by):.1f} % away from 1"
    if len(apart) >= 2:
        return f"{len(apart)} of {len(effects)} intervals exclude 1"
    return None
