// SPDX-License-Identifier: Apache-2.0
#include "plan/request.h"

namespace tokendraw {
namespace {

/// Of a row, in elements.
template <class Rows>
std::int64_t offset_of(const Rows& rows, std::int64_t index) {
  std::int64_t offset = 0;
  for (std::size_t axis = rows.leading_shape.size(); axis-- > 0;) {
    offset += index % rows.leading_shape[axis] * rows.leading_strides[axis];
    index /= rows.leading_shape[axis];
  }
  return offset;
}

}  // namespace

const void* Logits::row(std::int64_t index, std::int64_t position) const {
  const std::int64_t offset = offset_of(*this, index) + position * position_stride;
  return static_cast<const char*>(data) + offset * static_cast<std::int64_t>(size_of(dtype));
}

void* OutputRows::row(std::int64_t index) const {
  return static_cast<char*>(data) + offset_of(*this, index) * static_cast<std::int64_t>(size_of(dtype));
}

}  // namespace tokendraw
