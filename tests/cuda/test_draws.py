# SPDX-License-Identifier: Apache-2.0
"""One meaning: the tokens that a device draws are those of the CPU, bit for bit."""

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import DTYPES, INVALID, VALID, generator, matrix
from tests.cuda import emulated
from tests.cuda.arrays import numpy_of, to_device
from tests.vectors import draws, golden

pytestmark = pytest.mark.usefixtures("cuda")

FILTERS = {
    "none": {},
    "greedy": {"temperature": 0.0},
    "cold": {"temperature": 0.3},
    "hot": {"temperature": 1.7},
    "min_p": {"min_p": 0.05, "temperature": 1.3},
    "top_k": {"top_k": 40},
    "top_k 1": {"top_k": 1, "temperature": 3.0},
    "long list": {"top_k": 1000, "top_p": 0.9},
    "longer than a list": {"top_k": 1500},
    "top_p": {"top_p": 0.9},
    "small top_p": {"top_p": 0.2, "temperature": 2.0},
    "all": {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02},
    "top_p and min_p": {"top_p": 0.97, "min_p": 1e-4, "temperature": 1.5},
}
OPTIONS = {"seed": 0x9E3779B97F4A7C15, "on_invalid": "mark"}


def assert_same(logits, device=0, array=None, **arguments):
    arguments = {**OPTIONS, **arguments}
    expected = td.sample(logits, **arguments)
    found = td.sample(to_device(logits, device) if array is None else array, **arguments)
    np.testing.assert_array_equal(numpy_of(found), expected)


# ---- over rows, sizes, types and filters ----


@pytest.mark.parametrize("filters", FILTERS)
@pytest.mark.parametrize("size", [1, 15, 33, 1000, 1025, 2049])
def test_adversarial_rows(size, filters):
    assert_same(matrix(size, DTYPES["float32"]), step=size, **FILTERS[filters])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("filters", ["none", "greedy", "all", "top_p and min_p"])
@pytest.mark.parametrize("size", [17, 65, 1024, 3001])
def test_types(size, filters, dtype):
    assert_same(matrix(size, DTYPES[dtype])[::3], step=size + 1, **FILTERS[filters])


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("capability", sorted(set(emulated.CAPABILITIES)))
@pytest.mark.parametrize("filters", ["none", "min_p", "top_k", "top_p", "all"])
def test_rows_that_blocks_share(filters, capability):
    """Few rows of a large vocab: by clusters, or below 9.0 by blocks of which the last one finishes."""
    logits = np.stack([VALID[name](50257) for name in ("normal", "few_levels")])
    assert_same(logits, emulated.CAPABILITIES.index(capability), **FILTERS[filters])


@pytest.mark.parametrize("size", [32000, 128256])
def test_large_vocabs(size):
    for name in ("peaked", "two_levels", "holes"):
        assert_same(VALID[name](size)[None], step=3, **FILTERS["all"])


# ---- a few listed tokens, whose tiles are not read again ----

FEW = {
    "spread": lambda random, size: random.normal(0, 3, (4, size)),
    "flat": lambda random, size: np.zeros((4, size)),
    "steps": lambda random, size: np.floor(random.normal(0, 2, (4, size))),
    "huge": lambda random, size: random.normal(0, 1e30, (4, size)),
    "neighbours": lambda random, size: random.normal(0, 0.1, (4, size)) - np.abs(np.arange(size) - 30) / 7,
}


@pytest.mark.parametrize("kind", FEW)
@pytest.mark.parametrize("size", [40, 1024, 2500])
def test_draws_from_a_few_listed_tokens(size, kind):
    random = generator(29, size, list(FEW).index(kind))
    logits = FEW[kind](random, size).astype(np.float32)
    for top_k in (2, 3, 31, 127, 128, 129):
        for filters in ({}, {"top_p": 0.8}, {"min_p": 0.1, "temperature": 1.7}):
            assert_same(logits, top_k=top_k, step=top_k, **filters)


@pytest.mark.usefixtures("emulator")
@pytest.mark.parametrize("schedule", [1, 2, 3])
@pytest.mark.parametrize("filters", ["min_p", "all", "top_p"])
def test_any_order_of_threads(filters, schedule):
    emulated.library().emulated_set_schedule(schedule)
    assert_same(matrix(2049, DTYPES["float32"])[::4], **FILTERS[filters])
    assert_same(VALID["normal"](33000)[None], **FILTERS[filters])


def test_invalid_rows_change_no_other():
    logits = np.stack(
        [VALID["normal"](1500), *(row(1500) for row in INVALID.values()), VALID["peaked"](1500)]
    )
    assert_same(logits, **FILTERS["all"])
    assert_same(logits, temperature=0.0)


# ---- edits ----


