# SPDX-License-Identifier: Apache-2.0
"""`tokendraw bench`: what it prints, and that its arithmetic is right."""

import builtins
import io
import json
import math
import random
import statistics
import sys

import numpy as np
import pytest

import tokendraw as td
from tokendraw import bench, budgets, cli
from tokendraw.budgets import JOBS, STEPS, Contestant, Job, Ratio

FAST = ["bench", "--quick", "--vocab", "512"]


def printed(capsys, *options):
    assert cli.main([*FAST, *options]) == 0
    return capsys.readouterr()


# --- The command -------------------------------------------------------------------------------------------


def test_every_job_that_exists_has_its_lines(capsys):
    output = printed(capsys)
    assert output.err == "", "no progress where nobody watches"
    machine, shape, _, header, *lines = output.out.splitlines()
    described, _, load = machine.partition("; load average ")
    assert described == budgets.machine().partition("; load average ")[0]
    assert float(load) >= 0
    assert shape == "vocab 512, 1 thread, 11 rounds in turn with np.max"
    assert header.split()[:4] == ["job", "rows", "time", "ratio"]
    expected = [(job.title, rows) for job in budgets.present(JOBS).values() for rows in job.budgets]
    assert [(line[:26].strip(), int(line[26:31])) for line in lines] == expected


def test_json_holds_what_the_table_shows(capsys):
    told = json.loads(printed(capsys, "--json", "--rows", "3", "--threads", "2").out)
    assert told["threads"] == 2
    assert told["rounds"] == 11
    assert [entry["job"] for entry in told["jobs"]] == [job.title for job in budgets.present(JOBS).values()]
    for entry in told["jobs"]:
        assert (entry["rows"], entry["vocab"]) == (3, 512)
        assert 0 < entry["seconds"] < 1
        ratio = entry["ratio"]
        assert 0 < ratio["low"] <= ratio["median"] <= ratio["high"]
        assert entry["budget"] is entry["verdict"] is None, "nothing is promised for this shape"


@pytest.mark.parametrize("option", ["--rows", "--vocab", "--threads"])
def test_sizes_are_at_least_1(capsys, option):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["bench", option, "0"])
    assert stopped.value.code == 2
    assert f"argument {option}: must be a whole number >= 1, got 0" in capsys.readouterr().err


class Terminal(io.StringIO):
    def isatty(self):
        return True


def watch(monkeypatch):
    """Put a terminal in the place of standard error, within the test: capturing puts its own there before."""
    stream = Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    return stream


def test_a_terminal_sees_a_bar(capsys, monkeypatch):
    pytest.importorskip("rich")
    terminal = watch(monkeypatch)
    printed(capsys, "--rows", "1")
    assert "%" in terminal.getvalue()
    assert ", 1 row" in terminal.getvalue(), "it says what is being timed"


def test_a_terminal_without_rich_sees_a_counter(capsys, monkeypatch):
    terminal = watch(monkeypatch)
    imported = builtins.__import__

    def without_rich(name, *others, **named):
        if name.split(".")[0] == "rich":
            raise ImportError(name)
        return imported(name, *others, **named)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    printed(capsys, "--rows", "1")
    shown = terminal.getvalue().split("\r\x1b[K")
    assert shown[0] == shown[-1] == "", "each replaces the one before, and the last is wiped"
    assert shown[1].startswith("  0 %  greedy, 1 row")
    assert shown[-2].startswith("100 %  ")
    percents = [int(text[:3]) for text in shown[1:-1]]
    assert percents == sorted(percents)


# --- The table ---------------------------------------------------------------------------------------------


def line_of(budget, low=1.4, median=1.6):
    return bench.Line("top_k 50", 1, budgets.VOCAB, 2e-5, 1e-5, Ratio(low, median, 1.7), budget)


def test_a_budget_is_met_when_the_interval_includes_it_or_lies_below():
    assert line_of(1.5).verdict == "met"
    assert line_of(1.4).verdict == "met"
    assert line_of(1.3).verdict == "over"
    assert line_of(None).verdict == ""


def test_budgets_hold_for_one_thread_and_the_vocab_of_the_table():
    job = JOBS["greedy"]._replace(budgets={1: 1.1})
    [promised] = bench.measure([(job, 1)], rounds=7)
    assert promised.budget == 1.1
    [threaded] = bench.measure([(job, 1)], threads=2, rounds=7)
    [small] = bench.measure([(job, 1)], vocab=512, rounds=7)
    [other] = bench.measure([(job, 2)], rounds=7)
    assert threaded.budget is small.budget is other.budget is None


