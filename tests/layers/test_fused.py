# SPDX-License-Identifier: MIT
"""Which layers run the fused op, and that they are then as accurate as unfused."""

import collections
import functools
import itertools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from reference import UNIT_ROUNDOFF
from support import LAYERS, ROOT, run_program, run_python

import tf_plr
from tf_plr._ops.gated_recurrence import Parts, parts_of
from tf_plr._ops.step_flags import StepFlags
from tf_plr.layers.base.all_steps import AllSteps

sys.path.append(str(ROOT / "examples"))
from own_layer import MinGRU

GILR, F, SURROGATE = Parts("state", "elu"), Parts("state"), Parts("previous")
FO, IFO, SRU = Parts("gated"), Parts("gated", input_gate="own"), Parts("highway", "linear")


# {name: (layer, parts of the native ops)}: layers that are fused.
FUSED = {
    "GILR": (lambda **k: tf_plr.GILR(6, **k), {GILR}),
    "GILR, tanh": (lambda **k: tf_plr.GILR(6, "tanh", **k), {F}),
    "GILR, tf.nn.relu": (lambda **k: tf_plr.GILR(6, tf.nn.relu, **k), {Parts("state", "relu")}),
    "LS-LSTM": (lambda **k: tf_plr.GILRLSTM(6, **k), {SURROGATE, IFO}),
    "LS-LSTM, sigmoid": (
        lambda **k: tf_plr.GILRLSTM(6, "sigmoid", **k),
        {Parts("previous", "sigmoid"), Parts("gated", "sigmoid", input_gate="own")},
    ),
    "LS-LSTM, normalised": (
        lambda **k: tf_plr.GILRLSTM(6, layer_normalization=True, **k), {SURROGATE, IFO}
    ),
    "LS-LSTM, not shifted": (
        lambda **k: tf_plr.GILRLSTM(6, shift_surrogate=False, **k), {F, IFO}
    ),
    "LS-LSTM, dropout": (lambda **k: tf_plr.GILRLSTM(6, recurrent_dropout=0.5, **k),
                         {SURROGATE, IFO}),
    "LS-LSTM, one unit": (lambda **k: tf_plr.GILRLSTM(1, **k), {SURROGATE, IFO}),
    "SRU": (lambda **k: tf_plr.SRU(6, **k), {SRU}),
    "SRU without projection": (lambda **k: tf_plr.SRU(5, **k), {SRU}),
    "SRU, normalised": (lambda **k: tf_plr.SRU(6, layer_normalization=True, **k), {SRU}),
    "SRU, tanh": (lambda **k: tf_plr.SRU(6, "tanh", **k), {Parts("highway", "linear", "tanh")}),
    "QRNN": (lambda **k: tf_plr.QRNN(6, **k), {FO}),
    "QRNN(9)": (lambda **k: tf_plr.QRNN(6, kernel_size=9, **k), {FO}),
    "QRNN f": (lambda **k: tf_plr.QRNN(6, pooling="f", **k), {F}),
    "QRNN ifo": (lambda **k: tf_plr.QRNN(6, pooling="ifo", use_bias=False, **k), {IFO}),
    "QRNN, hard gates": (
        lambda **k: tf_plr.QRNN(6, recurrent_activation="hard_sigmoid", **k),
        {Parts("gated", recurrent_activation="hard_sigmoid")},
    ),
    "MinGRU": (lambda **k: MinGRU(6, **k), {Parts("state", "linear")}),
}  # fmt: skip

# {the fused op's name: activations that are that function}
KNOWN = {
    "linear": [None, "linear", keras.activations.linear, tf.identity],
    "tanh": ["tanh", tf.nn.tanh, tf.tanh],
    "sigmoid": ["sigmoid", tf.sigmoid, tf.nn.sigmoid],
    "relu": ["relu", tf.nn.relu],
    "elu": ["elu", tf.nn.elu],
    "silu": ["silu", "swish", tf.nn.silu],
    "gelu": ["gelu", tf.nn.gelu, functools.partial(keras.activations.gelu, approximate=False)],
    "gelu_tanh": [functools.partial(keras.activations.gelu, approximate=True)],
    "softplus": ["softplus", tf.nn.softplus],
}


