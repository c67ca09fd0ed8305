# SPDX-License-Identifier: MIT
"""Every layer against its equations, and against keras.layers.RNN around its cell."""

import inspect
import subprocess
import sys

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from conftest import call

import tf_plr

UNITS, INPUT_DIM = 5, 3

# Name: (layer, arguments). One entry for every model that the arguments choose.
MODELS = {
    "gilr": (tf_plr.GILR, {}),
    "gilr_tanh": (tf_plr.GILR, {"activation": "tanh"}),
    "ls_lstm": (tf_plr.GILRLSTM, {}),
    "ls_lstm_unshifted": (tf_plr.GILRLSTM, {"shift_surrogate": False}),
    "sru": (tf_plr.SRU, {}),
    "sru_highway": (tf_plr.SRU, {"units": INPUT_DIM}),
    "qrnn": (tf_plr.QRNN, {}),
    "qrnn_1": (tf_plr.QRNN, {"kernel_size": 1}),
    "qrnn_f": (tf_plr.QRNN, {"kernel_size": 4, "pooling": "f"}),
    "qrnn_ifo": (tf_plr.QRNN, {"kernel_size": 3, "pooling": "ifo"}),
}


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request):
    return request.param


def make(model, dtype="float64", **options):
    layer, arguments = model
    return layer(**{"units": UNITS, "dtype": dtype, **arguments, **options})


def randomize(layer, rng):
    layer.set_weights([rng.normal(size=w.shape) * 0.7 for w in layer.get_weights()])


def expected(layer, x, states):
    """(outputs, *last states) by the equations; states as a list of arrays."""
    cell = layer.cell
    kernel = cell.kernel.numpy()
    bias = cell.bias.numpy() if cell.use_bias else np.zeros(len(cell.blocks) * cell.units)
    gain = cell.normalization.gamma.numpy() if cell.layer_normalization else None
    if isinstance(layer, tf_plr.GILR):
        tau = np.tanh if cell.activation is keras.activations.tanh else reference.elu
        return reference.gilr(x, kernel, bias, *states, gain=gain, tau=tau)
    if isinstance(layer, tf_plr.GILRLSTM):
        gains = (
            (cell.surrogate_normalization.gamma.numpy(), gain) if gain is not None else (None,) * 2
        )
        return reference.linear_surrogate_lstm(
            x, kernel, cell.recurrent_kernel.numpy(), bias, *states,
            gains=gains, shift=cell.shift_surrogate,
        )  # fmt: skip
    if isinstance(layer, tf_plr.SRU):
        return reference.sru(x, kernel, bias, *states, gain=gain)
    outputs = reference.qrnn(x, kernel, bias, *states, gain=gain, pooling=cell.pooling)
    return outputs if cell.kernel_size > 1 else outputs[:2]


def random_states(layer, batch, rng):
    return [rng.normal(size=(batch, size)) for size in layer.cell.state_size]


# Of O(1) values after a few dozen operations on each path.
TOLERANCE = {"float64": 1e-12, "float32": 1e-5}


@pytest.mark.parametrize("layer_normalization", [False, True])
@pytest.mark.parametrize("use_bias", [False, True])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_equations(model, rng, dtype, use_bias, layer_normalization):
    layer = make(
        model, dtype, use_bias=use_bias, layer_normalization=layer_normalization,
        return_sequences=True, return_state=True,
    )  # fmt: skip
    x = rng.normal(size=(2, 23, INPUT_DIM))
    layer.build(x.shape)
    randomize(layer, rng)
    states = random_states(layer, 2, rng)
    actual = layer(x, initial_state=states)
    for a, e in zip(actual, expected(layer, x, states), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a, e, atol=TOLERANCE[dtype], rtol=TOLERANCE[dtype])


@pytest.mark.parametrize("algorithm", ["parallel", "serial", "composed"])
def test_algorithms_and_modes(model, rng, mode, algorithm):
    layer = make(model, algorithm=algorithm, return_sequences=True)
    x = tf.constant(rng.normal(size=(2, 40, INPUT_DIM)))
    layer.build(x.shape)
    randomize(layer, rng)
    states = [np.zeros((2, size)) for size in layer.cell.state_size]

    def run(x):
        x.set_shape([None, None, INPUT_DIM])
        return layer(x)

    np.testing.assert_allclose(
        call(run, [x], mode), expected(layer, x.numpy(), states)[0], atol=1e-12
    )


