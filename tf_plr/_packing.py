# SPDX-License-Identifier: MIT
"""Packs sequences of different lengths into rows, and unpacks what layers make of them."""

from typing import Any, Literal, NamedTuple

import tensorflow as tf

from tf_plr._ops.arguments import as_index
from tf_plr._types import Tensor


class Packed(NamedTuple):
    """What `pack` returns.

    Attributes:
        values: [rows, length, ...], a structure of tensors as it was given; zeros beyond sequences.
        resets: Boolean [rows, length], True where a step is the first of a sequence.
        mask: Boolean [rows, length], False where a step belongs to no sequence.
        places: [sequences, 3], int64: the row of each sequence, its first step there, and the
            number of its steps.
        cut: [sequences], int64: the number of steps that were cut from each sequence.
    """

    values: Any
    resets: Tensor
    mask: Tensor
    places: Tensor
    cut: Tensor


def pack(sequences: Any, length: int, *, too_long: Literal["error", "cut"] = "error") -> Packed:
    """Packs sequences into as few rows of one length as first fit finds.

    Each sequence goes into the first row that has enough steps left, right after the sequences
    there. A layer that receives `resets` and `mask` treats a row's sequences as if each were alone.
    Most rows are full, so little is computed for steps that do not exist. `pack` runs eagerly, in
    graphs and in `tf.data`.

    Example:

    >>> sequences = [[[1.0], [2.0]], [[3.0]], [[4.0], [5.0], [6.0]]]
    >>> packed = tf_plr.pack(sequences, length=3)
    >>> packed.values[..., 0].numpy()
    array([[1., 2., 3.],
           [4., 5., 6.]], dtype=float32)
    >>> outputs = tf_plr.GILR(8, return_sequences=True)(
    ...     packed.values, resets=packed.resets, mask=packed.mask)
    >>> tf_plr.unpack(outputs, packed).shape
    TensorShape([3, None, 8])

    Args:
        sequences: `tf.RaggedTensor` [sequences, (steps), ...], or a list of arrays [steps, ...]. Or
            a tuple or a dict of these, such as inputs and targets of each step, which must have
            the same steps.
        length: Positive integer, the steps of a row.
        too_long: What happens to a sequence of more than `length` steps. `"error"`: it is an error.
            `"cut"`: only its first `length` steps are packed.

    Returns:
        A `Packed`: values, resets, mask, places, cut.

    Raises:
        TypeError: `sequences` are not ragged, or not a list of arrays.
        ValueError: an argument is out of range, a sequence is too long, or tensors differ in steps.
        tf.errors.InvalidArgumentError: the same, if the steps are known only when the graph runs.

    Source: First fit is the oldest rule for bin packing: Johnson, Demers, Ullman, Garey and Graham,
    *Worst-case performance bounds for simple one-dimensional packing algorithms*, SIAM Journal on
    Computing 3 (4), 1974. It needs at most about 1.7 times the fewest rows.
    """
    length = as_index("length", length)
    if length < 1:
        raise ValueError(f"length must be at least 1, but is {length}")
    if too_long not in ("error", "cut"):
        raise ValueError(f'too_long must be "error" or "cut", but is {too_long!r}')
    ragged = _map_structure(_as_ragged, sequences)
    every = tf.nest.flatten(ragged, expand_composites=False)
    if not every:
        raise ValueError(
            "sequences must hold at least one ragged tensor, but are an empty structure"
        )
    steps = every[0].row_lengths()
    checks = []
    for other in every[1:]:
        message = "all tensors in sequences must have the same steps, but theirs are"
        checks += _check(
            _are_equal(other.row_lengths(), steps), message, steps, other.row_lengths()
        )
    if too_long == "error":
        longest = tf.argmax(tf.concat([steps, [-1]], 0))
        most = tf.concat([steps, [0]], 0)[longest]
        message = (
            f"length is {length}, but a sequence is longer: pass a larger length, or "
            'too_long="cut". Its number, and its steps:'
        )
        checks += _check(most <= length, message, longest, most)
    with tf.control_dependencies(checks):
        kept = tf.minimum(steps, length)
    rows, starts = _first_fit(kept, tf.constant(length, tf.int64))
    count = tf.reduce_max(tf.concat([rows, [-1]], 0)) + 1
    places = tf.stack([rows, starts, kept], axis=1)
    index = _index_of_steps(places, length)[:, None]

    def place(tensor: Any) -> Tensor:
        values = tensor[:, :length].values if too_long == "cut" else tensor.values
        flat = tf.scatter_nd(
            index, values, tf.concat([[count * length], tf.shape(values, tf.int64)[1:]], 0)
        )
        shape = tf.concat([[count, length], tf.shape(values, tf.int64)[1:]], 0)
        return tf.ensure_shape(tf.reshape(flat, shape), [None, length, *values.shape[1:]])

    def flags(index: Tensor) -> Tensor:
        ones = tf.ones(tf.shape(index)[:1], tf.int32)
        counts = tf.scatter_nd(index, ones, [count * length])
        return tf.ensure_shape(tf.reshape(counts > 0, [count, length]), [None, length])

    firsts = tf.boolean_mask(rows * length + starts, kept > 0)[:, None]
    values = tf.nest.map_structure(place, ragged, expand_composites=False)
    return Packed(values, flags(firsts), flags(index), places, steps - kept)


