// SPDX-License-Identifier: Apache-2.0
// The golden draws on the instruction set in use (TOKENDRAW_ISA), without Python. Runs where there is no file system.
#include <cstdio>

#include "check.h"
#include "cpu/backend.h"
#include "cpu/isa.h"
#include "golden_csv.h"
#include "vectors/golden.h"

namespace {

using namespace tokendraw;

/// The tokens of one group join both hashes.
void draw_group(const test::GoldenGroup& group, test::Fnv1a& of_group, test::Fnv1a& of_all) {
  for (std::int64_t row = 0; row < group.draws / test::kDrawsPerRow; ++row) {
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

TEST(golden_draws) {
  test::Fnv1a all;
  std::int64_t draws = 0;
  for (const test::GoldenGroup& group : test::parse_golden(kGoldenCsv)) {
    test::Fnv1a hash;
    draw_group(group, hash, all);
    draws += group.draws;
    CHECK_WITH(hash.text() == group.hash, group.name + " drew " + hash.text() + " rather than " + group.hash);
  }
  CHECK(draws >= 100'000);
  std::printf("golden draws: %s %lld %s\n", cpu::active_isa().name, static_cast<long long>(draws), all.text().c_str());
}

}  // namespace
