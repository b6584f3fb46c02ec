# SPDX-License-Identifier: Apache-2.0
"""Reading machine code: fragments as cuobjdump writes them, written for these tests."""

from tests.cuda.static import budgets, machine_code
from tests.cuda.static.machine_code import Resources

NAME = "_ZN9tokendraw4cuda9draw_rowsIfNS0_7NoEditsEEEvNS0_8DrawTaskET0_"


def listing(*instructions: str, name: str = NAME) -> str:
    lines = [f"\t\tFunction : {name}", '\t.headerflags\t@"EF_CUDA_SM90"']
    for index, instruction in enumerate(instructions):
        lines.append(f"        /*{16 * index:04x}*/          {instruction} ;   /* 0x000fe20000000f00 */")
        lines.append("                                                /* 0x000fc80000000000 */")
    return "\n".join(lines)


# Eight loads of 16 bytes are a look at float32. Threads part at 0x0030 and meet at 0x0110.
LOADS = [f"LDG.E.128.STRONG.GPU R{4 * i}, desc[UR4][R40.64+{i * 128:#x}]" for i in range(8)]
LOOK = [
    "MOV R1, c[0x0][0x28]",  # 0x0000
    "ISETP.GE.AND P0, PT, R40, R41, PT",  # 0x0010: the loop's head
    "BSSY B0, 0x120",
    "@P0 BRA 0x100",  # 0x0030: threads that have no whole tile
    *LOADS,  # 0x0040 to 0x00b0
    "FMNMX R9, R0, R1, !PT",  # 0x00c0
    "SHFL.BFLY PT, R10, R9, 0x10, 0x1f",
    "BRA.DIV UR4, 0x160",  # 0x00e0
    "BRA 0x110",
    "LDG.E R0, desc[UR4][R40.64]",  # 0x0100
    "BSYNC B0",  # 0x0110
    "@!P1 BRA 0x10",  # 0x0120
    "STL [R1+0x8], R9",
    "EXIT",
    "NOP",
    "WARPSYNC R11",  # 0x0160
    "BRA 0x110",
]


def test_instructions_are_read_with_their_guards():
    code = machine_code.read_code(listing(*LOOK))[NAME]
    assert len(code) == len(LOOK)
    branch = code[3]
    assert (branch.address, branch.guard, branch.name, branch.target) == (0x30, "@P0", "BRA", 0x100)
    assert [code[index].loaded_bytes for index in (4, 16)] == [16, 0]


def test_functions_are_read_apart():
    both = listing("EXIT", name="first") + "\n" + listing("NOP", "EXIT", name="second")
    read = machine_code.read_code(both)
    assert {name: len(code) for name, code in read.items()} == {"first": 1, "second": 2}


def test_the_way_around_is_that_of_wide_loads():
    loops = machine_code.loops_over(machine_code.read_code(listing(*LOOK))[NAME], 8, 100)
    assert len(loops) == 1
    # The loads, by way of the meeting to the branch back, the head, the branch not taken.
    assert [step.address for step in loops[0].instructions][:8] == [16 * i for i in range(4, 12)]
    assert len(loops[0].instructions) == 17
    assert loops[0].loads == {16: 8}
    assert loops[0].loaded_bytes == 128
    assert [loops[0].count(name) for name in ("SHFL", "WARPSYNC")] == [1, 0]


def test_loads_outside_of_loops_are_no_loop():
    assert machine_code.loops_over(machine_code.read_code(listing(*LOADS, "EXIT"))[NAME], 8, 100) == []


def test_too_few_loads_are_no_look():
    code = machine_code.read_code(listing(*LOADS[:4], "@P0 BRA 0x0", "EXIT"))[NAME]
    assert machine_code.loops_over(code, 8, 100) == []
    assert len(machine_code.loops_over(code, 4, 100)) == 1


