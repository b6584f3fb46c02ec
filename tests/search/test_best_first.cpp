// SPDX-License-Identifier: Apache-2.0
// The heap of best-first search on trees small enough to enumerate, told of their rows piece by piece.
#include "search/best_first.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "check.h"

namespace {

using namespace tokendraw;
using search::BestFirst;
using search::BestFirstParams;
using search::Completion;
using search::Reading;
using Path = std::vector<std::int32_t>;

struct Row {
  Path tokens;
  std::vector<float> logprobs;
};

/// A row as a pure function of the path, in the total order; few values, so that there are ties.
Row row_after(const Path& path, std::int32_t vocab, std::uint64_t seed) {
  for (const std::int32_t token : path) seed = test::Random(seed + static_cast<std::uint64_t>(token)).bits();
  test::Random random(seed);
  std::vector<std::pair<float, std::int32_t>> ranked;
  for (std::int32_t token = 0; token < vocab; ++token) {
    ranked.emplace_back(0.25f * static_cast<float>(random.below(12)), token);
  }
  std::sort(ranked.begin(), ranked.end());
  Row row;
  for (const auto& [cost, token] : ranked) {
    row.tokens.push_back(token);
    row.logprobs.push_back(-cost);
  }
  return row;
}

struct Found {
  double logprob;
  Path tokens;
  Path ranks;
};

bool is_better(const Found& a, const Found& b) {
  if (a.logprob != b.logprob) return a.logprob > b.logprob;
  if (a.tokens.size() != b.tokens.size()) return a.tokens.size() < b.tokens.size();
  return a.ranks < b.ranks;
}

void enumerate(const Found& from, const BestFirstParams& params, std::int32_t vocab, std::uint64_t seed,
               std::vector<Found>& all) {
  const Row row = row_after(from.tokens, vocab, seed);
  for (std::size_t rank = 0; rank < row.tokens.size(); ++rank) {
    Found grown = from;
    grown.logprob += static_cast<double>(row.logprobs[rank]);
    grown.tokens.push_back(row.tokens[rank]);
    grown.ranks.push_back(static_cast<std::int32_t>(rank));
    const bool ends = std::count(params.ends.begin(), params.ends.end(), row.tokens[rank]) > 0;
    if (ends || grown.tokens.size() == static_cast<std::size_t>(params.max_length)) {
      all.push_back(grown);
    } else {
      enumerate(grown, params, vocab, seed, all);
    }
  }
}

Path path_of(const BestFirst& heap, std::int64_t node) {
  std::vector<std::int64_t> nodes;
  Path tokens;
  std::vector<float> logprobs;
  heap.path(node, nodes, tokens, logprobs);
  return tokens;
}

/// Reads until nothing can change, each row `listed` candidates at a time.
std::int64_t run(BestFirst& heap, std::int64_t batch, std::int32_t listed, std::int32_t vocab, std::uint64_t seed) {
  std::vector<Reading> readings;
  std::int64_t count = 0;
  for (heap.next(batch, readings); !readings.empty(); heap.next(batch, readings)) {
    CHECK(readings.size() <= static_cast<std::size_t>(batch));
    for (const Reading& reading : readings) {
      const Row row = row_after(path_of(heap, reading.node), vocab, seed);
      const std::int32_t told = std::min(vocab, std::max(listed, 2 * reading.listed));
      heap.expand(reading.node, row.tokens.data(), row.logprobs.data(), told, told < vocab);
      ++count;
    }
  }
  return count;
}

TEST(the_best_are_those_of_brute_force) {
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    test::Random random(seed);
    const auto vocab = static_cast<std::int32_t>(2 + random.below(4));
    BestFirstParams params;
    params.max_length = static_cast<std::int32_t>(1 + random.below(5));
    for (std::int32_t token = 0; token < vocab; ++token) {
      if (random.below(4) == 0) params.ends.push_back(token);
    }
    std::vector<Found> all;
    enumerate({0.0, {}, {}}, params, vocab, seed, all);
    std::sort(all.begin(), all.end(), is_better);
    for (const std::int64_t wanted : {std::int64_t{1}, std::int64_t{3}, static_cast<std::int64_t>(all.size() + 2)}) {
      for (const std::int64_t batch : {1, 7}) {
        for (const std::int32_t listed : {1, 2, vocab}) {
          params.num_return = wanted;
          BestFirst heap(params);
          CHECK(!heap.proved());
          run(heap, batch, listed, vocab, seed);
          CHECK(heap.proved());
          const std::vector<Completion> found = heap.found();
          const std::size_t count = std::min(all.size(), static_cast<std::size_t>(wanted));
          CHECK_EQUAL(found.size(), count);
          for (std::size_t i = 0; i < count; ++i) {
            Path tokens = path_of(heap, found[i].node);
            tokens.push_back(found[i].token);
            CHECK(tokens == all[i].tokens);
            CHECK_EQUAL(found[i].logprob, all[i].logprob);
          }
          CHECK_EQUAL(heap.bound() == -HUGE_VAL, count == all.size());
          if (count < all.size()) CHECK(heap.bound() >= all[count].logprob && heap.bound() <= found.back().logprob);
        }
      }
    }
  }
}

