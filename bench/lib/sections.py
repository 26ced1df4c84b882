# SPDX-License-Identifier: Apache-2.0
"""
The sections of a report: from a judged run to titles, sentences, tables and pictures. A section finds the
blocks that it is about by what varies in them, not by their names, because sweeps are data. What a run has
not got is left out with one sentence. How it all looks is page.py's business.
"""

import statistics
from dataclasses import dataclass, field

import findings
import plots
import records
import stats
from plots import number_text, short_size, size_text

PAGE_BYTES, L2_TEXT = 4096, "L2"
WARNING = "Do not use these figures"


@dataclass
class Table:
    head: list
    rows: list              # of text; a cell of several words is one string
    caption: str
    words: int = 1          # so many columns from the left are words, the others figures


@dataclass
class Picture:
    name: str
    svg: str
    caption: str


@dataclass
class Prose:
    text: str


@dataclass
class Points:
    texts: list


@dataclass
class Key:
    """The shades of heat maps."""
    labels: list


@dataclass
class Section:
    name: str
    title: str
    lead: str
    pieces: list = field(default_factory=list)
    absent: bool = False


class View:
    """A run, its figures and what was judged of them, ready to be asked."""

    def __init__(self, run, summary):
        self.run, self.summary = run, summary
        self.figures = records.Figures(run)
        self.medians = {(one["block"], one["cell"]): one["medians"] for one in summary["cells"]}
        factors = {one["name"]: one["factor"] for one in run.plan["families"]}
        self.judged = {(one["block"], one["cell"], one["metric"], factors[one["family"]]): one
                       for one in summary["comparisons"]}

    def median(self, block, cell, metric):
        found = self.medians.get((block, cell["id"]), {}).get(metric)
        return stats.Median(found[3], *found[:3]) if found else None

    def value(self, block, cell, metric):
        found = self.median(block, cell, metric)
        return found.value if found else None

    def comparison(self, block, cell, metric, factor):
        """The planned one of this cell with the base of this factor, or None: a base has none."""
        return self.judged.get((block, cell["id"], metric, factor))

    def cells(self, block):
        return [cell for cell in self.run.cells[block] if (block, cell["id"]) in self.medians]

    def title_of(self, block):
        return next(one["title"] for one in self.run.plan["blocks"] if one["name"] == block)

    def anchor_level(self, factor, levels):
        anchor = self.run.plan["anchor"]
        return anchor[factor] if anchor and anchor[factor] in levels else levels[0]

    def cut(self, block, vary):
        """The cells of a block that differ in these factors only; the others are at the anchor's level."""
        cells = self.cells(block)
        for factor in records.FACTORS:
            if factor in vary or factor in free_with(vary):
                continue
            levels = list(dict.fromkeys(cell[factor] for cell in cells))
            by_strategy = {}
            for cell in cells:
                by_strategy.setdefault(cell["strategy"], []).append(cell[factor])
            if all(len(set(mine)) == 1 for mine in by_strategy.values()):
                continue        # goes with the strategy
            level = self.anchor_level(factor, levels)
            cells = [cell for cell in cells if cell[factor] == level]
        return cells

    def blocks_with(self, kind, **least):
        """Blocks of this kind in which each factor has so many levels at least; the richest first."""
        found = []
        for block in self.run.cells:
            cells = [cell for cell in self.cells(block) if cell["kind"] == kind]
            if cells and all(len({cell[name] for cell in cells}) >= count for name, count in least.items()):
                found.append((block, len({cell["strategy"] for cell in cells}), len(cells)))
        return [block for block, *_ in sorted(found, key=lambda one: (-one[1], one[2]))]


def free_with(vary):
    """Factors that go along with others: buffers of sockets are set in pairs, a sink by its receiver."""
    found = set()
    if {"sndbuf", "rcvbuf"} & set(vary):
        found |= {"sndbuf", "rcvbuf"}
    if "sink" in vary:
        found.add("receive")
    return found


# ---------------------------------------------------------------------- words and figures


def rate_text(one):
    return f"{number_text(one.value / 1e9)} GB/s" if one else "-"


def interval_text(middle, low, high, scale=1.0):
    if middle is None:
        return "-"
    if low is None or low == high:
        return number_text(middle * scale)
    return f"{number_text(middle * scale)} ({number_text(low * scale)} to {number_text(high * scale)})"


def median_text(one, scale=1.0):
    return interval_text(one.value, one.low, one.high, scale) if one else "-"


def ratio_text(one):
    return interval_text(one["ratio"], one["low"], one["high"]) if one else "-"


def verdict_text(told):
    return told["verdict"] + ("" if told["fits"] else ", too few rounds")


def percent(share):
    return f"{100 * share:.1f} %"


def levels_text(levels):
    """{"buffer": 65536, "nagle": "cork"} as words."""
    return ", ".join(level_text(name, level) for name, level in levels.items())


def level_text(name, level):
    if name in ("buffer", "file_bytes"):
        return size_text(level)
    if name == "mss":
        return "native MSS" if level is None else f"MSS {level}"
    if name in ("sndbuf", "rcvbuf"):
        return "buffers auto" if level is None else f"buffers {size_text(level)}"
    if name == "window":
        return f"window {level}"
    if name == "streams":
        return f"{level} stream{'s' if level != 1 else ''}"
    return str(level)


def absent(name, title, what):
    return Section(name, title, f"This run has no block of {what}.", absent=True)


