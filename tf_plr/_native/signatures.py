# SPDX-License-Identifier: MIT
"""What the portable library must know of the native ops' signatures."""

from collections.abc import Callable
from typing import Any, NamedTuple

import tensorflow as tf

# The optional inputs, each a list of at most one tensor, and the attribute that holds its length.
COUNTS = {
    "bias": "num_biases",
    "highway": "num_highways",
    "prefix": "num_prefixes",
    "initial_state": "num_initial_states",
    "d_last_state": "num_d_last_states",
    "mask": "num_masks",
    "resets": "num_resets",
}
PREFIX_ALIGNMENT = 8  # Columns of a prefix are padded with zeros to a multiple of this.


def padded_prefix(features: int) -> int:
    """The columns that a prefix takes in front of the outputs of `GatedRecurrence`."""
    return features + -features % PREFIX_ALIGNMENT


class AxisSize(NamedTuple):
    """Stands for the size of an operand's axis, which may be known only when the graph runs."""

    operand: int
    axis: int


class Output(NamedTuple):
    dtype: Any
    sizes: tuple[int | AxisSize, ...]

    def shape(self, inputs: list[Any]) -> Any:
        """The static shape; sizes that are not known yet are None."""
        known = [s if isinstance(s, int) else inputs[s.operand].shape[s.axis] for s in self.sizes]
        return tf.TensorShape(known)


class Operand:
    def __init__(self, number: int, tensor: Any) -> None:
        if tensor.shape.rank is None:
            raise ValueError(
                "tensors must have known ranks if tf_plr runs in another TensorFlow than it was "
                "built for"
            )
        self.dtype = tensor.dtype
        self.sizes = tuple(AxisSize(number, axis) for axis in range(tensor.shape.rank))
        self._width = tensor.shape[-1] if tensor.shape.rank else None

    def like(self) -> Output:
        return Output(self.dtype, self.sizes)

    def width(self) -> int:
        if self._width is None:
            raise ValueError(
                "the number of features must be known, because tf_plr runs in another TensorFlow "
                "than it was built for"
            )
        return int(self._width)


Outputs = dict[str, Any]  # Maps names to an `Output`, or to a list of them.


def _gated_sizes(i: Any, a: Any) -> tuple[int | AxisSize, int | AxisSize, int]:
    batch, steps, _ = i["product"].sizes
    return batch, steps, i["product"].width() // len(a["blocks"])


def _gated(i: Any, a: Any) -> Outputs:
    batch, steps, units = _gated_sizes(i, a)
    dtype = i["product"].dtype
    prefix = sum(padded_prefix(prefix.width()) for prefix in i["prefix"])
    return {
        "outputs": Output(dtype, (batch, steps, prefix + units)),
        "states": [Output(dtype, (batch, steps, units))] * a["num_states"],
        "last_state": Output(tf.float32, (batch, units)),
    }


def _gated_grad(i: Any, a: Any) -> Outputs:
    batch, _, units = _gated_sizes(i, a)
    return {
        "d_product": i["product"].like(),
        "d_bias": [bias.like() for bias in i["bias"]],
        "d_highway": [highway.like() for highway in i["highway"]],
        "d_initial_state": Output(tf.float32, (batch, units)),
    }


def _windows(i: Any, a: Any) -> Outputs:
    inputs = i["inputs"]
    windows = Output(inputs.dtype, (*inputs.sizes[:2], a["size"] * inputs.width()))
    return {"windows": windows, "last_history": i["history"].like()}


def _windows_grad(i: Any, a: Any) -> Outputs:
    windows = i["d_windows"]
    inputs = Output(windows.dtype, (*windows.sizes[:2], windows.width() // a["size"]))
    return {"d_inputs": inputs, "d_history": i["d_last_history"].like()}


# For each op, a function from its inputs (by name) and its attributes to its outputs.
OUTPUTS: dict[str, Callable[[Any, Any], Outputs]] = {
    "LinearRecurrence": lambda i, a: {"states": i["impulses"].like()},
    "LinearRecurrenceGrad": lambda i, a: {
        "d_decays": i["decays"].like(),
        "d_impulses": i["d_states"].like(),
        "d_initial_state": [state.like() for state in i["initial_state"]],
    },
    "GatedRecurrence": _gated,
    "GatedRecurrenceGrad": _gated_grad,
    "CausalWindows": _windows,
    "CausalWindowsGrad": _windows_grad,
    "LayerNormalization": lambda i, a: {
        "outputs": i["inputs"].like(),
        "statistics": Output(tf.float32, (*i["inputs"].sizes[:-1], 2)),
    },
    "LayerNormalizationGrad": lambda i, a: {
        "d_inputs": i["inputs"].like(),
        "d_scale": i["scale"].like(),
        "d_bias": [i["scale"].like()] * a["num_biases"],
    },
}
