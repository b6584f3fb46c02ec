# SPDX-License-Identifier: Apache-2.0
"""The record of a search, and its picture as lecture notes draw it.

A search tells the record what it looked at; nothing here searches. The picture is plain SVG text.
"""

from __future__ import annotations

import itertools
import math
import os
import unicodedata
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tokendraw.prompts import integer

if TYPE_CHECKING:
    from tokendraw.models.base import Tokenizer

__all__ = ["SearchTree"]

_ROOT = -1

Columns: TypeAlias = list[list[int]]
Heights: TypeAlias = dict[int, float]


@dataclass(slots=True)
class _Node:
    """A hypothesis, by its last token."""

    parent: int
    token: int
    logprob: float
    kept: bool = False
    finished: bool = False


class SearchTree:
    """What a search looked at: every hypothesis it weighed, and what became of it.

    A search fills the tree if it is given one; whoever writes the loop fills it with the methods below. A
    hypothesis that was neither kept nor finished was pruned.

    Parameters
    ----------
    tokenizer : Tokenizer, optional
        Gives the picture its texts; without one it shows token ids.

    Examples
    --------
    >>> tree = SearchTree()
    >>> he = tree.add(-1, token=5, logprob=-0.7)
    >>> i = tree.add(-1, token=9, logprob=-0.9)
    >>> tree.keep(he)
    >>> hit = tree.add(he, token=4, logprob=-1.1)
    >>> tree.finish(hit)
    >>> tree.best(hit)
    >>> len(tree)
    3
    >>> tree.save("search.svg")
    """

    def __init__(self, tokenizer: Tokenizer | None = None) -> None:
        self._tokenizer = tokenizer
        self._nodes: list[_Node] = []
        self._path: frozenset[int] = frozenset()

    def __len__(self) -> int:
        """Return the number of nodes, without the root."""
        return len(self._nodes)

    def add(self, parent: int, token: int, logprob: float) -> int:
        """Add a hypothesis.

        Parameters
        ----------
        parent : int
            The node that it continues; -1 is the root, which is the prompt.
        token : int
            Its last token.
        logprob : float
            The log-probability of all its tokens after the prompt.

        Returns
        -------
        int
            The new node.
        """
        parent = integer("parent", parent, least=_ROOT, limit=len(self._nodes))
        token, logprob = integer("token", token), float(logprob)
        if math.isnan(logprob):
            raise ValueError(f"logprob must be a number, got {logprob}")
        self._nodes.append(_Node(parent, token, logprob))
        return len(self._nodes) - 1

    def keep(self, node: int) -> None:
        """Note that a hypothesis survived its step."""
        self._nodes[self._known(node)].kept = True

    def finish(self, node: int) -> None:
        """Note that a hypothesis is complete: it ended with an end token, or at the limit of tokens."""
        self._nodes[self._known(node)].finished = True

    def best(self, node: int) -> None:
        """Note which hypothesis won, in place of any earlier one; its path from the root stands out."""
        self._path = frozenset(self._path_to(self._known(node)))

    def to_svg(
        self, *, title: str = "Search tree", max_steps: int | None = None, candidates: int | None = None
    ) -> str:
        """Return a picture of the tree.

        Time runs from left to right. Each node shows its token, with spaces made visible, and beside it the
        log-probability of its hypothesis; pointing at it tells more. Kept hypotheses are bold, pruned ones
        grey, finished ones end with a bar, the best path is coloured. A token without text, as end tokens
        are, is shown by its id.

        Parameters
        ----------
        title : str, default "Search tree"
            What stands above the tree.
        max_steps : int, optional
            Draw the first steps only; an ellipsis stands where a branch goes on.
        candidates : int, optional
            Draw at most so many continuations of a node, those with the highest log-probability; but
            whatever was kept, finished or continued is drawn.

        Returns
        -------
        str
            An SVG document that depends on nothing else and follows the light or dark mode of its viewer.

        Examples
        --------
        >>> tree = SearchTree()
        >>> nodes = [tree.add(-1, token, logprob=-1.0 - token) for token in range(3)]
        >>> tree.to_svg().count('class="node pruned"'), tree.to_svg(candidates=2).count('class="node pruned"')
        (3, 2)
        """
        if max_steps is not None:
            max_steps = integer("max_steps", max_steps, least=1)
        if candidates is not None:
            candidates = integer("candidates", candidates)
        children = self._children()
        columns = self._columns(children, max_steps, candidates)
        cut = {node for node in columns[-1] if node in children}
        cards = {node: self._card(node, node in cut) for node in itertools.chain(*columns[1:])}
        return "\n".join(_picture(_visible(title), columns, {_ROOT: _PROMPT, **cards})) + "\n"

    def _repr_svg_(self) -> str:
        """Show the picture in notebooks."""
        return self.to_svg()

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        title: str = "Search tree",
        max_steps: int | None = None,
        candidates: int | None = None,
    ) -> None:
        """Write the picture to a file.

        Parameters
        ----------
        path : str or path
            The file, usually one named ``.svg``.
        title, max_steps, candidates
            As in `to_svg`.
        """
        picture = self.to_svg(title=title, max_steps=max_steps, candidates=candidates)
        Path(path).write_text(picture, encoding="utf-8")

    def _known(self, node: int) -> int:
        return integer("node", node, limit=len(self._nodes))

    def _path_to(self, node: int) -> list[int]:
        """Return the nodes on the way from the root to this one, which is the last."""
        path = []
        while node != _ROOT:
            path.append(node)
            node = self._nodes[node].parent
        return path[::-1]

    def _children(self) -> dict[int, list[int]]:
        """Return the continuations of every node that has any, best first."""
        children: defaultdict[int, list[int]] = defaultdict(list)
        for node in sorted(range(len(self)), key=lambda node: -self._nodes[node].logprob):
            children[self._nodes[node].parent].append(node)
        return dict(children)

    def _columns(
        self, children: Mapping[int, list[int]], max_steps: int | None, candidates: int | None
    ) -> Columns:
        """Return the nodes to draw, step by step and from top to bottom, after a column of the root alone.

        Continuations stand in the order of the nodes they continue, so branches need not cross.
        """
        columns = [[_ROOT]]
        while max_steps is None or len(columns) <= max_steps:
            column = [
                child
                for node in columns[-1]
                for child in self._to_draw(children.get(node, []), candidates, children)
            ]
            if not column:
                break
            columns.append(column)
        return columns

    def _to_draw(self, siblings: list[int], candidates: int | None, continued: Container[int]) -> list[int]:
        """Return the siblings that something became of, and the first of the others while there is room."""
        if candidates is None:
            return siblings
        drawn = {node for node in siblings if node in continued or self._fate(node) != "pruned"}
        others = (node for node in siblings if node not in drawn)
        drawn.update(itertools.islice(others, max(0, candidates - len(drawn))))
        return [node for node in siblings if node in drawn]

    def _fate(self, node: int) -> str:
        """Return what became of a node, in the words that are the picture's classes."""
        record = self._nodes[node]
        words = {"kept": record.kept, "finished": record.finished, "best": node in self._path}
        return " ".join(word for word, holds in words.items() if holds) or "pruned"

    def _card(self, node: int, cut: bool) -> _Card:
        record = self._nodes[node]
        return _Card(
            parent=record.parent,
            fate=self._fate(node),
            token=_clipped(self._text(record.token).replace(" ", "␣"), _WIDEST),
            logprob=_number(record.logprob) + (" …" if cut else ""),
            tooltip=self._tooltip(node),
        )

    def _text(self, token: int) -> str:
        """Return a token as it can be shown: by its id where it has no text, as end tokens have none."""
        data = b"" if self._tokenizer is None else self._tokenizer.token_bytes(token)
        return _visible(data.decode("utf-8", "backslashreplace")) or f"#{token}"

    def _tooltip(self, node: int) -> str:
        record = self._nodes[node]
        before = 0.0 if record.parent == _ROOT else self._nodes[record.parent].logprob
        lines = [
            f"token {record.token}: {self._text(record.token)}",
            f"log-probability {_number(record.logprob)}, this token's {_number(record.logprob - before)}",
            self._fate(node).replace(" ", ", "),
        ]
        if self._tokenizer is not None:
            tokens = [self._nodes[each].token for each in self._path_to(node)]
            lines.append(_visible(self._tokenizer.decode(tokens)))
        return "\n".join(lines)


