// SPDX-License-Identifier: Apache-2.0
// Draws on the device are those of the host, to the bit: parameters, dtypes, sizes, adversarial rows, geometries,
// schedules.
#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "array.h"
#include "check.h"
#include "core/half.h"
#include "core/weight.h"
#include "cpu/backend.h"
#include "cuda/draw.h"
#include "cuda/workspace.h"
#include "emulator.h"

namespace {

using namespace tokendraw;
using cuda::Geometry;
using cuda::Meeting;
using test::Array;
using Floats = std::vector<float>;

// ---- rows ----

Floats drawn(std::int64_t count, test::Random& random, double low, double high) {
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) value = static_cast<float>(random.between(low, high));
  return values;
}

/// About normal, of the given width.
Floats bell(std::int64_t count, test::Random& random, double width) {
  Floats values(static_cast<std::size_t>(count));
  for (float& value : values) {
    double sum = 0.0;
    for (int i = 0; i < 6; ++i) sum += random.between(-1.0, 1.0);
    value = static_cast<float>(sum * width * 0.7071);
  }
  return values;
}

/// Rows that a draw could get wrong; the last two cannot be drawn from.
std::vector<Floats> adversarial_rows(std::int64_t vocab) {
  test::Random random(static_cast<std::uint64_t>(vocab));
  const auto size = static_cast<std::size_t>(vocab);
  std::vector<Floats> rows{bell(vocab, random, 1.0),
                           bell(vocab, random, 4.0),
                           drawn(vocab, random, -60.0, 30.0),
                           drawn(vocab, random, -3e38, 3e38),
                           drawn(vocab, random, -1e-39, 1e-39),
                           Floats(size, 0.75f),
                           Floats(size, -HUGE_VALF),
                           Floats(size, -HUGE_VALF),
                           bell(vocab, random, 2.0),
                           bell(vocab, random, 2.0),
                           Floats(size, -FLT_MAX)};
  rows[6][size / 2] = -12.5f;
  std::sort(rows[8].begin(), rows[8].end());
  std::sort(rows[9].rbegin(), rows[9].rend());
  Floats spike = bell(vocab, random, 1.0);
  spike[size - 1] = 40.0f;
  rows.push_back(spike);
  Floats ties(size);
  for (float& value : ties) value = static_cast<float>(random.below(4)) - 2.0f;
  rows.push_back(ties);
  Floats zeros(size);
  for (float& value : zeros) value = random.below(2) != 0 ? -0.0f : 0.0f;
  rows.push_back(zeros);
  Floats holes = bell(vocab, random, 3.0);
  for (std::size_t i = 1; i < size; i += 3) holes[i] = -HUGE_VALF;
  rows.push_back(holes);
  // Tiles whose reference is an integer beside tiles whose reference is their largest score.
  Floats mixed = bell(vocab, random, 2.0);
  for (std::size_t i = 0; i < size; ++i) mixed[i] *= i / kTile % 2 == 0 ? 1.0f : 1e7f;
  rows.push_back(mixed);
  // A token far below the others, and thousands of equal ones beside a subnormal.
  Floats deep = Floats(size, 1.0f);
  deep[size / 3] = 1e-42f;
  rows.push_back(deep);
  rows.push_back(bell(vocab, random, 1.0));
  rows.back()[size - 1] = std::nanf("");
  rows.push_back(bell(vocab, random, 1.0));
  rows.back()[size / 2] = HUGE_VALF;
  return rows;
}

// ---- dtypes ----

template <class Element>
std::vector<char> encoded(const Floats& values) {
  std::vector<char> bytes(values.size() * sizeof(Element));
  for (std::size_t i = 0; i < values.size(); ++i) {
    Element element;
    narrow(values[i], &element);
    std::memcpy(bytes.data() + i * sizeof(Element), &element, sizeof element);
  }
  return bytes;
}

std::vector<char> encoded(Floats values, Dtype dtype) {
  if (dtype == Dtype::kFloat16) {
    for (float& value : values) {
      if (std::isfinite(value)) value = std::fmax(std::fmin(value, 65504.0f), -65504.0f);
    }
    return encoded<Float16>(values);
  }
  if (dtype == Dtype::kBfloat16) {
    for (float& value : values) {
      if (std::isfinite(value)) value = std::fmax(std::fmin(value, 3e38f), -3e38f);
    }
    return encoded<Bfloat16>(values);
  }
  return dtype == Dtype::kFloat64 ? encoded<double>(values) : encoded<float>(values);
}

