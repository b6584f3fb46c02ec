# SPDX-License-Identifier: Apache-2.0
"""The best continuations of beams: against the reference, plain sorting, and one array in every guise."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import tokendraw as td
from tests import oracle
from tests.adversarial import DTYPES, INVALID, LARGE_SIZES, SMALL_SIZES, VALID, generator, matrix
from tokendraw import reference

SetIsa = Callable[[str], None]
FLT_MAX = float(reference.FLT_MAX)


def each_prompt(logits: np.ndarray, scores: np.ndarray, found: tuple[np.ndarray, ...]) -> Any:
    """Yield rows, scores and what was found, prompt by prompt."""
    *prompts, beams, vocab = logits.shape
    count = math.prod(prompts)
    with np.errstate(over="ignore"):
        rows = logits.astype(np.float32).reshape(count, beams, vocab)
    starts = np.reshape(scores, (count, beams)).astype(np.float64)
    return zip(rows, starts, *(column.reshape(count, column.shape[-1]) for column in found), strict=True)


def check(logits: np.ndarray, scores: np.ndarray, k: int, **options: Any) -> tuple[np.ndarray, ...]:
    """Check the best of valid beams to the contract's accuracy; what it leaves open may differ, no more."""
    found = td.top_continuations(logits, scores, k, **options)
    assert [column.dtype for column in found] == [np.float32, np.int32, np.int32]
    assert {column.shape for column in found} == {(*logits.shape[:-2], k)}
    for prompt in each_prompt(logits, scores, found):
        check_prompt(*prompt)
    return found


def check_prompt(
    rows: np.ndarray, starts: np.ndarray, values: np.ndarray, parents: np.ndarray, tokens: np.ndarray
) -> None:
    exact = {beam: reference.start_row(rows[beam]) for beam in np.flatnonzero(starts > -np.inf).tolist()}
    logprobs = {beam: row.logprobs for beam, row in exact.items()}
    sums = [starts[beam] + logprobs[beam][row.kept] for beam, row in exact.items()]
    ranked = -np.sort(-np.concatenate([np.zeros(0), *sums]))
    count = min(values.size, ranked.size)
    assert (values[count:] == -np.inf).all()
    assert (parents[count:] == -1).all()
    assert (tokens[count:] == -1).all()
    values, parents, tokens = values[:count], parents[:count], tokens[:count]
    assert (values[1:] <= values[:-1]).all()
    for beam in exact:
        mine = tokens[parents == beam]
        assert np.array_equal(mine, exact[beam].order[: mine.size]), "each beam's are the first of its order"
    if not count:
        return
    logprob = np.array([logprobs[beam][token] for beam, token in zip(parents, tokens, strict=True)])
    told = starts[parents] + logprob
    clamped = np.clip(told, -FLT_MAX, FLT_MAX)
    bound = 1e-6 + 2.0**-22 * np.abs(logprob) + 2.0**-24 * np.abs(clamped)
    assert (np.abs(values - clamped) <= bound).all()
    # Every beam's sums are shifted by its own small error, so the i-th best may be off by as much.
    assert (np.abs(told - ranked[:count]) <= 2e-6 + 1e-14 * np.abs(told)).all()


