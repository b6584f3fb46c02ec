// SPDX-License-Identifier: Apache-2.0
#include "bindings/arrays_dlpack.h"

#include <pybind11/gil_safe_call_once.h>

#include <limits>
#include <string>
#include <utility>

#include "bindings/arrays_checks.h"

namespace tokendraw::bindings {
namespace {

// Built once and kept for the life of the process: the objects that every `__dlpack__` call needs.
struct Names {
  PyObject* exchange = PyUnicode_InternFromString("__dlpack_c_exchange_api__");
  PyObject* dlpack = PyUnicode_InternFromString("__dlpack__");
  PyObject* device = PyUnicode_InternFromString("__dlpack_device__");
  PyObject* stream_keyword = Py_BuildValue("(s)", "stream");
  PyObject* version_keyword = Py_BuildValue("(s)", "max_version");
  PyObject* both_keywords = Py_BuildValue("(ss)", "max_version", "stream");
  PyObject* version = Py_BuildValue("(II)", dlpack::kMajorVersion, dlpack::kMinorVersion);
  PyObject* no_sync = PyLong_FromLong(-1);
};

const Names& names() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<Names> storage;
  return storage.call_once_and_store_result([] { return Names(); }).get_stored();
}

// Calls the producer's deleter once, never with a Python error in flight.
struct Release {
  template <class Managed>
  void operator()(Managed* managed) const {
    if (managed->deleter == nullptr) return;
    const py::error_scope keep_error;
    managed->deleter(managed);
  }
};

template <class Managed>
using Owned = std::unique_ptr<Managed, Release>;

void check_device(const dlpack::Device& device, const char* name) {
  switch (device.type) {
    case dlpack::kCpu:
    case dlpack::kCudaHost:
    case dlpack::kCuda:
    case dlpack::kCudaManaged: return;
    default: fail_value(name, "be on a CPU or a CUDA device", "DLPack device type " + std::to_string(device.type));
  }
}

bool is_cuda(std::int32_t device_type) { return device_type == dlpack::kCuda || device_type == dlpack::kCudaManaged; }

Dtype read_dtype(const dlpack::DataType& dtype, const char* name) {
  if (dtype.lanes != 1) fail_value(name, "have 1 lane per element", std::to_string(dtype.lanes));
  const auto known = dtype.bits % 8 == 0 ? find_dtype(dtype.code, dtype.bits / 8) : std::nullopt;
  if (!known) {
    fail_dtype(name, "DLPack type code " + std::to_string(dtype.code) + " of " + std::to_string(dtype.bits) + " bits");
  }
  return *known;
}

// Negative strides are refused: no library that is read this way makes them, but a broken producer does.
void read_strides(ArrayView& view, const std::int64_t* strides, const char* name) {
  if (strides == nullptr) return set_compact_strides(view);
  for (int axis = 0; axis < view.ndim; ++axis) {
    view.strides[axis] = strides[axis];
    if (strides[axis] >= 0) continue;
    fail_value(name, "have strides of at least 0", std::to_string(strides[axis]) + " in axis " + std::to_string(axis));
  }
}

void read_memory(ArrayView& view, const dlpack::Tensor& tensor, std::int64_t elements, const char* name) {
  if (elements == 0) return;
  if (tensor.data == nullptr) fail_value(name, "point to its " + std::to_string(elements) + " elements", "NULL");
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data);
  if (tensor.byte_offset > std::numeric_limits<std::uintptr_t>::max() - address) {
    fail_value(name, "lie within the address space", "a byte offset of " + std::to_string(tensor.byte_offset));
  }
  view.data = reinterpret_cast<void*>(address + tensor.byte_offset);
  check_reach(view, name);
}

// The order matters: nothing is read that an earlier line has not made safe to read.
void read_tensor(ArrayView& view, const dlpack::Tensor& tensor, const char* name) {
  check_device(tensor.device, name);
  view.cuda = is_cuda(tensor.device.type);
  view.device_index = tensor.device.index;
  view.dtype = read_dtype(tensor.dtype, name);
  check_ndim(tensor.ndim, name);
  view.ndim = tensor.ndim;
  if (tensor.ndim > 0 && tensor.shape == nullptr) {
    fail_value(name, "have a shape for its " + std::to_string(tensor.ndim) + " dimensions", "NULL");
  }
  for (int axis = 0; axis < view.ndim; ++axis) view.shape[axis] = tensor.shape[axis];
  const std::int64_t elements = check_extents(view, name);
  read_strides(view, elements == 0 ? nullptr : tensor.strides, name);
  read_memory(view, tensor, elements, name);
}

ArrayView view_owned(Owned<dlpack::VersionedTensor> managed, const char* name) {
  const dlpack::Version version = managed->version;
  if (version.major != dlpack::kMajorVersion) {
    fail_value(name, "speak DLPack " + std::to_string(dlpack::kMajorVersion),
               "version " + std::to_string(version.major) + "." + std::to_string(version.minor));
  }
  ArrayView view;
  read_tensor(view, managed->tensor, name);
  view.writable = (managed->flags & (dlpack::kReadOnly | dlpack::kIsCopied)) == 0;
  view.owner = std::move(managed);
  return view;
}

ArrayView view_owned(Owned<dlpack::LegacyTensor> managed, const char* name) {
  ArrayView view;
  read_tensor(view, managed->tensor, name);
  view.owner = std::move(managed);
  return view;
}

