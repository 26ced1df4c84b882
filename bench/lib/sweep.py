# SPDX-License-Identifier: Apache-2.0
"""
Sweeps: data files of factors and levels in, cells and a plan out. Pure but for reading the files.

A block is the product of the levels of its factors, without the combinations in leave_out. After that
"set" gives levels that follow from others (fewer bytes for small buffers), and "same" copies one. What a
block does not name has the level in DEFAULTS. Equal ids are equal cells.
"""

import itertools
import json
import os

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
SWEEPS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "sweeps")
NAGLE_OF = {"auto", "default", "nodelay", "cork", "msg_more", "nodelay+cork"}
DEFAULTS = {
    "kind": "bulk", "strategy": "copy", "receive": None, "buffer": 64 * KIB, "nagle": "auto", "mss": None,
    "file_bytes": GIB, "files": 1, "streams": 1, "sndbuf": None, "rcvbuf": None, "notsent_lowat": None,
    "cc": "cubic", "cache": "warm", "sink": "discard", "path": "lo", "framing": None, "window": None,
    "depth": None,
}
# How long a trial takes beside its bytes: start, connection, warm-up, proof of the page cache, gate.
OVERHEAD_S = 0.40
ZERO_COPY_SENDS = ("uring-zc", "msg-zerocopy")


class SweepError(Exception):
    """The sweep's file makes no sense; the text says where."""


def matches(cell, where):
    """Whether the cell has, for each factor named, one of the levels named."""
    return all(cell[factor] in levels for factor, levels in where.items())


def short(number):
    for unit, name in ((GIB, "G"), (MIB, "M"), (KIB, "K")):
        if number and number % unit == 0:
            return f"{number // unit}{name}"
    return str(number)


def name_of(cell):
    """The strategy and buffer, and every other level that is not the default."""
    parts = [cell["strategy"]]
    if cell["kind"] == "requests":
        parts = [cell["framing"], "window=" + str(cell["window"])]
    else:
        parts.append(short(cell["buffer"]))
    said = {"kind", "strategy", "buffer", "framing", "window", "id"}
    usual = dict(DEFAULTS, receive=receive_of(cell))
    for factor, level in cell.items():
        if factor in said or level == usual[factor]:
            continue
        text = "auto" if level is None else short(level) if isinstance(level, int) and level >= KIB else level
        parts.append(f"{factor}={text}")
    return "/".join(map(str, parts))


def receive_of(cell):
    """The receiver's strategy where the sweep does not say: the plain ones."""
    return {"discard": "discard", "recv": "recv"}.get(cell["sink"], "copy")


def make_cell(levels):
    unknown = set(levels) - set(DEFAULTS)
    if unknown:
        raise SweepError(f"no such factor: {', '.join(sorted(unknown))}")
    cell = dict(DEFAULTS, **levels)
    if cell["receive"] is None:
        cell["receive"] = receive_of(cell)
    if cell["nagle"] not in NAGLE_OF:
        raise SweepError(f"no such Nagle mode: {cell['nagle']}")
    return {"id": name_of(cell), **cell}


def expand(block):
    """(cells, what was left out) of a block of a sweep's file."""
    factors = block["factors"]
    cells, left_out = {}, {}
    for levels in itertools.product(*factors.values()):
        cell = dict(zip(factors, levels))
        reason = next((rule["why"] for rule in block.get("leave_out", [])
                       if matches(dict(DEFAULTS, **cell), rule["where"])), None)
        for rule in block.get("set", []):
            if matches(dict(DEFAULTS, **cell), rule["where"]):
                cell.update(rule["to"])
        for factor, like in block.get("same", {}).items():
            cell[factor] = cell[like]
        made = make_cell(cell)
        if reason:
            left_out[made["id"]] = reason
        else:
            cells[made["id"]] = made
    if not cells:
        raise SweepError(f"block {block['name']} has no cells")
    return list(cells.values()), [{"id": name, "why": why} for name, why in left_out.items()
                                  if name not in cells]


def load(name):
    """A sweep by its name or by the path of its file; those that it includes are in it."""
    path = name if os.path.sep in name or name.endswith(".json") else os.path.join(SWEEPS, name + ".json")
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        raise SweepError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise SweepError(f"{path}: {error}") from None
    sweep = {"name": os.path.splitext(os.path.basename(path))[0], "title": data["title"],
             "for_inference": data["for_inference"], "blocks": [], "families": [], "hypotheses": []}
    parts = [load(part) for part in data.get("include", [])] + [data]
    for part in parts:
        for key in ("blocks", "families", "hypotheses"):
            sweep[key] += part.get(key, [])
    for block in sweep["blocks"]:
        if "cells" not in block:
            block["cells"], block["left_out"] = expand(block)
    return sweep


def names():
    return sorted(os.path.splitext(entry)[0] for entry in os.listdir(SWEEPS) if entry.endswith(".json"))


def moved_bytes(cell):
    return cell["file_bytes"] * (cell["files"] or 1) * cell["streams"]


def estimate(cell, cap_ms):
    """Seconds that one trial takes, roughly: only for the plan and until there are trials to go by."""
    if cell["files"] is None:
        return OVERHEAD_S + max(cap_ms / 1000, cell["file_bytes"] / 1e9)
    size = moved_bytes(cell)
    seconds = size / (1.0e9 if cell["mss"] else 2.5e9)
    seconds += size / cell["buffer"] * (3e-6 if cell["strategy"] == "splice" else 1.5e-6)
    if cell["cache"] != "warm" or cell["strategy"] == "uring-zc":
        seconds += size / 1.5e9
    if cell["sink"].startswith("disk") or cell["sink"] == "tmpfs":
        seconds += size / 1.0e9
    return OVERHEAD_S + seconds


def anchor_of(sweep):
    """The plain loop: the same in all runs, but never more than the largest file of the sweep."""
    largest = max(cell["file_bytes"] for block in sweep["blocks"] for cell in block["cells"])
    bulk = [cell["file_bytes"] for block in sweep["blocks"] for cell in block["cells"]
            if cell["kind"] == "bulk"]
    return make_cell({"file_bytes": min(GIB, max(bulk, default=largest))})


ANCHORS = 3  # in each round of each block: at its start, in its middle, at its end


def estimate_run(plan):
    return sum(block["rounds"] * (ANCHORS * estimate(plan["anchor"], 0) + sum(
        estimate(cell, block["cap_ms"] or 0) for cell in block["cells"])) for block in plan["blocks"])


def make_plan(sweep, run, seed, created, commit, dirty, rounds=None):
    plan = {
        "schema": "zerohaul.plan/1", "run": run, "sweep": sweep["name"], "title": sweep["title"],
        "created_utc": created, "commit": commit, "dirty": dirty, "seed": seed,
        "for_inference": sweep["for_inference"] and not rounds, "estimate_s": 0,
        "anchor": anchor_of(sweep),
        "blocks": [{"name": block["name"], "title": block["title"], "rounds": rounds or block["rounds"],
                    "cap_ms": block.get("cap_ms"), "cells": block["cells"], "left_out": block["left_out"]}
                   for block in sweep["blocks"]],
        "families": sweep["families"], "hypotheses": sweep["hypotheses"],
    }
    plan["estimate_s"] = round(estimate_run(plan), 1)
    return plan
