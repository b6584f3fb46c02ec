// SPDX-License-Identifier: Apache-2.0
// A tile in the registers of a warp says of its scores, to the bit, what the CPU's kernels say.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "batch.h"
#include "check.h"
#include "cpu/isa.h"
#include "emulator.h"
#include "tile_kernels.cuh"

namespace {

using namespace tokendraw;
using test::Array;
using test::drawn;
using test::encoded;
using test::Floats;
using test::Summary;

/// Sizes around a vector, a line and a tile; the last one fills several warps.
constexpr std::int64_t kSizes[] = {1, 15, 33, 1023, 1024, 1025, 5003};
constexpr std::int64_t kRows = 3;

/// Rows that a sum of weights could get wrong.
std::vector<std::pair<std::string, Floats>> rows_of(std::int64_t count) {
  std::vector<std::pair<std::string, Floats>> rows{{"flat", drawn(count, 1, -2.0, 2.0)},
                                                   {"peaked", drawn(count, 2, -60.0, 30.0)},
                                                   {"huge", drawn(count, 3, -3e38, 3e38)},
                                                   {"subnormal", drawn(count, 4, -1e-39, 1e-39)}};
  Floats holes = drawn(count, 5, -8.0, 8.0);
  for (std::size_t i = 0; i < holes.size(); i += 3) holes[i] = -HUGE_VALF;
  rows.emplace_back("holes", holes);
  // A tile whose reference is an integer beside one whose reference is its largest score.
  Floats mixed = drawn(count, 6, -3.0, 3.0);
  for (std::size_t i = 0; i < mixed.size(); ++i) mixed[i] *= i / kTile % 2 == 0 ? 1.0f : 1e7f;
  rows.emplace_back("mixed", mixed);
  return rows;
}

/// Rows `stride` elements apart, from element `start` of their memory on.
template <class Element>
struct Batch {
  Batch(const Floats& values, std::int64_t vocab, std::int64_t stride, std::int64_t start)
      : host(encoded<Element>(values)), device(host), vocab(vocab), stride(stride), start(start) {}

  cuda::Rows rows() const {
    cuda::Rows rows{device.get() + start, kRows, vocab, {}};
    CHECK(cuda::join_leading({kRows}, {stride}, &rows.leading));
    return rows;
  }

  cpu::RowView view(std::int64_t row) const {
    cpu::RowView view;
    view.logits = host.data() + start + row * stride;
    view.dtype = test::kDtypeOf<Element>;
    view.vocab = vocab;
    return view;
  }

  std::vector<Element> host;
  Array<Element> device;
  std::int64_t vocab;
  std::int64_t stride;
  std::int64_t start;
};

using Summaries = std::vector<Summary>;  // [kRows, tiles]

/// The largest score of a row, NaN where it holds one.
float max_of_row(const Summaries& found, std::int64_t row) {
  const auto tiles = static_cast<std::int64_t>(found.size()) / kRows;
  float largest = -HUGE_VALF;
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    const float max = found[static_cast<std::size_t>(row * tiles + tile)].max;
    if (!(max <= largest) && !std::isnan(largest)) largest = max;
  }
  return largest;
}

template <class Element, class EditsOfRows>
Summaries summarized(const Batch<Element>& batch, const EditsOfRows& edits, const Scale& scale, Cutoff cutoff) {
  const std::int64_t tiles = cpu::count_tiles(batch.vocab);
  Array<Summary> summaries(static_cast<std::size_t>(kRows * tiles));
  cuda::LaunchShape shape;
  shape.grid = static_cast<unsigned>(kRows);
  shape.block = 128;
  const auto error =
      cuda::launch(test::summarize<Element, EditsOfRows>, shape, batch.rows(), edits, scale, cutoff, summaries.get());
  CHECK_EQUAL(static_cast<int>(error), 0);
  CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
  return summaries.values();
}

bool same_bits(double a, double b) { return std::memcmp(&a, &b, sizeof a) == 0; }

/// `view_of(row)` is the row as the CPU reads it.
template <class ViewOf>
void check_summaries(const Summaries& found, const std::string& name, const Scale& scale, Cutoff cutoff,
                     ViewOf view_of) {
  const cpu::Kernels& kernels = *cpu::active_isa().kernels;
  for (std::int64_t row = 0; row < kRows; ++row) {
    const cpu::RowView view = view_of(row);
    const std::int64_t tiles = cpu::count_tiles(view.vocab);
    std::vector<cpu::TileSummary> expected(static_cast<std::size_t>(tiles));
    std::vector<double> sums(expected.size());
    const bool valid = kernels.scan_sums(view, scale, {0, tiles}, expected.data(), nullptr);
    CHECK_EQUAL(max_of_row(found, row) <= FLT_MAX, valid);
    if (!valid) continue;
    kernels.cut_sums(view, scale, {0, tiles}, expected.data(), cutoff, sums.data());
    for (std::int64_t tile = 0; tile < tiles; ++tile) {
      const auto at = static_cast<std::size_t>(tile);
      const Summary& summary = found[static_cast<std::size_t>(row * tiles + tile)];
      const bool all = cutoff.token == kKeepFinite.token;
      CHECK_WITH(summary.max == expected[at].max, name);
      CHECK_WITH(same_bits(summary.sum, all ? expected[at].sum : sums[at]),
                 name + ", tile " + std::to_string(tile) + " of " + std::to_string(view.vocab) + ": " +
                     test::shown(summary.sum) + " is not " + test::shown(all ? expected[at].sum : sums[at]));
    }
  }
}

