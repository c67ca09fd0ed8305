# SPDX-License-Identifier: MIT
"""`pack` and `unpack`."""

import numpy as np
import pytest
import tensorflow as tf

import tf_plr


def ragged(rng, steps, *shape, dtype="float32"):
    values = rng.normal(size=(sum(steps), *shape)).astype(dtype)
    return tf.RaggedTensor.from_row_lengths(values, np.asarray(steps, np.int64))


def first_fit(steps, length):
    """(row, first step) of each sequence, and the steps used of each row."""
    used, places = [], []
    for n in steps:
        row = next((i for i, u in enumerate(used) if u + n <= length), len(used))
        if row == len(used):
            used.append(0)
        places.append((row, used[row], n))
        used[row] += n
    return places, used


@pytest.mark.parametrize(
    "steps",
    [[3, 5, 2, 7, 1, 1, 8], [8], [1] * 20, [0, 4, 0, 5, 0], [0, 0], []],
    ids=["several", "one full row", "short", "some empty", "all empty", "none"],
)
def test_rows_are_those_of_first_fit(rng, steps):
    sequences = ragged(rng, steps, 2)
    packed = tf_plr.pack(sequences, 8)
    places, used = first_fit(steps, 8)
    rows = len(used)
    assert packed.values.shape == (rows, 8, 2)
    np.testing.assert_array_equal(packed.places, np.reshape(places, (-1, 3)))
    values, resets = np.zeros((rows, 8, 2), "float32"), np.zeros((rows, 8), bool)
    for sequence, (row, first, n) in zip(sequences, places, strict=True):
        values[row, first : first + n] = sequence
        resets[row, first] |= n > 0
    np.testing.assert_array_equal(packed.values, values)
    np.testing.assert_array_equal(packed.resets, resets)
    np.testing.assert_array_equal(packed.mask, np.arange(8) < np.reshape(used, (-1, 1)))
    np.testing.assert_array_equal(packed.cut, np.zeros(len(steps)))
    again = tf_plr.unpack(packed.values, packed)
    np.testing.assert_array_equal(again.values, sequences.values)
    np.testing.assert_array_equal(again.row_lengths(), steps)
    last = tf_plr.unpack(packed.values, packed, last=True)
    law = [s[-1] if n else np.zeros(2) for s, n in zip(sequences, steps, strict=True)]
    np.testing.assert_array_equal(last, np.reshape(law, (-1, 2)))


def test_several_tensors_lists_and_other_dtypes(rng):
    steps = [4, 2, 3]
    x, y = ragged(rng, steps, 3, 2), [rng.integers(0, 9, n) for n in steps]
    packed = tf_plr.pack({"x": x, "targets": (y,)}, 5)
    assert packed.values["x"].shape == (2, 5, 3, 2)
    (targets,) = packed.values["targets"]
    assert targets.dtype == tf.int64
    np.testing.assert_array_equal(targets, [[*y[0], 0], [*y[1], *y[2]]])
    again = tf_plr.unpack(packed.values, packed.places)
    np.testing.assert_array_equal(again["targets"][0].values, np.concatenate(y))


def test_cut(rng):
    sequences = ragged(rng, [3, 9, 1], 1)
    packed = tf_plr.pack(sequences, 4, too_long="cut")
    np.testing.assert_array_equal(packed.cut, [0, 5, 0])
    kept = tf_plr.unpack(packed.values, packed)
    np.testing.assert_array_equal(kept.row_lengths(), [3, 4, 1])
    np.testing.assert_array_equal(kept[1], sequences[1][:4])


def test_gradients_pass_through(rng):
    values = tf.constant(rng.normal(size=(9, 2)))
    with tf.GradientTape() as tape:
        tape.watch(values)
        packed = tf_plr.pack(tf.RaggedTensor.from_row_lengths(values, [4, 3, 2]), 5)
        back = tf_plr.unpack(packed.values**2, packed)
        loss = tf.reduce_sum(back.values)
    np.testing.assert_allclose(tape.gradient(loss, values), 2 * values)