def unpack(outputs: Any, packed: Packed | Tensor, *, last: bool = False) -> Any:
    """Takes each sequence's outputs out of the rows of `pack`.

    Args:
        outputs: [rows, length, ...], or a structure of such tensors: what a layer with
            `return_sequences=True` makes of the packed values. (With `go_backwards=True`, flip them
            first.)
        packed: What `pack` returned, or only its `places`.
        last: Whether to return the last output of each sequence only.

    Returns:
        `tf.RaggedTensor` [sequences, (steps), ...], in the order that was given to `pack`; with
        `last`, a tensor [sequences, ...], with zeros for sequences without steps.

    Raises:
        ValueError: `outputs` have fewer rows or steps than the packed values.
        tf.errors.InvalidArgumentError: the same, if shapes are known only when the graph runs.
    """
    places = packed.places if isinstance(packed, Packed) else tf.convert_to_tensor(packed)
    rows, starts, steps = tf.unstack(tf.cast(places, tf.int64), axis=1)

    def take(tensor: Tensor) -> Any:
        tensor = tf.convert_to_tensor(tensor)
        if tensor.shape.rank is not None and tensor.shape.rank < 2:
            raise ValueError(
                "outputs must have shape [rows, length, ...], as with return_sequences=True, but "
                f"have shape {tensor.shape}"
            )
        shape = tf.shape(tensor, tf.int64)
        if isinstance(packed, Packed):
            fits = tf.reduce_all(shape[:2] == tf.shape(packed.mask, tf.int64))
        else:
            fits = tf.reduce_all((rows < shape[0]) & (starts + steps <= shape[1]) | (steps == 0))
        message = "outputs must have the rows and the length of the packed values, but have shape"
        with tf.control_dependencies(_check(fits, message, shape)):
            flat = tf.reshape(tensor, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))
        flat = tf.ensure_shape(flat, [None, *tensor.shape[2:]])
        if not last:
            values = tf.gather(flat, _index_of_steps(places, shape[1]))
            return tf.RaggedTensor.from_row_lengths(values, steps)
        # A row of zeros in front, for sequences without steps.
        flat = tf.concat([tf.zeros(tf.concat([[1], shape[2:]], 0), tensor.dtype), flat], 0)
        if_any = rows * shape[1] + starts + steps
        return tf.gather(flat, tf.where(steps > 0, if_any, 0))

    return tf.nest.map_structure(take, outputs)


def _check(condition: Tensor, message: str, *data: Tensor) -> list[Any]:
    """Raises an error now, or returns the operation that will raise it."""
    if not tf.executing_eagerly():
        return [tf.debugging.Assert(condition, [message, *data])]
    if not condition:
        raise ValueError(" ".join([message, *(str(each.numpy()) for each in data)]))
    return []


