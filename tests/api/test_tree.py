# SPDX-License-Identifier: Apache-2.0
"""The record of a search and its picture, read back as XML."""

import itertools
import re
from xml.etree import ElementTree

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import tokendraw as td

SVG = "{http://www.w3.org/2000/svg}"


class Pieces:
    """A tokenizer whose token i is the i-th piece of bytes."""

    def __init__(self, *pieces):
        self.pieces = pieces

    def decode(self, ids):
        return b"".join(self.pieces[token] for token in ids).decode(errors="replace")

    def token_bytes(self, token):
        return self.pieces[token]


def pictured(tree, **options):
    """Return the document and its nodes, each with the classes and texts that are drawn."""
    document = ElementTree.fromstring(tree.to_svg(**options))
    assert document.tag == SVG + "svg"
    groups = [group for group in document.iter(SVG + "g") if "node" in classes(group)]
    return document, groups


def classes(element):
    return element.get("class", "").split()


def named(element, name):
    return next(child for child in element if name in classes(child))


def tokens_of(groups):
    return [named(group, "token").text for group in groups]


def tooltip(group):
    return group.find(SVG + "title").text


def frame(element):
    return [float(element.get(name)) for name in ("x", "y", "width", "height")]


def branches(document):
    """Return the classes and the numbers of every branch: its begin, turn and end."""
    for path in document.iter(SVG + "path"):
        start, middle, end = re.fullmatch(r"M([^H]+)H([^C]+)C(.+)", path.get("d")).groups()
        x, y = map(float, start.split())
        *_, end_x, end_y = map(float, end.split())
        yield classes(path), (x, y, float(middle), end_x, end_y)


def assert_readable(document, groups):
    """Nothing lies on anything else or outside, columns are columns, and branches do not cross."""
    boxes = [frame(named(group, "box")) for group in groups]
    labels = [float(named(group, "logprob").get("x")) for group in groups]
    letters = [len(named(group, "logprob").text) for group in groups]
    width, height = float(document.get("width")), float(document.get("height"))
    columns = {}
    for (x, y, wide, high), label, count in zip(boxes, labels, letters, strict=True):
        assert x + wide < label
        end = label + 6 * count
        assert x > 0
        assert end < width
        assert 0 < y < y + high < height
        columns.setdefault(x, []).append((y, y + high, end))
    for (_, column), (right, _) in itertools.pairwise(sorted(columns.items())):
        assert max(end for *_, end in column) < right
    for column in columns.values():
        for (_, bottom, _), (top, _, _) in itertools.pairwise(sorted(column)):
            assert bottom < top
    gutters = {}
    for _, (x, y, turn, end, child) in branches(document):
        assert x <= turn < end
        gutters.setdefault(end, []).append((y, child))
    for rises in gutters.values():
        assert [child for _, child in sorted(rises)] == sorted(child for _, child in rises)


@pytest.fixture
def lecture():
    """Two steps of a beam of size 2, and its end: he hit me / I was."""
    tree = td.SearchTree(Pieces(b" he", b" I", b" hit", b" struck", b" was", b" got", b" me", b"", b"a b\n"))
    he, i = tree.add(-1, 0, -0.7), tree.add(-1, 1, -0.9)
    tree.add(-1, 8, -3.0)
    for node in (he, i):
        tree.keep(node)
    hit = tree.add(he, 2, -1.7)
    tree.add(he, 3, -2.9)
    was = tree.add(i, 4, -1.6)
    tree.add(i, 5, -1.8)
    for node in (hit, was):
        tree.keep(node)
    tree.finish(tree.add(was, 7, -3.3))
    me = tree.add(hit, 6, -2.5)
    tree.finish(me)
    tree.best(me)
    return tree


# --- What is drawn -----------------------------------------------------------------------------------------


def test_every_token_is_drawn_once(lecture):
    document, groups = pictured(lecture, title="He <hit> & ran")
    assert len(groups) == len(lecture) == 9
    expected = ["␣he", "␣I", "a␣b↵", "␣hit", "␣struck", "␣was", "␣got", "␣me", "#7"]
    assert tokens_of(groups) == expected
    assert document.find(SVG + "title").text == "He <hit> & ran"
    steps = [text.text for text in document.iter(SVG + "text") if "step" in classes(text)]
    assert steps == ["1", "2", "3"]


def test_logprobs_stand_beside_the_tokens(lecture):
    _, groups = pictured(lecture)
    shown = {named(group, "token").text: named(group, "logprob").text for group in groups}
    assert shown["␣he"] == "−0.70"
    assert shown["␣me"] == "−2.50"


