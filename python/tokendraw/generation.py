# SPDX-License-Identifier: Apache-2.0
"""The loop: a language model is asked for logits, a token is drawn, the model reads it.

Nothing here knows a model: anything with `start`, `step` and `select` will do. Nothing here touches a
logit either: rows go from the model to `draw` as they are, so they may be torch tensors on any device.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tokendraw._core import draw, log_softmax, sample, token_logprobs, verify_draft
from tokendraw.errors import InvalidLogitsError
from tokendraw.models.base import complete, fill_empty_prompts
from tokendraw.params import READS_HISTORY, SamplingParams, columns_of, merged_params
from tokendraw.prompts import (
    PerPrompt,
    Prompt,
    as_batch,
    check_count,
    check_logits,
    encode_prompt,
    end_tokens,
    integer,
    listed,
    noise_of,
    per_prompt,
    rows_or_shared,
    select_rows,
    token_ids,
    tokenizer_of,
)
from tokendraw.speculative import check_draft, choose_states, drafter_of
from tokendraw.text import TextStream

if TYPE_CHECKING:
    from tokendraw.models.base import Model
    from tokendraw.speculative import Draft, Drafter

__all__ = ["GeneratedToken", "Generation", "TokenStream", "generate", "stream_generate"]

FinishReason: TypeAlias = Literal["stop", "eos", "length", "invalid"]
OnInvalid: TypeAlias = Literal["raise", "mark"]
Stop: TypeAlias = str | int | Iterable[str | int]
TopLogprobs: TypeAlias = tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class Generation:
    """One finished sequence.

    Attributes
    ----------
    tokens : list of int
        Every drawn token, the one that ended the sequence included, in the order of drawing.
    text : str or None
        The text of the tokens, without end tokens and cut at a stop string; None where the model has no
        tokenizer.
    logprobs : list of float
        For each token the logarithm of the probability it was drawn with, after all steps.
    finish_reason : {"stop", "eos", "length", "invalid"} or None
        A stop string or stop token; the model's end token; `max_new_tokens`; or a row of logits that
        nothing could be drawn from (only where such rows are marked, see `on_invalid` of `generate`).
        None only in the results of a `TokenStream` that was closed or has failed.
    raw_logprobs : list of float
        For each token its log-probability under the unmodified logits.
    top_logprobs : list of tuples of (int, float)
        For each token the highest candidates and their log-probabilities after all steps, as many as
        `logprobs` of `generate` asked for.
    proposed, accepted : int
        How many tokens the draft proposed, and how many of them are among the tokens.
    """

    tokens: list[int]
    text: str | None
    logprobs: list[float]
    finish_reason: FinishReason | None
    raw_logprobs: list[float]
    top_logprobs: list[TopLogprobs]
    proposed: int = 0
    accepted: int = 0


@dataclass(frozen=True, slots=True)
class GeneratedToken:
    """One drawn token of one sequence, as `stream_generate` yields it.

    Attributes
    ----------
    index : int
        Place of the sequence in the list that `generate` would return.
    position : int
        Number of tokens that were drawn for the sequence before this one.
    token : int
        The token; -1 if nothing could be drawn.
    text : str
        The text that is settled by this token, possibly empty: characters split over tokens and possible
        beginnings of stop strings are held back. The pieces of a sequence, joined, are its text; where
        the tokenizer reads from right to left, each piece comes before the earlier ones.
    logprob, raw_logprob : float
        As in `Generation`.
    finish_reason : {"stop", "eos", "length", "invalid"} or None
        Why the sequence ends with this token; None if it goes on.
    top_logprobs : tuple of (int, float)
        As in `Generation`.
    logits : array or None
        The row that the token was drawn from, if `keep_logits` asked for it.
    """

    index: int
    position: int
    token: int
    text: str
    logprob: float
    raw_logprob: float
    finish_reason: FinishReason | None
    top_logprobs: TopLogprobs = ()
    logits: Any = field(default=None, repr=False, compare=False)


def generate(
    model: Model[Any],
    prompts: Prompt | Sequence[Prompt],
    params: SamplingParams | None = None,
    *,
    max_new_tokens: PerPrompt,
    seed: PerPrompt | None = None,
    stream: PerPrompt | None = None,
    step: PerPrompt = 0,
    n: int = 1,
    stop: Stop | None = None,
    eos_token_id: int | Iterable[int] | None = None,
    mask: Any = None,
    bias: Any = None,
    logprobs: int = 0,
    draft: Draft | None = None,
    draft_tokens: int = 4,
    on_token: Callable[[GeneratedToken], object] | None = None,
    on_invalid: OnInvalid | None = None,
    **sampling: Any,
) -> list[Generation]:
    """Continue prompts with a language model.

    All sequences run in one batch and leave it when they are finished. Each one draws from its own random
    stream, fixed at the start: it does not depend on how many others there are or on what they do, as
    far as the model's logits do not.

    Parameters
    ----------
    model : Model
        Any object with `start`, `step` and `select`, see `tokendraw.models.base.Model`.
    prompts : str, sequence of int, or a sequence of these
        One prompt or a batch; text needs a model with a tokenizer. An empty list is a batch of no prompts,
        an empty prompt is ``""`` or ``[[]]``.
    params : SamplingParams, optional
        How tokens are drawn. Arrays hold one value per prompt.
    max_new_tokens : int or one per prompt
        The most tokens that are drawn for a sequence.
    seed : int or one per prompt, optional
        Equal seeds give equal sequences. None takes one from the operating system.
    stream : int or one per prompt, optional
        The random stream of a prompt; its sample j takes stream + j. By default prompt i has
        stream i * n if there is one seed, 0 if every prompt has its own. (To receive text while it grows
        see `stream_generate`.)
    step : int or one per prompt, default 0
        The step of the first token; later ones count on. A sequence that is continued after k
        tokens with ``step=k`` draws what it would have drawn in one go.
    n : int, default 1
        Sequences per prompt. The model reads each prompt once.
    stop : str, int, or an iterable of these, optional
        Strings and tokens that end a sequence. A string is found across the borders of tokens.
    eos_token_id : int or an iterable of int, optional
        The end tokens; by default those of `params`, else the model's own; ``()`` for none.
    mask, bias : optional
        As in `sample`, for all steps: one for all prompts, or one row per prompt.
    logprobs : int, default 0
        How many of the highest candidates to report for each token.
    draft : Model, "prompt-lookup" or an object with `propose`, optional
        What guesses the next tokens, so that one call of the model verifies several: a smaller model of the
        same vocabulary, the text so far (`PromptLookup`), or a `tokendraw.speculative.Proposer`. The text
        follows the same distribution as without, and is the same at temperature 0; elsewhere a seed gives
        another text, because tokens come from other draws.
    draft_tokens : int, default 4
        The most tokens to guess at once.
    on_token : callable, optional
        Called with a `GeneratedToken` after each draw.
    on_invalid : {"raise", "mark"}, optional
        As in `draw`. Where rows are marked, a sequence whose row cannot be drawn from ends as "invalid".
    **sampling
        Fields of `SamplingParams`, taking precedence over `params`. Penalties see the prompt and what was
        drawn; what was drawn is the output.

    Returns
    -------
    list of Generation
        The n sequences of the first prompt, then those of the next.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> [found] = td.generate(model, "And the LORD spake unto", max_new_tokens=1, top_k=1)
    >>> found.text, found.finish_reason
    (' Moses', 'length')

    One seed, a batch of prompts of different lengths, a temperature for each:

    >>> prompts = ["And God said, Let there be", "Blessed are the"]
    >>> batch = td.generate(model, prompts, max_new_tokens=8, seed=7, temperature=[0.5, 1.0])
    >>> alone = td.generate(model, prompts[1], max_new_tokens=8, seed=7, stream=1)
    >>> batch[1].tokens == alone[0].tokens
    True

    A smaller model proposes, the model decides:

    >>> options = {"max_new_tokens": 20, "temperature": 0}
    >>> [plain] = td.generate(model, prompts[0], **options)
    >>> [drafted] = td.generate(model, prompts[0], draft=td.models.load("kjv-draft"), **options)
    >>> drafted.text == plain.text, 0 < drafted.accepted <= drafted.proposed
    (True, True)
    """
    tokens = stream_generate(
        model,
        prompts,
        params,
        max_new_tokens=max_new_tokens,
        seed=seed,
        stream=stream,
        step=step,
        n=n,
        stop=stop,
        eos_token_id=eos_token_id,
        mask=mask,
        bias=bias,
        logprobs=logprobs,
        draft=draft,
        draft_tokens=draft_tokens,
        on_invalid=on_invalid,
        **sampling,
    )
    if on_token is not None:
        for token in tokens:
            on_token(token)
    return tokens.results()


def stream_generate(
    model: Model[Any],
    prompts: Prompt | Sequence[Prompt],
    params: SamplingParams | None = None,
    *,
    max_new_tokens: PerPrompt,
    seed: PerPrompt | None = None,
    stream: PerPrompt | None = None,
    step: PerPrompt = 0,
    n: int = 1,
    stop: Stop | None = None,
    eos_token_id: int | Iterable[int] | None = None,
    mask: Any = None,
    bias: Any = None,
    logprobs: int = 0,
    draft: Draft | None = None,
    draft_tokens: int = 4,
    on_invalid: OnInvalid | None = None,
    keep_logits: bool = False,
    **sampling: Any,
) -> TokenStream:
    """Continue prompts as `generate` does, one token at a time.

    Bad arguments raise here, not at the first token. Whoever stops iterating stops the model.

    Parameters
    ----------
    model, prompts, params, max_new_tokens, seed, stream, step, n, stop, eos_token_id, mask, bias, \
    logprobs, draft, draft_tokens, on_invalid, **sampling
        As in `generate`.
    keep_logits : bool, default False
        If true, each token comes with the row of logits it was drawn from, as the model returned it. The
        row keeps the logits of the whole batch in memory for as long as it is kept itself.

    Returns
    -------
    TokenStream
        An iterator over `GeneratedToken`: at each step one of every sequence that is not finished (with a
        draft, all that were accepted and one more), in the order of `generate`.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> tokens = td.stream_generate(model, "And the LORD spake unto", max_new_tokens=2, top_k=1)
    >>> [token.text for token in tokens]
    [' Moses', ',']
    >>> tokens.results()[0].text
    ' Moses,'
    """
    encoded = [encode_prompt(model, prompt, place) for place, prompt in enumerate(as_batch(prompts))]
    batch = fill_empty_prompts(model, encoded)
    count, samples = len(batch), integer("n", n, least=1)
    if eos_token_id is None and params is not None:
        eos_token_id = params.eos_token_id
    endings = _Endings.of(model, stop, eos_token_id)
    limits = per_prompt("max_new_tokens", max_new_tokens, count, bits=32)
    seeds, streams = noise_of(seed, stream, [samples] * count)
    drawing = _Drawing(
        params=_merged(params, sampling, count, endings.eos),
        seeds=np.array(seeds, dtype=np.uint64),
        streams=np.array(streams, dtype=np.int64),
        steps=np.array(per_prompt("step", step, count, bits=32), dtype=np.int64),
        mask=rows_or_shared("mask", mask, count),
        bias=rows_or_shared("bias", bias, count),
        logprobs=integer("logprobs", logprobs),
        on_invalid=on_invalid,
    )
    sequences = [
        _Sequence(
            index, batch[index // samples], limits[index // samples], endings, endings.text_stream(model)
        )
        for index in range(count * samples)
    ]
    drawing = drawing.repeat(samples)
    if draft is None:
        return TokenStream(_run(model, batch, sequences, drawing, keep_logits), sequences)
    width = integer("draft_tokens", draft_tokens, least=1)
    check_draft(draft, model)
    drafting = _Drafting(model, draft, width, batch, sequences)
    return TokenStream(drafting.run(drawing, keep_logits), sequences)


class TokenStream(Iterator[GeneratedToken]):
    """The tokens of `stream_generate`, one at a time, and the sequences they make.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> tokens = td.stream_generate(model, "In the beginning God created the", max_new_tokens=3, top_k=1)
    >>> first = next(tokens)
    >>> first.position, len(tokens.results()[0].tokens)
    (0, 3)
    """

    def __init__(self, tokens: Generator[GeneratedToken], sequences: Sequence[_Sequence]) -> None:
        self._tokens = tokens
        self._sequences = sequences

    def __next__(self) -> GeneratedToken:
        return next(self._tokens)

    def close(self) -> None:
        """Draw nothing more; the states of the model are released."""
        self._tokens.close()

    def results(self) -> list[Generation]:
        """Draw what is left and return what `generate` would have returned.

        After `close`, or an error of the model or the draw, the sequences are returned as they are.
        """
        for _ in self:
            pass
        return [sequence.result() for sequence in self._sequences]


# --- The loop ----------------------------------------------------------------------------------------------


def _run(
    model: Model[Any],
    prompts: Sequence[Sequence[int]],
    sequences: Sequence[_Sequence],
    drawing: _Drawing,
    keep_logits: bool,
) -> Generator[GeneratedToken]:
    live = [sequence for sequence in sequences if sequence.limit > 0]
    if not live:
        return
    state, logits = model.start(prompts)
    check_logits(logits, len(prompts))
    samples = len(sequences) // len(prompts)
    state, logits = _select(model, state, logits, [sequence.index // samples for sequence in live])
    drawing = drawing.select([sequence.index for sequence in live])
    for position in itertools.count():
        tokens, drawn = drawing.draw(logits, position, live)
        for row, sequence in enumerate(live):
            yield sequence.append(drawn[row], logits[row] if keep_logits else None)
        rows = [row for row, sequence in enumerate(live) if sequence.finish_reason is None]
        if not rows:
            return
        state, tokens = _select(model, state, tokens, rows)
        drawing = drawing.select(rows)
        live = [live[row] for row in rows]
        state, logits = model.step(state, tokens)
        check_logits(logits, len(live))


class _Drafting:
    """The loop in rounds: a draft guesses some tokens of each row, and one call of the model verifies them.

    Before a round the model has read all of each text but its last token.
    """

    def __init__(
        self,
        model: Model[Any],
        draft: Draft,
        width: int,
        prompts: Sequence[Sequence[int]],
        sequences: Sequence[_Sequence],
    ) -> None:
        self._model = complete(model)
        self._draft = draft
        self._width = width
        self._prompts = prompts
        self._samples = len(sequences) // max(len(prompts), 1)
        self._live = [sequence for sequence in sequences if sequence.limit > 0]

    def run(self, drawing: _Drawing, keep_logits: bool) -> Generator[GeneratedToken]:
        if not self._live:
            return
        owners = [sequence.index // self._samples for sequence in self._live]
        state, logits = self._model.start(self._prompts)
        check_logits(logits, len(self._prompts))
        state, logits = _select(self._model, state, logits, owners)
        drawing = drawing.select([sequence.index for sequence in self._live])
        _, drawn = drawing.draw(logits, 0, self._live)
        for row, sequence in enumerate(self._live):
            yield sequence.append(drawn[row], logits[row] if keep_logits else None)
        rows = [row for row, sequence in enumerate(self._live) if sequence.finish_reason is None]
        if not rows:
            return
        drafter = drafter_of(self._draft, self._model, self._prompts, owners, self._width)
        states, accepted = [state], [0] * len(rows)
        while rows:
            drafter.keep(rows, accepted, [self._live[row].drawn[-1].token for row in rows])
            state = choose_states(self._model, states, accepted, rows)
            drawing = drawing.select(rows)
            self._live = [self._live[row] for row in rows]
            states, logits, runs = self._verify(drafter, state, drawing)
            counts = []
            for row, run in enumerate(runs):
                counts.append(len(run) - 1)
                for place, one in enumerate(run):
                    self._live[row].accepted += place < len(run) - 1
                    yield self._live[row].append(one, logits[row, place] if keep_logits else None)
                    if self._live[row].finish_reason is not None:
                        break
            rows = [row for row, sequence in enumerate(self._live) if sequence.finish_reason is None]
            accepted = [counts[row] for row in rows]

    def _verify(
        self, drafter: Drafter, state: Any, drawing: _Drawing
    ) -> tuple[list[Any], Any, list[list[_Drawn]]]:
        """Return the states after each column, the logits, and what each row came to."""
        live = self._live
        places = np.array([len(sequence.drawn) for sequence in live])
        # One token of the limit is the model's own.
        counts = [min(self._width, sequence.limit - len(sequence.drawn) - 1) for sequence in live]
        drafts = drafter.propose(
            [sequence.sofar for sequence in live],
            counts,
            lambda logits, offset, drafted: drawing.sample(logits, places + offset, live, drafted),
            live[0].endings.all_tokens,
        )
        for sequence, row in zip(live, drafts.tokens, strict=True):
            sequence.proposed += int(np.count_nonzero(row >= 0))
        last = np.array([[sequence.drawn[-1].token] for sequence in live])
        states, logits = self._model.extend(state, np.concatenate([last, drafts.tokens], axis=1))
        runs = drawing.verify(drafts.tokens, drafts.logits, logits, places, live)
        return states, logits, runs


def _select(model: Model[Any], state: Any, array: Any, rows: Sequence[int]) -> tuple[Any, Any]:
    """Return the state of a batch and an array of its rows with these rows only."""
    if _is_all(rows, len(array)):
        return state, array
    chosen = np.array(rows, dtype=np.intp)
    return model.select(state, chosen), array[chosen]


def _is_all(rows: Sequence[int], count: int) -> bool:
    return list(rows) == list(range(count))


class _Drawn(NamedTuple):
    token: int
    logprob: float
    raw_logprob: float
    top_logprobs: TopLogprobs


@dataclass(frozen=True, slots=True, kw_only=True)
class _Drawing:
    """How the rows of a batch are drawn from, one value per row where rows may differ."""

    params: SamplingParams
    seeds: NDArray[np.uint64]
    streams: NDArray[np.int64]
    steps: NDArray[np.int64]
    mask: Any
    bias: Any
    logprobs: int
    on_invalid: OnInvalid | None

    def select(self, rows: Sequence[int]) -> _Drawing:
        """Return the same for a batch of these rows."""
        if _is_all(rows, len(self.seeds)):
            return self
        chosen = np.array(rows, dtype=np.intp)
        columns = {name: values[chosen] for name, values in columns_of(self.params).items()}
        return dataclasses.replace(
            self,
            params=self.params.replace(**columns),
            seeds=self.seeds[chosen],
            streams=self.streams[chosen],
            steps=self.steps[chosen],
            mask=select_rows(self.mask, chosen),
            bias=select_rows(self.bias, chosen),
        )

    def repeat(self, samples: int) -> _Drawing:
        """Return the same for a batch with every row repeated, each time with the next stream."""
        prompts = len(self.seeds)
        repeated = self.select([place for place in range(prompts) for _ in range(samples)])
        return dataclasses.replace(repeated, streams=repeated.streams + np.tile(np.arange(samples), prompts))

    def draw(self, logits: Any, position: int, live: Sequence[_Sequence]) -> tuple[Any, list[_Drawn]]:
        """Return one token per row, as an array of the kind of the logits and with what is known of it."""
        try:
            draws = draw(
                logits,
                logprobs=self.logprobs,
                **self._options(self.steps + position, live),
            )
        except InvalidLogitsError as error:
            error.add_note(f"at position {position} of sequences {[live[row].index for row in error.rows]}")
            raise
        columns = (draws.tokens, draws.logprobs, draws.raw_logprobs)
        rows = zip(*(column.tolist() for column in columns), self._top_logprobs(draws), strict=True)
        return draws.tokens, [_Drawn(*row) for row in rows]

    def sample(
        self, logits: Any, places: NDArray[Any], live: Sequence[_Sequence], drafted: Sequence[Sequence[int]]
    ) -> Any:
        """Return one draft per row at places of their own."""
        return sample(logits, **self._options(self.steps + places, live, drafted))

    def verify(
        self, drafts: Any, draft_logits: Any, logits: Any, places: NDArray[Any], live: Sequence[_Sequence]
    ) -> list[list[_Drawn]]:
        """Return the tokens that every row came to: the accepted drafts, and one more."""
        try:
            verified = verify_draft(
                drafts,
                draft_logits,
                logits,
                **self._options(self.steps + places, live),
            )
        except InvalidLogitsError as error:
            error.add_note(
                f"while drafts were verified of sequences {[live[row].index for row in error.rows]}"
            )
            raise
        runs = [
            row[: count + 1]
            for row, count in zip(verified.tokens.tolist(), verified.accepted.tolist(), strict=True)
        ]
        flat = self._describe(logits, runs, places, live)
        return [[next(flat) for _ in run] for run in runs]

    def _describe(
        self, logits: Any, runs: Sequence[Sequence[int]], places: NDArray[Any], live: Sequence[_Sequence]
    ) -> Iterator[_Drawn]:
        """Yield what is known of each token of the runs, by the logits it was drawn from."""
        rows = np.array([row for row, run in enumerate(runs) for _ in run])
        offsets = np.array([offset for run in runs for offset in range(len(run))])
        tokens = [token for run in runs for token in run]
        one_each = self.select(rows.tolist())
        chosen = logits[rows, offsets]
        options = one_each._options(
            one_each.steps + (places[rows] + offsets),
            [live[row] for row in rows],
            [runs[row][:offset] for row, offset in zip(rows, offsets, strict=True)],
        )
        options["on_invalid"] = "mark"
        emitted = np.maximum(tokens, 0)
        processed = log_softmax(chosen, **options)[np.arange(len(tokens)), emitted].tolist()
        raw = token_logprobs(chosen, emitted, on_invalid="mark").tolist()
        best = (
            one_each._top_logprobs(draw(chosen, logprobs=self.logprobs, **options))
            if self.logprobs
            else [()] * len(tokens)
        )
        return map(_Drawn, tokens, processed, raw, best)

    def _options(
        self,
        steps: NDArray[Any],
        live: Sequence[_Sequence],
        drafted: Sequence[Sequence[int]] | None = None,
    ) -> dict[str, Any]:
        """Return what every function of the core that draws is given."""
        return {
            "params": self.params,
            "seed": self.seeds,
            "stream": self.streams,
            "step": steps,
            "mask": self.mask,
            "bias": self.bias,
            "on_invalid": self.on_invalid,
            **self._histories(live, drafted),
        }

    def _histories(
        self, live: Sequence[_Sequence], drafted: Sequence[Sequence[int]] | None = None
    ) -> dict[str, Any]:
        """Return what penalties see of each sequence, and of its drafts, where there are penalties."""
        if not any(np.any(getattr(self.params, name) != neutral) for name, neutral in READS_HISTORY.items()):
            return {}
        return {
            "history": [
                sequence.sofar + list(drafts)
                for sequence, drafts in zip(live, drafted or [()] * len(live), strict=True)
            ],
            "prompt_lengths": [len(sequence.prompt) for sequence in live],
        }

    def _top_logprobs(self, draws: Any) -> list[TopLogprobs]:
        if self.logprobs == 0:
            return [()] * len(self.seeds)
        rows = zip(draws.top_tokens.tolist(), draws.top_logprobs.tolist(), strict=True)
        return [tuple(pair for pair in zip(*row, strict=True) if pair[0] >= 0) for row in rows]


@dataclass(frozen=True, slots=True)
class _Endings:
    """What ends a sequence before its limit."""

    eos: frozenset[int]
    tokens: frozenset[int]
    strings: tuple[str, ...]

    @classmethod
    def of(cls, model: Model[Any], stop: Stop | None, eos_token_id: int | Iterable[int] | None) -> _Endings:
        stops = listed(stop)
        strings = tuple(each for each in stops if isinstance(each, str))
        if "" in strings:
            raise ValueError("a stop string must not be empty")
        if strings and tokenizer_of(model) is None:
            raise ValueError(f"a stop string needs a model with a tokenizer, got {strings[0]!r}")
        tokens = [each for each in stops if not isinstance(each, str)]
        return cls(
            frozenset(end_tokens(model, eos_token_id)),
            frozenset(token_ids("stop tokens", tokens, model)),
            strings,
        )

    @property
    def all_tokens(self) -> frozenset[int]:
        return self.eos | self.tokens

    def text_stream(self, model: Model[Any]) -> TextStream | None:
        tokenizer = tokenizer_of(model)
        return None if tokenizer is None else TextStream(tokenizer, self.strings)


@dataclass(slots=True)
class _Sequence:
    """One sequence in the making."""

    index: int
    prompt: Sequence[int]
    limit: int
    endings: _Endings
    text: TextStream | None
    drawn: list[_Drawn] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    proposed: int = 0
    accepted: int = 0

    @property
    def sofar(self) -> list[int]:
        """The prompt and what was drawn."""
        return [*self.prompt, *(drawn.token for drawn in self.drawn)]

    def append(self, drawn: _Drawn, logits: Any) -> GeneratedToken:
        """Take one more token; afterwards `finish_reason` says whether it was the last."""
        position = len(self.drawn)
        if drawn.token >= 0:
            self.drawn.append(drawn)
        self.finish_reason = self._ending(drawn.token)
        text = self._settle(drawn.token)
        return GeneratedToken(
            self.index,
            position,
            drawn.token,
            text,
            drawn.logprob,
            drawn.raw_logprob,
            self.finish_reason,
            drawn.top_logprobs,
            logits,
        )

    def _ending(self, token: int) -> FinishReason | None:
        if token < 0:
            return "invalid"
        if token in self.endings.eos:
            return "eos"
        if token in self.endings.tokens:
            return "stop"
        return "length" if len(self.drawn) == self.limit else None

    def _settle(self, token: int) -> str:
        """Return the text that this token settles, and see whether a stop string ends there."""
        if self.text is None:
            return ""
        has_text = self.finish_reason in (None, "length")
        piece = self.text.push(token if has_text else None, last=self.finish_reason is not None)
        if self.text.stopped:
            self.finish_reason = "stop"
        return piece

    def result(self) -> Generation:
        return Generation(
            [drawn.token for drawn in self.drawn],
            None if self.text is None else self.text.text,
            [drawn.logprob for drawn in self.drawn],
            self.finish_reason if self.limit else "length",
            [drawn.raw_logprob for drawn in self.drawn],
            [drawn.top_logprobs for drawn in self.drawn],
            self.proposed,
            self.accepted,
        )


# --- What was asked: every check, before the model runs ----------------------------------------------------


def _merged(
    params: SamplingParams | None, sampling: Mapping[str, Any], count: int, eos: Iterable[int]
) -> SamplingParams:
    """Return one set of parameters, its arrays with one value per prompt; `min_tokens` forbids these ends."""
    merged = merged_params("generate", params, sampling, eos_token_id=tuple(sorted(eos)) or None)
    for name, values in columns_of(merged).items():
        check_count(name, len(values), count)
    return merged
