#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Links in *.md lead somewhere, and so does every path of the tree that is named in backticks.
usage: links.py ROOT
"""
import glob
import os
import re
import sys

import tree

LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(([^()\s]+)\)")
FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.M | re.S)
CODE = re.compile(r"`([^`\n]+)`")
PATH = re.compile(r"[\w.*{},-]+(?:/[\w.*{},-]+)+/?")
# Rooms may be named without the engine before them; NAME in a path stands for any.
ROOMS = ("base", "kernel", "move", "store", "session")


def anchor_of(heading):
    text = re.sub(r"[`*]", "", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", "-")


def anchors(text):
    body = FENCE.sub("", text)
    return {anchor_of(found) for found in re.findall(r"^#+[ \t]+(.*)$", body, re.M)}


def braces(pattern):
    """a.{c,h} is a.c and a.h, as a shell has it."""
    found = re.search(r"\{([^{}]*)\}", pattern)
    if not found:
        return [pattern]
    parts = found.group(1).split(",")
    return [
        whole
        for part in parts
        for whole in braces(pattern[: found.start()] + part + pattern[found.end() :])
    ]


def exists(root, path):
    if path.split("/")[0] in ROOMS:
        path = "engine/" + path
    path = path.replace("NAME", "*")
    return all(glob.glob(os.path.join(root, one)) for one in braces(path))


def check_links(root, path, text, findings):
    body = FENCE.sub(lambda found: tree.blank(found.group()), text)
    for found in LINK.finditer(body):
        target, _, anchor = found.group(1).partition("#")
        line = tree.line_at(body, found.start())
        if re.match(r"[a-z][a-z0-9+.-]*:", target):
            continue
        place = os.path.normpath(os.path.join(os.path.dirname(path), target)) if target else path
        if place.startswith("..") or not os.path.exists(os.path.join(root, place)):
            findings.add(path, line, f"the link to {target} leads nowhere")
        elif anchor and place.endswith(".md") and anchor not in anchors(tree.read(root, place)):
            findings.add(path, line, f"{place} has no heading #{anchor}")


def check_paths(root, path, text, findings):
    tops = {name for name in os.listdir(root) if os.path.isdir(os.path.join(root, name))}
    tops = {name for name in tops if not tree.is_build_directory(os.path.join(root, name))}
    body = FENCE.sub(lambda found: tree.blank(found.group()), text)
    for found in CODE.finditer(body):
        word = found.group(1).split()[0]
        first = word.split("/")[0]
        if not PATH.fullmatch(word) or (first not in tops and first not in ROOMS):
            continue
        if first.startswith("build") or exists(root, word.rstrip("/")):
            continue
        findings.add(path, tree.line_at(body, found.start()), f"there is no {word}")


def main():
    root = sys.argv[1]
    findings = tree.Findings()
    seen = 0
    for path in tree.files(root):
        if path.endswith(".md"):
            seen += 1
            text = tree.read(root, path)
            check_links(root, path, text, findings)
            check_paths(root, path, text, findings)
    if not seen:
        findings.add(".", 1, "no *.md was found")
    findings.end()


if __name__ == "__main__":
    main()
