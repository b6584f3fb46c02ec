// SPDX-License-Identifier: Apache-2.0
#include "cpu/row_view.h"

#include "plan/request.h"

namespace tokendraw::cpu {
namespace {

template <class T>
const T* at(const T* data, std::int64_t offset) {
  return data ? data + offset : nullptr;
}

}  // namespace

RowView view_row(const Request& request, std::int64_t row, std::int64_t position) {
  const Edits& edits = request.edits;
  RowView view;
  view.logits = request.logits.row(row, position);
  view.dtype = request.logits.dtype;
  view.vocab = request.logits.vocab;
  view.allowed = at(edits.allowed, row * edits.allowed_stride + position * edits.allowed_position_stride);
  view.allowed_bits =
      at(edits.allowed_bits, row * edits.allowed_bits_stride + position * edits.allowed_bits_position_stride);
  view.allowed_words = edits.allowed_words;
  view.bias = at(edits.bias, row * edits.bias_stride + position * edits.bias_position_stride);
  view.token_bias = edits.token_bias;
  view.token_bias_count = edits.token_bias_count;
  return view;
}

}  // namespace tokendraw::cpu
