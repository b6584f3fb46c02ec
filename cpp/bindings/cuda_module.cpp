// SPDX-License-Identifier: Apache-2.0
// The extension module `tokendraw._cuda`: one capsule, for `_core` alone. Plain C API, since it has nothing to convert.
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "cuda/module.h"

namespace {

int add_capsule(PyObject* module) {
  PyObject* capsule = PyCapsule_New(&tokendraw::cuda::module(), tokendraw::cuda::kModuleName, nullptr);
  if (capsule == nullptr) return -1;
  const int failed = PyObject_SetAttrString(module, "module", capsule);
  Py_DECREF(capsule);
  return failed;
}

PyModuleDef_Slot slots[] = {
    {Py_mod_exec, reinterpret_cast<void*>(&add_capsule)},
#if PY_VERSION_HEX >= 0x030D0000
    {Py_mod_gil, Py_MOD_GIL_NOT_USED},
#endif
    {0, nullptr},
};

PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_cuda", "The CUDA half of tokendraw's core.", 0, nullptr, slots, nullptr, nullptr, nullptr,
};

}  // namespace

PyMODINIT_FUNC PyInit__cuda() { return PyModuleDef_Init(&definition); }
