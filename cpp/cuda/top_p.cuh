// SPDX-License-Identifier: Apache-2.0
// A token of the shortest beginning of the total order that holds a share of the mass: drawn from all and accepted, and
// only where it is not, from the nucleus itself. Where that ends is guessed by approximate masses and settled by the
// rule: a token is kept while the mass strictly before it, added as docs/stream.md says, is below the target.
#pragma once

#include "cuda/draw.cuh"
#include "cuda/sort.cuh"
#include "plan/thresholds.h"

namespace tokendraw::cuda {

/// Parts of the bracket whose masses are guessed at once.
inline constexpr int kBuckets = 2048;

/// Tokens between the ends of the bracket that are listed rather than guessed further.
inline constexpr int kMaxBetween = 1024;

/// Two beginnings of the order: `inner` weighs less than the target and `outer` does not, so that the last kept token
/// is in `outer` and not in `inner`.
struct Ends {
  Cutoff inner;
  Cutoff outer;
};

/// What the threads of a block tell each other.
struct NucleusScratch {
  struct Buckets {
    std::uint32_t shares[kBuckets];  // of this block: weights in 2^-16 of the bucket's first
    float masses[kBuckets];          // of the team
  };
  union {
    Buckets buckets;
    std::uint64_t listed[kMaxBetween];  // of the team, in the total order
  };
  std::uint64_t found[kMaxBetween];  // of this block
  Ends probe;
  unsigned found_count;
  int guess;
  double masses_of[2];
};

/// Divides a bracket into buckets that follow each other in the order. By scores, evenly or by the floats themselves;
/// of equal scores by token.
class Ruler {
 public:
  __device__ Ruler(const Ends& bracket, float max, float floor, std::int64_t vocab, bool by_floats)
      : bracket_(bracket), highest_(bracket.inner.score < max ? bracket.inner.score : max) {
    const bool has_ties = bracket.outer.token >= 0;
    const float lowest = has_ties ? bracket.outer.score : next_above(bracket.outer.score);
    std::int64_t last = float_rank(highest_) - float_rank(lowest);
    if (last <= 0) {
      kind_ = kTokens;
      first_ = bracket.inner.score == highest_ ? bracket.inner.token + 1 : 0;
      const bool ends_early = bracket.outer.score == highest_ && bracket.outer.token < vocab;
      last = (ends_early ? bracket.outer.token : vocab - 1) - first_;
    }
    while (last >> shift_ >= kBuckets) ++shift_;
    used_ = static_cast<int>(last >> shift_) + 1;
    if (kind_ == kTokens) return;
    const float bottom = lowest < floor ? floor : lowest;
    const float half_range = highest_ * 0.5f - bottom * 0.5f;
    if (by_floats || !(half_range > 1e-30f)) return;
    kind_ = kScores;
    used_ = kBuckets;
    half_width_ = half_range / kBuckets;
    per_half_width_ = kBuckets / half_range;
  }

  /// Buckets that can hold a token.
  __device__ int used() const { return used_; }

  /// Of a token between the ends.
  __device__ int bucket_of(float score, std::int64_t token) const {
    if (kind_ == kScores) {
      const float below = (highest_ * 0.5f - score * 0.5f) * per_half_width_;
      return below < kBuckets - 1 ? static_cast<int>(below) : kBuckets - 1;
    }
    const std::int64_t after = kind_ == kTokens ? token - first_ : float_rank(highest_) - float_rank(score);
    return static_cast<int>(after >> shift_);
  }

  /// The score at which a bucket begins, about.
  __device__ float score_at(int bucket) const {
    if (kind_ == kTokens) return highest_;
    if (kind_ == kFloats) return float_of_rank(float_rank(highest_) - (std::int64_t{bucket} << shift_));
    return (highest_ * 0.5f - static_cast<float>(bucket) * half_width_) * 2.0f;
  }

