#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The public face is one list: what the library exports, what its map names and what its header
declares.   usage: symbols.py ROOT LIBRARY
"""
import re
import shutil
import subprocess
import sys

import tree

HEADER = "engine/include/zerohaul.h"
MAP = "engine/zerohaul.map"
MOST = 40


def declared(text):
    """Names with their lines of all ZH_API declarations."""
    code = tree.c_code(text)
    code = re.sub(r"^[ \t]*#.*$", lambda found: tree.blank(found.group()), code, flags=re.M)
    return {
        found.group(1): tree.line_at(code, found.start())
        for found in re.finditer(r"\bZH_API\b[^;{}]*?\b(zh_\w+)\s*\(", code)
    }


def mapped(text):
    """Names with their lines of the global part of the map."""
    names, visible = {}, False
    for number, line in enumerate(re.sub(r"/\*.*?\*/", "", text, flags=re.S).split("\n"), 1):
        word = line.strip()
        if word in ("global:", "local:"):
            visible = word == "global:"
        elif visible and word.endswith(";"):
            names[word[:-1]] = number
    return names


def exported(library):
    output = subprocess.run(
        ["nm", "-D", "--defined-only", library], check=True, capture_output=True, text=True
    ).stdout
    words = [line.split() for line in output.splitlines()]
    # A stands for absolute: the name of the version itself.
    return {word[-1].split("@")[0] for word in words if word[-2] != "A"}


def compare(findings, path, have, other_path, other):
    for name in sorted(set(other) - set(have)):
        findings.add(path, 1, f"lacks {name}, which {other_path} has")


def main():
    root, library = sys.argv[1:3]
    if not shutil.which("nm"):
        tree.skip("no nm")
    findings = tree.Findings()
    header = declared(tree.read(root, HEADER))
    listed = mapped(tree.read(root, MAP))
    real = exported(library)
    compare(findings, MAP, listed, HEADER, header)
    compare(findings, HEADER, header, MAP, listed)
    compare(findings, "the library", real, MAP, listed)
    compare(findings, MAP, listed, "the library", real)
    if len(header) > MOST:
        findings.add(HEADER, 1, f"{len(header)} symbols are public; {MOST} are to be enough")
    if not header:
        findings.add(HEADER, 1, "no ZH_API declaration was found")
    findings.end()


if __name__ == "__main__":
    main()
