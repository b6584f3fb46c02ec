# SPDX-License-Identifier: Apache-2.0
"""Ways of looking for the prefix after which a text takes the fewest bits.

A solver works until the effort of its search is spent; what it found is in the search.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from tokendraw.lab.judge import Prefix
from tokendraw.lab.prefix_search import PrefixSearch

__all__ = ["SOLVERS", "Solver", "annealing", "beam", "continuations", "samples", "swaps"]

Solver = Callable[[PrefixSearch], None]

# What follows was chosen on chapters that the model was trained on, see docs/lab-game.md. A prefix is tried
# on the head of the text; those that do best there are scored against the whole of it. Swaps and annealing
# change a fixed number of places, each of which may be empty.
_EMPTY = -1
_HEAD = 4
_FINALISTS = 32
_DRAWN = 32
_STARTS = 4
_CHAINS = 4
_TRIES = 8
_HOT, _COLD = 0.7, 0.1


def samples(search: PrefixSearch) -> None:
    """Keep the best of prefixes drawn from the model, each the beginning of a document."""
    while not search.is_over:
        search.score(search.draw(_DRAWN, after_text=False))


def continuations(search: PrefixSearch) -> None:
    """Keep the best of prefixes drawn from the model as they follow the text."""
    while not search.is_over:
        search.score(search.draw(_DRAWN, after_text=True))


# --- Greedy swaps ------------------------------------------------------------------------------------------


def swaps(search: PrefixSearch) -> None:
    """Put in each place, in turn, the token that is best there, until no place has a better one.

    It begins with the best of a few continuations, and again with others after the last swap.
    """
    while not search.is_over:
        drawn = search.draw(_STARTS, after_text=True)
        bits = search.score(drawn)
        if drawn:
            _descend(search, drawn[int(bits.argmin())], float(bits.min()))


def _descend(search: PrefixSearch, places: Prefix, bits: float) -> None:
    """Swap until a round over the places has changed none."""
    tokens = [*search.tokens.tolist(), _EMPTY]
    settled = 0
    while settled < len(places):
        for place in search.rng.permutation(len(places)).tolist():
            variants = [(*places[:place], token, *places[place + 1 :]) for token in tokens]
            best, best_bits = _finals(search, variants)[0]
            settled += 1
            if best_bits < bits:
                places, bits, settled = best, best_bits, 1
            if settled == len(places) or search.is_over:
                return


# --- Beam search -------------------------------------------------------------------------------------------


def beam(search: PrefixSearch) -> None:
    """Build prefixes from the text outwards, and keep the best few of each length.

    The token next to the text is chosen first: it matters most, and what is chosen later comes before it.
    A beam of 1 is followed by one of 2, 4 and so on.
    """
    width = 1
    while not search.is_over:
        kept: list[Prefix] = [()]
        for _ in range(search.length):
            variants = [(token, *prefix) for prefix in kept for token in search.tokens.tolist()]
            kept = [prefix for prefix, _ in _finals(search, variants)[:width]]
        width *= 2


def _finals(search: PrefixSearch, variants: Sequence[Prefix]) -> list[tuple[Prefix, float]]:
    """Return those that do best on the head of the text, ranked by the whole of it, with their bits."""
    heads = _score(search, variants, _HEAD)
    finalists = [variants[row] for row in np.argsort(heads, kind="stable")[:_FINALISTS]]
    bits = _score(search, finalists)
    return [(finalists[row], float(bits[row])) for row in np.argsort(bits, kind="stable")]


def _score(search: PrefixSearch, variants: Sequence[Prefix], head: int | None = None) -> NDArray[np.float64]:
    """Score what stands in places."""
    return search.score([tuple(token for token in each if token != _EMPTY) for each in variants], head)


# --- Simulated annealing -----------------------------------------------------------------------------------


def annealing(search: PrefixSearch) -> None:
    """Change prefixes at random; accept what is worse ever more rarely (Kirkpatrick et al. 1983).

    Several chains run side by side. A change is accepted by the head of the text first and, if it was,
    once more by the rest, as in delayed acceptance (Christen and Fox 2005). Changes are not symmetric, some
    tokens are tried more often: what is sought is a minimum, not a sample.
    """
    proposal = _Proposal(search)
    drawn = search.draw(_DRAWN, after_text=True)
    bits = search.score(drawn)
    chosen = np.argsort(bits, kind="stable")[:_CHAINS]
    heads = search.score([drawn[row] for row in chosen], _HEAD)
    chains = [
        _Chain(drawn[row], float(bits[row]), float(head)) for row, head in zip(chosen, heads, strict=True)
    ]
    while chains and not search.is_over:
        _anneal(search, chains, proposal, temperature=_HOT * (_COLD / _HOT) ** search.progress)


@dataclass(slots=True)
class _Chain:
    """Where a chain is: what stands in its places, and the bits of the text and of its head."""

    places: Prefix
    bits: float
    head: float


def _anneal(search: PrefixSearch, chains: Sequence[_Chain], proposal: _Proposal, temperature: float) -> None:
    """Try some changes of each chain; the first whose head is accepted is scored on the whole text."""
    changes = [[proposal.change(chain.places) for _ in range(_TRIES)] for chain in chains]
    heads = _score(search, [each for tries in changes for each in tries], _HEAD).reshape(-1, _TRIES)
    # A rise in bits by the temperature is accepted once in e times.
    allowed = -temperature * np.log1p(-search.rng.random((2, len(chains), _TRIES)))
    rises = heads - np.array([[chain.head] for chain in chains])
    accepted = rises <= allowed[0]
    rows = np.flatnonzero(accepted.any(axis=1)).tolist()
    columns = accepted.argmax(axis=1).tolist()
    bits = _score(search, [changes[row][columns[row]] for row in rows])
    for row, new_bits in zip(rows, bits.tolist(), strict=True):
        chain, column = chains[row], columns[row]
        if new_bits - chain.bits - rises[row, column] <= allowed[1, row, column]:
            chain.places, chain.bits, chain.head = changes[row][column], new_bits, float(heads[row, column])


class _Proposal:
    """Changes places at random: one gets another token, or moves and gets one, or two change places."""

    def __init__(self, search: PrefixSearch) -> None:
        self._rng = search.rng
        self._tokens = search.tokens
        self._own = np.intersect1d(search.judge.text, search.tokens)
        alone = search.score([(token,) for token in search.tokens.tolist()], _HEAD)
        # Where the effort did not suffice for any, nothing will be drawn.
        lowest = alone.min() if np.isfinite(alone.min()) else 0.0
        weights = np.exp2(lowest - alone)
        self._shares = np.cumsum(weights)[:-1] / max(weights.sum(), 1.0)

    def change(self, places: Prefix) -> Prefix:
        """Return as many places."""
        changed = list(places)
        kind = self._rng.random()
        place, other = self._rng.integers(len(places), size=2).tolist()
        if kind < 0.7:
            changed[place] = self._token()
        elif kind < 0.85:
            del changed[other]
            changed.insert(place, self._token())
        else:
            changed[place], changed[other] = changed[other], changed[place]
        return tuple(changed)

    def _token(self) -> int:
        """Return, as often as not, a token that helps alone; else one of the text, any, or none."""
        kind, point = self._rng.random(2).tolist()
        if kind < 0.5:
            return int(self._tokens[np.searchsorted(self._shares, point, side="right")])
        if kind < 0.6:
            return _EMPTY
        source: NDArray[np.int64] = self._own if kind < 0.8 and len(self._own) else self._tokens
        return int(source[int(point * len(source))])


SOLVERS: Mapping[str, Solver] = MappingProxyType(
    {each.__name__: each for each in (samples, continuations, swaps, beam, annealing)}
)
"""By name."""
