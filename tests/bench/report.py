# SPDX-License-Identifier: Apache-2.0
"""
bench/report and bench/agree on made-up runs whose truth is known (synthetic.py), and the page in a real
browser.   ZH_PICTURES=DIRECTORY keeps what the page looks like.
"""
import gzip
import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import browser
import tap

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(TOP, "bench", "lib"))

try:
    import matplotlib  # noqa: F401
    import packed
    import shape
    import synthetic
except ImportError as error:
    tap.skip_all(f"{error}; install python3-scipy python3-pandas python3-matplotlib python3-jsonschema")

SCRATCH = tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR", "/var/tmp"))
MODES = ["nodelay", "cork", "msg_more", "nodelay+cork"]
# What a page of a whole run shows; names of pictures.
EXPECTED = {"bulk-rate", "bulk-cpu", "bulk-sender-cpu", "bulk-calls", "pareto-front", "nagle-copy-native-mss",
            "nagle-copy-native-mss-segments", "nagle-sendfile-mss-1448", "small-send-sendfile-1-p50",
            "small-send-sendfile-1-p99", "streams-cubic", "streams-bbr", "buffers-copy", "buffers-sendfile",
            "peers-large-tmpfs", "peers-large-disk-syncfs", "peers-small-disk-syncfs", "quality-anchor",
            "quality-canaries", "quality-same"}
SECTIONS = ["headline", "hypotheses", "bulk", "pareto", "nagle", "small", "streams", "buffers", "caches", "peers",
            "verdicts", "quality", "limits", "machine"]


def path(*names):
    return os.path.join(SCRATCH.name, *names)


def call(tool, *arguments):
    return subprocess.run([sys.executable, "-B", os.path.join(TOP, "bench", tool), *arguments], check=False,
                          capture_output=True, text=True, timeout=100)


def text_of(*names):
    with open(path(*names), encoding="utf-8") as file:
        return file.read()


def summary_of(name):
    return json.loads(text_of(name, "summary.json"))


def reported(name, **how):
    """Makes a run and its report once; the directory's name is how it is called."""
    if not os.path.exists(path(name, "report.html")):
        synthetic.make(path(name), **how)
        done = call("report", path(name))
        assert done.returncode == 0, done
    return path(name)


def whole():
    return reported("whole", small=True)


