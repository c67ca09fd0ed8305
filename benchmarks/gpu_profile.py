# SPDX-License-Identifier: MIT
"""Uses TensorFlow's profiler to list the kernels that a call runs on each GPU."""

import tempfile
from collections import defaultdict
from pathlib import Path

import tensorflow as tf

CALLS, LARGEST = 3, 10


def kernels_of(call):
    """Returns a text: each GPU's time per call, with copies, and the kernels that take longest."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2  # Slow to import.

    with tempfile.TemporaryDirectory() as folder:
        with tf.profiler.experimental.Profile(folder):
            for _ in range(CALLS):
                call()
        space = xplane_pb2.XSpace()
        for path in Path(folder).rglob("*.xplane.pb"):
            space.ParseFromString(path.read_bytes())
    return "\n".join(_of_gpu(plane) for plane in space.planes if "/device:GPU" in plane.name)


def _of_gpu(plane):
    spans, of_kernel = [], defaultdict(list)
    for line in plane.lines:
        if "Stream" not in line.name:
            continue
        for event in line.events:
            start = 1000 * line.timestamp_ns + event.offset_ps
            spans.append((start, start + event.duration_ps))
            name = plane.event_metadata[event.metadata_id].name.replace("tf_plr::", "")
            of_kernel[name.replace("gpu::", "")].append(event.duration_ps)
    busy = end = 0  # Time during which at least one kernel or copy ran.
    for start, stop in sorted(spans):
        busy += max(0, stop - max(start, end))
        end = max(end, stop)
    total = sum(map(sum, of_kernel.values()))
    ms = 1e9 * CALLS
    lines = [
        f"  {plane.name}: all {total / ms:.3f} ms, busy {busy / ms:.3f} ms, "
        f"{len(spans) / CALLS:.0f} kernels and copies"
    ]
    for name, times in sorted(of_kernel.items(), key=lambda item: -sum(item[1]))[:LARGEST]:
        lines.append(f"    {sum(times) / ms:.3f} ms {len(times) / CALLS:.1f}x {name[:96]}")
    return "\n".join(lines)
