# SPDX-License-Identifier: MIT
"""The exchange of states between replicas that hold consecutive parts of each sequence."""

import tensorflow as tf

from tf_plr._ops.linear_recurrence import linear_recurrence
from tf_plr._types import Tensor


class Exchange:
    """Replica 0 has the first steps of each sequence, replica 1 those after them, and so on.

    Make it and call it in a replica: by `strategy.run` in a `tf.function`, outside of the graph's
    loops and branches. Each method is one all-reduce of a buffer with a slot for each replica. Each
    replica combines the slots itself, in a fixed order, so that no bit depends on timing. All
    methods but `carry_before` can be differentiated.

    Args:
        reverse: Whether steps are processed from the last replica to the first. The methods count
            replicas in the order of processing.

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
                "a sequence can be shared by replicas only inside strategy.run(...): call layers "
                "with sequence_parallel=True, and tf_plr.distributed.linear_recurrence, there"
            )
        self.replicas: int = self._context.num_replicas_in_sync
        # TensorFlow traces each replica by itself, so that its number is known.
        number = tf.get_static_value(self._context.replica_id_in_sync_group)
        if number is None:
            raise RuntimeError(
                "a sequence can be shared only by the replicas of a strategy that traces each of "
                "them by itself, as MirroredStrategy does"
            )
        self._place = self.replicas - 1 - number if reverse else number

    def carry_before(
        self, transition: Tensor, start: Tensor = None, *, backward: bool = False
    ) -> Tensor:
        """The carry before the steps of this replica. Has no gradient.

        Args:
            transition: [2, ...]: this replica's steps map a carry to transition[0] * carry +
                transition[1].
            start: [...], the carry before all steps; that of the first replica is used. None:
                zeros.
            backward: Whether from the last replica to the first instead.
        """
        # Tapes must see the same operations in all replicas: else the backward passes take the
        # exchanges in different orders, and pair the wrong ones. These operations differ between
        # replicas, so no tape sees them.
        transition = tf.stop_gradient(transition)
        place = self.replicas - 1 - self._place if backward else self._place
        if place == 0:
            decay, impulse = tf.unstack(transition)
            start = tf.zeros_like(impulse) if start is None else tf.stop_gradient(start)
            start = tf.cast(start, impulse.dtype)
            # The carry after these steps. Nobody uses the decay.
            sent = self._slots(tf.stack([decay, decay * start + impulse]), place)
            # Keeps the all-reduce alive: this replica ignores it, the others wait for it.
            with tf.control_dependencies([sent]):
                return tf.identity(start)
        slots = self._slots(transition, place)[:place]
        decays, impulses = tf.unstack(slots, axis=1)
        if place == 1:
            return impulses[0]
        # A recurrence over replicas instead of steps.
        carries = linear_recurrence(decays[1:], impulses[1:], impulses[0], algorithm="serial")
        return carries[-1]

    # The methods below have gradients, and so the same operations in all replicas: see above.

    def from_previous(self, tensor: Tensor, first: Tensor) -> Tensor:
        """The tensor of the replica before this one; `first` where there is none."""
        previous = self._slots(tensor, self._place)[
            max(0, self._place - 1)
        ]  # The first reads its own.
        return tf.where(self._place == 0, tf.cast(first, tensor.dtype), previous)

    def from_last(self, tensor: Tensor) -> Tensor:
        """The tensor of the last replica."""
        is_last = self._place == self.replicas - 1
        return self._all_reduce(tf.where(is_last, tensor, tf.zeros_like(tensor)))

    def of_first(self, tensor: Tensor) -> Tensor:
        """The tensor in the first replica, zeros in others."""
        return tf.where(self._place == 0, tensor, tf.zeros_like(tensor))

    def _slots(self, tensor: Tensor, place: int) -> Tensor:
        """The tensors of all replicas: [replicas, ...], that of this one at its place."""
        zeros = tf.zeros_like(tensor)
        own = [tensor if i == place else zeros for i in range(self.replicas)]
        return self._all_reduce(tf.stack(own))

    def _all_reduce(self, tensor: Tensor) -> Tensor:
        if tensor.dtype.is_complex:  # Collectives do not take complex numbers.
            parts = tf.math.real(tensor), tf.math.imag(tensor)
            return tf.complex(*(self._all_reduce(part) for part in parts))
        if tensor.dtype.size == 2:  # Exact, and of few elements.
            return tf.cast(self._all_reduce(tf.cast(tensor, tf.float32)), tensor.dtype)
        # An op without a kernel under XLA: replicas would wait for each other forever there.
        guard = tf.raw_ops.Timestamp(name="an_exchange_between_replicas_cannot_run_under_XLA")
        with tf.control_dependencies([guard]):
            tensor = tf.identity(tensor)
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)
