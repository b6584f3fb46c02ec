# SPDX-License-Identifier: Apache-2.0
"""The machine code of every kernel within its budget: registers, local memory, blocks, instructions."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest

from tests.cuda.static import budgets, toolkit

pytestmark = pytest.mark.slow
MISSING = toolkit.missing()
UNITS = [
    pytest.param(source, architecture, id=f"{source.stem}-{architecture}")
    for architecture, source in product(budgets.MULTIPROCESSORS, toolkit.units())
]


@pytest.fixture(scope="module")
def unit_of(tmp_path_factory) -> Iterator[Callable[..., toolkit.Unit]]:
    """Compile all units in the order of the tests, as many at once as there are processors."""
    if MISSING:
        pytest.skip(f"not installed, of the toolkit of CUDA: {', '.join(MISSING)}")
    folder = tmp_path_factory.mktemp("units")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        units = {case.values: pool.submit(toolkit.Unit, *case.values, folder) for case in UNITS}
        yield lambda *case: units[case].result()
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(("source", "architecture"), UNITS)
def test_a_unit_keeps_to_its_budgets(unit_of, source, architecture):
    unit = unit_of(source, architecture)
    resources = unit.resources()
    wrong = []
    for mangled, code in unit.code().items():
        kernel = budgets.kernel_of(mangled)
        found = budgets.excess(resources[mangled], architecture)
        found += [f"{access.opcode} at {access.address:#x}" for access in budgets.local_accesses(code)]
        if kernel.element and architecture != "sm_75":  # whose maxima are others
            found += budgets.excess_of_looks(kernel, budgets.looks_of(code, kernel.element))
        wrong += [f"{kernel}: {line}" for line in found]
    assert not wrong, "\n".join(wrong)
