# SPDX-License-Identifier: Apache-2.0
"""
Pictures of a report, as SVG text. They take numbers that are already judged, and decide only how these
are shown.

Colours are variables of the page's style sheet, so that one picture serves light, dark and paper:
matplotlib draws with stand-ins, which are replaced. A strategy has the same colour, mark and dashes in
every picture. Text stays text. Legends lie below the axes and hide nothing. Pictures are as wide as a
phone, so that their text is readable there.
"""

import html
import io
import math
import re

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as pyplot  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: E402

KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
WIDTH = 5.0     # inches of 72 px
FONT = "'DejaVu Sans', Verdana, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"

# Stand-in -> variable of the style sheet.
INK, SOFT, GRID, PAPER = "#a10001", "#a10002", "#a10003", "#a10004"
SERIES = [f"#a2000{number}" for number in range(8)]
SHADES = [f"#a3000{number}" for number in range(9)]
VARIABLES = {INK: "--ink", SOFT: "--soft", GRID: "--grid", PAPER: "--paper",
             **{colour: f"--s{number}" for number, colour in enumerate(SERIES)},
             **{colour: f"--d{number}" for number, colour in enumerate(SHADES)}}

MARKS = ["o", "s", "^", "D", "v", "P", "X", "d"]
DASHES = ["-", "-", "-", (0, (6, 2)), (0, (4, 2)), (0, (5, 2, 1, 2)), (0, (2, 1.5)), (0, (1, 1.5))]
# What has a place of its own in the palette; others take what is left.
PLACES = {"copy": 0, "sendfile": 1, "splice": 2, "uring-zc": 3, "uring-copy": 4, "msg-zerocopy": 5, "mmap": 6,
          "copy-dup": 7, "uring-splice": 7, "uring-direct": 5, "sendfile-ahead": 6, "direct": 7,
          "default": 0, "nodelay": 1, "cork": 2, "msg_more": 3, "nodelay+cork": 4, "auto": 5,
          "memcpy": 1, "getppid": 2, "pread": 3, "anchor": 0}
# Edges of the shades of a ratio: the middle one is within 3 %.
EDGES = [0.5, 0.75, 0.9, 0.97, 1.03, 1.1, 1.33, 2.0]

matplotlib.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "zerohaul", "font.family": "DejaVu Sans", "font.size": 10,
    "axes.edgecolor": SOFT, "axes.labelcolor": INK, "xtick.color": INK, "ytick.color": INK, "text.color": INK,
    "axes.facecolor": "none", "figure.facecolor": "none", "savefig.facecolor": "none", "axes.grid": True,
    "grid.color": GRID, "grid.linewidth": 0.8, "axes.spines.top": False, "axes.spines.right": False,
    "axes.axisbelow": True, "legend.frameon": False, "legend.fontsize": 10, "hatch.linewidth": 0.7,
    "lines.linewidth": 1.8, "lines.markersize": 5, "axes.titlesize": 10.5, "axes.titleweight": "bold",
})


def style_of(name, taken=None):
    place = PLACES.get(name)
    if place is None:
        place = sum(map(ord, str(name))) % len(SERIES)
    while taken is not None and place in taken:
        place = (place + 1) % len(SERIES)
    if taken is not None:
        taken.add(place)
    return {"color": SERIES[place], "marker": MARKS[place], "linestyle": DASHES[place]}


def styles(names):
    """name -> style, all different as long as there are no more than the palette has."""
    found, taken = {}, set()
    for name in sorted(names, key=lambda name: name not in PLACES):
        found[name] = style_of(name, taken if len(taken) < len(SERIES) else None)
    return found


def size_text(size):
    if size is None:
        return "native"
    for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
        if size >= unit and size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size:g} B"


def short_size(size):
    return size_text(size).replace("iB", "").replace(" B", "").replace(" ", "") if size is not None else "auto"


