# SPDX-License-Identifier: Apache-2.0
"""What a call costs: a `[1, 32]` row, beside an empty pybind11 function that takes the same array."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import tokendraw as td
from bench.contest import Contest, Recipe, contests
from bench.results import Budget
from tokendraw.budgets import Contestant, make_rows

# The least that a pybind11 function can do with an array.
SOURCE = """
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
namespace py = pybind11;
PYBIND11_MODULE(empty_call, module) {
  module.def("take_array", [](const py::array& array) { return array.shape(0); });
}
"""

VOCAB = 32
EMPTY = "empty pybind11 call"
SECONDS_MORE = 3e-6
CALLS = {
    "greedy": lambda logits: td.greedy(logits),
    "temperature": lambda logits: td.sample(logits, temperature=0.8, seed=1),
    "top_k and top_p": lambda logits: td.sample(logits, temperature=0.8, top_k=50, top_p=0.95, seed=1),
    "min_p": lambda logits: td.sample(logits, min_p=0.05, seed=1),
}


@cache
def empty_call() -> ModuleType | str:
    """Compile the empty function; return its module, or the reason why there is none."""
    compiler = shutil.which("c++")
    if compiler is None:
        return "no C++ compiler"
    try:
        import pybind11
    except ImportError:
        return "pybind11 is not installed"
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder) / f"empty_call{sysconfig.get_config_var('EXT_SUFFIX')}"
        includes = [f"-I{path}" for path in (pybind11.get_include(), sysconfig.get_path("include"))]
        options = ["-O2", "-std=c++17", "-shared", "-fPIC", "-fvisibility=hidden"]
        source = Path(folder) / "empty_call.cpp"
        source.write_text(SOURCE, encoding="utf-8")
        subprocess.run([compiler, *options, *includes, str(source), "-o", str(built)], check=True)
        spec = importlib.util.spec_from_file_location("empty_call", built)
        assert spec is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def make(vocab: int) -> Contest:
    """Return the contest on its own vocab, whatever that of the others is."""
    rows = make_rows("flat", 1, VOCAB)
    contestants = {name: Contestant(call, [rows]) for name, call in CALLS.items()}
    contestants["np.argmax"] = Contestant(lambda logits: np.argmax(logits, axis=-1), [rows])
    absent = {}
    module = empty_call()
    if isinstance(module, str):
        absent[EMPTY] = module
    else:
        take_array = module.take_array
        contestants[EMPTY] = Contestant(lambda logits: take_array(logits), [rows])
    budgets = [Budget(name, EMPTY, SECONDS_MORE, is_difference=True) for name in CALLS]
    return Contest(f"a call on [1, {VOCAB}]", 1, contestants, budgets, absent=absent)


@contests([Recipe("call", (EMPTY, *CALLS, "np.argmax"), make)])
def test_call(play, contestant):
    assert play() == (1 if contestant == EMPTY else pytest.approx(16, abs=16))


def test_the_empty_call_takes_only_arrays():
    module = empty_call()
    if isinstance(module, str):
        pytest.skip(module)
    with pytest.raises(TypeError):
        module.take_array([1.0])
    assert sys.modules.get("empty_call") is None
