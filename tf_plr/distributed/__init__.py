# SPDX-License-Identifier: MIT
"""Spreads each sequence over several devices: the replicas of a `tf.distribute` strategy."""

from typing import Any, Literal

import tensorflow as tf

from tf_plr._ops.linear_recurrence import linear_recurrence as on_one_device
from tf_plr._types import Algorithm, Tensor, uses_stock_ops
from tf_plr.distributed._exchange import Exchange
from tf_plr.distributed._recurrences import sharded_linear_recurrence


def shard_sequences(
    dataset: Any, replicas: int, *, targets: Literal["sequence", "step"] = "sequence"
) -> Any:
    """Cuts the sequences in a dataset's batches into parts of equal length, one for each replica.

    Sequences [batch, time, ...] become [replicas * batch, time / replicas, ...]: the first parts of
    all sequences, then the second parts, and so on. `fit` and
    `strategy.experimental_distribute_dataset` give each replica its share of the batch in this
    order, which layers with `sequence_parallel=True` expect. Layers between them must process each
    step independently, as `Dense` does.

    Example:

    >>> batches = tf.data.Dataset.from_tensors((tf.zeros((8, 1000, 3)), tf.zeros((8, 1))))
    >>> x, y = next(iter(tf_plr.distributed.shard_sequences(batches, 2)))
    >>> x.shape, y.shape
    (TensorShape([16, 500, 3]), TensorShape([16, 1]))

    Args:
        dataset: `tf.data.Dataset` of batches: sequences, or (sequences, targets), or (sequences,
            targets, sample weights). Sequences may be any structure of tensors [batch, time, ...].
        replicas: Number of replicas, `strategy.num_replicas_in_sync`.
        targets: `"sequence"`: one target for each sequence, [batch, ...]; every replica gets all of
            them. `"step"`: one target for each step, [batch, time, ...]; they are cut like the
            sequences. Sample weights are cut if they have a time axis.

    Returns:
        A `tf.data.Dataset` of the same structure.

    Raises:
        ValueError: the number of steps is not a multiple of `replicas`, or another argument is out
            of range.
        tf.errors.InvalidArgumentError: the same, if the number of steps is known only when the
            graph runs.
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
        with tf.control_dependencies([equal]):  # Fails before `split`, whose message is less clear.
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

    Call it in a replica: by `strategy.run`, in a `tf.function`. Replica 0 has the first steps of
    each sequence, replica 1 the next ones, and so on. Each replica reduces its steps to one map,
    from the state before them to the state after them, and the replicas exchange these maps. Each
    replica then applies the maps of the steps before its own, in a fixed order, and runs its shard
    from the resulting state. The gradient is computed in the same way, in the opposite direction;
    second derivatives are not supported. With one replica, or without a strategy, nothing is
    exchanged. In 16-bit types, the state between two shards is rounded to 16 bits.

    Args:
        decays: Tensor of this replica's steps, as for `tf_plr.linear_recurrence`. It may be
            broadcast. If it has size 1 over time, each replica passes the decay of its own steps,
            and replicas may differ.
        impulses: Tensor of this replica's steps. Its shape must be the same in all replicas.
        initial_state: The state before the first step of the whole sequence. Only the replica that
            has this step uses it. None: zeros.
        axis: The axis of time.
        reverse: Whether to run backwards: from the last replica to the first, and from the end of
            the axis to its start.
        algorithm: `"auto"`, `"parallel"` or `"serial"`.

    Returns:
        The states after each of this replica's steps: a tensor of the shape and dtype of
            `impulses`.

    Raises:
        TypeError, ValueError: as for `tf_plr.linear_recurrence`; or `algorithm` is `"composed"`
            with several replicas.
        LookupError: a second derivative is computed.
        RuntimeError: called in the scope of a strategy with several replicas, but outside of
            `strategy.run`.
        tf.errors.InvalidArgumentError: XLA compiles the function. Under XLA, replicas would wait
            for each other forever.
    """
    exchange = Exchange(reverse)
    how: dict[str, Any] = {"axis": axis, "reverse": reverse, "algorithm": algorithm}
    if exchange.replicas == 1:
        return on_one_device(decays, impulses, initial_state, **how)
    if uses_stock_ops(algorithm):
        raise ValueError('algorithm must not be "composed" where replicas share a sequence')
    return sharded_linear_recurrence(exchange, decays, impulses, initial_state, **how)


__all__ = ["linear_recurrence", "shard_sequences"]
