# SPDX-License-Identifier: Apache-2.0
"""What saved runs show: intervals against scipy, verdicts, tables and files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tokendraw import cli
from tokendraw.lab import arrow_report, results

stats = pytest.importorskip("scipy.stats", reason="intervals need scipy, which is not installed")

HELD_OUT = Path(__file__).parents[1] / "models" / "held_out"
SIZES = [900, 3000, 1700, 2500]


def run_of(direction, seed, bits, *, language="tiny", architecture="gru", **other):
    """Return a run as its file has it, with the final bits of each document."""
    settings = {"architecture": architecture, "direction": direction, "seed": seed, "units": 8}
    tests = [{"tokens": 100, "bits": 2 * sum(bits)}, {"tokens": 200, "bits": sum(bits)}]
    return {
        "language": language,
        "text": "digest",
        "vocab_size": 300,
        "settings": settings,
        "cpu_seconds": 1.0,
        "tests": tests,
        "document_bytes": SIZES,
        "document_bits": list(bits),
        **other,
    }


def made_up(seeds=3, gain=0.02, noise=0.01):
    """Return runs whose backward bits are higher by a share of the sizes, and by noise."""
    random = np.random.default_rng(5)
    runs = []
    for seed in range(1, seeds + 1):
        forward = np.array(SIZES) * (1.4 + 0.1 * random.random(4))
        more = np.array(SIZES) * (gain + noise * random.standard_normal() + 0.004 * random.standard_normal(4))
        runs += [run_of("forward", seed, forward), run_of("backward", seed, forward + more)]
    return runs


def save_all(folder, runs):
    for run in runs:
        settings = run["settings"]
        name = f"{run['language']}-{settings['architecture']}-{settings['direction']}-{settings['seed']}"
        results.save(folder / f"{name}.json", arrow_report.RUN, run)


def test_losses_are_per_byte():
    [pair, *_] = arrow_report.pairs_of(made_up())
    forward = made_up()[0]["document_bits"]
    assert pair.forward[-1] == pytest.approx(sum(forward) / sum(SIZES))
    assert pair.forward[0] == pytest.approx(2 * pair.forward[-1])
    assert pair.tokens.tolist() == [100, 200]
    assert pair.differences[-1] == pytest.approx(pair.document_differences.sum() / sum(SIZES))


def test_the_interval_over_seeds_is_students():
    pairs = arrow_report.pairs_of(made_up(seeds=4))
    [arrow] = arrow_report.compare(pairs)
    differences = [pair.backward[-1] - pair.forward[-1] for pair in pairs]
    low, high = stats.t.interval(0.95, 3, np.mean(differences), stats.sem(differences))
    assert arrow.over_seeds == pytest.approx((low, np.mean(differences), high))
    assert arrow.backward - arrow.forward == pytest.approx(arrow.over_seeds.value)


def test_the_interval_over_documents_is_that_of_a_ratio():
    """Documents of one size have Student's interval; else its error is that of resampled documents."""
    differences = np.array([1.0, 4.0, 2.0, 5.0, 3.5])
    equal = arrow_report.difference_interval(differences, [10] * 5)
    low, high = stats.t.interval(0.95, 4, np.mean(differences), stats.sem(differences))
    assert equal == pytest.approx((low / 10, np.mean(differences) / 10, high / 10))

    random = np.random.default_rng(3)
    sizes = random.integers(500, 5000, 60)
    bits = sizes * (0.01 + 0.02 * random.standard_normal(60))
    found = arrow_report.difference_interval(bits, sizes)
    assert found.value == pytest.approx(bits.sum() / sizes.sum())
    chosen = random.integers(0, 60, (4000, 60))
    resampled = bits[chosen].sum(axis=1) / sizes[chosen].sum(axis=1)
    error = (found.high - found.low) / 2 / stats.t.ppf(0.975, 59)
    assert error == pytest.approx(resampled.std(), rel=0.1)


def test_documents_are_compared_over_all_seeds():
    pairs = arrow_report.pairs_of(made_up())
    [arrow] = arrow_report.compare(pairs)
    differences = np.mean([pair.document_differences for pair in pairs], axis=0)
    assert arrow.over_documents == arrow_report.difference_interval(differences, SIZES)


@pytest.mark.parametrize(
    ("runs", "verdict"),
    [
        (made_up(noise=0.001), "forward is easier"),
        (made_up(gain=-0.02, noise=0.001), "backward is easier"),
        (made_up(gain=0, noise=0.02), "undecided: the interval over seeds holds 0"),
        (made_up(seeds=1), "one pair of seeds says nothing of others, whose interval may hold 0"),
    ],
)
def test_what_follows(runs, verdict):
    [arrow] = arrow_report.compare(arrow_report.pairs_of(runs))
    assert arrow.verdict == verdict
    assert list(arrow_report.verdicts([arrow])) == [f"- tiny, gru: {verdict}."]


def test_the_table_has_a_line_for_each_text_and_network():
    runs = made_up() + [
        run_of(direction, 1, SIZES, language="other", architecture="transformer")
        for direction in ("forward", "backward")
    ]
    _, _, other, tiny = arrow_report.table(arrow_report.compare(arrow_report.pairs_of(runs)))
    assert other == "| other | transformer | 1 | 1.0000 | 1.0000 | +0.0000 | +0.00 | - | +0.0000 .. +0.0000 |"
    assert tiny.startswith("| tiny | gru | 3 | 1.4")


