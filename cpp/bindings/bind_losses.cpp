// SPDX-License-Identifier: Apache-2.0
// cross_entropy, kl_divergence, js_divergence: how far rows are from targets, and from other rows.
#include <algorithm>
#include <cmath>
#include <optional>

#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/device.h"
#include "bindings/gil.h"
#include "bindings/penalties.h"
#include "bindings/sink.h"
#include "bindings/values.h"
#include "core/arithmetic.h"
#include "cpu/backend.h"
#include "plan/plan.h"
#include "plan/unsupported.h"

namespace tokendraw::bindings {
namespace {

using Shape = std::vector<std::int64_t>;

/// Where the gradient goes: the caller's memory, a new array, or nowhere.
class Gradient {
 public:
  Gradient(const Arguments& arguments, const ParsedRequest& parsed)
      : returned_(parse_flag(arguments[kKeyGradient], "gradient")), out_(arguments[kKeyOut]) {
    Shape shape = parsed.leading_shape;
    shape.push_back(parsed.vocab());
    rows.leading_shape = parsed.leading_shape;
    if (out_) {
      borrow(shape, parsed);
    } else if (returned_) {
      result_.emplace(parsed.home, Dtype::kFloat32, shape);
      rows.data = result_->data();
      rows.leading_strides.resize(parsed.leading_shape.size());
      std::int64_t stride = parsed.vocab();
      for (std::size_t axis = parsed.leading_shape.size(); axis-- > 0;) {
        rows.leading_strides[axis] = stride;
        stride *= parsed.leading_shape[axis];
      }
    }
  }

  /// The loss, with the gradient beside it where the caller asked for that.
  py::object beside(const py::object& loss) {
    if (!returned_) return loss;
    return py::make_tuple(loss, result_ ? result_->finish() : py::reinterpret_borrow<py::object>(out_));
  }

  OutputRows rows;

 private:
  void borrow(const Shape& shape, const ParsedRequest& parsed) {
    const Logits& logits = parsed.request.logits;
    std::vector<Dtype> accepted{Dtype::kFloat32};
    if (logits.dtype != Dtype::kFloat32) accepted.push_back(logits.dtype);
    view_ = view_output(out_, "out", shape, accepted);
    check_home(view_, parsed.home, "out");
    const int last = view_.ndim - 1;
    if (view_.shape[last] > 1 && view_.strides[last] != 1) {
      value_error("out must have a contiguous last axis, got a stride of " + std::to_string(view_.strides[last]));
    }
    rows.data = view_.data;
    rows.dtype = view_.dtype;
    rows.leading_strides.assign(view_.strides, view_.strides + last);
    check_gradient(logits, rows);
  }

  bool returned_;
  py::handle out_;
  ArrayView view_;
  std::optional<Result> result_;
};

Targets parse_targets(const Arguments& arguments, ParsedRequest& parsed) {
  if (!arguments.has(kKeyTokens)) type_error("tokens must be an integer, or an array with one per row, got None");
  Targets targets;
  parse_per_row(arguments[kKeyTokens], "tokens", parsed, targets.tokens);
  if (arguments.has(kKeyIgnoreIndex)) {
    if (!PyIndex_Check(arguments[kKeyIgnoreIndex].ptr())) {
      type_error("ignore_index must be an integer, got " + type_name(arguments[kKeyIgnoreIndex]));
    }
    targets.ignore_index = parse_index(arguments[kKeyIgnoreIndex], "ignore_index");
  }
  if (arguments.has(kKeyLabelSmoothing)) {
    if (!PyNumber_Check(arguments[kKeyLabelSmoothing].ptr())) {
      type_error("label_smoothing must be a number, got " + type_name(arguments[kKeyLabelSmoothing]));
    }
    targets.label_smoothing = parse_real(arguments[kKeyLabelSmoothing]);
  }
  parse_per_row(arguments[kKeyScale], "scale", parsed, targets.gradient_scale);
  check_targets(targets, parsed.rows(), parsed.vocab());
  return targets;
}

std::int64_t count_rows(const Targets& targets, std::int64_t rows) {
  std::int64_t counted = 0;
  for (std::int64_t row = 0; row < rows; ++row) counted += targets.tokens[row] != targets.ignore_index;
  return counted;
}

/// A finite loss stays finite.
float rounded_loss(double loss) { return std::isfinite(loss) ? finite_float(loss) : static_cast<float>(loss); }

/// In the order of the rows.
float total_of(const std::vector<double>& losses, double count) {
  double total = 0.0;
  for (const double loss : losses) total += loss;
  return rounded_loss(total / count);
}

void reduce(Reduction reduction, const std::vector<double>& losses, std::int64_t counted, float* out) {
  switch (reduction) {
    case Reduction::kNone: std::transform(losses.begin(), losses.end(), out, rounded_loss); break;
    case Reduction::kSum: *out = total_of(losses, 1.0); break;
    case Reduction::kMean: *out = total_of(losses, static_cast<double>(counted)); break;
  }
}

/// A request that is checked, with where its results go.
struct LossCall {
  const Request& request;
  Targets targets;
  Reduction reduction;
  OutputRows gradient;
  float* out;  // [rows] or [1]

