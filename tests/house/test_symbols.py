# SPDX-License-Identifier: Apache-2.0
"""What the object of each ISA shares with the rest: its table of kernels, and nothing a linker could merge.

Functions compiled under different `-m` flags and merged by name put AVX-512 code on a machine without it. The
hazard is invisible where everything was inlined, so the objects are those of a Debug build.
"""

import json
import platform
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.house import tree

ISAS = sorted(path.stem.removeprefix("isa_") for path in (tree.CPP / "cpu").glob("isa_*.cpp"))

# libgcc's, linked statically; at -O3 the scalar kernels count their one lane without it.
MAY_CALL = {"__popcountdi2"}
# How clang copies and clears structs where it does not optimise.
CLANG_MAY_CALL = MAY_CALL | {"memcpy", "memset"}
MATH_FLAGS = {"-ffp-contract=off", "-fno-fast-math"}
LOOSE_FLAGS = re.compile(r"^-(ffast-math|Ofast|funsafe|fassociative|freciprocal|ffinite|march=|mtune=)")
ISA_FLAG = re.compile(r"^-m(avx|fma|f16c|sse|bmi|popcnt)")


@pytest.fixture(scope="module")
def commands(debug_build: Path) -> dict[str, list[str]]:
    """Return the compile command of each source."""
    database = json.loads((debug_build / "compile_commands.json").read_text(encoding="utf-8"))
    return {tree.named(Path(entry["file"])): shlex.split(entry["command"]) for entry in database}


# What one architecture compiles.
ONLY_ON = {
    "aarch64": re.compile(r"/isa_neon\.cpp$"),
    "x86_64": re.compile(r"/isa_avx\w+\.cpp$|^tests/cpu/bare/"),
}


def is_for_this_architecture(name: str) -> bool:
    return not any(only.search(name) for other, only in ONLY_ON.items() if other != platform.machine())


def test_every_source_is_compiled(commands):
    sources = {tree.named(path) for path in tree.cpp_files() if path.suffix == ".cpp"}
    sources = {name for name in sources if is_for_this_architecture(name)}
    # Of the modules, which are built for a Python; tests/cuda/emulated.py compiles all of cpp/cuda, too.
    modules = {name for name in sources if name.startswith(("cpp/bindings/", "cpp/cuda/"))}
    assert sources - modules <= set(commands)
    tests = {
        tree.named(path) for path in tree.files() if path.suffix == ".cpp" and tree.CPP not in path.parents
    }
    emulated = {name for name in tests if name.startswith("tests/cuda/emulated_")}  # likewise
    assert {name for name in tests - emulated if is_for_this_architecture(name)} <= set(commands)


def test_no_file_may_change_a_rounding(commands):
    for name, command in commands.items():
        assert set(command) >= MATH_FLAGS, name
        assert not [flag for flag in command if LOOSE_FLAGS.match(flag)], name


def test_only_isa_units_have_isa_flags(commands):
    for name, command in commands.items():
        flags = [flag for flag in command if ISA_FLAG.match(flag)]
        assert bool(flags) == bool(re.search(r"/isa_(avx2|avx512)\.cpp$", name)), (name, flags)


def cross_compiled(scalar_command: list[str], build: Path) -> str:
    """Compile the NEON unit as the scalar one is compiled here; return its object."""
    _, *words = (word.replace("isa_scalar", "isa_neon") for word in scalar_command if "ccache" not in word)
    subprocess.run(["aarch64-linux-gnu-g++", *words], cwd=build, check=True, capture_output=True)
    return next(word for word in words if word.endswith(".o"))


@pytest.fixture(scope="module", params=ISAS)
def symbols(request: pytest.FixtureRequest, debug_build: Path, commands) -> list[tuple[str, str]]:
    """Return the symbols of an ISA's object: kind and name."""
    name = f"cpp/cpu/isa_{request.param}.cpp"
    if name in commands:
        built = next(word for word in commands[name] if word.endswith(".o"))
        subprocess.run(["ninja", "-C", str(debug_build), built], check=True, capture_output=True)
    elif request.param == "neon" and shutil.which("aarch64-linux-gnu-g++"):
        built = cross_compiled(commands["cpp/cpu/isa_scalar.cpp"], debug_build)
    else:
        pytest.skip(f"no {request.param} on this processor's architecture, and no compiler for another")
    listed = subprocess.run(
        ["nm", "--demangle", "--format=posix", str(debug_build / built)],
        check=True,
        capture_output=True,
        text=True,
    )
    found = [re.match(r"(.*) ([A-Za-z?])(?: [0-9a-f]+)*\s*$", line) for line in listed.stdout.splitlines()]
    return [(match[2], match[1]) for match in found if match]


def test_an_isa_defines_its_table_only(symbols):
    exported = [name for kind, name in symbols if kind.isupper() and kind not in "UVW"]
    assert len(exported) == 1
    assert re.fullmatch(r"tokendraw::cpu::k\w+Kernels", exported[0])
    kernels = [name for kind, name in symbols if kind == "t"]
    assert len(kernels) >= 11, "the kernels are functions here: this is a Debug build"


def test_an_isa_leaves_nothing_to_merge(symbols):
    assert [name for kind, name in symbols if kind in "VWvwu"] == []


def test_an_isa_calls_nothing(symbols, commands):
    is_clang = "-fno-builtin" in commands["cpp/cpu/isa_scalar.cpp"]
    assert {name for kind, name in symbols if kind == "U"} <= (CLANG_MAY_CALL if is_clang else MAY_CALL)
