#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Hosts on which things change: the source while it is sent, the space and the permissions of the
destination, a server that is stopped, two clients with one name.
usage: change.py [long | TEST...]
"""

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time

from proxy import DATA, Trickle
from scene import (BUSY, MIB, NOSPACE, OK, PARTIAL, PERM, SRC_CHANGED, SRC_GONE, TIMEOUT, Skip, check,
                   chosen, digest, run_tests, same, scene_of, seed, wait_until, write_random)

SIZE = 24 * MIB


def grow(path, _):
    with open(path, "ab") as file:
        file.write(b"more")


def shrink(path, _):
    os.truncate(path, SIZE // 2 + 5)


def empty(path, _):
    os.truncate(path, 0)


def rewrite(path, generator):
    with open(path, "r+b") as file:
        for at in range(0, SIZE, MIB):
            file.seek(at + generator.randrange(MIB - 16))
            file.write(generator.randbytes(16))


def rewrite_and_hide(path, generator):
    """In place, and the time put back: only the digests can tell, or nothing has to."""
    before = os.stat(path)
    rewrite(path, generator)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replace(path, generator):
    write_random(path + ".new", SIZE, generator)
    os.rename(path + ".new", path)


def remove(path, _):
    os.unlink(path)


def change_while_sent(scene, change, pull, strategy, generator):
    """Sends two files side by side, one of which changes. Returns how it ended."""
    there = scene.root if pull else scene.local
    here = scene.local if pull else scene.root
    source, other = os.path.join(there, "moving"), os.path.join(there, "still")
    write_random(source, SIZE, generator)
    write_random(other, MIB + 3, generator)
    before = digest(source)
    kept = os.path.join(scene.base, "local" if pull else "root", "kept")
    os.link(source, kept)
    arrived = os.path.join(here, "in")
    os.mkdir(arrived)
    operands = ([scene.url("moving"), scene.url("still"), arrived] if pull else
                [source, other, scene.url("in/")])
    copying = scene.start_copy("--pacing", "30M", "--strategy", strategy, *operands)
    time.sleep(generator.uniform(0.15, 0.6))
    change(source, generator)
    done = scene.finish_copy(copying, 60)
    scene.no_session()
    target = os.path.join(arrived, "moving")
    what = f"{change.__name__}, {strategy}, {'pull' if pull else 'push'}"
    check(same(other, os.path.join(arrived, "still")), f"{what}: the other file did not arrive")
    if done.status == OK:
        now = digest(source) if os.path.exists(source) else None
        check(digest(target) in (before, now, digest(kept)), f"{what}: a mixture")
    else:
        check(done.status == PARTIAL, f"{what}: status {done.status} {done.err}")
        failed = done.json["failures"][0]
        check(failed["outcome"] in ("SRC_CHANGED", "SRC_GONE", "SRC_IO"), f"{what}: {failed}")
        check(not os.path.exists(target), f"{what}: a file in spite of it")
    scene.no_staging(here)
    for path in (source, other, kept):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    shutil.rmtree(arrived)
    return done.status


def a_source_that_changes_is_told_and_the_others_arrive():
    generator = random.Random(seed())
    with scene_of() as scene:
        for number, change in enumerate((grow, shrink, empty, rewrite, replace, remove)):
            for pull in (0, 1):
                strategy = ("sendfile", "copy", "splice", "uring-copy")[(number + pull) % 4]
                status = change_while_sent(scene, change, pull, strategy, generator)
                if change in (grow, shrink, empty, rewrite):
                    check(status == PARTIAL, f"{change.__name__} was not noticed")
                else:  # what was opened stays what it was
                    check(status == OK, f"{change.__name__}: status {status}")


def a_change_behind_the_clock_is_consistent_or_told():
    """Size and time say nothing: what arrives is what was read, each leaf at one moment."""
    generator = random.Random(seed() + 1)
    with scene_of() as scene:
        for strategy in ("sendfile", "copy", "splice", "uring-copy"):
            source = os.path.join(scene.local, "moving")
            write_random(source, SIZE, generator)
            with open(source, "rb") as file:
                before = file.read()
            copying = scene.start_copy("--pacing", "30M", "--strategy", strategy, source,
                                       scene.url("f"))
            time.sleep(generator.uniform(0.2, 0.5))
            rewrite_and_hide(source, generator)
            done = scene.finish_copy(copying, 60)
            with open(source, "rb") as file:
                after = file.read()
            if done.status != OK:
                check(done.status == SRC_CHANGED, f"{strategy}: {done.status} {done.err}")
                continue
            with open(os.path.join(scene.root, "f"), "rb") as file:
                arrived = file.read()
            for at in range(0, SIZE, MIB):
                leaf = arrived[at:at + MIB]
                check(leaf in (before[at:at + MIB], after[at:at + MIB]), f"{strategy}: torn at {at}")


def a_source_that_is_not_there_fails_alone():
    generator = random.Random(seed() + 2)
    with scene_of() as scene:
        os.mkdir(os.path.join(scene.root, "in"))
        paths = [os.path.join(scene.local, name) for name in "abc"]
        for path in paths[:2]:
            write_random(path, 100000, generator)
        done = scene.copy(*paths, scene.url("in/")).has(PARTIAL)
        check([failure["outcome"] for failure in done.json["failures"]] == ["SRC_GONE"], "not that")
        check(scene.names(os.path.join(scene.root, "in")) == ["a", "b"], "the others did not arrive")
        scene.copy(paths[2], scene.url("x")).has(SRC_GONE)


def two_sources_of_one_name_are_refused_beforehand():
    generator = random.Random(seed() + 3)
    with scene_of() as scene:
        for directory in ("a", "b"):
            os.mkdir(os.path.join(scene.local, directory))
            write_random(os.path.join(scene.local, directory, "f"), 1000, generator)
        os.mkdir(os.path.join(scene.root, "in"))
        sources = [os.path.join(scene.local, directory, "f") for directory in ("a", "b")]
        done = scene.copy(*sources, scene.url("in/")).has(1)
        check("same name" in done.err, done.err)
        check(not scene.names(os.path.join(scene.root, "in")), "something arrived")


@contextlib.contextmanager
def small_disk(megabytes):
    """A file system of its own, root's to make."""
    if os.geteuid() != 0:
        raise Skip("only root can mount")
    base = os.path.join(os.environ.get("TMPDIR", "/var/tmp"), f"zerohaul-disk.{os.getpid()}")
    os.mkdir(base)
    try:
        if subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "none", base],
                          check=False, capture_output=True).returncode != 0:
            raise Skip("mounting is not permitted")
        try:
            yield base
        finally:
            subprocess.run(["umount", base], check=True)
    finally:
        os.rmdir(base)


