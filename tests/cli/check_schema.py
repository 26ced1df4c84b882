#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Check one JSON document against a JSON Schema (draft-07).

Knows the keywords that the project's schemas use and refuses a schema with any other, so that no
rule is silently not checked.   usage: check_schema.py SCHEMA DOCUMENT
"""
import json
import re
import sys

ANNOTATIONS = {"$schema", "$id", "title", "description", "definitions"}
TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
    "null": type(None),
}


class Checker:
    def __init__(self, root):
        self.root = root
        self.problems = []

    def say(self, where, what):
        self.problems.append(f"{where or '(top)'}: {what}")

    def resolve(self, reference):
        node = self.root
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        return node

    def check(self, schema, value, where):
        for keyword, rule in schema.items():
            if keyword in ANNOTATIONS:
                continue
            method = getattr(self, "on_" + keyword.replace("$", ""), None)
            if method is None:
                raise SystemExit(f"the schema uses '{keyword}', which is not known here")
            method(rule, value, where, schema)

    def matches(self, schema, value):
        trial = Checker(self.root)
        trial.check(schema, value, "")
        return not trial.problems

    def on_ref(self, rule, value, where, _):
        self.check(self.resolve(rule), value, where)

    def on_type(self, rule, value, where, _):
        right = isinstance(value, TYPES[rule])
        if rule in ("integer", "number") and isinstance(value, bool):
            right = False
        if not right:
            self.say(where, f"{value!r} is not of type {rule}")

    def on_enum(self, rule, value, where, _):
        if value not in rule:
            self.say(where, f"{value!r} is none of {rule}")

    def on_const(self, rule, value, where, _):
        if value != rule:
            self.say(where, f"{value!r} is not {rule!r}")

    def on_pattern(self, rule, value, where, _):
        if isinstance(value, str) and not re.search(rule, value):
            self.say(where, f"{value!r} does not match {rule}")

    def on_minimum(self, rule, value, where, _):
        if isinstance(value, (int, float)) and value < rule:
            self.say(where, f"{value} is less than {rule}")

    def on_maximum(self, rule, value, where, _):
        if isinstance(value, (int, float)) and value > rule:
            self.say(where, f"{value} is more than {rule}")

    def on_minItems(self, rule, value, where, _):
        if isinstance(value, list) and len(value) < rule:
            self.say(where, f"has less than {rule} items")

    def on_items(self, rule, value, where, _):
        for index, item in enumerate(value if isinstance(value, list) else []):
            self.check(rule, item, f"{where}[{index}]")

    def on_required(self, rule, value, where, _):
        for name in rule:
            if isinstance(value, dict) and name not in value:
                self.say(where, f"'{name}' is missing")

    def on_properties(self, rule, value, where, _):
        for name, schema in rule.items():
            if isinstance(value, dict) and name in value:
                self.check(schema, value[name], f"{where}.{name}")

    def on_additionalProperties(self, rule, value, where, schema):
        for name in value if isinstance(value, dict) else []:
            if name in schema.get("properties", {}):
                continue
            if rule is False:
                self.say(where, f"'{name}' is not in the schema")
            elif isinstance(rule, dict):
                self.check(rule, value[name], f"{where}.{name}")

    def on_anyOf(self, rule, value, where, _):
        if any(self.matches(schema, value) for schema in rule):
            return
        # The last alternative is the full one: its problems are the ones worth reading.
        self.check(rule[-1], value, where)


def unique(pairs):
    names = [name for name, _ in pairs]
    if len(names) != len(set(names)):
        raise SystemExit(f"a name occurs twice among {names}")
    return dict(pairs)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        schema = json.load(file)
    with open(sys.argv[2], encoding="ascii") as file:
        document = json.load(file, object_pairs_hook=unique)
    checker = Checker(schema)
    checker.check(schema, document, "")
    for problem in checker.problems:
        print(problem, file=sys.stderr)
    return 1 if checker.problems else 0


if __name__ == "__main__":
    sys.exit(main())
