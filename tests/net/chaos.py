#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
A bad network between the real command and the real server: bytes that change, connections that are
cut or go silent, a line that trickles. Never a wrong file, always an end, and always a name for it.
usage: chaos.py [TEST...]
"""

import os
import random
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from proxy import CONTROL, DATA, DOWN, UP, BlackHole, Cut, FlipOther, FlipRaw, Proxy, Trickle
from scene import (BUSY, MIB, OK, OUTCOMES, TIMEOUT, VERIFY, Failure, check, chosen, run_tests,
                   same, scene_of, seed, wait_until, write_random)

CUTS = int(os.environ.get("ZH_CUTS", "60"))
FLIPS = int(os.environ.get("ZH_FLIPS", "40"))
GREETING = 160  # bytes of a connection before its first frame
OLD = b"what was there before"


def old_file(path):
    with open(path, "wb") as file:
        file.write(OLD)


def is_old(path):
    with open(path, "rb") as file:
        return file.read(len(OLD) + 1) == OLD


def a_flipped_byte_is_found_and_sent_again():
    generator = random.Random(seed())
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        size = 9 * MIB + 1234
        write_random(source, size, generator)
        for number in range(12):
            offsets = sorted(generator.randrange(size) for _ in range(1 + number % 3))
            streams = 1 + number % 4
            pull = number % 2
            with FlipRaw(scene.port, offsets, 1) as proxy:
                name = f"n{number}"
                operands = (source, scene.url(name, proxy.port))
                target = os.path.join(scene.root, name)
                if pull:
                    os.link(source, target)
                    operands = (scene.url(name, proxy.port), os.path.join(scene.local, name))
                    target = os.path.join(scene.local, name)
                done = scene.copy("--streams", str(streams), *operands).has(OK)
                check(proxy.flipped == len(offsets), f"{proxy.flipped} bytes were spoilt")
            leaves = len({offset // MIB for offset in offsets})
            again = done.json["report"]["resent_leaves"]
            check(again == leaves, f"{again} leaves sent again, not {leaves}")
            check(same(source, target), f"{name} differs")


def each_receive_strategy_finds_a_flipped_byte():
    generator = random.Random(seed() + 1)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 5 * MIB, generator)
        for send in ("copy", "sendfile", "splice", "uring-copy"):
            for receive in ("copy", "splice", "uring-direct"):
                with FlipRaw(scene.port, [generator.randrange(5 * MIB)], 3) as proxy:
                    done = scene.copy("--strategy", send, "--receive-strategy", receive, source,
                                      scene.url("f", proxy.port)).has(OK)
                check(done.json["report"]["resent_leaves"] == 3, f"{send}, {receive}: not three times")
                check(same(source, os.path.join(scene.root, "f")), f"{send}, {receive}: differs")
                os.unlink(os.path.join(scene.root, "f"))


def many_leaves_may_be_sent_again():
    generator = random.Random(seed() + 2)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 100 * MIB, generator)
        offsets = [leaf * MIB + generator.randrange(MIB) for leaf in range(100)]
        with FlipRaw(scene.port, offsets, 1) as proxy:
            done = scene.copy("--durability", "none", source, scene.url("f", proxy.port)).has(OK)
        check(done.json["report"]["resent_leaves"] == 100, "not each leaf was sent again")
        check(same(source, os.path.join(scene.root, "f")), "it differs")


def what_is_always_flipped_is_given_up_and_the_old_file_stays():
    generator = random.Random(seed() + 3)
    with scene_of() as scene:
        source, target = os.path.join(scene.local, "f"), os.path.join(scene.root, "f")
        write_random(source, 4 * MIB, generator)
        for streams in (1, 3):
            old_file(target)
            with FlipRaw(scene.port, [generator.randrange(4 * MIB)], 1000) as proxy:
                done = scene.copy("--streams", str(streams), source,
                                  scene.url("f", proxy.port)).has(VERIFY)
                check(proxy.flipped == 4, f"sent {proxy.flipped} times")
            check(is_old(target), "the old file was touched")
            check("verify" in done.err.lower() or "leaf" in done.err, done.err)
        local = os.path.join(scene.local, "pulled")
        old_file(local)
        os.unlink(target)
        os.link(source, target)
        with FlipRaw(scene.port, [generator.randrange(4 * MIB)], 1000) as proxy:
            scene.copy(scene.url("f", proxy.port), local).has(VERIFY)
        check(is_old(local), "the old file was touched")
        scene.no_session()
        scene.no_staging()
        scene.no_staging(scene.local)


def flip_one(scene, source, number, generator, totals):
    """One byte of greetings, heads, tags or control payloads."""
    kind, way = generator.choice((CONTROL, DATA)), generator.choice((UP, DOWN))
    at = generator.randrange(totals[kind, way])
    name = f"flip{number}"
    target = os.path.join(scene.root, name)
    if number % 2:
        old_file(target)
    with FlipOther(scene.port, kind, way, at) as proxy:
        done = scene.copy(source, scene.url(name, proxy.port), seconds=75)
        where = f"byte {at} {way} of kind {kind} ({proxy.flipped})"
        if proxy.flipped is None:
            return False  # there was less traffic than the time before
    check(done.status != OK, f"{where}: success")
    check(done.status in OUTCOMES, f"{where}: status {done.status}")
    if os.path.exists(target):
        complete = same(source, target)
        check(complete or (number % 2 and is_old(target)), f"{where}: a wrong file")
    return True


class Measure(Proxy):
    """Counts what is not raw."""

    def __init__(self, target):
        super().__init__(target)
        self.totals = {}
        self.all = {}

    def on_data(self, connection, way, data):
        key = connection.kind, way
        for part, piece, _ in connection.shape[way].split(data):
            self.all[key] = self.all.get(key, 0) + len(piece)
            if part != "raw":
                self.totals[key] = self.totals.get(key, 0) + len(piece)
        return data


def measure(scene, source):
    with Measure(scene.port) as proxy:
        scene.copy(source, scene.url("measured", proxy.port)).has(OK)
        return proxy


def a_flip_anywhere_else_is_a_named_error():
    generator = random.Random(seed() + 4)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 2 * MIB + 77, generator)
        totals = measure(scene, source).totals
        seeds = [generator.randrange(1 << 32) for _ in range(FLIPS)]
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(flip_one, scene, source, number, random.Random(one), totals)
                    for number, one in enumerate(seeds)]
            spoilt = sum(item.result() for item in work)
        check(spoilt >= FLIPS * 3 // 4, f"only {spoilt} of {FLIPS} bytes were spoilt")
        scene.no_session(15)
        scene.copy(source, scene.url("later")).has(OK)
        scene.no_session()
        scene.no_staging()


def cut_one(scene, source, number, generator, totals, pull):
    kind, way = generator.choice((CONTROL, DATA)), generator.choice((UP, DOWN))
    at = generator.randrange(totals[kind, way])
    reset = generator.random() < 0.5
    name = f"cut{number}"
    where = f"{'RST' if reset else 'FIN'} at byte {at} {way} of kind {kind}, {'pull' if pull else 'push'}"
    target = os.path.join(scene.local if pull else scene.root, name)
    if pull:
        os.link(source, os.path.join(scene.root, name))
    had_old = generator.random() < 0.5
    if had_old:
        old_file(target)

    def operands(port):
        return (scene.url(name, port), target) if pull else (source, scene.url(name, port))

    with Cut(scene.port, kind, way, at, reset) as proxy:
        done = scene.copy("--durability", "none", *operands(proxy.port), seconds=75)
        was_cut = proxy.done
    # Of a pull the last bytes up are the client's BYE: it has heard all that it needs by then.
    needs_no_more = pull and kind == CONTROL and way == UP
    if kind == DATA and at > GREETING:  # is opened again
        check(done.status == OK and same(source, target), f"{where}: status {done.status} {done.err}")
    elif was_cut and not (done.status == OK and needs_no_more and same(source, target)):
        check(done.status in OUTCOMES - {OK}, f"{where}: status {done.status} {done.err}")
    if os.path.exists(target):
        check(same(source, target) or (had_old and is_old(target)), f"{where}: a wrong file")
    else:
        check(not had_old, f"{where}: the old file is gone")
    for _ in range(200):  # the other side may not have noticed yet
        done = scene.copy("--durability", "none", *operands(scene.port))
        if done.status != BUSY:
            break
        time.sleep(0.1)
    check(done.status == OK and same(source, target), f"{where}: afterwards {done.status} {done.err}")


def a_cut_anywhere_leaves_the_old_the_new_or_no_file():
    generator = random.Random(seed() + 5)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 3 * MIB + 77, generator)
        push = measure(scene, source).all
        # in a pull the data go the other way, and the rest is of about the same length
        pull = {(kind, UP if way == DOWN else DOWN): total for (kind, way), total in push.items()}
        seeds = [generator.randrange(1 << 32) for _ in range(CUTS)]
        problems = []
        with ThreadPoolExecutor(8) as pool:
            work = [pool.submit(cut_one, scene, source, number, random.Random(one),
                                pull if number % 2 else push, number % 2)
                    for number, one in enumerate(seeds)]
            for item in work:
                try:
                    item.result()
                except Failure as failure:
                    problems.append(str(failure))
        check(not problems, "\n".join(problems))
        scene.no_session(15)
        scene.no_staging()
        scene.no_staging(scene.local)


def a_control_connection_that_goes_silent_times_out():
    generator = random.Random(seed() + 6)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 40 * MIB, generator)
        with BlackHole(scene.port, CONTROL) as proxy:
            copying = scene.start_copy("--pacing", "1M", source, scene.url("f", proxy.port))
            wait_until(lambda: proxy.passed(DATA, UP) > 0, 10, "the data flow")
            proxy.open.set()
            done = scene.finish_copy(copying, 60).has(TIMEOUT)
            check(done.seconds <= 45, f"after {done.seconds:.0f} s")
            # the server finds out for itself, about as soon
            scene.no_session(20)
        check(not scene.names(), "a file appeared")
        scene.only_partials()


def a_data_connection_that_goes_silent_times_out():
    generator = random.Random(seed() + 7)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 40 * MIB, generator)
        with BlackHole(scene.port, DATA) as proxy:
            copying = scene.start_copy("--pacing", "20M", source, scene.url("f", proxy.port))
            wait_until(lambda: proxy.passed(DATA, UP) > 10 * MIB, 20, "the data flow")
            proxy.open.set()
            # to find it out, and then to try for as long as one may be without any
            done = scene.finish_copy(copying, 120).has(TIMEOUT)
            check(done.seconds <= 105, f"after {done.seconds:.0f} s")
            scene.no_session(20)
        check(not scene.names(), "a file appeared")
        scene.only_partials()


def a_line_that_trickles_works():
    generator = random.Random(seed() + 8)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 200000, generator)
        with Trickle(scene.port, 97, 0.001) as proxy:
            done = scene.copy(source, scene.url("f", proxy.port)).has(OK)
            check(done.json["report"]["resent_leaves"] == 0, "leaves were sent again")
            check(same(source, os.path.join(scene.root, "f")), "it differs")
            scene.copy(scene.url("f", proxy.port), os.path.join(scene.local, "back")).has(OK)
        check(same(source, os.path.join(scene.local, "back")), "it differs")


LONG = [a_data_connection_that_goes_silent_times_out]
TESTS = [
    a_control_connection_that_goes_silent_times_out,
    a_flipped_byte_is_found_and_sent_again,
    each_receive_strategy_finds_a_flipped_byte,
    many_leaves_may_be_sent_again,
    what_is_always_flipped_is_given_up_and_the_old_file_stays,
    a_flip_anywhere_else_is_a_named_error,
    a_cut_anywhere_leaves_the_old_the_new_or_no_file,
    a_line_that_trickles_works,
]

if __name__ == "__main__":
    if sys.argv[1:] == ["long"]:
        sys.exit(run_tests(LONG))
    sys.exit(run_tests(chosen(TESTS + LONG) if sys.argv[1:] else TESTS))
