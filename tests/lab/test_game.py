# SPDX-License-Identifier: Apache-2.0
"""The game with texts: baselines, intervals, what is kept, the command."""

import math
from pathlib import Path

import numpy as np
import pytest

import tokendraw as td
from tests.lab.tiny import TinyModel
from tokendraw import cli
from tokendraw.lab import game_command, prefix_search, results
from tokendraw.lab.game import summarize
from tokendraw.lab.judge import Judge
from tokendraw.lab.solvers import SOLVERS

TEXTS = {"one": (3, 1, 4, 1, 2, 4, 4, 3, 1, 2, 0, 3), "two": (1, 1, 2, 0, 4, 3, 3, 0, 1)}
QUICK = {"tokens": 3, "effort": 300, "seeds": (0, 1)}
VERSES = "And Joseph answered Pharaoh, saying, It is not in me: God shall give Pharaoh an answer of peace."
OPTIONS = ("--tokens", "2", "--effort", "300", "--seeds", "2", "--text-tokens", "12")


@pytest.fixture(scope="module")
def game():
    return summarize(TinyModel(), TEXTS, **QUICK)


def test_every_solver_plays_with_every_text_and_seed(game):
    asked = [(text, solver, seed) for text in TEXTS for solver in SOLVERS for seed in (0, 1)]
    assert [(each.text, each.solver, each.seed) for each in game.attempts] == asked
    assert game.seeds == [0, 1]
    assert game.solvers == list(SOLVERS)


def test_the_baselines(game):
    for text in game.texts:
        judge = Judge(TinyModel(), TEXTS[text.name])
        assert text.bits == judge.empty_bits
        assert text.first_words == judge.judgement(TEXTS[text.name][:3])
        assert text.baseline == max(0, text.first_words.saved)


def test_attempts_are_judged(game):
    for attempt in game.attempts:
        judge = Judge(TinyModel(), TEXTS[attempt.text])
        assert attempt.judgement == judge.judgement(attempt.judgement.prefix)
        assert attempt.gains[-1].saved == pytest.approx(attempt.judgement.saved, abs=1e-6)
        assert len(attempt.judgement.prefix) <= 3
        assert attempt.prefix_text is None, "no tokenizer"


def test_a_solver_that_draws_nothing_is_asked_once(game):
    beams = [attempt for attempt in game.attempts if attempt.solver == "beam"]
    assert [attempt.is_random for attempt in beams] == [False] * 4
    assert [attempt.seconds > 0 for attempt in beams] == [True, False, True, False]
    assert beams[0].judgement == beams[1].judgement


def test_standings(game):
    standings = game.standings()
    assert [each.saved.value for each in standings] == sorted(
        (s.saved.value for s in standings), reverse=True
    )
    own = {(a.text, a.seed): a.judgement for a in game.attempts if a.solver == standings[0].solver}
    saved = np.array([[own[text, seed].saved for seed in (0, 1)] for text in TEXTS])
    # Student's 97.5 % quantile with one degree of freedom.
    for interval, means in ((standings[0].saved, saved.mean(1)), (standings[0].over_seeds, saved.mean(0))):
        assert interval.value == pytest.approx(saved.mean())
        assert interval.high - interval.value == pytest.approx(
            12.7062 * abs(means[0] - means[1]) / 2, rel=1e-4
        )
    margins = saved.mean(1) - [text.baseline for text in game.texts]
    assert standings[0].margin.value == pytest.approx(margins.mean())
    assert standings[0].saved_per_token == pytest.approx(np.mean([j.saved_per_token for j in own.values()]))
    assert standings[0].net == pytest.approx(np.mean([j.net for j in own.values()]))


def test_it_is_reproducible(game):
    again = summarize(TinyModel(), TEXTS, batch=3, **QUICK)
    assert [each.gains for each in again.attempts] == [each.gains for each in game.attempts]


def test_the_best_solver_beats_the_baselines(game):
    assert game.standings()[0].margin.value > 1


def test_what_is_finished_is_kept(game, tmp_path, monkeypatch):
    """A search that is interrupted is done again; those before it are not."""

    def interrupted(search):
        raise KeyboardInterrupt

    monkeypatch.setattr("tokendraw.lab.game.SOLVERS", {**SOLVERS, "annealing": interrupted})
    with pytest.raises(KeyboardInterrupt):
        summarize(TinyModel(), TEXTS, keep=tmp_path, **QUICK)
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert len(kept) == 7, "of a text, three solvers with two seeds and one that draws nothing"
    monkeypatch.undo()
    searched = []
    monkeypatch.setattr("tokendraw.lab.game.PrefixSearch", counting(searched))
    finished = summarize(TinyModel(), TEXTS, keep=tmp_path, **QUICK)
    assert len(searched) == 2 + 9
    assert [each.gains for each in finished.attempts] == [each.gains for each in game.attempts]
    assert summarize(TinyModel(), TEXTS, keep=tmp_path, **QUICK).as_json() == finished.as_json()
    assert len(searched) == 11
    summarize(TinyModel(), TEXTS, keep=tmp_path, **{**QUICK, "effort": 301})
    assert len(searched) == 11 + 18