// ---- requests ----

struct Params {
  double temperature = 1.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;
};

/// Values in the memory of the host and of the device.
template <class T>
struct Column {
  explicit Column(const std::vector<T>& values) : host(values), device(values) {}

  PerRow<T> on_host() const {
    PerRow<T> column;
    column.values = host.data();
    column.count = static_cast<std::int64_t>(host.size());
    return column;
  }
  PerRow<T> on_device(Dtype dtype) const {
    PerRow<T> column;
    column.device = {device.get(), dtype};
    return column;
  }

  std::vector<T> host;
  Array<T> device;
};

struct Drawn {
  std::vector<std::int32_t> tokens;
  std::vector<RowStatus> status;
};

constexpr std::int64_t kBestCount = 5;

/// All that a draw can be asked for.
struct Described {
  explicit Described(std::size_t rows)
      : drawn{std::vector<std::int32_t>(rows), std::vector<RowStatus>(rows)},
        floats{std::vector<float>(rows), std::vector<float>(rows), std::vector<float>(rows)},
        ranks(rows),
        kept(rows),
        best(rows * kBestCount),
        best_logprobs(rows * kBestCount) {}

  Drawn drawn;
  std::vector<float> floats[3];  // log-probabilities, those of the unmodified logits, entropies
  std::vector<std::int64_t> ranks, kept;
  std::vector<std::int32_t> best;
  std::vector<float> best_logprobs;
};

/// A batch whose row i has the parameters of index i, and its draws on the host.
class Batch {
 public:
  Batch(const std::vector<Floats>& rows, Dtype dtype, const std::vector<Params>& params, std::int64_t start = 0,
        std::int64_t gap = 0)
      : rows_(static_cast<std::int64_t>(rows.size())),
        vocab_(static_cast<std::int64_t>(rows[0].size())),
        bytes_(laid_out(rows, dtype, start, gap)),
        logits_(bytes_),
        temperature_(column<double>(params, [](const Params& p) { return p.temperature; })),
        top_k_(column<std::int64_t>(params, [](const Params& p) { return p.top_k; })),
        top_p_(column<double>(params, [](const Params& p) { return p.top_p; })),
        min_p_(column<double>(params, [](const Params& p) { return p.min_p; })),
        seed_(counted(0x9e3779b97f4a7c15u)),
        step_(counted(0x01000193u)) {
    const std::size_t offset = static_cast<std::size_t>(start) * size_of(dtype);
    for (Request* request : {&host_, &device_}) {
      request->logits.dtype = dtype;
      request->logits.rows = rows_;
      request->logits.vocab = vocab_;
      request->logits.leading_shape = {rows_};
      request->logits.leading_strides = {vocab_ + gap};
      request->randomness.stream_is_row = true;
    }
    host_.logits.data = bytes_.data() + offset;
    device_.logits.data = logits_.get() + offset;
    host_.params.temperature = temperature_.on_host();
    host_.params.top_k = top_k_.on_host();
    host_.params.top_p = top_p_.on_host();
    host_.params.min_p = min_p_.on_host();
    host_.randomness.seed = seed_.on_host();
    host_.randomness.step = step_.on_host();
    device_.params.temperature = temperature_.on_device(Dtype::kFloat64);
    device_.params.top_k = top_k_.on_device(Dtype::kInt64);
    device_.params.top_p = top_p_.on_device(Dtype::kFloat64);
    device_.params.min_p = min_p_.on_device(Dtype::kFloat64);
    device_.randomness.seed = seed_.on_device(Dtype::kUint64);
    device_.randomness.step = step_.on_device(Dtype::kUint64);
  }

  Request& host() { return host_; }
  Request& device() { return device_; }
  std::int64_t rows() const { return rows_; }

  Drawn draw_on_host() {
    Drawn drawn{std::vector<std::int32_t>(count()), std::vector<RowStatus>(count())};
    DrawOutputs outputs;
    outputs.tokens = drawn.tokens.data();
    cpu::backend().draw(host_, outputs, drawn.status.data());
    return drawn;
  }