class Page(html.parser.HTMLParser):
    """What of a page is checked without a browser."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.sources, self.sections, self.figures, self.scripts, self.depth = [], [], [], {}, 0, []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.sources += [value for name, value in attributes if name in ("src", "href", "xlink:href")]
        self.scripts += tag == "script"
        if tag == "section":
            self.sections.append(values["id"])
        if tag == "figure":
            self.figures[values["id"]] = ""
            self.depth.append(values["id"])

    def handle_endtag(self, tag):
        if tag == "figure":
            self.depth.pop()

    def handle_data(self, data):
        if self.depth:
            self.figures[self.depth[-1]] += data


# ---------------------------------------------------------------------- runs and their records


def made_up_runs_have_the_form_of_real_ones():
    directory = whole()
    for name, kind in shape.FILES.items():
        validator, text = shape.load(kind), packed.read(packed.find(directory, name))
        for line in [text] if name.endswith(".json") else text.splitlines()[::7]:
            wrong = shape.fault(validator, json.loads(line))
            assert wrong is None, (name, wrong)


def compressed_trials_give_the_same_report():
    plain = text_of(os.path.basename(whole()), "SUMMARY.md")
    for name in ("gz", "zst"):
        if name == "zst" and not shutil.which("zstd"):
            continue
        shutil.copytree(whole(), path(name), ignore=shutil.ignore_patterns("*.html", "plots", "SUMMARY.md"))
        trials = path(name, "trials.jsonl")
        if name == "gz":
            with open(trials, "rb") as source, gzip.open(trials + ".gz", "wb") as packed_file:
                shutil.copyfileobj(source, packed_file)
            os.unlink(trials)
        else:
            subprocess.run(["zstd", "-q", "--rm", trials], check=True)
        assert call("report", path(name)).returncode == 0
        assert text_of(name, "SUMMARY.md") == plain, name


def what_cannot_be_read_is_said():
    shutil.copytree(whole(), path("torn"))
    with open(path("torn", "trials.jsonl"), encoding="utf-8") as file:
        lines = file.readlines()
    for text, status, said in (("".join(lines) + lines[0][:100], 0, "report.html"),     # interrupted: left out
                               ("".join([lines[0], lines[1][:100] + "\n", *lines[2:]]), 2, "trials.jsonl:2"),
                               (lines[0].replace(synthetic.RUN, "other-run"), 2, "another run"),
                               (re.sub('"harness": *"[a-z]*"', '"harness": "zerohaul"', lines[0]), 2,
                                "no trials of bench/run"),
                               ("", 2, "no trials")):
        with open(path("torn", "trials.jsonl"), "w", encoding="utf-8") as file:
            file.write(text)
        done = call("report", path("torn"), "--out", path("torn-report"))
        assert done.returncode == status and said in done.stdout + done.stderr, (said, done)
    done = call("report", path("torn", "trials.jsonl"))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and "records of zerohaul bench" in done.stderr, done
    with open(path("torn", "trials.jsonl.gz"), "w", encoding="utf-8") as file:
        file.write("no gzip")
    os.unlink(path("torn", "trials.jsonl"))
    done = call("report", path("torn"))
    assert done.returncode == 2 and "trials.jsonl.gz" in done.stderr, done


# ---------------------------------------------------------------------- verdicts against the truth


def cells_of(summary):
    plan = json.loads(text_of("whole", "plan.json"))
    return {cell["id"]: cell for block in plan["blocks"] for cell in block["cells"]}, summary["comparisons"]


def verdicts_are_those_of_the_truth():
    cells, comparisons = cells_of(summary_of(os.path.basename(whole())))
    judged = {"wrong": [], "missed": [], "right": 0}
    for one in comparisons:
        if one["metric"] != "throughput_Bps":
            continue
        truth = synthetic.true_rate(cells[one["cell"]]) / synthetic.true_rate(cells[one["base"]])
        wanted = "faster" if truth > 1 else "slower"
        if abs(truth - 1) < 1e-9 and one["verdict"] != "no difference shown":
            judged["wrong"].append(one)
        elif one["verdict"] not in (wanted, "no difference shown"):
            judged["wrong"].append(one)
        elif abs(truth - 1) > 0.06 and one["verdict"] != wanted:
            judged["missed"].append(one)
        else:
            judged["right"] += 1
    assert not judged["wrong"], judged["wrong"][:2]
    assert not judged["missed"], judged["missed"][:2]
    assert judged["right"] > 100, judged["right"]


def cost_and_latency_have_their_own_words():
    cells, comparisons = cells_of(summary_of(os.path.basename(whole())))
    found = {(cells[one["cell"]]["strategy"], one["verdict"]) for one in comparisons if one["family"] == "A-cpu"
             and cells[one["cell"]]["buffer"] >= 65536}
    assert ("sendfile", "cheaper") in found and ("mmap", "dearer") in found, found
    stalls = [one for one in comparisons if one["family"] == "C" and cells[one["base"]]["file_bytes"] == 1024
              and cells[one["base"]]["framing"] == "send,sendfile" and cells[one["base"]]["window"] == 1]
    assert stalls and {one["verdict"] for one in stalls} == {"faster"} and stalls[0]["ratio"] < 0.01, stalls
    assert {cells[one["cell"]]["nagle"] for one in stalls} == set(MODES)


def hypotheses_get_the_verdicts_of_the_truth():
    found = {one["id"]: one["verdict"] for one in summary_of(os.path.basename(whole()))["hypotheses"]}
    assert found == {"H1": "confirmed", "H2": "refuted", "H3": "confirmed", "H4": "confirmed", "H6": "confirmed",
                     "H7": "confirmed", "H8": "not measured"}, found


def a_first_look_has_no_verdicts():
    reported("quick", small=True, rounds=5, for_inference=False, only=["A"])
    summary = summary_of("quick")
    assert {one["verdict"] for one in summary["comparisons"]} == {"no difference shown"}
    assert not any(one["fits"] for one in summary["comparisons"])
    assert summary["sentence"].startswith("A first look, in too few rounds for verdicts"), summary["sentence"]
    page = Page(text_of("quick", "report.html"))
    assert {"bulk-rate", "pareto-front", "quality-anchor"} <= set(page.figures), page.figures.keys()
    assert not any(name.startswith(("nagle", "small", "peers")) for name in page.figures)
    assert page.sections == SECTIONS, page.sections      # each says in a sentence what is not there
    assert "no difference shown, too few rounds" in text_of("quick", "SUMMARY.md")
    for words in ("no block of Nagle modes", "no block of requests", "no block of whole commands", "too few rounds"):
        assert words in text_of("quick", "report.html") and words in text_of("quick", "SUMMARY.md"), words


def a_run_of_commands_alone_is_shown():
    reported("commands", only=["large", "small"])
    summary, words = summary_of("commands"), text_of("commands", "SUMMARY.md")
    assert summary["sentence"].startswith("Held against zerohaul, other commands were slower in "), summary["sentence"]
    cells, comparisons = cells_of(summary)
    found = {(cells[one["cell"]]["strategy"], one["verdict"]) for one in comparisons}
    assert {("rsync", "slower"), ("scp", "slower"), ("cp", "faster")} <= found, found
    assert "| rsync | digest of the file | no, then sync -f |" in words, words
    page = Page(text_of("commands", "report.html"))
    assert set(page.figures) == {"peers-large-tmpfs", "peers-large-disk-syncfs", "peers-small-disk-syncfs"} | {
        name for name in page.figures if name.startswith("quality-")}, page.figures.keys()


def a_harness_that_contradicts_itself_is_not_believed():
    shutil.copytree(reported("quick", small=True, rounds=5, for_inference=False, only=["A"]),
                    path("broken"))
    lines = text_of("broken", "trials.jsonl").splitlines()
    with open(path("broken", "trials.jsonl"), "w", encoding="utf-8") as file:
        for line in lines:      # as if nothing had been copied
            file.write(line.replace('"copied_pct": 100', '"copied_pct": 40') + "\n")
    done = call("report", path("broken"))
    assert done.returncode == 1 and done.stdout.startswith("Do not use these figures: H3"), done
    synthetic.PEAK_GBPS["copy-dup"] = 3.0
    try:
        synthetic.make(path("biased"), small=True, rounds=9, only=["A"])
    finally:
        synthetic.PEAK_GBPS["copy-dup"] = 4.0
    done = call("report", path("biased"))
    assert done.returncode == 1 and "copy differs from itself" in done.stdout, done


def failed_trials_have_no_figures():
    shutil.copytree(whole(), path("failed"))
    changed = []
    for line in text_of("failed", "trials.jsonl").splitlines():
        trial = json.loads(line)
        if trial["cell"]["strategy"] == "splice" and trial["block"] == "A" and trial["round"] <= 2:
            trial.update(status="error", error="the peer was killed", throughput_Bps=9e12)
        changed.append(json.dumps(trial) + "\n")
    with open(path("failed", "trials.jsonl"), "w", encoding="utf-8") as file:
        file.writelines(changed)
    assert call("report", path("failed")).returncode == 0
    summary = summary_of("failed")
    assert summary["quality"]["errors"] == 14 and summary["quality"]["complete"] < 1, summary["quality"]
    rounds = {one["n"] for one in summary["comparisons"] if one["family"] == "A" and "splice" in one["cell"]}
    assert rounds == {13}, rounds
    assert all(one["medians"]["throughput_Bps"][0] < 1e11 for one in summary["cells"])


# ---------------------------------------------------------------------- two runs


def runs_of_the_same_truth_agree():
    synthetic.make(path("again"), small=True, seed=2)
    done = call("agree", whole(), path("again"))
    share = re.search(r"agree on (\d+) of (\d+) verdict words, ([\d.]+) %", done.stdout)
    assert share and float(share[3]) >= 90 and int(share[2]) > 150, done
    listed = done.stdout.count(" against ")
    assert listed == int(share[2]) - int(share[1]), done.stdout
    assert done.returncode == (0 if float(share[3]) >= 95 else 1)
    assert "100.0 %" in call("agree", path("again"), path("again")).stdout


def runs_of_another_truth_do_not():
    synthetic.PEAK_GBPS["sendfile"], before = 2.0, synthetic.PEAK_GBPS["sendfile"]
    try:
        synthetic.make(path("other"), small=True, only=["A"])
    finally:
        synthetic.PEAK_GBPS["sendfile"] = before
    done = call("agree", whole(), path("other"))
    assert done.returncode == 1 and "sendfile" in done.stdout and "faster" in done.stdout, done
    synthetic.make(path("small-files"), small=True, only=["C"])
    assert call("agree", path("other"), path("small-files")).returncode == 2


# ---------------------------------------------------------------------- the page


def the_page_stands_alone():
    text = text_of(os.path.basename(whole()), "report.html")
    page = Page(text)
    assert page.sections == SECTIONS, page.sections
    assert EXPECTED <= set(page.figures), EXPECTED - set(page.figures)
    assert page.scripts == 0 and not re.search(r"url\((?!#)|@import|\bon\w+=", text)
    outside = [source for source in page.sources if not source.startswith(("#", "data:"))]
    assert not outside, outside[:3]
    twice = {name for name in page.ids if page.ids.count(name) > 1}
    assert not twice, sorted(twice)[:5]
    targets = {source[1:] for source in page.sources if source.startswith("#")}
    assert targets <= set(page.ids), sorted(targets - set(page.ids))[:5]


def every_figure_names_its_run():
    page = Page(text_of(os.path.basename(whole()), "report.html"))
    for name, text in page.figures.items():
        assert text.count(synthetic.RUN) >= 2, name         # in the picture and below it
    for line in text_of("whole", "SUMMARY.md").split("\n\n"):
        if line.startswith("| "):
            assert synthetic.RUN in before, before
        before = line
    pictures = os.listdir(path("whole", "plots"))
    assert {name[:-4] for name in pictures} == set(page.figures)
    for name in pictures:
        assert synthetic.RUN in text_of("whole", "plots", name), name


def pictures_are_described():
    text = text_of(os.path.basename(whole()), "report.html")
    pictures = re.findall(r'<svg[^>]*role="img" aria-labelledby="(\S+) (\S+)"[^>]*><title id="(\S+)">(.*?)</title>'
                          r'<desc id="(\S+)">(.*?)</desc>', text, re.S)
    assert len(pictures) == text.count("<svg ") >= len(EXPECTED)
    for title_id, desc_id, title, words, desc, more in pictures:
        assert (title_id, desc_id) == (title, desc) and len(words) > 10 and len(more) > 20, (words, more)


SHAPES = """(() => {
  const problems = [], small = [];
  const width = document.documentElement.clientWidth;
  if (document.documentElement.scrollWidth > width)
    problems.push('the page is ' + document.documentElement.scrollWidth + ' wide');
  for (const one of document.querySelectorAll('body *')) {
    if (one.closest('.wide') && !one.matches('.wide')) continue;
    if (one.closest('svg') && !one.matches('svg')) continue;
    const box = one.getBoundingClientRect();
    if (box.right > width + 1 || box.left < -1) problems.push(one.tagName + '.' + one.className.baseVal);
  }
  const figures = {};
  for (const one of document.querySelectorAll('figure')) {
    const box = one.querySelector('svg').getBoundingClientRect();
    figures[one.id] = [box.width, box.height];
    const frame = box;
    for (const text of one.querySelectorAll('svg text')) {
      const place = text.getBoundingClientRect();
      if (place.height < 7) small.push(one.id + ': ' + text.textContent);
      if (place.right > frame.right + 3 || place.left < frame.left - 3 || place.bottom > frame.bottom + 3 ||
          place.top < frame.top - 3) problems.push(one.id + ' text outside: ' + text.textContent);
    }
  }
  return {problems: problems.slice(0, 10), figures, small: small.slice(0, 10)};
})()"""

# Text of one picture that lies on other text of it, turned text and heat maps' boxes included.
OVERLAPS = """(() => {
  const found = [];
  for (const figure of document.querySelectorAll('figure')) {
    const boxes = [...figure.querySelectorAll('svg text')].map(one => [one.getBoundingClientRect(), one.textContent]);
    for (let i = 0; i < boxes.length; i++)
      for (let j = 0; j < i; j++) {
        const [a, b] = [boxes[i][0], boxes[j][0]];
        const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
        const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
        if (wide > 2 && high > 4) found.push(figure.id + ': ' + boxes[i][1] + ' / ' + boxes[j][1]);
      }
  }
  return found.slice(0, 10);
})()"""

# Contrast of text in pictures and tables to what is behind it: the paper, or the shade of its box.
CONTRAST = """(() => {
  const paint = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const rgb = colour => { paint.clearRect(0, 0, 1, 1); paint.fillStyle = colour; paint.fillRect(0, 0, 1, 1);
    return paint.getImageData(0, 0, 1, 1).data; };
  const light = c => { const f = [0, 1, 2].map(i => { const v = c[i] / 255;
    return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * f[0] + 0.7152 * f[1] + 0.0722 * f[2]; };
  const ratio = (a, b) => { const [x, y] = [light(rgb(a)), light(rgb(b))].sort((p, q) => q - p);
    return (x + 0.05) / (y + 0.05); };
  const style = getComputedStyle(document.documentElement), of = name => style.getPropertyValue(name).trim();
  const low = [];
  const check = (ink, paper, least) => { const found = ratio(of(ink), of(paper));
    if (found < least) low.push(ink + ' on ' + paper + ': ' + found.toFixed(2)); };
  for (const ink of ['--ink', '--soft', '--link']) check(ink, '--paper', 4.5);
  check('--ink', '--raised', 4.5);
  for (let i = 0; i < 9; i++) check('--ink', '--d' + i, 4.5);
  for (let i = 0; i < 8; i++) check('--s' + i, '--paper', 3);
  return {low, paper: rgb(getComputedStyle(document.body).backgroundColor)[0]};
})()"""


def a_browser_shows_it():
    program = browser.find()
    if not program:
        raise tap.Skip("there is no chromium")
    page = os.path.join(whole(), "report.html")
    pictures = os.environ.get("ZH_PICTURES")
    with browser.Browser(program) as one:
        for width, dark, least in ((1200, False, 400), (390, False, 300), (390, True, 300)):
            one.shape(width, 900, dark, mobile=width < 500)
            one.open(page)
            found, overlaps, contrast = one.run(SHAPES), one.run(OVERLAPS), one.run(CONTRAST)
            where = f"{width} px, {'dark' if dark else 'light'}"
            assert not one.complaints(), (where, one.complaints())
            asked = [address for address in one.addresses() if not address.startswith(("file://" + page, "data:"))]
            assert not asked, (where, asked)
            assert not found["problems"], (where, found["problems"])
            assert not found["small"], (where, found["small"])
            assert not overlaps, (where, overlaps)
            assert EXPECTED <= set(found["figures"]), where
            for name, (wide, high) in found["figures"].items():
                assert wide >= least and high >= 80, (where, name, wide, high)
            assert not contrast["low"], (where, contrast["low"])
            assert (contrast["paper"] < 60) == dark, (where, contrast["paper"])
            if pictures:
                one.picture(os.path.join(pictures, f"page-{width}{'-dark' if dark else ''}.png"))
        paper = one.paper()
        assert paper.startswith(b"%PDF-") and len(paper) > 50000
        one.shape(900, 900, dark=True, media="print")
        contrast = one.run(CONTRAST)
        assert contrast["paper"] == 255 and not contrast["low"], contrast       # paper is white for everybody


def a_browser_finds_what_is_wrong():
    """The twin: a page with a script that fails, a wide box, text on text and a picture from elsewhere."""
    program = browser.find()
    if not program:
        raise tap.Skip("there is no chromium")
    with open(path("wrong.html"), "w", encoding="utf-8") as file:
        file.write("<!DOCTYPE html><title>wrong</title><style>:root{--ink:#888;--paper:#999}</style>"
                   "<div style='width:600px'>wide</div><figure id=f><svg class=plot viewBox='0 0 100 100' width=100>"
                   "<text x=10 y=50>one</text><text x=12 y=51>two</text></svg></figure>"
                   "<img src='gone.png'><script>throw new Error('no')</script>")
    with browser.Browser(program) as one:
        one.shape(390, 900)
        one.open(path("wrong.html"))
        assert any("wide" in problem for problem in one.run(SHAPES)["problems"]), one.run(SHAPES)
        assert one.run(OVERLAPS) == ["f: two / one"], one.run(OVERLAPS)
        assert any("--ink on --paper" in low for low in one.run(CONTRAST)["low"])
        assert len(one.complaints()) >= 2, one.complaints()
        assert any("gone.png" in address for address in one.addresses()), one.addresses()


if __name__ == "__main__":
    with SCRATCH:
        sys.exit(tap.run([
            made_up_runs_have_the_form_of_real_ones, compressed_trials_give_the_same_report,
            verdicts_are_those_of_the_truth, cost_and_latency_have_their_own_words,
            hypotheses_get_the_verdicts_of_the_truth, a_first_look_has_no_verdicts,
            a_run_of_commands_alone_is_shown, a_harness_that_contradicts_itself_is_not_believed,
            failed_trials_have_no_figures,
            runs_of_the_same_truth_agree, runs_of_another_truth_do_not, what_cannot_be_read_is_said,
            the_page_stands_alone, every_figure_names_its_run, pictures_are_described, a_browser_shows_it,
            a_browser_finds_what_is_wrong,
        ]))
