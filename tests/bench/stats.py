# SPDX-License-Identifier: Apache-2.0
"""bench/lib/stats.py against the tables of exact distributions, scipy, enumeration and known truths."""
import itertools
import math
import os
import sys

import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "bench", "lib"))

try:
    import numpy as np
    import scipy.stats
    import stats
except ImportError as error:
    tap.skip_all(f"{error}; install python3-scipy")

# rounds: order statistics of the median, coverage in %, Walsh rank, Walsh averages, smallest p, family
TABLE = {
    9: (2, 8, 96.1, 6, 45, 0.0039, 12),
    11: (2, 10, 98.8, 11, 66, 0.00098, 51),
    12: (3, 10, 96.1, 14, 78, 0.00049, 102),
    15: (4, 12, 96.5, 26, 120, 0.00006, 819),
}


def close(a, b, within=1e-9):
    assert abs(a - b) <= within, (a, b)


def ranks_are_those_of_exact_tables():
    for n, (low, high, coverage, walsh, averages, smallest, family) in TABLE.items():
        rank, covers = stats.median_ranks(n)
        assert (rank, n + 1 - rank) == (low, high), n
        close(100 * covers, coverage, 0.05)
        assert stats.walsh_rank(n) == walsh, n
        assert len(stats.walsh_averages(range(n))) == averages, n
        close(stats.signed_rank_p(np.arange(1, n + 1)), smallest, 0.00005)
        assert stats.largest_family(n) == family, n


def five_rounds_have_no_interval_and_six_have():
    assert stats.median_ranks(5) == (0, 0.0) and stats.walsh_rank(5) == 0
    assert stats.median([1, 2, 3, 4, 5]).low is None
    assert stats.median_ranks(6)[0] == 1 and stats.walsh_rank(6) == 1
    assert (stats.median([1, 2, 3, 4, 5, 6]).low, stats.median([1, 2, 3, 4, 5, 6]).high) == (1, 6)
    assert stats.median([]) is None and stats.median([None, 7]).value == 7


def the_median_interval_covers_what_it_says():
    generator = np.random.default_rng(1)
    n, trials = 11, 4000
    inside = 0
    for sample in generator.lognormal(size=(trials, n)):
        found = stats.median(sample)
        inside += found.low <= 1 <= found.high
    close(inside / trials, 0.988, 0.008)


def p_is_that_of_scipy():
    generator = np.random.default_rng(2)
    for n in (6, 9, 11, 15):
        for _ in range(20):
            sample = generator.normal(0.4, 1, n)
            close(stats.signed_rank_p(sample), scipy.stats.wilcoxon(sample, mode="exact").pvalue)


def p_with_ties_is_that_of_every_choice_of_signs():
    sample = np.array([1.0, 1.0, -1.0, 2.0, 3.0, 3.0, -2.0, 4.0])
    ranks = scipy.stats.rankdata(np.abs(sample))
    seen = min(ranks[sample > 0].sum(), ranks[sample < 0].sum())
    sums = [sum(rank for rank, sign in zip(ranks, signs) if sign)
            for signs in itertools.product((0, 1), repeat=len(sample))]
    close(stats.signed_rank_p(sample), min(1, 2 * sum(one <= seen for one in sums) / len(sums)))
    close(stats.signed_rank_p(np.append(sample, [0.0, 0.0])), stats.signed_rank_p(sample))
    assert stats.signed_rank_p([0.0, 0.0]) == 1.0


def the_interval_is_what_the_test_does_not_reject():
    generator = np.random.default_rng(3)
    logs = generator.normal(0.05, 0.1, 11)
    found = stats.effect(np.exp(logs), np.ones(11))
    for edge, sign in ((math.log(found.low), 1), (math.log(found.high), -1)):
        assert stats.signed_rank_p(logs - (edge + sign * 1e-9)) > 0.05
        assert stats.signed_rank_p(logs - (edge - sign * 1e-9)) <= 0.05
    assert found.low < found.ratio < found.high


def the_interval_of_a_ratio_covers_the_truth():
    generator = np.random.default_rng(4)
    trials = 1500
    inside = 0
    for _ in range(trials):
        weather = generator.normal(0, 0.3, 9)      # common to both: the round
        theirs = np.exp(weather + generator.normal(0, 0.03, 9))
        ours = 1.2 * np.exp(weather + generator.normal(0, 0.03, 9))
        found = stats.effect(ours, theirs)
        inside += found.low <= 1.2 <= found.high
        assert abs(found.ratio - 1.2) < 0.12       # the weather is gone
    close(inside / trials, 0.961, 0.018)


