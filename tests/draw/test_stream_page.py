# SPDX-License-Identifier: Apache-2.0
"""docs/stream.md says what the code does: its program draws golden tokens, its constants are the headers'."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tests.vectors import golden
from tokendraw import reference

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "stream.md").read_text(encoding="utf-8")
TABLE = dict(re.findall(r"^\| (k\w+) \| ([^|]+) \|", PAGE, re.MULTILINE))
PROGRAM = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
KEPT = golden.load()


@pytest.fixture(scope="module")
def draw_token() -> Callable[..., int]:
    (text,) = PROGRAM
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "docs/stream.md", "exec"), names)
    function: Callable[..., int] = names["draw_token"]
    return function


def scores_of(batch: golden.Batch, draw: int) -> NDArray[np.float32]:
    """Return the scores of a draw after its edits."""
    with np.errstate(over="ignore"):
        scores = batch.logits[draw].astype(np.float32)
    vocab = len(scores)
    bias, mask = batch.keywords.get("bias"), batch.keywords.get("mask")
    if bias is not None:
        scores = scores + reference.bias_array(bias if isinstance(bias, dict) else bias[draw], vocab)
    if mask is not None:
        scores = np.where(reference.unpack_mask(mask[draw], vocab), scores, np.float32(-np.inf))
    return scores


# What the program of the page knows.
KNOWN = {*golden.OF_ROWS, "temperature", "top_k", "top_p", "min_p"}
KNOWN_GROUPS = [group for group in golden.groups() if set(group.choices) <= KNOWN]


def test_most_golden_draws_are_of_known_groups() -> None:
    assert sum(group.draws for group in KNOWN_GROUPS) >= 100_000


@pytest.mark.parametrize("group", KNOWN_GROUPS, ids=lambda group: group.name)
def test_the_program_of_the_page_draws_the_golden_tokens(
    draw_token: Callable[..., int], group: golden.Group
) -> None:
    batches = [batch for batch in golden.cases()[group.name] if batch.logits.shape[-1] <= 5000]
    each = max(1, 48 // len(batches))
    for batch in (batch.first(each) for batch in batches):
        columns = {name: value for name, value in batch.keywords.items() if name not in ("mask", "bias")}
        for draw, expected in enumerate(KEPT[group.name][batch.draws].tolist()):
            place = {name: column[draw].item() for name, column in columns.items()}
            with np.errstate(over="ignore", invalid="ignore"):
                assert draw_token(scores_of(batch, draw), **place) == expected, place


@pytest.mark.parametrize("name", TABLE)
def test_a_constant_of_the_page_is_that_of_the_code(name: str) -> None:
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "cpp").glob("*/*.*")]
    found = {match for text in sources for match in re.findall(rf"constexpr \S+ {name} = ([^;]+);", text)}
    assert {value.removesuffix("f") for value in found} == {TABLE[name].strip()}


def test_the_polynomial_of_the_page_is_that_of_the_code() -> None:
    header = (ROOT / "cpp" / "core" / "exponential.h").read_text(encoding="utf-8")
    fraction = header[header.index("exp2_fraction") : header.index("exp2_double")]
    coefficients = [
        float.fromhex(text) for text in re.findall(r"Float\((0x[0-9a-f.]+p[-+]?\d+)f\)", fraction)
    ]
    page = re.search(r"EXP2 = \[(.*?)\]", PROGRAM[0], re.DOTALL)
    assert page is not None
    told = [float.fromhex(text) for text in re.findall(r'"(0x[^"]+)"', page[1])]
    assert len(coefficients) == 5
    assert told == [*coefficients, 1.0]
