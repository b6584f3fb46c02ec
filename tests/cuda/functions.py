# SPDX-License-Identifier: Apache-2.0
"""The functions that take logits on a device, each with arguments that a graph may record."""

from collections.abc import Callable
from typing import Any

import tokendraw as td

Results = tuple[Any, ...]

FUNCTIONS: dict[str, Callable[[Any], Results]] = {
    "greedy": lambda logits: (td.greedy(logits),),
    "sample": lambda logits: (td.sample(logits, seed=1),),
    "sample with bias": lambda logits: (td.sample(logits, seed=1, bias={5: 2.0}),),
    "sample with min_p": lambda logits: (td.sample(logits, seed=1, min_p=0.05),),
}
