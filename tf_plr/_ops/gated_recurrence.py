# SPDX-License-Identifier: MIT
"""The fused op: the recurrence of a layer with its gates and activations, and its derivatives."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

from tf_plr._native import call, register_gradient
from tf_plr._native.signatures import PREFIX_ALIGNMENT
from tf_plr._ops.arguments import as_list
from tf_plr._ops.linear_recurrence import linear_recurrence_of_steps
from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Algorithm, Tensor

# The activations of the native op, by its names for them.
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "linear": tf.identity,
    "tanh": tf.tanh,
    "sigmoid": tf.sigmoid,
    "relu": tf.nn.relu,
    "elu": tf.nn.elu,
    "silu": tf.nn.silu,
    "gelu": tf.nn.gelu,
    "gelu_tanh": lambda x: tf.nn.gelu(x, approximate=True),
    "softplus": tf.nn.softplus,
}

# For each activation of gates, a function from a pre-activation to the gate and 1 - gate.
GATES: dict[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = {
    "sigmoid": lambda x: (tf.sigmoid(x), tf.sigmoid(-x)),
    "hard_sigmoid": lambda x: (tf.nn.relu6(x + 3) / 6, tf.nn.relu6(3 - x) / 6),
}


class Parts(NamedTuple):
    """What a gated cell consists of: attributes of the native op, whose documentation defines them.

    Attributes:
        output: "state", "previous", "gated" or "highway".
        activation: A key of `ACTIVATIONS`, for the candidate.
        state_activation: A key of `ACTIVATIONS`, for the states in the output. "linear" unless
            output is "gated" or "highway".
        recurrent_activation: A key of `GATES`.
        input_gate: "coupled", if the input gate is 1 - forget gate; or "own".
    """

    output: str
    activation: str = "tanh"
    state_activation: str = "linear"
    recurrent_activation: str = "sigmoid"
    input_gate: str = "coupled"

    @property
    def keeps_states(self) -> bool:
        """Whether the gradient needs the states in addition to the outputs."""
        return self.output in ("gated", "highway")


def gated_recurrence(
    product: Tensor,
    bias: Tensor,
    highway: Tensor,
    prefix: Tensor,
    initial_state: Tensor,
    mask: Tensor,
    resets: Tensor = None,
    *,
    parts: Parts,
    blocks: list[int],
    keep_states: bool,
    hold: bool = False,
    algorithm: Algorithm,
) -> tuple[Tensor, Tensor]:
    """Returns the outputs, and the last state: see the documentation of `TfPlr>GatedRecurrence`.

    Args:
        product: [batch, steps, blocks * units].
        bias: [blocks * units], float32; or None.
        highway: [batch, steps, units], if it is not a block of the product; or None.
        prefix: [batch, steps, features], copied in front of the outputs; or None.
        initial_state: [batch, units], float32; or None.
        mask: [batch, steps], False where a step is masked; or None.
        resets: [batch, steps], True where a step is the first of a new sequence; or None.
        parts: What the cell consists of.
        blocks: The positions in the product, counted in blocks, of the forget gate and the
            candidate, then of the input gate, output gate and highway, if the cell has them.
        keep_states: Whether to keep the states that the gradient needs. If not, the gradient runs
            the forward pass again.
        hold: Whether masked steps repeat the outputs of the last valid step of their sequence,
            instead of zeros. Has no effect on a cell whose outputs are states.
        algorithm: As for `linear_recurrence`.
    """
    optional = map(as_list, (bias, highway, prefix, initial_state, mask, resets))
    inputs = GatedInputs(product, *optional)
    states = int(parts.keeps_states and keep_states)
    attributes = {**parts._asdict(), "blocks": blocks, "hold": hold, "algorithm": algorithm}
    result = call("GatedRecurrence", inputs._asdict(), num_states=states, **attributes)
    return result.outputs, result.last_state


class GatedInputs(NamedTuple):
    """The first inputs of `GatedRecurrence` and of its gradient op, by name."""

    product: Tensor
    bias: list[Tensor]
    highway: list[Tensor]
    prefix: list[Tensor]
    initial_state: list[Tensor]
    mask: list[Tensor]
    resets: list[Tensor]

    @property
    def flags(self) -> StepFlags:
        return StepFlags(*(given[0] if given else None for given in (self.mask, self.resets)))

    @classmethod
    def split(cls, op: Any, tensors: list[Tensor]) -> tuple["GatedInputs", list[Tensor]]:
        """Splits the inputs of an op into these and the remaining ones."""
        product, *rest = tensors
        lists = []
        for name in ("biases", "highways", "prefixes", "initial_states", "masks", "resets"):
            count = op.get_attr(f"num_{name}")
            lists.append(rest[:count])
            rest = rest[count:]
        return cls(product, *lists), rest


def parts_of(op: Any) -> Parts:
    """The parts of a gated op."""
    return Parts(**{name: tf.compat.as_str(op.get_attr(name)) for name in Parts._fields})


def gated_options_of(op: Any) -> dict[str, Any]:
    """The other attributes that the op and its gradient op share, as keyword arguments."""
    return {
        "blocks": list(op.get_attr("blocks")),
        "hold": bool(op.get_attr("hold")),
        "algorithm": tf.compat.as_str(op.get_attr("algorithm")),
    }


@register_gradient("GatedRecurrence")
def _gradient(op: Any, d_outputs: Tensor, *rest: Tensor) -> list[Tensor]:
    *d_states, d_last_state = rest
    inputs, _ = GatedInputs.split(op, list(op.inputs))
    parts, options = parts_of(op), gated_options_of(op)
    attributes = {**parts._asdict(), **options}
    if not parts.keeps_states:
        states = op.outputs[0]
    elif d_states:
        states = op.outputs[1]
    else:  # The forward pass did not keep the states, so run it again.
        again = {**attributes, "hold": False}
        states = call("GatedRecurrence", inputs._asdict(), num_states=1, **again).states[0]
    narrow = [tf.cast(state, inputs.product.dtype) for state in inputs.initial_state]
    of_gradient = {"states": states, "d_outputs": d_outputs, "d_last_state": d_last_state}
    result = call(
        "GatedRecurrenceGrad",
        {**inputs._replace(initial_state=narrow)._asdict(), **of_gradient},
        **attributes,
    )
    d_prefix = [d_outputs[..., : tf.shape(prefix)[-1]] for prefix in inputs.prefix]
    d_initial_state = [result.d_initial_state for _ in inputs.initial_state]
    d_optional = [*result.d_bias, *result.d_highway, *d_prefix, *d_initial_state]
    return [result.d_product, *d_optional, *inputs.flags.gradients()]


@register_gradient("GatedRecurrenceGrad")
def _second_gradient(op: Any, *u: Tensor) -> list[Tensor]:
    """Differentiates the unfused function, for which TensorFlow has derivatives of any order.

    The states are recomputed from the other inputs, so the gradient with respect to them is None.
    """
    inputs, rest = GatedInputs.split(op, list(op.inputs))
    options = {"parts": parts_of(op), **gated_options_of(op)}
    start = [tf.cast(state, tf.float32) for state in inputs.initial_state]
    operands = [inputs.product, *inputs.bias, *inputs.highway, *inputs.prefix, *start]
    # In the gradient of a loop, a tape does not see where tensors of the loop come from.
    operands = [tf.identity(operand) for operand in operands]
    _, d_outputs, d_last_state = (tf.identity(tensor) for tensor in rest)
    with tf.GradientTape() as outer:
        outer.watch([*operands, d_outputs, d_last_state])
        with tf.GradientTape() as inner:
            inner.watch(operands)
            again, _ = GatedInputs.split(op, [*operands, *inputs.mask, *inputs.resets])
            if not again.initial_state:  # The gradient op returns its gradient in any case.
                units = tf.shape(again.product)[-1] // len(options["blocks"])
                zeros = tf.zeros([tf.shape(again.product)[0], units], tf.float32)
                inner.watch(zeros)
                again = again._replace(initial_state=[zeros])
            optional = (tensors[0] if tensors else None for tensors in again[1:])
            results = unfused_gated_recurrence(again.product, *optional, **options)
        gradients = inner.gradient(
            results,
            [again.product, *again.bias, *again.highway, *again.initial_state],
            [d_outputs, d_last_state],
            unconnected_gradients="zero",
        )
    *d_operands, d_d_outputs, d_d_last_state = outer.gradient(
        gradients,
        [*operands, d_outputs, d_last_state],
        output_gradients=list(u),
        unconnected_gradients="zero",
    )
    if inputs.initial_state:
        d_operands[-1] = tf.cast(d_operands[-1], inputs.product.dtype)
    d_states = None
    none = inputs.flags.gradients()
    return [*d_operands, *none, d_states, d_d_outputs, d_d_last_state]


def unfused_gated_recurrence(
    product: Tensor,
    bias: Tensor,
    highway: Tensor,
    prefix: Tensor,
    initial_state: Tensor,
    mask: Tensor,
    resets: Tensor = None,
    *,
    parts: Parts,
    blocks: list[int],
    hold: bool = False,
    algorithm: Algorithm,
) -> tuple[Tensor, Tensor]:
    """`gated_recurrence` in TensorFlow's ops around `linear_recurrence`, in float32 or float64."""
    dtype = product.dtype
    wide = tf.float64 if dtype == tf.float64 else tf.float32
    flags = StepFlags(mask, resets)
    product = tf.cast(flags.valid(product), wide)
    if bias is not None:
        product += tf.pad(bias, [[0, tf.shape(product)[-1] - tf.shape(bias)[0]]])
    split = tf.split(product, len(blocks), axis=-1)
    own = ["input"] if parts.input_gate == "own" else []
    names = ["forget", "candidate", *own, "output", "highway"]
    block = {name: split[place] for name, place in zip(names, blocks, strict=False)}
    if highway is not None:
        block["highway"] = tf.cast(flags.valid(highway), wide)
    if initial_state is None:
        initial_state = tf.zeros_like(tf.reduce_sum(block["forget"], 1))
    first = tf.expand_dims(initial_state, 1)

    def recur(decays: Tensor, impulses: Tensor) -> tuple[Tensor, Tensor]:
        states = linear_recurrence_of_steps(
            decays, impulses, initial_state, flags, axis=1, algorithm=algorithm
        )
        return states, tf.concat([first, states], 1)[:, -1]

    outputs, last = gated_arithmetic(
        block,
        parts.output,
        recur=recur,
        previous=lambda states: flags.within_sequence(tf.concat([first, states[:, :-1]], 1)),
        gate=GATES[parts.recurrent_activation],
        activation=ACTIVATIONS[parts.activation],
        state_activation=ACTIVATIONS[parts.state_activation],
    )
    if parts.keeps_states:
        outputs = flags.valid(outputs)
        if hold and mask is not None:
            # A masked step repeats the state before it; others forget it.
            never = tf.zeros_like(outputs)
            outputs = linear_recurrence_of_steps(
                never, outputs, None, flags, axis=1, algorithm=algorithm
            )
    outputs = tf.cast(outputs, dtype)
    if prefix is not None:
        padding = [[0, 0], [0, 0], [0, -tf.shape(prefix)[-1] % PREFIX_ALIGNMENT]]
        outputs = tf.concat([tf.pad(prefix, padding), outputs], -1)
    return outputs, last


