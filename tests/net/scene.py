# SPDX-License-Identifier: Apache-2.0
"""
What the tests of this directory share: a server on a free loopback port, copies by the command, the
checks after each test, and TAP.

Environment: ZEROHAUL the command, ZH_SEED of everything random, TMPDIR (a disk; /var/tmp).
"""

import contextlib
import hashlib
import json
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
MIB = 1 << 20
STAGING = ".zerohaul-staging"

OK, PARTIAL, PROTO = 0, 3, 11
SRC_CHANGED, SRC_GONE = 20, 22
NOSPACE, PERM, VERIFY = 31, 33, 35
NET, TIMEOUT, BUSY = 40, 41, 42
OUTCOMES = {0, 1, 2, 3, 10, 11, 12, 13, 14, 15, 20, 21, 22, 30, 31, 32, 33, 34, 35, 40, 41, 42, 43, 70}


class Failure(Exception):
    """A promise was not kept."""


class Skip(Exception):
    """This host cannot show it."""


def check(condition, text):
    if not condition:
        raise Failure(text)


def seed():
    """The seed of this run, printed by run_tests."""
    return int(os.environ.setdefault("ZH_SEED", str(random.randrange(1 << 32))))


def write_random(path, size, generator, mtime=None):
    """Content in which no two blocks are equal, so that exchanged ones are noticed."""
    block = generator.randbytes(min(size, MIB))
    with open(path, "wb") as file:
        for at in range(0, size, MIB):
            part = generator.randbytes(16) + block[16:]
            file.write(part[:min(MIB, size - at)])
    if mtime is not None:
        os.utime(path, (mtime, mtime))


def digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") \
            else hashlib.sha256(file.read()).hexdigest()


