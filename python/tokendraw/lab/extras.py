# SPDX-License-Identifier: Apache-2.0
"""Libraries that only experiments need, imported by those who use them."""

from __future__ import annotations

import importlib
from typing import Any

__all__ = ["extra"]


def extra(module: str, purpose: str) -> Any:
    """Import a module that the extra `lab` brings.

    Parameters
    ----------
    module : str
        Its full name.
    purpose : str
        What needs it, in the plural.

    Returns
    -------
    module

    Raises
    ------
    ImportError
        If it is not installed, with what installs it.

    Examples
    --------
    >>> extra("math", "examples").floor(1.5)
    1
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        library = module.partition(".")[0]
        if error.name != library:
            raise
        raise ImportError(f'{purpose} need {library}: pip install "tokendraw[lab]"', name=library) from None