@pytest.mark.parametrize("on_device", [True, False])
@pytest.mark.parametrize("size", [31, 1100, 2049])
def test_edits(size, on_device):
    random = generator(size, 77)
    logits = matrix(size, DTYPES["float32"])[::2]
    rows = len(logits)
    allowed = random.random((rows, size)) < 0.6
    allowed[:, size // 2] = True
    padded = np.pad(allowed, ((0, 0), (0, -size % 32)))
    words = np.packbits(padded, axis=1, bitorder="little").view(np.int32)
    bias = random.normal(0, 3, (rows, size)).astype(np.float32)
    bias[:, ::5] = -np.inf
    edits = {
        "mask": (allowed, allowed[0], words, words[1], words[:, : max(1, size // 64)]),
        "bias": (bias, bias[0]),
    }
    for name, values in edits.items():
        for value in values:
            arguments = {**OPTIONS, "temperature": 1.2, "min_p": 0.001}
            expected = td.sample(logits, **arguments, **{name: value})
            given = to_device(value) if on_device else value
            found = td.sample(to_device(logits), **arguments, **{name: given})
            np.testing.assert_array_equal(numpy_of(found), expected)
    few = {0: 2.5, size // 2: -1.25, size - 1: -np.inf}
    assert_same(logits, bias=few, top_k=20)
    assert_same(logits, bias={token % size: token / 100 for token in range(256)}, mask=allowed)


# ---- one value per row ----


def per_row(rows):
    random = generator(rows, 5)
    return {
        "temperature": random.choice([0.0, 0.5, 1.0, 1.7], rows),
        "top_k": random.choice([0, 1, 5, 40, 3000], rows),
        "top_p": random.choice([0.3, 0.9, 1.0], rows),
        "min_p": random.choice([0.0, 0.05, 1.0], rows),
        "seed": random.integers(0, 2**64, rows, np.uint64),
        "stream": random.integers(0, 2**56, rows),
        "step": random.integers(0, 2**32, rows),
    }


@pytest.mark.parametrize("on_device", [True, False])
def test_one_value_per_row(on_device):
    logits = np.concatenate([matrix(1300, DTYPES["float32"])] * 2)
    values = per_row(len(logits))
    expected = td.sample(logits, on_invalid="mark", **values)
    given = {name: to_device(value) if on_device else value for name, value in values.items()}
    found = td.sample(to_device(logits), **given)
    np.testing.assert_array_equal(numpy_of(found), expected)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_real_values_of_any_width(dtype):
    logits = matrix(300, DTYPES["float32"])
    values = np.linspace(0.25, 2, len(logits)).astype(dtype)
    expected = td.sample(logits, temperature=values, **OPTIONS)
    found = td.sample(to_device(logits), temperature=to_device(values), **OPTIONS)
    np.testing.assert_array_equal(numpy_of(found), expected)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_integers_of_any_width(dtype):
    logits = matrix(300, DTYPES["float32"])
    values = (np.arange(len(logits)) + 1).astype(dtype)
    for name in ("top_k", "seed", "step"):
        expected = td.sample(logits, **{**OPTIONS, name: values})
        found = td.sample(to_device(logits), **{**OPTIONS, name: to_device(values)})
        np.testing.assert_array_equal(numpy_of(found), expected)


ILLEGAL = {
    "temperature": [-1.0, np.nan, np.inf],
    "top_k": [-1, -5, -(2**40)],
    "top_p": [0.0, 2.0, np.nan],
    "min_p": [-0.5, 1.5, np.nan],
    "stream": [-1, 2**56, 2**60],
    "step": [-1, 2**32, 2**40],
}


@pytest.mark.parametrize("name", ILLEGAL)
def test_an_illegal_value_on_the_device_marks_its_row(name):
    logits = np.stack([VALID["normal"](500)] * 4)
    legal = {"top_k": 3, "stream": 3, "step": 3}.get(name, 0.5)
    values = np.array([*ILLEGAL[name], legal])
    tokens = td.sample(to_device(logits), seed=1, **{name: to_device(values)})
    expected = td.sample(logits, seed=1, **{name: [legal] * 4})
    assert numpy_of(tokens).tolist() == [-1, -1, -1, expected[3]]


# ---- the draws that no release may change ----

SUPPORTED = {"temperature", "top_k", "top_p", "min_p", *golden.OF_ROWS}
GROUPS = [group for group in golden.groups() if set(group.choices) <= SUPPORTED]


def test_there_are_golden_draws_for_a_device():
    assert len(GROUPS) >= 3


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_golden_draws(group):
    kept = golden.load()[group.name]
    for number, batch in enumerate(golden.batches(group)):
        if number % 5:
            continue
        first = batch.first(6)
        found = td.sample(to_device(first.logits), **first.keywords)
        np.testing.assert_array_equal(numpy_of(found), kept[first.draws])


def test_the_draws_of_the_file():
    """Those of one vocab in a call; every one has parameters of its own."""
    for vocab in (1, 33, 1025, 3001):
        lines = [draw for draw in draws.load() if draw["vocab"] == vocab][:60]
        logits = np.stack([draws.logits_of(draw) for draw in lines])
        names = ("temperature", "top_k", "top_p", "min_p", "seed", "stream", "step")
        types = {"seed": np.uint64}
        values = {name: np.array([draw[name] for draw in lines], types.get(name)) for name in names}
        found = td.sample(to_device(logits), **values)
        assert numpy_of(found).tolist() == [draw["token"] for draw in lines]
