# SPDX-License-Identifier: Apache-2.0
"""Which of some given answers a model prefers, and answers that are held to given sequences of tokens."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from tokendraw._core import greedy, log_softmax
from tokendraw.models.base import fill_empty_prompts
from tokendraw.prompts import (
    Prompt,
    as_batch,
    check_logits,
    encode_prompt,
    end_tokens,
    integer,
    is_one_prompt,
    listed,
    token_ids,
    tokenizer_of,
)

if TYPE_CHECKING:
    from tokendraw.models.base import Model
    from tokendraw.tree import SearchTree

__all__ = ["Choice", "TokenTrie", "choose"]

Option: TypeAlias = str | Sequence[int] | NDArray[np.integer[Any]]
OnInvalid: TypeAlias = Literal["raise", "mark"]
Item = TypeVar("Item")

_ROOT = 0

_MEASURES = {
    None: None,
    "acc": None,
    "token": "token",
    "character": "character",
    "acc_norm": "character",
    "byte": "byte",
    "acc_bytes": "byte",
    "unconditional": "unconditional",
    "acc_mutual_info": "unconditional",
}
"""What `normalize` may be, by our names and by those of lm-evaluation-harness."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The option that a model prefers.

    Attributes
    ----------
    index : int
        Its place among the options, the lowest of equal ones; -1 where every option met an invalid row.
    option : str, sequence of int or None
        The option as it was given.
    logprobs : list of float
        For each option the log-probability of its tokens, in nats; NaN where that is not known.
    scores : list of float
        For each option what was compared: its log-probability, normalised.
    """

    index: int
    option: Any
    logprobs: list[float]
    scores: list[float]


class TokenTrie:
    """Sequences of tokens by their common beginnings, which says what may follow a beginning.

    A trie is a `constraint` of `beam_search` and of `best_first_search`: what they find is then one of the
    sequences and an end token.

    Parameters
    ----------
    sequences : iterable of sequences of int
        The sequences that are allowed.
    vocab_size : int, optional
        How long a `mask` is: the vocabulary of the model. By default it reaches to the highest token.
    eos_token_id : int or an iterable of int, optional
        The tokens that are allowed where a sequence ends.

    Examples
    --------
    >>> import numpy as np
    >>> import tokendraw as td
    >>> trie = td.TokenTrie([[3, 1], [3, 2, 2], [4]], vocab_size=6, eos_token_id=0)
    >>> trie.allowed([]), trie.allowed([3]), trie.allowed([3, 1])
    ([3, 4], [1, 2], [0])
    >>> td.greedy(np.zeros((2, 6), np.float32), mask=trie.bitmask([[], [3, 2]])).tolist()
    [3, 2]
    >>> [3, 2, 2] in trie, [3, 2] in trie
    (True, False)
    """

    def __init__(
        self,
        sequences: Iterable[Sequence[int] | NDArray[np.integer[Any]]],
        *,
        vocab_size: int | None = None,
        eos_token_id: int | Iterable[int] | None = None,
    ) -> None:
        size = None if vocab_size is None else integer("vocab_size", vocab_size, least=1, limit=1 << 31)
        self._limit = size or 1 << 31
        self._eos = sorted(
            {integer("eos_token_id", each, limit=self._limit) for each in listed(eos_token_id)}
        )
        self._children: list[dict[int, int]] = [{}]
        self._endings: list[list[int]] = [[]]  # the sequences that end at a node
        self._last: list[int] = []  # the node where a sequence ends
        self._highest = max(self._eos, default=-1)
        for place, sequence in enumerate(sequences):
            self._add(sequence, place)
        self._size = size or self._highest + 1

    def _add(self, sequence: Iterable[int], place: int) -> None:
        node = _ROOT
        for value in sequence:
            token = integer("tokens", value, limit=self._limit, where=f" (sequence {place})")
            self._highest = max(self._highest, token)
            if token not in self._children[node]:
                self._children[node][token] = len(self._children)
                self._children.append({})
                self._endings.append([])
            node = self._children[node][token]
        self._endings[node].append(place)
        self._last.append(node)

    def __len__(self) -> int:
        """Return the number of sequences, equal ones counted apart."""
        return len(self._last)

    def __contains__(self, sequence: Iterable[int]) -> bool:
        """Return whether this is one of the sequences, from its beginning to its end."""
        node = self._find(sequence)
        return node is not None and bool(self._endings[node])

    def _find(self, prefix: Iterable[int]) -> int | None:
        node = _ROOT
        for token in prefix:
            if int(token) not in self._children[node]:
                return None
            node = self._children[node][int(token)]
        return node

    def _nested(self) -> tuple[int, int] | None:
        """Return two sequences of which the first is a beginning of the second, if there are."""
        for node, endings in enumerate(self._endings):
            if endings and self._children[node]:
                below = next(iter(self._children[node].values()))
                while not self._endings[below]:
                    below = next(iter(self._children[below].values()))
                return endings[0], self._endings[below][0]
        return None

    def __call__(self, prompt: int, generated: Iterable[int]) -> list[int]:
        """Return the tokens that may follow what was generated, the same for all prompts."""
        return self.allowed(generated)

    def allowed(self, prefix: Iterable[int]) -> list[int]:
        """Return the tokens that may follow a beginning, ascending; none after what begins no sequence."""
        node = self._find(prefix)
        return [] if node is None else self._allowed_at(node)

    def _allowed_at(self, node: int) -> list[int]:
        children = self._children[node]
        return sorted({*children, *self._eos}) if self._endings[node] else sorted(children)

    def mask(self, prefix: Iterable[int]) -> NDArray[np.bool_]:
        """Return `allowed` as a mask: bool [vocab], true where a token may follow."""
        mask = np.zeros(self._size, dtype=np.bool_)
        mask[self.allowed(prefix)] = True
        return mask

    def bitmask(self, prefixes: Iterable[Iterable[int]]) -> NDArray[np.int32]:
        """Return one mask per beginning, packed: int32 [rows, words], as `sample` and `generate` take it.

        The words reach to the highest token of the sequences; what is past them is forbidden.
        """
        return _packed([self.allowed(prefix) for prefix in prefixes], self._highest)


def _packed(rows: Sequence[Sequence[int]], highest: int) -> NDArray[np.int32]:
    words = np.zeros((len(rows), max(1, highest // 32 + 1)), dtype=np.uint32)
    for row, tokens in zip(words, rows, strict=True):
        ids = np.array(tokens, dtype=np.int64)
        np.bitwise_or.at(row, ids // 32, np.uint32(1) << (ids % 32).astype(np.uint32))
    return words.view(np.int32)


@overload
def choose(
    model: Model[Any],
    prompt: str,
    options: Sequence[Option],
    *,
    normalize: str | None = ...,
    method: Literal["score", "greedy"] = ...,
    delimiter: str = ...,
    unconditional_prompt: Prompt = ...,
    eos_token_id: int | Iterable[int] | None = ...,
    batch_size: int = ...,
    on_invalid: OnInvalid | None = ...,
    tree: SearchTree | None = ...,
) -> Choice: ...


@overload
def choose(
    model: Model[Any],
    prompt: Any,
    options: Sequence[Any],
    *,
    normalize: str | None = ...,
    method: Literal["score", "greedy"] = ...,
    delimiter: str = ...,
    unconditional_prompt: Prompt = ...,
    eos_token_id: int | Iterable[int] | None = ...,
    batch_size: int = ...,
    on_invalid: OnInvalid | None = ...,
    tree: SearchTree | None = ...,
) -> Any: ...


def choose(
    model: Model[Any],
    prompt: Any,
    options: Sequence[Any],
    *,
    normalize: str | None = None,
    method: Literal["score", "greedy"] = "score",
    delimiter: str = "",
    unconditional_prompt: Prompt = "",
    eos_token_id: int | Iterable[int] | None = None,
    batch_size: int = 32,
    on_invalid: OnInvalid | None = None,
    tree: SearchTree | None = None,
) -> Any:
    """Choose one of some options: the one that the model holds for the most probable continuation.

    Options may have several tokens. What they begin with in common is read once: the model reads each
    inner node of the trie of their tokens, once, and no option's last token.

    Parameters
    ----------
    model : Model
        Any object with `start`, `step` and `select`, see `tokendraw.models.base.Model`.
    prompt : str or sequence of int, or a sequence of these
        What the options continue; several prompts are read together.
    options : sequence of str or of sequences of int
        The options, none of them empty; for several prompts also one such sequence per prompt.
    normalize : str, optional
        What is compared. By lm-evaluation-harness's names, or by ours:

        - None or "acc": the log-probability of all tokens of the option.
        - "token": that, divided by the number of tokens.
        - "acc_norm" or "character": divided by the number of characters of the option.
        - "acc_bytes" or "byte": divided by the number of its UTF-8 bytes.
        - "acc_mutual_info" or "unconditional": less the log-probability of the option after
          `unconditional_prompt`.
    method : {"score", "greedy"}, default "score"
        "greedy" takes the most probable token again and again, of those that lead to an option: one row of
        logits per token of the answer, however many options there are. It knows the log-probability of its
        answer only, and can not normalise.
    delimiter : str, default ""
        Stands between prompt and option, and is part of neither when characters are counted.
    unconditional_prompt : str or sequence of int, default ""
        In place of the prompt for "unconditional"; the empty one is the model's first token.
    eos_token_id : int or an iterable of int, optional
        For "greedy", where an option begins another one: the tokens that end the shorter. By default the
        model's own.
    batch_size : int, default 32
        The most rows that the model reads at once.
    on_invalid : {"raise", "mark"}, optional
        What follows a row of logits with NaN or +inf: None and "raise" raise `InvalidLogitsError`; with
        "mark" the options that need the row have NaN, and are not chosen.
    tree : SearchTree, optional
        Is told the tokens of all options with their log-probabilities, where one prompt is given and the
        method is "score".

    Returns
    -------
    Choice or list of Choice
        A list where several prompts were given.

    Notes
    -----
    Where prompt and options are text, their tokens are those of the joined text. If the tokenizer joins the
    end of the prompt with an option to one token, then all options are scored from where their tokens first
    differ from the prompt's own: what is scored then includes the end of the prompt, the same text for all.
    Only if nothing would be left of the prompt, and the model has no first token, are they encoded apart; so
    are options in token ids, and text after a prompt in token ids. Sums are in float64.

    Examples
    --------
    >>> import tokendraw as td
    >>> model = td.models.load("kjv")
    >>> choice = td.choose(model, "And God said, Let there be", [" light", " darkness", " a firmament"])
    >>> choice.index, choice.option, [round(logprob, 1) for logprob in choice.logprobs]
    (0, ' light', [-5.5, -8.0, -11.1])
    >>> td.choose(model, "In the beginning God created the", ["earth", "heaven"], delimiter=" ").option
    'earth'
    """
    measure = _checked(normalize, "normalize", _MEASURES)
    is_greedy = _checked(method, "method", {"score": False, "greedy": True})
    if is_greedy and measure is not None:
        raise ValueError(f"normalize must be None where method is 'greedy', got {normalize!r}")
    marks = _checked(on_invalid, "on_invalid", {None: False, "raise": False, "mark": True})
    width = integer("batch_size", batch_size, least=1)
    batch = as_batch(prompt)
    if tree is not None and (len(batch) != 1 or is_greedy):
        got = "method 'greedy'" if is_greedy else f"{len(batch)} prompts"
        raise ValueError(f"tree must be given with one prompt and method 'score', got {got}")
    questions = [
        _Question.of(model, each, own, delimiter, place)
        for place, (each, own) in enumerate(zip(batch, _options_per_prompt(options, len(batch)), strict=True))
    ]
    if is_greedy:
        ends = end_tokens(model, eos_token_id)
        parts = (_choose_greedily(model, part, ends, marks) for part in _parts(questions, width))
        chosen = list(itertools.chain.from_iterable(parts))
    else:
        bare, lengths = [], []
        if measure == "unconditional":
            bare = [question.without_prompt(model, unconditional_prompt, delimiter) for question in questions]
        else:
            lengths = [question.lengths(measure) for question in questions]
        nodes = _node_sums(model, questions, width, marks)
        sums = _option_sums(questions, nodes)
        if measure == "unconditional":
            scores = _differences(sums, _option_sums(bare, _node_sums(model, bare, width, marks)))
        else:
            scores = [own / length for own, length in zip(sums, lengths, strict=True)]
        chosen = [question.choice(*each) for question, *each in zip(questions, sums, scores, strict=True)]
        if tree is not None:
            questions[0].tell(tree, nodes[0], chosen[0].index)
    return chosen[0] if is_one_prompt(prompt) else chosen


def _differences(
    sums: Sequence[NDArray[np.float64]], others: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    with np.errstate(invalid="ignore"):  # two options that cannot be
        return [one - other for one, other in zip(sums, others, strict=True)]


def _checked(value: Any, name: str, known: dict[Any, Item]) -> Item:
    if value not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}")
    return known[value]


def _options_per_prompt(options: Any, prompts: int) -> list[list[Any]]:
    if isinstance(options, str | bytes):
        raise TypeError(f"options must be a sequence of options, got {options!r}")
    items = list(options)
    if not items:
        raise ValueError("options must not be empty")
    if all(map(_is_option, items)):
        return [items] * prompts
    if len(items) != prompts:
        raise ValueError(
            f"options must be those of all prompts or one list per prompt ({prompts}), got {len(items)}"
        )
    return [list(each) for each in items]


def _is_option(item: Any) -> bool:
    return isinstance(item, str | bytes) or all(
        np.ndim(each) == 0 and not isinstance(each, str) for each in item
    )


# --- What is asked -----------------------------------------------------------------------------------------


class _Question:
    """A prompt as tokens, and the trie of the tokens of its options."""

    def __init__(
        self, model: Model[Any], options: Sequence[Any], prompt: list[int], tokens: list[list[int]]
    ) -> None:
        self._tokenizer = tokenizer_of(model)
        self.options = options
        self.prompt = prompt
        self.tokens = tokens
        self.trie = TokenTrie(tokens, vocab_size=model.vocab_size)

    @classmethod
    def of(
        cls, model: Model[Any], prompt: Prompt, options: Sequence[Any], delimiter: str, place: int
    ) -> _Question:
        if not options:
            raise ValueError(f"options must not be empty (prompt {place})")
        for number, option in enumerate(options):
            if len(option) == 0:
                raise ValueError(f"an option must not be empty (option {number}) (prompt {place})")
        is_empty = isinstance(prompt, str) and prompt == ""
        alone = [] if is_empty else encode_prompt(model, prompt, place)
        are_texts = tokenizer_of(model) is not None and all(isinstance(option, str) for option in options)
        if isinstance(prompt, str) and are_texts:
            joined = _joined(
                model, prompt, alone, [_delimited(model, option, delimiter) for option in options]
            )
            if joined is not None:
                return cls(model, options, *joined)
        tokens = [_option_tokens(model, option, delimiter, number) for number, option in enumerate(options)]
        return cls(model, options, fill_empty_prompts(model, [alone])[0], tokens)

    def check_ends(self) -> None:
        """Raise ValueError where an option begins another one."""
        nested = self.trie._nested()
        if nested is not None:
            shorter, longer = (self.options[place] for place in nested)
            raise ValueError(
                "an option must not begin another one where there is no eos_token_id, "
                f"got {shorter!r} and {longer!r}"
            )

    def without_prompt(self, model: Model[Any], prompt: Prompt, delimiter: str) -> _Question:
        """Return the question how probable the same options are after another prompt."""
        options = [
            _delimited(model, option, delimiter) if isinstance(option, str) else option
            for option in self.options
        ]
        return _Question.of(model, prompt, options, "", 0)

    def lengths(self, measure: str | None) -> NDArray[np.float64]:
        """Return what each option's log-probability is divided by."""
        if measure is None:
            return np.ones(len(self.options))
        return np.array(
            [self._length(*each, measure) for each in zip(self.options, self.tokens, strict=True)]
        )

    def _length(self, option: Any, tokens: list[int], measure: str) -> float:
        if measure == "token":
            return len(tokens)
        if not isinstance(option, str):
            if self._tokenizer is None:
                raise ValueError(f"{measure}s of token ids need a model with a tokenizer, got {option!r}")
            if measure == "byte":
                return max(1, sum(len(self._tokenizer.token_bytes(token)) for token in tokens))
            option = self._tokenizer.decode(tokens)
        return max(1, len(option.encode() if measure == "byte" else option))

    def choice(self, sums: NDArray[np.float64], scores: NDArray[np.float64]) -> Choice:
        known = np.flatnonzero(~np.isnan(sums))
        if not known.size:
            return Choice(-1, None, sums.tolist(), scores.tolist())
        compared = np.where(np.isnan(scores), -np.inf, scores)[known]
        index = int(known[compared.argmax()])
        return Choice(index, self.options[index], sums.tolist(), scores.tolist())

    def tell(self, tree: SearchTree, sums: NDArray[np.float64], index: int) -> None:
        """Tell a tree what became of the nodes of the trie, by their log-probabilities."""
        told = {_ROOT: -1}
        for node, children in enumerate(self.trie._children):
            for token, child in children.items():
                if node not in told or math.isnan(sums[child]):
                    continue
                told[child] = tree.add(told[node], token, sums[child])
                tree.keep(told[child])
                if self.trie._endings[child]:
                    tree.finish(told[child])
        if index >= 0:
            tree.best(told[self.trie._last[index]])


