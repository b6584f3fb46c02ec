# SPDX-License-Identifier: Apache-2.0
"""Tokens per call of the target, by draft: the embedded model with its half-size draft, or its own text.

    python -m bench.drafts [--tokens N]

Calls are counted; times are ratios to the same texts without a draft, taken in turn.
"""

import argparse
import statistics
import time
from typing import Any

import tokendraw as td

PROMPTS = (
    "And God said, Let there be",
    "And it came to pass",
    "Blessed are the",
    "The LORD is my",
    "And the sons of",
    "Verily, verily, I say unto",
    "Now these are the names of the children of",
    "In the beginning",
)
SAMPLING: dict[str, dict[str, Any]] = {
    "greedy": {"temperature": 0.0},
    "temperature 0.8, top_p 0.95": {"temperature": 0.8, "top_p": 0.95},
    "temperature 1": {},
}


class Counting:
    """A model whose calls are counted; one call may read several tokens."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def start(self, prompts: Any) -> Any:
        self.calls += 1
        return self._model.start(prompts)

    def step(self, state: Any, tokens: Any) -> Any:
        self.calls += 1
        return self._model.step(state, tokens)

    def extend(self, state: Any, tokens: Any) -> Any:
        self.calls += 1
        return self._model.extend(state, tokens)

    def select(self, state: Any, rows: Any) -> Any:
        return self._model.select(state, rows)


def measure(draft: Any, count: int, tokens: int, sampling: dict[str, Any]) -> tuple[float, float, float]:
    """Return tokens per call, the share of drafts that were accepted, and seconds; each prompt alone."""
    model = Counting(td.models.load("kjv"))
    start = time.perf_counter()
    made = [
        text
        for prompt in PROMPTS
        for text in td.generate(
            model,
            prompt,
            max_new_tokens=tokens,
            seed=1,
            eos_token_id=(),
            draft=draft,
            draft_tokens=count,
            **sampling,
        )
    ]
    seconds = time.perf_counter() - start
    proposed = sum(text.proposed for text in made)
    share = sum(text.accepted for text in made) / proposed if proposed else 0.0
    return sum(len(text.tokens) for text in made) / model.calls, share, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tokens", type=int, default=100, help="of each text (default 100)")
    parser.add_argument("--rounds", type=int, default=3, help="of the times (default 3)")
    options = parser.parse_args()
    drafts = {"kjv-draft": td.models.load("kjv-draft"), "prompt-lookup": "prompt-lookup"}
    print(f"{'sampling':30}{'draft':16}{'drafts':>7}{'tokens/call':>13}{'accepted':>10}{'time':>7}")
    for name, sampling in SAMPLING.items():
        for kind, draft in drafts.items():
            for count in (1, 2, 4, 8):
                ratios = []
                for _ in range(options.rounds):
                    plain = measure(None, 1, options.tokens, sampling)[2]
                    per_call, share, seconds = measure(draft, count, options.tokens, sampling)
                    ratios.append(seconds / plain)
                ratio = statistics.median(ratios)
                print(f"{name:30}{kind:16}{count:>7}{per_call:>13.2f}{share:>10.1%}{ratio:>7.2f}", flush=True)


if __name__ == "__main__":
    main()
