# SPDX-License-Identifier: Apache-2.0
"""The page on knowledge says what its results say, and its example of a file is one."""

import re
from pathlib import Path

from tokendraw.lab import results
from tokendraw.lab.exercises import read_exercises, verses

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = (DOCS / "lab-knowledge.md").read_text(encoding="utf-8")


def rows(found):
    """Return the tables of the page: one per model, a column per family."""
    for name, model in found["models"].items():
        families = model["families"]
        yield (
            "| ".join(
                [f"| {name} ", *(f"{family} ({own['exercises']}) " for family, own in families.items())]
            )
            + "|"
        )
        columns = [{each["measure"]: each for each in own["figures"]} for own in families.values()]
        for measure in dict.fromkeys(measure for own in columns for measure in own):
            yield f"| {measure} | " + " | ".join(cell(own.get(measure)) for own in columns) + " |"


def cell(figure):
    if figure is None:
        return ""
    value, low, high, chance = (number(figure, key) for key in ("value", "low", "high", "chance"))
    return f"{value} [{low}, {high}]" + (f", chance {chance}" if chance else "")


def number(figure, key):
    if figure[key] is None:
        return ""
    if figure["measure"] == "rank":
        return f"{figure[key]:.2f}"
    share = 100 * figure[key]
    return f"{share:.2f} %" if 0 < share < 1 else f"{share:.0f} %"


def test_the_table_is_that_of_the_results():
    for row in rows(results.load(DOCS / "results" / "knowledge.json", "knowledge")):
        assert row in PAGE, row


def test_the_exercises_are_as_many_as_the_page_says():
    shipped = verses()
    steps = sum(len(each.steps) for each in shipped)
    wrong = sum(len(own) for each in shipped for own in each.corruptions)
    assert f"{len(shipped)} verses" in PAGE
    assert f"{steps} of them" in PAGE
    assert f"{wrong:,} in all" in PAGE


def test_the_example_of_a_file_can_be_read(tmp_path):
    [example] = re.findall(r"^```json\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.jsonl").write_text(example, encoding="utf-8")
    [exercise] = read_exercises(tmp_path / "mine.jsonl")
    assert [[each.kind for each in own] for own in exercise.corruptions] == [["result", "operand"], [""]]
