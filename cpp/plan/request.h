// SPDX-License-Identifier: Apache-2.0
// A request as every backend receives it: checked, borrowed, one value per row or one for all.
#pragma once

#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "core/philox.h"
#include "plan/steps.h"
#include "plan/token_bias.h"

namespace tokendraw {

/// One value per row in the memory of a device: its kernels read them, and nobody checks them before.
struct DeviceValues {
  const void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
};

/// One value per row, or one for all rows.
template <class T>
struct PerRow {
  T value{};
  const T* values = nullptr;  // [count], or null for one value
  std::int64_t count = 1;
  DeviceValues device{};  // instead of both, where the logits are on a device

  T operator[](std::int64_t row) const { return values ? values[row] : value; }
  bool varies() const { return values != nullptr; }
};

/// Rows of logits at any leading strides (in elements); the last axis is contiguous.
struct Logits {
  const void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  std::int64_t rows = 0;
  std::int64_t vocab = 0;
  std::vector<std::int64_t> leading_shape;
  std::vector<std::int64_t> leading_strides;
  std::int64_t position_stride = 0;  // from one position of a row to the next, where rows have several

  const void* row(std::int64_t index, std::int64_t position = 0) const;
};

/// Rows of results, likewise.
struct OutputRows {
  void* data = nullptr;
  Dtype dtype = Dtype::kFloat32;
  std::vector<std::int64_t> leading_shape;
  std::vector<std::int64_t> leading_strides;

  void* row(std::int64_t index) const;
};

/// Edits of the logits. Strides are in elements, 0 where one row (or position) serves all; null where there is no such
/// edit.
struct Edits {
  const std::uint8_t* allowed = nullptr;
  std::int64_t allowed_stride = 0;
  std::int64_t allowed_position_stride = 0;
  const std::uint32_t* allowed_bits = nullptr;
  std::int64_t allowed_words = 0;
  std::int64_t allowed_bits_stride = 0;
  std::int64_t allowed_bits_position_stride = 0;
  const float* bias = nullptr;
  std::int64_t bias_stride = 0;
  std::int64_t bias_position_stride = 0;
  const TokenBias* token_bias = nullptr;
  std::int64_t token_bias_count = 0;
};

/// The tokens before each row: row i holds tokens[offsets[i] .. offsets[i + 1]), of which the first prompt_lengths[i]
/// are the prompt.
struct History {
  const std::int32_t* tokens = nullptr;
  const std::int64_t* offsets = nullptr;  // [rows + 1]; null: no history
  PerRow<std::int64_t> prompt_lengths{0};
};

/// What a penalty looks back on.
enum class Past : std::uint8_t { kAll, kOutput };

struct PenaltyParams {
  PerRow<double> repetition{1.0};
  PerRow<double> frequency{0.0};
  PerRow<double> presence{0.0};
  PerRow<double> dry_multiplier{0.0};
  PerRow<double> dry_base{1.75};
  PerRow<std::int64_t> dry_allowed_length{2};
  PerRow<std::int64_t> dry_last_n{-1};
  std::vector<std::int32_t> dry_breakers;
  PerRow<std::int64_t> min_tokens{0};
  std::vector<std::int32_t> eos_tokens;
  Past repetition_past = Past::kAll;
  Past frequency_past = Past::kAll;
  Past presence_past = Past::kAll;
  Past dry_past = Past::kAll;
};

/// The parameters of the steps, in the order of steps.h, and the rules that systems differ in.
struct FilterParams {
  PerRow<double> temperature{1.0};
  PerRow<std::int64_t> top_k{0};
  PerRow<double> top_p{1.0};
  PerRow<double> min_p{0.0};
  PerRow<double> typical_p{1.0};
  PerRow<double> epsilon_cutoff{0.0};
  PerRow<double> eta_cutoff{0.0};
  PerRow<double> top_n_sigma{0.0};
  PerRow<double> xtc_probability{0.0};
  PerRow<double> xtc_threshold{0.1};
  StepOrder steps;
  bool top_k_all_ties = false;
  bool top_p_exceeds = false;  // a nucleus must exceed top_p rather than reach it
  Ties top_p_ties = Ties::kLowest;
  bool top_p_of_original = false;
};

struct Randomness {
  PerRow<std::uint64_t> seed;
  PerRow<std::uint64_t> stream;
  PerRow<std::uint64_t> step;
  bool stream_is_row = false;  // no stream given with one seed for all: the row's index

