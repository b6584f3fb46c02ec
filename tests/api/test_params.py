# SPDX-License-Identifier: Apache-2.0
import copy
import dataclasses
import pickle

import numpy as np
import pytest

import tokendraw as td


@pytest.fixture
def logits():
    return np.random.default_rng(5).normal(size=(3, 500)).astype(np.float32)


def test_params_hold_what_sample_takes(logits):
    params = td.SamplingParams(temperature=0.7, top_k=40, top_p=0.9, min_p=0.01)
    given = {"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.01}
    assert params.as_dict() == {**td.SamplingParams().as_dict(), **given}
    by_params = td.sample(logits, params=params, seed=3)
    assert by_params.tolist() == td.sample(logits, **params.as_dict(), seed=3).tolist()


def test_a_keyword_goes_before_params(logits):
    params = td.SamplingParams(temperature=0.0)
    assert td.sample(logits, params=params, seed=1).tolist() == td.greedy(logits).tolist()
    warm = td.sample(logits, params=params, temperature=1.0, seed=1)
    assert warm.tolist() == td.sample(logits, seed=1).tolist()


def test_params_take_one_value_per_row(logits):
    params = td.SamplingParams(temperature=[0.0, 1.0, 0.5], top_k=np.array([0, 1, 3]))
    tokens = td.sample(logits, params=params, seed=[4, 4, 4])
    best = td.greedy(logits)
    assert tokens[:2].tolist() == best[:2].tolist()
    alone = td.sample(logits[2], temperature=0.5, top_k=3, seed=4, stream=0)
    assert tokens[2] == alone


def test_params_for_other_rows_are_refused(logits):
    params = td.SamplingParams(temperature=[0.5, 1.0])
    with pytest.raises(ValueError, match=r"temperature must have one value per row \(3\), got 2"):
        td.sample(logits, params=params)


def test_params_do_not_change():
    params = td.SamplingParams(top_k=4)
    with pytest.raises(dataclasses.FrozenInstanceError):
        params.top_k = 5
    assert params.replace(top_k=5).top_k == 5
    assert params.top_k == 4


@pytest.mark.parametrize(
    ("parameters", "error", "message"),
    [
        ({"top_p": 0.0}, ValueError, r"top_p must be in \(0, 1\], got 0"),
        ({"top_p": [0.5, 1.5]}, ValueError, r"top_p must be in \(0, 1\], got 1.5 \(row 1\)"),
        ({"temperature": -1.0}, ValueError, "temperature must be finite and >= 0, got -1"),
        ({"min_p": [0.0, 0.1, 2.0]}, ValueError, r"min_p must be in \[0, 1\], got 2 \(row 2\)"),
        ({"top_k": -3}, ValueError, "top_k must be >= 0, got -3"),
        ({"top_k": 2.0}, TypeError, "top_k must be an integer, or an array with one per row, got float"),
        (
            {"temperature": "hot"},
            TypeError,
            "temperature must be a number, or an array with one per row, got str",
        ),
    ],
)
def test_params_are_checked_when_made(parameters, error, message):
    with pytest.raises(error, match=message):
        td.SamplingParams(**parameters)


def test_equal_params_are_equal():
    assert td.SamplingParams(top_k=[1, 2]) == td.SamplingParams(top_k=np.array([1, 2]))
    assert td.SamplingParams(top_k=1) != td.SamplingParams(top_k=2)
    assert td.SamplingParams(top_k=1) != "top_k=1"
    assert hash(td.SamplingParams(top_k=1)) == hash(td.SamplingParams(top_k=np.int32(1), top_p=1))


def test_equal_params_with_names_and_sequences():
    one = td.SamplingParams(
        steps=["top_k", "top_p"],
        eos_token_id=[1, 2],
        dry_breakers=np.array([3, 4]),
        penalty_history={"frequency": "output", "repetition": "all"},
    )
    other = td.SamplingParams(
        steps=("top_k", "top_p"),
        eos_token_id=np.array([1, 2]),
        dry_breakers=(3, 4),
        penalty_history={"repetition": "all", "frequency": "output"},
    )
    assert one == other
    assert hash(one) == hash(other)
    for change in (
        {"steps": ("top_p", "top_k")},
        {"steps": None},
        {"eos_token_id": 1},
        {"eos_token_id": None},
        {"dry_breakers": ()},
        {"penalty_history": "output"},
        {"top_p_ties": "all"},
    ):
        assert one != one.replace(**change), change
        assert one.replace(**change) == other.replace(**change)
    assert hash(td.SamplingParams(frequency_penalty=0.0)) == hash(td.SamplingParams(frequency_penalty=-0.0))


def test_params_are_shown_as_they_are_made():
    params = td.SamplingParams(top_k=3, steps=["top_k", "min_p"], eos_token_id=(1, 2), top_k_ties="all")
    shown = "SamplingParams(top_k=3, eos_token_id=(1, 2), steps=('top_k', 'min_p'), top_k_ties='all')"
    assert repr(params) == shown
    assert eval(shown, {"SamplingParams": td.SamplingParams}) == params
    assert repr(td.SamplingParams(penalty_history={"dry": "output"})) == (
        "SamplingParams(penalty_history={'dry': 'output'})"
    )
    assert repr(td.SamplingParams()) == "SamplingParams()"


def test_params_own_what_rows_share():
    steps, rule, breakers = ["top_k"], {"dry": "output"}, np.array([1, 2])
    params = td.SamplingParams(steps=steps, penalty_history=rule, dry_breakers=breakers)
    before = params.replace()
    steps.append("top_p")
    rule["dry"] = "all"
    breakers[:] = 7
    assert params == before
    assert params.as_dict()["dry_breakers"] == (1, 2)


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda params: pickle.loads(pickle.dumps(params))]
)
def test_params_can_be_copied(copied):
    params = td.SamplingParams.preset("vllm", top_p=[0.5, 0.9], eos_token_id=[1])
    assert copied(params) == params
    assert repr(copied(params)) == repr(params)


