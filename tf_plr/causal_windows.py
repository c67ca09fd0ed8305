# SPDX-License-Identifier: MIT
"""The windows of a causal convolution: each input beside those before it."""

from typing import Any

from tf_plr import _library
from tf_plr._registration import register_gradient


def causal_windows(inputs: Any, history: Any, mask: Any, size: int) -> tuple[Any, Any]:
    """Returns the windows, and the last history: see the documentation of `TfPlr>CausalWindows`.

    Args:
        inputs: [batch, steps, features], of one of the fused op's `DTYPES`.
        history: [batch, (size - 1) * features], the inputs before the first step, oldest first.
        mask: [batch, steps], False where a step is masked; or None.
        size: Inputs in a window, 2 or more.
    """
    masks = [] if mask is None else [mask]
    result = _library.load_library().tf_plr_causal_windows(inputs, history, masks, size=size)
    return result.windows, result.last_history


@register_gradient("TfPlr>CausalWindows")
def _causal_windows_gradient(op: Any, d_windows: Any, d_last_history: Any) -> list[Any]:
    gradient = _library.load_library().tf_plr_causal_windows_grad
    masks = op.inputs[2:]
    gradients = gradient(d_windows, d_last_history, masks, size=op.get_attr("size"))
    return [*gradients, *[None for _ in masks]]


@register_gradient("TfPlr>CausalWindowsGrad")
def _causal_windows_grad_gradient(op: Any, u_inputs: Any, u_history: Any) -> list[Any]:
    """Each is the other's adjoint."""
    windows = _library.load_library().tf_plr_causal_windows
    masks = op.inputs[2:]
    by_windows = windows(u_inputs, u_history, masks, size=op.get_attr("size"))
    return [*by_windows, *[None for _ in masks]]
