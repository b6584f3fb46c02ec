// SPDX-License-Identifier: Apache-2.0
// Private windows into the arrays room, for tests: what was seen of an array, and both ways of giving values back.
#include "bindings/bind.h"

#include <pybind11/stl.h>

#include <cstring>
#include <optional>
#include <string>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/arrays_checks.h"

namespace tokendraw::bindings {
namespace {

const char* library_name(Library library) {
  constexpr const char* kNames[] = {"numpy", "torch", "jax", "cupy", "other"};
  return kNames[static_cast<int>(library)];
}

py::tuple to_tuple(const std::int64_t* values, int count) {
  py::tuple tuple(count);
  for (int i = 0; i < count; ++i) tuple[static_cast<std::size_t>(i)] = values[i];
  return tuple;
}

py::dict describe_array(py::handle object, const std::string& name) {
  const ArrayView view = view_array(object, name.c_str());
  py::dict seen;
  seen["dtype"] = dtype_name(view.dtype);
  seen["shape"] = to_tuple(view.shape, view.ndim);
  seen["strides"] = to_tuple(view.strides, view.ndim);
  seen["pointer"] = reinterpret_cast<std::uintptr_t>(view.data);
  seen["writable"] = view.writable;
  seen["cuda"] = view.cuda;
  seen["library"] = library_name(view.library);
  return seen;
}

// Calls `visit` with the address of every element, the last axis fastest.
template <class Visit>
void for_each_element(const ArrayView& view, int axis, char* address, const Visit& visit) {
  if (axis == view.ndim) return visit(address);
  const std::int64_t step = view.strides[axis] * static_cast<std::int64_t>(size_of(view.dtype));
  for (std::int64_t i = 0; i < view.shape[axis]; ++i) for_each_element(view, axis + 1, address + i * step, visit);
}

void check_host(const ArrayView& view, const char* name) {
  if (view.cuda) fail_value(name, "be in host memory", "an array on CUDA device " + std::to_string(view.device_index));
}

py::object copy_like(py::handle object) {
  const ArrayView view = view_array(object, "array");
  check_host(view, "array");
  Result result(home_of(object, view), view.dtype, std::vector<std::int64_t>(view.shape, view.shape + view.ndim));
  auto* target = static_cast<char*>(result.data());
  const std::size_t size = size_of(view.dtype);
  for_each_element(view, 0, static_cast<char*>(view.data), [&](const char* element) {
    std::memcpy(target, element, size);
    target += size;
  });
  return result.finish();
}

template <class Value>
void fill(const ArrayView& view, Value value) {
  for_each_element(view, 0, static_cast<char*>(view.data),
                   [&](char* element) { std::memcpy(element, &value, sizeof value); });
}

void fill_output(py::handle out, double value, const std::optional<std::vector<std::int64_t>>& shape) {
  std::vector<std::int64_t> expected;
  if (shape) {
    expected = *shape;
  } else {
    const ArrayView seen = view_array(out, "out");
    expected.assign(seen.shape, seen.shape + seen.ndim);
  }
  const ArrayView view = view_output(out, "out", expected, {Dtype::kFloat32, Dtype::kInt32, Dtype::kInt64});
  check_host(view, "out");
  switch (view.dtype) {
    case Dtype::kInt32: return fill(view, static_cast<std::int32_t>(value));
    case Dtype::kInt64: return fill(view, static_cast<std::int64_t>(value));
    default: return fill(view, static_cast<float>(value));
  }
}

}  // namespace

void bind_arrays(py::module_& module) {
  module.def("_describe_array", &describe_array, py::arg("array"), py::arg("name") = "array",
             "Private, for tests: what the core sees of an array.");
  module.def("_copy_like", &copy_like, py::arg("array"), "Private, for tests: the same values as a result.");
  module.def("_fill_output", &fill_output, py::arg("out"), py::arg("value"), py::arg("shape") = py::none(),
             "Private, for tests: fills a buffer as out= would, checked against `shape` (its own by default).");
}

}  // namespace tokendraw::bindings
