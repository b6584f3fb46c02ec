# SPDX-License-Identifier: Apache-2.0
"""Results as files."""

import json
from dataclasses import dataclass

import numpy as np
import pytest

import tokendraw as td
from tokendraw.lab import extras, pictures, results
from tokendraw.lab.intervals import mean_interval


@dataclass
class Line:
    slope: float
    ends: tuple[int, int | None]


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "folder" / "found.json"
    found = {
        "seeds": [1, 2],
        "losses": np.float32([0.5, 0.25]),
        "best": np.int64(3),
        "name": "é",
        "gaps": (mean_interval([0.5]), Line(np.float64(2.0), (1, None))),
    }
    results.save(path, "doubling", found)
    loaded = results.load(path, "doubling")
    assert loaded["losses"] == [0.5, 0.25]
    assert loaded["best"] == 3
    assert loaded["name"] == "é"
    assert loaded["gaps"] == [{"low": None, "value": 0.5, "high": None}, {"slope": 2.0, "ends": [1, None]}]
    assert loaded["versions"]["tokendraw"] == td.__version__
    assert loaded["versions"]["numpy"] == np.__version__
    assert [file.name for file in path.parent.iterdir()] == ["found.json"]


def test_a_save_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "found.json"
    results.save(path, "doubling", {"loss": 1.0})
    with pytest.raises(TypeError, match="results must be numbers, strings, lists or records, got set"):
        results.save(path, "doubling", {"loss": {1, 2}})
    with pytest.raises(ValueError, match="not JSON compliant"):
        results.save(path, "doubling", {"loss": float("inf")})
    assert results.load(path, "doubling")["loss"] == 1.0


@pytest.mark.parametrize("text", [json.dumps({"experiment": "halving"}), "[]"])
def test_results_of_something_else(tmp_path, text):
    path = tmp_path / "found.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"found\.json must hold results of doubling$"):
        results.load(path, "doubling")


def test_what_is_not_json(tmp_path):
    path = tmp_path / "found.json"
    path.write_text('{"experiment": ', encoding="utf-8")
    with pytest.raises(ValueError, match=r"found\.json must hold results as JSON: Expecting value"):
        results.load(path, "doubling")


def draw(path):
    with pictures.new_figure() as (figure, axes):
        axes.plot([0, 1], [1, 0], label="a line")
        axes.legend()
        pictures.save_picture(figure, path)


def test_the_same_data_give_the_same_picture(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    draw(tmp_path / "one.svg")
    draw(tmp_path / "new" / "two.svg")
    first = (tmp_path / "one.svg").read_bytes()
    assert first == (tmp_path / "new" / "two.svg").read_bytes()
    assert first.splitlines()[1] == b"<!-- SPDX-License-Identifier: Apache-2.0 -->"
    assert b">a line<" in first, "text is text"
    draw(tmp_path / "one.png")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_says_how_it_is_installed():
    with pytest.raises(ImportError, match=r'^pictures need nowhere: pip install "tokendraw\[lab\]"$'):
        extras.extra("nowhere.at_all", "pictures")


def test_a_library_that_fails_to_import_says_so_itself(tmp_path, monkeypatch):
    (tmp_path / "broken_library.py").write_text("import nowhere\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match="No module named 'nowhere'"):
        extras.extra("broken_library", "pictures")
