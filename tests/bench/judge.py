# SPDX-License-Identifier: Apache-2.0
"""What bench/lib makes of figures: made-up rounds in, verdicts out; and a peer that brings a wrong file."""
import contextlib
import os
import random
import subprocess
import sys
import tempfile

import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "bench", "lib"))

import figures  # noqa: E402
import hyperfine  # noqa: E402
import machine  # noqa: E402
import peers  # noqa: E402
import transfer  # noqa: E402
import trees  # noqa: E402
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
        record = transfer.run(python_peer(), source, directory, accounts, sync=True)
        assert record["seconds"] > 0 and record["sender_cpu"] > 0 and record["receiver_cpu"] > 0, record
        equal(os.listdir(directory), ["source"])


def a_wrong_file_gives_none():
    with scene() as (directory, source, accounts):
        try:
            transfer.run(python_peer(b"!"), source, directory, accounts)
        except machine.WrongFile:
            equal(os.listdir(directory), ["source"])
        else:
            raise AssertionError("a wrong file was counted")


def a_listener_that_fails_is_told():
    peer = python_peer()
    peer.listener = lambda at: peers.Command(["false"])
    with scene() as (directory, source, accounts):
        try:
            transfer.run(peer, source, directory, accounts)
        except machine.TrialError as error:
            assert "does not listen" in str(error), error
        else:
            raise AssertionError("it was counted")


def skip_without_hyperfine():
    if not machine.find_program("hyperfine"):
        raise tap.Skip("there is no hyperfine")


def by_hyperfine(peer, source, directory, accounts):
    """(figures, what hyperfine exported)"""
    exports = []
    record = transfer.run(peer, source, directory, accounts, sync=True, timed=hyperfine.timer(exports))
    return record, exports


def hyperfine_times_the_same():
    skip_without_hyperfine()
    with scene() as (directory, source, accounts):
        record, exports = by_hyperfine(python_peer(), source, directory, accounts)
        equal(record["seconds"], exports[0]["times"][0])
        # The client's start is inside, an interpreter's 10 ms and more; the listener's may be before it.
        assert record["sender_cpu"] > 5 and record["receiver_cpu"] > 0, record
        equal(os.listdir(directory), ["source"])


def hyperfine_counts_no_wrong_file():
    skip_without_hyperfine()
    with scene() as (directory, source, accounts):
        try:
            by_hyperfine(python_peer(b"!"), source, directory, accounts)
        except machine.WrongFile:
            equal(os.listdir(directory), ["source"])
        else:
            raise AssertionError("a wrong file was counted")


def one_call_of_hyperfine_is_as_good_as_many():
    def run(seconds, user):
        return {"times": [seconds], "user": user, "system": 0.5, "exit_codes": [0]}

    found = hyperfine.merged([("a", run(1.0, 3.0)), ("b", run(9.0, 1.0)), ("a", run(3.0, 5.0)),
                              ("a", run(8.0, 4.0))])["results"]
    equal([one["command"] for one in found], ["a", "b"])
    equal([found[0][name] for name in ("times", "mean", "median", "min", "max", "user", "system")],
          [[1.0, 3.0, 8.0], 4.0, 3.0, 1.0, 8.0, 4.0, 0.5])
    equal(found[1]["stddev"], None)


def directories_are_the_same_when_all_files_are():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        one, other = os.path.join(directory, "one"), os.path.join(directory, "other")
        machine.make_tree(one, 101, lambda _: 10, random.Random(1))
        subprocess.run(["cp", "-r", one, other], check=True)
        assert machine.same(one, other)
        victim = os.path.join(other, "0001", "000100")
        with open(victim, "r+b") as file:
            first = file.read(1)[0]
            file.seek(0)
            file.write(bytes([first ^ 1]))
        assert not machine.same(one, other), "a changed byte was not seen"
        os.unlink(victim)
        assert not machine.same(one, other), "a missing file was not seen"
        subprocess.run(["cp", os.path.join(one, "0001", "000100"), victim], check=True)
        assert machine.same(one, other)
        with open(os.path.join(other, "more"), "wb"):
            pass
        assert not machine.same(one, other), "a file too many was not seen"


def a_fresh_file_system_can_be_had_again():
    if not machine.is_root() or not machine.find_program("mkfs.ext4"):
        raise tap.Skip("needs root and mkfs.ext4")
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        for _ in range(2):
            with contextlib.ExitStack() as stack:
                found = machine.loop_mount(stack, directory, "ext4", 64 << 20)
                if not found:
                    raise tap.Skip("no loop device")
                equal(machine.file_system_of(found), "ext4")
                equal(os.listdir(found), ["lost+found"])
                with open(os.path.join(found, "file"), "wb"):
                    pass
            equal(os.listdir(directory), [])


def holes_are_seen_and_kept_out_of_the_page_cache():
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp")) as directory:
        one, other = os.path.join(directory, "one"), os.path.join(directory, "other")
        trees.make_sparse(one, 64 << 20, 4 << 20, random.Random(1))
        if not machine.is_sparse(one):
            raise tap.Skip("this file system has no holes")
        machine.warm(one)
        assert machine.resident(one) < 0.5, machine.resident(one)
        subprocess.run(["cp", "--sparse=always", one, other], check=True)
        assert machine.same(one, other)
        hole = machine.data_ranges(one)[0][1]
        for at in (0, hole):  # in the data, and where only the copy has some
            with open(other, "r+b") as file:
                file.seek(at)
                file.write(bytes([os.pread(file.fileno(), 1, at)[0] ^ 1]))
            assert not machine.same(one, other), at
            with open(other, "r+b") as file:
                file.seek(at)
                file.write(bytes([os.pread(file.fileno(), 1, at)[0] ^ 1]))
            assert machine.same(one, other), at
        keeps = trees.keeps_holes(peers.Peer("any", [], [], None, None, report=lambda place, record: None), one)
        keeps.report(peers.Place(one, other, directory, 0), {})
        subprocess.run(["cp", "--sparse=never", one, other], check=True)
        try:
            keeps.report(peers.Place(one, other, directory, 0), {})
        except machine.WrongFile:
            return
        raise AssertionError("holes that were filled were not seen")


def main():
    return tap.run([
        ratios_are_taken_within_a_round, the_best_by_its_median_is_the_opponent,
        a_bound_can_be_missed_in_both_directions, a_difference_is_no_ratio,
        the_highest_counts_for_a_peak, without_an_opponent_nothing_is_held,
        who_brought_a_wrong_file_does_not_count, a_right_file_gives_figures_and_leaves_nothing,
        a_wrong_file_gives_none, a_listener_that_fails_is_told,
        hyperfine_times_the_same, hyperfine_counts_no_wrong_file,
        one_call_of_hyperfine_is_as_good_as_many, directories_are_the_same_when_all_files_are,
        a_fresh_file_system_can_be_had_again, holes_are_seen_and_kept_out_of_the_page_cache])


if __name__ == "__main__":
    sys.exit(main())
