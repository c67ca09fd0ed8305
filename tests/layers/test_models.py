# SPDX-License-Identifier: MIT
"""Layers inside models: built in every way, trained, saved, reloaded elsewhere."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import LAYERS, run_python


@keras.saving.register_keras_serializable(package="tests")
class Subclassed(keras.Model):
    def __init__(self, layer, **kwargs):
        super().__init__(**kwargs)
        self.first = layer(6, return_sequences=True)
        self.second = layer(4)
        self.head = keras.layers.Dense(1)

    def call(self, x):
        return self.head(self.second(self.first(x)))


def sequential(layer):
    return keras.Sequential(
        [keras.Input((None, 3)), layer(6, return_sequences=True), layer(4), keras.layers.Dense(1)]
    )


def functional(layer):
    x = keras.Input((None, 3))
    outputs, *states = layer(3, return_sequences=True, return_state=True)(x)
    y = layer(3)(outputs, initial_state=states)
    return keras.Model(x, keras.layers.Dense(1)(keras.layers.Concatenate()([y, states[0]])))


BUILDERS = [sequential, functional, Subclassed]


@pytest.fixture
def data(rng):
    x = rng.normal(size=(64, 20, 3)).astype("float32")
    return x, x[:, :, :1].mean(1)


@pytest.mark.parametrize("builder", BUILDERS)
def test_fit_learns(layer, builder, data):
    model = builder(layer)
    model.compile(keras.optimizers.Adam(0.02), "mse")
    losses = model.fit(*data, batch_size=16, epochs=25, verbose=0).history["loss"]
    assert losses[-1] < 0.5 * losses[0]


@pytest.mark.parametrize("jit_compile", [False, True])
def test_fit_with_an_unknown_number_of_steps(layer, jit_compile):
    def batches():
        for steps in (5, 9, 3):
            x = np.random.default_rng(steps).normal(size=(2, steps, 3)).astype("float32")
            yield x, np.ones((2, 1), "float32")

    signature = (tf.TensorSpec([None, None, 3]), tf.TensorSpec([None, 1]))
    model = sequential(layer)
    by_hand = keras.models.clone_model(model)
    by_hand.set_weights(model.get_weights())
    model.compile(keras.optimizers.SGD(0.1), "mse", jit_compile=jit_compile)
    model.fit(tf.data.Dataset.from_generator(batches, output_signature=signature), verbose=0)
    for x, y in batches():
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((by_hand(x) - y) ** 2)
        weights = [w.value for w in by_hand.trainable_weights]
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.1 * gradient)
    for actual, expected in zip(model.get_weights(), by_hand.get_weights(), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5)


def test_masking_and_embedding(layer, rng):
    tokens = rng.integers(1, 9, (4, 7))
    padded = np.concatenate([tokens, np.zeros((4, 3), int)], 1)
    model = keras.Sequential([keras.layers.Embedding(9, 3, mask_zero=True), layer(5)])
    np.testing.assert_allclose(model(tokens), model(padded), atol=1e-6)


@pytest.mark.parametrize("merge_mode", ["concat", "sum", "mul", "ave", None])
def test_bidirectional(layer, rng, merge_mode):
    x = rng.normal(size=(2, 9, 3)).astype("float32")
    both = keras.layers.Bidirectional(layer(4, return_sequences=True), merge_mode=merge_mode)
    actual = both(x)
    forward = both.forward_layer(x)
    backward = both.forward_layer.__class__.from_config(
        {**both.backward_layer.get_config(), "go_backwards": False}
    )
    backward.build(x.shape)
    backward.set_weights(both.backward_layer.get_weights())
    backward = backward(x[:, ::-1])[:, ::-1]
    merged = {
        "concat": lambda: np.concatenate([forward, backward], -1),
        "sum": lambda: forward + backward,
        "mul": lambda: forward * backward,
        "ave": lambda: (forward + backward) / 2,
        None: lambda: [forward, backward],
    }[merge_mode]()
    np.testing.assert_allclose(actual, merged, atol=1e-6)


@pytest.mark.parametrize("builder", BUILDERS[:2])
def test_keras_file_and_weights_file(layer, builder, data, tmp_path):
    model = builder(layer)
    expected = model(data[0])
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        keras.saving.load_model(tmp_path / "model.keras")(data[0]), expected
    )
    model.save_weights(tmp_path / "model.weights.h5")
    other = builder(layer)
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(other(data[0]), expected)
    np.testing.assert_array_equal(keras.models.clone_model(model)(data[0]).shape, expected.shape)


RELOAD = """
import sys, numpy as np, tensorflow as tf
tf.config.experimental.enable_tensor_float_32_execution(False)
{setup}
folder = sys.argv[1]
x, expected = np.load(folder + "/x.npy"), np.load(folder + "/y.npy")
model = tf.saved_model.load(folder + "/model")
actual = model.serve(x)
np.testing.assert_allclose(actual, expected, atol=1e-6)
"""


@pytest.mark.parametrize("algorithm", ["auto", "composed"])
def test_saved_model_in_a_fresh_process(data, tmp_path, algorithm):
    """With the native op it takes tf_plr's import; composed does not even need that."""
    model = keras.Sequential([keras.Input((None, 3))])
    for layer in LAYERS:
        model.add(layer(4, algorithm=algorithm, return_sequences=True))
    model.export(tmp_path / "model", verbose=False)
    np.save(tmp_path / "x.npy", data[0])
    np.save(tmp_path / "y.npy", model(data[0]))
    run_python(RELOAD.format(setup="import tf_plr" if algorithm == "auto" else ""), tmp_path)


def test_tf_module_saved_model(layer, data, tmp_path):
    module = tf.Module()
    module.layer = layer(4)
    module.layer(data[0])
    module.serve = tf.function(module.layer, input_signature=[tf.TensorSpec([None, None, 3])])
    tf.saved_model.save(module, tmp_path / "model")
    loaded = tf.saved_model.load(tmp_path / "model")
    np.testing.assert_allclose(loaded.serve(data[0]), module.layer(data[0]), atol=1e-6)
