// SPDX-License-Identifier: Apache-2.0
// The first k tokens of a row's total order, by a block that has read the row once and kept the largest score of every
// chunk. k chunks reach the k-th largest of these maxima, so k scores do: only chunks that reach it are read again.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cuda/block.cuh"
#include "cuda/row.cuh"

namespace tokendraw::cuda {

/// A chunk is what one thread holds of a tile; chunk c of a row is part c % kChunksPerTile of tile c / kChunksPerTile.
inline constexpr int kChunksPerTile = kWarp;

__host__ __device__ constexpr int count_chunks(std::int64_t vocab) {
  return static_cast<int>((vocab + kTile - 1) / kTile) * kChunksPerTile;
}

/// One row by chunks. Tokens and chunks fit 32 bits, as a vocabulary does.
template <class Element, class EditsOfRows>
struct RowOfChunks {
  static constexpr int kLinesAtOnce = std::is_same_v<EditsOfRows, NoEdits> ? 4 : 1;

  const Element* logits;
  std::int32_t vocab;
  std::int64_t index;
  const EditsOfRows& edits;

  __device__ explicit RowOfChunks(const RowReader<Element, EditsOfRows>& row)
      : logits(row.logits), vocab(static_cast<std::int32_t>(row.vocab)), index(row.index), edits(row.edits) {}

  __device__ int chunks() const { return count_chunks(vocab); }

  /// visit(score, token) of every token of kLines lines of a chunk from `line` on. Loads go out before the first visit.
  template <int kLines, class Visit>
  __device__ __forceinline__ void for_each_score(int chunk, int line, Visit visit) const {
    const Place place{chunk % kChunksPerTile};
    const std::int32_t first = chunk / kChunksPerTile * kTile + place.token() + line * kLanes;
    Elements<Element, kWidth> elements[kLines];
#pragma unroll
    for (int i = 0; i < kLines; ++i) elements[i] = load(first + i * kLanes);
#pragma unroll
    for (int i = 0; i < kLines; ++i) visit_line(elements[i], first + i * kLanes, visit);
  }

 private:
  /// How many of kWidth tokens from `first` on are in the row.
  __device__ int count_from(std::int32_t first) const { return min(max(vocab - first, 0), kWidth); }

  __device__ __forceinline__ Elements<Element, kWidth> load(std::int32_t first) const {
    const int count = count_from(first);
    if (count == kWidth && is_aligned(logits)) return load_elements(logits + first);
    Elements<Element, kWidth> elements{};
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if (i < count) elements.at[i] = logits[first + i];
    }
    return elements;
  }

  template <class Visit>
  __device__ __forceinline__ void visit_line(const Elements<Element, kWidth>& elements, std::int32_t first,
                                             Visit visit) const {
    float scores[kWidth];
    widen_all(elements, scores);
    const int count = count_from(first);
    apply_edits_to_line(scores, count, first, edits, index);
#pragma unroll
    for (int i = 0; i < kWidth; ++i) {
      if (i < count) visit(scores[i], first + i);
    }
  }
};

/// A row without a beginning of its order.
template <class Row>
struct RestOfRow {
  static constexpr int kLinesAtOnce = Row::kLinesAtOnce;

  const Row& all;
  Cutoff taken;
  std::int32_t vocab = all.vocab;

  __device__ int chunks() const { return all.chunks(); }

  template <int kLines, class Visit>
  __device__ __forceinline__ void for_each_score(int chunk, int line, Visit visit) const {
    all.template for_each_score<kLines>(chunk, line, [&](float score, std::int32_t token) {
      if (!keeps(taken, score, token)) visit(score, token);
    });
  }
};

/// The first look at a row: the share of block `rank` of `blocks` in maxima [chunks], in shared or global memory; NaN
/// or +inf where a chunk holds one.
template <class Element, class EditsOfRows>
__device__ void scan_chunks(const RowOfChunks<Element, EditsOfRows>& row, float* maxima, unsigned rank,
                            unsigned blocks) {
  const int step = static_cast<int>(blocks) * kThreads;
  for (int chunk = static_cast<int>(rank) * kThreads + static_cast<int>(threadIdx.x); chunk < row.chunks();
       chunk += step) {
    const int tile = chunk / kChunksPerTile;
    const bool whole = is_aligned(row.logits) && std::int64_t{tile + 1} * kTile <= row.vocab;
    Part part = load_part(row.logits, row.vocab, tile, whole);
    maxima[chunk] = max_of_edited(part, tile, row.vocab, row.edits, row.index);
  }
}