def extremes(lines, scale, unit):
    """A description for those who do not see the picture: the range of each line."""
    parts = []
    for label, points in lines.items():
        known = [(x, one.value) for x, one in points if one]
        if known:
            low, high = min(known, key=lambda p: p[1]), max(known, key=lambda p: p[1])
            parts.append(f"{label}: {number_text(low[1] * scale)} at {short_size(low[0])} to "
                         f"{number_text(high[1] * scale)} at {short_size(high[0])}")
    return f"{'; '.join(parts)}; {unit}."


# ---------------------------------------------------------------------- bulk: what moves most


def main_block(view):
    """(block, cells) of strategies against buffer sizes."""
    for block in view.blocks_with("bulk", buffer=2):
        return block, view.cut(block, {"strategy", "buffer"})
    return None, []


def without_twins(cells):
    return [cell for cell in cells if cell["strategy"] not in records.SAME_THING]


def lines_of(view, block, cells, metric, label="strategy", x="buffer"):
    found = {}
    for cell in cells:
        found.setdefault(cell[label], []).append((cell[x], view.median(block, cell, metric)))
    return {name: points for name, points in found.items() if any(one for _, one in points)}


def best_of(view, block, cells, metric="throughput_Bps"):
    known = [cell for cell in cells if view.value(block, cell, metric) is not None]
    if not known:
        return None
    choose = max if metric in records.MORE_IS_BETTER else min
    return choose(known, key=lambda cell: view.value(block, cell, metric))


def headline(view):
    block, cells = main_block(view)
    cells = without_twins(cells)
    buffers = sorted({cell["buffer"] for cell in cells})
    rows = []
    for size in buffers:
        mine = [cell for cell in cells if cell["buffer"] == size]
        best, cheap = best_of(view, block, mine), best_of(view, block, mine, "cpu_s_per_GB")
        if not best:
            continue
        told = view.comparison(block, best, "throughput_Bps", "strategy")
        thrifty = view.comparison(block, cheap, "cpu_s_per_GB", "strategy") if cheap else None
        rows.append([
            size_text(size), best["strategy"], median_text(view.median(block, best, "throughput_Bps"), 1e-9),
            ratio_text(told), verdict_text(told) if told else "copy itself" if best["strategy"] == "copy" else "-",
            cheap["strategy"] if cheap else "-",
            median_text(view.median(block, cheap, "cpu_s_per_GB")) if cheap else "-",
            verdict_text(thrifty) if thrifty else
            "copy itself" if cheap and cheap["strategy"] == "copy" else "not compared"])
    if not rows:
        return absent("headline", "The best for each buffer size", "strategies against buffer sizes")
    table = Table(["buffer", "moves most", "GB/s", "times copy, same buffer", "verdict", "costs least",
                   "CPU-s/GB, both sides", "verdict"], rows,
                  f"Medians with intervals of 95 % or more; run {view.run.id}")
    return Section("headline", "The best for each buffer size",
                   "For each buffer size the strategy with the highest median throughput, and the one with the "
                   "lowest CPU cost. The verdict is about copy with the same buffer.", [table])


def marks_for(view, cells):
    sizes = {cell["buffer"] for cell in cells}
    pipe = view.run.trials["effective_pipe"].dropna() if "effective_pipe" in view.run.trials else []
    mss = view.run.trials["effective_mss"].dropna() if "effective_mss" in view.run.trials else []
    marks = {PAGE_BYTES: "page"}
    if len(mss):
        marks[int(mss.max())] = "MSS"
    if len(pipe):
        marks[int(pipe.max())] = "pipe"
    level2 = next((text for name, text in view.run.machine["cpu"]["caches"].items() if L2_TEXT in name), None)
    if level2 and cache_bytes(level2):
        marks[cache_bytes(level2)] = L2_TEXT
    return [(x, text) for x, text in marks.items() if min(sizes) < x < max(sizes)]


def cache_bytes(text):
    digits = "".join(letter for letter in text.split()[0] if letter.isdigit())
    unit = text[len(digits):].strip()[:1].upper()
    return int(digits) * {"K": 1 << 10, "M": 1 << 20}.get(unit, 1) if digits else None


def bulk(view):
    block, cells = main_block(view)
    cells = without_twins(cells)
    if len({cell["buffer"] for cell in cells}) < 2:
        return absent("bulk", "Throughput and CPU cost by buffer size", "strategies against buffer sizes")
    pieces = []
    ceiling = view.run.machine["ceilings"]["memcpy_Bps"]
    todo = [("throughput_Bps", "throughput, GB/s", 1e-9, "Throughput", "rate",
             "Look for the knee, and for lines that cross. Bands are intervals of the median."),
            ("cpu_s_per_GB", "CPU-s/GB, both sides", 1, "CPU cost of both sides", "cpu",
             "What a gigabyte costs both processes together. On one host this is the figure to trust: much of "
             "receiving runs on the sender's account."),
            ("tx_cpu_s_per_GB", "CPU-s/GB, sender", 1, "CPU cost of the sender", "sender-cpu",
             "The sender's share alone."),
            ("syscalls_per_GB", "sender's system calls per GB", 1, "System calls", "calls",
             "Why small buffers are dear.")]
    for metric, label, scale, title, name, caption in todo:
        lines = lines_of(view, block, cells, metric)
        values = [one.value for points in lines.values() for _, one in points if one]
        if not values:
            continue
        svg = plots.curves(
            f"bulk-{name}", view.run.id, lines, "buffer, bytes", label, f"{title} against buffer size",
            extremes(lines, scale, label), scale, marks_for(view, cells),
            [(ceiling, "memcpy")] if metric == "throughput_Bps" and ceiling else (),
            log_y=metric != "throughput_Bps" and min(values) > 0 and max(values) > 20 * min(values))
        pieces.append(Picture(f"bulk-{name}", svg, caption))
    return Section("bulk", "Throughput and CPU cost by buffer size",
                   f"Block {block}, {view.title_of(block)}: {shared_text(cells)}.", pieces)


