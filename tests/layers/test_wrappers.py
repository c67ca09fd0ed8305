# SPDX-License-Identifier: MIT
"""The contract of a Keras recurrent layer: wrappers, sharing, strategies, decoding, export."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import needs, run_program

import tf_plr


@pytest.fixture
def x(rng):
    return rng.normal(size=(3, 9, 4)).astype("float32")


MASK = np.array([[1] * 9, [1] * 4 + [0] * 5, [0, 1, 0, 1, 1, 0, 1, 1, 0]], bool)


def twin(layer, built):
    made = type(built).from_config({**built.get_config(), **layer})
    made.build((None, None, 4))
    made.set_weights(built.get_weights())
    return made


@pytest.mark.parametrize("return_sequences", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_bidirectional_with_states_and_masks(layer, x, masked, return_sequences):
    options = {"return_sequences": return_sequences, "return_state": True}
    both = keras.layers.Bidirectional(layer(5, **options))
    mask = tf.constant(MASK) if masked else None
    outputs, *states = both(x, mask=mask)
    forward = both.forward_layer(x, mask=mask)
    backward = twin({"go_backwards": False}, both.backward_layer)
    backward = backward(x[:, ::-1], mask=None if mask is None else mask[:, ::-1])
    flipped = backward[0][:, ::-1] if return_sequences else backward[0]
    np.testing.assert_allclose(outputs, np.concatenate([forward[0], flipped], -1), atol=1e-6)
    for actual, expected in zip(states, [*forward[1:], *backward[1:]], strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-6)


def test_supports_masking_whatever_keras_rnn_says(layer, x, monkeypatch):
    """keras.layers.RNN sets supports_masking in Keras 3.15; later versions will not."""
    init = keras.layers.RNN.__init__

    def init_without(self, *args, **kwargs):
        init(self, *args, **kwargs)
        self.supports_masking = False

    monkeypatch.setattr(keras.layers.RNN, "__init__", init_without)
    model = keras.Sequential([keras.layers.Masking(), layer(5, return_sequences=True), layer(5)])
    padded = np.concatenate([x, np.zeros((3, 4, 4), "float32")], 1)
    np.testing.assert_allclose(model(padded), model(x), atol=1e-6)


def test_masks_beside_initial_states(layer, x):
    """keras.layers.LSTM loses a mask that came with its input when initial_state is passed."""
    made = layer(5, return_state=True)
    made(x)
    states = [tf.ones_like(s) for s in made.get_initial_state(3)]
    padded = np.concatenate([x, np.zeros((3, 4, 4), "float32")], 1)
    masked = keras.layers.Masking()(padded)
    for actual, expected in zip(
        made(masked, initial_state=states), made(x, initial_state=states), strict=True
    ):
        np.testing.assert_allclose(actual, expected, atol=1e-6)

    both = keras.layers.Bidirectional(layer(5))
    both(x)
    np.testing.assert_allclose(
        both(masked, initial_state=states + states),
        both(x, initial_state=states + states),
        atol=1e-6,
    )


def test_masks_beside_initial_states_in_an_encoder_and_decoder(layer, rng, tmp_path):
    tokens = rng.integers(1, 9, (4, 7))
    padded = np.concatenate([tokens, np.zeros((4, 3), int)], 1)
    inputs, targets = keras.Input((None,)), keras.Input((None,))
    embed = keras.layers.Embedding(9, 3, mask_zero=True)
    _, *states = layer(5, return_state=True)(embed(inputs))
    outputs = layer(5)(embed(targets), initial_state=states)
    model = keras.Model([inputs, targets], keras.layers.Dense(2)(outputs))
    expected = model([tokens, tokens])
    np.testing.assert_allclose(model([padded, padded]), expected, atol=1e-6)
    model.compile("adam", "mse")
    np.testing.assert_allclose(model.predict([padded, padded], verbose=0), expected, atol=1e-6)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded([padded, padded]), expected, atol=1e-6)
    model.fit([padded, padded], np.ones((4, 2)), verbose=0)


@pytest.mark.parametrize("return_sequences", [False, True])
def test_symbolic_shapes_are_those_of_results(layer, x, return_sequences):
    options = {"return_sequences": return_sequences, "return_state": True}
    for made, cell in ((layer(5, **options), None), (None, layer.cell_class)):
        if cell:
            arguments = {"input_dim": 4} if cell is tf_plr.QRNNCell else {}
            made = keras.layers.RNN(cell(5, **arguments), **options)
        shapes = made.compute_output_shape((None, None, 4))
        symbols = made(keras.Input((None, 4)))
        for result, shape, symbol in zip(made(x), shapes, symbols, strict=True):
            for known in (shape, symbol.shape):
                assert len(known) == len(result.shape)
                assert all(k in (None, n) for k, n in zip(known, result.shape, strict=True))
                assert known[-1] == result.shape[-1]


def test_time_distributed(layer, x):
    inner = layer(5)
    distributed = keras.layers.TimeDistributed(inner)
    sequences = np.stack([x, 2 * x], 1)
    np.testing.assert_allclose(
        distributed(sequences), np.stack([inner(x), inner(2 * x)], 1), atol=1e-6
    )


def test_weights_are_shared_between_calls(layer, x):
    inputs = keras.Input((None, 4))
    shared = layer(5)
    model = keras.Model(inputs, shared(inputs) - shared(2 * inputs))
    assert len(model.trainable_weights) == len(shared.trainable_weights)
    np.testing.assert_allclose(model(x), shared(x) - shared(2 * x), atol=1e-6)


def test_frozen_layers_do_not_train(layer, x):
    frozen = layer(5, return_sequences=True, trainable=False)
    model = keras.Sequential([frozen, layer(2)])
    model.compile("sgd", "mse")
    model(x)
    before = frozen.get_weights()
    trained = model.layers[1].get_weights()
    model.fit(x, np.ones((3, 2)), verbose=0)
    assert not frozen.trainable_weights
    for a, b in zip(before, frozen.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(trained[0], model.layers[1].get_weights()[0])


def test_clone_model_computes_the_same(layer, x):
    model = keras.Sequential([keras.Input((None, 4)), layer(5, seed=1, dropout=0.3)])
    clone = keras.models.clone_model(model)
    clone.set_weights(model.get_weights())
    np.testing.assert_array_equal(clone(x), model(x))


@pytest.mark.parametrize("kind", ["tensor", "list", "tuple", "numpy", "symbolic"])
def test_initial_state_in_every_form(layer, x, kind):
    made = layer(5)
    made(x)
    states = [tf.ones_like(s) for s in made.get_initial_state(3)]
    expected = made(x, initial_state=states)
    assert [s.shape[-1] for s in states] == list(made.cell.state_size)
    if kind == "symbolic":
        inputs = keras.Input((None, 4))
        symbols = [keras.Input((size,)) for size in made.cell.state_size]
        model = keras.Model([inputs, *symbols], made(inputs, initial_state=symbols))
        actual = model([tf.constant(x), *states])
    elif kind == "tensor":
        actual = made(x, initial_state=states[0] if len(states) == 1 else states)
    else:
        convert = {"list": list, "tuple": tuple, "numpy": lambda s: [i.numpy() for i in s]}[kind]
        actual = made(x, initial_state=convert(states))
    np.testing.assert_array_equal(actual, expected)


def test_chunks_with_passed_states_equal_one_pass_and_its_gradient(layer, rng):
    """Truncated backpropagation, not truncated: gradients flow through the states."""
    x = tf.constant(rng.normal(size=(2, 12, 4)))
    made = layer(5, return_sequences=True, return_state=True, dtype="float64")
    made.build(x.shape)

    def whole():
        return made(x)[0]

    def chunked():
        states, outputs = None, []
        for t in range(0, 12, 4):
            output, *states = made(x[:, t : t + 4], initial_state=states)
            outputs.append(output)
        return tf.concat(outputs, 1)

    results = []
    for run in (whole, chunked):
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = run()
            loss = tf.reduce_sum(outputs**2)
        results.append([outputs, *tape.gradient(loss, [x, *made.trainable_variables])])
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-12)


def test_decoding_token_by_token(layer, x):
    """What the README shows: the layer's own cell, one step a call."""
    trained = layer(5, return_sequences=True)
    expected = trained(x)
    states = trained.cell.get_initial_state(batch_size=3)
    for t in range(9):
        output, states = trained.cell(x[:, t], states)
        np.testing.assert_allclose(output, expected[:, t], atol=1e-6)


