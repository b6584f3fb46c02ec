# SPDX-License-Identifier: Apache-2.0
r"""Train a language model on a text file and measure models on its held-out part.

The text is UTF-8, its documents separated by empty lines. Every 20th document, starting with the 11th,
is held out: training never sees it, and the score printed at the end is that of the written (quantised)
file on it, run by NumPy. Training needs torch (`pip install "tokendraw[train]"`), measuring does not.

The embedded models were made on one thread by torch 2.13.0 from the King James text as Debian's package
`bible-kjv-text` has it, one chapter per document and one verse per line, with these commands::

    python -m tokendraw.models.train english-kjv.txt --output kjv.npz
    python -m tokendraw.models.train english-kjv.txt --tokenizer kjv.npz --direction backward \
        --output kjv-backward.npz
    python -m tokendraw.models.train english-kjv.txt --tokenizer kjv.npz --units 256 \
        --output kjv-draft.npz

and this reproduces their scores, 1.2852, 1.3001 and 1.3389 bits per byte::

    python -m tokendraw.models.train --evaluate english-kjv.txt
"""

from __future__ import annotations

import argparse
import importlib
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, get_args

import numpy as np
import numpy.typing as npt

from tokendraw.models.catalog import EMBEDDED, load
from tokendraw.models.kjv import Direction, GruModel, GruWeights, read_model, write_model
from tokendraw.models.tokenizer import SEPARATOR, Tokenizer

__all__ = [
    "Settings",
    "bits_per_byte",
    "document_bits",
    "main",
    "read_documents",
    "split_documents",
    "train",
]


_NOT_COUNTED = -100


@dataclass(frozen=True)
class Settings:
    """What a training run depends on besides the text and the tokenizer.

    Parameters
    ----------
    direction : {"forward", "backward"}
        Whether the next or the previous token is predicted.
    units, width : int
        Sizes of the recurrent state and of an embedding.
    tokens : int
        Tokens to learn from; the text is read as often as that takes.
    lanes, window : int
        A step of the optimizer reads `window` tokens in each of `lanes` sequences; gradients do not reach
        further back, the recurrent state does.
    learning_rate : float
        The highest rate of AdamW.
    seed : int
        Decides the first weights and the order of documents.
    threads : int
        Threads of torch. Equal weights again need the same number, version and processor.

    Examples
    --------
    >>> Settings(tokens=1_000_000).steps
    651
    """

    direction: Direction = "forward"
    units: int = 512
    width: int = 128
    tokens: int = 3_600_000
    lanes: int = 32
    window: int = 48
    learning_rate: float = 4e-3
    seed: int = 1
    threads: int = 1

    def __post_init__(self) -> None:
        for name in ("units", "width", "tokens", "lanes", "window", "learning_rate", "threads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")

    @property
    def steps(self) -> int:
        """Optimizer steps, each of `lanes` times `window` tokens."""
        return max(1, round(self.tokens / (self.lanes * self.window)))


def read_documents(path: str | os.PathLike[str]) -> list[str]:
    """Return the documents of a UTF-8 text file, which empty lines separate.

    Parameters
    ----------
    path : path
        The text file.

    Returns
    -------
    list of str
        The documents, without the line ends around them.

    Raises
    ------
    ValueError
        If the file is not UTF-8, for example because it ends in the middle of a character.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        wrong, place = error.object[error.start : error.end], error.start
        cut = " at its end" if error.end == len(error.object) else ""
        raise ValueError(f"{path} must be UTF-8, got {wrong!r} at byte {place}{cut}") from None
    blocks = text.split("\n\n")
    return [block.strip("\n") for block in blocks if block.strip()]


def split_documents(documents: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the documents to learn from and the held-out ones.

    Examples
    --------
    >>> learned, held_out = split_documents([str(number) for number in range(40)])
    >>> held_out
    ['10', '30']
    """
    learned = [document for index, document in enumerate(documents) if index % 20 != 10]
    return learned, list(documents[10::20])


def document_bits(model: GruModel, documents: Sequence[str], lanes: int = 16) -> npt.NDArray[np.float64]:
    """Return the bits that a model needs for each document, its end included.

    Parameters
    ----------
    model : GruModel
        A model of either direction.
    documents : sequence of str
        Texts. Each is read alone and whole, after one separator.
    lanes : int, default 16
        Documents read at a time.

    Returns
    -------
    ndarray, float64 [documents]
        Minus log2 of the probability of the document's tokens and the separator after them.
    """
    rows = [[*model.tokenizer.encode(document), SEPARATOR] for document in documents]
    by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))
    bits = np.empty(len(rows))
    for first in range(0, len(rows), lanes):
        batch = by_length[first : first + lanes]
        bits[batch] = _row_bits(model, [rows[row] for row in batch])
    return bits