  /// What comes before a bucket, about.
  __device__ Cutoff before(int bucket) const {
    if (bucket == 0) return bracket_.inner;
    if (bucket == used_) return bracket_.outer;
    const Cutoff edge = kind_ == kTokens ? Cutoff{highest_, first_ + (std::int64_t{bucket} << shift_) - 1}
                                         : Cutoff{score_at(bucket), -1};
    const Cutoff inside = tighter(bracket_.outer, edge);
    return is_inside(bracket_.inner, inside) ? inside : bracket_.inner;
  }

 private:
  enum Kind : int { kScores, kFloats, kTokens };

  __device__ static bool is_inside(Cutoff smaller, Cutoff larger) {
    const Cutoff first = tighter(smaller, larger);
    return first.score == smaller.score && first.token == smaller.token;
  }

  const Ends bracket_;
  const float highest_;
  Kind kind_ = kFloats;
  int used_ = 0;
  int shift_ = 0;
  std::int64_t first_ = 0;
  float half_width_ = 0.0f;
  float per_half_width_ = 0.0f;
};

/// The index at which the running sum of values(0 .. count) reaches `wanted`, or the last one; by one warp.
template <class Values>
__device__ __forceinline__ int crossing_of(Values values, int count, double wanted) {
  const int share = (count + kWarp - 1) / kWarp;
  const int begin = lane_of_warp() * share;
  const int end = begin + share < count ? begin + share : count;
  double own = 0.0;
  for (int i = begin; i < end; ++i) own += static_cast<double>(values(i));
  double through = own;
#pragma unroll
  for (int apart = 1; apart < kWarp; apart *= 2) {
    const double before = __shfl_up_sync(kWholeWarp, through, static_cast<unsigned>(apart));
    if (lane_of_warp() >= apart) through += before;
  }
  int crossing = count - 1;
  double sum = through - own;
  for (int i = begin; i < end; ++i) {
    sum += static_cast<double>(values(i));
    if (sum < wanted) continue;
    crossing = i;
    break;
  }
#pragma unroll
  for (int apart = kWarp / 2; apart > 0; apart /= 2) {
    const int other = __shfl_xor_sync(kWholeWarp, crossing, apart);
    crossing = other < crossing ? other : crossing;
  }
  return crossing;
}

/// The nucleus of one row; all threads of the team take part in every function.
template <class Element, class EditsOfRows>
class Nucleus {
 public:
  using Row = RowReader<Element, EditsOfRows>;

  __device__ Nucleus(const Row& row, const RowUnits& units, const TileTable& table, const Team& team, float max,
                     NucleusScratch& scratch)
      : row_(row),
        units_(units),
        table_(table),
        team_(team),
        max_(max),
        largest_(largest_weight(units, max)),
        scratch_(scratch) {}

  /// Weighs both beginnings of the order, the inner one in table.kept, the outer one after it; `list`: finds the tokens
  /// between them.
  __device__ __forceinline__ void weigh_both(const Ends& probe, bool list) {
    team_.sync();  // the last sums have been read
    if (threadIdx.x == 0) scratch_.found_count = 0;
    __syncthreads();
    for_each_tile_from(
        probe.outer.score, table_, row_.tiles, team_,
        [&](int tile, float max) {
          Part part = row_.tile(tile);
          if (list) list_between(part, tile, probe);
      // The outer one first, as the inner one keeps less.
#pragma unroll 1
          for (int end = 1; end >= 0; --end) {
            apply_cutoff(part, tile, end == 1 ? probe.outer : probe.inner);
            const double sum = units_.scaled(sum_of_tile<false>(part, max, units_.scale), max);
            if (lane_of_warp() == 0) __stcg(table_.kept + end * row_.tiles + tile, sum);
          }
        },
        [&](int tile) {
          __stcg(table_.kept + tile, 0.0);
          __stcg(table_.kept + row_.tiles + tile, 0.0);
        });
    team_.sync();
    if (warp_of_block() < 2) {
      const double mass = sum_in_order(table_.kept + warp_of_block() * row_.tiles, row_.tiles);
      if (lane_of_warp() == 0) scratch_.masses_of[warp_of_block()] = mass;
    }
    __syncthreads();
  }

