// SPDX-License-Identifier: Apache-2.0
// Requests to rows: which thread, which workspace, which outputs.
#include "cpu/backend.h"

#include <pthread.h>

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <memory>
#include <new>
#include <optional>
#include <vector>

#include "cpu/beam.h"
#include "cpu/cross_entropy.h"
#include "cpu/divergence.h"
#include "cpu/draw.h"
#include "cpu/float_environment.h"
#include "cpu/isa.h"
#include "cpu/logprobs.h"
#include "cpu/penalties.h"
#include "cpu/threads.h"
#include "cpu/top_k.h"
#include "cpu/verify.h"
#include "plan/plan.h"

namespace tokendraw::cpu {
namespace {

const float kNan = std::nanf("");

/// Logits below which a second thread brings too little: waking one costs about 8 microseconds, and reading 2^18 logits
/// that nobody has touched for a millisecond 58 (greedy) to 260 (top_p) on one AVX-512 core.
constexpr std::int64_t kLogitsPerThread = std::int64_t{1} << 17;

/// Gradients of as many logits leave any cache before they are read again: docs/decisions.md, number 21.
constexpr std::int64_t kGradientPastCache = std::int64_t{1} << 23;

RowSteps steps_of(const Request& request, std::int64_t row) {
  return tokendraw::steps_of(request.params, request.randomness.row(row), row, request.logits.vocab);
}

/// The workspaces of a thread, freed with it. A key rather than thread_local, whose first use on a thread ends the
/// process where there is no memory for it (glibc: __tls_get_addr, __cxa_thread_atexit_impl).
class WorkspaceKey {
 public:
  WorkspaceKey() : exists_(pthread_key_create(&key_, free_kept) == 0) {}

  std::vector<Workspace>& of_this_thread() const {
    if (!exists_) throw std::bad_alloc();
    if (void* kept = pthread_getspecific(key_)) return *static_cast<std::vector<Workspace>*>(kept);
    auto fresh = std::make_unique<std::vector<Workspace>>();
    if (pthread_setspecific(key_, fresh.get()) != 0) throw std::bad_alloc();
    return *fresh.release();
  }

 private:
  static void free_kept(void* kept) { delete static_cast<std::vector<Workspace>*>(kept); }

