#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every check can fail: each is given a small tree that is right, then the same with one thing
wrong, and has to tell them apart.   usage: selftest.py ROOT COMPILER...     Speaks TAP.
"""
import json
import os
import subprocess
import sys
import tempfile

import tree

HERE = os.path.dirname(os.path.abspath(__file__))
SPDX = "/* SPDX-License-Identifier: Apache-2.0 */\n"
HASH = "# SPDX-License-Identifier: Apache-2.0\n"

GOOD = {
    "README.md": "# Sample\n\n[plan](docs/architecture.md#rooms)\n\n```c\n#include <zerohaul.h>\n\n"
    "int main(void)\n{\n\tzh_one();\n\treturn zh_two();\n}\n```\n",
    "docs/architecture.md": "# Plan\n\n## Rooms\n\n`engine/base/sys.c`, `base/sys.{c,h}`, "
    "`move/strategies/*.c`, `build/x` and [up](../README.md).\n",
    "docs/decisions/0001-first.md": "# First\n",
    "engine/meson.build": "files('base/sys.c', 'kernel/ring.c', 'move/plan.c', 'session/wire.c',\n"
    "  'move/strategies/copy_send.c', 'move/strategies/splice_send.c')\n",
    "engine/base/sys.h": SPDX + "int sys_open(const char *name);\n",
    "engine/base/sys.c": SPDX + '#include "base/sys.h"\n\n#include <errno.h>\n'
    "#include <fcntl.h>\n\n"
    "int sys_open(const char *name)\n{\n\tint fd = open(name, O_RDONLY);\n"
    "\treturn fd < 0 ? -errno : fd;\n}\n",
    "engine/base/util.h": SPDX + "#include <stdint.h>\n",
    "engine/kernel/ring.h": SPDX + '#include "base/util.h"\n',
    "engine/kernel/ring.c": SPDX + '#include "kernel/ring.h"\n\n#include <liburing.h>\n',
    "engine/move/channel.h": SPDX + '#include "kernel/ring.h"\n',
    "engine/move/plan.c": SPDX + '#include "base/sys.h"\n\nint plan_make(int facts)\n{\n'
    '\treturn facts;\n}\n\nint plan_gather(void)\n{\n\treturn sys_open("x");\n}\n',
    "engine/move/strategies/copy_send.c": SPDX + '#include "move/channel.h"\n\n'
    "int copy_send_admit(int (*facts)(void))\n{\n\treturn facts ? 0 : -1;\n}\n",
    "engine/move/strategies/splice_send.c": SPDX + '#include "move/channel.h"\n',
    "engine/store/root.h": SPDX + '#include "base/util.h"\n',
    "engine/session/wire.h": SPDX + '#include "base/util.h"\n',
    "engine/session/wire.c": SPDX + '#include "session/wire.h"\n\n#include <errno.h>\n',
    "engine/include/zerohaul.h": SPDX + "#define ZH_API\n/* ZH_API void zh_not(void); */\n"
    "ZH_API void zh_one(void);\nZH_API int zh_two(void);\n",
    "engine/zerohaul.map": "V_1 {\nglobal:\n\tzh_one;\n\tzh_two;\nlocal:\n\t*;\n};\n",
    "man/sample.5": '.\\" SPDX-License-Identifier: Apache-2.0\n.Dd November 22, 2026\n'
    ".Dt SAMPLE 5\n.Os\n.Sh NAME\n.Nm sample\n.Nd nothing but a sample\n"
    ".Sh DESCRIPTION\nNothing.\n",
    "tests/run": "#!/bin/sh\n" + HASH + 'echo "${TMPDIR:-/var/tmp}"\n',
    "tests/unit/meson.build": "foreach name : ['wire']\n  name + '_test.c'\nendforeach\n",
    "tests/unit/wire_test.c": SPDX + "int x;\n",
    "tools/meson.build": "executable('zerohaul', 'zerohaul.c')\n",
    "tools/zerohaul.c": SPDX + "#include <zerohaul.h>\n",
}

PAGE = """.\\" SPDX-License-Identifier: Apache-2.0
.Bd -literal -offset indent
#include <stdio.h>
#include <zerohaul.h>