  Drawn draw_on_device(const Geometry& geometry) {
    const Array<std::int32_t> tokens(std::vector<std::int32_t>(count(), -7));
    const Array<RowStatus> status(count());
    DrawOutputs outputs;
    outputs.tokens = tokens.get();
    launch(outputs, status.get(), geometry);
    return {tokens.values(), status.values()};
  }

  Described describe_on_host() {
    Described described(count());
    DrawOutputs outputs;
    outputs.tokens = described.drawn.tokens.data();
    outputs.logprobs = described.floats[0].data();
    outputs.raw_logprobs = described.floats[1].data();
    outputs.entropies = described.floats[2].data();
    outputs.ranks = described.ranks.data();
    outputs.kept = described.kept.data();
    outputs.top_count = kBestCount;
    outputs.top_tokens = described.best.data();
    outputs.top_logprobs = described.best_logprobs.data();
    cpu::backend().draw(host_, outputs, described.drawn.status.data());
    return described;
  }

  Described describe_on_device(const Geometry& geometry) {
    const Array<std::int32_t> tokens(count()), best(count() * kBestCount);
    const Array<float> logprobs(count()), raw_logprobs(count()), entropies(count()),
        best_logprobs(count() * kBestCount);
    const Array<std::int64_t> ranks(count()), kept(count());
    const Array<RowStatus> status(count());
    DrawOutputs outputs;
    outputs.tokens = tokens.get();
    outputs.logprobs = logprobs.get();
    outputs.raw_logprobs = raw_logprobs.get();
    outputs.entropies = entropies.get();
    outputs.ranks = ranks.get();
    outputs.kept = kept.get();
    outputs.top_count = kBestCount;
    outputs.top_tokens = best.get();
    outputs.top_logprobs = best_logprobs.get();
    launch(outputs, status.get(), geometry);
    Described described(count());
    described.drawn = {tokens.values(), status.values()};
    described.floats[0] = logprobs.values();
    described.floats[1] = raw_logprobs.values();
    described.floats[2] = entropies.values();
    described.ranks = ranks.values();
    described.kept = kept.values();
    described.best = best.values();
    described.best_logprobs = best_logprobs.values();
    return described;
  }

 private:
  void launch(const DrawOutputs& outputs, RowStatus* status, const Geometry& geometry) {
    const std::size_t bytes = cuda::workspace_bytes(rows_, vocab_);
    if (!workspace_) workspace_ = std::make_unique<Array<char>>(std::vector<char>(bytes, 0));
    cuda::Context context;
    context.workspace = {workspace_->get(), bytes};
    CHECK_EQUAL(static_cast<int>(cuda::launch_draw(device_, outputs, status, context, geometry)), 0);
    CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
    CHECK_EQUAL(emulated::take_report(), std::string());
  }

  std::size_t count() const { return static_cast<std::size_t>(rows_); }

  static std::vector<char> laid_out(const std::vector<Floats>& rows, Dtype dtype, std::int64_t start,
                                    std::int64_t gap) {
    Floats all(static_cast<std::size_t>(start), 1e9f);
    for (const Floats& row : rows) {
      all.insert(all.end(), row.begin(), row.end());
      all.insert(all.end(), static_cast<std::size_t>(gap), 1e9f);
    }
    return encoded(all, dtype);
  }

  template <class T, class Field>
  std::vector<T> column(const std::vector<Params>& params, Field field) const {
    std::vector<T> values;
    for (std::size_t row = 0; row < count(); ++row) values.push_back(field(params[row % params.size()]));
    return values;
  }

  std::vector<std::uint64_t> counted(std::uint64_t factor) const {
    std::vector<std::uint64_t> values;
    for (std::uint64_t row = 1; row <= count(); ++row) values.push_back(factor * row & 0xffffffffu);
    return values;
  }

  const std::int64_t rows_;
  const std::int64_t vocab_;
  const std::vector<char> bytes_;
  const Array<char> logits_;
  const Column<double> temperature_;
  const Column<std::int64_t> top_k_;
  const Column<double> top_p_, min_p_;
  const Column<std::uint64_t> seed_, step_;
  std::unique_ptr<Array<char>> workspace_;
  Request host_, device_;
};