  /// What the cutoff keeps; leaves the sums of the tiles after table.kept.
  __device__ __forceinline__ double mass_of(Cutoff cutoff) {
    team_.sync();  // the last sums have been read
    const TileTable table = table_.outer(row_.tiles);
    weigh(row_, units_, table, team_, cutoff);
    team_.sync();
    if (warp_of_block() == 0) {
      const double mass = sum_in_order(table.kept, row_.tiles);
      if (lane_of_warp() == 0) scratch_.masses_of[0] = mass;
    }
    __syncthreads();
    return scratch_.masses_of[0];
  }

  /// Where the nucleus of the target ends inside the bracket; leaves what it weighs after table.kept.
  __device__ __forceinline__ Cutoff find(Ends bracket, double inner_mass, double target, float floor) {
    bool listed = false;
    int first = 0, end = 0;  // in the list: the last kept token is among these
    for (int round = 0;; ++round) {
      int guess = 0;
      const Ends& probe = scratch_.probe;
      if (!listed) {
        const Ruler ruler(bracket, max_, floor, row_.vocab, round >= 2);
        share_out(bracket, ruler);
        // Guesses are nearly always right. Should they fail, every other round halves the bracket.
        guess = round >= 4 && round % 2 == 0 ? ruler.used() / 2 : guess_bucket(target - inner_mass, ruler.used());
        set_probe({ruler.before(guess), ruler.before(guess + 1)});
      } else {
        guess = round_in_list_++ == 0 ? guess_listed(end, target - inner_mass) : (first + end) / 2;
        set_probe({before_listed(guess), guess + 1 < count_ ? before_listed(guess + 1) : bracket.outer});
      }
      weigh_both(probe, !listed);
      const double inner = scratch_.masses_of[0], outer = scratch_.masses_of[1];
      if (outer < target) {
        bracket.inner = probe.outer;
        inner_mass = outer;
        first = guess + 1;
      } else if (!(inner < target)) {
        bracket.outer = probe.inner;
        end = guess;
      } else {
        bracket = probe;
        inner_mass = inner;
        if (listed) break;
        listed = gather();
        if (listed && count_ == 1) break;
        end = count_;
      }
    }
    return bracket.outer;
  }

 private:
  __device__ static double largest_weight(const RowUnits& units, float max) {
    return exp2_double(exponent_between({max, 0}, units.reference, units.scale));
  }

  /// For all threads from the next barrier on.
  __device__ void set_probe(const Ends& probe) {
    __syncthreads();  // the last one has been read
    if (threadIdx.x == 0) scratch_.probe = probe;
  }

  __device__ Cutoff before_listed(int i) const { return up_to(candidate_of(scratch_.listed[i])); }

  __device__ __forceinline__ void list_between(Part& part, int tile, const Ends& ends) {
    const CutoffOfPart inner(ends.inner, tile), outer(ends.outer, tile);
    const auto first = static_cast<std::int32_t>(first_token(tile));
    edit_each(part, [&](float& score, int offset) {
      if (!outer.keeps(score, offset) || inner.keeps(score, offset)) return;
      const unsigned slot = atomicAdd(&scratch_.found_count, 1u);
      if (slot < kMaxBetween) scratch_.found[slot] = key_of({score, first + offset});
    });
  }

  /// About 2^((score - reference) log2(e) / T), cut to what is worth adding.
  __device__ float ratio_of(float score, float reference) const {
    const auto slope = static_cast<float>(units_.scale.exact * static_cast<double>(units_.scale.prescale));
    const float exponent = (score * 0.5f - reference * 0.5f) * 2.0f * slope;
    return exponent > -64.0f ? exp2f(exponent < 0.0f ? exponent : 0.0f) : 0.0f;
  }

