# SPDX-License-Identifier: Apache-2.0
"""Runs cases, functions whose names are promises, and prints TAP."""


def run(cases):
    """What main returns to the system."""
    print(f"1..{len(cases)}")
    failed = 0
    for number, case in enumerate(cases, 1):
        name = case.__name__.replace("_", " ")
        try:
            case()
            print(f"ok {number} - {name}", flush=True)
        except Exception as error:  # a case that breaks is a case that fails, whatever broke
            failed += 1
            print(f"# {error!r:.2000}\nnot ok {number} - {name}", flush=True)
    return 1 if failed else 0
