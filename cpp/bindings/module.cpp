// SPDX-License-Identifier: Apache-2.0
// The table of contents of `tokendraw._core`.
#include <pybind11/pybind11.h>

namespace py = pybind11;

namespace tokendraw::bindings {
void bind_arrays(py::module_& module);
}  // namespace tokendraw::bindings

PYBIND11_MODULE(_core, module, py::mod_gil_not_used()) {
  module.doc() = "The compiled core of tokendraw.";
  module.attr("__version__") = TOKENDRAW_VERSION;
  tokendraw::bindings::bind_arrays(module);
}
