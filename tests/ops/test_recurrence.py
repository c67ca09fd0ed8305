# SPDX-License-Identifier: MIT
"""Values of the op against the float64 loop."""

import numpy as np
import pytest
import reference
import tensorflow as tf
from support import call, run_program

import tf_plr
from tf_plr._ops.arguments import DTYPES
from tf_plr._types import ALGORITHMS

# [outer, steps, inner] by the path that they take.
SHAPES = {
    "no_steps": (2, 0, 3),
    "no_columns": (2, 5, 0),
    "no_outer": (0, 5, 3),
    "one_element": (1, 1, 1),
    "one_step": (3, 1, 7),
    "one_column": (1, 1001, 1),
    "time_contiguous": (7, 333, 1),
    "odd": (3, 37, 13),
    "few_columns_long": (1, 20011, 3),
    "chunks_end_evenly": (1, 4096, 16),
    "wider_than_a_block": (1, 5, 9001),
    "many_blocks": (5, 67, 300),
}


def random_arguments(rng, shape, axis, dtype, with_initial_state, long_memory=False):
    """(decays, impulses, initial_state) in float64 or complex128, but exact in `dtype`.

    With long_memory=True, the last state depends on the first impulse even after many steps.
    Impulses are then smaller, so that no state or gradient overflows float16.
    """

    def draw(shape, sample):
        values = sample(shape)
        if dtype.startswith("complex"):
            values = values * np.exp(1j * rng.uniform(0, 2 * np.pi, shape))
        wide = np.complex128 if dtype.startswith("complex") else np.float64
        return np.asarray(values).astype(tf.as_dtype(dtype).as_numpy_dtype).astype(wide)

    def sample_decays(shape):
        if not long_memory:
            return rng.uniform(-1, 1, shape)
        return rng.choice([-1, 1], shape) * (1 - rng.uniform(0, 4 / max(4, shape[axis]), shape))

    columns = shape[:axis] + shape[axis + 1 :]
    return (
        draw(shape, sample_decays),
        draw(shape, lambda s: rng.normal(size=s) * (0.1 if long_memory else 1)),
        draw(columns, lambda s: rng.normal(size=s)) if with_initial_state else None,
    )


def assert_states(actual, decays, impulses, initial_state, axis, reverse, dtype):
    decays = np.broadcast_to(decays, impulses.shape)
    expected = reference.linear_recurrence(decays, impulses, initial_state, axis, reverse)
    accumulated = reference.UNIT_ROUNDOFF[reference.ACCUMULATOR[dtype]]
    bound = reference.error_bound(decays, impulses, initial_state, accumulated, axis, reverse)
    bound += 2 * reference.UNIT_ROUNDOFF[dtype] * np.abs(expected)  # The result's own rounding.
    assert actual.dtype == dtype
    assert actual.shape == expected.shape
    error = np.abs(np.asarray(actual).astype(expected.dtype) - expected)
    assert np.all(error <= bound + reference.UNDERFLOW[dtype])