def test_op_determinism():
    run_program("op_determinism.py")


def test_composed_converts_to_tflite(layer, x, tmp_path):
    """With built-in TFLite ops only, so that it runs without tf_plr."""
    model = keras.Sequential([keras.Input((9, 4)), layer(5, algorithm="composed")])
    expected = model(x)
    model.export(tmp_path / "model", verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "model"))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    interpreter = tf.lite.Interpreter(model_content=converter.convert())
    inputs = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(inputs, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(inputs, x)
    interpreter.invoke()
    actual = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(actual, expected, atol=1e-5)


class PreviousCell(tf_plr.GILRCell):
    """A user-written cell that outputs the state before each step."""

    def recur(self, steps, inputs, states, training):
        outputs, last = super().recur(steps, inputs, states, training)
        return steps.previous(outputs, states[0]), last


class Previous(tf_plr.GILR):
    cell_class = PreviousCell


ONNX = {
    "GILR": lambda **k: tf_plr.GILR(5, **k),
    "GILRLSTM": lambda **k: tf_plr.GILRLSTM(5, **k),
    "SRU": lambda **k: tf_plr.SRU(5, **k),
    "QRNN": lambda **k: tf_plr.QRNN(5, kernel_size=3, **k),
    "backwards": lambda **k: tf_plr.QRNN(5, go_backwards=True, **k),
    "bidirectional": lambda **k: keras.layers.Bidirectional(tf_plr.GILRLSTM(5, **k)),
    "previous states": lambda **k: Previous(5, **k),
}


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("steps", [9, None])
@pytest.mark.parametrize("name", ONNX)
def test_composed_converts_to_onnx(name, steps, masked, x):
    needs("onnxruntime", "tf2onnx")
    import onnxruntime
    import tf2onnx

    masking = [keras.layers.Masking()] if masked else []
    x = np.where(np.arange(9)[:, None] < 7, x, 0).astype("float32") if masked else x
    layers = [keras.Input((steps, 4)), *masking, ONNX[name](algorithm="composed")]
    model = keras.Sequential(layers)
    signature = [tf.TensorSpec([None, steps, 4])]
    function = tf.function(lambda inputs: model(inputs), input_signature=signature)
    proto, _ = tf2onnx.convert.from_function(function, input_signature=signature)
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (actual,) = session.run(None, {session.get_inputs()[0].name: x})
    np.testing.assert_allclose(actual, model(x), atol=1e-5)