void check_same(const Drawn& device, const Drawn& host, const std::string& name) {
  for (std::size_t row = 0; row < host.tokens.size(); ++row) {
    const std::string place = name + ", row " + std::to_string(row) + ": ";
    CHECK_WITH(device.status[row] == host.status[row],
               place + "status " + std::to_string(static_cast<int>(device.status[row])) + " for " +
                   std::to_string(static_cast<int>(host.status[row])));
    CHECK_WITH(device.tokens[row] == host.tokens[row],
               place + std::to_string(device.tokens[row]) + " for " + std::to_string(host.tokens[row]));
  }
}

/// Where the steps leave from one to two thousand tokens, whether the host lists them, and so how it adds them, depends
/// on its threads: there the contract's accuracy is asked for.
bool close_enough(float found, float expected, std::int64_t kept) {
  const bool is_exact =
      std::memcmp(&found, &expected, sizeof found) == 0 || (std::isnan(found) && std::isnan(expected));
  const float error = std::fabs(found - expected);
  return is_exact || (kept > 1024 && kept <= 2048 && error <= 1e-6f + 0x1p-22f * std::fabs(expected));
}

void check_same(const Described& device, const Described& host, const std::string& name) {
  check_same(device.drawn, host.drawn, name);
  constexpr const char* kFloats[] = {"log-probability", "raw log-probability", "entropy"};
  for (std::size_t row = 0; row < host.ranks.size(); ++row) {
    const std::string place = name + ", row " + std::to_string(row) + ": ";
    for (int which = 0; which < 3; ++which) {
      const std::vector<float>&found = device.floats[which], &expected = host.floats[which];
      CHECK_WITH(close_enough(found[row], expected[row], host.kept[row]),
                 place + kFloats[which] + " " + test::shown(found[row]) + " for " + test::shown(expected[row]));
    }
    CHECK_WITH(device.ranks[row] == host.ranks[row],
               place + "rank " + std::to_string(device.ranks[row]) + " for " + std::to_string(host.ranks[row]));
    CHECK_WITH(device.kept[row] == host.kept[row],
               place + std::to_string(device.kept[row]) + " kept for " + std::to_string(host.kept[row]));
    for (std::size_t i = row * kBestCount; i < (row + 1) * kBestCount; ++i) {
      CHECK_WITH(device.best[i] == host.best[i],
                 place + "best token " + std::to_string(device.best[i]) + " for " + std::to_string(host.best[i]));
      CHECK_WITH(close_enough(device.best_logprobs[i], host.best_logprobs[i], host.kept[row]),
                 place + "best log-probability " + test::shown(device.best_logprobs[i]) + " for " +
                     test::shown(host.best_logprobs[i]));
    }
  }
}

constexpr Geometry kOneBlock{};

std::string name_of(const Geometry& geometry) {
  constexpr const char* kNames[] = {"blocks", "clusters", "splits"};
  return std::to_string(geometry.blocks) + " " + kNames[static_cast<int>(geometry.meeting)];
}

/// Every row with every set of parameters.
std::vector<Floats> repeated(const std::vector<Floats>& rows, std::size_t times) {
  std::vector<Floats> all;
  for (const Floats& row : rows) all.insert(all.end(), times, row);
  return all;
}

const std::vector<Params> kWithoutNucleus{
    {0.0, 0, 1.0, 0.0},  {1.0, 0, 1.0, 0.0},  {0.7, 0, 1.0, 0.0}, {1e-30, 0, 1.0, 0.0}, {1e30, 0, 1.0, 0.0},
    {1.0, 0, 1.0, 0.05}, {0.6, 0, 1.0, 1e-7}, {2.0, 0, 1.0, 1.0}, {0.0, 0, 1.0, 0.5},   {3.0, 0, 1.0, 0.9},
};

const std::vector<Params> kNuclei{
    {1.0, 0, 0.95, 0.0}, {0.7, 0, 0.5, 0.0},   {1.0, 0, 0.05, 0.0},  {2.0, 0, 0.999, 0.0},      {1.0, 0, 0.9, 0.02},
    {0.6, 0, 0.3, 0.3},  {1e-30, 0, 0.7, 0.0}, {1e30, 0, 0.37, 0.0}, {1.0, 0, 1.0 - 1e-9, 0.0}, {1.0, 0, 1e-300, 0.0},
};