def test_what_became_of_a_hypothesis(lecture):
    document, groups = pictured(lecture)
    fates = {named(group, "token").text: set(classes(group)) - {"node"} for group in groups}
    assert fates == {
        "␣he": {"kept", "best"},
        "␣I": {"kept"},
        "a␣b↵": {"pruned"},
        "␣hit": {"kept", "best"},
        "␣struck": {"pruned"},
        "␣was": {"kept"},
        "␣got": {"pruned"},
        "␣me": {"finished", "best"},
        "#7": {"finished"},
    }
    barred = [group for group in groups if any("bar" in classes(child) for child in group)]
    assert tokens_of(barred) == ["␣me", "#7"]
    drawn = [marks[1] for marks, _ in branches(document)]
    assert sorted(drawn) == ["best"] * 3 + ["finished"] + ["kept"] * 2 + ["pruned"] * 3
    assert drawn[-3:] == ["best"] * 3, "above all others"


def test_the_best_is_the_last_that_was_named(lecture):
    lecture.best(1)
    _, groups = pictured(lecture)
    assert tokens_of(group for group in groups if "best" in classes(group)) == ["␣I"]


def test_branches_lead_from_parents_to_children(lecture):
    document, groups = pictured(lecture)
    at = {}
    for group in groups:
        x, y, _, high = frame(named(group, "box"))
        at[round(x, 1), round(y + high / 2, 1)] = named(group, "token").text
    ends = {at[end, round(child, 1)]: y for _, (_, y, _, end, child) in branches(document)}
    heights = {text: y for (_, y), text in at.items()}
    parents = {"␣hit": "␣he", "␣struck": "␣he", "␣was": "␣I", "␣got": "␣I", "␣me": "␣hit", "#7": "␣was"}
    for child, parent in parents.items():
        assert ends[child] == heights[parent]
    root = next(document.iter(SVG + "circle"))
    assert ends["␣he"] == ends["␣I"] == float(root.get("cy"))


def test_pointing_at_a_node_tells_more(lecture):
    _, groups = pictured(lecture)
    told = tooltip(groups[tokens_of(groups).index("␣me")])
    assert told.splitlines() == [
        "token 6:  me",
        "log-probability −2.50, this token's −0.80",
        "finished, best",
        " he hit me",
    ]


def test_without_a_tokenizer_ids_are_shown():
    tree = td.SearchTree()
    tree.add(-1, np.int32(5), np.float32(-0.0))
    _, [group] = pictured(tree)
    assert tokens_of([group]) == ["#5"]
    assert named(group, "logprob").text == "0.00"


def test_an_empty_tree_is_a_picture():
    document, groups = pictured(td.SearchTree())
    assert groups == []
    assert len(list(document.iter(SVG + "circle"))) == 1


def test_the_picture_is_saved(lecture, tmp_path):
    lecture.save(tmp_path / "tree.svg", title="é", max_steps=1)
    saved = (tmp_path / "tree.svg").read_text(encoding="utf-8")
    assert saved == lecture.to_svg(title="é", max_steps=1)
    assert lecture._repr_svg_() == lecture.to_svg()


# --- Large trees -------------------------------------------------------------------------------------------


def test_only_the_first_steps(lecture):
    _, groups = pictured(lecture, max_steps=2)
    shown = {named(group, "token").text: named(group, "logprob").text for group in groups}
    assert len(shown) == 7
    assert [token for token, logprob in shown.items() if "…" in logprob] == ["␣hit", "␣was"]


@pytest.mark.parametrize(
    ("candidates", "pruned"), [(0, []), (1, []), (2, ["␣struck", "␣got"]), (3, ["a␣b↵", "␣struck", "␣got"])]
)
def test_only_some_candidates(lecture, candidates, pruned):
    _, groups = pictured(lecture, candidates=candidates)
    assert tokens_of(group for group in groups if "pruned" in classes(group)) == pruned
    assert len(groups) == 6 + len(pruned), "what something became of is drawn in any case"


def beam_search(model, prompt, tree, width=4, steps=30, candidates=8):
    """Fill a tree with what a beam looks at: the best candidates of each of its beams."""
    state, logits = model.start([model.tokenizer.encode(prompt)])
    nodes, scores = [-1], np.zeros(1)
    for _ in range(steps):
        logprobs, tokens = td.top_k(td.log_softmax(logits), candidates)
        sums = scores[:, None] + logprobs
        added = {
            (row, column): tree.add(nodes[row], tokens[row, column], sums[row, column])
            for row, column in np.ndindex(sums.shape)
        }
        best = sorted(added, key=lambda place: -sums[place])
        best = [place for place in best if tokens[place] != model.eos_token_id][:width]
        for place in best:
            tree.keep(added[place])
        nodes, scores = [added[place] for place in best], np.array([sums[place] for place in best])
        state = model.select(state, [row for row, _ in best])
        state, logits = model.step(state, [tokens[place] for place in best])
    for node in nodes:
        tree.finish(node)
    tree.best(nodes[0])


