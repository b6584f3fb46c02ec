# SPDX-License-Identifier: Apache-2.0
"""Beam search: the most probable completions that a few beams find, and samples without replacement.

`BeamSearch` keeps the hypotheses and reads logits, nothing else: whoever has a model calls `step` and
reorders the model's cache by `parents`. `beam_search` is that loop for a model of `tokendraw.models`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokendraw._core import _beam_step, _BeamSearch
from tokendraw.errors import InvalidLogitsError
from tokendraw.hypothesis import Hypothesis, text_of
from tokendraw.models.base import fill_empty_prompts
from tokendraw.params import SamplingParams, columns_of, merged_params
from tokendraw.prompts import (
    PerPrompt,
    Prompt,
    as_batch,
    check_count,
    check_logits,
    encode_prompt,
    end_tokens,
    integer,
    is_one_prompt,
    listed,
    noise_of,
    per_prompt,
    rows_or_shared,
    select_rows,
    tokenizer_of,
)

if TYPE_CHECKING:
    from tokendraw.models.base import Model
    from tokendraw.tree import SearchTree

__all__ = ["BeamCandidates", "BeamSearch", "BeamStep", "beam_search"]

EarlyStopping: TypeAlias = Literal["never", "exhaust"] | bool
Constraint: TypeAlias = Callable[[int, list[int]], Any]


class BeamStep(NamedTuple):
    """What one step leaves: the rows that the model reads next.

    Attributes
    ----------
    tokens : int32 array [rows]
        The token that each live beam goes on with, of the kind of the logits; prompt after prompt, the best
        first. Empty when every prompt is done.
    parents : int64 array [rows]
        The row of the logits that each of them goes on from: the cache is reordered by
        ``model.select(state, parents)``.
    done : bool array [prompts]
        Which prompts have no live beam any more.
    valid : bool array [rows of the logits]
        Which rows had continuations at all.

    All but `done` are where the logits are. On a CUDA device a step waits: what it found is read back.
    """

    tokens: Any
    parents: Any
    done: NDArray[np.bool_]
    valid: Any


class BeamCandidates(NamedTuple):
    """The continuations among which a step chooses, for a scorer.

    Attributes
    ----------
    rows : int64 array [candidates]
        The row of the logits that each goes on from.
    tokens : int32 array [candidates]
        The token.
    scores : float64 array [candidates]
        What it would be ranked by: the score of its beam plus its log-probability.
    logprobs : float64 array [candidates]
        The log-probability of the token.
    """

    rows: NDArray[np.int64]
    tokens: NDArray[np.int32]
    scores: NDArray[np.float64]
    logprobs: NDArray[np.float64]


Scorer: TypeAlias = Callable[[BeamCandidates], Any]

PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "transformers": {},
        "ctranslate2": {"candidates": 2, "length": "generated_without_eos", "early_stopping": True},
        "tensorrt-llm": {"candidates": 2},
        "onnxruntime-genai": {"candidates": 2, "length": "sequence_without_eos"},
        "vllm": {
            "candidates": 2,
            "length": "sequence_without_eos",
            "early_stopping": "exhaust",
            "finishing": "all",
        },
    }
)
"""By system, where its rules differ from those of transformers 5.23."""


class BeamSearch:
    """Beam search over a batch of prompts, one step at a time.

    At each step every live beam of a prompt offers its continuations, ranked by the score of the beam plus
    the log-probability of the token. Of the best `candidates` per beam, those that end are finished if they
    stand among the first `num_beams`; the best others live on. The log-softmax of a row is never stored.

    Parameters
    ----------
    num_beams : int or one per prompt
        The width.
    max_new_tokens : int or one per prompt
        Where a hypothesis ends for want of room.
    prompts : int or sequence of sequences of int, default 1
        How many prompts there are, or their tokens: those count where n-grams, penalties or lengths do.
    eos_token_id : int or sequence of int, optional
        The tokens that end a hypothesis; none by default.
    length_penalty : float, default 1.0
        A finished hypothesis scores its log-probability divided by its length to this power.
    early_stopping : {False, True, "never", "exhaust"}, default False
        When a prompt with `num_beams` finished hypotheses is done: when the best live beam, divided by its
        present length, beats none of them; at once; when no live beam can beat them at any length up to
        `max_new_tokens`; or only when no beam is left.
    min_new_tokens : int, default 0
        The end tokens are out of the question before as many tokens.
    no_repeat_ngram_size : int, default 0
        No n-gram of this size, the prompt's included, occurs twice; 0 is off.
    num_groups : int, default 1
        Diverse beam search: `num_beams` is shared out among groups, which choose one after the other.
    diversity_penalty : float, default 0.0
        What a token's score loses for every beam of an earlier group that took it at the same step
        (Vijayakumar et al., 2018). The score keeps the loss, `Hypothesis.logprob` does not.
    choice : {"best", "sampled", "stochastic"}, default "best"
        How continuations are chosen: the best; drawn without replacement, in proportion to their probability;
        or by stochastic beam search (Kool et al., 2019), whose hypotheses are a sample of sequences without
        replacement, scored by their perturbed log-probability and with their `log_inclusion`.
    seed, stream, step : int, or one per prompt for the first two
        Where beams are drawn: equal seeds draw equal beams. Beam j of a prompt has stream + j; by default a
        prompt's stream is the number of beams of the prompts before it, or 0 where each has its own seed. By
        default the seed is taken from the operating system.
    length : {"generated", "generated_without_eos", "sequence_without_eos"}, default "generated"
        What the length of a finished hypothesis counts.
    candidates : int, default 0
        How many continuations per beam a step looks at; 0 is one more than there are end tokens, and at least
        2.
    finishing : {"top", "all"}, default "top"
        Whether only continuations among the first `num_beams` may finish.
    patience : float, default 1.0
        How many finished hypotheses a prompt waits for and keeps, times `num_beams`.
    renormalize : bool, default False
        Mask and filters take tokens out. If false, what they take keeps its share: a hypothesis scores the
        probability it has without them. If true, what is left shares the probability.
    params : SamplingParams, optional
        Steps before the choice: temperature, filters, penalties. Arrays hold one value per prompt.
    **sampling
        Fields of `SamplingParams`, taking precedence over `params`.

    Raises
    ------
    ValueError, TypeError
        If a parameter is none, with the rule and the value.

    Notes
    -----
    A step reads every row once, and again what of it can be among the best; memory is O(beams * length) for
    what is shared of the hypotheses, and O(candidates) per step. Log-probabilities add up in float64. Equal
    scores rank by beam, then by the total order of the row.

    Where a row is invalid its beam has no continuations, and the others of its prompt go on; nothing that is
    finished is lost.

    Examples
    --------
    A model that gives every row the same logits:

    >>> import numpy as np
    >>> import tokendraw as td
    >>> row = np.log(np.float32([0.1, 0.6, 0.3]))
    >>> search = td.BeamSearch(2, max_new_tokens=3, eos_token_id=0)
    >>> logits = row[None]
    >>> while len(logits):
    ...     step = search.step(logits)
    ...     logits = np.tile(row, (len(step.tokens), 1))
    >>> [best] = search.finish()
    >>> best[0].tokens, round(np.exp(best[0].logprob), 3)
    ([1, 1, 1], np.float64(0.216))
    """

    def __init__(
        self,
        num_beams: PerPrompt,
        *,
        max_new_tokens: PerPrompt,
        prompts: int | Sequence[Sequence[int]] = 1,
        eos_token_id: int | Iterable[int] | None = None,
        length_penalty: float = 1.0,
        early_stopping: EarlyStopping = False,
        min_new_tokens: int = 0,
        no_repeat_ngram_size: int = 0,
        num_groups: int = 1,
        diversity_penalty: float = 0.0,
        choice: Literal["best", "sampled", "stochastic"] = "best",
        seed: PerPrompt | None = None,
        stream: PerPrompt | None = None,
        step: int = 0,
        length: Literal["generated", "generated_without_eos", "sequence_without_eos"] = "generated",
        candidates: int = 0,
        finishing: Literal["top", "all"] = "top",
        patience: float = 1.0,
        renormalize: bool = False,
        params: SamplingParams | None = None,
        **sampling: Any,
    ) -> None:
        tokens = (
            [[]] * prompts if isinstance(prompts, int) else [list(map(int, prompt)) for prompt in prompts]
        )
        count = len(tokens)
        self._params = _checked(params, sampling, count)
        self._widths = per_prompt("num_beams", num_beams, count, bits=24, least=1)
        limits = per_prompt("max_new_tokens", max_new_tokens, count, bits=32, least=1)
        seeds, streams = noise_of(seed, stream, self._widths)
        options = {
            "length_penalty": float(length_penalty),
            "early_stopping": early_stopping,
            "min_new_tokens": min_new_tokens,
            "no_repeat_ngram_size": no_repeat_ngram_size,
            "num_groups": num_groups,
            "diversity_penalty": float(diversity_penalty),
            "choice": choice,
            "length": length,
            "candidates": candidates,
            "finishing": finishing,
            "patience": float(patience),
            "renormalize": bool(renormalize),
            "step": integer("step", step, limit=1 << 32),
            "eos_tokens": [integer("eos_token_id", token, limit=1 << 31) for token in listed(eos_token_id)],
        }
        self._core = _BeamSearch(
            list(zip(tokens, self._widths, limits, seeds, streams, strict=True)), options
        )
        self._is_sampled = choice == "stochastic"

    @classmethod
    def preset(cls, name: str, num_beams: PerPrompt, **options: Any) -> BeamSearch:
        """Return a search with the rules of another system.

        Parameters
        ----------
        name : {"transformers", "ctranslate2", "tensorrt-llm", "onnxruntime-genai", "vllm"}
            The system. The rules are those of transformers 5.23 (the default of all options), CTranslate2 4
            with penalties, TensorRT-LLM, ONNX Runtime GenAI, and the client-side search of vLLM.
        num_beams : int or one per prompt
            The width.
        **options
            As for `BeamSearch`, taking precedence over the rules.

        Examples
        --------
        >>> import tokendraw as td
        >>> td.BeamSearch.preset("vllm", 4, max_new_tokens=20).num_live
        1
        """
        if name not in PRESETS:
            raise ValueError(f"preset must be {', '.join(map(repr, PRESETS))}, got {name!r}")
        return cls(num_beams, **{**PRESETS[name], **options})

    @property
    def num_live(self) -> int:
        """How many rows of logits the next step reads: one per prompt at first, then one per live beam."""
        return self._core.rows

    @property
    def done(self) -> NDArray[np.bool_]:
        """Which prompts are done, bool [prompts]."""
        return np.array(self._core.done, dtype=np.bool_)

    @property
    def row_prompts(self) -> NDArray[np.intp]:
        """The prompt of every row that the next step reads."""
        return np.array(self._core.row_prompts, dtype=np.intp)

    @property
    def scores(self) -> NDArray[np.float64]:
        """The score of every row that the next step reads."""
        return np.array(self._core.row_scores, dtype=np.float64)

    @property
    def histories(self) -> list[list[int]]:
        """The tokens before every row that the next step reads, those of its prompt first."""
        return self._core.histories

    @property
    def tokens(self) -> NDArray[np.int32]:
        """What the last step returned as `tokens`, also if it raised."""
        return np.array(self._core.tokens, dtype=np.int32)

    @property
    def parents(self) -> NDArray[np.int64]:
        """What the last step returned as `parents`, also if it raised."""
        return np.array(self._core.parents, dtype=np.int64)

    def step(
        self,
        logits: Any,
        *,
        mask: Any = None,
        bias: Any = None,
        scorer: Scorer | None = None,
        on_invalid: Literal["raise", "mark"] | None = None,
        threads: int | None = None,
    ) -> BeamStep:
        """Read the logits of the live beams and choose how they go on.

        Parameters
        ----------
        logits : array of shape [num_live, vocab]
            One row per prompt at the first step, after that one per live beam, as `BeamStep` lists them. As
            for `sample`.
        mask, bias : optional
            As for `sample`, one for all rows or one row each.
        scorer : callable, optional
            Called with `BeamCandidates`, returns the score to rank each by: float64 [candidates].
        on_invalid : {"raise", "mark"}, optional
            As for `sample`. The step is taken in either case: after an error, `tokens` and `parents` say how
            it goes on.
        threads : int, optional
            As for `sample`.

        Returns
        -------
        BeamStep

        Raises
        ------
        InvalidLogitsError
            If a row has NaN, +inf or nothing that is allowed, unless such rows are marked.
        ValueError
            If the logits have another number of rows, or every prompt is done.
        """
        tokens, parents, valid = _beam_step(
            self._core,
            logits,
            params=self._paramsselect_rows(),
            mask=mask,
            bias=bias,
            scorer=None if scorer is None else _floats_of(scorer),
            on_invalid=on_invalid,
            threads=threads,
        )
        return BeamStep(tokens, parents, self.done, valid)

    def finish(self, num_return: int | None = None) -> list[list[Hypothesis]]:
        """Return the best hypotheses of every prompt, best first.

        Parameters
        ----------
        num_return : int, optional
            How many per prompt, at most its number of beams; all of them by default.

        Returns
        -------
        list of list of Hypothesis
            Finished ones before those that are still live. `Hypothesis.score` is what they are ranked by.

        Examples
        --------
        >>> import numpy as np
        >>> import tokendraw as td
        >>> search = td.BeamSearch(3, max_new_tokens=1)
        >>> step = search.step(np.float32([[1, 3, 2]]))
        >>> [hypothesis.tokens for hypothesis in search.finish()[0]]
        [[1], [2], [0]]
        """
        if num_return is not None:
            most = min(self._widths, default=1)
            if integer("num_return", num_return, least=1) > most:
                raise ValueError(f"num_return must be at most num_beams ({most}), got {num_return}")
        return [
            [self._hypothesis(*found) for found in self._core.best(place, num_return or width)]
            for place, width in enumerate(self._widths)
        ]

    def _hypothesis(
        self,
        tokens: list[int],
        score: float,
        logprob: float,
        logprobs: list[float],
        finished: bool,
        log_inclusion: float,
    ) -> Hypothesis:
        inclusion = log_inclusion if self._is_sampled else None
        return Hypothesis(tokens, score, logprob, logprobs, finished, log_inclusion=inclusion)

    def _paramsselect_rows(self) -> SamplingParams:
        columns = columns_of(self._params)
        if not columns:
            return self._params
        rows = self.row_prompts
        return self._params.replace(**{name: values[rows] for name, values in columns.items()})


def beam_search(
    model: Model[Any],
    prompt: Prompt | Sequence[Prompt],
    *,
    num_beams: PerPrompt,
    max_new_tokens: PerPrompt,
    eos_token_id: int | Iterable[int] | None = None,
    length_penalty: float = 1.0,
    early_stopping: EarlyStopping = False,
    num_return: int = 1,
    mask: Any = None,
    bias: Any = None,
    constraint: Constraint | None = None,
    scorer: Callable[[BeamCandidates, Any], Any] | None = None,
    tree: SearchTree | None = None,
    preset: str = "transformers",
    on_step: Callable[[BeamStep], object] | None = None,
    **options: Any,
) -> Any:
    """Find completions of high probability with a few beams.

    Parameters
    ----------
    model : Model
        Any object with `start`, `step` and `select`, see `tokendraw.models.base.Model`.
    prompt : str, sequence of int, or a sequence of these
        One prompt or a batch, as for `generate`.
    num_beams, max_new_tokens : int or one per prompt
        The width, and the most tokens of a hypothesis.
    eos_token_id : int or an iterable of int, optional
        The end tokens; by default the model's own; ``()`` for none.
    length_penalty, early_stopping : optional
        As for `BeamSearch`.
    num_return : int, default 1
        How many hypotheses per prompt, at most `num_beams`.
    mask, bias : optional
        As in `sample`, for all steps: one for all prompts, or one row per prompt.
    constraint : callable, optional
        ``constraint(prompt, generated)`` returns what may follow the tokens generated so far for the prompt
        of that number: token ids, or a bool mask [vocab]. A beam that nothing may follow is dropped.
    scorer : callable, optional
        ``scorer(candidates, state)`` returns the score to rank each of the `BeamCandidates` by; the state is
        the model's, with the rows that the candidates name.
    tree : SearchTree, optional
        Filled with what was looked at, kept and finished; one prompt only.
    preset : str, default "transformers"
        Whose rules, see `BeamSearch.preset`.
    on_step : callable, optional
        Called with every `BeamStep`.
    **options
        All other options of `BeamSearch`, the fields of `SamplingParams` included.

    Returns
    -------
    list of Hypothesis, or list of such lists for a batch
        Best first, with text where the model has a tokenizer.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> [best] = td.beam_search(model, "And the LORD spake unto", num_beams=4, max_new_tokens=3)
    >>> best.text
    ' Moses, saying'
    """
    is_one = is_one_prompt(prompt)
    batch = fill_empty_prompts(
        model, [encode_prompt(model, each, i) for i, each in enumerate(as_batch(prompt))]
    )
    if tree is not None and len(batch) != 1:
        raise ValueError(f"tree must be given with one prompt, got {len(batch)}")
    search = BeamSearch.preset(
        preset,
        num_beams,
        max_new_tokens=max_new_tokens,
        prompts=batch,
        eos_token_id=(ends := end_tokens(model, eos_token_id)),
        length_penalty=length_penalty,
        early_stopping=early_stopping,
        **options,
    )
    mask, bias = (rows_or_shared(name, each, len(batch)) for name, each in (("mask", mask), ("bias", bias)))
    loop = _Loop(model, search, [len(each) for each in batch], mask, bias, constraint, scorer, tree)
    if batch:
        loop.run(batch, on_step)
    tokenizer = tokenizer_of(model)
    found = [
        [dataclasses.replace(each, text=text_of(tokenizer, each.tokens, ends)) for each in best]
        for best in search.finish(num_return)
    ]
    loop.mark_finished()
    return found[0] if is_one else found


# --- The loop ----------------------------------------------------------------------------------------------


class _Loop:
    """A model and a search that take turns."""

    def __init__(
        self,
        model: Model[Any],
        search: BeamSearch,
        prompt_lengths: Sequence[int],
        mask: Any,
        bias: Any,
        constraint: Constraint | None,
        scorer: Callable[[BeamCandidates, Any], Any] | None,
        tree: SearchTree | None,
    ) -> None:
        self._model = model
        self._search = search
        self._prompt_lengths = prompt_lengths
        self._mask = mask
        self._bias = bias
        self._constraint = constraint
        self._scorer = scorer
        self._record = None if tree is None else _Record(tree)

    def run(self, batch: Sequence[Sequence[int]], on_step: Callable[[BeamStep], object] | None) -> None:
        state, logits = self._model.start(batch)
        check_logits(logits, len(batch))
        while True:
            step = self._step(state, logits)
            if on_step is not None:
                on_step(step)
            if len(step.tokens) == 0:
                return
            state, logits = self._model.step(self._model.select(state, step.parents), step.tokens)
            check_logits(logits, len(step.tokens))

    def mark_finished(self) -> None:
        if self._record is not None:
            self._record.mark(self._search.finish()[0])

    def _step(self, state: Any, logits: Any) -> BeamStep:
        rows = self._search.row_prompts
        allowed = None if self._constraint is None else self._allowed(int(logits.shape[-1]))
        dead = np.zeros(len(rows), np.bool_) if allowed is None else ~allowed.any(axis=1)
        step = self._search.step(
            logits,
            mask=_both(select_rows(self._mask, rows), allowed),
            bias=select_rows(self._bias, rows),
            scorer=self._scorer_of(state),
            on_invalid="mark" if dead.any() else None,
        )
        if dead.any() and not (valid := np.asarray(step.valid) | dead).all():
            bad = np.flatnonzero(~valid).tolist()
            raise InvalidLogitsError(f"nothing can be drawn from rows {bad}", step.tokens, bad)
        if self._record is not None:
            self._record.keep(step)
        return step

    def _allowed(self, vocab: int) -> NDArray[np.bool_]:
        """Return what the constraint lets follow each row, bool [rows, vocab]."""
        assert self._constraint is not None
        allowed = np.zeros((self._search.num_live, vocab), np.bool_)
        for row, (place, history) in enumerate(
            zip(self._search.row_prompts.tolist(), self._search.histories, strict=True)
        ):
            follows = np.asarray(self._constraint(place, history[self._prompt_lengths[place] :]))
            allowed[row, follows if follows.size else []] = True
        return allowed

    def _scorer_of(self, state: Any) -> Scorer | None:
        scorer, record = self._scorer, self._record
        if scorer is None and record is None:
            return None

        def score(candidates: BeamCandidates) -> Any:
            scores = candidates.scores if scorer is None else scorer(candidates, state)
            if record is not None:
                record.add(candidates)
            return scores

        return score


class _Record:
    """What a search tree is told."""

    def __init__(self, tree: SearchTree) -> None:
        self._tree = tree
        self._root = -1
        self._rows = [self._root]
        self._logprobs = [0.0]
        self._nodes: dict[tuple[int, int], tuple[int, float]] = {}

    def add(self, candidates: BeamCandidates) -> None:
        columns = (column.tolist() for column in (candidates.rows, candidates.tokens, candidates.logprobs))
        for row, token, logprob in zip(*columns, strict=True):
            parent, total = self._rows[row], self._logprobs[row] + logprob
            self._nodes[parent, token] = self._tree.add(parent, token, total), total

    def keep(self, step: BeamStep) -> None:
        tokens, parents = np.asarray(step.tokens).tolist(), np.asarray(step.parents).tolist()
        kept = [self._nodes[self._rows[parent], token] for parent, token in zip(parents, tokens, strict=True)]
        self._rows = [node for node, _ in kept]
        self._logprobs = [total for _, total in kept]
        for node in self._rows:
            self._tree.keep(node)

    def mark(self, found: Sequence[Hypothesis]) -> None:
        for place, hypothesis in enumerate(found):
            node = self._root
            for token in hypothesis.tokens:
                node, _ = self._nodes[node, token]
            self._tree.finish(node)
            if place == 0:
                self._tree.best(node)


def _both(mask: Any, allowed: NDArray[np.bool_] | None) -> Any:
    if mask is None or allowed is None:
        return allowed if mask is None else mask
    if np.asarray(mask).dtype != np.bool_:
        raise TypeError("mask must be bool where there is a constraint, got packed words")
    return np.asarray(mask) & allowed


def _floats_of(scorer: Scorer) -> Callable[..., list[float]]:
    """Return the scorer as the core calls it."""
    return lambda *found: np.asarray(scorer(BeamCandidates(*found)), np.float64).ravel().tolist()


# --- What was asked ----------------------------------------------------------------------------------------


def _checked(params: SamplingParams | None, sampling: Mapping[str, Any], count: int) -> SamplingParams:
    merged = merged_params("BeamSearch", params, sampling)
    if np.any(np.asarray(merged.min_tokens) != 0):
        raise ValueError(
            f"min_tokens must be 0 in a beam search, which has min_new_tokens, got {merged.min_tokens}"
        )
    for name, values in columns_of(merged).items():
        check_count(name, len(values), count)
    return merged
