// SPDX-License-Identifier: Apache-2.0
#include "bindings/arrays_checks.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "bindings/dlpack.h"

namespace tokendraw::bindings {
namespace {

__extension__ typedef __int128 Wide;  // products of three 64-bit numbers that a stranger chose

#if defined(__x86_64__)
constexpr Wide kHostAddressEnd = Wide{1} << 47;  // the kernel gives out more only to who asks for it
#else
constexpr Wide kHostAddressEnd = Wide{1} << 64;
#endif
constexpr Wide kDeviceAddressEnd = Wide{1} << 64;

std::string hexadecimal(std::uintptr_t address) {
  std::string digits;
  for (; address != 0; address >>= 4) digits.insert(digits.begin(), "0123456789abcdef"[address & 15]);
  return "0x" + (digits.empty() ? "0" : digits);
}

}  // namespace

void fail_value(const char* name, const std::string& rule, const std::string& value) {
  throw py::value_error(std::string(name) + " must " + rule + ", got " + value);
}

void fail_dtype(const char* name, const std::string& dtype) {
  constexpr char kRule[] =
      " must be float32, float16, bfloat16, float64, bool or integers of up to 64 bits in native byte order";
  throw py::type_error(name + std::string(kRule) + ", got " + dtype);
}

void fail_producer(const char* name, py::error_already_set& error) {
  if (!error.matches(PyExc_Exception) || error.matches(PyExc_MemoryError)) throw;
  const auto type = py::str(error.type().attr("__name__")).cast<std::string>();
  const auto reason = py::str(error.value()).cast<std::string>();
  const std::string message = std::string(name) + " must be an array that its library hands out, got " + type + ": " +
                              reason.substr(0, reason.find('\n'));  // torch appends the C++ stack
  py::raise_from(error, PyExc_ValueError, message.c_str());
  throw py::error_already_set();
}

std::optional<Dtype> find_dtype(std::uint8_t code, std::int64_t bytes) {
  constexpr struct {
    std::uint8_t code;
    Dtype dtype;
  } kKnown[] = {
      {dlpack::kFloat, Dtype::kFloat32}, {dlpack::kFloat, Dtype::kFloat16}, {dlpack::kBfloat, Dtype::kBfloat16},
      {dlpack::kFloat, Dtype::kFloat64}, {dlpack::kBool, Dtype::kBool},     {dlpack::kUint, Dtype::kUint8},
      {dlpack::kInt, Dtype::kInt8},      {dlpack::kInt, Dtype::kInt16},     {dlpack::kUint, Dtype::kUint16},
      {dlpack::kInt, Dtype::kInt32},     {dlpack::kUint, Dtype::kUint32},   {dlpack::kInt, Dtype::kInt64},
      {dlpack::kUint, Dtype::kUint64},
  };
  for (const auto& known : kKnown) {
    if (known.code == code && static_cast<std::int64_t>(size_of(known.dtype)) == bytes) return known.dtype;
  }
  return std::nullopt;
}

const char* dtype_name(Dtype dtype) {
  constexpr const char* kNames[] = {"float32", "float16", "bfloat16", "float64", "bool",  "uint8", "int8",
                                    "int16",   "uint16",  "int32",    "uint32",  "int64", "uint64"};
  return kNames[static_cast<int>(dtype)];
}

void check_ndim(std::int64_t ndim, const char* name) {
  if (ndim >= 0 && ndim <= kMaxDimensions) return;
  fail_value(name, "have 0 to " + std::to_string(kMaxDimensions) + " dimensions", std::to_string(ndim));
}

std::int64_t check_extents(const ArrayView& view, const char* name) {
  constexpr Wide kLimit = std::numeric_limits<std::int64_t>::max();
  Wide bytes = static_cast<Wide>(size_of(view.dtype));
  bool empty = false;
  for (int axis = 0; axis < view.ndim; ++axis) {
    const std::int64_t extent = view.shape[axis];
    if (extent < 0) {
      fail_value(name, "have extents of at least 0", std::to_string(extent) + " in axis " + std::to_string(axis));
    }
    empty = empty || extent == 0;
    bytes *= std::max<std::int64_t>(extent, 1);
    if (bytes > kLimit) {
      fail_value(name, "have fewer than 2^63 bytes",
                 "an extent of " + std::to_string(extent) + " in axis " + std::to_string(axis));
    }
  }
  return empty ? 0 : static_cast<std::int64_t>(bytes / static_cast<Wide>(size_of(view.dtype)));
}

void set_compact_strides(ArrayView& view) {
  std::int64_t stride = 1;
  for (int axis = view.ndim - 1; axis >= 0; --axis) {
    view.strides[axis] = stride;
    stride *= std::max<std::int64_t>(view.shape[axis], 1);
  }
}

void check_reach(const ArrayView& view, const char* name) {
  const auto address = reinterpret_cast<std::uintptr_t>(view.data);
  const auto size = size_of(view.dtype);
  if (address % size != 0) {
    fail_value(name, "be aligned to its " + std::to_string(size) + "-byte elements", "address " + hexadecimal(address));
  }
  const Wide end = view.cuda ? kDeviceAddressEnd : kHostAddressEnd;
  Wide low = static_cast<Wide>(address);
  Wide high = low + static_cast<Wide>(size);
  for (int axis = 0; axis < view.ndim; ++axis) {
    const Wide reach = static_cast<Wide>(view.shape[axis] - 1) * static_cast<Wide>(size) * view.strides[axis];
    (reach < 0 ? low : high) += reach;
    if (low > 0 && high <= end) continue;
    fail_value(name, "lie within the address space",
               "a stride of " + std::to_string(view.strides[axis]) + " over " + std::to_string(view.shape[axis]) +
                   " elements in axis " + std::to_string(axis) + " from address " + hexadecimal(address));
  }
  if (low <= 0 || high > end) fail_value(name, "lie within the address space", "address " + hexadecimal(address));
}

void check_disjoint(const ArrayView& view, const char* name) {
  std::array<std::pair<Wide, std::int64_t>, kMaxDimensions> axes;  // (stride, extent), where there is a second element
  std::size_t count = 0;
  for (int axis = 0; axis < view.ndim; ++axis) {
    if (view.shape[axis] == 0) return;
    const Wide stride = view.strides[axis];
    if (view.shape[axis] > 1) axes[count++] = {stride < 0 ? -stride : stride, view.shape[axis]};
  }
  std::sort(axes.begin(), axes.begin() + static_cast<std::ptrdiff_t>(count));
  Wide reach = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto [stride, extent] = axes[i];
    if (stride <= reach) {
      fail_value(name, "have elements that share no memory",
                 "a stride of " + std::to_string(static_cast<std::int64_t>(stride)) + " over " +
                     std::to_string(extent) + " elements");
    }
    reach += stride * (extent - 1);
  }
}

}  // namespace tokendraw::bindings
