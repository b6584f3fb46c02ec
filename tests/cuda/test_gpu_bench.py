# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.gpu` where there is no GPU: what needs none, and all of it once on emulated devices."""

import json
import subprocess
import sys
from itertools import count

import numpy as np
import pytest

import tokendraw as td
from bench import gpu
from bench.device import (
    Case,
    Extent,
    LeftOutError,
    agreement,
    arrays,
    checks,
    machine,
    page,
    peers,
    timing,
    work,
)
from tests.adversarial import DTYPES
from tests.cuda import emulated

SMALL = Extent(rows=(2,), vocabs=(300,), dtypes=("float32",), kinds=("tied",), rounds=1, calls=2, every=400)


class Quiet:
    """A library that does nothing."""

    name = "nothing"

    def wait(self):
        pass


# ---- time ----


def test_a_part_leaves_what_it_does_not_need_to_those_after_it():
    now = [100.0]
    timetable = gpu.Timetable(["machine", "timing"], 195.0, lambda: now[0])
    assert timetable.left("machine") == pytest.approx(15)
    now[0] += 5
    assert timetable.left("timing") == pytest.approx(190)
    now[0] += 300
    assert timetable.left("timing") == 0
    assert timetable.spent == pytest.approx(305)


def test_all_parts_have_a_share_and_end_before_eight_minutes():
    assert set(gpu.SHARES) == set(gpu.PARTS)
    assert gpu.SECONDS + work.GRACE < 8 * 60


def told_by(cases, seconds=100.0, after=None, library=None, steps=None):
    clock = (lambda: 0.0) if steps is None else map(float, steps).__next__
    lines = []
    work.work_through(cases, library or Quiet(), seconds, lines.append, after, clock)
    return work.read(map(json.dumps, lines))


def fails():
    raise ValueError("not today")


def cannot():
    raise LeftOutError("nobody can")


def test_what_there_is_no_time_for_is_named():
    cases = [Case(name, dict) for name in "abc"]
    told = told_by(cases, seconds=2.5, steps=count())
    assert (list(told.work.results), told.work.left_out) == (["a", "b"], {"c": work.NO_TIME})


def test_a_case_that_fails_or_cannot_be_done_does_not_end_the_others():
    told = told_by([Case("a", fails), Case("b", cannot), Case("c", lambda: {"x": 1})])
    assert told.work == work.Work({"c": {"x": 1}}, {"b": "nobody can"}, {"a": "ValueError: not today"})
    assert (told.last, told.is_open) == ("c", False)


def test_work_goes_on_after_a_case():
    assert list(told_by([Case(name, dict) for name in "abcd"], after="b").work.results) == ["c", "d"]


def test_a_device_that_no_longer_answers_ends_the_process():
    class Broken(Quiet):
        def wait(self):
            raise RuntimeError("illegal address")

    with pytest.raises(RuntimeError, match="illegal address"):
        told_by([Case("a", fails), Case("b", dict)], library=Broken())


# ---- processes ----

WORKER = """
import json, os, sys, time
given = dict(option[2:].split("=", 1) for option in sys.argv[1:])
names = list("abcde")
if "after" in given:
    names = names[names.index(given["after"]) + 1 :]
with open(given["lines"], "a") as file:
    for name in names:
        print(json.dumps({"began": name}), file=file, flush=True)
        if name == "b":
            os._exit(9)
        if name == "d":
            print('{"done": ', end="", file=file, flush=True)
            time.sleep(60)
        print(json.dumps({"done": name, "result": {}}), file=file, flush=True)
"""


def test_a_process_that_breaks_loses_one_case(tmp_path, monkeypatch):
    monkeypatch.setattr(work, "GRACE", 3.0)
    worker = tmp_path / "worker.py"
    worker.write_text(WORKER)
    found = work.run_apart([sys.executable, str(worker)], 0.5, tmp_path)
    # Of the last one the time is over: nothing comes after it.
    assert list(found.results)[:1] == ["a"]
    assert found.failed["b"] == "ended its process with code 9"
    assert "d" in found.failed or "what follows b" in found.left_out