  pthread_key_t key_{};
  bool exists_;
};

// Made while the library is loaded: the child of a fork during a first call would wait for a function's static.
const WorkspaceKey workspace_key;

/// The workspaces of the calling thread: kept between calls.
std::vector<Workspace>& workspaces(int threads) {
  std::vector<Workspace>& kept = workspace_key.of_this_thread();
  if (kept.size() < static_cast<std::size_t>(threads)) kept.resize(static_cast<std::size_t>(threads));
  return kept;
}

int useful_threads(const Request& request, std::int64_t positions = 1) {
  const std::int64_t useful = request.logits.rows * positions * request.logits.vocab / kLogitsPerThread;
  return static_cast<int>(std::clamp<std::int64_t>(useful, 1, request.threads));
}

/// Which worker sees which row differs from call to call: each must have what any of them needed.
void level(std::vector<Workspace>& spaces, int threads) {
  for (int worker = 1; worker < threads; ++worker) spaces[0].reserve(spaces[static_cast<std::size_t>(worker)]);
  for (int worker = 1; worker < threads; ++worker) spaces[static_cast<std::size_t>(worker)].reserve(spaces[0]);
}

/// work(workspace, view, row) for every row of the request.
template <class Work>
void for_each_view(const Request& request, const Work& work) {
  const int threads = useful_threads(request);
  const auto threads_of_row = std::max(1, static_cast<int>(threads / std::max<std::int64_t>(request.logits.rows, 1)));
  std::vector<Workspace>& spaces = workspaces(threads);
  const auto run = [&](int worker, std::int64_t row) {
    const FloatEnvironment environment;
    Workspace& space = spaces[static_cast<std::size_t>(worker)];
    space.threads = threads_of_row;
    RowView view = view_row(request, row);
    edit_by_history(request, row, space, view);
    work(space, view, row);
  };
  parallel_for(request.logits.rows, threads, run);
  level(spaces, threads);
}

template <class T>
void write(T* out, std::int64_t row, T value) {
  if (out) out[row] = value;
}

void write_invalid(const DrawOutputs& out, std::int64_t row) {
  write(out.tokens, row, std::int32_t{-1});
  write(out.logprobs, row, kNan);
  write(out.raw_logprobs, row, kNan);
  write(out.entropies, row, kNan);
  write(out.ranks, row, std::int64_t{-1});
  write(out.kept, row, std::int64_t{0});
  if (out.top_tokens) std::fill_n(out.top_tokens + row * out.top_count, out.top_count, -1);
  if (out.top_logprobs) std::fill_n(out.top_logprobs + row * out.top_count, out.top_count, kNan);
}

void write_described(const DrawOutputs& out, std::int64_t row, Kept& kept, Candidate token) {
  if (out.logprobs) out.logprobs[row] = processed_logprob(kept, token);
  if (out.kept) out.kept[row] = kept.count();
  if (out.entropies) out.entropies[row] = entropy_of(kept);
  if (out.top_count > 0) {
    write_best(kept, out.top_count, out.top_tokens + row * out.top_count, out.top_logprobs + row * out.top_count);
  }
  if (!out.raw_logprobs && !out.ranks) return;
  const Row& drawn = kept.row();
  const RawToken raw = describe_raw(drawn.kernels, drawn.view(), token.token, drawn.work);
  write(out.raw_logprobs, row, raw.logprob);
  write(out.ranks, row, raw.rank);
}

void write_one_hot(Transform transform, Candidate token, std::int64_t vocab, float* out) {
  const bool probs = transform == Transform::kProbs;
  std::fill_n(out, vocab, probs ? 0.0f : -HUGE_VALF);
  out[token.token] = probs ? 1.0f : 0.0f;
}

void write_row(Kept& kept, Transform transform, float* out) {
  Row& row = kept.row();
  const Cutoff cutoff = kept.cutoff();
  if (transform != Transform::kScores && kept.count() == 1) {
    const Candidate only = kept.listed() ? row.work.listed.front() : row.last(cutoff);
    return write_one_hot(transform, only, row.view().vocab, out);
  }
  if (transform == Transform::kScores) {
    // The slope stays finite, so that the distance 0 of the best token stays 0.
    const double slope = std::min(1.0 / row.temperature(), DBL_MAX);
    return row.kernels.write_scores(row.view(), cutoff, static_cast<double>(kept.peak()), slope, 0.0, out);
  }
  const double mass = kept.mass();
  if (transform == Transform::kLogprobs) {
    row.kernels.write_scores(row.view(), cutoff, row.log_origin(), row.log_slope(), row.log_offset(mass), out);
  } else {
    row.write_probs(cutoff, mass, out);
  }
}

/// Groups of beams, read by one thread or shared out among several where there are fewer groups than threads.
class BeamStep {
 public:
  BeamStep(const Request& request, const Beams& beams, Continuation* found, RowStatus* status)
      : request_(request), beams_(beams), found_(found), status_(status), threads_(useful_threads(request)) {
    std::int64_t widest = 1;
    for (std::int64_t i = 0; i < beams.count; ++i) widest = std::max(widest, beams.groups[i].beams);
    const std::int64_t wanted = (threads_ + beams.count - 1) / std::max<std::int64_t>(beams.count, 1);
    shares_ = std::clamp<std::int64_t>(wanted, 1, widest);
  }

  void run() {
    for (std::int64_t i = 0; i < beams_.count; ++i) {
      std::fill_n(status_ + beams_.groups[i].first_beam, beams_.groups[i].beams, RowStatus::kValid);
    }
    if (shares_ > 1) return run_shares(beams_.count * shares_);
    std::vector<Workspace>& spaces = workspaces(threads_);
    for_each(spaces, beams_.count, [&](Workspace& work, std::int64_t index) {
      const BeamGroup& group = beams_.groups[index];
      read(group, 0, work, work.continuations).write(found_ + group.first_slot, group.slots);
    });
    level(spaces, threads_);
  }

 private:
  /// Each share leaves its best in a workspace of its own; one more is for the merged ones.
  void run_shares(std::int64_t items) {
    std::vector<Workspace>& spaces = workspaces(std::max(threads_, static_cast<int>(items) + 1));
    std::vector<std::optional<BestContinuations>> found(static_cast<std::size_t>(items));
    for_each(spaces, items, [&](Workspace& work, std::int64_t item) {
      Buffer<Continuation>& list = spaces[static_cast<std::size_t>(item)].continuations;
      found[static_cast<std::size_t>(item)].emplace(read(beams_.groups[item / shares_], item % shares_, work, list));
    });
    const FloatEnvironment environment;
    for (std::int64_t index = 0; index < beams_.count; ++index) {
      const BeamGroup& group = beams_.groups[index];
      Buffer<Continuation>& list = spaces[static_cast<std::size_t>(items)].continuations;
      BestContinuations best(group.slots, group.beams, request_.logits.vocab, list);
      for (std::int64_t share = 0; share < shares_; ++share) {
        best.merge(*found[static_cast<std::size_t>(index * shares_ + share)]);
      }
      best.write(found_ + group.first_slot, group.slots);
    }
  }

