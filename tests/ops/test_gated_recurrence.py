# SPDX-License-Identifier: MIT
"""The fused op against the unfused function in float64."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from reference import UNIT_ROUNDOFF
from support import MODES, call
from tensorflow.python.framework import op_def_registry

from tf_plr._native.library import load_ops
from tf_plr._ops.arguments import GATED_DTYPES as DTYPES
from tf_plr._ops.gated_recurrence import (
    ACTIVATIONS,
    GATES,
    Parts,
    gated_recurrence,
    unfused_gated_recurrence,
)

# Those that have kernels of their own on a GPU; then every other kind of cell and every function.
# (In 16 bits, the gradient of a state's relu is not continuous in its rounding.)
CELLS = {
    "GILR": Parts("state", "elu"),
    "surrogate": Parts("previous"),
    "fo": Parts("gated"),
    "ifo": Parts("gated", input_gate="own"),
    "SRU": Parts("highway", "linear"),
    "SRU, tanh": Parts("highway", "linear", "tanh"),
    "f": Parts("state"),
    "MinGRU": Parts("state", "linear"),
    "silu": Parts("previous", "silu"),
    "gelu, hard gates": Parts("gated", "gelu", "tanh", "hard_sigmoid"),
    "gelu_tanh": Parts("highway", "gelu_tanh", "softplus"),
    "own, relu": Parts("state", "relu", input_gate="own"),
    "own, softplus": Parts("previous", "softplus", input_gate="own"),
    "own, sigmoid": Parts("gated", "sigmoid", "silu", input_gate="own"),
    "own, hard gates": Parts("highway", "tanh", "gelu", "hard_sigmoid", "own"),
}

# One step; one column; full and partial vectors of columns; many steps: full and partial tiles.
SHAPES = [(1, 1, 3), (3, 5, 2), (2, 37, 10), (1, 300, 33), (5, 140, 64)]
FEATURES = 3  # Columns of a prefix.


def draw(rng, cell, shape, dtype, extras):
    """Draws (arguments, keywords); arguments are float64 arrays that are exact in `dtype`."""
    batch, steps, units = shape
    parts = CELLS[cell] if isinstance(cell, str) else cell
    gated = parts.output in ("gated", "highway")
    highway_block = parts.output == "highway" and not extras
    count = 2 + (parts.input_gate == "own") + gated
    blocks = [int(i) for i in rng.permutation(count)] + [count] * highway_block

    def normal(*shape, dtype=dtype):
        return np.array(tf.cast(rng.normal(size=shape), dtype), np.float64)

    has_highway = parts.output == "highway" and not highway_block
    has_prefix = parts.output == "previous" and extras
    arguments = {
        "product": normal(batch, steps, len(blocks) * units),
        "bias": normal(count * units, dtype="float32") if extras else None,
        "highway": normal(batch, steps, units) if has_highway else None,
        "prefix": normal(batch, steps, FEATURES) if has_prefix else None,
        "initial_state": normal(batch, units, dtype="float32") if extras else None,
        "mask": rng.random((batch, steps)) < 0.7 if extras else None,
    }
    return arguments, {"parts": parts, "blocks": blocks, "hold": extras, "algorithm": "auto"}


def as_tensors(arguments, dtype):
    """Converts the arguments; for dtype "float64", to those of `unfused_gated_recurrence`."""
    dtypes = {"bias": "float32", "initial_state": "float32", "mask": "bool"}
    if dtype == "float64":
        dtypes = {"mask": "bool"}
    return {
        name: None if value is None else tf.constant(value, dtypes.get(name, dtype))
        for name, value in arguments.items()
    }


def results(function, tensors, **keywords):
    """[outputs, last state, *gradients of a weighted sum with respect to all operands]."""
    operands = [t for name, t in tensors.items() if t is not None and name != "mask"]
    with tf.GradientTape() as tape:
        tape.watch(operands)
        outputs, last = function(**tensors, **keywords)
        # Weights of both signs and few bits, so that every dtype represents them exactly.
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
        # A stored value is rounded once, a state several times at each step. The bias' gradient is
        # the sum, over batch x steps rows, of the gradient with respect to the product.
        roundings = 16 * UNIT_ROUNDOFF[dtype] + 8 * shape[1] * UNIT_ROUNDOFF["float32"]
        for algorithm, keep_states in (("parallel", True), ("serial", False), ("auto", True)):
            keywords["algorithm"] = algorithm
            actual = results(gated_recurrence, tensors, keep_states=keep_states, **keywords)
            for a, e in zip(actual, expected, strict=True):
                scale = np.abs(e).max()
                if e.ndim == 1:
                    scale = np.sqrt(shape[0] * shape[1]) * np.abs(expected[2]).max()
                    assert scale == 0 or np.abs(e).max() > roundings * scale  # Zeros must not pass.
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
                        # Not `** 2`, whose third derivative at 0 is NaN.
                        loss = tf.reduce_sum(tf.square(outputs)) + tf.reduce_sum(tf.square(last))
                    first = inner.gradient(loss, operands)
                    norm = tf.add_n([tf.reduce_sum(tf.square(g)) for g in first])
                second = middle.gradient(norm, operands)
                norm = tf.add_n([tf.reduce_sum(tf.square(g)) for g in second])
            found = [*first, *second, *outer.gradient(norm, operands)]
            return found

        fused = lambda **k: gated_recurrence(keep_states=True, **k)  # noqa: E731
        for actual, expected in zip(
            third(fused, "float32"), third(unfused_gated_recurrence, "float64"), strict=True
        ):
            scale = np.abs(expected).max()
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4 * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_masked_steps_change_nothing(rng, cell, dtype):
    """Not one bit of the state, and their gradients are exactly zero."""
    for shape in ((2, 40, 6), (3, 300, 64)):
        arguments, keywords = draw(rng, cell, shape, dtype, True)
        arguments["mask"][:2] = False
        tensors = as_tensors(arguments, dtype)
        found = results(gated_recurrence, tensors, keep_states=True, **keywords)
        np.testing.assert_array_equal(found[1][:2], arguments["initial_state"][:2])
        assert np.all(np.asarray(found[2])[~arguments["mask"]] == 0)
        tensors["initial_state"] = None  # Zeros stay zeros.
        last = gated_recurrence(**tensors, keep_states=False, **keywords)[1]
        assert np.all(np.asarray(last)[:2] == 0)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_masked_inputs_may_be_nan(rng, cell, dtype):
    arguments, keywords = draw(rng, cell, (2, 40, 6), dtype, True)

    def run():
        tensors = as_tensors(arguments, dtype)
        return results(gated_recurrence, tensors, keep_states=True, **keywords)

    def second():
        tensors = as_tensors(arguments, dtype)
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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_extreme_values(cell, dtype):
    """Very large values, infinities and NaN have the effect that they have without fusion."""
    extreme = [-np.inf, -1e4, -100, -88, -30, -3, 0, 3, 30, 88, 100, 1e4, np.inf, np.nan]
    parts = CELLS[cell]
    count = 2 + (parts.input_gate == "own") + (parts.output in ("gated", "highway"))
    others = len(extreme)
    product = np.full((1, 4, count, count, others), 0.5)
    for block in range(count):  # The extremes in one block at a time, at the second step.
        product[0, 1, block, block] = extreme
    product = product.reshape(1, 4, -1)
    highway = np.ones((1, 4, count * others)) if parts.output == "highway" else None
    given = {"product": product, "bias": None, "highway": highway, "prefix": None}
    given |= {"initial_state": None, "mask": None}
    keywords = {"parts": parts, "blocks": list(range(count)), "algorithm": "auto"}
    expected = unfused_gated_recurrence(**as_tensors(given, "float64"), **keywords)
    actual = gated_recurrence(**as_tensors(given, dtype), keep_states=False, **keywords)
    for a, e in zip(actual, expected, strict=True):
        e = np.array(tf.cast(tf.cast(e, a.dtype), tf.float64))  # float16 overflows.
        np.testing.assert_allclose(tf.cast(a, tf.float64), e, rtol=16 * UNIT_ROUNDOFF[dtype],
                                   atol=16 * UNIT_ROUNDOFF[dtype])  # fmt: skip


@pytest.mark.parametrize("of_one", [False, True], ids=["biases", "one_bias"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("cell", CELLS)
def test_vectorized_map(rng, cell, dtype, of_one):
    """A vectorized map gives the values and gradients of a loop; tests both converters."""
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
            product, bias, None, None, None, None, parts=Parts("state"), blocks=[0, 1],
            keep_states=True, algorithm="auto",
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
    """It sums d_product over several chunks of rows, in float32, before or after rounding it."""
    arguments, keywords = draw(rng, "ifo", (5, 140, 34), dtype, True)
    found = results(gated_recurrence, as_tensors(arguments, dtype), keep_states=True, **keywords)
    _, _, d_product, d_bias, _ = found
    d_product = np.array(tf.cast(d_product, tf.float64))
    bound = 700 * UNIT_ROUNDOFF["float32"] + UNIT_ROUNDOFF[dtype]
    bound *= np.abs(d_product).sum((0, 1)).max()
    np.testing.assert_allclose(d_bias, d_product.sum((0, 1)), rtol=0, atol=bound)


# ---- Bad input ----

BAD = {
    "product must have shape": {"product": tf.zeros([3, 8])},
    "bias must have shape": {"bias": tf.zeros([5])},
    "highway must have shape": {"highway": tf.zeros([2, 3, 5])},
    "initial_state must have shape": {"initial_state": tf.zeros([2, 5])},
    "mask must have shape": {"mask": tf.zeros([2, 4], tf.bool)},
    "must be 4 blocks": {
        "product": tf.zeros([2, 3, 7]), "highway": None, "blocks": [1, 0, 2, 3]
    },
    "blocks must be 3 numbers for a cell of these parts": {
        "blocks": [0, 1, 2, 3], "product": tf.zeros([2, 3, 16])
    },
    "blocks must be the numbers from 0 to 2": {"blocks": [0, 1, 1]},
    "the highway, which has no bias, must be the last": {
        "product": tf.zeros([2, 3, 16]), "highway": None, "blocks": [1, 3, 2, 0]
    },
}  # fmt: skip


NATIVE = {
    "product": tf.zeros([2, 3, 8]), "bias": [], "highway": [], "prefix": [], "initial_state": [],
    "mask": [], "resets": [], "num_states": 0, "blocks": [0, 1], **Parts("state")._asdict(),
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_states": 1}, "states must not be given if output is 'state'"),
        ({"highway": [tf.zeros([2, 3, 4])]}, "highway must not be given if output is 'state'"),
        ({"prefix": [tf.zeros([2, 3, 4])]}, "prefix must not be given if output is 'state'"),
        ({"state_activation": "tanh"}, "state_activation must be 'linear' if output is 'state'"),
        ({"activation": "selu"}, "activation"),
    ],
)
def test_what_does_not_fit_the_parts(wrong, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        load_ops().tf_plr_gated_recurrence(**{**NATIVE, **wrong})


def test_the_ops_have_the_functions_of_the_table():
    """The names in Python are those of the native list."""
    load_ops()
    definition = op_def_registry.get("TfPlr>GatedRecurrence")
    allowed = {
        a.name: {tf.compat.as_str(v) for v in a.allowed_values.list.s} for a in definition.attr
    }
    assert allowed["activation"] == allowed["state_activation"] == set(ACTIVATIONS)
    assert allowed["recurrent_activation"] == set(GATES)


def test_more_states_than_one():
    with pytest.raises(tf.errors.InvalidArgumentError, match="states must be at most one tensor"):
        load_ops().tf_plr_gated_recurrence(**{**NATIVE, "num_states": 2})


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("message", BAD)
def test_bad_input(message, known):
    arguments = {
        "product": tf.zeros([2, 3, 12]), "bias": tf.zeros([12]), "prefix": None,
        "highway": tf.zeros([2, 3, 4]), "initial_state": tf.zeros([2, 4]),
        "mask": tf.ones([2, 3], tf.bool), "parts": CELLS["SRU"], "blocks": [1, 0, 2],
        "keep_states": True, "algorithm": "auto", **BAD[message],
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
                product, None, None, None, initial_state, None,
                parts=CELLS["ifo"], blocks=[0, 1, 2, 3], keep_states=True, algorithm="auto",
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
            product, None, None, None, None, None, parts=CELLS["GILR"], blocks=[0, 1],
            keep_states=False, algorithm="auto",
        )  # fmt: skip

    with pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        run(tf.zeros([2**40, 0, 2**24]))  # The last state would be too large.
    assert run(tf.zeros([0, 2**40, 2**40]))[0].shape == (0, 2**40, 2**39)
