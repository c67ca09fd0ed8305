# SPDX-License-Identifier: MIT
"""Each mistake: its error, and that the message names the argument and both sides."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tf_plr

ONES = tf.ones([4, 3])

MISTAKES = {
    "shapes differ": (
        dict(decays=tf.ones([4, 2])), ValueError, r"decays.*\(4, 2\).*impulses.*\(4, 3\)"),
    "broadcastable shapes": (
        dict(decays=tf.ones([4, 1])), ValueError, r"decays.*\(4, 1\).*impulses.*\(4, 3\)"),
    "ranks differ": (
        dict(decays=tf.ones([4])), ValueError, r"decays.*\(4,\).*impulses.*\(4, 3\)"),
    "dtypes differ": (
        dict(impulses=tf.ones([4, 3], tf.float64)), TypeError,
        "impulses must have the dtype of decays, float32, but has float64"),
    "integers": (
        dict(decays=tf.ones([4, 3], tf.int32), impulses=tf.ones([4, 3], tf.int32)),
        TypeError, "decays must have a dtype among .*but has int32"),
    "strings": (dict(decays="a"), TypeError, "decays must have a dtype among .*but has string"),
    "scalars": (
        dict(decays=1.0, impulses=1.0), ValueError, "decays.* at least one axis, but are scalars"),
    "axis too large": (dict(axis=2), ValueError, r"axis must be in \[-2, 2\).*is 2"),
    "axis too small": (dict(axis=-3), ValueError, r"axis must be in \[-2, 2\).*is -3"),
    "axis not an integer": (dict(axis=0.5), TypeError, "axis must be an integer, but is 0.5"),
    "initial_state with axis": (
        dict(initial_state=ONES), ValueError, r"initial_state.*\(3,\).*\(4, 3\)"),
    "initial_state broadcastable": (
        dict(initial_state=tf.ones([1])), ValueError, r"initial_state.*\(3,\).*\(1,\)"),
    "initial_state dtype": (
        dict(initial_state=tf.ones([3], tf.float64)), TypeError,
        "initial_state must have the dtype of decays, float32, but has float64"),
    "ragged": (
        dict(impulses=tf.ragged.constant([[1.0], [2.0, 3.0]])), TypeError,
        "impulses must be a dense tensor, but is a RaggedTensor"),
    "sparse": (
        dict(decays=tf.sparse.from_dense(ONES)), TypeError,
        "decays must be a dense tensor, but is a SparseTensor"),
    "no algorithm": (dict(algorithm=None), ValueError, "algorithm must be one of .*but is None"),
    "reverse not a bool": (
        dict(reverse="no"), TypeError, "reverse must be True or False, but is 'no'"),
    "unknown algorithm": (
        dict(algorithm="fast"), ValueError, "algorithm must be one of .*but is 'fast'"),
}  # fmt: skip


@pytest.mark.parametrize("algorithm", ["auto", "composed"])
@pytest.mark.parametrize("graph", [False, True])
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES.keys())
def test_op(mistake, graph, algorithm):
    wrong, error, message = mistake
    arguments = {"decays": ONES, "impulses": ONES, "algorithm": algorithm, **wrong}

    def call():
        return tf_plr.linear_recurrence(**arguments)

    with pytest.raises(error, match=message):
        (tf.function(call) if graph else call)()


UNKNOWN = tf.TensorSpec(None)


@pytest.mark.parametrize("algorithm", ["auto", "parallel", "serial", "composed"])
@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ([(4, 2), (4, 3), (3,)], "decays|impulses"),
        ([(4, 1), (4, 3), (3,)], "decays|impulses"),
        ([(4, 3), (4, 3), (1,)], "initial_state"),
        ([(4, 3), (4, 3), (4, 3)], "initial_state"),
    ],
)
def test_op_finds_wrong_shapes_at_run_time(shapes, message, algorithm):
    @tf.function(input_signature=[tf.TensorSpec([None, None]), *[tf.TensorSpec(None)] * 2])
    def states(a, x, h):
        return tf_plr.linear_recurrence(a, x, h, algorithm=algorithm)

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        states(*map(tf.ones, shapes))


@pytest.mark.parametrize("shape", [(), (3,)])
def test_op_finds_a_wrong_axis_at_run_time(shape):
    @tf.function(input_signature=[tf.TensorSpec(None)] * 2)
    def states(a, x):
        return tf_plr.linear_recurrence(a, x, axis=1)

    with pytest.raises(tf.errors.InvalidArgumentError, match=r"at least one axis|axis must be in"):
        states(tf.ones(shape), tf.ones(shape))


LAYERS = [tf_plr.GILR, tf_plr.GILRLSTM, tf_plr.SRU, tf_plr.QRNN]


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(units=0), ValueError, "units must be a positive integer, but is 0"),
        (dict(units=-3), ValueError, "units must be a positive integer, but is -3"),
        (dict(units=2.5), ValueError, "units must be a positive integer, but is 2.5"),
        (dict(units=2, algorithm="fast"), ValueError, "algorithm must be one of .*'fast'"),
        (dict(units=2, unroll=True), ValueError, "unroll must be False"),
        (dict(units=2, dropout="x"), ValueError, r"dropout must be in \[0, 1\), but is 'x'"),
        (dict(units=2, dropout=1.5), ValueError, r"dropout must be in \[0, 1\), but is 1.5"),
        (dict(units=2, activation="tahn"), ValueError, "tahn"),
        (dict(units=2, unit=3), (TypeError, ValueError), "unit"),
        ({}, TypeError, "units"),
    ],
)
def test_layer_arguments(layer, arguments, error, message):
    with pytest.raises(error, match=message):
        layer(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(kernel_size=0), "kernel_size must be a positive integer, but is 0"),
        (dict(kernel_size=-1), "kernel_size must be a positive integer, but is -1"),
        (dict(pooling="max"), "pooling must be one of .*but is 'max'"),
    ],
)
def test_qrnn_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        tf_plr.QRNN(4, **arguments)


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_inputs(layer):
    with pytest.raises(ValueError, match=r"expected ndim=3, found ndim=2"):
        layer(4)(tf.ones([2, 5]))
    for mask, error, message in [
        (np.ones([2, 4], bool), ValueError, r"mask must have shape \(2, 5\).*\(2, 4\)"),
        (np.ones([5], bool), ValueError, r"mask must have shape \(2, 5\).*\(5,\)"),
        (np.ones([2, 5], "float32"), TypeError, "mask must be boolean, but has dtype.*float32"),
    ]:
        with pytest.raises(error, match=message):
            layer(4)(tf.ones([2, 5, 3]), mask=tf.constant(mask))


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_initial_state(layer):
    made = layer(4)
    states = made(tf.ones([2, 5, 3])) is not None and made.get_initial_state(2)
    with pytest.raises(
        ValueError, match=f"initial_state must be .*{len(states)}.*{len(states) + 1}"
    ):
        made(tf.ones([2, 5, 3]), initial_state=[*states, states[0]])
    with pytest.raises(ValueError, match=r"initial_state\[0\] must have shape \(2, 4\).*\(2, 7\)"):
        made(tf.ones([2, 5, 3]), initial_state=[tf.ones([2, 7]), *states[1:]])
    with pytest.raises(ValueError, match=r"initial_state\[0\] must have shape \(2, 4\).*\(3, 4\)"):
        made(tf.ones([2, 5, 3]), initial_state=[tf.ones([3, 4]), *states[1:]])


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize("layer", LAYERS)
def test_shapes_that_only_the_running_graph_knows(layer, jit_compile):
    made = layer(4)
    x = tf.ones([2, 5, 3])
    made(x)
    unknown = tf.TensorSpec([None, None, 3])
    masked = tf.function(
        lambda x, mask: made(x, mask=mask),
        input_signature=[unknown, tf.TensorSpec([None, None], tf.bool)],
        jit_compile=jit_compile,
    )
    assert masked(x, tf.ones([2, 5], tf.bool)).shape == [2, 4]
    for shape in ([1, 5], [2, 1], [2, 6], [3, 5]):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"mask.must.have.the"):
            masked(x, tf.ones(shape, tf.bool))
    states = made.get_initial_state(2)
    continued = tf.function(
        lambda x, *states: made(x, initial_state=list(states)),
        input_signature=[unknown, *[tf.TensorSpec([None, None])] * len(states)],
        jit_compile=jit_compile,
    )
    assert continued(x, *states).shape == [2, 4]
    for i in range(len(states)):
        wrong = [*states[:i], states[i][:1], *states[i + 1 :]]
        with pytest.raises(tf.errors.InvalidArgumentError, match=rf"initial_state.{i}.*must.have"):
            continued(x, *wrong)


@pytest.mark.parametrize("layer", LAYERS)
def test_layer_states_that_are_no_states(layer):
    made = layer(4)
    x = tf.ones([2, 5, 3])
    made(x)
    states = made.get_initial_state(2)
    nothing = [None] * len(states)
    for wrong in ([], nothing, "zeros", ["zeros"] * len(states), {"c": states[0]}):
        with pytest.raises((TypeError, ValueError), match="initial_state"):
            made(x, initial_state=wrong)
    for wrong in ([*states, states[0]], states[0], [state[:1] for state in states]):
        with pytest.raises(ValueError, match="states"):
            made.cell(x[:, 0], wrong)


def test_layer_features():
    made = tf_plr.GILR(4)
    with pytest.raises(ValueError, match="inputs must have a known number of features"):
        made(keras.Input((None, None)))
    made(tf.ones([2, 5, 3]))
    with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 3"):
        made(tf.ones([2, 5, 7]))


def test_arguments_that_are_no_tensors():
    for wrong in (None, object(), [[1.0], [1.0, 2.0]]):
        with pytest.raises((TypeError, ValueError), match="decays must be a tensor"):
            tf_plr.linear_recurrence(wrong, tf.ones([3]))
        with pytest.raises((TypeError, ValueError), match="impulses must be a tensor"):
            tf_plr.linear_recurrence(tf.ones([3]), wrong)


@pytest.mark.parametrize("layer", LAYERS)
def test_stateful_layers(layer):
    with pytest.raises(ValueError, match="batch size must be static"):
        keras.Sequential([keras.Input((None, 3)), layer(4, stateful=True)])
    made = layer(4, stateful=True)
    made(tf.ones([2, 5, 3]))
    with pytest.raises(ValueError, match="batch size"):
        made(tf.ones([3, 5, 3]))
    unknown = tf.function(made, input_signature=[tf.TensorSpec([None, None, 3])])
    with pytest.raises(tf.errors.InvalidArgumentError, match="kept states of a stateful layer"):
        unknown(tf.ones([3, 5, 3]))


def test_another_keras_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for layer in LAYERS:
        with pytest.raises(RuntimeError, match="TensorFlow backend, but the backend is 'jax'"):
            layer(4)