def number_text(value):
    """Three digits that count, never an exponent."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if value == 0:
        return "0"
    places = max(0, 2 - math.floor(math.log10(abs(value))))
    return f"{value:,.{places}f}"


def short_number(value):
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:g}{name}"
    return f"{value:g}"


def size_axis(axes, sizes, label):
    """Powers of two, each labelled if there is room."""
    sizes = sorted(sizes)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    span = math.log2(sizes[-1] / sizes[0]) or 1
    shown = []
    for size in sizes:
        if not shown or math.log2(size / shown[-1]) >= span / 9:
            shown.append(size)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at, _: short_size(int(at)) if at in shown else ""))
    axes.set_xlabel(label)


def svg_of(figure, name, title, description):
    """The picture as an element for a page: named, described, its identifiers its own."""
    file = io.StringIO()
    figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    pyplot.close(figure)
    text = file.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>", "", text[text.index("<svg"):], flags=re.S)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(xlink:href="#|url\(#)', rf"\g<1>{name}-", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    text = re.sub(r"font: (?:(\w+) )?([\d.]+)px [^;\"]*",
                  lambda found: f"font: {found[1] or 'normal'} {found[2]}px {FONT}", text)
    head = re.search(r"<svg[^>]*?>", text)
    view = re.search(r'viewBox="[^"]*"', head.group()).group()
    label = (f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" {view} '
             f'role="img" aria-labelledby="{name}-title {name}-desc" class="plot">'
             f'<title id="{name}-title">{html.escape(title)}</title>'
             f'<desc id="{name}-desc">{html.escape(description)}</desc>')
    return label + text[head.end():].strip()


def canvas(height, entries, run, title=None, columns=3):
    """(figure, axes) with room below for a legend of so many entries, and the run's name in the corner."""
    rows = math.ceil(entries / columns)
    whole = height + 0.22 * rows + (0.25 if title else 0)
    figure, axes = pyplot.subplots(figsize=(WIDTH, whole))
    figure.subplots_adjust(left=0.15, right=0.97, top=1 - ((0.35 if title else 0.14) / whole),
                           bottom=(0.72 + 0.22 * rows) / whole)
    figure.text(0.99, 0.03 / whole, f"run {run}", ha="right", va="bottom", fontsize=8.5, color=SOFT)
    if title:
        axes.set_title(title, loc="left")
    return figure, axes


def legend_below(figure, handles, labels, columns=3):
    if handles:
        figure.legend(handles, labels, loc="lower center", ncol=columns, bbox_to_anchor=(0.53, 0.02),
                      handlelength=2.6, columnspacing=1.2, labelspacing=0.3, borderpad=0.6,
                      bbox_transform=figure.transFigure)


def draw_line(axes, points, style, scale=1.0, band=True):
    """points: [(x, Median)]. The band is the interval of the median."""
    points = [(x, one) for x, one in sorted(points, key=lambda point: point[0]) if one]
    xs = [x for x, _ in points]
    line, = axes.plot(xs, [one.value * scale for _, one in points], markeredgewidth=0, **style)
    if band and len(points) > 1 and all(one.low is not None for _, one in points):
        axes.fill_between(xs, [one.low * scale for _, one in points], [one.high * scale for _, one in points],
                          color=style["color"], alpha=0.22, linewidth=0)
    return line


def curves(name, run, lines, x_label, y_label, title, description, scale=1.0, marks=(), ceilings=(), band=True,
           log_y=False, guides=(), heading=None):
    """
    lines: {label: [(x, Median)]} over sizes. marks: [(x, text)] upright at the top; ceilings: [(y, text)]
    drawn only where they are not far above all lines; guides: [(y, text)] always.
    """
    shown = {label: points for label, points in lines.items() if any(one for _, one in points)}
    figure, axes = canvas(3.1, len(shown), run, heading)
    look = styles(shown)
    handles = [draw_line(axes, points, look[label], scale, band) for label, points in shown.items()]
    size_axis(axes, {x for points in shown.values() for x, _ in points}, x_label)
    axes.set_ylabel(y_label)
    if log_y:
        log_axis(axes)
    else:
        axes.set_ylim(0, axes.get_ylim()[1] * 1.08)
    top = axes.get_ylim()[1]
    for y, text in ceilings:
        if y * scale < 1.6 * top:
            axes.set_ylim(0, max(axes.get_ylim()[1], y * scale * 1.08))
            guide(axes, y * scale, text)
    for y, text in guides:
        guide(axes, y * scale, text)
    draw_marks(axes, marks)
    legend_below(figure, handles, list(shown))
    return svg_of(figure, name, title, description)