def shared_text(cells):
    """What all of the cells have in common, in words."""
    parts = []
    for name, text in (("nagle", "Nagle {}"), ("mss", "{}"), ("streams", "{}"), ("cc", "{}"), ("cache", "{} source"),
                       ("sink", "to {}"), ("path", "over {}")):
        levels = {cell[name] for cell in cells}
        if len(levels) == 1:
            parts.append(text.format(level_text(name, levels.pop())))
    return ", ".join(parts)


def decision(view):
    block, cells = main_block(view)
    points = []
    for cell in without_twins(cells):
        cost, gain = view.value(block, cell, "cpu_s_per_GB"), view.value(block, cell, "throughput_Bps")
        if cost and gain:
            points.append((cost, gain / 1e9, cell["strategy"], cell["buffer"]))
    if len(points) < 2:
        return absent("pareto", "Throughput against CPU cost", "cells with both throughput and CPU cost")
    front = plots.pareto_front(points)
    names = "; ".join(f"{strategy} {size_text(size)}: {number_text(gain)} GB/s at {number_text(cost)} CPU-s/GB"
                      for cost, gain, strategy, size in front)
    svg = plots.pareto("pareto-front", view.run.id, points, "Throughput against CPU cost",
                       f"{len(points)} cells; the front: {names}.")
    table = Table(["on the front", "buffer", "GB/s", "CPU-s/GB, both sides"],
                  [[strategy, size_text(size), number_text(gain), number_text(cost)]
                   for cost, gain, strategy, size in front], f"Medians; run {view.run.id}")
    return Section("pareto", "Throughput against CPU cost",
                   "Up and to the left is better. Whatever is not on the dashed front is beaten in both by "
                   "something that is.",
                   [Picture("pareto-front", svg, "One mark for each strategy and buffer size."), table])


# ---------------------------------------------------------------------- Nagle


def nagle(view):
    found = view.blocks_with("bulk", nagle=2, buffer=2)
    if not found:
        return absent("nagle", "Nagle and buffer size", "Nagle modes")
    block = found[0]
    cells = view.cut(block, {"strategy", "buffer", "nagle", "mss"})
    pieces = [Key(["< 0.5", "0.5", "0.75", "0.9", "within 3 %", "1.03", "1.1", "1.33", "> 2"])]
    for strategy in dict.fromkeys(cell["strategy"] for cell in without_twins(cells)):
        for mss in dict.fromkeys(cell["mss"] for cell in cells):
            mine = [cell for cell in cells if cell["strategy"] == strategy and cell["mss"] == mss]
            pieces += nagle_maps(view, block, mine, f"{strategy}, {level_text('mss', mss)}")
    return Section("nagle", "Nagle and buffer size",
                   "Text: MB/s. Colour: the ratio to the default mode with the same buffer. A hatch: no difference "
                   "was shown. The twin of each map counts segments per GB, and often explains it.", pieces)


def nagle_maps(view, block, cells, heading):
    modes = list(dict.fromkeys(cell["nagle"] for cell in cells))
    sizes = sorted({cell["buffer"] for cell in cells})
    rates, segments = {}, {}
    for cell in cells:
        place = (cell["buffer"], cell["nagle"])
        told = view.comparison(block, cell, "throughput_Bps", "nagle")
        rate, count = (view.value(block, cell, metric) for metric in ("throughput_Bps", "segments_per_GB"))
        base = next((one for one in cells if one["nagle"] == (
            "default" if "default" in modes else modes[0]) and one["buffer"] == cell["buffer"]), None)
        base_count = view.value(block, base, "segments_per_GB") if base else None
        rates[place] = (map_text(rate and rate / 1e6), told["ratio"] if told else None,
                        not told or told["verdict"] != stats.NOTHING)
        segments[place] = (thousands(count), base_count / count if count and base_count and base is not cell
                           else None, True)
    name = "nagle-" + heading.replace(", ", "-").replace(" ", "-").lower()
    labels = dict(zip(modes, [mode.replace("nodelay+cork", "both") for mode in modes]))

    def map_of(suffix, values, title):
        shown = {(row, labels[column]): value for (row, column), value in values.items()}
        told = "; ".join(f"{short_size(row)}: " + ", ".join(
            f"{column} {shown[row, column][0]}" for column in labels.values() if (row, column) in shown)
            for row in sizes)
        return plots.heat_map(name + suffix, view.run.id, sizes, list(labels.values()), shown,
                              f"{title}, {heading}", told, f"{heading}: {title}", "buffer, bytes")

    pieces = [Picture(name, map_of("", rates, "MB/s"), f"{heading}: throughput.")]
    if any(value[0] != "-" for value in segments.values()):
        pieces.append(Picture(name + "-segments", map_of("-segments", segments, "segments per GB"),
                              f"{heading}: segments per GB; blue is fewer."))
    return pieces


def map_text(value):
    return "-" if value is None else f"{value:,.0f}" if value >= 10 else f"{value:.1f}"


def thousands(value):
    if value is None:
        return "-"
    return f"{value / 1e6:.1f}M" if value >= 1e6 else f"{value / 1e3:.1f}k" if value < 1e5 else f"{value / 1e3:.0f}k"


# ---------------------------------------------------------------------- small files