MASKS = {
    "all_valid": np.ones((3, 9), bool),
    "none_valid": np.zeros((3, 9), bool),
    "right": np.arange(9) < np.array([[4], [9], [0]]),
    "left": np.arange(9) >= np.array([[4], [0], [9]]),
    "holes": np.array([[1, 0, 1, 1, 0, 0, 1, 0, 1], [0, 0, 1, 0, 1, 0, 0, 1, 0], [1] * 9], bool),
}


@pytest.mark.parametrize("mask", [None, *MASKS], ids=str)
@pytest.mark.parametrize("options", [
    {"return_sequences": True},
    {"return_sequences": False},
    {"return_sequences": True, "go_backwards": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"return_sequences": False, "zero_output_for_mask": True},
], ids=str)  # fmt: skip
def test_equals_keras_rnn_around_the_cell(model, rng, mask, options):
    layer = make(model, return_state=True, **options)
    x = rng.normal(size=(3, 9, INPUT_DIM))
    layer.build(x.shape)
    randomize(layer, rng)
    stepwise = keras.layers.RNN(layer.cell, return_state=True, dtype="float64", **options)
    states = [tf.constant(s) for s in random_states(layer, 3, rng)]
    mask = None if mask is None else tf.constant(MASKS[mask])
    for actual, law in zip(
        layer(x, initial_state=states, mask=mask),
        stepwise(x, initial_state=states, mask=mask),
        strict=True,
    ):
        np.testing.assert_allclose(actual, law, atol=1e-12)


def test_masked_inputs_do_not_matter(model, rng):
    layer = make(model, return_sequences=True)
    x = rng.normal(size=(3, 9, INPUT_DIM))
    mask = tf.constant(MASKS["holes"])
    outputs = layer(x, mask=mask)
    np.testing.assert_array_equal(
        layer(np.where(MASKS["holes"][..., None], x, 1e3), mask=mask), outputs
    )


def test_stateful_chunks_equal_one_pass(model, rng):
    x = rng.normal(size=(2, 24, INPUT_DIM))
    whole = make(model, return_sequences=True)
    chunked = make(model, return_sequences=True, stateful=True)
    expected = whole(x)
    chunked(x[:, :1])
    chunked.set_weights(whole.get_weights())
    for _ in range(2):
        chunked.reset_state()
        chunks = [chunked(x[:, t : t + 8]) for t in range(0, 24, 8)]
        np.testing.assert_allclose(np.concatenate(chunks, 1), expected, atol=1e-12)


def test_gradients_equal_those_of_keras_rnn(model, rng):
    layer = make(model)
    x = tf.constant(rng.normal(size=(2, 9, INPUT_DIM)))
    layer.build(x.shape)
    randomize(layer, rng)
    stepwise = keras.layers.RNN(layer.cell, dtype="float64")

    def gradients(run):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(run(x) ** 2)
        return tape.gradient(loss, [x, *layer.trainable_variables])

    for actual, law in zip(gradients(layer), gradients(stepwise), strict=True):
        np.testing.assert_allclose(actual, law, atol=1e-11)


def test_initial_values(model):
    layer = make(model, forget_bias=2.5)
    layer.build((None, None, INPUT_DIM))
    cell = layer.cell
    for block, bias in zip(cell.blocks, np.split(cell.bias.numpy(), len(cell.blocks)), strict=True):
        assert np.all(bias == (2.5 if block == cell.forget_block else 0))
    assert make(model).forget_bias == (
        5.0 if isinstance(layer, tf_plr.GILRLSTM | tf_plr.SRU) else 0.0
    )


def test_parameter_count():
    layer, lstm = tf_plr.GILRLSTM(7), keras.layers.LSTM(7)
    for made in (layer, lstm):
        made.build((None, None, 3))
    assert layer.count_params() - lstm.count_params() == 2 * 7 * (3 + 1)


def test_config_round_trip(model):
    layer = make(
        model, name="x", recurrent_activation="hard_sigmoid", kernel_initializer="he_normal",
        bias_initializer="ones", kernel_regularizer="l2", bias_regularizer="l1",
        kernel_constraint="max_norm", bias_constraint="non_neg", activity_regularizer="l2",
        dropout=0.25, layer_normalization=True, seed=3, forget_bias=1.5, use_bias=False,
        return_sequences=True, return_state=True, go_backwards=True, stateful=True,
        zero_output_for_mask=True, algorithm="serial", trainable=False,
    )  # fmt: skip
    config = layer.get_config()
    twin = type(layer).from_config(config)
    assert twin.get_config() == config
    copy = keras.layers.deserialize(keras.layers.serialize(layer))
    assert copy.get_config() == config
    for name in layer.cell_arguments:
        if name not in ("seed", "units"):
            assert name in config
    cell = layer.cell
    assert type(cell).from_config(cell.get_config()).get_config() == cell.get_config()


