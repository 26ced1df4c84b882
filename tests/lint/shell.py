#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""shellcheck has nothing to say about any shell script.   usage: shell.py ROOT"""
import re
import shutil
import subprocess
import sys

import tree

# What shellcheck cannot know of bats: variables come from helpers and go to them (SC2034, SC2154),
# and every test is a process of its own (SC2030, SC2031).
BATS_ENDS = ("[SC2034]", "[SC2154]", "[SC2030]", "[SC2031]")


def main():
    root = sys.argv[1]
    if not shutil.which("shellcheck"):
        tree.skip("no shellcheck")
    findings = tree.Findings()
    paths = [path for path in tree.files(root) if tree.shell_of(root, path)]
    if not paths:
        findings.add(".", 1, "no shell script was found")
        findings.end()
    result = subprocess.run(
        ["shellcheck", "--format=gcc", "--source-path=SCRIPTDIR", *paths],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    for line in result.stdout.splitlines():
        found = re.match(r"([^:]+):(\d+):\d+: (.*)", line)
        if found and not (found.group(1).endswith(".bats") and line.endswith(BATS_ENDS)):
            findings.add(*found.groups())
    if result.returncode > 1:
        findings.add(".", 1, "shellcheck failed: " + result.stderr.strip()[:200])
    findings.end()


if __name__ == "__main__":
    main()
