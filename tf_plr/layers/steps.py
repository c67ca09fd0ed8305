# SPDX-License-Identifier: MIT
"""Time, as a cell sees it: one step, or all steps at once.

A cell is written once, against this interface. `OneStep` makes of it an ordinary recurrent cell,
`AllSteps` a layer that is parallel in time. In the shapes below, `...` is `[batch]` for one step
and `[batch, time]` for all.

    recur(decays, impulses, state)      states [..., n] after each step, last state [batch, n]
    previous(states, state)             states [..., n] before each step
    convolve(inputs, kernel, history)   causal convolution [..., filters] with a kernel
                                        [size, input_dim, filters], size >= 2, and last history:
                                        [batch, (size - 1) * input_dim], oldest input first
    drop(inputs, rate, seed)            inputs with features dropped, the same ones at every step
"""

from keras import ops, random

from tf_plr.recurrence import linear_recurrence


class OneStep:
    def recur(self, decays, impulses, state):
        state = decays * state + impulses
        return state, state

    def previous(self, states, state):
        return state

    def convolve(self, inputs, kernel, history):
        last = ops.concatenate([history, inputs], axis=-1)[:, kernel.shape[1] :]
        return _matmul_window([history, inputs], kernel), last

    def drop(self, inputs, rate, seed):
        return random.dropout(inputs, rate, seed=seed)


class AllSteps:
    """Where `mask` [batch, time] is False, a step leaves every state as it was."""

    def __init__(self, algorithm, mask=None):
        self._algorithm = algorithm
        self._mask = None if mask is None else ops.expand_dims(mask, -1)

    def recur(self, decays, impulses, state):
        if self._mask is not None:
            decays = ops.where(self._mask, decays, 1)
            impulses = ops.where(self._mask, impulses, 0)
        states = linear_recurrence(decays, impulses, state, axis=1, algorithm=self._algorithm)
        return states, states[:, -1]

    def hold(self, inputs, state):
        """The last valid input at each step; `state` before the first."""
        decays = ops.cast(ops.logical_not(self._mask), inputs.dtype)
        decays = ops.broadcast_to(decays, ops.shape(inputs))
        impulses = ops.where(self._mask, inputs, 0)
        return linear_recurrence(decays, impulses, state, axis=1, algorithm=self._algorithm)

    def previous(self, states, state):
        return ops.concatenate([ops.expand_dims(state, 1), states[:, :-1]], axis=1)

    def convolve(self, inputs, kernel, history):
        size, input_dim, _ = kernel.shape
        if self._mask is not None and size > 2:
            return self._convolve_valid(inputs, kernel, history)
        if self._mask is not None:  # Only at masked steps, which do not count, is this another x_t.
            inputs = self.hold(inputs, history)
        history = ops.reshape(history, (-1, size - 1, input_dim))
        padded = ops.concatenate([history, inputs], axis=1)
        last = ops.reshape(padded[:, 1 - size :], (-1, (size - 1) * input_dim))
        return ops.conv(padded, kernel, data_format="channels_last"), last

    def _convolve_valid(self, inputs, kernel, history):
        """With a shift register that moves at valid steps only; its stages from young to old."""
        window, last = [inputs], []
        for state in reversed(ops.split(history, kernel.shape[0] - 1, axis=-1)):
            stage = self.hold(window[0], state)
            window.insert(0, self.previous(stage, state))
            last.insert(0, stage[:, -1])
        return _matmul_window(window, kernel), ops.concatenate(last, axis=-1)

    def drop(self, inputs, rate, seed):
        return random.dropout(inputs, rate, noise_shape=(None, 1, None), seed=seed)


def _matmul_window(window, kernel):
    """The convolution at steps whose window, oldest input first, is laid out in the features."""
    size, input_dim, filters = kernel.shape
    flat_kernel = ops.reshape(kernel, (size * input_dim, filters))
    return ops.matmul(ops.concatenate(window, axis=-1), flat_kernel)
