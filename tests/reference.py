# SPDX-License-Identifier: MIT
"""The reference: every model as a loop over steps in float64 NumPy, from its equations."""

import numpy as np

# Largest relative error of rounding to nearest.
UNIT_ROUNDOFF = {
    "float16": 2**-11,
    "bfloat16": 2**-8,
    "float32": 2**-24,
    "complex64": 2**-24,
    "float64": 2**-53,
    "complex128": 2**-53,
}
# Spacing of the smallest numbers: the absolute rounding error of results that underflow.
UNDERFLOW = {**dict.fromkeys(UNIT_ROUNDOFF, 1e-300), "float16": 2**-24, "float32": 2**-149}
UNDERFLOW["complex64"] = UNDERFLOW["float32"]
UNDERFLOW["bfloat16"] = 2**-133
# {dtype: dtype in which it is accumulated}.
ACCUMULATOR = {
    **{name: name for name in UNIT_ROUNDOFF},
    "float16": "float32",
    "bfloat16": "float32",
}


def linear_recurrence(decays, impulses, initial_state=None, axis=0, reverse=False):
    """h_t = decays_t h_{t-1} + impulses_t, in the dtype of the arguments."""
    decays, impulses = np.moveaxis(decays, axis, 0), np.moveaxis(impulses, axis, 0)
    state = np.zeros_like(impulses[:1].sum(0)) if initial_state is None else initial_state
    states = np.zeros_like(impulses)
    for t in range(len(impulses))[:: -1 if reverse else 1]:
        state = decays[t] * state + impulses[t]
        states[t] = state
    return np.moveaxis(states, 0, axis)


def linear_recurrence_gradients(decays, states, d_states, initial_state, axis=0, reverse=False):
    """d_decays, d_impulses, d_initial_state as in the paper, with TensorFlow's conjugates."""
    decays, states, d_states = (np.moveaxis(a, axis, 0) for a in (decays, states, d_states))
    d_decays, d_impulses = np.zeros_like(states), np.zeros_like(states)
    order = list(range(len(states))[:: -1 if reverse else 1])
    carried = np.zeros_like(initial_state)
    for position in reversed(range(len(order))):
        t = order[position]
        previous = states[order[position - 1]] if position else initial_state
        gradient = carried + d_states[t]
        d_decays[t] = np.conj(previous) * gradient
        d_impulses[t] = gradient
        carried = np.conj(decays[t]) * gradient
    return np.moveaxis(d_decays, 0, axis), np.moveaxis(d_impulses, 0, axis), carried


def error_bound(decays, impulses, initial_state, unit_roundoff, axis=0, reverse=False):
    """Bounds the error of computing states[t] in any order of combination.

    The term of impulse s in state t goes through at most t - s + 1 products and as many sums, each
    with a relative error of `unit_roundoff` (4 times that if complex). To first order the errors
    of all terms add up to a recurrence over the terms' magnitudes.
    """
    if np.iscomplexobj(impulses):
        unit_roundoff *= 4
    decays, impulses = np.abs(decays).astype(np.float64), np.abs(impulses).astype(np.float64)
    initial_state = None if initial_state is None else np.abs(initial_state).astype(np.float64)
    magnitudes = linear_recurrence(decays, impulses, initial_state, axis, reverse)
    return 4 * unit_roundoff * linear_recurrence(decays, magnitudes, initial_state, axis, reverse)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def elu(x):
    return np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)


# By the names that Keras has for them.
ACTIVATIONS = {
    "sigmoid": sigmoid,
    "hard_sigmoid": lambda x: np.clip(x / 6 + 0.5, 0, 1),
    "tanh": np.tanh,
    "elu": elu,
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
}


def layer_normalize(product, gain):
    if gain is None:
        return product
    mean = product.mean(-1, keepdims=True)
    return gain * (product - mean) / np.sqrt(product.var(-1, keepdims=True) + 1e-3)


def gilr(x, kernel, bias, state, gain=None, tau=elu, sigma=sigmoid):
    """Outputs [batch, time, units] and last state [batch, units]."""
    n = kernel.shape[1] // 2
    outputs = []
    for t in range(x.shape[1]):
        a = layer_normalize(x[:, t] @ kernel, gain) + bias
        g, i = sigma(a[:, :n]), tau(a[:, n:])
        state = g * state + (1 - g) * i
        outputs.append(state)
    return np.stack(outputs, 1), state


def linear_surrogate_lstm(
    x, kernel, recurrent_kernel, bias, surrogate, c, gains=(None, None), shift=True,
    tau=np.tanh, sigma=sigmoid,
):  # fmt: skip
    """Outputs and the last states (surrogate, c)."""
    n = c.shape[1]
    outputs = []
    for t in range(x.shape[1]):
        a = layer_normalize(x[:, t] @ kernel[:, : 2 * n], gains[0]) + bias[: 2 * n]
        g = sigma(a[:, :n])
        previous, surrogate = surrogate, g * surrogate + (1 - g) * tau(a[:, n:])
        seen = previous if shift else surrogate
        a = x[:, t] @ kernel[:, 2 * n :] + seen @ recurrent_kernel
        a = layer_normalize(a, gains[1]) + bias[2 * n :]
        f, i, o = (sigma(a[:, k * n : (k + 1) * n]) for k in range(3))
        c = f * c + i * tau(a[:, 3 * n :])
        outputs.append(o * c)
    return np.stack(outputs, 1), surrogate, c


def sru(x, kernel, bias, c, gain=None, tau=ACTIVATIONS["linear"], sigma=sigmoid):
    n = c.shape[1]
    outputs = []
    for t in range(x.shape[1]):
        a = layer_normalize(x[:, t] @ kernel[:, : 3 * n], gain) + bias
        f, r = sigma(a[:, n : 2 * n]), sigma(a[:, 2 * n :])
        c = f * c + (1 - f) * a[:, :n]
        highway = x[:, t] if kernel.shape[1] == 3 * n else x[:, t] @ kernel[:, 3 * n :]
        outputs.append(r * tau(c) + (1 - r) * highway)
    return np.stack(outputs, 1), c


def qrnn(
    x, kernel, bias, c, history=None, gain=None, pooling="fo", tau=np.tanh, sigma=sigmoid
):  # fmt: skip
    """kernel [size, input_dim, blocks * units]; history: the last size - 1 inputs, oldest first."""
    size, input_dim, _filters = kernel.shape
    n = c.shape[1]
    if history is None:
        history = np.zeros((len(x), (size - 1) * input_dim))
    window = list(np.split(history, size - 1, 1)) if size > 1 else []
    outputs = []
    for t in range(x.shape[1]):
        window = [*window, x[:, t]]
        a = sum(inputs @ weights for inputs, weights in zip(window, kernel, strict=True))
        a = layer_normalize(a, gain) + bias
        z, f = tau(a[:, :n]), sigma(a[:, n : 2 * n])
        i = sigma(a[:, 3 * n :]) if pooling == "ifo" else 1 - f
        c = f * c + i * z
        outputs.append(c if pooling == "f" else sigma(a[:, 2 * n : 3 * n]) * c)
        window = window[1:]
    return np.stack(outputs, 1), c, np.concatenate(window, 1) if window else None
