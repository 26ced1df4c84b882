# SPDX-License-Identifier: Apache-2.0
"""What a run writes against bench/schema: which file has which schema, and what is wrong with a record."""

import json
import os

import jsonschema

SCHEMAS = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "schema")
# file of a run -> its schema; of *.jsonl each line
FILES = {"plan.json": "plan", "machine.json": "machine", "summary.json": "summary", "trials.jsonl": "trial",
         "canaries.jsonl": "canary"}


def load(name, directory=SCHEMAS):
    with open(os.path.join(directory, name + ".json"), encoding="utf-8") as file:
        return jsonschema.Draft7Validator(json.load(file))


def fault(validator, record):
    """Where and what, in a line; None if the record is right."""
    error = jsonschema.exceptions.best_match(validator.iter_errors(record))
    if not error:
        return None
    return f"{'/'.join(str(part) for part in error.absolute_path) or 'the record'}: {error.message[:120]}"
