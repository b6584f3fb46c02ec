# SPDX-License-Identifier: Apache-2.0
"""`tokendraw score`."""

import functools
import io
import json
import sys

import numpy as np
import pytest

import tokendraw as td
from tokendraw import cli, measure

draft = functools.cache(lambda: td.models.load("kjv-draft"))
TEXTS = ["Jesus wept.", "In the beginning God created\nthe heaven and the earth.", "Ñ, selah"]


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_bytes(("\r\n\r\n".join(TEXTS[:2]) + "\n").encode())
    (tmp_path / "b.txt").write_text(TEXTS[2], encoding="utf-8")
    (tmp_path / "cut.txt").write_bytes(b"Amen.\n\nAnd he said\xe2\x82")
    (tmp_path / "empty.txt").write_bytes(b"")
    return tmp_path


def score(*arguments):
    return cli.main(["score", "--model", "kjv-draft", *arguments])


def printed(capsys, *arguments):
    assert score(*arguments) == 0
    captured = capsys.readouterr()
    assert captured.err == "", "no progress where nobody watches"
    header, *lines = captured.out.splitlines()
    assert header.split() == [
        *["file", "documents", "tokens", "bytes"],
        *["bits/byte", "bits/token", "bits/word", "perplexity"],
    ]
    return lines


def check_line(line, name, texts, **options):
    found = td.score_corpus(draft(), texts, **options)
    figures = (found.bits_per_byte, found.bits_per_token, found.bits_per_word, found.perplexity)
    told, *numbers = line.split()
    assert told == name
    assert numbers[:3] == [str(len(texts)), str(found.num_tokens.sum()), str(found.num_bytes.sum())]
    # To the last decimal, but for what batches do to the last places of logits.
    assert [len(number.partition(".")[2]) for number in numbers[3:]] == [4, 4, 4, 2]
    *bits, perplexity = map(float, numbers[3:])
    assert bits == pytest.approx(figures[:3], abs=6e-5)
    assert perplexity == pytest.approx(figures[3], abs=6e-3, rel=1e-5)


def test_a_table_of_files_and_their_sum(files, capsys):
    first, second, both = printed(capsys, "a.txt", "b.txt")
    check_line(first, "a.txt", TEXTS[:2])
    check_line(second, "b.txt", TEXTS[2:])
    check_line(both, "all", TEXTS)
    [line] = printed(capsys, "a.txt", "--end", "--context", "6", "--stride", "2", "--prefix", "And")
    check_line(line, "a.txt", TEXTS[:2], score_end=True, context=6, stride=2, prefix="And")


def test_whole_files_and_standard_input(files, capsys, monkeypatch):
    [line] = printed(capsys, "a.txt", "--whole")
    check_line(line, "a.txt", ["\n\n".join(TEXTS[:2])])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(TEXTS[2].encode()), encoding="ascii"))
    [line] = printed(capsys, "-")
    check_line(line, "-", TEXTS[2:])


def test_a_file_that_ends_in_the_middle_of_a_character(files, capsys):
    assert score("a.txt", "cut.txt") == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    message = "a document must be UTF-8 text, got b'\\xe2\\x82' at its end"
    assert captured.err == f"tokendraw: error: {message} (document 3, cut.txt:2)\n"
    lines = printed(capsys, "a.txt", "cut.txt", "--skip-bad")
    assert lines[-1] == f"skipped 1 of 4 documents: cut.txt:2: {message}"
    check_line(lines[1], "cut.txt", ["Amen."])


def test_an_empty_file(files, capsys):
    [line] = printed(capsys, "empty.txt")
    assert line.split() == ["empty.txt", "0", "0", "0", "-", "-", "-", "-"]
    lines = printed(capsys, "empty.txt", "b.txt", "--whole")
    assert lines[-1] == "skipped 1 of 2 documents: empty.txt: empty"


def test_lines_of_json_and_an_interruption(files, capsys, monkeypatch):
    options = ("a.txt", "b.txt", "--jsonl", "out.jsonl", "--per-token", "--batch-size", "1")
    show = measure._Shown.show

    def interrupt(self, progress):
        show(self, progress)
        if progress.documents == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(measure._Shown, "show", interrupt)
    assert score(*options) == 130
    assert capsys.readouterr().err == "tokendraw: 2 of 3 documents are in out.jsonl: --resume goes on\n"
    monkeypatch.undo()
    monkeypatch.chdir(files)
    assert score(*options) == 2
    assert capsys.readouterr().err.startswith("tokendraw: error: jsonl must be a new file where resume")
    with (files / "out.jsonl").open("ab") as file:
        file.write(b'{"docum')
    lines = printed(capsys, *options, "--resume")
    assert lines[-1] == "2 documents were known from an earlier run (a torn line was dropped)"
    check_line(lines[2], "all", TEXTS, batch_size=1)
    written = [json.loads(line) for line in (files / "out.jsonl").read_text().splitlines()[1:]]
    assert {line["document"]: line["name"] for line in written} == {0: "a.txt:1", 1: "a.txt:2", 2: "b.txt:1"}
    found = td.score_corpus(draft(), TEXTS, per_token=True, batch_size=1)
    for line in written:
        assert line["logprobs"] == found.token_logprobs[line["document"]].tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.txt"], "[Errno 2] No such file or directory: 'none.txt'"),
        (["a.txt", "--stride", "2"], "stride needs a context, got 2 alone"),
        (["a.txt", "--context", "4", "--stride", "9"], "stride must be in [1, 5), got 9"),
        (["a.txt", "--resume"], "resume needs jsonl, the file to go on with"),
        (["a.txt", "--per-token"], "--per-token needs --jsonl, where to write them"),
        (["a.txt", "--model", "none"], "model must be"),
    ],
)
def test_error_lines(files, capsys, arguments, message):
    assert score(*arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith(f"tokendraw: error: {message}")
    assert captured.err.count("\n") == 1


def test_progress_is_shown_to_whoever_waits(files, capsys, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert score("a.txt", "b.txt", "--batch-size", "1") == 0
    assert "100 %  3 of 3 documents" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r\x1b[K")


def test_long_lists_of_remarks_are_cut():
    nothing = np.zeros(30, dtype=np.int64)
    skipped = dict.fromkeys(range(30), "empty")
    found = td.CorpusScore(np.full(30, np.nan), nothing, nothing, nothing, skipped, (4,))
    respelled, told = measure._remarks(found, [f"f:{place}" for place in range(30)])
    assert respelled == "tokens stand for another text in 1: f:4"
    assert told.startswith("skipped 30 of 30 documents: f:0: empty; f:1: empty;")
    assert told.endswith("f:9: empty; and 20 more")


def test_an_interruption_before_the_first_document_says_nothing(files, capsys, monkeypatch):
    def interrupt(self, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(measure._Shown, "show", interrupt)
    assert score("a.txt", "--jsonl", "out.jsonl") == 130
    assert capsys.readouterr().err == ""
