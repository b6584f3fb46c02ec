// SPDX-License-Identifier: Apache-2.0
// The loss of a row and its gradient: one look at the row for both, and one more to write the gradient.
#pragma once

#include "cpu/row.h"

namespace tokendraw::cpu {

struct Target {
  std::int32_t token;
  double label_smoothing;
  double gradient_scale;
};

/// The row's -ln(probability) of its target, smoothed; never negative. Scans the row; the loss is NaN unless the status
/// is kValid. Where the gradient goes somewhere, also what the scaled loss gains per logit: NaN where the row is
/// invalid.
RowStatus find_loss(Row& row, const Target& target, const GradientRow& gradient, double* loss);

void fill_row(const GradientRow& out, std::int64_t vocab, float value);

}  // namespace tokendraw::cpu
