# SPDX-License-Identifier: MIT
"""`AllSteps`: runs a cell over all steps of its sequences at once."""

from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops, random

from tf_plr._ops.causal_windows import causal_windows
from tf_plr._ops.gated_recurrence import gated_recurrence
from tf_plr._ops.linear_recurrence import linear_recurrence_of_steps
from tf_plr._ops.step_flags import StepFlags
from tf_plr._types import Algorithm, Tensor, uses_stock_ops
from tf_plr.config import is_fusion_enabled
from tf_plr.layers.base import fusion
from tf_plr.layers.base.steps import Steps, operands_of_recur


class AllSteps(Steps):
    """All steps at once. A masked step does not change any state.

    Args:
        algorithm: As for `tf_plr.linear_recurrence`.
        flags: Which steps are masked, and which are the first of a new sequence, [batch, time].
        holds: Whether masked steps repeat the last valid output of their sequence. If not, they
            output zeros.
        zero_states: The states before the first step, if they are known to be zeros; or empty.
    """

    # Whether the fused op itself can repeat the last valid output.
    _fused_op_holds = True

    def __init__(
        self,
        algorithm: Algorithm,
        flags: StepFlags = StepFlags(),  # noqa: B008
        *,
        holds: bool = False,
        zero_states: Sequence[Tensor] = (),
    ):
        self.fuses = not uses_stock_ops(algorithm)
        self._algorithm = algorithm
        self._flags = flags
        self._last_valid: Tensor = None
        self._holds = holds
        self._zero_states = zero_states
        self._final_output: Tensor = None

    def recur(
        self, decays: Tensor, impulses: Tensor, state: Tensor, *, is_output: bool = False
    ) -> tuple[Tensor, Tensor]:
        if decays.ndim == 2:
            decays = ops.expand_dims(decays, 1)
        decays, impulses = operands_of_recur(decays, impulses, state.dtype)
        while decays.ndim < 3:
            decays = ops.expand_dims(decays, 0)
        states = self._linear_recurrence(decays, impulses, state)
        if is_output:
            self._output_states(states, state)
        return states, states[:, -1]

    def _linear_recurrence(self, decays: Tensor, impulses: Tensor, state: Tensor) -> Tensor:
        return linear_recurrence_of_steps(
            decays, impulses, state, self._flags, axis=1, algorithm=self._algorithm
        )

    def gated(
        self, product: Tensor, state: Tensor, *, is_output: bool = False, **options: Any
    ) -> tuple[Tensor, Tensor]:
        outputs, last = self._gated_recurrence(
            product,
            initial_state=state,
            mask=self._flags.mask,
            resets=self._flags.resets,
            hold=self._holds and is_output,
            algorithm=self._algorithm,
            **options,
        )
        parts = options["parts"]
        if is_output and parts.output == "state":
            self._output_states(outputs, state)
        elif is_output and parts.keeps_states and (self._fused_op_holds or not self._holds):
            self._final_output = outputs
        return outputs, last

    def _gated_recurrence(
        self, product: Tensor, *, hold: bool, **options: Any
    ) -> tuple[Tensor, Tensor]:
        return gated_recurrence(product, hold=hold, **options)

    def _output_states(self, states: Tensor, state: Tensor) -> None:
        # Masked steps already repeat the last valid state. Masked steps before the first valid one
        # repeat `state`, but must output zeros, so `state` must be known to be zeros.
        if self._holds and any(state is zeros for zeros in self._zero_states):
            self._final_output = states

    def is_final(self, output: Tensor) -> bool:
        """Whether the cell's output already has the required values at masked steps.

        False if a subclass of a cell changed the output after its base class had set `is_output`.
        """
        return self._flags.mask is None or output is self._final_output

    def hold(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The last valid input at each step, [batch, time, n].

        Before the first valid step, `state`; if a new sequence has begun since, zeros.
        """
        return self._hold(inputs, state, self._index_of_last_valid())

    def hold_last(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The last of `hold`, [batch, n]."""
        return self._hold(inputs, state, self._index_of_last_valid()[:, -1:])[:, 0]

    def last_of_sequence(self, last: Tensor) -> Tensor:
        """Given the last value of these steps, returns the last value of the whole sequence."""
        return last

    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        joined = ops.concatenate([ops.expand_dims(state, 1), states], axis=1)
        return self._flags.within_sequence(self._cut(joined, 0, 1))

    def convolve(self, inputs: Tensor, kernel: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        size, input_dim, filters = kernel.shape
        windows, last = self._windows(inputs, ops.cast(history, inputs.dtype), size)
        products = ops.matmul(windows, ops.reshape(kernel, (size * input_dim, filters)))
        return products, ops.cast(last, history.dtype)

    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        return random.dropout(inputs, rate, noise_shape=(None, 1, None), seed=seed)

    def _windows(self, inputs: Tensor, history: Tensor, size: int) -> tuple[Tensor, Tensor]:
        if self.fuses and is_fusion_enabled() and fusion.takes_dtype(inputs.dtype):
            return causal_windows(inputs, history, self._flags.mask, size, self._flags.resets)
        return self._stock_windows(inputs, history, size)

    def _stock_windows(self, inputs: Tensor, history: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """Computes `causal_windows` in TensorFlow's own ops."""
        rows = ops.reshape(history, (-1, size - 1, inputs.shape[-1]))
        if not self._flags:
            padded = ops.concatenate([rows, inputs], axis=1)
            last = ops.reshape(padded[:, 1 - size :], ops.shape(history))
            before = [self._cut(padded, k, size - 1 - k) for k in range(size - 1)]
            return ops.concatenate([*before, inputs], axis=-1), last
        # A shift register that advances at valid steps only, and is emptied by resets. The newest
        # stage is computed first.
        window = [inputs]
        lasts: list[Tensor] = []
        for k in reversed(range(size - 1)):
            stage = window[0]
            if self._flags.mask is not None:
                stage = self.hold(stage, rows[:, k])
            window.insert(0, self.previous(stage, rows[:, k]))
            lasts.insert(0, stage[:, -1])
        windows = self._flags.valid(ops.concatenate(window, axis=-1))
        return windows, ops.concatenate(lasts, axis=-1)

    def _cut(self, tensor: Tensor, first: int, last: int) -> Tensor:
        """The tensor without its first `first` and last `last` steps."""
        if tensor.shape[1] is None and not self.fuses:  # ONNX cannot split into unknown sizes.
            return tensor[:, first : -last if last else None]
        # On a CPU, split has a much faster gradient than a slice.
        sizes = [size for size in (first, -1, last) if size]
        return tf.split(tensor, sizes, axis=1)[1 if first else 0]

    def _index_of_last_valid(self) -> Tensor:
        """The index of the last valid step of the sequence at each step, [batch, time].

        If there is none, -1; if a new sequence has begun since the first step, -2. A linear
        recurrence computes it.
        """
        if self._last_valid is None:
            steps = ops.shape(self._flags.mask)[1]
            most = 2**24 - 2  # Integers up to two more are exact in float32.
            exact = "float32" if isinstance(steps, int) and steps <= most else "float64"
            if not self.fuses and not isinstance(steps, int):
                # float64 would keep the graph out of TFLite.
                exact = "float32"
                few = tf.debugging.assert_less_equal(
                    steps,
                    most,
                    "a masked sequence must have fewer than 2**24 - 1 steps with "
                    'algorithm="composed"',
                )
                with tf.control_dependencies([few]):
                    steps = tf.identity(steps)
            index = ops.reshape(ops.cast(tf.range(steps), exact), (1, -1, 1))
            every = ops.zeros_like(self._flags.mask, exact)[..., None] + index
            # The recurrence forgets the index at valid steps, repeats it at masked ones, and starts
            # from 0 at resets.
            index_plus_2, _ = AllSteps(self._algorithm, self._flags).recur(
                ops.zeros((1, 1, 1), exact), every + 2, ops.ones_like(every[:, 0])
            )
            self._last_valid = ops.cast(index_plus_2[..., 0], "int32") - 2
        return self._last_valid

    @staticmethod
    def _hold(inputs: Tensor, state: Tensor, index: Tensor) -> Tensor:
        held = tf.gather(inputs, ops.maximum(index, 0), batch_dims=1)
        index = ops.expand_dims(index, -1)
        before = ops.where(index == -1, ops.expand_dims(state, 1), 0)
        return ops.where(index < 0, before, held)
