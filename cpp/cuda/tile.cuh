// SPDX-License-Identifier: Apache-2.0
// Tiles in the registers of a warp. A thread holds, of one group of lines, a few neighbouring lanes: loads are of 16
// bytes, and the weights of a lane are added by one thread in the order that core/weight.h and docs/stream.md give.
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "core/half.h"
#include "core/order.h"
#include "core/weight.h"
#include "cuda/rows.cuh"

namespace tokendraw::cuda {

inline constexpr unsigned kWholeWarp = 0xffffffffu;
inline constexpr int kWarp = 32;
inline constexpr int kGroupsOfLines = kLinesPerTile / kLinesPerGroup;

/// Scores of one thread: of the lines of its group, kWidth lanes each. kWidth 4: a warp holds one tile; 8: two.
template <int kWidth>
struct Part {
  float score[kLinesPerGroup][kWidth];
};

/// The lanes that 16 bytes of a row fill, but at least 4.
template <class Element>
inline constexpr int kWidthOf = sizeof(Element) == 2 ? 8 : 4;

/// The lanes of a look at a row, whatever its elements: 64 scores of a half type leave a thread too few registers.
inline constexpr int kWidthOfLook = 4;

/// Which scores a thread holds.
template <int kWidth>
struct Place {
  static_assert(kWidth == 4 || kWidth == 8, "a warp holds whole tiles");
  static constexpr int kThreadsPerLine = kLanes / kWidth;
  static constexpr int kThreadsPerTile = kThreadsPerLine * kGroupsOfLines;
  static constexpr int kTilesPerWarp = kWarp / kThreadsPerTile;

  int thread = static_cast<int>(threadIdx.x) % kWarp;

  __device__ int tile() const { return thread / kThreadsPerTile; }
  __device__ int group() const { return thread % kThreadsPerTile / kThreadsPerLine; }
  __device__ int lane() const { return thread % kThreadsPerLine * kWidth; }

  /// Of the thread's first score, within its tile; a line further on are 32 more.
  __device__ int token() const { return group() * kLinesPerGroup * kLanes + lane(); }
};

// ---- loads ----

template <class Element, int kCount>
struct Elements {
  Element at[kCount];
};

/// kWidth elements at an address that is a multiple of their size, at most 16, cached where other blocks see it.
template <int kWidth, class Element>
__device__ __forceinline__ Elements<Element, kWidth> load_elements(const Element* from) {
  constexpr int kBytes = kWidth * static_cast<int>(sizeof(Element));
  if constexpr (kBytes == 8) {
    return bit_cast<Elements<Element, kWidth>>(__ldcg(reinterpret_cast<const uint2*>(from)));
  } else {
    constexpr int kVectors = kBytes / 16;
    Elements<uint4, kVectors> raw;
#pragma unroll
    for (int i = 0; i < kVectors; ++i) raw.at[i] = __ldcg(reinterpret_cast<const uint4*>(from) + i);
    return bit_cast<Elements<Element, kWidth>>(raw);
  }
}

template <class Element, int kWidth>
__device__ __forceinline__ void widen_all(const Elements<Element, kWidth>& elements, float (&scores)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) scores[i] = widen(elements.at[i]);
}

/// By words of two: one by one, every second one would first have to be moved.
template <int kWidth>
__device__ __forceinline__ void widen_all(const Elements<Bfloat16, kWidth>& elements, float (&scores)[kWidth]) {
  const auto words = bit_cast<Elements<std::uint32_t, kWidth / 2>>(elements);
#pragma unroll
  for (int i = 0; i < kWidth / 2; ++i) {
    scores[2 * i] = bit_cast<float>(words.at[i] << 16);
    scores[2 * i + 1] = bit_cast<float>(words.at[i] & 0xffff0000u);
  }
}

/// Whether every tile of the row begins at a multiple of 16 bytes.
template <class Element>
__device__ __forceinline__ bool is_aligned(const Element* row) {
  return reinterpret_cast<std::uintptr_t>(row) % 16 == 0;
}

