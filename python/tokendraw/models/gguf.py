# SPDX-License-Identifier: Apache-2.0
"""The GGUF file format: metadata, and tensors widened to float32. It knows no model.

The header is read here, because a reader that keeps an array per string takes seconds for a vocabulary and
says nothing of a file that was cut; what the bits of quantised tensors mean is the package `gguf`'s.
Source: the specification, docs/gguf.md of ggml, versions 2 and 3.
"""

from __future__ import annotations

import importlib
import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import numpy.typing as npt

__all__ = ["GgufFile", "TensorEntry", "optional_library", "read_gguf"]

Floats = npt.NDArray[np.float32]

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_DEFAULT_ALIGNMENT = 32
_MOST_DIMENSIONS = 4

# Formats of the scalar types by their number; 8 is a string, 9 an array.
_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9


def optional_library(name: str) -> Any:
    """Return a library that only models from GGUF files need.

    Raises
    ------
    ImportError
        If it is not installed, with the command that installs it.

    Examples
    --------
    >>> optional_library("gguff")
    Traceback (most recent call last):
      ...
    ImportError: a GGUF model needs the library gguff: pip install "tokendraw[gguf]"
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        message = f'a GGUF model needs the library {error.name}: pip install "tokendraw[gguf]"'
        raise ImportError(message, name=error.name) from error


class TensorEntry(NamedTuple):
    """Where a tensor lies in its file, and how it is written."""

    shape: tuple[int, ...]  # as NumPy counts: the last axis is contiguous
    type: str  # the format's name for it, such as "Q4_1"
    offset: int
    size: int  # in bytes


@dataclass(frozen=True, eq=False)
class GgufFile:
    """What stands in a GGUF file; tensors are read when asked for.

    Attributes
    ----------
    path : Path
        The file.
    metadata : mapping of str to value
        Numbers, strings, and lists of these.
    tensors : mapping of str to TensorEntry
        All tensors by name.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, TensorEntry]

    def tensor(self, name: str) -> Floats:
        """Read one tensor.

        Parameters
        ----------
        name : str
            A name out of `tensors`.

        Returns
        -------
        ndarray, float32
            Its values, in memory of their own.

        Raises
        ------
        ValueError
            If there is no such tensor, or its type cannot be widened.
        """
        if name not in self.tensors:
            raise ValueError(f"a model needs the tensor {name!r}, which {self.path} lacks")
        entry = self.tensors[name]
        library = optional_library("gguf")
        data = np.fromfile(self.path, dtype=np.uint8, count=entry.size, offset=entry.offset)
        if data.size != entry.size:
            raise ValueError(_cut(self.path, entry.offset + data.size))
        try:
            rows = data.reshape(*entry.shape[:-1], -1)
            values = library.dequantize(rows, library.GGMLQuantizationType[entry.type])
        except NotImplementedError as error:
            raise ValueError(
                f"tensors must be F32, F16, BF16 or of a quantised type that the package gguf widens, "
                f"got {entry.type} ({name!r} of {self.path})"
            ) from error
        widened: Floats = values.reshape(entry.shape)
        return widened


def _cut(path: Path, end: int) -> str:
    return f"a GGUF file must be complete, got {path} which ends at byte {end}"


def read_gguf(path: str | os.PathLike[str]) -> GgufFile:
    """Read the header of a GGUF file.

    Parameters
    ----------
    path : path
        The file.

    Returns
    -------
    GgufFile
        Its metadata, and where its tensors are.

    Raises
    ------
    ValueError
        If the file is something else, was cut, or contradicts itself.
    ImportError
        If the package gguf is not installed.
    """
    path = Path(path)
    with path.open("rb") as file:
        header = _Header(file, path)
        if header.take(len(_MAGIC)) != _MAGIC:
            raise ValueError(f"a GGUF file must begin with {_MAGIC!r}, got {path}")
        version = header.scalar("I")
        if version not in _VERSIONS:
            raise ValueError(f"the version of a GGUF file must be one of {_VERSIONS}, got {version} ({path})")
        tensor_count, pair_count = header.scalar("Q"), header.scalar("Q")
        metadata = _named(header, pair_count, _Header.value)
        entries = _named(header, tensor_count, _Header.entry)
        return GgufFile(path, metadata, _placed(entries, metadata, header))


