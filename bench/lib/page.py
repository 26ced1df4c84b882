# SPDX-License-Identifier: Apache-2.0
"""
How a report looks: its sections as one HTML page that needs nothing else, and as Markdown. The page has
no script, takes light or dark from the reader's system, and is for phones and paper too.
"""

import re
from html import escape

import plots
from sections import WARNING, Key, Picture, Points, Prose, Table

# Light, dark. Lines have at least 3:1 to the paper, text 4.5:1 to whatever is behind it.
COLOURS = {
    "--ink": ("#1a1a1a", "#ececec"), "--soft": ("#5c5c5c", "#a8a8a8"), "--grid": ("#dadada", "#3a3d42"),
    "--paper": ("#ffffff", "#16181c"), "--raised": ("#f4f4f2", "#202328"), "--link": ("#00568f", "#7cc0ff"),
    "--s0": ("#1a1a1a", "#f2f2f2"), "--s1": ("#0068a8", "#5db7ff"), "--s2": ("#c84e00", "#ff9350"),
    "--s3": ("#007d5a", "#35d6a0"), "--s4": ("#a8568c", "#f0a3cf"), "--s5": ("#94690a", "#f2c14e"),
    "--s6": ("#2a8ab8", "#9bdcff"), "--s7": ("#7a7a7a", "#b5b5b5"),
    # of heat maps: orange is less, blue is more
    "--d0": ("#f08a3c", "#8f4108"), "--d1": ("#f6ac72", "#74380f"), "--d2": ("#facaa5", "#583018"),
    "--d3": ("#fde6d4", "#3d2a20"), "--d4": ("#f3f3f1", "#26292e"), "--d5": ("#d9ebf7", "#1d3446"),
    "--d6": ("#b3d7ef", "#17415f"), "--d7": ("#86bfe4", "#104e79"), "--d8": ("#55a3d8", "#075c96"),
}