  void run_on_host(Backend& backend, RowStatus* status) {
    const std::int64_t rows = request.logits.rows;
    const std::int64_t counted = count_rows(targets, rows);
    if (reduction == Reduction::kMean) targets.weight = 1.0 / static_cast<double>(std::max<std::int64_t>(counted, 1));
    std::vector<double> losses(static_cast<std::size_t>(rows));
    backend.cross_entropy(request, targets, {losses.data(), gradient}, status);
    reduce(reduction, losses, counted, out);
  }

  /// Nobody here knows how many targets are to be ignored.
  void run_on_device(Backend& backend, RowStatus* status, DeviceCall& call) {
    const std::int64_t rows = request.logits.rows;
    call.move(targets.tokens, "tokens");
    call.move(targets.gradient_scale, "scale");
    if (reduction == Reduction::kMean) targets.mean_of = call->count_targets(targets, rows);
    auto* losses = static_cast<double*>(call->scratch(static_cast<std::size_t>(rows) * sizeof(double)));
    backend.cross_entropy(request, targets, {losses, gradient}, status);
    call->reduce(reduction, targets, losses, rows, out);
  }
};

const Signature kCrossEntropy{"cross_entropy",
                              {kKeyLogits, kKeyTokens, kKeyReduction, kKeyIgnoreIndex},
                              kCallKeywords | set_of(kKeyTemperature) | set_of(kKeyLabelSmoothing) |
                                  set_of(kKeyGradient) | set_of(kKeyScale) | set_of(kKeyOut),
                              set_of(kKeyReduction) | set_of(kKeyIgnoreIndex)};

PyObject* cross_entropy(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kCrossEntropy, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, false, parsed);
    check_positive_temperature(parsed.request.params);
    const auto reduction =
        static_cast<Reduction>(parse_choice(arguments[kKeyReduction], "reduction", {"mean", "sum", "none"}));
    const Targets targets = parse_targets(arguments, parsed);
    Gradient gradient(arguments, parsed);
    Result loss(parsed.home, Dtype::kFloat32, reduction == Reduction::kNone ? parsed.leading_shape : Shape{});
    LossCall losses{parsed.request, targets, reduction, gradient.rows, static_cast<float*>(loss.data())};
    const auto status = run_rows(parsed, nullptr, [&](Backend& backend, RowStatus* rows, DeviceCall* call) {
      call ? losses.run_on_device(backend, rows, *call) : losses.run_on_host(backend, rows);
    });
    raise_invalid(parsed, status, py::none());
    return gradient.beside(loss.finish());
  });
}

/// As many rows as the logits, or one for all of them.
void parse_other(py::handle value, const ParsedRequest& parsed, ParsedRequest& other) {
  parse_logits(value, "other_logits", other);
  check_home(other.logits, parsed.home, "other_logits");
  Logits& logits = other.request.logits;
  const bool one_for_all = other.leading_shape.empty();
  if (logits.vocab != parsed.vocab() || (!one_for_all && other.leading_shape != parsed.leading_shape)) {
    const auto shape_of = [](const ParsedRequest& request) {
      Shape shape = request.leading_shape;
      shape.push_back(request.vocab());
      return repr_of(py::tuple(py::cast(shape)));
    };
    value_error("other_logits must have the shape of logits, " + shape_of(parsed) + ", or be one row, got " +
                shape_of(other));
  }
  if (!one_for_all) return;
  logits.rows = parsed.rows();
  logits.leading_shape = parsed.leading_shape;
  logits.leading_strides.assign(parsed.leading_shape.size(), 0);
}

constexpr KeywordSet kDivergenceKeywords = kCallKeywords | set_of(kKeyTemperature) | set_of(kKeyOut);
const Signature kKlDivergence{"kl_divergence", {kKeyLogits, kKeyOtherLogits}, kDivergenceKeywords};
const Signature kJsDivergence{"js_divergence", {kKeyLogits, kKeyOtherLogits}, kDivergenceKeywords};

py::object divergence(const Arguments& arguments, Divergence kind) {
  ParsedRequest parsed;
  ParsedRequest other;
  parse_request(arguments, false, parsed);
  if (parsed.home.cuda) refuse_on_device("a divergence");
  check_positive_temperature(parsed.request.params);
  parse_other(arguments[kKeyOtherLogits], parsed, other);
  Sink<float> sink(arguments[kKeyOut], parsed.home, Dtype::kFloat32, parsed.leading_shape, {Dtype::kFloat32});
  std::vector<RowStatus> status(static_cast<std::size_t>(parsed.rows()));
  float* data = sink.data();
  {
    const ReleasedGil released;
    cpu::backend().diverge(parsed.request, other.request.logits, kind, data, status.data());
  }
  raise_invalid(parsed, status, py::none());
  return sink.finish();
}

PyObject* kl_divergence(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kKlDivergence,
                   [](const Arguments& arguments) { return divergence(arguments, Divergence::kKullbackLeibler); });
}

