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

/// Neighbouring lanes that a thread holds of a line: 16 bytes of float32. Of half types too, 64 scores of which would
/// leave a thread too few registers.
inline constexpr int kWidth = 4;
inline constexpr int kThreadsPerLine = kLanes / kWidth;
static_assert(kThreadsPerLine * kGroupsOfLines == kWarp, "a warp holds a tile");

/// Scores of one thread: of the lines of its group, kWidth lanes each.
struct Part {
  float score[kLinesPerGroup][kWidth];
};

/// Which scores a thread holds.
struct Place {
  int thread = static_cast<int>(threadIdx.x) % kWarp;

  __device__ int group() const { return thread / kThreadsPerLine; }
  __device__ int lane() const { return thread % kThreadsPerLine * kWidth; }

  /// Of the thread's first score, within its tile; a line further on are 32 more.
  __device__ int token() const { return group() * kLinesPerGroup * kLanes + lane(); }
};

// ---- loads ----

template <class Element, int kCount>
struct Elements {
  Element at[kCount];
};

/// What a thread holds of a line, at an address that is a multiple of its size, at most 16; cached where other blocks
/// see it.
template <class Element>
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

template <class Element>
__device__ __forceinline__ void widen_all(const Elements<Element, kWidth>& elements, float (&scores)[kWidth]) {
#pragma unroll
  for (int i = 0; i < kWidth; ++i) scores[i] = widen(elements.at[i]);
}

/// By words of two: one by one, every second one would first have to be moved.
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
__device__ __forceinline__ std::int64_t first_token(int tile) { return std::int64_t{tile} * kTile + Place().token(); }

/// `distance` from a thread's first token, where none beyond the tile counts.
__device__ __forceinline__ int within_tile(std::int64_t distance) {
  return static_cast<int>(distance < -1 ? -1 : distance > kTile ? kTile : distance);
}

/// The scores of this thread in the tile, -inf past the row. `whole`: all of the tile is inside of the row, which is
/// aligned.
template <class Element>
__device__ __forceinline__ Part load_part(const Element* row, std::int64_t vocab, int tile, bool whole) {
  const std::int64_t first = first_token(tile);
  Part part;
  if (whole) {
    Elements<Element, kWidth> lines[kLinesPerGroup];
#pragma unroll
    for (int line = 0; line < kLinesPerGroup; ++line) lines[line] = load_elements(row + first + line * kLanes);
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

__device__ __forceinline__ float max_of_part(const Part& part) {
  float largest = part.score[0][0];
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) largest = larger_or_nan(part.score[line][i], largest);
  }
  return largest;
}

