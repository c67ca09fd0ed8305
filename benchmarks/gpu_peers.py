# SPDX-License-Identifier: MIT
"""Other libraries' forward pass on a GPU; timed where they are installed."""

import time

try:
    import torch
except ImportError:
    torch = None  # --help works without it.


def accelerated_scan(a, x):
    """In its own layout, on batch x features x time."""
    from accelerated_scan.warp import scan

    a, x = (tensor.transpose(1, 2).contiguous() for tensor in (a, x))
    return lambda: scan(a, x).transpose(1, 2)


def accelerated_scan_transposed(a, x):
    """With the transpositions that it needs."""
    from accelerated_scan.warp import scan

    def states():
        of_scan = scan(a.transpose(1, 2).contiguous(), x.transpose(1, 2).contiguous())
        return of_scan.transpose(1, 2).contiguous()

    return states


def fla_chunk_hgrn(a, x):
    """FLA's chunk_hgrn; the logarithms of the decays that it takes are not timed."""
    from fla.ops.hgrn import chunk_hgrn

    log_a = a.log()
    return lambda: chunk_hgrn(x, log_a)[0]


def fla_fused_recurrent_hgrn(a, x):
    from fla.ops.hgrn import fused_recurrent_hgrn

    log_a = a.log()
    return lambda: fused_recurrent_hgrn(x, log_a)[0]


PEERS = {
    "accelerated-scan, time contiguous": accelerated_scan,
    "accelerated-scan, with transpositions": accelerated_scan_transposed,
    "FLA chunk_hgrn": fla_chunk_hgrn,
    "FLA fused_recurrent_hgrn": fla_fused_recurrent_hgrn,
}


def jax_microseconds(inputs, expected, tolerance):
    """Wall-clock time of a jitted jax.lax.associative_scan; None if wrong or not installed."""
    try:
        import jax
    except ImportError:
        return None

    def compose(first, second):
        return second[0] * first[0], second[0] * first[1] + second[1]

    scan = jax.jit(lambda a, x: jax.lax.associative_scan(compose, (a, x), axis=1)[1])
    inputs = [[jax.dlpack.from_dlpack(tensor) for tensor in pair] for pair in inputs]
    states = torch.from_dlpack(jax.block_until_ready(scan(*inputs[0])))
    if not (states.double() - expected).abs().max() < tolerance:
        return None
    times = []
    for _ in range(5):
        start = time.perf_counter()
        for i in range(10):
            states = scan(*inputs[i % len(inputs)])
        jax.block_until_ready(states)
        times.append((time.perf_counter() - start) / 10 * 1e6)
    return min(times)