/// The token of a thread's first score; it counts its others from there, which fits an instruction's own bits.
template <int kWidth>
__device__ __forceinline__ std::int64_t first_token(int tile) {
  return std::int64_t{tile} * kTile + Place<kWidth>().token();
}

/// `distance` from a thread's first token, where none beyond the tile counts.
__device__ __forceinline__ int within_tile(std::int64_t distance) {
  return static_cast<int>(distance < -1 ? -1 : distance > kTile ? kTile : distance);
}

/// The scores of this thread in the tile, -inf past the row. `whole`: all tiles of the warp are inside of the row,
/// which is aligned.
template <int kWidth, class Element>
__device__ __forceinline__ Part<kWidth> load_part(const Element* row, std::int64_t vocab, int tile, bool whole) {
  const std::int64_t first = first_token<kWidth>(tile);
  Part<kWidth> part;
  if (whole) {
    Elements<Element, kWidth> lines[kLinesPerGroup];
#pragma unroll
    for (int line = 0; line < kLinesPerGroup; ++line) lines[line] = load_elements<kWidth>(row + first + line * kLanes);
#pragma unroll
    for (int line = 0; line < kLinesPerGroup; ++line) widen_all(lines[line], part.score[line]);
  } else {
    const int end = within_tile(vocab - first);
    const Element* const from = row + first;
#pragma unroll
    for (int line = 0; line < kLinesPerGroup; ++line) {
#pragma unroll
      for (int i = 0; i < kWidth; ++i) {
        const int offset = line * kLanes + i;
        part.score[line][i] = offset < end ? widen(from[offset]) : -INFINITY;
      }
    }
  }
  return part;
}

// ---- maxima ----

/// The larger of two, NaN where either is: what must not be in a row shows in its largest score.
__device__ __forceinline__ float larger_or_nan(float a, float b) {
#if __CUDA_ARCH__ >= 800
  float result;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(result) : "f"(a), "f"(b));
  return result;
#else
  return a > b || a != a ? a : b;
#endif
}

template <int kWidth>
__device__ __forceinline__ float max_of_part(const Part<kWidth>& part) {
  float largest = part.score[0][0];
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) largest = larger_or_nan(part.score[line][i], largest);
  }
  return largest;
}

/// The largest of the values that the threads of a tile hold.
template <int kWidth>
__device__ __forceinline__ float max_of_tile(float largest) {
#pragma unroll
  for (int apart = Place<kWidth>::kThreadsPerTile / 2; apart > 0; apart /= 2) {
    largest = larger_or_nan(__shfl_xor_sync(kWholeWarp, largest, apart), largest);
  }
  return largest;
}

/// `max`, but NaN or +inf of before the edits, which may have hidden it.
__device__ __forceinline__ float valid_or_fault(float max, float unedited) {
  return unedited <= FLT_MAX ? max : unedited;
}

// ---- edits ----

/// edit(score, offset) on every score of the thread, whose token is first_token() + offset.
template <int kWidth, class Edit>
__device__ __forceinline__ void edit_each(Part<kWidth>& part, Edit edit) {
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) edit(part.score[line][i], line * kLanes + i);
  }
}

template <int kWidth>
__device__ __forceinline__ void apply_bias(Part<kWidth>& part, int tile, std::int64_t vocab, const RowEdits& edits,
                                           std::int64_t row) {
  const std::int64_t first = first_token<kWidth>(tile);
  if (edits.bias) {
    const float* const bias = edits.bias + (row * edits.bias_stride + first);
    const int end = within_tile(vocab - first);
    edit_each(part, [&](float& score, int offset) {
      if (offset < end) score += bias[offset];
    });
  }
#pragma unroll 1
  for (int i = 0; i < edits.token_bias_count; ++i) {
    const TokenBias biased = edits.token_bias[i];
    if (biased.token / kTile != tile) continue;
    const int distance = within_tile(biased.token - first);
    edit_each(part, [&](float& score, int offset) { score += offset == distance ? biased.bias : 0.0f; });
  }
  edit_each(part, [](float& score, int) { score = score < FLT_MAX ? score : FLT_MAX; });
}

