# SPDX-License-Identifier: Apache-2.0
"""The arrow of time: models that learn a text forwards and others that learn it backwards.

Both have the same tokenizer, sizes, first weights and order of documents; a backward model reads the tokens
of a document from the last to the first. By the chain rule both aim at one optimum (see `markov.py`), so
what differs is how much of it is learnt. `arrow_report.py` compares the runs that are trained here.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from queue import Empty
from typing import Any, NamedTuple, get_args

import numpy as np
import numpy.typing as npt

from tokendraw.lab import arrow_report, results
from tokendraw.lab.arrow_report import RUN
from tokendraw.lab.extras import extra
from tokendraw.lab.training import Architecture, NetworkSettings, make_trainer
from tokendraw.models.kjv import Direction
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer
from tokendraw.models.train import Trainer, batches, read_documents, split_documents
from tokendraw.options import add_command, positive
from tokendraw.progress import Advance, progress_bar

__all__ = [
    "SETTINGS",
    "Corpus",
    "Run",
    "Tested",
    "add_commands",
    "document_bits",
    "learn",
    "plan",
    "read_corpus",
    "train",
]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SETTINGS: dict[Architecture, NetworkSettings] = {
    "gru": NetworkSettings(units=256, tokens=1_500_000),
    "transformer": NetworkSettings(
        architecture="transformer",
        units=512,
        tokens=1_000_000,
        lanes=4,
        window=128,
        learning_rate=1e-3,
    ),
}
"""Sizes that learn in some minutes on one core, for each architecture."""

_TESTS = (1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 5 / 8, 3 / 4, 7 / 8, 1)
"""The shares of a training after which it is tested."""

_LEAST_DOCUMENTS = 31


class Corpus(NamedTuple):
    """A text to learn, as tokens.

    Attributes
    ----------
    language : str
        Its name.
    digest : str
        SHA-256 of the documents, which tells texts apart.
    tokenizer : Tokenizer
        Made from the documents that are learned, left to right.
    learned, held_out : list of ndarray of int
        Documents, left to right.
    held_out_bytes : list of int
        Their sizes in UTF-8.
    """

    language: str
    digest: str
    tokenizer: Tokenizer
    learned: list[Integers]
    held_out: list[Integers]
    held_out_bytes: list[int]


def read_corpus(path: str | os.PathLike[str], language: str | None = None, vocab_size: int = 1024) -> Corpus:
    """Read a text file and make a tokenizer for it; every 20th document is held out.

    Any character has tokens, so none is unknown, whatever the tokenizer has seen.

    Parameters
    ----------
    path : path
        UTF-8 text, its documents separated by empty lines.
    language : str, optional
        A name for it, by default that of the file without its ending.
    vocab_size : int, default 1024
        Token ids; 257 for bytes.

    Returns
    -------
    Corpus

    Raises
    ------
    ValueError
        If the file is no UTF-8, or has too few documents to hold two out.
    """
    language = Path(path).stem if language is None else language
    if not re.fullmatch(r"\w[\w.-]*", language):
        raise ValueError(f"a language must be letters, digits, '_', '.' or '-', got {language!r}")
    documents = read_documents(path)
    if len(documents) < _LEAST_DOCUMENTS:
        raise ValueError(
            f"a text must have {_LEAST_DOCUMENTS} documents or more, separated by empty lines (every 20th is "
            f"held out, and an interval takes two), got {len(documents)} in {path}"
        )
    learned, held_out = split_documents(documents)
    tokenizer = Tokenizer.train(learned, vocab_size)

    def encoded(texts: Sequence[str]) -> list[Integers]:
        return [np.array(tokenizer.encode(text), dtype=np.int64) for text in texts]

    return Corpus(
        language,
        arrow_report.digest(documents),
        tokenizer,
        encoded(learned),
        encoded(held_out),
        [len(text.encode()) for text in held_out],
    )


# --- One training ------------------------------------------------------------------------------------------


class Tested(NamedTuple):
    """A test on the held-out documents during a training.

    Attributes
    ----------
    tokens : int
        Tokens learned from before.
    document_bits : ndarray, float64 [documents]
        Bits of each document, its end included.
    """

    tokens: int
    document_bits: Floats


def learn(
    learned: Sequence[Integers],
    held_out: Sequence[Integers],
    vocab_size: int,
    settings: NetworkSettings,
    on_step: Callable[[int], object] = lambda steps: None,
) -> list[Tested]:
    """Train a model in the direction of the settings, and test it on the way and at the end.

    Parameters
    ----------
    learned, held_out : sequence of arrays of int
        Documents, left to right.
    vocab_size : int
        Number of token ids.
    settings : NetworkSettings
        What decides the run.
    on_step : callable
        Told after every step how many there are, this one included.

    Returns
    -------
    list of Tested
        The last one after all learning.
    """
    turn = slice(None, None, -1 if settings.direction == "backward" else 1)
    learned, held_out = [row[turn] for row in learned], [row[turn] for row in held_out]
    trainer = make_trainer(vocab_size, settings)
    test_after = {max(1, round(share * settings.steps)) for share in _TESTS}
    tests = []
    for step, batch in zip(range(1, settings.steps + 1), batches(learned, settings), strict=False):
        trainer.step(batch)
        if step in test_after:
            tokens = step * settings.lanes * settings.window
            tests.append(Tested(tokens, document_bits(trainer, held_out, settings)))
        on_step(step)
    return tests


def document_bits(
    trainer: Trainer[Any], documents: Sequence[Integers], settings: NetworkSettings, lanes: int = 16
) -> Floats:
    """Return the bits that a network needs for each document, its end included.

    A GRU reads a document whole. A transformer reads it in windows that overlap by half, and each token
    counts once, where it has the most tokens before it.

    Parameters
    ----------
    trainer : Trainer
        With the network.
    documents : sequence of arrays of int
        In the direction of the network.
    settings : NetworkSettings
        Those of the trainer.
    lanes : int, default 16
        Rows read at a time.

    Returns
    -------
    ndarray, float64 [documents]
        Minus log2 of the probability of the document's tokens and the separator after them.
    """
    rows = [np.concatenate([[SEPARATOR], document, [SEPARATOR]]) for document in documents]
    whole = settings.architecture == "gru"
    pieces = _whole(rows) if whole else _windows(rows, settings.window)
    by_length = sorted(pieces, key=lambda piece: len(piece.tokens))
    nats = np.zeros(len(rows))
    for first in range(0, len(by_length), lanes):
        batch = by_length[first : first + lanes]
        losses = _losses(trainer, [piece.tokens for piece in batch], settings.window)
        for piece, row_losses in zip(batch, losses, strict=True):
            nats[piece.document] += row_losses[piece.known :].sum()
    return nats / math.log(2)


class _Piece(NamedTuple):
    """Tokens of a document that are read in one go; the first `known` predictions count elsewhere."""

    document: int
    tokens: Integers
    known: int


def _whole(rows: Sequence[Integers]) -> list[_Piece]:
    return [_Piece(document, row, 0) for document, row in enumerate(rows)]


def _windows(rows: Sequence[Integers], window: int) -> list[_Piece]:
    """Return pieces of at most `window` predictions, of which each but the first adds the last half."""
    stride = max(1, window // 2)
    pieces = []
    for document, row in enumerate(rows):
        count = 1 + max(0, -(-(len(row) - 1 - window) // stride))
        for first in range(0, count * stride, stride):
            known = 0 if first == 0 else window - stride
            pieces.append(_Piece(document, row[first : first + window + 1], known))
    return pieces


def _losses(trainer: Trainer[Any], rows: Sequence[Integers], window: int) -> Floats:
    """Return nats [rows, longest - 1] of the tokens after the first, 0 where a row has ended."""
    tokens = np.full((max(map(len, rows)), len(rows)), -1, dtype=np.int64)
    for lane, row in enumerate(rows):
        tokens[: len(row), lane] = row
    state, losses = None, []
    for first in range(0, len(tokens) - 1, window):
        part, state = trainer.losses(tokens[first : first + window + 1], state)
        losses.append(part)
    return np.concatenate(losses).T


# --- Many trainings ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One training: a corpus and the settings, direction and seed among them.

    Parameters
    ----------
    corpus : Corpus
        What is learned.
    settings : NetworkSettings
        How.
    """

    corpus: Corpus
    settings: NetworkSettings

    @property
    def name(self) -> str:
        """The language, the architecture, the direction and the seed."""
        settings = self.settings
        return f"{self.corpus.language}-{settings.architecture}-{settings.direction}-{settings.seed}"

    def facts(self) -> dict[str, Any]:
        """Return what decides the outcome, as a file keeps it."""
        return {
            "language": self.corpus.language,
            "text": self.corpus.digest,
            "vocab_size": self.corpus.tokenizer.vocab_size,
            "settings": asdict(self.settings),
        }

    def perform(self, folder: Path, on_step: Callable[[int], object] = lambda steps: None) -> None:
        """Train, and write the file of the run."""
        begun, begun_cpu = time.monotonic(), time.process_time()
        corpus = self.corpus
        tests = learn(corpus.learned, corpus.held_out, corpus.tokenizer.vocab_size, self.settings, on_step)
        found = {
            **self.facts(),
            "seconds": round(time.monotonic() - begun, 1),
            "cpu_seconds": round(time.process_time() - begun_cpu, 1),
            "tests": [{"tokens": test.tokens, "bits": test.document_bits.sum().round(3)} for test in tests],
            "document_bytes": corpus.held_out_bytes,
            "document_bits": tests[-1].document_bits.round(3),
        }
        results.save(folder / f"{self.name}.json", RUN, found)

    def is_finished(self, folder: Path) -> bool:
        """Return whether the file of the run is there; one of another run in its place is an error."""
        path = folder / f"{self.name}.json"
        if not path.exists():
            return False
        found = results.load(path, RUN)
        for name, value in self.facts().items():
            if found.get(name) != value:
                raise ValueError(
                    f"{path} must be of the same text and settings, got another {name}: "
                    "give another --output, or remove it"
                )
        return True