/// The largest score of the row, in every thread; NaN where it holds one.
__device__ inline float max_of_chunks(const float* maxima, int chunks) {
  float max = -INFINITY;
  for (int chunk = static_cast<int>(threadIdx.x); chunk < chunks; chunk += kThreads) {
    max = larger_or_nan(maxima[chunk], max);
  }
  return merged_in_block(max, [](float a, float b) { return larger_or_nan(a, b); });
}

// ---- keys: what a selection counts by ----

/// Scores as integers of the same order; both zeros are one.
__device__ __forceinline__ std::uint32_t key_of(float score) {
  return static_cast<std::uint32_t>(float_rank(score)) + 0x80000000u;
}

__device__ __forceinline__ float score_of(std::uint32_t key) {
  return float_of_rank(static_cast<std::int64_t>(key) - 0x80000000LL);
}

inline constexpr std::uint32_t kLowestFiniteKey = 0x80000000u - 0x7f7fffffu;

/// Of equal scores the lower token is the better one.
__device__ __forceinline__ std::uint32_t key_of_tie(std::int32_t token) { return ~static_cast<std::uint32_t>(token); }

/// Keys between which the k-th best lies.
struct KeyBracket {
  std::uint32_t low;
  std::uint32_t high;
  std::uint32_t above;    // how many keys lie above `high`: fewer than k
  std::uint32_t through;  // how many are at least `low`; fewer than k where there are no more
};

inline constexpr int kMaxListed = 1024;           // the largest k that is a list
inline constexpr int kMaxFound = 2 * kMaxListed;  // tokens that may be left when they are listed
inline constexpr int kBins = 2048;
inline constexpr int kBinsPerThread = kBins / kThreads;

inline constexpr int kMaxCounted = 128;  // tokens that are ordered by counting
static_assert(2 * kMaxCounted <= kThreads, "two threads for each");

/// A few listed tokens by ascending token: those of a tile are neighbours, a run.
struct RunsOfTokens {
  Candidate tokens[kMaxCounted];
  double sums[kMaxCounted];    // of runs, in units of the row
  int begin[kMaxCounted + 1];  // of runs
  int count;                   // of runs

  __device__ bool is_one(int run) const { return begin[run + 1] - begin[run] == 1; }
  __device__ Candidate first(int run) const { return tokens[begin[run]]; }
};

/// What a selection works in: shared memory, 24 KiB. `list` is its result.
struct TopKSpace {
  Candidate list[kMaxFound];
  union {
    std::uint32_t bins[kBins];
    std::uint32_t chunks[kMaxFound];  // those that are read again
    RunsOfTokens runs;                // of what a draw is from
  };
  std::uint32_t count;
  KeyBracket bracket;
};

