#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No dead matter and one form: every C file is built, nothing is disabled, nothing is left to be
done without a decision, each file begins with its licence, lines are short and end cleanly.
usage: tidy.py ROOT
"""
import os
import re
import sys

import tree

# clang-format keeps code within 100; what it may not break, a string, may stand out a little.
MOST_COLUMNS = {".c": 110, ".h": 110, ".cc": 110}
MOST_COLUMNS_SCRIPT = 120
TAB = 8
LICENCE = "SPDX-License-Identifier: Apache-2.0"
# In two parts, so that this file does not find itself.
UNFINISHED = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|XX" + r"X)\b")
DECISION = re.compile(r"docs/decisions/\d{4}|\bdecision \d{4}\b")
TEXT_SUFFIXES = (
    ".c", ".h", ".cc", ".py", ".sh", ".bash", ".bats", ".md", ".in", ".build", ".txt", ".map",
    ".json", ".help", ".1", ".3", ".5", ".7",
)


def quoted_words(root):
    """For each directory with a meson.build, the words in quotes in it."""
    return {
        os.path.dirname(path): set(re.findall(r"'([^'\n]*)'", tree.read(root, path)))
        for path in tree.files(root)
        if os.path.basename(path) == "meson.build"
    }


def is_sum_of(text, words, parts):
    """Is text one of words, or a few of them end to end, as in 'fuzz_' + name + '.c'?"""
    if text in words:
        return True
    return parts > 1 and any(
        text.startswith(word) and is_sum_of(text[len(word) :], words, parts - 1)
        for word in words
        if word and len(word) < len(text)
    )


def is_built(path, words):
    directory = os.path.dirname(path)
    while True:
        if directory in words:
            relative = os.path.relpath(path, directory or ".")
            if is_sum_of(relative, words[directory], 3):
                return True
        if not directory:
            return False
        directory = os.path.dirname(directory)


def columns(line):
    at = 0
    for character in line:
        at += TAB - at % TAB if character == "\t" else 1
    return at


def check_lines(root, path, text, findings):
    code = tree.is_c(path) or tree.is_script(root, path) or path.endswith("meson.build")
    most = MOST_COLUMNS.get(os.path.splitext(path)[1], MOST_COLUMNS_SCRIPT)
    for number, line in enumerate(text.split("\n"), 1):
        if line != line.rstrip():
            findings.add(path, number, "a blank at the end of the line")
        if code and columns(line) > most:
            findings.add(path, number, f"{columns(line)} columns; at most {most}")
        if code and UNFINISHED.search(line) and not DECISION.search(line):
            findings.add(path, number, "left to be done without a decision in docs/decisions")
    if text and not text.endswith("\n"):
        findings.add(path, text.count("\n") + 1, "no newline at the end")


def check_licence(root, path, text, findings):
    lines = text.split("\n")
    if tree.is_c(path):
        wanted, right = f"/* {LICENCE} */", lines[0] == f"/* {LICENCE} */"
    elif tree.is_script(root, path):
        wanted, right = f"# {LICENCE}", f"# {LICENCE}" in lines[:2]
    elif path.startswith("man/") and re.search(r"\.\d(\.in)?$", path):
        wanted, right = f'.\\" {LICENCE}', lines[0] == f'.\\" {LICENCE}'
    else:
        return
    if not right:
        findings.add(path, 1, f"does not begin with {wanted}")


def main():
    root = sys.argv[1]
    findings = tree.Findings()
    words = quoted_words(root)
    for path in tree.files(root):
        if not path.endswith(TEXT_SUFFIXES) and not tree.is_script(root, path):
            continue
        text = tree.read(root, path)
        check_lines(root, path, text, findings)
        check_licence(root, path, text, findings)
        if path.endswith(".c") and not is_built(path, words):
            findings.add(path, 1, "is in no meson.build")
        if tree.is_c(path):
            code = tree.c_code(text)
            for found in re.finditer(r"^[ \t]*#[ \t]*if[ \t]+0\b", code, re.M):
                findings.add(path, tree.line_at(code, found.start()), "disabled code")
    findings.end()


if __name__ == "__main__":
    main()
