# SPDX-License-Identifier: Apache-2.0
"""The lecture's examples: formulas against enumeration and against draws, and their pictures.

Seeds are fixed, so no run fails by chance. A p-value below ALARM fails: under new seeds this whole file would
raise a false alarm less than once in 30,000 runs.
"""

import itertools
import math
import re
from fractions import Fraction
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from scipy import stats

import tokendraw as td
from tests.house import tree
from tokendraw.lab import lecture

ALARM = 1e-6
DOCS = tree.ROOT / "docs"

# --- Temperature -------------------------------------------------------------------------------------------


def test_the_frequencies_of_the_three_tokens_are_these_fractions():
    frequencies = np.array([Fraction(18, 37), Fraction(11, 37), Fraction(8, 37)])
    language = lecture.three_tokens()
    table = np.vectorize(lambda value: Fraction(round(value * 10), 10))(language.transition)
    assert (frequencies @ table == frequencies).all()
    assert language.start == pytest.approx(frequencies.astype(float), abs=1e-12)


def test_greedy_repeats():
    found = td.generate(lecture.three_tokens().model(), "a", temperature=0, max_new_tokens=50)[0]
    assert found.text == "a" * 50


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.5])
def test_what_is_computed_is_the_sum_over_all_texts(temperature):
    language = lecture.three_tokens()
    model = lecture.imperfect(language, 0.1)
    found = lecture.computed(model, language, temperature, length=6)
    powers = model.transition ** (1 / temperature)
    table = powers / powers.sum(axis=1, keepdims=True)
    entropies, belongs = [], 0.0
    for length in (5, 6):
        texts = list(itertools.product(range(3), repeat=length))
        pairs = [[table[pair] for pair in itertools.pairwise(text)] for text in texts]
        probs = np.array(
            [found.frequencies[text[0]] * np.prod(own) for text, own in zip(texts, pairs, strict=True)]
        )
        entropies.append(-(probs * np.log2(probs)).sum())
        allowed = [all(language.transition[pair] for pair in itertools.pairwise(text)) for text in texts]
        belongs = probs[allowed].sum()
    assert found.frequencies @ table == pytest.approx(found.frequencies, abs=1e-6)
    assert found.entropy == pytest.approx(entropies[1] - entropies[0], abs=1e-5)
    assert found.belongs == pytest.approx(belongs, abs=1e-5)


TEXTS, LENGTH = 5000, 20


def agreement(drawn_at: float, computed_at: float) -> float:
    """Return the p-value of how many pieces belong to the language."""
    language = lecture.three_tokens()
    model = lecture.imperfect(language, 0.03)
    exact = lecture.computed(model, language, computed_at, LENGTH)
    drawn = lecture.simulated(model, language, drawn_at, LENGTH, texts=TEXTS, seed=5)
    return stats.binomtest(round(drawn.belongs * TEXTS), TEXTS, exact.belongs).pvalue


@pytest.mark.parametrize("temperature", [0.7, 1.0, 2.0])
def test_texts_belong_as_often_as_computed(temperature):
    assert agreement(temperature, temperature) > ALARM


def test_another_temperature_would_be_seen():
    assert agreement(1.0, 1.1) < ALARM


@pytest.mark.parametrize("temperature", [0.4, 1.0, 2.0])
def test_frequencies_and_entropies_of_texts_are_near_those_computed(temperature):
    """Neighbours in a text are alike, so these are bounds of many standard errors rather than tests."""
    language = lecture.three_tokens()
    exact = lecture.computed(language, language, temperature, LENGTH)
    drawn = lecture.simulated(language, language, temperature, LENGTH, texts=1000, seed=6)
    assert drawn.frequencies == pytest.approx(exact.frequencies, abs=0.03)
    assert drawn.entropy == pytest.approx(exact.entropy, abs=0.04)
    assert drawn.belongs == 1 == pytest.approx(exact.belongs)


def test_temperature_one_restores_the_frequencies():
    """One token of each of many texts: these are independent, so a chi-square test holds."""
    language, texts = lecture.three_tokens(), 20_000
    model = language.model()
    state, logits = model.start([[0]] * texts)
    for step in range(25):  # what is left of the first token is 0.5^25
        tokens = td.sample(logits, seed=8, step=step)
        state, logits = model.step(state, tokens)
    counts = np.bincount(tokens)
    assert stats.chisquare(counts, language.start * texts).pvalue > ALARM
    cooler = language.sampled(temperature=0.8).start
    assert stats.chisquare(counts, cooler / cooler.sum() * texts).pvalue < ALARM


# --- The alien token ---------------------------------------------------------------------------------------

VOCAB, REAL, CHANCE = 4096, 100, 1e-6
SURE = 1 - (VOCAB - REAL) * CHANCE


@pytest.mark.parametrize("top_p", [1.0, 0.9999, 0.998, SURE + 2.5 * CHANCE, SURE, 0.99, 0.5])
def test_the_alien_rate_is_what_softmax_gives_to_aliens(top_p):
    row = lecture.alien_row(VOCAB, REAL, CHANCE)
    given = td.softmax(row, top_p=top_p)[REAL:].astype(np.float64).sum()
    # The number kept is exact to 1e-6 of the mass.
    assert lecture.alien_rate(VOCAB, REAL, CHANCE, top_p) == pytest.approx(given, abs=2e-6)


def test_aliens_are_gone_once_the_others_hold_top_p():
    assert lecture.alien_rate(VOCAB, REAL, CHANCE, SURE) == 0
    assert lecture.alien_rate(VOCAB, REAL, CHANCE, SURE + CHANCE / 2) == pytest.approx(
        CHANCE / (SURE + CHANCE)
    )
    assert lecture.alien_rate(VOCAB, REAL, CHANCE) == pytest.approx(1 - SURE)