# --- Text --------------------------------------------------------------------------------------------------

_SIGNS = {"\n": "↵", "\t": "⇥", "\x7f": "␡"}


def _visible(text: str) -> str:
    """Return text in which only spaces are invisible, without what XML forbids."""
    shown = "".join(map(_sign, text))
    # An accent alone would sit on whatever stands before it.
    return "◌" + shown if shown and unicodedata.combining(shown[0]) else shown


def _sign(sign: str) -> str:
    if sign.isprintable():
        return sign
    # Unicode has a picture of each control character, in their order.
    named = chr(0x2400 + ord(sign)) if ord(sign) < 0x20 else f"\\u{ord(sign):04x}"
    return _SIGNS.get(sign, named)


def _number(value: float) -> str:
    """Return a number with two digits after the point, and no sign before a zero."""
    if math.isinf(value):
        return "−∞" if value < 0 else "∞"
    return f"{round(value, 2) + 0.0:.2f}".replace("-", "−")


def _cells(text: str) -> int:
    """Return how many columns of a fixed-width font a text takes."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def _clipped(text: str, cells: int) -> str:
    if _cells(text) <= cells:
        return text
    ends = itertools.accumulate(map(_cells, text))
    return "".join(sign for sign, end in zip(text, ends, strict=True) if end < cells) + "…"


# --- Cards: what stands at a node --------------------------------------------------------------------------

_BOX = 18.0
"""Height of a token's box, in pixels, as all that follows."""

