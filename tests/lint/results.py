#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Figures say where they come from.   usage: results.py ROOT

Every run below results/ is whole: records as bench/schema has them, of a clean commit, each with the id of
its directory, and no trial of the plan left out. In README.md, CHANGELOG.md, docs and results a table of
measurements, and a rate or cost per byte in a sentence, stand in a section that says `run ID`, where
that run is below results/, or at which commit they were measured (by bench/compare, say).
results/README.md says so to people.
"""
import json
import os
import re
import subprocess
import sys

import tree

LIBRARY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "bench", "lib")
sys.path.insert(0, LIBRARY)

import packed  # noqa: E402

try:
    import shape
except ImportError:
    shape = None

NEEDED = ("plan.json", "machine.json", "trials.jsonl", "summary.json", "SUMMARY.md", "report.html")
OTHERS = re.compile(r"SUMMARY\.md|report\.html|plots/[\w.,+-]+\.svg|gbench\.json|hyperfine\.json")

FENCE = re.compile(r"^(```|~~~).*?^\1[^\n]*$", re.M | re.S)
SECTION = re.compile(r"^#+ ", re.M)
TABLE_HEAD = re.compile(r"^(\|.*\|)[ \t]*\n\|[ :|-]+\|[ \t]*$", re.M)
RATE = r"(?:[KMGT]i?B/s|[KMG]bit/s|(?:CPU[ -])?s/GB|segments/GB|calls/GB)"
UNIT = re.compile(rf"(?<![\w/]){RATE}(?!\w)|(?:, |\()(?:ns|us|ms|s)\b")
# In a sentence MB/s is mostly a limit or arithmetic, as in "at 26 MB/s it takes 20 ms".
FIGURE = re.compile(rf"(?<![\w.])\d[\d.,]* ?(?![KM]){RATE}(?!\w)")
COMMIT = re.compile(r"\bcommit\s+(?:`?[0-9a-f]{7,40}\b|\")")
RUN = re.compile(r"\b[Rr]un\s+`?([A-Za-z0-9][A-Za-z0-9._-]*[A-Za-z0-9])")


# ---------------------------------------------------------------------- runs


def records_of(root, path, findings):
    """[(line, record)]; what cannot be read is a finding."""
    try:
        text = packed.read(os.path.join(root, path))
        if not packed.plain_name(path).endswith(".jsonl"):
            return [(1, json.loads(text))]
        return [(number, json.loads(line)) for number, line in enumerate(text.splitlines(), 1)]
    except (ValueError, packed.PackedError) as error:
        findings.add(path, 1, f"cannot be read: {error}")
        return []


def check_records(root, directory, path, findings):
    """Returns the records."""
    found = records_of(root, path, findings)
    name = shape.FILES[packed.plain_name(os.path.basename(path))]
    validator = shape.load(name, os.path.join(root, "bench", "schema"))
    run = os.path.basename(directory)
    for number, record in found:
        wrong = shape.fault(validator, record)
        if wrong:
            findings.add(path, number, wrong)
        elif record["run"] != run:
            findings.add(path, number, f"is of run {record['run']}, the directory is {run}")
    return [record for _, record in found]


def check_complete(path, plan, trials, findings):
    """Each cell of the plan has a trial in each round: one that failed counts, one that was left out does not."""
    try:
        made = {(trial["block"], trial["cell"]["id"], trial["round"]) for trial in trials}
        for block in plan["blocks"]:
            missing = [(cell["id"], number) for cell in block["cells"] for number in range(1, block["rounds"] + 1)
                       if (block["name"], cell["id"], number) not in made]
            if missing:
                findings.add(path, 1, f"block {block['name']} lacks {len(missing)} trials, the first is of "
                                      f"{missing[0][0]} in round {missing[0][1]}")
    except (KeyError, TypeError):
        return  # not as the schema has it, which was said


def check_export(root, path, findings):
    """What other programs exported knows nothing of runs; nor is it to know names of hosts."""
    for _, record in records_of(root, path, findings):
        if not isinstance(record, dict) or (record.get("context") or {}).get("host_name"):
            findings.add(path, 1, "names a host")


def check_run(root, directory, paths, findings):
    records = {}
    for path in paths:
        inside = os.path.relpath(path, directory)
        if packed.plain_name(inside) in shape.FILES:
            records[packed.plain_name(inside)] = check_records(root, directory, path, findings)
        elif not OTHERS.fullmatch(inside):
            findings.add(path, 1, "is no file of a run")
        elif inside.endswith(".json"):
            check_export(root, path, findings)
        elif os.path.basename(directory) not in tree.read(root, path):
            findings.add(path, 1, f"does not name its run, {os.path.basename(directory)}")
    there = {packed.plain_name(os.path.relpath(path, directory)) for path in paths}
    for name in NEEDED:
        if name not in there:
            findings.add(f"{directory}/{name}", 1, "is missing")
    for name in ("plan.json", "machine.json"):
        for record in records.get(name) or []:
            if isinstance(record, dict) and (record.get("dirty") or not record.get("commit")):
                findings.add(f"{directory}/{name}", 1, "was not made from a clean commit")
    for plan in records.get("plan.json") or []:
        check_complete(f"{directory}/trials.jsonl", plan, records.get("trials.jsonl") or [], findings)


def files_of_results(root):
    """In a work tree of git those that git knows: a run that somebody made and has not added is not let in yet."""
    top = subprocess.run(["git", "-C", root, "rev-parse", "--show-toplevel"], capture_output=True, text=True,
                         check=False).stdout.strip()
    if top and os.path.realpath(top) == os.path.realpath(root):
        listed = subprocess.run(["git", "-C", root, "ls-files", "-z", "results"], capture_output=True, text=True,
                                check=True).stdout
        yield from (path for path in listed.split("\0") if path and os.path.exists(os.path.join(root, path)))
        return
    for here, _, names in os.walk(os.path.join(root, "results")):
        for name in sorted(names):
            yield os.path.relpath(os.path.join(here, name), root)


def runs_of(root, findings):
    """{results/MACHINE/RUN: its files}"""
    found = {}
    for path in files_of_results(root):
        parts = path.split("/")
        if len(parts) >= 4:
            found.setdefault("/".join(parts[:3]), []).append(path)
        elif path != "results/README.md":
            findings.add(path, 1, "lies beside the runs; they are results/MACHINE/RUN")
    return found


# ---------------------------------------------------------------------- pages


def pages(root):
    for path in tree.files(root):
        if path.endswith(".md") and (path in ("README.md", "CHANGELOG.md") or path.startswith("docs/")):
            yield path
    for path in files_of_results(root):
        if path.endswith(".md"):
            yield path


def has_origin(section, runs):
    return bool(COMMIT.search(section)) or any(found in runs for found in RUN.findall(section))


def check_page(path, text, runs, findings):
    body = FENCE.sub(lambda found: tree.blank(found.group()), text)
    starts = [0, *(found.start() for found in SECTION.finditer(body)), len(body)]
    for start, end in zip(starts, starts[1:]):
        section = body[start:end]
        if has_origin(section, runs):
            continue
        tables = [found.start() for found in TABLE_HEAD.finditer(section) if UNIT.search(found.group(1))]
        for at in tables:
            findings.add(path, tree.line_at(body, start + at), "a table of measurements without run or commit")
        figure = None if tables else FIGURE.search(section)
        if figure:
            findings.add(path, tree.line_at(body, start + figure.start()),
                         f"{figure.group()} without run or commit")


def main():
    root = sys.argv[1]
    if shape is None:
        tree.skip("no jsonschema (python3-jsonschema)")
    findings = tree.Findings()
    runs = runs_of(root, findings)
    for directory, paths in runs.items():
        check_run(root, directory, paths, findings)
    names = {os.path.basename(directory) for directory in runs}
    for path in pages(root):
        check_page(path, tree.read(root, path), names, findings)
    findings.end()


if __name__ == "__main__":
    main()
