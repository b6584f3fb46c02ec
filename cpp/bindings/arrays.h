// SPDX-License-Identifier: Apache-2.0
// The one place that knows where an array comes from: NumPy, DLPack's exchange table, `__dlpack__`, the buffer
// protocol. It checks the producer's word before anything is read, and answers in the caller's own kind of array.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "core/dtype.h"

namespace tokendraw::bindings {

namespace py = pybind11;

enum class Library : std::uint8_t { kNumpy, kTorch, kJax, kCupy, kOther };

inline constexpr int kMaxDimensions = 32;

/// A caller's array, borrowed for the length of a call: the producer stays alive, nothing is copied.
/// Shape and strides count elements; `data` already includes the producer's byte offset. Strides may be 0 or negative.
/// Destroy it with the GIL held. What no check can see is trusted: that the memory reaches as far as the shape says.
struct ArrayView {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  int ndim = 0;
  std::int64_t shape[kMaxDimensions];  // set up to ndim
  std::int64_t strides[kMaxDimensions];
  bool writable = false;  // false also where the producer cannot say (legacy capsules)
  bool cuda = false;
  int device_index = 0;
  Library library = Library::kNumpy;
  std::shared_ptr<void> owner;  // keeps the memory; null where the caller's reference is enough
};

/// The array behind `object`, any dtype of `Dtype`, on CPU or CUDA.
/// Throws py::type_error for an object that is no array or has another dtype, py::value_error for a producer that
/// cannot be trusted; both name the argument `name`. CUDA arrays are recognised without waiting for any stream.
ArrayView view_array(py::handle object, const char* name);

/// As `view_array`, for an array that will be written: refuses read-only memory and producers that cannot say,
/// a shape other than `shape`, a dtype not in `dtypes`, and elements that share memory. Any other strides are taken.
ArrayView view_output(py::handle object, const char* name, const std::vector<std::int64_t>& shape,
                      const std::vector<Dtype>& dtypes);

/// A result being filled: `data` is row-major host memory of `shape`, uninitialised; `finish` hands it over as an array
/// of `library` (NumPy where that is another or not imported), or, for an empty shape, as a Python scalar.
/// JAX gets its own width of integers: int32 unless jax_enable_x64 is set.
class Result {
 public:
  Result(Library library, Dtype dtype, const std::vector<std::int64_t>& shape);
  Result(Result&&) = default;
  void* data() { return array_ ? data_ : scalar_; }
  py::object finish();

 private:
  Library library_;
  Dtype dtype_;
  py::object array_;  // null for a scalar
  void* data_ = nullptr;
  alignas(8) unsigned char scalar_[8] = {};
};

}  // namespace tokendraw::bindings
