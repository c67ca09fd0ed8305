# SPDX-License-Identifier: MIT
"""`StepFlags`: which steps are masked, and which are the first of a new sequence."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import tensorflow as tf

from tf_plr._ops.arguments import as_list
from tf_plr._types import Tensor


class StepFlags(NamedTuple):
    """Optional inputs of the ops: boolean tensors of the shape of the steps up to the time axis.

    Attributes:
        mask: False where a step is masked. It does not change the state, whatever its inputs are.
        resets: True where a step, masked or not, is the first of a new sequence. The state before
            it is zero, and nothing else passes from one sequence to the next, not even NaN.
    """

    mask: Tensor = None
    resets: Tensor = None

    def __bool__(self) -> bool:
        return self.mask is not None or self.resets is not None

    def as_inputs(self) -> dict[str, list[Tensor]]:
        """The inputs of a native op."""
        return {"mask": as_list(self.mask), "resets": as_list(self.resets)}

    @classmethod
    def split(
        cls, op: Any, inputs: Sequence[Tensor] | None = None
    ) -> tuple["StepFlags", list[Tensor]]:
        """Splits the inputs of an op, or tensors in their place, of which flags are the last."""
        inputs = list(op.inputs if inputs is None else inputs)
        masks, resets = op.get_attr("num_masks"), op.get_attr("num_resets")
        count = len(inputs) - masks - resets
        mask = inputs[count] if masks else None
        return cls(mask, inputs[-1] if resets else None), inputs[:count]

    def gradients(self) -> list[None]:
        """The gradients with respect to the inputs `as_inputs`."""
        return [None for flags in self if flags is not None]

    def valid(self, tensor: Tensor, otherwise: int = 0) -> Tensor:
        """Replaces masked steps, which may hold anything, even NaN."""
        return tensor if self.mask is None else _where(self.mask, tensor, otherwise)

    def within_sequence(self, tensor: Tensor) -> Tensor:
        """Replaces what resets would take from the sequence before, by zeros."""
        return tensor if self.resets is None else _where(~self.resets, tensor, 0)


def _where(flags: Tensor, tensor: Tensor, otherwise: int) -> Tensor:
    shape = tf.concat([tf.shape(flags), tf.ones([tf.rank(tensor) - tf.rank(flags)], tf.int32)], 0)
    return tf.where(tf.reshape(flags, shape), tensor, tf.cast(otherwise, tensor.dtype))