def counting(searched):
    class Counted(prefix_search.PrefixSearch):
        def __init__(self, *arguments, **options):
            searched.append(arguments)
            super().__init__(*arguments, **options)

    return Counted


def test_progress_adds_up(tmp_path):
    for _ in range(2):
        titles, efforts = [], []

        def told(title, effort, titles=titles, efforts=efforts):
            titles.append(title)
            efforts.append(effort)

        summarize(TinyModel(), TEXTS, keep=tmp_path, on_progress=told, **QUICK)
        assert sum(efforts) == 2 * 5 * 2 * QUICK["effort"]
        assert titles[0] == "one: samples, seed 0"


def test_json_and_picture(game, tmp_path):
    results.save(tmp_path / "game.json", "game", game.as_json())
    found = results.load(tmp_path / "game.json", "game")
    assert found["settings"]["tokens"] == 3
    assert found["seeds"] == [0, 1]
    assert len(found["attempts"]) == 20
    assert found["attempts"][0]["judgement"]["saved"] == game.attempts[0].judgement.saved
    assert found["standings"][0]["saved"]["low"] < found["standings"][0]["saved"]["value"]
    game_command.draw_picture(game, tmp_path / "game.svg")
    drawn = (tmp_path / "game.svg").read_text()
    for label in (
        *SOLVERS,
        "no prefix",
        "the text's first words",
        "bits saved by a prefix of at most 3 tokens",
    ):
        assert f">{label}<" in drawn


def test_one_text_and_one_seed_have_no_interval(tmp_path):
    game = summarize(TinyModel(), {"one": TEXTS["one"]}, tokens=2, seeds=[4], effort=200, solvers=["beam"])
    assert math.isnan(game.standings()[0].saved.low)
    standing = results.plain(game.as_json())["standings"][0]
    assert standing["saved"]["low"] is None
    assert "-" in list(game_command.table(game))[4].split()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": 0}, "tokens must be >= 1, got 0"),
        ({"effort": 0}, "effort must be >= 1, got 0"),
        ({"seeds": []}, "seeds must not be empty"),
        ({"seeds": [1, -2]}, "a seed must be >= 0, got -2"),
        ({"solvers": []}, "solvers must not be empty"),
        ({"solvers": ["luck"]}, "a solver must be one of samples, .*, got 'luck'"),
        ({"text_tokens": 3}, "text_tokens must be >= 4, got 3"),
        ({"tokens": 9}, r"a text must have more tokens than the prefix \(9\), got 9 \(two\)"),
    ],
)
def test_what_cannot_be_played(change, message):
    with pytest.raises(ValueError, match=message):
        summarize(TinyModel(), TEXTS, **{**QUICK, **change})


def test_texts_that_a_model_cannot_read():
    for text, message in (
        ("words", r"a text needs a model with a tokenizer, got none \(it\)"),
        ([1, 2, 6, 1], r"text tokens must be in \[0, 6\) \(it\)"),
        ([], r"a text must have more tokens than the prefix \(3\), got 0 \(it\)"),
    ):
        with pytest.raises(ValueError, match=message):
            summarize(TinyModel(), {"it": text}, **QUICK)
    with pytest.raises(ValueError, match="texts must not be empty"):
        summarize(TinyModel(), {}, **QUICK)


class Letters:
    """Knows a to e, and reads f as e."""

    def encode(self, text):
        return ["abcdef".index(letter) % 5 for letter in text]

    def decode(self, ids):
        return "".join("abcde"[token] for token in ids)

    def token_bytes(self, token):
        return b"abcde"[token : token + 1]


def test_unknown_characters():
    model = TinyModel()
    model.tokenizer = Letters()
    assert summarize(model, {"it": "abcde"}, **QUICK).attempts[0].prefix_text is not None
    rule = "the model's tokenizer must know every character of a text, got "
    with pytest.raises(ValueError, match=rule + r".*not found \(it\)"):
        summarize(model, {"it": "abcdex"}, **QUICK)
    with pytest.raises(ValueError, match=rule + r"'f' at 2 \(it\)"):
        summarize(model, {"it": "abfde"}, **QUICK)


# --- The command -------------------------------------------------------------------------------------------


@pytest.fixture
def verses(tmp_path):
    path = tmp_path / "verses.txt"
    path.write_text(VERSES + "\n", encoding="utf-8")
    return path


