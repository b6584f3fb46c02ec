# SPDX-License-Identifier: Apache-2.0
"""Small networks trained by torch, for experiments: the GRU of the embedded models and others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from tokendraw.lab.places import GivenNetwork, PlaceNetworks
from tokendraw.models.train import GruNetwork, Network, Settings, Trainer, import_torch

__all__ = [
    "Architecture",
    "NetworkSettings",
    "Point",
    "TransformerNetwork",
    "make_trainer",
    "train_sequences",
]

Architecture = Literal["gru", "transformer", "places", "given"]


@dataclass(frozen=True)
class NetworkSettings(Settings):
    """What a training run depends on, whatever the network.

    Parameters
    ----------
    architecture : {"gru", "transformer", "places", "given"}
        The network. A transformer has `width` as its width and `units` as that of its hidden layers, and
        reads at most `window` tokens. "places" are `PlaceNetworks` and "given" a `GivenNetwork`, with hidden
        layers of `units`; they read just `window` tokens.
    layers, heads : int
        Of a transformer.
    given : int
        Of "places" and "given": tokens at the start that are not predicted.
    **settings
        As `tokendraw.models.train.Settings` has them.

    Examples
    --------
    >>> NetworkSettings(architecture="transformer", tokens=1_000_000).steps
    651
    """

    architecture: Architecture = "gru"
    layers: int = 3
    heads: int = 4
    given: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("layers", "heads"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        if self.architecture == "transformer" and self.width % self.heads:
            raise ValueError(f"width must be a multiple of heads ({self.heads}), got {self.width}")


class TransformerNetwork:
    """A decoder with learned places, normalisation first (as GPT-2) and tied embeddings.

    Parameters
    ----------
    vocab_size : int
        Number of token ids.
    settings : NetworkSettings
        Its sizes.
    """

    def __init__(self, vocab_size: int, settings: NetworkSettings) -> None:
        torch = import_torch()
        width, units = settings.width, settings.units
        self._functional = torch.nn.functional
        self._heads = settings.heads
        self._embedding = torch.nn.Embedding(vocab_size, width)
        self._places = torch.nn.Embedding(settings.window, width)
        self._blocks = [
            torch.nn.ModuleDict(
                {
                    "before_attention": torch.nn.LayerNorm(width),
                    "attention": torch.nn.Linear(width, 3 * width),
                    "mixed": torch.nn.Linear(width, width),
                    "before_hidden": torch.nn.LayerNorm(width),
                    "hidden": torch.nn.Linear(width, units),
                    "output": torch.nn.Linear(units, width),
                }
            )
            for _ in range(settings.layers)
        ]
        self._last = torch.nn.LayerNorm(width)
        self._bias = torch.nn.Parameter(torch.zeros(vocab_size))
        self._initialise(torch.nn.init.normal_)

    def _initialise(self, normal: Any) -> None:
        """Draw the first weights as GPT-2 does: what is added to the stream is smaller in deeper networks."""
        normal(self._embedding.weight, std=0.02)
        normal(self._places.weight, std=0.02)
        for block in self._blocks:
            normal(block["attention"].weight, std=0.02)
            normal(block["hidden"].weight, std=0.02)
            for name in ("mixed", "output"):
                normal(block[name].weight, std=0.02 * (2 * len(self._blocks)) ** -0.5)

    def parameters(self) -> list[Any]:
        """Return the tensors to learn."""
        modules = [self._embedding, self._places, *self._blocks, self._last]
        return [self._bias, *(part for module in modules for part in module.parameters())]

    def __call__(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Read tokens [n, lanes], n at most the window; return logits [n, lanes, vocab], and no state."""
        stream = self._embedding(tokens.T) + self._places.weight[: len(tokens)]
        for block in self._blocks:
            stream = stream + self._attention(block, block["before_attention"](stream))
            hidden = block["hidden"](block["before_hidden"](stream))
            stream = stream + block["output"](self._functional.gelu(hidden, approximate="tanh"))
        logits = self._last(stream) @ self._embedding.weight.T + self._bias
        return logits.transpose(0, 1), None

    def _attention(self, block: Any, stream: Any) -> Any:
        lanes, length, width = stream.shape
        parts = block["attention"](stream).view(lanes, length, 3, self._heads, width // self._heads)
        queries, keys, values = parts.permute(2, 0, 3, 1, 4)
        mixed = self._functional.scaled_dot_product_attention(queries, keys, values, is_causal=True)
        return block["mixed"](mixed.transpose(1, 2).reshape(lanes, length, width))


def make_trainer(vocab_size: int, settings: NetworkSettings) -> Trainer[Network]:
    """Return a trainer of the network that the settings ask for.

    Parameters
    ----------
    vocab_size : int
        Number of token ids.
    settings : NetworkSettings
        Its sizes, seed and schedule.

    Returns
    -------
    Trainer
        With first weights that depend on the sizes and the seed alone.
    """

    def network() -> Network:
        if settings.architecture == "gru":
            return GruNetwork(vocab_size, settings)
        if settings.architecture == "places":
            return PlaceNetworks(vocab_size, settings)
        if settings.architecture == "given":
            return GivenNetwork(vocab_size, settings)
        return TransformerNetwork(vocab_size, settings)

    return Trainer(settings, network)


class Point(NamedTuple):
    """A network's test, at some time of its training.

    Attributes
    ----------
    step : int
        Steps learned from before.
    losses : ndarray, float64 [rows, length - 1]
        Nats of every symbol of the test sequences but the first, given those before it.
    seconds : float
        Since the training began, tests included.
    """

    step: int
    losses: npt.NDArray[np.float64]
    seconds: float


def train_sequences(
    draw: Callable[[int], npt.NDArray[np.int64]],
    test: npt.NDArray[np.int64],
    vocab_size: int,
    settings: NetworkSettings,
    *,
    steps: int,
    every: int,
    counted: npt.NDArray[np.bool_] | None = None,
) -> Iterator[Point]:
    """Train a network on sequences of one length, and test it before, every so many steps, and at the end.

    The caller may stop at any point.

    Parameters
    ----------
    draw : callable
        Returns the sequences [rows, length] of a step; the first symbol is given, the others are predicted.
    test : ndarray of int [rows, length]
        Sequences that are never learned from.
    vocab_size : int
        Number of symbols.
    settings : NetworkSettings
        `lanes`, `window` and `tokens` follow from the sequences and `steps`.
    steps : int
        How many sets of sequences to learn from; the learning rate ends at 0 after them.
    every : int
        Steps between tests.
    counted : ndarray of bool [length - 1], optional
        Which predicted places to learn, by default all. All are tested.

    Yields
    ------
    Point
        The first one before any learning, the last one at the end.
    """
    lanes, length = draw(0).shape
    settings = replace(settings, lanes=lanes, window=length - 1, tokens=steps * lanes * (length - 1))
    trainer = make_trainer(vocab_size, settings)
    mask = None if counted is None else np.repeat(np.asarray(counted)[:, np.newaxis], lanes, axis=1)
    begun = time.monotonic()
    for step in range(steps + 1):
        if step % every == 0 or step == steps:
            losses, _ = trainer.losses(_by_place(test))
            yield Point(step, losses.T, time.monotonic() - begun)
        if step < steps:
            trainer.forget()
            trainer.step(_by_place(draw(step)), mask)


def _by_place(sequences: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return sequences [length, rows], as trainers read them."""
    return np.ascontiguousarray(sequences.T, dtype=np.int64)
