// SPDX-License-Identifier: Apache-2.0
// The heap of best_first_search, for its loop in Python, which has checked what is handed over.
#include "bindings/bind.h"
#include "bindings/sink.h"
#include "bindings/values.h"
#include "search/best_first.h"

namespace tokendraw::bindings {
namespace {

using search::BestFirst;
using search::BestFirstParams;

BestFirst make_best_first(std::int32_t max_length, std::int64_t num_return, double length_penalty,
                          std::vector<std::int32_t> ends) {
  return BestFirst({max_length, num_return, length_penalty, std::move(ends)});
}

void check_node(bool is_right, std::int64_t node) {
  if (!is_right) value_error("node must be one that next returned, got " + std::to_string(node));
}

py::list next(BestFirst& self, std::int64_t count) {
  std::vector<search::Reading> readings;
  self.next(count, readings);
  py::list listed;
  for (const search::Reading& each : readings) {
    listed.append(py::make_tuple(each.node, each.parent, each.token, each.depth, each.listed));
  }
  return listed;
}

/// A row-major array of host memory, as the loop makes them.
ArrayView view_compact(py::handle array, const char* name, Dtype dtype, int ndim) {
  ArrayView view = view_array(array, name);
  std::int64_t stride = 1;
  bool is_compact = view.dtype == dtype && view.ndim == ndim && !view.cuda;
  for (int axis = ndim; is_compact && axis-- > 0; stride *= view.shape[axis]) {
    is_compact = view.shape[axis] < 2 || view.strides[axis] == stride;
  }
  if (!is_compact) value_error(std::string(name) + " must be a compact array of the type that draw returns");
  return view;
}

void expand(BestFirst& self, const std::vector<std::int64_t>& nodes, py::handle tokens, py::handle logprobs,
            const std::vector<bool>& more) {
  const ArrayView token_view = view_compact(tokens, "tokens", Dtype::kInt32, 2);
  const ArrayView logprob_view = view_compact(logprobs, "logprobs", Dtype::kFloat32, 2);
  const auto rows = static_cast<std::int64_t>(nodes.size());
  const std::int64_t width = token_view.shape[1];
  if (token_view.shape[0] != rows || logprob_view.shape[0] != rows || logprob_view.shape[1] != width ||
      more.size() != nodes.size()) {
    value_error("tokens, logprobs and more must have one row per node");
  }
  for (std::size_t row = 0; row < nodes.size(); ++row) {
    const std::int64_t offset = static_cast<std::int64_t>(row) * width;
    const auto* row_tokens = static_cast<const std::int32_t*>(token_view.data) + offset;
    const auto* row_logprobs = static_cast<const float*>(logprob_view.data) + offset;
    check_node(self.is_waiting(nodes[row]), nodes[row]);
    self.expand(nodes[row], row_tokens, row_logprobs, width, more[row]);
  }
}

void drop(BestFirst& self, std::int64_t node) {
  check_node(self.is_waiting(node), node);
  self.drop(node);
}

py::tuple path(const BestFirst& self, std::int64_t node) {
  check_node(self.has(node), node);
  std::vector<std::int64_t> nodes;
  std::vector<std::int32_t> tokens;
  std::vector<float> logprobs;
  self.path(node, nodes, tokens, logprobs);
  return py::make_tuple(nodes, tokens, logprobs);
}

py::list found(const BestFirst& self) {
  py::list listed;
  for (const search::Completion& each : self.found()) {
    listed.append(py::make_tuple(each.node, each.token, each.token_logprob, each.logprob, each.score));
  }
  return listed;
}

std::vector<double> promises(const BestFirst& self, const std::vector<std::int64_t>& nodes) {
  std::vector<double> values;
  for (const std::int64_t node : nodes) {
    check_node(self.has(node), node);
    values.push_back(self.promise(node));
  }
  return values;
}

double logprob(const BestFirst& self, std::int64_t node) {
  check_node(self.has(node), node);
  return self.logprob(node);
}

}  // namespace

void bind_best_first(py::module_& module) {
  // A plain type: a type checker compares it with the stub's.
  const py::metaclass plain(reinterpret_cast<PyObject*>(&PyType_Type));
  py::class_<BestFirst>(module, "_BestFirst", py::is_final(), plain)
      .def(py::init(&make_best_first), py::arg("max_length"), py::arg("num_return"), py::arg("length_penalty"),
           py::arg("ends"))
      .def("next", &next, py::arg("count"))
      .def("expand", &expand, py::arg("nodes"), py::arg("tokens"), py::arg("logprobs"), py::arg("more"))
      .def("drop", &drop, py::arg("node"))
      .def("bound", &BestFirst::bound)
      .def("proved", &BestFirst::proved)
      .def("found", &found)
      .def("path", &path, py::arg("node"))
      .def("logprob", &logprob, py::arg("node"))
      .def("promises", &promises, py::arg("nodes"));
}

}  // namespace tokendraw::bindings
