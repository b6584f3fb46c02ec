// SPDX-License-Identifier: Apache-2.0
// Scores on the device are those of the host, to the bit.
#include "batch.h"
#include "check.h"
#include "cpu/backend.h"
#include "cuda/scores.h"
#include "cuda/workspace.h"
#include "emulator.h"

namespace {

using namespace tokendraw;
using test::Array;
using test::DeviceRows;
using test::Floats;

constexpr cuda::Geometry kGeometries[] = {
    {cuda::Meeting::kBlock, 1}, {cuda::Meeting::kSplit, 4}, {cuda::Meeting::kCluster, 2}};

struct Scores {
  explicit Scores(std::size_t rows) : logprobs(rows), ranks(rows), logsumexps(rows), entropies(rows), status(rows) {}

  ScoreOutputs outputs() { return {logprobs.data(), ranks.data(), logsumexps.data(), entropies.data()}; }

  std::vector<float> logprobs;
  std::vector<std::int64_t> ranks;
  std::vector<float> logsumexps;
  std::vector<float> entropies;
  std::vector<RowStatus> status;
};

/// Rows of any temperature and token each, scored on both sides.
template <class Element>
class Scored {
 public:
  Scored(const std::vector<Floats>& rows, std::int64_t padding = 0)
      : rows_(rows, padding, padding), temperatures_(rows.size(), 1.0), tokens_(rows.size(), 0) {
    test::Random random(51);
    for (std::int64_t& token : tokens_) token = random.below(rows_.vocab());
  }

  std::vector<double>& temperatures() { return temperatures_; }
  std::vector<std::int64_t>& tokens() { return tokens_; }

  Scores on_host() {
    Scores scores(tokens_.size());
    Request request = rows_.on_host();
    request.params.temperature.values = temperatures_.data();
    PerRow<std::int64_t> tokens;
    tokens.values = tokens_.data();
    cpu::backend().score(request, tokens, scores.outputs(), scores.status.data());
    return scores;
  }

  Scores on_device(const cuda::Geometry& geometry) {
    const std::size_t count = tokens_.size();
    const Array<double> temperatures(temperatures_);
    const Array<std::int64_t> device_tokens(tokens_);
    Array<float> logprobs(count), logsumexps(count), entropies(count);
    logsumexps.set(std::vector<float>(count));  // not written at temperature 0
    Array<std::int64_t> ranks(count);
    Array<RowStatus> status(count);
    const std::size_t bytes = cuda::workspace_bytes(rows_.rows(), rows_.vocab());
    const Array<char> workspace(std::vector<char>(bytes, 0));
    cuda::Context context;
    context.workspace = {workspace.get(), bytes};
    Request request = rows_.on_device();
    request.params.temperature.device = {temperatures.get(), Dtype::kFloat64};
    PerRow<std::int64_t> tokens;
    tokens.device = {device_tokens.get(), Dtype::kInt64};
    // Twice: a launch leaves its counters as it found them.
    for (int launch = 0; launch < (geometry.meeting == cuda::Meeting::kSplit ? 2 : 1); ++launch) {
      CHECK_EQUAL(static_cast<int>(cuda::launch_score(request, tokens,
                                                      {logprobs.get(), ranks.get(), logsumexps.get(), entropies.get()},
                                                      status.get(), context, geometry)),
                  0);
    }
    CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
    CHECK_EQUAL(emulated::take_report(), std::string());
    Scores scores(count);
    scores.logprobs = logprobs.values();
    scores.ranks = ranks.values();
    scores.logsumexps = logsumexps.values();
    scores.entropies = entropies.values();
    scores.status = status.values();
    return scores;
  }

 private:
  DeviceRows<Element> rows_;
  std::vector<double> temperatures_;
  std::vector<std::int64_t> tokens_;
};

void check_equal(const std::vector<float>& found, const std::vector<float>& expected, const std::string& what) {
  for (std::size_t row = 0; row < expected.size(); ++row) {
    CHECK_WITH(test::same_float(found[row], expected[row]), what + ", row " + std::to_string(row) + ": " +
                                                                test::shown(found[row]) + " is not " +
                                                                test::shown(expected[row]));
  }
}

template <class Element>
void check_scores(Scored<Element>& scored, const std::string& what) {
  const Scores expected = scored.on_host();
  for (const cuda::Geometry& geometry : kGeometries) {
    const Scores found = scored.on_device(geometry);
    CHECK_WITH(found.status == expected.status, what);
    CHECK_WITH(found.ranks == expected.ranks, what);
    check_equal(found.logprobs, expected.logprobs, what + ", logprobs");
    check_equal(found.logsumexps, expected.logsumexps, what + ", logsumexps");
    check_equal(found.entropies, expected.entropies, what + ", entropies");
  }
}

template <class Element>
void check_rows(std::int64_t vocab, std::int64_t padding = 0) {
  Scored<Element> scored(test::with_invalid(test::scores_of(test::adversarial_rows(vocab))), padding);
  constexpr double kTemperatures[] = {1.0, 0.7, 1e-30, 1e30, 0.0};
  for (std::size_t first = 0; first < 5; first += 4) {
    for (std::size_t row = 0; row < scored.tokens().size(); ++row) {
      scored.temperatures()[row] = kTemperatures[(first + row) % 5];
    }
    check_scores(scored, std::to_string(vocab));
  }
}

TEST(float32_rows) {
  for (const std::int64_t vocab : {33, 1025}) check_rows<float>(vocab, vocab % 2);
}
TEST(float64_rows) { check_rows<double>(700, 1); }
TEST(float16_rows) { check_rows<Float16>(1100); }
TEST(bfloat16_rows) { check_rows<Bfloat16>(1100, 5); }

TEST(the_first_and_the_last_token) {
  const Floats row = test::drawn(3000, 52, -4.0, 4.0);
  Scored<float> scored({row, row});
  scored.tokens() = {std::max_element(row.begin(), row.end()) - row.begin(),
                     std::min_element(row.begin(), row.end()) - row.begin()};
  check_scores(scored, "the ends of the order");
  const std::vector<std::int64_t> ranks = scored.on_device(kGeometries[0]).ranks;
  CHECK_EQUAL(ranks[0], std::int64_t{0});
  CHECK_EQUAL(ranks[1], std::int64_t{2999});
}

TEST(illegal_values_mark_their_row) {
  const Floats row = test::drawn(100, 53, -1.0, 1.0);
  Scored<float> scored(std::vector<Floats>(6, row));
  scored.temperatures() = {1.0, -1.0, std::nan(""), HUGE_VAL, 1.0, 1.0};
  scored.tokens() = {3, 3, 3, 3, -1, 100};
  for (const cuda::Geometry& geometry : kGeometries) {
    const Scores found = scored.on_device(geometry);
    CHECK(found.status[0] == RowStatus::kValid);
    for (std::size_t i = 1; i < 6; ++i) {
      CHECK(found.status[i] == RowStatus::kIllegal);
      CHECK_EQUAL(found.ranks[i], std::int64_t{-1});
      CHECK(std::isnan(found.logprobs[i]) && std::isnan(found.entropies[i]) && std::isnan(found.logsumexps[i]));
    }
  }
}

TEST(every_schedule_scores_alike) {
  Scored<float> scored({test::drawn(5003, 54, -4.0, 4.0), Floats(5003, 1.0f)});
  for (std::uint64_t schedule = 1; schedule <= 6; ++schedule) {
    emulated::set_schedule(schedule);
    check_scores(scored, "schedule " + std::to_string(schedule));
  }
  emulated::set_schedule(0);
}

}  // namespace
