# SPDX-License-Identifier: Apache-2.0
"""Calls that a graph records: what is on the device is read at each replay, and nothing else may happen."""

import functools
import subprocess
import sys

import numpy as np
import pytest

import tokendraw as td
from tests.adversarial import normal
from tests.cuda import emulated
from tests.cuda.emulated import ExchangedArray, Graph
from tests.cuda.functions import FUNCTIONS

pytestmark = pytest.mark.usefixtures("cuda")

ROWS, VOCAB = 3, 1100


def logits_of(first):
    return np.stack([normal(VOCAB + first + row)[:VOCAB] for row in range(ROWS)])


@functools.cache
def warm_up():
    with emulated.stream():
        td.cuda.warmup(ExchangedArray(logits_of(0)))


@pytest.fixture
def warm_logits():
    """Logits on a stream that has done the same before."""
    warm_up()
    array = ExchangedArray(logits_of(0))
    with emulated.stream():
        td.sample(array, seed=1)
        yield array


def captured(function):
    """Return a graph of a call, and the results that its replays write."""
    graph = Graph()
    with graph.capture():
        results = function()
    return graph, results


def test_a_replay_reads_logits_parameters_seeds_and_steps_anew(warm_logits):
    temperature = ExchangedArray(np.float32([0.5, 1, 2]))
    min_p = ExchangedArray(np.float64([0, 0.1, 0.01]))
    seed, step = ExchangedArray(np.uint64([2**63 + 5, 6, 7])), ExchangedArray(np.int32([0, 0, 0]))
    allowed = np.ones((ROWS, VOCAB), bool)
    mask = ExchangedArray(allowed)
    given = {"temperature": temperature, "min_p": min_p, "seed": seed, "step": step, "mask": mask}
    graph, tokens = captured(lambda: td.sample(warm_logits, **given))
    for replay in range(4):
        logits = logits_of(10 * replay)
        warm_logits.write(logits)
        step.write([replay, 2 * replay, 2**31 - 1])
        temperature.write([0.5 + replay, 1, 0])
        allowed[:, replay::7] = False
        mask.write(allowed)
        graph.replay()
        found = {name: array.numpy() for name, array in given.items()}
        np.testing.assert_array_equal(tokens.numpy(), td.sample(logits, **found))


def test_a_replay_marks_what_has_become_invalid(warm_logits):
    graph, tokens = captured(lambda: td.sample(warm_logits, seed=1))
    for broken in range(ROWS):
        logits = logits_of(0)
        logits[broken, VOCAB - 1] = np.nan
        warm_logits.write(logits)
        graph.replay()
        np.testing.assert_array_equal(tokens.numpy(), td.sample(logits, seed=1, on_invalid="mark"))
        assert tokens.numpy()[broken] == -1


def test_a_new_stream_takes_the_memory_that_warmup_set_aside():
    array = ExchangedArray(logits_of(0))
    td.cuda.warmup(array)
    with emulated.stream():
        graph, tokens = captured(lambda: td.sample(array, seed=1))
        graph.replay()
        np.testing.assert_array_equal(tokens.numpy(), td.sample(logits_of(0), seed=1))


def test_every_function_can_be_captured_once_warm():
    """No kernel is started for the first time, nothing is allocated but results, nobody waits."""
    logits = logits_of(0)
    array = ExchangedArray(logits)
    emulated.library().emulated_forget_loaded_kernels()
    with emulated.stream():
        td.cuda.warmup(array)
        for name, function in FUNCTIONS.items():
            _, allocations, waits = emulated.counts()
            graph, results = captured(functools.partial(function, array))
            assert emulated.counts()[1:] == (allocations + 16, waits), name  # what Graph sets aside
            graph.replay()
            for result, expected in zip(results, function(logits), strict=True):
                np.testing.assert_allclose(result.numpy(), expected, rtol=2e-6, atol=2e-6, err_msg=name)


def fails_in_capture(function, message):
    """The call is refused, in its own words, and the capture goes on."""
    graph = Graph()
    with graph.capture(), pytest.raises(RuntimeError, match=message):
        function()
    assert graph.executable is not None, "the capture was spoilt"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", [0.5, 1.0, 1.5]),
        ("top_k", np.array([1, 2, 3])),
        ("seed", [1, 2, 3]),
        ("step", np.array([1, 2, 3])),
        ("mask", np.ones(VOCAB, bool)),
        ("mask", np.full((ROWS, (VOCAB + 31) // 32), -1, np.int32)),
        ("bias", np.zeros(VOCAB, np.float32)),
    ],
)
def test_arrays_of_the_host_are_refused_by_name(name, value, warm_logits):
    arguments = {"seed": 1, name: value}
    td.sample(warm_logits, **arguments)
    expected = (
        f"^{name} must be on the device of logits while a graph is captured, got an array in host memory"
    )
    fails_in_capture(lambda: td.sample(warm_logits, **arguments), expected)


def test_waiting_is_refused(warm_logits):
    message = '^on_invalid must be "mark" while a graph is captured, got "raise", which waits'
    fails_in_capture(lambda: td.sample(warm_logits, seed=1, on_invalid="raise"), message)


def test_a_larger_batch_than_was_prepared_for_is_refused(warm_logits):
    larger = ExchangedArray(np.zeros((2000, VOCAB), np.float32))
    message = "memory must not be allocated while a graph is captured.*call tokendraw.cuda.warmup with"
    fails_in_capture(lambda: td.sample(larger, seed=1), message)


def test_a_workspace_of_the_caller_s_own(warm_logits):
    """Two graphs of one stream keep apart what they write."""
    logits = logits_of(0)
    mine, other = td.cuda.Workspace(0), td.cuda.Workspace(1)
    assert (mine.device, mine.bytes) == (0, 0)
    with mine:
        fails_in_capture(lambda: td.sample(warm_logits, seed=1), "memory must not be allocated")
        td.sample(warm_logits, seed=1)
        taken = mine.bytes
        assert taken > 0
        graph, tokens = captured(lambda: td.sample(warm_logits, seed=1))
        message = "the workspace in use is on CUDA device 1, and logits are on CUDA device 0"
        with other, pytest.raises(RuntimeError, match=message):
            td.sample(warm_logits, seed=1)
    assert mine.bytes == taken
    graph.replay()
    np.testing.assert_array_equal(tokens.numpy(), td.sample(logits, seed=1))


def test_a_workspace_needs_its_device():
    with pytest.raises(RuntimeError, match="a workspace must be on a CUDA device, but this machine has 3"):
        td.cuda.Workspace(3)


def test_warmup_is_for_logits_on_a_device():
    with pytest.raises(ValueError, match="logits must be on a CUDA device, got an array in host memory"):
        td.cuda.warmup(np.zeros((2, 3), np.float32))


COLD = """
import numpy as np
import tokendraw as td
from tests.cuda import emulated
from tokendraw import _core
_core._use_cuda(emulated.library().capsule)
array = emulated.ExchangedArray(np.zeros((2, 8), np.float32))
with emulated.stream():
    graph = emulated.Graph()
    with graph.capture():
        try:
            td.sample(array, seed=1)
        except RuntimeError as error:
            print(error)
    assert graph.executable is not None, "the capture was spoilt"
"""


def test_a_capture_without_warmup_is_refused():
    """In an interpreter of its own: one that is warm stays so."""
    command = [sys.executable, "-c", COLD]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=emulated.ROOT)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("tokendraw.cuda.warmup must be called before a graph is captured")