def log_axis(axes):
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short_number(value)))
    axes.yaxis.set_minor_locator(NullLocator())


def guide(axes, y, text):
    axes.axhline(y, color=SOFT, linewidth=1.1, linestyle=(0, (2, 2)))
    axes.annotate(text, (1, y), xycoords=("axes fraction", "data"), xytext=(-2, 2), textcoords="offset points",
                  ha="right", va="bottom", fontsize=9, color=INK)


def draw_marks(axes, marks):
    low, high = axes.get_xlim()
    for x, text in marks:
        if low <= x <= high:
            axes.axvline(x, color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
            axes.annotate(text, (x, 0.02), xycoords=("data", "axes fraction"), xytext=(2, 0),
                          textcoords="offset points", rotation=90, ha="left", va="bottom", fontsize=8.5, color=SOFT)


# ---------------------------------------------------------------------- heat maps


def shade_of(ratio):
    return SHADES[sum(ratio >= edge for edge in EDGES)]


def heat_map(name, run, rows, columns, cells, title, description, heading, row_label):
    """
    cells: {(row, column): (text, ratio or None, shown)}: the colour is the ratio to the default, a hatch
    says that no difference was shown. Rows from the top.
    """
    height = 0.28 * len(rows) + 1.05
    figure, axes = pyplot.subplots(figsize=(WIDTH, height))
    figure.subplots_adjust(left=0.17, right=0.99, top=1 - 0.62 / height, bottom=0.3 / height)
    for y, row in enumerate(rows):
        for x, column in enumerate(columns):
            text, ratio, shown = cells.get((row, column), ("", None, True))
            hatched = ratio is not None and not shown
            axes.add_patch(pyplot.Rectangle(
                (x, y), 1, 1, facecolor=shade_of(ratio) if ratio is not None else "none",
                edgecolor=GRID if hatched else PAPER, linewidth=0, hatch="///" if hatched else None))
            axes.add_patch(pyplot.Rectangle((x, y), 1, 1, facecolor="none", edgecolor=PAPER, linewidth=1.5))
            axes.text(x + 0.5, y + 0.52, text, ha="center", va="center", fontsize=10)
    axes.set_xlim(0, len(columns))
    axes.set_ylim(len(rows), 0)
    axes.grid(False)
    axes.set_xticks([x + 0.5 for x in range(len(columns))], columns)
    axes.set_yticks([y + 0.5 for y in range(len(rows))], [short_size(row) for row in rows])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_ylabel(row_label)
    figure.text(0.01, 1 - 0.05 / height, heading, ha="left", va="top", fontsize=10.5, fontweight="bold")
    figure.text(0.99, 0.03 / height, f"run {run}", ha="right", va="bottom", fontsize=8.5, color=SOFT)
    return svg_of(figure, name, title, description)


# ---------------------------------------------------------------------- the decision


def pareto_front(points):
    """Of (cost, gain, ...): those that nobody beats in both, from cheap to fast."""
    front, best = [], -math.inf
    for point in sorted(points, key=lambda point: (point[0], -point[1])):
        if point[1] > best:
            front.append(point)
            best = point[1]
    return front


def pareto(name, run, points, title, description):
    """points: [(CPU-s/GB, GB/s, strategy, buffer)]; the front is drawn and its points are named."""
    front = pareto_front(points)
    strategies = list(dict.fromkeys(point[2] for point in points))
    figure, axes = canvas(3.4, len(strategies), run)
    look = styles(strategies)
    handles = []
    for strategy in strategies:
        mine = [point for point in points if point[2] == strategy]
        handles.append(axes.scatter([point[0] for point in mine], [point[1] for point in mine], s=30,
                                    color=look[strategy]["color"], marker=look[strategy]["marker"], linewidths=0,
                                    zorder=3))
    axes.plot([point[0] for point in front], [point[1] for point in front], color=SOFT, linewidth=1.2,
              linestyle=(0, (4, 2)), zorder=2)
    axes.set_xlabel("CPU-s/GB, both sides (less is better)")
    axes.set_ylabel("throughput, GB/s")
    costs = [point[0] for point in points]
    if max(costs) > 4 * min(costs):
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ticks = [one for one in (0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50)
                 if min(costs) * 0.8 <= one <= max(costs) * 1.2]
        axes.xaxis.set_major_locator(FixedLocator(ticks))
        axes.xaxis.set_minor_locator(NullLocator())
    axes.set_ylim(0, max(point[1] for point in points) * 1.14)
    left, right = axes.get_xlim()
    axes.set_xlim(left, right + 0.1 * (right - left))
    name_front(axes, front)
    legend_below(figure, handles, strategies)
    return svg_of(figure, name, title, description)


def name_front(axes, front):
    """The fastest of the front and the cheapest, if it is not so near that one name would hide the other."""
    places = [axes.transData.transform(point[:2]) for point in front]
    chosen = [len(front) - 1]
    if abs(places[0][1] - places[-1][1]) > 16:
        chosen.append(0)
    for index in chosen:
        point = front[index]
        axes.annotate(f"{point[2]} {short_size(point[3])}", point[:2], xytext=(7, 4), textcoords="offset points",
                      ha="left", va="bottom", fontsize=9.5,
                      bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.75, "pad": 1})