PyObject* js_divergence(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kJsDivergence,
                   [](const Arguments& arguments) { return divergence(arguments, Divergence::kJensenShannon); });
}

constexpr const char* kCrossEntropyDoc =
    R"(cross_entropy(logits, tokens, reduction="mean", ignore_index=-100, *, label_smoothing=0.0, temperature=1.0, gradient=False, scale=1.0, on_invalid=None, out=None, threads=None)
--

The cross-entropy of rows with one token each, as a training loss: with its gradient where asked for.

The meaning is that of torch.nn.functional.cross_entropy with class indices. A row is read from memory once; the
gradient is written while it is still in cache, and nothing of the size of the logits is allocated but a returned one.

Parameters
----------
logits : array of shape [vocab] or [..., vocab]
    As for `sample`.
tokens : int or one per row
    Ids in the vocabulary, or `ignore_index`.
reduction : {"mean", "sum", "none"}
    Of the rows that are not ignored, in float64 and in their order.
ignore_index : int
    A row with this token is not read, valid or not: its loss and its gradient are 0. The mean of none is NaN.
label_smoothing : float in [0, 1]
    This share of the target goes to all tokens alike; a token at -inf then makes the loss infinite.
temperature : float or one per row
    Above 0: the logits are divided by it.
gradient : bool
    Whether to return the gradient of what is returned with respect to the logits as well: of the mean, of the sum, or
    with "none" of each row's loss.
scale : float or one per row
    A factor of the gradient alone: what the chain rule brings from above, or a loss scale of half types.
on_invalid : {"raise", "mark"}, optional
    As for `sample`; a marked row makes a mean or a sum NaN, and its gradient is NaN.
out : array of the shape of logits, optional
    Where the gradient goes, returned or not: float32 or the dtype of logits. It may be the logits themselves, which it
    then replaces. Any leading strides; the last axis is contiguous.
threads : int, optional
    As for `sample`.

Returns
-------
loss : float, or float32 array of the leading shape with "none"
    In nats. Per row within 1e-6 + 2**-22 * loss.
gradient : array of the shape of logits
    Where asked for: `out`, or a float32 array. An element is within 2**-20 of its value, relative; with label
    smoothing, of the larger of its probability and the share of all tokens.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> logits = np.log(np.float32([[6, 3, 1], [1, 8, 1]]))
>>> loss, gradient = td.cross_entropy(logits, [0, 1], gradient=True)
>>> round(loss, 4)
0.367
>>> bool(np.allclose(2 * gradient, [[-0.4, 0.3, 0.1], [0.1, -0.2, 0.1]]))
True
>>> loss = td.cross_entropy(logits, [0, 1], out=logits)    # in place: the logits become the gradient
)";

constexpr const char* kKlDivergenceDoc =
    R"(kl_divergence(logits, other_logits, *, temperature=1.0, on_invalid=None, out=None, threads=None)
--

The Kullback-Leibler divergence of every row from the other's: sum of p * ln(p / q), where `other_logits` are q.

Rows that are nearly equal lose no accuracy: it is never negative, and 0 where the rows differ by a constant alone.

Parameters
----------
logits : array of shape [vocab] or [..., vocab]
    As for `sample`.
other_logits : array of the shape of logits, or of shape [vocab]
    Of any type that `logits` may have; one row serves all.
temperature : float or one per row
    Above 0: both rows are divided by it.
on_invalid : {"raise", "mark"}, optional
    As for `sample`, where either row is invalid; a marked one has NaN.
out : float32 array of the leading shape, optional
    Written and returned.
threads : int, optional
    As for `sample`.

Returns
-------
float32 array of the leading shape, or a float
    In nats, within 1e-6 of its value, relative. Infinite where a token is at -inf in the other row and not in this one.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> p, q = np.float32([0.5, 0.25, 0.25]), np.float32([0.25, 0.25, 0.5])
>>> round(td.kl_divergence(np.log(p), np.log(q)) / np.log(2), 4)
np.float64(0.25)
)";

constexpr const char* kJsDivergenceDoc =
    R"(js_divergence(logits, other_logits, *, temperature=1.0, on_invalid=None, out=None, threads=None)
--

The Jensen-Shannon divergence between rows: the mean of how far both diverge from their mean. Symmetric and finite.

Parameters
----------
logits, other_logits, temperature, on_invalid, out, threads
    As for `kl_divergence`.

Returns
-------
float32 array of the leading shape, or a float
    In nats, in [0, ln 2], within 1e-6 of its value, relative.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> apart = np.float32([[0, -np.inf], [-np.inf, 0]])
>>> round(td.js_divergence(apart[0], apart[1]) / np.log(2), 4)
np.float64(1.0)
)";

}  // namespace

void bind_losses(py::module_& module) {
  static PyMethodDef functions[] = {
      fast_method("cross_entropy", cross_entropy, kCrossEntropyDoc),
      fast_method("kl_divergence", kl_divergence, kKlDivergenceDoc),
      fast_method("js_divergence", js_divergence, kJsDivergenceDoc),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
}

}  // namespace tokendraw::bindings
