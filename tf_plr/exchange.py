# SPDX-License-Identifier: MIT
"""What the replicas of a `tf.distribute` strategy tell each other about parts of a sequence."""

from typing import Any

import tensorflow as tf

from tf_plr.recurrence import linear_recurrence


class Exchange:
    """Replica 0 has the first steps of each sequence, replica 1 those after them, and so on.

    To be made, and called, in a replica: by `strategy.run`, in a `tf.function` around it, and in no
    loop or branch of the graph. All that is said is one all-reduce, in which each replica has a
    slot of its own, and can be differentiated. What is made of it is made by each replica for
    itself, in one order, so that no bit depends on timing.

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
        self._reverse = reverse

    def carry_before(self, transition: Any, start: Any = None, *, backward: bool = False) -> Any:
        """The carry before the steps of this replica.

        Args:
            transition: [2, ...], what this replica's steps do: carry -> transition[0] * carry +
                transition[1].
            start: [...], the carry before all steps; that of the first replica is used. None:
                zeros.
            backward: Whether from the last replica to the first instead.
        """
        decay, impulse = transition[0], transition[1]
        start = tf.zeros_like(impulse) if start is None else tf.cast(start, impulse.dtype)
        is_first = self._is_first(backward)
        # Where a product is not wanted, it is not made: it would spread NaN and infinities.
        impulse = tf.where(is_first, decay * start + impulse, impulse)
        decay = tf.where(is_first, tf.zeros_like(decay), decay)
        decays, impulses = tf.unstack(self._slots(tf.stack([decay, impulse])), axis=1)
        # Of replicas instead of steps.
        carries = linear_recurrence(
            decays, impulses, reverse=self._reverse != backward, algorithm="serial"
        )
        return tf.where(is_first, start, self._of_previous(carries, backward))

    def from_previous(self, tensor: Any, first: Any) -> Any:
        """The tensor of the replica before this one; `first` where there is none."""
        previous = self._of_previous(self._slots(tensor), backward=False)
        return tf.where(self._is_first(), tf.cast(first, tensor.dtype), previous)

    def from_last(self, tensor: Any) -> Any:
        """The tensor of the last replica."""
        is_last = self._is_first(backward=True)
        return self._all_reduce(tf.where(is_last, tensor, tf.zeros_like(tensor)))

    def of_first(self, tensor: Any) -> Any:
        """The tensor in the first replica, zeros in others."""
        return tf.where(self._is_first(), tensor, tf.zeros_like(tensor))

    def _is_first(self, backward: bool = False) -> Any:
        return self._own == (self.replicas - 1 if self._reverse != backward else 0)

    def _of_previous(self, slots: Any, backward: bool) -> Any:
        """The slot of the replica before; of the first, any."""
        number = self._own + (1 if self._reverse != backward else -1)
        return slots[tf.clip_by_value(number, 0, self.replicas - 1)]

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
        if tensor.dtype.size == 2:  # Of few elements: exact, and cheap.
            return tf.cast(self._all_reduce(tf.cast(tensor, tf.float32)), tensor.dtype)
        # Has no kernel under XLA.
        guard = tf.raw_ops.Timestamp(name="an_exchange_between_replicas_cannot_run_under_XLA")
        with tf.control_dependencies([guard]):
            tensor = tf.identity(tensor)
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)
