// SPDX-License-Identifier: Apache-2.0
// Whole rows from the device are those of the host, to the bit but where the host adds the weights of a short list.
#include "batch.h"
#include "check.h"
#include "cpu/backend.h"
#include "cuda/transform.h"
#include "cuda/workspace.h"
#include "emulator.h"

namespace {

using namespace tokendraw;
using test::Array;
using test::DeviceRows;
using test::Floats;

struct Filters {
  double temperature = 1.0;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  double min_p = 0.0;

  bool is_short_list() const { return min_p > 0.0 && top_k == 0 && !(top_p < 1.0); }
  std::string text() const {
    return "temperature " + test::shown(temperature) + ", top_k " + test::shown(top_k) + ", top_p " +
           test::shown(top_p) + ", min_p " + test::shown(min_p);
  }
};

constexpr Transform kTransforms[] = {Transform::kScores, Transform::kLogprobs, Transform::kProbs};

template <class Element>
class Transformed {
 public:
  explicit Transformed(const std::vector<Floats>& rows, std::int64_t padding = 0)
      : rows_(rows, padding, padding),
        bytes_(cuda::workspace_bytes(rows_.rows(), rows_.vocab())),
        workspace_(std::vector<char>(bytes_, 0)) {}

  std::size_t size() const { return static_cast<std::size_t>(rows_.rows() * rows_.vocab()); }

  /// `edit(request, on_device)` sets what differs.
  template <class Edit>
  Floats on_device(Transform transform, Edit edit) {
    Request request = rows_.on_device();
    edit(request, true);
    Array<float> out(size());
    Array<RowStatus> status(static_cast<std::size_t>(rows_.rows()));
    cuda::Context context;
    context.workspace = {workspace_.get(), bytes_};
    CHECK_EQUAL(static_cast<int>(cuda::launch_transform(request, transform, out.get(), status.get(), context)), 0);
    CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
    CHECK_EQUAL(emulated::take_report(), std::string());
    found_status = status.values();
    return out.values();
  }

  template <class Edit>
  Floats on_host(Transform transform, Edit edit) {
    Request request = rows_.on_host();
    edit(request, false);
    Floats out(size());
    expected_status.resize(static_cast<std::size_t>(rows_.rows()));
    cpu::backend().transform(request, transform, out.data(), expected_status.data());
    return out;
  }

  void check(const Filters& filters) {
    check(filters, [](Request&, bool) {});
  }

  template <class Edit>
  void check(const Filters& filters, Edit edit) {
    const auto with_filters = [&](Request& request, bool on_device) {
      request.params.temperature.value = filters.temperature;
      request.params.top_k.value = filters.top_k;
      request.params.top_p.value = filters.top_p;
      request.params.min_p.value = filters.min_p;
      edit(request, on_device);
    };
    for (const Transform transform : kTransforms) {
      const Floats found = on_device(transform, with_filters);
      const Floats expected = on_host(transform, with_filters);
      const std::string what = filters.text() + ", kind " + test::shown(static_cast<int>(transform)) + ", vocab " +
                               test::shown(rows_.vocab());
      CHECK_WITH(found_status == expected_status, what);
      const double tolerance = filters.is_short_list() ? 3e-7 : 0.0;
      std::size_t wrong = 0, first = 0;
      for (std::size_t i = 0; i < found.size(); ++i) {
        if (is_near(found[i], expected[i], tolerance)) continue;
        if (wrong++ == 0) first = i;
      }
      CHECK_WITH(wrong == 0, what + ": " + test::shown(wrong) + " wrong, " + test::shown(found[first]) + " is not " +
                                 test::shown(expected[first]) + " at " + test::shown(first));
    }
  }

  std::vector<RowStatus> found_status, expected_status;

 private:
  static bool is_near(float a, float b, double tolerance) {
    if (test::same_float(a, b)) return true;
    if (!std::isfinite(a) || !std::isfinite(b)) return false;
    const auto difference = std::fabs(static_cast<double>(a) - static_cast<double>(b));
    return difference <= tolerance * std::fmax(1.0, std::fabs(static_cast<double>(b)));
  }

