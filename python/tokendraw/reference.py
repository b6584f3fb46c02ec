# SPDX-License-Identifier: Apache-2.0
"""The meaning of every step in plain NumPy float64: one row at a time, sorted, summed and drawn as written.

The compiled core is tested against this module. It is slow on purpose and checks no parameter: thresholds
outside their range are how the tests ask for a slightly smaller or larger set (see `bounds`).
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypedDict, Unpack

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "STEPS",
    "Draws",
    "Filters",
    "InvalidLogitsError",
    "KeptSet",
    "Row",
    "apply_bias",
    "apply_mask",
    "apply_temperature",
    "before",
    "bounds",
    "descend",
    "draw",
    "filter_logits",
    "greedy",
    "kept_set",
    "log_softmax",
    "philox4x32_10",
    "pick",
    "run_steps",
    "sample",
    "select_min_p",
    "select_top_k",
    "select_top_p",
    "softmax",
    "top_continuations",
    "top_k",
    "total_order",
    "uniform",
    "unpack_mask",
]

TILE = 1024
LANES = 32
TOP_P_MARGIN = 2.0**-22
MIN_P_MARGIN = 2.0**-20
FLT_MAX = np.finfo(np.float32).max

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Logits = NDArray[np.float32]
OnInvalid = Literal["raise", "mark"]


class InvalidLogitsError(ValueError):
    """Rows that no token can be drawn from; `tokens` holds the result with -1 in those rows."""

    def __init__(self, message: str, tokens: Any) -> None:
        super().__init__(message)
        self.tokens = tokens


class Filters(TypedDict, total=False):
    """What narrows a row; every value but `bias` given as a dict may differ from row to row."""

    mask: ArrayLike | None
    bias: Mapping[int, float] | ArrayLike | None
    temperature: ArrayLike
    top_k: ArrayLike | None
    top_p: ArrayLike
    min_p: ArrayLike


class Draws(NamedTuple):
    """One drawn token per row, and what is known about it."""

    tokens: Any
    logprobs: Any
    raw_logprobs: Any
    ranks: Any
    kept: Any
    valid: Any
    top_tokens: Any
    top_logprobs: Any


class KeptSet(NamedTuple):
    """The kept tokens of all rows: row i holds `tokens[offsets[i]:offsets[i + 1]]`, ascending."""

    tokens: NDArray[np.int32]
    logprobs: Floats
    offsets: Ints


# --- The total order ---------------------------------------------------------------------------------------


def before(logit: float, token: int, other_logit: float, other_token: int) -> bool:
    """Say whether a token ranks before another: higher logit first, then lower id.

    Examples
    --------
    >>> before(2.0, 7, 1.0, 0), before(1.0, 3, 1.0, 4), before(-0.0, 1, 0.0, 0)
    (True, True, False)
    """
    return logit > other_logit or (logit == other_logit and token < other_token)


def total_order(logits: Logits) -> Ints:
    """Return the tokens of a row from first to last.

    Examples
    --------
    >>> total_order(np.float32([0.0, 2.0, -0.0, 2.0])).tolist()
    [1, 3, 0, 2]
    """
    return np.argsort(-logits, kind="stable")


# --- The steps ---------------------------------------------------------------------------------------------


class Row(NamedTuple):
    """One row between two steps.

    `logits` are what the total order compares; `kept` marks the tokens that no step has removed; scores are
    relative to the highest kept logit and divided by `temperature`.
    """

    logits: Logits
    kept: Bools
    temperature: float = 1.0

    @property
    def scores(self) -> Floats:
        """The kept tokens' `(logit - highest) / temperature`, -inf elsewhere."""
        logits = np.where(self.kept, self.logits, -np.inf).astype(np.float64)
        with np.errstate(over="ignore"):  # a tiny temperature sends low scores to -inf
            scores: Floats = (logits - logits.max()) / self.temperature
        return scores

    @property
    def weights(self) -> Floats:
        """The kept tokens' unnormalised probabilities, 1 for the highest."""
        weights: Floats = np.exp(self.scores)
        return weights

    @property
    def logprobs(self) -> Floats:
        """The kept tokens' log-probabilities, -inf elsewhere."""
        logprobs: Floats = self.scores - np.log(self.weights.sum())
        return logprobs

    @property
    def order(self) -> Ints:
        """The kept tokens in the total order."""
        order = total_order(self.logits)
        return order[self.kept[order]]

    def keeping(self, tokens: Ints) -> "Row":
        """Return the row with these tokens alone kept."""
        kept = np.zeros_like(self.kept)
        kept[tokens] = True
        return self._replace(kept=kept)


