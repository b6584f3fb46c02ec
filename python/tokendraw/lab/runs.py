# SPDX-License-Identifier: Apache-2.0
"""Finished runs of an experiment, kept in a folder so that none is made twice."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokendraw.lab import results

__all__ = ["kept_run"]


def kept_run(
    folder: str | os.PathLike[str] | None,
    experiment: str,
    name: str,
    settings: Mapping[str, Any],
    make: Callable[[], Mapping[str, Any]],
) -> dict[str, Any]:
    """Return what a run found: from its file if it has one, else by making it, which is then kept.

    Parameters
    ----------
    folder : path or None
        Where the files are; None keeps nothing.
    experiment, name : str
        Whose run it is, and which; the file is called after both.
    settings : mapping
        All that the run depends on, as `results.save` takes it.
    make : callable
        Makes the run and returns what it found, as `results.save` takes it.

    Returns
    -------
    dict
        What was found.

    Raises
    ------
    ValueError
        If the file was made with other settings.

    Examples
    --------
    >>> def run():
    ...     print("training")
    ...     return {"loss": 0.5}
    >>> for _ in range(2):
    ...     print(kept_run("runs", "doubling", "seed 1", {"seed": 1}, run)["loss"])
    training
    0.5
    0.5
    """
    if folder is None:
        return dict(make())
    path = Path(folder) / (re.sub(r"[^\w.]+", "-", f"{experiment} {name}") + ".json")
    if not path.exists():
        results.save(path, experiment, {"settings": settings, "found": make()})
    kept = results.load(path, experiment)
    for key, value in results.plain(settings).items():
        if kept["settings"].get(key) != value:
            raise ValueError(
                f"{key} must be {kept['settings'].get(key)} to go on with {path}, got {value}; "
                "choose another folder for other settings"
            )
    return dict(kept["found"])
