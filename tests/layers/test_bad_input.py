# SPDX-License-Identifier: MIT
"""Each mistake raises an error that names the argument, what was expected, and what came."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import LAYERS, call

import tf_plr

ONES = tf.ones([4, 3])

MISTAKES = {
    "shapes differ": (
        dict(decays=tf.ones([4, 2])), ValueError, r"decays.*\(4, 2\).*impulses.*\(4, 3\)"),
    "impulses that broadcast": (
        dict(impulses=tf.ones([4, 1])), ValueError, r"decays.*\(4, 3\).*impulses.*\(4, 1\)"),
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
        ([(4, 3), (4, 1), (1,)], "decays|impulses"),
        ([(4, 3), (1, 4, 3), (1, 3)], "decays|impulses"),
        ([(4, 3), (4, 3), (1,)], "initial_state"),
        ([(4, 3), (4, 3), (4, 3)], "initial_state"),
        ([(3, 3), (3, 3), (3, 3)], "initial_state"),
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


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (dict(units=0), ValueError, "units must be a positive integer, but is 0"),
        (dict(units=-3), ValueError, "units must be a positive integer, but is -3"),
        (dict(units=2.5), ValueError, "units must be a positive integer, but is 2.5"),
        (dict(units=2, algorithm="fast"), ValueError, "algorithm must be one of .*'fast'"),
        (dict(units=2, unroll=False), ValueError, "takes no argument 'unroll': leave it out"),
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


def test_layer_inputs(layer):
    with pytest.raises(ValueError, match="return_sequences=True"):
        layer(4)(tf.ones([2, 5]))
    for name in ("mask", "resets"):
        for flags, error, message in [
            (np.ones([2, 4], bool), ValueError, r"must have shape \(2, 5\).*\(2, 4\)"),
            (np.ones([5], bool), ValueError, r"must have shape \(2, 5\).*\(5,\)"),
            (np.ones([2, 5], "float32"), TypeError, "must be boolean, but has dtype.*float32"),
        ]:
            with pytest.raises(error, match=f"{name} {message}"):
                layer(4)(tf.ones([2, 5, 3]), **{name: tf.constant(flags)})


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
def test_shapes_that_only_the_running_graph_knows(layer, jit_compile):
    made = layer(4)
    x = tf.ones([2, 5, 3])
    made(x)
    unknown = tf.TensorSpec([None, None, 3])
    for name in ("mask", "resets"):
        with_flags = tf.function(
            lambda x, flags, name=name: made(x, **{name: flags}),
            input_signature=[unknown, tf.TensorSpec([None, None], tf.bool)],
            jit_compile=jit_compile,
        )
        assert with_flags(x, tf.ones([2, 5], tf.bool)).shape == [2, 4]
        for shape in ([1, 5], [2, 1], [2, 6], [3, 5]):
            with pytest.raises(tf.errors.InvalidArgumentError, match=rf"{name}.must.have.the"):
                with_flags(x, tf.ones(shape, tf.bool))
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


def test_layer_states_that_are_no_states(layer):
    made = layer(4)
    x = tf.ones([2, 5, 3])
    made(x)
    states = made.get_initial_state(2)
    nothing = [None] * len(states)
    for wrong in ([], nothing, "zeros", ["zeros"] * len(states), {"c": states[0]}):
        with pytest.raises((TypeError, ValueError), match="initial_state"):
            made(x, initial_state=wrong)
    with pytest.raises(ValueError, match=r"initial_state\[0\] must have shape"):
        made(x, initial_state=[tf.constant(1.0), *states[1:]])
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


def test_stateful_layers(layer):
    with pytest.raises(ValueError, match="batch size must be static"):
        keras.Sequential([keras.Input((None, 3)), layer(4, stateful=True)])
    made = layer(4, stateful=True)
    made(tf.ones([2, 5, 3]))
    with pytest.raises(ValueError, match="batch size"):
        made(tf.ones([3, 5, 3]))
    unknown = tf.function(made, input_signature=[tf.TensorSpec([None, None, 3])])
    with pytest.raises(tf.errors.InvalidArgumentError, match="is_stateful_and_keeps_the_states"):
        unknown(tf.ones([3, 5, 3]))


def test_another_keras_backend(monkeypatch):
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    for layer in LAYERS:
        with pytest.raises(RuntimeError, match="TensorFlow backend, but the backend is 'jax'"):
            layer(4)


EMPTY = {  # {name: (shape, axis)}: no elements, but products of axes overflow.
    "two to the 80": ([0, 2**40, 2**40], 0),
    "two to the 63": ([0, 2**33, 2**30], 0),
    "two to the 63 again": ([0, 2**32, 2**31], 0),
    "three times two to the 62": ([0, 2**62, 3], 0),
    "many columns": ([0, 2**34], 0),
    "more columns": ([0, 2**40], 0),
    "many rows of no steps": ([2**40, 0], 1),
    "many steps of nothing": ([0, 2**40], 1),
    "everything": ([2**40, 2**20, 0, 2**40], 1),
}


@pytest.mark.parametrize(("shape", "axis"), EMPTY.values(), ids=EMPTY.keys())
def test_empty_tensors_with_huge_axes(shape, axis, mode):
    def states_and_gradients(a):
        with tf.GradientTape() as tape:
            tape.watch(a)
            states = tf_plr.linear_recurrence(a, a, axis=axis)
        # TensorFlow's own ones_like does not take such shapes.
        return states, tape.gradient(states, a, output_gradients=states)

    def with_wrong_initial_state(a, state):
        return tf_plr.linear_recurrence(a, a, state, axis=axis)

    for result in call(states_and_gradients, [tf.zeros(shape)], mode):
        assert result.shape == shape
    with pytest.raises((tf.errors.InvalidArgumentError, ValueError), match="initial_state must"):
        call(with_wrong_initial_state, [tf.zeros(shape), tf.zeros([3])], mode)


@pytest.mark.parametrize("algorithm", ["auto", "parallel", "serial"])
def test_no_steps_but_an_initial_state(algorithm, mode):
    def gradients(a, state):
        with tf.GradientTape() as tape:
            tape.watch(state)
            states = tf_plr.linear_recurrence(a, a, state, axis=1, algorithm=algorithm)
        return states, tape.gradient(states, state)

    states, by_state = call(gradients, [tf.zeros([2, 0, 3]), tf.ones([2, 3])], mode)
    assert states.shape == [2, 0, 3]
    np.testing.assert_array_equal(by_state, np.zeros((2, 3)))


def test_reverse_from_numpy():
    states = tf_plr.linear_recurrence(tf.ones([3]), tf.ones([3]), reverse=np.True_)
    np.testing.assert_array_equal(states, [3, 2, 1])


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (float("nan"), ValueError, "forget_bias must be finite, but is nan"),
        (float("inf"), ValueError, "forget_bias must be finite, but is inf"),
        (True, TypeError, "forget_bias must be a number or an initializer, but is True"),
        ([1.0], TypeError, "forget_bias must be a number or an initializer"),
        ("none such", ValueError, "none such"),
    ],
)
def test_forget_bias(layer, value, error, message):
    with pytest.raises(error, match=message):
        layer(4, forget_bias=value)


@pytest.mark.parametrize("argument", ["forget_bias", "input_bias", "bias_initializer"])
def test_initializers_of_a_wrong_shape(argument):
    made = tf_plr.GILRLSTM(4, **{argument: lambda shape, dtype: tf.zeros([7], dtype)})
    message = rf"{argument} must be an initializer that gives shape \((4|24),\).*but gave \(7,\)"
    with pytest.raises(ValueError, match=message):
        made(tf.ones([2, 5, 3]))


def test_other_arguments_of_layers():
    with pytest.raises(ValueError, match='"coupled" or "normalized", but is \'Normalized\''):
        tf_plr.GILRLSTM(4, input_bias="Normalized")
    with pytest.raises(ValueError, match=r"input_bias is 1, but only pooling=\"ifo\""):
        tf_plr.QRNN(4, input_bias=1)
    with pytest.raises(ValueError, match="input_dim must be a positive integer, but is 0"):
        tf_plr.QRNNCell(4, input_dim=0)
    with pytest.raises(ValueError, match="input_dim is 7, but inputs have 3 features"):
        tf_plr.QRNNCell(4, input_dim=7).build((2, 3))
    with pytest.raises(ValueError, match="QRNN takes no argument 'input_dim': leave it out"):
        tf_plr.QRNN(4, input_dim=3)
    with pytest.raises(TypeError):  # After units, only `activation` is positional.
        tf_plr.QRNN(4, "tanh", 2)
    for of in (tf_plr.initializers.Chrono, tf_plr.initializers.TimeScales):
        for steps in (0.5, float("nan"), -5, float("inf")):
            with pytest.raises(
                ValueError, match=r"max_steps must be finite and at least [12], but"
            ):
                of(steps)
        for steps in ([3], "zeros", True):
            with pytest.raises(TypeError, match="max_steps must be a number"):
                of(steps)


# {argument that the layers do not have: what the error says}.
NOT_HERE = {
    "unit_forget_bias": "pass forget_bias, a number or an initializer",
    "use_cudnn": "leave it out",
    "batch_shape": r"keras\.Input",
    "implementation": "leave it out",
    "recurrent_dropout": "pass dropout, of the inputs; only GILRLSTM",
    "recurrent_initializer": "leave it out: .*no recurrent_kernel",
    "time_major": "leave it out",
    "unitz": "did you mean units",
    "return_sequnces": "did you mean return_sequences",
    "max_steps": r"TimeScales\(max_steps\)",
    "none_such": "",
}


@pytest.mark.parametrize("name", NOT_HERE)
def test_arguments_of_other_layers(layer, name):
    if name.startswith("recurrent") and layer is tf_plr.GILRLSTM:
        return  # It takes these.
    with pytest.raises(ValueError, match=f"{layer.__name__} takes no .*'{name}'.*{NOT_HERE[name]}"):
        layer(4, **{name: 1})
    if not name.startswith(("unitz", "none", "return")):
        cell = layer.cell_class
        with pytest.raises(ValueError, match=f"{cell.__name__} takes no argument '{name}'"):
            cell(4, **{name: 1})


SEQUENCES = {  # {name: (inputs that are no real sequences, error, message)}.
    "complex": (tf.ones([2, 5, 3], tf.complex64), TypeError, "sequences must be real, .*complex64"),
    "strings": (tf.fill([2, 5, 3], "a"), TypeError, "must be numbers, .*TextVectorization"),
    "ragged": (tf.RaggedTensor.from_row_lengths(tf.ones([5, 3]), [2, 3]), TypeError, "are ragged"),
    "sparse": (tf.sparse.from_dense(tf.ones([2, 5, 3])), TypeError, "are sparse"),
    "no axis of time": (tf.ones([2, 3]), ValueError, r"\(2, 3\): .*return_sequences=True"),
    "a complex input": (
        keras.Input((5, 3), dtype="complex64"), TypeError, "sequences must be real, .*complex64"),
    "an input of strings": (keras.Input((5, 3), dtype="string"), TypeError, "must be numbers"),
    "a ragged input": (keras.Input((5, 3), ragged=True), TypeError, "are ragged"),
}  # fmt: skip


@pytest.mark.parametrize("name", SEQUENCES)
def test_sequences_that_are_no_sequences_of_numbers(layer, name):
    wrong, error, message = SEQUENCES[name]
    with pytest.raises(error, match=message):
        layer(4)(wrong)
    built = layer(4)
    built(tf.ones([2, 5, 3]))
    with pytest.raises(error, match=message):
        built(wrong)


def test_complex_numbers_of_other_arguments(layer):
    made, x = layer(4), tf.ones([2, 5, 3])
    made(x)
    states = made.get_initial_state(2)
    for i in range(len(states)):
        wrong = [tf.cast(s, "complex64") if i == j else s for j, s in enumerate(states)]
        with pytest.raises(TypeError, match=rf"initial_state\[{i}\] must be real"):
            made(x, initial_state=wrong)
        with pytest.raises(TypeError, match=rf"states\[{i}\] must be real"):
            made.cell(x[:, 0], wrong)
    with pytest.raises(TypeError, match="inputs must be real"):
        made.cell(tf.cast(x[:, 0], "complex64"), states)


def test_a_number_of_steps_as_a_bias(layer):
    with pytest.warns(UserWarning, match=r"forget_bias=1000 is a memory .*TimeScales\(T\)"):
        layer(4, forget_bias=1000)


@pytest.mark.parametrize("dtype", ["float32", "int32"])
@pytest.mark.parametrize("name", ["mask", "resets"])
def test_flags_of_numbers(layer, name, dtype):
    with pytest.raises(TypeError, match=rf"has dtype {dtype}: pass tf.cast\({name}, tf.bool\)"):
        layer(4)(tf.ones([2, 5, 3]), **{name: tf.ones([2, 5], dtype)})


def test_cells_have_no_resets(layer):
    cell = layer.cell_class(4)
    with pytest.raises(TypeError, match="resets"):
        cell(tf.ones([2, 3]), [tf.ones([2, 4])] * 2, resets=tf.ones([2], tf.bool))


def test_stateful_with_another_batch_size(layer):
    message = "stateful and keeps the states of 2 sequences, so each batch must have as many"
    made = layer(4, stateful=True)
    made(tf.ones([2, 5, 3]))
    with pytest.raises(ValueError, match=message):
        made(tf.ones([1, 5, 3]))
    model = keras.Sequential([keras.Input(batch_shape=(2, None, 3)), layer(4, stateful=True)])
    model.compile("sgd", "mse")
    message = "is_stateful_and_keeps_the_states_of_2_sequences"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        model.fit(np.ones((5, 7, 3)), np.ones((5, 4)), batch_size=2, verbose=0)
    later = layer(4)
    later(tf.ones([2, 5, 3]))
    later.stateful = True
    with pytest.raises(ValueError, match=r"stateful was set after .* was built"):
        later(tf.ones([2, 5, 3]))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("wrong", ["initial_state", "mask"])
def test_a_batch_size_that_only_one_side_knows(layer, wrong, dtype):
    """TensorFlow must not infer one side's batch size from the other's and drop the check."""
    made = layer(4, dtype=dtype)
    made.build((None, None, 3))
    states = [tf.ones([2, size]) for size in made.cell.state_size]
    given = {"mask": tf.ones([2, 7], tf.bool)} if wrong == "mask" else {"initial_state": states}
    run = tf.function(lambda x: made(x, **given), input_signature=[tf.TensorSpec([None, 7, 3])])
    assert run(tf.ones([2, 7, 3])).shape == [2, 4]
    message = "sequences_must_have_the_batch_size_of_initial_state_and_mask"
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(tf.ones([5, 7, 3]))


def test_sequences_without_steps_or_features(layer):
    for return_sequences in (False, True):
        made = layer(4, return_sequences=return_sequences)
        with pytest.raises(ValueError, match=r"at least one step, but have shape \(2, 0, 3\)"):
            made(tf.ones([2, 0, 3]))
        made.build((None, None, 3))
        unknown = tf.function(made, input_signature=[tf.TensorSpec([None, None, 3])])
        with pytest.raises(tf.errors.InvalidArgumentError, match="at least one step"):
            unknown(tf.ones([2, 0, 3]))
    with pytest.raises(ValueError, match=r"at least one feature, but have shape \(2, 5, 0\)"):
        layer(4)(tf.ones([2, 5, 0]))


def test_building_again(layer):
    made = layer(4)
    made.build((None, None, 3))
    made.build((None, None, 3))
    with pytest.raises(ValueError, match="was built for 3 features, and cannot be built again"):
        made.build((None, None, 5))


def test_sizes_of_states_that_are_not_known_yet():
    for ask in (
        lambda: tf_plr.QRNN(3).get_initial_state(2),
        lambda: tf_plr.QRNN(3).state_size,
        lambda: keras.layers.RNN(tf_plr.QRNNCell(3)),
    ):
        with pytest.raises(ValueError, match="call the layer first, or give the cell input_dim"):
            ask()
    assert tf_plr.QRNNCell(3, input_dim=4).get_initial_state(batch_size=2)[1].shape == (2, 4)
    assert tf_plr.QRNN(3, kernel_size=1).state_size == [3]


def test_an_op_name_of_before_the_first_release():
    """The ops were called LinearRecurrence; a graph that says so gets TensorFlow's own error."""
    graph = tf.Graph()
    with graph.as_default():
        tf_plr.linear_recurrence(tf.ones([3]), tf.ones([3]))
    definition = graph.as_graph_def()
    for node in definition.node:
        node.op = node.op.removeprefix("TfPlr>")
    with pytest.raises(
        (tf.errors.NotFoundError, ValueError), match="Op type not registered 'LinearRecurrence'"
    ):
        tf.graph_util.import_graph_def(definition)
