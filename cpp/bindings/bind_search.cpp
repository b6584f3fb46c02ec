// SPDX-License-Identifier: Apache-2.0
// top_continuations: what a step of a beam search asks of the logits.
#include <algorithm>
#include <cmath>

#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/device.h"
#include "bindings/sink.h"
#include "bindings/values.h"
#include "core/arithmetic.h"
#include "plan/plan.h"

namespace tokendraw::bindings {
namespace {

using Shape = std::vector<std::int64_t>;

/// The prompts of a request, whose beams are its last leading axis, which is cut from `parsed.leading_shape`.
std::vector<BeamGroup> parse_prompts(ParsedRequest& parsed, std::int64_t k) {
  if (parsed.leading_shape.empty()) value_error("logits must have at least two axes (beams, vocab), got one");
  const std::int64_t width = parsed.leading_shape.back();
  if (width > INT32_MAX) value_error("logits must have fewer than 2^31 beams, got " + std::to_string(width));
  parsed.leading_shape.pop_back();
  std::int64_t prompts = 1;
  for (const std::int64_t extent : parsed.leading_shape) prompts *= extent;
  std::vector<BeamGroup> groups;
  groups.reserve(static_cast<std::size_t>(prompts));
  for (std::int64_t i = 0; i < prompts; ++i) groups.push_back({i * width, i * width, width, i * k, k});
  return groups;
}

/// The score of every beam: read here, or on the device by its kernels, unchecked.
struct BeamScores {
  std::vector<double> values;
  DeviceValues device;
  ArrayView view;  // keeps what is on the device
};

std::vector<double> read_scores(const ArrayView& view, std::int64_t count) {
  std::vector<double> scores(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t offset = offset_of(view, i);
    scores[static_cast<std::size_t>(i)] = view.dtype == Dtype::kFloat64
                                              ? static_cast<const double*>(view.data)[offset]
                                              : static_cast<double>(static_cast<const float*>(view.data)[offset]);
  }
  check_scores(scores.data(), count);
  return scores;
}

BeamScores parse_scores(py::handle value, const ParsedRequest& parsed) {
  if (!value) type_error("scores must be an array of float32 or float64, got None");
  BeamScores scores;
  ArrayView& view = scores.view;
  view = view_array(value, "scores");
  if (view.dtype != Dtype::kFloat32 && view.dtype != Dtype::kFloat64) {
    type_error("scores must be an array of float32 or float64, got another dtype");
  }
  if (view.cuda || !parsed.home.cuda) check_home(view, parsed.home, "scores");
  const Shape& expected = parsed.request.logits.leading_shape;
  const Shape shape(view.shape, view.shape + view.ndim);
  if (shape != expected && shape != Shape{parsed.rows()}) {
    value_error("scores must have the shape of logits without the vocab, " + repr_of(py::cast(expected)) + ", got " +
                repr_of(py::cast(shape)));
  }
  if (!view.cuda) {
    scores.values = read_scores(view, parsed.rows());
  } else if (is_row_major(view) || parsed.rows() == 0) {
    scores.device = {view.data, view.dtype};
  } else {
    value_error("scores must be contiguous on a CUDA device, got other strides");
  }
  return scores;
}

const Signature kTopContinuations{"top_continuations", {kKeyLogits, kKeyScores, kKeyK}, kCallKeywords};

/// Past the last continuation -inf; a sum of finite log-probabilities stays finite.
float score_of(const Continuation& c) { return c.token < 0 ? -HUGE_VALF : finite_float(c.score); }

bool is_valid(const BeamGroup& group, const RowStatus* status) {
  const RowStatus* first = status + group.first_beam;
  return std::all_of(first, first + group.beams, [](RowStatus row) { return row == RowStatus::kValid; });
}

/// A request that is checked, with where its results go: all [slots].
struct ContinuationCall {
  const Request& request;
  Beams beams;
  std::size_t slots;
  float* scores;
  std::int32_t* parents;
  std::int32_t* tokens;

  void run_on_host(Backend& backend, RowStatus* status) const {
    std::vector<Continuation> found(slots);
    backend.top_continuations(request, beams, found.data(), status);
    for (std::int64_t i = 0; i < beams.count; ++i) write_group(beams.groups[i], found, status);
  }