def used(path):
    fs = os.statvfs(path)
    return (fs.f_blocks - fs.f_bfree) * fs.f_bsize


def a_disk_that_is_full_is_told_and_left_as_it_was():
    generator = random.Random(seed() + 4)
    with small_disk(40) as disk, scene_of(root=os.path.join(disk, "root")) as scene:
        source, other = os.path.join(scene.local, "f"), os.path.join(scene.local, "other")
        small, large = os.path.join(scene.local, "small"), os.path.join(scene.local, "large")
        for path, megabytes in ((source, 30), (other, 30), (small, 1), (large, 50)):
            write_random(path, megabytes * MIB, generator)
        before = used(disk)
        # too large from the start
        scene.copy(large, scene.url("large")).has(NOSPACE)
        scene.no_session()
        check(used(disk) <= before + 65536, "space was not given back")
        # somebody else fills it in the middle
        copying = scene.start_copy("--pacing", "15M", source, scene.url("f"))
        time.sleep(0.5)
        with contextlib.suppress(OSError), open(os.path.join(disk, "filler"), "wb") as filler:
            while True:
                filler.write(b"x" * 65536)
        scene.finish_copy(copying, 60).has(NOSPACE)
        scene.no_session()
        check(not scene.names(), "a file appeared")
        scene.no_staging()
        os.unlink(os.path.join(disk, "filler"))
        check(used(disk) <= before + 65536, "space was not given back")
        scene.copy(source, scene.url("f")).has(OK)
        # one that does not fit does not take another along
        done = scene.copy(other, small, scene.url("/")).has(PARTIAL)
        check(done.json["failures"][0]["outcome"] == "NOSPACE", "not NOSPACE")
        check(same(small, os.path.join(scene.root, "small")), "the small one did not arrive")


def a_root_that_is_read_only_is_told():
    generator = random.Random(seed() + 5)
    with small_disk(8) as disk, scene_of(root=os.path.join(disk, "root")) as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 100000, generator)
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        try:
            scene.copy(source, scene.url("f")).has(PERM)
        finally:
            subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
        scene.copy(source, scene.url("f")).has(OK)


