# SPDX-License-Identifier: MIT
"""Compares every layer with its equations, and with keras.layers.RNN around its cell."""

import subprocess
import sys
from itertools import product

import keras
import numpy as np
import pytest
import reference
import tensorflow as tf
from support import call

import tf_plr

UNITS, INPUT_DIM = 5, 3

# Name: (layer, arguments). One entry for each model that a layer's arguments select.
MODELS = {
    "gilr": (tf_plr.GILR, {}),
    "gilr_tanh": (tf_plr.GILR, {"activation": "tanh"}),
    "gilr_other": (tf_plr.GILR, {"activation": "relu", "recurrent_activation": "hard_sigmoid"}),
    "ls_lstm": (tf_plr.GILRLSTM, {}),
    "ls_lstm_unshifted": (tf_plr.GILRLSTM, {"shift_surrogate": False}),
    "ls_lstm_other": (
        tf_plr.GILRLSTM, {"activation": "elu", "recurrent_activation": "hard_sigmoid"}),
    "sru": (tf_plr.SRU, {}),
    "sru_highway": (tf_plr.SRU, {"units": INPUT_DIM}),
    "sru_other": (tf_plr.SRU, {"activation": "tanh", "recurrent_activation": "hard_sigmoid"}),
    "qrnn": (tf_plr.QRNN, {}),
    "qrnn_1": (tf_plr.QRNN, {"kernel_size": 1}),
    "qrnn_f": (tf_plr.QRNN, {"kernel_size": 4, "pooling": "f"}),
    "qrnn_ifo": (tf_plr.QRNN, {"kernel_size": 3, "pooling": "ifo"}),
    "qrnn_other": (tf_plr.QRNN, {"activation": "elu", "recurrent_activation": "hard_sigmoid"}),
}  # fmt: skip


@pytest.fixture(params=MODELS.values(), ids=MODELS.keys())
def model(request):
    return request.param


def make(model, dtype="float64", **options):
    layer, arguments = model
    return layer(**{"units": UNITS, "dtype": dtype, **arguments, **options})


def randomize(layer, rng):
    layer.set_weights([rng.normal(size=w.shape) * 0.7 for w in layer.get_weights()])


def expected(layer, x, states):
    """Computes (outputs, *last states) from the equations; `states` is a list of arrays."""
    cell = layer.cell
    kernel = cell.kernel.numpy()
    bias = cell.bias.numpy() if cell.use_bias else np.zeros(len(cell.blocks) * cell.units)
    gain = cell.normalization.gamma.numpy() if cell.layer_normalization else None
    functions = {
        "tau": reference.ACTIVATIONS[cell.activation.__name__],
        "sigma": reference.ACTIVATIONS[cell.recurrent_activation.__name__],
    }
    if isinstance(layer, tf_plr.GILR):
        return reference.gilr(x, kernel, bias, *states, gain=gain, **functions)
    if isinstance(layer, tf_plr.GILRLSTM):
        gains = (
            (cell.surrogate_normalization.gamma.numpy(), gain) if gain is not None else (None,) * 2
        )
        return reference.linear_surrogate_lstm(
            x, kernel, cell.recurrent_kernel.numpy(), bias, *states,
            gains=gains, shift=cell.shift_surrogate, **functions,
        )  # fmt: skip
    if isinstance(layer, tf_plr.SRU):
        return reference.sru(x, kernel, bias, *states, gain=gain, **functions)
    outputs = reference.qrnn(x, kernel, bias, *states, gain=gain, pooling=cell.pooling, **functions)
    return outputs if cell.kernel_size > 1 else outputs[:2]


def random_states(layer, batch, rng):
    return [rng.normal(size=(batch, size)) for size in layer.cell.state_size]


# For values of O(1) after a few dozen operations.
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


# Algorithms differ only inside the op, which all models of a layer call in the same way. So one
# model of each layer is enough for "serial" and "composed".
@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        *((name, "parallel") for name in MODELS),
        *product(("gilr", "ls_lstm", "sru", "qrnn"), ("serial", "composed")),
    ],
)
def test_algorithms_and_modes(rng, mode, name, algorithm):
    layer = make(MODELS[name], algorithm=algorithm, return_sequences=True)
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


