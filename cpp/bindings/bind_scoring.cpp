// SPDX-License-Identifier: Apache-2.0
// token_logprobs, logsumexp, entropy: what rows of logits say, without any step.
#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/device.h"
#include "bindings/sink.h"
#include "bindings/values.h"
#include "plan/plan.h"

namespace tokendraw::bindings {
namespace {

PerRow<std::int64_t> parse_tokens(const Arguments& arguments, ParsedRequest& parsed) {
  if (!arguments.has(kKeyTokens)) type_error("tokens must be an integer, or an array with one per row, got None");
  PerRow<std::int64_t> tokens;
  parse_per_row(arguments[kKeyTokens], "tokens", parsed, tokens);
  if (tokens.device.data != nullptr) return tokens;
  for (std::int64_t row = 0; row < tokens.count; ++row) {
    if (tokens[row] >= 0 && tokens[row] < parsed.vocab()) continue;
    value_error("tokens must be in [0, " + std::to_string(parsed.vocab()) + "), got " + std::to_string(tokens[row]) +
                (tokens.varies() ? " (row " + std::to_string(row) + ")" : ""));
  }
  return tokens;
}

void run(ParsedRequest& parsed, PerRow<std::int64_t> tokens, const ScoreOutputs& outputs) {
  const auto status = run_rows(parsed, nullptr, [&](Backend& backend, RowStatus* rows, DeviceCall* call) {
    if (call) call->move(tokens, "tokens");
    backend.score(parsed.request, tokens, outputs, rows);
  });
  raise_invalid(parsed, status, py::none());
}

constexpr KeywordSet kScoreKeywords = kCallKeywords | set_of(kKeyTemperature) | set_of(kKeyOut);
const Signature kTokenLogprobs{
    "token_logprobs", {kKeyLogits, kKeyTokens, kKeyRanks}, kScoreKeywords, set_of(kKeyRanks)};
const Signature kLogsumexp{"logsumexp", {kKeyLogits}, kScoreKeywords};
const Signature kEntropy{"entropy", {kKeyLogits}, kScoreKeywords};

PyObject* token_logprobs(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kTokenLogprobs, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, false, parsed);
    const PerRow<std::int64_t> tokens = parse_tokens(arguments, parsed);
    const bool with_ranks = arguments.has(kKeyRanks) && arguments[kKeyRanks].cast<bool>();
    Sink<float> logprobs(arguments[kKeyOut], parsed.home, Dtype::kFloat32, parsed.leading_shape, {Dtype::kFloat32});
    ScoreOutputs outputs;
    outputs.logprobs = logprobs.data();
    if (!with_ranks) {
      run(parsed, tokens, outputs);
      return logprobs.finish();
    }
    Result ranks(parsed.home, Dtype::kInt64, parsed.leading_shape);
    outputs.ranks = static_cast<std::int64_t*>(ranks.data());
    run(parsed, tokens, outputs);
    return py::object(py::make_tuple(logprobs.finish(), ranks.finish()));
  });
}

/// A function of logits alone, with one float per row.
PyObject* float_per_row(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords,
                        const Signature& signature, float* ScoreOutputs::* output) {
  return fast_call(self, values, count, keywords, signature, [output](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, false, parsed);
    if (output == &ScoreOutputs::logsumexps) check_positive_temperature(parsed.request.params);
    Sink<float> sink(arguments[kKeyOut], parsed.home, Dtype::kFloat32, parsed.leading_shape, {Dtype::kFloat32});
    ScoreOutputs outputs;
    outputs.*output = sink.data();
    run(parsed, PerRow<std::int64_t>{0}, outputs);
    return sink.finish();
  });
}

PyObject* logsumexp(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return float_per_row(self, values, count, keywords, kLogsumexp, &ScoreOutputs::logsumexps);
}

PyObject* entropy(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return float_per_row(self, values, count, keywords, kEntropy, &ScoreOutputs::entropies);
}

constexpr const char* kTokenLogprobsDoc =
    R"(token_logprobs(logits, tokens, ranks=False, *, temperature=1.0, on_invalid=None, out=None, threads=None)
--

The log-probability of one token per row, without a log-softmax of the others.

Every row is read once, with `ranks` a part of it again.

Parameters
----------
logits : array of shape [vocab] or [..., vocab]
    As for `sample`.
tokens : int or one per row
    Ids in the vocabulary.
ranks : bool, default False
    Whether to count the tokens above each one in the total order as well.
temperature : float or one per row
    As for `sample`: the logits are divided by it; at 0 the best token has log-probability 0. Ranks do not change.
on_invalid : {"raise", "mark"}, optional
    As for `sample`; a marked row has NaN and rank -1.
out : float32 array of the leading shape, optional
    Where the log-probabilities go.
threads : int, optional
    As for `sample`.

Returns
-------
logprobs : float32 array of the leading shape, or a float
    In nats, within 1e-6 + 2**-22 * abs(logprob); -inf for a token at -inf.
ranks : int64 array of the leading shape, or an int
    Where asked for; 0 is the best.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> logits = np.log(np.float32([[6, 3, 1], [1, 8, 1]]))
>>> logprobs, ranks = td.token_logprobs(logits, [1, 1], ranks=True)
>>> np.exp(logprobs).round(3).tolist(), ranks.tolist()
([0.30000001192092896, 0.800000011920929], [1, 0])
)";

constexpr const char* kLogsumexpDoc =
    R"(logsumexp(logits, *, temperature=1.0, on_invalid=None, out=None, threads=None)
--

The logarithm of the sum of exp(logits / temperature), per row: what a logit lacks to be a log-probability.

Parameters
----------
logits, on_invalid, out, threads
    As for `token_logprobs`.
temperature : float or one per row
    Above 0.

Returns
-------
float32 array of the leading shape, or a float
    In nats; at most the largest float32.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> round(td.logsumexp(np.log(np.float32([1, 2, 7]))), 4) == round(float(np.log(10)), 4)
True
)";

constexpr const char* kEntropyDoc =
    R"(entropy(logits, *, temperature=1.0, on_invalid=None, out=None, threads=None)
--

The entropy of every row's distribution; 0 at temperature 0.

Parameters
----------
logits, temperature, on_invalid, out, threads
    As for `token_logprobs`.

Returns
-------
float32 array of the leading shape, or a float
    In nats.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> round(td.entropy(np.zeros(8, np.float32)) / np.log(2), 4)
np.float64(3.0)
)";

}  // namespace

void bind_scoring(py::module_& module) {
  static PyMethodDef functions[] = {
      fast_method("token_logprobs", token_logprobs, kTokenLogprobsDoc),
      fast_method("logsumexp", logsumexp, kLogsumexpDoc),
      fast_method("entropy", entropy, kEntropyDoc),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
}

}  // namespace tokendraw::bindings