const std::vector<Params> kBest{
    {1.0, 1, 1.0, 0.0},    {0.7, 50, 1.0, 0.0},    {1.0, 50, 0.9, 0.0},    {1.5, 1000, 0.5, 0.01},
    {1.0, 7, 1.0, 0.3},    {1e-30, 3, 0.5, 0.0},   {1e30, 1024, 0.4, 0.0}, {1.0, 1025, 1.0, 0.0},
    {0.8, 3000, 0.9, 0.0}, {1.0, 2000, 0.7, 0.02}, {0.0, 50, 0.5, 0.1},    {2.0, 1500, 1.0, 0.1},
};

constexpr std::int64_t kSizes[] = {1, 16, 31, 65, 1000, 1024, 1025, 5003};
constexpr Dtype kDtypes[] = {Dtype::kFloat32, Dtype::kFloat16, Dtype::kBfloat16, Dtype::kFloat64};

TEST(rows_of_every_kind) {
  for (const std::int64_t vocab : kSizes) {
    for (const Dtype dtype : kDtypes) {
      Batch batch(repeated(adversarial_rows(vocab), kWithoutNucleus.size()), dtype, kWithoutNucleus, vocab % 3,
                  vocab % 5);
      const std::string name = std::to_string(vocab) + " tokens of dtype " + std::to_string(static_cast<int>(dtype));
      check_same(batch.draw_on_device(kOneBlock), batch.draw_on_host(), name);
    }
  }
}

constexpr Geometry kGeometries[] = {{Meeting::kCluster, 2}, {Meeting::kCluster, 4}, {Meeting::kCluster, 8},
                                    {Meeting::kSplit, 2},   {Meeting::kSplit, 5},   {Meeting::kSplit, 8}};

TEST(best_of_rows_of_every_kind) {
  for (const std::int64_t vocab : {1, 33, 1025, 3003}) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
      Batch batch(repeated(adversarial_rows(vocab), kBest.size()), dtype, kBest);
      const std::string name = std::to_string(vocab) + " tokens of dtype " + std::to_string(static_cast<int>(dtype));
      check_same(batch.draw_on_device(kOneBlock), batch.draw_on_host(), name);
    }
  }
}

TEST(nuclei_of_rows_of_every_kind) {
  for (const std::int64_t vocab : {1, 17, 1025, 3003}) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
      Batch batch(repeated(adversarial_rows(vocab), kNuclei.size()), dtype, kNuclei);
      const std::string name = std::to_string(vocab) + " tokens of dtype " + std::to_string(static_cast<int>(dtype));
      check_same(batch.draw_on_device(kOneBlock), batch.draw_on_host(), name);
    }
  }
}

/// A few parameters of every kind.
const std::vector<Params> kMixed{{0.0, 0, 1.0, 0.0}, {0.7, 0, 1.0, 0.0}, {1.0, 0, 1.0, 0.2},   {1.0, 0, 0.9, 0.0},
                                 {2.0, 0, 0.8, 0.1}, {1.0, 9, 1.0, 0.0}, {0.9, 300, 0.9, 0.0}, {1.0, 1500, 0.9, 0.0}};

TEST(descriptions_of_rows_of_every_kind) {
  const std::pair<std::int64_t, Dtype> kKinds[] = {
      {1, Dtype::kFloat32}, {33, Dtype::kFloat32}, {2050, Dtype::kBfloat16}};
  for (const auto& [vocab, dtype] : kKinds) {
    Batch batch(repeated(adversarial_rows(vocab), kMixed.size()), dtype, kMixed);
    check_same(batch.describe_on_device(kOneBlock), batch.describe_on_host(), std::to_string(vocab) + " tokens");
  }
}

/// The rows of these kinds with each set of parameters.
Batch batch_of(std::int64_t vocab, const std::vector<std::size_t>& kinds, const std::vector<Params>& params) {
  const std::vector<Floats> rows = adversarial_rows(vocab);
  std::vector<Floats> chosen;
  for (const std::size_t kind : kinds) chosen.push_back(rows[kind]);
  return Batch(repeated(chosen, params.size()), Dtype::kFloat32, params);
}

