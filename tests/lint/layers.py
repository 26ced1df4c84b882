#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Who may include whom, who may call the system, and what is pure.   usage: layers.py ROOT

The rules are the tables below; docs/architecture.md says why they are so.
"""
import os
import re
import sys

import tree

# What a room may include, beside itself and the public header.
ROOMS = {
    "base": {"base"},
    "kernel": {"base", "kernel"},
    "move": {"base", "kernel", "move"},
    "store": {"base", "kernel", "store"},
    "session": {"base", "kernel", "move", "store", "session"},
    "include": set(),
}

LIBURING = re.compile(r"liburing(?:/.*)?\.h")
ONLY_WITH_LIBURING = "kernel/ring.c"
THE_SEAM = "base/sys.c"

# Calls that move or place bytes, or name what does: made in base/sys.c, where tests break them.
CALLS = """
    accept accept4 bind cachestat chmod close connect copy_file_range creat dup dup2 dup3
    epoll_create1 epoll_ctl epoll_wait eventfd fallocate fchmod fchmodat fchown fcntl fdatasync
    fgetxattr flistxattr flock fopen fread fremovexattr fsetxattr fstat fstatat fstatfs fsync
    ftruncate futimens fwrite getdents64 getpeername getsockname getsockopt getxattr ioctl lgetxattr
    link linkat listen listxattr llistxattr lremovexattr lseek lsetxattr lstat madvise memfd_create
    mincore mkdir mkdirat mlock mmap mprotect msync munmap open openat openat2 opendir pipe pipe2
    poll posix_fadvise posix_fallocate ppoll pread preadv preadv2 pwrite pwritev pwritev2 read
    readahead readdir readlink readlinkat readv recv recvfrom recvmmsg recvmsg removexattr rename
    renameat renameat2 rmdir select send sendfile sendmmsg sendmsg sendto setsockopt setxattr
    shutdown socket socketpair splice stat statfs statx symlink symlinkat sync sync_file_range
    syncfs syscall tee truncate unlink unlinkat utimensat vmsplice write writev
""".split()

# (file, call): why it is not in the seam.
EXCEPTIONS = {
    ("kernel/block.c", "madvise"): "asks for huge pages; to be refused is an answer like another",
    ("kernel/probe.c", "memfd_create"): "a file that exists only while the kernel is tried out",
}

# Calls about processes: one per session, and only the listener makes them.
PROCESS_CALLS = "fork vfork clone execve kill waitpid waitid wait prctl signal sigaction".split()
PROCESS_FILES = {"session/server.c"}

# A library does none of these; CHECK, which ends the program, is base/util.c.
UNSOCIAL_CALLS = """
    abort exit _exit quick_exit printf fprintf vprintf vfprintf puts fputs putchar perror sleep
    usleep nanosleep clock_nanosleep
""".split()
UNSOCIAL_EXCEPTIONS = {
    ("base/util.c", "abort"): "the end of a failed CHECK",
    ("base/util.c", "fprintf"): "the line that says which CHECK failed",
    ("session/server.c", "_exit"): "the end of a session's own process",
}

# Files with no system behind them, not even through what they include.
PURE = """
    base/err.c base/err.h base/leaf.c base/leaf.h base/stats.c base/stats.h base/util.h
    kernel/facts.h move/calibrate.c move/calibrate.h move/plan.h move/strategy.c move/strategy.h
    session/holes.c session/holes.h session/lane.c session/lane.h session/limits.c
    session/limits.h session/schedule.c session/schedule.h session/states.c session/states.h
    session/wire.c session/wire.h
""".split()
IMPURE_HEADERS = """
    base/sys.h base/clock.h kernel/block.h kernel/file.h kernel/map.h kernel/pipe.h kernel/probe.h
    kernel/ring.h kernel/sock.h
""".split()
PURE_SYSTEM_HEADERS = """
    errno.h inttypes.h limits.h stdarg.h stdbool.h stddef.h stdint.h stdio.h stdlib.h string.h
    sys/types.h xxhash.h xxh_x86dispatch.h
""".split()

# plan.c asks the system in one function only; the rest of it decides.
PLAN_FILE = "move/plan.c"
PLAN_GATHERS = "plan_gather"
ASKS_THE_SYSTEM = re.compile(r"\b(?:sys|sock|probe|ring|pipe|block|file|channel)_\w+\s*\(")

STRATEGIES = "move/strategies/"
# What several strategies have in common lies beside them, never in one of them.
STRATEGY_MAY_INCLUDE = re.compile(
    r"(?:base|kernel)/\w+\.h|move/(?:channel|ordered_send|reader|strategy|writer)\.h"
)

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)


def includes(text):
    """Yields (line, quoted?, name) of each #include."""
    for found in INCLUDE.finditer(tree.c_without_comments(text)):
        yield tree.line_at(text, found.start()), found.group(1) == '"', found.group(2)


def calls(code, names):
    """Yields (line, name) where one of names is called, not a member or a function of ours."""
    pattern = re.compile(r"(?<![\w.>])(" + "|".join(names) + r")\s*\(")
    for found in pattern.finditer(code):
        yield tree.line_at(code, found.start()), found.group(1)


