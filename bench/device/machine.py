# SPDX-License-Identifier: Apache-2.0
"""What the machine is that a run was on: its GPU, driver, clocks, versions."""

import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import tokendraw as td
from bench.device import Case, Extent
from bench.device.arrays import Library
from tokendraw import budgets

FIELDS = {
    "driver": "driver_version",
    "clock": "clocks.sm",
    "clock_at_most": "clocks.max.sm",
    "memory_clock": "clocks.mem",
    "memory_clock_at_most": "clocks.max.mem",
    "power_limit": "power.limit",
    "temperature": "temperature.gpu",
    "ecc": "ecc.mode.current",
    "mig": "mig.mode.current",
}
"""What nvidia-smi is asked for, by the name it has here."""


def cases(_extent: Extent, library: Library) -> Iterator[Case]:
    yield Case("machine", lambda: describe(library))


def describe(library: Library) -> dict[str, Any]:
    """Return all that is known about the machine; only reads, and changes no setting."""
    build = td.build_info()
    return {
        **library.describe(),
        **ask_nvidia_smi(),
        "tokendraw": f"{build['version']}, built with {build['compiler']}",
        "host": budgets.machine(),
        "note": library.note,
    }


def ask_nvidia_smi() -> dict[str, str]:
    """Return what the driver's own program says about the first GPU; nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    command = [program, "--id=0", f"--query-gpu={','.join(FIELDS.values())}", "--format=csv,noheader"]
    try:
        asked = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return {}
    return parsed(asked.stdout) if asked.returncode == 0 else {}


def parsed(line: str) -> dict[str, str]:
    """Read a line of nvidia-smi."""
    values = [value.strip() for value in line.strip().split(",")]
    return dict(zip(FIELDS, values, strict=True)) if len(values) == len(FIELDS) else {}
