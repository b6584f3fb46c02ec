# SPDX-License-Identifier: Apache-2.0
"""`tokendraw best` and `tokendraw choose`."""

import io
import re
import sys

import pytest

import tokendraw as td
from tokendraw import best_first, cli

PROMPT = "And the LORD spake unto"


def printed(capsys, *arguments):
    assert cli.main(arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == "", "no progress where nobody watches"
    return captured.out


def test_the_best_text_and_its_proof(capsys):
    found = td.best_first_search(td.models.load("kjv"), PROMPT, max_new_tokens=3)
    text, verdict = printed(capsys, "best", PROMPT, "--max-new-tokens", "3").splitlines()
    assert text == PROMPT + found[0].text
    assert verdict == (
        f"--- proved: score {found[0].score:.4f}, no other above {found.bound:.4f}, "
        f"{found.expansions} expansions ---"
    )
    assert printed(capsys, "best", PROMPT, "--max-new-tokens", "3", "--no-echo").startswith(found[0].text)


def test_several_texts(capsys):
    found = td.best_first_search(td.models.load("kjv"), PROMPT, max_new_tokens=2, num_return=3)
    lines = printed(capsys, "best", PROMPT, "--max-new-tokens", "2", "--num-return", "3").splitlines()
    assert lines[1:8:3] == [PROMPT + each.text for each in found]
    ranked = f"score {found[1].score:.4f}, log-probability {found[1].logprob:.4f}"
    assert lines[3] == f"--- 2 of 3: {ranked} ---"


def test_a_budget_leaves_a_bound(capsys):
    options = ("--max-new-tokens", "20", "--max-expansions", "30")
    verdict = printed(capsys, "best", "In the beginning", *options).splitlines()[-1]
    numbers = re.fullmatch(
        r"--- not proved: score (-\d+\.\d{4}), others may reach (-\d+\.\d{4}), 30 expansions ---", verdict
    )
    assert float(numbers[1]) < float(numbers[2])
    options = ("--max-new-tokens", "20", "--max-expansions", "3")
    assert printed(capsys, "best", "In the beginning", *options).startswith("--- not proved: nothing found, ")


def test_text_that_grows_leftward(capsys):
    out = printed(capsys, "best", " for ever and ever.", "--model", "kjv-backward", "--max-new-tokens", "3")
    assert out.splitlines()[-2].endswith(" for ever and ever.")
    assert not out.startswith(" for ever")


def test_progress_is_shown_to_whoever_waits(capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setattr(cli._SearchProgressLine, "_PATIENCE", 0.0)
    assert cli.main(["best", PROMPT, "--max-new-tokens", "3"]) == 0
    assert re.match(r"\r\x1b\[K1 expansions: best -inf, others at most -0\.\d{4}", terminal.getvalue())
    assert terminal.getvalue().endswith("\r\x1b[K")
    line = cli._SearchProgressLine()
    line._next = float("inf")
    line.show(best_first.SearchProgress(1, -1.0, -1.0))
    before = terminal.getvalue()
    line.clear()
    assert terminal.getvalue() == before, "a search that was quick leaves the terminal alone"


def test_a_choice(capsys):
    prompt, options = "In the beginning God created the", ["heaven", "earth", "man of the"]
    choice = td.choose(td.models.load("kjv"), prompt, options, delimiter=" ")
    header, *lines = printed(capsys, "choose", prompt, *options).splitlines()
    assert header.split() == ["log-prob", "option"]
    for place, (line, option) in enumerate(zip(lines, options, strict=True)):
        mark = ">" if place == choice.index else " "
        assert line == f"{mark} {choice.logprobs[place]:9.4f}  {option}"
    normalised = td.choose(td.models.load("kjv"), prompt, options, normalize="acc_norm", delimiter=" ")
    header, *lines = printed(capsys, "choose", prompt, *options, "--normalize", "acc_norm").splitlines()
    assert header.split() == ["log-prob", "score", "option"]
    scores = [float(re.findall(r"-\d+\.\d{4}", line)[1]) for line in lines]
    assert scores == [round(score, 4) for score in normalised.scores]


def test_the_tree_of_a_choice(capsys, tmp_path):
    picture = tmp_path / "choice.svg"
    printed(capsys, "choose", "In the beginning God created the", "heaven", "earth", "--tree", str(picture))
    svg = picture.read_text(encoding="utf-8")
    assert "In the beginning God created the" in svg
    assert svg.count("finished best") == 1
    assert svg.count("finished") > svg.count("finished best"), "the other one is drawn as well"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["best", PROMPT, "--max-new-tokens", "0"], "max_new_tokens must be in [1, 2"),
        (["best", PROMPT, "--model", "none"], "model must be"),
        (["choose", PROMPT, ""], "an option must not be empty (option 0) (prompt 0)"),
    ],
)
def test_error_lines(capsys, arguments, message):
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"tokendraw: error: {message}")
    assert captured.err.count("\n") == 1
