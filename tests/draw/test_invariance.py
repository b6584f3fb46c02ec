# SPDX-License-Identifier: Apache-2.0
"""A row's token depends on its logits, parameters, seed, stream and step, and on nothing else."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td

ROWS, SIZE = 12, 5000
LOGITS = np.random.default_rng(11).normal(0, 2, (ROWS, SIZE)).astype(np.float32)
SEED, STEP = 77, 5

FILTERS: dict[str, dict[str, Any]] = {
    "all": {"temperature": 0.9},
    "greedy": {"temperature": 0.0},
    "top_k": {"top_k": 50},
    "top_p": {"top_p": 0.9, "temperature": 1.4},
    "top_k, top_p": {"top_k": 50, "top_p": 0.9},
    "min_p": {"min_p": 0.05},
    "typical": {"typical_p": 0.6, "temperature": 0.8},
    "cutoffs": {"epsilon_cutoff": 1e-4, "eta_cutoff": 2e-4, "top_n_sigma": 2.5},
    "xtc": {"xtc_probability": 1.0, "xtc_threshold": 0.001},
    "high ties": {"top_p": 0.9, "top_p_ties": "highest"},
    "penalties": {
        "history": np.random.default_rng(12).integers(-1, 60, (ROWS, 40)),
        "repetition_penalty": 1.3,
        "frequency_penalty": 0.2,
        "dry_multiplier": 0.5,
    },
    "mixed": {
        "temperature": np.linspace(0, 2, ROWS),
        "top_k": np.arange(ROWS) * 150,
        "top_p": np.linspace(0.3, 1, ROWS),
        "min_p": np.linspace(0, 0.1, ROWS),
    },
}
every_filter = pytest.mark.parametrize("name", FILTERS)


def tokens_of(name: str) -> np.ndarray:
    return td.sample(LOGITS, seed=SEED, step=STEP, **FILTERS[name])


def rows_of(name: str, rows: Any) -> dict[str, Any]:
    """Return the filters of some of the rows."""
    return {key: value[rows] if np.ndim(value) else value for key, value in FILTERS[name].items()}


@every_filter
def test_order_of_the_batch(name: str, isa: str) -> None:
    order = np.random.default_rng(1).permutation(ROWS)
    shuffled = td.sample(LOGITS[order], seed=SEED, stream=order, step=STEP, **rows_of(name, order))
    assert np.array_equal(shuffled, tokens_of(name)[order])


@every_filter
def test_alone_or_in_a_batch(name: str, isa: str) -> None:
    for row, token in enumerate(tokens_of(name)):
        alone = td.sample(LOGITS[row], seed=SEED, stream=row, step=STEP, **rows_of(name, row))
        assert alone == token
        assert isinstance(alone, int)


@every_filter
def test_a_seed_per_row(name: str, isa: str) -> None:
    seeds = np.arange(ROWS, dtype=np.uint64) + np.uint64(2**63)
    batch = td.sample(LOGITS, seed=seeds, step=STEP, **FILTERS[name])
    for row, token in enumerate(batch):
        alone = td.sample(LOGITS[row], seed=int(seeds[row]), stream=0, step=STEP, **rows_of(name, row))
        assert alone == token


@every_filter
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads(name: str, threads: int, isa: str) -> None:
    assert np.array_equal(
        td.sample(LOGITS, seed=SEED, step=STEP, threads=threads, **FILTERS[name]), tokens_of(name)
    )


LARGE = np.random.default_rng(13).normal(0, 2, (1, 300_000)).astype(np.float32)


@pytest.mark.parametrize("name", [name for name in FILTERS if name not in ("mixed", "penalties")])
def test_threads_that_share_a_row(name: str, isa: str) -> None:
    """A long row: its tiles are spread over the threads."""
    place = {"seed": SEED, "step": STEP, "logprobs": 3, **FILTERS[name]}
    alone = td.draw(LARGE, threads=1, **place)
    for threads in (2, 5):
        shared = td.draw(LARGE, threads=threads, **place)
        assert all(np.array_equal(a, b) for a, b in zip(shared, alone, strict=True))


@pytest.mark.parametrize("seeds", [[2**63, 1], [0, 2**64 - 1], [5, 6]])
def test_seeds_of_any_size_in_a_list(seeds: list[int]) -> None:
    tokens = td.sample(LOGITS[:2], seed=seeds)
    for row, token in enumerate(tokens):
        assert td.sample(LOGITS[row], seed=seeds[row], stream=0) == token


def reverse(logits: np.ndarray) -> np.ndarray:
    return logits[::-1].copy()[::-1]


def every_second_row(logits: np.ndarray) -> np.ndarray:
    return np.repeat(logits, 2, axis=0)[::2]


def part_of_wider_rows(logits: np.ndarray) -> np.ndarray:
    return np.pad(logits, ((0, 0), (3, 9)))[:, 3:-9]


def strided_last_axis(logits: np.ndarray) -> np.ndarray:
    return np.repeat(logits, 3, axis=1)[:, ::3]


def columns_first(logits: np.ndarray) -> np.ndarray:
    return np.asfortranarray(logits)


def unaligned_rows(logits: np.ndarray) -> np.ndarray:
    buffer = np.empty(logits.size + 1, dtype=np.float32)
    buffer[1:] = logits.ravel()
    return buffer[1:].reshape(logits.shape)


def read_only(logits: np.ndarray) -> np.ndarray:
    frozen = logits.copy()
    frozen.flags.writeable = False
    return frozen


LAYOUTS = (
    reverse,
    every_second_row,
    part_of_wider_rows,
    strided_last_axis,
    columns_first,
    unaligned_rows,
    read_only,
)


@every_filter
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_strides(name: str, layout: Callable[[np.ndarray], np.ndarray], isa: str) -> None:
    logits = layout(LOGITS)
    assert np.array_equal(logits, LOGITS)
    assert np.array_equal(td.sample(logits, seed=SEED, step=STEP, **FILTERS[name]), tokens_of(name))


@every_filter
@pytest.mark.parametrize("leading", [(3, 4), (2, 1, 6), (12, 1)])
def test_leading_shape(name: str, leading: tuple[int, ...], isa: str) -> None:
    shaped = td.sample(LOGITS.reshape(*leading, SIZE), seed=SEED, step=STEP, **FILTERS[name])
    assert np.array_equal(shaped, tokens_of(name).reshape(leading))


@every_filter
def test_outputs_asked_for(name: str, isa: str) -> None:
    tokens = tokens_of(name)
    place = {"seed": SEED, "step": STEP, **FILTERS[name]}
    for count in (0, 1, 20):
        assert np.array_equal(td.draw(LOGITS, logprobs=count, **place).tokens, tokens)
    for dtype in (np.int32, np.int64):
        out = np.empty(ROWS, dtype=dtype)
        td.sample(LOGITS, out=out, **place)
        assert np.array_equal(out, tokens)


@every_filter
def test_instruction_sets_compute_the_same_bits(name: str, set_isa: Callable[[str], None]) -> None:
    answers = []
    for isa in td.build_info()["isas"]:
        set_isa(isa)
        draws = td.draw(LOGITS, seed=SEED, step=STEP, logprobs=9, **FILTERS[name])
        others = (td.softmax, td.log_softmax, td.filter_logits)
        sets = td.kept_set(LOGITS, **FILTERS[name])
        answers.append([*draws, *sets, *(other(LOGITS, **FILTERS[name]) for other in others)])
    for other in answers[1:]:
        for ours, theirs in zip(answers[0], other, strict=True):
            assert np.array_equal(ours, theirs)


@every_filter
def test_neighbours(name: str, isa: str) -> None:
    """Rows that cannot be drawn from, and rows with other parameters, change nothing beside them."""
    tokens = tokens_of(name)
    spoilt = LOGITS.copy()
    spoilt[1, 17] = np.nan
    spoilt[4] = -np.inf
    spoilt[7, -1] = np.inf
    spoilt[9] *= -1
    untouched = [row for row in range(ROWS) if row not in (1, 4, 7, 9)]
    marked = td.draw(spoilt, seed=SEED, step=STEP, on_invalid="mark", **FILTERS[name])
    assert np.array_equal(marked.tokens[untouched], tokens[untouched])
    assert np.flatnonzero(~marked.valid).tolist() == [1, 4, 7]


@every_filter
def test_the_input_is_not_written(name: str, isa: str) -> None:
    logits = LOGITS.copy()
    mask = np.random.default_rng(2).random(LOGITS.shape) < 0.9
    bias = np.random.default_rng(3).normal(0, 1, SIZE).astype(np.float32)
    before = [values.copy() for values in (logits, mask, bias)]
    td.draw(logits, seed=SEED, logprobs=3, mask=mask, bias=bias, **FILTERS[name])
    td.filter_logits(logits, mask=mask, bias=bias, **FILTERS[name])
    for values, copy in zip((logits, mask, bias), before, strict=True):
        assert np.array_equal(values, copy)


def test_a_sampler_counts_its_steps(isa: str) -> None:
    sampler = td.Sampler(top_p=0.9, seed=SEED)
    for step in range(4):
        assert np.array_equal(sampler(LOGITS), td.sample(LOGITS, top_p=0.9, seed=SEED, step=step))


def test_without_a_seed_calls_differ() -> None:
    flat = np.zeros((4, 32768), dtype=np.float32)
    assert not np.array_equal(td.sample(flat), td.sample(flat))
