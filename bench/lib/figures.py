# SPDX-License-Identifier: Apache-2.0
"""
Bounds and how they are judged. Pure: figures in, verdicts out.

A comparison has two sides, and a side may be several cells, of which the best one counts: the one whose
median over all rounds is best. It is chosen once for each figure, not anew in every round, so that no
side wins by the luck of one trial. Then the ratio is taken within each round, and the median of these
ratios is held against the bound.
"""

import statistics
from dataclasses import dataclass, field

HIGHER_IS_BETTER = {"rate"}


@dataclass
class Bound:
    name: str
    what: str
    limit: float
    figure: str            # what is compared
    ours: list             # cells
    theirs: list = field(default_factory=list)
    kind: str = "ratio"    # or "difference", or "peak": the highest of all rounds and cells, no ratio
    at_least: bool = False
    unit: str = ""

    def words(self):
        return f"{'>=' if self.at_least else '<='} {self.limit:.2f}{self.unit}"


@dataclass
class Verdict:
    name: str
    state: str             # "held", "MISSED", "not judged"
    middle: float = None
    lowest: float = None
    highest: float = None
    bound: str = ""
    detail: str = ""

    def line(self):
        if self.middle is None:
            return f"{self.state:10}  {'':6}  {'':14}  {self.bound:11}  {self.name}: {self.detail}"
        spread = f"{self.lowest:.3f}..{self.highest:.3f}"
        return (f"{self.state:10}  {self.middle:6.3f}  {spread:14}  {self.bound:11}  {self.name}: "
                f"{self.detail}")


def values(rounds, cell, figure):
    """One for each round; None where the trial gave none."""
    return [round_.get(cell, {}).get(figure) for round_ in rounds]


def median(numbers):
    numbers = [number for number in numbers if number is not None]
    return statistics.median(numbers) if numbers else None


def best(rounds, cells, figure):
    """
    The cell with the best median; None if there is none. Cells count that gave a figure in more than half
    of the rounds, and never a wrong file.
    """
    sign = -1 if figure in HIGHER_IS_BETTER else 1

    def counts(cell):
        found = [value for value in values(rounds, cell, figure) if value is not None]
        wrong = any(round_.get(cell, {}).get("wrong_file") for round_ in rounds)
        return not wrong and 2 * len(found) > len(rounds)

    return min(filter(counts, cells), key=lambda cell: sign * median(values(rounds, cell, figure)),
               default=None)


def judge(bound, rounds):
    def verdict(state, **more):
        return Verdict(bound.name, state, bound=bound.words(), **more)

    if bound.kind == "peak":
        found = [value for cell in bound.ours for value in values(rounds, cell, bound.figure)]
        if not found or None in found:
            return verdict("not judged", detail="a trial of zerohaul gave no figure")
        return verdict("held" if max(found) <= bound.limit else "MISSED", middle=median(found),
                       lowest=min(found), highest=max(found), detail=bound.what)
    our, their = best(rounds, bound.ours, bound.figure), best(rounds, bound.theirs, bound.figure)
    if our is None or their is None:
        lacking = bound.ours if our is None else bound.theirs
        shown = ", ".join(lacking[:3]) + (", ..." if len(lacking) > 3 else "")
        return verdict("not judged", detail="no figures of " + (shown or "anybody to compare with"))
    pairs = zip(values(rounds, our, bound.figure), values(rounds, their, bound.figure))
    found = [a - b if bound.kind == "difference" else a / b for a, b in pairs
             if a is not None and b is not None]
    if not found:
        return verdict("not judged", detail=f"no round has figures of both {our} and {their}")
    middle = statistics.median(found)
    held = middle >= bound.limit if bound.at_least else middle <= bound.limit
    return verdict("held" if held else "MISSED", middle=middle, lowest=min(found), highest=max(found),
                   detail=f"{bound.what} ({our} {'-' if bound.kind == 'difference' else '/'} {their})")


def table(rounds, names):
    """One line for each cell: medians."""
    def number(cell, figure):
        found = median(values(rounds, cell, figure))
        return "-" if found is None else f"{found:.3f}"

    width = max([len(name) for name in names] + [4])
    yield (f"{'cell':{width}}  {'GB/s':>7} {'CPU s/GB:':>10} {'sender':>7} {'receiver':>9} {'both':>7}"
           f"  of {len(rounds)} rounds, medians")
    for name in names:
        record = next((round_[name] for round_ in rounds if "rate" in round_.get(name, {})), {})
        remarks = [record["note"]] if record.get("note") else []
        if "verified" in record:
            remarks.append(f"verified: {record['verified']}; durable: {record['durable']}")
        failed = sum("error" in round_.get(name, {}) for round_ in rounds)
        if failed:
            remarks.append(f"FAILED in {failed}, not counted")
        yield (f"{name:{width}}  {number(name, 'rate'):>7} {'':10} {number(name, 'sender_cpu'):>7} "
               f"{number(name, 'receiver_cpu'):>9} {number(name, 'cpu'):>7}  {'; '.join(remarks)}")
