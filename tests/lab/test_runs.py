# SPDX-License-Identifier: Apache-2.0
"""Finished runs are made once."""

import numpy as np
import pytest

from tokendraw.lab import results
from tokendraw.lab.runs import kept_run


def test_a_finished_run_is_not_made_again(tmp_path):
    made = []

    def make(seed):
        made.append(seed)
        return {"loss": np.float64(seed / 2), "curve": [(0, 1.0)]}

    for _ in range(2):
        for seed in (1, 2):
            run = kept_run(tmp_path, "doubling", f"seed {seed}", {"seed": seed}, lambda seed=seed: make(seed))
            assert run == {"loss": seed / 2, "curve": [[0, 1.0]]}
    assert made == [1, 2]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "doubling-seed-1.json",
        "doubling-seed-2.json",
    ]


def test_a_run_that_is_stopped_leaves_nothing(tmp_path):
    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_run(tmp_path, "doubling", "one", {}, stopped)
    assert kept_run(tmp_path, "doubling", "one", {}, lambda: {"loss": 1.0}) == {"loss": 1.0}


def test_runs_with_other_settings_are_not_taken(tmp_path):
    kept_run(tmp_path, "doubling", "one", {"steps": 10}, lambda: {"loss": 1.0})
    with pytest.raises(
        ValueError, match=r"steps must be 10 to go on with .*doubling-one\.json, got 20; choose"
    ):
        kept_run(tmp_path, "doubling", "one", {"steps": 20}, lambda: {"loss": 2.0})
    results.save(tmp_path / "doubling-two.json", "halving", {})
    with pytest.raises(ValueError, match="must hold results of doubling"):
        kept_run(tmp_path, "doubling", "two", {"steps": 20}, lambda: {"loss": 2.0})


def test_without_a_folder_nothing_is_kept(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kept_run(None, "doubling", "one", {}, lambda: {"loss": 1.0}) == {"loss": 1.0}
    assert not list(tmp_path.iterdir())
