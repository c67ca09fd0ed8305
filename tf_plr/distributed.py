# SPDX-License-Identifier: MIT
"""One sequence over several devices, the replicas of a `tf.distribute` strategy."""

from typing import Any

import tensorflow as tf

from tf_plr.recurrence import checked
from tf_plr.recurrence import linear_recurrence as on_one_device
from tf_plr.time_axis import TimeAxis


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
    in no strategy, nothing is exchanged. A shard is scanned twice, as is its gradient; in 16-bit
    types, the state at its border is rounded to 16 bits.

    Args:
        decays: Tensor of this replica's steps, as for `tf_plr.linear_recurrence`; its shape must be
            that of the other replicas'.
        impulses: Tensor of the shape and dtype of `decays`.
        initial_state: The state before the first of all steps; that of the replica which has this
            step is used. None: zeros.
        axis: The axis of time.
        reverse: Whether to run from the end of the axis, and from the last replica, to the start.
        algorithm: `"auto"`, `"parallel"`, `"serial"` or `"composed"`.

    Returns:
        The states after each of this replica's steps: a tensor of the shape and dtype of `decays`.

    Raises:
        TypeError, ValueError: as `tf_plr.linear_recurrence`.
        LookupError: a second derivative is asked for.
        RuntimeError: called outside of replicas, but in the scope of a strategy that has several.
        tf.errors.InvalidArgumentError: the function is compiled by XLA, in which replicas would
            wait for each other forever.
    """
    how: dict[str, Any] = {"axis": axis, "reverse": reverse, "algorithm": algorithm}
    exchange = Exchange(reverse)
    if exchange.replicas == 1:
        return on_one_device(decays, impulses, initial_state, **how)
    decays, impulses, initial_state, axis = checked(
        decays, impulses, initial_state, axis, algorithm
    )
    time = TimeAxis(axis, reverse)
    if initial_state is None:
        initial_state = tf.zeros_like(time.last(impulses))

    @tf.custom_gradient
    def shard(decays: Any, impulses: Any, initial_state: Any) -> Any:
        product = tf.reduce_prod(_wide(decays), axis)
        own = tf.where(exchange.is_first, initial_state, 0)
        last = time.last(on_one_device(decays, impulses, own, **how))
        maps = exchange(tf.stack([product, _wide(last)]))
        # The first replica's fold is zero, and so is what the others have of their own.
        before = own + tf.cast(exchange.fold(maps, backward=False), decays.dtype)
        arguments = [decays, impulses, before]
        with tf.GradientTape(persistent=True) as tape:
            tape.watch(arguments)
            states = on_one_device(*arguments, **how)

        def gradient(d_states: Any) -> Any:
            def pull(d_states: Any) -> Any:
                return tape.gradient(states, arguments, output_gradients=d_states)

            carried = _wide(pull(d_states)[2])
            maps_back = tf.stack([tf.math.conj(maps[:, 0]), exchange(carried)], axis=1)
            after = tf.cast(exchange.fold(maps_back, backward=True), decays.dtype)
            d_decays, d_impulses, d_before = pull(time.add_to_last(d_states, after))
            gradients = d_decays, d_impulses, tf.where(exchange.is_first, d_before, 0)
            message = "a recurrence over several replicas has first derivatives only"
            return [tf.raw_ops.PreventGradient(input=g, message=message) for g in gradients]

        return states, gradient

    return shard(decays, impulses, initial_state)


class Exchange:
    """All-reduces of a buffer with a slot for each replica: see `linear_recurrence`."""

    def __init__(self, reverse: bool) -> None:
        self._context = tf.distribute.get_replica_context()
        if self._context is None:
            raise RuntimeError(
                "what spreads sequences over replicas must be called in a replica: by strategy.run"
            )
        self.replicas = self._context.num_replicas_in_sync
        self._own = tf.cast(self._context.replica_id_in_sync_group, tf.int32)
        # In the order of the recurrence.
        self._order = range(self.replicas)[:: -1 if reverse else 1]
        self.is_first = self._own == self._order[0]

    def __call__(self, tensor: Any) -> Any:
        """The tensors of all replicas: [replicas, ...]."""
        if tensor.dtype.is_complex:  # Which collectives do not take.
            return tf.complex(self(tf.math.real(tensor)), self(tf.math.imag(tensor)))
        # Has no kernel under XLA, where replicas would wait for each other forever.
        guard = tf.raw_ops.Timestamp(name="an_exchange_between_replicas_cannot_run_under_XLA")
        with tf.control_dependencies([guard]):
            ones = tf.ones([tf.rank(tensor)], tf.int32)
            mine = tf.reshape(
                tf.range(self.replicas) == self._own, tf.concat([[self.replicas], ones], 0)
            )
            # Not a product, which would spread NaN and infinities.
            slots = tf.where(mine, tensor[None], tf.zeros([], tensor.dtype))
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, slots)

    def fold(self, maps: Any, *, backward: bool) -> Any:
        """The state before this replica's steps, from zero; backward: the gradient after them.

        maps: [replicas, 2, ...], decay and impulse of each replica's map.
        """
        first, *others = reversed(self._order) if backward else self._order
        found = tf.zeros_like(maps[0, 1])
        state = maps[first, 1]  # From zero; a product with it might be infinity times zero.
        for replica in others:
            found = tf.where(self._own == replica, state, found)
            state = maps[replica, 0] * state + maps[replica, 1]
        return found


def _wide(tensor: Any) -> Any:
    """In the dtype in which recurrences are accumulated."""
    return tf.cast(tensor, tf.float32) if tensor.dtype.size == 2 else tensor