def start_row(logits: Logits) -> Row:
    """Return the row before any step: a token at -inf is never kept.

    Examples
    --------
    >>> start_row(np.float32([1, -np.inf])).kept.tolist()
    [True, False]
    """
    return Row(logits, logits > -np.inf)


def apply_mask(row: Row, mask: Bools | None) -> Row:
    """Remove the tokens that `mask` does not allow.

    Examples
    --------
    >>> apply_mask(start_row(np.float32([1, 2])), np.array([True, False])).logits.tolist()
    [1.0, -inf]
    """
    if mask is None:
        return row
    return start_row(np.where(mask, row.logits, np.float32(-np.inf)))


def apply_bias(row: Row, bias: Logits | None) -> Row:
    """Add a bias to the logits, in float32; a sum beyond the largest float32 stays there.

    Examples
    --------
    >>> apply_bias(start_row(np.float32([1, 2, 3])), np.float32([0.5, 0, -np.inf])).logits.tolist()
    [1.5, 2.0, -inf]
    """
    if bias is None:
        return row
    with np.errstate(over="ignore"):
        return start_row(np.minimum(row.logits + bias, FLT_MAX))


def apply_temperature(row: Row, temperature: float) -> Row:
    """Divide the scores; at zero keep the first token alone.

    Examples
    --------
    >>> apply_temperature(start_row(np.float32([1, 2])), 0.5).scores.tolist()
    [-2.0, 0.0]
    >>> apply_temperature(start_row(np.float32([2, 2, 1])), 0.0).kept.tolist()
    [True, False, False]
    """
    if temperature == 0:
        return row.keeping(row.order[:1])
    return row._replace(temperature=temperature)


def select_top_k(row: Row, top_k: int) -> Row:
    """Keep the first `top_k` tokens of the total order; 0 keeps all.

    Examples
    --------
    >>> select_top_k(start_row(np.float32([1, 3, 3, 2])), 1).kept.tolist()
    [False, True, False, False]
    """
    return row.keeping(row.order[:top_k]) if top_k else row


def select_top_p(row: Row, top_p: float) -> Row:
    """Keep the shortest prefix of the total order that holds the share `top_p`; 1 keeps all.

    A share counts as reached from `top_p - TOP_P_MARGIN` on.

    Examples
    --------
    >>> select_top_p(start_row(np.float32([0, 0, 0, 0])), 0.5).kept.tolist()
    [True, True, False, False]
    """
    if top_p >= 1:
        return row
    order = row.order
    weights = row.weights[order]
    mass = np.cumsum(weights)
    share_before = (mass - weights) / mass[-1]
    is_kept = share_before < top_p - TOP_P_MARGIN
    is_kept[0] = True
    return row.keeping(order[is_kept])


def select_min_p(row: Row, min_p: float) -> Row:
    """Keep tokens at least `min_p` times as probable as the first, which always stays.

    Examples
    --------
    >>> select_min_p(start_row(np.log(np.float32([0.5, 0.3, 0.2]))), 0.5).kept.tolist()
    [True, True, False]
    """
    return row._replace(kept=row.kept & (row.weights >= min(1.0, min_p * (1 - MIN_P_MARGIN))))


STEPS: dict[str, Callable[[Row, Any], Row]] = {
    "mask": apply_mask,
    "bias": apply_bias,
    "temperature": apply_temperature,
    "top_k": select_top_k,
    "top_p": select_top_p,
    "min_p": select_min_p,
}
"""The steps in the order in which they run; each is called with the row and the parameter of its name."""


def run_steps(logits: Logits, parameters: Mapping[str, Any]) -> dict[str, Row]:
    """Return the row as every step leaves it, by the name of the step.

    Examples
    --------
    >>> rows = run_steps(np.float32([3, 2, 1]), parameters_of({"top_k": 2, "top_p": 0.5}, 1, 3)[0])
    >>> [(name, int(row.kept.sum())) for name, row in rows.items() if name.startswith("top")]
    [('top_k', 2), ('top_p', 1)]
    """
    row = start_row(logits)
    rows = {}
    for name, step in STEPS.items():
        if row.kept.any():
            row = step(row, parameters[name])
        rows[name] = row
    return rows