def test_the_command(verses, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ["game", "summarize", str(verses), *OPTIONS, "--output", str(output)]
    assert cli.main([*arguments, "--solver", "swaps", "--solver", "beam", "--solver", "swaps"]) == 0
    captured = capsys.readouterr()
    assert captured.err == "", "no progress where nobody watches"
    found = results.load(output / "game.json", "game")
    assert found["settings"] == {"model": "kjv", "tokens": 2, "effort": 300, "text_tokens": 12}
    assert {each["solver"] for each in found["attempts"]} == {"swaps", "beam"}
    model = td.models.load("kjv")
    assert found["texts"][0]["tokens"] == model.tokenizer.encode(VERSES)[:12]
    assert (output / "game.svg").read_text().startswith("<?xml")
    lines = captured.out.splitlines()
    assert lines[1].split()[:2] == ["verses", "12"]
    assert {lines[4].split()[0], lines[5].split()[0]} == {"swaps", "beam"}
    assert lines[-1] == f"{output / 'game.json'}, {output / 'game.svg'}"
    assert len(list((output / "searches").iterdir())) == 3


def test_held_out_documents(tmp_path, capsys):
    corpus = tmp_path / "corpus.txt"
    documents = [f"Verse {number}.\nAnd the king of {number} reigned." for number in range(60)]
    documents[30] = "Short.\nx"
    corpus.write_text("\n\n".join(documents), encoding="utf-8")
    arguments = ["game", "summarize", str(corpus), *OPTIONS[:-1], "8", "--output", str(tmp_path)]
    assert cli.main([*arguments, "--solver", "samples", "--held-out", "2"]) == 0
    capsys.readouterr()
    texts = results.load(tmp_path / "game.json", "game")["texts"]
    assert [text["name"] for text in texts] == ["corpus-10", "corpus-50"]
    assert texts[0]["text"].startswith("And the king of 10")
    assert cli.main([*arguments, "--full", "--effort", "9"]) == 2
    message = "a corpus must have 6 held-out documents of enough tokens, got 2 (corpus)"
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "a text must not be empty"),
        (b"\n\n", "a text must not be empty"),
        (b"Lo", "a text must have more tokens than the prefix (2), got 2"),
        (b"And the \xff", r"a text must be UTF-8, got b'\xff' at byte 8"),
        (b"And the \xc3", r"a text must be UTF-8, got b'\xc3' at byte 8"),
    ],
)
def test_bad_texts(content, message, verses, tmp_path, capsys):
    verses.write_bytes(content)
    assert cli.main(["game", "summarize", str(verses), *OPTIONS, "--output", str(tmp_path / "out")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--text-tokens", "2"], "--text-tokens must be more than --tokens 2, got 2"),
        (["--model", "nobody"], "model must be"),
        (["FILE", "FILE"], "texts must have different names, got 'verses' twice"),
    ],
)
def test_bad_options(arguments, message, verses, capsys):
    files = [str(verses)] * max(arguments.count("FILE"), 1)
    options = [each for each in arguments if each != "FILE"]
    assert cli.main(["game", "summarize", *files, *OPTIONS, *options]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--tokens", "0"], ["--solver", "luck"], ["--seeds", "none"]])
def test_options_that_the_parser_refuses(option, verses, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["game", "summarize", str(verses), *option])
    assert "tokendraw game summarize: error: argument" in capsys.readouterr().err


def test_interruption_ends_quietly(verses, tmp_path, monkeypatch):
    def interrupted(search):
        raise KeyboardInterrupt

    monkeypatch.setattr("tokendraw.lab.game.SOLVERS", {**SOLVERS, "beam": interrupted})
    arguments = ["game", "summarize", str(verses), *OPTIONS, "--output", str(tmp_path)]
    assert cli.main(arguments) == 130
    assert len(list((tmp_path / "searches").iterdir())) == 6
    monkeypatch.undo()
    assert cli.main(arguments) == 0
    # Annealing spends so little before it draws, and beam search draws nothing.
    assert len(list((tmp_path / "searches").iterdir())) == 6 + 1 + 1


def test_the_reported_figures():
    """The game of the docs: the best solver beats both baselines on texts it was not tuned on."""
    path = Path(__file__).resolve().parents[2] / "docs" / "results" / "game.json"
    found = results.load(path, "game")
    assert found["seeds"] == [0, 1, 2]
    assert len(found["texts"]) == 6
    assert {standing["solver"] for standing in found["standings"]} == set(SOLVERS)
    best = found["standings"][0]
    assert best["margin"]["low"] > 0
    # One of its attempts, judged again.
    model = td.models.load("kjv")
    text = found["texts"][0]
    [attempt] = [
        each
        for each in found["attempts"]
        if (each["text"], each["solver"], each["seed"]) == (text["name"], best["solver"], 0)
    ]
    assert len(attempt["judgement"]["prefix"]) <= found["settings"]["tokens"]
    judged = Judge(model, text["tokens"]).judgement(attempt["judgement"]["prefix"])
    assert judged.saved == pytest.approx(attempt["judgement"]["saved"], abs=1e-3)