def to_tensors(arguments, dtype):
    return [None if a is None else tf.constant(a, dtype) for a in arguments]


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("with_initial_state", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
def test_every_path(rng, shape, algorithm, reverse, with_initial_state):
    arguments = random_arguments(rng, shape, 1, "float32", with_initial_state, long_memory=True)
    states = tf_plr.linear_recurrence(
        *to_tensors(arguments, "float32"), axis=1, reverse=reverse, algorithm=algorithm
    )
    assert_states(states, *arguments, 1, reverse, "float32")


# Numbers of columns: fewer than a vector of 4, 8 or 16; exactly a vector; a vector and a part; more
# than fit in registers; rows longer than a vector, and rows that share one.
WIDTHS = (1, 2, 3, 4, 5, 7, 8, 9, 12, 16, 17, 31, 40, 64, 65, 100)


@pytest.mark.parametrize("algorithm", ["parallel", "serial"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("overwrite", [False, True])
def test_every_width(rng, overwrite, dtype, reverse, algorithm):
    """In a graph, the states may reuse the buffer of the impulses if no other op reads it."""
    for width in WIDTHS:
        for steps in (15, 50):
            arguments = random_arguments(rng, (2, steps, width), 1, dtype, True, long_memory=True)

            def states(a, x, h):
                x = tf.identity(x) if not overwrite else tf.reverse(tf.reverse(x, [0]), [0])
                return tf_plr.linear_recurrence(
                    a, x, h, axis=1, reverse=reverse, algorithm=algorithm
                )

            actual = tf.function(states)(*to_tensors(arguments, dtype))
            assert_states(actual, *arguments, 1, reverse, dtype)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_16_bit_value_is_read_and_written(dtype):
    numpy_type = tf.as_dtype(dtype).as_numpy_dtype
    values = np.arange(2**16, dtype=np.uint16).view(numpy_type)
    row = tf_plr.linear_recurrence(tf.zeros([1, 2**16], dtype), tf.constant(values[None]))
    expected = values.astype(np.float32)
    if "CPU" in row.device:
        # TensorFlow flushes float32's subnormal numbers to zero; bfloat16 has the same ones.
        expected[np.abs(expected) < np.finfo(np.float32).tiny] = 0
    np.testing.assert_array_equal(row[0].numpy().astype(np.float32), expected)
    finite = np.isfinite(expected)
    column = tf_plr.linear_recurrence(
        tf.zeros([finite.sum()], dtype), tf.constant(values[finite]), algorithm="serial"
    )
    np.testing.assert_array_equal(column.numpy().astype(np.float32), expected[finite])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_results_are_rounded_to_nearest_even(rng, dtype):
    numpy_type = tf.as_dtype(dtype).as_numpy_dtype
    # Their products are exact in float32 and include subnormal numbers, ties and overflow.
    a, b = (2 ** rng.uniform(-13, 13, (2, 50_000)) * rng.choice([-1, 1], (2, 50_000))).astype(
        numpy_type
    )
    states = tf_plr.linear_recurrence(tf.constant(a[None]), tf.zeros([1, len(a)], dtype), b)
    expected = (a.astype(np.float32) * b.astype(np.float32)).astype(numpy_type)
    np.testing.assert_array_equal(states[0].numpy().view(np.uint16), expected.view(np.uint16))


def test_results_do_not_depend_on_the_number_of_threads():
    digests = [run_program("digests.py", threads) for threads in (1, 5)]
    assert len(digests[0].split()) == 30
    assert digests[0] == digests[1]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_dtype_and_mode(rng, dtype, algorithm, mode):
    shapes = [(2, 41, 19), (3, 700, 1), (1, 900, 2)]
    for shape in shapes[:1] if algorithm == "composed" else shapes:  # All shapes are alike.
        for reverse in (False, True):
            arguments = random_arguments(rng, shape, 1, dtype, with_initial_state=not reverse)
            states = call(
                lambda a, x, h, reverse=reverse: tf_plr.linear_recurrence(
                    a, x, h, axis=1, reverse=reverse, algorithm=algorithm
                ),
                to_tensors(arguments, dtype),
                mode,
            )
            assert_states(states, *arguments, 1, reverse, dtype)


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("rank", [1, 2, 3, 4, 5])
def test_every_axis_is_at_least_as_accurate_as_a_float32_loop(rng, rank, algorithm):
    shape = ((4000,), (70, 60), (16, 18, 14), (8, 10, 9, 6), (5, 6, 7, 5, 4))[rank - 1]
    for axis in range(-rank, rank):
        arguments = random_arguments(rng, shape, axis % rank, "float32", True)
        exact = reference.linear_recurrence(*arguments, axis)
        loop = reference.linear_recurrence(*(a.astype(np.float32) for a in arguments), axis)
        states = tf_plr.linear_recurrence(
            *to_tensors(arguments, "float32"), axis=axis, algorithm=algorithm
        )
        assert np.linalg.norm(states - exact) <= 2 * np.linalg.norm(loop - exact)


def test_long_sequences_are_at_least_as_accurate_as_a_float32_loop(rng):
    shape = (100_000, 3)
    decays = (1 - 10 ** rng.uniform(-5, -1, shape)).astype(np.float32)
    impulses = rng.normal(size=shape).astype(np.float32)
    exact = reference.linear_recurrence(decays.astype(np.float64), impulses.astype(np.float64))
    loop_error = np.abs(reference.linear_recurrence(decays, impulses) - exact).max()
    for algorithm in ("auto", "parallel", "serial"):
        states = tf_plr.linear_recurrence(decays, impulses, algorithm=algorithm)
        assert np.abs(states - exact).max() <= 2 * loop_error


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("shape", [(50, 6), (30_000, 2)])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_and_inf_stay_in_their_column_and_after_their_step(rng, value, shape, algorithm):
    decays, impulses, _ = random_arguments(rng, shape, 0, "float32", False)
    expected = tf_plr.linear_recurrence(*to_tensors([decays, impulses], "float32")).numpy()
    step = shape[0] // 2
    for poisoned in (decays, impulses):
        before = poisoned[step, 1]
        poisoned[step, 1] = value
        states = tf_plr.linear_recurrence(
            *to_tensors([decays, impulses], "float32"), algorithm=algorithm
        ).numpy()
        poisoned[step, 1] = before
        assert not np.isfinite(states[step:, 1]).any()
        states[step:, 1] = expected[step:, 1]
        np.testing.assert_allclose(states, expected, atol=1e-5)


@pytest.mark.parametrize("width", [1, 2, 3, 32, 100])
def test_serial_multiplies_few_decays(width):
    """25 decays are 1e9: in float32 a product of 5 overflows. (A GPU multiplies a whole tile.)"""
    decays = np.ones((200, width), np.float32)
    decays[::8] = 1e9
    with tf.device("/CPU:0"):
        states = tf_plr.linear_recurrence(decays, np.zeros_like(decays), algorithm="serial")
    assert np.all(states == 0)


def test_results_do_not_depend_on_timing(rng):
    arguments = random_arguments(rng, (1, 50_000, 5), 1, "float32", True, long_memory=True)
    tensors = to_tensors(arguments, "float32")
    for algorithm in ("auto", "parallel"):
        runs = [tf_plr.linear_recurrence(*tensors, axis=1, algorithm=algorithm) for _ in range(10)]
        assert all(np.array_equal(run, runs[0]) for run in runs)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_outputs_have_the_bits_of_small_ones(rng, dtype, reverse):
    """On a CPU, outputs from 32 MiB on are stored past the caches."""
    columns = 4096
    steps = (32 << 20) // (columns * tf.as_dtype(dtype).size) + 3
    with tf.device("/CPU:0"):
        a, x, d_states = (
            tf.cast(rng.uniform(-1, 1, (steps, columns)).astype(np.float32), dtype)
            * tf.cast(0.8 + 0.6j if dtype.startswith("complex") else 1, dtype)
            for _ in range(3)
        )

        def states_and_gradients(first, last):
            arguments = [tensor[:, first:last] for tensor in (a, x, d_states)]
            with tf.GradientTape() as tape:
                tape.watch(arguments[:2])
                states = tf_plr.linear_recurrence(
                    *arguments[:2], axis=0, reverse=reverse, algorithm="serial"
                )
            return states, *tape.gradient(states, arguments[:2], arguments[2])

        large = states_and_gradients(0, columns)
        small = zip(
            *(states_and_gradients(i, i + 1024) for i in range(0, columns, 1024)), strict=True
        )
        for whole, parts in zip(large, small, strict=True):
            assert np.array_equal(whole, np.concatenate(parts, 1))


def test_inputs_are_left_alone(rng):
    arguments = random_arguments(rng, (2, 40, 3), 1, "float32", True)
    tensors = to_tensors(arguments, "float32")
    tf_plr.linear_recurrence(*tensors, axis=1)
    tf.function(lambda a, x, h: tf_plr.linear_recurrence(a, x, h, axis=1))(*tensors)
    for tensor, argument in zip(tensors, arguments, strict=True):
        assert np.array_equal(tensor, argument)


def test_impulses_computed_in_the_graph_may_be_overwritten(rng):
    """In a graph, the states may reuse the buffer of the impulses if no other op reads it."""
    decays, impulses, _ = random_arguments(rng, (1, 5000, 3), 1, "float32", False)
    doubled = tf.function(lambda a, x: tf_plr.linear_recurrence(a, 2 * x, axis=1))
    states = doubled(*to_tensors([decays, impulses], "float32"))
    assert_states(states, decays, 2 * impulses, None, 1, False, "float32")


def test_python_values_and_numpy_arrays():
    np.testing.assert_array_equal(
        tf_plr.linear_recurrence([0.5, 0.5, 0.5], [1.0, 1.0, 1.0], 2.0), [2, 2, 2]
    )
    states = tf_plr.linear_recurrence(np.full(3, 2.0), np.ones(3))
    assert states.dtype == tf.float64
    np.testing.assert_array_equal(states, [1, 3, 7])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_values_beside_tensors_take_their_dtype(algorithm):
    tensor = tf.constant([1.0, 2.0], tf.float64)
    for arguments in ([[0.5, 0.5], tensor], [tensor, np.ones(2, np.float32)]):
        states = tf_plr.linear_recurrence(*arguments, algorithm=algorithm)
        assert states.dtype == tf.float64


def test_the_axis_counts_from_the_first_where_the_rank_is_known():
    """TensorFlow may forget the rank in derivatives."""
    for decays, impulses, expected in [
        (tf.TensorSpec([2, 3]), tf.TensorSpec(None), 1),
        (tf.TensorSpec(None), tf.TensorSpec([2, 3]), 1),
        (tf.TensorSpec(None), tf.TensorSpec(None), -1),
    ]:
        states = tf.function(lambda a, x: tf_plr.linear_recurrence(a, x, axis=-1))
        graph = states.get_concrete_function(decays, impulses).graph
        (op,) = [op for op in graph.get_operations() if op.type == "TfPlr>LinearRecurrence"]
        assert op.get_attr("axis") == expected


def test_static_shapes_merge():
    @tf.function(input_signature=[tf.TensorSpec([None, 4, None]), tf.TensorSpec([2, None, None])])
    def states(decays, impulses):
        result = tf_plr.linear_recurrence(decays, impulses, axis=1)
        assert result.shape.as_list() == [2, 4, None]
        return result

    assert states(tf.ones([2, 4, 3]), tf.ones([2, 4, 3])).shape == [2, 4, 3]


def test_runs_in_tf_data():
    dataset = tf.data.Dataset.from_tensors(tf.ones([4])).map(
        lambda x: tf_plr.linear_recurrence(x, x), num_parallel_calls=2
    )
    np.testing.assert_array_equal(next(iter(dataset)), [1, 2, 3, 4])


@pytest.mark.huge
def test_more_than_2_to_the_31_elements():
    """Needs 13 GB. Indices of 32 bits would overflow at the ends of the first and last column."""
    columns, steps = 2**16 + 1, 2**15
    ones = tf.ones([steps, columns], tf.float16)
    states = tf_plr.linear_recurrence(0.5 * ones, ones)
    assert np.all(states[-1] == 2)
