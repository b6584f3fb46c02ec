// SPDX-License-Identifier: Apache-2.0
// The tokens that the steps so far have left of a row: a beginning of the total order, less what the row's view has
// removed. A short set is also held as a list, and then the row is not read again.
#pragma once

#include "cpu/row.h"
#include "plan/steps.h"

namespace tokendraw::cpu {

inline constexpr std::int64_t kMaxListed = 1024;

class TokenSet {
 public:
  explicit TokenSet(Row& row) : row_(row) {}

  /// Whether row.work.listed holds the set, by ascending token.
  bool listed() const { return listed_; }

  Candidate first();
  float best_score();
  std::int64_t count();
  double mass();
  double entropy(double mass);
  ScoreMoments moments(double origin);

  /// The least of the set as a cutoff.
  Cutoff cutoff();

  void keep_only(Candidate token);
  void keep_top_k(std::int64_t k, bool all_ties);
  /// The shortest beginning that holds `target`, in units of the row.
  void keep_nucleus(double target, double share, Ties ties);
  /// What both top_k and a nucleus whose ties are its highest ids keep; the first token where they share none.
  void keep_joint(std::int64_t k, bool all_ties, double target, double share);
  /// The narrowest band of scores around the entropy that holds `share` of the mass.
  void keep_typical(double share);
  /// Scores from `bound` on, and the first token.
  void keep_from(double bound);
  /// Of the tokens from `bound` on, and the first, all but the last go.
  void remove_all_but_last_from(double bound);

  /// Takes row.work.listed, which holds all of the set and maybe more by ascending token, for the list.
  void adopt_list();

  /// A list of the whole set, where that is short; no step, only a faster way on.
  void list_if_short();

 private:
  template <class Keep>
  void filter_list(Keep keep);
  void cut(Cutoff cutoff);
  /// The nucleus as a cutoff, for sets that are no list.
  Cutoff nucleus(double target, double share, Ties ties);
  Cutoff top_k_cutoff(std::int64_t k, bool all_ties);
  void remove(Cutoff top);
  void keep_high_ties(Cutoff last);
  std::int64_t count_ties(float score, std::int64_t from, std::int64_t end);
  const Buffer<Candidate>& ordered();
  const Buffer<float>& ordered_weights() { return row_.weigh(ordered()); }
  bool list_from(float floor);

  Row& row_;
  bool listed_ = false;
  bool is_ordered_ = false;
  Cutoff cutoff_ = kKeepFinite;
};

}  // namespace tokendraw::cpu