/// A word of the mask is a line of the row.
template <int kWidth>
__device__ __forceinline__ void apply_allowed_bits(Part<kWidth>& part, int tile, const RowEdits& edits,
                                                   std::int64_t row) {
  const Place<kWidth> place{};
  const std::uint32_t* words = edits.allowed_bits + row * edits.allowed_bits_stride;
  const int first = tile * kLinesPerTile + place.group() * kLinesPerGroup;
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) {
    const std::uint32_t word = first + line < edits.allowed_words ? words[first + line] : 0u;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if ((word >> (place.lane() + i) & 1u) == 0) part.score[line][i] = -INFINITY;
    }
  }
}
static_assert(kLanes == 32, "a word of a mask holds a line");

/// A biased score stays finite.
template <int kWidth>
__device__ __forceinline__ void apply_biases(Part<kWidth>& part, int tile, std::int64_t vocab, const RowEdits& edits,
                                             std::int64_t row) {
  if (edits.bias || edits.token_bias_count > 0) apply_bias(part, tile, vocab, edits, row);
}

template <int kWidth>
__device__ __forceinline__ void apply_mask(Part<kWidth>& part, int tile, std::int64_t vocab, const RowEdits& edits,
                                           std::int64_t row) {
  if (edits.allowed) {
    const std::int64_t first = first_token<kWidth>(tile);
    const std::uint8_t* const allowed = edits.allowed + (row * edits.allowed_stride + first);
    const int end = within_tile(vocab - first);
    edit_each(part, [&](float& score, int offset) {
      if (offset < end && allowed[offset] == 0) score = -INFINITY;
    });
  }
  if (edits.allowed_bits) apply_allowed_bits(part, tile, edits, row);
}

template <int kWidth>
__device__ __forceinline__ void apply_biases(Part<kWidth>&, std::int64_t, std::int64_t, const NoEdits&, std::int64_t) {}

template <int kWidth>
__device__ __forceinline__ void apply_mask(Part<kWidth>&, std::int64_t, std::int64_t, const NoEdits&, std::int64_t) {}

/// In the order of the contract; a forbidden token is -inf whatever its bias.
template <int kWidth, class EditsOfRows>
__device__ __forceinline__ void apply_edits(Part<kWidth>& part, int tile, std::int64_t vocab, const EditsOfRows& edits,
                                            std::int64_t row) {
  apply_biases(part, tile, vocab, edits, row);
  apply_mask(part, tile, vocab, edits, row);
}

/// As apply_edits, on the first `count` of kWidth scores of one line, from the token `first` on.
template <int kWidth>
__device__ __forceinline__ void apply_edits_to_line(float (&scores)[kWidth], int count, std::int32_t first,
                                                    const RowEdits& edits, std::int64_t row) {
  if (edits.bias) {
    const float* bias = edits.bias + (row * edits.bias_stride + first);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) scores[i] += i < count ? bias[i] : 0.0f;
  }
  for (int slot = 0; slot < edits.token_bias_count; ++slot) {
    const TokenBias biased = edits.token_bias[slot];
#pragma unroll
    for (int i = 0; i < kWidth; ++i) scores[i] += first + i == biased.token ? biased.bias : 0.0f;
  }
  if (edits.bias || edits.token_bias_count > 0) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) scores[i] = scores[i] < FLT_MAX ? scores[i] : FLT_MAX;
  }
  if (edits.allowed) {
    const std::uint8_t* allowed = edits.allowed + (row * edits.allowed_stride + first);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if (i < count && allowed[i] == 0) scores[i] = -INFINITY;
    }
  }
  if (edits.allowed_bits) {
    const std::uint32_t* words = edits.allowed_bits + row * edits.allowed_bits_stride;
    const std::uint32_t word = first / kLanes < edits.allowed_words ? words[first / kLanes] >> first % kLanes : 0u;
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if ((word >> i & 1u) == 0) scores[i] = -INFINITY;
    }
  }
}

