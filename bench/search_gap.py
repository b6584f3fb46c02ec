# SPDX-License-Identifier: Apache-2.0
"""How often beams miss the most probable completion: against the proved optimum, on the embedded model.

python -m bench.search_gap
"""

from collections.abc import Iterator, Sequence

import numpy as np

import tokendraw as td
from tokendraw.models.base import Model

PROMPTS, PROMPT_TOKENS, NEW_TOKENS = 100, 12, 8
WIDTHS = (1, 2, 4, 8, 16)

HEAD = """| beams | misses the best | mean gap, nats | largest gap | rows read per prompt |
|---|---:|---:|---:|---:|"""


def some_prompts(model: Model, count: int) -> list[list[int]]:
    """Write the beginnings: as many samples of the model, of one seed."""
    drawn = td.generate(model, [[]], n=count, max_new_tokens=PROMPT_TOKENS, seed=1, eos_token_id=())
    return [found.tokens for found in drawn]


def gaps(
    model: Model, prompts: Sequence[Sequence[int]], width: int, best: Sequence[td.Hypothesis]
) -> np.ndarray:
    """Return by how much the beams miss, in nats, per prompt."""
    found = td.beam_search(model, prompts, num_beams=width, max_new_tokens=NEW_TOKENS, length_penalty=0.0)
    return np.array([one.logprob - beam.logprob for one, [beam] in zip(best, found, strict=True)])


def lines() -> Iterator[str]:
    """Write the table."""
    yield HEAD
    model = td.models.load("kjv")
    prompts = some_prompts(model, PROMPTS)
    proved = [td.best_first_search(model, prompt, max_new_tokens=NEW_TOKENS) for prompt in prompts]
    assert all(search.proved for search in proved)
    for width in WIDTHS:
        missed = gaps(model, prompts, width, [search[0] for search in proved])
        share = f"{np.mean(missed > 1e-9):.0%}"
        read = 1 + width * (NEW_TOKENS - 1)
        yield f"| {width} | {share} | {missed.mean():.3f} | {missed.max():.2f} | {read} |"
    rows = np.median([search.expansions for search in proved])
    yield f"| proved | 0% | 0 | 0 | {rows:.0f} (median) |"


if __name__ == "__main__":
    for line in lines():
        print(line, flush=True)