def plan(
    corpora: Sequence[Corpus], architectures: Sequence[Architecture], seeds: int, tokens: int | None = None
) -> list[Run]:
    """Return the runs of an experiment, the pairs of directions one after the other.

    Parameters
    ----------
    corpora : sequence of Corpus
        The texts.
    architectures : sequence of str
        The networks, of `SETTINGS`.
    seeds : int
        How many seeds, from 1.
    tokens : int, optional
        Tokens to learn from instead of those of `SETTINGS`.

    Returns
    -------
    list of Run
    """
    runs = []
    for architecture in architectures:
        base = SETTINGS[architecture]
        base = base if tokens is None else replace(base, tokens=tokens)
        for seed in range(1, seeds + 1):
            for corpus in corpora:
                for direction in get_args(Direction):
                    runs.append(Run(corpus, replace(base, direction=direction, seed=seed)))
    return runs


def train(runs: Sequence[Run], folder: str | os.PathLike[str], jobs: int = 1) -> Iterator[Run]:
    """Perform runs, with a progress bar; those whose file is there are not repeated.

    A run's file is written when it ends, whole or not at all: what ends early loses unfinished runs only.

    Parameters
    ----------
    runs : sequence of Run
        What to train.
    folder : path
        Where the files are kept.
    jobs : int, default 1
        Trainings at a time, each on one core; more than one have processes of their own.

    Yields
    ------
    Run
        Each when it is finished, those that already were first.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    finished = {run.name for run in runs if run.is_finished(folder)}
    yield from (run for run in runs if run.name in finished)
    waiting = [run for run in runs if run.name not in finished]
    perform = _one_by_one if jobs == 1 else _side_by_side
    with progress_bar(sum(run.settings.steps for run in waiting)) as advance:
        yield from perform(waiting, folder, advance, jobs)


def _one_by_one(runs: Sequence[Run], folder: Path, advance: Advance, jobs: int) -> Iterator[Run]:
    for run in runs:
        run.perform(folder, lambda step, name=run.name: advance(name, 1))  # type: ignore[misc]
        yield run


def _side_by_side(runs: Sequence[Run], folder: Path, advance: Advance, jobs: int) -> Iterator[Run]:
    """Perform runs in processes of their own, which end with this one."""
    context = multiprocessing.get_context("spawn")
    steps = context.Queue()
    waiting = list(reversed(runs))
    working: list[tuple[Run, Any]] = []
    try:
        while waiting or working:
            while waiting and len(working) < jobs:
                run = waiting.pop()
                process = context.Process(target=_perform, args=(run, folder, steps), daemon=True)
                process.start()
                working.append((run, process))
            _show(steps, advance)
            for run, process in [(run, process) for run, process in working if process.exitcode is not None]:
                working.remove((run, process))
                if process.exitcode != 0:
                    raise ChildProcessError(
                        f"the training of {run.name} failed (exit code {process.exitcode})"
                    )
                yield run
    finally:
        for _, process in working:
            process.terminate()
            process.join()


def _perform(run: Run, folder: Path, steps: Any) -> None:
    """Be the process of a run, for as long as its parent lives; an interrupt is the parent's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def on_step(step: int) -> None:
        if parent is not None and not parent.is_alive():
            raise SystemExit(1)
        steps.put(run.name)

    run.perform(folder, on_step)