# All masks run in float32, where the fused op itself repeats the last output at masked steps.
FUSED = [name for name, (_, arguments) in MODELS.items() if "recurrent_activation" not in arguments]
MASKED = [
    *product(MODELS, (None, "none_valid", "holes"), ["float64"]),
    *product(FUSED, MASKS, ["float32"]),
]
OPTIONS = [
    {"return_sequences": True},
    {"return_sequences": False},
    {"return_sequences": True, "go_backwards": True},
    {"return_sequences": True, "zero_output_for_mask": True},
    {"return_sequences": False, "zero_output_for_mask": True},
]
FIRST_OPTIONS = {"holes": 5, "left": 3, "right": 3}  # Uniform masks need only two options.


@pytest.mark.parametrize(
    ("name", "mask", "dtype", "options"),
    [
        (*masked, options)
        for masked in MASKED
        for options in OPTIONS[: FIRST_OPTIONS.get(masked[1], 2)]
    ],
    ids=str,
)
def test_equals_keras_rnn_around_the_cell(rng, name, mask, dtype, options):
    layer = make(MODELS[name], dtype, return_state=True, **options)
    x = rng.normal(size=(3, 9, INPUT_DIM))
    layer.build(x.shape)
    randomize(layer, rng)
    stepwise = keras.layers.RNN(layer.cell, return_state=True, dtype=dtype, **options)
    states = [tf.constant(s, dtype) for s in random_states(layer, 3, rng)]
    mask = None if mask is None else tf.constant(MASKS[mask])
    atol = 1e-12 if dtype == "float64" else 2e-5
    for actual, law in zip(
        layer(x, initial_state=states, mask=mask),
        stepwise(x, initial_state=states, mask=mask),
        strict=True,
    ):
        np.testing.assert_allclose(actual, law, atol=atol)


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


def test_parameter_count():
    layer, lstm = tf_plr.GILRLSTM(7), keras.layers.LSTM(7)
    for made in (layer, lstm):
        made.build((None, None, 3))
    assert layer.count_params() - lstm.count_params() == 2 * 7 * (3 + 1)


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
    # Each of the two runs rounds values of O(1) a few dozen times.
    np.testing.assert_allclose(
        tf.cast(outputs, tf.float32),
        precise(x),
        atol=40 * reference.UNIT_ROUNDOFF[layer.compute_dtype],
    )


LONG = 20_000


def remembering(layer, policy, **options):
    """A layer with a memory of exp(9) = 8,103 steps and constant impulses."""
    zeros = {"kernel_initializer": "zeros", "forget_bias": 9.0, "bias_initializer": "ones"}
    if layer is tf_plr.GILRLSTM:
        zeros |= {"recurrent_initializer": "zeros", "input_bias": "coupled"}
    return layer(3, dtype=policy, **zeros, **options)


