# SPDX-License-Identifier: Apache-2.0
"""Beam steps on a device: the continuations, scores and searches of the CPU, bit for bit."""

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import DTYPES, INVALID, VALID, generator, matrix
from tests.cuda import emulated
from tests.cuda.emulated import DeviceArray, ExchangedArray, Graph

pytestmark = pytest.mark.usefixtures("cuda")


def check(logits, scores, k, device=0, **options):
    """Hold both sides together; scores come from the device and from the host."""
    expected = td.top_continuations(logits, scores, k, on_invalid="mark", **options)
    for given in (ExchangedArray(scores, device), scores):
        found = td.top_continuations(ExchangedArray(logits, device), given, k, **options)
        for one, other in zip(found, expected, strict=True):
            assert type(one) is ExchangedArray
            assert (one.device, one.dtype, one.shape) == (device, other.dtype, other.shape)
            assert one.numpy().tobytes() == other.tobytes()
    return expected


def beams_of(size, dtype="float32", step=1):
    """Return all adversarial rows as beams of one prompt at scores that let several win; one is dropped."""
    logits = matrix(size, DTYPES[dtype])[::step]
    random = generator(size, 20)
    scores = -random.exponential(1.0, len(logits))
    scores[random.integers(len(logits))] = -np.inf
    return logits, scores


@pytest.mark.parametrize("k", [0, 1, 8, 50])
@pytest.mark.parametrize("size", [1, 16, 33, 1025, 3001])
def test_the_best_of_rows(size, k):
    check(*beams_of(size), k)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [31, 2050])
def test_other_types(size, dtype):
    logits, scores = beams_of(size, dtype, 3)
    check(logits, scores.astype(np.float32), 11)


def test_more_than_there_are():
    check(*beams_of(17), 17 * 16 + 5)


@pytest.mark.parametrize("k", [1500, 5000])
def test_more_than_a_list_holds(k):
    """Of any beam a list after another; a row of ties makes them of the same score."""
    logits = np.stack([VALID[name](2100) for name in ("normal", "few_levels", "constant")])
    check(logits, np.array([-1.0, -0.5, -3.0]), k)


def test_many_beams():
    random = generator(300, 40)
    check(random.normal(0, 2, (300, 40)).astype(np.float32), random.normal(-5, 1, 300), 600)


@pytest.mark.parametrize("name", ["constant", "few_levels", "two_levels", "huge", "zeros_of_both_signs"])
def test_nothing_but_the_order_decides(name):
    row = VALID[name](1100)
    logits = np.stack([np.stack([row] * 3), np.stack([np.roll(row, shift) for shift in (0, 7, 1024)])])
    check(logits, np.array([[-1.0, 0.0, -0.0], [-2.0, -2.0, -2.0]]), 40)


@pytest.mark.parametrize("shape", [(2, 3, 2, 70), (3, 0, 70), (0, 2, 70), (2, 0, 3, 70), (2, 1, 70)])
def test_any_shape_of_prompts(shape):
    random = generator(*shape)
    check(random.normal(0, 2, shape).astype(np.float32), random.normal(-2, 1, shape[:-1]), 5)


def test_rows_lie_where_they_are():
    rows = generator(7).normal(0, 2, (4, 1030)).astype(np.float32)
    array = ExchangedArray(rows)
    scores = np.array([[-1.0, -2.0], [-0.5, -0.25]])
    odd = array.view((2, 2, 1021), (2060, 1030, 1), 3)
    turned = array.view((2, 2, 1030), (1030, 2060, 1))
    for view, logits in (
        (odd, rows[:, 3:1024].reshape(2, 2, 1021)),
        (turned, rows.reshape(2, 2, 1030).swapaxes(0, 1)),
    ):
        found = td.top_continuations(view, scores, 9)
        for one, other in zip(found, td.top_continuations(logits, scores, 9), strict=True):
            np.testing.assert_array_equal(one.numpy(), other)


@pytest.mark.parametrize("device", [0, 2])
@pytest.mark.parametrize("beams", [1, 5])
def test_long_rows_shared_by_blocks(beams, device):
    """With one row per prompt a row is split; device 2 has no clusters."""
    logits = generator(beams, 3).normal(0, 3, (beams, 33000)).astype(np.float32)
    check(logits, -np.arange(beams, dtype=np.float64), 12, device)


@pytest.mark.parametrize("schedule", [1, 2, 3])
def test_any_order_of_threads(schedule):
    emulated.library().emulated_set_schedule(schedule)
    check(np.stack([VALID["few_levels"](9000)] * 2), np.array([-1.0, -1.0]), 30)


