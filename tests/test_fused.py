# SPDX-License-Identifier: MIT
"""The fused op against the unfused function in float64, and where layers run it."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import LAYERS, MODES, call, run_python
from reference import UNIT_ROUNDOFF

import tf_plr
from tf_plr.gated_recurrence import CELLS, DTYPES, gated_recurrence, unfused_gated_recurrence

# One step, one column, vectors of columns filled and not, many steps: whole tiles and parts.
SHAPES = [(1, 1, 2), (3, 5, 2), (2, 37, 10), (1, 300, 34), (5, 140, 64)]
BESIDE = 3  # Features that the surrogate copies.


def draw(rng, cell, shape, dtype, extras):
    """Arguments, as float64 arrays that the dtype holds; and the keywords."""
    batch, steps, units = shape
    arithmetic = CELLS[cell]
    gated = arithmetic.output in ("gated", "highway")
    highway_block = arithmetic.output == "highway" and not extras
    count = 2 + arithmetic.own_input + gated
    blocks = [int(i) for i in rng.permutation(count)] + [count] * highway_block

    def normal(*shape, dtype=dtype):
        return np.array(tf.cast(rng.normal(size=shape), dtype), np.float64)

    beside = None
    if arithmetic.output == "highway" and not highway_block:
        beside = normal(batch, steps, units)
    if arithmetic.output == "previous" and extras:
        beside = normal(batch, steps, BESIDE)
    arguments = {
        "product": normal(batch, steps, len(blocks) * units),
        "bias": normal(count * units, dtype="float32") if extras else None,
        "beside": beside,
        "initial_state": normal(batch, units, dtype="float32") if extras else None,
        "mask": rng.random((batch, steps)) < 0.7 if extras else None,
    }
    return arguments, {"cell": cell, "blocks": blocks, "hold": extras, "algorithm": "auto"}


def as_tensors(arguments, dtype):
    """For `unfused_gated_recurrence` if dtype is float64."""
    dtypes = {"bias": "float32", "initial_state": "float32", "mask": "bool"}
    if dtype == "float64":
        dtypes = {"mask": "bool"}
    return {
        name: None if value is None else tf.constant(value, dtypes.get(name, dtype))
        for name, value in arguments.items()
    }


def results(function, tensors, **keywords):
    """Outputs, the last state, and the gradients by all that have one, of weighted sums."""
    operands = [t for name, t in tensors.items() if t is not None and name != "mask"]
    with tf.GradientTape() as tape:
        tape.watch(operands)
        outputs, last = function(**tensors, **keywords)
        # Weights of few bits, of both signs, alike in every dtype.
        steps = tf.cast(tf.range(tf.shape(outputs)[1]) % 5, outputs.dtype)[:, None] - 1.5
        loss = tf.reduce_sum(tf.cast(outputs * steps, last.dtype)) + tf.reduce_sum(last * 0.5)
    return [outputs, last, *tape.gradient(loss, operands)]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_values_and_gradients(rng, cell, dtype):
    for shape, extras, hold in itertools.product(SHAPES, (False, True), (False, True)):
        arguments, keywords = draw(rng, cell, shape, dtype, extras)
        keywords["hold"] = hold
        expected = results(unfused_gated_recurrence, as_tensors(arguments, "float64"), **keywords)
        tensors = as_tensors(arguments, dtype)
        # Stored values are rounded once each, states on the way some times more; a bias' gradient
        # is a sum of as many gradients by the product.
        roundings = 16 * UNIT_ROUNDOFF[dtype] + 8 * shape[1] * UNIT_ROUNDOFF["float32"]
        for algorithm, keep_states in (("parallel", True), ("serial", False), ("auto", True)):
            keywords["algorithm"] = algorithm
            actual = results(gated_recurrence, tensors, keep_states=keep_states, **keywords)
            for a, e in zip(actual, expected, strict=True):
                scale = np.abs(e).max()
                if e.ndim == 1:
                    scale = np.sqrt(shape[0] * shape[1]) * np.abs(expected[2]).max()
                    assert scale == 0 or np.abs(e).max() > roundings * scale  # Or zeros would do.
                np.testing.assert_allclose(
                    tf.cast(a, tf.float64), e, rtol=0, atol=roundings * max(scale, 1e-3)
                )


@pytest.mark.parametrize("cell", CELLS)
def test_modes_agree_in_every_bit(rng, cell):
    arguments, keywords = draw(rng, cell, (2, 70, 18), "float32", True)
    tensors = as_tensors(arguments, "float32")
    names = list(tensors)

    def run(*values):
        given = dict(zip(names, values, strict=True))
        return results(gated_recurrence, given, keep_states=True, **keywords)

    eager = run(*tensors.values())
    for mode in MODES[1:]:
        for value, expected in zip(call(run, list(tensors.values()), mode), eager, strict=True):
            np.testing.assert_array_equal(value, expected)


def test_derivatives_to_third_order(rng):
    for cell in CELLS:
        arguments, keywords = draw(rng, cell, (2, 7, 2), "float32", True)

        def third(function, dtype, arguments=arguments, keywords=keywords):
            tensors = as_tensors(arguments, dtype)
            operands = [t for name, t in tensors.items() if t is not None and name != "mask"]
            found = []
            with tf.GradientTape() as outer:
                outer.watch(operands)
                with tf.GradientTape() as middle:
                    middle.watch(operands)
                    with tf.GradientTape() as inner:
                        inner.watch(operands)
                        outputs, last = function(**tensors, **keywords)
                        loss = tf.reduce_sum(outputs**2) + tf.reduce_sum(last**2)
                    first = inner.gradient(loss, operands)
                    norm = tf.add_n([tf.reduce_sum(g**2) for g in first])
                second = middle.gradient(norm, operands)
                norm = tf.add_n([tf.reduce_sum(g**2) for g in second])
            found = [*first, *second, *outer.gradient(norm, operands)]
            return found

        fused = lambda **k: gated_recurrence(keep_states=True, **k)  # noqa: E731
        for actual, expected in zip(
            third(fused, "float32"), third(unfused_gated_recurrence, "float64"), strict=True
        ):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("cell", CELLS)
def test_masked_inputs_may_be_nan(rng, cell):
    arguments, keywords = draw(rng, cell, (2, 40, 6), "float32", True)

    def run():
        tensors = as_tensors(arguments, "float32")
        return results(gated_recurrence, tensors, keep_states=True, **keywords)

    def second():
        tensors = as_tensors(arguments, "float32")
        with tf.GradientTape() as outer:
            outer.watch(tensors["product"])
            with tf.GradientTape() as inner:
                inner.watch(tensors["product"])
                loss = tf.reduce_sum(gated_recurrence(**tensors, keep_states=True, **keywords)[1])
            gradient = inner.gradient(loss, tensors["product"])
        return outer.gradient(gradient, tensors["product"])

    clean, clean_second = run(), second()
    arguments["product"][~arguments["mask"]] = np.nan
    for actual, expected in zip(run(), clean, strict=True):
        np.testing.assert_array_equal(actual, expected)
    np.testing.assert_array_equal(second(), clean_second)


@pytest.mark.parametrize("of_one", [False, True], ids=["biases", "one_bias"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_vectorized_map(rng, cell, dtype, of_one):
    """Both converters: values and gradients of a map are those of a loop."""
    arguments, keywords = draw(rng, cell, (2, 6, 4), dtype, True)
    tensors = as_tensors(arguments, dtype)

    def run(product, bias):
        given = {**tensors, "product": product, "bias": bias}
        return results(gated_recurrence, given, keep_states=True, **keywords)

    products = tf.stack([tensors["product"], -tensors["product"]])
    biases = tf.stack([tensors["bias"], tensors["bias"] * (1.0 if of_one else 2.0)])
    if of_one:
        mapped = tf.vectorized_map(
            lambda product: run(product, tensors["bias"]), products, fallback_to_while_loop=False
        )
    else:
        mapped = tf.vectorized_map(
            lambda pair: run(*pair), (products, biases), fallback_to_while_loop=False
        )
    for i in range(2):
        for actual, expected in zip(mapped, run(products[i], biases[i]), strict=True):
            scale = np.abs(tf.cast(expected, tf.float64)).max()
            np.testing.assert_allclose(
                tf.cast(actual[i], tf.float64),
                tf.cast(expected, tf.float64),
                rtol=0,
                atol=32 * UNIT_ROUNDOFF[dtype] * scale,
            )


def test_vectorized_map_keeps_the_digits_of_a_bias(rng):
    product = tf.constant(rng.normal(size=(2, 1, 9, 8)), tf.bfloat16)
    bias = tf.constant([7.01] * 4 + [0.0] * 4)

    def run(product):
        return gated_recurrence(
            product, bias, None, None, None, cell="f", blocks=[0, 1], keep_states=True,
            algorithm="auto",
        )[1]  # fmt: skip

    mapped = tf.vectorized_map(run, product, fallback_to_while_loop=False)
    np.testing.assert_array_equal(mapped, tf.stack([run(product[0]), run(product[1])]))


@pytest.mark.parametrize("cell", CELLS)
def test_jacobian(rng, cell):
    arguments, keywords = draw(rng, cell, (2, 6, 4), "float32", True)
    tensors = as_tensors(arguments, "float32")
    with tf.GradientTape(persistent=True) as tape:
        tape.watch(tensors["product"])
        last = gated_recurrence(**tensors, keep_states=True, **keywords)[1]
    fast = tape.jacobian(last, tensors["product"])
    slow = tape.jacobian(last, tensors["product"], experimental_use_pfor=False)
    np.testing.assert_allclose(fast, slow, atol=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_gradient_by_the_bias_is_the_sum(rng, dtype):
    """Of several chunks of rows, summed in float32."""
    arguments, keywords = draw(rng, "ifo", (5, 140, 34), dtype, True)
    found = results(gated_recurrence, as_tensors(arguments, dtype), keep_states=True, **keywords)
    _, _, d_product, d_bias, _ = found
    d_product = np.array(tf.cast(d_product, tf.float64))
    bound = 700 * UNIT_ROUNDOFF["float32"] * np.abs(d_product).sum((0, 1)).max()
    np.testing.assert_allclose(d_bias, d_product.sum((0, 1)), rtol=0, atol=bound)


# ---- Where layers run it ----

# Layers that are fused, and the cells of the native ops that they run.
FUSED = {
    "GILR": (lambda **k: tf_plr.GILR(6, **k), {"gilr"}),
    "GILR, tanh": (lambda **k: tf_plr.GILR(6, "tanh", **k), {"f"}),
    "LS-LSTM": (lambda **k: tf_plr.GILRLSTM(6, **k), {"surrogate", "ifo"}),
    "LS-LSTM, normalised": (
        lambda **k: tf_plr.GILRLSTM(6, layer_normalization=True, **k), {"surrogate", "ifo"}
    ),
    "LS-LSTM, not shifted": (
        lambda **k: tf_plr.GILRLSTM(6, shift_surrogate=False, **k), {"f", "ifo"}
    ),
    "LS-LSTM, dropout": (lambda **k: tf_plr.GILRLSTM(6, recurrent_dropout=0.5, **k),
                         {"surrogate", "ifo"}),
    "LS-LSTM, one unit": (lambda **k: tf_plr.GILRLSTM(1, **k), {"surrogate", "ifo"}),
    "SRU": (lambda **k: tf_plr.SRU(6, **k), {"sru"}),
    "SRU without projection": (lambda **k: tf_plr.SRU(5, **k), {"sru"}),
    "SRU, normalised": (lambda **k: tf_plr.SRU(6, layer_normalization=True, **k), {"sru"}),
    "QRNN": (lambda **k: tf_plr.QRNN(6, **k), {"fo"}),
    "QRNN(9)": (lambda **k: tf_plr.QRNN(6, kernel_size=9, **k), {"fo"}),
    "QRNN f": (lambda **k: tf_plr.QRNN(6, pooling="f", **k), {"f"}),
    "QRNN ifo": (lambda **k: tf_plr.QRNN(6, pooling="ifo", use_bias=False, **k), {"ifo"}),
}  # fmt: skip
# Those that are not, with the reason.
UNFUSED = {
    "an activation without a cell": lambda **k: tf_plr.GILR(6, "relu", **k),
    "a gate without a cell": lambda **k: tf_plr.QRNN(6, recurrent_activation="hard_sigmoid", **k),
    "an activation of c": lambda **k: tf_plr.SRU(6, "tanh", **k),
    "float64": lambda **k: tf_plr.GILRLSTM(6, dtype="float64", **k),
    "stock ops only": lambda **k: tf_plr.GILR(6, algorithm="composed", **k),
    "odd units of 16 bits": lambda **k: tf_plr.SRU(7, dtype="mixed_bfloat16", **k),
}  # fmt: skip


def operations(layer, x, **keywords):
    """(name, cell) of the gated ops in the graph of a call and its gradient."""

    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = tf.reduce_sum(tf.cast(layer(x, **keywords), tf.float32))
        return tape.gradient(loss, x)

    graph = tf.function(run).get_concrete_function(x).graph
    gated = [op for op in graph.get_operations() if "Gated" in op.type]
    return {(op.type, tf.compat.as_str(op.get_attr("cell"))) for op in gated}


@pytest.mark.parametrize("name", FUSED)
def test_layers_are_fused(rng, name):
    make, cells = FUSED[name]
    layer, x = make(), tf.constant(rng.normal(size=(3, 11, 5)), tf.float32)
    found = operations(layer, x, training=True)
    kinds = ("TfPlr>GatedRecurrence", "TfPlr>GatedRecurrenceGrad")
    assert found == set(itertools.product(kinds, cells))


@pytest.mark.parametrize("name", UNFUSED)
def test_others_are_not(rng, name):
    layer = UNFUSED[name]()
    x = tf.constant(rng.normal(size=(3, 11, 5)), layer.dtype)
    assert operations(layer, x, training=True) == set()


@pytest.fixture
def unfused():
    tf_plr.set_fused(False)
    yield
    tf_plr.set_fused(True)


def test_the_switch(unfused):
    assert not tf_plr.is_fused()
    assert operations(tf_plr.GILR(6), tf.ones([2, 3, 4])) == set()


def test_the_environment_variable():
    program = "import tf_plr; print(tf_plr.is_fused())"
    assert run_python(program, TF_PLR_FUSED="0").strip() == "False"
    assert run_python(program, TF_PLR_FUSED="1").strip() == "True"


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", [name for name in FUSED if "dropout" not in name])
def test_as_exact_as_unfused(rng, name, masked):
    """Against float64, the error is at most twice that of the unfused path, and some roundings."""
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
        tf_plr.set_fused(fused)
        try:
            narrow = run(FUSED[name][0](return_sequences=True, return_state=True), "float32")
        finally:
            tf_plr.set_fused(True)
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
    assert hlo.count('custom_call_target="TfPlr>GatedRecurrence"') == 2


def test_an_unknown_number_of_features(rng, layer):
    made, x = layer(4, return_sequences=True), rng.normal(size=(2, 5, 3)).astype("float32")
    expected = made(x)
    run = tf.function(lambda x: made(x), input_signature=[tf.TensorSpec([None] * 3)])
    np.testing.assert_allclose(run(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_fused(rng, layer, policy):
    x = tf.constant(rng.normal(size=(2, 9, 4)), tf.float32)
    found = operations(layer(6, dtype=policy), x, training=True)
    assert found == operations(layer(6), x, training=True) != set()


def test_states_are_kept_for_training_only(rng):
    def kept(training):
        layer = tf_plr.QRNN(4)
        run = tf.function(lambda x: layer(x, training=training))
        operations = run.get_concrete_function(tf.ones([2, 3, 4])).graph.get_operations()
        return [op.get_attr("num_states") for op in operations if "Gated" in op.type]

    assert kept(True) == [1]
    assert kept(False) == [0]


def test_saved_models(tmp_path, layer):
    model = keras.Sequential([keras.Input((None, 3)), layer(4)])
    x = np.ones([2, 7, 3], "float32")
    model.export(str(tmp_path / "model"), verbose=False)
    program = """