def children(pid):
    """Processes that a process has started and that are still there."""
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(word) for word in file.read().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def wait_until(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        check(time.monotonic() < end, f"not within {seconds} s: {what}")
        time.sleep(0.01)


class Done:
    """How a copy ended."""

    def __init__(self, status, out, err, seconds):
        self.status, self.seconds = status, seconds
        self.err = err.decode(errors="backslashreplace").strip()
        self.raw_out, self.raw_err = out, err
        try:
            self.json = json.loads(out)
        except ValueError:
            self.json = None

    def has(self, *statuses):
        check(self.status in statuses, f"status {self.status}, not {statuses}: {self.err}")
        return self


class Scene:
    """A directory with root/ (the server's), local/ (the client's) and a canary. user: whose they and
    the processes are, when not ours."""

    def __init__(self, *serve_options, root=None, user=None):
        self.base = tempfile.mkdtemp(prefix="zerohaul-net.", dir=os.environ.get("TMPDIR", "/var/tmp"))
        os.chmod(self.base, 0o755)
        self.root, self.local = root or os.path.join(self.base, "root"), os.path.join(self.base, "local")
        self.canary = os.path.join(self.base, "canary")
        for directory in (self.root, self.local):
            os.makedirs(directory)
            if user is not None:
                os.chown(directory, user, user)
        self.identity = {} if user is None else {"user": user, "group": user, "extra_groups": []}
        with open(self.canary, "w", encoding="ascii") as file:
            file.write("do not touch")
        self.options = serve_options
        self.server = None
        self.log = os.path.join(self.base, "log")
        self.serve()

    def serve(self):
        with open(self.log, "ab") as log:
            self.server = subprocess.Popen(
                [COMMAND, "serve", "--root", self.root, "--insecure", "--listen", "127.0.0.1:0",
                 *self.options], stdout=subprocess.PIPE, stderr=log, **self.identity)
        line = self.server.stdout.readline().decode()
        self.port = int(re.match(r"listening 127\.0\.0\.1:(\d+)", line).group(1))

    def url(self, name="", port=None):
        return f"zh://127.0.0.1:{port or self.port}/{name}"

    def start_copy(self, *operands):
        return subprocess.Popen([COMMAND, "copy", "--insecure", "--json", *operands],
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, **self.identity)

    def finish_copy(self, process, seconds=60, started=None):
        started = started or time.monotonic()
        try:
            out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired as error:
            process.kill()
            process.communicate()
            raise Failure(f"the copy hangs: {seconds} s") from error
        return Done(process.returncode, out, err, time.monotonic() - started)

    def copy(self, *operands, seconds=60):
        started = time.monotonic()
        return self.finish_copy(self.start_copy(*operands), seconds, started)

    def session(self):
        """The only session process, or None."""
        sessions = children(self.server.pid)
        return sessions[0] if sessions else None

    def no_session(self, seconds=5):
        wait_until(lambda: not children(self.server.pid), seconds, "the sessions end")

    def names(self, directory=None):
        return sorted(name for name in os.listdir(directory or self.root) if name != STAGING)

    def no_staging(self, directory=None):
        check(not os.path.exists(os.path.join(directory or self.root, STAGING)),
              "staging is left behind")

    def only_partials(self, directory=None):
        """After a broken session: at most what a later copy of the same file takes up."""
        staging = os.path.join(directory or self.root, STAGING)
        for name in os.listdir(staging) if os.path.isdir(staging) else []:
            check(name.endswith(".part"), f"{name} in staging")

    def kill_server(self):
        self.server.kill()
        self.server.wait()
        self.server.stdout.close()

    def close(self):
        """Ends the server, and says what is wrong with what it leaves."""
        problems = []
        if self.server.poll() is None:
            self.server.send_signal(signal.SIGCONT)
            self.server.terminate()
            try:
                self.server.wait(timeout=15)
            except subprocess.TimeoutExpired:
                problems.append("the server does not end")
                self.server.kill()
                self.server.wait()
        self.server.stdout.close()
        with open(self.canary, encoding="ascii") as file:
            if file.read() != "do not touch":
                problems.append("the canary was touched")
        if set(os.listdir(self.base)) - {"root", "local", "canary", "log"}:
            problems.append("something appeared outside the root")
        with open(self.log, "rb") as file:
            log = file.read()
        if re.search(rb"Sanitizer|runtime error|[\x00-\x08\x0b-\x1f\x7f-\xff]", log):
            problems.append("the log: " + log[-2000:].decode(errors="backslashreplace"))
        shutil.rmtree(self.base, ignore_errors=True)
        if processes_with(self.base) or processes_with(self.root):
            problems.append("a process is left")
        check(not problems, "; ".join(problems))


def processes_with(text):
    """Processes that have this on their command line."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            with contextlib.suppress(OSError):
                with open(f"/proc/{entry}/cmdline", "rb") as file:
                    if text.encode() in file.read():
                        found.append(int(entry))
    return found


@contextlib.contextmanager
def scene_of(*serve_options, root=None, user=None):
    scene = Scene(*serve_options, root=root, user=user)
    try:
        yield scene
    except BaseException:
        with contextlib.suppress(Failure):
            scene.close()
        raise
    scene.close()


def same(path, other):
    """Byte for byte. Not by filecmp, which believes what it found for files of such size and time."""
    try:
        with open(path, "rb") as one, open(other, "rb") as two:
            while True:
                piece = one.read(MIB)
                if piece != two.read(MIB):
                    return False
                if not piece:
                    return True
    except FileNotFoundError:
        return False


def run_tests(tests):
    """Runs functions whose names are promises; what main returns to the system."""
    print(f"1..{len(tests)}\n# ZH_SEED={seed()}", flush=True)
    failed = 0
    for number, test in enumerate(tests, 1):
        name = test.__name__
        started = time.monotonic()
        try:
            test()
            print(f"ok {number} - {name}")
        except Skip as skip:
            print(f"ok {number} - {name} # SKIP {skip}")
        except Exception as error:  # whatever it was, the other tests go on
            failed += 1
            print(f"not ok {number} - {name}")
            text = str(error) if isinstance(error, Failure) else repr(error)
            print("\n".join("# " + line for line in text.split("\n")))
        print(f"# {time.monotonic() - started:.1f} s", flush=True)
    return 1 if failed else 0


def chosen(tests):
    """Those named on the command line, or all."""
    return [test for test in tests if not sys.argv[1:] or test.__name__ in sys.argv[1:]]