def _show(steps: Any, advance: Advance) -> None:
    """Show the steps of half a second."""
    until = time.monotonic() + 0.5
    while (left := until - time.monotonic()) > 0:
        try:
            advance(steps.get(timeout=left), 1)
        except Empty:
            return


# --- The command -------------------------------------------------------------------------------------------


def add_commands(commands: Any) -> None:
    """Add `tokendraw arrow train` and `tokendraw arrow report`.

    Parameters
    ----------
    commands : object
        What `argparse.ArgumentParser.add_subparsers` returns.
    """
    arrow = commands.add_parser(
        "arrow",
        help="learn texts forwards and backwards",
        description="Train models that predict the next token and others that predict the previous one, "
        "and compare what they have learnt.",
        allow_abbrev=False,
    )
    parts = arrow.add_subparsers(metavar="part", required=True)
    _add_train(parts)
    arrow_report.add_command_to(parts)


def _add_train(parts: Any) -> None:
    parser = add_command(
        parts,
        "train",
        _train,
        summary="train both directions on texts, and report",
        description="Train models of both directions on UTF-8 texts, documents separated by empty lines, "
        "every 20th held out. What is finished in the output folder is not repeated.",
    )
    add = parser.add_argument
    add("files", nargs="+", metavar="FILE", help="a text per language")
    add("--language", action="append", metavar="NAME", help="name of a text, in order (default: the file's)")
    add(
        "--architecture",
        action="append",
        choices=get_args(Architecture),
        help="gru (default) or transformer; may be given twice",
    )
    add("--seeds", type=positive, metavar="N", help="train with the seeds 1 to N (default 1; --full: 3)")
    add(
        "--full",
        action="store_true",
        help="three seeds and both architectures: half an hour a text on two cores",
    )
    add("--tokens", type=positive, metavar="N", help="learn from N tokens instead of the default number")
    add("--vocab-size", type=positive, default=1024, metavar="N", help="token ids (default 1024; 257: bytes)")
    add("--output", default="arrow", metavar="FOLDER", help="where runs are kept (default arrow)")
    add("--jobs", type=positive, metavar="N", help="trainings at a time (default: one per core)")


def _train(options: argparse.Namespace) -> None:
    for library, purpose in (("torch", "trainings"), ("scipy", "intervals"), ("matplotlib", "pictures")):
        extra(library, purpose)  # missing, it is better known now than after the trainings
    languages = options.language or [Path(file).stem for file in options.files]
    if len(languages) != len(options.files):
        raise ValueError(
            f"--language must be given once per file, got {len(languages)} for {len(options.files)}"
        )
    if len(set(languages)) != len(languages):
        raise ValueError(f"languages must differ, got {', '.join(languages)}: name them by --language")
    corpora = [
        read_corpus(file, language, options.vocab_size)
        for file, language in zip(options.files, languages, strict=True)
    ]
    architectures = options.architecture or (["gru", "transformer"] if options.full else ["gru"])
    runs = plan(corpora, architectures, options.seeds or (3 if options.full else 1), options.tokens)
    for run in train(runs, options.output, options.jobs or len(os.sched_getaffinity(0))):
        print(arrow_report.run_line(Path(options.output) / f"{run.name}.json"), flush=True)
    arrow_report.report(options.output)
