# SPDX-License-Identifier: Apache-2.0
"""Whether a GPU says what the CPU says: tokens to the bit, log-probabilities as near as the contract asks."""

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from bench.accuracy import log_softmax
from bench.device import Case, Extent, LeftOutError
from bench.device.arrays import Library
from bench.device.jobs import logits_of
from tokendraw.budgets import ROWS

SEED = 0x9E3779B97F4A7C15
MOST_ROWS = 64
"""The CPU has to read them as well."""

SOME_DRAWS = 6

REQUESTS: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature": {"temperature": 0.8},
    "hot": {"temperature": 1.7},
    "min_p": {"min_p": 0.05, "temperature": 1.3},
    "top_k": {"top_k": 50},
    "long list": {"top_k": 1000, "top_p": 0.9},
    "longer than a list": {"top_k": 3000},
    "top_p": {"top_p": 0.95},
    "small top_p": {"top_p": 0.2, "temperature": 2.0},
    "all": {"temperature": 0.8, "top_k": 50, "top_p": 0.95, "min_p": 0.02},
}

Values = dict[str, NDArray[Any]]


def per_row(rows: int) -> Values:
    """Return parameters of which each row has its own."""
    random = np.random.default_rng(rows)
    return {
        "temperature": random.choice([0.0, 0.5, 1.0, 1.7], rows),
        "top_k": random.choice([0, 1, 5, 40, 3000], rows),
        "top_p": random.choice([0.3, 0.9, 1.0], rows),
        "min_p": random.choice([0.0, 0.05, 1.0], rows),
        "seed": random.integers(0, 2**63, rows),
        "stream": random.integers(0, 2**56, rows),
        "step": random.integers(0, 2**32, rows),
    }


