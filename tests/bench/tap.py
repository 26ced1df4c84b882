# SPDX-License-Identifier: Apache-2.0
"""What the tests of this directory share: cases are functions, their names are what they show."""
import sys
import time
import traceback


class Skip(Exception):
    """A case cannot run here; its text says why."""


def skip_all(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(0)


def run(cases):
    print(f"1..{len(cases)}")
    failed = 0
    for number, case in enumerate(cases, 1):
        name = case.__name__.replace("_", " ")
        begun = time.monotonic()
        try:
            case()
            print(f"ok {number} - {name} ({time.monotonic() - begun:.1f} s)", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception:  # noqa: BLE001  whatever it is, the others have their turn
            failed += 1
            told = traceback.format_exc().splitlines()[-12:]
            print("\n".join(f"# {line[:500]}" for line in told))
            print(f"not ok {number} - {name}", flush=True)
    return 1 if failed else 0