def _named(header: _Header, count: int, read: Any) -> dict[str, Any]:
    """Read as many names, each with what follows it."""
    found: dict[str, Any] = {}
    for _ in range(count):
        name = header.string()
        if name in found:
            raise ValueError(f"names in a GGUF file must differ, got {name!r} twice ({header.path})")
        found[name] = read(header)
    return found


def _placed(
    entries: Mapping[str, TensorEntry], metadata: Mapping[str, Any], header: _Header
) -> dict[str, TensorEntry]:
    """Return entries whose offsets count from the beginning of the file, all of them inside it."""
    alignment = metadata.get("general.alignment", _DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0:
        raise ValueError(f"general.alignment must be a positive integer, got {alignment!r} ({header.path})")
    begin = -(-header.place // alignment) * alignment
    placed = {name: entry._replace(offset=begin + entry.offset) for name, entry in entries.items()}
    for entry in placed.values():
        if entry.offset + entry.size > header.size:
            raise ValueError(_cut(header.path, header.size))
    return placed


class _Header:
    """Reads values one after the other, never beyond the end of the file."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self.path = path
        self.size = os.fstat(file.fileno()).st_size
        self.place = 0
        self._file = file
        library = optional_library("gguf")
        self._block_sizes = {
            int(kind): (kind.name, *sizes) for kind, sizes in library.GGML_QUANT_SIZES.items()
        }

    def take(self, count: int) -> bytes:
        """Return the next bytes."""
        self.place += count
        # A damaged count must not become an allocation.
        if self.place > self.size:
            raise ValueError(_cut(self.path, self.size))
        return self._file.read(count)

    def scalar(self, form: str) -> Any:
        """Return the next number, of a format of `struct`."""
        form = "<" + form
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def string(self) -> str:
        """Return the next string."""
        data = self.take(self.scalar("Q"))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            raise ValueError(
                f"strings in a GGUF file must be UTF-8, got {data[:40]!r} ({self.path})"
            ) from None

    def value(self) -> Any:
        """Return the next value of the metadata, whose type stands before it."""
        kind = self.scalar("I")
        return self._array() if kind == _ARRAY else self._value_of(kind)

    def _value_of(self, kind: int) -> Any:
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.scalar(_SCALARS[kind])
        raise ValueError(f"values in a GGUF file must be numbers, strings or lists of these, got type {kind}")

    def _array(self) -> list[Any]:
        kind, count = self.scalar("I"), self.scalar("Q")
        if kind not in _SCALARS:
            return [self._value_of(kind) for _ in range(count)]
        form = np.dtype(_SCALARS[kind]).newbyteorder("<")
        numbers: list[Any] = np.frombuffer(self.take(count * form.itemsize), dtype=form).tolist()
        return numbers

    def entry(self) -> TensorEntry:
        """Return the next tensor's entry, with its offset as it is written: from where the data begins."""
        dimensions = self.scalar("I")
        if not 1 <= dimensions <= _MOST_DIMENSIONS:
            raise ValueError(
                f"tensors must have 1 to {_MOST_DIMENSIONS} axes, got {dimensions} ({self.path})"
            )
        shape = tuple(self.scalar("Q") for _ in range(dimensions))[::-1]
        if 0 in shape:
            raise ValueError(f"tensors must hold values, got shape {shape} ({self.path})")
        kind, offset = self.scalar("I"), self.scalar("Q")
        if kind not in self._block_sizes:
            raise ValueError(f"the types of tensors must be known to the package gguf, got type {kind}")
        name, block, size = self._block_sizes[kind]
        if shape[-1] % block:
            raise ValueError(f"rows of {name} must be multiples of {block}, got {shape[-1]} ({self.path})")
        return TensorEntry(shape, name, offset, math.prod(shape) // block * size)
