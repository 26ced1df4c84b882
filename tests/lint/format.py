#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Every C file is as .clang-format has it.   usage: format.py ROOT

Versions of clang-format disagree about the same .clang-format; one of them decides.
"""
import re
import shutil
import subprocess
import sys

import tree

VERSION = "14"


def main():
    root = sys.argv[1]
    if not shutil.which("clang-format"):
        tree.skip("no clang-format")
    version = subprocess.run(
        ["clang-format", "--version"], capture_output=True, text=True, check=True
    ).stdout
    if not re.search(rf"\bversion {VERSION}\.", version):
        tree.skip(f"the tree is formatted by clang-format {VERSION}, here is {version.strip()}")
    findings = tree.Findings()
    paths = [path for path in tree.files(root) if tree.is_c(path)]
    if not paths:
        findings.add(".", 1, "no C file was found")
        findings.end()
    result = subprocess.run(
        ["clang-format", "--dry-run", "-Werror", *paths],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    told = set()
    for line in result.stderr.splitlines():
        found = re.match(r"(?:\./)?([^:]+):(\d+):\d+: error: ", line)
        if found and found.group(1) not in told:
            # The first place of each file is enough.
            told.add(found.group(1))
            findings.add(found.group(1), found.group(2), "not as clang-format has it, from here on")
    if result.returncode != 0 and not told:
        findings.add(".", 1, "clang-format failed: " + result.stderr.strip()[:200])
    findings.end()


if __name__ == "__main__":
    main()
