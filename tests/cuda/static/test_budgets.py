# SPDX-License-Identifier: Apache-2.0
"""The machine code of every kernel within its budget: registers, local memory, blocks, instructions."""

import pytest

from tests.cuda.static import budgets, toolkit

pytestmark = pytest.mark.slow
MISSING = toolkit.missing()
ARCHITECTURES = ["sm_90"]


@pytest.fixture(scope="module", params=toolkit.units(), ids=lambda path: path.name)
def source(request):
    return request.param


@pytest.fixture(scope="module", params=ARCHITECTURES)
def unit(request, source, tmp_path_factory):
    if MISSING:
        pytest.skip(f"not installed, of the toolkit of CUDA: {', '.join(MISSING)}")
    return toolkit.Unit(source, request.param, tmp_path_factory.mktemp("unit")), request.param


def test_a_unit_keeps_to_its_budgets(unit):
    compiled, architecture = unit
    resources = compiled.resources()
    wrong = []
    for mangled, code in compiled.code().items():
        kernel = budgets.kernel_of(mangled)
        if kernel is None:
            continue
        found = budgets.excess(resources[mangled], architecture)
        found += [f"{access.opcode} at {access.address:#x}" for access in budgets.local_accesses(code)]
        found += budgets.excess_of_looks(kernel, budgets.looks_of(code, kernel.element))
        wrong += [f"{kernel}: {line}" for line in found]
    assert not wrong, "\n".join(wrong)
