// SPDX-License-Identifier: Apache-2.0
// The element types that cross the boundary of the core. Logits are one of the first four.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tokendraw {

enum class Dtype : std::uint8_t {
  kFloat32,
  kFloat16,
  kBfloat16,
  kFloat64,
  kBool,
  kUint8,
  kInt8,
  kInt16,
  kUint16,
  kInt32,
  kUint32,
  kInt64,
  kUint64,
};

inline constexpr int kLogitDtypes = 4;

constexpr bool is_logit_dtype(Dtype dtype) { return static_cast<int>(dtype) < kLogitDtypes; }

constexpr std::size_t size_of(Dtype dtype) {
  switch (dtype) {
    case Dtype::kBool:
    case Dtype::kUint8:
    case Dtype::kInt8: return 1;
    case Dtype::kFloat16:
    case Dtype::kBfloat16:
    case Dtype::kInt16:
    case Dtype::kUint16: return 2;
    case Dtype::kFloat32:
    case Dtype::kInt32:
    case Dtype::kUint32: return 4;
    case Dtype::kFloat64:
    case Dtype::kInt64:
    case Dtype::kUint64: return 8;
  }
  return 0;
}

}  // namespace tokendraw