def test_in_graphs_and_datasets(rng):
    sequences = ragged(rng, rng.integers(1, 9, 40), 2)
    eager = tf_plr.pack(sequences, 10)

    spec = tf.RaggedTensorSpec([None, None, 2], ragged_rank=1)

    @tf.function(input_signature=[spec], autograph=False)
    def in_graph(sequences):
        packed = tf_plr.pack(sequences, 10)
        assert packed.values.shape == (None, 10, 2)
        assert packed.mask.shape == packed.resets.shape == (None, 10)
        return packed, tf_plr.unpack(packed.values, packed).to_tensor()

    packed, padded = in_graph(sequences)
    np.testing.assert_array_equal(padded, sequences.to_tensor())
    batches = tf.data.Dataset.from_tensors(sequences).map(lambda s: tf_plr.pack(s, 10))
    for other in (packed, next(iter(batches))):
        assert isinstance(other, tf_plr.Packed)
        tf.nest.map_structure(np.testing.assert_array_equal, other, eager)
    with pytest.raises(
        tf.errors.InvalidArgumentError, match="length is 10, but a sequence is long"
    ):
        in_graph(ragged(rng, [3, 11], 2))


def test_a_layer_gives_each_sequence_its_own_output(layer, rng):
    sequences = ragged(rng, [5, 1, 7, 3], 4)
    packed = tf_plr.pack(sequences, 8)
    made = layer(3, return_sequences=True)
    outputs = made(packed.values, resets=packed.resets, mask=packed.mask)
    law = [made(sequence[None])[0] for sequence in sequences]
    np.testing.assert_allclose(
        tf_plr.unpack(outputs, packed).values, np.concatenate(law), atol=1e-6
    )
    lasts = tf_plr.unpack(outputs, packed, last=True)
    np.testing.assert_allclose(lasts, [each[-1] for each in law], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"length": 0}, ValueError, "length must be at least 1, but is 0"),
        ({"length": 2.5}, TypeError, "length must be an integer, but is 2.5"),
        ({"length": 4}, ValueError, r"length is 4, but a sequence is longer.*steps: 1 5"),
        ({"too_long": "split"}, ValueError, "too_long must be .* but is 'split'"),
        ({"sequences": np.ones((2, 3, 1))}, TypeError, "but are a ndarray"),
        ({"sequences": []}, ValueError, "must not be an empty list"),
        ({"sequences": ()}, ValueError, "are an empty structure"),
        ({"sequences": [1.0, 2.0]}, TypeError, "but number 0 is a scalar"),
        ({"sequences": [np.ones((2, 3)), np.ones((2, 4))]}, ValueError, "and number 1 .*4"),
        (
            {"sequences": tf.ragged.constant([[[1], [2, 3]], [[4]]])},
            ValueError,
            "but have 2 ragged axes",
        ),
        (
            {"sequences": ([np.ones(2), np.ones(3)], [np.ones(2), np.ones(2)])},
            ValueError,
            r"must have the same steps, but theirs are \[2 3\] \[2 2\]",
        ),
        (
            {"sequences": ([np.ones(2)], [np.ones(2), np.ones(2)])},
            ValueError,
            r"must have the same steps, but theirs are \[2\] \[2 2\]",
        ),
    ],
)
def test_bad_input(arguments, error, message):
    sequences = [np.ones((2, 1)), np.ones((5, 1)), np.ones((3, 1))]
    with pytest.raises(error, match=message):
        tf_plr.pack(**{"sequences": sequences, "length": 8, **arguments})


def test_outputs_that_are_not_of_these_rows(rng):
    packed = tf_plr.pack(ragged(rng, [5, 4], 1), 6)
    for wrong in (
        packed.values[:1],
        packed.values[:, :4],
        tf.pad(packed.values, [[0, 0], [0, 1], [0, 0]]),
    ):
        with pytest.raises(ValueError, match="outputs must have the rows and the length"):
            tf_plr.unpack(wrong, packed)
    with pytest.raises(ValueError, match="as with return_sequences=True"):
        tf_plr.unpack(tf.zeros([2]), packed)
