// SPDX-License-Identifier: Apache-2.0
// sample, draw, greedy: logits in, tokens out.
#include "bindings/bind.h"
#include "bindings/calls.h"
#include "bindings/device.h"
#include "bindings/docs.h"
#include "bindings/sink.h"
#include "bindings/values.h"

namespace tokendraw::bindings {
namespace {

using Shape = std::vector<std::int64_t>;

/// `valid` may be null.
std::vector<RowStatus> run_draw(ParsedRequest& parsed, const DrawOutputs& outputs, bool* valid) {
  return run_rows(parsed, valid, [&](Backend& backend, RowStatus* status, DeviceCall*) {
    backend.draw(parsed.request, outputs, status);
  });
}

py::object draw_tokens(const Arguments& arguments, ParsedRequest& parsed) {
  Sink<std::int32_t> sink(arguments[kKeyOut], parsed.home, Dtype::kInt32, parsed.leading_shape,
                          {Dtype::kInt32, Dtype::kInt64});
  DrawOutputs outputs;
  outputs.tokens = sink.data();
  parsed.wide_tokens = sink.is_wide();
  const std::vector<RowStatus> status = run_draw(parsed, outputs, nullptr);
  py::object tokens = sink.finish();
  raise_invalid(parsed, status, tokens);
  return tokens;
}

const Signature kSample{"sample", {kKeyLogits}, kFilterKeywords | kCallKeywords | set_of(kKeyOut)};
const Signature kDraw{"draw", {kKeyLogits}, kFilterKeywords | kCallKeywords | set_of(kKeyLogprobs)};
const Signature kGreedy{"greedy", {kKeyLogits}, kCallKeywords | set_of(kKeyMask) | set_of(kKeyBias) | set_of(kKeyOut)};

PyObject* sample(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kSample, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, true, parsed);
    return draw_tokens(arguments, parsed);
  });
}

PyObject* greedy(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kGreedy, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, false, parsed);
    parsed.request.params.temperature = {0.0};
    return draw_tokens(arguments, parsed);
  });
}

PyObject* draw(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* keywords) {
  return fast_call(self, values, count, keywords, kDraw, [](const Arguments& arguments) {
    ParsedRequest parsed;
    parse_request(arguments, true, parsed);
    const std::int64_t best = arguments.has(kKeyLogprobs) ? parse_count(arguments[kKeyLogprobs], "logprobs") : 0;
    const auto result = [&](Dtype dtype) { return Result(parsed.home, dtype, parsed.leading_shape); };
    Shape best_shape = parsed.leading_shape;
    best_shape.push_back(best);
    Result tokens = result(Dtype::kInt32), logprobs = result(Dtype::kFloat32), raw_logprobs = result(Dtype::kFloat32);
    Result entropies = result(Dtype::kFloat32);
    Result ranks = result(Dtype::kInt64), kept = result(Dtype::kInt64), valid = result(Dtype::kBool);
    Result best_tokens(parsed.home, Dtype::kInt32, best_shape);
    Result best_logprobs(parsed.home, Dtype::kFloat32, best_shape);

    DrawOutputs outputs;
    outputs.tokens = static_cast<std::int32_t*>(tokens.data());
    outputs.logprobs = static_cast<float*>(logprobs.data());
    outputs.raw_logprobs = static_cast<float*>(raw_logprobs.data());
    outputs.entropies = static_cast<float*>(entropies.data());
    outputs.ranks = static_cast<std::int64_t*>(ranks.data());
    outputs.kept = static_cast<std::int64_t*>(kept.data());
    outputs.top_count = best;
    outputs.top_tokens = static_cast<std::int32_t*>(best_tokens.data());
    outputs.top_logprobs = static_cast<float*>(best_logprobs.data());
    const std::vector<RowStatus> status = run_draw(parsed, outputs, static_cast<bool*>(valid.data()));

    const py::object drawn = tokens.finish();
    raise_invalid(parsed, status, drawn);
    return py::module_::import("tokendraw.sampler")
        .attr("Draws")(drawn, logprobs.finish(), raw_logprobs.finish(), ranks.finish(), kept.finish(), valid.finish(),
                       best_tokens.finish(), best_logprobs.finish(), entropies.finish());
  });
}

constexpr const char* kSampleDoc =
    "sample(logits, *, " TOKENDRAW_FILTERS_SIGNATURE TOKENDRAW_RANDOM_SIGNATURE R"(out=None, threads=None)
--

Draw one token per row.

Parameters
----------
logits : array of shape [vocab] or [..., vocab]
    float32, float16, bfloat16 or float64; NumPy, or anything with ``__dlpack__``. Never written. Any leading strides
    are read in place.
temperature : float or one per row
    Divides the logits; 0 takes the first token of the total order (highest logit, then lowest id).
top_k : int or one per row
    Keep the k first tokens of the total order; 0 or None keeps all.
top_p : float in (0, 1] or one per row
    Keep the shortest beginning of the total order whose mass reaches this share of what top_k left.
min_p : float in [0, 1] or one per row
    Keep tokens at least this fraction as probable as the best one.
typical_p : float in (0, 1] or one per row
    Keep the tokens whose surprise is nearest to the entropy, until they hold this share.
epsilon_cutoff, eta_cutoff : float in [0, 1) or one per row
    Keep tokens at least this probable; eta_cutoff asks less where the entropy is high. The best token stays.
