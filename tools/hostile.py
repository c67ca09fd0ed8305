# SPDX-License-Identifier: MIT
"""Runs malformed graphs: each must soon end in a result or in an error.

    python tools/hostile.py [--edits 1000] [--seed 0] [--only 17] [--xla]

Each graph is a valid call of a native op with one or two edits: of an attribute, or of the shape,
type or number of its inputs. The graph may or may not know the shapes. A call's number is printed
before it runs, so that the last one printed is at fault if the process dies. The first calls are
not edited: their results must be right.
"""

import argparse
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from tf_plr._native.library import load_ops

load_ops()
# TensorFlow's own graph optimizer crashes on shapes with too large leading axes.
tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})

FLOAT, BOOL = tf.float32, tf.bool
COLUMNS, STEPS = (2, 3), (2, 5, 3)
GATED = {
    "num_biases": 1, "num_highways": 0, "num_prefixes": 0, "num_initial_states": 1,
    "num_masks": 1, "num_resets": 0, "activation": "tanh", "state_activation": "linear",
    "recurrent_activation": "sigmoid", "input_gate": "own", "output": "gated",
    "blocks": [0, 1, 2, 3], "hold": True, "algorithm": "auto",
}  # fmt: skip
GATED_INPUTS = [((2, 5, 12), FLOAT), ((12,), FLOAT), (COLUMNS, FLOAT), ((2, 5), BOOL)]
FLAGS, MASK_AND_RESETS = {"num_masks": 1, "num_resets": 1}, [((2, 5), BOOL)] * 2
WINDOWS = {**FLAGS, "size": 3}
NORMALIZATION = {"num_biases": 1, "epsilon": 0.5}
PLAIN = {"num_initial_states": 1, "axis": 1, "reverse": False, "algorithm": "auto", **FLAGS}
# {op: (attributes except T, [(shape, type) of each input])}.
CALLS = {
    "TfPlr>LinearRecurrence": (PLAIN, [(STEPS, FLOAT)] * 2 + [(COLUMNS, FLOAT), *MASK_AND_RESETS]),
    "TfPlr>LinearRecurrenceGrad": (
        {**PLAIN, "num_d_last_states": 1},
        [(STEPS, FLOAT)] * 3 + [(COLUMNS, FLOAT)] * 2 + MASK_AND_RESETS,
    ),
    "TfPlr>LinearRecurrenceTransition": (
        {"A": FLOAT, "axis": 1, "reverse": False, "gradient": True, **FLAGS},
        [(STEPS, FLOAT)] * 2 + MASK_AND_RESETS,
    ),
    "TfPlr>GatedRecurrenceTransition": (
        {
            **{n: GATED[n] for n in GATED if n not in ("num_initial_states", "hold", "algorithm")},
            "num_d_outputs": 1,
        },
        [*GATED_INPUTS[:2], GATED_INPUTS[3], (STEPS, FLOAT)],
    ),
    "TfPlr>GatedRecurrence": ({**GATED, "num_states": 1}, GATED_INPUTS),
    "TfPlr>GatedRecurrenceGrad": (
        GATED,
        [*GATED_INPUTS, (STEPS, FLOAT), (STEPS, FLOAT), (COLUMNS, FLOAT)],
    ),
    "TfPlr>CausalWindows": (WINDOWS, [(STEPS, FLOAT), ((2, 6), FLOAT), *MASK_AND_RESETS]),
    "TfPlr>CausalWindowsGrad": (WINDOWS, [((2, 5, 9), FLOAT), ((2, 6), FLOAT), *MASK_AND_RESETS]),
    "TfPlr>LayerNormalization": (NORMALIZATION, [(STEPS, FLOAT), ((3,), FLOAT), ((3,), FLOAT)]),
    "TfPlr>LayerNormalizationGrad": (
        NORMALIZATION,
        [(STEPS, FLOAT), ((3,), FLOAT), ((2, 5, 2), FLOAT), (STEPS, FLOAT)],
    ),
}
INTEGERS = (-(2**63), -(2**31), -4, -1, 0, 1, 2, 3, 7, 2**31 - 1, 2**31, 2**62, 2**63 - 1)
STRINGS = (
    "", "tanh", "gelu", "linear", "hard_sigmoid", "coupled", "own", "state", "previous", "gated",
    "highway", "serial", "parallel", "composed", "x",
)  # fmt: skip
SIZES = (0, 0, 0, 1, 2, 3, 5, 2**20, 2**31, 2**40, 2**62)
TYPES = (
    tf.float16,
    tf.bfloat16,
    tf.float32,
    tf.float64,
    tf.complex64,
    tf.int32,
    tf.bool,
    tf.string,
)
MOST_ELEMENTS = 10**5

