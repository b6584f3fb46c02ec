# SPDX-License-Identifier: Apache-2.0
"""What the emulator's tests are written in is CUDA: nvcc takes the same kernels and the same launch."""

import shutil
from pathlib import Path

import pytest

from tests.cuda import emulated

ROOT = Path(__file__).resolve().parents[2]
UNITS = sorted((ROOT / "cpp" / "cuda").glob("*.cu"))
FLAGS = [
    "-std=c++17",
    "-fmad=false",
    "-Werror",
    "all-warnings",
    "-Xcompiler",
    "-Wall,-Wextra",
    "-I",
    str(ROOT / "cpp"),
]


def compile_for(architecture, source, folder):
    compiler = shutil.which("nvcc")
    if compiler is None:
        pytest.skip("nvcc, the compiler of CUDA, is not installed")
    command = [compiler, *FLAGS, f"-arch={architecture}", "-c", "-o", str(folder / "unit.o"), str(source)]
    compiled = emulated.run_compiler(command)
    assert compiled.returncode == 0, compiled.stdout + compiled.stderr


@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
def test_nvcc_compiles_what_the_emulator_runs(architecture, tmp_path):
    compile_for(architecture, ROOT / "tests" / "cuda" / "emulator" / "compile_for_device.cu", tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["sm_75", "sm_90"])
@pytest.mark.parametrize("unit", UNITS, ids=lambda path: path.name)
def test_nvcc_compiles_the_units_of_the_product(unit, architecture, tmp_path):
    compile_for(architecture, unit, tmp_path)
