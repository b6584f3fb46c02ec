# SPDX-License-Identifier: Apache-2.0
"""Bad parameters and bad rows, by their messages: one sentence with the rule, the value and the row."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td

LOGITS = np.zeros((4, 40), dtype=np.float32)

RULES: list[tuple[str, Any, Any, str]] = [
    ("temperature", -1.0, "-1", "temperature must be finite and >= 0"),
    ("temperature", np.nan, "nan", "temperature must be finite and >= 0"),
    ("temperature", np.inf, "inf", "temperature must be finite and >= 0"),
    ("top_k", -1, "-1", "top_k must be >= 0"),
    ("top_p", 1.5, "1.5", "top_p must be in (0, 1]"),
    ("top_p", 0.0, "0", "top_p must be in (0, 1]"),
    ("top_p", -0.25, "-0.25", "top_p must be in (0, 1]"),
    ("top_p", np.nan, "nan", "top_p must be in (0, 1]"),
    ("min_p", -0.1, "-0.1", "min_p must be in [0, 1]"),
    ("min_p", 1.0000001, "1.0000001", "min_p must be in [0, 1]"),
    ("min_p", np.nan, "nan", "min_p must be in [0, 1]"),
    ("typical_p", 0.0, "0", "typical_p must be in (0, 1]"),
    ("typical_p", 1.25, "1.25", "typical_p must be in (0, 1]"),
    ("typical_p", np.nan, "nan", "typical_p must be in (0, 1]"),
    ("epsilon_cutoff", -0.5, "-0.5", "epsilon_cutoff must be in [0, 1)"),
    ("epsilon_cutoff", 1.0, "1", "epsilon_cutoff must be in [0, 1)"),
    ("epsilon_cutoff", np.nan, "nan", "epsilon_cutoff must be in [0, 1)"),
    ("eta_cutoff", -0.5, "-0.5", "eta_cutoff must be in [0, 1)"),
    ("eta_cutoff", 1.0, "1", "eta_cutoff must be in [0, 1)"),
    ("eta_cutoff", np.nan, "nan", "eta_cutoff must be in [0, 1)"),
    ("top_n_sigma", -1.0, "-1", "top_n_sigma must be finite and >= 0"),
    ("top_n_sigma", np.inf, "inf", "top_n_sigma must be finite and >= 0"),
    ("top_n_sigma", np.nan, "nan", "top_n_sigma must be finite and >= 0"),
    ("xtc_probability", -0.1, "-0.1", "xtc_probability must be in [0, 1]"),
    ("xtc_probability", 1.5, "1.5", "xtc_probability must be in [0, 1]"),
    ("xtc_probability", np.nan, "nan", "xtc_probability must be in [0, 1]"),
    ("xtc_threshold", -0.1, "-0.1", "xtc_threshold must be in [0, 1]"),
    ("xtc_threshold", 1.5, "1.5", "xtc_threshold must be in [0, 1]"),
    ("xtc_threshold", np.nan, "nan", "xtc_threshold must be in [0, 1]"),
    ("repetition_penalty", 0.0, "0", "repetition_penalty must be finite and > 0"),
    ("repetition_penalty", -1.5, "-1.5", "repetition_penalty must be finite and > 0"),
    ("repetition_penalty", np.inf, "inf", "repetition_penalty must be finite and > 0"),
    ("repetition_penalty", np.nan, "nan", "repetition_penalty must be finite and > 0"),
    ("frequency_penalty", np.inf, "inf", "frequency_penalty must be finite"),
    ("frequency_penalty", np.nan, "nan", "frequency_penalty must be finite"),
    ("presence_penalty", -np.inf, "-inf", "presence_penalty must be finite"),
    ("presence_penalty", np.nan, "nan", "presence_penalty must be finite"),
    ("dry_multiplier", -0.5, "-0.5", "dry_multiplier must be finite and >= 0"),
    ("dry_multiplier", np.inf, "inf", "dry_multiplier must be finite and >= 0"),
    ("dry_base", 0.5, "0.5", "dry_base must be finite and >= 1"),
    ("dry_base", np.inf, "inf", "dry_base must be finite and >= 1"),
    ("dry_allowed_length", -1, "-1", "dry_allowed_length must be >= 0"),
    ("dry_last_n", -2, "-2", "dry_last_n must be >= -1"),
    ("min_tokens", -1, "-1", "min_tokens must be >= 0"),
    ("seed", -1, "-1", "seed must be in [0, 2^64)"),
    ("seed", 2**64, "18446744073709551616", "seed must be in [0, 2^64)"),
    ("stream", 2**56, "72057594037927936", "stream must be in [0, 2^56)"),
    ("stream", -1, "-1", "stream must be in [0, 2^56)"),
    ("step", 2**32, "4294967296", "step must be in [0, 2^32)"),
    ("step", -7, "-7", "step must be in [0, 2^32)"),
]
NEUTRAL: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "top_n_sigma": 0.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.1,
    "repetition_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_last_n": -1,
    "min_tokens": 0,
    "seed": 0,
    "stream": 0,
    "step": 0,
}
PLACE = ("seed", "stream", "step")
FILTER_RULES = [rule for rule in RULES if rule[0] not in PLACE]


def message_of(error: type[Exception], call: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    with pytest.raises(error) as caught:
        call(*args, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(("name", "value", "shown", "rule"), RULES)
def test_a_value_outside_its_rule(name: str, value: Any, shown: str, rule: str) -> None:
    place = {"seed": 0, name: value}
    assert message_of(ValueError, td.sample, LOGITS, **place) == f"{rule}, got {shown}"
    assert message_of(ValueError, td.draw, LOGITS, **place) == f"{rule}, got {shown}"


@pytest.mark.parametrize(("name", "value", "shown", "rule"), RULES)
def test_the_row_is_named(name: str, value: Any, shown: str, rule: str) -> None:
    values = [NEUTRAL[name]] * 3 + [value]
    place = {"seed": 0, name: values}
    assert message_of(ValueError, td.sample, LOGITS, **place) == f"{rule}, got {shown} (row 3)"


@pytest.mark.parametrize(("name", "value", "shown", "rule"), FILTER_RULES)
@pytest.mark.parametrize("call", [td.softmax, td.log_softmax, td.filter_logits, td.kept_set])
def test_filters_alone_have_the_same_rules(
    call: Callable[..., Any], name: str, value: Any, shown: str, rule: str
) -> None:
    assert message_of(ValueError, call, LOGITS, **{name: value}) == f"{rule}, got {shown}"


@pytest.mark.parametrize(("name", "value", "shown", "rule"), FILTER_RULES)
def test_params_are_checked_where_they_are_made(name: str, value: Any, shown: str, rule: str) -> None:
    assert message_of(ValueError, td.SamplingParams, **{name: value}) == f"{rule}, got {shown}"


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("length", [3, 5, 160])
def test_one_value_per_row(name: str, length: int) -> None:
    values = np.full(length, NEUTRAL[name])
    assert name in message_of(ValueError, td.sample, LOGITS, **{"seed": 0, name: values})


@pytest.mark.parametrize("name", NEUTRAL)
@pytest.mark.parametrize("value", ["a", object(), {}, 1j])
def test_a_value_that_is_no_number(name: str, value: Any) -> None:
    assert name in message_of(TypeError, td.sample, LOGITS, **{"seed": 0, name: value})


@pytest.mark.parametrize("name", [name for name, value in NEUTRAL.items() if isinstance(value, int)])
def test_integers_are_not_rounded(name: str) -> None:
    for value in (1.5, [1.5] * 4, np.full(4, 1.5)):
        assert name in message_of(TypeError, td.sample, LOGITS, **{"seed": 0, name: value})


@pytest.mark.parametrize(
    ("steps", "error", "named"),
    [
        (["top_q"], ValueError, "top_q"),
        (["top_k", "top_p", "top_k"], ValueError, "top_k"),
        (["top_k_top_p", "top_p"], ValueError, "top_p"),
        (["top_k", "min_p", "top_k_top_p"], ValueError, "top_k"),
        (["top_k", "mask"], ValueError, "mask"),
        (["penalties", "bias", "top_k"], ValueError, "bias"),
        (["draw"], ValueError, "draw"),
        ("top_k", TypeError, "str"),
        (5, TypeError, "int"),
        (["top_k", 5], TypeError, "int"),
    ],
)
def test_what_steps_may_name(steps: Any, error: type[Exception], named: str) -> None:
    for call in (td.sample, td.softmax):
        message = message_of(error, call, LOGITS, steps=steps)
        assert message.startswith("steps must ")
        assert named in message
    assert message_of(error, td.SamplingParams, steps=steps) == message


@pytest.mark.parametrize(
    ("filters", "missing"),
    [
        ({"top_p": 0.5}, "top_p"),
        ({"top_p": [1.0, 1.0, 0.5, 1.0]}, "top_p"),
        ({"top_k": 3}, "top_k"),
        ({"temperature": 0.5}, "temperature"),
        ({"temperature": 0.0}, "temperature"),
        ({"typical_p": 0.5}, "typical"),
        ({"epsilon_cutoff": 0.5}, "epsilon"),
        ({"eta_cutoff": 0.5}, "eta"),
        ({"top_n_sigma": 1.0}, "top_n_sigma"),
        ({"xtc_probability": 1.0}, "xtc"),
    ],
)
def test_every_step_that_is_used_must_be_named(filters: dict[str, Any], missing: str) -> None:
    expected = f"steps must name every step that is used, got no {missing}"
    assert message_of(ValueError, td.sample, LOGITS, steps=["min_p"], seed=0, **filters) == expected
    assert message_of(ValueError, td.SamplingParams, steps=["min_p"], **filters) == expected
    td.sample(LOGITS, steps=["min_p", missing], seed=0, **filters)


def test_the_joint_step_names_both() -> None:
    td.sample(LOGITS, steps=["top_k_top_p"], top_k=3, top_p=0.5, seed=0)
    message = message_of(ValueError, td.sample, LOGITS, steps=["top_k_top_p"], min_p=0.5, seed=0)
    assert message == "steps must name every step that is used, got no min_p"


@pytest.mark.parametrize(
    "name", ["top_k_ties", "top_p_boundary", "top_p_ties", "top_p_mass", "penalty_history"]
)
def test_rules_are_names(name: str) -> None:
    for value, error in (("both", ValueError), ("", ValueError), (3, TypeError)):
        message = message_of(error, td.sample, LOGITS, **{name: value})
        assert message.startswith(f"{name} must be ")
        assert message == message_of(error, td.SamplingParams, **{name: value})


def test_the_penalties_of_a_history_rule_are_known() -> None:
    for rule in ({"rep": "all"}, {"repetition": "prompt"}, {"frequency": 1}):
        assert "penalty_history" in message_of(
            (TypeError, ValueError), td.SamplingParams, penalty_history=rule
        )
    td.SamplingParams(penalty_history={"repetition": "output", "dry": "all"})


@pytest.mark.parametrize("penalty", [{}, {"frequency_penalty": 1.0}])
@pytest.mark.parametrize("token", [40, 2**31 - 1, -2])
def test_a_token_of_the_history_is_in_the_vocab(token: int, penalty: dict[str, float]) -> None:
    """Also where no penalty reads it."""
    for history in ([[1], [], [0, 39, token], [2]], np.array([[1, -1], [-1, -1], [39, token], [2, -1]])):
        for call in (td.sample, td.draw, td.softmax, td.kept_set):
            message = message_of(ValueError, call, LOGITS, history=history, **penalty)
            assert "history" in message
            assert str(token) in message
            assert "(row 2)" in message


def test_the_shape_and_the_type_of_a_history() -> None:
    penalty = {"frequency_penalty": 1.0}
    rows = (np.zeros((count, width), np.int64) for count, width in ((3, 2), (5, 2), (3, 0)))
    for history in ([], [[1]] * 3, [[1]] * 5, *rows):
        assert "history" in message_of(ValueError, td.sample, LOGITS, history=history, **penalty)
    wrong: list[Any] = [np.zeros((4, 2)), [[1.5]] * 4, "text", 7, [["a"]] * 4, np.zeros((4, 2), bool)]
    for history in wrong:
        assert "history" in message_of(TypeError, td.sample, LOGITS, history=history, **penalty)


def test_prompt_lengths() -> None:
    given = {"history": [[1, 2]] * 4, "frequency_penalty": 1.0, "penalty_history": "output"}
    message = message_of(ValueError, td.sample, LOGITS, **given)
    assert message.startswith("prompt_lengths must be given")
    message = message_of(ValueError, td.sample, LOGITS, prompt_lengths=[0, 0, 0, -1], **given)
    assert message == "prompt_lengths must be >= 0, got -1 (row 3)"
    assert "prompt_lengths" in message_of(ValueError, td.sample, LOGITS, prompt_lengths=[1, 2, 3], **given)
    assert "prompt_lengths" in message_of(TypeError, td.sample, LOGITS, prompt_lengths=1.5, **given)
    td.sample(LOGITS, **{**given, "history": None}, seed=0)


def test_min_tokens_need_an_end() -> None:
    message = message_of(ValueError, td.sample, LOGITS, min_tokens=1, seed=0)
    assert message.startswith("eos_token_id must be given")
    assert message == message_of(ValueError, td.SamplingParams, min_tokens=[0, 0, 1, 0])
    for token in (40, -1, 2**40):
        for given in (token, [1, token]):
            message = message_of(ValueError, td.sample, LOGITS, min_tokens=1, eos_token_id=given, seed=0)
            assert "eos_token_id" in message
            assert str(token) in message
    for wrong in (1.5, "a", [1.5]):
        assert "eos_token_id" in message_of(TypeError, td.sample, LOGITS, min_tokens=1, eos_token_id=wrong)


def test_breakers_are_tokens() -> None:
    for wrong in (1.5, "a", [1.5], [[1]]):
        message = message_of((TypeError, ValueError), td.sample, LOGITS, dry_breakers=wrong)
        assert "dry_breakers" in message


def test_a_coin_needs_a_seed() -> None:
    for call in (td.softmax, td.log_softmax, td.filter_logits, td.kept_set):
        message = message_of(ValueError, call, LOGITS, xtc_probability=[0.0, 1.0, 0.5, 0.0])
        assert message == "seed must be given where 0 < xtc_probability < 1"
        call(LOGITS, xtc_probability=[0.0, 1.0, 1.0, 0.0])
        call(LOGITS, xtc_probability=0.5, seed=1, stream=[1, 2, 3, 4], step=7)
    td.sample(LOGITS, xtc_probability=0.5)


def test_unknown_presets() -> None:
    message = message_of(ValueError, td.SamplingParams.preset, "openai")
    assert message == (
        "preset must be one of transformers, vllm, sglang, llama.cpp, mlx, flashinfer, got 'openai'"
    )
    message = message_of(ValueError, td.SamplingParams.preset, "vllm", typical_p=0.5)
    assert message == "steps must name every step that is used, got no typical"


def test_an_unknown_parameter() -> None:
    assert "top_q" in message_of(TypeError, td.sample, LOGITS, top_q=0.5)
    assert "top_q" in message_of(TypeError, td.draw, LOGITS, top_q=0.5)


def test_parameters_are_checked_before_any_work() -> None:
    """A bad parameter is reported even where the rows are bad too, and no output is written."""
    out = np.full(4, 99, dtype=np.int32)
    spoilt = np.full_like(LOGITS, np.nan)
    assert "top_p" in message_of(ValueError, td.sample, spoilt, top_p=2.0, out=out, seed=0)
    assert out.tolist() == [99] * 4
    assert "top_p" in message_of(ValueError, td.sample, LOGITS[:0], top_p=2.0, seed=0)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_bias_is_finite_or_minus_infinity(value: float) -> None:
    for bias in ({5: value}, np.where(np.arange(40) == 5, value, 0).astype(np.float32)):
        message = message_of(ValueError, td.sample, LOGITS, bias=bias, seed=0)
        assert message == f"bias must be finite or -inf, got {value} (token 5)"


@pytest.mark.parametrize("token", [40, -1, 2**31, 2**40])
def test_a_biased_token_is_in_the_vocab(token: int) -> None:
    message = message_of(ValueError, td.sample, LOGITS, bias={token: 1.0}, seed=0)
    assert "bias" in message
    assert str(token) in message


@pytest.mark.parametrize("shape", [(39,), (4, 41), (3, 40), (4, 4, 40), ()])
def test_the_shape_of_a_bias(shape: tuple[int, ...]) -> None:
    assert "bias" in message_of(ValueError, td.sample, LOGITS, bias=np.zeros(shape, np.float32), seed=0)


@pytest.mark.parametrize("shape", [(4, 39), (4, 41), (3, 40), ()])
def test_the_shape_of_a_mask(shape: tuple[int, ...]) -> None:
    assert "mask" in message_of(ValueError, td.sample, LOGITS, mask=np.ones(shape, bool), seed=0)


def test_a_mask_of_another_type() -> None:
    for dtype in (np.float32, np.int64, np.uint8):
        message = message_of((TypeError, ValueError), td.sample, LOGITS, mask=np.ones((4, 40), dtype), seed=0)
        assert "mask" in message


def test_logits_of_another_type_or_shape() -> None:
    for dtype in (np.int32, np.complex64, np.bool_):
        assert "logits" in message_of(TypeError, td.sample, LOGITS.astype(dtype), seed=0)
    assert "logits" in message_of(ValueError, td.sample, np.zeros((3, 0), np.float32), seed=0)
    assert "logits" in message_of(ValueError, td.sample, np.float32(1.0).reshape(()), seed=0)
    assert "logits" in message_of(TypeError, td.sample, "text", seed=0)


def test_out_must_fit() -> None:
    for out in (np.empty(3, np.int32), np.empty((4, 1), np.int32)):
        assert "out" in message_of(ValueError, td.sample, LOGITS, out=out, seed=0)
    assert "out" in message_of(TypeError, td.sample, LOGITS, out=np.empty(4, np.float32), seed=0)


def test_counts() -> None:
    assert "logprobs" in message_of(ValueError, td.draw, LOGITS, logprobs=-1, seed=0)
    assert "k" in message_of(ValueError, td.top_k, LOGITS, -1)
    assert "threads" in message_of(ValueError, td.sample, LOGITS, threads=-1, seed=0)
    assert "on_invalid" in message_of(ValueError, td.sample, LOGITS, on_invalid="ignore", seed=0)


def test_zero_rows_are_no_error() -> None:
    empty = np.zeros((0, 40), dtype=np.float32)
    assert td.sample(empty, seed=0).shape == (0,)
    assert td.draw(empty, seed=0, logprobs=2).top_tokens.shape == (0, 2)
    assert td.softmax(empty, top_p=0.5).shape == (0, 40)
    assert td.kept_set(empty).offsets.tolist() == [0]


# --- Rows that cannot be drawn from ------------------------------------------------------------------------


def spoilt_rows() -> np.ndarray:
    rows = np.random.default_rng(1).normal(0, 1, (6, 2000)).astype(np.float32)
    rows[1, 1999] = np.nan
    rows[3] = -np.inf
    rows[4, 0] = np.inf
    return rows


BAD, GOOD = [1, 3, 4], [0, 2, 5]


def test_invalid_rows_are_named_after_the_others_were_drawn(isa: str) -> None:
    rows = spoilt_rows()
    with pytest.raises(td.InvalidLogitsError) as caught:
        td.sample(rows, seed=3)
    message = str(caught.value)
    assert "\n" not in message
    for row, reason in ((1, "NaN"), (3, "no finite"), (4, "inf")):
        assert re.search(rf"row\w* .*\b{row}\b", message)
        assert reason in message
    assert isinstance(caught.value, ValueError)
    assert caught.value.tokens.tolist() == td.sample(rows, seed=3, on_invalid="mark").tolist()


def test_invalid_rows_are_marked(isa: str) -> None:
    rows = spoilt_rows()
    draws = td.draw(rows, seed=3, logprobs=2, on_invalid="mark")
    clean = td.draw(rows[GOOD], seed=3, stream=GOOD, logprobs=2)
    for ours, theirs in zip(draws, clean, strict=True):
        assert np.array_equal(ours[GOOD], theirs)
    assert draws.tokens[BAD].tolist() == [-1] * 3
    assert draws.kept[BAD].tolist() == [0] * 3
    assert draws.valid.tolist() == [True, False, True, False, False, True]
    for values in (draws.logprobs, draws.raw_logprobs, draws.top_logprobs):
        assert np.isnan(values[BAD]).all()
    assert (draws.top_tokens[BAD] == -1).all()


@pytest.mark.parametrize("call", [td.softmax, td.log_softmax, td.filter_logits])
def test_invalid_rows_of_the_other_functions(call: Callable[..., Any], isa: str) -> None:
    rows = spoilt_rows()
    marked = call(rows, top_p=0.9, on_invalid="mark")
    assert np.isnan(marked[BAD]).all()
    assert np.array_equal(marked[GOOD], call(rows[GOOD], top_p=0.9))
    with pytest.raises(td.InvalidLogitsError, match="1"):
        call(rows)


def test_invalid_rows_of_kept_set_greedy_and_top_k(isa: str) -> None:
    rows = spoilt_rows()
    sets = td.kept_set(rows, top_k=3, on_invalid="mark")
    assert np.diff(sets.offsets).tolist() == [3, 0, 3, 0, 0, 3]
    assert td.greedy(rows, on_invalid="mark")[BAD].tolist() == [-1] * 3
    values, tokens = td.top_k(rows, 3, on_invalid="mark")
    assert (tokens[BAD] == -1).all()
    assert np.isnan(values[BAD]).all()
    for call in (td.kept_set, td.greedy, lambda logits: td.top_k(logits, 2)):
        with pytest.raises(td.InvalidLogitsError):
            call(rows)


@pytest.mark.parametrize("fault", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 31, 32, 1023, 1024, 1999])
def test_a_fault_behind_a_mask_counts(fault: float, place: int, isa: str) -> None:
    row = np.random.default_rng(2).normal(0, 1, 2000).astype(np.float32)
    row[place] = fault
    mask = np.arange(2000) != place
    filters: dict[str, Any]
    for filters in ({}, {"temperature": 0}, {"top_k": 3}, {"top_p": 0.5}, {"min_p": 0.5}):
        draws = td.draw(row, mask=mask, seed=0, on_invalid="mark", **filters)
        assert (draws.tokens, draws.valid) == (-1, False)
        assert td.sample(row, bias={place: -np.inf}, seed=0, on_invalid="mark", **filters) == -1


def test_a_row_with_nothing_allowed(isa: str) -> None:
    row = np.zeros(100, dtype=np.float32)
    nothing = np.zeros(100, dtype=bool)
    assert td.sample(row, mask=nothing, seed=0, on_invalid="mark") == -1
    assert td.sample(row, mask=np.zeros(4, np.int32), seed=0, on_invalid="mark") == -1
    assert td.sample(row, bias=np.full(100, -np.inf, np.float32), seed=0, on_invalid="mark") == -1
    row[7] = -np.inf
    assert td.sample(row, mask=np.arange(100) == 7, seed=0, on_invalid="mark") == -1


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
def test_other_types_overflow_to_an_invalid_row(dtype: type, isa: str) -> None:
    row = np.zeros(50, dtype=dtype)
    row[9] = np.inf if dtype is np.float16 else 1e300
    assert td.sample(row, seed=0, on_invalid="mark") == -1
    row[9] = -np.inf if dtype is np.float16 else -1e300
    assert td.sample(row, seed=0) != 9
    assert td.draw(row, seed=0).kept == 49


@pytest.mark.parametrize(
    "call",
    [
        td.sample,
        td.draw,
        td.greedy,
        td.softmax,
        td.kept_set,
        td.logsumexp,
        lambda logits: td.top_k(logits, 2),
        lambda logits: td.token_logprobs(logits, [0]),
        lambda logits: td.cross_entropy(logits, [0]),
        lambda logits: td.top_continuations(logits, [0.0], 2),
        td.Sampler(),
    ],
)
def test_no_logits_at_all(call: Callable[[Any], Any]):
    with pytest.raises(TypeError, match=r"logits must be an array \(NumPy, .*\), got None"):
        call(None)