def bits_per_byte(model: GruModel, documents: Sequence[str]) -> float:
    """Return the bits that a model needs for documents, per byte of their UTF-8 text.

    Examples
    --------
    >>> from tokendraw.models import load
    >>> round(bits_per_byte(load("kjv"), ["In the beginning God created the heaven and the earth."]), 1)
    1.2
    """
    size = sum(len(document.encode()) for document in documents)
    return float(document_bits(model, documents).sum()) / size


def _row_bits(model: GruModel, rows: Sequence[Sequence[int]], window: int = 64) -> npt.NDArray[np.float64]:
    """Return the bits that a batch of token sequences needs, one sum per row."""
    tokens = np.full((len(rows), max(map(len, rows))), -1, dtype=np.int64)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row)] = row
    state, logits = model.start([[] for _ in rows])
    bits = np.zeros(len(rows))
    for first in range(0, tokens.shape[1], window):
        targets = tokens[:, first : first + window]
        states, after = model.extend(state, targets)
        scores = np.concatenate([logits[:, np.newaxis], after[:, :-1]], axis=1)
        bits += _token_bits(scores, targets).sum(axis=1)
        state, logits = states[-1], after[:, -1]
    return bits


def _token_bits(scores: npt.NDArray[np.float32], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return minus log2 of each target's probability, 0 where the target is -1."""
    wide = scores.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    logprobs = np.take_along_axis(wide, np.maximum(targets, 0)[..., np.newaxis], axis=-1)[..., 0]
    logprobs -= np.log(np.exp(wide).sum(axis=-1))
    return np.where(targets < 0, 0.0, -logprobs / math.log(2))


def batches(
    documents: Sequence[Sequence[int] | npt.NDArray[np.int64]], settings: Settings
) -> Iterator[npt.NDArray[np.int64]]:
    """Yield arrays [window + 1, lanes] without end; each goes on where the last one stopped.

    Every epoch shuffles the documents, joins them with separators and cuts the result into lanes. The last
    row of an array is the first one of the next, because it is predicted in one and read in the other.
    """
    random = np.random.default_rng(settings.seed)
    last = np.full((1, settings.lanes), SEPARATOR, dtype=np.int64)
    while True:
        order = random.permutation(len(documents))
        stream = np.concatenate([[*documents[index], SEPARATOR] for index in order])
        window_tokens = settings.lanes * settings.window
        windows = len(stream) // window_tokens
        if windows == 0:
            raise ValueError(f"the text must have {window_tokens} tokens or more, got {len(stream)}")
        used = stream[: windows * window_tokens]
        for part in np.split(used.reshape(settings.lanes, -1).T, windows):
            batch = np.concatenate([last, part])
            yield batch
            last = batch[-1:]


def _learning_rate(step: int, settings: Settings) -> float:
    """Linear warm-up over the first 2 % of the steps, then half a cosine down to 0."""
    warm_up = max(1, settings.steps // 50)
    if step < warm_up:
        return settings.learning_rate * (step + 1) / warm_up
    done = (step - warm_up) / max(1, settings.steps - warm_up)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


class Network(Protocol):
    """A model in torch that `Trainer` can train."""

    def parameters(self) -> list[Any]:
        """Return the tensors to learn."""
        ...

    def __call__(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Read tokens [n, lanes] after a state (None at first); return logits [n, lanes, vocab] and state."""
        ...


class GruNetwork:
    """The network of `GruModel` in torch.

    Parameters
    ----------
    vocab_size : int
        Number of token ids.
    settings : Settings
        Its sizes.
    """

    def __init__(self, vocab_size: int, settings: Settings) -> None:
        torch = import_torch()
        self._embedding = torch.nn.Embedding(vocab_size, settings.width)
        torch.nn.init.normal_(self._embedding.weight, std=settings.width**-0.5)
        self._recurrent = torch.nn.GRU(settings.width, settings.units)
        self._projection = torch.nn.Linear(settings.units, settings.width)
        self._bias = torch.nn.Parameter(torch.zeros(vocab_size))

    def parameters(self) -> list[Any]:
        """Return the tensors to learn."""
        modules = [self._embedding, self._recurrent, self._projection]
        return [self._bias, *(part for module in modules for part in module.parameters())]

    def __call__(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Read tokens [n, lanes] after a state (None at first); return logits [n, lanes, vocab] and state."""
        output, hidden = self._recurrent(self._embedding(tokens), state)
        return self._projection(output) @ self._embedding.weight.T + self._bias, hidden.detach()

    def weights(self) -> GruWeights:
        """Return the arrays as the NumPy runner wants them."""
        recurrent, projection = self._recurrent, self._projection
        arrays = {
            "embedding": self._embedding.weight,
            "input": recurrent.weight_ih_l0,
            "recurrent": recurrent.weight_hh_l0,
            "projection": projection.weight,
            "input_bias": recurrent.bias_ih_l0,
            "recurrent_bias": recurrent.bias_hh_l0,
            "projection_bias": projection.bias,
            "output_bias": self._bias,
        }
        return GruWeights(**{name: array.detach().numpy().copy() for name, array in arrays.items()})


NetworkT = TypeVar("NetworkT", bound=Network)


class Trainer(Generic[NetworkT]):
    """A network, and its optimizer.

    Parameters
    ----------
    settings : Settings
        Seed and schedule.
    make_network : callable
        Makes the network, after the seed was set.

    Attributes
    ----------
    network : Network
        What learns.
    """

    def __init__(self, settings: Settings, make_network: Callable[[], NetworkT]) -> None:
        self._torch = torch = import_torch()
        torch.set_num_threads(settings.threads)
        torch.manual_seed(settings.seed)
        self._settings = settings
        self.network = make_network()
        self._parameters = self.network.parameters()
        self._optimizer = torch.optim.AdamW(self._parameters, lr=settings.learning_rate)
        self._state: Any = None
        self._step = 0

    def step(self, batch: npt.NDArray[np.int64], counted: npt.NDArray[np.bool_] | None = None) -> float:
        """Learn from tokens, going on where the last step stopped.

        Parameters
        ----------
        batch : ndarray of int [n + 1, lanes]
            Each row is predicted from those before it.
        counted : ndarray of bool [n, lanes], optional
            Which predicted tokens count, by default all.

        Returns
        -------
        float
            The loss in nats per token, before the step.
        """
        for group in self._optimizer.param_groups:
            group["lr"] = _learning_rate(self._step, self._settings)
        loss, self._state = self._loss(batch, self._state, counted, "mean")
        self._optimizer.zero_grad()
        loss.backward()
        self._torch.nn.utils.clip_grad_norm_(self._parameters, 1.0)
        self._optimizer.step()
        self._step += 1
        return float(loss.item())

    def forget(self) -> None:
        """Let the next step begin new sequences."""
        self._state = None

    def losses(self, batch: npt.NDArray[np.int64], state: Any = None) -> tuple[npt.NDArray[np.float64], Any]:
        """Return the loss of each predicted token in nats, and the state after them; learn nothing.

        Parameters
        ----------
        batch : ndarray of int [n + 1, lanes]
            Each row is predicted from those before it; a token that is -1 has no loss.
        state : optional
            What the last call returned, to go on from there.

        Returns
        -------
        losses : ndarray, float64 [n, lanes]
            Minus the natural logarithm of the probability of each token after the first row.
        state
            For the next call.
        """
        counted = batch[1:] >= 0
        with self._torch.no_grad():
            losses, state = self._loss(np.maximum(batch, 0), state, counted, "none")
        return losses.double().numpy().reshape(counted.shape), state

    def _loss(
        self, batch: npt.NDArray[np.int64], state: Any, counted: npt.NDArray[np.bool_] | None, reduction: str
    ) -> tuple[Any, Any]:
        tokens = self._torch.from_numpy(batch)
        logits, state = self.network(tokens[:-1], state)
        targets = tokens[1:]
        if counted is not None:
            targets = targets.masked_fill(~self._torch.from_numpy(counted), _NOT_COUNTED)
        cross_entropy = self._torch.nn.functional.cross_entropy
        loss = cross_entropy(
            logits.flatten(0, 1), targets.flatten(), ignore_index=_NOT_COUNTED, reduction=reduction
        )
        return loss, state


def import_torch() -> Any:
    """Return torch, or say how to install it."""
    try:
        return importlib.import_module("torch")
    except ImportError as error:
        raise ModuleNotFoundError('training needs torch: pip install "tokendraw[train]"') from error


def train(documents: Sequence[str], tokenizer: Tokenizer, settings: Settings) -> GruWeights:
    """Train a model, with a progress line on standard error.

    Parameters
    ----------
    documents : sequence of str
        The texts to learn from.
    tokenizer : Tokenizer
        A tokenizer in the direction of the settings.
    settings : Settings
        Sizes, seed and schedule.

    Returns
    -------
    GruWeights
        The trained arrays, not yet quantised.
    """
    trainer = Trainer(settings, lambda: GruNetwork(tokenizer.vocab_size, settings))
    encoded = [tokenizer.encode(document) for document in documents]
    progress = _Progress(settings)
    for step, batch in zip(range(1, settings.steps + 1), batches(encoded, settings), strict=False):
        progress.show(step, trainer.step(batch))
    return trainer.network.weights()


class _Progress:
    """One line on standard error: rewritten on a terminal, else repeated every 50 steps."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._begun = time.monotonic()
        self._loss: float | None = None

    def show(self, step: int, loss: float) -> None:
        self._loss = loss if self._loss is None else 0.98 * self._loss + 0.02 * loss
        steps, terminal = self._settings.steps, sys.stderr.isatty()
        if not terminal and step % 50 and step != steps:
            return
        seconds = time.monotonic() - self._begun
        rate = step * self._settings.lanes * self._settings.window / seconds
        left = round(seconds / step * (steps - step))
        counts = f"step {step}/{steps}  loss {self._loss:.4f}  {rate:,.0f} tokens/s"
        line = f"{counts}  {left // 60}:{left % 60:02} left"
        end = "" if terminal and step < steps else "\n"
        print(f"\r{line:<72}" if terminal else line, end=end, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tokendraw.models.train",
        description="Train a language model on a text file, or measure models on its held-out part.",
    )
    add = parser.add_argument
    add("text", nargs="?", type=Path, help="UTF-8 text, documents separated by empty lines")
    add("--evaluate", type=Path, metavar="FILE", help="measure models on this text instead of training")
    add("--model", action="append", metavar="NAME_OR_FILE", help="model to measure, else each embedded one")
    add("--output", type=Path, metavar="FILE", help="file to write, .npz")
    add("--tokenizer", type=Path, metavar="FILE", help="model file whose tokenizer is taken, else a new one")
    add("--vocab-size", type=int, default=1024, help="ids of a new tokenizer (%(default)s)")
    _add_settings(parser)
    return parser


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add one option for every field of `Settings`, with its default."""

    def add(name: str, explanation: str, **options: Any) -> None:
        default = getattr(Settings, name.replace("-", "_"))
        options.setdefault("type", type(default))
        parser.add_argument(f"--{name}", default=default, help=f"{explanation} (%(default)s)", **options)

    add("direction", "token to predict", choices=get_args(Direction))
    add("units", "size of the recurrent state")
    add("width", "size of an embedding")
    add("tokens", "tokens to learn from")
    parser.add_argument("--steps", type=int, help="optimizer steps; overrides --tokens")
    add("lanes", "sequences read at a time")
    add("window", "tokens per step and lane")
    add("learning-rate", "highest learning rate")
    add("seed", "seed of the weights and of the order of documents")
    add("threads", "threads of torch")


def _settings(options: argparse.Namespace) -> Settings:
    settings = Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})
    if options.steps is None:
        return settings
    return replace(settings, tokens=options.steps * settings.lanes * settings.window)


def _tokenizer(options: argparse.Namespace, documents: Sequence[str]) -> Tokenizer:
    if options.tokenizer is None:
        tokenizer = Tokenizer.train(documents, options.vocab_size)
    else:
        tokenizer = read_model(options.tokenizer).tokenizer
    backward = options.direction == "backward"
    return tokenizer if tokenizer.right_to_left == backward else tokenizer.reversed()


def _train_file(options: argparse.Namespace) -> None:
    options.output.touch()  # fails now rather than after the training
    learned, held_out = split_documents(read_documents(options.text))
    settings, tokenizer = _settings(options), _tokenizer(options, learned)
    weights = train(learned, tokenizer, settings)
    metadata = {"text": options.text.name, **vars(settings), "torch": import_torch().__version__}
    write_model(options.output, weights, tokenizer, metadata)
    # The score is that of the file as it will be read, with quantised weights; then it becomes part of it.
    score = _print_score(str(options.output), read_model(options.output), held_out)
    write_model(options.output, weights, tokenizer, {**metadata, "bits_per_byte": round(score, 4)})
    print(f"{options.output}: {options.output.stat().st_size:,} bytes")


def _evaluate_file(options: argparse.Namespace) -> None:
    _, held_out = split_documents(read_documents(options.evaluate))
    for name in options.model or EMBEDDED:
        model = load(name)
        if not isinstance(model, GruModel):
            raise ValueError(f"--model must be a model of the kind that is trained here, got {name!r}")
        _print_score(name, model, held_out)


def _print_score(name: str, model: GruModel, documents: Sequence[str]) -> float:
    size = sum(len(document.encode()) for document in documents)
    score = bits_per_byte(model, documents)
    held_out = f"{len(documents)} held-out documents, {size:,} bytes"
    print(f"{name}: {score:.4f} bits per byte on {held_out}", flush=True)
    return score


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line; see the module's text.

    Parameters
    ----------
    arguments : sequence of str, optional
        The arguments, by default those of the process.
    """
    parser = _parser()
    options = parser.parse_args(arguments)
    if options.evaluate is None and (options.text is None or options.output is None):
        parser.error("give a text and --output to train, or --evaluate FILE to measure")
    try:
        if options.evaluate is None:
            _train_file(options)
        else:
            _evaluate_file(options)
    except (ModuleNotFoundError, OSError, ValueError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
