# SPDX-License-Identifier: Apache-2.0
"""Options that several commands have."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

__all__ = ["add_command", "add_model", "positive"]


def add_command(
    commands: Any,
    name: str,
    run: Callable[[argparse.Namespace], object],
    *,
    summary: str,
    description: str,
    **settings: Any,
) -> argparse.ArgumentParser:
    """Add a command.

    Parameters
    ----------
    commands : object
        What `argparse.ArgumentParser.add_subparsers` returns.
    name : str
        The command.
    run : callable
        Does what the parsed options say.
    summary, description : str
        What the list of commands says of it, and what its own help does.
    **settings
        As for `argparse.ArgumentParser`.

    Returns
    -------
    argparse.ArgumentParser
        The command's own, for its options.
    """
    parser: argparse.ArgumentParser = commands.add_parser(
        name, help=summary, description=description, allow_abbrev=False, **settings
    )
    parser.set_defaults(run=run)
    return parser


def add_model(parser: Any) -> None:
    """Add `--model`, a name or a file that `tokendraw.models.load` knows."""
    parser.add_argument(
        "--model",
        default="kjv",
        metavar="NAME",
        help="a model: kjv, kjv-backward, smollm2 or a file (default kjv)",
    )


def positive(text: str) -> int:
    """Read a count; anything else is argparse's error.

    Examples
    --------
    >>> positive("3")
    3
    """
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"must be a whole number >= 1, got {text}")
    return int(text)
