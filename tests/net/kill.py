#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
kill -9 of the client, of the server's session process or of its listener at random moments: the
visible name is absent, old or complete, what is unfinished lies in staging only, no process is left,
and a later copy succeeds and leaves no staging.
usage: kill.py [long]      50 kills, or 500. ZH_KILLS: another number.
"""

import os
import random
import signal
import sys
import time

from scene import (BUSY, MIB, OK, STAGING, check, processes_with, run_tests, same, scene_of, seed,
                   wait_until, write_random)

KILLS = int(os.environ.get("ZH_KILLS", "500" if sys.argv[1:] == ["long"] else "50"))
SIZE = 12 * MIB + 99
VICTIMS = ("client", "session", "listener")


def take_back(scene, directory):
    """Only partials may be in staging."""
    staging = os.path.join(directory, STAGING)
    for name in os.listdir(staging) if os.path.isdir(staging) else []:
        check(name.endswith(".part"), f"{name} in staging")
    check(set(scene.names(directory)) <= {"f", "old", "target"}, f"names: {scene.names(directory)}")


def strike(scene, victim, copying):
    """Kills, and waits until everything that belongs to it is gone."""
    if victim == "client":
        copying.kill()
    elif victim == "listener":
        sessions = [pid for pid in [scene.session()] if pid]
        scene.kill_server()
        for pid in sessions:  # they are not left behind
            wait_until(lambda pid=pid: not os.path.exists(f"/proc/{pid}"), 5, "its sessions die too")
    else:
        pid = scene.session()
        if pid:
            os.kill(pid, signal.SIGKILL)


def one_kill(scene, source, old, number, generator, usual):
    victim = VICTIMS[number % 3]
    pull = number // 3 % 2
    had_old = number // 6 % 2
    destination = scene.local if pull else scene.root
    target = os.path.join(destination, "target")
    if os.path.exists(target):
        os.unlink(target)
    if had_old:
        os.link(old, target)
    operands = ("--pacing", "60M") + (
        (scene.url("f"), target) if pull else (source, scene.url("target")))
    copying = scene.start_copy(*operands)
    delay = generator.uniform(0, usual * 1.1)
    time.sleep(delay)
    strike(scene, victim, copying)
    done = scene.finish_copy(copying, 60)
    where = f"{victim} killed after {delay:.3f} s of a {'pull' if pull else 'push'}"
    if os.path.exists(target):
        check(same(source, target) or (had_old and same(old, target)), f"{where}: a wrong file")
    else:
        check(not had_old, f"{where}: the old file is gone")
    check(done.status != OK or same(source, target), f"{where}: success without the file")
    take_back(scene, destination)
    if victim == "listener":
        check(not processes_with(scene.root), f"{where}: a process is left")
        scene.serve()
        operands = ("--pacing", "60M") + (
            (scene.url("f"), target) if pull else (source, scene.url("target")))
    for _ in range(100):  # a session whose client was killed may not have noticed yet
        done = scene.copy(*operands[2:])
        if done.status != BUSY:
            break
        time.sleep(0.05)
    check(done.status == OK, f"{where}: the next copy: {done.status} {done.err}")
    check(same(source, target), f"{where}: the next copy differs")
    scene.no_session()
    scene.no_staging(destination)
    return done


def a_kill_at_any_moment_leaves_the_old_the_new_or_no_file():
    generator = random.Random(seed())
    with scene_of() as scene:
        source, old = os.path.join(scene.root, "f"), os.path.join(scene.local, "old")
        write_random(source, SIZE, generator, mtime=1000000000)
        write_random(old, 5000, generator)
        took = [scene.copy("--pacing", "60M", source, scene.url("target")).has(OK).seconds
                for _ in range(2)]
        for number in range(KILLS):
            one_kill(scene, source, old, number, generator, min(took))


if __name__ == "__main__":
    sys.exit(run_tests([a_kill_at_any_moment_leaves_the_old_the_new_or_no_file]))
