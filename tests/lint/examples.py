#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The examples in README.md and libzerohaul(3) compile without a warning, and whole programs link.
usage: examples.py ROOT MAN_PAGE LIBRARY COMPILER...
"""
import os
import re
import subprocess
import sys
import tempfile

import tree

README = "README.md"
FLAGS = "-std=gnu17 -Wall -Wextra -Werror -Wno-missing-prototypes".split()
# A library that was built with a sanitizer needs more than an example that was not.
LINK_FLAGS = ["-Wl,--unresolved-symbols=ignore-in-shared-libs"]


def of_markdown(text):
    """Yields (line, code) of each block that is marked as C."""
    for found in re.finditer(r"^```c\n(.*?)^```$", text, re.M | re.S):
        yield tree.line_at(text, found.start()) + 1, found.group(1)


def of_page(text):
    """The same of a manual page: the literal blocks that include something."""
    for found in re.finditer(r"^\.Bd -literal[^\n]*\n(.*?)^\.Ed$", text, re.M | re.S):
        code = found.group(1).replace("\\e", "\\").replace("\\&", "").replace("\\-", "-")
        if "#include" in code:
            yield tree.line_at(text, found.start()) + 1, code


def compile_one(root, library, compiler, code, directory):
    source = os.path.join(directory, "example.c")
    with open(source, "w", encoding="utf-8") as file:
        file.write(code)
    command = [*compiler, *FLAGS, "-I", os.path.join(root, "engine/include"), source]
    if re.search(r"\bmain\s*\(", code):
        command += [*LINK_FLAGS, "-o", os.path.join(directory, "example"), library]
    else:
        command += ["-fsyntax-only"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def main():
    root, page, library, *compiler = sys.argv[1:]
    findings = tree.Findings()
    with tempfile.TemporaryDirectory() as directory:
        for path, text, blocks in (
            (README, tree.read(root, README), of_markdown),
            (os.path.basename(page), tree.read("", page), of_page),
        ):
            seen = 0
            for line, code in blocks(text):
                seen += 1
                result = compile_one(root, library, compiler, code, directory)
                if result.returncode != 0:
                    first = result.stderr.strip().split("\n")[0].replace(directory + os.sep, "")
                    findings.add(path, line, f"the example does not compile: {first}")
            if not seen:
                findings.add(path, 1, "there is no example")
    findings.end()


if __name__ == "__main__":
    main()
