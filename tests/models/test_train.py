# SPDX-License-Identifier: Apache-2.0
import itertools
from pathlib import Path

import numpy as np
import pytest

from tokendraw.models import load
from tokendraw.models.kjv import GruModel
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer
from tokendraw.models.train import (
    GruNetwork,
    Settings,
    Trainer,
    batches,
    bits_per_byte,
    document_bits,
    main,
    read_documents,
    split_documents,
    train,
)

DOCUMENTS = ["In the beginning God created the heaven and the earth.", "Jesus wept.", "", "Selah. Ñ"]


def write_text(path: Path, documents: int = 41) -> Path:
    verses = ["the cat sat on the mat and the dog sat on the log", "a dog and a cat ran to the log"]
    text = "\n\n".join(
        "\n".join(verses[(line + number) % 2] for line in range(6)) for number in range(documents)
    )
    path.write_text(text + "\n", encoding="utf-8")
    return path


def test_documents_are_separated_by_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes("a\nb\r\n\r\n\r\n c \n\n\n\né".encode())
    assert read_documents(path) == ["a\nb", " c ", "é"]


def test_every_twentieth_document_is_held_out() -> None:
    learned, held_out = split_documents([str(number) for number in range(52)])
    assert held_out == ["10", "30", "50"]
    assert len(learned) == 49
    assert not set(learned) & set(held_out)


@pytest.mark.parametrize("name", ["kjv-backward", "kjv-draft"])
def test_bits_are_those_of_the_tokens_one_by_one(name: str) -> None:
    model = load(name)
    bits = document_bits(model, DOCUMENTS, lanes=3)
    for document, found in zip(DOCUMENTS, bits, strict=True):
        state, logits = model.start([[]])
        wanted = 0.0
        for token in [*model.tokenizer.encode(document), SEPARATOR]:
            scores = logits[0].astype(np.float64)
            wanted += (np.log(np.exp(scores).sum()) - scores[token]) / np.log(2)
            state, logits = model.step(state, [token])
        assert found == pytest.approx(wanted, rel=1e-4)


def test_bits_per_byte_counts_bytes_of_utf8(draft: GruModel) -> None:
    assert bits_per_byte(draft, ["Ñ"]) == pytest.approx(document_bits(draft, ["Ñ"])[0] / 2)


def test_batches_join_and_each_document_is_read_once_per_epoch() -> None:
    documents = [[number] * 5 for number in range(16)]
    settings = Settings(lanes=4, window=6)
    epoch = list(itertools.islice(batches(documents, settings), 4))
    assert all(batch.shape == (7, 4) for batch in epoch)
    for before, after in itertools.pairwise(epoch):
        np.testing.assert_array_equal(before[-1], after[0])
    read = np.concatenate([batch[1:] for batch in epoch]).T.reshape(-1, 6)
    assert (read[:, -1] == SEPARATOR).all()
    assert sorted(read[:, :-1].tolist()) == documents


def test_batches_depend_on_the_seed_alone() -> None:
    def first(seed: int) -> list[int]:
        documents = [[number] for number in range(50)]
        return next(batches(documents, Settings(lanes=4, window=6, seed=seed))).ravel().tolist()

    assert first(1) == first(1)
    assert first(1) != first(2)


def test_a_text_too_short_for_one_batch() -> None:
    with pytest.raises(ValueError, match=r"^the text must have 1536 tokens or more, got 3$"):
        next(batches([[1, 2]], Settings()))


@pytest.mark.parametrize("setting", ["units", "lanes", "learning_rate"])
def test_settings_must_be_positive(setting: str) -> None:
    with pytest.raises(ValueError, match=f"^{setting} must be positive, got 0$"):
        Settings(**{setting: 0})


class TestCommandLine:
    def test_evaluate(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        main(["--evaluate", str(write_text(tmp_path / "text")), "--model", "kjv-draft"])
        assert capsys.readouterr().out.startswith("kjv-draft: ")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "give a text and --output to train, or --evaluate FILE to measure"),
            (["--evaluate", "no such file"], "No such file"),
            (["--evaluate", __file__, "--model", "none"], "model must be"),
            (["text", "--output", "no such folder/a.npz"], "No such file"),
        ],
    )
    def test_errors_are_one_sentence(
        self, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit) as raised:
            main(arguments)
        assert raised.value.code == 2
        assert message in capsys.readouterr().err.splitlines()[-1]


class TestTraining:
    @pytest.fixture(autouse=True)
    def _torch(self) -> None:
        pytest.importorskip("torch", reason="training needs torch, which is not installed")

    @pytest.mark.slow
    @pytest.mark.parametrize("direction", ["forward", "backward"])
    def test_training_learns_the_text(
        self, direction: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        text, output = str(write_text(tmp_path / "text")), tmp_path / "model.npz"
        sizes = ["--units", "32", "--width", "16", "--lanes", "4", "--window", "16", "--vocab-size", "280"]
        main([text, "--output", str(output), "--direction", direction, "--steps", "300", *sizes])
        printed = capsys.readouterr()
        assert "step 300/300" in printed.err
        model = load(output)
        assert (model.direction, model.vocab_size, model.metadata["seed"]) == (direction, 280, 1)
        _, held_out = split_documents(read_documents(text))
        score = bits_per_byte(model, held_out)
        assert f"{score:.4f} bits per byte on 2 held-out documents" in printed.out
        assert score < 0.5
        main(["--evaluate", text, "--model", str(output)])
        assert f"{score:.4f} bits per byte" in capsys.readouterr().out

    @pytest.mark.slow
    def test_weights_depend_on_the_seed_alone(self) -> None:
        documents = ["the cat sat on the mat and the dog sat on the log"] * 20
        tokenizer = Tokenizer.train(documents, vocab_size=270)
        settings = Settings(units=8, width=8, lanes=2, window=8, tokens=160)
        first, again = train(documents, tokenizer, settings), train(documents, tokenizer, settings)
        for left, right in zip(first, again, strict=True):
            np.testing.assert_array_equal(left, right)

    def test_the_runner_computes_what_was_trained(self) -> None:
        """The first loss of training, by torch, is that of the untrained weights, by NumPy."""
        settings = Settings(units=12, width=8, lanes=1, window=40)
        trainer = Trainer(settings, lambda: GruNetwork(257, settings))
        model = GruModel(trainer.network.weights(), Tokenizer([]))
        text = "In the beginning God created the heaven"
        batch = np.array([[SEPARATOR, *text.encode(), SEPARATOR]]).T
        loss = trainer.step(batch)
        assert document_bits(model, [text])[0] * np.log(2) / (len(text) + 1) == pytest.approx(loss, rel=1e-5)