def test_a_prompt_with_an_invalid_beam_is_marked():
    rows = {**VALID, **INVALID}
    for name in INVALID:
        logits = np.stack([[rows["normal"](90), rows["peaked"](90)], [rows["peaked"](90), rows[name](90)]])
        values, parents, tokens = check(logits, np.zeros((2, 2)), 4)
        assert np.isnan(values).tolist() == [[False] * 4, [True] * 4]
        assert (parents[1] == -1).all()
        assert (tokens[1] == -1).all()
        with pytest.raises(td.InvalidLogitsError, match="row 3"):
            td.top_continuations(ExchangedArray(logits), np.zeros((2, 2)), 4, on_invalid="raise")
        # A dropped beam is not read.
        check(logits, np.array([[0.0, -1.0], [0.0, -np.inf]]), 4)


def test_scores_on_the_device_that_are_none_mark_their_prompt():
    logits = np.stack([[VALID["normal"](50)]] * 4)
    scores = np.array([[0.0], [np.nan], [np.inf], [-np.inf]])
    values, parents, _ = td.top_continuations(ExchangedArray(logits), ExchangedArray(scores), 2)
    assert np.isnan(values.numpy()).all(axis=1).tolist() == [False, True, True, False]
    assert parents.numpy().tolist() == [[0, 0], [-1, -1], [-1, -1], [-1, -1]]
    with pytest.raises(ValueError, match=r"scores must be finite or -inf, got nan \(row 1\)"):
        td.top_continuations(ExchangedArray(logits), scores, 2)


@pytest.mark.parametrize(
    ("scores", "error", "message"),
    [
        (lambda: ExchangedArray(np.zeros(2), 1), ValueError, "scores must be on CUDA device 0"),
        (lambda: ExchangedArray(np.zeros(2, np.int32)), TypeError, "scores must be an array of float32 or"),
        (lambda: ExchangedArray(np.zeros(3)), ValueError, "scores must have the shape of logits without"),
        (lambda: ExchangedArray(np.zeros(4)).view((2,), (2,)), ValueError, "scores must be contiguous"),
    ],
)
def test_scores_that_do_not_fit(scores, error, message):
    with pytest.raises(error, match=message):
        td.top_continuations(ExchangedArray(np.zeros((2, 9), np.float32)), scores(), 2)


def test_scores_of_a_device_for_logits_of_the_host():
    with pytest.raises(ValueError, match="scores must be in host memory, as logits are"):
        td.top_continuations(np.zeros((2, 9), np.float32), ExchangedArray(np.zeros(2)), 2)


def test_a_step_in_a_graph():
    """A replay reads logits and scores anew; nothing is allocated but the results, nobody waits."""
    random = generator(9)
    logits, scores = random.normal(0, 2, (2, 3, 1100)).astype(np.float32), random.normal(-3, 1, (2, 3))
    array, starts = ExchangedArray(logits), ExchangedArray(scores)
    with emulated.stream():
        td.cuda.warmup(array)
        before = emulated.counts()
        graph = Graph()
        with graph.capture():
            found = td.top_continuations(array, starts, 6)
            with pytest.raises(RuntimeError, match="scores must be on the device of logits while a graph"):
                td.top_continuations(array, scores, 6)
        assert emulated.counts()[1:] == (before[1] + 16, before[2])  # what Graph sets aside
        for _ in range(3):
            logits = random.normal(0, 2, logits.shape).astype(np.float32)
            scores = random.normal(-3, 1, scores.shape)
            array.write(logits)
            starts.write(scores)
            graph.replay()
            for one, other in zip(found, td.top_continuations(logits, scores, 6), strict=True):
                assert one.numpy().tobytes() == other.tobytes()


# ---- searches ----


def same_step(one, other):
    for name in ("tokens", "parents", "valid"):
        found, expected = getattr(one, name), getattr(other, name)
        assert type(found) is ExchangedArray
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found.numpy(), expected, err_msg=name)
    np.testing.assert_array_equal(one.done, other.done)


def check_search(width, vocab=60, prompts=1, dtype="float32", edits=None, **options):
    """Two searches through the same noise: what each step says, and all hypotheses in the end."""
    searches = [td.BeamSearch(width, prompts=prompts, **options) for _ in range(2)]
    random = generator(vocab, 5)
    while not searches[0].done.all():
        logits = random.normal(0, 3, (searches[0].num_live, vocab)).astype(DTYPES[dtype])
        given = edits(random, *logits.shape) if edits else {}
        same_step(searches[1].step(ExchangedArray(logits), **given), searches[0].step(logits, **given))
    assert searches[1].finish() == searches[0].finish()


@pytest.mark.parametrize("width", [1, 2, 7])
def test_searches(width):
    check_search(width, max_new_tokens=5, eos_token_id=3)


