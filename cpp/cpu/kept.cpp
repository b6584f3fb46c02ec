// SPDX-License-Identifier: Apache-2.0
#include "cpu/kept.h"

#include <algorithm>
#include <cmath>

#include "plan/thresholds.h"

namespace tokendraw::cpu {

Kept::Kept(const Kernels& kernels, const RowView& view, const RowSteps& steps, Workspace& work)
    : steps_(steps), view_(view), row_(kernels, view, work) {
  const Step* step = steps_.order.begin();
  if (step != steps_.order.end() && *step == Step::kTemperature && steps_.temperature > 0.0) {
    row_.set_temperature(steps_.temperature);
    ++step;
  }
  const bool min_p_alone = steps_.order.end() - step == 1 && *step == Step::kMinP && work.threads == 1;
  status_ = min_p_alone ? row_.scan_near_max(min_p_distance(), work.listed) : row_.scan(first_scan());
  if (status_ != RowStatus::kValid) return;
  peak_ = row_.max();
  if (min_p_alone && work.listed.size() > 0) {
    set_.keep_from(min_p_bound());
    set_.adopt_list();
    return;
  }
  for (; step != steps_.order.end() && !is_greedy_; ++step) apply(step);
}

/// What the first step that reads the row needs of it.
Scan Kept::first_scan() const {
  for (const Step step : steps_.order) {
    switch (step) {
      case Step::kTemperature:
        if (steps_.temperature == 0.0) return Scan::kMaxima;
        break;
      case Step::kMinP:
      case Step::kTopNSigma: return Scan::kMaxima;
      case Step::kTopK: return Scan::kGroupMaxima;
      default: return Scan::kSums;
    }
  }
  return Scan::kSums;
}

void Kept::apply(const Step* step) {
  switch (*step) {
    case Step::kTemperature: return apply_temperature();
    case Step::kTopK: return set_.keep_top_k(steps_.top_k, steps_.top_k_all_ties);
    case Step::kTopP: return apply_top_p(step);
    case Step::kMinP: {
      if (!waiting_) return set_.keep_from(min_p_bound());
      waiting_->after = cutoff_from(min_p_bound(), row_.max());
      return;
    }
    case Step::kTypical: return set_.keep_typical(steps_.typical_share);
    case Step::kEpsilon: return apply_epsilon(steps_.epsilon);
    case Step::kEta: return apply_eta();
    case Step::kTopNSigma: return apply_top_n_sigma();
    case Step::kXtc: return apply_xtc();
    case Step::kTopKTopP: return steps_.top_k > 0 ? apply_top_k_top_p() : apply_top_p(step);
  }
}

void Kept::apply_temperature() {
  if (steps_.temperature > 0.0) return row_.set_temperature(steps_.temperature);
  set_.keep_only(set_.first());
  is_greedy_ = true;
}

/// Whether what follows top_p asks nothing but the largest score.
bool Kept::can_wait(const Step* step) const {
  return !set_.listed() && steps_.top_p_ties != Ties::kHighest &&
         std::all_of(step + 1, steps_.order.end(), [](Step later) { return later == Step::kMinP; });
}

void Kept::apply_top_p(const Step* step) {
  if (can_wait(step)) {
    waiting_ = Waiting{};
  } else {
    set_.keep_nucleus(steps_.top_p_share * total_of_top_p(), steps_.top_p_share, steps_.top_p_ties);
  }
}

/// Both of the set before: top_k takes none of the mass that top_p is a share of.
void Kept::apply_top_k_top_p() {
  const bool has_top_p = steps_.top_p_share < 1.0;
  const double target = has_top_p ? steps_.top_p_share * total_of_top_p() : 0.0;
  if (has_top_p && steps_.top_p_ties == Ties::kHighest) {
    return set_.keep_joint(steps_.top_k, steps_.top_k_all_ties, target, steps_.top_p_share);
  }
  set_.keep_top_k(steps_.top_k, steps_.top_k_all_ties);
  if (has_top_p) set_.keep_nucleus(target, steps_.top_p_share, steps_.top_p_ties);
}

double Kept::min_p_distance() const { return -log_double(steps_.min_p_ratio) / row_.log_slope(); }

double Kept::min_p_bound() { return static_cast<double>(set_.best_score()) - min_p_distance(); }

void Kept::apply_epsilon(double epsilon) { set_.keep_from(row_.score_of(log_double(epsilon), set_.mass())); }

/// Hewitt, Manning and Liang, "Truncation sampling as language model desmoothing" (2022).
void Kept::apply_eta() {
  const double entropy = set_.entropy(set_.mass());
  const double log_eta = std::min(log_double(steps_.eta), 0.5 * log_double(steps_.eta) - entropy);
  set_.keep_from(row_.score_of(log_eta + log_double(kThresholdFactor), set_.mass()));
}

/// Tang et al., "Top-n-sigma: not all logits are you need" (2024).
void Kept::apply_top_n_sigma() {
  const double best = static_cast<double>(set_.best_score());
  const ScoreMoments moments = set_.moments(best);
  const auto count = static_cast<double>(moments.count);
  const double mean = moments.sum / count;
  const double variance = std::max(moments.squares / count - mean * mean, 0.0);
  set_.keep_from(best - steps_.top_n_sigma * std::sqrt(variance));
}

void Kept::apply_xtc() {
  if (!(steps_.xtc_threshold > 0.0)) return set_.remove_all_but_last_from(-HUGE_VAL);
  const double mass = set_.mass();
  const double logprob = log_double(steps_.xtc_threshold);
  // Asked of the best token itself: beside a score of 1e38, the score of a probability is too coarse to tell.
  if (row_.logprob(set_.best_score(), mass) < logprob) return;
  set_.remove_all_but_last_from(row_.score_of(logprob, mass));
}

void Kept::list_if_short() {
  if (!waiting_) set_.list_if_short();
}

double Kept::waiting_target() {
  const double total = steps_.top_p_of_original ? row_.mass_of_all() : 0.0;
  const double mass = set_.mass();  // last: its sums are what the draw reads
  return steps_.top_p_share * (steps_.top_p_of_original ? total : mass);
}

bool Kept::contains(Candidate token) {
  if (!keeps(waiting_->after, token.score, token.token)) return false;
  const Cutoff before = steps_.top_p_ties == Ties::kAll ? Cutoff{token.score, -1} : up_to(token);
  return row_.mass(tighter(set_.cutoff(), before)) < *waiting_->target;
}

double Kept::entropy() {
  const double mass = this->mass();
  return set_.entropy(mass);
}

TokenSet& Kept::resolved() {
  if (!waiting_) return set_;
  if (!waiting_->target) weigh_before_top_p();
  const Waiting waiting = *waiting_;
  waiting_.reset();
  set_.keep_nucleus(*waiting.target, steps_.top_p_share, steps_.top_p_ties);
  set_.keep_from(static_cast<double>(waiting.after.score));
  return set_;
}

}  // namespace tokendraw::cpu
