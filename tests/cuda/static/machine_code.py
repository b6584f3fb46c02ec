# SPDX-License-Identifier: Apache-2.0
"""What nvcc made of a kernel: the resources it takes, its instructions, the shortest way around each loop."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

FUNCTION = re.compile(r"^\s*Function\s*:?\s+([\w$.]+?):?\s*$")
INSTRUCTION = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:(@!?U?P\w+)\s+)?([A-Z][A-Z0-9_.]*)\s*([^;]*?)\s*;")
RESOURCE = re.compile(r"\b(REG|STACK|SHARED|LOCAL):(\d+)")
ADDRESS = re.compile(r"0x[0-9a-f]+$")
WIDE_LOAD = re.compile(r"^LDG\b.*\.(64|128)\b")
LONGEST_LOOP = 4000  # instructions


@dataclass(frozen=True)
class Instruction:
    """One instruction of SASS, the machine code of NVIDIA's GPUs."""

    address: int
    guard: str
    opcode: str
    operands: str

    @property
    def name(self) -> str:
        return self.opcode.split(".")[0]

    @property
    def target(self) -> int | None:
        """Return the address that it names last: where a branch goes, where threads that part will meet."""
        named = ADDRESS.search(self.operands)
        return int(named.group(), 16) if named else None

    @property
    def loaded_bytes(self) -> int:
        """Return what a thread loads at once, 0 unless it is 8 or 16 bytes of global memory."""
        width = WIDE_LOAD.match(self.opcode)
        return int(width.group(1)) // 8 if width else 0


@dataclass(frozen=True)
class Resources:
    """What a thread takes in registers and local memory, a block in static shared memory."""

    registers: int
    stack: int
    local_memory: int
    shared: int


@dataclass(frozen=True)
class Loop:
    """The shortest way around a loop, of instructions in the order in which they are issued."""

    instructions: tuple[Instruction, ...]

    def count(self, name: str) -> int:
        return sum(instruction.name == name for instruction in self.instructions)

    @property
    def loads(self) -> Counter[int]:
        """Return how often a thread loads how many bytes at once."""
        sizes = (instruction.loaded_bytes for instruction in self.instructions)
        return Counter(size for size in sizes if size)

    @property
    def loaded_bytes(self) -> int:
        return sum(size * count for size, count in self.loads.items())


# ---- what cuobjdump writes ----


def read_resources(text: str) -> dict[str, Resources]:
    """Read `cuobjdump -res-usage`: functions by their mangled names."""
    found = {}
    name = None
    for line in text.splitlines():
        function = FUNCTION.match(line)
        if function:
            name = function.group(1)
        elif name is not None and "REG:" in line:
            values = {key: int(value) for key, value in RESOURCE.findall(line)}
            found[name] = Resources(values["REG"], values["STACK"], values["LOCAL"], values["SHARED"])
            name = None
    return found


def read_code(text: str) -> dict[str, list[Instruction]]:
    """Read `cuobjdump -sass`: functions by their mangled names."""
    found: dict[str, list[Instruction]] = {}
    code: list[Instruction] | None = None
    for line in text.splitlines():
        function = FUNCTION.match(line)
        instruction = INSTRUCTION.match(line)
        if function:
            code = found.setdefault(function.group(1), [])
        elif instruction and code is not None:
            address, guard, opcode, operands = instruction.groups()
            code.append(Instruction(int(address, 16), guard or "", opcode, operands))
    return found


# ---- loops ----


class Graph:
    """The instructions of one function, and which may follow which."""

    def __init__(self, code: list[Instruction]) -> None:
        self.code = code
        self.index = {instruction.address: index for index, instruction in enumerate(code)}
        self.meeting = self._meetings()

    def _meetings(self) -> dict[int, int]:
        """Return where threads go on from each BSYNC: the target of the last BSSY before it."""
        latest: dict[str, int] = {}
        meetings = {}
        for index, instruction in enumerate(self.code):
            register = instruction.operands.split(",")[0].strip()
            if instruction.name == "BSSY" and instruction.target in self.index:
                latest[register] = self.index[instruction.target]
            elif instruction.name == "BSYNC" and register in latest:
                meetings[index] = latest[register]
        return meetings

    def next_of(self, index: int) -> Iterator[int]:
        """Return what may be issued after an instruction."""
        instruction = self.code[index]
        falls_through = True
        if instruction.name in {"BRA", "JMP"}:
            # Operands before the address are predicates, too.
            falls_through = bool(instruction.guard) or "," in instruction.operands
            if instruction.target in self.index:
                yield self.index[instruction.target]
        elif index in self.meeting:
            falls_through = bool(instruction.guard)
            yield self.meeting[index]
        elif instruction.name in {"EXIT", "RET", "BRX", "KILL", "BPT"}:
            falls_through = bool(instruction.guard)
        if falls_through and index + 1 < len(self.code):
            yield index + 1

    def way_around(self, start: int, longest: int) -> list[int] | None:
        """Return the shortest way from an instruction to itself, None where all are above `longest`."""
        came_from: dict[int, int] = {}
        reached, length = [start], 0
        while reached and length < longest:
            length += 1
            further = []
            for index in reached:
                for successor in self.next_of(index):
                    if successor == start:
                        return self._way_to(index, start, came_from)
                    if successor not in came_from:
                        came_from[successor] = index
                        further.append(successor)
            reached = further
        return None

    @staticmethod
    def _way_to(index: int, start: int, came_from: dict[int, int]) -> list[int]:
        way = [index]
        while way[-1] != start:
            way.append(came_from[way[-1]])
        return way[::-1]


def loops_over(code: list[Instruction], least_loads: int, most_per_byte: float) -> list[Loop]:
    """Find the loops with so many loads of 8 or 16 bytes at least, and instructions for a byte at most.

    Of each the shortest way around: that of threads whose loads are wide and whose branches skip the rare.
    """
    graph = Graph(code)
    seen: set[int] = set()
    loops = []
    for index, instruction in enumerate(code):
        if not instruction.loaded_bytes or index in seen:
            continue
        way = graph.way_around(index, LONGEST_LOOP)
        seen.update(way or ())
        loop = Loop(tuple(code[step] for step in way or ()))
        if sum(loop.loads.values()) < least_loads:
            continue
        if len(loop.instructions) <= most_per_byte * loop.loaded_bytes:
            loops.append(loop)
    return loops