def test_a_process_that_does_not_begin_is_not_tried_again(tmp_path):
    command = [sys.executable, "-c", "import sys; sys.exit(4)"]
    found = work.run_apart(command, 100.0, tmp_path)
    assert found == work.Work({}, {}, {"its beginning": "ended its process with code 4"})


# ---- what others do ----


@pytest.mark.parametrize("name", peers.PEERS)
def test_a_library_that_is_not_installed_says_so(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    library = Quiet()
    library.name = "torch 9"
    peers.peers.load.cache_clear()
    with pytest.raises(LeftOutError, match=f"{name} is not installed"):
        peers.load(name, library, (1, 8))
    peers.peers.load.cache_clear()


def test_other_libraries_need_arrays_of_torch():
    with pytest.raises(
        LeftOutError, match="vllm works on torch's tensors, and arrays here are those of nothing"
    ):
        peers.load("vllm", Quiet(), (1, 8))


def test_no_library_of_arrays(monkeypatch):
    for name, module in arrays.LIBRARIES.items():
        monkeypatch.setitem(sys.modules, name, None)
        monkeypatch.delitem(sys.modules, module, raising=False)
    with pytest.raises(ImportError, match=r"^no library holds arrays on one .*torch.*cupy"):
        arrays.find()


def test_a_line_of_nvidia_smi():
    line = "580.65.06, 345 MHz, 1980 MHz, 2619 MHz, 2619 MHz, 700.00 W, 31, Enabled, Disabled\n"
    found = machine.parsed(line)
    assert (found["driver"], found["clock_at_most"], found["mig"]) == ("580.65.06", "1980 MHz", "Disabled")
    assert machine.parsed("No devices were found") == {}


REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="x"/>
<testcase classname="tests.a" name="y[1]"><failure message="assert 1 == 2&#10;more">text</failure></testcase>
<testcase classname="tests.a" name="z"><skipped message="no"/></testcase>
</testsuite></testsuites>"""


def test_a_report_of_pytest_is_counted(tmp_path):
    (tmp_path / "tests.xml").write_text(REPORT)
    counted = checks.counts(tmp_path / "tests.xml")
    assert counted == {"passed": 1, "skipped": 1, "failed": {"tests.a.y[1]": "assert 1 == 2"}}


# ---- agreement ----


def test_one_token_that_differs_is_seen_and_placed():
    tally = agreement.Tally()
    tally.tokens("a", np.array([1, 2]), np.array([1, 2]))
    tally.tokens("b", np.array([[1, 2], [3, 4]]), np.array([[1, 2], [5, 4]]))
    assert (tally.compared, tally.different) == (6, 1)
    assert tally.first == "b, value 2: 3, and 5 on the CPU"


@pytest.mark.parametrize(
    ("found", "expected", "different"),
    [
        (-1.0 + 1e-6, -1.0, 0),
        (-1.0 + 3e-6, -1.0, 1),
        (np.nan, -1.0, 1),
        (-np.inf, -np.inf, 0),
        (-1.0, -np.inf, 1),
    ],
)
def test_reals_are_held_to_the_contract(found, expected, different):
    tally = agreement.Tally()
    tally.reals("a", np.array([found]), np.array([expected]))
    assert tally.different == different


# ---- the page ----


def timed(job, rows, own, others=()):
    seconds = {
        "copy": [2e-6] * 9,
        "graph": [own] * 9,
        "eager": [1e-5] * 9,
        **dict.fromkeys(others, [4e-5] * 9),
    }
    size = rows * 1000 * 4
    made_up = {"job": job, "rows": rows, "vocab": 1000, "dtype": "float32", "bytes": size}
    return {**made_up, "seconds": seconds, "absent": {}}


def record_of(**more):
    tally = {"compared": 1200, "different": 0, "first": "", "share": 0.5}
    part = {"seconds": 1.0, "allowed": 2.0, "left_out": {}, "failed": {}}
    record = {
        "schema": gpu.SCHEMA,
        "date": "2026-01-02",
        "seconds": 60.0,
        "rounds": 9,
        "calls": 10,
        "parts": {"timing": {**part, "left_out": {"x": work.NO_TIME, "y": work.NO_TIME}}},
        "machine": {"gpu": "NVIDIA Made-Up 80GB", "l2_bytes": 10000, "note": ""},
        "peers": {},
        "tests": {"passed": 3, "skipped": 1, "failed": {}},
        "agreement": {"peaked rows": {"tokens": tally, "reals": tally}},
        "timing": {
            "a": timed("top_k", 1, 3e-6, ["torch"]),
            "b": timed("top_k", 8, 5e-6),
            "c": timed("softmax", 8, 4e-6),
        },
    }
    return {**record, **more}


def test_times_stand_beside_a_copy_and_others():
    text = "\n".join(page.lines(record_of()))
    assert "# NVIDIA Made-Up 80GB, 2026-01-02" in text
    assert "| job | 1 row, in L2 | 8 rows, from memory |" in text
    assert "| top_k 50 | 3.0 (1.50) | 5.0 (2.50) |" in text
    assert "| softmax | - | 4.0 (2.00) |" in text
    assert "| top_k 50 | 1 | 10.0 | 40.0 (4.00) |" in text
    assert "| l2 | 0 MiB |" in text
    assert "3 passed, 0 failed, 1 are the emulator's" in text
    assert "- timing: x; timing: y: no time was left" in text
    assert "| peaked rows | 1,200 | 0 | 1,200 | 0 | 0.50 |" in text


def test_a_page_of_no_gpu_says_so():
    text = "\n".join(page.lines(record_of(machine={"gpu": "x", "note": "Nothing here was measured."})))
    assert "**Nothing here was measured.**" in text


def test_a_run_with_nothing_but_failures_is_a_page_as_well():
    part = {"seconds": 1.0, "allowed": 2.0, "left_out": {}, "failed": {"its beginning": "ended"}}
    record = record_of(
        machine={}, tests={"reason": "took long"}, agreement={}, timing={}, parts={"timing": part}
    )
    text = "\n".join(page.lines(record))
    assert "Not done: took long." in text
    assert "- timing: its beginning: ended" in text
    assert not gpu.is_right(record)
    assert "1 cases failed" in gpu.summary(record)


def test_a_difference_is_not_right():
    assert gpu.is_right(record_of())
    wrong = {"compared": 9, "different": 2, "first": "a", "share": 3.0}
    record = record_of(agreement={"flat rows": {"tokens": wrong}})
    assert not gpu.is_right(record)
    assert "9 values compared with the CPU, 2 different" in gpu.summary(record)
    assert "- flat rows, tokens: a" in "\n".join(page.lines(record))


def test_a_run_is_named_after_its_gpu_and_day():
    assert gpu.name_of(record_of()) == "gpu-nvidia-made-up-80gb-2026-01-02"


# ---- on emulated devices ----


@pytest.fixture
def library(cuda, emulator):
    return arrays.load("tests.cuda.emulated_library")


def test_what_is_timed_is_a_copy_a_graph_and_calls(library):
    found = timing.contest("temperature", (2, 300), "float32", library, SMALL)
    assert set(found["seconds"]) == {"copy", "graph", "eager"}
    assert {len(seconds) for seconds in found["seconds"].values()} == {SMALL.rounds}
    assert found["bytes"] == 2 * 300 * 4
    # The clock counts launches: one draw is at least one, in a graph or not.
    launches = [value / 0.001 for value in found["seconds"]["eager"] + found["seconds"]["graph"]]
    assert launches == [launches[0]] * len(launches)
    assert launches[0] >= 1


def test_what_a_device_cannot_do_is_left_out(library, monkeypatch):
    def refuse(*_, **__):
        raise NotImplementedError("softmax is not implemented")

    monkeypatch.setattr(td, "softmax", refuse)
    with pytest.raises(LeftOutError, match="softmax is not implemented"):
        timing.contest("softmax", (2, 300), "float32", library, SMALL)


def test_a_graph_that_answers_otherwise_is_not_timed(library, monkeypatch):
    counted = count()
    greedy = td.greedy
    monkeypatch.setattr(td, "greedy", lambda logits: greedy(logits, bias={next(counted): 99.0}))
    with pytest.raises(AssertionError, match="another result than the call that it captured"):
        timing.contest("greedy", (2, 300), "float32", library, SMALL)


def test_a_device_that_draws_otherwise_is_found_out(library, monkeypatch):
    right = agreement.random_rows(library, "flat", ((2,), 300), "float32")
    assert right["tokens"]["different"] == right["reals"]["different"] == 0
    assert right["tokens"]["compared"] > 20
    sample = td.sample
    monkeypatch.setattr(
        td,
        "sample",
        lambda logits, **given: sample(logits, **{**given, "step": int(hasattr(logits, "memory"))}),
    )
    wrong = agreement.random_rows(library, "flat", ((2,), 300), "float32")
    assert wrong["tokens"]["different"] > 0


def test_torch_s_tensors_come_and_go():
    """On the host, where they are all that is needed of a GPU's but its clock."""
    pytest.importorskip("torch")
    from bench.device.torch_arrays import TorchLibrary

    class OnHost(TorchLibrary):
        def wait(self):
            pass

    library = OnHost("cpu")
    for dtype in library.dtypes:
        found = agreement.random_rows(library, "peaked", ((1, 3), 300), dtype)
        assert found["tokens"]["different"] == found["reals"]["different"] == 0
    values = np.array([2**63 + 5], np.uint64)
    np.testing.assert_array_equal(library.get(library.put(values)), values)
    kept = np.array([1.5, -np.inf], DTYPES["bfloat16"])
    np.testing.assert_array_equal(library.get(library.put(kept).float()), kept.astype(np.float32))
    calls = peers.load("torch", library, (2, 300))
    logits = library.put(timing.logits_of("peaked", (2, 300)), "bfloat16")
    for name, call in calls.items():
        assert call(logits) is not None, name
    assert set(timing.DEVICE_JOBS) == set(calls)


KEYS = {
    "schema",
    "date",
    "seconds",
    "rounds",
    "calls",
    "parts",
    "machine",
    "peers",
    "tests",
    "agreement",
    "timing",
}


def test_the_whole_command(library, tmp_path):
    """But for the tests, which are what this is one of."""
    output = tmp_path / "run.json"
    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        "--arrays=tests.cuda.emulated_library",
        f"--output={output}",
        "--seconds=2000",
    ]
    for part in ("machine", "peers", "agreement", "timing"):
        command += ["--part", part]
    for name, value in SMALL._asdict().items():
        command += [f"--{name}", *map(str, value if isinstance(value, tuple) else (value,))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=emulated.ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads(output.read_text())
    assert set(record) == KEYS
    assert list(record["parts"]) == ["machine", "peers", "agreement", "timing"]
    assert all(not part["failed"] for part in record["parts"].values())
    assert set(record["parts"]["peers"]["left_out"]) == set(peers.PEERS)
    assert "temperature 0.8 [2, 300] float32" in record["timing"]
    assert sum(found["tokens"]["compared"] for found in record["agreement"].values()) > 100
    text = output.with_suffix(".md").read_text()
    assert text.startswith("<!-- SPDX-License-Identifier: Apache-2.0 -->\n# an emulated device, ")
    assert "Nothing here was measured." in text
    assert "timing 1/" in done.stderr


def test_without_a_gpu_it_says_so_in_a_sentence():
    if td.cuda.available():
        pytest.skip("this machine has a GPU")
    command = [sys.executable, "-m", "bench.gpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=emulated.ROOT)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == f"bench.gpu needs a GPU: {td.cuda.problem()}\n"


# ---- the price of not using it ----

UNTOUCHED = """
import sys

class Watch:
    asked = []

    def find_spec(self, name, path=None, target=None):
        self.asked.append(name)

sys.meta_path.insert(0, Watch())
import numpy as np
import tokendraw as td

logits = np.zeros((2, 50), np.float32)
td.sample(logits, seed=1)
td.draw(logits, seed=1, top_k=3)
td.softmax(logits)
assert "tokendraw._core" in Watch.asked
assert "tokendraw._cuda" not in Watch.asked
assert "tokendraw._cuda" not in sys.modules
"""


def test_a_program_of_the_host_never_looks_for_cuda():
    """In an interpreter of its own, which notes what is looked for, whether this build has it or not."""
    done = subprocess.run([sys.executable, "-c", UNTOUCHED], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
