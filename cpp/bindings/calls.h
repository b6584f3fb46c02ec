// SPDX-License-Identifier: Apache-2.0
// How a vectorcall function is added to the module, and how a C++ exception leaves it.
#pragma once

#include <exception>
#include <stdexcept>

#include "bindings/requests.h"

namespace tokendraw::bindings {

/// Sets the Python error of the exception being handled. Call from a catch block.
void set_python_error() noexcept;

/// The names that belong to the module a function was added to.
const KeywordNames& names_of(PyObject* self);

/// The body of a METH_FASTCALL | METH_KEYWORDS function: call(Arguments) -> py::object.
template <class Call>
PyObject* fast_call(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords,
                    const Signature& signature, Call call) noexcept {
  try {
    return call(Arguments(names_of(self), signature, values, count, keywords)).release().ptr();
  } catch (...) {
    set_python_error();
    return nullptr;
  }
}

using FastFunction = PyObject* (*)(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords);

/// An entry of a method table.
inline PyMethodDef fast_method(const char* name, FastFunction function, const char* doc) {
  const auto erased = reinterpret_cast<void (*)()>(function);
  return {name, reinterpret_cast<PyCFunction>(erased), METH_FASTCALL | METH_KEYWORDS, doc};
}

/// Adds the functions of a table, which ends with a null name and lives as long as the module.
void add_functions(py::module_& module, PyMethodDef* table);

/// Raises tokendraw.InvalidLogitsError where a row is invalid and the caller did not ask for marks.
void raise_invalid(const ParsedRequest& parsed, const std::vector<RowStatus>& status, const py::object& tokens);

}  // namespace tokendraw::bindings
