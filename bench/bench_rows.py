# SPDX-License-Identifier: Apache-2.0
"""Every job of the table on rows it is not judged on: flat, tied, heavy-tailed, and those of real models."""

from collections.abc import Iterator

import numpy as np
import pytest

from bench import real_logits
from bench.contest import Contest, Recipe, batches_of, beside_floor, contests
from bench.results import TOKENDRAW
from tokendraw.budgets import BATCH, FLOOR, JOBS, ROWS, copies, make_rows, present


def recipes() -> Iterator[Recipe]:
    jobs = present(JOBS)
    counts = sorted({rows for job in jobs.values() for rows in job.budgets})
    for rows in counts:
        for kind in (*ROWS, *real_logits.SOURCES):
            for name, job in jobs.items():
                if rows in job.budgets and kind != job.rows:
                    yield recipe(name, kind, rows)


def recipe(name: str, kind: str, rows: int) -> Recipe:
    def make(vocab: int) -> Contest:
        is_real = kind in real_logits.SOURCES
        batches = copies(predicted(kind).rows(rows)) if is_real else batches_of(kind, rows, vocab)
        return beside_floor(JOBS[name], kind, batches)

    return Recipe(f"{name}-{kind}-{rows}", (TOKENDRAW, FLOOR), make)


@contests(recipes())
def test_rows(play):
    answer = play()
    assert len(answer[0] if isinstance(answer, tuple) else answer) > 0


def test_tied_and_heavy_tailed_rows_are_what_their_names_say():
    values = np.unique(make_rows("tied", 1))
    assert values.size < 60
    row = make_rows("heavy-tailed", 1)[0]
    assert np.sort(row)[-1] > 20 * np.sort(row)[-1000]


def predicted(model: str) -> real_logits.Predicted:
    """Return a model's logits, or skip where it is not installed."""
    try:
        return real_logits.SOURCES[model]()
    except ImportError as error:
        pytest.skip(f"{model} is not installed: {error}")


@pytest.mark.parametrize("model", real_logits.SOURCES)
def test_real_logits_predict_the_text(model):
    """Far better than chance: the model was read rightly."""
    found = predicted(model)
    vocab = found.logits.shape[1]
    assert len(found.rows(BATCH)) == BATCH
    assert found.surprise < np.log(vocab) / 2
