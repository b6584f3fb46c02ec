// SPDX-License-Identifier: Apache-2.0
// The k best of a row as a block selects them are the first k of the sorted row, whatever the row.
#include "batch.h"
#include "check.h"
#include "cpu/backend.h"
#include "cuda/top_k.h"
#include "cuda/workspace.h"
#include "emulator.h"
#include "top_k_kernels.cuh"

namespace {

using namespace tokendraw;
using test::Array;
using test::DeviceRows;
using test::Floats;
using test::NamedRow;

/// Sizes around a vector, a line and a tile.
constexpr std::int64_t kSizes[] = {17, 1000, 1025, 5003};

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

template <class Element, class EditsOfRows>
Selected selected(const cuda::Rows& rows, const EditsOfRows& edits, int k, std::int64_t cutoff_k) {
  const auto count = static_cast<std::size_t>(rows.rows);
  Array<float> maxima(count * static_cast<std::size_t>(cuda::count_chunks(rows.vocab)));
  Array<Candidate> lists(count * static_cast<std::size_t>(k));
  Array<int> counts(count);
  Array<Cutoff> cutoffs(count);
  cuda::LaunchShape shape;
  shape.grid = static_cast<unsigned>(count);
  shape.block = cuda::kThreads;
  const auto error =
      cuda::launch(test::select<Element, EditsOfRows>, shape, rows, edits, k, static_cast<std::uint32_t>(cutoff_k),
                   maxima.get(), lists.get(), counts.get(), cutoffs.get());
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

template <class Element>
void check_rows(std::int64_t vocab, int k, std::int64_t cutoff_k, std::int64_t padding = 0, std::int64_t start = 0) {
  const std::vector<NamedRow> named = test::adversarial_rows(vocab);
  const DeviceRows<Element> rows(test::scores_of(named), padding, start);
  const Selected found = selected<Element>(rows.view(), cuda::NoEdits{}, k, cutoff_k);
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
    check_rows<float>(vocab, 50, vocab / 2 + 1);
    check_rows<float>(vocab, 1, vocab, 3, 1);
  }
  check_rows<float>(5003, 1024, 1025);
}
TEST(float64_rows) { check_rows<double>(5003, 50, 1500, 1, 1); }
TEST(float16_rows) { check_rows<Float16>(5003, 50, 1500); }
TEST(bfloat16_rows) {
  for (const std::int64_t vocab : {17, 1025, 5003}) {
    check_rows<Bfloat16>(vocab, 50, vocab / 2 + 1);
    check_rows<Bfloat16>(vocab, 1024, vocab, 3, 1);
  }
}

/// More chunks than are listed, and more tokens.
TEST(long_rows) {
  check_rows<float>(70000, 50, 60000);
  check_rows<Bfloat16>(70001, 1024, 2000);
}

TEST(every_schedule_selects_alike) {
  for (std::uint64_t schedule = 1; schedule <= 6; ++schedule) {
    emulated::set_schedule(schedule);
    check_rows<float>(2500, 64, 1500);
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
  check_row(selected<float>(rows.view(), edits, 300, 2000), 0, "edited", scores, 300, 2000);
}

TEST(rows_that_cannot_be_drawn_from) {
  Floats nothing(2000, -HUGE_VALF), nan(2000, 0.0f), infinite(2000, 0.0f);
  nan[1999] = std::nanf("");
  infinite[0] = HUGE_VALF;
  const DeviceRows<float> rows({nothing, nan, infinite});
  const Selected found = selected<float>(rows.view(), cuda::NoEdits{}, 5, 5);
  CHECK_EQUAL(found.counts[0], -static_cast<int>(RowStatus::kNothingLeft));
  CHECK_EQUAL(found.counts[1], -static_cast<int>(RowStatus::kNan));
  CHECK_EQUAL(found.counts[2], -static_cast<int>(RowStatus::kInfinite));
}

// ---- the launcher ----

/// Nothing of one launch is left for the next: they share a workspace.
struct Device {
  explicit Device(std::size_t bytes) : workspace(std::vector<char>(bytes, 0)) {
    context.workspace = {workspace.get(), bytes};
    context.device.compute = 90;
  }

  Array<char> workspace;
  cuda::Context context;
};

struct Best {
  Best(std::size_t rows, std::size_t k) : values(rows * k), tokens(rows * k), status(rows) {}
  std::vector<float> values;
  std::vector<std::int32_t> tokens;
  std::vector<RowStatus> status;
};

template <class Element>
Best best_on_device(const DeviceRows<Element>& rows, std::int64_t k, const cuda::Geometry& geometry, Device& device) {
  const auto count = static_cast<std::size_t>(rows.rows());
  const auto width = static_cast<std::size_t>(k);
  Array<float> values(count * width);
  Array<std::int32_t> tokens(count * width);
  Array<RowStatus> status(count);
  const cudaError_t error =
      cuda::launch_top_k(rows.on_device(), k, values.get(), tokens.get(), status.get(), device.context, geometry);
  CHECK_EQUAL(static_cast<int>(error), 0);
  CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
  CHECK_EQUAL(emulated::take_report(), std::string());
  Best best(count, width);
  best.values = values.values();
  best.tokens = tokens.values();
  best.status = status.values();
  return best;
}

constexpr cuda::Geometry kGeometries[] = {
    {cuda::Meeting::kBlock, 1}, {cuda::Meeting::kSplit, 2}, {cuda::Meeting::kCluster, 8}};

template <class Element>
void check_launches(const std::vector<Floats>& scores, std::int64_t k, std::int64_t padding = 0) {
  const DeviceRows<Element> rows(scores, padding, padding);
  const auto count = static_cast<std::size_t>(rows.rows());
  Best expected(count, static_cast<std::size_t>(k));
  cpu::backend().top_k(rows.on_host(), k, expected.values.data(), expected.tokens.data(), expected.status.data());
  Device device(cuda::workspace_bytes(rows.rows(), rows.vocab()));
  for (const cuda::Geometry& geometry : kGeometries) {
    const Best found = best_on_device(rows, k, geometry, device);
    const std::string what = std::to_string(k) + " of " + std::to_string(rows.vocab()) + " by " +
                             std::to_string(geometry.blocks) + " blocks";
    CHECK_WITH(found.tokens == expected.tokens, what);
    CHECK_WITH(found.status == expected.status, what);
    const bool same_values =
        std::equal(found.values.begin(), found.values.end(), expected.values.begin(), test::same_float<float>);
    CHECK_WITH(same_values, what);
  }
}

TEST(launches_agree_with_the_host) {
  for (const std::int64_t vocab : {1, 33, 1025, 5003}) {
    check_launches<float>(test::with_invalid(test::scores_of(test::adversarial_rows(vocab))),
                          std::min<std::int64_t>(vocab, 20));
  }
  const std::vector<Floats> rows = test::with_invalid(test::scores_of(test::adversarial_rows(3000)));
  check_launches<Float16>(rows, 7, 3);
  check_launches<Bfloat16>(rows, 1024);
  check_launches<double>({rows.begin(), rows.begin() + 4}, 3, 1);
}

TEST(more_than_a_list) {
  check_launches<float>(test::with_invalid(test::scores_of(test::adversarial_rows(5003))), 5003);
  check_launches<Bfloat16>({test::drawn(9000, 41, -4.0, 4.0), Floats(9000, 2.0f)}, 2500);
}

TEST(no_tokens_and_no_rows) {
  check_launches<float>(test::with_invalid({test::drawn(100, 42, -1.0, 1.0)}), 0);
  const DeviceRows<float> rows({test::drawn(100, 43, -1.0, 1.0)});
  Request request = rows.on_device();
  request.logits.rows = 0;
  Device device(cuda::workspace_bytes(1, 100));
  CHECK_EQUAL(static_cast<int>(cuda::launch_top_k(request, 5, nullptr, nullptr, nullptr, device.context)), 0);
}

TEST(edits_are_refused) {
  const DeviceRows<float> rows({test::drawn(100, 44, -1.0, 1.0)});
  Request request = rows.on_device();
  const Array<float> bias(100);
  request.edits.bias = bias.get();
  Device device(cuda::workspace_bytes(1, 100));
  CHECK_EQUAL(static_cast<int>(cuda::launch_top_k(request, 5, nullptr, nullptr, nullptr, device.context)),
              static_cast<int>(cudaErrorNotSupported));
}

TEST(every_schedule_launches_alike) {
  const std::vector<Floats> rows = {test::drawn(5003, 45, -4.0, 4.0), Floats(5003, 1.0f)};
  for (std::uint64_t schedule = 1; schedule <= 6; ++schedule) {
    emulated::set_schedule(schedule);
    check_launches<float>(rows, 50);
  }
  emulated::set_schedule(0);
}

}  // namespace
