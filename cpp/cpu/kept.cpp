// SPDX-License-Identifier: Apache-2.0
#include "cpu/kept.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/top_k.h"
#include "cpu/top_p.h"

namespace tokendraw::cpu {
namespace {

// A greedy row has no temperature of its own; its one token weighs the same at any.
double row_temperature(const RowSteps& steps) { return steps.temperature == 0.0 ? 1.0 : steps.temperature; }

bool is_short(const RowSteps& steps) {
  return steps.temperature == 0.0 || (steps.top_k > 0 && steps.top_k <= kMaxListed);
}

}  // namespace

Kept::Kept(const Kernels& kernels, const RowView& view, const RowSteps& steps, Workspace& work)
    : steps_(steps), row_(kernels, view, row_temperature(steps), work), listed_(is_short(steps)), status_(scan()) {
  if (status_ != RowStatus::kValid) return;
  if (listed_) {
    list();
  } else if (steps_.top_k > 0) {
    select_top_k(row_, steps_.top_k, work.candidates);
    before_top_p_ = through(*std::max_element(work.candidates.begin(), work.candidates.end(), before));
  }
}

RowStatus Kept::scan() {
  if (steps_.temperature == 0.0) return row_.scan(Scan::kMaxima);
  if (steps_.top_k > 0) return row_.scan(Scan::kGroupMaxima);
  return row_.scan(steps_.min_p_ratio > 0.0 && !has_top_p() ? Scan::kMaxima : Scan::kSums);
}

void Kept::list() {
  Buffer<Candidate>& listed = row_.work.listed;
  if (steps_.temperature == 0.0) {
    listed.resize(1);
    listed.front() = row_.first();
    return;
  }
  select_top_k(row_, steps_.top_k, listed);
  std::sort(listed.begin(), listed.end(), before);
  narrow_list();
}

void Kept::narrow_list() {
  Buffer<Candidate>& listed = row_.work.listed;
  if (has_top_p()) listed.resize(count_top_p(row_.weigh(listed), steps_.top_p_share));
  const float floor = min_p_cutoff().score;
  while (listed.back().score < floor) listed.resize(listed.size() - 1);
}

Cutoff Kept::min_p_cutoff() const {
  if (!(steps_.min_p_ratio > 0.0)) return kKeepFinite;
  const double bound = static_cast<double>(row_.max()) + log_double(steps_.min_p_ratio) / row_.log_slope();
  if (!(bound > static_cast<double>(-FLT_MAX))) return kKeepFinite;
  float floor = static_cast<float>(bound);
  if (static_cast<double>(floor) < bound) floor = std::nextafter(floor, HUGE_VALF);
  return {std::min(floor, row_.max()), INT64_MAX};
}

double Kept::top_p_target() {
  if (!mass_before_top_p_) weigh_before_top_p();
  return steps_.top_p_share * *mass_before_top_p_;
}

bool Kept::contains(Candidate token) {
  if (cutoff_) return keeps(*cutoff_, token.score, token.token);
  if (!keeps(min_p_cutoff(), token.score, token.token)) return false;
  const double target = top_p_target();
  return row_.mass(tighter(before_top_p_, up_to(token))) < target;
}

Cutoff Kept::cutoff() {
  if (cutoff_) return *cutoff_;
  if (listed_) {
    cutoff_ = through(row_.work.listed.back());
    return *cutoff_;
  }
  Cutoff cutoff = before_top_p_;
  if (has_top_p()) cutoff = select_top_p(row_, before_top_p_, top_p_target(), steps_.top_p_share);
  cutoff_ = tighter(cutoff, min_p_cutoff());
  return *cutoff_;
}

double Kept::mass() {
  if (!listed_) return row_.mass(cutoff());
  const Buffer<float>& weights = row_.weigh(row_.work.listed);
  return std::accumulate(weights.begin(), weights.end(), 0.0);
}

std::int64_t Kept::count() { return listed_ ? row_.work.listed.size() : row_.count(cutoff()); }

}  // namespace tokendraw::cpu