void example(void)
{
\tprintf("one\\en");
\tzh_one();
}
.Ed
"""


# A run that is let in: of one cell, in one round. The schemas here ask for less than those of bench/schema.
RUN = "results/box/run-1/"
RECORD = {"type": "object", "required": ["run"], "properties": {"round": {"type": "integer"}}}
GOOD.update({f"bench/schema/{name}.json": json.dumps(RECORD) + "\n"
             for name in ("plan", "machine", "summary", "trial", "canary")})
GOOD.update({
    "results/README.md": "# Results\n",
    RUN + "plan.json": json.dumps({"run": "run-1", "commit": "0123abc", "dirty": False, "blocks": [
        {"name": "A", "rounds": 1, "cells": [{"id": "copy"}]}]}) + "\n",
    RUN + "machine.json": '{"run": "run-1", "commit": "0123abc", "dirty": false}\n',
    RUN + "trials.jsonl": '{"run": "run-1", "block": "A", "cell": {"id": "copy"}, "round": 1}\n',
    RUN + "summary.json": '{"run": "run-1"}\n',
    RUN + "SUMMARY.md": "# Run run-1\n\n| | GB/s |\n|---|---|\n| copy | 1.5 |\n",
    RUN + "report.html": "<title>run-1</title>\n",
    "docs/figures.md": "# Speed\n\nBy run run-1:\n\n| | GB/s |\n|---|---|\n| copy | 1.5 |\n",
})


def put(text):
    """The file is this instead."""
    return lambda old: text


def add(text):
    """This comes at its end."""
    return lambda old: old + text


def change(old_part, new_part):
    def apply(old):
        assert old_part in old, old_part
        return old.replace(old_part, new_part)

    return apply


CHANNEL = "engine/move/channel.h"
COPY = "engine/move/strategies/copy_send.c"
HEADER = "engine/include/zerohaul.h"
WIRE = "engine/session/wire.c"
FIGURES = "docs/figures.md"
TABLE = "\n## More\n\n| | {} |\n|---|---|\n| copy | 2.5 |\n"

# (check, file, what is done to it, what has to be found)
CASES = (
    ("layers", "engine/kernel/ring.h", add('#include "move/channel.h"\n'), "kernel includes move"),
    ("layers", CHANNEL, add('#include "store/root.h"\n'), "move includes store"),
    ("layers", "engine/store/root.h", add('#include "move/channel.h"\n'), "store includes move"),
    ("layers", "engine/store/root.h", add('#include "session/wire.h"\n'), "store includes session"),
    ("layers", CHANNEL, add('#include "elsewhere.h"\n'), "is no header of the engine"),
    ("layers", CHANNEL, add("#include <liburing.h>\n"), "includes <liburing.h>"),
    ("layers", CHANNEL, add("#include <liburing/io_uring.h>\n"), "includes <liburing/io_uring.h>"),
    ("layers", COPY, add("int f(int fd)\n{\n\treturn tee(fd, fd, 1, 0);\n}\n"), "calls tee"),
    ("layers", COPY, add("int f(void)\n{\n\treturn errno;\n}\n"), "reads errno"),
    ("layers", COPY, add('void f(void)\n{\n\tprintf("x");\n}\n'), "calls printf"),
    ("layers", COPY, add("int f(void)\n{\n\treturn fork();\n}\n"), "calls fork"),
    ("layers", COPY, change("return facts", "return sys_open(0) + facts"), "admit is to be pure"),
    ("layers", COPY, add("extern int splice_send;\n"), "names splice_send"),
    ("layers", COPY, add('#include "kernel/ring.h"\n#include "move/plan.h"\n'), "has no business"),
    ("layers", "engine/move/strategies/copy.h", put(SPDX), "strategies have no headers"),
    ("layers", "engine/move/plan.c", change("return facts;", "return sys_open(0);"), "plan_make"),
    ("layers", WIRE, add('#include "base/sys.h"\n'), "includes base/sys.h"),
    ("layers", "engine/session/wire.h", add('#include "kernel/ring.h"\n'), "pure, and includes k"),
    ("layers", WIRE, add("#include <unistd.h>\n"), "includes <unistd.h>"),
    ("layers", "engine/base/util.c", put(SPDX), "drop its exception"),
    ("layers", "engine/other/x.c", put(SPDX), "lies in no room"),
    ("layers", "tools/zerohaul.c", add('#include "base/sys.h"\n'), "only <zerohaul.h>"),
    ("layers", "tools/zerohaul.c", add('#include "../engine/include/zerohaul.h"\n'), "only <zero"),
    ("layers", "tools/meson.build", add("x(include: engine_include)\n"), "shows more"),
    ("layers", "bench/case.c", put('#include "move/channel.h"\n'), "only <zerohaul.h>"),
    ("symbols", HEADER, add("ZH_API const char *zh_three(\n\tint a);\n"), "lacks zh_three"),
    ("symbols", HEADER, change("ZH_API int zh_two(void);", ""), "lacks zh_two"),
    ("symbols", "engine/zerohaul.map", change("\tzh_two;\n", ""), "lacks zh_two"),
    ("symbols", "engine/zerohaul.map", change("zh_two;", "zh_two;\n\tzh_four;"), "lacks zh_four"),
    ("symbols", HEADER, add("ZH_API int zh_a%s(void);\n" * 41 % tuple(range(41))), "43 symbols"),
    ("format", COPY, add("int  x;\n"), "not as clang-format has it"),
    ("tidy", "engine/move/new.c", put(SPDX), "is in no meson.build"),
    ("tidy", "tests/unit/link_test.c", put(SPDX), "is in no meson.build"),
    ("tidy", COPY, add("#if " + "0\n#endif\n"), "disabled code"),
    ("tidy", COPY, add("/* TO" + "DO: later */\n"), "left to be done"),
    ("tidy", "tests/run", add("# FIX" + "ME\n"), "left to be done"),
    ("tidy", COPY, change(SPDX, "/* copy_send.c */\n" + SPDX), "does not begin with"),
    ("tidy", "tests/run", change(HASH, ""), "does not begin with"),
    ("tidy", "man/sample.5", change('.\\" SPDX', '.\\" Licence'), "does not begin with"),
    ("tidy", COPY, add("/* " + "x" * 105 + " */\n"), "111 columns"),
    ("tidy", COPY, add("\t" * 14 + "int x;\n"), "118 columns"),
    ("tidy", "README.md", add("text \n"), "a blank at the end"),
    ("tidy", COPY, add("int x;\r\n"), "a blank at the end"),
    ("tidy", COPY, add("int x;"), "no newline"),
    ("words", "README.md", add("see /wo" + "rk/tree\n"), "a path of one machine"),
    ("words", COPY, add("/* /ho" + "me/me/x */\n"), "a path of one machine"),
    ("words", "README.md", add("cd /tm" + "p/build\n"), "temporary files"),
    ("words", COPY, add('char *x = "/var/tm' + 'p/x";\n'), "temporary files"),
    ("words", COPY, add("/* Copy" + "right of somebody */\n"), "a notice"),
    ("words", "README.md", add("<<<<<<" + "< mine\n"), "a conflict"),
    ("shell", "tests/run", add("rm $1\n"), "SC2086"),
    ("shell", "tests/other.sh", put("#!/bin/sh\nif true; then\n"), "tests/other.sh"),
    ("links", "README.md", add("[gone](docs/gone.md)\n"), "leads nowhere"),
    ("links", "docs/architecture.md", add("[out](../../x)\n"), "leads nowhere"),
    ("links", "README.md", add("[room](docs/architecture.md#room)\n"), "has no heading #room"),
    ("links", "docs/architecture.md", add("`engine/base/gone.c`\n"), "there is no engine/b"),
    ("links", "docs/architecture.md", add("`base/sys.{c,x}`\n"), "there is no base/sys.{c,x}"),
    ("links", "docs/architecture.md", add("`move/gone/*.c`\n"), "there is no move/gone"),
    ("links", "docs/architecture.md", add("`tests/gone all`\n"), "there is no tests/gone"),
    ("pages", "man/sample.5", add(".Xy\n"), "unknown macro"),
    ("pages", "man/built/sample.1", put("@PART@\n"), "was not filled in"),
    ("results", RUN + "trials.jsonl", put(""), "lacks 1 trials"),
    ("results", RUN + "trials.jsonl", change('"round": 1', '"round": "1"'), "round: '1' is not of"),
    ("results", RUN + "trials.jsonl", change("run-1", "run-2"), "is of run run-2"),
    ("results", RUN + "trials.jsonl", add('{"run": '), "cannot be read"),
    ("results", RUN + "trials.jsonl.gz", put("no gzip"), "cannot be read"),
    ("results", RUN + "plan.json", change("false", "true"), "a clean commit"),
    ("results", RUN + "machine.json", change('"0123abc"', "null"), "a clean commit"),
    ("results", RUN + "summary.json", put("{}\n"), "'run' is a required property"),
    ("results", RUN + "report.html", put("<title>run</title>\n"), "does not name its run"),
    ("results", RUN + "gbench.json", put('{"context": {"host_name": "box"}}\n'), "names a host"),
    ("results", RUN + "notes.txt", put("run-1\n"), "is no file of a run"),
    ("results", "results/box/run-2/plan.json", put('{"run": "run-2"}\n'), "trials.jsonl:1: is missing"),
    ("results", "results/box/notes.md", put("notes\n"), "lies beside the runs"),
    ("results", FIGURES, change("run run-1", "run run-2"), "a table of measurements"),
    ("results", FIGURES, add(TABLE.format("CPU s/GB")), "a table of measurements"),
    ("results", FIGURES, add(TABLE.format("wall time, s")), "a table of measurements"),
    ("results", "README.md", add("\nIt does 7.5 GB/s.\n"), "7.5 GB/s without run or commit"),
    ("results", "results/README.md", add("\nIt costs 0.2 CPU s/GB.\n"), "0.2 CPU s/GB without"),
    ("examples", "README.md", change("zh_two()", "zh_three()"), "does not compile"),
    ("examples", "README.md", change("zh_one();", "int unused;"), "does not compile"),
    ("examples", "README.md", change("```c", "```"), "there is no example"),
    ("examples", "man/built/lib.3", change("zh_one", "zh_gone"), "does not compile"),
)

# Right, although it looks like something wrong.
INNOCENT = (
    ("layers", COPY, add('/* write(1) and errno */\nchar *x = "open(2)";\n'), None),
    ("layers", COPY, add("int f(struct s *s)\n{\n\treturn s->open(1);\n}\n"), None),
    ("tidy", COPY, add("/* TO" + "DO: see docs/decisions/0001-first.md */\n"), None),
    ("tidy", COPY, add("/* " + "x" * 94 + " */\n"), None),
    ("words", "tests/run", add('x=$(mktemp -d "${TMPDIR:-/tm' + 'p}/x.XXXXXX")\n'), None),
    ("words", "README.md", add("results of wo" + "rk/ in $HOME/wo" + "rk/x\n"), None),
    ("results", FIGURES, add(TABLE.format("GB/s") + "\nSeen at commit 0123abcdef.\n"), None),
    ("results", FIGURES, add(TABLE.format("class")), None),
    ("results", FIGURES, add("\n## Limits\n\nBelow 26 MB/s it waits.\n\n```\n7.5 GB/s\n```\n"), None),
    ("results", RUN + "plots/a.svg", put("<svg>run-1</svg>\n"), None),
    ("results", RUN + "gbench.json", put('{"context": {"host_name": ""}}\n'), None),
    ("results", RUN + "canaries.jsonl", put('{"run": "run-1"}\n'), None),
    ("links", "README.md", add("```\n[gone](gone.md)\n```\n[web](https://example.org/x)\n"), None),
)


class Bench:
    """A directory with the sample tree, and how each check is run on it."""

    def __init__(self, root, compiler, directory):
        self.compiler = compiler
        self.tree = os.path.join(directory, "tree")
        self.library = os.path.join(directory, "libsample.so")
        self.good = dict(GOOD)
        self.good[".clang-format"] = tree.read(root, ".clang-format")
        self.good["man/built/lib.3"] = PAGE
        self.build_library(directory)

    def build_library(self, directory):
        source = os.path.join(directory, "sample.c")
        version = os.path.join(directory, "sample.map")
        with open(source, "w", encoding="utf-8") as file:
            file.write("void zh_one(void) {}\nint zh_two(void) { return 0; }\nint own;\n")
        with open(version, "w", encoding="utf-8") as file:
            file.write(GOOD["engine/zerohaul.map"])
        link = ["-shared", "-fPIC", f"-Wl,--version-script={version}", "-o", self.library, source]
        subprocess.run([*self.compiler, *link], check=True)

    def lay_out(self, files):
        subprocess.run(["rm", "-rf", self.tree], check=True)
        for path, text in files.items():
            whole = os.path.join(self.tree, path)
            os.makedirs(os.path.dirname(whole), exist_ok=True)
            with open(whole, "w", encoding="utf-8", newline="") as file:
                file.write(text)

    def run(self, check):
        built = os.path.join(self.tree, "man/built")
        more = {
            "symbols": [self.library],
            "pages": [built],
            "examples": [os.path.join(built, "lib.3"), self.library, *self.compiler],
        }.get(check, [])
        if check == "pages":
            subprocess.run(["rm", "-f", os.path.join(built, "lib.3")], check=True)
        program = os.path.join(HERE, check + ".py")
        return subprocess.run(
            [sys.executable, program, self.tree, *more], capture_output=True, text=True, check=False
        )

    def try_case(self, check, path, edit, expected):
        """Returns None, the reason for skipping, or raises AssertionError."""
        files = dict(self.good)
        if path:
            files[path] = edit(files.get(path, ""))
        self.lay_out(files)
        result = self.run(check)
        said = result.stdout + result.stderr
        if result.returncode == tree.SKIPPED:
            return said.strip()
        if expected is None:
            assert result.returncode == 0, f"status {result.returncode}: {said}"
        else:
            assert result.returncode == 1, f"status {result.returncode}: {said}"
            assert expected in said, f"'{expected}' is not in: {said}"
            assert not path or os.path.basename(path) in said or check == "symbols", said
        return None


def main():
    root, *compiler = sys.argv[1:]
    checks = sorted({case[0] for case in CASES})
    cases = [(check, None, None, None) for check in checks] + [*CASES, *INNOCENT]
    wrong = 0
    print(f"1..{len(cases)}")
    with tempfile.TemporaryDirectory() as directory:
        bench = Bench(root, compiler, directory)
        for number, (check, path, edit, expected) in enumerate(cases, 1):
            name = f"{check}: {path or 'a tree that is right'}"
            if path:
                name += f", {expected}" if expected else ", innocent"
            name = name.replace("#", "")
            try:
                skipped = bench.try_case(check, path, edit, expected)
            except AssertionError as error:
                wrong += 1
                print(f"not ok {number} - {name}")
                print("".join(f"# {line}\n" for line in str(error).splitlines()), end="")
                continue
            print(f"ok {number} - {name}" + (f" # SKIP {skipped}" if skipped else ""))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
