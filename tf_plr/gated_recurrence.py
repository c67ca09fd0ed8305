# SPDX-License-Identifier: MIT
"""The fused op: the recurrence of a layer with its gates and activations, and its derivatives.

`gated_recurrence` is what the layers' defaults run. `unfused_gated_recurrence` says the same in
TensorFlow's ops around `linear_recurrence`: the reference, and what further derivatives go through.
"""

from typing import Any, NamedTuple

import tensorflow as tf

from tf_plr import _library
from tf_plr._registration import register_gradient
from tf_plr.recurrence import linear_recurrence


class GatedCell(NamedTuple):
    """The arithmetic of a cell of the native ops, by their documentation."""

    activation: Any
    own_input: bool
    output: str  # "state", "previous", "gated" or "highway".


CELLS = {
    "gilr": GatedCell(tf.nn.elu, False, "state"),
    "surrogate": GatedCell(tf.tanh, False, "previous"),
    "f": GatedCell(tf.tanh, False, "state"),
    "fo": GatedCell(tf.tanh, False, "gated"),
    "ifo": GatedCell(tf.tanh, True, "gated"),
    "sru": GatedCell(tf.identity, False, "highway"),
}
DTYPES = ("float16", "bfloat16", "float32")
IN_FRONT_OF = 8  # What is in front of the surrogate's outputs is filled up to a multiple.


def gated_recurrence(
    product: Any,
    bias: Any,
    beside: Any,
    initial_state: Any,
    mask: Any,
    *,
    cell: str,
    blocks: list[int],
    keep_states: bool,
    hold: bool = False,
    algorithm: str,
) -> tuple[Any, Any]:
    """Returns the outputs, and the last state: see the documentation of `TfPlr>GatedRecurrence`.

    Args:
        product: [batch, steps, blocks * units].
        bias: [blocks * units], float32; or None.
        beside: What the op has beside the product; or None.
        initial_state: [batch, units], float32; or None.
        mask: [batch, steps], False where a step is masked; or None.
        cell: A key of `CELLS`.
        blocks: Where in the product, counted in blocks, are the forget gate, the candidate, then,
            as far as the cell has them, input gate, output gate, highway.
        keep_states: Whether to keep the states that a gradient needs. If not, a gradient runs the
            forward pass once more.
        hold: Whether masked steps show the outputs of the last valid one, where these are not
            states.
        algorithm: As for `linear_recurrence`.
    """
    gated = CELLS[cell].output in ("gated", "highway")
    result = _library.load_library().tf_plr_gated_recurrence(
        product,
        _given(bias),
        _given(beside),
        _given(initial_state),
        _given(mask),
        num_states=int(gated and keep_states),
        cell=cell,
        blocks=blocks,
        hold=hold,
        reverse=False,
        algorithm=algorithm,
    )
    return result.outputs, result.last_state


def unfused_gated_recurrence(
    product: Any,
    bias: Any,
    beside: Any,
    initial_state: Any,
    mask: Any,
    *,
    cell: str,
    blocks: list[int],
    hold: bool = False,
    reverse: bool = False,
    algorithm: str,
) -> tuple[Any, Any]:
    """The same in TensorFlow's ops; gates and the recurrence in float32 as there, or in float64."""
    arithmetic = CELLS[cell]
    dtype = product.dtype
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    highway_block = arithmetic.output == "highway" and beside is None
    if mask is not None:  # What is masked may be anything, NaN included.
        steps = tf.expand_dims(mask, -1)
        product = tf.where(steps, product, tf.zeros_like(product))
        if arithmetic.output == "highway" and beside is not None:
            beside = tf.where(steps, beside, tf.zeros_like(beside))
    if bias is not None:
        padding = [[0, tf.shape(product)[-1] - tf.shape(bias)[0]]]
        product = tf.cast(product, wide) + tf.pad(bias, padding)
    parts = tf.split(tf.cast(product, wide), len(blocks), axis=-1)
    in_order = [parts[block] for block in blocks]
    forget, candidate = in_order[:2]
    rest = in_order[2:]
    gate = tf.sigmoid(rest.pop(0)) if arithmetic.own_input else tf.sigmoid(-forget)
    decays, impulses = tf.sigmoid(forget), gate * arithmetic.activation(candidate)
    if mask is not None:
        decays = tf.where(steps, decays, tf.ones_like(decays))
        impulses = tf.where(steps, impulses, tf.zeros_like(impulses))
    if initial_state is None:
        initial_state = tf.zeros_like(tf.reduce_sum(decays, 1))
    states = linear_recurrence(
        decays, impulses, initial_state, axis=1, reverse=reverse, algorithm=algorithm
    )
    first = tf.expand_dims(initial_state, 1)
    outputs = states
    if arithmetic.output == "previous":
        outputs = (
            tf.concat([states[:, 1:], first], 1)
            if reverse
            else tf.concat([first, states[:, :-1]], 1)
        )
    elif arithmetic.output in ("gated", "highway"):
        gate = rest.pop(0)
        outputs = tf.sigmoid(gate) * states
        if arithmetic.output == "highway":
            x = rest.pop(0) if highway_block else tf.cast(beside, wide)
            outputs += tf.sigmoid(-gate) * x
        if mask is not None:
            outputs = tf.where(steps, outputs, tf.zeros_like(outputs))
            if hold:
                keep = tf.cast(tf.broadcast_to(~steps, tf.shape(outputs)), wide)
                outputs = linear_recurrence(
                    keep, outputs, axis=1, reverse=reverse, algorithm=algorithm
                )
    outputs = tf.cast(outputs, dtype)
    if arithmetic.output == "previous" and beside is not None:
        filling = -tf.shape(beside)[-1] % IN_FRONT_OF
        outputs = tf.concat([tf.pad(beside, [[0, 0], [0, 0], [0, filling]]), outputs], -1)
    from_first = tf.concat([states, first] if reverse else [first, states], 1)
    return outputs, from_first[:, 0] if reverse else from_first[:, -1]