def edited(rows: int, vocab: int) -> Values:
    """Return packed masks and biases."""
    random = np.random.default_rng(vocab)
    words = random.integers(-(2**31), 2**31, (rows, -(-vocab // 32)), dtype=np.int32)
    words[:, -1] &= 2 ** (vocab % 32 or 31) - 1  # nothing is allowed past the vocab
    return {"mask": words, "bias": random.normal(0, 2, vocab).astype(np.float32)}


class Tally:
    """How many values were compared, how many differed, and where the first one did."""

    def __init__(self) -> None:
        self.compared = 0
        self.different = 0
        self.first = ""
        self.largest_share = 0.0

    def tokens(self, what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Compare to the bit."""
        differ = np.asarray(found != expected).ravel()
        self._count(what, differ, found, expected)

    def reals(self, what: str, found: NDArray[Any], expected: NDArray[Any]) -> None:
        """Compare with float64 values: an error may be 1e-6 + 2^-22 of the value."""
        with np.errstate(invalid="ignore"):
            share = np.abs(found - expected) / (1e-6 + 2.0**-22 * np.abs(expected))
        share = np.where(found == expected, 0.0, share)  # infinities
        self.largest_share = max(self.largest_share, float(np.max(share, initial=0.0)))
        self._count(what, ~(share <= 1).ravel(), found, expected)

    def _count(
        self, what: str, differ: NDArray[np.bool_], found: NDArray[Any], expected: NDArray[Any]
    ) -> None:
        assert np.shape(found) == np.shape(expected), f"{what}: {np.shape(found)}, not {np.shape(expected)}"
        self.compared += differ.size
        self.different += int(differ.sum())
        if differ.any() and not self.first:
            place = int(differ.argmax())
            values = np.asarray(found).ravel()[place], np.asarray(expected).ravel()[place]
            self.first = f"{what}, value {place}: {values[0]}, and {values[1]} on the CPU"

    def told(self) -> dict[str, Any]:
        return {
            "compared": self.compared,
            "different": self.different,
            "first": self.first,
            "share": self.largest_share,
        }


def cases(extent: Extent, library: Library) -> Iterator[Case]:
    """Yield kept draws first, then random rows of every size, dtype and kind."""
    yield Case("golden draws", partial(golden_draws, library, extent.every))
    yield Case("draws of one row each", partial(single_draws, library, extent.every))
    rows = tuple(count for count in extent.rows if count <= MOST_ROWS)
    shape = max(rows), extent.vocabs[0]
    yield Case(f"replays of a graph, rows of {shape[1]}", partial(replays, library, shape))
    for vocab in extent.vocabs:
        for kind in extent.kinds:
            for dtype in library.dtypes:
                if dtype in extent.dtypes:
                    run = partial(random_rows, library, kind, (rows, vocab), dtype)
                    yield Case(f"{kind} rows of {vocab}, {dtype}", run)


def random_rows(
    library: Library, kind: str, shape: tuple[tuple[int, ...], int], dtype: str
) -> dict[str, Any]:
    """Compare every request on batches of several sizes, then what is said about rows and draws."""
    counts, vocab = shape
    logits = logits_of(kind, (max(counts), vocab))
    tokens, reals = Tally(), Tally()
    for rows in counts:
        array = library.put(logits[:rows], dtype)
        _compare_requests(library, array, rows, vocab, tokens)
    array = library.put(logits[: min(counts)], dtype)
    _compare_described(library, array, tokens, reals)
    return {"tokens": tokens.told(), "reals": reals.told()}


def _compare_requests(library: Library, array: Any, rows: int, vocab: int, tokens: Tally) -> None:
    host = library.host(array)
    for name, request in REQUESTS.items():
        found = td.sample(array, seed=SEED, step=rows, **request)
        expected = td.sample(host, seed=SEED, step=rows, **request)
        tokens.tokens(f"{name} of {rows}", library.get(found), library.get(expected))
    several = {
        "per row": per_row(rows),
        "mask and bias": {**edited(rows, vocab), "seed": per_row(rows)["seed"]},
    }
    for name, values in several.items():
        found = td.sample(array, **{key: library.put(value) for key, value in values.items()})
        expected = td.sample(host, **values)
        tokens.tokens(f"{name} of {rows}", library.get(found), library.get(expected))


def _compare_described(library: Library, array: Any, tokens: Tally, reals: Tally) -> None:
    """Integers are the CPU's; log-probabilities are held to float64 values of the same logits."""
    host = library.host(array)
    arguments = {"seed": SEED, "logprobs": 5, "temperature": 1.0}
    found, expected = td.draw(array, **arguments), td.draw(host, **arguments)
    for name in ("tokens", "ranks", "kept", "valid", "top_tokens"):
        tokens.tokens(
            f"draw().{name}", library.get(getattr(found, name)), library.get(getattr(expected, name))
        )
    for of_device, of_host in zip(td.top_k(array, 50), td.top_k(host, 50), strict=True):
        tokens.tokens("top_k", library.get(of_device), library.get(of_host))
    exact = log_softmax(_float64(library, host))
    reals.reals("log_softmax", library.get(td.log_softmax(array)), exact)
    chosen = library.get(expected.tokens).astype(np.int64)
    of_chosen = np.take_along_axis(exact, chosen[:, None], axis=1)[:, 0]
    reals.reals("draw().logprobs", library.get(found.logprobs), of_chosen)
    reals.reals("token_logprobs", library.get(td.token_logprobs(array, library.put(chosen))), of_chosen)
    probs = library.get(td.softmax(array)).astype(np.float64)
    assert np.abs(probs.sum(axis=-1) - 1).max() <= 1e-6, "probabilities do not sum to 1 within 1e-6"


def _float64(library: Library, host: Any) -> NDArray[np.float64]:
    """Return logits in float64, whatever their type."""
    wide = host.float() if hasattr(host, "float") else host.astype(np.float32)
    return library.get(wide).astype(np.float64)


def replays(library: Library, shape: tuple[int, int]) -> dict[str, Any]:
    """Compare what a graph draws when everything on the device has changed since it was captured."""
    rows = shape[0]
    logits = library.put(logits_of("peaked", shape))
    td.cuda.warmup(logits)
    arrays = {name: library.put(value) for name, value in per_row(rows).items()}
    td.sample(logits, **arrays)
    replay, found = library.graph(lambda: td.sample(logits, **arrays))
    tokens = Tally()
    for number, kind in enumerate(ROWS):
        changed = {name: np.roll(value, number) for name, value in per_row(rows).items()}
        changed["step"] = changed["step"] // 2 + number
        values = logits_of(kind, shape)
        for array, of_host in ((logits, values), *((arrays[name], changed[name]) for name in arrays)):
            library.copy(array, library.put(of_host))
            library.wait()
        replay()
        expected = td.sample(values, **changed)
        tokens.tokens(f"replay {number}", library.get(found), expected)
    return {"tokens": tokens.told()}


# ---- draws that no release may change ----


def _vectors(name: str) -> Any:
    try:
        return importlib.import_module(f"tests.vectors.{name}")
    except ImportError as error:
        raise LeftOutError(f"the kept draws need {error.name}, which is not installed") from error


def golden_draws(library: Library, every: int) -> dict[str, Any]:
    """Compare the golden draws whose parameters a device knows."""
    golden = _vectors("golden")
    supported = {"temperature", "top_k", "top_p", "min_p", *golden.OF_ROWS}
    kept, tokens = golden.load(), Tally()
    for group in golden.groups():
        if not set(group.choices) <= supported:
            continue
        for batch in islice(golden.batches(group), 0, None, every):
            some = batch if every == 1 else batch.first(SOME_DRAWS)
            found = _drawn(library, some.logits, some.keywords)
            if found is not None:
                tokens.tokens(f"group {group.name}", found, kept[group.name][some.draws])
    return {"tokens": tokens.told()}


def _drawn(library: Library, logits: NDArray[Any], keywords: Values) -> NDArray[Any] | None:
    """Draw on the device; None where its library has no such dtype."""
    if logits.dtype.name not in (*library.dtypes, "float64"):
        return None
    return library.get(td.sample(library.put(logits), **keywords))


def single_draws(library: Library, every: int) -> dict[str, Any]:
    """Compare the draws of the file, a call for those of one vocab."""
    draws = _vectors("draws")
    names = ("temperature", "top_k", "top_p", "min_p", "seed", "stream", "step")
    lines: dict[int, list[Any]] = {}
    for draw in draws.load()[::every]:
        lines.setdefault(draw["vocab"], []).append(draw)
    tokens = Tally()
    for vocab, of_vocab in lines.items():
        logits = np.stack([draws.logits_of(draw) for draw in of_vocab])
        values = {name: np.array([draw[name] for draw in of_vocab], _type_of(name)) for name in names}
        found = library.get(td.sample(library.put(logits), **values))
        tokens.tokens(f"vocab {vocab}", found, np.array([draw["token"] for draw in of_vocab]))
    return {"tokens": tokens.told()}


def _type_of(name: str) -> Callable[[Any], Any] | None:
    return np.uint64 if name == "seed" else None
