# SPDX-License-Identifier: Apache-2.0
"""What the emulator's tests are written in is CUDA: nvcc takes the same kernels and the same launch."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLAGS = ["-std=c++17", "-Werror", "all-warnings", "-Xcompiler", "-Wall,-Wextra", "-I", str(ROOT / "cpp")]


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_nvcc_compiles_what_the_emulator_runs(architecture, tmp_path):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc, the compiler of CUDA, is not installed")
    source = ROOT / "tests" / "cuda" / "emulator" / "compile_for_device.cu"
    output = str(tmp_path / "kernels.o")
    command = [compiler, *FLAGS, f"-arch={architecture}", "-c", "-o", output, str(source)]
    compiled = subprocess.run(command, capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr
