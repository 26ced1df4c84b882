# SPDX-License-Identifier: Apache-2.0
"""Files of a run that may lie compressed beside their plain name: trials.jsonl.gz, trials.jsonl.zst."""

import gzip
import os
import subprocess

SUFFIXES = ("", ".gz", ".zst")


class PackedError(Exception):
    """A file that cannot be unpacked; the text says why."""


def find(directory, name):
    """The path under which it is there, or None."""
    paths = (os.path.join(directory, name + suffix) for suffix in SUFFIXES)
    return next(filter(os.path.exists, paths), None)


def plain_name(name):
    return next((name[:-len(suffix)] for suffix in SUFFIXES if suffix and name.endswith(suffix)), name)


def read(path):
    """Its text."""
    try:
        if path.endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8") as file:
                return file.read()
        if path.endswith(".zst"):
            done = subprocess.run(["zstd", "-dcq", path], check=True, capture_output=True)
            return done.stdout.decode()
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, EOFError, UnicodeDecodeError, subprocess.CalledProcessError) as error:
        raise PackedError(f"{path}: {error}") from None
