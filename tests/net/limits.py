#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
What a transfer may cost: memory, descriptors, threads. Each figure is of the two processes that do
it, whatever the size and the number of the files.
usage: limits.py [TEST...]
"""

import os
import random
import sys
import threading
import time

from scene import (COMMAND, MIB, OK, check, children, chosen, run_tests, same, scene_of, seed,
                   write_random)

GIB = 1 << 30
# A sanitizer has shadows and threads of its own.
BARE = not os.environ.get("ZH_SANITIZED")


def peak(done, side):
    return done.json["report"][side]["max_rss_bytes"] / MIB


def a_large_file_takes_little_memory_with_each_strategy():
    with scene_of() as scene:
        source = os.path.join(scene.local, "sparse")
        with open(source, "wb") as file:
            file.truncate(GIB)
        for send, receive in (("sendfile", "copy"), ("splice", "splice"), ("copy", "uring-direct"),
                              ("uring-copy", "uring-direct")):
            done = scene.copy("--strategy", send, "--receive-strategy", receive,
                              "--durability", "none", source, scene.url("f"), seconds=120).has(OK)
            sizes = peak(done, "sender"), peak(done, "receiver")
            print(f"# {send} to {receive}: {sizes[0]:.0f} and {sizes[1]:.0f} MiB")
            check(os.path.getsize(os.path.join(scene.root, "f")) == GIB, "not all of it")
            if BARE:
                check(max(sizes) <= 68, f"{send} to {receive}: {max(sizes):.0f} MiB")
            os.unlink(os.path.join(scene.root, "f"))


class Watch(threading.Thread):
    """Looks at a process and keeps the largest figures."""

    def __init__(self, find):
        super().__init__(daemon=True)
        self.find = find
        self.fds = self.threads = 0
        self.over = False

    def run(self):
        while not self.over:
            for pid in self.find():
                try:
                    self.fds = max(self.fds, len(os.listdir(f"/proc/{pid}/fd")))
                    self.threads = max(self.threads, len(os.listdir(f"/proc/{pid}/task")))
                except OSError:
                    pass
            time.sleep(0.005)


def watched_copy(scene, *operands):
    copying = scene.start_copy(*operands)
    both = (Watch(lambda: children(scene.server.pid)), Watch(lambda: [copying.pid]))
    for watch in both:
        watch.start()
    done = scene.finish_copy(copying, 120)
    for watch in both:
        watch.over = True
        watch.join()
    return (done, *both)


def descriptors_and_threads_grow_with_the_streams_only():
    generator = random.Random(seed())
    with scene_of() as scene:
        source = os.path.join(scene.local, "f")
        write_random(source, 64 * MIB, generator)
        for streams in (1, 4, 64):
            for receive in ("copy", "splice", "uring-direct", "direct"):
                done, session, client = watched_copy(
                    scene, "--streams", str(streams), "--receive-strategy", receive, source,
                    scene.url("f"))
                done.has(OK)
                check(done.json["report"]["streams"] == streams, "not that many streams")
                check(same(source, os.path.join(scene.root, "f")), "it differs")
                # asked for or fallen back to: each of its streams has a second thread that writes
                used = done.json["report"]["receiver"]["stats"]["strategy"]
                for who, watch in (("session", session), ("client", client)):
                    what = f"{who}, {streams} streams, {receive}"
                    print(f"# {what}: {watch.fds} descriptors, {watch.threads} threads")
                    check(watch.fds > 0, f"{what}: not seen")
                    check(watch.fds <= 32 + 4 * streams, f"{what}: {watch.fds} descriptors")
                    # beside the streams: control, committing; the kernel's own are not listed
                    most = (2 if who == "session" and used == "direct" else 1) * streams + 4
                    if BARE:
                        check(watch.threads <= most, f"{what}: {watch.threads} threads")
                if BARE:
                    check(peak(done, "receiver") <= 64 + 4 * streams,
                          f"{peak(done, 'receiver'):.0f} MiB, {streams} streams, {receive}")


def many_small_files_take_little():
    generator = random.Random(seed() + 1)
    with scene_of() as scene:
        os.mkdir(os.path.join(scene.root, "in"))
        names = [f"n{number}" for number in range(4000)]
        for name in names:
            write_random(os.path.join(scene.local, name), generator.randrange(3000), generator)
        sources = [os.path.join(scene.local, name) for name in names]
        back = os.path.join(scene.local, "back")
        os.mkdir(back)
        for operands, target in (((*sources, scene.url("in/")), os.path.join(scene.root, "in")),
                                 ((*(scene.url("in/" + name) for name in names), back), back)):
            done, session, client = watched_copy(
                scene, "--streams", "4", "--durability", "none", *operands)
            done.has(OK)
            for source, name in zip(sources, names):
                check(same(source, os.path.join(target, name)), f"{name} differs")
            for who, watch in (("session", session), ("client", client)):
                print(f"# {who}: {watch.fds} descriptors")
                # up to 64 files are open at once
                check(watch.fds <= 32 + 4 * 4 + 64, f"{who}: {watch.fds} descriptors")
            sizes = peak(done, "sender"), peak(done, "receiver")
            print(f"# {sizes[0]:.0f} and {sizes[1]:.0f} MiB")
            if BARE:
                check(max(sizes) <= 64, f"{max(sizes):.0f} MiB")
        scene.no_staging(back)


def one_stream_too_many_is_refused_clearly():
    with scene_of() as scene:
        done = scene.copy("--streams", "65", COMMAND, scene.url("f"))
        check(done.status in (1, 13), f"status {done.status}")
        check("64" in done.err and len(done.err.split("\n")) == 1, done.err)
        check(not scene.names(), "a file appeared")


def files_of_all_sizes_share_four_streams():
    generator = random.Random(seed() + 2)
    sizes = [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 8 * MIB - 1, 8 * MIB, 8 * MIB + 1,
             16 * MIB, 33 * MIB + 5] + [generator.randrange(3 * MIB) for _ in range(40)]
    with scene_of() as scene:
        os.mkdir(os.path.join(scene.root, "in"))
        sources = [os.path.join(scene.local, f"f{number}") for number in range(len(sizes))]
        for source, size in zip(sources, sizes):
            write_random(source, size, generator)
        back = os.path.join(scene.local, "back")
        os.mkdir(back)
        scene.copy("--streams", "4", *sources, scene.url("in/")).has(OK)
        pulled = [scene.url("in/" + os.path.basename(source)) for source in sources]
        scene.copy("--streams", "4", *pulled, back).has(OK)
        for source in sources:
            name = os.path.basename(source)
            check(same(source, os.path.join(scene.root, "in", name)), f"{name} differs")
            check(same(source, os.path.join(back, name)), f"{name} differs")
        scene.no_staging(back)


if __name__ == "__main__":
    sys.exit(run_tests(chosen([
        a_large_file_takes_little_memory_with_each_strategy,
        descriptors_and_threads_grow_with_the_streams_only,
        many_small_files_take_little,
        one_stream_too_many_is_refused_clearly,
        files_of_all_sizes_share_four_streams,
    ])))
