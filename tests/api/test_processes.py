# SPDX-License-Identifier: Apache-2.0
"""What happens to the threads of the core where processes begin, end, and run out of threads."""

import os
import subprocess
import sys
import textwrap

import pytest

SANITISED = any(name in os.environ.get("LD_PRELOAD", "") for name in ("asan", "tsan"))

PRELUDE = """
import os, resource, signal, sys, threading, time
import numpy as np
import tokendraw as td

LOGITS = np.random.default_rng(0).normal(0, 3, (8, 65536)).astype(np.float32)

def draw(threads=2, **parameters):
    return td.sample(LOGITS, **{"top_p": 0.9, "seed": 1, "threads": threads, **parameters}).tolist()

def thread_count():
    return len(os.listdir("/proc/self/task"))

def in_child(body):
    # A child that hangs is ended by its alarm.
    child = os.fork()
    if child == 0:
        signal.alarm(30)
        os._exit(0 if body() else 1)
    return os.waitpid(child, 0)[1]

expected = draw(threads=1)
"""


def run(script: str, **environment: str) -> str:
    """Run a script in an interpreter of its own, for its output; it must end well and say nothing else."""
    program = PRELUDE + textwrap.dedent(script)
    # From Python 3.12 a fork beside threads warns, which is what these tests are about.
    command = [sys.executable, "-X", "faulthandler", "-W", "ignore::DeprecationWarning", "-c", program]
    variables = {**os.environ, "OPENBLAS_NUM_THREADS": "1", **environment}  # NumPy's own are not counted
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120, env=variables)
    assert (ran.returncode, ran.stderr) == (0, "")
    return ran.stdout


needs_plain_threads = pytest.mark.skipif(SANITISED, reason="a sanitizer has threads and limits of its own")


@needs_plain_threads
def test_a_child_draws_with_threads_of_its_own():
    run(
        """
        assert draw() == expected
        before = thread_count()
        assert before > 1, "a second thread was used"
        assert in_child(lambda: thread_count() == 1 and draw() == expected and thread_count() > 1) == 0
        assert in_child(lambda: in_child(lambda: draw() == expected) == 0) == 0
        assert draw() == expected and thread_count() == before
        """
    )


@needs_plain_threads
def test_a_child_of_a_process_at_work_draws():
    """Forks while other threads are inside the core, with workers of the pool."""
    run(
        """
        stop = False
        def work():
            while not stop:
                assert draw() == expected
        callers = [threading.Thread(target=work) for _ in range(3)]
        for caller in callers:
            caller.start()
        statuses = [in_child(lambda: draw() == expected) for _ in range(20)]
        stop = True
        for caller in callers:
            caller.join()
        assert statuses == [0] * 20
        """
    )


@needs_plain_threads
def test_multiprocessing_by_fork():
    run(
        """
        import multiprocessing
        def task(seed):
            return draw(seed=seed)
        assert draw() == expected
        alone = [draw(seed=seed) for seed in range(8)]
        with multiprocessing.get_context("fork").Pool(2) as pool:
            assert pool.map(task, range(8)) == alone
        """
    )


@needs_plain_threads
@pytest.mark.parametrize("room", [0, 12 << 20], ids=["none", "one"])
def test_threads_that_the_system_refuses(room: int):
    """The address space left has no room for the stack of a thread, or for one."""
    run(
        f"""
        LOGITS = np.tile(LOGITS, (4, 1))
        expected = draw(threads=1)
        for _ in range(3):
            draw(threads=1, on_invalid="mark")
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + (4 << 20) + {room}
        resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
        before = thread_count()
        drawn = [draw(threads=40) for _ in range(3)]
        assert drawn == [expected] * 3
        assert thread_count() - before < 8
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY,) * 2)
        assert draw(threads=40) == expected
        """
    )


def test_the_default_of_the_environment():
    for value, expected in {"3": "3", "100000": "1024"}.items():
        assert run("print(td.get_num_threads())", TOKENDRAW_THREADS=value) == f"{expected}\n"


@pytest.mark.parametrize("value", ["0", "-1", "two", "2.5", ""])
def test_a_wrong_default_is_told_and_can_be_overridden(value: str):
    program = """
        try:
            td.get_num_threads()
        except ValueError as error:
            print(error)
        td.set_num_threads(2)
        assert td.get_num_threads() == 2 and draw(threads=None) == expected
        """
    told = run(program, TOKENDRAW_THREADS=value)
    assert told == f"TOKENDRAW_THREADS must be an integer >= 1, got {value}\n"


EXITS = {
    "at once": "draw()",
    "from a thread": "threading.Thread(target=draw).start()",
    "without cleaning up": "draw(); sys.stdout.flush(); os._exit(0)",
    "while daemon threads are in the core": """
        def work():
            while True:
                draw()
        for _ in range(4):
            threading.Thread(target=work, daemon=True).start()
        time.sleep(0.05)
        """,
    "in an exit handler": "import atexit; atexit.register(draw)",
}


@pytest.mark.parametrize("way", EXITS)
@pytest.mark.parametrize("attempt", range(3))
def test_a_process_that_used_the_pool_ends_well(way: str, attempt: int):
    run(EXITS[way])


def test_an_interrupt_reaches_the_main_thread():
    """A signal that the pool's threads took would leave the main thread asleep."""
    said = run(
        """
        signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore it
        draw(threads=4)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("interrupted" if time.monotonic() - start < 30 else "late")
        """
    )
    assert said == "interrupted\n"