def small_files(view):
    found = view.blocks_with("requests")
    if not found:
        return absent("small", "Small files", "requests on a kept connection")
    block = found[0]
    cells = view.cut(block, {"framing", "window", "nagle", "file_bytes", "strategy"})
    pieces = []
    for framing in dict.fromkeys(cell["framing"] for cell in cells):
        for window in dict.fromkeys(cell["window"] for cell in cells):
            mine = [cell for cell in cells if cell["framing"] == framing and cell["window"] == window]
            if len({cell["file_bytes"] for cell in mine}) < 2:
                continue
            for metric, name in (("latency_p50_us", "p50"), ("latency_p99_us", "p99")):
                lines = lines_of(view, block, mine, metric, "nagle", "file_bytes")
                if not lines:
                    continue
                heading = f"{framing}, " + ("answer per file" if window == 1 else f"window of {window}")
                key = f"small-{framing}-{window}-{name}".replace(",", "-")
                svg = plots.curves(key, view.run.id, lines, "file, bytes", f"{name}, ms",
                                   f"{name} of completion against file size: {heading}",
                                   extremes(lines, 1e-3, "ms"), 1e-3, log_y=True, guides=[(40000, "40 ms")],
                                   heading=f"{heading}: {name}")
                pieces.append(Picture(key, svg, f"{heading}: {name} of a file's completion."))
    if not pieces:
        pieces.append(latency_table(view, block, cells))
    rows = stall_rows(view, block, cells)
    if rows:
        pieces.append(Table(["framing", "window", "Nagle", "file sizes that stall", "p50, ms"], rows,
                            f"Cells whose median p50 is above 30 ms; run {view.run.id}", 3))
    lead = ("No cell stalls: every median p50 is below 30 ms." if not rows else
            f"Framing and Nagle mode together stall in {len(rows)} of {framings(cells)} combinations; a delayed "
            "acknowledgement is 40 ms.")
    return Section("small", "Small files", lead, pieces)


def framings(cells):
    return len({(cell["framing"], cell["window"], cell["nagle"]) for cell in cells})


def latency_table(view, block, cells):
    """Where there is one size of files, and no curve."""
    return Table(["framing", "window", "Nagle", "file", "p50, ms", "p99, ms"],
                 [[cell["framing"], str(cell["window"]), cell["nagle"], size_text(cell["file_bytes"]),
                   median_text(view.median(block, cell, "latency_p50_us"), 1e-3),
                   median_text(view.median(block, cell, "latency_p99_us"), 1e-3)] for cell in cells],
                 f"Completion of a file; run {view.run.id}", 3)


def stall_rows(view, block, cells):
    groups = {}
    for cell in cells:
        value = view.value(block, cell, "latency_p50_us")
        if value and value > 30000:
            groups.setdefault((cell["framing"], str(cell["window"]), cell["nagle"]), []).append(
                (cell["file_bytes"], value))
    rows = []
    for key, found in groups.items():
        low, high = (number_text(pick(value for _, value in found) / 1e3) for pick in (min, max))
        rows.append([*key, ", ".join(short_size(size) for size, _ in sorted(found)),
                     low if low == high else f"{low} to {high}"])
    return rows


# ---------------------------------------------------------------------- streams, buffers, sinks


def streams(view):
    found = view.blocks_with("bulk", streams=2)
    if not found:
        return absent("streams", "Streams and congestion control", "several streams")
    block = found[0]
    cells = view.cut(block, {"strategy", "streams", "cc"})
    pieces = []
    for congestion in dict.fromkeys(cell["cc"] for cell in cells):
        mine = [cell for cell in cells if cell["cc"] == congestion]
        lines = lines_of(view, block, mine, "throughput_Bps", x="streams")
        if not lines:
            continue
        svg = plots.curves(f"streams-{congestion}", view.run.id, lines, "streams", "throughput, GB/s",
                           f"Throughput against streams, {congestion}", extremes(lines, 1e-9, "GB/s"), 1e-9,
                           heading=congestion)
        pieces.append(Picture(f"streams-{congestion}", svg, f"{congestion}: flat lines are saturated."))
    counts = sorted({cell["streams"] for cell in cells})
    pieces.append(crossing(
        view, cells, ("strategy", "cc"), ["strategy", "congestion control"], "streams",
        [(count, level_text("streams", count)) for count in counts],
        "GB/s, median and interval, then the verdict on the base, "
        + str(view.run.plan["anchor"]["cc"]), lambda cell: rate_cell(view, block, cell, "cc")))
    if any(view.comparison(block, cell, "throughput_Bps", "streams") for cell in cells):
        pieces.append(crossing(
            view, cells, ("strategy", "cc"), ["strategy", "congestion control"], "streams",
            [(count, level_text("streams", count)) for count in counts if count > 1],
            "Throughput as a multiple of that of one stream, with interval and verdict",
            lambda cell: ratio_cell(view.comparison(block, cell, "throughput_Bps", "streams"))))
    pieces.append(crossing(
        view, cells, ("strategy", "cc"), ["strategy", "congestion control"], "streams",
        [(count, level_text("streams", count)) for count in counts if count > 1],
        "When the first stream was done, as a share of the time until the last one was",
        lambda cell: share_text(view, block, cell, "first_done_pct")))
    return Section("streams", "Streams and congestion control", f"Block {block}: {shared_text(cells)}.", pieces)