template <int kWidth>
__device__ __forceinline__ void apply_edits_to_line(float (&)[kWidth], int, std::int32_t, const NoEdits&,
                                                    std::int64_t) {}

/// A cutoff as a thread needs it for the tokens it holds, by their distance from the first of them.
template <int kWidth>
class CutoffOfPart {
 public:
  __device__ CutoffOfPart(Cutoff cutoff, int tile)
      : score_(cutoff.score), last_(within_tile(cutoff.token - first_token<kWidth>(tile))) {}

  __device__ __forceinline__ bool keeps(float score, int offset) const {
    // Without branches, of which there would be one for each token.
    return (score > score_) | ((score == score_) & (offset <= last_));
  }

  /// Whether of equal tokens that the thread holds some may be kept and others not.
  __device__ __forceinline__ bool divides_ties() const { return last_ >= 0 && last_ < kLastOffset; }

  /// The least score that is kept where ties are not divided.
  __device__ __forceinline__ float least() const { return last_ < 0 ? next_above(score_) : score_; }

 private:
  static constexpr int kLastOffset = (kLinesPerGroup - 1) * kLanes + kWidth - 1;

  float score_;
  int last_;
};

/// What the cutoff does not keep becomes -inf.
template <int kWidth>
__device__ __forceinline__ void apply_cutoff(Part<kWidth>& part, int tile, Cutoff cutoff) {
  const CutoffOfPart<kWidth> of_part(cutoff, tile);
  if (of_part.divides_ties()) {  // in one tile of a row at most
    edit_each(part, [&](float& score, int offset) {
      if (!of_part.keeps(score, offset)) score = -INFINITY;
    });
  } else {
    const float least = of_part.least();
    edit_each(part, [&](float& score, int) {
      if (!(score >= least)) score = -INFINITY;
    });
  }
}

/// How many of the thread's tokens the cutoff keeps.
template <int kWidth>
__device__ __forceinline__ int count_kept_of_part(Part<kWidth>& part, int tile, Cutoff cutoff) {
  const CutoffOfPart<kWidth> of_part(cutoff, tile);
  int count = 0;
  edit_each(part, [&](float& score, int offset) { count += of_part.keeps(score, offset) ? 1 : 0; });
  return count;
}

// ---- sums of weights ----

/// What the lanes of a thread's group weigh.
template <bool kPlain, int kWidth>
__device__ __forceinline__ void weigh_group(const Part<kWidth>& part, const WeightConstants& constants,
                                            float (&sums)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) {
    sums[i] = 0.0f;
#pragma unroll
    for (int line = 0; line < kLinesPerGroup; ++line) {
      const auto weight = weight_parts<kPlain>(part.score[line][i], constants);
      sums[i] = fma(weight.fraction, weight.power, sums[i]);
    }
  }
}

/// Takes, of every pair of threads `apart` from each other, the half of the values that is this one's by `upper`.
template <int kCount>
__device__ __forceinline__ void exchange_halves(const float* values, bool upper, int apart, float* own, float* other) {
#pragma unroll
  for (int i = 0; i < kCount / 2; ++i) {
    const float low = values[i];
    const float high = values[i + kCount / 2];
    own[i] = upper ? high : low;
    other[i] = __shfl_xor_sync(kWholeWarp, upper ? low : high, apart);
  }
}

/// Lanes whose totals a thread has after merge_groups().
template <int kWidth>
inline constexpr int kTotals = kWidth / kGroupsOfLines;

