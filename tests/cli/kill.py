#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
kill -9 at random moments: of the client, of the server with its sessions, or of both, in the middle of a
push or a pull. Afterwards the visible name is absent, old or complete, what is left over lies in the
staging directory, and a later copy succeeds and clears it.

Environment: ZEROHAUL the command, ZH_SEED, ZH_KILLS how often (default 50).
"""

import filecmp
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

COMMAND = os.environ["ZEROHAUL"]
KILLS = int(os.environ.get("ZH_KILLS", "50"))
MIB = 1 << 20
SIZE = 96 * MIB + 17
STAGING = ".zerohaul-staging"


class Failed(Exception):
    """A promise was broken."""


class Scene:
    def __init__(self, generator):
        self.base = tempfile.mkdtemp(prefix="zerohaul-kill.", dir=os.environ.get("TMPDIR", "/var/tmp"))
        self.root = os.path.join(self.base, "root")
        self.local = os.path.join(self.base, "local")
        os.mkdir(self.root)
        os.mkdir(self.local)
        self.old = os.path.join(self.base, "old")
        with open(self.old, "wb") as file:
            file.write(b"what was there before\n")
        block = generator.randbytes(MIB)
        for directory in (self.root, self.local):
            with open(os.path.join(directory, "source"), "wb") as file:
                for index in range(SIZE // MIB):
                    file.write(index.to_bytes(8, "little") + block[8:])
                file.write(block[:SIZE % MIB])
        self.server = None

    def start_server(self):
        self.server = subprocess.Popen(
            [COMMAND, "serve", "--root", self.root, "--insecure", "--listen", "127.0.0.1:0"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True)
        line = self.server.stdout.readline().decode()
        return "zh://" + re.match(r"listening (\S+)", line).group(1) + "/"

    def kill_server(self):
        """Listener and sessions; a process of the group that stays is a broken promise."""
        if self.server is None:
            return
        group = self.server.pid
        for _ in range(200):
            try:
                os.killpg(group, signal.SIGKILL)
            except ProcessLookupError:
                break
            self.server.poll()
            time.sleep(0.01)
        else:
            raise Failed("a process of the server cannot be killed")
        self.server.wait()
        self.server.stdout.close()
        self.server = None

    def operands(self, push, url):
        if push:
            return [os.path.join(self.local, "source"), url + "target"]
        return [url + "source", os.path.join(self.local, "target")]

    def start_copy(self, push, url):
        return subprocess.Popen([COMMAND, "copy", "--insecure", "--quiet", *self.operands(push, url)],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def directory(self, push):
        return self.root if push else self.local

    def prepare(self, push, with_old):
        target = os.path.join(self.directory(push), "target")
        if with_old:
            shutil.copy(self.old, target)
        elif os.path.exists(target):
            os.unlink(target)

    def check(self, push, with_old, done):
        directory = self.directory(push)
        target = os.path.join(directory, "target")
        source = os.path.join(directory, "source")
        strange = set(os.listdir(directory)) - {"source", "target", STAGING}
        if strange:
            raise Failed(f"left outside staging: {strange}")
        if not os.path.exists(target):
            if with_old or done:
                raise Failed("the visible name is gone")
        elif not filecmp.cmp(target, source, shallow=False):
            if done or not with_old or not filecmp.cmp(target, self.old, shallow=False):
                raise Failed("the visible name is neither old nor complete")

    def check_later(self, push):
        url = self.start_server()
        try:
            client = self.start_copy(push, url)
            if client.wait(timeout=60) != 0:
                raise Failed(f"a later copy fails with {client.returncode}")
        finally:
            self.kill_server()
        self.check(push, True, True)
        if os.path.exists(os.path.join(self.directory(push), STAGING)):
            raise Failed("a later copy leaves staging behind")

    def close(self):
        self.kill_server()
        shutil.rmtree(self.base, ignore_errors=True)


def duration(scene, push):
    """How long a whole copy takes here, so that the moments lie inside it."""
    scene.prepare(push, False)
    url = scene.start_server()
    start = time.monotonic()
    status = scene.start_copy(push, url).wait(timeout=120)
    passed = time.monotonic() - start
    scene.kill_server()
    if status != 0:
        raise Failed(f"a copy without a kill fails with {status}")
    return passed


def one(scene, generator, push, whole):
    with_old = generator.random() < 0.5
    victim = generator.choice(["client", "server", "both"])
    moment = generator.uniform(0, whole * 1.1)
    scene.prepare(push, with_old)
    url = scene.start_server()
    client = scene.start_copy(push, url)
    time.sleep(moment)
    if victim != "server":
        client.kill()
    if victim != "client":
        scene.kill_server()
    try:
        status = client.wait(timeout=60)
    except subprocess.TimeoutExpired as error:
        client.kill()
        client.wait()
        raise Failed("the client hangs after the server is gone") from error
    if victim == "client":
        # The session notices, and ends by itself.
        for _ in range(300):
            children = subprocess.run(["pgrep", "-P", str(scene.server.pid)], check=False,
                                      stdout=subprocess.DEVNULL).returncode
            if children != 0:
                break
            time.sleep(0.02)
        else:
            raise Failed("the session does not end after its client")
        scene.kill_server()
    scene.check(push, with_old, status == 0)
    scene.check_later(push)
    return victim, moment, status


def main():
    seed = int(os.environ.get("ZH_SEED", random.randrange(1 << 32)))
    generator = random.Random(seed)
    print(f"1..2\n# ZH_SEED={seed}")
    broken = False
    for number, push in enumerate((True, False), 1):
        scene = Scene(generator)
        name = "push" if push else "pull"
        cut = 0
        try:
            whole = duration(scene, push)
            for index in range(KILLS // 2):
                try:
                    victim, moment, status = one(scene, generator, push, whole)
                except Failed as error:
                    raise Failed(f"kill {index}: {error}") from error
                cut += status != 0
            if cut == 0:
                raise Failed("no kill struck in time")
            print(f"# {KILLS // 2} kills, {cut} of them before the end")
            print(f"ok {number} - a {name} survives being killed", flush=True)
        except Failed as error:
            broken = True
            print(f"# {error}\nnot ok {number} - a {name} survives being killed", flush=True)
        finally:
            scene.close()
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
