# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

import tokendraw as td


@pytest.fixture
def spoiled():
    logits = np.random.default_rng(6).normal(size=(5, 40)).astype(np.float32)
    logits[1, 3] = np.nan
    logits[2, :] = -np.inf
    logits[4, 39] = np.inf
    return logits


REASONS = r"nothing can be drawn from row 1 \(NaN\), row 2 \(no finite score\), row 4 \(\+inf\)"


def test_invalid_rows_raise_after_the_others(spoiled):
    with pytest.raises(td.InvalidLogitsError, match=REASONS) as caught:
        td.sample(spoiled, seed=3)
    assert isinstance(caught.value, ValueError)
    assert caught.value.rows == (1, 2, 4)
    expected = [td.sample(row, seed=3, stream=i) for i, row in enumerate(spoiled) if i in (0, 3)]
    assert caught.value.tokens[[0, 3]].tolist() == expected
    assert caught.value.tokens[[1, 2, 4]].tolist() == [-1, -1, -1]


def test_a_mask_does_not_hide_what_is_no_number(spoiled):
    mask = np.ones(40, dtype=bool)
    mask[[3, 39]] = False
    drawn = td.draw(spoiled, mask=mask, on_invalid="mark", seed=1)
    assert drawn.valid.tolist() == [True, False, False, True, False]


@pytest.mark.parametrize("transform", [td.softmax, td.log_softmax, td.filter_logits])
def test_marked_rows_are_nan(spoiled, transform):
    rows = transform(spoiled, on_invalid="mark", top_k=5)
    assert np.isnan(rows).all(axis=1).tolist() == [False, True, True, False, True]
    with pytest.raises(td.InvalidLogitsError, match=REASONS):
        transform(spoiled)


def test_marked_draws(spoiled):
    drawn = td.draw(spoiled, on_invalid="mark", logprobs=2, seed=1)
    bad = [1, 2, 4]
    assert drawn.tokens[bad].tolist() == [-1, -1, -1]
    assert drawn.kept[bad].tolist() == [0, 0, 0]
    assert np.isnan(drawn.logprobs[bad]).all()
    assert np.isnan(drawn.raw_logprobs[bad]).all()
    kept = td.kept_set(spoiled, on_invalid="mark")
    assert np.diff(kept.offsets).tolist() == [40, 0, 0, 40, 0]


def test_a_forbidden_row_has_no_finite_score():
    logits = np.zeros((2, 5), dtype=np.float32)
    mask = np.array([[True] * 5, [False] * 5])
    with pytest.raises(td.InvalidLogitsError, match=r"row 1 \(no finite score\)"):
        td.greedy(logits, mask=mask)
    with pytest.raises(td.InvalidLogitsError, match=r"row 0 \(no finite score\), row 1 \(no finite score\)"):
        td.sample(logits, bias=np.full(5, -np.inf, dtype=np.float32))


def test_one_row_raises_with_a_scalar():
    with pytest.raises(td.InvalidLogitsError) as caught:
        td.sample(np.float32([np.nan, 0.0]))
    assert caught.value.tokens == -1
    assert td.sample(np.float32([np.nan, 0.0]), on_invalid="mark") == -1
