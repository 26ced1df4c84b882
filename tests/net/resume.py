#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
A tree of 2,000 files is pushed or pulled, again and again: the client, the server's session process,
its listener, or client and listener are killed at random moments (kill -9), or the client is
interrupted (SIGINT), until the same command is through. No name ever shows a wrong or unfinished file,
staging holds partials only and nothing at the end, and what had arrived is not sent again.
usage: resume.py [long]      20 kills, or 200. ZH_KILLS: another number.
"""

import contextlib
import os
import random
import re
import shutil
import signal
import sys
import time

from scene import (MIB, OK, STAGING, Failure, check, processes_with, run_tests, same, scene_of, seed,
                   wait_until, write_random)

KILLS = int(os.environ.get("ZH_KILLS", "200" if sys.argv[1:] == ["long"] else "20"))
FILES = 2000
KIB = 1024
LEAF = MIB
PACE = "100M"
VICTIMS = ("client", "session", "listener", "client and listener", "interrupt")
STREAMS = (1, 4)


def size_of(number, generator):
    """Most are small; a few large ones make up the bulk."""
    if number % 100 == 0:
        return generator.randrange(6 * MIB, 20 * MIB)
    if number % 20 == 0:
        return generator.randrange(256 * KIB - 2, MIB + 2)
    return generator.choice((0, 1, generator.randrange(100), generator.randrange(16 * KIB)))


def make_tree(top, generator):
    """The names of the files, relative."""
    names = []
    for number in range(FILES):
        directory = f"d{number % 7}/e{number % 31}" if number % 3 else f"d{number % 7}"
        os.makedirs(os.path.join(top, directory), exist_ok=True)
        name = f"{directory}/f{number}"
        write_random(os.path.join(top, name), size_of(number, generator), generator,
                     mtime=1000000000 + number)
        names.append(name)
    return names


def proven(top, destination, names):
    """Bytes of the source that the destination has under their names. All that is there is right."""
    bytes_there = 0
    for name in names:
        path = os.path.join(destination, name)
        if os.path.lexists(path):
            check(same(path, os.path.join(top, name)), f"{name} is wrong")
            bytes_there += os.path.getsize(path)
    return bytes_there


def equal_bytes(partial, source):
    """Of the leaves of a partial those that are as in the source: what a resume need not send."""
    total = 0
    with open(partial, "rb") as one, open(source, "rb") as two:
        while piece := two.read(LEAF):
            total += len(piece) if one.read(LEAF) == piece else 0
    return total


def partial_bytes(directory, by_size):
    """So much of the partials is as in the source; they are told apart by their sizes."""
    staging = os.path.join(directory, STAGING)
    total = 0
    for name in os.listdir(staging) if os.path.isdir(staging) else []:
        path = os.path.join(staging, name)
        if re.fullmatch(r"s\.[0-9a-f]{16}", name) and os.path.isdir(path):
            continue  # the scratch of small files; who comes next takes it away
        check(name.endswith(".part"), f"{name} in staging")
        source = by_size.get(os.path.getsize(path))
        total += equal_bytes(path, source) if source else 0
    return total


def strike(scene, victim, copying):
    if victim == "interrupt":
        copying.send_signal(signal.SIGINT)
    if "client" in victim:
        copying.kill()
    if "listener" in victim:
        scene.kill_server()
    if victim == "session":
        pid = scene.session()
        if pid:
            with contextlib.suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, signal.SIGKILL)


def everybody_is_gone(scene, victim):
    if "listener" in victim:
        wait_until(lambda: not processes_with(scene.root), 10, "the dead server's processes are gone")
        scene.serve()
    else:
        scene.no_session(10)


class Run:
    """One direction: the operands and what may be there."""

    def __init__(self, scene, top, names, pull, streams):
        self.scene, self.top, self.names, self.pull, self.streams = scene, top, names, pull, streams
        self.destination = os.path.join(scene.local if pull else scene.root, "in", "tree")
        # the server has staging in its root, a client in the directory that it fills
        self.staged = os.path.dirname(self.destination) if pull else scene.root
        sizes = {name: os.path.getsize(os.path.join(top, name)) for name in names}
        self.size = sum(sizes.values())
        self.by_size = {size: os.path.join(top, name) for name, size in sizes.items()
                        if size > LEAF}

    def operands(self):
        into = os.path.dirname(self.destination)
        return (self.scene.url("source/tree"), into) if self.pull else (self.top, self.scene.url("in/"))

    def start(self):
        return self.scene.start_copy("-r", "--streams", str(self.streams), "--pacing", PACE,
                                     *self.operands())

    def interrupted(self, victim, delay):
        """One run that is struck; whether it was through before."""
        copying = self.start()
        time.sleep(delay)
        strike(self.scene, victim, copying)
        done = self.scene.finish_copy(copying, 90)
        everybody_is_gone(self.scene, victim)
        proven(self.top, self.destination, self.names)
        partial_bytes(self.staged, self.by_size)
        return done.status == OK

    def last(self):
        """Undisturbed: through, and no more is sent than was lacking."""
        there = proven(self.top, self.destination, self.names) + partial_bytes(self.staged, self.by_size)
        done = self.scene.finish_copy(self.start(), 120).has(OK)
        sent = done.json["report"]["sender"]["stats"]["bytes"]
        lacking = self.size - there
        check(sent <= lacking * 1.05 + MIB,
              f"{sent} bytes were sent, {lacking} of {self.size} were lacking")
        check(proven(self.top, self.destination, self.names) == self.size, "it is not all there")
        self.scene.no_session()
        self.scene.no_staging(self.staged)
        again = self.scene.finish_copy(self.start(), 120).has(OK)
        check(again.json["report"]["sender"]["stats"]["bytes"] == 0, "something is sent again")
        return sent, lacking


def one_transfer(scene, top, names, number, generator, counts):
    """Struck up to five times, then let through. Returns the number of kills."""
    run = Run(scene, top, names, number % 2, STREAMS[number // 2 % 2])
    usual = run.size / 100e6 / run.streams + 0.3
    kills = 0
    for _ in range(5):
        victim = VICTIMS[(number + kills) % len(VICTIMS)]
        delay = generator.uniform(0, usual)
        try:
            through = run.interrupted(victim, delay)
        except Failure as error:
            raise Failure(f"transfer {number}, {victim} struck after {delay:.3f} s of a "
                          f"{'pull' if run.pull else 'push'} over {run.streams}: {error}") from error
        kills += 1
        counts[victim] = counts.get(victim, 0) + (not through)
        if through:
            break
    try:
        sent, lacking = run.last()
    except Failure as error:
        raise Failure(f"transfer {number}, last run: {error}") from error
    counts["sent"] += sent
    counts["lacking"] += lacking
    shutil.rmtree(run.destination)
    return kills


def a_tree_gets_through_whatever_is_killed_and_nothing_is_sent_twice():
    generator = random.Random(seed())
    counts = {"sent": 0, "lacking": 0}
    with scene_of() as scene:
        top = os.path.join(scene.root, "source", "tree")
        names = make_tree(top, generator)
        for directory in (scene.root, scene.local):
            os.mkdir(os.path.join(directory, "in"))
        kills = number = 0
        while kills < KILLS:
            kills += one_transfer(scene, top, names, number, generator, counts)
            number += 1
    print(f"# {kills} kills in {number} transfers; cut: "
          + ", ".join(f"{victim} {counts.get(victim, 0)}" for victim in VICTIMS)
          + f"; the last runs sent {counts['sent']} bytes, {counts['lacking']} were lacking")
    check(KILLS < 20 or sum(counts.get(victim, 0) for victim in VICTIMS) >= KILLS / 2,
          "the kills never struck in the middle")


if __name__ == "__main__":
    sys.exit(run_tests([a_tree_gets_through_whatever_is_killed_and_nothing_is_sent_twice]))
