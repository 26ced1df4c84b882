#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Data connections that break, stop and come back, while the control connection lives: the bytes are
the same, nothing is left behind, and little is sent twice.
usage: streams.py [TEST...]
"""

import os
import random
import sys
import threading
import time

from proxy import DATA, DOWN, UP, Proxy
from scene import (MIB, NET, OK, check, chosen, run_tests, same, scene_of, seed,
                   write_random)

BREAKS = int(os.environ.get("ZH_BREAKS", "24"))
# What may be under way on one connection: a frame, and what sockets and the proxy hold.
UNDER_WAY = 8 * MIB + 24 * MIB


class Breaks(Proxy):
    """Breaks data connections after so many of their bytes: the next entry of a plan, in order."""

    def __init__(self, target, way, plan, reset=True):
        super().__init__(target)
        self.way, self.plan, self.reset = way, list(plan), reset
        self.lock = threading.Lock()
        self.at = {}
        self.broken = 0

    def on_data(self, connection, way, data):
        if connection.kind != DATA or way != self.way:
            return data
        with self.lock:
            if connection not in self.at:
                self.at[connection] = self.plan.pop(0) if self.plan else None
            at = self.at[connection]
            if at is None or connection.passed[way] + len(data) < at:
                return data
            self.broken += 1
        connection.cut(self.reset)
        raise ConnectionAbortedError


class Hole(Proxy):
    """Lets nothing more pass on the first data connection that has moved so many bytes."""

    def __init__(self, target, way, at):
        super().__init__(target)
        self.way, self.at = way, at
        self.lock = threading.Lock()
        self.victim = None
        self.closing = threading.Event()

    def on_data(self, connection, way, data):
        if connection.kind == DATA:
            with self.lock:
                if self.victim is None and way == self.way and connection.passed[way] >= self.at:
                    self.victim = connection
            if connection is self.victim:
                self.closing.wait()
                raise ConnectionAbortedError
        return data

    def close(self):
        self.closing.set()
        super().close()


class Shut(Proxy):
    """Breaks every data connection once so much has passed in all, and lets no other one in."""

    def __init__(self, target, way, at, seconds=None):
        super().__init__(target)
        self.way, self.at, self.seconds = way, at, seconds
        self.since = None
        self.lock = threading.Lock()

    def is_shut(self):
        return self.since is not None and (
            self.seconds is None or time.monotonic() - self.since < self.seconds)

    def on_data(self, connection, way, data):
        if connection.kind != DATA:
            return data
        with self.lock:
            if self.since is None and self.passed(DATA, self.way) >= self.at:
                self.since = time.monotonic()
                for other in self.connections:
                    if other.kind == DATA and other is not connection:
                        other.cut(True)
            if self.is_shut():
                connection.cut(True)
                raise ConnectionAbortedError
        return data


class Place:
    """One thing to copy either way, and how to look at what came of it."""

    def __init__(self, scene, name, generator, tree, size=None):
        self.scene, self.name, self.tree = scene, name, tree
        self.options = ["-r"] if tree else []
        self.source = os.path.join(scene.local, name)
        if tree:
            self.bytes = make_tree(self.source, generator)
        else:
            self.bytes = size or 70 * MIB + 1234
            write_random(self.source, self.bytes, generator)

    def copy(self, proxy, pull, number, *options, seconds=100):
        scene, name = self.scene, f"{self.name}.{number}"
        if pull:
            served = os.path.join(scene.root, name)
            if not os.path.exists(served):
                os.rename(self.source, served)
                os.symlink(served, self.source)
            self.target = os.path.join(scene.local, "pulled." + name)
            operands = (scene.url(name, proxy.port), self.target)
        else:
            self.target = os.path.join(scene.root, "pushed." + name)
            operands = (self.source, scene.url("pushed." + name, proxy.port))
        if self.tree:
            os.mkdir(self.target)
        done = scene.copy("--durability", "none", *self.options, *options, *operands,
                          seconds=seconds)
        if pull:
            os.unlink(self.source)
            os.rename(served, self.source)
        return done

    def came(self, pull):
        inside = os.path.basename(self.source)
        if not self.tree:
            check(same(self.source, self.target), f"{self.target} differs")
            return
        tops = os.listdir(self.target)
        check(len(tops) == 1, f"{tops} in {self.target}, for {inside}")
        came = os.path.join(self.target, tops[0])
        check(names(self.source) == names(came), f"{came} has other names")
        for name in names(self.source):
            one, other = os.path.join(self.source, name), os.path.join(came, name)
            check(os.path.isdir(one) or same(one, other), f"{other} differs")


def names(top):
    found = []
    for directory, inner, files in os.walk(top):
        found += [os.path.relpath(os.path.join(directory, name), top) for name in inner + files]
    return sorted(found)


def make_tree(top, generator):
    """Packs, and files that are split."""
    total = 0
    for directory in range(6):
        inside = os.path.join(top, f"d{directory}")
        os.makedirs(inside)
        for number in range(60):
            size = generator.randrange(0, 90000)
            write_random(os.path.join(inside, f"f{number}"), size, generator)
            total += size
        size = 5 * MIB + generator.randrange(9 * MIB)
        write_random(os.path.join(inside, "large"), size, generator)
        total += size
    return total


def sent_bytes(done):
    return done.json["report"]["sender"]["stats"]["bytes"]


def sent_little_twice(done, place, broken):
    again = sent_bytes(done) - place.bytes
    check(again <= broken * UNDER_WAY, f"{again} bytes sent again for {broken} connections")


def clean(scene):
    scene.no_session(15)
    scene.no_staging()
    scene.no_staging(scene.local)


def one_break(scene, place, generator, number, streams, breaks):
    pull = number % 2
    way = DOWN if pull else UP
    share = place.bytes // streams
    # With one alone a greeting that fails ends it all; with several one may break there, too.
    least = 1 if streams > 1 and number % 4 == 0 else 161
    most = 400 if number % 3 == 0 else share
    plan = [generator.randrange(least, most + 1) for _ in range(breaks)]
    with Breaks(scene.port, way, plan, reset=generator.random() < 0.7) as proxy:
        done = place.copy(proxy, pull, number, "--streams", str(streams))
        broken = proxy.broken
    where = f"{'pull' if pull else 'push'} {number}, {streams} streams, broken at {plan}"
    check(done.status == OK, f"{where}: {done.status} {done.err}")
    place.came(pull)
    lost = done.json["report"]["streams_lost"]
    check(lost <= broken, f"{where}: {lost} lost, {broken} broken")
    sent_little_twice(done, place, broken)
    return broken, lost


def breaks_of(name, tree, streams, breaks, times):
    generator = random.Random(f"{seed()} {name}")
    with scene_of() as scene:
        place = Place(scene, name, generator, tree)
        broken = lost = 0
        for number in range(times):
            counts = one_break(scene, place, generator, number, streams, breaks)
            broken, lost = broken + counts[0], lost + counts[1]
        check(broken >= times // 2, f"only {broken} connections were broken")
        check(lost > 0, "no loss was reported")
        clean(scene)


def one_of_four_breaks_under_a_file():
    breaks_of("file", False, 4, 1, BREAKS)


def one_of_four_breaks_under_a_tree():
    breaks_of("tree", True, 4, 1, BREAKS // 2)


def the_only_one_breaks_and_is_opened_again():
    breaks_of("single", False, 1, 1, BREAKS // 2)
    breaks_of("singletree", True, 1, 1, BREAKS // 4)


def connections_break_again_and_again():
    breaks_of("often", False, 3, 7, BREAKS // 4)


def each_strategy_gives_a_broken_frame_back():
    generator = random.Random(seed() + 4)
    sends = ("sendfile", "sendfile-ahead", "splice", "uring-zc", "uring-direct", "uring-copy", "mmap",
             "msg-zerocopy", "uring-splice", "copy")
    receives = ("uring-direct", "uring-copy", "direct", "splice", "dontcache", "mmap", "copy", "zerocopy")
    with scene_of() as scene:
        place = Place(scene, "each", generator, False, 20 * MIB + 5)
        for number, send in enumerate(sends):
            receive = receives[number % len(receives)]
            plan = [generator.randrange(MIB, 9 * MIB)]
            with Breaks(scene.port, UP, plan) as proxy:
                done = place.copy(proxy, False, number, "--streams", "2", "--strategy", send,
                                  "--receive-strategy", receive)
            check(done.status == OK, f"{send}, {receive}: {done.status} {done.err}")
            check(done.json["report"]["streams_lost"] == proxy.broken, f"{send}, {receive}: not lost")
            place.came(False)
        clean(scene)


def a_copy_without_a_break_loses_none():
    generator = random.Random(seed())
    with scene_of() as scene, Proxy(scene.port) as proxy:
        place = Place(scene, "whole", generator, False)
        for number in range(2):
            done = place.copy(proxy, number, number, "--streams", "4").has(OK)
            place.came(number)
            check(done.json["report"]["streams_lost"] == 0, "a loss was reported")
            check(sent_bytes(done) == place.bytes, "bytes were sent twice")
        clean(scene)


def all_break_and_come_back():
    generator = random.Random(seed() + 1)
    with scene_of() as scene:
        place = Place(scene, "all", generator, False)
        for pull in (0, 1):
            with Shut(scene.port, DOWN if pull else UP, 30 * MIB, seconds=3) as proxy:
                done = place.copy(proxy, pull, pull, "--streams", "4").has(OK)
            place.came(pull)
            check(done.json["report"]["streams_lost"] == 4, "not four were lost")
            check(done.seconds >= 3, "it did not wait")
            sent_little_twice(done, place, 4)
        clean(scene)


def all_break_for_good():
    generator = random.Random(seed() + 2)
    with scene_of() as scene:
        place = Place(scene, "gone", generator, False)
        for pull in (0, 1):
            with Shut(scene.port, DOWN if pull else UP, 30 * MIB) as proxy:
                done = place.copy(proxy, pull, pull, "--streams", "2").has(NET)
            check(25 <= done.seconds <= 55, f"after {done.seconds:.0f} s")
            check("data connection" in done.err, done.err)
            check(not os.path.exists(place.target), "a file appeared")
        scene.no_session(15)
        scene.only_partials()
        scene.only_partials(scene.local)


def one_of_four_goes_silent():
    generator = random.Random(seed() + 3)
    with scene_of() as scene:
        place = Place(scene, "silent", generator, False, 200 * MIB)
        for pull in (0, 1):
            with Hole(scene.port, DOWN if pull else UP, 4 * MIB) as proxy:
                done = place.copy(proxy, pull, pull, "--streams", "4", seconds=140).has(OK)
                check(proxy.victim, "none was silenced")
            place.came(pull)
            check(done.json["report"]["streams_lost"] == 1, "not one was lost")
            check(done.seconds <= 100, f"after {done.seconds:.0f} s")
            sent_little_twice(done, place, 1)
        clean(scene)


LONG = [one_of_four_goes_silent]
TESTS = [
    a_copy_without_a_break_loses_none,
    one_of_four_breaks_under_a_file,
    one_of_four_breaks_under_a_tree,
    the_only_one_breaks_and_is_opened_again,
    connections_break_again_and_again,
    each_strategy_gives_a_broken_frame_back,
    all_break_and_come_back,
    all_break_for_good,
]

if __name__ == "__main__":
    if sys.argv[1:] == ["long"]:
        sys.exit(run_tests(LONG))
    sys.exit(run_tests(chosen(TESTS + LONG) if sys.argv[1:] else TESTS))
