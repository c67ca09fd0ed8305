# SPDX-License-Identifier: MIT
"""One binary for several TensorFlows: the op and its gradient through XLA's C interface alone.

    python tests/one_binary.py --build build/one_binary.so     # With the oldest TensorFlow.
    python tests/one_binary.py build/one_binary.so             # With any later one.

The library has only the handlers of XLA's custom calls and the CPU engine. It needs one function of
TensorFlow's, XLA_FFI_GetApi, which is C. The graph's part is made here: a StableHLO module with the
custom call, in TensorFlow's XlaCallModule. See docs/one_binary.md.
"""

import argparse
import ctypes
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import tensorflow as tf
from reference import error_bound, linear_recurrence
from tensorflow.compiler.mlir.stablehlo import stablehlo
from tensorflow.compiler.tf2xla.python import xla

ROOT = Path(__file__).resolve().parent.parent
VERSION = 9  # Of XlaCallModule: the last that all these TensorFlows know.
ON_GPU = bool(tf.config.list_physical_devices("GPU"))
NAMES = {"float32": "f32", "float64": "f64", "float16": "f16", "bfloat16": "bf16"}


def build(library):
    """With GPU code where setup.py would build it."""
    sys.path.insert(0, str(ROOT))
    import setup

    nvcc, folder = setup.find_nvcc(), ROOT / "build" / "one_binary"
    folder.mkdir(parents=True, exist_ok=True)

    def compile_all(command, version, *patterns):
        compiler = setup.Compiler(command, version, folder)
        paths = [path for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        return [compiler.compile(str(path.relative_to(ROOT)))[0] for path in paths]

    objects = compile_all(
        setup.cxx_command(nvcc), setup.version_of(setup.CXX), "tests/one_binary.cc",
        "cc/older_systems.cc", "cc/xla/*_handlers.cc", "cc/engine/cpu/*.cc",
    )  # fmt: skip
    linker = [setup.CXX]
    if nvcc:
        version = setup.version_of(nvcc)
        objects += compile_all(setup.nvcc_command(nvcc), version, "cc/engine/gpu/*.cu")
        linker = [nvcc, "-ccbin", setup.CXX, "-cudart", "static"]
    link = [f"-L{tf.sysconfig.get_lib()}", "-l:libtensorflow_framework.so.2"]
    command = [*linker, "-shared", "-Xlinker", "-s", "-o", library.resolve(), *objects, *link]
    subprocess.run(command, cwd=ROOT, check=True)


def custom_call(name, operands, results, attributes, workspace):
    """A custom call on operands, with results of the shapes and dtypes of others.

    On a GPU it has a workspace of so many bytes as one more result.
    """

    def types(tensors):
        return ", ".join(
            f"tensor<{''.join(f'{size}x' for size in t.shape)}{NAMES[t.dtype.name]}>"
            for t in tensors
        )

    count, all_types = len(results), types(results)
    if ON_GPU:
        count, all_types = count + 1, f"{all_types}, tensor<{workspace}xui8>"
    arguments = ", ".join(f"%{i}" for i in range(len(operands)))
    signature = ", ".join(f"%{i}: {types([t])}" for i, t in enumerate(operands))
    returned = ", ".join(f"%results#{i}" if count > 1 else "%results" for i in range(len(results)))
    config = ", ".join(f"{key} = {value} : i64" for key, value in attributes.items())
    text = f"""
      func.func public @main({signature}) -> ({types(results)}) {{
        %results{f":{count}" if count > 1 else ""} = stablehlo.custom_call @"{name}"({arguments}) {{
          api_version = 4 : i32, backend_config = {{{config}}}
        }} : ({types(operands)}) -> ({all_types})
        return {returned} : {types(results)}
      }}"""
    return xla.call_module(
        operands,
        version=VERSION,
        module=stablehlo.serialize_portable_artifact_str(text, stablehlo.get_current_version()),
        Sout=[t.shape for t in results],
        Tout=[t.dtype for t in results],
        platforms=["CUDA" if ON_GPU else "CPU"],
    )


def custom_calls_of(library):
    """The recurrence by the handlers of a library."""

    @tf.custom_gradient
    def recurrence(decays, impulses):
        steps, columns = decays.shape
        workspaces = [library.TfPlrMostWorkspaceBytes(1, steps, columns, i) for i in (False, True)]
        attributes = {"outer": 1, "steps": steps, "inner": columns, "reverse": 0, "algorithm": 0,
                      "initial_states": 0}  # fmt: skip
        (states,) = custom_call(
            "TfPlr>LinearRecurrence", [decays, impulses], [impulses], attributes, workspaces[0]
        )

        def gradient(d_states):
            operands, backward = [decays, states, d_states], {**attributes, "reverse": 1}
            return custom_call(
                "TfPlr>LinearRecurrenceGrad", operands, operands[:2], backward, workspaces[1]
            )

        return states, gradient

    return recurrence


def with_gradient(function):
    def run(decays, impulses):
        with tf.GradientTape() as tape:
            tape.watch([decays, impulses])
            states = function(decays, impulses)
        return [states, *tape.gradient(states, [decays, impulses], output_gradients=impulses)]

    return run


def milliseconds(run, *arguments):
    run(*arguments)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        run(*arguments)[0].numpy()
        times.append(1e3 * (time.perf_counter() - start))
    return float(np.median(times))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("library", type=Path)
    parser.add_argument("--build", action="store_true")
    arguments = parser.parse_args()
    if arguments.build:
        build(arguments.library)
        return
    library = ctypes.CDLL(str(arguments.library.resolve()))
    library.TfPlrRegisterXlaHandlers.restype = ctypes.c_char_p
    library.TfPlrMostWorkspaceBytes.restype = ctypes.c_int64
    library.TfPlrMostWorkspaceBytes.argtypes = [ctypes.c_int64] * 3 + [ctypes.c_bool]
    problems = library.TfPlrRegisterXlaHandlers().decode()
    if problems:
        raise SystemExit(f"TensorFlow {tf.__version__}: {problems}")
    rng = np.random.default_rng(0)
    decays, impulses = rng.uniform(-1, 1, (2, 8192, 256)).astype("float32")
    exact = decays.astype("float64"), impulses.astype("float64")
    given = tf.constant(decays), tf.constant(impulses)
    run = with_gradient(custom_calls_of(library))
    modes = {
        "under XLA": tf.function(run, jit_compile=True),
        "in a tf.function": tf.function(run),
        "eagerly": run,
    }
    print(f"TensorFlow {tf.__version__}, {decays.shape}, op and gradient:")
    for name, function in modes.items():
        states, d_decays, d_impulses = function(*given)
        bound = error_bound(*exact, None, 2**-24)
        assert np.all(np.abs(states - linear_recurrence(*exact)) <= bound), name
        # d_impulses runs backwards with the decays of the step after.
        after = np.roll(exact[0], -1, 0)
        by_impulses = linear_recurrence(after, exact[1], reverse=True)
        bound = error_bound(after, exact[1], None, 2**-24, reverse=True)
        assert np.all(np.abs(d_impulses - by_impulses) <= bound), name
        before = np.concatenate([np.zeros((1, 256)), linear_recurrence(*exact)[:-1]])
        assert np.all(np.abs(d_decays - before * by_impulses) <= 1e-4), name
        print(f"  {name}: right, {milliseconds(function, *given):.1f} ms")
    try:
        import tf_plr

        tf_plr.load_library()
    except ImportError as error:
        print(f"  no native op: {error}")
        return
    native = with_gradient(tf_plr.linear_recurrence)
    for name, function in (("in a tf.function", tf.function(native)), ("eagerly", native)):
        print(f"  the native op {name}: {milliseconds(function, *given):.1f} ms")


if __name__ == "__main__":
    main()
