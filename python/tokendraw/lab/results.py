# SPDX-License-Identifier: Apache-2.0
"""What an experiment found, kept as JSON beside the settings, the seeds and the versions that made it."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tokendraw

__all__ = ["load", "plain", "save", "versions"]

_LIBRARIES = ("numpy", "torch")


def save(path: str | os.PathLike[str], experiment: str, found: Mapping[str, Any]) -> None:
    """Write what an experiment found; a file is there whole or not at all.

    Parameters
    ----------
    path : path
        The file; missing folders are made, a file that exists is replaced.
    experiment : str
        Its name, which `load` asks for.
    found : mapping
        Settings, seeds and figures: numbers, strings, NumPy's arrays and numbers, and lists, mappings,
        dataclasses and named tuples of these. What is not a number, such as a bound that does not exist,
        becomes null.

    Examples
    --------
    >>> save("found.json", "doubling", {"seeds": [1, 2], "loss": 0.5})
    >>> load("found.json", "doubling")["loss"]
    0.5
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    told = plain({"experiment": experiment, "versions": versions(), **found})
    unfinished = path.with_name(path.name + ".part")
    unfinished.write_text(json.dumps(told, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    unfinished.replace(path)


def load(path: str | os.PathLike[str], experiment: str) -> dict[str, Any]:
    """Read what `save` wrote.

    Parameters
    ----------
    path : path
        The file.
    experiment : str
        Whose results are expected.

    Returns
    -------
    dict

    Raises
    ------
    ValueError
        If the file holds something else.
    """
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} must hold results as JSON: {error}") from None
    if not isinstance(found, dict) or found.get("experiment") != experiment:
        raise ValueError(f"{path} must hold results of {experiment}")
    return found


def versions() -> dict[str, str]:
    """Return the versions of what a result may depend on, of what is loaded."""
    found = {"tokendraw": tokendraw.__version__, "python": platform.python_version()}
    for name in _LIBRARIES:
        module = sys.modules.get(name)
        if module is not None:
            found[name] = str(module.__version__)
    found["isa"] = str(tokendraw.build_info()["isa"])
    return found


def plain(value: Any) -> Any:
    """Return a value as JSON has it.

    Parameters
    ----------
    value : object
        What `save` takes.

    Returns
    -------
    object
        Records as mappings, arrays and tuples as lists, and None for what is not a number.

    Examples
    --------
    >>> plain({"seeds": np.arange(2), "loss": np.nan})
    {'seeds': [0, 1], 'loss': None}
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    elif hasattr(value, "_asdict"):
        value = value._asdict()
    if isinstance(value, Mapping):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if not isinstance(value, str | int | float | None):
        raise TypeError(f"results must be numbers, strings, lists or records, got {type(value).__name__}")
    return None if isinstance(value, float) and math.isnan(value) else value