  RandomSource row(std::int64_t index) const {
    return {seed[index], stream_is_row ? static_cast<std::uint64_t>(index) : stream[index],
            static_cast<std::uint32_t>(step[index])};
  }
};

struct Request {
  Logits logits;
  Edits edits;
  History history;
  PenaltyParams penalties;
  FilterParams params;
  Randomness randomness;
  int threads = 1;
};

/// kIllegal: a parameter in the memory of a device, where nobody could check it before.
enum class RowStatus : std::uint8_t { kValid, kNan, kInfinite, kNothingLeft, kIllegal };

/// One entry per row; a null pointer is an output that nobody asked for. An invalid row gets token -1, NaN, 0.
struct DrawOutputs {
  std::int32_t* tokens = nullptr;
  float* logprobs = nullptr;
  float* raw_logprobs = nullptr;
  float* entropies = nullptr;  // of the kept set
  std::int64_t* ranks = nullptr;
  std::int64_t* kept = nullptr;
  std::int64_t top_count = 0;
  std::int32_t* top_tokens = nullptr;  // [rows, top_count], -1 past the last
  float* top_logprobs = nullptr;       // [rows, top_count], -inf where a filter removed the token
};

/// One entry per row; a null pointer is an output that nobody asked for. NaN and -1 where the row is invalid.
struct ScoreOutputs {
  float* logprobs = nullptr;      // of the given tokens
  std::int64_t* ranks = nullptr;  // tokens above the given ones in the total order
  float* logsumexps = nullptr;
  float* entropies = nullptr;
};

/// What rows are to say, and how a loss weighs it.
struct Targets {
  PerRow<std::int64_t> tokens;  // in the vocabulary, or ignore_index: such a row is not read
  std::int64_t ignore_index = -100;
  double label_smoothing = 0.0;     // the share of the target that all tokens have alike
  double weight = 1.0;              // of a row's loss in what is differentiated: less than 1 in a mean
  const double* mean_of = nullptr;  // instead, in the memory of a device: as many rows as a mean is taken of
  PerRow<double> gradient_scale{1.0};
};

/// What becomes of the losses of rows.
enum class Reduction : std::uint8_t { kMean, kSum, kNone };

struct LossOutputs {
  double* losses = nullptr;  // [rows], 0 where ignored, NaN where the row is invalid
  OutputRows gradient;  // [rows, vocab] of the scaled loss by the logits, whose memory it may be; no data: not asked
};

/// From the distribution of one row to that of another.
enum class Divergence : std::uint8_t { kKullbackLeibler, kJensenShannon };

enum class Transform : std::uint8_t { kScores, kLogprobs, kProbs };

struct KeptRow {
  std::vector<std::int32_t> tokens;  // ascending
  std::vector<float> logprobs;
};

/// Beams that compete for the same continuations: consecutive rows of logits, consecutive entries of what is held per
/// beam, and the slots that their best continuations go to. Groups may share rows.
struct BeamGroup {
  std::int64_t first_row = 0;
  std::int64_t first_beam = 0;
  std::int64_t beams = 0;  // below 2^31
  std::int64_t first_slot = 0;
  std::int64_t slots = 0;
};

/// Noise that continuations are ranked with: of their own, or such that the best of a beam has the beam's priority.
enum class Noise : std::uint8_t { kNone, kOwn, kOfBeam };

struct Beams {
  const BeamGroup* groups = nullptr;
  std::int64_t count = 0;
  const double* scores = nullptr;      // [beams]; a beam at -inf is not read
  DeviceValues device_scores{};        // instead, on a device; groups are in host memory there too
  const double* priorities = nullptr;  // [beams], where the noise is the beam's
  Noise noise = Noise::kNone;
  bool renormalize = false;  // log-probabilities of what mask and filters leave, not of all tokens
};

/// Tokens that somebody proposed for the next positions of every row. The request's logits are those of the target:
/// position 0 before any draft, position i + 1 after draft i.
struct Drafts {
  std::int64_t count = 0;                 // per row at most
  const std::int32_t* tokens = nullptr;   // [rows, count], -1 past the last
  const std::int32_t* parents = nullptr;  // [rows, count]: an earlier draft, or -1 for the root; null: a chain
  Logits logits;                          // position i is what draft i was drawn from; no data where drafts are certain
  bool replacement = false;               // whether siblings were drawn with replacement
};

/// A row's tokens end with -1; an invalid row has -1 after the drafts that were accepted before.
struct VerifyOutputs {
  std::int32_t* tokens = nullptr;    // [rows, count + 1]
  std::int64_t* accepted = nullptr;  // [rows]
};

}  // namespace tokendraw