  /// work(workspace, item), each under our own floating-point mode.
  template <class Work>
  void for_each(std::vector<Workspace>& spaces, std::int64_t items, const Work& work) {
    parallel_for(items, threads_, [&](int worker, std::int64_t item) {
      const FloatEnvironment environment;
      work(spaces[static_cast<std::size_t>(worker)], item);
    });
  }

  BestContinuations read(const BeamGroup& group, std::int64_t share, Workspace& work, Buffer<Continuation>& list) {
    order_beams(beams_.scores + group.first_beam, group.beams, share, shares_, work.beams);
    BestContinuations best(group.slots, work.beams.size(), request_.logits.vocab, list);
    work.threads = 1;
    for (std::int64_t i = 0; i < work.beams.size(); ++i) {
      const std::int32_t beam = work.beams[i];
      status_[group.first_beam + beam] = read_beam(group, beam, work, best);
    }
    return best;
  }

  RowStatus read_beam(const BeamGroup& group, std::int32_t beam, Workspace& work, BestContinuations& best) {
    const std::int64_t index = group.first_row + beam;
    RowView view = view_row(request_, index);
    edit_by_history(request_, index, work, view);
    const RowSteps steps = steps_of(request_, index);
    const double score = beams_.scores[group.first_beam + beam];
    if (view.masked() || steps.order.count > 0 || beams_.noise != Noise::kNone) {
      return read_edited(group, beam, view, steps, work, best);
    }
    Row row(*active_isa().kernels, view, work);
    const RowStatus status = row.scan(Scan::kSumsAndGroupMaxima);
    if (status == RowStatus::kValid) best.add(row, Scorer(row, row.mass(kKeepFinite), score), beam);
    return status;
  }

  /// The row of a beam whose tokens are not all kept, or ranked with noise.
  RowStatus read_edited(const BeamGroup& group, std::int32_t beam, const RowView& view, const RowSteps& steps,
                        Workspace& work, BestContinuations& best) {
    const double score = beams_.scores[group.first_beam + beam];
    Scorer of_all;
    if (!beams_.renormalize) {
      Row whole(*active_isa().kernels, view.without_mask(), work);
      const RowStatus status = whole.scan(Scan::kSums);
      if (status != RowStatus::kValid) return status;
      if (has_temperature(steps)) whole.set_temperature(steps.temperature);
      of_all = Scorer(whole, whole.mass(kKeepFinite), score);
    }
    Kept kept(*active_isa().kernels, view, steps, work);
    if (kept.status() != RowStatus::kValid) return kept.status();
    const Scorer score_of = beams_.renormalize ? Scorer(kept.row(), kept.mass(), score) : of_all;
    if (beams_.noise == Noise::kNone) {
      best.add(kept, score_of, beam);
    } else {
      const double priority = beams_.priorities ? beams_.priorities[group.first_beam + beam] : 0.0;
      best.add_noisy(kept, score_of, beam, {beams_.noise, request_.randomness.row(group.first_row + beam), priority});
    }
    return RowStatus::kValid;
  }

  static bool has_temperature(const RowSteps& steps) {
    return steps.temperature > 0.0 &&
           std::find(steps.order.begin(), steps.order.end(), Step::kTemperature) != steps.order.end();
  }

  const Request& request_;
  const Beams& beams_;
  Continuation* const found_;
  RowStatus* const status_;
  const int threads_;
  std::int64_t shares_ = 1;
};

class CpuBackend final : public Backend {
 public:
  void draw(const Request& request, const DrawOutputs& out, RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    for_each_view(request, [&](Workspace& work, const RowView& view, std::int64_t row) {
      const RandomSource source = request.randomness.row(row);
      Kept kept(kernels, view, steps_of(request.params, source, row, view.vocab), work);
      status[row] = kept.status();
      if (kept.status() != RowStatus::kValid) return write_invalid(out, row);
      const Candidate token = draw_token(kept, source);
      write(out.tokens, row, token.token);
      write_described(out, row, kept, token);
    });
  }

  void score(const Request& request, const PerRow<std::int64_t>& tokens, const ScoreOutputs& out,
             RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    for_each_view(request, [&](Workspace& work, const RowView& view, std::int64_t index) {
      Row row(kernels, view, work);
      const double temperature = request.params.temperature[index];
      const bool greedy = temperature <= 0.0;
      if (!greedy) row.set_temperature(temperature);
      status[index] = row.scan(greedy ? Scan::kMaxima : Scan::kSums);
      const auto token = static_cast<std::int32_t>(tokens[index]);
      if (status[index] != RowStatus::kValid) {
        write_invalid_scores(out, index);
      } else if (greedy) {
        write_greedy_scores(row, token, out, index);
      } else {
        write_scores(row, token, out, index);
      }
    });
  }

