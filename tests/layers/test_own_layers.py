# SPDX-License-Identifier: MIT
"""Layers that users write: a cell that uses `Steps`, and a layer that names the cell."""

import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops
from support import ROOT, call

from tf_plr.layers import LinearRecurrentCell, LinearRecurrentLayer, Steps

sys.path.append(str(ROOT / "examples"))
from own_layer import MinGRU, MinGRUCell

MASK = np.array([[1] * 9, [1] * 4 + [0] * 5, [0, 1, 0, 1, 1, 0, 1, 1, 0]], bool)


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 9, 4))


def layer_of(cell, **options):
    class Layer(LinearRecurrentLayer):
        cell_class = cell

    return Layer(5, dtype="float64", **options)


class Average(LinearRecurrentCell):
    """An exponential moving average of a product; tests replace `decays` to vary its shape."""

    decays = staticmethod(lambda kernel, inputs: ops.sigmoid(kernel[0]))

    def build(self, input_shape):
        self.kernel = self.add_kernel((input_shape[-1], self.units))

    def recur(self, steps, inputs, states, training):
        impulses = self.product(inputs, self.kernel)
        output, last = steps.recur(self.decays(self.kernel, inputs), impulses, states[0])
        return output, [last]


DECAYS = {
    "per unit": lambda kernel, inputs: ops.sigmoid(kernel[0]),
    "one for all": lambda kernel, inputs: ops.sigmoid(kernel[0, 0]),
    "a number": lambda kernel, inputs: tf.constant(0.5),
    "per sequence": lambda kernel, inputs: tf.constant([[0.5], [0.25], [0.75]]),
    "per sequence and unit": lambda kernel, inputs: ops.reshape(tf.range(15.0) / 15, (3, 5)),
    "per step": lambda kernel, inputs: ops.sigmoid(inputs[..., :1]),
}


@pytest.mark.parametrize(
    ("algorithm", "masked"), [("auto", False), ("auto", True), ("composed", True)]
)
@pytest.mark.parametrize("decays", DECAYS.values(), ids=DECAYS.keys())
def test_decays_broadcast_alike_in_one_step_and_in_all(x, mode, decays, algorithm, masked):
    class Cell(Average):
        pass

    Cell.decays = staticmethod(decays)
    layer = layer_of(Cell, return_sequences=True, return_state=True, algorithm=algorithm)
    layer.build(x.shape)
    stepwise = keras.layers.RNN(
        layer.cell, return_sequences=True, return_state=True, dtype="float64"
    )

    mask = tf.constant(MASK) if masked else None

    def run(x):
        x.set_shape([3, None, 4])
        return layer(x, mask=mask)

    results = call(run, [tf.constant(x)], mode), stepwise(x, mask=mask)
    for actual, law in zip(*results, strict=True):
        np.testing.assert_allclose(actual, law, atol=1e-12)


@pytest.mark.parametrize("shape", [(7,), (3, 7), (2, 1), (3, 2, 5)])
def test_decays_that_do_not_fit(x, shape):
    class Cell(Average):
        decays = staticmethod(lambda kernel, inputs: tf.ones(shape))

    layer = layer_of(Cell)
    with pytest.raises(ValueError, match=r"decays must have the shape of impulses.*\(3, 9, 5\)"):
        layer(x)
    if len(shape) < 3:
        with pytest.raises(ValueError, match=r"decays must have the shape of impulses.*\(3, 5\)"):
            layer.cell(x[:, 0], layer.get_initial_state(3))


class Rotation(LinearRecurrentCell):
    """Complex states that rotate: a linear recurrent unit (LRU) without its learned parts."""

    state_dtype = "complex128"

    def build(self, input_shape):
        self.kernel = self.add_kernel((input_shape[-1], self.units))

    def recur(self, steps, inputs, states, training):
        impulses = ops.cast(self.product(inputs, self.kernel), "complex128")
        decays = tf.exp(
            tf.complex(tf.constant(-0.1, tf.float64), tf.range(1.0, 6.0, 1, tf.float64))
        )
        states, last = steps.recur(decays, impulses, states[0])
        return tf.math.real(states), [last]


