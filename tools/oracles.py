# SPDX-License-Identifier: MIT
"""Checks the op and the layers against other libraries; not collected by `make test`.

    make oracles

The oracles are the associative scans of JAX, TensorFlow Probability and Keras, with derivatives;
Keras' own test of a layer; the filters of SciPy and pandas; and the op of sru, which needs torch
and ninja. Tests of libraries that are not installed are skipped.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras.src import testing  # What Keras' own tests of its layers use.

import tf_plr

SHAPES = [(1, 1), (7, 3), (64, 16), (1000, 5)]
DTYPES = ["float32", "float64", "complex64", "complex128"]
TOLERANCE = {"float32": 2e-5, "complex64": 5e-5, "float64": 1e-12, "complex128": 2e-12}


def compose(earlier, later):
    return earlier[0] * later[0], later[0] * earlier[1] + later[1]


def draw(shape, dtype, count):
    """Draws `count` arrays, with values within the unit circle so that they may be decays."""
    rng = np.random.default_rng(0)

    def values():
        real = rng.uniform(-0.7, 0.7, shape)
        return real + 1j * rng.uniform(-0.7, 0.7, shape) if "complex" in dtype else real

    return [values().astype(dtype) for _ in range(count)]


def assert_close(actual, expected, dtype):
    for a, e in zip(actual, expected, strict=True):
        scale = max(1.0, np.abs(e).max())
        np.testing.assert_allclose(a, e, rtol=0, atol=TOLERANCE[dtype] * scale)


@pytest.fixture(params=["auto", "parallel", "serial", "composed"])
def algorithm(request):
    return request.param


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_jax_associative_scan(shape, dtype, reverse, algorithm):
    """Values, and derivatives backward (VJP) and forward (JVP)."""
    jax = pytest.importorskip("jax")
    jax.config.update("jax_enable_x64", True)
    decays, impulses, d_states, d_decays, d_impulses = draw(shape, dtype, 5)

    def theirs(decays, impulses):
        return jax.lax.associative_scan(compose, (decays, impulses), reverse=reverse)[1]

    def ours(decays, impulses):
        return tf_plr.linear_recurrence(decays, impulses, reverse=reverse, algorithm=algorithm)

    states, backward = jax.vjp(theirs, decays, impulses)
    _, tangents = jax.jvp(theirs, (decays, impulses), (d_decays, d_impulses))
    arguments = [tf.constant(decays), tf.constant(impulses)]
    with tf.GradientTape() as tape:
        tape.watch(arguments)
        actual = ours(*arguments)
    # TensorFlow's gradients of complex numbers are the conjugates of JAX's.
    gradients = tape.gradient(actual, arguments, output_gradients=tf.constant(np.conj(d_states)))
    with tf.autodiff.ForwardAccumulator(
        arguments, [tf.constant(d_decays), tf.constant(d_impulses)]
    ) as forward:
        again = ours(*arguments)
    assert_close([actual], [states], dtype)
    assert_close([np.conj(g) for g in gradients], backward(d_states), dtype)
    assert_close([forward.jvp(again)], [tangents], dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("library", ["keras", "tensorflow_probability"])
def test_tensorflow_associative_scans(library, shape, dtype, algorithm):
    if library == "keras":
        scan = keras.ops.associative_scan
    else:
        scan = pytest.importorskip("tensorflow_probability").math.scan_associative
    decays, impulses, d_states = map(tf.constant, draw(shape, dtype, 3))

    def results(function):
        with tf.GradientTape() as tape:
            tape.watch([decays, impulses])
            states = function(decays, impulses)
        of_one_step = tf.UnconnectedGradients.ZERO  # With one step, theirs does not use decays.
        by = tape.gradient(states, [decays, impulses], d_states, of_one_step)
        return [states, *by]

    assert_close(
        results(lambda a, x: tf_plr.linear_recurrence(a, x, algorithm=algorithm)),
        results(lambda a, x: scan(compose, (a, x))[1]),
        dtype,
    )


@pytest.mark.parametrize("decay", [-0.9, 0.0, 0.5, 0.999])
def test_scipy_lfilter(decay, algorithm):
    signal = pytest.importorskip("scipy.signal")
    x, start = np.random.default_rng(0).normal(size=(3, 5000)), np.array([1.0, -2.0, 0.5])
    expected, _ = signal.lfilter([1.0], [1.0, -decay], x, zi=decay * start[:, None])
    actual = tf_plr.linear_recurrence(np.full_like(x, decay), x, start, axis=1, algorithm=algorithm)
    assert_close([actual], [expected], "float64")


@pytest.mark.parametrize("alpha", [0.001, 0.3, 1.0])
def test_pandas_ewm(alpha, algorithm):
    pandas = pytest.importorskip("pandas")
    x = np.random.default_rng(0).normal(size=(5000, 3))
    expected = pandas.DataFrame(x).ewm(alpha=alpha, adjust=False).mean().to_numpy()
    decays = np.full_like(x, 1 - alpha)
    actual = tf_plr.linear_recurrence(decays, alpha * x, x[0], algorithm=algorithm)
    assert_close([actual], [expected], "float64")


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(("activation", "number"), [("linear", 0), ("tanh", 1), ("relu", 2)])
def test_sru(activation, number, fused):
    """Against the authors' op on a CPU. Weights from states to gates, a later addition, are 0."""
    torch = pytest.importorskip("torch")
    ops = pytest.importorskip("sru.ops")  # Compiles.
    batch, steps, units = 3, 40, 8
    rng = np.random.default_rng(0)
    x, c = rng.normal(size=(batch, steps, units)), rng.normal(size=(batch, units))
    layer = tf_plr.SRU(units, activation=activation, return_sequences=True, return_state=True)
    layer.build(x.shape)
    kernel, bias = (rng.normal(size=w.shape) for w in layer.get_weights())
    layer.set_weights([kernel, bias])
    tf_plr.config.enable_fusion() if fused else tf_plr.config.disable_fusion()
    try:
        actual = layer(x.astype("float32"), initial_state=[tf.constant(c, tf.float32)])
    finally:
        tf_plr.config.enable_fusion()

    def to_torch(array):  # Via a list, as torch may not support this NumPy.
        return torch.tensor(array.tolist(), dtype=torch.float32)

    product = x @ kernel[:, : 3 * units]
    product[..., :units] += bias[:units]  # Their op adds only the gates' biases.
    candidate_forget_reset = np.stack(np.split(product, 3, -1), -1).swapaxes(0, 1)
    outputs, last = ops.elementwise_recurrence_inference(
        to_torch(candidate_forget_reset.reshape(steps, batch, -1)),
        to_torch(x.swapaxes(0, 1)),
        torch.zeros(2 * units),
        to_torch(bias[units:]),
        to_torch(c),
        number,
        units,
        False,
        True,
    )
    expected = np.array(outputs.tolist()).swapaxes(0, 1), np.array(last.tolist())
    assert_close([a.numpy() for a in actual], expected, "float32")