def beams_of(size: int, dtype: str, start: int = 0, step: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Return all adversarial rows as the beams of one prompt, at scores that let several of them win."""
    logits = matrix(size, DTYPES[dtype])[start::step]
    random = generator(size, 20)
    scores = -random.exponential(1.0, len(logits))
    scores[random.integers(len(logits))] = -np.inf
    return logits, scores


COUNTS = (0, 1, 2, 5, 8, 50, 1023, 5000)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", SMALL_SIZES)
def test_small_rows(size: int, dtype: str, set_isa: SetIsa) -> None:
    logits, scores = beams_of(size, dtype)
    for k in (*COUNTS, logits.size, logits.size + 7):
        best = check(logits, scores, k)
        for isa in td.build_info()["isas"]:
            set_isa(isa)
            for one, other in zip(td.top_continuations(logits, scores, k), best, strict=True):
                assert one.tobytes() == other.tobytes(), isa


@pytest.mark.parametrize("k", [1, 8, 3000])
@pytest.mark.parametrize("size", LARGE_SIZES)
def test_large_rows(size: int, k: int, isa: str) -> None:
    check(*beams_of(size, "float32", k % 3, 3), k)


@pytest.mark.parametrize("name", VALID)
def test_one_kind_of_row(name: str, isa: str) -> None:
    """Prompts of equal and of shifted rows: nothing but the order decides among equal sums."""
    row = VALID[name](2100)
    logits = np.stack([np.stack([row] * 4), np.stack([np.roll(row, shift) for shift in (0, 7, 1024, 1500)])])
    scores = np.array([[-1.0, 0.0, -0.0, -1.0], [-2.0, -2.0, -2.0, -2.0]])
    for k in (1, 6, 40, 3000):
        check(logits, scores, k)


def by_sorting(rows: list[list[float]], starts: list[float], k: int) -> list[tuple[float, int, int]]:
    """Return the best by Python's own arithmetic."""
    listed = []
    for beam, (row, start) in enumerate(zip(rows, starts, strict=True)):
        highest = max(row)
        total = math.fsum(math.exp(logit - highest) for logit in row)
        for token, logit in enumerate(row):
            if logit > -math.inf and start > -math.inf:
                score = start + (logit - highest - math.log(total))
                listed.append((-score, beam, -logit, token))
    return [(-score, beam, token) for score, beam, _, token in sorted(listed)[:k]]


@pytest.mark.parametrize(("beams", "vocab"), [(1, 1), (1, 9), (3, 40), (7, 33), (20, 300), (40, 5)])
def test_against_sorting(beams: int, vocab: int, isa: str) -> None:
    random = generator(beams, vocab)
    for k in (1, 2, beams * vocab // 3 + 1, beams * vocab + 3):
        # Few values in a row, so that many of its tokens tie; no two rows have sums as near as an error.
        logits = random.normal(0, 2, (beams, vocab)).round(1).astype(np.float32)
        logits[random.random((beams, vocab)) < 0.1] = -np.inf
        logits[:, 0] = 0.5
        starts = random.normal(-5, 1, beams)
        expected = by_sorting(logits.tolist(), starts.tolist(), k)
        values, parents, tokens = td.top_continuations(logits, starts, k)
        places = [[beam, token] for _, beam, token in expected] + [[-1, -1]] * (k - len(expected))
        assert np.array_equal(np.stack([parents, tokens], axis=1), places)
        np.testing.assert_allclose(values[: len(expected)], [score for score, _, _ in expected], 1e-6, 1e-6)


# --- Ties ---------------------------------------------------------------------------------------------------


def assert_as_reference(logits: np.ndarray, scores: np.ndarray, k: int) -> None:
    _, parents, tokens = td.top_continuations(logits, scores, k)
    _, exact_parents, exact_tokens = reference.top_continuations(logits, scores, k)
    assert np.array_equal(parents, exact_parents)
    assert np.array_equal(tokens, exact_tokens)


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_equal_sums_rank_by_beam_then_by_the_total_order(order: tuple[int, ...], isa: str) -> None:
    """Equal rows have equal normalisers to the bit, so equal sums are exact ties."""
    row = np.tile(np.float32([0, 2, -0.0, 2, 1]), 300)
    scores = np.array([-1.0, -1.0, -2.0])[list(order)]
    for k in (1, 5, 599, 600, 601, 1300, 3000, 4500):
        assert_as_reference(np.stack([row] * 3), scores, k)


def test_constant_rows(isa: str) -> None:
    logits = np.full((3, 6, 5000), 1.25, np.float32)
    for k in (1, 8, 5000, 5001, 12000):
        assert_as_reference(logits, np.zeros((3, 6)), k)


def test_logits_that_differ_by_less_than_their_sums(isa: str) -> None:
    """Beside a score of -1e9 float64 has no room for the logits; the rows' own order still holds."""
    row = generator(3).normal(0, 1, 3000).astype(np.float32) * np.float32(1e-30)
    logits = np.stack([row] * 3)
    for score in (0.0, -1.0, -1e9, -1e300, 1e300):
        for k in (1, 4, 100, 4000):
            assert_as_reference(logits, np.full(3, score), k)


def test_later_beams_tie_with_the_last_place(isa: str) -> None:
    """The bound that earlier beams set lets a lower beam in, and no higher one, wherever it is read."""
    logits = np.zeros((2, 4), np.float32)
    logits[1, 1:] = -np.inf  # beam 1 has one continuation, at its own score
    scores = np.array([0.0, -math.log(4)])
    _, parents, tokens = td.top_continuations(logits, scores, 4)
    assert parents.tolist() == [0, 0, 0, 0]
    _, parents, tokens = td.top_continuations(logits[::-1], scores[::-1], 4)
    assert parents.tolist() == [0, 1, 1, 1]
    assert tokens.tolist() == [0, 0, 1, 2]


# --- Scores -------------------------------------------------------------------------------------------------


def test_beams_at_minus_infinity_are_not_read(isa: str) -> None:
    logits = generator(4).normal(0, 1, (2, 4, 900)).astype(np.float32)
    alive = td.top_continuations(logits[:, 1:3], np.array([[-1.0, -2.0], [-3.0, 0.0]]), 20)
    logits[:, [0, 3]] = np.nan
    scores = np.array([[-np.inf, -1.0, -2.0, -np.inf], [-np.inf, -3.0, 0.0, -np.inf]])
    values, parents, tokens = td.top_continuations(logits, scores, 20)
    assert np.array_equal(values, alive[0])
    assert np.array_equal(parents, alive[1] + 1)
    assert np.array_equal(tokens, alive[2])
    values, parents, tokens = td.top_continuations(logits[0], np.full(4, -np.inf), 3)
    assert (values.tolist(), parents.tolist(), tokens.tolist()) == ([-np.inf] * 3, [-1] * 3, [-1] * 3)


def test_scores_of_any_size_stay_finite(isa: str) -> None:
    logits = generator(5).normal(0, 1, (3, 100)).astype(np.float32)
    for scores in ([-1e300, -3e38, -2.0], [1e300, 1e38, 0.0], [-1.7e308, 1.7e308, 0.0]):
        assert np.isfinite(check(logits, np.array(scores), 300)[0]).all()


def test_a_first_step_starts_from_one_beam(isa: str) -> None:
    row = generator(6).normal(0, 2, (1, 32000)).astype(np.float32)
    values, parents, tokens = td.top_continuations(row, np.zeros(1), 8)
    assert np.array_equal(tokens, td.top_k(row[0], 8)[1])
    assert parents.tolist() == [0] * 8
    oracle.check_logprobs(values, reference.log_softmax(row)[0, tokens])


# --- Arrays -------------------------------------------------------------------------------------------------


def assert_same(ours: tuple[np.ndarray, ...], theirs: tuple[np.ndarray, ...]) -> None:
    for one, other in zip(ours, theirs, strict=True):
        assert one.tobytes() == other.tobytes()


def test_any_strides_and_score_types(isa: str) -> None:
    logits = generator(7).normal(0, 2, (2, 3, 4, 700)).astype(np.float32)
    scores = generator(8).normal(-3, 1, (2, 3, 4)).astype(np.float32)
    best = check(logits, scores, 9)
    assert_same(td.top_continuations(logits, scores.astype(np.float64), 9), best)
    assert_same(td.top_continuations(logits, scores.ravel(), 9), best)
    wide = np.full((2, 3, 4, 1500), np.nan, np.float32)[..., 1::2][..., :700]
    wide[...] = logits
    assert_same(td.top_continuations(wide, scores, 9), best)
    swapped = np.ascontiguousarray(logits.transpose(2, 1, 0, 3)).transpose(2, 1, 0, 3)
    swapped.flags.writeable = False
    assert_same(td.top_continuations(swapped, np.asfortranarray(scores), 9), best)
    one = logits[:1, :1, :1]
    same = td.top_continuations(np.broadcast_to(one, (1, 1, 5, 700)), np.broadcast_to(0.0, (1, 1, 5)), 12)
    assert_same(same, td.top_continuations(np.repeat(one, 5, axis=2), np.zeros((1, 1, 5)), 12))


def test_prompts_do_not_touch_each_other(isa: str) -> None:
    logits = generator(9).normal(0, 2, (5, 3, 2000)).astype(np.float32)
    scores = generator(10).normal(-3, 1, (5, 3))
    best = td.top_continuations(logits, scores, 30)
    for prompt in range(5):
        alone = td.top_continuations(logits[prompt], scores[prompt], 30)
        assert_same(alone, tuple(column[prompt] for column in best))


@pytest.mark.parametrize(("prompts", "width"), [(1, 1), (1, 2), (1, 9), (1, 31), (2, 9), (3, 3)])
def test_threads(prompts: int, width: int, isa: str) -> None:
    """Shared by beams where there are fewer prompts than threads: every k, every share, one answer."""
    logits = generator(11).integers(-300, 300, (prompts, width, 70000)).astype(np.float32) / 32
    scores = -generator(12).integers(0, 4, (prompts, width)).astype(np.float64)
    for k in (8, 3000):
        alone = td.top_continuations(logits, scores, k, threads=1)
        for threads in (2, 3, 7):
            assert_same(td.top_continuations(logits, scores, k, threads=threads), alone)


def test_empty_axes() -> None:
    for shape in [(0, 3, 7), (2, 0, 7), (0, 0, 7), (2, 0, 3, 7)]:
        values, parents, tokens = td.top_continuations(np.zeros(shape, np.float32), np.zeros(shape[:-1]), 2)
        assert values.shape == (*shape[:-2], 2)
        assert (values == -np.inf).all()
        assert (parents == -1).all()
        assert (tokens == -1).all()


def test_many_beams(isa: str) -> None:
    """Thousands of beams, of which most have nothing among the best, read in the order of their scores."""
    random = generator(13)
    logits = random.normal(0, 3, (1200, 700)).astype(np.float32)
    for scores in (np.sort(random.normal(-20, 3, 1200)), -np.arange(1200.0), np.zeros(1200)):
        for k in (1, 2400):
            check(logits, scores, k)


def test_torch_tensors_come_back() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    logits = torch.randn(2, 3, 500, generator=torch.Generator().manual_seed(1))
    scores = torch.tensor([[0.0, -1.0, -2.0], [-3.0, -torch.inf, 0.0]])
    best = td.top_continuations(logits, scores, 6)
    assert [column.dtype for column in best] == [torch.float32, torch.int32, torch.int32]
    assert_same(
        tuple(column.numpy() for column in best), td.top_continuations(logits.numpy(), scores.numpy(), 6)
    )
    half = logits.to(torch.bfloat16)
    assert_same(
        tuple(column.numpy() for column in td.top_continuations(half, scores.double(), 6)),
        td.top_continuations(half.float().numpy(), scores.numpy(), 6),
    )


def test_jax_arrays_come_back() -> None:
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    logits = generator(14).normal(0, 1, (3, 500)).astype(np.float32)
    scores = np.float32([0, -1, -2])
    best = td.top_continuations(jax.numpy.asarray(logits), jax.numpy.asarray(scores), 6)
    assert all(isinstance(column, jax.Array) for column in best)
    assert_same(tuple(map(np.asarray, best)), td.top_continuations(logits, scores, 6))


# --- What is wrong ------------------------------------------------------------------------------------------

LOGITS = np.zeros((2, 3, 5), np.float32)
SCORES = np.zeros((2, 3))


@pytest.mark.parametrize(
    ("logits", "scores", "k", "error", "message"),
    [
        (LOGITS, [[0.0] * 3] * 2, 2, TypeError, "scores must be an array"),
        (LOGITS, None, 2, TypeError, "scores must be an array of float32 or float64, got None"),
        (LOGITS, np.zeros((2, 3), int), 2, TypeError, "scores must be an array of float32 or float64, got"),
        (LOGITS, np.zeros(6, np.float16), 2, TypeError, "scores must be an array of float32 or float64, got"),
        (LOGITS, np.zeros((3, 2)), 2, ValueError,
         "scores must have the shape of logits without the vocab, [2, 3], got [3, 2]"),
        (LOGITS, np.zeros(5), 2, ValueError,
         "scores must have the shape of logits without the vocab, [2, 3], got [5]"),
        (LOGITS, np.array(0.0), 2, ValueError,
         "scores must have the shape of logits without the vocab, [2, 3], got []"),
        (LOGITS[0], np.array([0, np.nan, 0]), 2, ValueError,
         "scores must be finite or -inf, got nan (row 1)"),
        (LOGITS, np.where(np.arange(6) == 5, np.inf, 0), 2, ValueError,
         "scores must be finite or -inf, got inf (row 5)"),
        (LOGITS[0, 0], np.zeros(1), 2, ValueError,
         "logits must have at least two axes (beams, vocab), got one"),
        (LOGITS, SCORES, -1, ValueError, "k must be >= 0, got -1"),
        (LOGITS, SCORES, 2.0, TypeError, "k must be an integer, got float"),
        (LOGITS, SCORES, None, TypeError, "k must be an integer, got None"),
        (np.broadcast_to(np.float32(0), (2**31, 1)), np.broadcast_to(0.0, 2**31), 2, ValueError,
         "logits must have fewer than 2^31 beams, got 2147483648"),
    ],
)  # fmt: skip
def test_bad_arguments(logits: np.ndarray, scores: Any, k: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error) as caught:
        td.top_continuations(logits, scores, k)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_unknown_and_missing_arguments() -> None:
    with pytest.raises(TypeError, match="missing required argument 'k'"):
        td.top_continuations(LOGITS, SCORES)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="unexpected keyword argument 'temperature'"):
        td.top_continuations(LOGITS, SCORES, 2, temperature=1.0)  # type: ignore[call-overload]
    assert td.top_continuations(k=2, scores=SCORES, logits=LOGITS)[0].shape == (2, 2)


def test_more_than_memory_holds() -> None:
    with pytest.raises((MemoryError, ValueError)):
        td.top_continuations(LOGITS, SCORES, 2**60)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_invalid_rows(dtype: str, threads: int, isa: str) -> None:
    """A prompt with an invalid row is marked, and no other one changes."""
    clean = generator(15).normal(0, 1, (5, 3, 120000)).astype(DTYPES[dtype])
    scores = generator(16).normal(-2, 1, (5, 3))
    logits = clean.copy()
    logits[1, 2, 77], logits[2, 0], logits[4, 1, 119999] = np.nan, -np.inf, np.inf
    bad, good = [1, 2, 4], [0, 3]
    values, parents, tokens = td.top_continuations(logits, scores, 7, on_invalid="mark", threads=threads)
    assert np.isnan(values[bad]).all()
    assert (parents[bad] == -1).all()
    assert (tokens[bad] == -1).all()
    best = td.top_continuations(clean, scores, 7)
    assert_same((values[good], parents[good], tokens[good]), tuple(column[good] for column in best))
    reasons = r"nothing can be drawn from row 5 \(NaN\), row 6 \(no finite score\), row 13 \(\+inf\)"
    with pytest.raises(td.InvalidLogitsError, match=reasons) as caught:
        td.top_continuations(logits, scores, 7, threads=threads)
    assert caught.value.rows == (5, 6, 13)
    assert np.array_equal(caught.value.tokens, tokens)
    with pytest.raises(reference.InvalidLogitsError, match=reasons) as expected:
        reference.top_continuations(logits, scores, 7)
    assert np.array_equal(expected.value.tokens[bad], tokens[bad])
    scores.flat[list(caught.value.rows)] = -np.inf
    check(logits, scores, 7, threads=threads)


def test_invalid_rows_count_where_nothing_is_asked_for(isa: str) -> None:
    for name, row in INVALID.items():
        with pytest.raises(td.InvalidLogitsError, match="row 0"):
            td.top_continuations(row(40)[None], np.zeros(1), 0)
        assert td.top_continuations(row(40)[None], np.zeros(1), 0, on_invalid="mark")[0].shape == (0,), name


# --- Random calls -------------------------------------------------------------------------------------------


@st.composite
def calls(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    size = draw(st.one_of(st.integers(1, 80), st.integers(81, 3000), st.sampled_from(SMALL_SIZES)))
    prompts, beams = draw(st.integers(1, 3)), draw(st.integers(1, 6))
    dtype = DTYPES[draw(st.sampled_from(sorted(DTYPES)))]
    kinds = VALID | (INVALID if draw(st.booleans()) else {})
    names = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=prompts * beams, max_size=prompts * beams))
    with np.errstate(over="ignore"):
        logits = np.stack([kinds[name](size) for name in names]).astype(dtype)
    score = st.one_of(
        st.floats(-50, 0),
        st.sampled_from([0.0, -0.0, -1.0, -np.inf, -1e9, 1e300, -1e300]),
        st.floats(allow_nan=False, max_value=1e308),
    )
    scores = draw(st.lists(score, min_size=prompts * beams, max_size=prompts * beams))
    k = draw(st.one_of(st.integers(0, 20), st.integers(0, 2 * beams * size)))
    return logits.reshape(prompts, beams, size), np.reshape(scores, (prompts, beams)), k


def check_call(logits: np.ndarray, scores: np.ndarray, k: int) -> None:
    before = logits.tobytes(), scores.tobytes()
    found = td.top_continuations(logits, scores, k, on_invalid="mark")
    assert (logits.tobytes(), scores.tobytes()) == before
    for rows, starts, values, parents, tokens in each_prompt(logits, scores, found):
        read = rows[starts > -np.inf]
        if np.isfinite(read).any(axis=1).all() and not (np.isnan(read) | np.isposinf(read)).any():
            check_prompt(rows, starts, values, parents, tokens)
        else:
            assert np.isnan(values).all()
            assert (parents == -1).all()
            assert (tokens == -1).all()


@hypothesis.settings(max_examples=300)
@hypothesis.given(calls())
def test_random_calls(call: tuple[np.ndarray, np.ndarray, int]) -> None:
    check_call(*call)


@pytest.mark.slow
@hypothesis.settings(max_examples=10_000)
@hypothesis.given(calls())
def test_ten_thousand_random_calls(call: tuple[np.ndarray, np.ndarray, int]) -> None:
    check_call(*call)