def socket_buffers(view):
    found = view.blocks_with("bulk", sndbuf=2)
    if not found:
        return absent("buffers", "Socket buffers", "socket buffers")
    block = found[0]
    cells = view.cut(block, {"strategy", "sndbuf", "buffer", "notsent_lowat"})
    pieces = []
    off = [cell for cell in cells if cell["notsent_lowat"] is None and cell["sndbuf"]]
    for strategy in dict.fromkeys(cell["strategy"] for cell in off):
        mine = [dict(cell, chunk=f"buffer {size_text(cell['buffer'])}") for cell in off
                if cell["strategy"] == strategy]
        lines = lines_of(view, block, mine, "throughput_Bps", "chunk", "sndbuf")
        if any(len(points) > 1 for points in lines.values()):
            auto = [view.value(block, cell, "throughput_Bps") for cell in cells
                    if cell["strategy"] == strategy and cell["sndbuf"] is None]
            best = max((value for value in auto if value), default=None)
            svg = plots.curves(f"buffers-{strategy}", view.run.id, lines, "SO_SNDBUF = SO_RCVBUF, bytes",
                               "throughput, GB/s", f"Throughput against socket buffers, {strategy}",
                               extremes(lines, 1e-9, "GB/s"), 1e-9, heading=strategy,
                               guides=[(best, "auto, best buffer")] if best else ())
            pieces.append(Picture(f"buffers-{strategy}", svg, f"{strategy}: set buffers end the kernel's own tuning."))
    rows = [(name, "auto" if name is None else size_text(name)) for name in
            sorted({cell["sndbuf"] for cell in cells}, key=lambda size: size or 0)]
    head = ["strategy", "buffer", "unsent low-water mark"]
    by = ("strategy", "buffer", "notsent_lowat")
    pieces.append(crossing(view, cells, by, head, "sndbuf", rows,
                           "GB/s by socket buffers, median and interval, then the verdict on auto",
                           lambda cell: rate_cell(view, block, cell, "sndbuf")))
    for metric, what in (("sndbuf_limited_pct", "the send buffer"), ("rwnd_limited_pct", "the receiver's window")):
        pieces.append(crossing(
            view, [cell for cell in cells if cell["notsent_lowat"] is None], by, head, "sndbuf", rows,
            f"Share of the busy time in which {what} was the limit (TCP_INFO), by socket buffers",
            lambda cell, metric=metric: share_text(view, block, cell, metric)))
    return Section("buffers", "Socket buffers", f"Block {block}: {shared_text(cells)}.", pieces)


def crossing(view, cells, by, head, across, columns, caption, text_of):
    """A table with a row for each combination of by, and a column for each level of one more factor."""
    rows = {}
    for cell in cells:
        rows.setdefault(tuple(cell[name] for name in by), {})[cell[across]] = cell
    return Table([*head, *(label for _, label in columns)],
                 [[*(by_text(name, level) for name, level in zip(by, key)),
                   *(text_of(mine[level]) if level in mine else "-" for level, _ in columns)]
                  for key, mine in rows.items()], f"{caption}; run {view.run.id}", len(by))


def by_text(name, level):
    return "off" if name == "notsent_lowat" and level is None else size_text(level) if name in (
        "buffer", "notsent_lowat") else str(level)


def share_text(view, block, cell, metric):
    known = [value for value in view.figures.of(block, cell["id"], metric) if value is not None]
    return f"{statistics.median(known):.0f} %" if known else "-"


def caches(view):
    found = [block for block in view.blocks_with("bulk", sink=2)] or view.blocks_with("bulk", cache=2)
    if not found:
        return absent("caches", "From which cache to which sink", "cache states and sinks")
    block = found[0]
    cells = view.cut(block, {"strategy", "cache", "sink"})
    sinks = list(dict.fromkeys(sink_name(cell) for cell in cells))
    rows = []
    for cache in dict.fromkeys(cell["cache"] for cell in cells):
        for strategy in dict.fromkeys(cell["strategy"] for cell in cells):
            mine = {sink_name(cell): cell for cell in cells
                    if (cell["cache"], cell["strategy"]) == (cache, strategy)}
            if mine:
                rows.append([cache, strategy, *(rate_cell(view, block, mine.get(sink), "strategy") for sink in sinks)])
    table = Table(["source", "strategy", *sinks], rows, "GB/s, median and interval, then the verdict on copy from the "
                  f"same cache to the same sink. Run {view.run.id}", 2)
    left_out = next(one["left_out"] for one in view.run.plan["blocks"] if one["name"] == block)
    pieces = [table]
    if left_out:
        pieces.append(Prose(f"{len(left_out)} combination{'s' if len(left_out) > 1 else ''} left out: "
                            + "; ".join(sorted({one["why"] for one in left_out})) + "."))
    return Section("caches", "From which cache to which sink", f"Block {block}: {shared_text(cells)}.", pieces)


def ratio_cell(told):
    return f"{ratio_text(told)}; {verdict_text(told)}" if told else "-"


def sink_name(cell):
    return cell["sink"] if cell["receive"] == cell["sink"] else f"{cell['sink']} by {cell['receive']}"


def rate_cell(view, block, cell, factor):
    if not cell:
        return "-"
    told = view.comparison(block, cell, "throughput_Bps", factor)
    return median_text(view.median(block, cell, "throughput_Bps"), 1e-9) + (f"; {verdict_text(told)}" if told else "")


# ---------------------------------------------------------------------- whole commands


