# SPDX-License-Identifier: Apache-2.0
"""Predicted times follow from the budgets, and docs/cuda.md shows those of now."""

import dataclasses

import pytest

from tests.cuda.static import predictions
from tests.cuda.static.predictions import DEVICES, JOBS, Case, kernel_time

GREEDY, DENSE = JOBS[0], JOBS[-1]


def test_the_page_shows_what_the_budgets_say():
    page = predictions.PAGE.read_text(encoding="utf-8")
    assert [page.count(mark) for mark in (predictions.BEGIN, predictions.END)] == [1, 1]
    assert predictions.written(page) == page, "run python -m tests.cuda.static.predictions"


def test_a_page_keeps_what_is_around_the_marks():
    page = f"before\n{predictions.BEGIN}old\n{predictions.END}after\n"
    assert predictions.written(page).startswith("before\n")
    assert predictions.written(page).endswith(f"{predictions.END}after\n")
    assert "old" not in predictions.written(page)


def test_the_floor_is_one_read():
    case = Case(DEVICES[0], "float32", 512, 128256)
    assert case.floor == pytest.approx(512 * 128256 * 4 / (0.9 * 3.35e12))
    assert Case(DEVICES[0], "bfloat16", 512, 128256).floor == pytest.approx(case.floor / 2)


@pytest.mark.parametrize("device", DEVICES, ids=lambda device: device.name)
@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.name)
def test_no_prediction_beats_the_floor_or_shrinks_with_the_batch(job, device):
    for element in predictions.ELEMENTS:
        for vocab in predictions.VOCABS:
            times = [kernel_time(job, Case(device, element, batch, vocab)) for batch in predictions.BATCHES]
            floors = [Case(device, element, batch, vocab).floor for batch in predictions.BATCHES]
            assert all(time > floor for time, floor in zip(times, floors, strict=True))
            assert times == sorted(times)


def test_more_instructions_take_longer_where_they_are_the_bound():
    case = Case(DEVICES[0], "bfloat16", 512, 262144)
    sums = next(job for job in JOBS if job.name == "temperature")
    more = dataclasses.replace(sums, share=0.5)
    assert predictions.issue_time(more, case) > predictions.issue_time(sums, case)


def test_blocks_of_a_row_are_those_of_tuning():
    # choose_geometry() of cpp/cuda/tuning.h
    assert Case(DEVICES[0], "float32", 1, 128256).blocks == 8
    assert Case(DEVICES[0], "float32", 64, 128256).blocks == 4
    assert Case(DEVICES[0], "float32", 512, 128256).blocks == 1
    assert Case(DEVICES[0], "float32", 1, 32000).blocks == 4


def test_dense_nuclei_are_read_twice():
    case = Case(DEVICES[0], "float32", 512, 262144)
    assert predictions.memory_time(DENSE, case) == pytest.approx(2 * case.floor)
    assert predictions.memory_time(GREEDY, case) == pytest.approx(case.floor)