TEST(a_node_that_is_given_up_stays_in_the_bound) {
  BestFirst heap({3, 1, 0.0, {}});
  std::vector<Reading> readings;
  heap.next(1, readings);
  const std::int32_t tokens[] = {4, 2};
  const float logprobs[] = {-0.5f, -1.0f};
  heap.expand(0, tokens, logprobs, 2, false);
  CHECK_EQUAL(heap.bound(), -0.5);
  heap.next(1, readings);
  CHECK_EQUAL(readings[0].token, 4);
  heap.drop(readings[0].node);
  CHECK_EQUAL(heap.bound(), -0.5);
  CHECK_EQUAL(heap.promise(readings[0].node), -HUGE_VAL);
  heap.next(9, readings);
  CHECK_EQUAL(readings.size(), std::size_t{1});
  CHECK_EQUAL(readings[0].token, 2);
  heap.expand(readings[0].node, tokens, logprobs, 1, false);
  heap.next(9, readings);
  heap.expand(readings[0].node, tokens, logprobs, 1, false);
  heap.next(9, readings);
  CHECK(readings.empty());
  const std::vector<Completion> found = heap.found();
  CHECK_EQUAL(found.size(), std::size_t{1});
  CHECK_EQUAL(found[0].logprob, -2.0);
  CHECK_EQUAL(heap.bound(), -0.5);
  CHECK(!heap.proved());
}

TEST(a_row_that_is_read_again_keeps_what_is_known) {
  BestFirst heap({2, 9, 0.0, {}});
  std::vector<Reading> readings;
  heap.next(1, readings);
  const std::int32_t first[] = {0, 1};
  const float first_logprobs[] = {-1.0f, -2.0f};
  heap.expand(0, first, first_logprobs, 2, true);
  for (int i = 0; i < 2; ++i) {
    heap.next(1, readings);
    heap.expand(readings[0].node, first, first_logprobs, 1, false);
  }
  heap.next(1, readings);
  CHECK_EQUAL(readings[0].node, std::int64_t{0});
  CHECK_EQUAL(readings[0].listed, 2);
  // The model has moved by a rounding: another order, and a log-probability above the last one that was listed.
  const std::int32_t again[] = {1, 2, 0, 3};
  const float again_logprobs[] = {-1.0f, -1.5f, -1.75f, -3.0f};
  heap.expand(0, again, again_logprobs, 4, false);
  heap.next(9, readings);
  CHECK_EQUAL(readings.size(), std::size_t{2});
  CHECK_EQUAL(readings[0].token, 2);
  CHECK_EQUAL(heap.logprob(readings[0].node), -2.0);
  CHECK_EQUAL(readings[1].token, 3);
  CHECK_EQUAL(heap.logprob(readings[1].node), -3.0);
}

TEST(memory_is_that_of_what_may_still_matter) {
  BestFirst heap({2, 1, 0.0, {0}});
  std::vector<Reading> readings;
  heap.next(1, readings);
  const std::int32_t tokens[] = {0, 1, 2, 3};
  const float logprobs[] = {-0.5f, -1.0f, -HUGE_VALF, NAN};
  heap.expand(0, tokens, logprobs, 4, true);
  CHECK_EQUAL(heap.found().size(), std::size_t{1});
  heap.next(9, readings);
  CHECK(readings.empty());
  CHECK(heap.proved());
  CHECK_EQUAL(heap.bound(), -1.0);
}

}  // namespace
