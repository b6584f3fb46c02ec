# SPDX-License-Identifier: Apache-2.0
"""What is written about a run: budgets, leads and changes, on times that are made up."""

import json

import pytest

from bench import compare, report, results
from bench.results import FLOOR, TOKENDRAW, Budget, Result


def made_up(own: float, peer: float = 5.0) -> Result:
    seconds = {FLOOR: [1e-5] * 9, TOKENDRAW: [own * 1e-5] * 9, "numpy": [peer * 1e-5] * 9}
    return Result("top_k 50 [1, 128256]", seconds, [Budget(TOKENDRAW, FLOOR, 1.7)], 2.5)


def kept(path, result: Result):
    """Write a result as pytest-benchmark does."""
    told = {"budgets": result.budgets, "lead": result.lead}
    benchmarks = [
        {
            "group": result.name,
            "extra_info": {"contestant": name, "contest": told},
            "stats": {"data": seconds},
        }
        for name, seconds in result.seconds.items()
    ]
    path.write_text(json.dumps({"benchmarks": [*benchmarks, {"group": None, "extra_info": {}}]}))
    return path


@pytest.mark.parametrize(("own", "verdict"), [(1.6, "met"), (1.7, "met"), (1.8, "over")])
def test_budgets_are_decided_and_no_time_fails(tmp_path, capsys, own, verdict):
    compare.main([str(kept(tmp_path / "run.json", made_up(own)))])
    told = capsys.readouterr().out
    assert f"tokendraw / np.max: {own:.2f} ({own:.2f} .. {own:.2f}), budget 1.7: {verdict}" in told
    assert f"{int(verdict == 'met')} of 1 budgets met" in told


def test_a_lead_is_over_the_fastest_peer():
    assert any("2.5 x faster than numpy" in line for line in results.lines(made_up(2.0)))
    assert made_up(2.0).led == (2.5, 2.5, 2.5)
    *_, last = results.lines(made_up(2.5))
    assert last.endswith("2.5 x asked for: short")


def test_differences_are_told_in_microseconds():
    seconds = {"call": [4e-6] * 9, "empty": [5e-7] * 9}
    result = Result("a call", seconds, [Budget("call", "empty", 3e-6, is_difference=True)])
    (judged,) = result.judged
    assert str(judged) == "call - empty: 3.50 us (3.50 .. 3.50), budget 3.0 us: over"


@pytest.mark.parametrize(
    ("old", "new", "word"), [(2.0, 1.5, "-25%, faster"), (2.0, 2.0, "the same"), (2.0, 3.0, "+50%, slower")]
)
def test_changes_between_runs(tmp_path, capsys, old, new, word):
    runs = [kept(tmp_path / f"{own}-{i}.json", made_up(own)) for i, own in enumerate((new, old))]
    compare.main([str(run) for run in runs])
    assert capsys.readouterr().out.rstrip().endswith(f"{old:.2f}    {new:.2f}   {word}")


def test_the_readme_keeps_what_is_not_measured(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.START}\nold\n{report.END}\nafter\n")
    report.write_between(page, list(report.table([made_up(1.6)])))
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    assert "| top_k 50 | 16 us: 1.60 (1.60 .. 1.60) | - | numpy: 3.1 (3.1 .. 3.1) |" in text
