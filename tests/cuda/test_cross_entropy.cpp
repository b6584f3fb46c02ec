// SPDX-License-Identifier: Apache-2.0
// Losses and gradients on the device are those of the host, to the bit, in place too.
#include "batch.h"
#include "check.h"
#include "cpu/backend.h"
#include "cuda/cross_entropy.h"
#include "cuda/workspace.h"
#include "emulator.h"

namespace {

using namespace tokendraw;
using test::Array;
using test::DeviceRows;
using test::Floats;

struct Settings {
  double smoothing = 0.0;
  double weight = 1.0;
  bool in_place = false;
};

/// Losses of rows with a target each, on both sides. Out: the type of the gradient.
template <class Element, class Out>
class Losses {
 public:
  Losses(const std::vector<Floats>& rows, const Settings& settings, std::int64_t padding = 0)
      : rows_(rows, padding, padding),
        settings_(settings),
        temperatures_(rows.size(), 0.8),
        scales_(rows.size(), 1.5),
        tokens_(rows.size()),
        stride_(settings.in_place ? rows_.vocab() + padding : rows_.vocab() + 1),
        gradient_(rows.size() * static_cast<std::size_t>(stride_)) {
    test::Random random(61);
    for (std::int64_t& token : tokens_) token = random.below(rows_.vocab());
    tokens_[rows.size() / 2] = -100;
  }

  std::vector<double>& temperatures() { return temperatures_; }
  std::vector<std::int64_t>& tokens() { return tokens_; }

  void check(const std::string& what) {
    find_on_device();
    find_on_host();
    for (std::size_t row = 0; row < tokens_.size(); ++row) {
      const std::string where = what + " of " + std::to_string(rows_.vocab()) + ", row " + std::to_string(row);
      CHECK_WITH(found_status_[row] == expected_status_[row], where);
      CHECK_WITH(test::same_float(found_[row], expected_[row]),
                 where + ": " + test::shown(found_[row]) + " is not " + test::shown(expected_[row]));
    }
    CHECK_WITH(found_gradient_.size() == expected_gradient_.size(), what);
    std::size_t wrong = 0;
    for (std::size_t i = 0; i < expected_gradient_.size(); ++i) {
      wrong += test::same_float(widen(found_gradient_[i]), widen(expected_gradient_[i])) ? 0 : 1;
    }
    CHECK_WITH(wrong == 0, what + " of " + std::to_string(rows_.vocab()) + ": " + std::to_string(wrong));
  }

  void find_on_device() {
    const std::size_t count = tokens_.size();
    const Array<double> temperatures(temperatures_), scales(scales_);
    const Array<std::int64_t> tokens(tokens_);
    const Array<Out> gradient(gradient_.size());
    Array<double> losses(count);
    Array<RowStatus> status(count);
    const std::size_t bytes = cuda::workspace_bytes(rows_.rows(), rows_.vocab());
    const Array<char> workspace(std::vector<char>(bytes, 0));
    cuda::Context context;
    context.workspace = {workspace.get(), bytes};
    Request request = rows_.on_device();
    request.params.temperature.device = {temperatures.get(), Dtype::kFloat64};
    Targets targets = with_settings();
    targets.tokens.device = {tokens.get(), Dtype::kInt64};
    targets.gradient_scale.device = {scales.get(), Dtype::kFloat64};
    void* out = settings_.in_place ? const_cast<void*>(request.logits.data) : gradient.get();
    CHECK_EQUAL(static_cast<int>(
                    cuda::launch_cross_entropy(request, targets, {losses.get(), rows_at(out)}, status.get(), context)),
                0);
    CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
    CHECK_EQUAL(emulated::take_report(), std::string());
    found_ = losses.values();
    found_status_ = status.values();
    found_gradient_ = compact(static_cast<const Out*>(out));
  }

  void find_on_host() {
    Request request = rows_.on_host();
    request.params.temperature.values = temperatures_.data();
    Targets targets = with_settings();
    targets.tokens.values = tokens_.data();
    targets.gradient_scale.values = scales_.data();
    expected_.resize(tokens_.size());
    expected_status_.resize(tokens_.size());
    void* out = settings_.in_place ? const_cast<void*>(request.logits.data) : gradient_.data();
    cpu::backend().cross_entropy(request, targets, {expected_.data(), rows_at(out)}, expected_status_.data());
    expected_gradient_ = compact(static_cast<const Out*>(out));
  }

  const std::vector<double>& found() const { return found_; }
  const std::vector<RowStatus>& found_status() const { return found_status_; }
  const std::vector<Out>& found_gradient() const { return found_gradient_; }

 private:
  Targets with_settings() const {
    Targets targets;
    targets.label_smoothing = settings_.smoothing;
    targets.weight = settings_.weight;
    return targets;
  }

  OutputRows rows_at(void* data) const {
    OutputRows rows;
    rows.data = data;
    rows.dtype = test::kDtypeOf<Out>;
    rows.leading_shape = {rows_.rows()};
    rows.leading_strides = {stride_};
    return rows;
  }