def peers(view):
    """Whole commands, a picture and a table for each block and sink."""
    parts = {}
    for block in view.run.cells:
        for cell in view.cells(block):
            if cell["kind"] == "command":
                parts.setdefault((block, cell["sink"]), []).append(cell)
    if not parts:
        return absent("peers", "Whole commands against other programs", "whole commands")
    pieces = []
    for (block, sink), cells in parts.items():
        pieces += commands_of(view, block, sink, cells)
    return Section("peers", "Whole commands against other programs",
                   "They do not promise the same: see who compared the bytes, and who waited for stable storage. Every "
                   f"result was compared with its source. The verdict is about {own_command(view)}, and about "
                   "throughput.", pieces)


def own_command(view):
    """The one that the others are held against."""
    return next(one["base"] for one in view.run.plan["families"]
                if any(cell["kind"] == "command" for cell in view.run.cells.get(one["block"], ())))


def commands_of(view, block, sink, cells):
    counted = records.counting(view.run)
    found = []
    for cell in cells:
        mine = counted[(counted["block"] == block) & (counted["id"] == cell["id"])]
        found.append((cell, stats.median(mine["wall_s"]), mine.iloc[0]))
    found.sort(key=lambda one: one[1].value)
    what = f"{commands_text(found[0][0])} to {sink}"
    key = "peers-" + "".join(letter if letter.isalnum() else "-" for letter in f"{block}-{sink}")
    svg = plots.dots(key, view.run.id, [(cell["strategy"], wall.value, wall.low, wall.high) for cell, wall, _ in found],
                     f"{what}: wall time, s", f"Wall time of whole commands, {what}",
                     "; ".join(f"{cell['strategy']} {number_text(wall.value)} s" for cell, wall, _ in found),
                     from_zero=True)
    rows = [[cell["strategy"], one["verified"], one["durable"], median_text(wall),
             median_text(view.median(block, cell, "cpu_s_per_GB")),
             ratio_cell(view.comparison(block, cell, "throughput_Bps", "strategy"))] for cell, wall, one in found]
    return [Picture(key, svg, f"{what}: the time that a user waits."),
            Table(["command", "verified", "durable", "wall time, s", "CPU-s/GB, both sides", "throughput, times ours"],
                  rows, f"{view.title_of(block)}: {what}; run {view.run.id}", 3)]


def commands_text(cell):
    if cell["files"] == 1:
        return f"a file of {size_text(cell['file_bytes'])}"
    return f"{cell['files']:,} files of {size_text(cell['file_bytes'])}"


def yes(value):
    return "yes" if value else "no"


# ---------------------------------------------------------------------- trust


def hypotheses(view):
    found = view.summary["hypotheses"]
    if not found:
        return absent("hypotheses", "Hypotheses", "hypotheses")
    rows = [[one["id"], one["text"] + (" (has to hold)" if one["must_hold"] else ""), one["verdict"],
             evidence(one)] for one in found]
    counts = {}
    for one in found:
        counts[one["verdict"]] = counts.get(one["verdict"], 0) + 1
    return Section("hypotheses", "Hypotheses",
                   "Written down before the first trial: " + ", ".join(f"{n} {word}" for word, n in counts.items())
                   + ". A hypothesis is undecided when an interval reaches across its limit.",
                   [Table(["", "hypothesis", "verdict", "what was found"], rows, f"Run {view.run.id}", 4)])


def evidence(hypothesis):
    """The item that is furthest from comfort, and how many there were."""
    parts = []
    order = {findings.REFUTED: 0, findings.UNDECIDED: 1, findings.CONFIRMED: 2}
    for test in hypothesis["tests"]:
        items = test["items"]
        if not items:
            parts.append("no figures")
            continue
        worst = min(items, key=lambda one: (order[one["state"]], -one["value"] if test["max"] is not None
                                            else one["value"]))
        shown = metric_text(test, worst)
        agree = sum(one["state"] == findings.CONFIRMED for one in items)
        parts.append(f"{agree} of {len(items)} as said; nearest to the limit: {shown} ({levels_text(worst['at'])})")
    return ". ".join(parts) + "."


METRIC_WORDS = {
    "throughput_Bps": ("GB/s", 1e-9), "tx_cpu_s_per_GB": ("sender CPU-s/GB", 1),
    "rx_cpu_s_per_GB": ("receiver CPU-s/GB", 1), "cpu_s_per_GB": ("CPU-s/GB", 1),
    "syscalls_per_GB": ("calls/GB", 1), "segments_per_GB": ("segments/GB", 1),
    "latency_p50_us": ("ms p50", 1e-3), "latency_p99_us": ("ms p99", 1e-3), "zc_copied_pct": ("% copied", 1),
}


def metric_text(test, one):
    unit, scale = METRIC_WORDS[test["metric"]]
    if test["kind"] == "knee":
        return size_text(int(one["value"]))
    if test["kind"] == "ratio":
        return f"{interval_text(one['value'], one['low'], one['high'])} times the {unit}"
    return f"{interval_text(one['value'], one['low'], one['high'], scale)} {unit}"


def comparisons(view):
    found = view.summary["comparisons"]
    if not found:
        return absent("verdicts", "All verdicts", "comparisons that its plan decided on")
    questions = {one["name"]: one["question"] for one in view.run.plan["families"]}
    words = [stats.FASTER, stats.SLOWER, stats.CHEAPER, stats.DEARER, stats.NOTHING]
    rows, names = [], list(dict.fromkeys(one["family"] for one in found))
    for name in names:
        mine = [one for one in found if one["family"] == name]
        counts = findings.count_words(mine)
        fits = "yes" if all(one["fits"] for one in mine) else "no"
        rows.append([name, questions[name], str(max(one["comparisons"] for one in mine)),
                     str(min(one["n"] for one in mine)), fits, *(str(counts[word]) if counts[word] else "-"
                                                                 for word in words)])
    return Section("verdicts", "All verdicts",
                   "A difference is shown if Holm's correction lets it pass, its interval excludes 1, and it is larger "
                   "than 3 % and than twice what equal things differ by. Each single one is in summary.json.",
                   [Table(["family", "question", "comparisons together", "rounds", "fits", *words], rows,
                          "Fits: so many rounds can show a difference among so many comparisons. "
                          f"Run {view.run.id}", 2)])


