# SPDX-License-Identifier: Apache-2.0
"""A recurrent language model run in plain NumPy, and its file format.

The embedded models of the King James text are of this kind; `train.py` makes others from any text.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tokendraw.models.tokenizer import SEPARATOR, Tokenizer

__all__ = ["FORMAT", "GruModel", "GruState", "GruWeights", "read_model", "write_model"]

FORMAT = "tokendraw-gru-1"
DIRECTIONS = ("forward", "backward")

Floats = npt.NDArray[np.float32]


class GruWeights(NamedTuple):
    """The arrays of the model, named as in the file; matrices have one row per output.

    Gates stand in the order reset, update, candidate (Cho et al. 2014, in the variant of cuDNN and torch,
    where the reset gate acts on the product with the recurrent matrix).
    """

    embedding: Floats
    """[vocab, width], also the output matrix."""
    input: Floats
    """[3 * units, width]"""
    recurrent: Floats
    """[3 * units, units]"""
    projection: Floats
    """[width, units]"""
    input_bias: Floats
    recurrent_bias: Floats
    projection_bias: Floats
    output_bias: Floats

    def check(self) -> None:
        """Raise ValueError unless the shapes fit together."""
        (vocab, width), units = self.embedding.shape, self.recurrent.shape[-1]
        gates = 3 * units
        wanted = GruShapes(
            (vocab, width), (gates, width), (gates, units), (width, units), (gates,), (gates,), (width,), (vocab,)
        )
        for name, array, shape in zip(self._fields, self, wanted, strict=True):
            if array.shape != shape:
                raise ValueError(f"the weights {name!r} must have shape {shape}, got {array.shape}")


class GruShapes(NamedTuple):
    """The shapes of `GruWeights`, field by field."""

    embedding: tuple[int, ...]
    input: tuple[int, ...]
    recurrent: tuple[int, ...]
    projection: tuple[int, ...]
    input_bias: tuple[int, ...]
    recurrent_bias: tuple[int, ...]
    projection_bias: tuple[int, ...]
    output_bias: tuple[int, ...]
