// SPDX-License-Identifier: Apache-2.0
#include "bindings/calls.h"

#include <new>
#include <string>

#include "plan/plan.h"
#include "plan/unsupported.h"

namespace tokendraw::bindings {
namespace {

constexpr const char* kNamesAttribute = "_keyword_names";

}  // namespace

void set_python_error() noexcept {
  try {
    throw;
  } catch (py::error_already_set& error) {
    error.restore();
  } catch (const py::builtin_exception& error) {
    error.set_error();
  } catch (const std::bad_alloc&) {
    PyErr_NoMemory();
  } catch (const std::length_error&) {
    PyErr_NoMemory();
  } catch (const Unsupported& error) {
    PyErr_SetString(PyExc_NotImplementedError, error.what());
  } catch (const std::invalid_argument& error) {
    PyErr_SetString(PyExc_ValueError, error.what());
  } catch (const std::exception& error) {
    // pybind11 throws of an object that it could not make, after Python has said why.
    if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_RuntimeError, error.what());
  } catch (...) {
    PyErr_SetString(PyExc_RuntimeError, "unknown C++ exception");
  }
}

const KeywordNames& names_of(PyObject* self) {
  return *static_cast<const KeywordNames*>(PyCapsule_GetPointer(self, nullptr));
}

void add_functions(py::module_& module, PyMethodDef* table) {
  if (!py::hasattr(module, kNamesAttribute)) {
    module.attr(kNamesAttribute) =
        py::capsule(new KeywordNames, [](void* names) { delete static_cast<KeywordNames*>(names); });
  }
  const py::object names = module.attr(kNamesAttribute);
  const py::object module_name = module.attr("__name__");
  for (PyMethodDef* function = table; function->ml_name != nullptr; ++function) {
    const auto object = py::reinterpret_steal<py::object>(PyCFunction_NewEx(function, names.ptr(), module_name.ptr()));
    if (!object) throw py::error_already_set();
    module.attr(function->ml_name) = object;
  }
}

void raise_invalid(const ParsedRequest& parsed, const std::vector<RowStatus>& status, const py::object& tokens) {
  if (!parsed.raise_invalid) return;
  std::string named;
  py::list rows;
  for (std::size_t row = 0; row < status.size(); ++row) {
    if (status[row] == RowStatus::kValid) continue;
    named += (named.empty() ? "row " : ", row ") + std::to_string(row) + " (" + reason_of(status[row]) + ")";
    rows.append(row);
  }
  if (named.empty()) return;
  const py::object type = py::module_::import("tokendraw.errors").attr("InvalidLogitsError");
  const py::object error = type("nothing can be drawn from " + named, tokens, rows);
  PyErr_SetObject(type.ptr(), error.ptr());
  throw py::error_already_set();
}

}  // namespace tokendraw::bindings