_CELL, _SMALL_CELL = 7.9, 6.1
"""Width of a character of a token, and of a log-probability."""

_WIDEST = 18
"""The most characters of a token that are shown."""

_PADDING, _BAR = 5.0, 4.0


@dataclass(frozen=True, slots=True)
class _Card:
    """A node as it is drawn: its token in a box, a log-probability beside it."""

    parent: int
    fate: str
    token: str
    logprob: str
    tooltip: str

    @property
    def rank(self) -> str:
        """The word of the fate that decides how the branch to this node looks."""
        return next(word for word in _PULL if word in self.fate)

    @property
    def box(self) -> float:
        """Width of the box."""
        return 2 * _PADDING + _cells(self.token) * _CELL + _BAR * ("finished" in self.fate)

    @property
    def width(self) -> float:
        """Width of the whole, up to where a branch may begin."""
        return self.box + _PADDING + len(self.logprob) * _SMALL_CELL + _PADDING / 2

    def lines(self, group: str, x: float, y: float) -> Iterator[str]:
        """Yield the card's SVG; x is its left end, y its middle."""
        yield f'<g class="{group} {self.fate}">'
        yield f"<title>{escape(self.tooltip)}</title>"
        yield _rect("box", x, y - _BOX / 2, self.box, _BOX)
        if "finished" in self.fate:
            yield _rect("bar", x + self.box - _BAR, y - _BOX / 2, _BAR, _BOX)
        yield _text("token", x + _PADDING, y + 4.5, self.token)
        yield _text("logprob", x + self.box + _PADDING, y + 3.5, self.logprob)
        yield "</g>"


_PROMPT = _Card(parent=_ROOT, fate="kept", token="", logprob="", tooltip="")
"""Stands for the root, which is drawn as a dot."""


