// SPDX-License-Identifier: Apache-2.0
// Which tokens of a row the steps keep: the steps of a request, one after another, on one row.
#pragma once

#include <optional>

#include "cpu/token_set.h"

namespace tokendraw::cpu {

class Kept {
 public:
  Kept(const Kernels& kernels, const RowView& view, const RowSteps& steps, Workspace& work);

  RowStatus status() const { return status_; }
  Row& row() { return row_; }

  /// The row before any step.
  const RowView& view() const { return view_; }
  float peak() const { return peak_; }

  /// Whether row().work.listed holds the kept tokens, by ascending token.
  bool listed() const { return set_.listed(); }

  /// Makes a list of the kept tokens where that is cheap.
  void list_if_short();

  /// Where top_p waits to be applied, because a draw seldom needs its cutoff: what it acts on, and whether one token
  /// survives it and what follows.
  bool top_p_waits() const { return waiting_.has_value(); }
  Cutoff before_top_p() { return set_.cutoff(); }
  void weigh_before_top_p() { waiting_->target = waiting_target(); }  // leaves the sums in row().work.sums
  bool contains(Candidate token);

  /// The final set.
  Cutoff cutoff() { return resolved().cutoff(); }
  double mass() { return resolved().mass(); }
  std::int64_t count() { return resolved().count(); }
  double entropy();

 private:
  /// A nucleus that nobody has needed yet, and the cutoff of the min_p that follows it.
  struct Waiting {
    std::optional<double> target;
    Cutoff after = kKeepFinite;
  };

  Scan first_scan() const;
  void apply(const Step* step);
  void apply_temperature();
  void apply_top_p(const Step* step);
  void apply_top_k_top_p();
  void apply_epsilon(double epsilon);
  void apply_eta();
  void apply_top_n_sigma();
  void apply_xtc();
  bool can_wait(const Step* step) const;
  double total_of_top_p() { return steps_.top_p_of_original ? row_.mass_of_all() : set_.mass(); }
  double waiting_target();
  double min_p_distance() const;
  double min_p_bound();
  TokenSet& resolved();

  const RowSteps steps_;
  const RowView view_;
  Row row_;
  TokenSet set_{row_};
  RowStatus status_ = RowStatus::kValid;
  float peak_ = 0.0f;
  bool is_greedy_ = false;
  std::optional<Waiting> waiting_;
};

}  // namespace tokendraw::cpu
