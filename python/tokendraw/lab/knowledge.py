# SPDX-License-Identifier: Apache-2.0
"""What a model says against what its probabilities know, on exercises with a known solution.

Explicit knowledge is what it writes, implicit knowledge is how it ranks the truth among what is wrong.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

import tokendraw as td
from tokendraw.lab.examination import Answers, Examination, mean_shares
from tokendraw.lab.exercises import Exercise, Text
from tokendraw.models.base import Model, fill_empty_prompts
from tokendraw.progress import Advance

__all__ = ["TEMPERATURES", "effort", "examine"]

TEMPERATURES = (1.0, 0.5)

Shares: TypeAlias = dict[str, float]

_SLACK = 2  # tokens more than the true step has, for a model that cuts the same text into more of them
_BEAM_CANDIDATES = 64  # per beam: a step that ends is among them, however improbable its end token
_STREAMS = 1 << 32  # of the samples at one temperature
_FIRST_WORD = re.compile(r"\W*\w+")


# --- The examination ---------------------------------------------------------------------------------------


def examine(
    model: Model[Any],
    exercises: Iterable[Exercise],
    *,
    temperatures: Sequence[float] = TEMPERATURES,
    samples: int = 8,
    num_beams: int = 8,
    seed: int = 0,
    batch_size: int = 128,
    advance: Advance | None = None,
) -> Examination:
    """Compare what a model writes with how it ranks the truth, step by step.

    Every step is asked after the prompt and the true steps before it. It counts as written if what the model
    goes on with begins with it, or is it and ends the text.

    Parameters
    ----------
    model : Model
        Any object with `start`, `step` and `select`, which reads from left to right. Exercises in text need
        a tokenizer.
    exercises : iterable of Exercise
        At least one.
    temperatures : sequence of float, default (1.0, 0.5)
        At which answers are sampled.
    samples : int, default 8
        Samples of each step at each temperature.
    num_beams : int, default 8
        The width of the search among all steps and corruptions of a family; 0 leaves it out.
    seed : int, default 0
        Of the samples. They do not depend on `batch_size`, as far as the model's logits do not.
    batch_size : int, default 128
        The most rows that the model reads at once.
    advance : callable, optional
        Called with a title and how much more of `effort` is done.

    Returns
    -------
    Examination

    Raises
    ------
    ValueError
        If there are no exercises, or the model cannot read them.

    Examples
    --------
    >>> import tokendraw as td
    >>> from tokendraw.lab import exercises, knowledge
    >>> found = knowledge.examine(td.models.load("kjv"), exercises.verses()[:10], samples=2)
    >>> known = {figure.measure: figure.interval.value for figure in found.figures("verses")}
    >>> known["greedy"] < 0.2 < 0.8 < known["pairwise"]
    True
    """
    began = time.monotonic()
    asked = list(exercises)
    _check(model, asked, samples, num_beams, batch_size)
    settings = {"temperatures": list(temperatures), "samples": samples, "num_beams": num_beams, "seed": seed}
    advance = advance or (lambda title, more: None)
    exam = _Exam(model, temperatures, samples, num_beams, seed, batch_size, advance)
    pools = _pools(model, asked) if num_beams else {}
    tasks = [task for place, each in enumerate(asked) for task in _tasks(model, place, each, pools)]
    outcomes: list[list[_Outcome]] = [[outcome] for outcome in exam.solve(asked)]
    for task, outcome in zip(tasks, exam.ask(tasks), strict=True):
        outcomes[task.exercise].append(outcome)
    answers = [_answers(each, own) for each, own in zip(asked, outcomes, strict=True)]
    return Examination(settings, answers, time.monotonic() - began)


def effort(exercises: Iterable[Exercise], temperatures: Sequence[float] = TEMPERATURES) -> int:
    """Return how much `examine` tells `advance` altogether.

    Parameters
    ----------
    exercises, temperatures
        As for `examine`.

    Examples
    --------
    >>> effort([Exercise("one, ", ["two,", " three"])])
    11
    """
    asked = list(exercises)
    return len(asked) + (3 + len(temperatures)) * sum(len(each.steps) for each in asked)


def _check(model: Any, asked: Sequence[Exercise], samples: int, num_beams: int, batch_size: int) -> None:
    for name, value, least in (
        ("samples", samples, 1),
        ("num_beams", num_beams, 0),
        ("batch_size", batch_size, 1),
    ):
        if value < least:
            raise ValueError(f"{name} must be >= {least}, got {value}")
    if not asked:
        raise ValueError("exercises must not be empty")
    tokenizer = getattr(model, "tokenizer", None)
    if getattr(tokenizer, "right_to_left", False):
        raise ValueError("exercises need a model that reads from left to right, got one that does not")
    for place, each in enumerate(asked):
        if isinstance(each.prompt, str) and tokenizer is None:
            where = f" (exercise {each.name or place})"
            raise ValueError(
                f"an exercise in text needs a model with a tokenizer, got {each.prompt!r}{where}"
            )


class _Outcome(NamedTuple):
    """What one step brought out."""

    shares: Shares
    chances: Shares
    nats: list[float]


def _answers(exercise: Exercise, outcomes: Sequence[_Outcome]) -> Answers:
    return Answers(
        exercise.family,
        exercise.name,
        mean_shares([each.shares for each in outcomes]),
        mean_shares([each.chances for each in outcomes]),
        [each.nats for each in outcomes if each.nats],
    )


# --- What is asked -----------------------------------------------------------------------------------------


class _Pool(NamedTuple):
    """What a search may find: all steps and corruptions of a family."""

    trie: td.TokenTrie
    end: int
    longest: int


class _Task(NamedTuple):
    """One step of one exercise, after the true steps before it."""

    exercise: int
    context: Text
    prompt: list[int]  # the context as tokens
    step: Text
    length: int  # tokens that the step has after the context
    corruptions: list[Text]
    kinds: list[str]
    pool: _Pool | None


def _tasks(model: Any, place: int, exercise: Exercise, pools: Mapping[str, _Pool]) -> Iterator[_Task]:
    context = exercise.prompt
    for step, wrong in zip(exercise.steps, exercise.corruptions, strict=True):
        [prompt] = fill_empty_prompts(model, [_tokens(model, context)])
        yield _Task(
            place,
            context,
            prompt,
            step,
            _length(model, context, step),
            [each.text for each in wrong],
            [each.kind for each in wrong],
            pools.get(exercise.family),
        )
        context = context + step  # type: ignore[operator]


def _tokens(model: Any, text: Text) -> list[int]:
    return list(model.tokenizer.encode(text) if isinstance(text, str) else text)


def _length(model: Any, context: Text, step: Text) -> int:
    """Return how many tokens stand after the context once the step has joined it."""
    if not isinstance(step, str):
        return len(step)
    before, joined = _tokens(model, context), _tokens(model, f"{context}{step}")
    pairs = enumerate(zip(before, joined, strict=False))
    return len(joined) - next((place for place, (a, b) in pairs if a != b), min(len(before), len(joined)))


def _pools(model: Any, asked: Sequence[Exercise]) -> dict[str, _Pool]:
    """Return for each family what a search may find; nothing if no token is left to end it with."""
    texts: dict[str, dict[Text, None]] = {}
    for exercise in asked:
        wrong = [each.text for own in exercise.corruptions for each in own]
        texts.setdefault(exercise.family, {}).update(dict.fromkeys([*exercise.steps, *wrong]))
    tokens = {family: [_tokens(model, text) for text in own] for family, own in texts.items()}
    end = _unused_token(model, {token for own in tokens.values() for ids in own for token in ids})
    if end is None:
        return {}
    return {
        family: _Pool(
            td.TokenTrie(own, vocab_size=model.vocab_size, eos_token_id=end), end, max(map(len, own))
        )
        for family, own in tokens.items()
    }


def _unused_token(model: Any, used: set[int]) -> int | None:
    """Return the model's end token, or any other that no step has."""
    ends = getattr(model, "eos_token_id", None)
    preferred = [] if ends is None else np.atleast_1d(ends).tolist()
    return next((token for token in (*preferred, *range(model.vocab_size)) if token not in used), None)