def quality(view):
    told, pieces = view.summary["quality"], []
    trials = view.run.trials
    anchors = trials[(trials["role"] == "anchor") & (trials["status"] == "ok")].reset_index(drop=True)
    if len(anchors) > 2:
        points = [(at, one["throughput_Bps"] / 1e9, one["quality"] != "clean") for at, one in anchors.iterrows()]
        breaks = [(int(part.index[0]), str(block)) for block, part in anchors.groupby("block", sort=False)]
        svg = plots.timeline("quality-anchor", view.run.id, {"anchor": points}, "GB/s", "The anchor through the run",
                             f"The same cell {len(points)} times; a tenth to nine tenths of them within "
                             f"{percent(told['anchor_spread'])} of the median.", breaks)
        pieces.append(Picture("quality-anchor", svg, "The same cell three times a round, through all blocks: the drift "
                              "of the machine. Circles were noisy."))
    pieces += canary_picture(view)
    pieces += same_thing_pieces(view)
    flags = "; ".join(f"{name}: {count}" for name, count in sorted(told["flags"].items())) or "none"
    same = view.summary["same_thing"]["throughput_Bps"]
    rows = [["trials planned", str(told["planned"])],
            ["trials made, anchors and repeats included", str(told["trials"])],
            ["cells and rounds with a figure", f"{percent(told['complete'])}"],
            ["repeated because of noise", str(told["repeated"])], ["noisy", str(told["noisy"])],
            ["flags", flags], ["failed (no figure)", str(told["errors"])],
            ["not to be had here", str(told["invalid"])],
            ["compared with the source after the trial", str(told["hashed"])],
            ["of these different", str(told["hashes_differ"])],
            ["anchor, 10 % to 90 % of the trials, of the median",
             "-" if told["anchor_spread"] is None else f"{percent(told['anchor_spread'])}"],
            ["A/A band (copy against itself)", "not measured" if same["band"] is None else f"{percent(same['band'])}"],
            ["verdict words that change without noisy trials",
             f"{told['words_that_need_noise']} of {len(view.summary['comparisons'])}"]]
    pieces.append(Table(["", "this run"], rows, f"Run {view.run.id}"))
    lead = "Equal code was not measured against itself." if same["band"] is None else (
        f"The harness contradicts itself: {same['fails']}." if same["fails"] else
        f"Equal code differs by {percent(same['band'])} at most, which sets what counts as a difference.")
    return Section("quality", "Can these figures be trusted?", lead, pieces)


def canary_picture(view):
    canaries = view.run.canaries
    if len(canaries) < 2:
        return []
    series = {}
    for name, column in (("memcpy", "memcpy_Bps"), ("getppid", "getppid_ns"), ("pread", "pread_Bps")):
        middle = canaries[column].median()
        series[name] = [(at, value / middle, False) for at, value in enumerate(canaries[column])]
    breaks = [(int(part.index[0]), str(block)) for block, part in canaries.groupby("block", sort=False)]
    told = "; ".join(f"{name}: {min(p[1] for p in points):.2f} to {max(p[1] for p in points):.2f}"
                     for name, points in series.items())
    svg = plots.timeline("quality-canaries", view.run.id, series, "of its median", "Canaries by round",
                         f"Relative to their medians: {told}.", breaks)
    return [Picture("quality-canaries", svg, "What the machine does without any network, before each round. Steps here "
                    "are the machine's, not a strategy's.")]


def same_thing_pieces(view):
    pairs = view.summary["same_thing"]["throughput_Bps"]["pairs"]
    if not pairs:
        return []
    rows = [(size_text(one["buffer"]), one["ratio"], one["low"], one["high"]) for one in pairs]
    told = "; ".join(f"{label}: {interval_text(middle, low, high)}" for label, middle, low, high in rows)
    svg = plots.dots("quality-same", view.run.id, rows, "throughput, copy-dup / copy (the same code)",
                     "A/A: the harness against itself", told, guide_at=1.0)
    return [Picture("quality-same", svg, "The same code under two names, by buffer size: intervals have to hold 1.")]


def machine(view):
    told, rows = view.run.machine, []
    if told["dirty"]:
        rows.append(["commit", f"{told['commit']} with changes that were not committed"])
    else:
        rows.append(["commit", str(told["commit"])])
    for name in ("version", "kernel", "kernel_build", "cmdline", "distribution", "hypervisor", "clocksource", "hz",
                 "root", "compiler", "tuners"):
        rows.append([name.replace("_", " "), flat_text(told[name]).split("\n")[0]])
    rows += [["cpu", f"{told['cpu']['model']}, {told['cpu']['online']} online, used: {flat_text(told['cpu']['used'])}"],
             ["caches", flat_text(told["cpu"]["caches"])], ["memory", f"{told['memory_bytes'] / (1 << 30):.1f} GiB"]]
    for group in ("network", "limits", "file_systems", "build_options", "packages"):
        for name, value in told[group].items():
            rows.append([f"{group.replace('_', ' ')}: {name}", flat_text(value)])
    for name, value in told["ceilings"].items():
        rows.append([f"ceiling: {name}", "not measured" if value is None else number_text(
            value / 1e9 if name.endswith("Bps") else value) + (" GB/s" if name.endswith("Bps") else " ns")])
    copies = [[one["name"], one["side"], str(one["user_copies"]), str(one["total_copies"])]
              for one in told["strategies"]]
    return Section("machine", "The machine",
                   f"Recorded {told['recorded_utc']}; host {told['host_hash'][:12]} (a hash, no name).",
                   [Table(["", "value"], rows, f"Run {view.run.id}", 2),
                    Table(["strategy", "side", "user copies", "copies in all"], copies,
                          f"Copies of a byte as the engine's table has them. No measurement. Run {view.run.id}", 2)])


