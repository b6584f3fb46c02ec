# SPDX-License-Identifier: Apache-2.0
"""The experiments' commands. Each module adds its own: `add_commands(commands)`."""

from __future__ import annotations

from collections.abc import Iterable
from types import ModuleType
from typing import Any

from tokendraw.lab import arrow, game_command, knowledge_command, linear, primes

__all__ = ["add_commands"]

EXPERIMENTS: Iterable[ModuleType] = (game_command, knowledge_command, arrow, primes, linear)
"""In the order in which the help lists them."""


def add_commands(commands: Any) -> None:
    """Add a command, or several, for every experiment.

    Parameters
    ----------
    commands : object
        What `argparse.ArgumentParser.add_subparsers` returns. Every command sets `run`, a function of the
        parsed options.
    """
    for experiment in EXPERIMENTS:
        experiment.add_commands(commands)