# ---------------------------------------------------------------------- single values


def dots(name, run, rows, x_label, title, description, guide_at=None, scale=1.0, from_zero=False):
    """rows: [(label, middle, low, high)] from the top, with their intervals."""
    height = 0.3 * len(rows) + 0.95
    figure, axes = pyplot.subplots(figsize=(WIDTH, height))
    longest = max(len(row[0]) for row in rows)
    figure.subplots_adjust(left=min(0.45, 0.04 + 0.0175 * longest), right=0.96, top=1 - 0.1 / height,
                           bottom=0.68 / height)
    for y, (_, middle, low, high) in enumerate(rows):
        if low is not None:
            axes.plot([low * scale, high * scale], [y, y], color=SERIES[1], linewidth=2.2, solid_capstyle="butt")
        axes.plot([middle * scale], [y], "o", color=SERIES[1], markersize=6)
    if guide_at is not None:
        axes.axvline(guide_at, color=SOFT, linewidth=1.1, linestyle=(0, (3, 2)), zorder=0)
    if from_zero:
        axes.set_xlim(0, axes.get_xlim()[1])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel(x_label)
    figure.text(0.99, 0.03 / height, f"run {run}", ha="right", va="bottom", fontsize=8.5, color=SOFT)
    return svg_of(figure, name, title, description)


def timeline(name, run, series, y_label, title, description, breaks=()):
    """series: {label: [(place, value, special)]}; breaks: [(place, text)] where something new begins."""
    figure, axes = canvas(2.3, len(series) if len(series) > 1 else 0, run)
    look = styles(series)
    handles = []
    for label, points in series.items():
        style = dict(look[label], linestyle="none" if len(points) > 60 else "-")
        handles += axes.plot([point[0] for point in points], [point[1] for point in points], markersize=3.6,
                             linewidth=1, color=style["color"], marker=style["marker"],
                             linestyle=style["linestyle"], markeredgewidth=0)
        odd = [point for point in points if point[2]]
        axes.plot([point[0] for point in odd], [point[1] for point in odd], "o", markersize=8,
                  markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.1)
    axes.set_ylim(0, axes.get_ylim()[1] * 1.15)
    for place, text in breaks:
        axes.axvline(place, color=SOFT, linewidth=0.9, linestyle=(0, (1, 2)), zorder=0)
        axes.annotate(text, (place, 0.98), xycoords=("data", "axes fraction"), xytext=(3, 0), va="top",
                      textcoords="offset points", fontsize=9)
    axes.set_ylabel(y_label)
    axes.set_xlabel("in the order of the run")
    axes.set_xticks([])
    if len(series) > 1:
        legend_below(figure, handles, list(series))
    return svg_of(figure, name, title, description)
