# SPDX-License-Identifier: MIT
"""What the replicas of a `tf.distribute` strategy tell each other about parts of a sequence."""

from typing import Any

import tensorflow as tf


class Exchange:
    """Replica 0 has the first steps of each sequence, replica 1 those after them, and so on.

    To be made, and called, in a replica, by `strategy.run` in a `tf.function`. All that is said is
    one all-reduce, in which each replica has a slot of its own, and can be differentiated. What is
    made of it is made by each replica for itself, in one order, so that no bit depends on timing.

    Args:
        reverse: Whether steps are processed from the last replica to the first. Below, the replica
            that comes first is meant in that order.

    Raises:
        RuntimeError: made outside of replicas, but in the scope of a strategy that has several.
        tf.errors.InvalidArgumentError: called in a function that XLA compiles, in which replicas
            would wait for each other forever.
    """

    def __init__(self, reverse: bool) -> None:
        self._context = tf.distribute.get_replica_context()
        if self._context is None:
            raise RuntimeError(
                "what spreads sequences over replicas must be called in a replica: by strategy.run"
            )
        self.replicas: int = self._context.num_replicas_in_sync
        self._own = tf.cast(self._context.replica_id_in_sync_group, tf.int32)
        self._order = range(self.replicas)[:: -1 if reverse else 1]

    def carry_before(self, transition: Any, start: Any, *, backward: bool = False) -> Any:
        """The carry before the steps of this replica.

        Args:
            transition: [2, ...], what this replica's steps do: carry -> transition[0] * carry +
                transition[1].
            start: [...], the carry before all steps; that of the first replica is used.
            backward: Whether from the last replica to the first instead.
        """
        first, *others = reversed(self._order) if backward else self._order
        decay, impulse = transition[0], transition[1]
        start = tf.cast(start, decay.dtype)
        # Not a product, which would spread NaN and infinities.
        from_start = tf.where(self._own == first, decay * start + impulse, impulse)
        all_decays, all_impulses = tf.unstack(self._slots(tf.stack([decay, from_start])), axis=1)
        before, carry = start, all_impulses[first]
        for replica in others:
            before = tf.where(self._own == replica, carry, before)
            carry = all_decays[replica] * carry + all_impulses[replica]
        return before

    def from_previous(self, tensor: Any, first: Any) -> Any:
        """The tensor of the replica before this one; `first` where there is none."""
        slots = self._slots(tensor)
        found = tf.cast(first, tensor.dtype)
        for before, replica in zip(self._order, self._order[1:], strict=False):
            found = tf.where(self._own == replica, slots[before], found)
        return found

    def from_last(self, tensor: Any) -> Any:
        """The tensor of the last replica."""
        is_last = self._own == self._order[-1]
        return self._all_reduce(tf.where(is_last, tensor, tf.zeros_like(tensor)))

    def of_first(self, tensor: Any) -> Any:
        """The tensor in the first replica, zeros in others."""
        return tf.where(self._own == self._order[0], tensor, tf.zeros_like(tensor))

    def _slots(self, tensor: Any) -> Any:
        """The tensors of all replicas: [replicas, ...]."""
        ones = tf.ones([tf.rank(tensor)], tf.int32)
        own = tf.range(self.replicas) == self._own
        mine = tf.reshape(own, tf.concat([[self.replicas], ones], 0))
        return self._all_reduce(tf.where(mine, tensor[None], tf.zeros([], tensor.dtype)))

    def _all_reduce(self, tensor: Any) -> Any:
        if tensor.dtype.is_complex:  # Which collectives do not take.
            parts = tf.math.real(tensor), tf.math.imag(tensor)
            return tf.complex(*(self._all_reduce(part) for part in parts))
        # Has no kernel under XLA.
        guard = tf.raw_ops.Timestamp(name="an_exchange_between_replicas_cannot_run_under_XLA")
        with tf.control_dependencies([guard]):
            tensor = tf.identity(tensor)
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)
