# SPDX-License-Identifier: MIT
"""The ops, with the steps of each sequence spread over replicas."""

from typing import Any

import tensorflow as tf

from tf_plr._native import call
from tf_plr._ops.arguments import as_list, checked_arguments
from tf_plr._ops.gated_recurrence import Parts, gated_recurrence
from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Algorithm, Tensor
from tf_plr.distributed._exchange import Exchange


def sharded_linear_recurrence(
    exchange: Exchange,
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor,
    *,
    axis: int,
    reverse: bool = False,
    algorithm: Algorithm,
    flags: StepFlags = StepFlags(),  # noqa: B008
) -> Tensor:
    """As `tf_plr.distributed.linear_recurrence`; `exchange` knows the order of the replicas."""
    decays, impulses, initial_state, axis = checked_arguments(decays, impulses, initial_state, axis)
    dtype = decays.dtype
    wide = tf.float32 if dtype.size == 2 else dtype
    attributes: dict[str, Any] = {"axis": axis, "reverse": reverse}

    @tf.custom_gradient
    def shard(decays: Tensor, impulses: Tensor, *start: Tensor) -> Any:
        def carry_before(impulses: Tensor, *start: Tensor, backward: bool) -> Tensor:
            inputs = {"decays": decays, "impulses": impulses, **flags.as_inputs()}
            transition = call(
                "LinearRecurrenceTransition", inputs, A=wide, gradient=backward, **attributes
            )
            carry = exchange.carry_before(
                transition, *start, backward=backward, forgets=flags.resets is not None
            )
            return tf.cast(carry, dtype)

        before = carry_before(impulses, *start, backward=False)
        inputs = {"decays": decays, "impulses": impulses, "initial_state": [before]}
        inputs = {**inputs, **flags.as_inputs()}
        states = call("LinearRecurrence", inputs, algorithm=algorithm, **attributes)

        def gradient(d_states: Tensor) -> list[Tensor]:
            inputs = {
                "decays": decays,
                "states": states,
                "d_states": d_states,
                "initial_state": [before],
                "d_last_state": [carry_before(d_states, backward=True)],
                **flags.as_inputs(),
            }
            result = call("LinearRecurrenceGrad", inputs, algorithm=algorithm, **attributes)
            d_start = [exchange.zeros_except_first(result.d_initial_state[0]) for _ in start]
            return _prevent_second_gradient(result.d_decays, result.d_impulses, *d_start)

        return states, gradient

    return shard(decays, impulses, *as_list(initial_state))


def sharded_gated_recurrence(
    exchange: Exchange,
    product: Tensor,
    bias: Tensor,
    highway: Tensor,
    prefix: Tensor,
    initial_state: Tensor,
    mask: Tensor,
    resets: Tensor,
    *,
    parts: Parts,
    blocks: list[int],
    keep_states: bool,
    algorithm: Algorithm,
) -> tuple[Tensor, Tensor]:
    """As `gated_recurrence`; the last state is that after this replica's steps.

    `parts.state_activation` must be "linear": otherwise the gradient's transition needs the states.
    """
    attributes: dict[str, Any] = {**parts._asdict(), "blocks": blocks}
    given = {"product": product, "bias": bias, "highway": highway, "prefix": prefix}
    names = [name for name, tensor in given.items() if tensor is not None]

    @tf.custom_gradient
    def shard(initial_state: Tensor, *tensors: Tensor) -> Any:
        inputs = {**dict.fromkeys(given), **dict(zip(names, tensors, strict=True))}

        def transition_of(d_outputs: list[Tensor]) -> Tensor:
            optional = {name: as_list(inputs[name]) for name in ("bias", "highway", "prefix")}
            every = {"product": inputs["product"], **optional, "mask": as_list(mask)}
            every = {**every, "resets": as_list(resets), "d_outputs": d_outputs}
            return call("GatedRecurrenceTransition", every, **attributes)

        forgets = resets is not None
        before = exchange.carry_before(transition_of([]), initial_state, forgets=forgets)
        arguments = [before, *tensors]
        # Persistent, because a persistent tape around this may compute its gradient several times.
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arguments)
            results = gated_recurrence(
                **inputs, initial_state=before, mask=mask, resets=resets, parts=parts,
                blocks=blocks, keep_states=keep_states, algorithm=algorithm,
            )  # fmt: skip

        def gradient(d_outputs: Tensor, d_last: Tensor) -> list[Tensor]:
            after = exchange.carry_before(
                transition_of([d_outputs]), d_last, backward=True, forgets=forgets
            )
            d_before, *rest = tape.gradient(results, arguments, [d_outputs, after])
            return _prevent_second_gradient(exchange.zeros_except_first(d_before), *rest)

        return results, gradient

    outputs, last = shard(initial_state, *(given[name] for name in names))
    return outputs, last


def _prevent_second_gradient(*gradients: Tensor) -> list[Tensor]:
    message = "a recurrence over several replicas has first derivatives only"
    return [tf.raw_ops.PreventGradient(input=gradient, message=message) for gradient in gradients]
