# SPDX-License-Identifier: Apache-2.0
"""What language models really say: their logits over a text, position by position."""

from functools import cache

import numpy as np
from numpy.typing import NDArray

import tokendraw as td

TEXT = """In the beginning God created the heaven and the earth. And the earth was without form, and void;
and darkness was upon the face of the deep. And the Spirit of God moved upon the face of the waters. And God
said, Let there be light: and there was light. And God saw the light, that it was good: and God divided the
light from the darkness. And God called the light Day, and the darkness he called Night. And the evening and
the morning were the first day."""


@cache
def _kjv() -> NDArray[np.float32]:
    model = td.models.load("kjv")
    tokens = model.tokenizer.encode(" ".join(TEXT.split()))
    state, logits = model.start([tokens[:1]])
    rows = [logits]
    for token in tokens[1:]:
        state, logits = model.step(state, np.array([token]))
        rows.append(logits)
    return np.concatenate(rows).astype(np.float32)


def kjv_rows(rows: int) -> NDArray[np.float32]:
    """Return the embedded model's logits after the first tokens of a text. Its vocab is 1,024."""
    return np.ascontiguousarray(_kjv()[4 : 4 + rows])


SOURCES = {"kjv": kjv_rows}
