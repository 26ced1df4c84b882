# SPDX-License-Identifier: Apache-2.0
"""What the checks share: the files of the tree, C without its comments, and how findings are told.

A check is a program: `CHECK.py ROOT [more]`. It prints one line for each finding,
`file:line: what is wrong`, and ends with 1 when there was one, 0 when there was none, and 77 when
the check cannot be made here, after saying why.
"""
import os
import re
import sys

SKIPPED = 77

# Not ours to write in a certain form: inputs of tests, outputs of programs, measurements.
DATA_DIRECTORIES = ("tests/fuzz/corpus", "tests/cli/golden", "results")
# The text of others, kept as it is.
FOREIGN_FILES = ("LICENSE",)


def is_build_directory(path):
    """As .gitignore has it, or as meson leaves it."""
    return os.path.basename(path).startswith("build") or os.path.exists(
        os.path.join(path, "meson-private")
    )


def files(root):
    """Paths of all files of the tree, relative to root; no builds, no version control, no data."""
    for directory, inner, names in os.walk(root):
        here = os.path.relpath(directory, root)
        here = "" if here == "." else here + "/"
        inner[:] = sorted(
            name
            for name in inner
            if name not in (".git", ".cache", "__pycache__", "subprojects")
            and here + name not in DATA_DIRECTORIES
            and not is_build_directory(os.path.join(directory, name))
        )
        for name in sorted(names):
            path = here + name
            # .git: a file in a second work tree
            if path not in (".git", *FOREIGN_FILES) and os.path.isfile(os.path.join(directory, name)):
                yield path


def read(root, path):
    with open(os.path.join(root, path), encoding="utf-8", errors="replace", newline="") as file:
        return file.read()


def is_c(path):
    return path.endswith((".c", ".h", ".cc"))


def shell_of(root, path):
    """The shell that a script is for, or None: by its suffix or by its first line."""
    for suffix in ("sh", "bash", "bats"):
        if path.endswith("." + suffix):
            return suffix
    if os.path.splitext(path)[1]:
        return None
    first = read(root, path).split("\n", 1)[0]
    found = re.match(r"#!\s*\S*[/ ](sh|bash|dash|bats)\b", first)
    return found.group(1) if found else None


def is_script(root, path):
    return path.endswith(".py") or shell_of(root, path) is not None


def blank(text):
    """The same length and lines, with nothing in them."""
    return re.sub(r"[^\n]", " ", text)


_C_NOISE = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""", re.S | re.X
)
_C_COMMENT_OR_TEXT = re.compile(
    r"""(/\*.*?\*/ | //[^\n]*) | ("(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*')""", re.S | re.X
)


def c_code(text):
    """C with comments and literals blanked: what is left is code, at its old place."""
    return _C_NOISE.sub(lambda found: blank(found.group()), text)


def c_without_comments(text):
    """C with comments blanked and literals kept, for #include "..."."""
    return _C_COMMENT_OR_TEXT.sub(
        lambda found: blank(found.group(1)) if found.group(1) else found.group(2), text
    )


def c_functions(code):
    """Yields (name, first line, body) of each function; code has no comments or literals."""
    head = r"\b(\w+)\s*\([^;{}()]*(?:\([^;{}()]*\)[^;{}()]*)*\)\s*\{"
    for found in re.finditer(head, code):
        if found.group(1) in ("if", "for", "while", "switch", "sizeof", "return"):
            continue
        depth, at = 0, found.end() - 1
        for at in range(found.end() - 1, len(code)):
            depth += {"{": 1, "}": -1}.get(code[at], 0)
            if depth == 0:
                break
        yield found.group(1), line_at(code, found.start()), code[found.end() : at]


def line_at(text, offset):
    return text.count("\n", 0, offset) + 1


class Findings:
    def __init__(self):
        self.count = 0

    def add(self, path, line, what):
        self.count += 1
        print(f"{path}:{line}: {what}")

    def end(self):
        """Ends the program as the findings say."""
        if self.count:
            print(f"{self.count} finding{'s' if self.count > 1 else ''}")
        sys.exit(1 if self.count else 0)


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)
