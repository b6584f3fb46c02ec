# SPDX-License-Identifier: Apache-2.0
"""onnxruntime with graphs of standard operators; it has none for a nucleus that is not bounded by top_k."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from bench.peers import Peer
from tokendraw.budgets import JOBS

OPSET, IR_VERSION = 18, 9


def peer() -> Peer:
    import numpy as np
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1

    def node(operator: str, inputs: str, output: str, **attributes: Any) -> Any:
        return helper.make_node(operator, inputs.split(), output.split(), **attributes)

    def graph(nodes: Sequence[Any], **constants: Any) -> Callable[..., Any]:
        """Compile a graph from `logits` (and `tokens`) to `drawn`; return it as a function."""
        inputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", "vocab"])]
        if any("tokens" in one.input for one in nodes):
            inputs.append(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["rows", 1]))
        type_of_drawn = TensorProto.FLOAT if len(inputs) > 1 else TensorProto.INT64
        outputs = [helper.make_tensor_value_info("drawn", type_of_drawn, None)]
        values = [numpy_helper.from_array(np.array(value), name) for name, value in constants.items()]
        model = helper.make_model(
            helper.make_graph(list(nodes), "job", inputs, outputs, values),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
        )
        session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        names = [value.name for value in inputs]
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0].reshape(-1)

    def factor(name: str) -> Any:
        return np.float32(1 / JOBS[name].parameters["temperature"])

    def multinomial(scores: str, output: str) -> Any:
        return node("Multinomial", scores, output, dtype=TensorProto.INT64, sample_size=1, seed=1.0)

    best = [node("TopK", "logits k", "best tokens_of_best"), node("Mul", "best factor", "scores")]
    gather = node("GatherElements", "tokens_of_best place", "drawn", axis=-1)
    nucleus = [
        node("Softmax", "scores", "probs", axis=-1),
        node("CumSum", "probs last_axis", "before", exclusive=1),
        node("Less", "before top_p", "kept"),
        node("Where", "kept scores nothing", "kept_scores"),
    ]
    above = [
        node("ReduceMax", "logits last_axes", "highest", keepdims=1),
        node("Add", "highest margin", "lowest"),
        node("Less", "logits lowest", "is_low"),
        node("Where", "is_low nothing logits", "kept_scores"),
    ]
    nothing = np.float32(-math.inf)
    top_k_top_p = JOBS["top_k_top_p"].parameters
    token_logprobs = graph(
        [
            node("LogSoftmax", "logits", "logprobs", axis=-1),
            node("GatherElements", "logprobs tokens", "drawn", axis=-1),
        ]
    )
    return Peer(
        {
            "greedy": graph([node("ArgMax", "logits", "drawn", axis=-1, keepdims=0)]),
            "temperature": graph(
                [node("Mul", "logits factor", "scores"), multinomial("scores", "drawn")],
                factor=factor("temperature"),
            ),
            "token_logprobs": lambda logits, tokens: token_logprobs(logits, tokens[:, None]),
            "top_k": graph(
                [*best, multinomial("scores", "place"), gather],
                k=np.array([JOBS["top_k"].parameters["top_k"]]),
                factor=factor("top_k"),
            ),
            "top_k_top_p": graph(
                [*best, *nucleus, multinomial("kept_scores", "place"), gather],
                k=np.array([top_k_top_p["top_k"]]),
                factor=factor("top_k_top_p"),
                last_axis=np.int64(-1),
                top_p=np.float32(top_k_top_p["top_p"]),
                nothing=nothing,
            ),
            "min_p": graph(
                [*above, multinomial("kept_scores", "drawn")],
                last_axes=np.array([-1]),
                margin=np.float32(math.log(JOBS["min_p"].parameters["min_p"])),
                nothing=nothing,
            ),
        }
    )