def test_a_run_without_its_other_direction_waits():
    assert len(arrow_report.pairs_of(made_up()[:5])) == 2


@pytest.mark.parametrize("other", [{"text": "another"}, {"vocab_size": 400}])
def test_pairs_differ_in_direction_alone(other):
    runs = [run_of("forward", 1, SIZES), run_of("backward", 1, SIZES, **other)]
    with pytest.raises(ValueError, match=r"^the runs of a pair must differ in direction alone"):
        arrow_report.pairs_of(runs)


class TestCommand:
    @pytest.fixture(autouse=True)
    def _matplotlib(self):
        pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")

    def test_from_a_folder(self, tmp_path, capsys):
        save_all(tmp_path, made_up())
        assert cli.main(["arrow", "report", str(tmp_path)]) == 0
        told = capsys.readouterr().out
        found = json.loads((tmp_path / "arrow.json").read_text(encoding="utf-8"))
        assert found["arrows"][0]["seeds"] == [1, 2, 3]
        assert found["arrows"][0]["over_seeds"][0] < found["arrows"][0]["differences"][0]
        drawn = (tmp_path / "arrow.svg").read_text(encoding="utf-8")
        assert all(
            f">{word}<" in drawn for word in ("forward", "backward", "tiny, gru", "backward - forward")
        )
        # The report's own file says the same, and draws nothing beside it.
        (tmp_path / "elsewhere").mkdir()
        kept = (tmp_path / "arrow.json").rename(tmp_path / "elsewhere" / "arrow.json")
        assert cli.main(["arrow", "report", str(kept)]) == 0
        assert capsys.readouterr().out == told
        assert [path.name for path in kept.parent.iterdir()] == ["arrow.json"]

    def test_into_the_manual(self, tmp_path, capsys):
        save_all(tmp_path / "runs", made_up())
        page = tmp_path / "docs" / "lab-arrow.md"
        page.parent.mkdir()
        page.write_text(
            f"Before.\n{arrow_report._START}\nold\n{arrow_report._END}\nAfter.\n", encoding="utf-8"
        )
        command = ["arrow", "report", str(tmp_path / "runs"), "--docs", str(page.parent)]
        assert cli.main(command) == 0
        first, start, *lines, end, last = page.read_text(encoding="utf-8").splitlines()
        assert (first, start, end, last) == ("Before.", arrow_report._START, arrow_report._END, "After.")
        assert lines == capsys.readouterr().out.splitlines()
        assert (page.parent / "results" / "arrow.json").is_file()
        assert (page.parent / "lab-arrow.svg").is_file()

    def test_the_embedded_models(self, tmp_path, capsys):
        """On two chapters that they never saw, the bits that are known of them."""
        chapters = ["genesis-11", "ecclesiastes-12"]
        documents = ["unread"] * 31
        documents[10], documents[30] = (
            (HELD_OUT / f"{chapter}.txt").read_text(encoding="utf-8").strip() for chapter in chapters
        )
        text = tmp_path / "two.txt"
        text.write_text("\n\n".join(documents), encoding="utf-8")
        known = json.loads((HELD_OUT / "bits_per_byte.json").read_text(encoding="utf-8"))
        sizes = [len(documents[place].encode()) for place in (10, 30)]
        forward, backward = (
            np.average([known[chapter][name] for chapter in chapters], weights=sizes)
            for name in ("kjv", "kjv-backward")
        )
        assert cli.main(["arrow", "report", "--embedded", str(text)]) == 0
        cells = [cell.strip() for cell in capsys.readouterr().out.splitlines()[2].split("|")[1:-1]]
        assert cells[:3] == ["two (embedded)", "gru", "1"]
        assert [float(cell) for cell in cells[3:6]] == pytest.approx(
            [forward, backward, backward - forward], abs=1.1e-4
        )
        assert cells[7] == "-"

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "arrow report needs a folder of runs, or --embedded FILE"),
            (["{empty}"], "must hold runs of `tokendraw arrow train`, got none"),
            (["{single}"], "must hold both directions of a seed, got 1 runs without"),
            (["{text}"], "must hold results as JSON"),
            (["--embedded", "{text}"], "a text must have 11 documents or more, got 1 in"),
            (["{pair}", "--docs", "{empty}"], "lab-arrow.md"),
        ],
    )
    def test_errors_are_one_line(self, arguments, message, tmp_path, capsys):
        places = {name: tmp_path / name for name in ("empty", "single", "pair")}
        for place in places.values():
            place.mkdir()
        save_all(places["single"], made_up()[:1])
        save_all(places["pair"], made_up()[:2])
        (tmp_path / "text").write_text("words", encoding="utf-8")
        filled = [argument.format(**places, text=tmp_path / "text") for argument in arguments]
        assert cli.main(["arrow", "report", *filled]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert message in line

    def test_one_seed_has_no_bounds_in_its_file(self, tmp_path):
        save_all(tmp_path, made_up(seeds=1))
        [arrow] = arrow_report.report(tmp_path)
        assert math.isnan(arrow.over_seeds.low)
        assert results.load(tmp_path / "arrow.json", arrow_report.REPORT)["arrows"][0]["over_seeds"] is None
