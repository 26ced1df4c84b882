#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""
One call of the whole command fails, is short or is interrupted: the n-th, for every n until a run ends
without the fault having struck. Client and server in turn, push and pull. Whatever happens: status 0
means an identical file with its attribute, the visible name is never partial, nobody hangs, no process
stays, and a sanitizer, where there is one, finds nothing.

And a receiver on which all calls of a kind fail that change something does not notice in a dry run. And
one that is interrupted while it removes, which takes it long, says what has gone.

Environment: ZEROHAUL the command, ZH_FAULTY the library with the seam in it, ZH_STEP how many n are
passed over between two runs (1: none; default 7).
"""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from scene import COMMAND, Failure, check, run_tests

FAULTY = os.environ["ZH_FAULTY"]
STEP = int(os.environ.get("ZH_STEP", "7"))
SIZE = 2 * 1024 * 1024 + 4097
ATTRIBUTE = "user.note"
DEADLINE_S = 60
QUIET = 120  # numbers without effect after which no call is left to be hit
# What changes something; True: a transfer of the tree below cannot do without it.
CHANGING = {"mkdir": True, "fallocate": True, "pwrite": True, "fsync": True, "rename": True, "fchmod": True,
            "futimens": True, "fsetxattr": True, "fremovexattr": True, "ftruncate": False, "link": False,
            "symlink": True, "unlink": False, "syncfs": True, "fchownat": False}
KINDS = ["EIO", "ENOSPC", "ENOMEM", "ECONNRESET", "EINVAL", "EPERM", "short", "eintr"]


def faulty(environment, call, nth, what, times=1):
    environment = dict(environment)
    environment["LD_PRELOAD"] = FAULTY
    environment["ZEROHAUL_FAULT"] = f"{call}:{nth}:{what}:{times}"
    return environment


def plain():
    environment = dict(os.environ)
    environment.pop("ZEROHAUL_FAULT", None)
    # The command that is broken on purpose leaks when its process is ended from outside.
    environment["ASAN_OPTIONS"] = "detect_leaks=0:abort_on_error=1:verify_asan_link_order=0"
    return environment


def check_reports(text):
    check(not re.search(rb"Sanitizer|runtime error", text),
          "a report: " + text[-2000:].decode(errors="backslashreplace"))


def attribute_of(path):
    try:
        return os.getxattr(path, ATTRIBUTE)
    except OSError:
        return None


class Trials:
    """A root with a server that may be broken and is ended by force, and a local directory."""

    def __init__(self):
        self.base = tempfile.mkdtemp(prefix="zerohaul-faults.")
        self.root = os.path.join(self.base, "root")
        self.local = os.path.join(self.base, "local")
        self.log = os.path.join(self.base, "log")
        os.mkdir(self.root)
        os.mkdir(self.local)
        self.content = os.urandom(SIZE)
        self.old = b"old content\n"
        self.server = None
        self.url = None
        for directory in (self.root, self.local):
            with open(os.path.join(directory, "source"), "wb") as file:
                file.write(self.content)
            with contextlib.suppress(OSError):  # then there is none to be lost
                os.setxattr(os.path.join(directory, "source"), ATTRIBUTE, b"kept")
        self.attribute = attribute_of(os.path.join(self.root, "source"))

    def start_server(self, environment):
        with open(self.log, "wb") as log:
            self.server = subprocess.Popen(
                [COMMAND, "serve", "--root", self.root, "--insecure", "--listen", "127.0.0.1:0"],
                stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True)
        line = self.server.stdout.readline().decode()
        match = re.match(r"listening (\S+)", line)
        self.url = f"zh://{match.group(1)}/" if match else None

    def stop_server(self):
        if self.server is None:
            return
        try:
            os.killpg(self.server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.server.wait()
        self.server.stdout.close()
        self.server = None

    def copy(self, push, environment):
        source = os.path.join(self.local, "source") if push else self.url + "source"
        target = self.url + "target" if push else os.path.join(self.local, "target")
        try:
            done = subprocess.run(
                [COMMAND, "copy", "--insecure", "--quiet", "--xattrs", source, target], env=environment,
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise Failure("the client hangs") from error
        check_reports(done.stderr)
        with open(self.log, "rb") as log:
            check_reports(log.read())
        return done

    def target(self, push):
        return os.path.join(self.root if push else self.local, "target")

    def check(self, push, status):
        path = self.target(push)
        found = None
        if os.path.exists(path):
            with open(path, "rb") as file:
                found = file.read()
        check(status != 0 or found == self.content, "status 0 without the file")
        check(status != 0 or attribute_of(path) == self.attribute, "status 0 without the attribute")
        check(found in (self.content, self.old), "the visible name is partial or gone")
        check(0 <= status <= 125, f"the client died: {status}")

    def renew(self, push):
        for directory in (self.root, self.local):
            shutil.rmtree(os.path.join(directory, ".zerohaul-staging"), ignore_errors=True)
        with open(self.target(push), "wb") as file:
            file.write(self.old)

    def close(self):
        self.stop_server()
        shutil.rmtree(self.base, ignore_errors=True)


def run_one(trials, push, of_server, nth, what, times=1):
    trials.renew(push)
    if of_server:
        trials.stop_server()
        trials.start_server(faulty(plain(), "any", nth, what, times))
        if trials.url is None:
            return None  # it could not even start: nothing to check
        environment = plain()
    else:
        environment = faulty(plain(), "any", nth, what, times)
    status = trials.copy(push, environment).returncode
    trials.check(push, status)
    return status


def sweep(trials, push, of_server):
    """Every STEP-th n with several kinds, until long after the last n that made a difference."""
    if not of_server:
        trials.start_server(plain())
    nth, last, index = 1, 0, 0
    runs = failures = 0
    while nth < last + QUIET:
        kinds = KINDS if STEP == 1 else [KINDS[(index + shift) % len(KINDS)] for shift in (0, 3)]
        for what in kinds:
            try:
                status = run_one(trials, push, of_server, nth, what)
            except Failure as error:
                raise Failure(f"n = {nth}, {what}: {error}") from error
            runs += 1
            if status != 0:
                failures += 1
                last = nth
        nth += STEP
        index += 1
    trials.stop_server()
    check(failures > 0, "no fault ever struck")
    print(f"# {runs} runs, {failures} failed as they should, the last at call {last}")


def promise(of_server, push):
    def test():
        trials = Trials()
        try:
            sweep(trials, push, of_server)
        finally:
            trials.close()

    test.__name__ = f"{'server' if of_server else 'client'} {'push' if push else 'pull'} keeps its promises"
    return test


def make_tree(path, content):
    os.makedirs(os.path.join(path, "deep", "er"))
    for name, size in (("empty", 0), ("small", 5000), ("deep/large", SIZE), ("deep/er/there", 300001)):
        with open(os.path.join(path, name), "wb") as file:
            file.write(content[:size])
    os.symlink("small", os.path.join(path, "link"))
    with contextlib.suppress(OSError):
        os.setxattr(os.path.join(path, "deep/large"), ATTRIBUTE, b"new")


def make_half(path, content):
    """Some of it: what has to be replaced, what is the same with other attributes, no directory `er`."""
    os.makedirs(os.path.join(path, "deep"))
    for name, size in (("small", 5000), ("deep/large", SIZE)):
        with open(os.path.join(path, name), "wb") as file:
            file.write(bytes(5000) if name == "small" else content[:size])
    os.chmod(os.path.join(path, "deep/large"), 0o600)
    with contextlib.suppress(OSError):
        os.setxattr(os.path.join(path, "deep/large"), ATTRIBUTE + ".old", b"old")


class Receiver(Trials):
    """A server and a client with a tree at one and half of it at the other, which receives with a fault."""

    def __init__(self, push, call):
        super().__init__()
        self.push = push
        self.source, self.half = (self.local, self.root) if push else (self.root, self.local)
        make_tree(os.path.join(self.source, "tree"), self.content)
        make_half(os.path.join(self.half, "tree"), self.content)
        broken = faulty(plain(), call, 1, "EIO", 0)
        self.start_server(broken if push else plain())
        self.environment = plain() if push else broken

    def run(self, *options):
        source = os.path.join(self.local, "tree") if self.push else self.url + "tree"
        done = subprocess.run(
            [COMMAND, "copy", "--insecure", "-rl", "--owner", "--xattrs", "--existing=digest", *options, source,
             self.url if self.push else self.local], env=self.environment, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, timeout=DEADLINE_S, check=False)
        check_reports(done.stderr)
        return done


def promise_of_dry_run(push):
    def test():
        for call, needed in CHANGING.items():
            trials = Receiver(push, call)
            try:
                done = trials.run("--dry-run", "--quiet")
                lacking = sorted(line.split()[1] for line in done.stdout.decode().splitlines())
                check(done.returncode == 0, f"{call}: {done.stderr}")
                check(lacking == ["tree/deep/er/there", "tree/empty", "tree/link", "tree/small"],
                      f"{call}: {lacking}")
                status = trials.run().returncode
                needed = needed and (trials.attribute or not call.endswith("xattr"))
                check(status != 0 or not needed, f"{call}: it failed, and a transfer did not notice")
            finally:
                trials.close()

    test.__name__ = f"a dry run of a {'push' if push else 'pull'} makes no call that changes anything"
    return test


STALE = 200


def interrupted_while_it_removes():
    trials = Trials()
    try:
        os.mkdir(os.path.join(trials.root, "tree"))
        stale = os.path.join(trials.local, "tree")
        os.mkdir(stale)
        for number in range(STALE):
            with open(os.path.join(stale, str(number)), "wb"):
                pass
        trials.start_server(plain())
        client = subprocess.Popen(
            [COMMAND, "copy", "--insecure", "--quiet", "--json", "-r", "--delete", trials.url + "tree", trials.local],
            env=faulty(plain(), "unlink", 1, "slow", 0), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            end = time.monotonic() + DEADLINE_S
            while len(os.listdir(stale)) > STALE - 3 and time.monotonic() < end:
                time.sleep(0.01)
            client.send_signal(signal.SIGINT)
            out, err = client.communicate(timeout=DEADLINE_S)
        finally:
            client.kill()
            client.wait()
        check_reports(err)
        gone = STALE - len(os.listdir(stale))
        told = json.loads(out)["report"]["deleted"]
        check(client.returncode == 130, f"status {client.returncode}: {err}")
        check(0 < gone < STALE, f"{gone} have gone")
        check(told == gone, f"{told} are told, {gone} have gone")
    finally:
        trials.close()


interrupted_while_it_removes.__name__ = "what was removed before it was interrupted is told"


def main():
    return run_tests([promise(of_server, push) for of_server in (False, True) for push in (True, False)] +
                     [promise_of_dry_run(push) for push in (True, False)] + [interrupted_while_it_removes])


if __name__ == "__main__":
    sys.exit(main())