/// The part of a bracket that the k-th best key lies in: one of up to kBins equal parts. for_each_key(visit) calls
/// visit(key) of this thread's keys; those outside of the bracket are ignored.
template <class ForEachKey>
__device__ KeyBracket narrowed(KeyBracket bracket, std::uint32_t k, TopKSpace& space, ForEachKey for_each_key) {
  const std::uint32_t range = bracket.high - bracket.low;
  const int bits = 32 - __clz(static_cast<int>(range));
  const int shift = bits > 11 ? bits - 11 : 0;
  static_assert(kBins == 1 << 11, "eleven bits are left of a distance");
  for (int bin = static_cast<int>(threadIdx.x); bin < kBins; bin += kThreads) space.bins[bin] = 0;
  __syncthreads();
  for_each_key([&](std::uint32_t key) {
    const std::uint32_t distance = bracket.high - key;
    if (distance <= range) atomicAdd(&space.bins[distance >> shift], 1u);
  });
  __syncthreads();
  const int first = static_cast<int>(threadIdx.x) * kBinsPerThread;
  std::uint32_t own = 0;
  for (int i = 0; i < kBinsPerThread; ++i) own += space.bins[first + i];
  std::uint32_t above = bracket.above + count_before_in_block(own);
  const bool holds = above < k && above + own >= k;
  const bool is_last = threadIdx.x == kThreads - 1;
  if (holds) {
    int bin = first;
    while (above + space.bins[bin] < k) above += space.bins[bin++];
    const std::uint32_t high = bracket.high - (static_cast<std::uint32_t>(bin) << shift);
    const std::uint32_t width = (1u << shift) - 1;
    space.bracket = {high - bracket.low > width ? high - width : bracket.low, high, above, above + space.bins[bin]};
  } else if (is_last && above + own < k) {
    space.bracket = {bracket.low, bracket.high, bracket.above, above + own};
  }
  __syncthreads();
  return space.bracket;
}

// ---- scores ----

/// visit(chunk) of every chunk of this thread that reaches `floor`.
template <class Row, class Visit>
__device__ __forceinline__ void for_each_chunk(const Row& row, const float* maxima, float floor, Visit visit) {
  for (int chunk = static_cast<int>(threadIdx.x); chunk < row.chunks(); chunk += kThreads) {
    if (maxima[chunk] >= floor) visit(chunk);
  }
}

/// visit(score, token) of every token of the chunks of this thread that reach `floor`.
template <class Row, class Visit>
__device__ __forceinline__ void for_each_score_of_chunks(const Row& row, const float* maxima, float floor,
                                                         Visit visit) {
  for_each_chunk(row, maxima, floor, [&](int chunk) {
#pragma unroll 1
    for (int line = 0; line < kLinesPerGroup; line += Row::kLinesAtOnce) {
      row.template for_each_score<Row::kLinesAtOnce>(chunk, line, visit);
    }
  });
}

/// A part of the bracket by a look at all tokens in it.
template <class Row>
__device__ KeyBracket narrowed_by_scores(const Row& row, const float* maxima, KeyBracket bracket, std::uint32_t k,
                                         TopKSpace& space) {
  return narrowed(bracket, k, space, [&](auto visit) {
    for_each_score_of_chunks(row, maxima, score_of(bracket.low),
                             [&](float score, std::int32_t) { visit(key_of(score)); });
  });
}

/// The cutoff of the first `count` tokens of exactly this score.
template <class Row>
__device__ Cutoff cutoff_of_ties(const Row& row, const float* maxima, float score, std::uint32_t count,
                                 TopKSpace& space) {
  KeyBracket bracket{key_of_tie(row.vocab - 1), key_of_tie(0), 0, 0};
  do {
    bracket = narrowed(bracket, count, space, [&](auto visit) {
      for_each_score_of_chunks(row, maxima, score, [&](float other, std::int32_t token) {
        if (other == score) visit(key_of_tie(token));
      });
    });
  } while (bracket.low < bracket.high);
  return {score, static_cast<std::int64_t>(~bracket.low)};
}

/// A finite score that k chunks reach, or all that are not empty. As many threads as k reach the least of their best.
template <class Row>
__device__ float floor_of_chunks(const Row& row, const float* maxima, float max, std::uint32_t k) {
  const auto smaller = [](float a, float b) { return a < b ? a : b; };
  float best = -INFINITY;
  float least = max;
  for_each_chunk(row, maxima, -FLT_MAX, [&](int chunk) {
    best = larger(maxima[chunk], best);
    least = smaller(maxima[chunk], least);
  });
  const float floor = merged_in_block(best, smaller);
  return k <= kThreads && floor >= -FLT_MAX ? floor : merged_in_block(least, smaller);
}