def test_complex_states(x):
    whole = layer_of(Rotation, return_sequences=True, return_state=True)
    outputs, last = whole(x)
    assert last.dtype == tf.complex128
    state, parts = None, []
    for chunk in np.split(x, 3, axis=1):
        part, state = whole(chunk, initial_state=state)
        parts.append(part)
    np.testing.assert_allclose(np.concatenate(parts, 1), outputs, atol=1e-12)
    np.testing.assert_allclose(state, last, atol=1e-12)

    stateful = layer_of(Rotation, return_sequences=True, stateful=True)
    stateful.build((3, None, 4))
    stateful.set_weights(whole.get_weights())
    parts = [stateful(chunk) for chunk in np.split(x, 3, axis=1)]
    np.testing.assert_allclose(np.concatenate(parts, 1), outputs, atol=1e-12)

    states = whole.cell.get_initial_state(3)
    for t in range(9):
        output, states = whole.cell(x[:, t], states)
        np.testing.assert_allclose(output, outputs[:, t], atol=1e-12)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("go_backwards", [False, True])
def test_min_gru_equals_keras_rnn_around_its_cell(x, masked, go_backwards):
    options = {"return_state": True, "return_sequences": True, "go_backwards": go_backwards}
    layer = MinGRU(5, dtype="float64", forget_bias=1.0, **options)
    mask = tf.constant(MASK) if masked else None
    stepwise = keras.layers.RNN(layer.cell, dtype="float64", **options)
    for actual, law in zip(layer(x, mask=mask), stepwise(x, mask=mask), strict=True):
        np.testing.assert_allclose(actual, law, atol=1e-12)


def test_a_state_that_is_the_output_holds_without_a_gather(x):
    layer = MinGRU(5, dtype="float64", return_sequences=True)
    graph = tf.function(lambda x, mask: layer(x, mask=mask)).get_concrete_function(
        x, tf.constant(MASK)
    ).graph  # fmt: skip
    types = [op.type for op in graph.get_operations()]
    assert types.count("TfPlr>LinearRecurrence") == 1 and not any("Gather" in t for t in types)


def test_min_gru_is_a_keras_layer(x, tmp_path):
    model = keras.Sequential(
        [keras.Input((None, 4)), keras.layers.Bidirectional(MinGRU(5, forget_bias=2))]
    )
    model.compile("adam", "mse")
    model.fit(x, np.ones((3, 10)), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    assert loaded.layers[0].forward_layer.cell.forget_bias == 2


@pytest.mark.parametrize("operand", ["decays", "impulses"])
def test_complex_operands_of_a_real_state(x, operand):
    class Cell(Average):
        def recur(self, steps, inputs, states, training):
            operands = {"decays": tf.constant(0.5), "impulses": self.product(inputs, self.kernel)}
            operands[operand] = tf.complex(operands[operand], operands[operand])
            return steps.recur(operands["decays"], operands["impulses"], states[0])

    layer = layer_of(Cell)
    message = f"{operand} are complex.*, but the cell's state is float64: set state_dtype"
    with pytest.raises(TypeError, match=message):
        layer(x)
    with pytest.raises(TypeError, match=message):
        layer.cell(x[:, 0], layer.get_initial_state(3))


def test_the_interface_of_steps():
    with pytest.raises(TypeError, match=r"convolve.*drop.*previous.*recur"):
        Steps()


def test_mistakes_in_own_layers():
    with pytest.raises(TypeError, match="LinearRecurrentLayer must set cell_class to a subclass"):
        LinearRecurrentLayer(4)

    class NoCell(LinearRecurrentLayer):
        pass

    class OtherCell(LinearRecurrentLayer):
        cell_class = keras.layers.LSTMCell

    for layer in (NoCell, OtherCell):
        with pytest.raises(TypeError, match=f"{layer.__name__} must set cell_class to a subclass"):
            layer(4)

    class NoRecur(LinearRecurrentCell):
        pass

    with pytest.raises(NotImplementedError, match="NoRecur must define recur"):
        layer_of(NoRecur)(tf.ones([1, 2, 3]))
    with pytest.raises(ValueError, match="forget_bias is 7, but NoRecur has no forget_block"):
        layer_of(NoRecur, forget_bias=7)

    class Forgetful(MinGRUCell):
        def __init__(self, units, c, **kwargs):
            super().__init__(units, **kwargs)
            self.c = c

    layer = layer_of(Forgetful, c=3)
    with pytest.raises(NotImplementedError, match=r"Forgetful\.get_config must return 'c'"):
        layer.get_config()


def test_subclass_of_a_built_in_layer(x):
    class Mine(MinGRU):
        def __init__(self, units, extra=1, **kwargs):
            super().__init__(units, **kwargs)
            self.extra = extra

    layer = Mine(4, extra=3, return_sequences=True)
    assert layer.extra == 3
    assert layer(x).shape == (3, 9, 4)
