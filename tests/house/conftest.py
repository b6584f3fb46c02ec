# SPDX-License-Identifier: Apache-2.0
"""What `TOKENDRAW_CI=1` adds to a run: a skip for want of a library fails, and a table says what ran."""

import os
import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

import tokendraw as td
from tests.house import tree

IN_CI = os.environ.get("TOKENDRAW_CI") == "1"
ISAS = ("scalar", "avx2", "avx512", "neon")
DTYPES = ("float32", "float16", "bfloat16", "float64")
# What one machine cannot have another; everything else is installed where the tests run in earnest.
HARDWARE = re.compile(r"\b(CUDA|GPU|AVX-?512|AVX2|NEON|processors?)\b", re.IGNORECASE)


def reason_of(report: pytest.TestReport) -> str:
    return str(report.longrepr[2]) if isinstance(report.longrepr, tuple) else str(report.longrepr)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Make a skip that is not for want of hardware a failure."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if not IN_CI or reporter is None:
        return
    skipped = reporter.stats.get("skipped", [])
    wrong = [report for report in skipped if not HARDWARE.search(reason_of(report))]
    if wrong:
        reporter.stats["skipped"] = [report for report in skipped if report not in wrong]
        reporter.stats.setdefault("failed", []).extend(wrong)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def cell_of(nodeid: str) -> tuple[str, str] | None:
    """Return the ISA and dtype that a test's name carries."""
    words = set(re.findall(r"[a-z0-9]+", nodeid.partition("[")[2]))
    isa = next((name for name in ISAS if name in words), None)
    dtype = next((name for name in DTYPES if name in words), None)
    return (isa, dtype) if isa and dtype else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not IN_CI:
        return
    passed = Counter(cell_of(report.nodeid) for report in terminalreporter.stats.get("passed", []))
    terminalreporter.section("tests passed by backend, ISA and dtype")
    terminalreporter.line(f"{'':14}" + "".join(f"{dtype:>10}" for dtype in DTYPES))
    for isa in ISAS:
        counts = "".join(f"{passed[isa, dtype]:>10}" for dtype in DTYPES)
        here = isa in td.build_info()["isas"]
        terminalreporter.line(
            f"cpu {isa:10}" + (counts if here else "  not on this machine or not in this build")
        )
    cuda = "built in" if td.build_info()["cuda"] else "no CUDA backend in this build"
    terminalreporter.line(f"{'cuda':14}  {cuda}")
    reasons = Counter(reason_of(report) for report in terminalreporter.stats.get("skipped", []))
    for reason, count in sorted(reasons.items()):
        terminalreporter.line(f"skipped {count:>5}  {reason}")


@pytest.fixture(scope="session")
def debug_build(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Configure the sources for Debug, without Python; nothing is compiled yet."""
    for tool in ("cmake", "ninja", "nm", "c++"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    build = tmp_path_factory.mktemp("debug")
    options = ["-DCMAKE_BUILD_TYPE=Debug", "-DTOKENDRAW_PYTHON=OFF", "-DTOKENDRAW_TESTS=ON"]
    options.append("-DTOKENDRAW_CUDA_TESTS=ON")
    command = ["cmake", "-S", str(tree.ROOT), "-B", str(build), "-G", "Ninja", *options]
    configured = subprocess.run(command, capture_output=True, text=True, check=False)
    assert configured.returncode == 0, configured.stderr
    return build
