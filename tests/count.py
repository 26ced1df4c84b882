#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up the logs (JSON lines) of several meson test runs, and names each failure and skip."""

import json
import re
import sys

TAP = re.compile(r"^(not )?ok\b\s*(\d*)\s*-?\s*(.*?)(?:\s*#\s*skip\S*\s*(.*))?$", re.IGNORECASE)


def cases(entry):
    """Yields (verdict, name, reason) for each case of one test program."""
    broken = entry["result"] not in ("OK", "SKIP", "EXPECTEDFAIL")
    named_failure = False
    count = 0
    for line in (entry.get("stdout") or "").splitlines():
        match = TAP.match(line)
        if not match:
            continue
        count += 1
        refused, _, name, reason = match.groups()
        if reason is not None:
            yield "skipped", name, reason or "no reason given"
        elif refused:
            named_failure = True
            yield "failed", name, ""
        else:
            yield "passed", name, ""
    if broken and not named_failure:
        yield "failed", "the program itself", entry["result"]
    elif count == 0:
        verdict = "skipped" if entry["result"] == "SKIP" else "passed"
        yield verdict, "", (entry.get("stdout") or "no reason given").strip().split("\n")[-1]


def main(paths):
    total = {"passed": 0, "failed": 0, "skipped": 0}
    for path in paths:
        run = path.split("/")[1] + " " + path.split("/")[-1].split(".")[0]
        try:
            with open(path, encoding="utf-8") as log:
                entries = [json.loads(line) for line in log]
        except (OSError, ValueError) as error:
            print(f"failed: {path}: {error}")
            total["failed"] += 1
            continue
        for entry in entries:
            for verdict, name, reason in cases(entry):
                total[verdict] += 1
                if verdict != "passed":
                    print(f"{verdict}: {run}: {entry['name']}: {name}: {reason}")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**total))
    return 1 if total["failed"] or not total["passed"] else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
