# SPDX-License-Identifier: MIT
"""The exchange of states between replicas that hold consecutive parts of each sequence."""

import tensorflow as tf

from tf_plr._ops.composed import times_unless_zero
from tf_plr._types import Tensor


class Exchange:
    """Exchanges tensors between replicas that hold consecutive parts of each sequence.

    Replica 0 has the first steps of each sequence, replica 1 the next ones, and so on. Create and
    call an exchange in a replica: by `strategy.run`, in a `tf.function`, outside of the graph's
    loops and branches. `carry_before` and `from_previous` all-reduce a buffer with a slot for each
    replica. Each replica combines the slots itself, in a fixed order, so that results do not depend
    on timing. `from_last` all-reduces a tensor that is zero in all other replicas. All methods
    except `carry_before` can be differentiated.

    Args:
        reverse: Whether steps are processed from the last replica to the first. The methods count
            replicas in the order of processing.

    Raises:
        RuntimeError: created in the scope of a strategy with several replicas, but outside of
            `strategy.run`; or the strategy does not trace each replica by itself.
        tf.errors.InvalidArgumentError: XLA compiles the function. Under XLA, replicas would wait
            for each other forever.
    """

    def __init__(self, reverse: bool) -> None:
        self._context = tf.distribute.get_replica_context()
        if self._context is None:
            raise RuntimeError(
                "a sequence can be shared by replicas only inside strategy.run(...): call layers "
                "with sequence_parallel=True, and tf_plr.distributed.linear_recurrence, there"
            )
        self.replicas: int = self._context.num_replicas_in_sync
        # The number is known only if the strategy traces each replica separately.
        number = tf.get_static_value(self._context.replica_id_in_sync_group)
        if number is None:
            raise RuntimeError(
                "a sequence can be shared only by the replicas of a strategy that traces each of "
                "them by itself, as MirroredStrategy does"
            )
        self._place = self.replicas - 1 - number if reverse else number

    def carry_before(
        self,
        transition: Tensor,
        start: Tensor = None,
        *,
        backward: bool = False,
        forgets: bool = False,
    ) -> Tensor:
        """The carry before the steps of this replica. Has no gradient.

        Args:
            transition: [2, ...]: this replica's steps map a carry to transition[0] * carry +
                transition[1].
            start: [...], the carry before all steps. Only the first replica uses it. None: zeros.
            backward: Whether carries run from the last replica to the first.
            forgets: Whether a decay of 0 forgets even Inf and NaN.
        """
        times = times_unless_zero if forgets else tf.multiply
        # A tape must see the same operations in all replicas. Otherwise, backward passes would run
        # the all-reduces in different orders, and pair the wrong ones. The operations below differ
        # between replicas, so tapes must not see them.
        transition = tf.stop_gradient(transition)
        place = self.replicas - 1 - self._place if backward else self._place
        if place == 0:
            decay, impulse = tf.unstack(transition)
            start = tf.zeros_like(impulse) if start is None else tf.stop_gradient(start)
            start = tf.cast(start, impulse.dtype)
            # The impulse is the carry after these steps. No replica uses the decay.
            sent = self._gather_slots(tf.stack([decay, times(decay, start) + impulse]), place)
            # Keeps the all-reduce alive: this replica ignores it, the others wait for it.
            with tf.control_dependencies([sent]):
                return tf.identity(start)
        slots = self._gather_slots(transition, place)
        carry = slots[0, 1]
        for earlier in range(1, place):
            carry = times(slots[earlier, 0], carry) + slots[earlier, 1]
        return carry

    # The methods below have gradients, so they run the same operations in all replicas: see above.

    def from_previous(self, tensor: Tensor, first: Tensor) -> Tensor:
        """The tensor of the replica before this one; in the first replica, `first`."""
        # The first replica reads its own slot, and ignores it.
        previous = self._gather_slots(tensor, self._place)[max(0, self._place - 1)]
        return tf.where(self._place == 0, tf.cast(first, tensor.dtype), previous)

    def from_last(self, tensor: Tensor) -> Tensor:
        """The tensor of the last replica."""
        is_last = self._place == self.replicas - 1
        return self._all_reduce(tf.where(is_last, tensor, tf.zeros_like(tensor)))

    def zeros_except_first(self, tensor: Tensor) -> Tensor:
        """The tensor in the first replica, zeros in others."""
        return tf.where(self._place == 0, tensor, tf.zeros_like(tensor))

    def _gather_slots(self, tensor: Tensor, place: int) -> Tensor:
        """The tensors of all replicas, [replicas, ...]; this replica's is at `place`."""
        zeros = tf.zeros_like(tensor)
        own = [tensor if i == place else zeros for i in range(self.replicas)]
        return self._all_reduce(tf.stack(own))

    def _all_reduce(self, tensor: Tensor) -> Tensor:
        if tensor.dtype.is_complex:  # Collectives do not take complex numbers.
            parts = tf.math.real(tensor), tf.math.imag(tensor)
            return tf.complex(*(self._all_reduce(part) for part in parts))
        if tensor.dtype.size == 2:  # The cast is exact, and cheap for so few elements.
            return tf.cast(self._all_reduce(tf.cast(tensor, tf.float32)), tensor.dtype)
        # XLA has no kernel for this op, so it refuses to compile the function. If it compiled it,
        # replicas would wait for each other forever.
        guard = tf.raw_ops.Timestamp(name="an_exchange_between_replicas_cannot_run_under_XLA")
        with tf.control_dependencies([guard]):
            tensor = tf.identity(tensor)
        return self._context.all_reduce(tf.distribute.ReduceOp.SUM, tensor)