  DeviceRows<Element> rows_;
  std::size_t bytes_;
  Array<char> workspace_;
};

std::vector<Floats> all_rows(std::int64_t vocab) {
  return test::with_invalid(test::scores_of(test::adversarial_rows(vocab)));
}

template <class Element>
void check_filters(std::int64_t vocab, std::int64_t padding = 0) {
  Transformed<Element> rows(all_rows(vocab), padding);
  const std::vector<Filters> cases{{0.7, 0, 1.0, 0.0},   {0.0, 0, 1.0, 0.0},   {1.0, 0, 1.0, 0.05},
                                   {1.0, 20, 0.9, 0.01}, {1.3, 0, 0.8, 0.001}, {1.0, 1200, 0.95, 0.0}};
  for (const Filters& filters : cases) rows.check(filters);
}

TEST(float32_rows) {
  for (const std::int64_t vocab : {1, 33, 2100}) check_filters<float>(vocab);
}
TEST(half_rows) {
  Transformed<Float16>(all_rows(1100), 1).check({0.9, 50, 0.9, 0.01});
  Transformed<Bfloat16>(all_rows(1100)).check({0.9, 0, 0.9, 0.01});
}
TEST(float64_rows) { Transformed<double>(all_rows(1100), 1).check({0.9, 50, 0.9, 0.0}); }

TEST(extreme_temperatures) {
  Transformed<float> rows(all_rows(1100));
  rows.check({1e-30, 0, 0.9, 0.0});
  rows.check({1e-310, 0, 1.0, 0.0});
}

TEST(edited_rows) {
  constexpr std::int64_t kVocab = 2100;
  Transformed<float> rows({test::drawn(kVocab, 71, -4.0, 4.0), test::drawn(kVocab, 72, -1.0, 9.0)});
  const Floats bias = test::drawn(kVocab, 73, -3.0, 3.0);
  std::vector<std::uint8_t> allowed(static_cast<std::size_t>(kVocab));
  test::Random random(74);
  for (auto& flag : allowed) flag = random.below(3) != 0;
  const Array<float> device_bias(bias);
  const Array<std::uint8_t> device_allowed(allowed);
  const std::vector<TokenBias> token_bias{{5, 2.0f}, {2099, -1.0f}};
  const auto edit = [&](Request& request, bool on_device) {
    request.edits.bias = on_device ? device_bias.get() : bias.data();
    request.edits.allowed = on_device ? device_allowed.get() : allowed.data();
    request.edits.token_bias = token_bias.data();
    request.edits.token_bias_count = 2;
  };
  rows.check({0.8, 0, 1.0, 0.0}, edit);
  rows.check({0.8, 40, 0.9, 0.0}, edit);
  rows.check({0.8, 0, 0.9, 0.01}, edit);
}

TEST(illegal_values_mark_their_row) {
  Transformed<float> rows(std::vector<Floats>(4, test::drawn(100, 75, -1.0, 1.0)));
  const Array<double> top_p(std::vector<double>{0.5, 2.0, std::nan(""), 0.0});
  const Floats out = rows.on_device(
      Transform::kProbs, [&](Request& request, bool) { request.params.top_p.device = {top_p.get(), Dtype::kFloat64}; });
  CHECK(rows.found_status[0] == RowStatus::kValid);
  for (std::size_t row = 1; row < 4; ++row) {
    CHECK(rows.found_status[row] == RowStatus::kIllegal);
    CHECK(std::isnan(out[100 * row]) && std::isnan(out[100 * row + 99]));
  }
}

TEST(every_schedule_writes_alike) {
  Transformed<float> rows({test::drawn(1500, 76, -4.0, 4.0), Floats(1500, 1.0f)});
  for (std::uint64_t schedule = 1; schedule <= 3; ++schedule) {
    emulated::set_schedule(schedule);
    rows.check({0.9, 30, 0.9, 0.0});
    rows.check({0.9, 0, 0.9, 0.0});
  }
  emulated::set_schedule(0);
}

}  // namespace
