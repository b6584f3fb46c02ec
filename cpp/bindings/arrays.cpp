// SPDX-License-Identifier: Apache-2.0
#include "bindings/arrays.h"

#include <pybind11/numpy.h>

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

#include "bindings/arrays_checks.h"
#include "bindings/arrays_dlpack.h"

namespace tokendraw::bindings {
namespace {

using py::detail::npy_api;

constexpr int kNumpyHalf = 23;          // not named by pybind11
constexpr int kNumpyFirstCustom = 256;  // dtypes registered by other packages

bool starts_with(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

std::string type_name(py::handle object) { return Py_TYPE(object.ptr())->tp_name; }

// The first base with a dotted name decides: those are the C types, which a subclass written in Python inherits.
Library library_of(const PyTypeObject* type) {
  for (; type != nullptr; type = type->tp_base) {
    const std::string_view name = type->tp_name;
    if (starts_with(name, "torch.")) return Library::kTorch;
    if (starts_with(name, "jaxlib.")) return Library::kJax;
    if (starts_with(name, "cupy.")) return Library::kCupy;
    if (starts_with(name, "numpy.")) return Library::kNumpy;
  }
  return Library::kOther;
}

// ml_dtypes registers its dtypes at run time: only the scalar type's name tells them apart.
bool is_bfloat16(const py::detail::PyArrayDescr_Proxy& descr) {
  if (descr.type_num < kNumpyFirstCustom) return false;
  const std::string_view name = reinterpret_cast<const PyTypeObject*>(descr.typeobj)->tp_name;
  return name.substr(name.rfind('.') + 1) == "bfloat16";
}

Dtype numpy_dtype(py::handle dtype, const char* name) {
  const auto& descr = *py::detail::array_descriptor_proxy(dtype.ptr());
  constexpr bool kLongIs64 = sizeof(long) == 8;
  if (descr.byteorder == '=' || descr.byteorder == '|') {
    switch (descr.type_num) {
      case npy_api::NPY_FLOAT_: return Dtype::kFloat32;
      case kNumpyHalf: return Dtype::kFloat16;
      case npy_api::NPY_DOUBLE_: return Dtype::kFloat64;
      case npy_api::NPY_BOOL_: return Dtype::kBool;
      case npy_api::NPY_UBYTE_: return Dtype::kUint8;
      case npy_api::NPY_BYTE_: return Dtype::kInt8;
      case npy_api::NPY_SHORT_: return Dtype::kInt16;
      case npy_api::NPY_USHORT_: return Dtype::kUint16;
      case npy_api::NPY_INT_: return Dtype::kInt32;
      case npy_api::NPY_UINT_: return Dtype::kUint32;
      case npy_api::NPY_LONG_: return kLongIs64 ? Dtype::kInt64 : Dtype::kInt32;
      case npy_api::NPY_ULONG_: return kLongIs64 ? Dtype::kUint64 : Dtype::kUint32;
      case npy_api::NPY_LONGLONG_: return Dtype::kInt64;
      case npy_api::NPY_ULONGLONG_: return Dtype::kUint64;
      default:
        if (is_bfloat16(descr)) return Dtype::kBfloat16;
    }
  }
  fail_dtype(name, py::str(dtype).cast<std::string>());
}

// Byte strides to element strides. An axis of one element never moves, whatever its stride.
void read_byte_strides(ArrayView& view, const py::ssize_t* strides, const char* name) {
  const auto size = static_cast<py::ssize_t>(size_of(view.dtype));
  for (int axis = 0; axis < view.ndim; ++axis) {
    view.strides[axis] = strides[axis] / size;
    if (strides[axis] % size != 0 && view.shape[axis] > 1) {
      fail_value(name, "have strides in whole elements of " + std::to_string(size) + " bytes",
                 std::to_string(strides[axis]) + " bytes in axis " + std::to_string(axis));
    }
  }
}

// NumPy's own struct is trusted: it was checked when the array was made.
ArrayView view_numpy(py::handle object, const char* name) {
  const auto& array = *py::detail::array_proxy(object.ptr());
  ArrayView view;
  view.dtype = numpy_dtype(array.descr, name);
  check_ndim(array.nd, name);
  view.data = array.data;
  view.ndim = array.nd;
  view.writable = (array.flags & npy_api::NPY_ARRAY_WRITEABLE_) != 0;
  std::copy_n(array.dimensions, array.nd, view.shape);
  read_byte_strides(view, array.strides, name);
  if ((array.flags & npy_api::NPY_ARRAY_ALIGNED_) == 0) {
    fail_value(name, "be aligned to its elements", "an unaligned array");
  }
  return view;
}

// Real views of complex memory step over whole numbers; only `as_strided` could say otherwise, and mean nothing by it.
bool may_view_complex(const ArrayView& view) {
  for (int axis = 0; axis < view.ndim; ++axis) {
    if (view.strides[axis] % 2 != 0 && view.shape[axis] > 1) return false;
  }
  return view.dtype == Dtype::kFloat32 || view.dtype == Dtype::kFloat16 || view.dtype == Dtype::kFloat64;
}

// The imaginary part of a conjugated tensor is stored with the wrong sign, and DLPack cannot say so. Asking torch costs
// as much as the rest of the view, so it is asked only where it matters.
void check_not_negated(py::handle tensor, const ArrayView& view, const char* name) {
  if (!may_view_complex(view)) return;
  if (!tensor.attr("is_neg")().cast<bool>()) return;
  fail_value(name, "be stored with its own sign", "a negated view (its .resolve_neg() is not)");
}

ArrayView view_table(py::handle object, const char* name, const dlpack::ExchangeTable& table, bool writing) {
  ArrayView view = view_exchanged(object, name, table, !writing);
  view.library = library_of(Py_TYPE(object.ptr()));
  if (view.library == Library::kTorch) {
    check_not_negated(object, view, name);
    view.writable = view.writable || !writing;  // a borrowed view has no flags, and torch no read-only tensors
  }
  return view;
}

// A format of the struct module that describes one native number, as a DLPack type code.
std::optional<std::uint8_t> format_code(const char* format) {
  constexpr std::string_view kSigned = "bhilqn", kUnsigned = "BHILQN", kFloats = "efd";
  const std::string_view text = format != nullptr ? format : "B";
  const bool prefixed = !text.empty() && std::string_view("@=<").find(text.front()) != text.npos;
  const std::string_view code = text.substr(prefixed ? 1 : 0);
  if (code.size() != 1) return std::nullopt;
  if (kFloats.find(code) != code.npos) return dlpack::kFloat;
  if (kSigned.find(code) != code.npos) return dlpack::kInt;
  if (kUnsigned.find(code) != code.npos) return dlpack::kUint;
  if (code == "?") return dlpack::kBool;
  return std::nullopt;
}

struct ReleaseBuffer {
  void operator()(Py_buffer* buffer) const {
    PyBuffer_Release(buffer);
    delete buffer;
  }
};

std::shared_ptr<Py_buffer> get_buffer(py::handle object) {
  auto buffer = std::make_unique<Py_buffer>();
  if (PyObject_GetBuffer(object.ptr(), buffer.get(), PyBUF_RECORDS_RO) != 0) throw py::error_already_set();
  return {buffer.release(), ReleaseBuffer()};
}

ArrayView view_buffer(py::handle object, const char* name) {
  const auto buffer = get_buffer(object);
  const auto code = format_code(buffer->format);
  const auto dtype = code ? find_dtype(*code, buffer->itemsize) : std::nullopt;
  if (!dtype) fail_dtype(name, "buffer format " + std::string(buffer->format != nullptr ? buffer->format : "B"));
  ArrayView view;
  view.dtype = *dtype;
  check_ndim(buffer->ndim, name);
  view.ndim = buffer->ndim;
  std::copy_n(buffer->shape, buffer->ndim, view.shape);
  const bool empty = check_extents(view, name) == 0;
  set_compact_strides(view);
  if (buffer->strides != nullptr) read_byte_strides(view, buffer->strides, name);  // ctypes leaves them out
  view.data = buffer->buf;
  view.writable = buffer->readonly == 0;
  view.library = library_of(Py_TYPE(object.ptr()));
  if (!empty) check_reach(view, name);
  view.owner = buffer;
  return view;
}

ArrayView view_any(py::handle object, const char* name, bool writing) {
  if (npy_api::get().PyArray_Check_(object.ptr())) return view_numpy(object, name);
  if (const auto* table = find_exchange_table(Py_TYPE(object.ptr()))) return view_table(object, name, *table, writing);
  if (has_dlpack(object)) {
    ArrayView view = view_dlpack(object, name);
    view.library = library_of(Py_TYPE(object.ptr()));
    return view;
  }
  if (PyObject_CheckBuffer(object.ptr())) return view_buffer(object, name);
  throw py::type_error(std::string(name) + " must be an array (NumPy, or anything with __dlpack__), got " +
                       type_name(object));
}

// What the caller's library works on at this moment; the legacy default stream where it cannot say.
void* current_stream(const Home& home) {
  void* stream = nullptr;
  if (home.table != nullptr && home.table->current_stream != nullptr) {
    if (home.table->current_stream(dlpack::kCuda, home.device, &stream) != 0) throw py::error_already_set();
    return stream;
  }
  py::object handle;
  if (home.library == Library::kCupy) {
    handle = py::module_::import("cupy").attr("cuda").attr("get_current_stream")(home.device).attr("ptr");
  } else if (home.library == Library::kTorch) {
    handle = py::module_::import("torch").attr("cuda").attr("current_stream")(home.device).attr("cuda_stream");
  } else {
    return nullptr;
  }
  return reinterpret_cast<void*>(handle.cast<std::uintptr_t>());
}

ArrayView view_checked(py::handle object, const char* name, bool writing) {
  try {
    return view_any(object, name, writing);
  } catch (py::error_already_set& error) {
    fail_producer(name, error);
  }
}

std::string shape_text(const std::int64_t* shape, std::size_t ndim) {
  std::string text = "(";
  for (std::size_t axis = 0; axis < ndim; ++axis) {
    text += (axis == 0 ? "" : ", ") + std::to_string(shape[axis]);
  }
  return text + (ndim == 1 ? ",)" : ")");
}

void check_output_dtype(Dtype dtype, const char* name, const std::vector<Dtype>& dtypes) {
  if (std::find(dtypes.begin(), dtypes.end(), dtype) != dtypes.end()) return;
  std::string rule = " must be ";
  for (std::size_t i = 0; i < dtypes.size(); ++i) rule += (i == 0 ? "" : " or ") + std::string(dtype_name(dtypes[i]));
  throw py::type_error(name + rule + ", got " + dtype_name(dtype));
}

}  // namespace

ArrayView view_array(py::handle object, const char* name) { return view_checked(object, name, false); }

std::string Home::text() const {
  return cuda ? "on CUDA device " + std::to_string(device) : std::string("in host memory");
}

Home home_of(py::handle object, const ArrayView& view) {
  Home home;
  home.library = view.library;
  home.cuda = view.cuda;
  if (!view.cuda) return home;
  home.device = view.device_index;
  home.table = find_exchange_table(Py_TYPE(object.ptr()));
  home.stream = current_stream(home);
  return home;
}

void check_home(const ArrayView& view, const Home& home, const char* name) {
  if (view.cuda == home.cuda && (!view.cuda || view.device_index == home.device)) return;
  Home found;
  found.cuda = view.cuda;
  found.device = view.device_index;
  throw py::value_error(std::string(name) + " must be " + home.text() + ", as logits are, got an array " +
                        found.text());
}

bool is_on_cuda(py::handle object) {
  PyObject* raw = object.ptr();
  if (PyFloat_Check(raw) || PyLong_Check(raw) || PyList_Check(raw) || PyTuple_Check(raw)) return false;
  if (npy_api::get().PyArray_Check_(raw)) return false;
  try {
    const auto type = device_of(object, "array").type;
    return type == dlpack::kCuda || type == dlpack::kCudaManaged;
  } catch (const py::error_already_set& error) {
    if (!error.matches(PyExc_Exception)) throw;
    return false;  // who cannot say is read in another way
  } catch (const py::value_error&) {
    return false;
  }
}

ArrayView view_output(py::handle object, const char* name, const std::vector<std::int64_t>& shape,
                      const std::vector<Dtype>& dtypes) {
  ArrayView view = view_checked(object, name, true);
  if (!view.writable) {
    fail_value(name, "be writable", "an array of type " + type_name(object) + " that is read-only or does not say");
  }
  const auto ndim = static_cast<std::size_t>(view.ndim);
  if (!std::equal(shape.begin(), shape.end(), view.shape, view.shape + ndim)) {
    fail_value(name, "have shape " + shape_text(shape.data(), shape.size()), shape_text(view.shape, ndim));
  }
  check_output_dtype(view.dtype, name, dtypes);
  check_disjoint(view, name);
  return view;
}

}  // namespace tokendraw::bindings