  /// The mass of every bucket, about.
  __device__ __forceinline__ void share_out(const Ends& bracket, const Ruler& ruler) {
    constexpr float kUnit = 0x1p16f;
    for (int bucket = static_cast<int>(threadIdx.x); bucket < kBuckets; bucket += kThreads)
      scratch_.buckets.shares[bucket] = 0;
    __syncthreads();
    for_each_tile_from(
        bracket.outer.score, table_, row_.tiles, team_,
        [&](int tile, float) {
          Part part = row_.tile(tile);
          const CutoffOfPart inner(bracket.inner, tile), outer(bracket.outer, tile);
          const std::int64_t first = first_token(tile);
          edit_each(part, [&](float& score, int offset) {
            if (!outer.keeps(score, offset) || inner.keeps(score, offset)) return;
            const int bucket = ruler.bucket_of(score, first + offset);
            const float share = ratio_of(score, ruler.score_at(bucket)) * kUnit;
            atomicAdd(&scratch_.buckets.shares[bucket], static_cast<unsigned>(share));
          });
        },
        [](int) {});
    team_.sync();
    for (int bucket = static_cast<int>(threadIdx.x); bucket < kBuckets; bucket += kThreads) {
      std::uint32_t shares = 0;
      for (unsigned rank = 0; rank < team_.size; ++rank) shares += of_rank(scratch_.buckets.shares, rank)[bucket];
      scratch_.buckets.masses[bucket] = static_cast<float>(shares) * (ratio_of(ruler.score_at(bucket), max_) / kUnit);
    }
    __syncthreads();
  }

  __device__ int guess_bucket(double wanted, int buckets) {
    if (warp_of_block() == 0) {
      const int guess =
          crossing_of([&](int bucket) { return scratch_.buckets.masses[bucket]; }, buckets, wanted / largest_);
      if (lane_of_warp() == 0) scratch_.guess = guess;
    }
    __syncthreads();
    return scratch_.guess;
  }

  __device__ int guess_listed(int count, double wanted) {
    if (warp_of_block() == 0) {
      const int guess = crossing_of([&](int i) { return ratio_of(candidate_of(scratch_.listed[i]).score, max_); },
                                    count, wanted / largest_);
      if (lane_of_warp() == 0) scratch_.guess = guess;
    }
    __syncthreads();
    return scratch_.guess;
  }

  /// Lists in every block what all of them have found, in the total order. False where that is too much.
  __device__ __forceinline__ bool gather() {
    unsigned count = 0;
    for (unsigned rank = 0; rank < team_.size; ++rank) count += *of_rank(&scratch_.found_count, rank);
    const bool fits = count <= kMaxBetween;
    if (fits) {
      unsigned from = 0;
      for (unsigned rank = 0; rank < team_.size; ++rank) {
        const unsigned of_block = *of_rank(&scratch_.found_count, rank);
        for (unsigned i = threadIdx.x; i < of_block; i += kThreads) {
          scratch_.listed[from + i] = of_rank(scratch_.found, rank)[i];
        }
        from += of_block;
      }
      count_ = static_cast<int>(count);
      __syncthreads();
      sort_in_block(scratch_.listed, count_);
    }
    team_.sync();
    return fits;
  }

  template <class T>
  __device__ T* of_rank(T* own, unsigned rank) const {
    return team_.size > 1 ? cluster_map(own, rank) : own;
  }

  const Row& row_;
  const RowUnits& units_;
  const TileTable& table_;
  const Team& team_;
  const float max_;
  const double largest_;  // the weight of the largest score
  NucleusScratch& scratch_;
  int count_ = 0;
  int round_in_list_ = 0;
};

/// All tokens below this score hold at most the share 1 - top_p of the largest weight alone.
__device__ __forceinline__ float floor_of_nucleus(const RowUnits& units, float max, std::int64_t vocab, double share) {
  const double shortfall = at_least(1.0 - share, 0x1p-30);
  const double nats = log_double(static_cast<double>(vocab) / shortfall);
  const double bound = static_cast<double>(max) - nats / log_slope(units.scale);
  return bound > static_cast<double>(-FLT_MAX) ? static_cast<float>(bound) : -FLT_MAX;
}

}  // namespace tokendraw::cuda