class OwnGate(tf_plr.GILRCell):
    def gate(self, preactivation):
        return super().gate(2 * preactivation)


class OwnPreactivations(tf_plr.GILRCell):
    def preactivations(self, product, normalization, bias):
        return super().preactivations(2 * product, normalization, bias)


def layer_of(cell, **options):
    return type("Layer", (tf_plr.GILR,), {"cell_class": cell})(6, **options)


# {reason: layer}: layers that are not fused.
UNFUSED = {
    "a gate of its own": lambda **k: layer_of(OwnGate, **k),
    "pre-activations of its own": lambda **k: layer_of(OwnPreactivations, **k),
    "another activation": lambda **k: tf_plr.GILR(6, "selu", **k),
    "an activation with an argument": lambda **k: tf_plr.GILR(
        6, functools.partial(keras.activations.elu, alpha=0.5), **k
    ),
    "another gate": lambda **k: tf_plr.QRNN(6, recurrent_activation="hard_tanh", **k),
    "another activation of c": lambda **k: tf_plr.SRU(6, "softsign", **k),
    "float64": lambda **k: tf_plr.GILRLSTM(6, dtype="float64", **k),
    "stock ops only": lambda **k: tf_plr.GILR(6, algorithm="composed", **k),
}  # fmt: skip


def operations(layer, x, **keywords):
    """(name, parts) of the gated ops in the graph of a call and its gradient."""

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.cast(layer(x, **keywords), tf.float32))
        return tape.gradient(loss, x)

    graph = tf.function(run).get_concrete_function(x).graph
    gated = [op for op in graph.get_operations() if "Gated" in op.type]
    return {(op.type, parts_of(op)) for op in gated}


@pytest.mark.parametrize("name", FUSED)
def test_layers_are_fused(rng, name):
    make, parts = FUSED[name]
    layer, x = make(), tf.constant(rng.normal(size=(3, 11, 5)), tf.float32)
    found = operations(layer, x, training=True)
    kinds = ("TfPlr>GatedRecurrence", "TfPlr>GatedRecurrenceGrad")
    assert found == set(itertools.product(kinds, parts))


@pytest.mark.parametrize("algorithm", ["auto", "composed"])
@pytest.mark.parametrize("name", FUSED)
def test_so_are_their_cells(rng, name, algorithm):
    """Cells are fused, too, except with algorithm="composed", which uses TensorFlow's ops only."""
    make, parts = FUSED[name]
    layer = make(algorithm=algorithm)
    layer.build((3, 11, 5))
    cell, states = layer.cell, layer.get_initial_state(3)
    found = operations(lambda x: cell(x, states, training=True)[0], tf.ones([3, 5]))
    assert {of for _, of in found} == (parts if algorithm == "auto" else set())


@pytest.mark.parametrize("name", KNOWN)
def test_activations_that_the_fused_op_has(name):
    for activation in KNOWN[name]:
        found = operations(tf_plr.GILR(6, activation), tf.ones([2, 3, 5]))
        assert {parts.activation for _, parts in found} == {name}, activation


@pytest.mark.parametrize("name", UNFUSED)
def test_others_are_not(rng, name):
    layer = UNFUSED[name]()
    x = tf.constant(rng.normal(size=(3, 11, 5)), layer.dtype)
    assert operations(layer, x, training=True) == set()


def types_of(run, *signature):
    """Counts the ops in the graph of a function, by type."""
    operations = tf.function(run).get_concrete_function(*signature).graph.get_operations()
    return collections.Counter(op.type for op in operations)


@pytest.mark.parametrize(
    ("options", "features", "products"),
    [
        ({}, 24, 2),
        ({}, 25, 3),  # Beyond 4 * units, copying costs more than a product.
        ({"shift_surrogate": False}, 5, 3),
        ({"recurrent_dropout": 0.5}, 5, 3),
    ],
)
def test_products_of_an_ls_lstm(options, features, products):
    """One product for the surrogate, and one of [inputs, surrogate] for the gates."""
    layer = tf_plr.GILRLSTM(6, **options)
    found = types_of(lambda x: layer(x, training=True), tf.TensorSpec([3, 11, features]))
    assert found["MatMul"] == products