def bounds(top_p: float = 1.0, min_p: float = 0.0) -> tuple[dict[str, float], dict[str, float]]:
    """Return thresholds whose kept sets enclose every accurate answer: the smallest and the largest set.

    The core may place its cutoff anywhere within 1e-6 of `top_p`, and within 2^-19, relative, of `min_p`.

    Examples
    --------
    >>> smallest, largest = bounds(top_p=0.9)
    >>> smallest["top_p"] < 0.9 < largest["top_p"]
    True
    """
    shift, factor = 1e-6, 2.0**-19
    smallest = {"top_p": top_p - shift + TOP_P_MARGIN, "min_p": min_p * (1 + factor) / (1 - MIN_P_MARGIN)}
    largest = {"top_p": top_p + shift + TOP_P_MARGIN, "min_p": min_p * (1 - factor) / (1 - MIN_P_MARGIN)}
    if top_p >= 1:
        smallest["top_p"] = 1.0
    return smallest, largest


# --- The draw ----------------------------------------------------------------------------------------------


def philox4x32_10(counter: ArrayLike, key: ArrayLike) -> NDArray[np.uint32]:
    """Return blocks of four random words.

    The function of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (2011), on whole arrays.

    Parameters
    ----------
    counter : array_like of uint32, shape [..., 4]
    key : array_like of uint32, shape [..., 2]

    Examples
    --------
    >>> [f"{word:08x}" for word in philox4x32_10([0, 0, 0, 0], [0, 0])]
    ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']
    """
    low = np.uint64(0xFFFFFFFF)
    x0, x1, x2, x3 = np.moveaxis(np.asarray(counter, dtype=np.uint64), -1, 0)
    k0, k1 = np.moveaxis(np.asarray(key, dtype=np.uint64), -1, 0)
    for _ in range(10):
        product0 = x0 * np.uint64(0xD2511F53)
        product1 = x2 * np.uint64(0xCD9E8D57)
        x0, x1 = (product1 >> np.uint64(32)) ^ x1 ^ k0, product1 & low
        x2, x3 = (product0 >> np.uint64(32)) ^ x3 ^ k1, product0 & low
        k0, k1 = (k0 + np.uint64(0x9E3779B9)) & low, (k1 + np.uint64(0xBB67AE85)) & low
    return np.stack(np.broadcast_arrays(x0, x1, x2, x3), axis=-1).astype(np.uint32)


def counter_words(index: int, stream: int, step: int, purpose: int = 0) -> list[int]:
    """Return the counter of one block.

    Examples
    --------
    >>> [hex(word) for word in counter_words(1, 0x0A_0000_000B, 2, purpose=3)]
    ['0x1', '0x300000a', '0xb', '0x2']
    """
    return [index, purpose << 24 | stream >> 32, stream & 0xFFFFFFFF, step]


def uniform(seed: int, stream: int, step: int, index: int) -> int:
    """Return one block of a draw as an integer, uniform in [0, 2^128).

    Examples
    --------
    >>> hex(uniform(seed=0, stream=0, step=0, index=0))
    '0x9b00dbd8bc57ac4ce169c58d6627e8d5'
    """
    words = philox4x32_10(counter_words(index, stream, step), [seed & 0xFFFFFFFF, seed >> 32])
    return sum(int(word) << (32 * place) for place, word in enumerate(words))


def pick(weights: Floats, uniform_bits: int) -> int:
    """Return a child in proportion to its weight, by integers alone.

    The running sum must exceed the target, so that a child of weight zero is never picked.

    Examples
    --------
    >>> [pick(np.array([0.0, 3.0, 1.0]), share << 126) for share in range(4)]
    [1, 1, 1, 2]
    """
    _, exponent = np.frexp(weights.max())
    scaled = [int(weight) for weight in np.ldexp(weights, 91 - exponent)]
    target = uniform_bits * sum(scaled) >> 128
    running = 0
    for child, weight in enumerate(scaled):
        running += weight
        if running > target:
            return child
    raise AssertionError("no child has a weight")


