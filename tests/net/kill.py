#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
kill -9 at random moments of a push or a pull: of the client, of the server's session process, of its
listener, or of client and listener. The visible name is absent, old or complete, what is unfinished
lies in staging only, nobody hangs, no process is left, and a later copy succeeds and leaves no staging.
usage: kill.py [long]      50 kills, or 500. ZH_KILLS: another number.
"""

import contextlib
import os
import random
import shutil
import signal
import sys
import time

from scene import (MIB, OK, STAGING, Failure, check, processes_with, run_tests, same, scene_of, seed,
                   wait_until, write_random)

KILLS = int(os.environ.get("ZH_KILLS", "500" if sys.argv[1:] == ["long"] else "50"))
SIZE = 12 * MIB + 99
VICTIMS = ("client", "session", "listener", "client and listener")


def partials(scene, directory):
    """How many unfinished files there are; nothing else may be left."""
    staging = os.path.join(directory, STAGING)
    names = os.listdir(staging) if os.path.isdir(staging) else []
    scene.only_partials(directory)
    check(set(scene.names(directory)) <= {"f", "old", "target"}, f"names: {scene.names(directory)}")
    return len(names)


def strike(scene, victim, copying):
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
    """The sessions of a dead listener die too, and one whose client is dead ends by itself."""
    if "listener" in victim:
        wait_until(lambda: not processes_with(scene.root), 10, "the dead server's processes are gone")
        scene.serve()
    else:
        scene.no_session(10)


def check_name(target, source, old, had_old, status):
    if os.path.exists(target):
        check(same(source, target) or (had_old and same(old, target)), "a wrong file")
    else:
        check(not had_old, "the old file is gone")
    check(status != OK or same(source, target), "success without the file")


def one_kill(scene, source, old, number, generator, usual, counts):
    victim = VICTIMS[number % 4]
    pull = number // 4 % 2
    had_old = number // 8 % 2
    destination = scene.local if pull else scene.root
    target = os.path.join(destination, "target")
    if os.path.exists(target):
        os.unlink(target)
    if had_old:
        shutil.copy(old, target)

    def operands():
        return (scene.url("f"), target) if pull else (source, scene.url("target"))

    copying = scene.start_copy("--pacing", "60M", *operands())
    delay = generator.uniform(0, usual * 1.1)
    time.sleep(delay)
    strike(scene, victim, copying)
    try:
        done = scene.finish_copy(copying, 60)
        everybody_is_gone(scene, victim)
        check_name(target, source, old, had_old, done.status)
        counts["left"] += partials(scene, destination)
        counts["cut", pull] += done.status != OK
        scene.copy(*operands()).has(OK)
        check(same(source, target), "the next copy differs")
        scene.no_session()
        scene.no_staging(destination)
    except Failure as error:
        where = f"{victim} killed after {delay:.3f} s of a {'pull' if pull else 'push'}"
        raise Failure(f"kill {number}, {where}: {error}") from error


def a_kill_at_any_moment_leaves_the_old_the_new_or_no_file():
    generator = random.Random(seed())
    counts = {"left": 0, ("cut", 0): 0, ("cut", 1): 0}
    with scene_of() as scene:
        source, old = os.path.join(scene.root, "f"), os.path.join(scene.local, "old")
        write_random(source, SIZE, generator, mtime=1000000000)
        write_random(old, 5000, generator)
        took = [scene.copy("--pacing", "60M", source, scene.url("target")).has(OK).seconds
                for _ in range(2)]
        for number in range(KILLS):
            one_kill(scene, source, old, number, generator, min(took), counts)
    print(f"# {KILLS} kills: {counts['cut', 0]} pushes and {counts['cut', 1]} pulls did not end well, "
          f"{counts['left']} partials were left")
    check(KILLS < 16 or all(counts.values()), "the kills never struck in the middle")


if __name__ == "__main__":
    sys.exit(run_tests([a_kill_at_any_moment_leaves_the_old_the_new_or_no_file]))
