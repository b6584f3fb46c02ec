# SPDX-License-Identifier: Apache-2.0
"""Every example of the documentation runs and says what it shows."""

import doctest
import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import tokendraw as td
from tests.house import tree
from tokendraw import _core

FLAGS = doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS
FENCE = re.compile(r"^```(\w+)?[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
# A page that shows how another library is used is run where that library is installed.
OPTIONAL = re.compile(r"^\s*(?:>>> )?(?:import|from) (torch|jax|rich|ml_dtypes)\b", re.MULTILINE)


def modules() -> Iterator[str]:
    for path in tree.python_files():
        name = ".".join(path.relative_to(tree.PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
        if not name.endswith("__main__"):
            yield name


def examples_of(module: ModuleType) -> list[doctest.DocTest]:
    return [test for test in doctest.DocTestFinder(exclude_empty=True).find(module) if test.examples]


def compiled_examples() -> list[doctest.DocTest]:
    """Return the examples in the docstrings of the extension, which doctest does not look into."""
    parser = doctest.DocTestParser()
    found = []
    for name, function in sorted(vars(_core).items()):
        text = inspect.getdoc(function) if callable(function) else None
        if text and ">>>" in text:
            found.append(parser.get_doctest(text, {}, f"tokendraw._core.{name}", None, 0))
    return found


def run(test: doctest.DocTest) -> None:
    said: list[str] = []
    runner = doctest.DocTestRunner(optionflags=FLAGS)
    runner.run(test, out=said.append)
    assert runner.failures == 0, "".join(said)
    assert runner.tries > 0


@pytest.mark.parametrize("name", list(modules()))
def test_examples_of_a_module(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = (tree.PACKAGE.parent / Path(*name.split("."))).with_suffix(".py")
    if text.is_file() and re.search(r"^import torch", text.read_text(encoding="utf-8"), re.MULTILINE):
        pytest.importorskip("torch")
    for test in examples_of(importlib.import_module(name)):
        run(test)


@pytest.mark.parametrize("test", compiled_examples(), ids=lambda test: test.name.rpartition(".")[2])
def test_examples_of_the_extension(test):
    run(test)


def doc_of(name: str) -> str:
    """Return a docstring without the line in which pybind11 repeats the signature."""
    return re.sub(r"\A\w+\(.*\) -> \w+\n+", "", inspect.getdoc(getattr(td, name)) or "")


def public_callables() -> list[str]:
    return [name for name in td.__all__ if callable(getattr(td, name)) and name != "InvalidLogitsError"]


@pytest.mark.parametrize("name", public_callables())
def test_every_public_name_is_documented(name):
    """A sentence, and an example of the call; a record may list its fields instead."""
    text = doc_of(name)
    assert text.splitlines()[0].strip().endswith("."), "the first line is a sentence"
    sections = "Examples|Attributes" if isinstance(getattr(td, name), type) else "Examples"
    assert re.search(rf"^({sections})\n-+$", text, re.MULTILINE), f"no {sections}"


def parameters_of(name: str) -> list[str]:
    function = getattr(td, name)
    try:
        return list(inspect.signature(function).parameters)
    except ValueError:  # pybind11 writes the signature into the docstring only
        assert (function.__doc__ or "").startswith(f"{name}() ->"), "a signature is needed"
        return []


@pytest.mark.parametrize(
    "name", [name for name in public_callables() if not isinstance(getattr(td, name), type)]
)
def test_every_parameter_is_documented(name):
    parameters = parameters_of(name)
    section = re.search(r"^Parameters\n-+\n(.*?)(?=^\w+\n-+$|\Z)", doc_of(name), re.MULTILINE | re.DOTALL)
    # Lines at the margin name parameters: "name : type", or "a, b, c".
    told = re.findall(r"^([*\w, ]+?)(?: : .*)?$", section[1], re.MULTILINE) if section else []
    missing = set(parameters) - set(re.findall(r"\w+", " ".join(told)))
    assert not missing


def pages() -> list[Path]:
    return [path for path in tree.files() if path.suffix == ".md"]


def blocks(language: str) -> list[tuple[Path, int, str]]:
    found = []
    for page in pages():
        text = page.read_text(encoding="utf-8")
        for match in FENCE.finditer(text):
            if match[1] == language:
                found.append((page, text.count("\n", 0, match.start()) + 1, match[2]))
    return found


def block_id(block: tuple[Path, int, str]) -> str:
    return f"{tree.named(block[0])}:{block[1]}"


@pytest.mark.parametrize("block", blocks("python"), ids=block_id)
def test_python_of_the_pages(block, monkeypatch, tmp_path):
    """A block with prompts is a doctest; one without is a program of its own."""
    page, line, text = block
    for library in OPTIONAL.findall(text):
        pytest.importorskip(library)
    monkeypatch.chdir(tmp_path)
    if ">>>" in text:
        run(doctest.DocTestParser().get_doctest(text, {}, tree.named(page), str(page), line))
        return
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", text], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr


LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)(?:#[^)]*)?\)")


@pytest.mark.parametrize("page", pages(), ids=tree.named)
def test_links_and_paths_of_the_pages_exist(page):
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target