@pytest.mark.parametrize("return_sequences", [False, True])
def test_masked_outputs_are_held_by_the_fused_op(layer, return_sequences):
    """Nothing else holds them: no recurrence looks for the last valid step, and no op gathers."""
    made = layer(6, return_sequences=return_sequences)
    found = types_of(
        lambda x, mask: made(x, mask=mask),
        tf.TensorSpec([3, 11, 5]),
        tf.TensorSpec([3, 11], tf.bool),
    )
    assert found["TfPlr>GatedRecurrence"] > 0
    assert not any("LinearRecurrence" in op or "Gather" in op for op in found)


@pytest.mark.parametrize(
    ("steps", "dtype"), [(2**24 - 2, "float32"), (2**24 - 1, "float64"), (None, "float64")]
)
def test_masked_steps_are_counted_in_a_type_that_has_their_numbers(steps, dtype):
    """Tests the unfused path. The graph is only built, as it is too large to run."""

    def hold(inputs, mask):
        return AllSteps("auto", StepFlags(mask)).hold(inputs, tf.zeros([1, 1]))

    signature = tf.TensorSpec([1, steps, 1]), tf.TensorSpec([1, steps], tf.bool)
    graph = tf.function(hold).get_concrete_function(*signature).graph
    (op,) = [op for op in graph.get_operations() if op.type == "TfPlr>LinearRecurrence"]
    assert op.get_attr("T") == dtype


@pytest.fixture
def unfused():
    tf_plr.config.disable_fusion()
    yield
    tf_plr.config.enable_fusion()


def test_the_switch(unfused):
    assert not tf_plr.config.is_fusion_enabled()
    assert operations(tf_plr.GILR(6), tf.ones([2, 3, 4])) == set()


def test_the_environment_variable():
    program = "import tf_plr; print(tf_plr.config.is_fusion_enabled())"
    assert run_python(program, TF_PLR_FUSED="0").strip() == "False"
    assert run_python(program, TF_PLR_FUSED="1").strip() == "True"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [name for name in FUSED if "dropout" not in name])
