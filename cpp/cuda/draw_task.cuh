// SPDX-License-Identifier: Apache-2.0
// What the kernels of a draw share: its parameters, what they leave each other of a row, what they write.
#pragma once

#include "core/philox.h"
#include "cuda/row.cuh"
#include "cuda/top_k.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

enum RealParameter : int { kTemperature, kTopP, kMinP, kRealParameters };
enum IntegerParameter : int { kTopK, kSeed, kStream, kStep, kIntegerParameters };

/// What a draw leaves of a row for top_p and for its description.
struct DrawnRow {
  RowStatus status;
  bool is_nucleus;  // top_p was applied to what is no list
  bool is_open;     // top_p has not had its last word
  float max;
  Candidate token;
  Cutoff cutoff;  // of the kept set; of an open row, of what the steps before top_p left
  Scale scale;
  double mass;    // of an open row: what lies before the token and passes min_p
  double target;  // the share of the mass that top_p keeps
};

struct DrawTask {
  Rows rows;
  Geometry geometry;
  Values<double> reals[kRealParameters];
  Values<std::uint64_t> integers[kIntegerParameters];
  bool stream_is_row = false;
  void* tokens = nullptr;  // int32 or int64
  bool wide_tokens = false;
  RowStatus* status = nullptr;
  std::uint32_t* arrivals = nullptr;
  TileTables tables;
  float* chunks = nullptr;
  DrawnRow* drawn = nullptr;  // [rows], where rows are described or top_p may ask for a nucleus
  bool describes = false;
};

/// What the steps of one row need, with the tolerances of the contract applied.
struct RowParams {
  bool legal;
  double temperature;
  std::int64_t top_k;
  double top_p_share;
  double min_p_ratio;
  RandomSource source;
  Scale scale;

  __device__ bool is_greedy() const { return !(temperature > 0.0); }
  __device__ bool has_top_k() const { return !is_greedy() && top_k > 0; }
  __device__ bool has_top_p() const { return top_p_share < 1.0; }
  __device__ bool lists() const { return has_top_k() && top_k <= kMaxListed; }
  __device__ bool has_nucleus() const { return has_top_p() && !is_greedy() && !lists(); }
  __device__ bool has_min_p() const { return min_p_ratio > 0.0; }

  /// Whether the row is read a second time, as a whole: else what is left is one block's work.
  __device__ bool looks_again() const { return !is_greedy() && !has_top_k() && (has_top_p() || has_min_p()); }

  /// Whether some step, or the draw, asks what all finite tokens weigh.
  __device__ bool needs_sums() const { return !is_greedy() && !has_top_k() && (has_top_p() || !has_min_p()); }
};

/// By one warp. Each thread reads one parameter: they arrive together.
__device__ __forceinline__ void read_params(const DrawTask& task, std::int64_t row, RowParams* params) {
  const int own = lane_of_warp();
  double real = 0.0;
  std::uint64_t integer = 0;
  if (own < kRealParameters) real = task.reals[own].at(row);
  const int own_integer = own - kRealParameters;
  if (own_integer >= 0 && own_integer < kIntegerParameters) integer = task.integers[own_integer].at(row);
  const auto real_of = [&](int parameter) { return __shfl_sync(kWholeWarp, real, parameter); };
  const auto integer_of = [&](int parameter) {
    return static_cast<std::uint64_t>(
        __shfl_sync(kWholeWarp, static_cast<unsigned long long>(integer), kRealParameters + parameter));
  };
  const double temperature = real_of(kTemperature), top_p = real_of(kTopP), min_p = real_of(kMinP);
  const auto top_k = static_cast<std::int64_t>(integer_of(kTopK));
  const std::uint64_t seed = integer_of(kSeed), given_stream = integer_of(kStream), step = integer_of(kStep);
  const std::uint64_t stream = task.stream_is_row ? static_cast<std::uint64_t>(row) : given_stream;
  if (own != 0) return;
  params->legal = is_finite_not_negative(temperature) && is_share(top_p) && is_probability(min_p) &&
                  is_not_negative(top_k) && stream >> kStreamBits == 0 && step >> kStepBits == 0;
  params->temperature = temperature;
  params->top_k = limiting_top_k(top_k, task.rows.vocab);
  params->top_p_share = share_to_reach(top_p, false);
  params->min_p_ratio = lowered(min_p);
  params->source = {seed, stream, static_cast<std::uint32_t>(step)};
  params->scale = make_scale(temperature > 0.0 ? temperature : 1.0);
}

/// By one thread.
__device__ __forceinline__ void write_drawn(const DrawTask& task, std::int64_t row, const DrawnRow& drawn) {
  const std::int32_t token = drawn.token.token;
  if (task.status) task.status[row] = drawn.status;
  if (task.drawn) task.drawn[row] = drawn;
  if (!task.tokens) return;
  if (task.wide_tokens) {
    static_cast<std::int64_t*>(task.tokens)[row] = token;
  } else {
    static_cast<std::int32_t*>(task.tokens)[row] = token;
  }
}

__device__ __forceinline__ void write_invalid(const DrawTask& task, std::int64_t row, RowStatus status) {
  DrawnRow drawn{};
  drawn.status = status;
  drawn.token.token = -1;
  write_drawn(task, row, drawn);
}

__device__ __forceinline__ Cutoff cutoff_of_min_p(const RowParams& params, float max) {
  return cutoff_of_min_p(params.min_p_ratio, params.scale, max);
}

__device__ __forceinline__ bool passes(Cutoff cutoff, Candidate token) {
  return keeps(cutoff, token.score, token.token);
}

/// What lies before the token of a row, and passes min_p where the token does: top_p keeps the token if this weighs
/// less than the target. Where the token does not pass, this is all that min_p keeps.
__device__ __forceinline__ Cutoff kept_before(const DrawnRow& drawn, Cutoff of_min_p) {
  return tighter(drawn.cutoff, passes(of_min_p, drawn.token) ? up_to(drawn.token) : of_min_p);
}

}  // namespace tokendraw::cuda
