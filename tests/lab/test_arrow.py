# SPDX-License-Identifier: Apache-2.0
"""Training in both directions: what is reversed, what is kept, what an interruption costs."""

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tokendraw import cli, score_corpus
from tokendraw.lab import arrow, arrow_report, results
from tokendraw.lab.training import NetworkSettings, make_trainer
from tokendraw.models.kjv import GruModel
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer

WORDS = ["the", "cat", "and", "a", "dog", "sat", "on", "ran", "to", "mat", "log", "ca\u00f1a"]
ARCHITECTURES = ["gru", "transformer"]
TINY = {
    "gru": NetworkSettings(units=12, width=8, lanes=2, window=8, tokens=640),
    "transformer": NetworkSettings(
        architecture="transformer", units=16, width=8, layers=1, heads=2, lanes=2, window=8, tokens=640
    ),
}


def texts(count=45, seed=1):
    choose = random.Random(seed)
    return [" ".join(choose.choice(WORDS) for _ in range(choose.randint(1, 12))) for _ in range(count)]


def write(path: Path, documents) -> Path:
    path.write_text("\n\n".join(documents) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def corpus(tmp_path):
    return arrow.read_corpus(write(tmp_path / "tiny.txt", texts()), vocab_size=270)


def test_every_twentieth_document_is_held_out(corpus):
    documents = texts()
    assert [corpus.tokenizer.decode(row) for row in corpus.held_out] == [documents[10], documents[30]]
    assert corpus.held_out_bytes == [len(documents[place].encode()) for place in (10, 30)]
    assert len(corpus.learned) == 43
    assert (corpus.language, corpus.tokenizer.vocab_size) == ("tiny", 270)


def test_characters_that_the_tokenizer_never_saw_have_tokens(tmp_path):
    documents = texts()
    documents[10] = "文 \N{PILE OF POO} \0"
    found = arrow.read_corpus(write(tmp_path / "tiny.txt", documents))
    assert found.tokenizer.decode(found.held_out[0]) == documents[10]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "31 documents or more, separated by empty lines .*, got 0 in .*tiny.txt"),
        (b"\n\n \n\n", "31 documents or more, .* got 0 in"),
        (b"one document\nof two lines", "31 documents or more, .* got 1 in"),
        ("\n\n".join(texts(31)).encode() + b" ca\xc3", r"must be UTF-8, got b'\\xc3' at byte \d+ at its end"),
        (b"a \xff b", r"must be UTF-8, got b'\\xff' at byte 2$"),
    ],
)
def test_texts_that_are_none(content, message, tmp_path):
    path = tmp_path / "tiny.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        arrow.read_corpus(path)


def test_a_language_names_a_file(tmp_path):
    with pytest.raises(ValueError, match=r"^a language must be letters, digits, .*, got '../elsewhere'$"):
        arrow.read_corpus(write(tmp_path / "tiny.txt", texts()), "../elsewhere")


def test_the_plan_holds_every_pair(corpus):
    runs = arrow.plan([corpus], ["gru", "transformer"], seeds=2, tokens=5000)
    names = [f"tiny-{a}-{d}-{s}" for a in ARCHITECTURES for s in (1, 2) for d in ("forward", "backward")]
    assert [run.name for run in runs] == names
    for forward, backward in zip(runs[::2], runs[1::2], strict=True):
        assert replace(forward.settings, direction="backward") == backward.settings
        assert forward.settings.tokens == 5000


