// SPDX-License-Identifier: Apache-2.0
// A request as kernels take it, by value: rows of logits at any strides, their edits, one value per row or one for all.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/half.h"
#include "cuda/device.cuh"
#include "plan/request.h"

namespace tokendraw::cuda {

inline constexpr int kMaxLeading = 8;

/// The leading axes of an array of rows, those that one stride leads through joined.
struct Leading {
  int count = 0;
  std::int64_t shape[kMaxLeading];
  std::int64_t strides[kMaxLeading];  // in elements

  /// The offset of a row, counted in C order.
  __host__ __device__ std::int64_t offset(std::int64_t row) const {
    if (count == 1) return row * strides[0];
    std::int64_t offset = 0;
    for (int axis = count; axis-- > 0;) {
      offset += row % shape[axis] * strides[axis];
      row /= shape[axis];
    }
    return offset;
  }
};

/// False where more than kMaxLeading strides are needed.
inline bool join_leading(const std::vector<std::int64_t>& shape, const std::vector<std::int64_t>& strides,
                         Leading* joined) {
  joined->count = 0;
  for (std::size_t axis = 0; axis < shape.size(); ++axis) {
    if (shape[axis] == 1) continue;
    const int last = joined->count - 1;
    if (last >= 0 && joined->strides[last] == strides[axis] * shape[axis]) {
      joined->shape[last] *= shape[axis];
      joined->strides[last] = strides[axis];
      continue;
    }
    if (joined->count == kMaxLeading) return false;
    joined->shape[joined->count] = shape[axis];
    joined->strides[joined->count++] = strides[axis];
  }
  return true;
}

/// Rows of logits; the kernel knows their element type.
struct Rows {
  const void* data = nullptr;
  std::int64_t rows = 0;
  std::int64_t vocab = 0;
  Leading leading;

  template <class Element>
  __device__ const Element* row(std::int64_t index) const {
    return static_cast<const Element*>(data) + leading.offset(index);
  }
};

/// One value per row or one for all, converted as it is read.
template <class T>
struct Values {
  T value{};
  DeviceValues device{};

  __device__ T at(std::int64_t row) const {
    if (device.data == nullptr) return value;
    switch (device.dtype) {
      case Dtype::kFloat32: return read<float>(row);
      case Dtype::kFloat64: return read<double>(row);
      case Dtype::kFloat16: return static_cast<T>(widen(static_cast<const Float16*>(device.data)[row]));
      case Dtype::kBfloat16: return static_cast<T>(widen(static_cast<const Bfloat16*>(device.data)[row]));
      case Dtype::kBool:
      case Dtype::kUint8: return read<std::uint8_t>(row);
      case Dtype::kInt8: return read<std::int8_t>(row);
      case Dtype::kInt16: return read<std::int16_t>(row);
      case Dtype::kUint16: return read<std::uint16_t>(row);
      case Dtype::kInt32: return read<std::int32_t>(row);
      case Dtype::kUint32: return read<std::uint32_t>(row);
      case Dtype::kInt64: return read<std::int64_t>(row);
      case Dtype::kUint64: return read<std::uint64_t>(row);
    }
    return value;
  }

 private:
  template <class Stored>
  __device__ T read(std::int64_t row) const {
    return static_cast<T>(static_cast<const Stored*>(device.data)[row]);
  }
};

template <class T>
Values<T> values_of(const PerRow<T>& per_row) {
  return {per_row.value, per_row.device};
}

/// Biases of single tokens that a launch carries with it.
inline constexpr int kMaxTokenBiases = 256;

/// Edits of the logits in the memory of the device but for `token_bias`. Strides are in elements, 0 where one row
/// serves all.
struct RowEdits {
  const std::uint8_t* allowed = nullptr;
  std::int64_t allowed_stride = 0;
  const std::uint32_t* allowed_bits = nullptr;
  std::int64_t allowed_words = 0;
  std::int64_t allowed_bits_stride = 0;
  const float* bias = nullptr;
  std::int64_t bias_stride = 0;
  int token_bias_count = 0;
  TokenBias token_bias[kMaxTokenBiases];

  __host__ __device__ bool any() const { return allowed || allowed_bits || bias || token_bias_count > 0; }
};

inline Rows rows_of(const Logits& logits) {
  Rows rows{logits.data, logits.rows, logits.vocab, {}};
  join_leading(logits.leading_shape, logits.leading_strides, &rows.leading);
  return rows;
}

/// At most kMaxTokenBiases of them.
inline RowEdits edits_of(const Edits& edits) {
  RowEdits row_edits;
  row_edits.allowed = edits.allowed;
  row_edits.allowed_stride = edits.allowed_stride;
  row_edits.allowed_bits = edits.allowed_bits;
  row_edits.allowed_words = edits.allowed_words;
  row_edits.allowed_bits_stride = edits.allowed_bits_stride;
  row_edits.bias = edits.bias;
  row_edits.bias_stride = edits.bias_stride;
  row_edits.token_bias_count = static_cast<int>(edits.token_bias_count);
  for (int i = 0; i < row_edits.token_bias_count; ++i) row_edits.token_bias[i] = edits.token_bias[i];
  return row_edits;
}

/// Stands for RowEdits where there are none: kernels for it have no code for edits.
struct NoEdits {};

}  // namespace tokendraw::cuda
