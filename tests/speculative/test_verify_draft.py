# SPDX-License-Identifier: Apache-2.0
"""verify_draft follows the reference, and depends on nothing but what the contract names."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import DTYPES
from tokendraw import reference

Case = dict[str, Any]
ROWS, COUNT = 6, 4
GOLDEN = [(112, 21371242), (0, 8435903), (57, 13766564), (0, 8442806)]
CHAIN = None
TREES = {
    "chain": CHAIN,
    "siblings": (-1, -1, -1, -1),
    "tree": (-1, -1, 0, 0),
    "late sibling": (-1, 0, -1, 2),
}

FILTERS: dict[str, Case] = {
    "all": {},
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.6},
    "top_k": {"top_k": 5},
    "top_p": {"top_p": 0.8},
    "both": {"top_k": 20, "top_p": 0.9},
    "min_p": {"min_p": 0.1},
    "typical": {"typical_p": 0.7},
    "xtc": {"xtc_probability": 0.5, "xtc_threshold": 0.05},
    "high ties": {"top_p": 0.9, "top_p_ties": "highest"},
    "rows": {"temperature": np.linspace(0, 1.5, ROWS), "top_k": np.arange(ROWS) * 3},
    "penalties": {
        "history": [[1, 2, 3], [], [5] * 4, [0, 1, 0, 1], [2], [7, 7]],
        "repetition_penalty": 1.5,
        "frequency_penalty": 0.3,
        "dry_multiplier": 0.8,
        "dry_allowed_length": 1,
        "prompt_lengths": 1,
    },
    "min_tokens": {"min_tokens": 6, "eos_token_id": [0, 1], "steps": ("temperature",)},
}


def case(vocab: int, seed: int, dtype: str = "float32", near: float = 0.5) -> tuple[Any, Any, Any]:
    """Return drafts among likely tokens, and logits of which the draft's are near the target's."""
    random = np.random.default_rng(seed)
    target = random.normal(0, 2, (ROWS, COUNT + 1, vocab))
    draft = target[:, :-1] + near * random.normal(0, 2, (ROWS, COUNT, vocab))
    likely = np.argsort(-draft, axis=-1)[..., :3]
    picked = random.integers(0, min(3, vocab), (ROWS, COUNT, 1))
    tokens = np.take_along_axis(likely, picked, axis=-1)[..., 0]
    to = DTYPES[dtype]
    return tokens, draft.astype(to), target.astype(to)


def same(one: Any, other: Any) -> bool:
    return np.array_equal(one.tokens, other.tokens) and np.array_equal(one.accepted, other.accepted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("filters", FILTERS)
def test_follows_the_reference(filters: str, dtype: str, set_isa: Callable[[str], None]) -> None:
    for seed, vocab in enumerate((2, 33, 1500) if dtype == "float32" else (40,)):
        drafts, draft, target = case(vocab, seed, dtype)
        options: Case = {"seed": seed, "step": 3, **FILTERS[filters]}
        if vocab < 8 and {"history", "min_tokens"} & set(options):
            continue
        for name, parents in TREES.items():
            if parents is not None:
                options["parents"] = np.broadcast_to(parents, drafts.shape)
            kinds = ((False, draft), (True, draft), (False, None))
            for replacement, logits in kinds if parents is not None else kinds[::2]:
                options["replacement"] = replacement
                expected = reference.verify_draft(drafts, logits, target, **options)
                for isa in td.build_info()["isas"]:
                    set_isa(isa)
                    assert same(td.verify_draft(drafts, logits, target, **options), expected), (name, isa)


def test_the_reference_is_not_followed_by_chance() -> None:
    """The cases above hold acceptances at every depth, and replacements."""
    counts = np.concatenate(
        [td.verify_draft(*case(33, seed), seed=seed).accepted for seed in range(40)],
    )
    assert (np.bincount(counts, minlength=COUNT + 1) > 5).all()


@pytest.mark.parametrize("filters", FILTERS)
def test_a_row_alone_or_in_a_batch(filters: str, isa: str) -> None:
    drafts, draft, target = case(2500, 7)
    options = FILTERS[filters]
    batch = td.verify_draft(drafts, draft, target, seed=9, step=2, **options)
    for threads in (1, 2, 5):
        assert same(td.verify_draft(drafts, draft, target, seed=9, step=2, threads=threads, **options), batch)
    for row in range(ROWS):
        own = {
            name: value[row] if name == "history" or isinstance(value, np.ndarray) else value
            for name, value in options.items()
        }
        alone = td.verify_draft(drafts[row], draft[row], target[row], seed=9, stream=row, step=2, **own)
        assert np.array_equal(alone.tokens, batch.tokens[row])
        assert alone.accepted == batch.accepted[row]
        assert isinstance(alone.accepted, int)


def test_rows_shared_by_threads_are_the_same() -> None:
    """Large enough that several threads are used."""
    random = np.random.default_rng(3)
    target = random.normal(0, 2, (8, COUNT + 1, 40_000)).astype(np.float32)
    draft = target[:, :-1] + random.normal(0, 1, (8, COUNT, 40_000)).astype(np.float32)
    drafts = td.sample(draft, seed=1, stream=np.repeat(np.arange(8), 4), step=np.tile(np.arange(4), 8))
    runs = [td.verify_draft(drafts, draft, target, seed=1, threads=threads) for threads in (1, 2, 3)]
    assert all(same(run, runs[0]) for run in runs)
    assert len(set(runs[0].accepted.tolist())) > 1


def test_strides_and_kinds_of_arrays() -> None:
    drafts, draft, target = case(300, 4)
    expected = td.verify_draft(drafts, draft, target, seed=2)
    wide = np.repeat(target, 2, axis=1)[:, ::2]
    columns = np.asfortranarray(draft)
    assert same(td.verify_draft(drafts.tolist(), columns, wide, seed=2), expected)
    assert expected.tokens.dtype == np.int32
    assert expected.accepted.dtype == np.int64
    shaped = td.verify_draft(
        drafts.reshape(2, 3, -1),
        draft.reshape(2, 3, COUNT, 300),
        target.reshape(2, 3, COUNT + 1, 300),
        seed=2,
    )
    assert shaped.tokens.shape == (2, 3, COUNT + 1)
    assert np.array_equal(shaped.accepted.ravel(), expected.accepted)


def test_torch_in_torch_out() -> None:
    torch = pytest.importorskip("torch")
    drafts, draft, target = case(300, 4)
    expected = td.verify_draft(drafts, draft, target, seed=2)
    found = td.verify_draft(*map(torch.from_numpy, (drafts, draft, target)), seed=2)
    assert isinstance(found.tokens, torch.Tensor)
    assert np.array_equal(found.tokens.numpy(), expected.tokens)
    assert np.array_equal(found.accepted.numpy(), expected.accepted)


def test_ragged_rows_are_their_drafts_alone() -> None:
    drafts, draft, target = case(50, 5)
    sizes = np.array([0, 1, 2, 3, 4, 2])
    padded = np.where(np.arange(COUNT) < sizes[:, None], drafts, -1)
    ragged = td.verify_draft(padded, draft, target, seed=3)
    for row, size in enumerate(sizes):
        alone = td.verify_draft(
            drafts[row, :size], draft[row, :size], target[row, : size + 1], seed=3, stream=row
        )
        assert np.array_equal(ragged.tokens[row, : size + 1], alone.tokens)
        assert (ragged.tokens[row, size + 1 :] == -1).all()
        assert ragged.accepted[row] == alone.accepted
    assert (np.count_nonzero(ragged.tokens >= 0, axis=1) == ragged.accepted + 1).all()


def test_no_drafts_at_all() -> None:
    target = case(50, 5)[2][:, :1]
    empty = np.zeros((ROWS, 0), dtype=np.int64)
    for logits in (None, target[:, :0]):
        verified = td.verify_draft(empty, logits, target, seed=3)
        assert (verified.accepted == 0).all()
        assert (verified.tokens >= 0).all()
    assert td.verify_draft(empty[:0], None, target[:0], seed=3).tokens.shape == (0, 1)


def test_greedy_takes_the_drafts_that_the_target_says() -> None:
    drafts, draft, target = case(50, 6)
    best = target.argmax(axis=-1)
    drafts = np.where(np.random.default_rng(1).random(drafts.shape) < 0.7, best[:, :-1], drafts)
    for logits in (None, draft):
        verified = td.verify_draft(drafts, logits, target, temperature=0, seed=1)
        for row in range(ROWS):
            agrees = drafts[row] == best[row, :-1]
            if logits is not None:  # a greedy draft says its best token, and is asked about no other
                agrees &= draft[row].argmax(axis=-1) >= 0
            count = COUNT if agrees.all() else int(np.argmin(agrees))
            assert verified.accepted[row] == count
            assert verified.tokens[row, : count + 1].tolist() == best[row, : count + 1].tolist()


def test_the_same_model_as_draft_is_always_believed() -> None:
    """u * q < p holds for p = q, whatever u: it is below 1."""
    _, _, target = case(2500, 8)
    for filters in ({}, {"top_p": 0.9}, {"temperature": 0.3, "top_k": 40}):
        draft = target[:, :-1]
        drafts = td.sample(
            draft, seed=4, stream=np.repeat(np.arange(ROWS), 4), step=np.tile(np.arange(4), ROWS), **filters
        )
        verified = td.verify_draft(drafts, draft, target, seed=4, **filters)
        assert (verified.accepted == COUNT).all()
        assert np.array_equal(verified.tokens[:, :-1], drafts)


def test_masks_and_biases_by_row_and_by_position() -> None:
    drafts, draft, target = case(70, 9)
    random = np.random.default_rng(2)
    by_position = random.random((ROWS, COUNT + 1, 70)) < 0.5
    by_position[..., 0] = True
    bias = random.normal(0, 1, by_position.shape).astype(np.float32)
    words = np.packbits(np.pad(by_position, ((0, 0), (0, 0), (0, 26))), axis=-1, bitorder="little").view(
        np.int32
    )
    for mask, packed in (
        (by_position, words),
        (by_position[:, 0], words[:, 0]),
        (by_position[0, 0], words[0, 0]),
    ):
        for added in (None, bias, bias[:, 0], bias[0, 0], {3: 2.0, 5: -np.inf}):
            expected = reference.verify_draft(drafts, draft, target, seed=5, mask=mask, bias=added)
            for form in (mask, packed):
                found = td.verify_draft(drafts, draft, target, seed=5, mask=form, bias=added)
                assert same(found, expected)
    allowed = td.verify_draft(drafts, draft, target, seed=5, mask=by_position)
    for row, count in enumerate(allowed.accepted):
        places = np.arange(count + 1)
        assert by_position[row, places, allowed.tokens[row, places]].all()


def test_noise_is_not_that_of_sample() -> None:
    """Equal seeds, streams and steps: the token after no drafts is another than `sample` draws."""
    target = np.zeros((400, 1, 1000), dtype=np.float32)
    verified = td.verify_draft(np.zeros((400, 0), dtype=np.int64), None, target, seed=6)
    assert np.mean(verified.tokens[:, 0] == td.sample(target[:, 0], seed=6)) < 0.02


def test_the_stream(isa: str) -> None:
    """What is drawn is a promise: these sums change only with a line under "Streams" in the CHANGELOG."""
    rows, count, vocab = 60, 3, 2100
    ids = np.arange(rows * (count + 1) * vocab, dtype=np.int64)
    target = (ids * ids % 7919 % 1000 / np.float32(128)).astype(np.float32).reshape(rows, count + 1, vocab)
    draft = target[:, :-1, ::-1] * np.float32(2.0**-6) + target[:, :-1]
    order = draft.argsort(axis=-1, kind="stable")
    drafts = np.take_along_axis(order, vocab - 1 - np.arange(rows)[:, None, None] % 5, axis=-1)[..., 0]
    sums = []
    for parents in (None, (-1, -1, 0)):
        for logits in (draft, None):
            options: Case = {} if parents is None else {"parents": np.broadcast_to(parents, drafts.shape)}
            verified = td.verify_draft(
                drafts, logits, target, temperature=2.0**-3, seed=2**63 + 1, step=5, **options
            )
            weights = np.arange(1, verified.tokens.size + 1).reshape(verified.tokens.shape)
            sums.append((int(verified.accepted.sum()), int((verified.tokens * weights).sum())))
    assert sums == GOLDEN


# --- Invalid rows ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_invalid_row_ends_there_and_no_other_row_changes(value: float) -> None:
    target = case(50, 10)[2]
    drafts = target[:, :-1].argmax(axis=-1)
    good = td.verify_draft(drafts, None, target, temperature=0, seed=1)
    assert (good.accepted == COUNT).all()
    broken = target.copy()
    broken[1, 2, 7] = value
    broken[4, 0, 7] = value
    marked = td.verify_draft(drafts, None, broken, temperature=0, seed=1, on_invalid="mark")
    assert marked.accepted.tolist() == [4, 2, 4, 4, 0, 4]
    assert marked.tokens[1].tolist() == [*drafts[1, :2], -1, -1, -1]
    assert (marked.tokens[4] == -1).all()
    others = [0, 2, 3, 5]
    assert np.array_equal(marked.tokens[others], good.tokens[others])
    with pytest.raises(td.InvalidLogitsError, match=r"row 1 \(.*\), row 4") as raised:
        td.verify_draft(drafts, None, broken, temperature=0, seed=1)
    assert np.array_equal(raised.value.tokens, marked.tokens)
    expected = reference.verify_draft(drafts, None, broken, temperature=0, seed=1, on_invalid="mark")
    assert same(marked, expected)


def test_logits_that_are_not_reached_are_not_read() -> None:
    drafts, draft, target = case(50, 11)
    drafts[:, 0] = target[:, 0].argmin(axis=-1)
    target[:, 1:] = np.nan
    draft[:, 1:] = np.nan
    verified = td.verify_draft(drafts, draft, target, temperature=0, seed=1)
    assert (verified.accepted == 0).all()


def test_a_broken_draft_is_an_invalid_row() -> None:
    drafts, draft, target = case(50, 12)
    draft[2, 0] = -np.inf
    with pytest.raises(td.InvalidLogitsError, match=r"row 2 \(no finite score\)"):
        td.verify_draft(drafts, draft, target, seed=1)


# --- Errors ------------------------------------------------------------------------------------------------

DRAFTS, DRAFT, TARGET = [[1, 2]], np.zeros((1, 2, 5), np.float32), np.zeros((1, 3, 5), np.float32)

WRONG: dict[str, tuple[Case, type[Exception], str]] = {
    "vocab of a draft": (
        {"draft_tokens": [[1, 5]]},
        ValueError,
        r"draft_tokens must have tokens in \[0, 5\), got 5 \(row 0\)",
    ),
    "negative draft": ({"draft_tokens": [[-2, 1]]}, ValueError, r"tokens in \[0, .*got -2"),
    "huge draft": ({"draft_tokens": [[2**40, 1]]}, ValueError, "got 1099511627776"),
    "hole": (
        {"draft_tokens": [[-1, 2]]},
        ValueError,
        r"draft_tokens must have -1 after the last draft only, got 2 after -1 \(row 0\)",
    ),
    "floats": ({"draft_tokens": [[1.0, 2.0]]}, TypeError, "draft_tokens must be an integer array"),
    "ragged": ({"draft_tokens": [[1], [1, 2]]}, ValueError, "rows of one length, padded with -1"),
    "no drafts": ({"draft_tokens": None}, TypeError, "draft_tokens must be an integer array"),
    "count of drafts": (
        {"draft_tokens": [[1, 2, 3]]},
        ValueError,
        r"draft_tokens must have one position less than target_logits, \(1, 2\), got shape \(1, 3\)",
    ),
    "draft of other vocab": (
        {"draft_logits": np.zeros((1, 2, 4), np.float32)},
        ValueError,
        r"draft_logits must have a row of the vocab .*\(1, 2, 5\), got shape \(1, 2, 4\)",
    ),
    "draft of other rows": ({"draft_logits": np.zeros((2, 2, 5), np.float32)}, ValueError, r"\(1, 2, 5\)"),
    "integer logits": (
        {"target_logits": np.zeros((1, 3, 5), int)},
        TypeError,
        "target_logits must be float32",
    ),
    "integer draft logits": ({"draft_logits": np.zeros((1, 2, 5), int)}, TypeError, "draft_logits must be"),
    "one axis": (
        {"target_logits": np.zeros(5, np.float32)},
        ValueError,
        r"target_logits must have at least two axes \(positions, vocab\), got one",
    ),
    "no positions": ({"target_logits": np.zeros((1, 0, 5), np.float32)}, ValueError, "got none"),
    "no vocab": ({"target_logits": np.zeros((1, 3, 0), np.float32)}, ValueError, "vocab of at least 1"),
    "later parent": (
        {"parents": [[-1, 1]]},
        ValueError,
        r"parents must be -1 or an earlier draft, got 1 for draft 1 \(row 0\)",
    ),
    "parents of other shape": ({"parents": [[-1]]}, ValueError, "parents must have one position less"),
    "parents below -1": ({"parents": [[-1, -3]]}, ValueError, "parents must have tokens|got -3"),
    "replacement": ({"replacement": 1}, TypeError, "replacement must be True or False, got 1"),
    "step": (
        {"step": 2**32 - 2},
        ValueError,
        r"step \+ 2 drafts must be in \[0, 2\^32\), got step 4294967294",
    ),
    "parameter": ({"top_p": 1.5}, ValueError, r"top_p must be in \(0, 1\], got 1.5"),
    "parameters of positions": ({"top_p": [0.5, 0.6, 0.7]}, ValueError, "top_p must have one value per row"),
    "mask": (
        {"mask": np.ones((2, 5), np.bool_)},
        ValueError,
        r"mask must have shape \[vocab\] or \[rows, vocab\] or \[rows, 3, vocab\]",
    ),
    "bias": ({"bias": np.full((1, 3, 5), np.inf)}, ValueError, "bias must be finite or -inf"),
    "unknown": ({"drafts": 1}, TypeError, "unexpected keyword argument 'drafts'"),
}


@pytest.mark.parametrize("name", WRONG)
def test_errors(name: str) -> None:
    change, error, message = WRONG[name]
    arguments: Case = {"draft_tokens": DRAFTS, "draft_logits": DRAFT, "target_logits": TARGET, **change}
    with pytest.raises(error, match=message):
        td.verify_draft(**arguments)


def test_the_correct_call_of_the_errors() -> None:
    assert td.verify_draft(DRAFTS, DRAFT, TARGET, seed=1).tokens.shape == (1, 3)