# All inputs are ones, so a gate's pre-activation is product + bias = 2. All steps are valid, and
# resets, where there is such an input.
GATE, CANDIDATE = 1 / (1 + np.exp(-2.0)), np.tanh(2.0)
SLOPE, KEPT = GATE * (1 - GATE), GATE ** np.arange(1, 6)
# The gradient of each state: through the last state, and through its own and later outputs.
CARRIED = (KEPT / GATE + np.cumsum(KEPT))[::-1]
# {op: first result of its valid call}: [steps, 1], [steps, blocks], or [2, 1, 1] of transitions.
UNEDITED = {
    "TfPlr>LinearRecurrence": 1,
    "TfPlr>LinearRecurrenceGrad": 0,
    "TfPlr>LinearRecurrenceTransition": 0,
    "TfPlr>GatedRecurrenceTransition": np.reshape([KEPT[-1], GATE * KEPT.sum()], (2, 1, 1)),
    "TfPlr>GatedRecurrence": np.c_[GATE * (KEPT + CANDIDATE * np.cumsum(KEPT))],
    "TfPlr>GatedRecurrenceGrad": np.c_[
        CARRIED * SLOPE,
        CARRIED * GATE * (1 - CANDIDATE**2),
        CARRIED * SLOPE * CANDIDATE,
        np.full(5, SLOPE * GATE * (1 + CANDIDATE)),
    ].repeat(3, -1),
    "TfPlr>CausalWindows": np.repeat([0, 0, 1], 3),
    "TfPlr>CausalWindowsGrad": np.c_[[1, 1, 1, 1, 2]],  # Windows and histories with the step.
    "TfPlr>LayerNormalization": 1,  # The bias.
    "TfPlr>LayerNormalizationGrad": 0,
}
NOT_FOR_XLA = ["TfPlr>GatedRecurrenceTransition"]


def edit(rng, attributes, inputs, types, most):
    """Changes one thing; says what."""
    kind = rng.choice(["attribute", "shape", "type", "drop", "repeat", "T"])
    if kind == "attribute":
        name = str(rng.choice(list(attributes)))
        old = attributes[name]
        if isinstance(old, bool):
            attributes[name] = not old
        elif isinstance(old, int):
            # TensorFlow itself allocates a list of as many inputs as the attribute says.
            few = [i for i in INTEGERS if abs(i) < 100]
            attributes[name] = int(rng.choice(few if name.startswith("num_") else INTEGERS))
        elif isinstance(old, str):
            attributes[name] = str(rng.choice(STRINGS))
        elif isinstance(old, float):
            attributes[name] = float(rng.choice([-np.inf, -1, -0.0, 0, 1e-45, 1, np.inf, np.nan]))
        elif isinstance(old, tf.DType):
            attributes[name] = TYPES[rng.integers(len(TYPES))]
        else:
            attributes[name] = [int(rng.choice(INTEGERS)) for _ in range(rng.integers(7))]
        return f"{name} = {attributes[name]}"
    if kind == "T":
        types["T"] = TYPES[rng.integers(len(TYPES))]
        return f"T = {types['T'].name}"
    i = int(rng.integers(len(inputs)))
    shape, dtype = inputs[i]
    if kind == "shape":
        rank = int(rng.choice([len(shape), len(shape), rng.integers(7)]))
        sizes = [int(rng.choice([*(s for s in SIZES if s <= most), *shape])) for _ in range(rank)]
        elements = 1
        for size in sizes:
            elements *= size
        if elements > MOST_ELEMENTS and sizes:
            sizes[int(rng.integers(rank))] = 0
        inputs[i] = (tuple(sizes), dtype)
    elif kind == "type":
        inputs[i] = (shape, TYPES[rng.integers(len(TYPES))])
    elif kind == "drop" and len(inputs) > 1:
        del inputs[i]
    else:
        inputs.insert(i, inputs[i])
    return f"{kind} of input {i}: {inputs[min(i, len(inputs) - 1)]}"