  void cross_entropy(const Request& request, const Targets& targets, const LossOutputs& out,
                     RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    const bool past_cache =
        request.logits.rows * request.logits.vocab >= kGradientPastCache && out.gradient.data != request.logits.data;
    for_each_view(request, [&](Workspace& work, const RowView& view, std::int64_t index) {
      GradientRow gradient{nullptr, out.gradient.dtype, past_cache};
      if (out.gradient.data) gradient.data = out.gradient.row(index);
      const std::int64_t token = targets.tokens[index];
      if (token == targets.ignore_index) {
        status[index] = RowStatus::kValid;
        out.losses[index] = 0.0;
        if (gradient.data) fill_row(gradient, view.vocab, 0.0f);
        return;
      }
      Row row(kernels, view, work);
      row.set_temperature(request.params.temperature[index]);
      const Target target{static_cast<std::int32_t>(token), targets.label_smoothing,
                          targets.gradient_scale[index] * targets.weight};
      status[index] = find_loss(row, target, gradient, out.losses + index);
    });
  }

  void diverge(const Request& request, const Logits& other, Divergence kind, float* out, RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    const int threads = useful_threads(request, 2);
    std::vector<Workspace>& spaces = workspaces(2 * threads);  // of a row and of the other
    parallel_for(request.logits.rows, threads, [&](int worker, std::int64_t index) {
      const FloatEnvironment environment;
      const auto first = static_cast<std::size_t>(2 * worker);
      spaces[first].threads = spaces[first + 1].threads = 1;
      const RowView view = view_row(request, index);
      RowView other_view = view.without_edits();
      other_view.logits = other.row(index);
      other_view.dtype = other.dtype;
      Row row(kernels, view, spaces[first]);
      Row other_row(kernels, other_view, spaces[first + 1]);
      row.set_temperature(request.params.temperature[index]);
      other_row.set_temperature(request.params.temperature[index]);
      status[index] = find_divergence(row, other_row, kind, out + index);
    });
    level(spaces, 2 * threads);
  }

  void transform(const Request& request, Transform transform, float* out, RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    for_each_view(request, [&](Workspace& work, const RowView& view, std::int64_t row) {
      Kept kept(kernels, view, steps_of(request, row), work);
      status[row] = kept.status();
      float* to = out + row * view.vocab;
      if (kept.status() != RowStatus::kValid) {
        std::fill_n(to, view.vocab, kNan);
      } else {
        write_row(kept, transform, to);
      }
    });
  }

  void list_kept(const Request& request, KeptRow* out, RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    for_each_view(request, [&](Workspace& work, const RowView& view, std::int64_t row) {
      Kept kept(kernels, view, steps_of(request, row), work);
      status[row] = kept.status();
      if (kept.status() == RowStatus::kValid) out[row] = cpu::list_kept(kept);
    });
  }

  void top_k(const Request& request, std::int64_t k, float* values, std::int32_t* tokens, RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    for_each_view(request, [&](Workspace& work, const RowView& view, std::int64_t row) {
      Row scanned(kernels, view, work);
      status[row] = scanned.scan(Scan::kGroupMaxima);
      const bool valid = status[row] == RowStatus::kValid;
      std::fill_n(values + row * k, k, valid ? -HUGE_VALF : kNan);
      std::fill_n(tokens + row * k, k, -1);
      if (!valid || k == 0) return;
      Buffer<Candidate>& best = work.candidates;
      select_top_k(scanned, k, best);
      std::sort(best.begin(), best.end(), before);
      for (std::int64_t i = 0; i < best.size(); ++i) {
        values[row * k + i] = best[i].score;
        tokens[row * k + i] = best[i].token;
      }
    });
  }

  void top_continuations(const Request& request, const Beams& beams, Continuation* found, RowStatus* status) override {
    BeamStep(request, beams, found, status).run();
  }

  void verify(const Request& request, const Drafts& drafts, const VerifyOutputs& out, RowStatus* status) override {
    const Kernels& kernels = *active_isa().kernels;
    const int threads = useful_threads(request, drafts.count + 1);
    std::vector<Workspace>& spaces = workspaces(2 * threads);  // of a target and of a draft row
    parallel_for(request.logits.rows, threads, [&](int worker, std::int64_t row) {
      const FloatEnvironment environment;
      const auto first = static_cast<std::size_t>(2 * worker);
      spaces[first].threads = spaces[first + 1].threads = 1;
      status[row] = verify_row(kernels, request, drafts, row, spaces[first], spaces[first + 1], out);
    });
    level(spaces, 2 * threads);
  }
};

}  // namespace

Backend& backend() {
  static CpuBackend instance;
  return instance;
}

}  // namespace tokendraw::cpu
