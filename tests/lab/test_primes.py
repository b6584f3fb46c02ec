# SPDX-License-Identifier: Apache-2.0
"""Sentences of primes, their exact entropies, and what is learned of them."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tokendraw.cli import main
from tokendraw.lab import primes as module
from tokendraw.lab import results
from tokendraw.lab.primes import (
    Entropies,
    Language,
    Run,
    Settings,
    conditional_entropies,
    excess_gap,
    primes,
    summarize,
    table,
    train_both,
)

SMALL = Language((1, 2), base=10)


@pytest.mark.parametrize(("digits", "base"), [(1, 2), (1, 10), (2, 10), (3, 10), (4, 3), (2, 36)])
def test_primes_are_all_that_have_the_digits(digits, base):
    numbers = range(base ** (digits - 1), base**digits)
    wanted = [n for n in numbers if n > 1 and all(n % divisor for divisor in range(2, math.isqrt(n) + 1))]
    assert primes(digits, base).tolist() == wanted


def number(digits: np.ndarray, language: Language) -> int:
    ordered = digits if language.least_first else digits[::-1]
    return sum(int(digit) * language.base**place for place, digit in enumerate(ordered))


@pytest.mark.parametrize("direction", ["forward", "backward"])
@pytest.mark.parametrize(
    "language", [SMALL, Language((2, 2), base=6), Language((2, 3), base=10, least_first=False)]
)
def test_a_sentence_can_be_read_and_is_true(language, direction):
    pairs = language.pairs()
    sentences = language.sentences(pairs, direction)
    parts = language.parts(direction)
    assert sentences.shape == (len(pairs), 1 + len(parts))
    assert sentences.max() < language.vocab_size
    assert set(sentences[:, 0].tolist()) == {language.base + 2}
    places = {part: [1 + place for place, each in enumerate(parts) if each == part] for part in parts}
    assert set(sentences[:, places["x"]].ravel().tolist()) == {language.base}
    assert set(sentences[:, places["="]].ravel().tolist()) == {language.base + 1}
    for (first, second), sentence in zip(pairs.tolist(), sentences, strict=True):
        found = {part: number(sentence[places[part]], language) for part in ("p1", "p2", "n")}
        assert found == {"p1": first, "p2": second, "n": first * second}
    assert len(np.unique(sentences, axis=0)) == len(pairs)


def test_pairs_are_in_order_and_each_is_there_once():
    pairs = Language((2, 2), base=6).pairs().tolist()
    small = primes(2, 6).tolist()
    assert sorted(pairs) == [list(pair) for pair in itertools.combinations_with_replacement(small, 2)]


def test_nothing_held_out_is_learned():
    language = Language((2, 3), base=10)
    learned, held_out = (set(map(tuple, pairs.tolist())) for pairs in language.split(seed=1))
    assert not learned & held_out
    assert len(held_out) == 300
    assert learned | held_out == set(map(tuple, language.pairs().tolist()))
    assert held_out != set(map(tuple, language.split(seed=2)[1].tolist()))
    assert held_out == set(map(tuple, language.split(seed=1)[1].tolist()))


def entropy(counts: Counter) -> float:
    total = sum(counts.values())
    return -sum(count / total * math.log2(count / total) for count in counts.values())


def brute_force(sentences: list[tuple[int, ...]]) -> list[float]:
    """Return H(symbol | those before it) from the distribution after every prefix."""
    found = []
    for place in range(len(sentences[0])):
        after: dict[tuple[int, ...], Counter] = {}
        for sentence in sentences:
            after.setdefault(sentence[:place], Counter())[sentence[place]] += 1
        found.append(sum(counts.total() / len(sentences) * entropy(counts) for counts in after.values()))
    return found


@given(st.lists(st.tuples(*[st.integers(0, 3)] * 4), min_size=1, max_size=40))
def test_conditional_entropies_are_those_of_brute_force(sentences):
    found = conditional_entropies(sentences)
    assert found == pytest.approx(brute_force(sentences), abs=1e-9)
    assert found.sum() == pytest.approx(entropy(Counter(sentences)), abs=1e-9)


@pytest.mark.parametrize("language", [SMALL, Language((2, 3)), Language((2, 2), base=10, least_first=False)])
def test_both_directions_have_the_entropy_of_the_pairs(language):
    """The chain rule: the order of the symbols changes where the entropy is, not how much there is."""
    for direction in ("forward", "backward"):
        exact, blind = Entropies.of(language, direction)
        assert exact.sum() == pytest.approx(math.log2(len(language.pairs())))
        assert (exact <= blind + 1e-9).all()
        after = language.parts(direction).index("=") + 1
        # What stands before the equals sign tells all that follows.
        assert exact[after:] == pytest.approx(np.zeros(len(exact) - after))
        assert blind[after:].sum() == pytest.approx(exact.sum())


def test_a_digit_of_the_product_that_the_factors_tell():
    """By hand: 2x, 3x, 5x and 7x over the 21 primes of two digits; half the sentences of p1 = 2 are even."""
    exact, blind = Entropies.of(SMALL, "backward")
    first = Counter(int(p * q) % 10 for p in (2, 3, 5, 7) for q in primes(2))
    assert blind[0] == exact[0] == pytest.approx(entropy(first))


def invented(seed: int, direction: str, excess: float) -> Run:
    exact = Entropies.of(SMALL, direction).exact
    losses = (exact + excess / len(exact)).tolist()
    return Run(direction, seed, losses, losses, [(0, [4.0] * len(exact)), (10, losses)], 1.0)


RUNS = [
    invented(seed, direction, excess)
    for seed, excesses in enumerate([(1.0, 4.0), (2.0, 4.5)])
    for direction, excess in zip(("forward", "backward"), excesses, strict=True)
]


def test_the_excess_is_over_the_entropy():
    forward, backward = summarize(SMALL, RUNS)
    assert forward.excess.value == pytest.approx(1.5)
    assert backward.excess.value == pytest.approx(4.25)
    assert excess_gap(RUNS).value == pytest.approx(2.75)
    entropy = math.log2(len(SMALL.pairs()))
    # Of 8 places, 3 digits of the product follow the equals sign: they have 3/8 of the excess.
    assert forward.found.value == pytest.approx(entropy - 1.5 * 3 / 8)
    assert sum(forward.of_part(part)[0] for part in ("p1", "p2", "n")) == pytest.approx(entropy)


def test_the_table_tells_each_part():
    lines = table(SMALL, RUNS).splitlines()
    assert [line.split()[:2] for line in lines[1:4]] == [["forward", part] for part in ("p1", "p2", "n")]
    assert lines[4].startswith("forward: 1.50 [-4.85, 7.85] bits above the entropy of 6.39; found 5.83 [")
    assert lines[-1].startswith("backward costs 2.75 [")


def test_the_picture_shows_both_directions(tmp_path):
    pytest.importorskip("matplotlib", reason="matplotlib is not installed")
    module.draw_picture(SMALL, RUNS, tmp_path / "found.svg")
    drawn = (tmp_path / "found.svg").read_text(encoding="utf-8")
    for word in ("forward", "backward", "exact entropy", "loss, held out", "p1", "n"):
        assert f">{word}<" in drawn


@pytest.mark.parametrize("architecture", ["places", "gru", "transformer"])
def test_a_network_learns_to_copy_what_the_grammar_tells(architecture):
    """In a moment: where `x` and `=` stand, and no more than a digit needs elsewhere."""
    pytest.importorskip("torch", reason="torch is not installed")
    settings = Settings(architecture=architecture, units=32, rows=64, steps=80, every=40, learning_rate=1e-2)
    run = module.train_direction(SMALL, "forward", 0, settings)
    assert [step for step, _ in run.curve] == [0, 40, 80]
    parts = SMALL.parts("forward")
    assert max(loss for loss, part in zip(run.losses, parts, strict=True) if part in "x=") < 0.5
    assert sum(run.losses) < 0.75 * sum(run.curve[0][1])
    assert sum(run.losses) > math.log2(len(SMALL.pairs())) - 1


@pytest.mark.slow
def test_multiplication_is_learned():
    """Most of the held-out products becomes predictable from their factors."""
    pytest.importorskip("torch", reason="torch is not installed")
    run = module.train_direction(Language(), "forward", 0, Settings(steps=400, every=400))
    [summary, _] = summarize(Language(), [run, run._replace(direction="backward")])
    exact, blind, loss = summary.of_part("n")
    assert exact == pytest.approx(0)
    assert loss < 0.4 * blind


def test_the_command_goes_on_where_it_was_stopped(tmp_path, capsys, monkeypatch):
    pytest.importorskip("torch", reason="torch is not installed")
    folder = tmp_path / "out"
    arguments = ["primes", "--digits", "1", "2", "--base", "10", "--steps", "5", "--seeds", "2"]
    arguments += ["--output", str(folder)]
    train, trained = module.train_direction, []

    def stopped_at_the_third(*each):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(each[1:3])
        return train(*each)

    monkeypatch.setattr(module, "train_direction", stopped_at_the_third)
    assert main(arguments) == 130
    monkeypatch.setattr(module, "train_direction", lambda *each: trained.append(each[1:3]) or train(*each))
    assert main(arguments) == 0
    assert trained == [("forward", 0), ("backward", 0), ("forward", 1), ("backward", 1)]
    found = results.load(folder / "primes.json", "primes")
    assert (folder / "primes.svg").is_file()
    assert found["seeds"] == [0, 1]
    assert [len(summary["losses"]) for summary in found["summaries"]] == [8, 8]
    assert "backward costs " in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"steps must be 5 to go on with .*, got 6; choose another folder"):
        train_both(SMALL, [0], Settings(steps=6), folder=folder)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Language(base=1), r"base must be in \[2, 36\], got 1"),
        (lambda: Language((3, 2)), r"digits of p1 must be at least 1 and at most those of p2, got \(3, 2\)"),
        (lambda: Language((0, 2)), r"digits of p1 must be at least 1 and at most those of p2, got \(0, 2\)"),
        (
            lambda: Language((1, 9), base=10).pairs(),
            "digits must keep primes below 50000000, got 9 in base 10",
        ),
        (
            lambda: Language((4, 5), base=10).pairs(),
            "digits must give at most 2000000 pairs, got 1061 times 8363",
        ),
        (lambda: Language((1, 1), base=3).split(0), "digits must give 10 pairs of primes or more, got 1"),
        (lambda: Settings(steps=0), "steps must be positive, got 0"),
    ],
)
def test_bad_input(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_bad_option_takes_one_line(capsys):
    assert main(["primes", "--digits", "3", "2"]) == 2
    error = capsys.readouterr().err
    assert error == "tokendraw: error: digits of p1 must be at least 1 and at most those of p2, got (3, 2)\n"
