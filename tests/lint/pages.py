#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""mandoc has nothing to say about any manual page, as built.   usage: pages.py ROOT MAN_DIRECTORY

Pages of man/ that need no building are checked where they are.
"""
import os
import re
import shutil
import subprocess
import sys

import tree

PAGE = re.compile(r".+\.[1-9]$")
# Our own pages are not installed while they are tested.
OF_THE_HOST = re.compile(r"referenced manual not found|outdated mandoc\.db")


def pages(root, built):
    for directory in (built, os.path.join(root, "man")):
        for name in sorted(os.listdir(directory)) if os.path.isdir(directory) else []:
            if PAGE.fullmatch(name):
                yield name, os.path.join(directory, name)


def main():
    root, built = sys.argv[1:3]
    if not shutil.which("mandoc"):
        tree.skip("no mandoc")
    findings = tree.Findings()
    seen = 0
    for name, path in pages(root, built):
        seen += 1
        result = subprocess.run(
            ["mandoc", "-Tlint", "-Wstyle", path], capture_output=True, text=True, check=False
        )
        for line in (result.stdout + result.stderr).splitlines():
            found = re.search(r":(\d+):\d+: (.*)", line)
            if found and not OF_THE_HOST.search(line):
                findings.add(name, found.group(1), found.group(2))
        for number, line in enumerate(tree.read("", path).split("\n"), 1):
            if re.search(r"@[A-Z]+@", line):
                findings.add(name, number, "a part that was not filled in")
    if not seen:
        findings.add(built, 1, "there are no manual pages")
    findings.end()


if __name__ == "__main__":
    main()
