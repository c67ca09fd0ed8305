# SPDX-License-Identifier: MIT
"""Time, as a cell sees it: one step, or all steps at once.

A cell is written once, against `Steps`. `OneStep` makes of it an ordinary recurrent cell,
`AllSteps` a layer that is parallel in time.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from keras import ops, random

from tf_plr.causal_windows import causal_windows
from tf_plr.gated_recurrence import CELLS, DTYPES, gated_recurrence
from tf_plr.layers import fusion
from tf_plr.layers.types import Tensor
from tf_plr.recurrence import linear_recurrence


class Steps(ABC):
    """In the shapes below, `...` is `[batch]` for one step and `[batch, time]` for all."""

    @abstractmethod
    def recur(self, decays: Tensor, impulses: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """Computes the recurrence in the dtype of `state`.

        Args:
            decays: [..., n]; or what broadcasts to it: one for each unit, [n], or the same at every
                step, [batch, n], each with 1 in place of any of these.
            impulses: [..., n].
            state: [batch, n], before the first step.

        Returns:
            The states after each step, [..., n], and the last one, [batch, n].

        Raises:
            ValueError: decays that do not broadcast so.
        """

    # Whether native ops other than the recurrence may run: `gated`, and the windows of `convolve`.
    fuses: bool = False

    def gated(
        self, product: Tensor, state: Tensor, *, beside: Tensor = None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        """The fused op: see `tf_plr.gated_recurrence`."""
        raise NotImplementedError

    @abstractmethod
    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        """The states before each step, [..., n]: `state`, then all but the last of `states`."""

    @abstractmethod
    def convolve(self, inputs: Tensor, kernel: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        """Computes a causal convolution.

        Args:
            inputs: [..., input_dim].
            kernel: [size, input_dim, filters], oldest input first; size >= 2.
            history: [batch, (size - 1) * input_dim], the inputs before the first step.

        Returns:
            The products, [..., filters], and the last history.
        """

    @abstractmethod
    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        """The inputs with features dropped: the same ones at every step of a sequence."""


class OneStep(Steps):
    def __init__(self, fuses: bool = True):
        self.fuses = fuses

    def gated(
        self, product: Tensor, state: Tensor, *, beside: Tensor = None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        outputs, last = gated_recurrence(
            ops.expand_dims(product, 1),
            beside=None if beside is None else ops.expand_dims(beside, 1),
            initial_state=state,
            mask=None,
            algorithm="auto",
            **options,
        )
        return ops.squeeze(outputs, 1), last

    def recur(self, decays: Tensor, impulses: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        decays, impulses = _operands(decays, impulses, state.dtype)
        state = decays * state + impulses
        return state, state

    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        return state

    def convolve(self, inputs: Tensor, kernel: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        size, input_dim, filters = kernel.shape
        window = ops.concatenate([ops.cast(history, inputs.dtype), inputs], axis=-1)
        product = ops.matmul(window, ops.reshape(kernel, (size * input_dim, filters)))
        return product, ops.cast(window[:, input_dim:], history.dtype)

    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        return random.dropout(inputs, rate, seed=seed)


class AllSteps(Steps):
    """Where `mask` [batch, time] is False, a step leaves every state as it was.

    `zero_states` are states before the first step that are known to be zeros. `hold` is what masked
    steps are to show: the last valid output, or zeros.
    """

    _fused_holds = True  # Whether the fused op holds.

    def __init__(
        self,
        algorithm: str,
        mask: Tensor = None,
        zero_states: Sequence[Tensor] = (),
        hold: bool = False,
    ):
        self.fuses = algorithm != "composed"
        self._algorithm = algorithm
        self._step_mask = mask
        self._mask = None if mask is None else ops.expand_dims(mask, -1)
        self._last_valid: Tensor = None
        self._zero_states = zero_states
        self._holds = hold
        self._finished: list[Tensor] = []

    def recur(self, decays: Tensor, impulses: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        if decays.ndim == 2:
            decays = ops.expand_dims(decays, 1)
        decays, impulses = _operands(decays, impulses, state.dtype)
        if self._mask is not None:
            decays = ops.where(self._mask, decays, 1)
            impulses = ops.where(self._mask, impulses, 0)
        states = self._linear_recurrence(decays, impulses, state)
        self._remember(states, state)
        return states, states[:, -1]

    def _linear_recurrence(self, decays: Tensor, impulses: Tensor, state: Tensor) -> Tensor:
        return linear_recurrence(decays, impulses, state, axis=1, algorithm=self._algorithm)

    def gated(
        self, product: Tensor, state: Tensor, *, beside: Tensor = None, **options: Any
    ) -> tuple[Tensor, Tensor]:
        outputs, last = self._gated_recurrence(
            product,
            beside=beside,
            initial_state=state,
            mask=self._step_mask,
            algorithm=self._algorithm,
            **options,
        )
        kind = CELLS[options["cell"]].output
        if kind in ("gated", "highway") and (self._fused_holds or not self._holds):
            self._finished.append(outputs)
        elif kind == "state":
            self._remember(outputs, state)
        return outputs, last

    def _gated_recurrence(self, product: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return gated_recurrence(product, hold=self._holds, **options)

    def _remember(self, states: Tensor, state: Tensor) -> None:
        """States that start from zeros are held where steps are masked."""
        if self._holds and any(state is zeros for zeros in self._zero_states):
            self._finished.append(states)

    def is_finished(self, outputs: Tensor) -> bool:
        """Whether masked steps of these outputs are known to show what they are to."""
        return self._mask is None or any(outputs is finished for finished in self._finished)

    def hold(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The last valid input at each step, [batch, time, n]; `state` before the first."""
        return self._hold(inputs, state, self._index_of_last_valid())

    def hold_last(self, inputs: Tensor, state: Tensor) -> Tensor:
        """The last valid input, [batch, n]; `state` if there is none."""
        return self._hold(inputs, state, self._index_of_last_valid()[:, -1:])[:, 0]

    def of_whole(self, last: Tensor) -> Tensor:
        """What comes last of the whole sequence, from what comes last of these steps."""
        return last

    def previous(self, states: Tensor, state: Tensor) -> Tensor:
        joined = ops.concatenate([ops.expand_dims(state, 1), states], axis=1)
        return self._cut(joined, 0, 1)

    def convolve(self, inputs: Tensor, kernel: Tensor, history: Tensor) -> tuple[Tensor, Tensor]:
        size, input_dim, filters = kernel.shape
        windows, last = self._windows(inputs, ops.cast(history, inputs.dtype), size)
        products = ops.matmul(windows, ops.reshape(kernel, (size * input_dim, filters)))
        return products, ops.cast(last, history.dtype)

    def drop(self, inputs: Tensor, rate: float, seed: Any) -> Tensor:
        return random.dropout(inputs, rate, noise_shape=(None, 1, None), seed=seed)

    def _windows(self, inputs: Tensor, history: Tensor, size: int) -> tuple[Tensor, Tensor]:
        if self.fuses and fusion.is_fused() and tf.as_dtype(inputs.dtype).name in DTYPES:
            windows, last = causal_windows(inputs, history, self._step_mask, size)
            return windows, last
        return self._stock_windows(inputs, history, size)

    def _stock_windows(self, inputs: Tensor, history: Tensor, size: int) -> tuple[Tensor, Tensor]:
        """As `causal_windows`, in TensorFlow's own ops."""
        rows = ops.reshape(history, (-1, size - 1, inputs.shape[-1]))
        if self._mask is None:
            padded = ops.concatenate([rows, inputs], axis=1)
            last = ops.reshape(padded[:, 1 - size :], ops.shape(history))
            before = [self._cut(padded, k, size - 1 - k) for k in range(size - 1)]
            return ops.concatenate([*before, inputs], axis=-1), last
        # A shift register that moves at valid steps only; its stages from young to old.
        window = [inputs]
        lasts: list[Tensor] = []
        for k in reversed(range(size - 1)):
            stage = self.hold(window[0], rows[:, k])
            window.insert(0, self.previous(stage, rows[:, k]))
            lasts.insert(0, stage[:, -1])
        windows = ops.where(self._mask, ops.concatenate(window, axis=-1), 0)
        return windows, ops.concatenate(lasts, axis=-1)

    def _cut(self, tensor: Tensor, first: int, last: int) -> Tensor:
        """The tensor without so many of its first and last steps."""
        if tensor.shape[1] is None and not self.fuses:  # ONNX has no split into unknown sizes.
            return tensor[:, first : -last if last else None]
        # On a CPU, split has a much faster gradient than a slice.
        sizes = [size for size in (first, -1, last) if size]
        return tf.split(tensor, sizes, axis=1)[1 if first else 0]

    def _index_of_last_valid(self) -> Tensor:
        """At each step that of the last valid one, or -1, [batch, time]: a recurrence as well."""
        if self._last_valid is None:
            steps = ops.shape(self._mask)[1]
            most = 2**24  # Integers up to here are exact in float32.
            exact = "float32" if isinstance(steps, int) and steps <= most else "float64"
            if self._algorithm == "composed" and not isinstance(steps, int):
                # float64 would keep the graph out of TFLite.
                exact = "float32"
                few = tf.debugging.assert_less_equal(
                    steps, most, "a masked sequence may have 2**24 steps at most, if composed"
                )
                with tf.control_dependencies([few]):
                    steps = tf.identity(steps)
            keep = ops.cast(ops.logical_not(self._mask), exact)
            index = ops.reshape(ops.cast(tf.range(steps), exact), (1, -1, 1))
            index, _ = AllSteps(self._algorithm).recur(
                keep, (1 - keep) * index, -ops.ones_like(keep[:, 0])
            )
            self._last_valid = ops.cast(index[..., 0], "int32")
        return self._last_valid

    @staticmethod
    def _hold(inputs: Tensor, state: Tensor, index: Tensor) -> Tensor:
        held = tf.gather(inputs, ops.maximum(index, 0), batch_dims=1)
        return ops.where(ops.expand_dims(index, -1) < 0, ops.expand_dims(state, 1), held)


def _operands(decays: Tensor, impulses: Tensor, dtype: Any) -> tuple[Tensor, Tensor]:
    """Both in one dtype, and decays broadcast to impulses where they are known to differ."""
    for name, operand in (("decays", decays), ("impulses", impulses)):
        if tf.as_dtype(operand.dtype).is_complex and not tf.as_dtype(dtype).is_complex:
            raise TypeError(
                f"{name} are {tf.as_dtype(operand.dtype).name}, but the cell's state is "
                f"{tf.as_dtype(dtype).name}: set state_dtype in the cell"
            )
    decays, impulses = ops.cast(decays, dtype), ops.cast(impulses, dtype)
    try:
        shape = tf.broadcast_static_shape(decays.shape, impulses.shape)
    except ValueError:
        shape = None
    if shape is None or not shape.is_compatible_with(impulses.shape):
        raise ValueError(
            "decays must have the shape of impulses, or broadcast to it, but have shape "
            f"{tuple(decays.shape)}, and impulses have shape {tuple(impulses.shape)}"
        )
    if not decays.shape.is_compatible_with(impulses.shape) or 1 in tuple(decays.shape):
        decays = ops.broadcast_to(decays, ops.shape(impulses))
    return decays, impulses
