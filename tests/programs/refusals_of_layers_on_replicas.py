# SPDX-License-Identifier: MIT
import pytest
import tensorflow as tf
from replicas import shards_of, strategy

import tf_plr
from tf_plr import distributed

for wrong in ({"stateful": True}, {"algorithm": "composed"}):
    with pytest.raises(ValueError, match="sequence_parallel must be False"):
        tf_plr.GILR(4, sequence_parallel=True, **wrong)
with pytest.raises(ValueError, match='algorithm must not be "composed"'):
    tf.function(
        lambda: strategy.run(
            lambda: distributed.linear_recurrence([0.5], [1.0], algorithm="composed")
        )
    )()
assert distributed.linear_recurrence([0.5], [1.0], algorithm="composed") == 1  # One device.
layer = tf_plr.QRNN(4, kernel_size=4, sequence_parallel=True)
x = tf.zeros((2, 4, 3))
layer(x)
with strategy.scope():
    layer(x)  # Outside of strategy.run: whole sequences.
with pytest.raises(ValueError, match="at least kernel_size - 1 = 3 steps"):
    tf.function(lambda x: strategy.run(layer, (x,)))(*shards_of([x], 1))

batches = tf.data.Dataset.from_tensors((x, tf.zeros((2, 1)), tf.zeros((2,))))
for wrong, message in (
    ({"replicas": 0}, "at least 1"),
    ({"replicas": 3}, "multiple of the 3 replicas"),
    ({"replicas": 2, "targets": "last"}, '"sequence" or "step"'),
):
    with pytest.raises(ValueError, match=message):
        distributed.shard_sequences(batches, **wrong)
unknown = tf.data.Dataset.from_generator(
    lambda: iter([x]), output_signature=tf.TensorSpec([None, None, 3])
)
with pytest.raises(tf.errors.InvalidArgumentError, match="multiple of the 3 replicas"):
    next(iter(distributed.shard_sequences(unknown, 3)))
x, y, w = next(iter(distributed.shard_sequences(batches, 2)))
assert (x.shape, y.shape, w.shape) == ((4, 2, 3), (4, 1), (4,))