top_n_sigma : float >= 0 or one per row
    Keep logits within this many standard deviations of the best one; 0 keeps all.
xtc_probability, xtc_threshold : float in [0, 1] or one per row
    With this probability, drop all but the last of the tokens that are at least as probable as the threshold.
repetition_penalty, frequency_penalty, presence_penalty : float or one per row
    Of the tokens in `history`: a divisor of positive logits and factor of negative ones, once per token; a term for
    each occurrence; a term for any.
dry_multiplier, dry_base, dry_allowed_length, dry_last_n, dry_breakers
    A token that would repeat the last n >= dry_allowed_length tokens of `history` loses
    dry_multiplier * dry_base ** (n - dry_allowed_length). Only the last dry_last_n tokens count (-1: all), and none
    before one of the token ids in `dry_breakers`.
min_tokens, eos_token_id : int or one per row, int or sequence
    The ends are forbidden while `step` is below min_tokens.
steps : sequence of str
    Another order of the steps: temperature, top_k, top_p, min_p, typical, epsilon, eta, top_n_sigma, xtc, or
    top_k_top_p for both of the same set. Mask, bias and penalties always come first.
top_k_ties, top_p_boundary, top_p_ties, top_p_mass, penalty_history
    Rules that other systems differ in; see `SamplingParams`.
mask : bool array [vocab] or [..., vocab], or int32 words [..., ceil(vocab / 32)]
    True, or a set bit (least significant first), allows a token.
bias : dict of token to value, or float array [vocab] or [..., vocab]
    Added to the logits; -inf forbids.
history : list of lists of int, one per row, or int array [..., length] padded with -1
    The tokens before each row's next one, oldest first.
prompt_lengths : int or one per row
    How many tokens of the history are the prompt, for penalties that look at the output alone.
seed : int in [0, 2**64) or one per row
    Key of the random numbers. None takes entropy from the system.
stream, step : int or one per row
    Name the draw within the seed: the same (seed, stream, step) draws the same token from the same row, whatever the
    batch. `stream` defaults to the row's index for one seed, to 0 where every row has its own.
params : SamplingParams
    Values for parameters that are not given here.
on_invalid : {"raise", "mark"}
    What to do about a row with NaN, +inf or nothing finite: raise after all other rows (the default), or give it -1.
out : int32 or int64 array of the leading shape
    Written with the tokens and returned.
threads : int
    Upper bound; small batches use fewer.

Returns
-------
int or int32 array of the leading shape
    In the caller's kind of array.

Raises
------
ValueError, TypeError
    For an illegal parameter, before any work.
InvalidLogitsError
    For rows that cannot be drawn from; its `tokens` hold the other rows' tokens.

Notes
-----
One pass over the row, and a second look at the few tiles that matter; nothing is sorted but the kept tokens. top_p on
a flat row reads it twice, and a few times more in the fraction 1 - top_p of draws.

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> logits = np.log(np.float32([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]]), where=[[True] * 3, [True, True, False]],
...                 out=np.full((2, 3), -np.inf, np.float32))
>>> td.sample(logits, top_k=1).tolist()
[2, 0]
>>> td.sample(logits, seed=7, step=3).tolist() == [td.sample(row, seed=7, stream=i, step=3)
...                                                for i, row in enumerate(logits)]
True
)";

constexpr const char* kDrawDoc =
    "draw(logits, *, " TOKENDRAW_FILTERS_SIGNATURE TOKENDRAW_RANDOM_SIGNATURE R"(threads=None, logprobs=0)
--

Draw one token per row and say what is known about it.

Parameters
----------
)" TOKENDRAW_PARAMETER_NAMES R"(
    As for `sample`, which draws the same tokens.
logprobs : int
    How many of the best tokens to list per row.

Returns
-------
Draws
    tokens; logprobs (nats, after all steps, over the kept set); raw_logprobs and ranks (of the unmodified logits; rank 0
    is the best); kept (tokens not removed); valid; top_tokens and top_logprobs [..., logprobs] (the first tokens of the
    total order after mask, bias and penalties, -inf where a step removed one, -1 past the last); entropies (nats, of the
    kept set).

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> drawn = td.draw(np.log(np.float32([0.1, 0.2, 0.7])), top_k=2, temperature=0, logprobs=2)
>>> drawn.tokens, drawn.kept, drawn.ranks, drawn.top_tokens.tolist()
(2, 1, 0, [2, 1])
>>> round(drawn.raw_logprobs, 4), drawn.logprobs
(-0.3567, 0.0)
)";

constexpr const char* kGreedyDoc = R"(greedy(logits, *, mask=None, bias=None, on_invalid=None, out=None, threads=None)
--

The first token of the total order per row: the highest logit, and the lowest id among equals.

Parameters
----------
logits, mask, bias, on_invalid, out, threads
    As for `sample`.

Returns
-------
int or int32 array of the leading shape

Examples
--------
>>> import numpy as np
>>> import tokendraw as td
>>> td.greedy(np.float32([[1, 3, 3], [2, 0, 1]])).tolist()
[1, 0]
)";

}  // namespace

void bind_draw(py::module_& module) {
  static PyMethodDef functions[] = {
      fast_method("sample", sample, kSampleDoc),
      fast_method("draw", draw, kDrawDoc),
      fast_method("greedy", greedy, kGreedyDoc),
      {nullptr, nullptr, 0, nullptr},
  };
  add_functions(module, functions);
}

}  // namespace tokendraw::bindings
