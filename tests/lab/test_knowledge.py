# SPDX-License-Identifier: Apache-2.0
"""The examination, on tables whose every probability is known, and on the embedded model."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

import tokendraw as td
from tests.search.models import TableModel
from tokendraw.lab.examination import Answers, Examination
from tokendraw.lab.exercises import Corruption, Exercise, verses
from tokendraw.lab.knowledge import effort, examine

PROBS = {
    (): (0.25, 0.25, 0.25, 0.25),
    (0,): (0.1, 0.5, 0.3, 0.1),
    (0, 1): (0.1, 0.2, 0.3, 0.4),
    (0, 2): (0.7, 0.1, 0.1, 0.1),
}


def model_of(probs=PROBS, vocab_size=4):
    """Return a model with these probabilities after a prompt of these tokens, and even ones after others."""
    even = np.zeros(vocab_size)
    return TableModel(vocab_size, rows=lambda prefix: np.log(probs[prefix]) if prefix in probs else even)


def wrong(*texts, kind=""):
    return tuple(Corruption(text, kind) for text in texts)


def known(examination, family=""):
    return {figure.measure: figure.interval.value for figure in examination.figures(family)}


def chances(examination, family=""):
    return {figure.measure: figure.chance for figure in examination.figures(family)}


# --- Exactly -----------------------------------------------------------------------------------------------

TRUE = Exercise((0,), ((2, 0),), (wrong((1, 1), (1, 3), (2, 1), (3, 0)),), name="a")
"""After 0 the truth 2, 0 has 0.21; the wrong ones 0.1, 0.2, 0.03 and 0.025; greedily comes 1, 3."""


def test_what_is_ranked():
    found = known(examine(model_of(), [TRUE], num_beams=0))
    assert found["greedy"] == 0, "1 is more probable than 2"
    assert found["first word"] == 0
    assert found["chosen"] == 1, "0.21 is the most of all"
    assert found["pairwise"] == 1
    assert found["rank"] == 0


def test_the_rank_of_a_truth_that_is_not_first():
    exercise = Exercise((0,), ((1, 1),), (wrong((1, 3), (2, 1), (1, 2), (3, 3), kind="x"),))
    examined = examine(model_of(), [exercise], num_beams=0)
    found = known(examined)
    assert found["chosen"] == 0
    assert found["pairwise"] == pytest.approx(0.5), "0.1 against 0.2, 0.03, 0.15, 0.025"
    assert found["pairwise x"] == pytest.approx(0.5)
    assert found["rank"] == 2
    assert chances(examined)["chosen"] == pytest.approx(1 / 5)
    assert chances(examined)["rank"] == 2


def test_ties_count_half():
    exercise = Exercise((3,), ((1,),), (wrong((2,), (0,)),))
    found = known(examine(model_of(), [exercise], num_beams=0))
    assert found["pairwise"] == 0.5
    assert found["chosen"] == pytest.approx(1 / 3)
    assert found["rank"] == 1
    assert found["auc"] == 0.5


def test_costs_are_those_of_choose():
    [answers] = examine(model_of(), [TRUE], num_beams=0).answers
    expected = -np.log([0.21, 0.1, 0.2, 0.03, 0.025]) / 2
    np.testing.assert_allclose(answers.nats[0], expected, rtol=1e-5)
    choice = td.choose(model_of(), [0], [TRUE.steps[0], *(each.text for each in TRUE.corruptions[0])])
    assert answers.nats[0] == [-logprob / 2 for logprob in choice.logprobs]


def test_costs_of_text_are_those_of_choose():
    model = td.models.load("kjv")
    exercise = verses()[7]
    [answers] = examine(model, [exercise], samples=1, num_beams=0).answers
    context = exercise.prompt
    for step, own, nats in zip(exercise.steps, exercise.corruptions, answers.nats, strict=True):
        options = [step, *(each.text for each in own)]
        logprobs = np.array(td.choose(model, context, options).logprobs)
        costs = -logprobs / [len(option.encode()) for option in options]
        np.testing.assert_allclose(nats, costs, rtol=1e-4)
        context += step


def test_a_cost_without_end():
    """What cannot follow at all ranks below everything, and the truth is not hurt by it."""
    probs = {**PROBS, (0,): (0.5, 0.5, 0, 0)}
    exercise = Exercise((0,), ((1,),), (wrong((2,)),))
    with np.errstate(divide="ignore"):
        examined = examine(model_of(probs), [exercise], num_beams=0)
    assert known(examined)["chosen"] == 1
    assert examined.answers[0].nats[0][1] == math.inf


def test_steps_follow_the_true_steps_before_them():
    """Greedily comes 1 after 0: wrong. After the true 2 comes 0: right."""
    exercise = Exercise((0,), ((2,), (0,)), (wrong((3,)), wrong((1,), (2,))))
    found = known(examine(model_of(), [exercise], num_beams=0))
    assert found["greedy"] == 0.5
    assert found["solution"] == 0
    assert found["chosen"] == 1


def test_a_solution_is_written_without_help():
    probs = {(0,): (0.1, 0.6, 0.2, 0.1), (0, 1): (0.1, 0.1, 0.7, 0.1), (0, 1, 2): (0.1, 0.1, 0.1, 0.7)}
    found = known(examine(model_of(probs), [Exercise((0,), ((1, 2), (3,)))], num_beams=0))
    assert found == {**found, "greedy": 1, "solution": 1, "first word": 1}
    assert "pairwise" not in found, "nothing was corrupted"
    assert "auc" not in found


def test_samples_are_right_as_often_as_they_are_probable():
    samples = 1500
    exercise = Exercise((0,), ((2, 0),))
    found = known(examine(model_of(), [exercise], samples=samples, temperatures=(1.0, 0.5), num_beams=0))
    cold = np.square([0.1, 0.5, 0.3, 0.1]) / np.square([0.1, 0.5, 0.3, 0.1]).sum()
    after = np.square([0.7, 0.1, 0.1, 0.1]) / np.square([0.7, 0.1, 0.1, 0.1]).sum()
    for temperature, share in ((1.0, 0.21), (0.5, cold[2] * after[0])):
        deviation = math.sqrt(share * (1 - share) / samples)
        assert abs(found[f"sampled at {temperature}"] - share) < 5 * deviation
        assert found[f"any of {samples} at {temperature}"] == 1
        assert found[f"best of {samples} at {temperature}"] == 1, "0.21 is the most that two tokens have"


def test_the_best_sample_may_be_wrong():
    found = known(examine(model_of(), [Exercise((0,), ((1, 1),))], samples=500, num_beams=0))
    assert found["any of 500 at 1.0"] == 1
    assert found["best of 500 at 1.0"] == 0


# --- The search --------------------------------------------------------------------------------------------


def pool_of(exercises):
    texts = [text for each in exercises for text in each.steps]
    return list(dict.fromkeys([*texts, *(c.text for e in exercises for own in e.corruptions for c in own)]))


def logprob_of(model, prompt, text):
    prefix, total = tuple(prompt), 0.0
    for token in text:
        total += float(td.log_softmax(model.row(prefix))[token])
        prefix += (token,)
    return total


@pytest.mark.parametrize("seed", range(6))
def test_a_wide_search_finds_the_most_probable_step_of_all(seed):
    random = np.random.default_rng(seed)
    texts = [tuple(text) for size in (1, 2, 3) for text in itertools.product(range(1, 4), repeat=size)]
    chosen = [texts[place] for place in random.permutation(len(texts))[:24]]
    exercises = [
        Exercise((place % 4,), (chosen[place],), (wrong(*chosen[place + 8 : place + 10]),), name=str(place))
        for place in range(8)
    ]
    model = TableModel(5, seed)
    pool = pool_of(exercises)
    answers = examine(model, exercises, samples=1, num_beams=40).answers
    for exercise, one in zip(exercises, answers, strict=True):
        logprobs = [logprob_of(model, exercise.prompt, text) for text in pool]
        assert one.shares["guided"] == (pool[int(np.argmax(logprobs))] == exercise.steps[0])
        assert one.chances["guided"] == pytest.approx(1 / len(pool))
    assert len({one.shares["guided"] for one in answers}) > 0


def test_a_step_may_begin_another():
    """0.5 for 1 alone is more than 0.2 for 1, 3, whatever the token that ends it costs."""
    exercise = Exercise((0,), ((1,),), (wrong((1, 3), (2, 0)),))
    probs = {key: (*row, 1e-12) for key, row in PROBS.items()}
    assert known(examine(model_of(probs, 5), [exercise]))["guided"] == 1
    longer = Exercise((0,), ((1, 3),), (wrong((1,), (2, 0)),))
    assert known(examine(model_of(probs, 5), [longer]))["guided"] == 0


def test_a_search_needs_a_token_to_end_with():
    exercise = Exercise((0,), ((1, 0),), (wrong((2, 3)),))
    assert "guided" not in known(examine(model_of(), [exercise]))
    assert "guided" in known(examine(model_of(vocab_size=5), [Exercise((3,), ((1, 0),), (wrong((2, 3)),))]))


def test_families_are_searched_apart():
    first = Exercise((0,), ((2,),), (wrong((3,)),), family="one")
    second = Exercise((0,), ((1,),), (wrong((2,)),), family="two")
    examined = examine(model_of(vocab_size=4), [first, second])
    assert examined.families == ["one", "two"]
    assert known(examined, "one")["guided"] == 1, "1 is more probable, and of the other family"
    assert known(examined, "two")["guided"] == 1


# --- How it is asked ---------------------------------------------------------------------------------------


def test_answers_do_not_depend_on_the_batch():
    exercises = [TRUE, Exercise((1,), ((2,), (3, 0)), (wrong((3,)), ())), Exercise((2, 1), ((3,),))]
    one, all_ = (examine(TableModel(6, 3), exercises, batch_size=size).answers for size in (1, 128))
    assert one == all_


def test_every_context_is_read_once():
    model = TableModel(6, 3)
    exercises = [Exercise((1, 2), ((3,), (4,)), (wrong((2,)), wrong((3,)))), TRUE]
    examine(model, exercises)
    assert model.calls.count("start") == 2, "one for the steps, one for the solutions"


def test_a_context_that_joins_a_step_is_read_anew():
    """A text whose end grows together with a step has other tokens than those that were read."""
    model = td.models.load("kjv")
    exercise = Exercise("In the begin", ["ning God"], [wrong("ning of")])
    assert model.tokenizer.encode("In the beginning")[:-1] != model.tokenizer.encode("In the begin")
    [answers] = examine(model, [exercise], samples=1).answers
    choice = td.choose(model, exercise.prompt, ["ning God", "ning of"])
    np.testing.assert_allclose(answers.nats[0], -np.array(choice.logprobs) / [8, 7], rtol=1e-4)


@pytest.mark.parametrize("num_beams", [0, 4])
def test_all_effort_is_told(num_beams):
    exercises = [TRUE, Exercise((0,), ((1,), (2,)))]
    told = []
    examine(model_of(), exercises, num_beams=num_beams, advance=lambda title, more: told.append(more))
    assert sum(told) == effort(exercises)


def test_the_seed_decides_the_samples():
    shown = verses()[:3]
    model = td.models.load("kjv")
    options = {"samples": 4, "num_beams": 0, "temperatures": (0.7,)}
    first, again, other = (examine(model, shown, seed=seed, **options).answers for seed in (1, 1, 2))
    assert first == again
    assert [each.nats for each in first] == [each.nats for each in other]


def test_the_embedded_model_knows_more_than_it_writes():
    examined = examine(td.models.load("kjv"), verses()[::16], samples=1, num_beams=4, temperatures=())
    figures = {figure.measure: figure for figure in examined.figures("verses")}
    assert figures["greedy"].interval.high < 0.25
    assert figures["pairwise"].interval.low > 0.7
    assert figures["chosen"].interval.low > figures["chosen"].chance + 0.2
    assert figures["guided"].chance < 0.01
    assert examined.gap("verses").low > 0.4


def test_who_ends_the_text_need_not_end_the_line():
    class Lines:
        """The tokens of a text are its characters; z ends it."""

        def encode(self, text):
            return [ord(each) - 97 if each != "\n" else 4 for each in text]

        def decode(self, ids):
            return "".join("abcd\nz"[token] for token in ids)

        def token_bytes(self, token):
            return self.decode([token]).encode() if token < 5 else b""

    def peaked(prefix):
        return 9.0 * (np.arange(6) == {1: 1, 2: 5}.get(len(prefix), 3))

    model = TableModel(6, rows=peaked)
    model.tokenizer, model.eos_token_id = Lines(), 5
    for step, right in (("b\n", 1), ("b", 1), ("bd\n", 0), ("c\n", 0)):
        found = known(examine(model, [Exercise("a", [step])], samples=2, num_beams=0))
        assert found["greedy"] == found["solution"] == right, step


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exercises": []}, "exercises must not be empty"),
        ({"samples": 0}, "samples must be >= 1, got 0"),
        ({"num_beams": -1}, "num_beams must be >= 0, got -1"),
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        (
            {"exercises": [TRUE, Exercise("In", [" the"], name="b")]},
            r"an exercise in text needs a model with a tokenizer, got 'In' \(exercise b\)",
        ),
        ({"exercises": [Exercise((0,), ((7,),))]}, r".* must be in \[0, 4\), got 7.*"),
    ],
)
def test_what_cannot_be_asked(options, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        examine(model_of(), **{"exercises": [TRUE], **options})


def test_a_model_that_reads_leftward():
    message = "exercises need a model that reads from left to right, got one that does not"
    with pytest.raises(ValueError, match=message):
        examine(td.models.load("kjv-backward"), verses()[:1])


def test_an_empty_prompt_begins_a_document():
    model = td.models.load("kjv")
    [answers] = examine(model, [Exercise("", ["In the"], [wrong("On the")])], samples=1).answers
    choice = td.choose(model, "", ["In the", "On the"])
    np.testing.assert_allclose(answers.nats[0], -np.array(choice.logprobs) / 6, rtol=1e-4)


# --- What is reported --------------------------------------------------------------------------------------


def answers_of(name, family="f", nats=(), **shares):
    return Answers(family, name, shares, {"chosen": 0.25}, [list(each) for each in nats])


def test_exercises_of_one_name_are_one():
    runs = [answers_of("a", greedy=1.0), answers_of("a", greedy=0.0), answers_of("b", greedy=0.0)]
    [figure] = Examination({}, runs, 1.0).figures("f")
    assert figure.interval.value == 0.25
    expected = stats.binomtest(1, 4).proportion_ci(method="wilson")
    assert figure.interval.high > expected.high, "two exercises are fewer than four"


def test_exercises_without_a_name_are_their_own():
    runs = [answers_of("", greedy=1.0), answers_of("", greedy=0.0)]
    assert Examination({}, runs, 1.0).as_json()["families"]["f"]["exercises"] == 2


def test_a_gap_is_paired():
    pairs = [(1.0, 0.0), (0.5, 0.5), (1.0, 0.5), (0.0, 0.0)]
    runs = [answers_of(str(place), chosen=a, greedy=b) for place, (a, b) in enumerate(pairs)]
    gap = Examination({}, [*runs, answers_of("x", chosen=1.0)], 1.0).gap("f")
    expected = stats.ttest_rel(*zip(*pairs, strict=True)).confidence_interval()
    assert gap.value == pytest.approx(0.375)
    assert (gap.low, gap.high) == pytest.approx((expected.low, expected.high))


def test_without_both_there_is_no_gap():
    examined = Examination({}, [answers_of("a", greedy=1.0), answers_of("b", chosen=1.0)], 1.0)
    assert examined.gap("f") is None
    assert "less" not in examined.table()


def area_of(nats):
    examined = Examination({}, [answers_of(str(place), nats=own) for place, own in enumerate(nats)], 1.0)
    [area] = [figure for figure in examined.figures("f") if figure.measure == "auc"]
    assert area.interval.low <= area.interval.value <= area.interval.high
    assert area.chance == 0.5
    return area.interval.value


def test_the_area_under_the_curve_is_that_of_all_pairs():
    random = np.random.default_rng(2)
    nats = random.integers(0, 6, (7, 3, 4)).astype(float).tolist()
    true = [step[0] for own in nats for step in own]
    others = [cost for own in nats for step in own for cost in step[1:]]
    count = stats.mannwhitneyu(others, true).statistic
    assert area_of(nats) == pytest.approx(count / len(true) / len(others))


def test_the_corruptions_of_a_step_weigh_as_much_as_the_step():
    """Costs that say nothing of the truth, but differ by step: many corruptions of the dear ones."""
    nats = [[[cost] * 2, [cost + 5.0] * 9] for cost in (1.0, 2.0, 3.0)]
    assert area_of(nats) == pytest.approx(0.5)
    random = np.random.default_rng(3)
    nats = [[random.integers(0, 6, random.integers(2, 5)).tolist() for _ in range(3)] for _ in range(7)]
    steps = [step for own in nats for step in own]
    wins = [np.mean([(a < b) + (a == b) / 2 for b in other[1:]]) for a, *_ in steps for other in steps]
    assert area_of(nats) == pytest.approx(np.mean(wins))


def test_the_table_and_the_json_say_the_same():
    nats = [[1.0, 2.0, 0.5]]
    runs = [answers_of("a", nats=nats, greedy=1.0, chosen=0.5, rank=1.0, guided=1.0)]
    examined = Examination({"seed": 3}, runs, 1.25)
    told = json.loads(json.dumps(examined.as_json(), allow_nan=False))
    assert told["settings"] == {"seed": 3}
    figures = told["families"]["f"]["figures"]
    assert [figure["measure"] for figure in figures] == ["greedy", "guided", "chosen", "rank", "auc"]
    assert [figure["side"] for figure in figures] == [
        "explicit",
        "search",
        "implicit",
        "implicit",
        "implicit",
    ]
    assert figures[3] == {
        "measure": "rank",
        "side": "implicit",
        "low": None,
        "value": 1.0,
        "high": None,
        "chance": None,
    }
    lines = examined.table().splitlines()
    assert lines[0] == "f: 1 exercises"
    assert [line.split()[:2] for line in lines[1:-1]] == [[f["side"], f["measure"]] for f in figures]
    assert lines[3].endswith("(chance 0.2500)")
    assert lines[-1] == "  chosen less greedy: -0.5000 [nan, nan]"
    assert told["families"]["f"]["chosen less greedy"] == {"low": None, "value": -0.5, "high": None}
