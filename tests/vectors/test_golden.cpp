// SPDX-License-Identifier: Apache-2.0
// The golden draws on the instruction set in use (TOKENDRAW_ISA), without Python. Runs where there is no file system.
#include <algorithm>
#include <cstdio>

#include "check.h"
#include "cpu/backend.h"
#include "cpu/isa.h"
#include "golden_csv.h"
#include "vectors/golden.h"

namespace {

using namespace tokendraw;

/// Draws of one group; their tokens join both hashes.
void draw_group(const test::GoldenGroup& group, std::int64_t draws, test::Fnv1a& of_group, test::Fnv1a& of_all) {
  for (std::int64_t row = 0; row < draws / test::kDrawsPerRow; ++row) {
    const test::GoldenRow golden(group, row);
    std::int32_t tokens[test::kDrawsPerRow];
    RowStatus status[test::kDrawsPerRow];
    DrawOutputs outputs;
    outputs.tokens = tokens;
    cpu::backend().draw(golden.request(), outputs, status);
    for (const std::int32_t token : tokens) {
      of_group.add(static_cast<std::uint32_t>(token));
      of_all.add(static_cast<std::uint32_t>(token));
    }
  }
}

/// At most `most` draws of each group, against the hash that `expected` names.
std::int64_t check_groups(const char* which, std::int64_t most, std::string test::GoldenGroup::* expected) {
  test::Fnv1a all;
  std::int64_t drawn = 0;
  for (const test::GoldenGroup& group : test::parse_golden(kGoldenCsv)) {
    const std::int64_t draws = std::min(group.draws, most);
    test::Fnv1a hash;
    draw_group(group, draws, hash, all);
    drawn += draws;
    CHECK_WITH(hash.text() == group.*expected, group.name + " drew " + hash.text() + " rather than " + group.*expected);
  }
  std::printf("%s golden draws: %s %lld %s\n", which, cpu::active_isa().name, static_cast<long long>(drawn),
              all.text().c_str());
  return drawn;
}

TEST(all_golden_draws) { CHECK(check_groups("all", INT64_MAX, &test::GoldenGroup::hash) >= 100'000); }

TEST(first_golden_draws) {
  CHECK(check_groups("first", test::kFirstDraws, &test::GoldenGroup::first_hash) >= 9 * test::kFirstDraws);
}

}  // namespace