class Engine:
    def __init__(self, root, findings):
        self.root = root
        self.findings = findings
        self.text = {
            path[len("engine/") :]: tree.read(root, path)
            for path in tree.files(root)
            if path.startswith("engine/") and tree.is_c(path)
        }
        self.code = {path: tree.c_code(text) for path, text in self.text.items()}

    def add(self, path, line, what):
        self.findings.add("engine/" + path, line, what)

    def check_includes(self, path):
        room = path.split("/")[0]
        for line, quoted, name in includes(self.text[path]):
            if LIBURING.fullmatch(name) and path != ONLY_WITH_LIBURING:
                self.add(path, line, f"includes <{name}>, which only {ONLY_WITH_LIBURING} may")
            if not quoted or name == "zerohaul.h":
                continue
            other = name.split("/")[0]
            if other not in ROOMS or name not in self.text:
                self.add(path, line, f'"{name}" is no header of the engine')
            elif other not in ROOMS[room]:
                self.add(path, line, f"{room} includes {other}, above or beside it")

    def check_calls(self, path):
        if path == THE_SEAM:
            return
        for line, name in calls(self.code[path], CALLS):
            if (path, name) not in EXCEPTIONS:
                self.add(path, line, f"calls {name}, which is for {THE_SEAM}")
        for line, name in calls(self.code[path], PROCESS_CALLS):
            if path not in PROCESS_FILES:
                self.add(path, line, f"calls {name}, which is for the listener")
        for line, name in calls(self.code[path], UNSOCIAL_CALLS):
            if (path, name) not in UNSOCIAL_EXCEPTIONS:
                self.add(path, line, f"calls {name}: the engine prints, sleeps and exits never")
        for found in re.finditer(r"\berrno\b(?!\.h)", self.code[path]):
            line = tree.line_at(self.code[path], found.start())
            self.add(path, line, f"reads errno, which is for {THE_SEAM}")

    def check_exceptions(self):
        """An exception that nobody needs is one that somebody may use unseen."""
        for path, name in [*EXCEPTIONS, *UNSOCIAL_EXCEPTIONS]:
            if path in self.code and not list(calls(self.code[path], [name])):
                self.add(path, 1, f"does not call {name} any more: drop its exception")

    def reach(self, path):
        """Every header of the engine that path includes, however far down."""
        seen, todo = set(), [path]
        while todo:
            for _, quoted, name in includes(self.text.get(todo.pop(), "")):
                if quoted and name in self.text and name not in seen:
                    seen.add(name)
                    todo.append(name)
        return seen

    def check_pure(self, path):
        for header in sorted(self.reach(path) & set(IMPURE_HEADERS)):
            self.add(path, 1, f"is to be pure, and includes {header}")
        for line, quoted, name in includes(self.text[path]):
            if not quoted and name not in PURE_SYSTEM_HEADERS:
                self.add(path, line, f"is to be pure, and includes <{name}>")

    def check_functions(self, path):
        """plan_make decides and asks nothing; the same holds for every admit."""
        for name, line, body in tree.c_functions(self.code[path]):
            decides = path == PLAN_FILE and name != PLAN_GATHERS
            admits = path.startswith(STRATEGIES) and name.endswith("_admit")
            asked = ASKS_THE_SYSTEM.search(body)
            if (decides or admits) and asked:
                self.add(path, line, f"{name} is to be pure, and calls {asked.group().strip()}")

    def check_strategy(self, path, others):
        for line, quoted, name in includes(self.text[path]):
            if quoted and not STRATEGY_MAY_INCLUDE.fullmatch(name):
                self.add(path, line, f'a strategy has no business with "{name}"')
        for other in others:
            for found in re.finditer(rf"\b{other}\w*\b", self.code[path]):
                line = tree.line_at(self.code[path], found.start())
                self.add(path, line, f"names {found.group()} of another strategy")

    def check(self):
        strategies = [
            os.path.splitext(os.path.basename(path))[0]
            for path in self.text
            if path.startswith(STRATEGIES)
        ]
        for path in sorted(self.text):
            if path.split("/")[0] not in ROOMS:
                self.add(path, 1, "lies in no room of the engine")
                continue
            self.check_includes(path)
            self.check_calls(path)
            self.check_functions(path)
            if path in PURE:
                self.check_pure(path)
            if path.startswith(STRATEGIES) and path.endswith(".h"):
                self.add(path, 1, "strategies have no headers")
            elif path.startswith(STRATEGIES):
                mine = os.path.splitext(os.path.basename(path))[0]
                self.check_strategy(path, [other for other in strategies if other != mine])
        self.check_exceptions()


def check_outside(root, findings):
    """The command and the benchmarks see the engine as everybody does: <zerohaul.h>."""
    engine = set(ROOMS) - {"include"}
    for path in tree.files(root):
        if not path.startswith(("tools/", "bench/")):
            continue
        text = tree.read(root, path)
        if os.path.basename(path) == "meson.build":
            for found in re.finditer(r"\b(engine_include|engine_test_dep)\b", text):
                line = tree.line_at(text, found.start())
                findings.add(path, line, f"{found.group()} shows more than <zerohaul.h>")
        if not tree.is_c(path):
            continue
        for line, quoted, name in includes(text):
            parts = name.split("/")
            if parts[0] in engine or "engine" in parts or (quoted and name == "zerohaul.h"):
                findings.add(path, line, f"includes {name}: of the engine only <zerohaul.h>")


def main():
    root = sys.argv[1]
    findings = tree.Findings()
    Engine(root, findings).check()
    check_outside(root, findings)
    findings.end()


if __name__ == "__main__":
    main()
