# SPDX-License-Identifier: MIT
"""The windows of a causal convolution against a list of rows."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from reference import UNIT_ROUNDOFF
from support import MODES, call

import tf_plr
from tf_plr._native.library import load_ops
from tf_plr._ops.arguments import GATED_DTYPES as DTYPES
from tf_plr._ops.causal_windows import causal_windows
from tf_plr._ops.step_flags import StepFlags
from tf_plr.layers.base.all_steps import AllSteps

# (batch, steps, features, size): one step, windows longer than the sequence, odd and long rows.
SHAPES = [(1, 1, 1, 2), (2, 3, 5, 7), (3, 41, 8, 2), (2, 300, 33, 4), (2, 70, 256, 10)]


def draw(rng, shape, masked):
    batch, steps, features, size = shape
    inputs = rng.integers(-8, 9, [batch, steps, features]).astype(np.float64)
    history = rng.integers(-8, 9, [batch, (size - 1) * features]).astype(np.float64)
    mask = None
    if masked:  # The last sequence is padded at its end, the others have holes.
        mask = rng.random([batch, steps]) < 0.6
        mask[-1] = np.arange(steps) < steps // 3
    return inputs, history, mask


def reference(inputs, history, mask, size):
    batch, steps, features = inputs.shape
    windows, last = np.zeros([batch, steps, size * features]), []
    for b in range(batch):
        rows = list(history[b].reshape(size - 1, features))
        for t in range(steps):
            if mask is None or mask[b, t]:
                rows.append(inputs[b, t])
                windows[b, t] = np.concatenate(rows[-size:])
        last.append(np.concatenate(rows[1 - size :]))
    return windows, np.array(last)


def test_values(rng):
    for shape, masked, dtype in itertools.product(SHAPES, (False, True), DTYPES):
        inputs, history, mask = draw(rng, shape, masked)
        actual = causal_windows(tf.cast(inputs, dtype), tf.cast(history, dtype), mask, shape[-1])
        expected = reference(inputs, history, mask, shape[-1])
        for a, e in zip(actual, expected, strict=True):
            assert a.dtype == dtype
            np.testing.assert_array_equal(tf.cast(a, tf.float64), e)


def test_the_gradient_is_the_adjoint(rng):
    """An input's gradient is the sum of the weights of the outputs that are copies of it."""
    for shape, masked, dtype in itertools.product(SHAPES, (False, True), DTYPES):
        *arrays, mask = draw(rng, shape, masked)
        x = [tf.cast(array, dtype) for array in arrays]
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = causal_windows(*x, mask, shape[-1])
            weights = [rng.normal(size=output.shape) for output in outputs]
            weights = [tf.cast(w, dtype) for w in weights]
        actual = tape.gradient(outputs, x, output_gradients=weights)
        # The windows of the inputs' indices, from 1, tell which input each output copies.
        numbers = np.arange(1, sum(a.size for a in arrays) + 1, dtype=np.float64)
        parts = np.split(numbers, [arrays[0].size])
        places = reference(
            *(part.reshape(a.shape) for part, a in zip(parts, arrays, strict=True)), mask, shape[-1]
        )
        expected = np.zeros(numbers.size + 1)
        for place, weight in zip(places, weights, strict=True):
            np.add.at(expected, place.astype(int), np.array(tf.cast(weight, tf.float64)))
        flat = np.concatenate([np.array(tf.cast(a, tf.float64)).ravel() for a in actual])
        # A gradient sums at most `size` numbers of O(1) in float32, and is rounded once.
        bound = UNIT_ROUNDOFF[dtype] + shape[-1] * UNIT_ROUNDOFF["float32"]
        np.testing.assert_allclose(flat, expected[1:], rtol=0, atol=8 * bound * shape[-1])


def run(inputs, history, mask, size=4):
    """Values, and derivatives of the first and second order."""
    with tf.GradientTape() as outer:
        outer.watch([inputs, history])
        with tf.GradientTape() as inner:
            inner.watch([inputs, history])
            windows, last = causal_windows(inputs, history, mask, size)
            loss = tf.reduce_sum(windows**3) + tf.reduce_sum(last**3)
        first = inner.gradient(loss, [inputs, history])
        norm = tf.add_n([tf.reduce_sum(g**2) for g in first])
    return [windows, last, *first, *outer.gradient(norm, [inputs, history])]