template <class Element>
void check_rows() {
  for (const std::int64_t vocab : kSizes) {
    for (const std::int64_t start : {0, 1}) {
      const std::int64_t stride = vocab + 8 - vocab % 8 + start;
      for (const auto& [name, values] : rows_of(start + kRows * stride)) {
        const Batch<Element> batch(values, vocab, stride, start);
        for (const double temperature : {0.7, 1e-30}) {
          const Scale scale = make_scale(temperature);
          for (const Cutoff cutoff : {kKeepFinite, Cutoff{0.25f, vocab / 2}}) {
            const Summaries found = summarized(batch, cuda::NoEdits{}, scale, cutoff);
            check_summaries(found, name, scale, cutoff, [&](std::int64_t row) { return batch.view(row); });
          }
        }
      }
    }
  }
}

TEST(float32_rows) { check_rows<float>(); }
TEST(float64_rows) { check_rows<double>(); }
TEST(float16_rows) { check_rows<Float16>(); }
TEST(bfloat16_rows) { check_rows<Bfloat16>(); }

TEST(every_schedule_sums_alike) {
  const Batch<float> batch(drawn(kRows * 5003, 8, -9.0, 9.0), 5003, 5003, 0);
  const Scale scale = make_scale(0.7);
  for (std::uint64_t schedule = 0; schedule < 8; ++schedule) {
    emulated::set_schedule(schedule);
    const Summaries found = summarized(batch, cuda::NoEdits{}, scale, kKeepFinite);
    check_summaries(found, "schedule", scale, kKeepFinite, [&](std::int64_t row) { return batch.view(row); });
  }
  emulated::set_schedule(0);
}

/// The first `count` tokens of a row in its order.
std::vector<Candidate> first_of(const Floats& row, int count) {
  std::vector<Candidate> all;
  for (std::size_t i = 0; i < row.size(); ++i) all.push_back({row[i], static_cast<std::int32_t>(i)});
  std::sort(all.begin(), all.end(), before);
  all.resize(std::min(all.size(), static_cast<std::size_t>(count)));
  return all;
}

TEST(listed_tokens_weigh_what_their_tiles_do) {
  constexpr int kVocab = 5003;
  for (const auto& [name, values] : rows_of(kVocab)) {
    Floats rows;
    for (int row = 0; row < kRows; ++row) rows.insert(rows.end(), values.begin(), values.end());
    const Batch<float> batch(rows, kVocab, kVocab, 0);
    for (const double temperature : {0.7, 40.0, 1e-30}) {
      const Scale scale = make_scale(temperature);
      for (const int count : {1, 2, 3, 31, 100, cuda::kMaxCounted}) {
        const std::vector<Candidate> list = first_of(values, count);
        const Summaries tiles = summarized(batch, cuda::NoEdits{}, scale, through(list.back()));
        const Array<Candidate> listed(list);
        Array<test::RunSum> runs(list.size());
        Array<int> found(1);
        cuda::LaunchShape shape;
        shape.block = cuda::kThreads;
        const auto error = cuda::launch(test::sum_runs, shape, listed.get(), static_cast<int>(list.size()), scale,
                                        runs.get(), found.get());
        CHECK_EQUAL(static_cast<int>(error), 0);
        CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
        const std::vector<test::RunSum> sums = runs.values();
        const int count_found = found.values()[0];
        const cuda::RowUnits units{scale, reference_of(list[0].score, scale)};
        int seen = 0;
        for (int tile = 0; tile < cpu::count_tiles(kVocab); ++tile) {
          const Summary& expected = tiles[static_cast<std::size_t>(tile)];
          const double sum = units.scaled(expected.sum, expected.max);
          const bool has_run = seen < count_found && sums[static_cast<std::size_t>(seen)].tile == tile;
          const double of_run = has_run ? sums[static_cast<std::size_t>(seen++)].sum : 0.0;
          CHECK_WITH(same_bits(of_run, sum), name + ", tile " + std::to_string(tile) + ", first " +
                                                 std::to_string(count) + ": " + test::shown(of_run) + " is not " +
                                                 test::shown(sum));
        }
        CHECK_EQUAL(seen, count_found);
      }
    }
  }
}