# --- What is measured --------------------------------------------------------------------------------------


class _Contexts:
    """A model that has read some prompts, and goes on from them as often as it is asked to."""

    def __init__(self, model: Any, prompts: Iterable[Sequence[int]]) -> None:
        self._model = model
        distinct = dict.fromkeys(map(tuple, prompts))
        self._rows = {prompt: row for row, prompt in enumerate(distinct)}
        self._state, self._logits = model.start([list(prompt) for prompt in distinct])

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def start(self, prompts: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        rows = [self._rows.get(tuple(prompt)) for prompt in prompts]
        if None in rows:
            started: tuple[Any, Any] = self._model.start(prompts)
            return started
        chosen = np.array(rows, dtype=np.intp)
        return self._model.select(self._state, chosen), self._logits[chosen]


@dataclass(frozen=True)
class _Exam:
    """A model and what is asked of it."""

    model: Any
    temperatures: Sequence[float]
    samples: int
    num_beams: int
    seed: int
    batch_size: int
    advance: Advance

    def ask(self, tasks: Sequence[_Task]) -> Iterator[_Outcome]:
        """Yield what each step brings out."""
        width = max(1, self.batch_size // max(self.samples, self.num_beams))
        for first in range(0, len(tasks), width):
            part = tasks[first : first + width]
            contexts = _Contexts(self.model, [task.prompt for task in part])
            shares: list[Shares] = [{} for _ in part]
            self._write(contexts, part, first, shares)
            chances, nats = self._rank(contexts, part, shares)
            self._search(contexts, part, shares, chances)
            yield from map(_Outcome, shares, chances, nats)

    def solve(self, asked: Sequence[Exercise]) -> Iterator[_Outcome]:
        """Yield whether the most probable text is the whole solution, without help."""
        for first in range(0, len(asked), self.batch_size):
            part = asked[first : first + self.batch_size]
            wholes = [_concatenated(each.steps) for each in part]
            pairs = zip(part, wholes, strict=True)
            lengths = [_length(self.model, each.prompt, whole) + _SLACK for each, whole in pairs]
            prompts = [_tokens(self.model, each.prompt) for each in part]
            written = td.generate(self.model, prompts, max_new_tokens=lengths, temperature=0.0)
            self.advance("solutions", len(part))
            for whole, one in zip(wholes, written, strict=True):
                yield _Outcome({"solution": float(_begins(one, whole))}, {}, [])

    def _write(self, contexts: Any, tasks: Sequence[_Task], first: int, shares: Sequence[Shares]) -> None:
        prompts = [task.prompt for task in tasks]
        limits = [task.length + _SLACK for task in tasks]
        greedy = td.generate(contexts, prompts, max_new_tokens=limits, temperature=0.0)
        self.advance("greedy", len(tasks))
        for task, own, one in zip(tasks, shares, greedy, strict=True):
            own["greedy"] = float(_begins(one, task.step))
            own["first word"] = float(_begins_with_first_word(one, task.step))
        for place, temperature in enumerate(self.temperatures):
            streams = [place * _STREAMS + (first + row) * self.samples for row in range(len(tasks))]
            drawn = td.generate(
                contexts,
                prompts,
                max_new_tokens=limits,
                temperature=temperature,
                n=self.samples,
                seed=self.seed,
                stream=streams,
            )
            self.advance(f"samples at {temperature}", len(tasks))
            for row, (task, own) in enumerate(zip(tasks, shares, strict=True)):
                mine = drawn[row * self.samples : (row + 1) * self.samples]
                own |= _sampled(mine, task, temperature)

    def _rank(
        self, contexts: Any, tasks: Sequence[_Task], shares: Sequence[Shares]
    ) -> tuple[list[Shares], list[list[float]]]:
        ranked = [row for row, task in enumerate(tasks) if task.corruptions]
        chances: list[Shares] = [{} for _ in tasks]
        nats: list[list[float]] = [[] for _ in tasks]
        choices = self._choose(contexts, [tasks[row] for row in ranked])
        self.advance("candidates", len(tasks))
        for row, choice in zip(ranked, choices, strict=True):
            found, chances[row] = _ranked(choice.logprobs, tasks[row].kinds)
            shares[row].update(found)
            texts = [tasks[row].step, *tasks[row].corruptions]
            nats[row] = [-logprob / _size(text) for logprob, text in zip(choice.logprobs, texts, strict=True)]
        return chances, nats

    def _choose(self, contexts: Any, tasks: Sequence[_Task]) -> list[td.Choice]:
        if not tasks:
            return []
        options = [[task.step, *task.corruptions] for task in tasks]
        chosen: list[td.Choice] = td.choose(
            contexts, [task.context for task in tasks], options, batch_size=self.batch_size
        )
        return chosen

    def _search(
        self, contexts: Any, tasks: Sequence[_Task], shares: Sequence[Shares], chances: Sequence[Shares]
    ) -> None:
        pools = [task.pool for task in tasks if task.pool is not None]
        if pools:
            end = pools[0].end
            found = td.beam_search(
                contexts,
                [task.prompt for task in tasks],
                num_beams=self.num_beams,
                max_new_tokens=[pool.longest + 1 for pool in pools],
                eos_token_id=end,
                length_penalty=0.0,
                early_stopping="never",
                constraint=lambda prompt, generated: pools[prompt].trie.allowed(generated),
                scorer=_without_cost_of(end),
                candidates=_BEAM_CANDIDATES,
                finishing="all",
            )
            for row, (task, best) in enumerate(zip(tasks, found, strict=True)):
                true = [*_tokens(self.model, task.step), end]
                shares[row]["guided"] = float(any(each.tokens == true for each in best))
                chances[row]["guided"] = 1 / len(pools[row].trie)
        self.advance("search", len(tasks))


def _without_cost_of(end: int) -> Callable[[td.BeamCandidates, Any], npt.NDArray[np.float64]]:
    """Return a scorer to which a step that ends is as good as it was: it need not end the text."""

    def score(candidates: td.BeamCandidates, state: Any) -> npt.NDArray[np.float64]:
        return candidates.scores - np.where(candidates.tokens == end, candidates.logprobs, 0.0)

    return score


def _sampled(drawn: Sequence[td.Generation], task: _Task, temperature: float) -> Shares:
    right = [_begins(one, task.step) for one in drawn]
    # As many tokens of each that goes on, so that none is more probable for being shorter.
    best = max(range(len(drawn)), key=lambda place: sum(drawn[place].raw_logprobs[: task.length]))
    count = len(drawn)
    return {
        f"sampled at {temperature}": float(np.mean(right)),
        f"best of {count} at {temperature}": float(right[best]),
        f"any of {count} at {temperature}": float(any(right)),
    }


def _ranked(logprobs: Sequence[float], kinds: Sequence[str]) -> tuple[Shares, Shares]:
    """Return how the first of some candidates stands among the others, and how a guess would."""
    truth, *others = logprobs
    wins = np.array([1.0 if truth > other else 0.5 if truth == other else 0.0 for other in others])
    ties = int(sum(wins == 0.5))
    shares = {
        "chosen": 0.0 if (wins == 0).any() else 1 / (1 + ties),
        "pairwise": float(wins.mean()),
        "rank": float(len(wins) - wins.sum()),
    }
    for kind in filter(None, dict.fromkeys(kinds)):
        own = [win for win, each in zip(wins, kinds, strict=True) if each == kind]
        shares[f"pairwise {kind}"] = float(np.mean(own))
    chances = {key: 0.5 for key in shares if key.startswith("pairwise")}
    return shares, chances | {"chosen": 1 / len(logprobs), "rank": len(others) / 2}


def _begins(written: td.Generation, text: Text) -> bool:
    if not isinstance(text, str):
        return tuple(written.tokens[: len(text)]) == text
    found = written.text or ""
    # Who ends the text after the last step need not write the line break that others write there.
    return found.startswith(text) or (written.finish_reason == "eos" and found.rstrip() == text.rstrip())


def _begins_with_first_word(written: td.Generation, text: Text) -> bool:
    if not isinstance(text, str):
        return _begins(written, text[:1])
    words = [_FIRST_WORD.match(each) for each in (text, written.text or "")]
    return _begins(written, text) if words[0] is None else words[1] is not None and words[0][0] == words[1][0]


def _size(text: Text) -> int:
    return len(text.encode() if isinstance(text, str) else text)


def _concatenated(steps: Sequence[Text]) -> Text:
    if isinstance(steps[0], str):
        return "".join(map(str, steps))
    return tuple(token for step in steps for token in step if isinstance(token, int))
