# SPDX-License-Identifier: Apache-2.0
"""nvcc and cuobjdump, of a toolkit on the path or of NVIDIA's packages on PyPI, and what they are used on."""

from __future__ import annotations

import shutil
import subprocess
import sysconfig
from functools import cache
from pathlib import Path

from tests.cuda.static import machine_code

ROOT = Path(__file__).resolve().parents[3]
FLAGS = ["-std=c++17", "-fmad=false", "-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra"]


def tool(name: str) -> str | None:
    """Return the path of one of the toolkit's programs, or None."""
    packaged = Path(sysconfig.get_path("purelib")) / "nvidia" / "cu13" / "bin"
    return shutil.which(name) or shutil.which(name, path=str(packaged))


def missing() -> list[str]:
    return [name for name in ("nvcc", "cuobjdump") if tool(name) is None]


def units() -> list[Path]:
    return sorted((ROOT / "cpp" / "cuda").glob("*.cu"))


def run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class Unit:
    """A unit compiled for one architecture."""

    def __init__(self, source: Path, architecture: str, folder: Path) -> None:
        self.object = folder / f"{source.stem}-{architecture}.cubin"
        output = ["-cubin", "-o", str(self.object), str(source)]
        run(str(tool("nvcc")), *FLAGS, "-I", str(ROOT / "cpp"), f"-arch={architecture}", *output)

    @cache  # noqa: B019
    def resources(self) -> dict[str, machine_code.Resources]:
        return machine_code.read_resources(run(str(tool("cuobjdump")), "-res-usage", str(self.object)))

    @cache  # noqa: B019
    def code(self) -> dict[str, list[machine_code.Instruction]]:
        return machine_code.read_code(run(str(tool("cuobjdump")), "-sass", str(self.object)))