/// All edits at once, or one alone.
TEST(edited_rows) {
  for (const std::int64_t vocab : {17, 1000, 1025, 5003}) {
    const Batch<float> batch(drawn(kRows * vocab, 9, -4.0, 4.0), vocab, vocab, 0);
    const std::int64_t words = (vocab + 31) / 32 - (vocab > 32 ? 1 : 0);
    test::Random random(10);
    std::vector<std::uint8_t> allowed(static_cast<std::size_t>(kRows * vocab));
    for (auto& flag : allowed) flag = random.below(4) != 0;
    std::vector<std::uint32_t> bits(static_cast<std::size_t>(kRows * words));
    for (auto& word : bits) word = static_cast<std::uint32_t>(random.bits() | random.bits());
    Floats bias = drawn(kRows * vocab, 11, -2.0, 2.0);
    bias[0] = FLT_MAX;
    for (std::size_t i = 1; i < bias.size(); i += 5) bias[i] = -HUGE_VALF;
    const std::vector<TokenBias> token_bias{{0, FLT_MAX}, {5, -1.5f}, {static_cast<std::int32_t>(vocab - 1), 3.0f}};
    const Array<std::uint8_t> device_allowed(allowed);
    const Array<std::uint32_t> device_bits(bits);
    const Array<float> device_bias(bias);
    const Scale scale = make_scale(1.0);
    for (unsigned kinds = 1; kinds < 16; ++kinds) {
      cuda::RowEdits edits;
      if (kinds & 1u) edits.allowed = device_allowed.get(), edits.allowed_stride = vocab;
      if (kinds & 2u) {
        edits.allowed_bits = device_bits.get(), edits.allowed_words = words, edits.allowed_bits_stride = words;
      }
      if (kinds & 4u) edits.bias = device_bias.get(), edits.bias_stride = vocab;
      if (kinds & 8u) {
        edits.token_bias_count = static_cast<int>(token_bias.size());
        std::copy(token_bias.begin(), token_bias.end(), edits.token_bias);
      }
      const Summaries found = summarized(batch, edits, scale, Cutoff{-1.0f, vocab / 2});
      check_summaries(found, "edits", scale, Cutoff{-1.0f, vocab / 2}, [&](std::int64_t row) {
        cpu::RowView view = batch.view(row);
        if (kinds & 1u) view.allowed = allowed.data() + row * vocab;
        if (kinds & 2u) view.allowed_bits = bits.data() + row * words, view.allowed_words = words;
        if (kinds & 4u) view.bias = bias.data() + row * vocab;
        if (kinds & 8u) {
          view.token_bias = token_bias.data();
          view.token_bias_count = static_cast<std::int64_t>(token_bias.size());
        }
        return view;
      });
    }
  }
}

TEST(faults_are_told_apart) {
  for (const std::int64_t vocab : {33, 2048, 5003}) {
    for (const std::size_t place : {std::size_t{0}, static_cast<std::size_t>(vocab - 1)}) {
      Floats values = drawn(kRows * vocab, 12, -4.0, 4.0);
      values[place] = std::nanf("");
      values[static_cast<std::size_t>(vocab) + place] = HUGE_VALF;
      const Batch<float> batch(values, vocab, vocab, 0);
      const Summaries found = summarized(batch, cuda::NoEdits{}, make_scale(1.0), kKeepFinite);
      CHECK(std::isnan(max_of_row(found, 0)));
      CHECK_EQUAL(max_of_row(found, 1), HUGE_VALF);
      CHECK(max_of_row(found, 2) <= FLT_MAX);
    }
  }
}

TEST(leading_axes_are_joined) {
  cuda::Leading leading;
  CHECK(cuda::join_leading({2, 3, 4}, {1200, 400, 100}, &leading));
  CHECK_EQUAL(leading.count, 1);
  CHECK_EQUAL(leading.offset(23), std::int64_t{2300});
  CHECK(cuda::join_leading({2, 1, 3}, {0, 7, 50}, &leading));
  CHECK_EQUAL(leading.count, 2);
  CHECK_EQUAL(leading.offset(4), std::int64_t{50});
  CHECK(cuda::join_leading({}, {}, &leading));
  CHECK_EQUAL(leading.offset(0), std::int64_t{0});
  std::vector<std::int64_t> shape(9, 2), strides(9);
  for (std::size_t axis = 0; axis < 9; ++axis) strides[axis] = static_cast<std::int64_t>(3 * axis + 1);
  CHECK(!cuda::join_leading(shape, strides, &leading));
}

}  // namespace