def _given(tensor: Any) -> list[Any]:
    return [] if tensor is None else [tensor]


class _Inputs:
    """The inputs that both ops have, of an op in a graph or on a tape."""

    def __init__(self, op: Any) -> None:
        rest = list(op.inputs)

        def take(attribute: str) -> list[Any]:
            count = op.get_attr(attribute)
            taken, rest[:] = rest[:count], rest[count:]
            return taken

        self.product = rest.pop(0)
        self.bias = take("num_biases")
        self.beside = take("num_beside")
        self.initial_state = take("num_initial_states")
        self.mask = take("num_masks")
        self.rest = rest
        self.attributes = {
            "cell": tf.compat.as_str(op.get_attr("cell")),
            "blocks": list(op.get_attr("blocks")),
            "hold": op.get_attr("hold"),
            "reverse": op.get_attr("reverse"),
            "algorithm": tf.compat.as_str(op.get_attr("algorithm")),
        }
        self.cell = CELLS[self.attributes["cell"]]

    def unfused(self, product: Any, bias: Any, beside: Any, initial_state: Any) -> Any:
        arguments = (
            tensors[0] if tensors else None for tensors in (bias, beside, initial_state, self.mask)
        )
        return unfused_gated_recurrence(product, *arguments, **self.attributes)


@register_gradient("TfPlr>GatedRecurrence")
def _gated_recurrence_gradient(op: Any, d_outputs: Any, *rest: Any) -> list[Any]:
    *d_states, d_last_state = rest
    inputs = _Inputs(op)
    ops = _library.load_library()
    gated = inputs.cell.output in ("gated", "highway")
    if not gated:
        states = op.outputs[0]
    elif d_states:
        states = op.outputs[1]
    else:  # They were not kept.
        states = ops.tf_plr_gated_recurrence(
            inputs.product, inputs.bias, inputs.beside, inputs.initial_state, inputs.mask,
            num_states=1, **{**inputs.attributes, "hold": False},
        ).states[0]  # fmt: skip
    d_product, d_bias, d_beside, d_initial_state = ops.tf_plr_gated_recurrence_grad(
        inputs.product,
        inputs.bias,
        inputs.beside,
        [tf.cast(state, inputs.product.dtype) for state in inputs.initial_state],
        inputs.mask,
        states,
        d_outputs,
        d_last_state,
        num_d_beside=int(inputs.cell.output == "highway" and bool(inputs.beside)),
        **inputs.attributes,
    )
    gradients = [d_product, *d_bias]
    if inputs.cell.output == "previous":
        d_beside = [d_outputs[..., : tf.shape(beside)[-1]] for beside in inputs.beside]
    return [*gradients, *d_beside, *([d_initial_state] if inputs.initial_state else []),
            *[None for _ in inputs.mask]]  # fmt: skip


@register_gradient("TfPlr>GatedRecurrenceGrad")
def _gated_recurrence_grad_gradient(op: Any, *u: Any) -> list[Any]:
    """Through the unfused function, for which any order follows from TensorFlow's own gradients.

    States are a function of the other inputs here, so no gradient is due by them.
    """
    inputs = _Inputs(op)
    operands = [inputs.product, *inputs.bias, *inputs.beside]
    operands += [tf.cast(state, tf.float32) for state in inputs.initial_state]
    # In the gradient of a loop, a tape does not see where tensors of the loop come from.
    operands = [tf.identity(operand) for operand in operands]
    _, d_outputs, d_last_state = (tf.identity(tensor) for tensor in inputs.rest)
    with tf.GradientTape() as outer:
        outer.watch([*operands, d_outputs, d_last_state])
        with tf.GradientTape() as inner:
            inner.watch(operands)
            rest = list(operands)
            product = rest.pop(0)
            bias = [rest.pop(0) for _ in inputs.bias]
            beside = [rest.pop(0) for _ in inputs.beside]
            initial_state = [rest.pop(0) for _ in inputs.initial_state]
            if not initial_state:
                # Its gradient is an output, given or not.
                units = tf.shape(product)[-1] // len(inputs.attributes["blocks"])
                initial_state = [tf.zeros([tf.shape(product)[0], units], tf.float32)]
                inner.watch(initial_state)
            results = inputs.unfused(product, bias, beside, initial_state)
        d_beside = beside if inputs.cell.output == "highway" else []
        gradients = inner.gradient(
            results,
            [product, *bias, *d_beside, *initial_state],
            [d_outputs, d_last_state],
            unconnected_gradients="zero",
        )
    by = outer.gradient(
        gradients,
        [*operands, d_outputs, d_last_state],
        output_gradients=list(u),
        unconnected_gradients="zero",
    )
    *of_operands, by_d_outputs, by_d_last_state = by
    if inputs.initial_state:
        of_operands[-1] = tf.cast(of_operands[-1], inputs.product.dtype)
    states = None
    return [*of_operands, *[None for _ in inputs.mask], states, by_d_outputs, by_d_last_state]
