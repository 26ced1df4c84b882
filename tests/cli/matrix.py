#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
Files of awkward sizes go both ways through every pair of strategies that stores them, by the command,
and arrive byte-identical. Without arguments: sizes up to 16 MiB + 17 and 200 random ones. With "large": 1 GiB
and 5 GiB + 3 (needs 11 GiB in TMPDIR, else it is skipped with that reason).

Environment: ZEROHAUL the command, ZH_SEED of the random sizes.
"""

import filecmp
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile

COMMAND = os.environ["ZEROHAUL"]
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SMALL = [0, 1, 4095, 4096, 4097, MIB - 1, MIB, MIB + 1, 16 * MIB + 17]
LARGE = [GIB, 5 * GIB + 3]


def strategies():
    """Names of the sending and of the storing receiving strategies, from the command itself."""
    text = subprocess.run([COMMAND, "probe", "--json"], check=True, capture_output=True).stdout
    rows = __import__("json").loads(text)["strategies"]
    send = [row["name"] for row in rows if row["side"] == "send"]
    receive = [row["name"] for row in rows if row["side"] == "receive" and row["name"] != "discard"]
    return send, receive


def write_random(path, size, generator):
    with open(path, "wb") as file:
        block = generator.randbytes(min(size, 4 * MIB) or 1)
        while size > 0:
            # Each block differs in its first bytes, so that exchanged blocks are noticed.
            part = generator.randbytes(16) + block[16:]
            file.write(part[:min(size, len(part))])
            size -= min(size, len(part))


class Scene:
    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="zerohaul-matrix.", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.root = os.path.join(self.base, "root")
        self.there = os.path.join(self.root, "there")
        self.here = os.path.join(self.base, "here")
        self.back = os.path.join(self.base, "back")
        for directory in (self.root, self.there, self.here, self.back):
            os.mkdir(directory)
        self.server = subprocess.Popen(
            [COMMAND, "serve", "--root", self.root, "--insecure", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        line = self.server.stdout.readline().decode()
        self.url = "zh://" + re.match(r"listening (\S+)", line).group(1) + "/there/"

    def round_trip(self, send, receive, names):
        """Push all, compare, pull all, compare. Returns what went wrong, or None."""
        wishes = ["--insecure", "--quiet", "--strategy", send, "--receive-strategy", receive]
        push = [os.path.join(self.here, name) for name in names] + [self.url]
        pull = [self.url + name for name in names] + [self.back + "/"]
        for operands, arrived in ((push, self.there), (pull, self.back)):
            done = subprocess.run([COMMAND, "copy", *wishes, *operands], check=False,
                                  capture_output=True, timeout=1800)
            if done.returncode != 0:
                return f"status {done.returncode}: {done.stderr.decode(errors='replace').strip()}"
            for name in names:
                if not filecmp.cmp(os.path.join(self.here, name), os.path.join(arrived, name),
                                   shallow=False):
                    return f"{name} differs"
            if os.path.exists(os.path.join(arrived, ".zerohaul-staging")):
                return "staging is left behind"
        for name in names:
            os.unlink(os.path.join(self.there, name))
            os.unlink(os.path.join(self.back, name))
        return None

    def close(self):
        self.server.terminate()
        self.server.wait()
        self.server.stdout.close()
        shutil.rmtree(self.base, ignore_errors=True)


def rounds(large, pairs, generator):
    """Yields (pair, sizes): the fixed sizes for each pair, and the random ones spread over all."""
    if large:
        for pair in pairs:
            for size in LARGE:
                yield pair, [size]
        return
    for pair in pairs:
        yield pair, SMALL
    sizes = [generator.randrange(0, 4 * MIB) for _ in range(200)]
    for index, pair in enumerate(pairs):
        yield pair, sizes[index::len(pairs)]


def main():
    large = sys.argv[1:] == ["large"]
    seed = int(os.environ.get("ZH_SEED", random.randrange(1 << 32)))
    generator = random.Random(seed)
    send, receive = strategies()
    scene = Scene()
    if large and shutil.disk_usage(scene.base).free < 20 * GIB:
        scene.close()
        print("1..0 # SKIP less than 20 GiB free in TMPDIR")
        return 0
    made = {}
    failed = 0
    work = list(rounds(large, [(s, r) for s in send for r in receive], generator))
    print(f"1..{len(work)}\n# ZH_SEED={seed}")
    try:
        for number, ((sender, receiver), sizes) in enumerate(work, 1):
            for size in sizes:
                name = f"file-{size}"
                if name not in made:
                    made[name] = write_random(os.path.join(scene.here, name), size, generator)
            wrong = scene.round_trip(sender, receiver, [f"file-{size}" for size in dict.fromkeys(sizes)])
            failed += wrong is not None
            print(f"{'not ok' if wrong else 'ok'} {number} - {sender} to {receiver}, "
                  f"{len(sizes)} files up to {max(sizes)} bytes", flush=True)
            if wrong:
                print(f"# {wrong}", flush=True)
    finally:
        scene.close()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