def test_the_contract_table():
    """As promised: one row in cache, 64 rows from memory, and the beams per row."""
    table = {name: tuple(job.budgets.values()) for name, job in JOBS.items()}
    assert table == {
        "greedy": (1.1, 1.1),
        "temperature": (3.0, 1.8),
        "token_logprobs": (3.0, 1.8),
        "top_k": (1.7, 1.5),
        "top_p_peaked": (3.5, 2.1),
        "top_p_flat": (7.0, 4.5),
        "top_k_top_p": (1.8, 1.6),
        "min_p": (1.7, 1.5),
        "beam_step": (3.3,),
    }


def test_a_job_is_absent_until_its_function_takes_its_parameters():
    assert not Job("", "no_such_function", "flat", {}, {}).is_present
    assert not Job("", "sample", "flat", {"no_such_parameter": 1}, {}).is_present
    assert JOBS["top_k"].is_present


@pytest.mark.parametrize("name", budgets.present(JOBS | STEPS))
def test_a_job_does_what_its_title_says(name):
    job = (JOBS | STEPS)[name]
    rows = budgets.make_rows(job.rows, 4, 2000)
    answer = job.prepare(rows.shape)(rows)
    if job.function == "sample":
        kept = td.filter_logits(
            rows,
            **{
                key: value(*rows.shape) if callable(value) else value for key, value in job.parameters.items()
            },
            seed=1,
        )
        assert np.isfinite(kept[np.arange(4), answer]).all()
    elif job.function == "greedy":
        assert answer.tolist() == rows.argmax(axis=-1).tolist()


# --- The interval ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 5, 6, 7, 11, 30, 41, 200])
def test_the_interval_is_the_widest_that_the_level_allows(count):
    cut = budgets._places_to_cut(count)
    inside = sum(math.comb(count, i) for i in range(cut + 1, count - cut)) / 2**count
    wider = sum(math.comb(count, i) for i in range(cut + 2, count - cut - 1)) / 2**count
    assert wider < 0.95
    assert inside >= 0.95 or cut == 0


def test_the_interval_covers_the_median_as_often_as_it_says():
    source = random.Random(1)
    trials = 2000
    covered = sum(
        ratio.low <= 1 <= ratio.high
        for ratio in (
            Ratio.of([2 ** source.gauss(0, 1) for _ in range(31)], [1.0] * 31) for _ in range(trials)
        )
    )
    # The exact coverage at 31 values is 0.9706.
    assert covered / trials == pytest.approx(0.9706, abs=0.012)


def test_ratios_are_paired_round_by_round():
    assert Ratio.of([2.0, 40.0, 6.0], [1.0, 20.0, 3.0, 9.0]) == (2.0, 2.0, 2.0)
    assert Ratio.of_differences([2.0, 5.0, 9.0], [1.0, 3.0, 4.0]) == (1.0, 2.0, 5.0)


# --- Timing ------------------------------------------------------------------------------------------------


def test_a_contestant_takes_each_batch_in_turn():
    seen = []
    contestant = Contestant(seen.append, ["first", "second"])
    for _ in range(3):
        contestant.run()
    assert seen == ["first", "second", "first"]


def test_who_is_slow_sits_out_after_seven_rounds():
    slow, fast = Contestant(lambda batch: sum(range(200_000)), [0]), Contestant(lambda batch: None, [0])
    rounds = list(budgets.time_in_turn({"slow": slow, "fast": fast}, rounds=20, limits={"slow": 1e-3}))
    assert rounds == list(range(1, 21))
    assert len(slow.seconds) == 7
    assert len(fast.seconds) == 20
    assert statistics.median(fast.seconds) < statistics.median(slow.seconds)


def test_large_batches_come_from_memory():
    large = np.zeros((64, budgets.VOCAB // 4), dtype=np.float32)
    batches = budgets.copies(large)
    assert batches[0] is large
    assert sum(batch.nbytes for batch in batches[1:]) >= min(2 * budgets._last_cache_bytes(), 2**30)
    assert len({batch.ctypes.data for batch in batches}) == len(batches)


@pytest.mark.parametrize("kind", budgets.ROWS)
def test_rows_are_the_same_at_every_call(kind):
    assert (budgets.make_rows(kind, 2, 300) == budgets.make_rows(kind, 2, 300)).all()
    assert np.isfinite(budgets.make_rows(kind, 2, 300)).all()