@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16", "bfloat16", "float32"])
def test_a_memory_of_20000_steps(layer, policy):
    """Runs all steps at once, with XLA and without, in chunks, one by one, and backward."""
    x = np.ones((1, LONG, 2), "float32")
    exact = remembering(layer, "float64", return_sequences=True)
    expected = exact(x).numpy()
    assert expected[0, LONG // 10, 0] < 0.5 * expected[0, -1, 0]  # It grows that slowly.

    made = remembering(layer, policy, return_sequences=True)
    runs = [made, tf.function(made, jit_compile=True)]
    made.build(x.shape)
    for run in runs:
        np.testing.assert_allclose(tf.cast(run(x), tf.float64), expected, rtol=0.02, atol=1e-3)

    stateful = remembering(layer, policy, return_sequences=True, stateful=True)
    chunks = [stateful(x[:, t : t + LONG // 4]) for t in range(0, LONG, LONG // 4)]
    np.testing.assert_allclose(
        tf.cast(tf.concat(chunks, 1), tf.float64), expected, rtol=0.02, atol=1e-3
    )

    @tf.function
    def step_by_step(x):
        states = made.cell.get_initial_state(1)
        output = tf.zeros([1, 3], made.compute_dtype)
        for t in tf.range(LONG):
            output, states = made.cell(x[:, t], states)
        return output

    np.testing.assert_allclose(
        tf.cast(step_by_step(x), tf.float64), expected[:, -1], rtol=0.02, atol=1e-3
    )

    def bias_gradient(made):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(tf.cast(made(x)[:, -1], tf.float32))
        return tape.gradient(loss, made.cell.bias).numpy().astype(float)

    np.testing.assert_allclose(bias_gradient(made), bias_gradient(exact), rtol=0.03, atol=3e-3)


def test_gates_and_their_complements():
    """1 - sigmoid(a) is accurate even where sigmoid(a) rounds to 1."""
    cell = tf_plr.GILRCell(3)
    a = np.array([0.0, 5.0, 17.0, 60.0], "float32")
    gate, complement = cell.gate(tf.constant(a))
    np.testing.assert_allclose(gate, reference.sigmoid(a.astype(float)), rtol=1e-6)
    np.testing.assert_allclose(complement, reference.sigmoid(-a.astype(float)), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["int32", "uint8", "bool"])
@pytest.mark.parametrize("masked", [False, True])
def test_integer_inputs(model, rng, dtype, masked):
    layer = make(model, "float32", return_sequences=True)
    x = rng.integers(0, 2, (3, 9, INPUT_DIM))
    mask = tf.constant(MASKS["holes"]) if masked else None
    expected = layer(x.astype("float32"), mask=mask)
    np.testing.assert_array_equal(layer(tf.constant(x, dtype), mask=mask), expected)


def test_integer_states_of_a_cell(model, rng):
    cell = make(model, "float32").cell
    x = rng.normal(size=(2, INPUT_DIM)).astype("float32")
    cell.build((None, INPUT_DIM))
    ones = [np.ones((2, size), int) for size in cell.state_size]
    expected = cell(x, [s.astype("float32") for s in ones])
    for a, b in zip(tf.nest.flatten(cell(x, ones)), tf.nest.flatten(expected), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_empty_batches_train(model, jit_compile):
    layer = make(model, "float32", return_sequences=True)
    x = tf.ones([2, 7, INPUT_DIM])
    expected = layer(x)

    def gradients(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(x))
        return layer(x), tape.gradient(loss, layer.trainable_variables)

    unknown = [tf.TensorSpec([None, 7, INPUT_DIM])]
    for run in (
        gradients,
        tf.function(gradients, jit_compile=jit_compile),
        tf.function(gradients, input_signature=unknown, jit_compile=jit_compile),
    ):
        outputs, of_weights = run(x[:0])
        assert outputs.shape == [0, *expected.shape[1:]]
        assert not any(np.any(gradient) for gradient in of_weights)


@pytest.mark.parametrize("masked", [False, True])
def test_a_policy_set_later_and_no_autocast(model, rng, masked):
    x = rng.normal(size=(3, 9, INPUT_DIM))
    mask = tf.constant(MASKS["holes"]) if masked else None
    layer = make(model, "float32", autocast=False)
    expected = layer(x.astype("float32"), mask=mask)
    np.testing.assert_array_equal(layer(x, mask=mask), expected)
    layer.dtype_policy = "mixed_float16"
    assert layer(x, mask=mask).dtype == tf.float16
    np.testing.assert_allclose(layer(x, mask=mask), expected, atol=2e-3)


def test_masked_nans_stay_where_they_are(model, rng):
    """NaNs in masked inputs do not reach any output."""
    layer = make(model, return_sequences=True)
    x = rng.normal(size=(3, 9, INPUT_DIM))
    expected = layer(x, mask=tf.constant(MASKS["holes"])).numpy()
    x[~MASKS["holes"]] = np.nan
    np.testing.assert_array_equal(layer(x, mask=tf.constant(MASKS["holes"])), expected)


@pytest.mark.parametrize("of", ["layer", "cell"])
def test_a_first_state_of_its_own_is_not_shown_by_masked_steps(rng, of):
    def ones(self, batch_size=None):
        return [tf.ones([batch_size, 4])]

    class Cell(tf_plr.GILRCell):
        if of == "cell":
            get_initial_state = ones

    class Layer(tf_plr.GILR):
        cell_class = Cell
        if of == "layer":
            get_initial_state = ones

    layer = Layer(4, forget_bias=1.0, return_sequences=True)
    x = rng.normal(size=(2, 3, INPUT_DIM)).astype("float32")
    outputs = layer(x, mask=tf.constant([[False, True, False]] * 2))
    step = layer(x[:, 1:2], initial_state=tf.ones([2, 4]))
    np.testing.assert_allclose(outputs, tf.concat([tf.zeros_like(step), step, step], 1), atol=1e-6)


def test_a_first_state_is_found_wherever_it_is_defined(rng):
    class Ones:
        def get_initial_state(self, batch_size=None):
            return tf.ones([batch_size, 4])  # Keras also takes a tensor without a list.

    class Inherited(Ones, tf_plr.GILRCell):
        pass

    class Shifted(tf_plr.GILRCell):
        def recur(self, steps, inputs, states, training):
            return super().recur(steps, inputs, [s + 1 for s in states], training)

    x = tf.constant(rng.normal(size=(2, 3, INPUT_DIM)), tf.float32)
    for cell in (Inherited, Shifted):
        layer = type("Layer", (tf_plr.GILR,), {"cell_class": cell})(4, return_sequences=True)
        outputs = layer(x, mask=tf.constant([[False, True, True]] * 2))
        unmasked = layer(x[:, 1:])
        np.testing.assert_allclose(
            outputs, tf.concat([tf.zeros([2, 1, 4]), unmasked], 1), atol=1e-6
        )


def test_a_reset_of_its_own_has_both_names():
    class Layer(tf_plr.GILR):
        resets = 0

        def reset_state(self):
            self.resets += 1

    layer = Layer(3)
    layer.reset_state()
    layer.reset_states()
    assert layer.resets == 2


def test_dropout_spares_the_highway():
    """If its reset gates are 0, an SRU outputs its inputs, even those that dropout drops."""
    layer = tf_plr.SRU(INPUT_DIM, dropout=0.5, return_sequences=True)
    layer.build((None, None, INPUT_DIM))
    kernel, bias = layer.get_weights()
    bias[2 * INPUT_DIM :] = -100
    layer.set_weights([0 * kernel, bias])
    x = np.ones((4, 6, INPUT_DIM), "float32")
    np.testing.assert_array_equal(layer(x, training=True), x)


def test_recurrent_dropout_drops_a_share_of_features_at_all_steps():
    n = 1024
    layer = tf_plr.GILRLSTM(
        n, recurrent_initializer="zeros", recurrent_dropout=0.25, return_sequences=True
    )
    layer.build((None, None, 1))
    kernel, recurrent_kernel, bias = layer.get_weights()
    # The surrogate is 1 from the first step on; it reaches the candidate of its own unit only.
    bias[:] = 0
    bias[:n], bias[n : 2 * n], bias[2 * n : 3 * n] = -100, 100, -100
    recurrent_kernel[:] = 0
    recurrent_kernel[np.arange(n), 3 * n + np.arange(n)] = 1
    layer.set_weights([0 * kernel, recurrent_kernel, bias])
    x = np.zeros((1, 4, 1), "float32")
    assert np.all(layer(x)[0, 1:] != 0)
    outputs = layer(x, training=True).numpy()[0, 1:]
    dropped = outputs == 0
    np.testing.assert_array_equal(dropped, dropped[:1].repeat(3, 0))
    assert abs(dropped[0].mean() - 0.25) < 5 * np.sqrt(0.25 * 0.75 / n)
    np.testing.assert_allclose(outputs[~dropped], 0.25 * np.tanh(1 / 0.75), rtol=1e-5)


@pytest.mark.parametrize("start", ["zeros", "initial_state"])
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_gradients_of_long_paddings_in_16_bits(layer, policy, start):
    """The gradients of one output, repeated at 3,000 masked steps, are summed in float32.

    With zero initial states, the op itself repeats the output; otherwise the layer does.
    """
    x, mask = np.ones((1, 3000, 3), "float32"), np.arange(3000)[None] < 3
    by_bias = []
    for dtype in ("float32", policy):
        keras.utils.set_random_seed(0)
        made = layer(
            2, dtype=dtype, kernel_initializer="ones", forget_bias=1.0, return_sequences=True
        )
        made.build(x.shape)
        states = made.get_initial_state(1) if start == "initial_state" else None
        with tf.GradientTape() as tape:
            outputs = made(x, mask=tf.constant(mask), initial_state=states)
            loss = tf.reduce_sum(tf.cast(outputs, tf.float32))
        by_bias.append(np.reshape(tape.gradient(loss, made.cell.bias), (-1, 2)))
    actual, exact = by_bias
    largest = np.abs(exact).max(1, keepdims=True)  # Per block: their scales differ 1,000-fold.
    assert np.all(largest > 0.1)
    roundoff = reference.UNIT_ROUNDOFF[made.compute_dtype]
    assert np.all(np.abs(actual - exact) <= 8 * roundoff * largest)


@pytest.mark.parametrize("stateful", ["layer", "keras_rnn"])
@pytest.mark.parametrize("save", ["checkpoint", "saved_model"])
def test_kept_states_are_saved(model, rng, tmp_path, stateful, save):
    x = tf.constant(rng.normal(size=(2, 8, INPUT_DIM)), tf.float32)
    made = make(model, "float32", stateful=stateful == "layer", return_sequences=True)
    if stateful == "keras_rnn":
        made.build(x.shape)
        made = keras.layers.RNN(made.cell, stateful=True, return_sequences=True)
    inputs = keras.Input(batch_shape=(2, 8, INPUT_DIM))
    keeper = keras.Model(inputs, made(inputs))
    keeper(x)
    if save == "checkpoint":
        path = tf.train.Checkpoint(model=keeper).save(tmp_path / "checkpoint")
        expected = keeper(x)
        made.reset_state()
        tf.train.Checkpoint(model=keeper).restore(path)
        np.testing.assert_array_equal(keeper(x), expected)
    else:
        tf.saved_model.save(keeper, tmp_path / "model")
        serve = tf.saved_model.load(tmp_path / "model").signatures["serving_default"]
        (output,) = serve(x).values()
        np.testing.assert_allclose(output, keeper(x), atol=1e-5)
    assert len(made.weights) == len(made.cell.weights)
    assert not any(state.trainable for state in made.states)
    made.reset_state()
    assert all(not np.any(state) for state in made.states)


def no_orthogonal(layer):
    """Avoids orthogonal initializers: TensorFlow has no QR decomposition in bfloat16."""
    return {"recurrent_initializer": "zeros"} if layer is tf_plr.GILRLSTM else {}


@pytest.mark.parametrize("policy", ["float16", "bfloat16"])
def test_biases_have_32_bits(layer, policy):
    made = layer(3, dtype=policy, forget_bias=8.97, **no_orthogonal(layer))
    made.build((None, None, INPUT_DIM))
    assert made.cell.bias.dtype == "float32"
    assert made.cell.kernel.dtype == policy
    assert np.float32(8.97) in made.cell.bias.numpy()


@pytest.mark.parametrize("policy", ["mixed_float16", "bfloat16", "float64"])
def test_symbolic_dtypes_are_those_of_results(layer, policy):
    made = layer(3, dtype=policy, return_state=True, **no_orthogonal(layer))
    symbols = made(keras.Input((9, INPUT_DIM)))
    for symbol, result in zip(symbols, made(np.ones((2, 9, INPUT_DIM))), strict=True):
        assert symbol.dtype == result.dtype.name


def test_random_biases_differ_between_blocks(model):
    layer = make(model, bias_initializer="random_normal", forget_bias=1.0)
    layer.cell.input_bias = None
    layer.build((None, None, INPUT_DIM))
    cell = layer.cell
    blocks = dict(zip(cell.blocks, np.split(cell.bias.numpy(), len(cell.blocks)), strict=True))
    assert np.all(blocks.pop(cell.forget_block) == 1)
    values = np.concatenate(list(blocks.values()))
    assert len(np.unique(values)) == len(values)


def test_sizes_from_numpy():
    layer = tf_plr.QRNN(np.int64(4), kernel_size=np.int32(3))
    assert type(layer.units) is int
    assert layer(np.ones((2, 5, 3))).shape == (2, 4)


@pytest.mark.slow
def test_import_without_docstrings():
    def imports(module):
        return subprocess.run([sys.executable, "-OO", "-c", f"import {module}"]).returncode == 0

    if not imports("keras"):
        pytest.skip("this Keras cannot be imported without its docstrings")
    assert imports("tf_plr")


@pytest.mark.parametrize(
    "options", [{}, {"dtype": "float64"}, {"algorithm": "composed"}, {"layer_normalization": True}]
)
def test_a_graph_that_does_not_know_the_features(layer, options):
    made = layer(4, **options)
    made.build((None, None, 3))
    x = tf.random.normal([2, 7, 3])
    run = tf.function(made, input_signature=[tf.TensorSpec([None, None, None])])
    np.testing.assert_allclose(run(x), made(x), rtol=1e-5, atol=1e-6)
    with pytest.raises((ValueError, tf.errors.InvalidArgumentError)):
        run(tf.ones([2, 7, 5]))