@pytest.mark.parametrize("masked", [False, True])
def test_modes_agree_in_every_bit(rng, masked):
    arrays = draw(rng, (2, 70, 18, 4), masked)
    arguments = [
        None if a is None else tf.constant(a, tf.bool if a.dtype == bool else tf.float32)
        for a in arrays
    ]
    eager = call(run, arguments, "eager")
    for mode in MODES[1:]:
        for value, expected in zip(call(run, arguments, mode), eager, strict=True):
            np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("resets", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_stock_ops_say_the_same(rng, masked, resets):
    arrays = draw(rng, (2, 70, 18, 4), masked)
    resets = tf.constant(rng.random((2, 70)) < 0.2) if resets else None

    def stock(inputs, history, mask, size, resets):
        steps = AllSteps("composed", StepFlags(mask, resets))
        return steps._stock_windows(inputs, history, size)

    inputs, history = (tf.constant(a, tf.float32) for a in arrays[:2])
    mask = None if arrays[2] is None else tf.constant(arrays[2])
    results = []
    for function in (causal_windows, stock):
        with tf.GradientTape() as tape:
            tape.watch([inputs, history])
            outputs = function(inputs, history, mask, 4, resets)
            loss = tf.add_n([tf.reduce_sum(output**2) for output in outputs])
        results.append([*outputs, *tape.gradient(loss, [inputs, history])])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)  # Sums of small integers.


def test_any_byte_but_zero_is_true(rng):
    inputs, history, mask = draw(rng, (2, 70, 18, 4), True)
    bytes_of_two = tf.reshape(tf.io.decode_raw((2 * mask).astype("u1").tobytes(), tf.bool), [2, 70])
    arguments = [tf.constant(a, tf.float32) for a in (inputs, history)]
    for value, expected in zip(run(*arguments, bytes_of_two), run(*arguments, mask), strict=True):
        np.testing.assert_array_equal(value, expected)


def test_vectorized(rng):
    inputs, history, mask = draw(rng, (6, 20, 3, 4), True)
    arguments = [tf.constant(a) for a in (inputs.astype("f"), history.astype("f"), mask)]
    whole = run(*arguments)
    parts = tuple(tf.reshape(a, [3, 2, *a.shape[1:]]) for a in arguments)

    def mapped(function, parts):
        return tf.vectorized_map(function, parts, fallback_to_while_loop=False)

    for actual, expected in zip(mapped(lambda p: tuple(run(*p)), parts), whole, strict=True):
        np.testing.assert_array_equal(tf.reshape(actual, expected.shape), expected)
    # One mask for all; and a map over no elements.
    mask = parts[2][0]
    values = mapped(lambda p: run(*p, mask)[0], parts[:2])
    for i in range(3):
        np.testing.assert_array_equal(values[i], run(parts[0][i], parts[1][i], mask)[0])
    assert mapped(lambda p: run(*p)[0], tuple(part[:0] for part in parts)).shape == (0, 2, 20, 12)


@pytest.mark.parametrize("shape", [(0, 5, 4), (3, 0, 4), (3, 5, 0), (0, 2**20, 4), (0, 0, 0)])
def test_empty(mode, shape):
    batch, steps, features = shape
    history = tf.ones([batch, 2 * features])
    values = call(lambda *a: run(*a, None, size=3), [tf.zeros(shape), history], mode)
    assert values[0].shape == (batch, steps, 3 * features)
    if steps == 0:
        np.testing.assert_array_equal(values[1], history)
        np.testing.assert_array_equal(values[3], 3 * history)


BAD = {
    "inputs must be of rank 3": {"inputs": tf.zeros([2, 3])},
    "history must be of rank 2|history must have shape": {"history": tf.zeros([2, 2, 4])},
    "history must have shape": {"history": tf.zeros([2, 9])},
    "mask must have shape": {"mask": tf.zeros([2, 4], tf.bool)},
    "less than minimum 2|must be at least minimum 2": {"size": 1},
}


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, known):
    given = {
        "inputs": tf.zeros([2, 3, 4]), "history": tf.zeros([2, 8]),
        "mask": tf.ones([2, 3], tf.bool), "size": 3, **BAD[message],
    }  # fmt: skip
    size = given.pop("size")

    def run(*tensors):
        return causal_windows(*tensors, size)

    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        if known:
            run(*given.values())
        else:
            signature = [tf.TensorSpec(None, t.dtype) for t in given.values()]
            tf.function(run, input_signature=signature)(*given.values())


def test_bad_gradients():
    gradient = load_ops().tf_plr_causal_windows_grad
    with pytest.raises(tf.errors.InvalidArgumentError, match="must be 3 rows of one size"):
        gradient(tf.zeros([2, 3, 7]), tf.zeros([2, 4]), [], [], size=3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="d_last_history must have shape"):
        gradient(tf.zeros([2, 3, 6]), tf.zeros([2, 5]), [], [], size=3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="mask must be at most one"):
        gradient(tf.zeros([2, 3, 6]), tf.zeros([2, 4]), 2 * [tf.ones([2, 3], tf.bool)], [], size=3)


@pytest.mark.parametrize("masked", [False, True])
def test_qrnn_runs_it(rng, masked):
    layer = tf_plr.QRNN(6, kernel_size=3)
    mask = tf.ones([2, 7], tf.bool) if masked else None
    call = tf.function(lambda x: layer(x, mask=mask)).get_concrete_function(tf.ones([2, 7, 4]))
    assert "TfPlr>CausalWindows" in {op.type for op in call.graph.get_operations()}