def _joined(
    model: Model[Any], prompt: str, alone: list[int], options: Sequence[str]
) -> tuple[list[int], list[list[int]]] | None:
    """Return the beginning that the tokens of all joined texts share with the prompt's, and what follows."""
    tokenizer = tokenizer_of(model)
    assert tokenizer is not None, "the prompt was encoded"
    leftward = _is_leftward(model)
    whole = [list(tokenizer.encode(option + prompt if leftward else prompt + option)) for option in options]
    shared = min(_common_length(alone, each) for each in whole)
    if shared == 0 and getattr(model, "bos_token_id", None) is None:
        return None
    [start] = fill_empty_prompts(model, [alone[:shared]])
    return start, [each[shared:] for each in whole]


def _is_leftward(model: Model[Any]) -> bool:
    return bool(getattr(tokenizer_of(model), "right_to_left", False))


def _delimited(model: Model[Any], option: str, delimiter: str) -> str:
    """Return an option with the delimiter on the side of the prompt."""
    return option + delimiter if _is_leftward(model) else delimiter + option


def _common_length(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _option_tokens(model: Model[Any], option: Any, delimiter: str, place: int) -> list[int]:
    where = f" (option {place})"
    if isinstance(option, str):
        tokenizer = tokenizer_of(model)
        if tokenizer is None:
            raise ValueError(f"a text option needs a model with a tokenizer, got {option!r}{where}")
        return list(tokenizer.encode(_delimited(model, option, delimiter)))
    if isinstance(option, bytes) or np.ndim(option) != 1:
        raise TypeError(f"an option must be text or token ids, got {option!r}{where}")
    return token_ids("option tokens", option, model, where)


# --- The sums of all options -------------------------------------------------------------------------------


class _Place(NamedTuple):
    """A node of the trie of a question."""

    question: int
    node: int


def _node_sums(
    model: Model[Any], questions: Sequence[_Question], width: int, marks: bool
) -> list[NDArray[np.float64]]:
    """Return the log-probability down to each node of each question's trie, in float64."""
    keys = [(*question.prompt, None, *map(tuple, question.tokens)) for question in questions]
    distinct = dict(zip(keys, questions, strict=True))
    walk = _Walk(model, list(distinct.values()), width, marks)
    walk.run()
    known = dict(zip(distinct, walk.sums, strict=True))
    return [known[key] for key in keys]


def _option_sums(
    questions: Sequence[_Question], nodes: Sequence[NDArray[np.float64]]
) -> list[NDArray[np.float64]]:
    """Return the log-probability of each option of each question."""
    return [sums[question.trie._last] for question, sums in zip(questions, nodes, strict=True)]


class _Walk:
    """Reads the tries of several questions, level by level, each inner node once."""

    def __init__(self, model: Any, questions: Sequence[_Question], width: int, marks: bool) -> None:
        self._model = model
        self._tries = [question.trie for question in questions]
        self._prompts = [question.prompt for question in questions]
        self._width = width
        self._on_invalid: OnInvalid = "mark" if marks else "raise"
        # A model that reads several tokens at once gets unbranched runs of them; any other one single tokens.
        self._longest = math.inf if hasattr(model, "extend") else 1
        self.sums = [np.zeros(len(trie._children)) for trie in self._tries]

    def run(self) -> None:
        waiting = []
        for part in _parts(range(len(self._tries)), self._width):
            state, logits = self._model.start([self._prompts[question] for question in part])
            check_logits(logits, len(part))
            places = [_Place(question, _ROOT) for question in part]
            self._add(logits, places)
            waiting.append((state, places))
        while waiting:
            state, places = waiting.pop()
            runs = [(row, run) for row, place in enumerate(places) for run in self._runs(place)]
            for each in _parts(runs, self._width):
                waiting.append(self._read(state, each))

    def _runs(self, place: _Place) -> Iterator[list[tuple[int, _Place]]]:
        """Yield what follows a node: runs of inner nodes with their tokens."""
        children = self._tries[place.question]._children
        for token, child in children[place.node].items():
            run = []
            while children[child]:
                run.append((token, _Place(place.question, child)))
                if len(children[child]) > 1 or len(run) == self._longest:
                    break
                [(token, child)] = children[child].items()
            if run:
                yield run

    def _read(
        self, state: Any, runs: Sequence[tuple[int, list[tuple[int, _Place]]]]
    ) -> tuple[Any, list[_Place]]:
        """Read runs, each after a row of the state; return the state after them and their last nodes."""
        state = self._model.select(state, np.array([row for row, _ in runs]))
        lengths = [len(run) for _, run in runs]
        tokens = np.full((len(runs), max(lengths)), -1)
        for row, (_, run) in zip(tokens, runs, strict=True):
            row[: len(run)] = [token for token, _ in run]
        if tokens.shape[1] == 1:
            state, logits = self._model.step(state, tokens[:, 0])
            check_logits(logits, len(runs))
            columns = [logits]
        else:
            states, logits = self._model.extend(state, tokens)
            state, columns = states[-1], [logits[:, column] for column in range(tokens.shape[1])]
        for column, scores in enumerate(columns):
            rows = [row for row, length in enumerate(lengths) if length > column]
            own = scores if len(rows) == len(runs) else scores[np.array(rows)]
            self._add(own, [runs[row][1][column][1] for row in rows])
        return state, [run[-1][1] for _, run in runs]

    def _add(self, logits: Any, places: Sequence[_Place]) -> None:
        """Give the children of nodes their sums."""
        rows = np.asarray(log_softmax(logits, on_invalid=self._on_invalid))
        for row, (question, node) in zip(rows, places, strict=True):
            sums = self.sums[question]
            for token, child in self._tries[question]._children[node].items():
                sums[child] = sums[node] + float(row[token])


def _parts(items: Sequence[Item], size: int) -> Iterator[Sequence[Item]]:
    return (items[first : first + size] for first in range(0, len(items), size))


# --- Greedily ----------------------------------------------------------------------------------------------


def _choose_greedily(
    model: Model[Any], questions: Sequence[_Question], ends: Sequence[int], marks: bool
) -> list[Choice]:
    """Walk the tries of several questions together, always to the most probable token that is allowed."""
    answers = [_Answer(question, ends) for question in questions]
    live = answers
    state, logits = model.start([question.prompt for question in questions])
    while live:
        check_logits(logits, len(live))
        mask = _packed([answer.allowed() for answer in live], max(answer.highest for answer in live))
        tokens = greedy(logits, mask=mask, on_invalid="mark" if marks else "raise")
        logprobs = np.asarray(log_softmax(logits, on_invalid="mark"))
        for row, (answer, token) in enumerate(zip(live, tokens.tolist(), strict=True)):
            answer.take(token, float(logprobs[row, token]))
        rows = [row for row, answer in enumerate(live) if not answer.is_complete]
        live = [live[row] for row in rows]
        if live:
            chosen = np.array(rows, dtype=np.intp)
            state, logits = model.step(model.select(state, chosen), tokens[chosen])
    return [answer.choice() for answer in answers]


class _Answer:
    """A walk down the trie of a question."""

    def __init__(self, question: _Question, ends: Sequence[int]) -> None:
        self._question = question
        self._trie = TokenTrie(question.tokens, eos_token_id=ends)
        if not ends:
            question.check_ends()
        self._node = _ROOT
        self._logprob = 0.0
        self._index = -1
        self.is_complete = False
        self.highest = self._trie._highest

    def allowed(self) -> list[int]:
        return self._trie._allowed_at(self._node)

    def take(self, token: int, logprob: float) -> None:
        """Go on with a token; -1 means that there is none, an end token that the option ends here."""
        children = self._trie._children
        if token in children[self._node]:
            self._node = children[self._node][token]
            self._logprob += logprob
            self.is_complete = not children[self._node]
        else:
            self.is_complete = True
        if self.is_complete and token >= 0:
            self._index = self._trie._endings[self._node][0]

    def choice(self) -> Choice:
        options = self._question.options
        logprobs = [math.nan] * len(options)
        if self._index < 0:
            return Choice(-1, None, logprobs, logprobs)
        logprobs[self._index] = self._logprob
        return Choice(self._index, options[self._index], logprobs, logprobs)
