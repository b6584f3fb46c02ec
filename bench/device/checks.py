# SPDX-License-Identifier: Apache-2.0
"""The tests of tests/cuda that need no emulator, run on a GPU by pytest in a process of its own."""

import os
import subprocess
import sys
import xml.etree.ElementTree
from pathlib import Path
from typing import Any

from bench.device.work import ROOT

FILES = ("tests/cuda/test_draws.py", "tests/cuda/test_scoring.py")
DEVICE = "TOKENDRAW_TEST_DEVICE"


def run(seconds: float, folder: Path, arrays: str) -> dict[str, Any]:
    """Run the tests within the time, and return how many passed, failed and were skipped, and why."""
    report = folder / "tests.xml"
    command = [sys.executable, "-m", "pytest", *FILES, "-q", "-p", "no:cacheprovider", f"--junitxml={report}"]
    environment = {**os.environ, DEVICE: arrays}
    try:
        ended = subprocess.run(
            command, cwd=ROOT, env=environment, check=False, timeout=seconds, stdout=sys.stderr
        )
    except subprocess.TimeoutExpired:
        return {"reason": f"took longer than {seconds:.0f} s"}
    if not report.exists():
        return {"reason": f"pytest could not run them (exit code {ended.returncode})"}
    return counts(report)


def counts(report: Path) -> dict[str, Any]:
    """Read a report of pytest."""
    cases = list(xml.etree.ElementTree.parse(report).iter("testcase"))
    wrong = {_name(case): _reason(case) for case in cases if _has(case, "failure") or _has(case, "error")}
    skipped = sum(_has(case, "skipped") for case in cases)
    return {"passed": len(cases) - len(wrong) - skipped, "skipped": skipped, "failed": wrong}


def _has(case: xml.etree.ElementTree.Element, what: str) -> bool:
    return case.find(what) is not None


def _name(case: xml.etree.ElementTree.Element) -> str:
    return f"{case.get('classname', '')}.{case.get('name', '')}"


def _reason(case: xml.etree.ElementTree.Element) -> str:
    found = next(element for element in case if element.tag in ("failure", "error"))
    return (found.get("message") or "").strip().partition("\n")[0][:300]
