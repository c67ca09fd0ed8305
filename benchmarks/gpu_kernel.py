# SPDX-License-Identifier: MIT
"""The GPU engine without TensorFlow, against this GPU's own memory speed and against peers.

    make gpu-benchmark        # needs nvcc, a GPU, and PyTorch

Each result is checked against a float64 recurrence before it is timed; a wrong one gets no time.
Kernels are timed in a replayed CUDA graph: the median of several replays of many launches. If one
set of arrays would fit into the cache, launches alternate between several sets. The limit is the
faster of a device-to-device copy and an add of two arrays into a third, measured in the same
process; percentages count every input and output once. Then follow peers, if they are installed
(gpu_peers.py), "auto" against the better of "serial" and "parallel" on a grid of shapes, and what a
byte costs in rows of odd widths, compared with rows of the next multiple of 64 columns.
"""

import argparse
import ctypes
import itertools
import json
import os
from pathlib import Path

os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

import gpu_peers
from environment import environment

try:
    import torch
except ImportError:
    torch = None  # --help works without it.

ROOT = Path(__file__).resolve().parent.parent
DTYPES = [
    getattr(torch, name, None)
    for name in ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
]
ALGORITHMS = ("auto", "parallel", "serial")

# batch x time x features
LARGE = [
    (1, 1_048_576, 64), (1, 131_072, 512), (1, 65_536, 1024), (8, 65_536, 768), (8, 4096, 1536),
    (32, 2048, 1024), (256, 256, 1024), (64, 1024, 256), (4096, 16, 256), (12_288, 4096, 1),
    (1, 268_435_456, 1),
]  # fmt: skip
ODD = [(3, 50_021, 234), (7, 9973, 100), (5, 65_536, 6)]
PEER_SHAPES = [
    (1, 65_536, 1024), (8, 65_536, 768), (8, 4096, 1536), (32, 2048, 1024), (256, 256, 1024),
    (64, 1024, 256), (1, 65_536, 128), (1, 4096, 128), (1, 256, 128),
]  # fmt: skip
GRID = [
    *itertools.product((1, 8), (16, 256, 4096, 65_536), (4, 32, 96, 256, 768)),
    *itertools.product((64,), (16, 256, 4096), (4, 32, 96, 256, 768)),
    *((2, 65_536, features) for features in (4, 32, 96, 256, 768)),
]
WIDTHS = (33, 65, 100, 234, 257, 1023)
SMALL = [(1, 65_536, 4), (1, 65_536, 32), (1, 65_536, 128), (1, 4096, 128), (1, 256, 128)]


class Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("outer", "steps", "inner")),
        *((name, ctypes.c_int) for name in ("reverse", "algorithm")),
        ("inputs", ctypes.c_void_p * 3),
        ("outputs", ctypes.c_void_p * 2),
        *((n, ctypes.c_void_p) for n in ("initial_carry", "final_carry", "boundary")),
        ("workspace", ctypes.c_void_p),
        ("workspace_bytes", ctypes.c_size_t),
        ("stream", ctypes.c_void_p),
    ]


class Engine:
    def __init__(self, path):
        self._run = ctypes.CDLL(str(path)).tf_plr_gpu_run
        self._run.restype = ctypes.c_char_p

    def launcher(self, gradient, inputs, outputs, algorithm, reverse=False):
        """A function that enqueues the call on the current stream, with a workspace of its own."""
        call = Call(*inputs[0].shape, int(reverse), ALGORITHMS.index(algorithm))
        for i, tensor in enumerate(inputs):
            call.inputs[i] = tensor.data_ptr()
        for i, tensor in enumerate(outputs):
            call.outputs[i] = tensor.data_ptr()
        dtype = DTYPES.index(inputs[0].dtype)
        size = ctypes.c_size_t()
        self._run(dtype, int(gradient), ctypes.byref(call), ctypes.byref(size))
        workspace = torch.empty(max(1, size.value), dtype=torch.uint8, device="cuda")
        call.workspace, call.workspace_bytes = workspace.data_ptr(), size.value

        def launch():
            call.stream = torch.cuda.current_stream().cuda_stream
            error = self._run(dtype, int(gradient), ctypes.byref(call), None)
            if error is not None:
                raise RuntimeError(error.decode())

        launch.workspace = workspace
        launch.workspace_bytes = size.value
        return launch