/// A bound of the k-th best score: its bracket of chunk maxima, narrow enough to leave few chunks.
template <class Row>
__device__ KeyBracket bracket_of_chunks(const Row& row, const float* maxima, float max, std::uint32_t k,
                                        TopKSpace& space) {
  KeyBracket bracket{key_of(floor_of_chunks(row, maxima, max, k)), key_of(max), 0, 0};
  do {
    bracket = narrowed(bracket, k, space, [&](auto visit) {
      for_each_chunk(row, maxima, score_of(bracket.low), [&](int chunk) { visit(key_of(maxima[chunk])); });
    });
  } while (bracket.low < bracket.high && bracket.through > k + k / 4 + 16);
  return bracket;
}

/// All scores from which the k-th best is to be sought: those that reach the bracket of their chunks.
__device__ __forceinline__ KeyBracket bracket_of_scores(const KeyBracket& of_chunks, float max, std::uint32_t k) {
  return {of_chunks.through < k ? kLowestFiniteKey : of_chunks.low, key_of(max), 0, 0};
}

/// Keeps at least the first k tokens in the bracket and at most `limit`; all finite ones where there are fewer than k.
template <class Row>
__device__ __forceinline__ Cutoff cutoff_in(const Row& row, const float* maxima, KeyBracket bracket, std::uint32_t k,
                                            std::uint32_t limit, TopKSpace& space) {
  do {
    bracket = narrowed_by_scores(row, maxima, bracket, k, space);
  } while (bracket.low < bracket.high && bracket.through > limit);
  if (bracket.through < k) return kKeepFinite;
  if (bracket.through <= limit) return {score_of(bracket.low), INT64_MAX};
  return cutoff_of_ties(row, maxima, score_of(bracket.low), k - bracket.above, space);
}

/// Keeps the first k tokens of the order, all finite ones where there are fewer; the token is INT64_MAX where none of
/// its equals is left out. For any k, in up to six looks at what is not below the bound of the chunks.
template <class Row>
__device__ Cutoff cutoff_of_top_k(const Row& row, const float* maxima, float max, std::uint32_t k, TopKSpace& space) {
  const KeyBracket bracket = bracket_of_scores(bracket_of_chunks(row, maxima, max, k, space), max, k);
  return cutoff_in(row, maxima, bracket, k, k, space);
}

// ---- lists ----

/// Adds a token to the list, which holds the first kMaxFound to come; space.count goes on.
__device__ __forceinline__ void add_to_list(TopKSpace& space, float score, std::int32_t token) {
  const std::uint32_t slot = atomicAdd(&space.count, 1u);
  if (slot < kMaxFound) space.list[slot] = {score, token};
}

__device__ __forceinline__ void clear_count(TopKSpace& space) {
  if (threadIdx.x == 0) space.count = 0;
  __syncthreads();
}

/// Lists the tokens that reach `floor`, where no more than kMaxFound chunks do: every thread takes a part of one, whose
/// loads go out together.
template <class Row>
__device__ void list_few(const Row& row, const float* maxima, float floor, TopKSpace& space) {
  constexpr int kLines = Row::kLinesAtOnce;
  constexpr std::uint32_t kParts = kLinesPerGroup / kLines;
  clear_count(space);
  for_each_chunk(row, maxima, floor,
                 [&](int chunk) { space.chunks[atomicAdd(&space.count, 1u)] = static_cast<std::uint32_t>(chunk); });
  __syncthreads();
  const std::uint32_t parts = space.count * kParts;
  __syncthreads();
  clear_count(space);
  for (std::uint32_t i = threadIdx.x; i < parts; i += kThreads) {
    row.template for_each_score<kLines>(static_cast<int>(space.chunks[i / kParts]),
                                        static_cast<int>(i % kParts) * kLines, [&](float score, std::int32_t token) {
                                          if (score >= floor) add_to_list(space, score, token);
                                        });
  }
  __syncthreads();
}

/// Lists what the cutoff keeps.
template <class Row>
__device__ void list_kept(const Row& row, const float* maxima, Cutoff cutoff, TopKSpace& space) {
  clear_count(space);
  for_each_score_of_chunks(row, maxima, cutoff.score, [&](float score, std::int32_t token) {
    if (keeps(cutoff, score, token)) add_to_list(space, score, token);
  });
  __syncthreads();
}

