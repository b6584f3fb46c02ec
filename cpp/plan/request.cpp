// SPDX-License-Identifier: Apache-2.0
#include "plan/request.h"

namespace tokendraw {

const void* Logits::row(std::int64_t index, std::int64_t position) const {
  std::int64_t offset = position * position_stride;
  for (std::size_t axis = leading_shape.size(); axis-- > 0;) {
    offset += index % leading_shape[axis] * leading_strides[axis];
    index /= leading_shape[axis];
  }
  return static_cast<const char*>(data) + offset * static_cast<std::int64_t>(size_of(dtype));
}

}  // namespace tokendraw
