// SPDX-License-Identifier: Apache-2.0
#include "cpu/token_set.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "cpu/top_k.h"
#include "cpu/top_p.h"
#include "cpu/typical.h"

namespace tokendraw::cpu {
namespace {

double sum_of(const Buffer<float>& weights) { return std::accumulate(weights.begin(), weights.end(), 0.0); }

/// Where `keep` says so, in place.
template <class Keep>
void filter(Buffer<Candidate>& list, Keep keep) {
  Candidate* end = std::remove_if(list.begin(), list.end(), [&](Candidate c) { return !keep(c); });
  list.resize(end - list.begin());
}

}  // namespace

const Buffer<Candidate>& TokenSet::ordered() {
  Buffer<Candidate>& ordered = row_.work.ordered;
  if (is_ordered_) return ordered;
  const Buffer<Candidate>& listed = row_.work.listed;
  ordered.resize(listed.size());
  std::copy(listed.begin(), listed.end(), ordered.begin());
  std::sort(ordered.begin(), ordered.end(), before);
  is_ordered_ = true;
  return ordered;
}

Candidate TokenSet::first() { return listed_ ? ordered()[0] : row_.first(); }

float TokenSet::best_score() {
  if (!listed_) return row_.max();
  const Buffer<Candidate>& listed = row_.work.listed;
  return std::max_element(listed.begin(), listed.end(), [](Candidate a, Candidate b) { return a.score < b.score; })
      ->score;
}

std::int64_t TokenSet::count() { return listed_ ? row_.work.listed.size() : row_.count(cutoff_); }

double TokenSet::mass() { return listed_ ? sum_of(ordered_weights()) : row_.mass(cutoff_); }

double TokenSet::entropy(double mass) {
  if (!listed_) return row_.entropy(cutoff_, mass);
  const Buffer<Candidate>& tokens = ordered();
  const Buffer<float>& weights = ordered_weights();
  double moment = 0.0;
  for (std::int64_t i = 0; i < tokens.size(); ++i) {
    moment += static_cast<double>(weights[i]) * row_.logprob(tokens[i].score, mass);
  }
  return std::max(-moment / mass, 0.0);
}

ScoreMoments TokenSet::moments(double origin) {
  if (!listed_) return row_.kernels.score_moments(row_.view(), row_.work.summaries.data(), cutoff_, origin);
  ScoreMoments moments{row_.work.listed.size(), 0.0, 0.0};
  for (const Candidate candidate : row_.work.listed) {
    const double distance = static_cast<double>(candidate.score) - origin;
    moments.sum += distance;
    moments.squares += distance * distance;
  }
  return moments;
}

Cutoff TokenSet::cutoff() {
  if (!listed_) return cutoff_;
  const Buffer<Candidate>& tokens = ordered();
  return through(tokens[tokens.size() - 1]);
}

template <class Keep>
void TokenSet::filter_list(Keep keep) {
  filter(row_.work.listed, keep);
  if (is_ordered_) filter(row_.work.ordered, keep);
}

void TokenSet::cut(Cutoff cutoff) {
  if (listed_) return filter_list([&](Candidate c) { return keeps(cutoff, c.score, c.token); });
  cutoff_ = tighter(cutoff_, cutoff);
}

void TokenSet::remove(Cutoff top) {
  Removal removal = row_.view().removal;
  removal.top = top;
  removal.any = true;
  row_.remove(removal);
  if (listed_) filter_list([&](Candidate c) { return !keeps(top, c.score, c.token); });
}

void TokenSet::keep_only(Candidate token) {
  row_.work.listed.resize(1);
  row_.work.listed.front() = token;
  listed_ = true;
  is_ordered_ = false;
}

bool TokenSet::list_from(float floor) {
  Buffer<Candidate>& listed = row_.work.listed;
  listed.resize(kMaxListed + kTile);
  std::int64_t tile = 0;
  const std::int64_t read = row_.kernels.collect(row_.view(), row_.work.summaries.data(), floor, FLT_MAX, &tile,
                                                 listed.data(), listed.size());
  listed.resize(read);
  if (tile < row_.tiles()) return false;
  filter(listed, [&](Candidate c) { return keeps(cutoff_, c.score, c.token); });
  listed_ = listed.size() <= kMaxListed;
  return listed_;
}

void TokenSet::adopt_list() {
  filter(row_.work.listed, [&](Candidate c) { return keeps(cutoff_, c.score, c.token); });
  listed_ = true;
}

void TokenSet::list_if_short() {
  if (!listed_ && cutoff_.score > -FLT_MAX) list_from(cutoff_.score);
}

Cutoff TokenSet::top_k_cutoff(std::int64_t k, bool all_ties) {
  if (listed_ && k >= row_.work.listed.size()) return cutoff();
  if (!listed_) select_top_k(row_, k, row_.work.candidates);
  const Buffer<Candidate>& found = row_.work.candidates;
  const Candidate last = listed_ ? ordered()[k - 1] : *std::max_element(found.begin(), found.end(), before);
  return all_ties ? Cutoff{last.score, INT64_MAX} : through(last);
}

void TokenSet::keep_joint(std::int64_t k, bool all_ties, double target, double share) {
  const Candidate best = first();
  const Removal before = row_.view().removal;
  const Cutoff of_top_k = top_k_cutoff(k, all_ties);
  keep_nucleus(target, share, Ties::kHighest);
  cut(of_top_k);
  if (count() > 0) return;
  row_.remove(before);
  keep_only(best);
}

void TokenSet::keep_top_k(std::int64_t k, bool all_ties) {
  if (listed_) {
    if (k < row_.work.listed.size()) cut(top_k_cutoff(k, all_ties));
    return;
  }
  const bool is_short = k <= kMaxListed;
  Buffer<Candidate>& found = is_short ? row_.work.listed : row_.work.candidates;
  select_top_k(row_, k, found);
  const Candidate last = *std::max_element(found.begin(), found.end(), before);
  if (all_ties) {
    cut({last.score, INT64_MAX});
    if (is_short) list_from(cutoff_.score);
    return;
  }
  if (!is_short) return cut(through(last));
  filter(found, [&](Candidate c) { return keeps(cutoff_, c.score, c.token); });
  listed_ = true;
}

Cutoff TokenSet::nucleus(double target, double share, Ties ties) {
  const Cutoff last = select_top_p(row_, cutoff_, target, share);
  return ties == Ties::kAll ? tighter(cutoff_, {last.score, INT64_MAX}) : last;
}

void TokenSet::keep_nucleus(double target, double share, Ties ties) {
  Cutoff last{};
  if (listed_) {
    last = through(ordered()[count_top_p(ordered_weights(), target) - 1]);
    if (ties == Ties::kAll) last.token = INT64_MAX;
  } else {
    last = nucleus(target, share, ties);
  }
  if (ties == Ties::kHighest) keep_high_ties(last);
  cut(ties == Ties::kHighest ? Cutoff{last.score, INT64_MAX} : last);
}

std::int64_t TokenSet::count_ties(float score, std::int64_t from, std::int64_t end) {
  if (!listed_) {
    const auto count = [&](std::int64_t token) { return row_.count(tighter(cutoff_, {score, token})); };
    return count(end - 1) - count(from - 1);
  }
  return std::count_if(row_.work.listed.begin(), row_.work.listed.end(),
                       [&](Candidate c) { return c.score == score && c.token >= from && c.token < end; });
}

/// As many tokens of the last score as `last` keeps, but from the high ids: the low ones are removed.
void TokenSet::keep_high_ties(Cutoff last) {
  const std::int64_t vocab = row_.view().vocab;
  const std::int64_t surplus = count_ties(last.score, last.token < vocab ? last.token + 1 : vocab, vocab);
  if (surplus == 0) return;
  std::int64_t low = 0;
  std::int64_t end = vocab;  // at least `surplus` ties lie below it, fewer below `low`
  while (end - low > 1) {
    const std::int64_t middle = low + (end - low) / 2;
    (count_ties(last.score, 0, middle) >= surplus ? end : low) = middle;
  }
  Removal removal = row_.view().removal;
  removal.any = true;
  removal.tied_score = last.score;
  removal.tied_end = end;
  row_.remove(removal);
  if (listed_) filter_list([&](Candidate c) { return c.score != last.score || c.token >= end; });
}

void TokenSet::keep_typical(double share) {
  const double mass = this->mass();
  const double center = row_.score_of(-entropy(mass), mass);
  const ScoreBand band =
      listed_ ? select_typical_listed(row_, center, share * mass) : select_typical(row_, cutoff_, center, share * mass);
  cut({band.floor, INT64_MAX});
  if (best_score() > band.ceiling) remove({band.ceiling, -1});
}

void TokenSet::keep_from(double bound) { cut(cutoff_from(bound, best_score())); }

void TokenSet::remove_all_but_last_from(double bound) {
  const Candidate best = first();
  const Cutoff top = cutoff_from(bound, best.score);
  Candidate last{};
  if (listed_) {
    const Buffer<Candidate>& tokens = ordered();
    const auto end =
        std::partition_point(tokens.begin(), tokens.end(), [&](Candidate c) { return keeps(top, c.score, c.token); });
    last = *(end - 1);
  } else {
    last = row_.last(tighter(cutoff_, top));
  }
  if (last.token != best.token) remove(up_to(last));
}

}  // namespace tokendraw::cpu
