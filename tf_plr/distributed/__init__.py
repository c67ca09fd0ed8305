# SPDX-License-Identifier: MIT
"""One sequence over several devices, the replicas of a `tf.distribute` strategy."""

from typing import Any, Literal

import tensorflow as tf

from tf_plr._ops.linear_recurrence import linear_recurrence as on_one_device
from tf_plr._types import Algorithm, Tensor, uses_stock_ops
from tf_plr.distributed._exchange import Exchange
from tf_plr.distributed._recurrences import linear_recurrence_over


def shard_sequences(
    dataset: Any, replicas: int, *, targets: Literal["sequence", "step"] = "sequence"
) -> Any:
    """Cuts the sequences in a dataset's batches into parts of equal length, one for each replica.

    Sequences [batch, time, ...] become [replicas * batch, time / replicas, ...]: the first parts of
    all, then the second parts, and so on. `fit` and `strategy.experimental_distribute_dataset` give
    each replica its share of the batch in this order; layers with `sequence_parallel=True` take it
    from there. Layers between them must treat every step by itself, as `Dense` does.

    Example:

    >>> batches = tf.data.Dataset.from_tensors((tf.zeros((8, 1000, 3)), tf.zeros((8, 1))))
    >>> x, y = next(iter(tf_plr.distributed.shard_sequences(batches, 2)))
    >>> x.shape, y.shape
    (TensorShape([16, 500, 3]), TensorShape([16, 1]))

    Args:
        dataset: `tf.data.Dataset` of batches: sequences, or (sequences, targets), or (sequences,
            targets, sample weights). Sequences may be any structure of tensors [batch, time, ...].
        replicas: Their number, `strategy.num_replicas_in_sync`.
        targets: `"sequence"`: a target for each sequence, [batch, ...], which every replica gets;
            `"step"`: one for each step, [batch, time, ...], cut as the sequences are. Sample
            weights are cut if they have an axis of time.

    Returns:
        A `tf.data.Dataset` of the same structure.

    Raises:
        ValueError: a number of steps that replicas cannot share equally; other arguments out of
            range.
        tf.errors.InvalidArgumentError: the same, where only the running graph knows the steps.
    """
    if replicas < 1:
        raise ValueError(f"replicas must be at least 1, but is {replicas}")
    if targets not in ("sequence", "step"):
        raise ValueError(f'targets must be "sequence" or "step", but is {targets!r}')

    def cut(tensor: Any) -> Any:
        message = f"the steps, axis 1, must be a multiple of the {replicas} replicas"
        if tensor.shape[1] is not None and tensor.shape[1] % replicas != 0:
            raise ValueError(f"{message}, but the shape is {tuple(tensor.shape)}")
        equal = tf.debugging.assert_equal(tf.shape(tensor)[1] % replicas, 0, message)
        with tf.control_dependencies([equal]):  # Before `split` says so in its own words.
            return tf.concat(tf.split(tensor, replicas, axis=1), axis=0)

    def repeat(tensor: Any) -> Any:
        return tf.concat([tensor] * replicas, axis=0)

    def has_time(weights: Any) -> bool:
        return targets == "step" and weights.shape.rank != 1

    def shard(sequences: Any, *others: Any) -> Any:
        sequences = tf.nest.map_structure(cut, sequences)
        if not others:
            return sequences
        y, *weights = others
        y = tf.nest.map_structure(cut if targets == "step" else repeat, y)
        weights = tf.nest.map_structure(lambda w: cut(w) if has_time(w) else repeat(w), weights)
        return sequences, y, *weights

    return dataset.map(shard, num_parallel_calls=tf.data.AUTOTUNE)


def linear_recurrence(
    decays: Tensor,
    impulses: Tensor,
    initial_state: Tensor = None,
    *,
    axis: int = 0,
    reverse: bool = False,
    algorithm: Algorithm = "auto",
) -> Tensor:
    """Computes a linear recurrence whose steps are spread over replicas, in equal shards.

    To be called in a replica, by `strategy.run` in a `tf.function`: replica 0 has the first steps
    of each sequence, replica 1 those after them, and so on. Every replica reduces its steps to one
    map, from the state before them to the state after. These are exchanged; each replica applies
    those of the steps before its own, in a fixed order, and runs its shard from the state that it
    finds. Gradients take the same way back, once: there are no second ones. With one replica, or
    in no strategy, nothing is exchanged. In 16-bit types, the state at the border of a shard is
    rounded to 16 bits.

    Args:
        decays: Tensor of this replica's steps, as for `tf_plr.linear_recurrence`; its shape must be
            that of the other replicas'.
        impulses: Tensor of the shape and dtype of `decays`.
        initial_state: The state before the first of all steps; that of the replica which has this
            step is used. None: zeros.
        axis: The axis of time.
        reverse: Whether to run from the end of the axis, and from the last replica, to the start.
        algorithm: `"auto"`, `"parallel"` or `"serial"`.

    Returns:
        The states after each of this replica's steps: a tensor of the shape and dtype of `decays`.

    Raises:
        TypeError, ValueError: as `tf_plr.linear_recurrence`, and for `"composed"` with several
            replicas.
        LookupError: a second derivative is asked for.
        RuntimeError: called outside of replicas, but in the scope of a strategy that has several.
        tf.errors.InvalidArgumentError: the function is compiled by XLA, in which replicas would
            wait for each other forever.
    """
    exchange = Exchange(reverse)
    how: dict[str, Any] = {"axis": axis, "reverse": reverse, "algorithm": algorithm}
    if exchange.replicas == 1:
        return on_one_device(decays, impulses, initial_state, **how)
    if uses_stock_ops(algorithm):
        raise ValueError('algorithm must not be "composed" where replicas share a sequence')
    return linear_recurrence_over(exchange, decays, impulses, initial_state, **how)


__all__ = ["linear_recurrence", "shard_sequences"]
