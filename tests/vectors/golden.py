# SPDX-License-Identifier: Apache-2.0
"""One hundred thousand draws that no release may change without saying so under "Streams" in the CHANGELOG.

golden.csv says what is drawn: a line per group; a cell lists what a row or a draw chooses among, an empty one
nothing. Logits, masks, biases, choices and seeds come from Philox words by exact arithmetic, so that
golden.cpp makes the same cases without this package, NumPy or libm. golden.npz holds the tokens.

`python -m tests.vectors.golden` draws the groups that have no tokens yet; `--all` draws all of them anew. A
new step is a column of its name and a group that uses it: the cases of the other groups do not change.
"""

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

import tokendraw as td
from tokendraw.reference import philox4x32_10

SPECIFICATION = Path(__file__).with_name("golden.csv")
TOKENS = Path(__file__).with_name("golden.npz")
KEY = (0x746F6B65, 0x6E647277)
DRAWS_PER_ROW = 32
# Draws of each group that slow emulators run; `first_hash` is theirs.
FIRST = 640
# Columns that are no keyword of sample, and those that a row chooses for all of its draws.
ABOUT = ("group", "draws", "hash", "first_hash")
OF_ROWS = ("vocab", "shape", "dtype", "mask", "bias")
DTYPES = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16, "float32": np.float32, "float64": np.float64}

Words = NDArray[np.uint32]


def fnv1a(data: bytes, bits: int) -> int:
    """Return the hash of Fowler, Noll and Vo, 32 or 64 bits."""
    value, prime = {32: (0x811C9DC5, 0x01000193), 64: (0xCBF29CE484222325, 0x100000001B3)}[bits]
    for byte in data:
        value = (value ^ byte) * prime % 2**bits
    return value