def holm_is_holm():
    assert stats.holm([]) == []
    for got, wanted in zip(stats.holm([0.01, 0.04, 0.03, 0.005]), [0.03, 0.06, 0.06, 0.02]):
        close(got, wanted)
    assert stats.holm([0.9, 0.8]) == [1.0, 1.0]


def families_have_to_fit_the_rounds():
    ours, theirs = [2.0 + at / 100 for at in range(9)], [1.0] * 9
    for size, word in ((stats.largest_family(9), stats.FASTER),
                       (stats.largest_family(9) + 1, stats.NOTHING)):
        family = [stats.effect(ours, theirs)] + [stats.effect(theirs, theirs)] * (size - 1)
        assert stats.judge_family(family, 0.0)[0][1] == word, size


def of_rounds(ratio, n=11, noise=0.002, seed=5):
    generator = np.random.default_rng(seed)
    return stats.effect(ratio * np.exp(generator.normal(0, noise, n)), np.ones(n))


def words_follow_the_rule():
    assert stats.verdict(of_rounds(1.10), 0.01, 0.005) == stats.FASTER
    assert stats.verdict(of_rounds(0.90), 0.01, 0.005) == stats.SLOWER
    assert stats.verdict(of_rounds(1.10), 0.06, 0.005) == stats.NOTHING      # Holm
    assert stats.verdict(of_rounds(1.02), 0.01, 0.005) == stats.NOTHING      # 3 %
    assert stats.verdict(of_rounds(1.10), 0.01, 0.06) == stats.NOTHING       # twice the A/A band
    assert stats.verdict(of_rounds(1.10), 0.01, None) == stats.FASTER
    wide = stats.Effect(11, 1.10, 0.99, 1.30, 0.001)
    assert stats.verdict(wide, 0.01, 0.005) == stats.NOTHING                 # the interval
    assert stats.verdict(of_rounds(0.90), 0.01, 0.005, more_is_better=False) == stats.CHEAPER
    assert stats.verdict(of_rounds(1.10), 0.01, 0.005, more_is_better=False) == stats.DEARER


def equal_things_seldom_differ():
    """One family of 12 in 9 rounds, all without any effect: some word in at most about 5 % of families."""
    generator = np.random.default_rng(6)
    wrong = 0
    for _ in range(300):
        family = [stats.effect(np.exp(generator.normal(0, 0.2, 9)), np.exp(generator.normal(0, 0.2, 9)))
                  for _ in range(12)]
        wrong += any(word != stats.NOTHING for _, word in stats.judge_family(family, 0.0))
    assert wrong <= 300 * 0.08, wrong


def rounds_without_a_figure_are_left_out():
    found = stats.effect([2, None, 2, 4, float("nan")], [1, 1, None, 2, 1])
    assert found.n == 2 and found.ratio == 2 and found.low is None
    assert stats.effect([None], [1]) is None
    assert stats.judge_family([None, of_rounds(2.0)], 0.0)[0] == (None, None)
    assert stats.judge_family([None, of_rounds(2.0)], 0.0)[1][1] == stats.FASTER


def the_harness_is_judged_by_equal_things():
    good = [of_rounds(1.0, noise=0.01, seed=seed) for seed in range(20)]
    good = [one for one in good if not stats.excludes_one(one)][:7]
    assert len(good) == 7 and stats.same_thing_fails(good) is None
    close(stats.same_thing_band([of_rounds(0.99, noise=0), of_rounds(1.005, noise=0)]), 1 / 0.99 - 1, 1e-6)
    slight, large = of_rounds(1.01, noise=0.001), of_rounds(1.05, noise=0.001)
    assert stats.same_thing_fails(good[:6] + [slight]) is None
    assert "2 of 7" in stats.same_thing_fails(good[:5] + [slight, slight])
    assert "away from 1" in stats.same_thing_fails(good[:6] + [large])
    assert stats.same_thing_band([]) is None


if __name__ == "__main__":
    sys.exit(tap.run([
        ranks_are_those_of_exact_tables, five_rounds_have_no_interval_and_six_have,
        the_median_interval_covers_what_it_says, p_is_that_of_scipy,
        p_with_ties_is_that_of_every_choice_of_signs, the_interval_is_what_the_test_does_not_reject,
        the_interval_of_a_ratio_covers_the_truth, holm_is_holm, families_have_to_fit_the_rounds,
        words_follow_the_rule, equal_things_seldom_differ, rounds_without_a_figure_are_left_out,
        the_harness_is_judged_by_equal_things,
    ]))
