// SPDX-License-Identifier: Apache-2.0
#include "plan/unsupported.h"

#include <algorithm>
#include <string>

#include "plan/plan.h"

namespace tokendraw {
namespace {

template <class T>
bool differs(const PerRow<T>& values, T neutral) {
  if (values.device.data != nullptr) return true;
  for (std::int64_t row = 0; row < values.count; ++row) {
    if (values[row] < neutral || values[row] > neutral) return true;
  }
  return false;
}

template <class T>
void refuse_used(const char* name, const PerRow<T>& values, T neutral) {
  if (differs(values, neutral)) refuse_on_device(name);
}

bool is_on_device(Step step) {
  return step == Step::kTemperature || step == Step::kTopK || step == Step::kTopP || step == Step::kMinP;
}

/// Whether the steps that a device has come one after another as they do by default.
bool is_default_order(const StepOrder& order) {
  if (std::find(order.begin(), order.end(), Step::kTopKTopP) != order.end()) return false;
  const Step* last = nullptr;
  for (const Step& step : order) {
    if (!is_on_device(step)) continue;
    if (last != nullptr && *last > step) return false;
    last = &step;
  }
  return true;
}

void check_filters_on_device(const FilterParams& params) {
  refuse_used("typical_p", params.typical_p, 1.0);
  refuse_used("epsilon_cutoff", params.epsilon_cutoff, 0.0);
  refuse_used("eta_cutoff", params.eta_cutoff, 0.0);
  refuse_used("top_n_sigma", params.top_n_sigma, 0.0);
  refuse_used("xtc_probability", params.xtc_probability, 0.0);
  if (!is_default_order(params.steps)) refuse_on_device("steps in another order");
  if (params.top_k_all_ties) refuse_on_device("top_k_ties=\"all\"");
  if (params.top_p_exceeds) refuse_on_device("top_p_boundary=\"exceed\"");
  if (params.top_p_ties == Ties::kHighest) refuse_on_device("top_p_ties=\"highest\"");
  if (params.top_p_ties == Ties::kAll) refuse_on_device("top_p_ties=\"all\"");
  if (params.top_p_of_original) refuse_on_device("top_p_mass=\"original\"");
}

void check_penalties_on_device(const PenaltyParams& penalties) {
  refuse_used("repetition_penalty", penalties.repetition, 1.0);
  refuse_used("frequency_penalty", penalties.frequency, 0.0);
  refuse_used("presence_penalty", penalties.presence, 0.0);
  refuse_used("dry_multiplier", penalties.dry_multiplier, 0.0);
  refuse_used("min_tokens", penalties.min_tokens, std::int64_t{0});
}

}  // namespace

void refuse_on_device(const char* what) {
  throw Unsupported(std::string(what) + " is not implemented for logits on a CUDA device; copy them to the host");
}

void check_beams_on_device(const Request& request, const Beams& beams) {
  const FilterParams& params = request.params;
  if (beams.noise == Noise::kOwn) refuse_on_device("choice=\"sampled\"");
  if (beams.noise == Noise::kOfBeam) refuse_on_device("choice=\"stochastic\"");
  refuse_used("top_k", params.top_k, std::int64_t{0});
  refuse_used("top_p", params.top_p, 1.0);
  refuse_used("min_p", params.min_p, 0.0);
  for (std::int64_t row = 0; row < params.temperature.count; ++row) {
    if (!(params.temperature[row] > 0.0)) refuse_on_device("temperature=0");
  }
}

void check_on_device(const Request& request) {
  check_filters_on_device(request.params);
  check_penalties_on_device(request.penalties);
  if (request.edits.token_bias_count > kMaxDeviceTokenBiases) {
    throw std::invalid_argument("bias must have at most " + std::to_string(kMaxDeviceTokenBiases) +
                                " tokens as a dict for logits on a CUDA device, got " +
                                std::to_string(request.edits.token_bias_count) + ": give an array");
  }
}

}  // namespace tokendraw