void check_geometries(Batch& batch, const std::string& name) {
  const Drawn expected = batch.draw_on_host();
  std::uint64_t schedule = 0;
  for (const Geometry& geometry : kGeometries) {
    emulated::set_schedule(++schedule);
    check_same(batch.draw_on_device(geometry), expected, name + ", " + name_of(geometry));
  }
  emulated::set_schedule(0);
}

TEST(every_geometry_draws_alike) {
  Batch plain = batch_of(5003, {12}, kWithoutNucleus);
  check_geometries(plain, "without a nucleus");
  Batch nuclei = batch_of(4100, {1}, kNuclei);
  check_geometries(nuclei, "nuclei");
  Batch best = batch_of(3000, {12}, kBest);
  check_geometries(best, "the best");
}

TEST(every_schedule_draws_alike) {
  std::vector<Params> params = kNuclei;
  params.push_back(kWithoutNucleus[1]);
  Batch batch = batch_of(2049, {1, 12}, params);
  const Drawn expected = batch.draw_on_host();
  for (std::uint64_t schedule = 1; schedule < 8; ++schedule) {
    emulated::set_schedule(schedule);
    check_same(batch.draw_on_device(kOneBlock), expected, "schedule " + std::to_string(schedule));
  }
  emulated::set_schedule(0);
}

/// Edits in the memory of the host and of the device.
struct TestEdits {
  explicit TestEdits(std::int64_t rows, std::int64_t vocab) {
    test::Random random(19);
    for (std::int64_t i = 0; i < rows * vocab; ++i) {
      allowed.push_back(random.below(4) != 0);
      bias.push_back(random.below(9) == 0 ? -HUGE_VALF : static_cast<float>(random.between(-2.0, 2.0)));
    }
    const std::int64_t words = (vocab + 31) / 32;
    for (std::int64_t i = 0; i < rows * words; ++i) {
      bits.push_back(static_cast<std::uint32_t>(random.bits() | random.bits()));
    }
    tokens = {{0, FLT_MAX}, {5, -1.5f}, {static_cast<std::int32_t>(vocab - 1), 3.0f}};
    strides = {vocab, words};
  }

  Edits of(unsigned kinds, const std::uint8_t* allowed_at, const std::uint32_t* bits_at, const float* bias_at) const {
    Edits edits;
    if (kinds & 1u) edits.allowed = allowed_at, edits.allowed_stride = strides[0];
    if (kinds & 2u) edits.allowed_bits = bits_at, edits.allowed_words = strides[1], edits.allowed_bits_stride = 0;
    if (kinds & 4u) edits.bias = bias_at, edits.bias_stride = strides[0];
    if (kinds & 8u) edits.token_bias = tokens.data(), edits.token_bias_count = 3;
    return edits;
  }

  std::vector<std::uint8_t> allowed;
  std::vector<std::uint32_t> bits;
  Floats bias;
  std::vector<TokenBias> tokens;
  std::vector<std::int64_t> strides;
};

TEST(edited_rows) {
  constexpr std::int64_t kVocab = 1100;
  Batch batch = batch_of(kVocab, {1, 12}, kMixed);
  const TestEdits edits(batch.rows(), kVocab);
  const Array<std::uint8_t> allowed(edits.allowed);
  const Array<std::uint32_t> bits(edits.bits);
  const Array<float> bias(edits.bias);
  for (const unsigned kinds : {1u, 2u, 4u, 8u, 15u}) {
    batch.host().edits = edits.of(kinds, edits.allowed.data(), edits.bits.data(), edits.bias.data());
    batch.device().edits = edits.of(kinds, allowed.get(), bits.get(), bias.get());
    check_same(batch.describe_on_device(kOneBlock), batch.describe_on_host(), "edits " + std::to_string(kinds));
  }
  check_geometries(batch, "edited");
}