def test_a_preset_takes_fields_and_its_rules_may_be_changed():
    params = td.SamplingParams.preset("transformers", top_p=0.9, top_p_ties="highest")
    assert (params.top_p, params.top_p_ties, params.top_k_ties) == (0.9, "highest", "all")
    assert params.steps == ("temperature", "top_k", "top_p", "min_p", "typical", "epsilon", "eta")
    assert td.SamplingParams.preset("llama.cpp").replace(steps=None) == td.SamplingParams()
    with pytest.raises(ValueError, match="steps must name every step that is used, got no xtc"):
        params.replace(xtc_probability=1.0)


@pytest.mark.parametrize("name", ["transformers", "vllm", "sglang", "llama.cpp", "mlx", "flashinfer"])
def test_a_preset_serves_sample_and_sampler(name, logits):
    params = td.SamplingParams.preset(name, temperature=0.9, top_k=40, top_p=0.8, min_p=0.01)
    tokens = td.sample(logits, params=params, seed=3)
    assert tokens.tolist() == td.sample(logits, **params.as_dict(), seed=3).tolist()
    assert tokens.tolist() == td.Sampler(params, seed=3)(logits).tolist()
    kept = td.kept_set(logits, params=params)
    assert np.diff(kept.offsets).max() <= 40


def test_a_preset_does_not_change_with_what_was_made_of_it():
    made = td.SamplingParams.preset("vllm")
    made.as_dict()["penalty_history"]["frequency"] = "all"
    for params in (made, td.SamplingParams.preset("vllm")):
        assert params.penalty_history == {"frequency": "output", "presence": "output"}


def test_something_else_is_no_params(logits):
    with pytest.raises(TypeError, match="params must be a SamplingParams, got dict"):
        td.sample(logits, params={"top_k": 1})


def test_an_error_of_params_is_the_callers_to_see(logits):
    class Exhausted:
        @property
        def _given(self):
            raise MemoryError

    with pytest.raises(MemoryError):
        td.sample(logits, params=Exhausted())


def test_sampler_counts_its_steps(logits):
    sampler = td.Sampler(top_k=100, seed=9)
    drawn = [sampler(logits).tolist() for _ in range(3)]
    assert drawn == [td.sample(logits, top_k=100, seed=9, step=step).tolist() for step in range(3)]
    sampler.step = 1
    assert sampler(logits).tolist() == drawn[1]


def test_sampler_takes_arguments_of_a_call(logits):
    sampler = td.Sampler(td.SamplingParams(temperature=0.5), min_p=0.1, seed=2)
    mask = np.zeros(500, dtype=bool)
    mask[[7, 8]] = True
    out = np.empty(3, dtype=np.int64)
    assert sampler(logits, mask=mask, out=out) is out
    assert set(out.tolist()) <= {7, 8}
    assert sampler.params == td.SamplingParams(temperature=0.5, min_p=0.1)


def test_samplers_without_a_seed_differ(logits):
    wide = np.zeros(100_000, dtype=np.float32)
    assert td.Sampler().seed != td.Sampler().seed
    assert td.sample(wide) != td.sample(wide) or td.sample(wide) != td.sample(wide)
    assert "top_k=3" in repr(td.Sampler(top_k=3, seed=1))
