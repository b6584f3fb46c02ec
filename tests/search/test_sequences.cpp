// SPDX-License-Identifier: Apache-2.0
// Shared sequences: what is read back, and that nothing which is held is ever given away.
#include <algorithm>
#include <vector>

#include "check.h"
#include "search/sequences.h"

namespace {

using namespace tokendraw;
using search::Sequences;

std::vector<std::int32_t> tokens_of(const Sequences& sequences, Sequences::Node node) {
  std::vector<std::int32_t> tokens;
  sequences.for_each_backwards(node, [&](std::int32_t token, double) { tokens.push_back(token); });
  std::reverse(tokens.begin(), tokens.end());
  return tokens;
}

/// A sequence that a test holds, beside what it must read as.
struct Held {
  Sequences::Node node;
  std::vector<std::int32_t> tokens;
};

TEST(what_is_held_stays_whatever_else_is_dropped) {
  test::Random random(11);
  Sequences sequences;
  std::vector<Held> held{{Sequences::kEmpty, {}}};
  for (int round = 0; round < 20000; ++round) {
    const auto place = static_cast<std::size_t>(random.below(static_cast<std::int64_t>(held.size())));
    if (held.size() < 40 && random.below(5) < 3) {
      const auto token = static_cast<std::int32_t>(random.below(100));
      std::vector<std::int32_t> longer = held[place].tokens;
      longer.push_back(token);
      held.push_back({sequences.append(held[place].node, token, -1.0), longer});
    } else if (place > 0) {
      sequences.release(held[place].node);
      held.erase(held.begin() + static_cast<std::ptrdiff_t>(place));
    }
    const Held& some = held[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(held.size())))];
    CHECK(tokens_of(sequences, some.node) == some.tokens);
  }
  for (const Held& each : held) CHECK(tokens_of(sequences, each.node) == each.tokens);
}

TEST(what_is_dropped_is_used_again) {
  Sequences sequences;
  for (int round = 0; round < 1000; ++round) {
    Sequences::Node node = Sequences::kEmpty;
    for (std::int32_t token = 0; token < 10; ++token) {
      const Sequences::Node longer = sequences.append(node, token, 0.0);
      sequences.release(node);
      node = longer;
    }
    sequences.release(node);
  }
  CHECK_EQUAL(sequences.allocated(), std::size_t{10});
}

}  // namespace
