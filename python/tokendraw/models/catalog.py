# SPDX-License-Identifier: Apache-2.0
"""Which models have names, and how one is loaded."""

from __future__ import annotations

import os
from importlib import resources
from pathlib import Path

from tokendraw.models.kjv import GruModel, read_model

__all__ = ["EMBEDDED", "load"]

EMBEDDED = ("kjv", "kjv-backward", "kjv-draft")
"""The models inside the package, all with the same vocabulary."""


def load(name: str | os.PathLike[str]) -> GruModel:
    """Load a language model.

    Parameters
    ----------
    name : str or path
        An embedded model of the King James text, or an .npz file written by
        ``python -m tokendraw.models.train``:

        ``"kjv"``
            predicts the next token.
        ``"kjv-backward"``
            predicts the previous token; see `tokendraw.models.kjv.GruModel` for its order of ids.
        ``"kjv-draft"``
            predicts the next token with half the units, faster and less well.

    Returns
    -------
    GruModel
        A model with the interface of `tokendraw.models.base.CompleteModel`.

    Raises
    ------
    ValueError
        If there is no such model, or the file is none.

    Examples
    --------
    >>> load("kjv").vocab_size
    1024
    """
    if name in EMBEDDED:
        with (resources.files("tokendraw.models") / "weights" / f"{name}.npz").open("rb") as file:
            return read_model(file)
    if not Path(name).is_file():
        known = ", ".join(map(repr, EMBEDDED))
        raise ValueError(f"model must be {known} or the path of an .npz file, got {os.fspath(name)!r}")
    return read_model(name)
