# SPDX-License-Identifier: MIT
import pytest
import tensorflow as tf
from replicas import draw, shards_of, strategy

from tf_plr import distributed
from tf_plr.distributed._exchange import Exchange

shards = shards_of([draw([4, 3], "float32")] * 2, 0)


# Fakes replicas to reach our error under XLA: on CPU replicas, TensorFlow fails earlier, at the
# variables of a collective.
class NoReplicas:
    num_replicas_in_sync, replica_id_in_sync_group = 2, 0

    def all_reduce(self, operation, tensor):
        return tensor


exchange = Exchange(reverse=False)
exchange._context = NoReplicas()
tf.function(exchange.from_last)(tf.ones(3))
with pytest.raises(tf.errors.InvalidArgumentError, match=r"cannot_run_under_XLA"):
    tf.function(exchange.from_last, jit_compile=True)(tf.ones(3))


class NoNumbers(NoReplicas):
    replica_id_in_sync_group = None


with pytest.MonkeyPatch.context() as patch:
    patch.setattr(tf.distribute, "get_replica_context", NoNumbers)
    with pytest.raises(RuntimeError, match=r"traces each of them by itself"):
        Exchange(reverse=False)


@tf.function
def in_a_branch(*shards):
    def replica(decays, impulses):
        return tf.cond(
            decays[0, 0] > 0,
            lambda: distributed.linear_recurrence(decays, impulses),
            lambda: impulses,
        )

    return strategy.run(replica, args=shards)


with pytest.raises(RuntimeError, match=r"merge_call"):
    in_a_branch(*shards)

with strategy.scope(), pytest.raises(RuntimeError, match=r"inside strategy.run"):
    distributed.linear_recurrence([0.5], [1.0])


@tf.function(autograph=False)  # Which would wrap the error.
def twice(*shards):
    def replica(decays, impulses):
        with tf.GradientTape() as outer:
            outer.watch(decays)
            with tf.GradientTape() as inner:
                inner.watch(decays)
                states = distributed.linear_recurrence(decays, impulses)
            first = inner.gradient(states, decays)
        return outer.gradient(first, decays)

    return strategy.run(replica, args=shards)


with pytest.raises(LookupError, match=r"first derivatives only"):
    twice(*shards)
assert distributed.linear_recurrence([0.5, 0.5], [1.0, 1.0])[1] == 1.5  # In no strategy.