def _rect(name: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{name}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" rx="3"/>'


def _text(name: str, x: float, y: float, text: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


# --- Heights: where nodes stand in their column ------------------------------------------------------------

_ROW = 23.0
"""Distance of two continuations of one node."""

_BETWEEN = 9.0
"""What is added to it between continuations of different nodes."""

_SLACK = 1.1
"""The tree's height over that of its fullest step: with some room branches are more level."""

_SWEEPS, _STILL = 10, 0.5
"""How often the columns are gone through, to and fro, at most; less than which move of any node ends it."""

_PULL = {"best": 30.0, "kept": 4.0, "finished": 2.0, "pruned": 1.0}
"""How strongly a branch resists being steep."""


def _heights(columns: Columns, cards: Mapping[int, _Card]) -> Heights:
    """Return heights that make branches as level as the room and the order of each column allow.

    The sum of the branches' squared rises, each times its pull, is least: every column in turn is solved
    exactly for what stands beside it, to and fro until little changes.
    """
    offsets = [_offsets(column, cards) for column in columns]
    room = _SLACK * max(column[-1] for column in offsets)
    heights = {
        node: offset + (room - own[-1]) / 2
        for column, own in zip(columns, offsets, strict=True)
        for node, offset in zip(column, own, strict=True)
    }
    ties = _ties(columns, cards)
    pulls = [[sum(pull for _, pull in ties[node]) for node in column] for column in columns]
    forth = list(zip(columns, offsets, pulls, strict=True))
    for _ in range(_SWEEPS):
        before = dict(heights)
        for column, own, totals in forth + forth[::-1]:
            wanted = [
                sum([heights[other] * pull for other, pull in ties[node]]) / total
                for node, total in zip(column, totals, strict=True)
            ]
            heights.update(zip(column, _spread(wanted, totals, own, room), strict=True))
        if all(abs(height - before[node]) < _STILL for node, height in heights.items()):
            break
    return heights


def _offsets(column: Sequence[int], cards: Mapping[int, _Card]) -> list[float]:
    """Return the least heights of a column's nodes below its first."""
    distances = (
        _ROW + _BETWEEN * (cards[upper].parent != cards[lower].parent)
        for upper, lower in itertools.pairwise(column)
    )
    return list(itertools.accumulate(distances, initial=0.0))


def _ties(columns: Columns, cards: Mapping[int, _Card]) -> dict[int, list[tuple[int, float]]]:
    """Return for each node the nodes it is joined to, and how strongly."""
    # The weak tie to itself gives a root without branches a place.
    ties = {node: [(node, 1e-3)] for node in cards}
    for node in itertools.chain(*columns[1:]):
        parent, pull = cards[node].parent, _PULL[cards[node].rank]
        ties[node].append((parent, pull))
        ties[parent].append((node, pull))
    return ties


def _spread(
    wanted: Sequence[float], pulls: Sequence[float], offsets: Sequence[float], room: float
) -> list[float]:
    """Return the heights nearest to the wanted ones that keep their distances and lie within the room.

    Nearest by weighted squares: without the offsets it is an isotonic regression, solved by pooling adjacent
    violators (Ayer et al. 1955), whose result is then cut at both ends.
    """
    pools: list[tuple[float, float, int]] = []
    for height, pull, offset in zip(wanted, pulls, offsets, strict=True):
        mean, weight, count = height - offset, pull, 1
        while pools and pools[-1][0] > mean:
            above, its_weight, its_count = pools.pop()
            mean = (above * its_weight + mean * weight) / (its_weight + weight)
            weight, count = its_weight + weight, its_count + count
        pools.append((mean, weight, count))
    highest = room - offsets[-1]
    levels = (min(max(mean, 0.0), highest) for mean, _, count in pools for _ in range(count))
    return [level + offset for level, offset in zip(levels, offsets, strict=True)]


# --- The picture -------------------------------------------------------------------------------------------

_MARGIN, _HEAD, _GUTTER = 16.0, 96.0, 32.0
"""Around the tree; above it; between its columns, where branches bend, at least."""

_WIDENING = 0.06
"""What is added between two columns for each pixel that the steepest branch rises."""

_HEADING_CELL = 8.6
_DOT = 8.0

_LEGEND = {"kept": "kept", "pruned": "pruned", "kept finished": "finished", "kept best": "best path"}

_STYLE = """
text { font: 13px ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328; }
.heading { font-size: 14px; font-weight: bold; }
.logprob, .step { font-size: 10px; fill: #59636e; }
.step { text-anchor: middle; }
.paper { fill: #ffffff; }
.box { fill: #f6f8fa; stroke: #59636e; stroke-width: 1.3; }
.bar, .root { fill: #59636e; }
.token { font-weight: bold; }
.branch { fill: none; stroke: #59636e; stroke-width: 1.6; }
.branch.pruned, .pruned .box { stroke: #d1d9e0; stroke-width: 1; }
.pruned .box { fill: none; }
.pruned .token { font-weight: normal; fill: #6e7781; }
.pruned .logprob { fill: #818b98; }
.branch.best { stroke: #0969da; stroke-width: 2.6; }
.best .box { fill: #ddf4ff; stroke: #0969da; stroke-width: 1.8; }
.best .token, .best .logprob { fill: #0550ae; }
.best .bar { fill: #0969da; }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc; }
  .logprob, .step { fill: #9198a1; }
  .paper { fill: #0d1117; }
  .box { fill: #262c36; stroke: #9198a1; }
  .bar, .root { fill: #9198a1; }
  .branch { stroke: #9198a1; }
  .branch.pruned, .pruned .box { stroke: #3d444d; }
  .pruned .token { fill: #848d97; }
  .pruned .logprob { fill: #767e89; }
  .branch.best, .best .box { stroke: #4493f8; }
  .best .box { fill: #0c2d5a; }
  .best .token, .best .logprob { fill: #a5d6ff; }
  .best .bar { fill: #4493f8; }
}
"""


def _picture(title: str, columns: Columns, cards: Mapping[int, _Card]) -> Iterator[str]:
    """Yield the lines of the SVG document."""
    heights = {node: _HEAD + height for node, height in _heights(columns, cards).items()}
    sides = _sides(columns, cards, heights)
    legend, legend_end = _legend()
    width = max(sides[-1][1], legend_end) + _MARGIN
    height = max(heights.values()) + _BOX / 2 + _MARGIN
    size = f'width="{width:.0f}" height="{height:.0f}" viewBox="0 0 {width:.0f} {height:.0f}"'
    yield f'<svg xmlns="http://www.w3.org/2000/svg" role="img" {size}>'
    yield f"<title>{escape(title)}</title>"
    yield f"<style>{_STYLE}</style>"
    yield '<rect class="paper" width="100%" height="100%"/>'
    yield _text("heading", _MARGIN, 26, _clipped(title, int((width - 2 * _MARGIN) / _HEADING_CELL)))
    yield from legend
    yield f'<circle class="root" cx="{_MARGIN + _DOT / 2}" cy="{heights[_ROOT]:.1f}" r="{_DOT / 2}"/>'
    yield from _branches(columns, cards, heights, sides)
    for step, (column, (left, right)) in enumerate(zip(columns[1:], sides[1:], strict=True), 1):
        yield _text("step", (left + right) / 2, _HEAD - _BOX, str(step))
        for node in column:
            yield from cards[node].lines("node", left, heights[node])
    yield "</svg>"


def _sides(columns: Columns, cards: Mapping[int, _Card], heights: Heights) -> list[tuple[float, float]]:
    """Return where each column begins and where it ends."""
    sides = [(_MARGIN, _MARGIN + _DOT)]
    for column in columns[1:]:
        rise = max(abs(heights[node] - heights[cards[node].parent]) for node in column)
        left = sides[-1][1] + _GUTTER + _WIDENING * rise
        sides.append((left, left + max(cards[node].width for node in column)))
    return sides


def _branches(
    columns: Columns, cards: Mapping[int, _Card], heights: Heights, sides: list[tuple[float, float]]
) -> Iterator[str]:
    """Yield the branches, the best path last, which is above all others."""
    for rank in reversed(_PULL):
        for column, (start, turn), (end, _) in zip(columns[1:], sides, sides[1:], strict=False):
            for node in column:
                if cards[node].rank == rank:
                    parent = cards[node].parent
                    begin = turn if parent == _ROOT else start + cards[parent].width
                    yield _branch(rank, (begin, turn, end), heights[parent], heights[node])


def _branch(rank: str, stations: tuple[float, float, float], parent: float, child: float) -> str:
    """Return a branch: level to the end of its column, then a curve that its neighbours share."""
    begin, turn, end = stations
    middle = (turn + end) / 2
    curve = f"C{middle:.1f} {parent:.1f} {middle:.1f} {child:.1f} {end:.1f} {child:.1f}"
    return f'<path class="branch {rank}" d="M{begin:.1f} {parent:.1f}H{turn:.1f}{curve}"/>'


def _legend() -> tuple[list[str], float]:
    """Return the legend and where it ends."""
    x = _MARGIN
    lines: list[str] = []
    for fate, meaning in _LEGEND.items():
        card = _Card(parent=_ROOT, fate=fate, token=meaning, logprob="", tooltip=meaning)
        lines += card.lines("key", x, 48)
        x += card.width + 2 * _PADDING
    return lines, x