def test_regularizers_and_constraints_apply(model):
    layer = make(model, kernel_regularizer="l2", bias_regularizer="l2", bias_constraint="non_neg")
    layer(np.ones((1, 2, INPUT_DIM)))
    assert len(layer.losses) == 2
    assert layer.cell.bias.constraint is not None


def test_dropout(model, rng):
    layer = make(model, dropout=0.5, seed=1, return_sequences=True)
    twin = make(model, dropout=0.5, seed=1, return_sequences=True)
    x = rng.normal(size=(2, 9, INPUT_DIM))
    inference = layer(x)
    twin(x)
    twin.set_weights(layer.get_weights())
    np.testing.assert_array_equal(layer(x, training=False), inference)
    trained = layer(x, training=True)
    assert not np.allclose(trained, inference)
    np.testing.assert_array_equal(twin(x, training=True), trained)


def test_dropout_drops_the_same_features_at_every_step():
    layer = tf_plr.SRU(16, dropout=0.5, return_sequences=True)
    layer.build((None, None, 16))
    _kernel, bias = layer.get_weights()
    layer.set_weights([np.tile(np.eye(16), 3), bias * 0])
    constant = layer(np.ones((4, 50, 16)), training=True)
    # With a constant input the state moves monotonically to 0 or to the input scaled by 2.
    steps = np.diff(constant, axis=1)
    assert np.all((steps >= -1e-6).all(1) | (steps <= 1e-6).all(1))


def test_recurrent_dropout(rng):
    layer = tf_plr.GILRLSTM(5, seed=1, recurrent_dropout=0.5)
    x = rng.normal(size=(2, 9, 3))
    np.testing.assert_array_equal(layer(x), layer(x, training=False))
    assert not np.allclose(layer(x, training=True), layer(x))


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision(model, rng, policy):
    layer = make(model, policy, return_sequences=True)
    x = rng.normal(size=(2, 30, INPUT_DIM)).astype("float32")
    outputs = layer(x)
    assert outputs.dtype == layer.compute_dtype
    assert all(w.dtype == "float32" for w in layer.trainable_weights)
    precise = make(model, "float32", return_sequences=True)
    precise.build(x.shape)
    precise.set_weights(layer.get_weights())
    # A few dozen roundings of O(1) values on each path.
    np.testing.assert_allclose(
        tf.cast(outputs, tf.float32),
        precise(x),
        atol=40 * reference.UNIT_ROUNDOFF[layer.compute_dtype],
    )


def test_documentation_and_signature(model):
    layer, _ = model
    for argument in ("units", "kernel_initializer", "return_sequences", "algorithm", "seed"):
        assert argument in str(inspect.signature(layer))
        assert argument in layer.__doc__


def test_random_biases_differ_between_blocks(model):
    layer = make(model, bias_initializer="random_normal", forget_bias=1.0)
    layer.build((None, None, INPUT_DIM))
    cell = layer.cell
    blocks = dict(zip(cell.blocks, np.split(cell.bias.numpy(), len(cell.blocks)), strict=True))
    assert np.all(blocks.pop(cell.forget_block) == 1)
    values = np.concatenate(list(blocks.values()))
    assert len(np.unique(values)) == len(values)


def test_arguments_of_the_cell_are_attributes_of_the_layer(model):
    layer = make(model, dropout=0.5)
    assert layer.units == layer.cell.units
    layer.dropout = 0.0
    assert layer.cell.dropout == 0.0
    assert layer.get_config()["dropout"] == 0.0
    with pytest.raises(AttributeError, match="no attribute 'unit'"):
        _ = layer.unit


def test_sizes_from_numpy():
    layer = tf_plr.QRNN(np.int64(4), kernel_size=np.int32(3))
    assert type(layer.units) is int
    assert layer(np.ones((2, 5, 3))).shape == (2, 4)


def test_a_layer_can_be_subclassed():
    class Mine(tf_plr.GILR):
        cell_class = tf_plr.GILRCell

        def __init__(self, units, extra=1, **kwargs):
            super().__init__(units, **kwargs)
            self.extra = extra

    layer = Mine(4, extra=3, return_sequences=True)
    assert layer.extra == 3
    assert layer(np.ones((2, 5, 3))).shape == (2, 5, 4)


def test_import_without_docstrings():
    def imports(module):
        return subprocess.run([sys.executable, "-OO", "-c", f"import {module}"]).returncode == 0

    if not imports("keras"):
        pytest.skip("this Keras needs its docstrings")
    assert imports("tf_plr")
