# SPDX-License-Identifier: Apache-2.0
"""The pictures' common style: text as text, the same data the same file."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokendraw.lab.extras import extra

__all__ = ["COLORS", "new_figure", "save_picture"]

COLORS = ("#D55E00", "#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#777777")
"""Colours that stay apart for the colour-blind (Okabe and Ito 2008), in the order of use."""

_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tokendraw",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
}


@contextmanager
def new_figure(
    rows: int = 1, columns: int = 1, size: tuple[float, float] = (6.5, 4.2), **settings: Any
) -> Iterator[tuple[Any, Any]]:
    """Make a figure in the common style, for as long as the block lasts.

    Parameters
    ----------
    rows, columns : int
        Of axes.
    size : tuple of float
        Width and height in inches.
    **settings
        As for `matplotlib.pyplot.subplots`.

    Yields
    ------
    figure, axes
        As matplotlib has them; saved by `save_picture` within the block.
    """
    matplotlib = extra("matplotlib", "pictures")
    figures = extra("matplotlib.figure", "pictures")
    # A Figure without pyplot: no window, no global list, no backend to choose.
    with matplotlib.rc_context({**_STYLE, "axes.prop_cycle": matplotlib.cycler(color=COLORS)}):
        figure = figures.Figure(figsize=size, layout="constrained")
        yield figure, figure.subplots(rows, columns, **settings)


def save_picture(figure: Any, path: str | os.PathLike[str]) -> None:
    """Write a figure as SVG with the licence in its second line, or as what the file's name ends in.

    Parameters
    ----------
    figure : matplotlib figure
        From `new_figure`, within its block.
    path : path
        The file; missing folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() != ".svg":
        figure.savefig(path)
        return
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg", metadata={"Date": None})
    head, *rest = (line.rstrip() for line in drawn.getvalue().splitlines())
    licence = "<!-- SPDX-License-Identifier: Apache-2.0 -->"
    path.write_text("\n".join([head, licence, *rest]) + "\n", encoding="utf-8")
