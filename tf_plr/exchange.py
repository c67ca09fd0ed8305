# SPDX-License-Identifier: MIT
"""What the replicas of a `tf.distribute` strategy tell each other about parts of a sequence."""

from typing import Any

import tensorflow as tf

from tf_plr.recurrence import linear_recurrence


class Exchange:
    """Replica 0 has the first steps of each sequence, replica 1 those after them, and so on.

    To be made, and called, in a replica: by `strategy.run`, in a `tf.function` around it, and in no
    loop or branch of the graph. All that is said is one all-reduce, in which each replica has a
    slot of its own; but for `carry_before`, it can be differentiated. What is made of it is made by
    each replica for itself, in one order, so that no bit depends on timing.

    Args:
        reverse: Whether steps are processed from the last replica to the first. Below, the replica
            that comes first is meant in that order.

    Raises:
        RuntimeError: made outside of replicas, but in the scope of a strategy that has several; in
            a strategy that does not know which replica it traces.
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
        # TensorFlow traces each replica by itself, so that its number is known.
        number = tf.get_static_value(self._context.replica_id_in_sync_group)
        if number is None:
            raise RuntimeError(
                "what spreads sequences over replicas needs a strategy that knows which replica it "
                "traces, as MirroredStrategy does"
            )
        self._place = self.replicas - 1 - number if reverse else number

    def carry_before(self, transition: Any, start: Any = None, *, backward: bool = False) -> Any:
        """The carry before the steps of this replica. Has no gradient.

        Args:
            transition: [2, ...], what this replica's steps do: carry -> transition[0] * carry +
                transition[1].
            start: [...], the carry before all steps; that of the first replica is used. None:
                zeros.
            backward: Whether from the last replica to the first instead.
        """
        # Tapes must see the same operations in all replicas: else, going back, they take exchanges
        # in another order in each, and pair the wrong ones. These differ, so none sees them.
        transition = tf.stop_gradient(transition)
        place = self.replicas - 1 - self._place if backward else self._place
        if place == 0:
            decay, impulse = tf.unstack(transition)
            start = tf.zeros_like(impulse) if start is None else tf.stop_gradient(start)
            start = tf.cast(start, impulse.dtype)
            # The carry after these steps. Nobody uses the decay.
            said = self._slots(tf.stack([decay, decay * start + impulse]), place)
            # Or it may be left out, as nothing here needs it, and others wait for it.
            with tf.control_dependencies([said]):
                return tf.identity(start)
        slots = self._slots(transition, place)[:place]
        decays, impulses = tf.unstack(slots, axis=1)
        if place == 1:
            return impulses[0]
        # Of replicas instead of steps.
        carries = linear_recurrence(decays[1:], impulses[1:], impulses[0], algorithm="serial")
        return carries[-1]

    # What follows has gradients, and so the same operations in all replicas: see `carry_before`.

    def from_previous(self, tensor: Any, first: Any) -> Any:
        """The tensor of the replica before this one; `first` where there is none."""
        previous = self._slots(tensor, self._place)[max(0, self._place - 1)]  # Also of the first.
        return tf.where(self._place == 0, tf.cast(first, tensor.dtype), previous)

    def from_last(self, tensor: Any) -> Any:
        """The tensor of the last replica."""
        is_last = self._place == self.replicas - 1
        return self._all_reduce(tf.where(is_last, tensor, tf.zeros_like(tensor)))

    def of_first(self, tensor: Any) -> Any:
        """The tensor in the first replica, zeros in others."""
        return tf.where(self._place == 0, tensor, tf.zeros_like(tensor))

    def _slots(self, tensor: Any, place: int) -> Any:
        """The tensors of all replicas: [replicas, ...], that of this one at its place."""
        zeros = tf.zeros_like(tensor)
        own = [tensor if i == place else zeros for i in range(self.replicas)]
        return self._all_reduce(tf.stack(own))

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
