# SPDX-License-Identifier: MIT
"""Tests that need a GPU. All other tests also run on the GPU if there is one.

make test                                        # on a machine with a GPU and nvcc
"""

import numpy as np
import pytest
import reference
import tensorflow as tf
from support import run_program
from test_gradients import assert_gradients, gradients
from test_recurrence import assert_states, random_arguments, to_tensors

import tf_plr
from tf_plr._ops.arguments import DTYPES

pytestmark = pytest.mark.skipif(not tf.config.list_physical_devices("GPU"), reason="needs a GPU")

# [outer, steps, inner] by the path that they take through the GPU engine.
SHAPES = {
    "rows_streamed": (300, 700, 64),
    "rows_streamed_many_slots": (700, 16, 96),
    "rows_cluster": (1, 3000, 40),  # Forward in float32 only: other tiles are shorter.
    "rows_cluster_of_most_dtypes": (1, 1000, 40),
    "rows_cluster_two_tiles": (2, 400, 40),
    "rows_look_back_one_segment": (50, 700, 64),
    "rows_look_back_many_segments": (2, 50021, 36),
    "rows_unaligned": (3, 5003, 35),
    "rows_pairs_of_16_bits": (2, 4100, 66),
    "short_rows_one_tile": (400, 5000, 1),
    "short_rows_many_slots": (5000, 10, 3),
    "short_rows_many_tiles": (1, 300_000, 1),
    "short_rows_odd": (5, 40_000, 6),
    "short_rows_longest": (3, 9000, 31),
}


@pytest.fixture(autouse=True)
def _only_on_the_gpu():
    tf.config.set_soft_device_placement(False)
    with tf.device("/GPU:0"):
        yield
    tf.config.set_soft_device_placement(True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ["auto", "parallel", "serial"])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_path(rng, shape, algorithm, dtype):
    for reverse in (False, True):
        arguments = random_arguments(rng, shape, 1, dtype, not reverse, long_memory=True)
        tensors = to_tensors(arguments, dtype)
        states = tf_plr.linear_recurrence(*tensors, axis=1, reverse=reverse, algorithm=algorithm)
        assert "GPU" in states.device
        assert_states(states, *arguments, 1, reverse, dtype)

        d_states = random_arguments(rng, shape, 1, dtype, False, long_memory=True)[1]
        actual = gradients(
            tensors, tf.constant(d_states, dtype), axis=1, reverse=reverse, algorithm=algorithm
        )
        assert all("GPU" in gradient.device for gradient in actual)
        assert_gradients(actual, *arguments, d_states, reverse, dtype)


@pytest.mark.parametrize(
    "shape", [(1, 400_000, 40), (4, 2000, 100), (1, 5_000_000, 1), (200, 3000, 64)]
)
def test_results_are_bitwise_repeatable(rng, shape):
    arguments = random_arguments(rng, shape, 1, "float32", False, long_memory=True)
    a, x = to_tensors(arguments[:2], "float32")
    for algorithm in ("auto", "parallel", "serial"):
        first = tf_plr.linear_recurrence(a, x, axis=1, algorithm=algorithm)
        for _ in range(5):
            again = tf_plr.linear_recurrence(a, x, axis=1, algorithm=algorithm)
            assert np.array_equal(again, first)


def test_clusters_and_look_backs_give_the_same_bits(rng):
    a, x = to_tensors(random_arguments(rng, (1, 3000, 40), 1, "float32", False)[:2], "float32")
    alone = tf_plr.linear_recurrence(a, x, axis=1, algorithm="parallel")
    many = [tf.repeat(tensor, 200, axis=0) for tensor in (a, x)]  # Too many to be clusters.
    among_many = tf_plr.linear_recurrence(*many, axis=1, algorithm="parallel")
    assert np.array_equal(among_many, tf.repeat(alone, 200, axis=0))


def test_many_look_backs_behind_each_other(rng):
    arguments = random_arguments(rng, (1, 100_000, 8), 1, "float32", True, long_memory=True)
    tensors = to_tensors(arguments, "float32")
    results = [tf_plr.linear_recurrence(*tensors, axis=1) for _ in range(50)]
    assert_states(results[0], *arguments, 1, False, "float32")
    assert all(np.array_equal(result, results[0]) for result in results)


def test_out_of_memory_is_resource_exhausted():
    run_program("gpu_out_of_memory.py")


def test_more_than_2_to_the_31_elements():
    ones = tf.ones([2**15, 2**16 + 1], tf.float16)
    states = tf_plr.linear_recurrence(0.5 * ones, ones)
    assert tf.reduce_all(states[-1] == 2)
    del states
    states = tf_plr.linear_recurrence(0.5 * ones, ones, axis=1)
    assert tf.reduce_all(states[:, -1] == 2)


def test_agrees_with_the_cpu(rng):
    arguments = random_arguments(rng, (3, 2000, 33), 1, "float64", True)
    on_gpu = tf_plr.linear_recurrence(*to_tensors(arguments, "float64"), axis=1)
    with tf.device("/CPU:0"):
        on_cpu = tf_plr.linear_recurrence(*to_tensors(arguments, "float64"), axis=1)
    bound = reference.error_bound(*arguments, reference.UNIT_ROUNDOFF["float64"], 1)
    assert np.all(np.abs(on_gpu.numpy() - on_cpu.numpy()) <= 2 * bound)