def test_thirty_steps_of_a_real_beam_are_readable():
    model = td.models.load("kjv")
    tree = td.SearchTree(model.tokenizer)
    beam_search(model, "And the LORD spake unto Moses", tree)
    document, groups = pictured(tree)
    assert len(groups) == 8 + 29 * 32
    assert_readable(document, groups)
    by_fate = {fate: [g for g in groups if fate in classes(g)] for fate in ("kept", "best", "finished")}
    assert {fate: len(found) for fate, found in by_fate.items()} == {"kept": 120, "best": 30, "finished": 4}
    assert float(document.get("height")) < 1100, "little more than the fullest step"
    path = by_fate["best"][-1]
    assert tooltip(path).splitlines()[-1].startswith(", saying,↵Speak unto")


@st.composite
def trees(draw):
    """Any tree, with texts of any length, whatever was noted of its nodes."""
    pieces = draw(st.lists(st.text(max_size=30).map(str.encode), min_size=1, max_size=5))
    tree = td.SearchTree(Pieces(*pieces))
    for node in range(draw(st.integers(0, 40))):
        parent = draw(st.integers(max(-1, node - draw(st.integers(1, 40))), node - 1))
        tree.add(parent, draw(st.integers(0, len(pieces) - 1)), draw(st.floats(-200, 0)))
        for note in draw(st.lists(st.sampled_from([tree.keep, tree.finish, tree.best]), max_size=2)):
            note(node)
    return tree


@hypothesis.given(trees())
def test_any_tree_is_readable(tree):
    document, groups = pictured(tree)
    assert len(groups) == len(tree)
    assert_readable(document, groups)


def test_a_deep_tree_is_no_recursion():
    tree = td.SearchTree()
    node = -1
    for depth in range(3000):
        node = tree.add(node, 1, -0.1 * depth)
    tree.best(node)
    _, groups = pictured(tree)
    assert len(groups) == 3000


# --- Hostile texts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("piece", "shown"),
    [
        (b"<&\"'>]]>", "<&\"'>]]>"),
        (b"\n\x00\t\x1b\x7f", "↵␀⇥␛␡"),
        (b"\xff", "\\xff"),
        (b"a\xe2\x80", "a\\xe2\\x80"),
        ("\u202e\u200b\ufffe".encode(), "\\u202e\\u200b\\ufffe"),
        ("\u0301".encode(), "◌\u0301"),
        ("\xa0".encode(), "\\u00a0"),
        (b"   ", "␣␣␣"),
        (b"", "#0"),
        (b"a" * 40, "a" * 17 + "…"),
        ("日本".encode() * 20, "日本" * 4 + "…"),
        (b"</text></g></svg><script>", "</text></g></svg>…"),
    ],
)
def test_hostile_texts_are_shown_and_escaped(piece, shown):
    tree = td.SearchTree(Pieces(piece))
    tree.add(-1, 0, -1.0)
    _, [group] = pictured(tree, title=piece.decode(errors="replace"))
    assert tokens_of([group]) == [shown]


@hypothesis.given(st.binary(max_size=20), st.text(max_size=20))
def test_any_bytes_make_valid_xml(piece, title):
    tree = td.SearchTree(Pieces(piece))
    tree.add(-1, 0, -1.0)
    _, [group] = pictured(tree, title=title)
    assert all(sign.isprintable() for sign in tokens_of([group])[0])


@pytest.mark.parametrize("logprob", [-np.inf, np.inf])
def test_infinite_logprobs_are_shown(logprob):
    tree = td.SearchTree()
    tree.add(tree.add(-1, 0, logprob), 1, logprob)
    document, groups = pictured(tree)
    assert_readable(document, groups)
    assert named(groups[0], "logprob").text == "−∞"[-1 - (logprob < 0) :]


# --- Bad arguments -----------------------------------------------------------------------------------------


def test_bad_arguments_are_refused():
    tree = td.SearchTree()
    tree.add(-1, 3, -1.0)
    bad = [
        (lambda: tree.add(1, 3, -1.0), ValueError, "parent must be in [-1, 1), got 1"),
        (lambda: tree.add(-2, 3, -1.0), ValueError, "parent must be in [-1, 1), got -2"),
        (lambda: tree.add(-1, -1, -1.0), ValueError, "token must be >= 0, got -1"),
        (lambda: tree.add(-1, 1.5, -1.0), TypeError, "token must be an integer, got 1.5"),
        (lambda: tree.add(-1, 1, float("nan")), ValueError, "logprob must be a number, got nan"),
        (lambda: tree.keep(-1), ValueError, "node must be in [0, 1), got -1"),
        (lambda: tree.finish(1), ValueError, "node must be in [0, 1), got 1"),
        (lambda: tree.best("a"), TypeError, "node must be an integer, got 'a'"),
        (lambda: tree.to_svg(max_steps=0), ValueError, "max_steps must be >= 1, got 0"),
        (lambda: tree.to_svg(candidates=-1), ValueError, "candidates must be >= 0, got -1"),
    ]
    for call, kind, message in bad:
        with pytest.raises(kind, match=re.escape(message)):
            call()
    assert len(tree) == 1