  void run_on_device(Backend& backend, RowStatus* status, DeviceCall& call) {
    if (beams.scores) {
      const auto bytes = static_cast<std::size_t>(request.logits.rows) * sizeof(double);
      beams.device_scores = {call->copied(beams.scores, bytes, "scores"), Dtype::kFloat64};
    }
    auto* found = static_cast<Continuation*>(call->scratch(slots * sizeof(Continuation)));
    backend.top_continuations(request, beams, found, status);
    call->split(beams, found, status, scores, parents, tokens);
  }

 private:
  void write_group(const BeamGroup& group, const std::vector<Continuation>& found, const RowStatus* status) const {
    const bool valid = is_valid(group, status);
    for (std::int64_t slot = group.first_slot; slot < group.first_slot + group.slots; ++slot) {
      const Continuation& c = found[static_cast<std::size_t>(slot)];
      scores[slot] = valid ? score_of(c) : std::nanf("");
      parents[slot] = valid ? c.parent : -1;
      tokens[slot] = valid ? c.token : -1;
    }
  }
};

PyObject* top_continuations(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kTopContinuations, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, false, parsed);
    const std::int64_t k = parse_count(arguments[kKeyK], "k");
    const std::vector<BeamGroup> groups = parse_prompts(parsed, k);
    const BeamScores beam_scores = parse_scores(arguments[kKeyScores], parsed);
    Beams beams;
    beams.groups = groups.data();
    beams.count = static_cast<std::int64_t>(groups.size());
    beams.scores = beam_scores.view.cuda ? nullptr : beam_scores.values.data();
    beams.device_scores = beam_scores.device;
    Shape shape = parsed.leading_shape;
    shape.push_back(k);
    Result scores(parsed.home, Dtype::kFloat32, shape);
    Result parents(parsed.home, Dtype::kInt32, shape);
    Result tokens(parsed.home, Dtype::kInt32, shape);
    ContinuationCall step{parsed.request,
                          beams,
                          groups.size() * static_cast<std::size_t>(k),
                          static_cast<float*>(scores.data()),
                          static_cast<std::int32_t*>(parents.data()),
                          static_cast<std::int32_t*>(tokens.data())};
    const auto status = run_rows(parsed, nullptr, [&](Backend& backend, RowStatus* rows, DeviceCall* call) {
      call ? step.run_on_device(backend, rows, *call) : step.run_on_host(backend, rows);
    });
    const py::object best = tokens.finish();
    raise_invalid(parsed, status, best);
    return py::object(py::make_tuple(scores.finish(), parents.finish(), best));
  });
}

constexpr const char* kTopContinuationsDoc =
    R"(top_continuations(logits, scores, k, *, on_invalid=None, threads=None)
--

The k best continuations of the beams of every prompt: one step of a beam search.

A continuation is a beam and a token after it; it scores ``scores[beam] + log_softmax(logits[beam])[token]``. Higher
scores come first, equal ones by lower beam, and those of one beam in the total order (higher logit, then lower token).
Scores are compared in float64, before they are rounded for the result. No log-softmax is stored: every row is read
once, and of what can be among the best again.

Parameters
----------
logits : array of shape [..., beams, vocab]
    As for `sample`; the axes before ``beams`` are prompts.
scores : float32 or float64 array of shape [..., beams]
    The cumulative log-probability of every beam, finite or -inf. A beam at -inf has no continuations, and its logits
    are not read. For logits on a CUDA device they may be there or in host memory.
k : int
    How many; may be above ``vocab``.
on_invalid : {"raise", "mark"}, optional
    As for `sample`. A prompt with an invalid row is marked as a whole: scores NaN, parents and tokens -1.
threads : int, optional
    As for `sample`.

Returns
-------
scores, parents, tokens : float32, int32 and int32 arrays of shape [..., k]
    Best first; ``parents`` are beams within their prompt. Past the last continuation -inf, -1 and -1. Scores are within
    1e-6 + 2**-22 * abs(logprob) of the exact sum, and rounded once. They stay finite.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> logits = np.log(np.float32([[6, 3, 1], [1, 8, 1]]))
>>> scores, parents, tokens = td.top_continuations(logits, np.log([0.4, 0.5]), 3)
>>> np.exp(scores).round(3).tolist(), parents.tolist(), tokens.tolist()
([0.4000000059604645, 0.23999999463558197, 0.11999999731779099], [1, 0, 0], [1, 0, 1])
)";

}  // namespace

void bind_search(py::module_& module) {
  static PyMethodDef functions[] = {
      fast_method("top_continuations", top_continuations, kTopContinuationsDoc),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
}

}  // namespace tokendraw::bindings
