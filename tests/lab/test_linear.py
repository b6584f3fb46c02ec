# SPDX-License-Identifier: Apache-2.0
"""Linear languages over F2, and what is learned of them."""

import json
import math

import numpy as np
import pytest

from tokendraw.cli import main
from tokendraw.lab import linear, results
from tokendraw.lab.binary_algebra import multiply
from tokendraw.lab.linear import Run, Settings, cells, growth, language, sentences, sweep, table

RUN = Run(8, 3, "forward", 0, 0.375, 0.0, 100, True, [(0, 1.0), (100, 0.0)], 1.0)


def runs_with(losses: dict[tuple[int, str], list[float]]) -> list[Run]:
    return [
        RUN._replace(size=size, direction=direction, seed=seed, loss=loss, is_solved=loss < 0.01)
        for (size, direction), values in losses.items()
        for seed, loss in enumerate(values)
    ]


@pytest.mark.parametrize(("size", "weight"), [(1, 1), (5, 3), (16, 2), (20, 3)])
def test_sentences_are_the_map_and_its_inverse(size, weight):
    matrix, inverted = language(size, weight, seed=3)
    forward = sentences(matrix, "forward", 50, np.random.default_rng(1))
    backward = sentences(matrix, "backward", 50, np.random.default_rng(1))
    x, y = forward[:, :size], forward[:, size:]
    np.testing.assert_array_equal(y, x @ matrix.T % 2)
    np.testing.assert_array_equal(x, multiply(y, inverted.T))
    np.testing.assert_array_equal(backward, np.concatenate([y, x], axis=1))


def test_a_language_depends_on_its_seed_alone():
    same, other = language(16, 3, seed=1), language(16, 3, seed=2)
    np.testing.assert_array_equal(language(16, 3, seed=1)[0], same[0])
    assert (same[0] != other[0]).any()


def test_cells_pair_the_directions_by_seed():
    runs = runs_with({(8, "forward"): [0.1, 0.2, 0.0], (8, "backward"): [0.6, 0.8, 0.7]})
    [cell] = cells(runs)
    assert cell.gap.value == pytest.approx(0.6)
    # Student's 0.975 quantile with 2 degrees of freedom is 4.303; the differences deviate by 0.1.
    assert cell.gap.high - cell.gap.value == pytest.approx(4.303 * 0.1 / math.sqrt(3), rel=1e-3)
    assert cell.forward_steps == [None, None, 100]
    assert cell.backward_steps == [None] * 3


def test_growth_is_that_of_the_gap_of_each_seed():
    runs = runs_with(
        {
            (8, "forward"): [0, 0],
            (8, "backward"): [0.1, 0.2],
            (16, "forward"): [0, 0.5],
            (16, "backward"): [1, 1],
        }
    )
    assert growth(runs, 3).value == pytest.approx((0.9 + 0.3) / 2)
    assert growth(runs[:4], 3) is None


def test_the_table_says_what_was_not_solved():
    text = table(runs_with({(8, "forward"): [0, 0.005], (8, "backward"): [0.5, 0.6]}))
    assert text.splitlines()[1].endswith("100 100 | not in 100 not in 100")
    assert "0.5475 [" in text


@pytest.mark.parametrize("name", ["units", "rows", "steps", "every", "learning_rate", "solved"])
def test_settings_are_positive(name):
    with pytest.raises(ValueError, match=rf"{name} must be positive, got 0"):
        Settings(**{name: 0})


def test_what_does_not_exist_is_told_before_training(monkeypatch):
    monkeypatch.setattr(linear, "train_direction", lambda *_: pytest.fail("trained"))
    with pytest.raises(ValueError, match="size must be even where weight is, got size 9 and weight 2"):
        sweep([8, 9], [2], [0], Settings())
    with pytest.raises(ValueError, match=r"weights must be less than a size, got weights \[9\] and"):
        sweep([8], [9], [0], Settings())


@pytest.fixture
def arguments(tmp_path):
    pytest.importorskip("torch", reason="torch is not installed")
    sizes = ["--sizes", "4", "6", "--weights", "1", "3", "--steps", "200"]
    return ["linear", *sizes, "--output", str(tmp_path / "out")]


def test_the_command_learns_and_goes_on_where_it_was_stopped(arguments, tmp_path, capsys, monkeypatch):
    train, trained = linear.train_direction, []

    def stopped_at_the_third(*each):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(each[:4])
        return train(*each)

    monkeypatch.setattr(linear, "train_direction", stopped_at_the_third)
    assert main(arguments) == 130
    monkeypatch.setattr(linear, "train_direction", lambda *each: trained.append(each[:4]) or train(*each))
    assert main(arguments) == 0
    assert len(trained) == len(set(trained)) == 8
    found = results.load(tmp_path / "out" / "linear.json", "linear")
    *table, files = capsys.readouterr().out.splitlines()
    assert len(table) == 1 + 4 + 2
    assert files == f"{tmp_path / 'out' / 'linear.json'}, {tmp_path / 'out' / 'linear.svg'}"
    assert (tmp_path / "out" / "linear.svg").is_file()
    # A permutation is learned in a moment, in either direction.
    permuted = [run for run in found["runs"] if run["weight"] == 1]
    assert [run["is_solved"] for run in permuted] == [True] * 4
    assert [run["curve"][0][1] for run in permuted] == pytest.approx([1.0] * 4, abs=0.1)
    assert found["seeds"] == [0]
    assert found["cells"][0]["gap"]["low"] is None
    json.dumps(found, allow_nan=False)


def test_the_same_seed_gives_the_same_run():
    pytest.importorskip("torch", reason="torch is not installed")
    first, second = (
        linear.train_direction(4, 3, "forward", 5, Settings(steps=20, units=16))._replace(seconds=0)
        for _ in range(2)
    )
    assert first == second


def test_the_picture_shows_every_run(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    runs = runs_with({(8, "forward"): [0, 0.5], (8, "backward"): [0.5, 0.6]})
    linear.draw_picture(runs, tmp_path / "found.svg")
    drawn = (tmp_path / "found.svg").read_text(encoding="utf-8")
    assert "SPDX-License-Identifier" in drawn
    for word in ("forward", "backward", "bits of x and of y", "density of the matrix to be learned"):
        assert f">{word}<" in drawn


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sizes", "0"], "argument --sizes: must be a whole number >= 1, got 0"),
        (
            ["--sizes", "4", "--weights", "4"],
            "weights must be less than a size, got weights [4]",
        ),
        (["--sizes", "5", "--weights", "2"], "size must be even where weight is, got size 5 and weight 2"),
    ],
)
def test_bad_options_take_one_line(options, message, capsys, tmp_path):
    try:
        code = main(["linear", *options, "--output", str(tmp_path)])
    except SystemExit as stopped:
        code = stopped.code
    assert code == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
