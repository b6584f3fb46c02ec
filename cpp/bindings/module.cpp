// SPDX-License-Identifier: Apache-2.0
// The table of contents of `tokendraw._core`.
#include "bindings/bind.h"

namespace bindings = tokendraw::bindings;

PYBIND11_MODULE(_core, module, pybind11::mod_gil_not_used()) {
  module.doc() = "The compiled core of tokendraw.";
  bindings::bind_info(module);
  bindings::bind_draw(module);
  bindings::bind_filters(module);
  bindings::bind_scoring(module);
  bindings::bind_losses(module);
  bindings::bind_search(module);
  bindings::bind_beam(module);
  bindings::bind_best_first(module);
  bindings::bind_speculative(module);
  bindings::bind_cuda(module);
  bindings::bind_arrays(module);
}
