# SPDX-License-Identifier: MIT
"""The op that turns a causal convolution into one product: it puts earlier inputs beside each."""

from typing import Any

from tf_plr._native import call, register_gradient
from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Tensor


def causal_windows(
    inputs: Tensor, history: Tensor, mask: Tensor, size: int, resets: Tensor = None
) -> tuple[Tensor, Tensor]:
    """Returns the windows, and the last history: see the documentation of `TfPlr>CausalWindows`.

    Args:
        inputs: [batch, steps, features], of one of `GATED_DTYPES`.
        history: [batch, (size - 1) * features], the inputs before the first step, oldest first.
        mask: [batch, steps], False where a step is masked; or None.
        size: Inputs in a window, 2 or more.
        resets: [batch, steps], True where a step is the first of a new sequence; or None.
    """
    windows, last_history = _windows(inputs, history, StepFlags(mask, resets), size)
    return windows, last_history


def _windows(inputs: Tensor, history: Tensor, flags: StepFlags, size: int) -> Any:
    named = {"inputs": inputs, "history": history, **flags.as_inputs()}
    return call("CausalWindows", named, size=size)


@register_gradient("CausalWindows")
def _gradient(op: Any, d_windows: Tensor, d_last_history: Tensor) -> list[Tensor]:
    flags, _ = StepFlags.split(op)
    named = {"d_windows": d_windows, "d_last_history": d_last_history, **flags.as_inputs()}
    gradients = call("CausalWindowsGrad", named, size=op.get_attr("size"))
    return [*gradients, *flags.gradients()]


@register_gradient("CausalWindowsGrad")
def _second_gradient(op: Any, u_inputs: Tensor, u_history: Tensor) -> list[Tensor]:
    """Calls the op itself: the op and its gradient op are linear, and adjoint to each other."""
    flags, _ = StepFlags.split(op)
    d_gradients = _windows(u_inputs, u_history, flags, op.get_attr("size"))
    return [*d_gradients, *flags.gradients()]