def test_at_least_one_is_exact_for_the_rarest_events():
    rate, tokens = Fraction(1, 10**12), 1000
    exact = float(1 - (1 - rate) ** tokens)
    assert lecture.at_least_one(float(rate), tokens) == pytest.approx(exact, rel=1e-14)
    assert lecture.at_least_one(0.0, tokens) == 0
    assert lecture.at_least_one(0.25, 2) == pytest.approx(7 / 16)


def texts_with_aliens(rate: float, **sampling: float) -> float:
    """Return the p-value of how many texts have an alien, if that is its rate."""
    row = lecture.alien_row(VOCAB, REAL, CHANCE)
    before = lecture.first_aliens(row, REAL, texts=1000, tokens=100, seed=9, **sampling)
    hits = int(np.count_nonzero(before < 100))
    return stats.binomtest(hits, 1000, lecture.at_least_one(rate, 100)).pvalue


@pytest.mark.parametrize("top_p", [1.0, 0.998])
def test_aliens_are_drawn_at_their_rate(top_p):
    rate = lecture.alien_rate(VOCAB, REAL, CHANCE, top_p)
    assert texts_with_aliens(rate, top_p=top_p) > ALARM
    assert texts_with_aliens(1.5 * rate, top_p=top_p) < ALARM


def test_no_alien_is_drawn_below_the_share_of_the_others():
    row = lecture.alien_row(VOCAB, REAL, CHANCE)
    before = lecture.first_aliens(row, REAL, texts=500, tokens=100, seed=9, top_p=SURE - 1e-5)
    assert (before == 100).all()


def test_the_first_alien_comes_after_a_geometric_time():
    row = lecture.alien_row(50, real=40, chance=0.005)
    before = lecture.first_aliens(row, 40, texts=5000, tokens=60, seed=10)
    probs = 0.05 * 0.95 ** np.arange(61)
    probs[-1] = 0.95**60
    counts = np.bincount(before, minlength=61)
    assert stats.chisquare(counts, probs * 5000).pvalue > ALARM


def test_a_text_keeps_its_stream_when_others_are_done():
    row = lecture.alien_row(50, real=40, chance=0.005)
    together = lecture.first_aliens(row, 40, texts=20, tokens=60, seed=11)
    for text in range(20):
        steps = np.arange(60)
        alone = td.sample(np.broadcast_to(row, (60, 50)), seed=11, stream=text, step=steps) >= 40
        assert together[text] == (alone.argmax() if alone.any() else 60)


# --- Beams -------------------------------------------------------------------------------------------------


def test_three_beams_find_the_best_sentence_and_two_do_not():
    source = lecture.sentences()
    model = source.model()
    we = source.tokenizer.encode("we")[0]
    texts = itertools.product(range(len(source.start)), repeat=3)
    probs = {
        text: math.prod(source.going_on[pair] for pair in itertools.pairwise((we, *text))) for text in texts
    }
    best = max(probs, key=probs.__getitem__)
    assert source.tokenizer.decode(best) == " read books."
    for beams in (1, 2, 3, 4):
        [found] = td.beam_search(model, "we", num_beams=beams, max_new_tokens=3)
        assert (tuple(found.tokens) == best) == (beams >= 3)
        assert math.exp(found.logprob) == pytest.approx(probs[tuple(found.tokens)], rel=1e-6)


# --- Pages and pictures ------------------------------------------------------------------------------------


def test_the_pages_name_the_table_and_the_sentences_of_the_pictures():
    """What a page spells out for its reader is what the picture beside it was made of."""
    for page, source in [("temperature", lecture.three_tokens()), ("beam", lecture.sentences())]:
        text = (DOCS / f"lecture-{page}.md").read_text(encoding="utf-8")
        [call] = re.findall(r"from_table\(.*?\n>>> ", re.sub(r"^\.\.\. ?", "", text, flags=re.M), re.S)
        spelled = eval(call.removesuffix("\n>>> "), {"from_table": type(source).from_table})
        order = [spelled.tokenizer.symbols.index(symbol) for symbol in source.tokenizer.symbols]
        assert spelled.going_on[np.ix_(order, order)] == pytest.approx(source.going_on)


@pytest.fixture
def hasty(monkeypatch):
    """Draw a tenth of the texts of a small vocabulary."""
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(lecture, "_TEXTS", 100)
    monkeypatch.setattr(lecture, "_ALIEN_TEXTS", 10)
    monkeypatch.setattr(lecture, "_VOCABS", (1100, 2048))


def test_the_command_draws_every_picture_alike_each_time(hasty, tmp_path, capsys):
    lecture.main([str(tmp_path / "new")])
    paths = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert paths == [tmp_path / "new" / f"lecture-{name}.svg" for name in lecture.PICTURES]
    for path in paths:
        ElementTree.parse(path)
    for name in ("alien", "beam"):
        lecture.PICTURES[name](tmp_path / "again.svg")
        drawn = (tmp_path / "again.svg").read_bytes()
        assert drawn == (tmp_path / "new" / f"lecture-{name}.svg").read_bytes()


def test_every_picture_is_in_the_docs_shown_on_a_page_and_small():
    pictures = sorted(path.name for path in DOCS.glob("lecture-*.svg"))
    assert pictures == sorted(f"lecture-{name}.svg" for name in lecture.PICTURES)
    pages = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("lecture*.md"))
    for picture in pictures:
        assert f"]({picture})" in pages
        assert (DOCS / picture).stat().st_size < 100_000