LAYERS = [tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN]


class TestKerasLayerTest(testing.TestCase):
    """Keras' check of a layer: configuration, weights, shapes, eager and symbolic calls, training
    with and without XLA, mixed precision, saving."""

    def check(self, cls, arguments, output_shape, **expected):
        self.run_layer_test(
            cls,
            init_kwargs=arguments,
            input_shape=(3, 4, 2),
            call_kwargs={},
            expected_output_shape=output_shape,
            supports_masking=True,
            custom_objects={},
            **expected,
        )

    def test_last_output(self):
        for layer in LAYERS:
            self.check(layer, {"units": 3, "dropout": 0.5}, (3, 3))

    def test_all_outputs(self):
        for layer in LAYERS:
            self.check(layer, {"units": 3, "return_sequences": True}, (3, 4, 3))

    def test_in_bidirectional(self):
        for layer in LAYERS:
            arguments = {"layer": layer(3, return_sequences=True)}
            self.check(keras.layers.Bidirectional, arguments, (3, 4, 6))

    def test_cells_in_rnn(self):
        for cell in (tf_plr.GILRCell, tf_plr.LinearSurrogateLSTMCell, tf_plr.SRUCell):
            arguments = {"cell": cell(3), "return_sequences": True}
            self.check(keras.layers.RNN, arguments, (3, 4, 3))
