# SPDX-License-Identifier: Apache-2.0
"""What a kernel's machine code may cost, `budgets.toml`, and by how much it costs more."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from tests.cuda.static.machine_code import Instruction, Loop, Resources, loops_over

BUDGETS = tomllib.loads(Path(__file__).with_name("budgets.toml").read_text(encoding="utf-8"))
ELEMENTS = {"f": "float32", "NS_7Float16E": "float16", "NS_8Bfloat16E": "bfloat16", "d": "float64"}
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2, "float64": 8}
LANES = 4  # of a line, which a thread looks at
LINES = 8
THREADS = 256
UNROLLED_ELSEWHERE = 35  # instructions for an element: what is longer is no loop over tiles


# ---- names ----


@dataclass(frozen=True)
class Kernel:
    """A kernel by what it was instantiated for; no element where it reads no logits."""

    name: str
    element: str
    edits: bool

    def __str__(self) -> str:
        return f"{self.name}<{self.element}{', edits' if self.edits else ''}>" if self.element else self.name


def kernel_of(mangled: str) -> Kernel:
    """Read a name as nvcc mangles it."""
    matched = re.search(r"\d([a-z][a-z_]*)I(f|d|NS_7Float16E|NS_8Bfloat16E)", mangled)
    if matched is None:
        return Kernel(mangled, "", False)
    return Kernel(matched.group(1), ELEMENTS[matched.group(2)], "RowEdits" in mangled)


# ---- occupancy ----


@dataclass(frozen=True)
class Multiprocessor:
    """What the blocks on a multiprocessor share.

    Source: "Technical Specifications per Compute Capability", NVIDIA's CUDA C++ Programming Guide.
    """

    threads: int
    shared_bytes: int
    reserved_bytes: int  # of every block
    registers: int = 65536


MULTIPROCESSORS = {
    "sm_75": Multiprocessor(1024, 64 << 10, 0),
    "sm_80": Multiprocessor(2048, 164 << 10, 1024),
    "sm_86": Multiprocessor(1536, 100 << 10, 1024),
    "sm_89": Multiprocessor(1536, 100 << 10, 1024),
    "sm_90": Multiprocessor(2048, 228 << 10, 1024),
    "sm_100": Multiprocessor(2048, 228 << 10, 1024),
    "sm_120": Multiprocessor(1536, 100 << 10, 1024),
}


def blocks_per_multiprocessor(resources: Resources, architecture: str) -> int:
    """Return how many blocks fit. Registers are given to warps by 256."""
    limits = MULTIPROCESSORS[architecture]
    of_warp = -(-32 * resources.registers // 256) * 256
    by_registers = limits.registers // (of_warp * THREADS // 32)
    blocks = min(by_registers, limits.threads // THREADS)
    shared = resources.shared + limits.reserved_bytes
    return min(blocks, limits.shared_bytes // shared) if shared else blocks


def excess(resources: Resources, architecture: str) -> list[str]:
    """Return what is above the budget of every kernel."""
    budget = BUDGETS["kernel"]
    blocks = blocks_per_multiprocessor(resources, architecture)
    local = resources.stack + resources.local_memory
    found = []
    if resources.registers > budget["registers"]:
        found.append(f"{resources.registers} registers, at most {budget['registers']}")
    if local > budget["local_bytes"]:
        found.append(f"{local} bytes of local memory, at most {budget['local_bytes']}")
    if resources.shared > budget["shared_bytes"]:
        found.append(f"{resources.shared} bytes of shared memory, at most {budget['shared_bytes']}")
    if blocks < budget["blocks_per_multiprocessor"]:
        found.append(f"{blocks} blocks on a multiprocessor, at least {budget['blocks_per_multiprocessor']}")
    return found


# ---- loops ----


def elements_of(loop: Loop, element: str) -> int:
    return loop.loaded_bytes // BYTES[element]


def kind_of(loop: Loop, element: str) -> str:
    """Return which of the looks at a row it is, by what only that one does."""
    elements = elements_of(loop, element)
    maxima = loop.count("FMNMX") + 2 * loop.count("FMNMX3")
    if loop.count("FFMA") >= 6 * elements:  # the polynomial of a weight, which is bounded below
        return "sums" if maxima >= elements * 3 // 2 else "kept sums"
    if maxima < elements // 2:
        return "counts"
    return "maxima" if loop.count("SHFL") > 0 else "chunks"


def looks_of(code: list[Instruction], element: str) -> dict[str, float]:
    """Return the instructions for an element in each look at a row, the most of several loops."""
    width = min(16, LANES * BYTES[element])
    loads = LINES * LANES * BYTES[element] // width
    costs: dict[str, float] = {}
    for loop in loops_over(code, loads, UNROLLED_ELSEWHERE / BYTES[element]):
        if loop.loads != {width: loads}:
            continue
        cost = len(loop.instructions) / elements_of(loop, element)
        kind = kind_of(loop, element)
        costs[kind] = max(cost, costs.get(kind, 0.0))
    return costs


def local_accesses(code: list[Instruction]) -> list[Instruction]:
    return [instruction for instruction in code if instruction.name in {"LDL", "STL"}]


def budget_of(kernel: Kernel) -> dict[str, float]:
    """Return the instructions for an element that each look of a kernel may take."""
    return {
        entry["loop"]: entry[kernel.element]
        for entry in BUDGETS["loop"]
        if kernel.element in entry
        and entry["edits"] == kernel.edits
        and re.fullmatch(entry["kernels"], kernel.name)
    }


def excess_of_looks(kernel: Kernel, costs: dict[str, float]) -> list[str]:
    """Return which looks are above the budget, or not to be found."""
    found = []
    for loop, budget in budget_of(kernel).items():
        if loop not in costs:
            found.append(f"{loop}: no loop with wide loads")
        elif costs[loop] > budget:
            found.append(f"{loop}: {costs[loop]:.2f} instructions for an element, at most {budget}")
    return found
