# SPDX-License-Identifier: MIT
"""Time, as a cell sees it in one of several replicas that have a part of every sequence each."""

from typing import Any

from keras import ops, random

from tf_plr.distributed import gated_recurrence_over, linear_recurrence_over
from tf_plr.exchange import Exchange
from tf_plr.layers.steps import AllSteps
from tf_plr.layers.types import Tensor


class ShardSteps(AllSteps):
    """All steps of this replica's part. The states that are returned are those after this part."""

    _fused_holds = False

    def __init__(self, exchange: Exchange, algorithm: str, mask: Tensor = None, **options: Any):
        super().__init__(algorithm, mask, **options)
        self._exchange = exchange

    def of_whole(self, last: Tensor) -> Tensor:
        return self._exchange.from_last(last)

    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        return super().previous(states, self._exchange.from_previous(states[:, -1], state))

    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        features = ops.ones_like(inputs[:, :1])
        return inputs * self._exchange.from_last(random.dropout(features, rate, seed=seed))

    def hold(self, inputs: Tensor, state: Tensor) -> Tensor:
        impulses = ops.where(self._mask, inputs, 0)
        keep = ops.broadcast_to(ops.logical_not(self._mask), ops.shape(inputs))
        return self._linear_recurrence(ops.cast(keep, inputs.dtype), impulses, state)

    def hold_last(self, inputs: Tensor, state: Tensor) -> Tensor:
        return self.hold(inputs, state)[:, -1]

    def _windows(self, inputs: Tensor, history: Tensor, size: int) -> tuple[Tensor, Tensor]:
        if self._mask is not None:  # Stages are held, and moved, by the methods above.
            return self._stock_windows(inputs, history, size)
        if inputs.shape[1] is not None and inputs.shape[1] < size - 1:
            raise ValueError(
                f"each replica must have at least kernel_size - 1 = {size - 1} steps of a "
                f"sequence, but has {inputs.shape[1]}"
            )
        last = ops.reshape(inputs[:, 1 - size :], ops.shape(history))
        return super()._windows(inputs, self._exchange.from_previous(last, history), size)

    def _linear_recurrence(self, decays: Tensor, impulses: Tensor, state: Tensor) -> Tensor:
        return linear_recurrence_over(
            self._exchange, decays, impulses, state, axis=1, algorithm=self._algorithm
        )

    def _gated_recurrence(self, product: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return gated_recurrence_over(self._exchange, product, **options)
