# SPDX-License-Identifier: Apache-2.0
"""`tokendraw knowledge`: what it prints and keeps, and that nothing finished is lost or repeated."""

import argparse
import json

import pytest

from tokendraw import cli
from tokendraw.lab import knowledge_command, results
from tokendraw.lab.exercises import Corruption, Exercise, write_exercises

MINE = [
    Exercise("In the", [" beginning God"], [[Corruption(" begin God", "word")]], family="one", name="a"),
    Exercise("And God", [" said", ", Let"], [[Corruption(" sang")], []], family="one", name="b"),
    Exercise("And it came", [" to pass,"], [[Corruption(" pass to,", "swap")]], family="two", name="c"),
]


DRAW_PICTURE = knowledge_command.draw_picture


@pytest.fixture
def mine(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(knowledge_command, "draw_picture", lambda examined, path: None)
    write_exercises("mine.jsonl", MINE)
    return ["knowledge", "mine.jsonl", "--samples", "2", "--num-beams", "2", "--output", "found"]


@pytest.fixture
def asked(monkeypatch):
    """Note which families are asked."""
    families = []
    examine = knowledge_command.examine

    def noted(model, exercises, **options):
        families.append(exercises[0].family)
        return examine(model, exercises, **options)

    monkeypatch.setattr(knowledge_command, "examine", noted)
    return families


def test_what_is_printed_and_saved(mine, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(knowledge_command, "draw_picture", DRAW_PICTURE)
    assert cli.main(mine) == 0
    captured = capsys.readouterr()
    assert captured.err == "", "no progress where nobody watches"
    lines = captured.out.splitlines()
    assert lines[0] == "--- kjv ---"
    assert lines[1] == "one: 2 exercises"
    assert lines[-1].startswith("--- found")
    found = results.load(tmp_path / "found" / "knowledge.json", "knowledge")
    assert found["seeds"] == [0]
    assert found["models"]["kjv"]["settings"]["samples"] == 2
    measures = [each["measure"] for each in found["models"]["kjv"]["families"]["one"]["figures"]]
    assert {"greedy", "sampled at 1.0", "best of 2 at 0.5", "guided", "pairwise word", "auc"} <= set(measures)
    for figure in found["models"]["kjv"]["families"]["two"]["figures"]:
        value = f"{figure['value']:.4f}"
        assert any(figure["measure"] in line and value in line for line in lines)
    picture = (tmp_path / "found" / "knowledge.svg").read_text(encoding="utf-8")
    for label in ("kjv: one", "kjv: two", "greedy", "pairwise", "guided", "implicit", "chance"):
        assert f">{label}<" in picture, label


def test_a_finished_run_is_not_repeated(mine, asked, capsys):
    assert cli.main(mine) == 0
    first = capsys.readouterr().out
    assert asked == ["one", "two"]
    assert cli.main(mine) == 0
    assert capsys.readouterr().out == first
    assert asked == ["one", "two"]


@pytest.mark.parametrize("option", [("--samples", "3"), ("--num-beams", "3"), ("--limit", "1")])
def test_another_run_is_not_taken_for_it(mine, asked, option):
    assert cli.main(mine) == 0
    assert cli.main([*mine, *option]) == 0
    assert asked == ["one", "two", "one", *(["two"] if option[0] != "--limit" else [])]


def test_an_interrupted_run_loses_nothing_that_was_finished(mine, asked, monkeypatch):
    noted = knowledge_command.examine

    def interrupted(model, exercises, **options):
        if exercises[0].family == "two":
            raise KeyboardInterrupt
        return noted(model, exercises, **options)

    monkeypatch.setattr(knowledge_command, "examine", interrupted)
    assert cli.main(mine) == 130
    monkeypatch.setattr(knowledge_command, "examine", noted)
    assert cli.main(mine) == 0
    assert asked == ["one", "two"]


def test_a_cost_without_end_is_kept(mine, monkeypatch, tmp_path):
    examine = knowledge_command.examine

    def endless(model, exercises, **options):
        found = examine(model, exercises, **options)
        found.answers[0].nats[0][1] = float("inf")
        return found

    monkeypatch.setattr(knowledge_command, "examine", endless)
    assert cli.main(mine) == 0
    json.loads((tmp_path / "found" / "runs" / "kjv-one-0.json").read_text(), parse_constant=pytest.fail)
    first = (tmp_path / "found" / "knowledge.json").read_text()
    assert cli.main(mine) == 0
    assert (tmp_path / "found" / "knowledge.json").read_text() == first


def test_a_text_of_ones_own(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tale.txt").write_text(
        "Once there was a king, and he had a son.\nThe son went away, and he was seen no more.\n",
        encoding="utf-8",
    )
    options = ["--samples", "1", "--num-beams", "1", "--output", "found"]
    assert cli.main(["knowledge", "--text", "tale.txt", *options]) == 0
    assert "tale: 1 exercises" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["nowhere.jsonl"], "No such file or directory: 'nowhere.jsonl'"),
        (["mine.jsonl", "--text", "t"], "exercises must come from EXERCISES.jsonl or from --text, got both"),
        (["--text", "broken.txt"], r"broken.txt must be UTF-8, got b'\xc3' at byte 1"),
        (["broken.jsonl"], "(line 2 of broken.jsonl)"),
        (["mine.jsonl", "--full"], "--full has exercises of its own, got exercises mine.jsonl"),
        (["--full", "--limit", "3"], "--full has exercises of its own, got limit 3"),
        (["--full", "--model", "smollm2"], "--full has models of its own, got model smollm2"),
        (["mine.jsonl", "--model", "kjv-backward"], "exercises need a model that reads from left to right"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(mine, tmp_path, capsys, options, message):
    (tmp_path / "broken.txt").write_bytes(b"n\xc3")
    (tmp_path / "broken.jsonl").write_text('{"prompt": "a", "steps": ["b"]}\nb\n')
    assert cli.main(["knowledge", *options]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("tokendraw: error: ")
    assert message in captured.err
    assert captured.err.count("\n") == 1
    assert not (tmp_path / "knowledge" / "knowledge.json").exists()


def test_the_full_plan():
    options = argparse.Namespace(
        exercises=None, text=None, limit=None, samples=8, num_beams=8, seed=5, model="kjv"
    )
    plan = knowledge_command._full_plan(options)
    assert {run.model for run in plan} == {"kjv", "smollm2"}
    assert {run.seed for run in plan} == {5, 6, 7}
    assert len({run.file for run in plan}) == len(plan), "no run takes another's file"
    assert len({run.digest for run in plan}) == len(plan)


def test_the_shipped_exercises_are_the_default():
    options = argparse.Namespace(
        exercises=None, text=None, limit=6, samples=8, num_beams=8, seed=0, model="kjv"
    )
    plan = knowledge_command._plan(options)
    assert [run.exercises[0].family for run in plan] == ["verses", "sums", "products"]
    assert [len(run.exercises) for run in plan] == [6, 6, 6]
    names = [int(each.name.split(":")[0]) for each in plan[0].exercises]
    assert names[0] == 1
    assert names[-1] > 45, "from all of the text"