STYLE = """
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif;
  overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: .5rem 0; }
h2 { font-size: 1.2rem; margin: 2.2rem 0 .4rem; border-top: 1px solid var(--grid); padding-top: .8rem; }
p, li { margin: .4rem 0 .8rem; max-width: 48rem; }
a { color: var(--link); }
.found { font-size: 1.15rem; line-height: 1.45; border-left: .3rem solid var(--s1); padding-left: .8rem; }
.found.warning { border-color: var(--s2); font-weight: 600; }
.soft, figcaption, .caption { color: var(--soft); font-size: .9rem; }
.caption { margin: 1.2rem 0 .3rem; }
.run { white-space: nowrap; }
nav ul { margin: .5rem 0; padding: 0; display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; }
nav li { margin: 0; }
nav a { display: inline-block; padding: .2rem 0; }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1.6rem;
  margin: 1rem 0; }
figure { margin: 0; max-width: 34rem; min-width: 0; }
svg.plot { display: block; width: 100%; height: auto; overflow: visible; }
.wide { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
.verdict { display: block; }
.interval { white-space: nowrap; color: var(--soft); }
th, td { padding: .3rem .6rem; text-align: right; vertical-align: top; border-bottom: 1px solid var(--grid); }
th { background: var(--raised); vertical-align: bottom; }
th.word, td.word { text-align: left; min-width: 5rem; max-width: 26rem; }
td.long { min-width: 13rem; }
td.word:first-child, th.word:first-child { min-width: 3rem; }
.key { display: flex; flex-wrap: wrap; gap: .3rem; margin: .8rem 0; font-size: .85rem; }
.key span { padding: .25rem .5rem; border: 1px solid var(--grid); }
.key .none { background: repeating-linear-gradient(135deg, var(--d4) 0 5px, var(--grid) 5px 6px); }
footer { margin-top: 2rem; border-top: 1px solid var(--grid); padding-top: .6rem; }
@media (max-width: 40rem) {
  .sentences thead { display: none; }
  .sentences tr { display: block; padding: .4rem 0; border-bottom: 1px solid var(--grid); }
  .sentences td, .sentences td.word { display: block; border: 0; padding: .1rem 0; text-align: left; max-width: none; }
  .sentences td:first-child { font-weight: 600; }
}
@media print {
  body { max-width: none; padding: 0; font-size: 10pt; }
  nav { display: none; }
  .wide { overflow: visible; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .3rem; }
  figure, tr, .found, .key { break-inside: avoid; }
  .key, .caption { break-after: avoid; }
  h2 { break-after: avoid; }
  .plots { grid-template-columns: 1fr 1fr; }
  svg.plot, th, .key span { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


def variables(dark):
    return " ".join(f"{name}: {pair[dark]};" for name, pair in COLOURS.items())


def colours_css():
    return (f":root {{ color-scheme: light dark; {variables(False)} }}\n"
            f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {variables(True)} }} }}\n")


def lone_svg(svg):
    """A picture that stands by itself: it brings its colours, and its paper."""
    style = f"<style>{colours_css()}svg {{ background: var(--paper); }}</style>"
    head = svg.index(">") + 1
    return svg[:head] + style + svg[head:] + "\n"


# ---------------------------------------------------------------------- HTML


SIZE = re.compile(r"(\d) ((?:[KMG]i)?B|GB/s|ms|%)(?!\w)")
VERDICT = re.compile(r"; ([a-z ,]+)$")
INTERVAL = re.compile(r"(\S+) (\([^()]* to [^()]*\))")


def cell_html(tag, text, is_word):
    inner = SIZE.sub("\\1\N{NO-BREAK SPACE}\\2", escape(str(text)))
    if tag == "td" and not is_word:
        inner = INTERVAL.sub(r'\1 <span class="interval">\2</span>', inner)
        inner = VERDICT.sub(r' <span class="verdict">\1</span>', inner)
    kind = ' class="word long"' if is_word and len(str(text)) > 25 else ' class="word"' if is_word else ""
    return f"<{tag}{kind}>{inner}</{tag}>"


def is_word_column(table, index):
    """Columns of words are set to the left, as are those in which verdicts stand."""
    return index < table.words or any(row[index][:1].isalpha() and row[index][-1:].isalpha() for row in table.rows)


def table_html(table):
    words = [is_word_column(table, index) for index in range(len(table.head))]
    # Rows of sentences become blocks where the screen is narrow.
    kind = ' class="sentences"' if any(len(cell) > 60 for row in table.rows for cell in row) else ""
    head = "".join(cell_html("th", text, word) for text, word in zip(table.head, words))
    body = "\n".join("<tr>" + "".join(cell_html("td", text, word) for text, word in zip(row, words)) + "</tr>"
                     for row in table.rows)
    label = escape(table.caption, quote=True)
    return (f'<p class="caption">{escape(table.caption)}</p><div class="wide" tabindex="0" role="region" '
            f'aria-label="{label}"><table{kind}>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody>'
            "</table></div>")


def picture_html(picture, run):
    return (f'<figure id="{picture.name}">{picture.svg}\n<figcaption>{escape(picture.caption)} '
            f'<span class="run">Run {escape(run)}.</span></figcaption></figure>')


def key_html(key):
    boxes = "".join(f'<span style="background: var(--d{number})">{escape(label)}</span>'
                    for number, label in enumerate(key.labels))
    return f'<div class="key">{boxes}<span class="none">no difference shown</span></div>'


def pieces_html(section, run):
    """Pictures that follow each other share a grid."""
    parts, row = [], []
    for piece in [*section.pieces, None]:
        if isinstance(piece, Picture):
            row.append(picture_html(piece, run))
            continue
        if row:
            parts.append('<div class="plots">\n' + "\n".join(row) + "\n</div>")
            row = []
        if isinstance(piece, Table):
            parts.append(table_html(piece))
        elif isinstance(piece, Key):
            parts.append(key_html(piece))
        elif isinstance(piece, Prose):
            parts.append(f"<p>{escape(piece.text)}</p>")
        elif isinstance(piece, Points):
            parts.append("<ul>" + "".join(f"<li>{escape(text)}</li>" for text in piece.texts) + "</ul>")
    return "\n".join(parts)


def section_html(section, run):
    lead = f"<p>{escape(section.lead)}</p>\n" if section.lead else ""
    return (f'<section id="{section.name}" aria-labelledby="{section.name}-head">\n<h2 id="{section.name}-head">'
            f"{escape(section.title)}</h2>\n{lead}{pieces_html(section, run)}\n</section>")


def about(run):
    blocks = ", ".join(f"{block['name']} ({block['title']}, {len(block['cells'])} cells, {block['rounds']} rounds)"
                       for block in run.plan["blocks"])
    return (f"Run {run.id}, sweep {run.plan['sweep']} of commit {str(run.plan['commit'])[:12]}"
            f"{' with uncommitted changes' if run.plan['dirty'] else ''}, {run.plan['created_utc'][:10]}; "
            f"{run.machine['cpu']['model']}, Linux {run.machine['kernel']}. Blocks: {blocks}. Seed {run.plan['seed']}.")


def html_of(run, sections, opening):
    links = "".join(f'<li><a href="#{one.name}">{escape(one.title)}</a></li>' for one in sections if not one.absent)
    warning = " warning" if opening.startswith(WARNING) else ""
    body = "\n".join(section_html(one, run.id) for one in sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(run.plan['title'])} - run {escape(run.id)}</title>
<link rel="icon" href="data:,">
<style>
{colours_css()}{STYLE}</style>
</head>
<body>
<header>
<h1>{escape(run.plan['title'])}</h1>
<p class="found{warning}">{escape(opening)}</p>
<p class="soft">{escape(about(run))}</p>
</header>
<nav aria-label="Sections"><ul>{links}</ul></nav>
<main>
{body}
</main>
<footer class="soft"><p>Medians have exact order-statistic intervals, ratios are taken within a round (Hodges-Lehmann,
signed-rank interval), and p is corrected by Holm within a family. Run {escape(run.id)}.</p></footer>
</body>
</html>
"""


# ---------------------------------------------------------------------- Markdown


def table_markdown(table):
    def line(cells):
        return "| " + " | ".join(str(cell).replace("|", "\\|") for cell in cells) + " |"

    words = [is_word_column(table, index) for index in range(len(table.head))]
    return "\n".join([table.caption + ":", "", line(table.head),
                      "|" + "|".join("---" if word else "---:" for word in words) + "|",
                      *(line(row) for row in table.rows)])


def markdown_of(run, sections, opening):
    """What was found, without pictures: each of these is in report.html."""
    parts = [f"# {run.plan['title']}: run {run.id}", opening, about(run)]
    for section in sections:
        parts.append(f"## {section.title}")
        if section.lead:
            parts.append(section.lead)
        for piece in section.pieces:
            if isinstance(piece, Table):
                parts.append(table_markdown(piece))
            elif isinstance(piece, Prose):
                parts.append(piece.text)
            elif isinstance(piece, Points):
                parts.append("\n".join(f"- {text}" for text in piece.texts))
        pictures = sum(isinstance(piece, Picture) for piece in section.pieces)
        if pictures:
            parts.append(f"{pictures} picture{'s' if pictures > 1 else ''} in report.html.")
    return "\n\n".join(parts) + "\n"


def pictures_of(sections):
    return [piece for section in sections for piece in section.pieces if isinstance(piece, Picture)]


assert set(plots.VARIABLES.values()) <= set(COLOURS)