import sys
import numpy as np
import tensorflow as tf
import tf_plr
tf.config.experimental.enable_tensor_float_32_execution(False)  # As in conftest.py.
model = tf.saved_model.load(sys.argv[1])
np.save(sys.argv[2], model.serve(np.ones([2, 7, 3], "float32")))
"""
    run_python(program, tmp_path / "model", tmp_path / "served.npy")
    np.testing.assert_allclose(np.load(tmp_path / "served.npy"), model(x), rtol=1e-6, atol=1e-6)


# ---- Bad input ----

BAD = {
    "product must have shape": {"product": tf.zeros([3, 8])},
    "bias must have shape": {"bias": tf.zeros([5])},
    "beside must have shape": {"beside": tf.zeros([2, 3, 5])},
    "initial_state must have shape": {"initial_state": tf.zeros([2, 5])},
    "mask must have shape": {"mask": tf.zeros([2, 4], tf.bool)},
    "must be 4 blocks": {"product": tf.zeros([2, 3, 7]), "beside": None, "blocks": [1, 0, 2, 3]},
    "blocks of the cell 'sru' must be 3 numbers": {"blocks": [0, 1, 2, 3],
                                                   "product": tf.zeros([2, 3, 16])},
    "blocks must be the numbers from 0 to 2": {"blocks": [0, 1, 1]},
    "the highway, which has no bias, must be the last": {
        "product": tf.zeros([2, 3, 16]), "beside": None, "blocks": [1, 3, 2, 0]
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [{"num_states": 2}, {"num_states": 1, "cell": "gilr"}, {"beside": [tf.zeros([2, 3, 4])]}],
)
def test_what_a_cell_does_not_have(wrong):
    arguments = {
        "product": tf.zeros([2, 3, 8]), "bias": [], "beside": [], "initial_state": [], "mask": [],
        "num_states": 0, "cell": "f", "blocks": [0, 1], **wrong,
    }  # fmt: skip
    with pytest.raises(tf.errors.InvalidArgumentError, match="is not one that the cell"):
        tf_plr.load_library().tf_plr_gated_recurrence(**arguments)


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


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, known):
    arguments = {
        "product": tf.zeros([2, 3, 12]), "bias": tf.zeros([12]), "beside": tf.zeros([2, 3, 4]),
        "initial_state": tf.zeros([2, 4]), "mask": tf.ones([2, 3], tf.bool), "cell": "sru",
        "blocks": [1, 0, 2], "keep_states": True, "algorithm": "auto", **BAD[message],
    }  # fmt: skip
    names = [n for n, value in arguments.items() if tf.is_tensor(value)]

    def run(*tensors):
        return gated_recurrence(**{**arguments, **dict(zip(names, tensors, strict=True))})

    tensors = [arguments[name] for name in names]
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match=message):
        if known:
            run(*tensors)
        else:
            signature = [tf.TensorSpec(None, t.dtype) for t in tensors]
            tf.function(run, input_signature=signature)(*tensors)


@pytest.mark.parametrize("shape", [(0, 5, 4), (3, 0, 4), (3, 5, 0), (0, 2**20, 4), (0, 0, 0)])
def test_empty(mode, shape):
    batch, steps, units = shape

    def run(product, initial_state):
        with tf.GradientTape() as tape:
            tape.watch([product, initial_state])
            outputs, last = gated_recurrence(
                product, None, None, initial_state, None,
                cell="ifo", blocks=[0, 1, 2, 3], keep_states=True, algorithm="auto",
            )  # fmt: skip
            loss = tf.reduce_sum(outputs) + tf.reduce_sum(last)
        return outputs, last, *tape.gradient(loss, [product, initial_state])

    initial_state = tf.ones([batch, units])
    outputs, last, d_product, d_state = call(
        run, [tf.zeros([batch, steps, 4 * units]), initial_state], mode
    )
    assert outputs.shape == shape and d_product.shape == (batch, steps, 4 * units)
    np.testing.assert_array_equal(last, initial_state)
    np.testing.assert_array_equal(d_state, initial_state)


def test_shapes_that_no_tensor_has():
    def run(product):
        return gated_recurrence(
            product, None, None, None, None, cell="gilr", blocks=[0, 1], keep_states=False,
            algorithm="auto",
        )  # fmt: skip

    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        run(tf.zeros([2**40, 0, 2**24]))  # The last state would be too large.
    assert run(tf.zeros([0, 2**40, 2**40]))[0].shape == (0, 2**40, 2**39)


def test_every_layer_has_a_test():
    """So that a new one is not forgotten here."""
    made = {type(make()) for make, _ in FUSED.values()}
    assert made == set(LAYERS)