def test_searches_of_prompts_of_many_widths():
    """Groups of beams that are not alike."""
    check_search([1, 4, 2], 300, 3, eos_token_id=[1, 7], max_new_tokens=[3, 6, 4], length_penalty=0.6)


def test_groups_of_beams_share_rows_at_first():
    check_search(6, 40, 2, num_groups=3, diversity_penalty=0.5, max_new_tokens=4, eos_token_id=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_searches_in_other_types(dtype):
    check_search(3, 1100, dtype=dtype, max_new_tokens=3)


@pytest.mark.parametrize("options", [{}, {"renormalize": True}, {"temperature": 0.7}, {"min_new_tokens": 2}])
@pytest.mark.parametrize("edit", ["mask", "bits", "bias", "biases", "all"])
def test_edits(edit, options):
    def edits(random, rows, vocab):
        mask = random.random((rows, vocab)) < 0.3
        mask[:, 5] = True
        bias = random.normal(0, 1, vocab).astype(np.float32)
        bits = random.integers(0, 2**31, (vocab + 31) // 32).astype(np.int32) | 1
        return {
            "mask": {"mask": mask},
            "bits": {"mask": bits},
            "bias": {"bias": bias},
            "biases": {"bias": {3: 2.5, 7: -np.inf}},
            "all": {"mask": mask, "bias": {5: 1.5, vocab - 1: -2.0}},
        }[edit]

    check_search(3, 1060, edits=edits, max_new_tokens=3, no_repeat_ngram_size=2, **options)


def test_temperatures_by_prompt():
    check_search(2, 50, 2, temperature=np.array([0.5, 2.0]), max_new_tokens=3)


def test_a_scorer_ranks_what_was_read_back():
    def shorter(candidates):
        return candidates.logprobs - candidates.tokens % 3

    check_search(3, max_new_tokens=4, edits=lambda *_: {"scorer": shorter})


def test_an_invalid_row_ends_its_beam_alone():
    logits = generator(3).normal(0, 1, (3, 30)).astype(np.float32)
    logits[1, 7] = np.nan
    searches = [td.BeamSearch(2, prompts=3, max_new_tokens=2) for _ in range(2)]
    expected = searches[0].step(logits, on_invalid="mark")
    same_step(searches[1].step(ExchangedArray(logits)), expected)
    assert expected.valid.tolist() == [True, False, True]
    search = td.BeamSearch(2, prompts=3, max_new_tokens=2)
    with pytest.raises(td.InvalidLogitsError, match=r"row 1 \(NaN\)"):
        search.step(ExchangedArray(logits), on_invalid="raise")
    np.testing.assert_array_equal(search.tokens, expected.tokens)


def test_a_mask_that_leaves_nothing_of_a_row():
    logits = generator(4).normal(0, 1, (2, 30)).astype(np.float32)
    mask = np.ones((2, 30), bool)
    mask[1] = False
    searches = [td.BeamSearch(2, prompts=2, max_new_tokens=2) for _ in range(2)]
    expected = searches[0].step(logits, mask=mask, on_invalid="mark")
    same_step(searches[1].step(ExchangedArray(logits), mask=mask), expected)
    assert expected.valid.tolist() == [True, False]


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"choice": "sampled", "seed": 1}, 'choice="sampled"'),
        ({"choice": "stochastic", "seed": 1}, 'choice="stochastic"'),
        ({"top_k": 5}, "top_k"),
        ({"top_p": 0.9}, "top_p"),
        ({"min_p": 0.1}, "min_p"),
        ({"temperature": 0.0}, "temperature=0"),
        ({"typical_p": 0.5}, "typical_p"),
        ({"repetition_penalty": 1.2}, "repetition_penalty"),
    ],
)
def test_what_is_missing_is_named_and_no_step_is_taken(options, name):
    search = td.BeamSearch(2, max_new_tokens=3, **options)
    with pytest.raises(NotImplementedError, match=f"^{name} is not implemented for logits on a CUDA device"):
        search.step(ExchangedArray(np.zeros((1, 9), np.float32)))
    assert search.num_live == 1
    search.step(np.zeros((1, 9), np.float32))


def test_a_step_waits_once_for_what_it_reads_and_not_in_a_graph():
    logits = ExchangedArray(generator(2).normal(0, 1, (1, 30)).astype(np.float32))
    with emulated.stream():
        td.cuda.warmup(logits)
        graph = Graph()
        with (
            graph.capture(),
            pytest.raises(RuntimeError, match=r"BeamSearch[.]step must not be called while a"),
        ):
            td.BeamSearch(2, max_new_tokens=3).step(logits)
        assert graph.executable is not None, "the capture was spoilt"
    with pytest.raises(TypeError, match="give out"):
        td.BeamSearch(2, max_new_tokens=3).step(DeviceArray(np.zeros((1, 9), np.float32)))