/// Lists at least the first k tokens in the bracket, a beginning of the order of at most kMaxFound.
template <class Row>
__device__ void list_in(const Row& row, const float* maxima, KeyBracket bracket, std::uint32_t k, TopKSpace& space) {
  list_kept(row, maxima, cutoff_in(row, maxima, bracket, k, kMaxFound, space), space);
}

/// Writes list [count] in another order to `ordered`, which may be the same memory. Of at most kMaxCounted tokens: two
/// threads count what comes before each. By the whole block.
template <class Precedes>
__device__ __forceinline__ void order_by_counting(const Candidate* list, int count, Candidate* ordered,
                                                  Precedes precedes) {
  const int slot = static_cast<int>(threadIdx.x) / 2;
  const int half = static_cast<int>(threadIdx.x) % 2;
  const Candidate own = slot < count ? list[slot] : Candidate{};
  int place = 0;
  for (int i = half; i < count; i += 2) place += precedes(list[i], own) ? 1 : 0;
  place += __shfl_xor_sync(kWholeWarp, place, 1);
  __syncthreads();
  if (slot < count && half == 0) ordered[place] = own;
  __syncthreads();
}

/// Orders space.list, a long one by a bitonic network; a step whose pairs are no more than a warp apart needs no block.
__device__ inline void sort_list(TopKSpace& space) {
  const auto count = static_cast<int>(space.count);
  if (count <= kMaxCounted) {
    return order_by_counting(space.list, count, space.list, [](Candidate a, Candidate b) { return before(a, b); });
  }
  int size = 2;
  while (size < count) size *= 2;
  for (int slot = count + static_cast<int>(threadIdx.x); slot < size; slot += kThreads) {
    space.list[slot] = {-INFINITY, INT32_MAX};
  }
  __syncthreads();
  for (int width = 2; width <= size; width *= 2) {
    for (int apart = width / 2; apart > 0; apart /= 2) {
      for (int pair = static_cast<int>(threadIdx.x); pair < size / 2; pair += kThreads) {
        const int slot = 2 * pair - (pair & (apart - 1));
        const Candidate a = space.list[slot];
        const Candidate b = space.list[slot + apart];
        if (before(b, a) == ((slot & width) == 0)) {
          space.list[slot] = b;
          space.list[slot + apart] = a;
        }
      }
      const int next = apart > 1 ? apart / 2 : width;
      if (apart > kWarp || next > kWarp) {
        __syncthreads();
      } else {
        __syncwarp();
      }
    }
  }
  __syncthreads();
}

/// Leaves the first k tokens of the order, or all finite ones where there are fewer, in space.list, ordered, and their
/// number in space.count, which may be more; through the last of them. Of k above kMaxListed the cutoff alone. `max` is
/// finite, k >= 1.
template <class Row>
__device__ __forceinline__ Cutoff list_top_k(const Row& row, const float* maxima, float max, std::uint32_t k,
                                             TopKSpace& space) {
  const KeyBracket chunks = bracket_of_chunks(row, maxima, max, k, space);
  const KeyBracket scores = bracket_of_scores(chunks, max, k);
  const bool lists = k <= kMaxListed;
  bool listed = lists && chunks.through <= kMaxFound;
  if (listed) {
    list_few(row, maxima, score_of(scores.low), space);
    listed = space.count <= kMaxFound;
  }
  if (!listed) {
    const Cutoff cutoff = cutoff_in(row, maxima, scores, k, lists ? kMaxFound : k, space);
    if (!lists) return cutoff;
    list_kept(row, maxima, cutoff, space);
  }
  sort_list(space);
  return through(space.list[min(space.count, k) - 1]);
}

/// Leaves the first k tokens of the order, or all finite ones where there are fewer, in space.list, ordered. Returns
/// how many. `max` is finite, k in [1, kMaxListed].
template <class Row>
__device__ int select_top_k(const Row& row, const float* maxima, float max, std::uint32_t k, TopKSpace& space) {
  list_top_k(row, maxima, max, min(k, static_cast<std::uint32_t>(kMaxListed)), space);
  return static_cast<int>(min(space.count, k));
}

}  // namespace tokendraw::cuda
