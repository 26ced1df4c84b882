# SPDX-License-Identifier: Apache-2.0
"""What bench/lib makes of figures: made-up rounds in, verdicts out; and a peer that brings a wrong file."""
import contextlib
import os
import random
import sys
import tempfile

import cases

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "bench", "lib"))

import figures  # noqa: E402
import machine  # noqa: E402
import peers  # noqa: E402
from figures import Bound  # noqa: E402


def rounds_of(**cells):
    """cell=[seconds of each round], None: a trial that failed."""
    length = len(next(iter(cells.values())))
    return [{name: {"error": "no"} if values[at] is None else
             {"seconds": values[at], "rate": 1 / values[at]} for name, values in cells.items()}
            for at in range(length)]


def bound(limit, **more):
    return Bound("b", "w", limit, more.pop("figure", "seconds"), ["us"], more.pop("theirs", ["a", "b"]),
                 **more)


def equal(got, expected):
    assert got == expected, f"{got} instead of {expected}"


def ratios_are_taken_within_a_round():
    verdict = figures.judge(bound(0.55, theirs=["a"]), rounds_of(us=[1, 10, 100], a=[2, 20, 200]))
    equal((verdict.state, verdict.middle, verdict.lowest, verdict.highest), ("held", 0.5, 0.5, 0.5))


def the_best_by_its_median_is_the_opponent():
    # b has the best single trial, a the best median.
    verdict = figures.judge(bound(0.55), rounds_of(us=[1, 1, 1], a=[2, 2, 2], b=[0.1, 3, 3]))
    equal((verdict.state, verdict.middle), ("held", 0.5))


def a_bound_can_be_missed_in_both_directions():
    rounds = rounds_of(us=[1, 1, 1], a=[1.5, 1.5, 1.5])
    equal(figures.judge(bound(0.6, theirs=["a"]), rounds).state, "MISSED")
    equal(figures.judge(bound(1.8, theirs=["a"], figure="rate", at_least=True), rounds).state, "MISSED")
    equal(figures.judge(bound(1.4, theirs=["a"], figure="rate", at_least=True), rounds).state, "held")


def a_difference_is_no_ratio():
    verdict = figures.judge(bound(0.2, theirs=["a"], kind="difference"), rounds_of(us=[3.1], a=[3.0]))
    equal((verdict.state, round(verdict.middle, 6)), ("held", 0.1))


def the_highest_counts_for_a_peak():
    rounds = rounds_of(us=[10, 10, 70])
    equal(figures.judge(bound(64, theirs=[], kind="peak"), rounds).state, "MISSED")
    equal(figures.judge(bound(70, theirs=[], kind="peak"), rounds).state, "held")


def without_an_opponent_nothing_is_held():
    equal(figures.judge(bound(0.6), rounds_of(us=[1], a=[None], b=[None])).state, "not judged")
    equal(figures.judge(bound(0.6), rounds_of(us=[None], a=[1], b=[1])).state, "not judged")


def who_brought_a_wrong_file_does_not_count():
    rounds = rounds_of(us=[1, 1, 1], a=[1, 1, None], b=[2, 2, 2])
    equal(figures.judge(bound(0.6), rounds).middle, 1)
    rounds[2]["a"]["wrong_file"] = True
    equal(figures.judge(bound(0.6), rounds).middle, 0.5)


@contextlib.contextmanager
def scene():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        source = os.path.join(directory, "source")
        machine.make_file(source, machine.MIB, random.Random(1))
        with machine.Accounts() as accounts:
            yield directory, source, accounts


def python_peer(change=b""):
    """A listener and a client in a few lines, which may add bytes that nobody sent."""
    listen = ("import socket, sys; s = socket.create_server(('127.0.0.1', int(sys.argv[1]))); "
              "c = s.accept()[0].makefile('rb'); open(sys.argv[2], 'wb').write(c.read())")
    send = ("import socket, sys; c = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); "
            f"c.sendall(open(sys.argv[2], 'rb').read() + {change!r})")
    return peers.Peer(
        "python", [], [], listener_ends=True,
        listener=lambda at: peers.Command([sys.executable, "-c", listen, str(at.port), at.target]),
        client=lambda at: peers.Command([sys.executable, "-c", send, str(at.port), at.source]))


def a_right_file_gives_figures_and_leaves_nothing():
    with scene() as (directory, source, accounts):
        record = peers.run(python_peer(), source, directory, accounts, sync=True)
        assert record["seconds"] > 0 and record["sender_cpu"] > 0 and record["receiver_cpu"] > 0, record
        equal(os.listdir(directory), ["source"])


def a_wrong_file_gives_none():
    with scene() as (directory, source, accounts):
        try:
            peers.run(python_peer(b"!"), source, directory, accounts)
        except machine.WrongFile:
            equal(os.listdir(directory), ["source"])
        else:
            raise AssertionError("a wrong file was counted")


def a_listener_that_fails_is_told():
    peer = python_peer()
    peer.listener = lambda at: peers.Command(["false"])
    with scene() as (directory, source, accounts):
        try:
            peers.run(peer, source, directory, accounts)
        except machine.TrialError as error:
            assert "does not listen" in str(error), error
        else:
            raise AssertionError("it was counted")


def main():
    return cases.run([
        ratios_are_taken_within_a_round, the_best_by_its_median_is_the_opponent,
        a_bound_can_be_missed_in_both_directions, a_difference_is_no_ratio,
        the_highest_counts_for_a_peak, without_an_opponent_nothing_is_held,
        who_brought_a_wrong_file_does_not_count, a_right_file_gives_figures_and_leaves_nothing,
        a_wrong_file_gives_none, a_listener_that_fails_is_told])


if __name__ == "__main__":
    sys.exit(main())
