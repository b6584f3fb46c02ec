// SPDX-License-Identifier: Apache-2.0
// The least that a pybind11 function can do with an array: what a call of tokendraw is held against. See bench_call.py.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

namespace py = pybind11;

PYBIND11_MODULE(empty_call, module) {
  module.def("take_array", [](const py::array& array) { return array.shape(0); });
}