def graph_of(op, attributes, inputs, types, known):
    graph = tf.compat.v1.GraphDef()

    def node(name, op, inputs, **attributes):
        added = graph.node.add(name=name, op=op, input=inputs)
        for key, value in attributes.items():
            field = added.attr[key]
            if isinstance(value, tf.DType):
                field.type = value.as_datatype_enum
            elif isinstance(value, bool):
                field.b = value
            elif isinstance(value, int):
                field.i = value
            elif isinstance(value, float):
                field.f = value
            elif isinstance(value, str):
                field.s = value.encode()
            elif isinstance(value, list):
                field.list.i.extend(value)
            else:
                field.CopyFrom(value)

    def constant(name, value, dtype):
        tensor = tf.compat.v1.AttrValue(tensor=tf.make_tensor_proto(value, dtype))
        node(name, "Const", [], dtype=tf.as_dtype(dtype), value=tensor)

    names = []
    for i, (shape, dtype) in enumerate(inputs):
        constant(f"shape{i}", np.array(shape, np.int64), tf.int64)
        constant(f"value{i}", {"bool": True, "string": b""}.get(dtype.name, 1), dtype)
        node(f"input{i}", "Fill", [f"shape{i}", f"value{i}"], T=dtype, index_type=tf.int64)
        names.append(f"input{i}")
        if not known:
            unknown = tf.compat.v1.AttrValue()
            unknown.shape.unknown_rank = True
            names[-1] = f"hidden{i}"
            node(names[-1], "PlaceholderWithDefault", [f"input{i}"], dtype=dtype, shape=unknown)
    node("call", op, names, **types, **attributes)
    return graph


def run(graph, xla):
    def call():
        return tf.graph_util.import_graph_def(graph, return_elements=["call:0"])

    (result,) = tf.function(call, autograph=False, jit_compile=xla)()
    return result.numpy()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edits", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int)
    parser.add_argument("--xla", action="store_true")
    arguments = parser.parse_args()
    results = errors = 0
    numbers = range(arguments.edits) if arguments.only is None else [arguments.only]
    for number in numbers:
        rng = np.random.default_rng([arguments.seed, number])
        op = list(CALLS)[number % len(CALLS)]
        attributes, inputs = dict(CALLS[op][0]), list(CALLS[op][1])
        types, known = {"T": FLOAT}, bool(rng.random() < 0.3)
        most = 2**40 if arguments.xla else 2**62  # XLA crashes on 2**62 with any op.
        unedited = number < len(CALLS)
        if unedited:
            said = ["no edit"]
        else:
            said = [edit(rng, attributes, inputs, types, most) for _ in range(rng.integers(1, 3))]
        print(f"{number}: {op}, {'; '.join(said)}", flush=True)
        try:
            result = run(graph_of(op, attributes, inputs, types, known), arguments.xla)
            results += 1
            if unedited:
                expected = np.broadcast_to(UNEDITED[op], result.shape)
                np.testing.assert_allclose(result, expected, rtol=1e-5)
        except (tf.errors.OpError, ValueError, TypeError, OverflowError) as error:
            if unedited and not (arguments.xla and op in NOT_FOR_XLA):
                raise
            print(f"    {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
            errors += 1
    print(f"{results} results, {errors} errors")


if __name__ == "__main__":
    sys.exit(main())
