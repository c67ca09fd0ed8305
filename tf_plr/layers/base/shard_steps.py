# SPDX-License-Identifier: MIT
"""`ShardSteps`: the steps of one replica, if each replica holds a part of every sequence."""

from typing import Any

import tensorflow as tf
from keras import ops, random

from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Algorithm, Tensor
from tf_plr.distributed._exchange import Exchange
from tf_plr.distributed._recurrences import sharded_gated_recurrence, sharded_linear_recurrence
from tf_plr.layers.base.all_steps import AllSteps


class ShardSteps(AllSteps):
    """All steps of this replica's part. The last states are those after this part."""

    fuses_state_activations = False
    _fused_op_holds = False  # The last valid step may be in another replica.

    def __init__(
        self,
        exchange: Exchange,
        algorithm: Algorithm,
        flags: StepFlags = StepFlags(),  # noqa: B008
        **options: Any,
    ):
        super().__init__(algorithm, flags, **options)
        self._exchange = exchange

    def last_of_sequence(self, last: Tensor) -> Tensor:
        return self._exchange.from_last(last)

    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        return super().previous(states, self._exchange.from_previous(states[:, -1], state))

    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        features = ops.ones_like(inputs[:, :1])
        return inputs * self._exchange.from_last(random.dropout(features, rate, seed=seed))

    def hold(self, inputs: Tensor, state: Tensor) -> Tensor:
        # Masked steps repeat the state; others forget it.
        return self._linear_recurrence(ops.zeros((1, 1, 1), inputs.dtype), inputs, state)

    def hold_last(self, inputs: Tensor, state: Tensor) -> Tensor:
        return self.hold(inputs, state)[:, -1]

    def _windows(self, inputs: Tensor, history: Tensor, size: int) -> tuple[Tensor, Tensor]:
        if self._flags.mask is not None:
            # `hold` and `previous` exchange the stages of the register.
            return self._stock_windows(inputs, history, size)
        if inputs.shape[1] is not None and inputs.shape[1] < size - 1:
            raise ValueError(
                f"each replica must have at least kernel_size - 1 = {size - 1} steps of a "
                f"sequence, but has {inputs.shape[1]}"
            )
        last = inputs[:, 1 - size :]
        if self._flags.resets is not None:
            resets = tf.cast(self._flags.resets[:, 1 - size :], tf.int32)
            later = tf.cumsum(resets, axis=1, exclusive=True, reverse=True)
            last = tf.where(later[..., None] > 0, tf.zeros_like(last), last)
        last = ops.reshape(last, ops.shape(history))
        return super()._windows(inputs, self._exchange.from_previous(last, history), size)

    def _linear_recurrence(self, decays: Tensor, impulses: Tensor, state: Tensor) -> Tensor:
        return sharded_linear_recurrence(
            self._exchange,
            decays,
            impulses,
            state,
            axis=1,
            algorithm=self._algorithm,
            flags=self._flags,
        )

    def _gated_recurrence(
        self, product: Tensor, *, hold: bool, **options: Any
    ) -> tuple[Tensor, Tensor]:
        return sharded_gated_recurrence(self._exchange, product, **options)
