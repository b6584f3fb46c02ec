// SPDX-License-Identifier: Apache-2.0
// The one place that knows where an array comes from: NumPy, DLPack's exchange table, `__dlpack__`, the buffer
// protocol. It checks the producer's word before anything is read, and answers in the caller's own kind of array.
#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/dtype.h"

namespace tokendraw::bindings {

namespace py = pybind11;

enum class Library : std::uint8_t { kNumpy, kTorch, kJax, kCupy, kOther };

namespace dlpack {
struct ExchangeTable;
}

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

/// Where the arrays of a call are, and whose: in host memory, or on a CUDA device, there with the stream that work on
/// them is put in.
struct Home {
  Library library = Library::kNumpy;
  bool cuda = false;
  int device = 0;
  void* stream = nullptr;
  const dlpack::ExchangeTable* table = nullptr;  // of the type of the logits; null where it has none

  /// As messages say it.
  std::string text() const;
};

/// The home of an array, which `view` was made from. Waits for nothing.
Home home_of(py::handle object, const ArrayView& view);

/// Throws unless the array is where `home` is: "`name` must be ..., as logits are, got an array ...".
void check_home(const ArrayView& view, const Home& home, const char* name);

/// Whether `object` says that it is an array on a CUDA device. Numbers, sequences and NumPy arrays are asked nothing.
bool is_on_cuda(py::handle object);

/// A result being filled: `data` is row-major memory of `shape`, uninitialised, at home; `finish` hands it over as an
/// array of the home's library (NumPy where that is another or not imported), or, for an empty shape on the host, as a
/// Python scalar: on a device nobody waits for its value. JAX gets its own width of integers: int32 unless
/// jax_enable_x64 is set. On a device the library must be able to lend memory: torch, CuPy, or any whose type carries
/// an exchange table.
class Result {
 public:
  Result(const Home& home, Dtype dtype, const std::vector<std::int64_t>& shape);
  Result(Result&&) = default;
  void* data() { return array_ ? data_ : scalar_; }
  py::object finish();

 private:
  Library library_;
  bool cuda_;
  Dtype dtype_;
  py::object array_;  // null for a scalar
  void* data_ = nullptr;
  alignas(8) unsigned char scalar_[8] = {};
};

}  // namespace tokendraw::bindings
