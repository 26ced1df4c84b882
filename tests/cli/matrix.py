#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Files of awkward sizes go both ways through every pair of strategies that stores them, by the command,
and arrive byte-identical: sizes up to 16 MiB + 17, and 200 random ones spread over all pairs. With
"large" instead 1 GiB and 5 GiB + 3, one at a time: TMPDIR has to have room for the source and one copy,
else it is skipped with that reason.
usage: matrix.py [large] [SEND RECEIVE]      a pair: only this one
"""

import json
import os
import random
import shutil
import subprocess
import sys

from scene import COMMAND, MIB, OK, check, run_tests, same, scene_of, seed, write_random

GIB = 1 << 30
SMALL = [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 16 * MIB + 17]
LARGE = [GIB, 5 * GIB + 3]
ROOM = 2 * max(LARGE) + GIB


def strategies(side):
    """Names, from the command itself."""
    text = subprocess.run([COMMAND, "probe", "--json"], check=True, capture_output=True).stdout
    return [row["name"] for row in json.loads(text)["strategies"] if row["side"] == side]


def all_pairs():
    """Each sending strategy with each that stores."""
    return [(send, receive) for send in strategies("send")
            for receive in strategies("receive") if receive != "discard"]


def rounds(large, pairs, generator):
    """Yields (pair, sizes)."""
    for sizes in [[size] for size in LARGE] if large else [SMALL]:
        for pair in pairs:
            yield pair, sizes
    if not large:
        sizes = [generator.randrange(0, 4 * MIB) for _ in range(200)]
        for index, pair in enumerate(pairs):
            yield pair, sizes[index::len(pairs)]


def prepare(directory, sizes, generator):
    """Files of these sizes and no others; returns their names."""
    names = {f"file-{size}": size for size in sizes}
    for name in set(os.listdir(directory)) - set(names):
        os.unlink(os.path.join(directory, name))
    for name in set(names) - set(os.listdir(directory)):
        write_random(os.path.join(directory, name), names[name], generator)
    return list(names)


def transfer(scene, pair, sources, to, arrived):
    send, receive = pair
    scene.copy("--strategy", send, "--receive-strategy", receive, *sources, to,
               seconds=1800).has(OK)
    for name in os.listdir(os.path.join(scene.local, "here")):
        check(same(os.path.join(scene.local, "here", name), os.path.join(arrived, name)),
              f"{name} differs in {arrived}")
    scene.no_staging(arrived)


def round_trip(scene, pair, names):
    here, there = os.path.join(scene.local, "here"), os.path.join(scene.root, "there")
    back = os.path.join(scene.local, "back")
    os.mkdir(there)
    os.mkdir(back)
    try:
        transfer(scene, pair, [os.path.join(here, name) for name in names], scene.url("there/"), there)
        for name in names:  # room for what comes back
            os.unlink(os.path.join(there, name))
            os.link(os.path.join(here, name), os.path.join(there, name))
        transfer(scene, pair, [scene.url("there/" + name) for name in names], back, back)
    finally:
        shutil.rmtree(there)
        shutil.rmtree(back)


def promise(scene, pair, sizes, generator):
    def test():
        names = prepare(os.path.join(scene.local, "here"), sizes, generator)
        round_trip(scene, pair, names)

    test.__name__ = f"{pair[0]} to {pair[1]}, {len(sizes)} files up to {max(sizes)} bytes"
    return test


def main(arguments):
    large = arguments[:1] == ["large"]
    pairs = [tuple(arguments[large:])] if arguments[large:] else all_pairs()
    generator = random.Random(seed())
    with scene_of() as scene:
        if large and shutil.disk_usage(scene.base).free < ROOM:
            print(f"1..0 # SKIP less than {ROOM // GIB} GiB free in TMPDIR")
            return 0
        os.mkdir(os.path.join(scene.local, "here"))
        return run_tests([promise(scene, pair, sizes, generator)
                          for pair, sizes in rounds(large, pairs, generator)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