def two_clients_with_one_name_never_make_a_mixture():
    generator = random.Random(seed() + 6)
    with scene_of() as scene:
        one, two = os.path.join(scene.local, "one"), os.path.join(scene.local, "two")
        write_random(one, 6 * MIB, generator, mtime=1000000000)
        write_random(two, 6 * MIB, generator, mtime=1000000000)
        target = os.path.join(scene.root, "f")
        ends = {OK: 0, BUSY: 0}
        for number in range(16):
            if number == 8:  # no longer the same size and time: two staging files
                os.utime(two, (1, 1))
            copies = [scene.start_copy("--durability", "none", source, scene.url("f"))
                      for source in (one, two)]
            statuses = [scene.finish_copy(copying, 60).has(OK, BUSY).status for copying in copies]
            for status in statuses:
                ends[status] += 1
            check(OK in statuses, "neither got through")
            check(same(one, target) or same(two, target), "a mixture")
            scene.no_session()
            scene.no_staging()
            os.unlink(target)
        print(f"# {ends[OK]} got through, {ends[BUSY]} were told to wait")


def no_clobber_lets_one_of_two_clients_win():
    generator = random.Random(seed() + 7)
    with scene_of() as scene:
        one, two = os.path.join(scene.local, "one"), os.path.join(scene.local, "two")
        write_random(one, 2 * MIB, generator)
        write_random(two, 3 * MIB, generator)
        target = os.path.join(scene.root, "f")
        for _ in range(8):
            copies = [scene.start_copy("--no-clobber", "--durability", "none", source, scene.url("f"))
                      for source in (one, two)]
            statuses = [scene.finish_copy(copying, 60).has(OK, 30).status for copying in copies]
            check(sorted(statuses) == [OK, 30], f"{statuses}")
            check(same((one, two)[statuses.index(OK)], target), "not the winner's")
            os.unlink(target)


def a_server_that_is_stopped_times_out():
    generator = random.Random(seed() + 8)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 40 * MIB, generator)
        copying = scene.start_copy("--pacing", "5M", source, scene.url("f"))
        wait_until(scene.session, 5, "a session")
        time.sleep(0.5)
        pid = scene.session()
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(60, os.kill, (pid, signal.SIGCONT))
        timer.start()
        try:
            done = scene.finish_copy(copying, 90).has(TIMEOUT)
            check(done.seconds <= 45, f"after {done.seconds:.0f} s")
        finally:
            timer.cancel()
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        scene.no_session(10)
        scene.copy(source, scene.url("f")).has(OK)
        scene.no_staging()


def a_server_that_was_stopped_for_a_while_goes_on():
    generator = random.Random(seed() + 9)
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 20 * MIB, generator)
        copying = scene.start_copy("--pacing", "10M", source, scene.url("f"))
        wait_until(scene.session, 5, "a session")
        time.sleep(0.5)
        pid = scene.session()
        os.kill(pid, signal.SIGSTOP)
        time.sleep(5)
        os.kill(pid, signal.SIGCONT)
        scene.finish_copy(copying, 60).has(OK)
        check(same(source, os.path.join(scene.root, "f")), "it differs")


def a_slow_data_connection_does_not_hold_up_the_other_files():
    generator = random.Random(seed() + 10)
    with scene_of() as scene, Trickle(scene.port, 16384, 0.002, (DATA,)) as proxy:
        os.mkdir(os.path.join(scene.root, "in"))
        sources = [os.path.join(scene.local, f"f{number}") for number in range(20)]
        for source in sources:
            write_random(source, generator.randrange(300000), generator)
        scene.copy("--streams", "3", *sources, scene.url("in/", proxy.port)).has(OK)
        for source in sources:
            check(same(source, os.path.join(scene.root, "in", os.path.basename(source))), source)


LONG = [a_server_that_is_stopped_times_out]
TESTS = [
    a_source_that_changes_is_told_and_the_others_arrive,
    a_change_behind_the_clock_is_consistent_or_told,
    a_source_that_is_not_there_fails_alone,
    two_sources_of_one_name_are_refused_beforehand,
    a_disk_that_is_full_is_told_and_left_as_it_was,
    a_root_that_is_read_only_is_told,
    two_clients_with_one_name_never_make_a_mixture,
    no_clobber_lets_one_of_two_clients_win,
    a_server_that_was_stopped_for_a_while_goes_on,
    a_slow_data_connection_does_not_hold_up_the_other_files,
]

if __name__ == "__main__":
    if sys.argv[1:] == ["long"]:
        sys.exit(run_tests(LONG))
    sys.exit(run_tests(chosen(TESTS + LONG) if sys.argv[1:] else TESTS))