def gated_arithmetic(
    block: dict[str, Tensor],
    output: str,
    *,
    recur: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
    previous: Callable[[Tensor], Tensor],
    gate: Callable[[Tensor], tuple[Tensor, Tensor]],
    activation: Callable[[Tensor], Tensor],
    state_activation: Callable[[Tensor], Tensor] | None = None,
) -> tuple[Tensor, Tensor]:
    """The equations of all gated cells, for one step or for all steps.

    Args:
        block: Maps "forget" and "candidate", and "input" and "output" if the cell has them, to
            pre-activations; and "highway", if the cell has one, to the highway itself.
        output: See `Parts`.
        recur: Computes the states, and the last one, from decays and impulses.
        previous: The states before each step, from those after it.
        gate: A gate and its complement, from a pre-activation.
        activation: Activation of the candidate.
        state_activation: Activation of the states in the output. None: the identity.
    """
    forget, input_ = gate(block["forget"])
    if "input" in block:
        input_, _ = gate(block["input"])
    states, last = recur(forget, input_ * activation(block["candidate"]))
    if output == "previous":
        return previous(states), last
    if output == "state":
        return states, last
    opened, closed = gate(block["output"])
    outputs = opened * (states if state_activation is None else state_activation(states))
    if output == "highway":
        outputs += closed * block["highway"]
    return outputs, last
