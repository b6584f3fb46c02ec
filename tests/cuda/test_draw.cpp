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
    const std::size_t bytes = cuda::workspace_bytes(rows_, vocab_);
    if (!workspace_) workspace_ = std::make_unique<Array<char>>(std::vector<char>(bytes, 0));
    cuda::Context context;
    context.workspace = {workspace_->get(), bytes};
    DrawOutputs outputs;
    outputs.tokens = tokens.get();
    const auto error = cuda::launch_draw(device_, outputs, status.get(), context, geometry);
    CHECK_EQUAL(static_cast<int>(error), 0);
    CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
    CHECK_EQUAL(emulated::take_report(), std::string());
    return {tokens.values(), status.values()};
  }

 private:
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

constexpr std::int64_t kSizes[] = {1, 15, 16, 17, 31, 33, 65, 1000, 1024, 1025, 5003};
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

TEST(nuclei_of_rows_of_every_kind) {
  for (const std::int64_t vocab : {1, 17, 1000, 1025, 5003}) {
    for (const Dtype dtype : {Dtype::kFloat32, Dtype::kBfloat16}) {
      Batch batch(repeated(adversarial_rows(vocab), kNuclei.size()), dtype, kNuclei);
      const std::string name = std::to_string(vocab) + " tokens of dtype " + std::to_string(static_cast<int>(dtype));
      check_same(batch.draw_on_device(kOneBlock), batch.draw_on_host(), name);
    }
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
  Batch plain = batch_of(5003, {1, 12, 17}, kWithoutNucleus);
  check_geometries(plain, "without a nucleus");
  Batch nuclei = batch_of(5003, {1, 5, 12}, kNuclei);
  check_geometries(nuclei, "nuclei");
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
