# SPDX-License-Identifier: MIT
"""The native ops compiled by XLA. The tests that take a `mode` run under XLA too."""

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from support import LAYERS, run_program
from test_gradients import gradients
from test_recurrence import SHAPES, random_arguments, to_tensors

import tf_plr
from tf_plr._ops.arguments import DTYPES


@pytest.mark.parametrize("dtype", DTYPES)
def test_equals_eager_bit_for_bit(rng, dtype):
    for shape in SHAPES.values():
        for reverse in (False, True):
            arguments = random_arguments(rng, shape, 1, dtype, with_initial_state=not reverse)
            d_states = tf.constant(random_arguments(rng, shape, 1, dtype, False)[1], dtype)

            def run(*arguments, reverse=reverse):
                states = tf_plr.linear_recurrence(*arguments, axis=1, reverse=reverse)
                return states, *gradients(arguments, d_states, axis=1, reverse=reverse)  # noqa: B023

            tensors = [t for t in to_tensors(arguments, dtype) if t is not None]
            compiled = tf.function(run, jit_compile=True, reduce_retracing=True)(*tensors)
            for actual, expected in zip(compiled, run(*tensors), strict=True):
                np.testing.assert_array_equal(actual, expected)


def test_the_native_kernel_runs():
    compiled = tf.function(lambda a: tf_plr.linear_recurrence(a, a), jit_compile=True)
    hlo = compiled.experimental_get_compiler_ir(tf.ones([8]))(stage="optimized_hlo")
    assert 'custom_call_target="TfPlr>Call"' in hlo and 'op = "TfPlr>LinearRecurrence"' in hlo


def test_equal_calls_are_written_alike():
    """In any order of attributes, XLA could not merge them, nor find them in its caches."""
    compiled = tf.function(
        lambda a: (tf_plr.linear_recurrence(a, a), tf_plr.linear_recurrence(a, -a)),
        jit_compile=True,
    )
    hlo = compiled.experimental_get_compiler_ir(tf.ones([8]))(stage="hlo")
    first, second = re.findall(r"backend_config=(.*)", hlo)
    op, *attributes = re.findall(r"(\w+) = ", first)
    assert first == second and op == "op"
    assert len(attributes) > 1 and attributes == sorted(attributes)


def test_within_a_larger_computation(rng):
    """XLA may change layouts, fuse ops, and reuse buffers around the call."""
    decays, impulses, _ = to_tensors(
        random_arguments(rng, (3, 40, 5), 1, "float32", False), "float32"
    )

    def run(a, x):
        a = tf.transpose(tf.sigmoid(a), [2, 0, 1])
        x = tf.transpose(tf.tanh(x), [2, 0, 1])
        states = tf_plr.linear_recurrence(a, x, axis=-1)
        again = tf_plr.linear_recurrence(a, states * x, x[..., 0], axis=-1, reverse=True)
        return tf.transpose(again + x + states, [1, 2, 0])

    np.testing.assert_allclose(
        tf.function(run, jit_compile=True)(decays, impulses), run(decays, impulses), atol=1e-5
    )


def test_loops_and_conditions():
    @tf.function(jit_compile=True)
    def power_sum(x, n):
        for _ in tf.range(n):
            x = tf_plr.linear_recurrence(tf.ones_like(x), x)
        return x

    np.testing.assert_array_equal(power_sum(tf.ones([4]), 3), [1, 4, 10, 20])


def test_shapes_that_differ():
    @tf.function(jit_compile=True, input_signature=[tf.TensorSpec(None)] * 2)
    def states(decays, impulses):
        return tf_plr.linear_recurrence(decays, impulses)

    with pytest.raises(
        tf.errors.InvalidArgumentError,
        match=r"decays must have the shape of impulses, \[4\], or size 1 .*, but has shape \[3\]",
    ):
        states(tf.ones([3]), tf.ones([4]))


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (([2, 3], [1, 3], [3]), "decays_must_have_the_shape_of_impulses_or_size_1"),
        (([2, 3], [3, 2], [3]), "decays_must_have_the_shape_of_impulses"),
        (([2, 3], [2, 3], [1]), "initial_state_must_have_the_shape_of_impulses_without_axis"),
    ],
)
def test_composed_shapes_that_differ(shapes, message):
    @tf.function(
        jit_compile=True, input_signature=[tf.TensorSpec([None] * len(shape)) for shape in shapes]
    )
    def states(decays, impulses, initial_state):
        return tf_plr.linear_recurrence(decays, impulses, initial_state, algorithm="composed")

    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        states(*map(tf.ones, shapes))


def test_shape_that_depends_on_values():
    @tf.function(jit_compile=True)
    def states(x):
        positive = tf.boolean_mask(x, x > 0)
        return tf_plr.linear_recurrence(positive, positive)

    with pytest.raises(
        tf.errors.InvalidArgumentError, match=r"LinearRecurrence needs static shapes under XLA"
    ):
        states(tf.constant([1.0, -1.0, 1.0]))


@pytest.mark.parametrize("first", ["import", "op"])
def test_loaded_before_or_after_the_first_op(first):
    run_program("first_op.py", first)


def test_auto_clustering(tmp_path):
    environment = {
        "TF_XLA_FLAGS": "--tf_xla_cpu_global_jit --tf_xla_min_cluster_size=1 "
        "--tf_xla_clustering_debug",
        "TF_DUMP_GRAPH_PREFIX": str(tmp_path),
    }
    run_program("auto_clustering.py", **environment)
    annotated = "".join(path.read_text() for path in tmp_path.glob("mark_for_compilation*"))
    node = next(n for n in annotated.split("node {") if 'op: "TfPlr>LinearRecurrence"' in n)
    assert "_XlaCluster" in node


@pytest.mark.parametrize("masked", [False, True])
def test_fit_compiled_equals_fit(rng, layer, masked):
    x = rng.normal(size=(32, 12, 3)).astype("float32")
    x[:, 9:] = 0
    y = x.mean((1, 2))[:, None]
    histories = []
    for jit_compile in (False, True):
        keras.utils.set_random_seed(1)
        masking = [keras.layers.Masking()] if masked else []
        model = keras.Sequential(
            [
                keras.Input((None, 3)),
                *masking,
                keras.layers.Bidirectional(layer(4)),
                keras.layers.Dense(1),
            ]
        )
        model.compile("adam", "mse", jit_compile=jit_compile)
        histories.append(model.fit(x, y, batch_size=8, epochs=2, verbose=0).history["loss"])
    np.testing.assert_allclose(*histories, rtol=1e-4)


def test_fit_compiled_with_batches_of_unknown_size(layer, rng):
    """The last of which is smaller."""
    x, y = rng.normal(size=(19, 6, 3)).astype("float32"), np.ones((19, 1))
    model = keras.Sequential([keras.Input((None, 3)), layer(4), keras.layers.Dense(1)])
    model.compile("adam", "mse", jit_compile=True)
    first = model.evaluate(x, y, verbose=0)
    model.fit(x, y, batch_size=8, epochs=3, verbose=0)
    assert model.evaluate(x, y, verbose=0) < first


def test_layers_do_not_stop_keras_from_compiling():
    model = keras.Sequential(
        [keras.Input((None, 3)), *(layer(4, return_sequences=True) for layer in LAYERS)]
    )
    assert all(layer.supports_jit for layer in model.layers)