def test_as_exact_as_unfused(rng, name, masked):
    """The error against float64 is at most twice the unfused path's, plus a few roundings."""
    x = rng.normal(size=(3, 90, 5))
    mask = tf.constant(rng.random((3, 90)) < 0.8) if masked else None
    wide = FUSED[name][0](return_sequences=True, return_state=True, dtype="float64")
    wide.build(x.shape)
    weights = [rng.normal(size=w.shape) * 0.5 for w in wide.weights]

    def run(layer, dtype):
        layer.build(x.shape)
        layer.set_weights(weights)
        inputs = tf.constant(x, dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = layer(inputs, mask=mask, training=True)
            loss = tf.add_n([tf.reduce_sum(tf.sin(o)) for o in outputs])
        return [*outputs, *tape.gradient(loss, [inputs, *layer.trainable_weights])]

    exact = run(wide, "float64")
    errors = []
    for fused in (True, False):
        tf_plr.config.enable_fusion() if fused else tf_plr.config.disable_fusion()
        try:
            narrow = run(FUSED[name][0](return_sequences=True, return_state=True), "float32")
        finally:
            tf_plr.config.enable_fusion()
        errors.append(
            [
                float(np.abs(tf.cast(a, tf.float64) - e).max() / (np.abs(e).max() + 1e-12))
                for a, e in zip(narrow, exact, strict=True)
            ]
        )
    for of_fused, of_unfused in zip(*errors, strict=True):
        assert of_fused <= 2 * of_unfused + 8 * UNIT_ROUNDOFF["float32"]


def test_the_native_kernel_runs_under_xla():
    layer = tf_plr.GILRLSTM(8)
    compiled = tf.function(lambda x: layer(x), jit_compile=True)
    hlo = compiled.experimental_get_compiler_ir(tf.ones([2, 9, 4]))(stage="optimized_hlo")
    assert hlo.count('op = "TfPlr>GatedRecurrence"') == 2


def test_an_unknown_number_of_features(rng, layer):
    made, x = layer(4, return_sequences=True), rng.normal(size=(2, 5, 3)).astype("float32")
    expected = made(x)
    run = tf.function(lambda x: made(x), input_signature=[tf.TensorSpec([None] * 3)])
    np.testing.assert_allclose(run(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("units", [6, 7])
@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_fused(rng, layer, policy, units):
    x = tf.constant(rng.normal(size=(2, 9, 4)), tf.float32)
    found = operations(layer(units, dtype=policy), x, training=True)
    assert found == operations(layer(units), x, training=True) != set()


def test_states_are_kept_for_training_only(rng):
    def kept(training):
        layer = tf_plr.QRNN(4)
        run = tf.function(lambda x: layer(x, training=training))
        operations = run.get_concrete_function(tf.ones([2, 3, 4])).graph.get_operations()
        return [op.get_attr("num_states") for op in operations if "Gated" in op.type]

    assert kept(True) == [1]
    assert kept(False) == [0]


def test_derivatives_through_a_loop_of_fused_steps(rng, unfused):
    """In the gradient of a while loop, to third order."""
    cell = tf_plr.GILRCell(3)
    x = tf.constant(rng.normal(size=(2, 5, 3)), tf.float32)
    rnn = keras.layers.RNN(cell)
    rnn(x)

    def derivatives():
        @tf.function
        def run(x):
            with tf.GradientTape() as outer:
                outer.watch(x)
                with tf.GradientTape() as middle:
                    middle.watch(x)
                    with tf.GradientTape() as inner:
                        inner.watch(x)
                        loss = tf.reduce_sum(rnn(x) ** 2)
                    first = inner.gradient(loss, x)
                    norm = tf.reduce_sum(first**2)
                second = middle.gradient(norm, x)
                norm = tf.reduce_sum(second**2)
            return first, second, outer.gradient(norm, x)

        return run(x)

    expected = derivatives()
    tf_plr.config.enable_fusion()
    for actual, value in zip(derivatives(), expected, strict=True):
        scale = np.abs(value).max()
        np.testing.assert_allclose(actual, value, rtol=0, atol=1e-4 * scale)


def test_a_loop_of_fused_steps_under_xla(rng, layer):
    made, x = layer(4), tf.constant(rng.normal(size=(2, 5, 3)), tf.float32)
    expected = made(x)
    rnn = keras.layers.RNN(made.cell)
    compiled = tf.function(lambda x: rnn(x), jit_compile=True)
    np.testing.assert_allclose(compiled(x), expected, rtol=1e-5, atol=1e-6)


def test_saved_models(tmp_path):
    x, names = np.ones([2, 7, 3], "float32"), [layer.__name__ for layer in LAYERS]
    models = [keras.Sequential([keras.Input((None, 3)), layer(4)]) for layer in LAYERS]
    for model, name in zip(models, names, strict=True):
        model.export(str(tmp_path / name), verbose=False)
    run_program("saved_models.py", *(tmp_path / name for name in names))
    for model, name in zip(models, names, strict=True):
        served = np.load(tmp_path / f"{name}.npy")
        np.testing.assert_allclose(served, model(x), rtol=1e-6, atol=1e-6)


def test_an_activation_that_has_no_hash(rng):
    class Doubled:
        __hash__ = None

        def __call__(self, x):
            return 2 * x

    assert tf_plr.GILR(4, Doubled())(rng.normal(size=(2, 3, 4))).shape == (2, 4)


def test_a_cell_that_adds_to_the_states_holds_its_outputs(rng):
    class AddedCell(tf_plr.GILRCell):
        def recur(self, steps, inputs, states, training):
            output, states = super().recur(steps, inputs, states, training)
            return output + inputs, states

    class Added(tf_plr.layers.LinearRecurrentLayer):
        cell_class = AddedCell

    outputs = Added(2, return_sequences=True)(
        rng.normal(size=(1, 4, 2)), mask=tf.constant([[False, True, True, False]])
    )
    np.testing.assert_array_equal(outputs[:, 0], np.zeros([1, 2]))
    np.testing.assert_array_equal(outputs[:, 3], outputs[:, 2])


def test_every_layer_has_a_test():
    """So that a new one is not forgotten here."""
    made = {type(make()) for make, _ in FUSED.values()}
    assert made == {*LAYERS, MinGRU}