/// An illegal value makes its row invalid, and no other one.
TEST(illegal_parameters_on_the_device) {
  const double nan = std::nan("");
  const std::vector<Params> legal(8, Params{0.9, 5, 0.9, 0.1});
  std::vector<Params> params = legal;
  params[0].temperature = -1.0;
  params[1].temperature = nan;
  params[2].top_p = 2.0;
  params[3].top_p = 0.0;
  params[4].min_p = nan;
  params[5].top_k = -1;
  params[6].temperature = HUGE_VAL;
  const std::vector<Floats> rows = repeated({adversarial_rows(100)[1]}, params.size());
  Batch batch(rows, Dtype::kFloat32, params);
  Batch fine(rows, Dtype::kFloat32, legal);
  const Described drawn = batch.describe_on_device(kOneBlock);
  const Drawn expected = fine.draw_on_host();
  for (std::size_t row = 0; row < params.size(); ++row) {
    const bool is_legal = row == 7;
    CHECK_EQUAL(drawn.drawn.tokens[row], is_legal ? expected.tokens[row] : -1);
    CHECK(drawn.drawn.status[row] == (is_legal ? RowStatus::kValid : RowStatus::kIllegal));
    CHECK_EQUAL(std::isnan(drawn.floats[0][row]), !is_legal);
    CHECK_EQUAL(drawn.kept[row] == 0, !is_legal);
  }
}

/// Parameters and steps as other dtypes hold them, tokens as int64.
TEST(other_dtypes_of_parameters) {
  const std::vector<Params> params{{0.5, 3, 0.75, 0.0}, {1.0, 0, 0.5, 0.25}};
  Batch batch = batch_of(65, {1, 12}, params);
  std::vector<float> temperature;
  std::vector<std::int32_t> top_k, step;
  std::vector<std::uint16_t> top_p;
  for (std::int64_t row = 0; row < batch.rows(); ++row) {
    const Params& own = params[static_cast<std::size_t>(row) % params.size()];
    temperature.push_back(static_cast<float>(own.temperature));
    top_k.push_back(static_cast<std::int32_t>(own.top_k));
    step.push_back(static_cast<std::int32_t>(row));
    Bfloat16 half;
    narrow(static_cast<float>(own.top_p), &half);
    top_p.push_back(half.bits);
  }
  const Array<float> device_temperature(temperature);
  const Array<std::int32_t> device_top_k(top_k), device_step(step);
  const Array<std::uint16_t> device_top_p(top_p);
  batch.device().params.temperature.device = {device_temperature.get(), Dtype::kFloat32};
  batch.device().params.top_k.device = {device_top_k.get(), Dtype::kInt32};
  batch.device().params.top_p.device = {device_top_p.get(), Dtype::kBfloat16};
  batch.device().randomness.step.device = {device_step.get(), Dtype::kInt32};
  const std::vector<std::uint64_t> host_step(step.begin(), step.end());
  batch.host().randomness.step.values = host_step.data();
  const Drawn expected = batch.draw_on_host();
  check_same(batch.draw_on_device(kOneBlock), expected, "dtypes");

  const Array<std::int64_t> tokens(expected.tokens.size());
  const Array<RowStatus> status(expected.tokens.size());
  const std::size_t bytes = cuda::workspace_bytes(batch.rows(), 65);
  const Array<char> workspace(std::vector<char>(bytes, 0));
  cuda::Context context;
  context.workspace = {workspace.get(), bytes};
  context.wide_tokens = true;
  DrawOutputs outputs;
  outputs.tokens = reinterpret_cast<std::int32_t*>(tokens.get());
  CHECK_EQUAL(static_cast<int>(cuda::launch_draw(batch.device(), outputs, status.get(), context)), 0);
  CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
  const std::vector<std::int64_t> wide = tokens.values();
  for (std::size_t row = 0; row < wide.size(); ++row) CHECK_EQUAL(wide[row], std::int64_t{expected.tokens[row]});
}

/// As large as models have them: by the geometry that a small batch gets.
TEST(rows_of_models) {
  test::Random random(7);
  const std::vector<Floats> rows{bell(128256, random, 1.0), bell(128256, random, 3.0)};
  const std::vector<Params> params{{1.0, 0, 1.0, 0.0}, {0.8, 0, 0.95, 0.0}, {1.0, 0, 0.3, 0.0}, {1.0, 0, 1.0, 0.05}};
  Batch batch(repeated(rows, params.size()), Dtype::kBfloat16, params);
  const Drawn expected = batch.draw_on_host();
  check_same(batch.draw_on_device(kOneBlock), expected, "one block");
  check_same(batch.draw_on_device(cuda::choose_geometry(1, 128256, {0, 90, 132})), expected, "a cluster");
}

}  // namespace
