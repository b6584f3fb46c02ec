# SPDX-License-Identifier: Apache-2.0
"""What searching is worth: errors in pronouncing English words, by the way of searching.

python -m bench.g2p
"""

from collections.abc import Iterator

from tests.search import g2p

WORDS = 2000

HEAD = """| search | phoneme errors | without stress | word errors | logprob | misses the best | words/s |
|---|---:|---:|---:|---:|---:|---:|"""


def lines() -> Iterator[str]:
    """Write the table."""
    yield HEAD
    words = g2p.some_words(WORDS)
    found = g2p.searches(words)
    for name, one in found.items():
        rates = " | ".join(f"{100 * rate:.2f} %" for rate in g2p.errors(one.tokens))
        misses = f"{100 * one.misses(found['exact']):.2f} %"
        yield f"| {name} | {rates} | {one.logprobs.mean():.4f} | {misses} | {WORDS / one.seconds:.0f} |"


if __name__ == "__main__":
    if not g2p.is_installed():
        raise SystemExit(f"needs `{g2p.INSTALL}`")
    for line in lines():
        print(line, flush=True)
