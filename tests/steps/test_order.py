# SPDX-License-Identifier: Apache-2.0
"""Steps in any order with any rules, drawn at random, against the reference on every instruction set."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tokendraw as td
from tests import oracle
from tests.adversarial import DTYPES, generator, matrix
from tokendraw import reference

SEPARATE = (*reference.ORDER,)
JOINT = tuple(name for name in reference.STEPS if name not in ("top_k", "top_p"))

VALUES: dict[str, dict[str, list[Any]]] = {
    "temperature": {"temperature": [0.0, 0.3, 0.8, 1.0, 1.7, 30.0]},
    "top_k": {"top_k": [0, 1, 7, 50, 900, 1500]},
    "top_p": {"top_p": [1e-6, 0.2, 0.7, 0.95, 0.999]},
    "top_k_top_p": {"top_k": [0, 7, 50, 1500], "top_p": [0.2, 0.7, 0.95, 1.0]},
    "min_p": {"min_p": [1e-4, 0.02, 0.3, 1.0]},
    "typical": {"typical_p": [0.05, 0.5, 0.9, 0.999]},
    "epsilon": {"epsilon_cutoff": [1e-5, 1e-3, 0.1, 0.99]},
    "eta": {"eta_cutoff": [1e-4, 3e-3, 0.1, 0.99]},
    "top_n_sigma": {"top_n_sigma": [0.1, 1.0, 2.5, 10.0]},
    "xtc": {"xtc_probability": [0.5, 1.0], "xtc_threshold": [0.0, 1e-3, 0.05, 0.3, 0.5, 0.7]},
}
RULES = {
    "top_k_ties": ["exact", "all"],
    "top_p_boundary": ["reach", "exceed"],
    "top_p_ties": ["lowest", "highest", "all"],
    "top_p_mass": ["left", "original"],
}


def random_call(case: int) -> tuple[np.ndarray, dict[str, Any]]:
    """Return rows of all kinds, and filters: some steps in some order, half of their values by row."""
    random = generator(case, 20)
    size = int(random.choice([5, 33, 700, 1500, 2500]))
    logits = matrix(size, DTYPES["float32"])
    rows = random.choice(len(logits), 6, replace=False)
    steps = list(random.permutation(JOINT if random.random() < 0.3 else SEPARATE))
    steps = [str(name) for name in steps[: random.integers(1, len(steps) + 1)]]
    filters: dict[str, Any] = {"steps": steps, "seed": int(random.integers(2**62)), "step": case}
    for values in (VALUES[name] for name in steps if random.random() < 0.7):
        for name, choices in values.items():
            filters[name] = random.choice(choices, 6) if random.random() < 0.5 else random.choice(choices)
    filters |= {name: str(random.choice(choices)) for name, choices in RULES.items()}
    return logits[rows], filters


@pytest.mark.parametrize("case", range(250))
def test_steps_in_any_order(case: int, set_isa: Callable[[str], None]) -> None:
    logits, filters = random_call(case)
    oracle.check_call(logits, filters)
    tokens = td.sample(logits, **filters)
    sets = td.kept_set(logits, **oracle.filters_of(filters))
    for isa in td.build_info()["isas"]:
        set_isa(isa)
        assert np.array_equal(td.sample(logits, **filters), tokens), isa
        assert all(map(np.array_equal, td.kept_set(logits, **oracle.filters_of(filters)), sets)), isa


def test_random_calls_use_every_step_and_rule() -> None:
    calls = [random_call(case)[1] for case in range(250)]
    for name, values in VALUES.items():
        assert sum(bool(set(values) & set(filters)) for filters in calls) > 25, name
    for name, choices in RULES.items():
        for choice in choices:
            assert sum(filters[name] == choice for filters in calls) > 50, choice


def test_the_default_order_is_that_of_its_names() -> None:
    rows = matrix(700, DTYPES["float32"])
    filters: dict[str, Any] = {
        "top_k": 300,
        "top_p": 0.97,
        "min_p": 1e-3,
        "typical_p": 0.9,
        "eta_cutoff": 1e-3,
    }
    filters |= {"temperature": 1.3, "top_n_sigma": 3.0, "xtc_probability": 1.0, "xtc_threshold": 0.02}
    for call in (td.softmax, td.log_softmax, td.filter_logits):
        assert np.array_equal(call(rows, **filters), call(rows, **filters, steps=reference.ORDER))
    ours, named = (td.sample(rows, seed=5, **filters, steps=steps) for steps in (None, reference.ORDER))
    assert np.array_equal(ours, named)


def test_steps_that_only_narrow_by_score_commute() -> None:
    """min_p and top_k keep beginnings that do not depend on each other: any order, the same bits."""
    rows = matrix(1500, DTYPES["float32"])
    filters: dict[str, Any] = {"top_k": 40, "min_p": 0.01, "temperature": 0.7}
    orders = (("temperature", "top_k", "min_p"), ("temperature", "min_p", "top_k"))
    one, other = (td.softmax(rows, **filters, steps=steps) for steps in orders)
    assert np.array_equal(one, other)


# --- The first draw ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("filters", "has_proposal"),
    [
        ({}, False),
        ({"top_p": 1.0, "min_p": 0.1}, False),
        ({"top_p": 0.5}, True),
        ({"top_p": 0.5, "min_p": 0.1, "temperature": 0.7}, True),
        ({"top_p": 0.5, "temperature": 0.0}, False),
        ({"top_p": 0.5, "top_k": 1024}, False),
        ({"top_p": 0.5, "top_k": 1025}, True),
        ({"top_p": 0.5, "top_k": 3000}, True),
        ({"top_p": 0.5, "top_k": 5, "top_k_ties": "all"}, True),
        ({"top_p": 0.5, "top_k": 5, "steps": ["top_p", "top_k"]}, False),
        ({"top_p": 0.5, "top_k": 3000, "steps": ["top_p", "top_k"]}, True),
        ({"top_p": 0.5, "top_p_ties": "highest"}, False),
        ({"top_p": 0.5, "top_p_ties": "all", "top_p_boundary": "exceed", "top_p_mass": "original"}, True),
        ({"top_p": 0.5, "typical_p": 0.5}, False),
        ({"top_p": 0.5, "typical_p": 0.5, "steps": ["typical", "top_p"]}, True),
        ({"top_p": 0.5, "xtc_probability": 1.0}, False),
        ({"top_p": 0.5, "xtc_probability": 1.0, "xtc_threshold": 0.51}, True),
        ({"top_p": 0.5, "temperature": 0.5, "steps": ["top_p", "temperature"]}, False),
        ({"top_p": 0.5, "temperature": 1.0, "steps": ["top_p", "temperature"]}, True),
        ({"top_p": 0.5, "steps": ["top_k_top_p", "min_p"], "min_p": 0.1}, True),
        ({"top_p": 0.5, "top_k": 5, "steps": ["top_k_top_p"]}, False),
        ({"top_p": 0.5, "top_k": 2000, "steps": ["top_k_top_p"]}, False),
    ],
)
def test_where_the_first_draw_is_from_the_set_before_top_p(
    filters: dict[str, Any], has_proposal: bool
) -> None:
    """The stream's definition; on 3000 equal tokens, of which top_k with all ties leaves all."""
    row = np.zeros(3000, dtype=np.float32)
    (expected,) = oracle.expect(row, **filters)
    assert (expected.proposal is not None) == has_proposal
    steps = np.arange(200)
    rows = np.broadcast_to(row, (200, 3000))
    tokens = td.sample(rows, seed=9, stream=4, step=steps, **filters)
    (chosen,) = oracle.follow(row, **filters)
    assert oracle.count_differing(chosen, tokens, [(9, 4, int(step)) for step in steps]) == 0