/// The largest of the values of a warp.
__device__ __forceinline__ float max_of_warp(float largest) {
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
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
template <class Edit>
__device__ __forceinline__ void edit_each(Part& part, Edit edit) {
#pragma unroll
  for (int line = 0; line < kLinesPerGroup; ++line) {
#pragma unroll
    for (int i = 0; i < kWidth; ++i) edit(part.score[line][i], line * kLanes + i);
  }
}

__device__ __forceinline__ void apply_bias(Part& part, int tile, std::int64_t vocab, const RowEdits& edits,
                                           std::int64_t row) {
  const std::int64_t first = first_token(tile);
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
__device__ __forceinline__ void apply_allowed_bits(Part& part, int tile, const RowEdits& edits, std::int64_t row) {
  const Place place{};
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
__device__ __forceinline__ void apply_biases(Part& part, int tile, std::int64_t vocab, const RowEdits& edits,
                                             std::int64_t row) {
  if (edits.bias || edits.token_bias_count > 0) apply_bias(part, tile, vocab, edits, row);
}

__device__ __forceinline__ void apply_mask(Part& part, int tile, std::int64_t vocab, const RowEdits& edits,
                                           std::int64_t row) {
  if (edits.allowed) {
    const std::int64_t first = first_token(tile);
    const std::uint8_t* const allowed = edits.allowed + (row * edits.allowed_stride + first);
    const int end = within_tile(vocab - first);
    edit_each(part, [&](float& score, int offset) {
      if (offset < end && allowed[offset] == 0) score = -INFINITY;
    });
  }
  if (edits.allowed_bits) apply_allowed_bits(part, tile, edits, row);
}

__device__ __forceinline__ void apply_biases(Part&, std::int64_t, std::int64_t, const NoEdits&, std::int64_t) {}

__device__ __forceinline__ void apply_mask(Part&, std::int64_t, std::int64_t, const NoEdits&, std::int64_t) {}

/// In the order of the contract; a forbidden token is -inf whatever its bias.
template <class EditsOfRows>
__device__ __forceinline__ void apply_edits(Part& part, int tile, std::int64_t vocab, const EditsOfRows& edits,
                                            std::int64_t row) {
  apply_biases(part, tile, vocab, edits, row);
  apply_mask(part, tile, vocab, edits, row);
}

/// The thread's largest score after the edits, but NaN or +inf of before them, which they may have hidden.
template <class EditsOfRows>
__device__ __forceinline__ float max_of_edited(Part& part, int tile, std::int64_t vocab, const EditsOfRows& edits,
                                               std::int64_t row) {
  const float unedited = max_of_part(part);
  apply_edits(part, tile, vocab, edits, row);
  return valid_or_fault(max_of_part(part), unedited);
}

/// As apply_edits, on the first `count` of kCount scores of one line, from the token `first` on.
template <int kCount>
__device__ __forceinline__ void apply_edits_to_line(float (&scores)[kCount], int count, std::int32_t first,
                                                    const RowEdits& edits, std::int64_t row) {
  if (edits.bias) {
    const float* bias = edits.bias + (row * edits.bias_stride + first);
#pragma unroll
    for (int i = 0; i < kCount; ++i) scores[i] += i < count ? bias[i] : 0.0f;
  }
  for (int slot = 0; slot < edits.token_bias_count; ++slot) {
    const TokenBias biased = edits.token_bias[slot];
#pragma unroll
    for (int i = 0; i < kCount; ++i) scores[i] += first + i == biased.token ? biased.bias : 0.0f;
  }
  if (edits.bias || edits.token_bias_count > 0) {
#pragma unroll
    for (int i = 0; i < kCount; ++i) scores[i] = scores[i] < FLT_MAX ? scores[i] : FLT_MAX;
  }
  if (edits.allowed) {
    const std::uint8_t* allowed = edits.allowed + (row * edits.allowed_stride + first);
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (i < count && allowed[i] == 0) scores[i] = -INFINITY;
    }
  }
  if (edits.allowed_bits) {
    const std::uint32_t* words = edits.allowed_bits + row * edits.allowed_bits_stride;
    const std::uint32_t word = first / kLanes < edits.allowed_words ? words[first / kLanes] >> first % kLanes : 0u;
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if ((word >> i & 1u) == 0) scores[i] = -INFINITY;
    }
  }
}

template <int kCount>
__device__ __forceinline__ void apply_edits_to_line(float (&)[kCount], int, std::int32_t, const NoEdits&,
                                                    std::int64_t) {}

/// A cutoff as a thread needs it for the tokens it holds, by their distance from the first of them.
class CutoffOfPart {
 public:
  __device__ CutoffOfPart(Cutoff cutoff, int tile)
      : score_(cutoff.score), last_(within_tile(cutoff.token - first_token(tile))) {}

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
__device__ __forceinline__ void apply_cutoff(Part& part, int tile, Cutoff cutoff) {
  const CutoffOfPart of_part(cutoff, tile);
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
__device__ __forceinline__ int count_kept_of_part(Part& part, int tile, Cutoff cutoff) {
  const CutoffOfPart of_part(cutoff, tile);
  int count = 0;
  edit_each(part, [&](float& score, int offset) { count += of_part.keeps(score, offset) ? 1 : 0; });
  return count;
}

// ---- sums of weights ----

/// What the lanes of a thread's group weigh.
template <bool kPlain>
__device__ __forceinline__ void weigh_group(const Part& part, const WeightConstants& constants, float (&sums)[kWidth]) {
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

/// From the four groups' sums of four lanes, in four threads, to the total of one of these lanes in each: groups are
/// added one after another.
__device__ __forceinline__ float merge_groups(const float (&sums)[kWidth]) {
  const int group = Place().group();
  const bool odd = group % 2 != 0;
  const bool upper = group >= 2;
  float own[2], across[2];  // of this group, and of the one that is two away
  exchange_halves<4>(sums, upper, 2 * kThreadsPerLine, own, across);
  float from_own, from_next, from_across, from_far;
  exchange_halves<2>(own, odd, kThreadsPerLine, &from_own, &from_next);
  exchange_halves<2>(across, odd, kThreadsPerLine, &from_across, &from_far);
  const float near_even = odd ? from_next : from_own;
  const float near_odd = odd ? from_own : from_next;
  const float far_even = odd ? from_far : from_across;
  const float far_odd = odd ? from_across : from_far;
  const float first = upper ? far_even : near_even;
  const float second = upper ? far_odd : near_odd;
  const float third = upper ? near_even : far_even;
  const float fourth = upper ? near_odd : far_odd;
  return ((first + second) + third) + fourth;
}
static_assert(kGroupsOfLines == 4 && kWidth == 4, "a thread of each group takes one of four lanes");

/// The thread in which merge_groups() leaves the total of a lane.
__device__ __forceinline__ int holder_of_total(int lane) { return lane / kWidth + lane % kWidth * kThreadsPerLine; }

/// Lanes added in float64 by halves, for every thread: lane i with lane i + 16, then 8, 4, 2, 1.
__device__ __forceinline__ double sum_of_totals(float total) {
  auto sum = static_cast<double>(total);
  // Lanes are as far apart as threads of a line, then as groups.
#pragma unroll
  for (int apart = kThreadsPerLine / 2; apart > 0; apart /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, apart);
#pragma unroll
  for (int apart = kWarp / 2; apart >= kThreadsPerLine; apart /= 2) sum += __shfl_xor_sync(kWholeWarp, sum, apart);
  return sum;
}

/// The total of a lane of the tile in each thread. kFast: plain constants are worth code of their own, which leaves out
/// two operations of each weight; the others are right for them as well.
template <bool kFast>
__device__ __forceinline__ float lane_total(const Part& part, const WeightConstants& constants) {
  float sums[kWidth];
  // Constants are the tile's; a vote tells the compiler that all threads go one way.
  if (kFast && __all_sync(kWholeWarp, constants.plain)) {
    weigh_group<true>(part, constants, sums);
  } else {
    weigh_group<false>(part, constants, sums);
  }
  return merge_groups(sums);
}

/// What the tile weighs in its own units; 0 for a tile that holds nothing finite.
template <bool kFast = true>
__device__ __forceinline__ double sum_of_tile(const Part& part, float tile_max, const Scale& scale) {
  const bool empty = !(tile_max >= -FLT_MAX && tile_max <= FLT_MAX);
  const WeightConstants constants = weight_constants(reference_of(empty ? 0.0f : tile_max, scale), scale);
  const double sum = sum_of_totals(lane_total<kFast>(part, constants));
  return empty ? 0.0 : sum;
}

}  // namespace tokendraw::cuda