def descend(weights: Floats, uniforms: Sequence[int]) -> int:
    """Draw a token: first its tile, then its lane within the tile, then its place in the lane.

    Examples
    --------
    >>> descend(np.where(np.arange(3000) == 2077, 1.0, 0.0), [0, 0, 0])
    2077
    """
    tiles = np.pad(weights, (0, -weights.size % TILE)).reshape(-1, TILE // LANES, LANES)
    tile = pick(tiles.sum(axis=(1, 2)), uniforms[0])
    lane = pick(tiles[tile].sum(axis=0), uniforms[1])
    place = pick(tiles[tile, :, lane], uniforms[2])
    return (tile * (TILE // LANES) + place) * LANES + lane


def draw_token(
    states: Mapping[str, Row], parameters: Mapping[str, Any], seed: int, stream: int, step: int
) -> int:
    """Draw one token of the row that the steps left.

    Where no top_k of at most a tile makes the cutoff of top_p cheap, the first draw ignores it: a token
    inside the cutoff has the right share there too, and one outside is drawn again from the inside.

    Examples
    --------
    >>> parameters = parameters_of({"top_k": 1}, 1, 3)[0]
    >>> draw_token(run_steps(np.float32([1, 3, 2]), parameters), parameters, seed=0, stream=0, step=0)
    1
    """
    final = list(states.values())[-1]
    is_bounded = 0 < parameters["top_k"] < min(TILE + 1, final.kept.size)
    proposal = final if parameters["top_p"] >= 1 or is_bounded else states["top_k"]
    for attempt, row in enumerate((proposal, final)):
        blocks = [uniform(seed, stream, step, 3 * attempt + level) for level in range(3)]
        token = descend(row.weights, blocks)
        if final.kept[token]:
            break
    return token


# --- Rows and parameters -----------------------------------------------------------------------------------


def unpack_mask(mask: ArrayLike, vocab: int) -> Bools:
    """Return a mask as booleans; packed words hold 32 tokens, least significant bit first.

    A word row that is too short forbids the rest; one that is too long must forbid what lies past the vocab.

    Examples
    --------
    >>> unpack_mask(np.int32([5]), 4).tolist()
    [True, False, True, False]
    """
    values = np.asarray(mask)
    if values.dtype == np.bool_:
        return values
    bits = (values[..., None].astype(np.int64) >> np.arange(32)) & 1
    bits = bits.reshape(*values.shape[:-1], -1).astype(np.bool_)
    if values.shape[-1] > -(-vocab // 32) and bits[..., vocab:].any():
        raise ValueError("mask must not allow a token past the vocab")
    missing = max(0, vocab - bits.shape[-1])
    return np.pad(bits, [(0, 0)] * (bits.ndim - 1) + [(0, missing)])[..., :vocab]


def bias_array(bias: Mapping[int, float] | ArrayLike, vocab: int) -> Logits:
    """Return a bias as a float32 array.

    Examples
    --------
    >>> bias_array({1: -2.5}, 3).tolist()
    [0.0, -2.5, 0.0]
    """
    if not isinstance(bias, Mapping):
        return np.asarray(bias).astype(np.float32)
    values = np.zeros(vocab, dtype=np.float32)
    for token, value in bias.items():
        values[token] = value
    return values


def per_row(value: Any, rows: int) -> list[Any]:
    """Return one Python value per row of a scalar, or of an array in C order.

    Examples
    --------
    >>> per_row(0.5, 2), per_row([[1], [2**64 - 1]], 2)
    ([0.5, 0.5], [1, 18446744073709551615])
    """
    values: list[Any] = np.broadcast_to(np.asarray(value, dtype=object).reshape(-1), (rows,)).tolist()
    return values


def parameters_of(filters: Mapping[str, Any], rows: int, vocab: int) -> list[dict[str, Any]]:
    """Return what every step is called with, row by row.

    Examples
    --------
    >>> [parameters["top_k"] for parameters in parameters_of({"top_k": [None, 4]}, 2, 8)]
    [0, 4]
    """
    unknown = set(filters) - set(STEPS)
    if unknown:
        raise TypeError(f"unknown filters: {sorted(unknown)}")
    mask, bias = filters.get("mask"), filters.get("bias")
    shape = (rows, vocab)
    columns = {
        "mask": [None] * rows if mask is None else _rows_of(unpack_mask(mask, vocab), shape),
        "bias": [None] * rows if bias is None else _rows_of(bias_array(bias, vocab), shape),
        "temperature": per_row(filters.get("temperature", 1.0), rows),
        "top_k": [k or 0 for k in per_row(filters.get("top_k"), rows)],
        "top_p": per_row(filters.get("top_p", 1.0), rows),
        "min_p": per_row(filters.get("min_p", 0.0), rows),
    }
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _rows_of(values: NDArray[Any], shape: tuple[int, int]) -> list[NDArray[Any]]:
    return list(np.broadcast_to(values.reshape(-1, shape[1]), shape))


def _matrix(logits: ArrayLike) -> tuple[Logits, tuple[int, ...]]:
    values = np.asarray(logits)
    if values.ndim == 0 or values.shape[-1] == 0:
        raise ValueError("logits must hold at least one token per row")
    with np.errstate(over="ignore"):
        rounded = values.astype(np.float32)
    return rounded.reshape(int(np.prod(values.shape[:-1])), values.shape[-1]), values.shape[:-1]


def _shaped(values: list[Any], leading: tuple[int, ...], dtype: type, width: tuple[int, ...] = ()) -> Any:
    array: NDArray[Any] = np.array(values, dtype=dtype).reshape(leading + width)
    return array.item() if array.ndim == 0 else array


def _fault(logits: Logits) -> str:
    if np.isnan(logits).any():
        return "NaN"
    return "+inf" if np.isposinf(logits).any() else ""


class _Result(NamedTuple):
    """A row after all steps, or the reason why there is none."""

    raw: Logits
    parameters: dict[str, Any]
    states: dict[str, Row]
    fault: str

    @property
    def final(self) -> Row:
        return list(self.states.values())[-1]


def _each_row(matrix: Logits, filters: Mapping[str, Any]) -> Iterator[_Result]:
    for logits, parameters in zip(matrix, parameters_of(filters, *matrix.shape), strict=True):
        fault = _fault(logits)
        states = {} if fault else run_steps(logits, parameters)
        if not fault and not states["bias"].kept.any():
            fault = "no finite score"
        yield _Result(logits, parameters, states, fault)


def _refuse(faults: list[str], on_invalid: OnInvalid, tokens: Any) -> None:
    named = [f"row {row} ({fault})" for row, fault in enumerate(faults) if fault]
    if named and on_invalid == "raise":
        raise InvalidLogitsError("nothing can be drawn from " + ", ".join(named), tokens)


# --- The public names --------------------------------------------------------------------------------------


def sample(
    logits: ArrayLike,
    *,
    seed: Any,
    stream: Any = None,
    step: Any = 0,
    on_invalid: OnInvalid = "raise",
    **filters: Unpack[Filters],
) -> Any:
    """Draw one token per row.

    Examples
    --------
    >>> sample([[0.0, 1.0], [9.0, 0.0]], temperature=[1.0, 0.0], seed=7).tolist()
    [1, 0]
    """
    draws = draw(logits, seed=seed, stream=stream, step=step, on_invalid=on_invalid, **filters)
    return draws.tokens


def draw(
    logits: ArrayLike,
    *,
    seed: Any,
    stream: Any = None,
    step: Any = 0,
    logprobs: int = 0,
    on_invalid: OnInvalid = "raise",
    **filters: Unpack[Filters],
) -> Draws:
    """Draw one token per row, and report its log-probabilities, its rank and the highest tokens.

    Parameters
    ----------
    logits : array_like, shape [..., vocab]
    seed, stream, step : int or one per row
        The stream is the row's index for one seed, and 0 where every row has its own.
    logprobs : int
        The number of highest tokens to report.
    on_invalid : {"raise", "mark"}

    Examples
    --------
    >>> draws = draw([0.0, 2.0, 1.0], top_k=1, seed=0, logprobs=2)
    >>> draws.tokens, draws.logprobs, draws.ranks, draws.kept, draws.top_tokens.tolist()
    (1, 0.0, 0, 1, [1, 2])
    """
    matrix, leading = _matrix(logits)
    rows = len(matrix)
    if stream is None:
        stream = np.arange(rows) if np.ndim(seed) == 0 else 0
    places = zip(per_row(seed, rows), per_row(stream, rows), per_row(step, rows), strict=True)
    faults, columns = [], []
    for result, place in zip(_each_row(matrix, filters), places, strict=True):
        faults.append(result.fault)
        columns.append(_failed(logprobs) if result.fault else _report(result, place, logprobs))
    draws = _gather(columns, leading, logprobs)
    _refuse(faults, on_invalid, draws.tokens)
    return draws


def _report(result: _Result, place: tuple[int, int, int], count: int) -> Draws:
    token = draw_token(result.states, result.parameters, *place)
    logprobs = result.final.logprobs
    highest = result.states["bias"].order[:count]
    padding = count - len(highest)
    return Draws(
        token,
        logprobs[token],
        start_row(result.raw).logprobs[token],
        int(np.flatnonzero(total_order(result.raw) == token)[0]),
        int(result.final.kept.sum()),
        True,
        [*highest, *[-1] * padding],
        [*logprobs[highest], *[-np.inf] * padding],
    )


def _failed(count: int) -> Draws:
    return Draws(-1, np.nan, np.nan, -1, 0, False, [-1] * count, [np.nan] * count)


def _gather(columns: list[Draws], leading: tuple[int, ...], count: int) -> Draws:
    dtypes = (np.int32, np.float64, np.float64, np.int32, np.int32, np.bool_, np.int32, np.float64)
    widths: list[tuple[int, ...]] = [()] * 6 + [(count,)] * 2
    fields = range(len(Draws._fields))
    return Draws(*(_shaped([draws[i] for draws in columns], leading, dtypes[i], widths[i]) for i in fields))


def greedy(logits: ArrayLike, *, on_invalid: OnInvalid = "raise") -> Any:
    """Return the first token of every row.

    Examples
    --------
    >>> greedy([[1.0, 5.0, 5.0], [3.0, 1.0, 2.0]]).tolist()
    [1, 0]
    """
    return sample(logits, temperature=0.0, seed=0, on_invalid=on_invalid)


def top_k(logits: ArrayLike, k: int, *, on_invalid: OnInvalid = "raise") -> tuple[Any, Any]:
    """Return the values and tokens of the first `k` tokens of every row; past the finite ones -inf and -1.

    A `k` above the vocab means the vocab.

    Examples
    --------
    >>> values, tokens = top_k([1.0, 3.0, 2.0], 2)
    >>> values.tolist(), tokens.tolist()
    ([3.0, 2.0], [1, 2])
    """
    matrix, leading = _matrix(logits)
    k = min(k, matrix.shape[1])
    values = np.full((len(matrix), k), -np.inf)
    tokens = np.full((len(matrix), k), -1, dtype=np.int32)
    faults = []
    for row, result in enumerate(_each_row(matrix, {})):
        faults.append(result.fault)
        if result.fault:
            values[row] = np.nan
            continue
        first = result.final.order[:k]
        tokens[row, : len(first)] = first
        values[row, : len(first)] = result.raw[first]
    tokens = tokens.reshape(*leading, k)
    _refuse(faults, on_invalid, tokens)
    return values.reshape(*leading, k), tokens


def _map_rows(
    logits: ArrayLike, filters: Mapping[str, Any], on_invalid: OnInvalid, value: Callable[[Row], Floats]
) -> Floats:
    matrix, leading = _matrix(logits)
    values = np.full(matrix.shape, np.nan)
    faults = []
    for row, result in enumerate(_each_row(matrix, filters)):
        faults.append(result.fault)
        if not result.fault:
            values[row] = value(result.final)
    values = values.reshape(*leading, matrix.shape[1])
    _refuse(faults, on_invalid, values)
    return values


def softmax(logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[Filters]) -> Floats:
    """Return the probabilities of the kept tokens, 0 elsewhere.

    Examples
    --------
    >>> softmax([0.0, 0.0, -9.0], top_k=2).tolist()
    [0.5, 0.5, 0.0]
    """
    return _map_rows(logits, filters, on_invalid, lambda row: row.weights / row.weights.sum())


def log_softmax(logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[Filters]) -> Floats:
    """Return the log-probabilities of the kept tokens, -inf elsewhere.

    Examples
    --------
    >>> log_softmax([1.0, 0.0], temperature=0).tolist()
    [0.0, -inf]
    """
    return _map_rows(logits, filters, on_invalid, lambda row: row.logprobs)


def filter_logits(
    logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[Filters]
) -> Floats:
    """Return the scores of the kept tokens, at least the lowest float32, and -inf elsewhere.

    Examples
    --------
    >>> filter_logits([1.0, 3.0, 2.0], temperature=0.5, top_k=2).tolist()
    [-inf, 0.0, -2.0]
    """
    return _map_rows(
        logits, filters, on_invalid, lambda row: np.where(row.kept, np.maximum(row.scores, -FLT_MAX), -np.inf)
    )


def kept_set(logits: ArrayLike, *, on_invalid: OnInvalid = "raise", **filters: Unpack[Filters]) -> KeptSet:
    """Return the kept tokens of every row, ascending, with their log-probabilities.

    Examples
    --------
    >>> kept = kept_set([[0.0, 2.0, 1.0], [5.0, 0.0, 0.0]], top_k=[2, 1])
    >>> kept.tokens.tolist(), kept.offsets.tolist()
    ([1, 2, 0], [0, 2, 3])
    """
    matrix, _ = _matrix(logits)
    faults, lengths = [], [0]
    tokens, logprobs = [np.zeros(0, dtype=np.int32)], [np.zeros(0)]
    for result in _each_row(matrix, filters):
        faults.append(result.fault)
        if not result.fault:
            tokens.append(np.flatnonzero(result.final.kept).astype(np.int32))
            logprobs.append(result.final.logprobs[tokens[-1]])
        lengths.append(0 if result.fault else len(tokens[-1]))
    kept = KeptSet(np.concatenate(tokens), np.concatenate(logprobs), np.cumsum(lengths))
    _refuse(faults, on_invalid, kept.tokens)
    return kept


# --- Beams -------------------------------------------------------------------------------------------------


def top_continuations(
    logits: ArrayLike, scores: ArrayLike, k: int, *, on_invalid: OnInvalid = "raise"
) -> tuple[Floats, NDArray[np.int32], NDArray[np.int32]]:
    """Return scores, beams and tokens of the `k` best continuations of every prompt's beams.

    A continuation scores `scores[beam] + log_softmax(logits[beam])[token]`. Equal scores rank by lower beam,
    and those of one beam by the total order. Past the last one -inf, -1 and -1; a prompt with an invalid row
    is NaN, -1 and -1. The rows of a beam at -inf are not looked at.

    Parameters
    ----------
    logits : array_like, shape [..., beams, vocab]
    scores : array_like, shape [..., beams]
    k : int
    on_invalid : {"raise", "mark"}

    Examples
    --------
    >>> scores, parents, tokens = top_continuations(np.log([[6, 3, 1], [1, 8, 1]]), np.log([0.4, 0.5]), 3)
    >>> np.exp(scores).round(3).tolist(), parents.tolist(), tokens.tolist()
    ([0.4, 0.24, 0.12], [1, 0, 0], [1, 0, 1])
    """
    matrix, (*prompts, beams) = _matrix(logits)
    count = int(np.prod(prompts))
    best_scores = np.full((count, k), -np.inf)
    parents, tokens = np.full((count, k), -1, dtype=np.int32), np.full((count, k), -1, dtype=np.int32)
    faults: list[str] = []
    for prompt, starts in enumerate(np.asarray(scores, dtype=np.float64).reshape(count, beams)):
        rows = matrix[prompt * beams : (prompt + 1) * beams]
        found = [_beam_fault(row, start) for row, start in zip(rows, starts, strict=True)]
        faults += found
        if any(found):
            best_scores[prompt] = np.nan
            continue
        best = [column[:k] for column in _continuations(rows, starts)]
        for result, column in zip((best_scores, parents, tokens), best, strict=True):
            result[prompt, : len(column)] = column
    shape = (*prompts, k)
    _refuse(faults, on_invalid, tokens.reshape(shape))
    return best_scores.reshape(shape), parents.reshape(shape), tokens.reshape(shape)


def _beam_fault(logits: Logits, start: float) -> str:
    if start == -np.inf:
        return ""
    return _fault(logits) or ("" if start_row(logits).kept.any() else "no finite score")


def _continuations(rows: Logits, starts: Floats) -> tuple[Floats, Ints, Ints]:
    """Return all continuations of a prompt, best first: scores, beams and tokens."""
    columns = [(np.zeros(0), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))]
    for beam in np.flatnonzero(starts > -np.inf):
        row = start_row(rows[beam])
        order = row.order
        columns.append((starts[beam] + row.logprobs[order], np.full(order.size, beam), order))
    values, parents, tokens = (np.concatenate(column) for column in zip(*columns, strict=True))
    ranked = np.argsort(-values, kind="stable")  # equal ones stay as they were listed
    return values[ranked], parents[ranked], tokens[ranked]