/// From the four groups' sums of kWidth lanes each, in four threads, to the totals of a quarter of the lanes in each:
/// groups are added one after another.
template <int kWidth>
__device__ __forceinline__ void merge_groups(const float (&sums)[kWidth], float (&totals)[kTotals<kWidth>]) {
  using Where = Place<kWidth>;
  constexpr int kHalf = kWidth / 2;
  constexpr int kQuarter = kWidth / 4;
  const int group = Where().group();
  const bool odd = group % 2 != 0;
  const bool upper = group >= 2;
  float own[kHalf], across[kHalf];  // of this group, and of the one that is two away
  exchange_halves<kWidth>(sums, upper, 2 * Where::kThreadsPerLine, own, across);
  float from_own[kQuarter], from_next[kQuarter], from_across[kQuarter], from_far[kQuarter];
  exchange_halves<kHalf>(own, odd, Where::kThreadsPerLine, from_own, from_next);
  exchange_halves<kHalf>(across, odd, Where::kThreadsPerLine, from_across, from_far);
#pragma unroll
  for (int i = 0; i < kQuarter; ++i) {
    const float near_even = odd ? from_next[i] : from_own[i];
    const float near_odd = odd ? from_own[i] : from_next[i];
    const float far_even = odd ? from_far[i] : from_across[i];
    const float far_odd = odd ? from_across[i] : from_far[i];
    const float first = upper ? far_even : near_even;
    const float second = upper ? far_odd : near_odd;
    const float third = upper ? near_even : far_even;
    const float fourth = upper ? near_odd : far_odd;
    totals[i] = ((first + second) + third) + fourth;
  }
}

/// The lane whose total merge_groups() leaves in totals[i] of this thread.
template <int kWidth>
__device__ __forceinline__ int lane_of_total(int i) {
  const Place<kWidth> place{};
  return place.lane() + place.group() * kTotals<kWidth> + i;
}

/// Lanes added in float64 by halves, for every thread of the tile: lane i with lane i + 16, then 8, 4, 2, 1.
template <int kWidth>
__device__ __forceinline__ double sum_of_totals(const float (&totals)[kTotals<kWidth>]) {
  constexpr int kCount = kTotals<kWidth>;
  double sums[kCount];
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] = static_cast<double>(totals[i]);
  // Lanes are as far apart as threads of a line, then as groups, then within a thread.
#pragma unroll
  for (int apart = Place<kWidth>::kThreadsPerLine / 2; apart > 0; apart /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += __shfl_xor_sync(kWholeWarp, sums[i], apart);
  }
#pragma unroll
  for (int apart = Place<kWidth>::kThreadsPerTile / 2; apart >= Place<kWidth>::kThreadsPerLine; apart /= 2) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) sums[i] += __shfl_xor_sync(kWholeWarp, sums[i], apart);
  }
  if constexpr (kCount == 2) return sums[0] + sums[1];
  return sums[0];
}

/// The lanes' totals of the thread's tile. kFast: plain constants are worth code of their own, which leaves out two
/// operations of each weight; the others are right for them as well.
template <bool kFast, int kWidth>
__device__ __forceinline__ void lane_totals(const Part<kWidth>& part, const WeightConstants& constants,
                                            float (&totals)[kTotals<kWidth>]) {
  float sums[kWidth];
  // A warp of two tiles may hold one of each kind.
  if (kFast && __all_sync(kWholeWarp, constants.plain)) {
    weigh_group<true>(part, constants, sums);
  } else {
    weigh_group<false>(part, constants, sums);
  }
  merge_groups<kWidth>(sums, totals);
}

/// What the tile weighs in its own units; 0 for a tile that holds nothing finite.
template <bool kFast = true, int kWidth>
__device__ __forceinline__ double sum_of_tile(const Part<kWidth>& part, float tile_max, const Scale& scale) {
  const bool empty = !(tile_max >= -FLT_MAX && tile_max <= FLT_MAX);
  const WeightConstants constants = weight_constants(reference_of(empty ? 0.0f : tile_max, scale), scale);
  float totals[kTotals<kWidth>];
  lane_totals<kFast>(part, constants, totals);
  const double sum = sum_of_totals<kWidth>(totals);
  return empty ? 0.0 : sum;
}

}  // namespace tokendraw::cuda