def _are_equal(a: Tensor, b: Tensor) -> Tensor:
    """Whether two vectors are equal, whatever their sizes."""
    return tf.cond(tf.size(a) == tf.size(b), lambda: tf.reduce_all(a == b), lambda: False)


def _map_structure(function: Any, sequences: Any) -> Any:
    """Applies a function to each ragged tensor or list in tuples and dicts."""
    if isinstance(sequences, dict):
        return {name: _map_structure(function, each) for name, each in sequences.items()}
    if isinstance(sequences, tuple):
        return tuple(_map_structure(function, each) for each in sequences)
    return function(sequences)


def _as_ragged(sequences: Any) -> Any:
    if isinstance(sequences, list):
        arrays = [tf.convert_to_tensor(each) for each in sequences]
        scalar = next((i for i, array in enumerate(arrays) if array.shape.rank == 0), None)
        if scalar is not None:
            raise TypeError(
                f"sequences must be a list of arrays [steps, ...], but number {scalar} is a scalar"
            )
        if not arrays:
            raise ValueError(
                "sequences must not be an empty list, because nothing then tells the shape of a "
                "step: pass a tf.RaggedTensor"
            )
        for i, array in enumerate(arrays):
            of_step, first = (array.shape[1:], array.dtype), (arrays[0].shape[1:], arrays[0].dtype)
            if of_step[1] != first[1] or not of_step[0].is_compatible_with(first[0]):
                raise ValueError(
                    "all arrays in sequences must have steps of one shape and dtype, but number 0 "
                    f"has {first[0]} {first[1].name}, and number {i} {of_step[0]} {of_step[1].name}"
                )
        lengths = [tf.shape(array, tf.int64)[0] for array in arrays]
        return tf.RaggedTensor.from_row_lengths(tf.concat(arrays, 0), lengths)
    if not isinstance(sequences, tf.RaggedTensor):
        raise TypeError(
            "sequences must be a tf.RaggedTensor or a list of arrays [steps, ...], or a tuple or "
            f"dict of these, but are a {type(sequences).__name__}"
        )
    if sequences.ragged_rank != 1:
        raise ValueError(
            "sequences must be ragged in their steps only, [sequences, (steps), ...], but have "
            f"{sequences.ragged_rank} ragged axes"
        )
    return sequences.with_row_splits_dtype(tf.int64)


# A function of its own, so that eager callers do not run the loop's operations one by one.
@tf.function(
    input_signature=[tf.TensorSpec([None], tf.int64), tf.TensorSpec([], tf.int64)],
    autograph=False,
)
def _first_fit(steps: Tensor, length: Tensor) -> tuple[Tensor, Tensor]:
    """The row of each sequence, and its first step there."""
    count = tf.size(steps)

    def put(i: Tensor, left: Tensor, rows: Any, starts: Any) -> tuple[Tensor, ...]:
        needed = steps[i]
        row = tf.argmax(left >= needed)  # The first one. A row that is still empty fits.
        start = length - left[row]
        left = tf.tensor_scatter_nd_sub(left, [[row]], [needed])
        return i + 1, left, rows.write(i, row), starts.write(i, start)

    arrays = (tf.TensorArray(tf.int64, count), tf.TensorArray(tf.int64, count))
    left = tf.fill([count], length)
    _, _, rows, starts = tf.while_loop(lambda i, *_: i < count, put, (0, left, *arrays))
    return rows.stack(), starts.stack()


def _index_of_steps(places: Tensor, length: Any) -> Tensor:
    """The place of each step among rows * length, sequence by sequence."""
    rows, starts, steps = tf.unstack(tf.cast(places, tf.int64), axis=1)
    first = tf.repeat(rows * length + starts - tf.cumsum(steps, exclusive=True), steps)
    return first + tf.range(tf.reduce_sum(steps), dtype=tf.int64)