def microseconds(functions, repeats=5):
    """Microseconds of one call; calls alternate between functions on different arrays."""
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()

    def median_of_replays(calls):
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            for i in range(calls):
                functions[i % len(functions)]()
        times = []
        for _ in range(repeats + 1):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record(stream)
            graph.replay()
            end.record(stream)
            torch.cuda.synchronize()
            times.append(start.elapsed_time(end) / calls * 1e3)
        return sorted(times[1:])[repeats // 2]

    with torch.cuda.stream(stream):
        for function in functions:
            function()
        torch.cuda.synchronize()
        few = max(4, len(functions))
        us = median_of_replays(few)
        # Enough calls per graph to make the time to start the graph negligible.
        calls = min(200, int(2000 / us))
        return us if calls <= few else median_of_replays(calls)


def memory_limit():
    """GB/s of a copy and of an add; the limit is the faster of the two."""
    a, b, c = (torch.rand(1 << 28, device="cuda") for _ in range(3))
    copy = 2 * a.nbytes / microseconds([lambda: c.copy_(a)]) / 1e3
    add = 3 * a.nbytes / microseconds([lambda: torch.add(a, b, out=c)]) / 1e3
    return {"copy": copy, "add": add, "limit": max(copy, add)}


def exact(decays, impulses):
    """The states in float64, by a scan with doubling strides: slow, but short."""
    a, x = decays.double(), impulses.double()
    k = 1
    while k < a.shape[1]:
        x = torch.cat([x[:, :k], a[:, k:] * x[:, :-k] + x[:, k:]], 1)
        a = torch.cat([a[:, :k], a[:, k:] * a[:, :-k]], 1)
        k *= 2
    return x


def check(engine, shape, gradient, dtype, algorithm):
    """Checks the kernel in float64; if the shape is too large, on its first rows and steps only."""
    rows = min(shape[0], max(1, 20_000_000 // (shape[1] * shape[2])))
    shape = (rows, min(shape[1], 20_000_000 // shape[2]), shape[2])
    a = torch.rand(shape, device="cuda").to(dtype)
    x = torch.randn(shape, device="cuda").to(dtype)
    y = torch.full_like(a, float("nan"))
    tolerance = {2: 0.05, 4: 1e-4}[a.element_size()]
    states = exact(a, x)
    if not gradient:
        engine.launcher(False, [a, x], [y], algorithm)()
        pairs = [(y, states)]
    else:
        h = states.to(dtype)
        d_a, d_x = torch.full_like(a, float("nan")), torch.full_like(a, float("nan"))
        engine.launcher(True, [a, x, h], [d_a, d_x], algorithm, reverse=True)()
        shifted = torch.cat([a[:, 1:], torch.zeros_like(a[:, :1])], 1)
        g = exact(shifted.flip(1), x.flip(1)).flip(1)
        previous = torch.cat([torch.zeros_like(h[:, :1]), h[:, :-1]], 1).double()
        pairs = [(d_x, g), (d_a, previous * g)]
    torch.cuda.synchronize()
    for actual, expected in pairs:
        error = (actual.double() - expected).abs().max() / expected.abs().max()
        if not error < tolerance:
            raise AssertionError(f"wrong by {error:.1e} at {shape}, {dtype}, {algorithm}")


def sets_of_arrays(shape, dtype):
    """(number of sets of arrays to alternate between, bytes of one array)."""
    size = shape[0] * shape[1] * shape[2] * dtype.itemsize
    return max(1, min(8, 600_000_000 // (3 * size))), size


def add_microseconds(shape, dtype):
    """The time of an add of two arrays into a third, with the traffic of a forward pass."""
    sets, _ = sets_of_arrays(shape, dtype)
    arrays = [[torch.rand(shape, device="cuda").to(dtype) for _ in range(3)] for _ in range(sets)]
    return microseconds([lambda a=a, b=b, c=c: torch.add(a, b, out=c) for a, b, c in arrays])


def bench(engine, shape, gradient, dtype, algorithm):
    sets, size = sets_of_arrays(shape, dtype)
    launchers = []
    for _ in range(sets):
        inputs = [torch.rand(shape, device="cuda").to(dtype) for _ in range(2 + gradient)]
        outputs = [torch.empty_like(inputs[0]) for _ in range(1 + gradient)]
        launch = engine.launcher(gradient, inputs, outputs, algorithm, reverse=gradient)
        launch.arrays = inputs, outputs
        launchers.append(launch)
    us = microseconds(launchers)
    moved = size * (5 if gradient else 3)
    workspace = launchers[0].workspace_bytes / (size * (2 + gradient))
    return us, moved / us / 1e3, workspace


def peers(engine, shape):
    """{name: microseconds} of the forward pass, ours in two layouts and others'."""
    batch, steps, features = shape
    inputs = [
        (torch.rand(shape, device="cuda"), torch.randn(shape, device="cuda"))
        for _ in range(sets_of_arrays(shape, torch.float32)[0])
    ]
    expected = exact(*inputs[0])
    tolerance = 1e-3 * expected.abs().max()

    def flat(array):
        return array.transpose(1, 2).reshape(batch * features, steps, 1).contiguous()

    found = {}
    for name, layout in (("tf_plr", torch.Tensor.contiguous), ("tf_plr, time contiguous", flat)):
        arrays = [(layout(a), layout(x)) for a, x in inputs]
        states = torch.empty_like(arrays[0][0])  # One for all, as the others' allocator gives them.
        found[name] = microseconds(
            [engine.launcher(False, pair, [states], "auto") for pair in arrays]
        )
    for name, peer in gpu_peers.PEERS.items():
        try:
            functions = [peer(a, x) for a, x in inputs]
            wrong = (functions[0]().double() - expected).abs().max()
        except Exception as error:  # Not installed, or not for this shape.
            print(f"{name}: {str(error).splitlines()[0][:80]}")
            continue
        if wrong < tolerance:
            found[name] = microseconds(functions)
        else:
            print(f"{name} is wrong by {wrong:.1e} at {shape}")
    jax_us = gpu_peers.jax_microseconds(inputs, expected, tolerance)
    if jax_us is not None:
        found["jax.lax.associative_scan"] = jax_us
    return found


def odd_width(engine, gradient, dtype, width):
    """The time per byte over that of rows of the next multiple of 64 columns."""
    wide = -(-width // 64) * 64
    us = {}
    for columns in (width, wide):
        shape = (max(8, 16_384 // wide), 1000, columns)
        check(engine, shape, gradient, dtype, "auto")
        us[columns] = bench(engine, shape, gradient, dtype, "auto")[0]
    return {
        "width": width, "pass": "gradient" if gradient else "forward", "dtype": str(dtype)[6:],
        "us": us, "per_byte": us[width] / us[wide] * wide / width,
    }  # fmt: skip


def auto_against_better(engine, gradient, shape):
    """Microseconds of each algorithm."""
    found = {}
    for algorithm in ALGORITHMS:
        check(engine, shape, gradient, torch.float32, algorithm)
        found[algorithm] = bench(engine, shape, gradient, torch.float32, algorithm)[0]
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build" / "libtf_plr_kernels.so")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", default="", help="to record where there is no git")
    arguments = parser.parse_args()
    engine = Engine(arguments.library)
    result = {
        "environment": environment(arguments.commit),
        "memory_gb_per_s": memory_limit(),
        "rows": [],
        "peers": [],
        "grid": [],
    }
    print(json.dumps(result["environment"]), json.dumps(result["memory_gb_per_s"]))
    limit = result["memory_gb_per_s"]["limit"]
    for gradient, dtype in [
        (False, torch.float32), (True, torch.float32), (False, torch.bfloat16),
        (True, torch.bfloat16),
    ]:  # fmt: skip
        for shape in LARGE + ODD + SMALL:
            for algorithm in ALGORITHMS:
                chains = shape[0] * max(1, shape[2] // 32)
                if algorithm == "serial" and chains < 48 and shape[1] > 100_000:
                    continue  # Seconds.
                check(engine, shape, gradient, dtype, algorithm)
                us, rate, workspace = bench(engine, shape, gradient, dtype, algorithm)
                row = {
                    "shape": shape, "pass": "gradient" if gradient else "forward",
                    "dtype": str(dtype).removeprefix("torch."), "algorithm": algorithm, "us": us,
                    "gb_per_s": rate, "percent": 100 * rate / limit, "workspace": workspace,
                }  # fmt: skip
                if not gradient and algorithm == "auto":
                    row["add_us"] = add_microseconds(shape, dtype)
                result["rows"].append(row)
                print(
                    f"{'x'.join(map(str, shape)):>16} {row['pass']:>8} {row['dtype']:>8} "
                    f"{algorithm:>8} {us:9.1f} us {rate:6.0f} GB/s {row['percent']:4.0f} %"
                    + (f"  an add: {row['add_us']:.1f} us" if "add_us" in row else ""),
                    flush=True,
                )
                torch.cuda.empty_cache()
    result["widths"] = [
        odd_width(engine, gradient, dtype, width)
        for dtype in (torch.float32, torch.bfloat16)
        for gradient in (False, True)
        for width in WIDTHS
    ]
    for row in result["widths"]:
        print(
            f"{row['width']:>5} columns {row['pass']:>8} {row['dtype']:>8} cost "
            f"{row['per_byte']:.2f} times as much per byte as the next multiple of 64", flush=True,
        )  # fmt: skip
    for shape in PEER_SHAPES:
        found = peers(engine, shape)
        result["peers"].append({"shape": shape, "us": found})
        print("x".join(map(str, shape)), {k: round(v, 1) for k, v in found.items()}, flush=True)
        torch.cuda.empty_cache()
    for gradient in (False, True):
        for shape in GRID:
            found = auto_against_better(engine, gradient, shape)
            ratio = found["auto"] / min(found["parallel"], found["serial"])
            kind = "gradient" if gradient else "forward"
            row = {"shape": shape, "pass": kind, "us": found, "auto_over_better": ratio}
            result["grid"].append(row)
            print(
                f"{'x'.join(map(str, shape)):>16} {kind:>8} auto over the better {ratio:.2f}",
                {k: round(v, 1) for k, v in found.items()}, flush=True,
            )  # fmt: skip
            torch.cuda.empty_cache()
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
