// SPDX-License-Identifier: Apache-2.0
// Results are made in the caller's library where that library can lend memory (NumPy, torch), else moved into it.
#include <pybind11/gil_safe_call_once.h>
#include <pybind11/numpy.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <new>
#include <string>
#include <utility>

#include "bindings/arrays.h"
#include "bindings/arrays_checks.h"
#include "bindings/arrays_dlpack.h"

namespace tokendraw::bindings {
namespace {

// Library modules are found among the imported ones, never imported: the caller's own array proves that they are there.
struct Names {
  PyObject* torch = PyUnicode_InternFromString("torch");
  PyObject* tensor = PyUnicode_InternFromString("Tensor");
  PyObject* jax = PyUnicode_InternFromString("jax");
};

const Names& names() {
  PYBIND11_CONSTINIT static py::gil_safe_call_once_and_store<Names> storage;
  return storage.call_once_and_store_result([] { return Names(); }).get_stored();
}

py::object imported(PyObject* name) {
  auto module = py::reinterpret_steal<py::object>(PyImport_GetModule(name));
  if (!module && PyErr_Occurred() != nullptr) throw py::error_already_set();
  return module;
}

py::dtype numpy_dtype(Dtype dtype) {
  using py::detail::npy_api;
  constexpr int kHalf = 23;  // not named by pybind11
  constexpr int kNone = -1;  // bfloat16 is another package's
  constexpr int kNumbers[] = {npy_api::NPY_FLOAT_,
                              kHalf,
                              kNone,
                              npy_api::NPY_DOUBLE_,
                              npy_api::NPY_BOOL_,
                              npy_api::NPY_UINT8_,
                              npy_api::NPY_INT8_,
                              npy_api::NPY_INT16_,
                              npy_api::NPY_UINT16_,
                              npy_api::NPY_INT32_,
                              npy_api::NPY_UINT32_,
                              npy_api::NPY_INT64_,
                              npy_api::NPY_UINT64_};
  if (dtype == Dtype::kBfloat16) return py::dtype::from_args(py::module_::import("ml_dtypes").attr("bfloat16"));
  return py::dtype(kNumbers[static_cast<int>(dtype)]);
}

dlpack::DataType dlpack_dtype(Dtype dtype) {
  const auto bits = static_cast<std::uint8_t>(8 * size_of(dtype));
  switch (dtype) {
    case Dtype::kFloat32:
    case Dtype::kFloat16:
    case Dtype::kFloat64: return {dlpack::kFloat, bits, 1};
    case Dtype::kBfloat16: return {dlpack::kBfloat, bits, 1};
    case Dtype::kBool: return {dlpack::kBool, bits, 1};
    case Dtype::kUint8:
    case Dtype::kUint16:
    case Dtype::kUint32:
    case Dtype::kUint64: return {dlpack::kUint, bits, 1};
    default: return {dlpack::kInt, bits, 1};
  }
}

py::object new_numpy(Dtype dtype, const std::vector<std::int64_t>& shape) {
  static_assert(sizeof(Py_intptr_t) == sizeof(std::int64_t), "NumPy's extents are read as they are");
  const auto& api = py::detail::npy_api::get();
  PyObject* array =
      api.PyArray_NewFromDescr_(api.PyArray_Type_, numpy_dtype(dtype).release().ptr(), static_cast<int>(shape.size()),
                                reinterpret_cast<const Py_intptr_t*>(shape.data()), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(array);
}

// A tensor with its elements behind it, in one allocation that torch frees: two thirds of the price of `torch.empty`.
struct alignas(64) Block {
  dlpack::VersionedTensor managed;
  std::int64_t shape[kMaxDimensions];
  std::int64_t strides[kMaxDimensions];
};

Block* new_block(Dtype dtype, const std::vector<std::int64_t>& shape) {
  check_ndim(static_cast<std::int64_t>(shape.size()), "result");
  ArrayView layout;
  layout.dtype = dtype;
  layout.ndim = static_cast<int>(shape.size());
  std::copy(shape.begin(), shape.end(), layout.shape);
  const auto elements = static_cast<std::size_t>(check_extents(layout, "result"));
  set_compact_strides(layout);

  const std::size_t bytes = sizeof(Block) + elements * size_of(dtype);
  void* memory = std::aligned_alloc(alignof(Block), (bytes + alignof(Block) - 1) & ~(alignof(Block) - 1));
  if (memory == nullptr) throw std::bad_alloc();
  auto* block = new (memory) Block;
  std::copy_n(layout.shape, layout.ndim, block->shape);
  std::copy_n(layout.strides, layout.ndim, block->strides);
  block->managed = {{dlpack::kMajorVersion, dlpack::kMinorVersion},
                    nullptr,
                    [](dlpack::VersionedTensor* managed) { std::free(managed); },
                    0,
                    {block + 1, {dlpack::kCpu, 0}, layout.ndim, dlpack_dtype(dtype), block->shape, block->strides, 0}};
  return block;
}

py::object new_exchanged(const dlpack::ExchangeTable& table, Dtype dtype, const std::vector<std::int64_t>& shape,
                         void** data) {
  Block* block = new_block(dtype, shape);
  *data = block + 1;
  void* object = nullptr;
  if (table.import_owned(&block->managed, &object) != 0) throw py::error_already_set();
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
}

// For a torch from before the exchange table.
py::object new_torch(const py::object& torch, const Home& home, Dtype dtype, const std::vector<std::int64_t>& shape,
                     void** data) {
  py::tuple extents(shape.size());
  for (std::size_t axis = 0; axis < shape.size(); ++axis) extents[axis] = shape[axis];
  const std::string device = home.cuda ? "cuda:" + std::to_string(home.device) : "cpu";
  py::object tensor =
      torch.attr("empty")(extents, py::arg("dtype") = torch.attr(dtype_name(dtype)), py::arg("device") = device);
  *data = reinterpret_cast<void*>(tensor.attr("data_ptr")().cast<std::uintptr_t>());
  return tensor;
}

py::object new_tensor(const py::object& torch, Dtype dtype, const std::vector<std::int64_t>& shape, void** data) {
  const auto type = py::reinterpret_steal<py::object>(PyObject_GetAttr(torch.ptr(), names().tensor));
  if (!type) throw py::error_already_set();
  const auto* table = find_exchange_table(reinterpret_cast<PyTypeObject*>(type.ptr()));
  return table != nullptr ? new_exchanged(*table, dtype, shape, data) : new_torch(torch, Home{}, dtype, shape, data);
}

void set_error(void*, const char* kind, const char* message) {
  PyErr_Format(PyExc_RuntimeError, "%s: %s", kind, message);
}

py::object new_in_table(const Home& home, Dtype dtype, const std::vector<std::int64_t>& shape, void** data) {
  std::vector<std::int64_t> extents = shape;
  dlpack::Tensor prototype = {nullptr,
                              {dlpack::kCuda, home.device},
                              static_cast<std::int32_t>(shape.size()),
                              dlpack_dtype(dtype),
                              extents.data(),
                              nullptr,
                              0};
  dlpack::VersionedTensor* managed = nullptr;
  if (home.table->allocate(&prototype, &managed, nullptr, set_error) != 0) throw py::error_already_set();
  *data = static_cast<char*>(managed->tensor.data) + managed->tensor.byte_offset;
  void* object = nullptr;
  if (home.table->import_owned(managed, &object) != 0) {
    managed->deleter(managed);
    throw py::error_already_set();
  }
  return py::reinterpret_steal<py::object>(static_cast<PyObject*>(object));
}

py::object new_cupy(const Home& home, Dtype dtype, const std::vector<std::int64_t>& shape, void** data) {
  const py::module_ cupy = py::module_::import("cupy");
  const py::object device = cupy.attr("cuda").attr("Device")(home.device);
  device.attr("__enter__")();
  py::object array;
  try {
    array = cupy.attr("empty")(py::tuple(py::cast(shape)), py::str(dtype_name(dtype)));
  } catch (...) {
    device.attr("__exit__")(py::none(), py::none(), py::none());
    throw;
  }
  device.attr("__exit__")(py::none(), py::none(), py::none());
  *data = reinterpret_cast<void*>(array.attr("data").attr("ptr").cast<std::uintptr_t>());
  return array;
}

py::object new_on_device(const Home& home, Dtype dtype, const std::vector<std::int64_t>& shape, void** data) {
  if (home.table != nullptr && home.table->allocate != nullptr) return new_in_table(home, dtype, shape, data);
  if (home.library == Library::kCupy) return new_cupy(home, dtype, shape, data);
  if (home.library == Library::kTorch) {
    if (const py::object torch = imported(names().torch)) return new_torch(torch, home, dtype, shape, data);
  }
  throw py::type_error(
      "results on a CUDA device can only be made for arrays of torch, CuPy or a library with a DLPack exchange table: "
      "give out where the function takes it, or such logits");
}

// Where JAX has an accelerator, its default device is not the one that the caller's array was on.
py::object to_jax(const py::object& jax, const py::object& array) {
  if (jax.attr("default_backend")().equal(py::str("cpu"))) return jax.attr("numpy").attr("asarray")(array);
  const py::object devices = jax.attr("local_devices")(py::arg("backend") = "cpu");
  return jax.attr("device_put")(array, devices[py::int_(0)]);
}

template <class Value>
Value load(const void* data) {
  Value value;
  std::memcpy(&value, data, sizeof value);
  return value;
}

double load_half(const void* data) {
  constexpr bool kLittleEndian = PY_LITTLE_ENDIAN;
  return PyFloat_Unpack2(static_cast<const char*>(data), kLittleEndian);
}

float load_bfloat16(const void* data) {
  const std::uint32_t bits = std::uint32_t{load<std::uint16_t>(data)} << 16;
  return load<float>(&bits);
}

py::object to_scalar(Dtype dtype, const void* data) {
  switch (dtype) {
    case Dtype::kFloat32: return py::float_(load<float>(data));
    case Dtype::kFloat16: return py::float_(load_half(data));
    case Dtype::kBfloat16: return py::float_(load_bfloat16(data));
    case Dtype::kFloat64: return py::float_(load<double>(data));
    case Dtype::kBool: return py::bool_(load<std::uint8_t>(data) != 0);
    case Dtype::kUint8: return py::int_(load<std::uint8_t>(data));
    case Dtype::kInt8: return py::int_(load<std::int8_t>(data));
    case Dtype::kInt16: return py::int_(load<std::int16_t>(data));
    case Dtype::kUint16: return py::int_(load<std::uint16_t>(data));
    case Dtype::kInt32: return py::int_(load<std::int32_t>(data));
    case Dtype::kUint32: return py::int_(load<std::uint32_t>(data));
    case Dtype::kInt64: return py::int_(load<std::int64_t>(data));
    case Dtype::kUint64: return py::int_(load<std::uint64_t>(data));
  }
  return py::none();
}

}  // namespace

Result::Result(const Home& home, Dtype dtype, const std::vector<std::int64_t>& shape)
    : library_(home.library), cuda_(home.cuda), dtype_(dtype) {
  if (cuda_) {
    array_ = new_on_device(home, dtype, shape, &data_);
    return;
  }
  if (shape.empty()) return;
  if (library_ == Library::kTorch) {
    if (const py::object torch = imported(names().torch)) {
      array_ = new_tensor(torch, dtype, shape, &data_);
      return;
    }
  }
  array_ = new_numpy(dtype, shape);
  data_ = py::detail::array_proxy(array_.ptr())->data;
}

py::object Result::finish() {
  if (!array_) return to_scalar(dtype_, scalar_);
  if (library_ == Library::kJax && !cuda_) {
    if (const py::object jax = imported(names().jax)) return to_jax(jax, array_);
  }
  return std::move(array_);
}

}  // namespace tokendraw::bindings