def test_looks_are_named_by_what_is_in_them():
    code = machine_code.read_code(listing(*LOOK))[NAME]
    assert budgets.looks_of(code, "float32") == {"counts": 17 / 32}
    assert budgets.looks_of(code, "float64") == {}
    back = "@P0 BRA 0x0"
    maxima = ["FMNMX.NAN R9, R0, R1, !PT"] * 32
    assert set(looks(*LOADS, *maxima, back)) == {"chunks"}
    assert set(looks(*LOADS, *maxima, "SHFL.BFLY PT, R10, R9, 0x10, 0x1f", back)) == {"maxima"}
    weights = ["FFMA R9, R8, R7, R6"] * 6 * 32
    assert set(looks(*LOADS, *weights, *2 * maxima, back)) == {"sums"}
    assert set(looks(*LOADS, *weights, *["FMNMX3 R9, R0, R1, R2, !PT"] * 32, back)) == {"sums"}
    assert set(looks(*LOADS, *weights, *maxima, back)) == {"kept sums"}


def looks(*instructions: str) -> dict[str, float]:
    return budgets.looks_of(machine_code.read_code(listing(*instructions, "EXIT"))[NAME], "float32")


def test_local_memory_is_seen():
    code = machine_code.read_code(listing(*LOOK))[NAME]
    assert [access.address for access in budgets.local_accesses(code)] == [0x130]


def test_resources_are_read_by_function():
    text = f""" Common:
  GLOBAL:0
 Function {NAME}:
  REG:128 STACK:8 SHARED:26000 LOCAL:0 CONSTANT[0]:953 TEXTURE:0 SURFACE:0 SAMPLER:0
"""
    assert machine_code.read_resources(text) == {NAME: Resources(128, 8, 0, 26000)}


def test_kernels_are_named_by_their_types():
    assert budgets.kernel_of(NAME) == budgets.Kernel("draw_rows", "float32", False)
    edited = NAME.replace("If", "INS_8Bfloat16E").replace("7NoEdits", "8RowEdits")
    assert str(budgets.kernel_of(edited)) == "draw_rows<bfloat16, edits>"
    mark_valid = "_ZN9tokendraw4cudaL10mark_validEPKNS_9RowStatusElPb"
    assert str(budgets.kernel_of(mark_valid)) == mark_valid
    assert budgets.kernel_of(mark_valid).element == ""


def test_what_is_above_the_budget_is_named():
    fits = Resources(registers=128, stack=0, local_memory=0, shared=25000)
    assert budgets.excess(fits, "sm_90") == []
    assert budgets.blocks_per_multiprocessor(fits, "sm_90") == 2
    assert budgets.blocks_per_multiprocessor(Resources(129, 0, 0, 25000), "sm_90") == 1
    assert budgets.blocks_per_multiprocessor(Resources(32, 0, 0, 40000), "sm_75") == 1
    assert budgets.blocks_per_multiprocessor(Resources(32, 0, 0, 0), "sm_75") == 4
    too_much = Resources(registers=168, stack=8, local_memory=0, shared=60000)
    wrong = budgets.excess(too_much, "sm_90")
    assert [line.split(",")[0] for line in wrong] == [
        "168 registers",
        "8 bytes of local memory",
        "60000 bytes of shared memory",
        "1 blocks on a multiprocessor",
    ]


def test_a_look_that_costs_too_much_or_is_missing_is_named():
    kernel = budgets.Kernel("draw_rows", "float32", False)
    costs = dict.fromkeys(budgets.budget_of(kernel), 1.0)
    assert set(costs) == {"chunks", "maxima", "sums", "kept sums"}
    assert budgets.excess_of_looks(kernel, costs) == []
    costs["sums"] = 100.0
    assert budgets.excess_of_looks(kernel, costs) == [
        f"sums: 100.00 instructions for an element, at most {budgets.budget_of(kernel)['sums']}"
    ]
    del costs["sums"]
    assert budgets.excess_of_looks(kernel, costs) == ["sums: no loop with wide loads"]
