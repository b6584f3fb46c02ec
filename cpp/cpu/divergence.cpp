// SPDX-License-Identifier: Apache-2.0
#include "cpu/divergence.h"

#include <algorithm>
#include <cmath>

#include "core/arithmetic.h"

namespace tokendraw::cpu {
namespace {

/// The largest float32 that is at most ln 2.
constexpr double kLn2Below = 0x1.62e42ep-1;

/// Masses are within 4e-7 of their rows', and so is the shift: below this square of it JS wants a better one.
constexpr double kTinyJs = 1e-6;

class Pair {
 public:
  /// Of rows that were scanned with their sums.
  Pair(Row& row, Row& other) : row_(row), other_(other) {
    const double mass = row.mass(kKeepFinite);
    const double other_mass = other.mass(kKeepFinite);
    comparison_ = {row.log_origin(), other.log_origin(), row.log_slope(),
                   row.log_offset(mass) - other.log_offset(other_mass)};
    row.find_factors(1.0, mass);
    other.find_factors(1.0, other_mass);
  }

  double kl() const {
    const KlSums sums = kl_sums();
    return sums.infinite ? HUGE_VAL : sums.first + std::log1p(sums.second - sums.first);
  }

  double js() {
    const double found = js_sum();
    if (found > kTinyJs) return found;
    const KlSums sums = kl_sums();
    comparison_.shift -= std::log1p(sums.second - sums.first);
    return js_sum();
  }

 private:
  KlSums kl_sums() const { return row_.kernels.kl_sums(compared(row_), compared(other_), row_.scale(), comparison_); }
  double js_sum() const { return row_.kernels.js_sum(compared(row_), compared(other_), row_.scale(), comparison_); }

  static ComparedRow compared(const Row& row) { return {row.view(), row.work.summaries.data(), row.work.sums.data()}; }

  Row& row_;
  Row& other_;
  Comparison comparison_;
};

}  // namespace

RowStatus find_divergence(Row& row, Row& other, Divergence kind, float* divergence) {
  RowStatus status = row.scan(Scan::kSums);
  if (status == RowStatus::kValid) status = other.scan(Scan::kSums);
  if (status != RowStatus::kValid) {
    *divergence = std::nanf("");
    return status;
  }
  Pair pair(row, other);
  if (kind == Divergence::kJensenShannon) {
    *divergence = static_cast<float>(std::min(pair.js(), kLn2Below));
  } else {
    const double kl = pair.kl();
    *divergence = kl < HUGE_VAL ? finite_float(std::max(kl, 0.0)) : HUGE_VALF;
  }
  return status;
}

}  // namespace tokendraw::cpu
