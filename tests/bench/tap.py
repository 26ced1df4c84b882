# SPDX-License-Identifier: Apache-2.0
"""Cases as TAP: each is a function, its name is what it shows. Skip(reason) leaves one out."""


class Skip(Exception):
    pass


def run(cases):
    print(f"1..{len(cases)}")
    failed = 0
    for number, case in enumerate(cases, 1):
        name = case.__name__.replace("_", " ")
        try:
            case()
            print(f"ok {number} - {name}", flush=True)
        except Skip as reason:
            print(f"ok {number} - {name} # SKIP {reason}", flush=True)
        except Exception as error:  # a case that breaks is a case that fails, whatever broke
            failed += 1
            print(f"# {error!r:.2000}\nnot ok {number} - {name}", flush=True)
    return 1 if failed else 0
