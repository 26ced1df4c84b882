#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The tree stands alone: no path of a developer's machine, no notice of others, no conflict marks.
usage: words.py ROOT
"""
import re
import sys

import tree

# In parts, so that this file does not find itself.
OWN_DIRECTORY = re.compile(r"(?<![\w.}])/(?:wo" + r"rk|ho" + r"me/\w+|ro" + r"ot)/")
TEMPORARY = re.compile(r"(?<![\w}])/(?:var/)?tm" + r"p/[\w.]")
NOTICE = re.compile(r"\bCopy" + r"right\b")
CONFLICT = re.compile(r"^(?:<{7} |={7}$|>{7} )", re.M)

RULES = (
    (OWN_DIRECTORY, "a path of one machine"),
    (NOTICE, "a notice beside LICENSE"),
    (CONFLICT, "a conflict that was not resolved"),
)


def main():
    root = sys.argv[1]
    findings = tree.Findings()
    for path in tree.files(root):
        text = tree.read(root, path)
        if "\0" in text:
            continue
        for pattern, what in RULES:
            for found in pattern.finditer(text):
                findings.add(path, tree.line_at(text, found.start()), what)
        # A directory for temporary files is a default of TMPDIR; files in it are named at run time.
        for number, line in enumerate(text.split("\n"), 1):
            if TEMPORARY.search(line) and "TMPDIR" not in line:
                findings.add(path, number, "a path in a directory for temporary files")
    findings.end()


if __name__ == "__main__":
    main()