def flat_text(value):
    if value is None or value in ({}, []):
        return "not known" if value is None else "none"
    if isinstance(value, dict):
        return "; ".join(f"{name} {flat_text(one)}" for name, one in value.items())
    if isinstance(value, list):
        return ", ".join(str(one) for one in value)
    return yes(value) if isinstance(value, bool) else str(value)


# ---------------------------------------------------------------------- limits, and the one sentence


def limits(view):
    run, found = view.run, []
    if not run.plan["for_inference"]:
        found.append("This is a first look: it has too few rounds for verdicts.")
    if run.plan["dirty"]:
        found.append("It was made from a tree with uncommitted changes; nobody can build it again.")
    paths = {cell["path"] for cells in run.cells.values() for cell in cells}
    if "nic" not in paths:
        found.append("How it is between two hosts: bytes went over " + " and ".join(sorted(paths))
                     + ", where local delivery copies what zero-copy sends would have spared, nothing is lost, and "
                     "round trips take microseconds.")
    found.append("What another boot of this machine would give: one boot can be off as a whole.")
    if run.machine["hypervisor"]:
        found.append(f"What the same CPU does without a hypervisor ({run.machine['hypervisor']}), whose other guests "
                     "are not seen.")
    if run.machine["cpu"]["online"] <= 2:
        found.append(f"How it scales: there are {run.machine['cpu']['online']} CPUs, one for each side.")
    if view.summary["same_thing"]["throughput_Bps"]["band"] is None:
        found.append("How exact the harness is: copy was not measured against itself.")
    if not view.summary["quality"]["hashed"]:
        found.append("Whether all bytes came unchanged: no trial was compared with its source.")
    unfit = sorted({one["family"] for one in view.summary["comparisons"] if not one["fits"]})
    if unfit:
        found.append(f"Any difference in {', '.join(unfit)}: too many comparisons for the rounds that were made.")
    small = [one for one in view.summary["comparisons"] if one["verdict"] == stats.NOTHING]
    if small:
        found.append(f"Whether the {len(small)} pairs without a shown difference are equal: it was not shown that they "
                     "differ, which is not the same.")
    return Section("limits", "What this run cannot tell", "", [Points(found)])


def opening(view):
    """The one sentence."""
    broken = [one["id"] for one in view.summary["hypotheses"]
              if one["must_hold"] and one["verdict"] == findings.REFUTED]
    fails = view.summary["same_thing"]["throughput_Bps"]["fails"]
    if broken or fails:
        why = f"{' and '.join(broken)} had to hold and did not" if broken else f"copy differs from itself, {fails}"
        return f"{WARNING}: {why}."
    block, cells = main_block(view)
    cells = without_twins(cells)
    best = best_of(view, block, cells) if cells else None
    copies = [cell for cell in cells if cell["strategy"] == "copy"]
    base = best_of(view, block, copies) if copies else None
    if not best:
        said = opening_of_commands(view) or "no strategy was measured against buffer sizes"
    else:
        said = (f"{best['strategy']} with {size_text(best['buffer'])} moved most, "
                f"{rate_text(view.median(block, best, 'throughput_Bps'))}")
        if base and best is not base:
            said += ", " + against(view, block, best, base)
    if not view.run.plan["for_inference"]:
        return f"A first look, in too few rounds for verdicts: {said}."
    counts = findings.count_words(view.summary["comparisons"])
    total = sum(counts.values())
    return (f"{said[0].upper()}{said[1:]}; {total - counts[stats.NOTHING]} of {total} comparisons show a difference.")


def opening_of_commands(view):
    """How many programs are faster than ours and how many slower, where a run is of whole commands."""
    told = [one for one in view.summary["comparisons"]
            if any(cell["kind"] == "command" for cell in view.run.cells[one["block"]])]
    if not told:
        return None
    counts = findings.count_words(told)
    return (f"held against {own_command(view)}, other commands were slower in {counts[stats.SLOWER]} and faster in "
            f"{counts[stats.FASTER]} of {len(told)} comparisons")


def against(view, block, best, base):
    """Not a planned comparison: an estimate with its interval, and no verdict."""
    rate, cost = (stats.effect(view.figures.of(block, best["id"], metric), view.figures.of(block, base["id"], metric))
                  for metric in ("throughput_Bps", "cpu_s_per_GB"))
    said = ""
    if rate:
        said = (f"{interval_text(rate.ratio, rate.low, rate.high)} times as much as the plain loop at its best "
                f"(copy, {size_text(base['buffer'])})")
    if cost:
        said += f", for {interval_text(cost.ratio, cost.low, cost.high)} times its CPU time per byte"
    return said


def all_of(view):
    return [headline(view), hypotheses(view), bulk(view), decision(view), nagle(view), small_files(view), streams(view),
            socket_buffers(view), caches(view), peers(view), comparisons(view), quality(view), limits(view),
            machine(view)]
