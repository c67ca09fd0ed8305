# SPDX-License-Identifier: MIT
"""The GPU engine without TensorFlow, against this GPU's own memory speed and against peers.

    make gpu-benchmark        # needs nvcc, a GPU, and PyTorch

Each result is checked against a float64 recurrence before it is timed; a wrong one gets no time.
Times are those of the kernels in a replayed CUDA graph: the median of several replays of many
launches, over several sets of arrays where one would fit into the cache. The limit is the better of
a device-to-device copy and of an add of two arrays into a third, measured in the same process;
percentages count every input and output once. Peers are timed where they are installed, in the
layout that they take.
"""

import argparse
import ctypes
import datetime
import json
import subprocess
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
DTYPES = (
    torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128
)  # fmt: skip
ALGORITHMS = ("auto", "parallel", "serial")

# batch x time x features
LARGE = [
    (1, 1_048_576, 64), (1, 131_072, 512), (1, 65_536, 1024), (8, 65_536, 768), (8, 4096, 1536),
    (32, 2048, 1024), (256, 256, 1024), (64, 1024, 256), (4096, 16, 256), (12_288, 4096, 1),
    (1, 268_435_456, 1),
]  # fmt: skip
ODD = [(3, 50_021, 234), (7, 9973, 100), (5, 65_536, 6)]
SMALL = [(1, 65_536, 4), (1, 65_536, 32), (1, 65_536, 128), (1, 4096, 128), (1, 256, 128)]


class Call(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int64) for name in ("outer", "steps", "inner")),
        *((name, ctypes.c_int) for name in ("reverse", "algorithm")),
        ("inputs", ctypes.c_void_p * 3),
        ("outputs", ctypes.c_void_p * 2),
        *((n, ctypes.c_void_p) for n in ("initial_carry", "final_carry", "boundary")),
        *((name, ctypes.c_void_p) for name in ("workspace", "stream")),
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
        call.workspace = workspace.data_ptr()

        def launch():
            call.stream = torch.cuda.current_stream().cuda_stream
            error = self._run(dtype, int(gradient), ctypes.byref(call), None)
            if error is not None:
                raise RuntimeError(error.decode())

        launch.workspace = workspace
        launch.workspace_bytes = size.value
        return launch


def microseconds(functions, repeats=5):
    """Of one call, by turns over equivalent functions on different arrays."""
    calls = max(4, min(40, len(functions) * 5))
    stream = torch.cuda.Stream()
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        for function in functions:
            function()
        torch.cuda.synchronize()
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


def memory_limit():
    """GB/s."""
    a, b, c = (torch.rand(1 << 28, device="cuda") for _ in range(3))
    copy = 2 * a.nbytes / microseconds([lambda: c.copy_(a)]) / 1e3
    add = 3 * a.nbytes / microseconds([lambda: torch.add(a, b, out=c)]) / 1e3
    return {"copy": copy, "add": add, "limit": max(copy, add)}


def exact(decays, impulses):
    """float64, by doubling strides; as a reference it is slow but short."""
    a, x = decays.double(), impulses.double()
    k = 1
    while k < a.shape[1]:
        x = torch.cat([x[:, :k], a[:, k:] * x[:, :-k] + x[:, k:]], 1)
        a = torch.cat([a[:, :k], a[:, k:] * a[:, :-k]], 1)
        k *= 2
    return x


def check(engine, shape, gradient, dtype, algorithm):
    """On the first columns and steps of the shape only where it is too large for float64."""
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


def bench(engine, shape, gradient, dtype, algorithm):
    size = shape[0] * shape[1] * shape[2] * torch.tensor([], dtype=dtype).element_size()
    sets = max(1, min(8, 600_000_000 // (3 * size)))
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


def accelerated_scan(shape):
    """Microseconds in its own layout, and with the transpositions from batch x time x features."""
    try:
        from accelerated_scan.warp import scan
    except ImportError:
        return None
    batch, steps, features = shape
    if steps > 65_536 or steps & (steps - 1) or steps < 32:
        return None
    a, x = (torch.rand(batch, features, steps, device="cuda") for _ in range(2))
    b, y = (torch.rand(shape, device="cuda") for _ in range(2))

    def with_transpositions():
        states = scan(b.transpose(1, 2).contiguous(), y.transpose(1, 2).contiguous())
        return states.transpose(1, 2).contiguous()

    if not torch.allclose(with_transpositions().double(), exact(b, y), rtol=1e-3, atol=1e-3):
        return None
    return microseconds([lambda: scan(a, x)]), microseconds([with_transpositions])


def environment():
    def output(*command):
        return subprocess.run(command, capture_output=True, text=True, cwd=ROOT).stdout.strip()

    driver = output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader")
    return {
        "date": datetime.date.today().isoformat(),
        "gpu": torch.cuda.get_device_name(),
        "driver": driver,
        "cuda": torch.version.cuda,
        "torch": torch.__version__,
        "commit": output("git", "rev-parse", "--short", "HEAD"),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--library", type=Path, default=ROOT / "build" / "libtf_plr_kernels.so")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--commit", help="to record where there is no git")
    arguments = parser.parse_args()
    engine = Engine(arguments.library)
    result = {"environment": environment(), "memory_gb_per_s": memory_limit(), "rows": []}
    if arguments.commit:
        result["environment"]["commit"] = arguments.commit
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
                if algorithm == "auto" and dtype == torch.float32 and not gradient:
                    peer = accelerated_scan(shape)
                    if peer:
                        row["accelerated_scan_us"], row["accelerated_scan_transposed_us"] = peer
                result["rows"].append(row)
                peer = row.get("accelerated_scan_us")
                print(
                    f"{'x'.join(map(str, shape)):>16} {row['pass']:>8} {row['dtype']:>8} "
                    f"{algorithm:>8} {us:9.1f} us {rate:6.0f} GB/s {row['percent']:4.0f} %"
                    + (
                        f"  accelerated-scan {peer:.1f} us, transposed "
                        f"{row['accelerated_scan_transposed_us']:.1f} us" if peer else ""
                    ),
                    flush=True,
                )  # fmt: skip
                torch.cuda.empty_cache()
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
