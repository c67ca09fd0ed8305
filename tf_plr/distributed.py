# SPDX-License-Identifier: MIT
"""One sequence over several devices, the replicas of a `tf.distribute` strategy."""

from typing import Any, Literal

import tensorflow as tf

from tf_plr import _library, gated_recurrence
from tf_plr.exchange import Exchange
from tf_plr.recurrence import checked
from tf_plr.recurrence import linear_recurrence as on_one_device


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
    decays: Any,
    impulses: Any,
    initial_state: Any = None,
    *,
    axis: int = 0,
    reverse: bool = False,
    algorithm: str = "auto",
) -> Any:
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
    if algorithm == "composed":
        raise ValueError('algorithm must not be "composed" where replicas share a sequence')
    return linear_recurrence_over(exchange, decays, impulses, initial_state, **how)


def linear_recurrence_over(
    exchange: Exchange,
    decays: Any,
    impulses: Any,
    initial_state: Any,
    *,
    axis: int,
    reverse: bool = False,
    algorithm: str,
) -> Any:
    """As `linear_recurrence`; `exchange` says in which order replicas are processed."""
    decays, impulses, initial_state, axis = checked(
        decays, impulses, initial_state, axis, algorithm
    )
    native = _library.load_library()
    dtype = decays.dtype
    wide = tf.float32 if dtype.size == 2 else dtype

    @tf.custom_gradient
    def shard(decays: Any, impulses: Any, *start: Any) -> Any:
        def carry_before(inputs: Any, *start: Any, backward: bool) -> Any:
            transition = native.tf_plr_linear_recurrence_transition(
                decays, inputs, A=wide, axis=axis, reverse=reverse, gradient=backward
            )
            return tf.cast(exchange.carry_before(transition, *start, backward=backward), dtype)

        how = {"axis": axis, "reverse": reverse, "algorithm": algorithm}
        before = carry_before(impulses, *start, backward=False)
        states = native.tf_plr_linear_recurrence(decays, impulses, [before], **how)

        def gradient(d_states: Any) -> Any:
            after = carry_before(d_states, backward=True)
            d_decays, d_impulses, d_before = native.tf_plr_linear_recurrence_grad(
                decays, states, d_states, [before], [after], **how
            )
            return _once(d_decays, d_impulses, *(exchange.of_first(d_before[0]) for _ in start))

        return states, gradient

    return shard(decays, impulses, *([] if initial_state is None else [initial_state]))


def gated_recurrence_over(
    exchange: Exchange,
    product: Any,
    bias: Any,
    beside: Any,
    initial_state: Any,
    mask: Any,
    *,
    cell: str,
    blocks: list[int],
    keep_states: bool,
    algorithm: str,
) -> tuple[Any, Any]:
    """As `tf_plr.gated_recurrence.gated_recurrence`, of steps that are spread over replicas.

    The last state is that after this replica's steps.
    """
    native = _library.load_library()
    how: dict[str, Any] = {"cell": cell, "blocks": blocks}
    given = {"product": product, "bias": bias, "beside": beside}
    given = {name: tensor for name, tensor in given.items() if tensor is not None}

    @tf.custom_gradient
    def shard(initial_state: Any, *tensors: Any) -> Any:
        inputs = {**dict.fromkeys(("bias", "beside")), **dict(zip(given, tensors, strict=True))}

        def transition_of(d_outputs: list[Any]) -> Any:
            arguments = (inputs["bias"], inputs["beside"], mask)
            optional = [[] if tensor is None else [tensor] for tensor in arguments]
            return native.tf_plr_gated_recurrence_transition(
                inputs["product"], *optional, d_outputs, reverse=False, **how
            )

        before = exchange.carry_before(transition_of([]), initial_state)
        arguments = [before, *tensors]
        # Persistent, as may be a tape around it.
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arguments)
            results = gated_recurrence.gated_recurrence(
                **inputs, initial_state=before, mask=mask, keep_states=keep_states,
                algorithm=algorithm, **how,
            )  # fmt: skip

        def gradient(d_outputs: Any, d_last: Any) -> Any:
            after = exchange.carry_before(transition_of([d_outputs]), d_last, backward=True)
            d_before, *rest = tape.gradient(results, arguments, [d_outputs, after])
            return _once(exchange.of_first(d_before), *rest)

        return results, gradient

    outputs, last = shard(initial_state, *given.values())
    return outputs, last


def _once(*gradients: Any) -> list[Any]:
    """Gradients that cannot be differentiated again."""
    message = "a recurrence over several replicas has first derivatives only"
    return [tf.raw_ops.PreventGradient(input=gradient, message=message) for gradient in gradients]
