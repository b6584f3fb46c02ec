# SPDX-License-Identifier: Apache-2.0
"""A sampler in vectorised NumPy, right and with each fault that a statistic must find.

A sampler is called with one row of logits and with equally long arrays of seeds, streams and steps.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from tokendraw.reference import LANES, TILE, philox4x32_10

Ints = NDArray[np.int64]
Sampler = Callable[[NDArray[np.float32], Any, Any, Any], Ints]
Uniforms = Callable[[Ints, Ints, Ints, int], NDArray[np.float64]]

CHUNK = 1 << 18


def core(row: NDArray[np.float32], seeds: Any, streams: Any, steps: Any) -> Ints:
    """Draw with the package: one row seen as many by a stride of zero."""
    seeds, streams, steps = np.broadcast_arrays(seeds, streams, steps)
    rows = np.broadcast_to(row, (*seeds.shape, row.size))
    return np.asarray(td.sample(rows, seed=seeds, stream=streams, step=steps), dtype=np.int64)


def uniforms(seeds: Ints, streams: Ints, steps: Ints, index: int) -> NDArray[np.float64]:
    """Return the highest 53 bits of each draw's block `index`."""
    words = np.broadcast_arrays(index, streams >> 32, streams & 0xFFFFFFFF, steps)
    keys = np.broadcast_arrays(seeds & 0xFFFFFFFF, seeds >> 32)
    block = philox4x32_10(np.stack(words, axis=-1), np.stack(keys, axis=-1)).astype(np.uint64)
    bits = block[..., 3] << np.uint64(21) | block[..., 2] >> np.uint64(11)
    return bits.astype(np.float64) * 2.0**-53


def nested(source: Uniforms = uniforms) -> Sampler:
    """Return the sampler of the contract: tile, lane, place."""

    def draw(row: NDArray[np.float32], seeds: Any, streams: Any, steps: Any) -> Ints:
        place = np.broadcast_arrays(seeds, streams, steps)
        flat = [np.ravel(values).astype(np.int64) for values in place]
        borders = _borders(row)
        chunks = (
            [values[start : start + CHUNK] for values in flat] for start in range(0, flat[0].size, CHUNK)
        )
        tokens = [_descend(borders, source, *chunk) for chunk in chunks]
        return np.concatenate(tokens).reshape(place[0].shape)

    return draw


def _borders(row: NDArray[np.float32]) -> list[NDArray[np.float64]]:
    weights = np.exp(row.astype(np.float64) - row.max())
    tiles = np.pad(weights, (0, -row.size % TILE)).reshape(-1, TILE // LANES, LANES)
    return [_cumulated(level) for level in (tiles.sum(axis=(1, 2)), tiles.sum(axis=1), tiles.swapaxes(1, 2))]


def _cumulated(weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the borders between children, each parent's from its index to the next integer."""
    borders = np.cumsum(weights, axis=-1)
    total = borders[..., -1:]
    shares = np.divide(borders, total, out=np.ones_like(borders), where=total > 0)
    shares = shares.reshape(-1, shares.shape[-1])
    return (shares + np.arange(len(shares))[:, None]).ravel()


def _descend(borders: list[NDArray[np.float64]], source: Uniforms, *place: Ints) -> Ints:
    tiles, lanes, places = borders
    tile = np.searchsorted(tiles, source(*place, 0), side="right")
    lane = np.searchsorted(lanes, tile + source(*place, 1), side="right")
    slot = np.searchsorted(places, lane + source(*place, 2), side="right")
    token: Ints = tile * TILE + (slot % LANES) * LANES + lane % LANES
    return token


# --- Faults: each takes a right sampler or source of uniforms and spoils it ---------------------------------


def flat(source: Uniforms) -> Sampler:
    """Return a sampler that compares one uniform with the running sum of the whole row."""

    def draw(row: NDArray[np.float32], seeds: Any, streams: Any, steps: Any) -> Ints:
        weights = np.exp(row.astype(np.float64) - row.max())
        borders = np.cumsum(weights) / weights.sum()
        values = source(*np.broadcast_arrays(seeds, streams, steps), 0)
        return np.searchsorted(borders[:-1], values, side="right")

    return draw


def coarse(bits: int) -> Uniforms:
    """Return uniforms of so many bits."""
    return lambda *place: np.floor(uniforms(*place) * 2.0**bits) * 2.0**-bits


def off_by_one(period: int, share: float) -> Sampler:
    """Return a sampler that gives a share of the draws of each period's first token to the token before."""

    def draw(row: NDArray[np.float32], seeds: Any, streams: Any, steps: Any) -> Ints:
        tokens = nested()(row, seeds, streams, steps)
        is_first = (tokens % period == 0) & (tokens > 0)
        return tokens - (is_first & (uniforms(seeds, streams, steps, 9) < share))

    return draw


def without_stream(seeds: Ints, streams: Ints, steps: Ints, index: int) -> NDArray[np.float64]:
    return uniforms(seeds, streams * 0, steps, index)


def stream_plus_step(seeds: Ints, streams: Ints, steps: Ints, index: int) -> NDArray[np.float64]:
    return uniforms(seeds, streams * 0, streams + steps, index)


def stream_in_the_seed(seeds: Ints, streams: Ints, steps: Ints, index: int) -> NDArray[np.float64]:
    return uniforms(seeds + streams, streams * 0, steps, index)


def one_block_for_all_levels(seeds: Ints, streams: Ints, steps: Ints, index: int) -> NDArray[np.float64]:
    return uniforms(seeds, streams, steps, 0)


def copied_from_the_row_above(share: float) -> Uniforms:
    def source(seeds: Ints, streams: Ints, steps: Ints, index: int) -> NDArray[np.float64]:
        copied = uniforms(seeds, streams, steps, 9) < share
        return uniforms(seeds, streams - copied, steps, index)

    return source


def correlated_with_the_row_above(rho: float) -> Uniforms:
    """Return uniforms of a Gaussian copula between neighbouring rows."""
    from scipy.special import ndtr, ndtri

    def source(seeds: Ints, streams: Ints, steps: Ints, index: int) -> NDArray[np.float64]:
        own, above = (ndtri(uniforms(seeds, row, steps, index) + 2.0**-54) for row in (streams, streams - 1))
        return np.minimum(ndtr(np.sqrt(1 - rho**2) * own + rho * above), 1 - 2.0**-53)

    return source