class TestLearning:
    @pytest.fixture(autouse=True)
    def _torch(self):
        pytest.importorskip("torch", reason="training needs torch, which is not installed")

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_backward_is_forward_on_the_reversed_text(self, architecture):
        """To the bit; with bytes as tokens, so that a reversed text has the reversed tokens."""
        bytes_ = Tokenizer([])
        documents = [text.replace("\u00f1", "n") for text in texts(30)]

        def rows(turned):
            return [np.array(bytes_.encode(text[::-1] if turned else text)) for text in documents]

        def tests(turned, direction):
            settings = replace(TINY[architecture], direction=direction)
            return arrow.learn(rows(turned)[4:], rows(turned)[:4], 257, settings)

        forward, backward = tests(False, "forward"), tests(True, "backward")
        assert [test.tokens for test in forward] == [test.tokens for test in backward]
        for one, other in zip(forward, backward, strict=True):
            np.testing.assert_array_equal(one.document_bits, other.document_bits)
        against = tests(False, "backward")
        assert (against[-1].document_bits != forward[-1].document_bits).all()

    @pytest.mark.parametrize("architecture", ARCHITECTURES)
    def test_what_is_learned_costs_fewer_bits(self, architecture, corpus):
        steps = []
        settings = replace(TINY[architecture], learning_rate=1e-2)
        tests = arrow.learn(corpus.learned, corpus.held_out, 270, settings, steps.append)
        assert steps == list(range(1, 41))
        assert [test.tokens for test in tests] == [32, 80, 160, 240, 320, 400, 480, 560, 640]
        assert tests[-1].document_bits.sum() < 0.9 * tests[0].document_bits.sum()

    def test_bits_of_a_recurrent_network_are_those_of_its_model(self):
        """Documents longer and shorter than a window, and an empty one; by torch and by NumPy."""
        documents = ["", "the cat", "the dog and the cat ran to the log " * 3, "ca\u00f1a"]
        settings = TINY["gru"]
        trainer = make_trainer(257, settings)
        model = GruModel(trainer.network.weights(), Tokenizer([]))
        rows = [np.array(Tokenizer([]).encode(text), dtype=np.int64) for text in documents]
        found = arrow.document_bits(trainer, rows, settings, lanes=3)
        np.testing.assert_allclose(found, score_corpus(model, documents, score_end=True).bits, rtol=1e-4)

    def test_bits_of_a_transformer_count_each_token_once(self):
        """A token has all tokens before it in the first window, half a window or more after it."""
        settings = TINY["transformer"]
        trainer = make_trainer(257, settings)
        rows = [np.arange(length) % 50 for length in (0, 1, 6, 7, 8, 9, 11, 12, 13, 40)]
        found = arrow.document_bits(trainer, rows, settings, lanes=3)
        for row, bits in zip(rows, found, strict=True):
            tokens = np.concatenate([[SEPARATOR], row, [SEPARATOR]])
            wanted = 0.0
            for place in range(1, len(tokens)):
                first = 0 if place <= 8 else 4 * ((place - 5) // 4)
                read = tokens[first : place + 1]
                assert len(read) <= 9
                assert first == 0 or len(read) > 5
                wanted += trainer.losses(read[:, np.newaxis])[0][-1, 0]
            assert bits == pytest.approx(wanted / np.log(2), rel=1e-4)

    def test_a_text_too_short_for_a_step(self):
        with pytest.raises(ValueError, match=r"^the text must have 16 tokens or more, got 2$"):
            arrow.learn([np.array([1])], [np.array([1])], 257, TINY["gru"])


class TestManyTrainings:
    @pytest.fixture(autouse=True)
    def _tiny(self, monkeypatch):
        pytest.importorskip("torch", reason="training needs torch, which is not installed")
        monkeypatch.setattr(arrow, "SETTINGS", TINY)

    def test_a_run_says_what_made_it(self, corpus, tmp_path):
        [run] = itertools.islice(arrow.train(arrow.plan([corpus], ["gru"], 1), tmp_path), 1)
        found = results.load(tmp_path / f"{run.name}.json", arrow_report.RUN)
        assert found["settings"]["direction"] == "forward"
        assert found["settings"]["seed"] == 1
        assert set(found["versions"]) >= {"tokendraw", "torch", "numpy"}
        assert found["tests"][-1]["bits"] == pytest.approx(sum(found["document_bits"]), abs=0.01)
        assert found["document_bytes"] == corpus.held_out_bytes
        assert "bits per byte" in arrow_report.run_line(tmp_path / f"{run.name}.json")

    def test_what_is_finished_is_not_repeated(self, corpus, tmp_path, monkeypatch):
        """An interruption loses the run it falls into, and no other."""
        runs = arrow.plan([corpus], ["gru"], 2)
        learn, learned = arrow.learn, []

        def learn_until_interrupted(rows, held_out, vocab_size, settings, on_step):
            learned.append((settings.direction, settings.seed))
            if len(learned) == 3:
                raise KeyboardInterrupt
            return learn(rows, held_out, vocab_size, settings, on_step)

        monkeypatch.setattr(arrow, "learn", learn_until_interrupted)
        with pytest.raises(KeyboardInterrupt):
            list(arrow.train(runs, tmp_path / "runs"))
        kept = {path.name: path.read_bytes() for path in (tmp_path / "runs").iterdir()}
        assert sorted(kept) == ["tiny-gru-backward-1.json", "tiny-gru-forward-1.json"]
        assert sorted(run.name for run in arrow.train(runs, tmp_path / "runs")) == sorted(
            run.name for run in runs
        )
        assert learned == [("forward", 1), ("backward", 1), ("forward", 2), ("forward", 2), ("backward", 2)]
        assert all((tmp_path / "runs" / name).read_bytes() == content for name, content in kept.items())

    def test_runs_of_something_else_are_in_the_way(self, corpus, tmp_path):
        list(arrow.train(arrow.plan([corpus], ["gru"], 1), tmp_path / "runs"))
        for other, what in (
            (arrow.plan([corpus], ["gru"], 1, tokens=800), "settings"),
            (arrow.plan([corpus._replace(digest="other")], ["gru"], 1), "text"),
        ):
            with pytest.raises(ValueError, match=f"got another {what}: give another --output, or remove it"):
                next(arrow.train(other, tmp_path / "runs"))

    @pytest.mark.slow
    def test_processes_find_what_one_does(self, corpus, tmp_path):
        runs = arrow.plan([corpus], ["gru"], 1)
        list(arrow.train(runs, tmp_path / "alone", jobs=1))
        assert len(list(arrow.train(runs, tmp_path / "together", jobs=2))) == 2
        for run in runs:
            one, other = (
                results.load(tmp_path / folder / f"{run.name}.json", arrow_report.RUN)
                for folder in ("alone", "together")
            )
            assert one["document_bits"] == other["document_bits"]

    @pytest.mark.slow
    def test_a_training_that_fails_is_told(self, corpus, tmp_path, capfd):
        wrong = [arrow.Run(corpus._replace(learned=[]), TINY["gru"])]
        with pytest.raises(
            ChildProcessError, match=r"^the training of tiny-gru-forward-1 failed \(exit code 1\)$"
        ):
            list(arrow.train(wrong, tmp_path / "runs", jobs=2))
        assert "Error" in capfd.readouterr().err


class TestCommand:
    @pytest.fixture(autouse=True)
    def _libraries(self):
        for library in ("torch", "matplotlib", "scipy"):
            pytest.importorskip(library, reason=f"the command needs {library}, which is not installed")

    def test_from_texts_to_a_picture(self, tmp_path, capsys, monkeypatch):
        monkeypatch.setattr(arrow, "SETTINGS", TINY)
        files = [
            str(write(tmp_path / name, texts(seed=seed))) for seed, name in enumerate(("a.txt", "b.txt"))
        ]
        names = ["--language", "first", "--language", "second"]
        output = ["--output", str(tmp_path / "runs"), "--jobs", "1", "--vocab-size", "260"]
        assert cli.main(["arrow", "train", *files, *names, *output]) == 0
        told = capsys.readouterr().out.splitlines()
        assert [line.partition(":")[0] for line in told[:4]] == [
            f"{language}-gru-{direction}-1"
            for language in ("first", "second")
            for direction in ("forward", "backward")
        ]
        assert told[-1] == (
            "- second, gru: one pair of seeds says nothing of others, whose interval may hold 0."
        )
        assert (tmp_path / "runs" / "arrow.svg").read_text(encoding="utf-8").startswith("<?xml")
        again = cli.main(["arrow", "train", *files, *names, *output, "--seeds", "2"])
        assert again == 0
        assert "| first | gru | 2 |" in capsys.readouterr().out

    @pytest.mark.parametrize(
        ("options", "architectures", "seeds"),
        [
            ([], ["gru"], 1),
            (["--full"], ["gru", "transformer"], 3),
            (["--full", "--seeds", "2", "--architecture", "transformer"], ["transformer"], 2),
        ],
    )
    def test_what_is_trained(self, options, architectures, seeds, tmp_path, monkeypatch):
        planned = []
        monkeypatch.setattr(arrow, "train", lambda runs, folder, jobs: planned.extend(runs) or [])
        monkeypatch.setattr(arrow_report, "report", lambda folder: None)
        file = write(tmp_path / "a.txt", texts())
        assert cli.main(["arrow", "train", str(file), *options]) == 0
        expected = arrow.plan([arrow.read_corpus(file)], architectures, seeds)
        assert [(run.name, run.settings) for run in planned] == [(run.name, run.settings) for run in expected]
        assert len(planned) == 2 * len(architectures) * seeds

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["missing.txt"], "No such file"),
            (
                ["{file}", "--language", "a", "--language", "b"],
                "--language must be given once per file, got 2 for 1",
            ),
            (["{file}", "{file}"], "languages must differ, got a, a: name them by --language"),
            (["{empty}"], "31 documents or more"),
        ],
    )
    def test_errors_are_one_line(self, arguments, message, tmp_path, capsys):
        (tmp_path / "empty.txt").touch()
        places = {"file": write(tmp_path / "a.txt", texts()), "empty": tmp_path / "empty.txt"}
        filled = [argument.format(**places) for argument in arguments]
        assert cli.main(["arrow", "train", *filled, "--output", str(tmp_path / "runs")]) == 2
        [line] = capsys.readouterr().err.splitlines()
        assert line.startswith("tokendraw: error: ")
        assert message in line

    @pytest.fixture
    def _interrupts(self):
        """Let processes hear them, which background jobs of a shell ignore."""
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        yield
        signal.signal(signal.SIGINT, before)

    @pytest.mark.slow
    @pytest.mark.usefixtures("_interrupts")
    def test_an_interrupt_leaves_what_is_finished(self, tmp_path):
        """Ctrl-C in a terminal reaches the command and the processes of its trainings."""
        file, runs = write(tmp_path / "a.txt", texts(400)), tmp_path / "runs"
        command = [
            sys.executable,
            "-m",
            "tokendraw",
            "arrow",
            "train",
            str(file),
            "--seeds",
            "9",
            "--jobs",
            "2",
        ]
        process = subprocess.Popen(
            [*command, "--tokens", "12000", "--output", str(runs)],
            start_new_session=True,
            stderr=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        until = time.monotonic() + 300
        while not list(runs.glob("*.json")) and time.monotonic() < until:
            assert process.poll() is None
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        _, told = process.communicate(timeout=100)
        assert process.returncode == 130, told.decode()
        assert b"Traceback" not in told
        assert all(results.load(path, arrow_report.RUN)["document_bits"] for path in runs.glob("*.json"))