// Renamed before anything else: from here on the tensor is ours to delete, and no second reader takes it.
template <class Managed>
Owned<Managed> take(py::handle capsule, const char* unused_name, const char* used_name) {
  void* managed = PyCapsule_GetPointer(capsule.ptr(), unused_name);
  if (managed == nullptr || PyCapsule_SetName(capsule.ptr(), used_name) != 0) throw py::error_already_set();
  return Owned<Managed>(static_cast<Managed*>(managed));
}

ArrayView view_capsule(py::handle capsule, const char* name) {
  if (!PyCapsule_CheckExact(capsule.ptr())) {
    fail_value(name, "give a capsule from __dlpack__", Py_TYPE(capsule.ptr())->tp_name);
  }
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::kVersionedName)) {
    return view_owned(take<dlpack::VersionedTensor>(capsule, dlpack::kVersionedName, dlpack::kVersionedUsedName), name);
  }
  if (PyCapsule_IsValid(capsule.ptr(), dlpack::kLegacyName)) {
    return view_owned(take<dlpack::LegacyTensor>(capsule, dlpack::kLegacyName, dlpack::kLegacyUsedName), name);
  }
  const char* capsule_name = PyCapsule_GetName(capsule.ptr());
  fail_value(name, "give a capsule named dltensor_versioned or dltensor from __dlpack__",
             capsule_name != nullptr ? capsule_name : "one without a name");
}

// Asked first, because a CUDA producer must be told not to wait for a stream, and NumPy accepts no such word.
dlpack::Device ask_device(py::handle object, const char* name) {
  const auto answer = py::reinterpret_steal<py::object>(PyObject_CallMethodNoArgs(object.ptr(), names().device));
  if (!answer) throw py::error_already_set();
  dlpack::Device device = {};
  if (PyTuple_Check(answer.ptr()) && PyArg_ParseTuple(answer.ptr(), "ii", &device.type, &device.index)) return device;
  PyErr_Clear();
  fail_value(name, "answer __dlpack_device__ with two ints", py::repr(answer).cast<std::string>());
}

py::object ask_capsule(py::handle object, bool cuda) {
  const Names& fixed = names();
  PyObject* versioned[] = {object.ptr(), fixed.version, fixed.no_sync};
  PyObject* capsule =
      PyObject_VectorcallMethod(fixed.dlpack, versioned, 1, cuda ? fixed.both_keywords : fixed.version_keyword);
  if (capsule == nullptr && PyErr_ExceptionMatches(PyExc_TypeError)) {  // older than max_version
    PyErr_Clear();
    PyObject* legacy[] = {object.ptr(), fixed.no_sync};
    capsule = PyObject_VectorcallMethod(fixed.dlpack, legacy, 1, cuda ? fixed.stream_keyword : nullptr);
  }
  if (capsule == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(capsule);
}

// A producer that fails without a reason is given one, so that the error can be raised at all.
void check_status(int status, const void* out) {
  if (status == 0 && out != nullptr) return;
  if (PyErr_Occurred() == nullptr) PyErr_SetString(PyExc_BufferError, "the exchange table gave no array and no reason");
  throw py::error_already_set();
}

}  // namespace

const dlpack::ExchangeTable* find_exchange_table(PyTypeObject* type) {
  const auto capsule =
      py::reinterpret_steal<py::object>(PyObject_GetAttr(reinterpret_cast<PyObject*>(type), names().exchange));
  if (!capsule) {
    if (!PyErr_ExceptionMatches(PyExc_AttributeError)) throw py::error_already_set();
    PyErr_Clear();
    return nullptr;
  }
  if (!PyCapsule_IsValid(capsule.ptr(), dlpack::kExchangeName)) return nullptr;
  const auto* table =
      static_cast<const dlpack::ExchangeTable*>(PyCapsule_GetPointer(capsule.ptr(), dlpack::kExchangeName));
  while (table != nullptr && table->version.major != dlpack::kMajorVersion) table = table->previous;
  return table;
}

ArrayView view_exchanged(py::handle object, const char* name, const dlpack::ExchangeTable& table, bool borrow) {
  if (borrow && table.export_borrowed != nullptr) {
    dlpack::Tensor tensor;
    check_status(table.export_borrowed(object.ptr(), &tensor), &tensor);
    ArrayView view;
    read_tensor(view, tensor, name);
    return view;
  }
  dlpack::VersionedTensor* managed = nullptr;
  const int status = table.export_owned(object.ptr(), &managed);
  check_status(status, managed);
  return view_owned(Owned<dlpack::VersionedTensor>(managed), name);
}

dlpack::Device device_of(py::handle object, const char* name) {
  if (PyType_Check(object.ptr()) != 0 || PyObject_HasAttr(object.ptr(), names().device) == 0) return {0, 0};
  return ask_device(object, name);
}

bool has_dlpack(py::handle object) {
  return PyType_Check(object.ptr()) == 0 && PyObject_HasAttr(object.ptr(), names().dlpack) != 0;
}

ArrayView view_dlpack(py::handle object, const char* name) {
  const dlpack::Device device = ask_device(object, name);
  check_device(device, name);
  return view_capsule(ask_capsule(object, is_cuda(device.type)), name);
}

}  // namespace tokendraw::bindings
