# SPDX-License-Identifier: MIT
"""The op as a node of a functional Keras model."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_plr


@pytest.fixture
def model():
    inputs = keras.Input((None, 4))
    decays = keras.layers.Dense(3, "sigmoid")(inputs)
    impulses, first = keras.layers.Dense(3)(inputs), keras.Input((3,))
    states = tf_plr.linear_recurrence(decays, impulses, first, axis=1, reverse=True)
    return keras.Model([inputs, first], states)


def test_values_training_and_saving(model, rng, tmp_path):
    x, first = rng.normal(size=(2, 9, 4)).astype("float32"), np.ones((2, 3), "float32")
    assert model.output.shape == (None, None, 3)
    assert model.output.dtype == "float32"
    _, decays, impulses, _, operation = model.operations
    expected = tf_plr.linear_recurrence(decays(x), impulses(x), first, axis=1, reverse=True)
    np.testing.assert_array_equal(model([x, first]), expected)
    model.compile("sgd", "mse")
    model.fit([x, first], np.ones((2, 9, 3)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded([x, first]), model([x, first]))
    assert operation.get_config()["axis"] == 1


@pytest.mark.parametrize("convert", [np.ndarray.tolist, np.asarray, tf.constant])
def test_values_beside_symbols_take_their_dtype(convert):
    inputs = keras.Input((9, 4), batch_size=3)
    decays = convert(np.full((3, 9, 4), 0.5, "float32" if convert is tf.constant else "float64"))
    model = keras.Model(inputs, tf_plr.linear_recurrence(decays, inputs, axis=1))
    assert model(tf.ones([3, 9, 4]))[0, 1, 0] == 1.5


@pytest.mark.parametrize("algorithm", ["serial", "composed"])
def test_algorithm(algorithm):
    inputs = keras.Input((5, 4))
    model = keras.Model(
        inputs, tf_plr.linear_recurrence(inputs, inputs, axis=1, algorithm=algorithm)
    )
    assert model.operations[-1].algorithm == algorithm
    assert model(tf.ones([2, 5, 4]))[0, -1, 0] == 5


def test_mistakes_are_found_when_the_model_is_made():
    inputs, others = keras.Input((5, 4)), keras.Input((5, 3))
    with pytest.raises(ValueError, match="decays must have the shape of impulses, or size 1"):
        tf_plr.linear_recurrence(inputs, others, axis=1)
    with pytest.raises(ValueError, match=r"axis must be in \[-3, 3\)"):
        tf_plr.linear_recurrence(inputs, inputs, axis=3)
