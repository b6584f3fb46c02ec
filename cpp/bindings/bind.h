// SPDX-License-Identifier: Apache-2.0
// One function per topic; module.cpp calls them.
#pragma once

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

namespace tokendraw::bindings {

namespace py = pybind11;

void bind_arrays(py::module_& module);
void bind_beam(py::module_& module);
void bind_best_first(py::module_& module);
void bind_cuda(py::module_& module);
void bind_draw(py::module_& module);
void bind_filters(py::module_& module);
void bind_info(py::module_& module);
void bind_losses(py::module_& module);
void bind_scoring(py::module_& module);
void bind_search(py::module_& module);
void bind_speculative(py::module_& module);

}  // namespace tokendraw::bindings