@dataclass(frozen=True)
class Group:
    """One line of the specification."""

    name: str
    draws: int
    hash: str
    first_hash: str
    choices: dict[str, tuple[str, ...]]

    def blocks(self, purpose: str, index: Any, row: Any = 0) -> Words:
        """Return blocks of four random words, [..., 4]."""
        tags = fnv1a(purpose.encode(), 32), fnv1a(self.name.encode(), 32)
        return philox4x32_10(np.stack(np.broadcast_arrays(index, *tags, row), axis=-1), KEY)

    def words(self, purpose: str, rows: NDArray[np.int64], count: int) -> Words:
        """Return `count` random words for each of the rows."""
        blocks = self.blocks(purpose, np.arange(-(-count // 4)), rows[:, None])
        return blocks.reshape(len(rows), -1)[:, :count]

    def chosen(self, column: str) -> list[str]:
        """Return what each row, or each draw, takes of a column."""
        among = self.choices[column]
        count = self.draws // DRAWS_PER_ROW if column in OF_ROWS else self.draws
        return [among[word % len(among)] for word in self.blocks(column, np.arange(count))[:, 0].tolist()]


@dataclass(frozen=True)
class Batch:
    """The rows of a group that agree in size, type and kinds of edits: one call of sample."""

    draws: NDArray[np.int64]  # which of the group's draws, [rows, DRAWS_PER_ROW]
    logits: NDArray[Any]  # [rows, DRAWS_PER_ROW, vocab]
    keywords: dict[str, Any]  # one value per draw, but for a sparse bias

    def first(self, count: int) -> "Batch":
        """Return the first draws of the first row."""

        def of_first(value: Any) -> Any:
            if isinstance(value, dict):
                return value
            return value[0, :count] if value.shape == self.draws.shape else value[:count]

        keywords = {name: of_first(value) for name, value in self.keywords.items()}
        return Batch(self.draws[0, :count], self.logits[0, :count], keywords)


def groups() -> list[Group]:
    """Return the lines of the specification."""
    with SPECIFICATION.open(newline="", encoding="ascii") as file:
        lines = list(csv.DictReader(file))
    return [
        Group(
            line["group"],
            int(line["draws"]),
            line["hash"],
            line["first_hash"],
            {name: tuple(cell.split()) for name, cell in line.items() if name not in ABOUT and cell},
        )
        for line in lines
    ]


def logits_of(shape: str, words: Words, alone: Words) -> NDArray[np.float32]:
    """Return logits [rows, vocab] of a shape, each a function of one word. All of it is exact in float32."""
    bell = (words & 0xFFFF).astype(np.int64) + (words >> 16) - 65535
    token = np.arange(words.shape[1])
    if shape == "huge":
        return bell.astype(np.float32) * np.float32(2.0**112)
    if shape == "tiny":
        return bell.astype(np.float32) * np.float32(2.0**-149)
    if shape == "zeros":
        return np.where(words & 1, np.float32(-0.0), np.float32(0.0))
    if shape == "alone":
        return np.where(token == alone[:, None] % words.shape[1], np.float32(1.5), np.float32(-np.inf))
    scores = {
        "flat": (words >> 16) * 2.0**-14,
        "bell": bell * 2.0**-13,
        "peaked": ((words >> 16).astype(np.uint64) ** 2 >> np.uint64(18)) * 2.0**-6,
        "model": bell * 2.0**-14 + np.where(words % 509 == 0, 12.0, 0.0),
        "tied": (words & 3) - 2.0,
        "equal": np.full(words.shape, 0.75),
        "holes": np.where((words % 3 == 0) & (token > 0), -np.inf, bell * 2.0**-13),
        "large": bell * 2.0**10,
    }[shape]
    return scores.astype(np.float32)


def as_dtype(logits: NDArray[np.float32], words: Words, dtype: str) -> NDArray[Any]:
    """Return the logits in another type: cut to a narrow one's bits, or with more for float64 to round."""
    if dtype == "float64":
        more = (words * np.uint32(0x9E3779B1) >> 3).astype(np.uint64)
        pattern = logits.astype(np.float64).view(np.uint64)
        return np.where(np.isinf(logits), pattern, pattern | more).view(np.float64)
    kept = {"float32": 0xFFFFFFFF, "bfloat16": 0xFFFF0000, "float16": 0xFFFFE000}[dtype]
    return (logits.view(np.uint32) & np.uint32(kept)).view(np.float32).astype(DTYPES[dtype])


def mask_of(kind: str, words: Words) -> NDArray[Any]:
    """Return masks [rows, vocab] of booleans, or as packed bits; token 0 is always allowed."""
    allowed = (words & 1).astype(np.bool_)
    allowed[:, 0] = True
    if kind == "bool":
        return allowed
    padded = np.pad(allowed, ((0, 0), (0, -allowed.shape[1] % 32)))
    packed = np.packbits(padded, axis=1, bitorder="little").view("<i4").astype(np.int32)
    return packed[:, : (packed.shape[1] + 1) // 2] if kind == "short" else packed


def bias_of(kind: str, words: Words) -> Any:
    """Return biases [rows, vocab], or for two tokens."""
    vocab = words.shape[1]
    if kind == "sparse":
        return {vocab // 3: 2.5, vocab - 1: -1.25}
    bell = (words & 0xFFFF).astype(np.int64) + (words >> 16) - 65535
    forbidden = (words % 16 == 5) & (np.arange(vocab) > 0)
    return np.where(forbidden, -np.inf, bell * 2.0**-14).astype(np.float32)


def for_each_draw(edit: Any) -> Any:
    """Repeat the edit of a row for its draws; a sparse bias is the whole call's."""
    return edit if isinstance(edit, dict) else np.repeat(edit, DRAWS_PER_ROW, axis=0)


def numbers(cells: list[str]) -> NDArray[Any]:
    """Return a column as integers where all of it is."""
    whole = all(cell.isdecimal() for cell in cells)
    return np.array([int(cell) if whole else float(cell) for cell in cells])


def places(group: Group) -> dict[str, NDArray[np.uint64]]:
    """Return the seed, stream and step of every draw."""
    words = group.blocks("seed", np.arange(group.draws)).astype(np.uint64)
    return {
        "seed": words[:, 0] | words[:, 1] << np.uint64(32),
        "stream": words[:, 2] | (words[:, 3] & np.uint64(0xFFFFFF)) << np.uint64(32),
        "step": group.blocks("step", np.arange(group.draws)).astype(np.uint64)[:, 0],
    }


def batches(group: Group) -> Iterator[Batch]:
    """Yield all draws of a group in as few calls as its rows allow."""
    columns = {name: numbers(group.chosen(name)) for name in group.choices if name not in OF_ROWS}
    columns |= places(group)
    shapes = np.array(group.chosen("shape"))
    alike = [name for name in OF_ROWS if name in group.choices and name != "shape"]
    kinds = np.array([group.chosen(name) for name in alike])
    for kind in np.unique(kinds, axis=1).T:
        rows = np.flatnonzero((kinds == kind[:, None]).all(axis=0))
        draws = rows[:, None] * DRAWS_PER_ROW + np.arange(DRAWS_PER_ROW)
        logits, edits = make_rows(group, rows, shapes[rows], dict(zip(alike, kind.tolist(), strict=True)))
        keywords = {name: column[draws] for name, column in columns.items()} | edits
        yield Batch(draws, np.broadcast_to(logits[:, None], (*draws.shape, logits.shape[1])), keywords)


def make_rows(
    group: Group, rows: NDArray[np.int64], shapes: NDArray[np.str_], kind: dict[str, str]
) -> tuple[NDArray[Any], dict[str, Any]]:
    """Return logits [rows, vocab] of these shapes, and the mask and bias of their draws."""
    vocab = int(kind["vocab"])
    words = group.words("logits", rows, vocab)
    alone = group.blocks("alone", rows)[:, 0]
    logits = np.empty(words.shape, dtype=np.float32)
    for shape in np.unique(shapes):
        logits[shapes == shape] = logits_of(shape, words[shapes == shape], alone[shapes == shape])
    edits = {}
    for edit, of in (("mask", mask_of), ("bias", bias_of)):
        if kind.get(edit, "none") != "none":
            edits[edit] = for_each_draw(of(kind[edit], group.words(edit, rows, vocab)))
    return as_dtype(logits, words, kind.get("dtype", "float32")), edits


@cache
def cases() -> dict[str, list[Batch]]:
    """Return the draws of every group, made once."""
    return {group.name: list(batches(group)) for group in groups()}


def tokens_of(group: Group) -> NDArray[np.int32]:
    """Return what the package draws, in the order of the group's draws."""
    tokens = np.full(group.draws, -1, dtype=np.int32)
    for batch in cases()[group.name]:
        tokens[batch.draws] = td.sample(batch.logits, **batch.keywords)
    return tokens


def hash_of(tokens: NDArray[np.int32]) -> str:
    """Return the 64-bit FNV-1a of tokens as little-endian words of 32 bits."""
    return f"{fnv1a(tokens.astype('<i4').tobytes(), 64):016x}"


def load() -> dict[str, NDArray[np.int32]]:
    """Return the tokens that are kept."""
    if not TOKENS.exists():
        return {}
    with np.load(TOKENS) as kept:
        return {name: kept[name].astype(np.int32) for name in kept.files}


def main() -> None:
    """Write the tokens that the installed package draws."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--all", action="store_true", help="also those that are kept: a change of the stream")
    kept = {} if parser.parse_args().all else load()
    tokens = {group.name: kept[group.name] if group.name in kept else tokens_of(group) for group in groups()}
    np.savez_compressed(
        TOKENS, allow_pickle=False, **{name: values.astype(np.uint16) for name, values in tokens.items()}
    )
    with SPECIFICATION.open(newline="", encoding="ascii") as file:
        lines = list(csv.DictReader(file))
    with SPECIFICATION.open("w", newline="", encoding="ascii") as file:
        writer = csv.DictWriter(file, lines[0], lineterminator="\n")
        writer.writeheader()
        for line in lines:
            of_group = tokens[line["group"]]
            writer.writerow({**line, "hash": hash_of(of_group), "first_hash": hash_of(of_group[:FIRST])})


if __name__ == "__main__":
    main()
