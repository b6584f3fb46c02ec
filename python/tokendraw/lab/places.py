# SPDX-License-Identifier: Apache-2.0
"""Networks for sequences of one length: every place has weights of its own.

On such sequences they learn several times faster than a recurrent network or a transformer of the same cost,
which must first learn to tell the places apart.
"""

from __future__ import annotations

from typing import Any, Protocol

from tokendraw.lab.extras import extra

__all__ = ["GivenNetwork", "PlaceNetworks", "PlaceSettings"]


class PlaceSettings(Protocol):
    """What these networks are made from; `NetworkSettings` has it."""

    @property
    def window(self) -> int:
        """Number of symbols that are read."""
        ...

    @property
    def units(self) -> int:
        """Width of both hidden layers."""
        ...

    @property
    def given(self) -> int:
        """How many symbols at the start are not predicted, the first one among them: all have even odds."""
        ...


class PlaceNetworks:
    """A perceptron with two hidden layers for each predicted symbol, which sees all earlier ones.

    Parameters
    ----------
    vocab_size : int
        Number of symbols.
    settings : PlaceSettings
        Its sizes.
    """

    def __init__(self, vocab_size: int, settings: PlaceSettings) -> None:
        torch = extra("torch", "networks")
        window, units = settings.window, settings.units
        self._vocab_size = vocab_size
        self._unpredicted = settings.given - 1
        places = window - self._unpredicted
        # A place reads at most `window` ones: with this spread its first sums have variance 1 or less.
        self._first = torch.nn.Parameter(torch.randn(places, window * vocab_size, units) * window**-0.5)
        self._second = torch.nn.Parameter(torch.randn(places, units, units) * (2 / units) ** 0.5)
        # Small, so that the first predictions are near even odds.
        self._last = torch.nn.Parameter(torch.randn(places, units, vocab_size) * 0.1 * units**-0.5)
        self._biases = [
            torch.nn.Parameter(torch.zeros(places, 1, size)) for size in (units, units, vocab_size)
        ]
        last_read = torch.arange(self._unpredicted, window)
        symbols = torch.arange(window).repeat_interleave(vocab_size)
        self._seen = (symbols <= last_read[:, None])[..., None].float()

    def parameters(self) -> list[Any]:
        """Return the tensors to learn."""
        return [self._first, self._second, self._last, *self._biases]

    def __call__(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Read tokens [window, lanes]; return logits [window, lanes, vocab], and no state."""
        torch = extra("torch", "networks")
        first_bias, second_bias, last_bias = self._biases
        inputs = torch.nn.functional.one_hot(tokens.T, self._vocab_size).flatten(1).float()
        hidden = torch.relu(inputs @ (self._first * self._seen) + first_bias)
        hidden = torch.relu(hidden @ self._second + second_bias)
        logits = hidden @ self._last + last_bias
        return torch.cat([logits.new_zeros(self._unpredicted, *logits.shape[1:]), logits]), None


class GivenNetwork:
    """One perceptron with two hidden layers, which predicts all symbols at once from the given ones.

    No predicted symbol sees another: it is what `PlaceNetworks` are without the symbols between, at a
    fraction of the cost.

    Parameters
    ----------
    vocab_size : int
        Number of symbols.
    settings : PlaceSettings
        Its sizes.
    """

    def __init__(self, vocab_size: int, settings: PlaceSettings) -> None:
        torch = extra("torch", "networks")
        self._vocab_size = vocab_size
        self._given = settings.given
        self._predicted = settings.window + 1 - settings.given
        self._layers = torch.nn.Sequential(
            torch.nn.Linear(self._given * vocab_size, settings.units),
            torch.nn.ReLU(),
            torch.nn.Linear(settings.units, settings.units),
            torch.nn.ReLU(),
            torch.nn.Linear(settings.units, self._predicted * vocab_size),
        )

    def parameters(self) -> list[Any]:
        """Return the tensors to learn."""
        return list(self._layers.parameters())

    def __call__(self, tokens: Any, state: Any) -> tuple[Any, Any]:
        """Read tokens [window, lanes]; return logits [window, lanes, vocab], and no state."""
        torch = extra("torch", "networks")
        given = torch.nn.functional.one_hot(tokens[: self._given].T, self._vocab_size).flatten(1)
        # One bit of news per symbol, of mean 0 and spread 1 where symbols are bits.
        logits = self._layers(2.0 * given - 1.0).view(-1, self._predicted, self._vocab_size).transpose(0, 1)
        return torch.cat([logits.new_zeros(self._given - 1, *logits.shape[1:]), logits]), None
