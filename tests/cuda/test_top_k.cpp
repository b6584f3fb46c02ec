// SPDX-License-Identifier: Apache-2.0
// The k best of a row as a block selects them are the first k of the sorted row, whatever the row.
#include "batch.h"
#include "check.h"
#include "emulator.h"
#include "top_k_kernels.cuh"

namespace {

using namespace tokendraw;
using test::Array;
using test::DeviceRows;
using test::Floats;
using test::NamedRow;

/// Sizes around a vector, a line and a tile.
constexpr std::int64_t kSizes[] = {1, 17, 1000, 1024, 1025, 5003};

/// The finite tokens of a row in the total order.
std::vector<Candidate> ordered(const Floats& scores) {
  std::vector<Candidate> tokens;
  for (std::size_t i = 0; i < scores.size(); ++i) {
    if (scores[i] >= -FLT_MAX) tokens.push_back({scores[i], static_cast<std::int32_t>(i)});
  }
  std::sort(tokens.begin(), tokens.end(), before);
  return tokens;
}

struct Selected {
  std::vector<Candidate> lists;
  std::vector<int> counts;
  std::vector<Cutoff> cutoffs;
};

template <class Element, int kWidth, class EditsOfRows>
Selected selected(const cuda::Rows& rows, const EditsOfRows& edits, int k, std::int64_t cutoff_k) {
  const auto count = static_cast<std::size_t>(rows.rows);
  Array<float> maxima(count * static_cast<std::size_t>(cuda::count_chunks<kWidth>(rows.vocab)));
  Array<Candidate> lists(count * static_cast<std::size_t>(k));
  Array<int> counts(count);
  Array<Cutoff> cutoffs(count);
  cuda::LaunchShape shape;
  shape.grid = static_cast<unsigned>(count);
  shape.block = cuda::kThreads;
  const auto error =
      cuda::launch(test::select<Element, kWidth, EditsOfRows>, shape, rows, edits, k,
                   static_cast<std::uint32_t>(cutoff_k), maxima.get(), lists.get(), counts.get(), cutoffs.get());
  CHECK_EQUAL(static_cast<int>(error), 0);
  CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
  CHECK_EQUAL(emulated::take_report(), std::string());
  return {lists.values(), counts.values(), cutoffs.values()};
}

void check_row(const Selected& found, std::size_t row, const std::string& name, const Floats& scores, int k,
               std::int64_t cutoff_k) {
  const std::vector<Candidate> best = ordered(scores);
  const auto finite = static_cast<std::int64_t>(best.size());
  const std::string what = name + ", " + std::to_string(k) + " of " + std::to_string(scores.size());
  const auto count = static_cast<int>(std::min<std::int64_t>(k, finite));
  CHECK_WITH(found.counts[row] == count, what + ": " + std::to_string(found.counts[row]));
  for (int slot = 0; slot < std::min(count, found.counts[row]); ++slot) {
    const Candidate candidate = found.lists[row * static_cast<std::size_t>(k) + static_cast<std::size_t>(slot)];
    const Candidate expected = best[static_cast<std::size_t>(slot)];
    const bool same = candidate.token == expected.token &&
                      bit_cast<std::uint32_t>(candidate.score) == bit_cast<std::uint32_t>(expected.score);
    CHECK_WITH(same, what + ", slot " + std::to_string(slot) + ": token " + std::to_string(candidate.token) +
                         " rather than " + std::to_string(expected.token));
    if (!same) break;
  }
  std::int64_t kept = 0;
  bool is_beginning = true;
  for (std::int64_t rank = 0; rank < finite; ++rank) {
    const Candidate token = best[static_cast<std::size_t>(rank)];
    if (!keeps(found.cutoffs[row], token.score, token.token)) continue;
    is_beginning &= kept == rank;
    ++kept;
  }
  CHECK_WITH(is_beginning && kept == std::min(cutoff_k, finite),
             name + ": the cutoff of " + std::to_string(cutoff_k) + " keeps " + std::to_string(kept));
}

template <class Element, int kWidth>
void check_rows(std::int64_t vocab, int k, std::int64_t cutoff_k, std::int64_t padding = 0, std::int64_t start = 0) {
  const std::vector<NamedRow> named = test::adversarial_rows(vocab);
  const DeviceRows<Element> rows(test::scores_of(named), padding, start);
  const Selected found = selected<Element, kWidth>(rows.view(), cuda::NoEdits{}, k, cutoff_k);
  for (std::size_t row = 0; row < named.size(); ++row) {
    Floats scores(static_cast<std::size_t>(vocab));
    for (std::int64_t token = 0; token < vocab; ++token) {
      scores[static_cast<std::size_t>(token)] = rows.score(static_cast<std::int64_t>(row), token);
    }
    check_row(found, row, named[row].name, scores, k, cutoff_k);
  }
}

TEST(float32_rows) {
  for (const std::int64_t vocab : kSizes) {
    check_rows<float, 4>(vocab, 50, vocab / 2 + 1);
    check_rows<float, 4>(vocab, 1, vocab, 3, 1);
  }
  check_rows<float, 4>(5003, 1024, 1025);
}
TEST(float64_rows) { check_rows<double, 4>(5003, 50, 1500, 1, 1); }
TEST(float16_rows) { check_rows<Float16, 8>(5003, 50, 1500); }
TEST(bfloat16_rows) {
  for (const std::int64_t vocab : {17, 1025, 5003}) {
    check_rows<Bfloat16, 8>(vocab, 50, vocab / 2 + 1);
    check_rows<Bfloat16, 8>(vocab, 1024, vocab, 3, 1);
  }
}

/// More chunks than are listed, and more tokens.
TEST(long_rows) {
  check_rows<float, 4>(70000, 50, 60000);
  check_rows<Bfloat16, 8>(70001, 1024, 2000);
}

TEST(every_schedule_selects_alike) {
  for (std::uint64_t schedule = 1; schedule <= 6; ++schedule) {
    emulated::set_schedule(schedule);
    check_rows<float, 4>(2500, 64, 1500);
  }
  emulated::set_schedule(0);
}

TEST(edited_rows) {
  constexpr std::int64_t kVocab = 5003;
  const Floats logits = test::drawn(kVocab, 31, -4.0, 4.0);
  const DeviceRows<float> rows({logits});
  Floats bias = test::drawn(kVocab, 32, -3.0, 3.0);
  std::vector<std::uint8_t> allowed(static_cast<std::size_t>(kVocab));
  test::Random random(33);
  for (auto& flag : allowed) flag = random.below(3) != 0;
  const Array<float> device_bias(bias);
  const Array<std::uint8_t> device_allowed(allowed);
  cuda::RowEdits edits;
  edits.bias = device_bias.get();
  edits.allowed = device_allowed.get();
  edits.token_bias_count = 1;
  edits.token_bias[0] = {4000, 50.0f};
  allowed[4000] = 1;
  const Array<std::uint8_t> with_biased(allowed);
  edits.allowed = with_biased.get();
  Floats scores(logits);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    scores[i] = allowed[i] != 0 ? scores[i] + bias[i] + (i == 4000 ? 50.0f : 0.0f) : -HUGE_VALF;
  }
  check_row(selected<float, 4>(rows.view(), edits, 300, 2000), 0, "edited", scores, 300, 2000);
}

TEST(rows_that_cannot_be_drawn_from) {
  Floats nothing(2000, -HUGE_VALF), nan(2000, 0.0f), infinite(2000, 0.0f);
  nan[1999] = std::nanf("");
  infinite[0] = HUGE_VALF;
  const DeviceRows<float> rows({nothing, nan, infinite});
  const Selected found = selected<float, 4>(rows.view(), cuda::NoEdits{}, 5, 5);
  for (const int count : found.counts) CHECK_EQUAL(count, -1);
}

}  // namespace