  /// Without what lies between the rows. Memory of the device is memory of the host here.
  std::vector<Out> compact(const Out* from) const {
    std::vector<Out> elements;
    for (std::int64_t row = 0; row < rows_.rows(); ++row) {
      elements.insert(elements.end(), from + row * stride_, from + row * stride_ + rows_.vocab());
    }
    return elements;
  }

  DeviceRows<Element> rows_;
  Settings settings_;
  std::vector<double> temperatures_;
  std::vector<double> scales_;
  std::vector<std::int64_t> tokens_;
  std::int64_t stride_;
  std::vector<Out> gradient_;
  std::vector<double> found_, expected_;
  std::vector<RowStatus> found_status_, expected_status_;
  std::vector<Out> found_gradient_, expected_gradient_;
};

template <class Element, class Out>
void check_rows(std::int64_t vocab, const Settings& settings, const std::string& what, std::int64_t padding = 0) {
  Losses<Element, Out> losses(test::with_invalid(test::scores_of(test::adversarial_rows(vocab))), settings, padding);
  losses.temperatures()[0] = 1e-30;
  losses.temperatures()[3] = 1e30;
  losses.check(what);
}

TEST(float32_rows) {
  for (const std::int64_t vocab : {1, 33, 1024, 1025, 5003}) {
    check_rows<float, float>(vocab, {}, "float32");
    check_rows<float, float>(vocab, {0.1, 0.25, false}, "smoothed", 3);
  }
}
TEST(float64_rows) {
  check_rows<double, float>(1500, {}, "float64 to float32");
  check_rows<double, double>(1500, {0.2, 1.0, false}, "float64");
}
TEST(float16_rows) {
  check_rows<Float16, float>(2500, {}, "float16 to float32");
  check_rows<Float16, Float16>(2500, {0.2, 1.0, false}, "float16", 4);
}
TEST(bfloat16_rows) {
  check_rows<Bfloat16, float>(2500, {}, "bfloat16 to float32");
  check_rows<Bfloat16, Bfloat16>(2500, {0.2, 1.0, false}, "bfloat16", 4);
}

TEST(gradients_in_place) {
  check_rows<float, float>(5003, {0.1, 0.5, true}, "in place");
  check_rows<Bfloat16, Bfloat16>(3000, {0.0, 1.0, true}, "in place", 8);
}

TEST(losses_alone) {
  const std::vector<Floats> rows = test::scores_of(test::adversarial_rows(1500));
  const DeviceRows<float> device(rows);
  Array<double> losses(rows.size());
  Array<RowStatus> status(rows.size());
  const std::size_t bytes = cuda::workspace_bytes(device.rows(), device.vocab());
  const Array<char> workspace(std::vector<char>(bytes, 0));
  cuda::Context context;
  context.workspace = {workspace.get(), bytes};
  Targets targets;
  targets.tokens.value = 7;
  CHECK_EQUAL(static_cast<int>(
                  cuda::launch_cross_entropy(device.on_device(), targets, {losses.get(), {}}, status.get(), context)),
              0);
  CHECK_EQUAL(static_cast<int>(cudaDeviceSynchronize()), 0);
  std::vector<double> expected(rows.size());
  std::vector<RowStatus> expected_status(rows.size());
  cpu::backend().cross_entropy(device.on_host(), targets, {expected.data(), {}}, expected_status.data());
  const std::vector<double> found = losses.values();
  for (std::size_t row = 0; row < rows.size(); ++row) CHECK(test::same_float(found[row], expected[row]));
}

TEST(illegal_values_mark_their_row) {
  const Floats row = test::drawn(100, 62, -1.0, 1.0);
  Losses<float, float> losses(std::vector<Floats>(6, row), {});
  losses.temperatures() = {1.0, 0.0, std::nan(""), HUGE_VAL, 1.0, 1.0};
  losses.tokens() = {3, 3, 3, 3, -1, 100};
  losses.find_on_device();
  CHECK(losses.found_status()[0] == RowStatus::kValid);
  CHECK(!std::isnan(losses.found_gradient()[0]));
  for (std::size_t i = 1; i < 6; ++i) {
    CHECK(losses.found_status()[i] == RowStatus::kIllegal);
    CHECK(std::isnan(losses.found()[i]));
    CHECK(std::isnan(losses.found_gradient()[100 * i + 99]));
  }
}

TEST(every_schedule_finds_the_same) {
  for (std::uint64_t schedule = 1; schedule <= 6; ++schedule) {
    emulated::set_schedule(schedule);
    Losses<float, float> losses({test::drawn(5003, 63, -4.0, 4.0), Floats(5003, 1.0f)}, {0.1, 1.0, true});
    losses.check("schedule " + std::to_string(schedule));
  }
  emulated::set_schedule(0);
}

}  // namespace
