// SPDX-License-Identifier: Apache-2.0
// Which tokens of a row the steps keep. Short rows (an effective top_k of at most kMaxListed, or temperature 0) are
// held as a list in the total order; others as a cutoff, found only when somebody needs it.
#pragma once

#include <optional>

#include "cpu/row.h"
#include "plan/steps.h"

namespace tokendraw::cpu {

inline constexpr std::int64_t kMaxListed = 1024;

class Kept {
 public:
  Kept(const Kernels& kernels, const RowView& view, const RowSteps& steps, Workspace& work);

  RowStatus status() const { return status_; }
  Row& row() { return row_; }

  /// Whether row().work.listed holds the kept tokens, in the total order.
  bool listed() const { return listed_; }

  /// Not for listed rows: whether top_p is on, what it acts on, and whether one token survives it and what follows.
  bool has_top_p() const { return steps_.top_p_share < 1.0; }
  Cutoff before_top_p() const { return before_top_p_; }
  void weigh_before_top_p() { mass_before_top_p_ = row_.mass(before_top_p_); }  // leaves the sums in row().work.sums
  bool contains(Candidate token);

  /// The final set as a cutoff.
  Cutoff cutoff();
  double mass();
  std::int64_t count();

 private:
  RowStatus scan();
  void list();
  void narrow_list();
  Cutoff min_p_cutoff() const;
  double top_p_target();

  const RowSteps steps_;
  Row row_;
  bool listed_;
  RowStatus status_;
  Cutoff before_top_p_ = kKeepFinite;
  std::optional<double> mass_before_top_p_;
  std::optional<Cutoff> cutoff_;
};

}  // namespace tokendraw::cpu
