// SPDX-License-Identifier: Apache-2.0
// One row after the first look at it: its summaries, its largest score, and masses measured in units of that score.
#pragma once

#include <cstdint>

#include "cpu/workspace.h"
#include "plan/request.h"

namespace tokendraw::cpu {

enum class Scan : std::uint8_t { kMaxima, kGroupMaxima, kSums, kSumsAndGroupMaxima };

class Row {
 public:
  Row(const Kernels& kernels, const RowView& view, double temperature, Workspace& work)
      : kernels(kernels), view(view), scale(make_scale(temperature)), work(work) {}

  /// The first look. Everything below needs kValid.
  RowStatus scan(Scan what);

  std::int64_t tiles() const { return count_tiles(view.vocab); }
  float max() const { return max_; }
  Candidate first() const;

  /// What the kept tokens weigh together; leaves their sums per tile in work.sums, in the same units.
  double mass(Cutoff cutoff);

  /// The weight of each candidate, in the same units; held by work.weights.
  const Buffer<float>& weigh(const Buffer<Candidate>& candidates);

  WeightConstants constants_of(std::int64_t tile) const {
    return weight_constants(reference_of(work.summaries[tile].max, scale), scale);
  }

  /// The units of a tile's weights in units of the row: a factor.
  double factor_of(std::int64_t tile) const;

  /// ln(weight of score / mass) = score * log_slope() - log_offset(mass), where the score is taken from log_origin().
  double log_origin() const { return static_cast<double>(reference_.base); }
  double log_slope() const;
  double log_offset(double mass) const;
  double logprob(float score, double mass) const {
    return (static_cast<double>(score) - log_origin()) * log_slope() - log_offset(mass);
  }

  std::int64_t count(Cutoff cutoff) const { return kernels.count_kept(view, work.summaries.data(), cutoff); }

  const Kernels& kernels;
  const RowView& view;
  const Scale scale;
  Workspace& work;

 private:
  float max_ = 0.0f;
  TileReference reference_{};
  bool has_sums_ = false;
};

}  // namespace tokendraw::cpu
