# SPDX-License-Identifier: MIT
"""The recurrence where another TensorFlow runs than the native library was built for.

XLA's interface for custom calls is C, and stable: a library of handlers alone, built with one
TensorFlow, runs in later ones. A StableHLO module, written here, holds the call; TensorFlow's own
XlaCallModule runs it, under XLA or not. On CPUs only.
"""

import ctypes
import functools
import warnings
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_plr import _library
from tf_plr.composed import with_equal_shapes
from tf_plr.time_axis import TimeAxis, gradient_of_gradient

try:  # Not public, so perhaps not there for ever.
    from tensorflow.compiler.mlir.stablehlo import stablehlo
    from tensorflow.compiler.tf2xla.python import xla
except ImportError:
    stablehlo = xla = None

_XLA_CALL_MODULE = 9  # The version that TensorFlow 2.20 and all after it know.
_ALGORITHMS = {"auto": 0, "parallel": 1, "serial": 2}
_TYPES = {
    "float16": "f16",
    "bfloat16": "bf16",
    "float32": "f32",
    "float64": "f64",
    "complex64": "complex<f32>",
    "complex128": "complex<f64>",
}


@functools.cache
def takes_over() -> bool:
    """Whether recurrences run here: where the native library is of another TensorFlow.

    Says so by a `RuntimeWarning`, once.
    """
    try:
        _library.load_library()
    except _library.WrongTensorFlowError as error:
        problem = register()
        if not problem:
            warnings.warn(
                f"{error} Meanwhile tf_plr is slower: recurrences run on the CPU through XLA's "
                "interface, and layers are not fused.",
                RuntimeWarning,
                stacklevel=2,
            )
        return not problem
    except ImportError:
        pass
    return False


def register() -> str:
    """Registers the handlers; returns "" or why they cannot run here."""
    if tf.config.list_physical_devices("GPU"):
        return "it has no GPU code"
    if xla is None:
        return "this TensorFlow has no XlaCallModule in Python"
    try:
        _library.check_whole(_library.PORTABLE)
        library = ctypes.CDLL(str(_library.PORTABLE))
    except (ImportError, OSError) as error:
        return str(error)
    register = library.TfPlrRegisterPortableHandlers
    register.restype = ctypes.c_char_p
    return str(register().decode())


def linear_recurrence(
    decays: Any, impulses: Any, initial_state: Any, axis: int, *, reverse: bool, algorithm: str
) -> Any:
    """The recurrence and its derivatives, of any order.

    Arguments are tensors that `tf_plr.linear_recurrence` has checked; `axis` is not negative.
    """
    time = TimeAxis(axis, reverse)
    decays, impulses, initial_state = with_equal_shapes(decays, impulses, initial_state, axis)
    attributes = {"reverse": int(reverse), "algorithm": _ALGORITHMS[algorithm]}

    @tf.custom_gradient
    def recurrence(decays: Any, impulses: Any, initial_state: Any) -> Any:
        (states,) = _call("", [decays, impulses], initial_state, axis, attributes)

        def gradient(d_states: Any) -> Any:
            return backward(*_here(decays, impulses, initial_state, d_states, states))

        return states, gradient

    @tf.custom_gradient
    def backward(decays: Any, impulses: Any, initial_state: Any, d_states: Any, states: Any) -> Any:
        """Of `states` the value only: what depends on them does so by the other arguments."""
        steps = [decays, states, d_states]
        gradients = _call("Grad", steps, initial_state, axis, attributes)

        def gradient(u_decays: Any, u_impulses: Any, u_initial: Any) -> Any:
            a, x, h, d, values = _here(decays, impulses, initial_state, d_states, states)
            # Once more, as the results of a custom gradient cannot be differentiated inside it.
            before = time.previous(recurrence(a, x, h), h)
            _, d_impulses, _ = backward(a, x, h, d, values)
            s = recurrence(a, u_decays * before + u_impulses, *_here(u_initial))
            by_decays, by_states, by_initial = gradient_of_gradient(
                time, d_impulses, u_decays, time.previous(s, u_initial)
            )
            d_decays, by_impulses, d_initial = backward(a, x, h, by_states, values)
            return by_decays + d_decays, by_impulses, by_initial + d_initial, s, None

        return tuple(gradients), gradient

    return recurrence(*_here(decays, impulses, initial_state))


def _here(*tensors: Any) -> list[Any]:
    """As tensors of the current graph, which tf.custom_gradient needs."""
    return [tf.identity(tensor) for tensor in tensors]


def _call(
    name: str, steps: list[Any], initial_state: Any, axis: int, attributes: dict[str, int]
) -> list[Any]:
    """Calls a handler; the results have the shapes of its operands but the first.

    No gradient is due by them: those are custom.
    """
    shape = tf.shape(steps[0])
    columns = [tf.reduce_prod(shape[:axis]), tf.reduce_prod(shape[axis + 1 :])]
    operands = [tf.reshape(step, [columns[0], shape[axis], columns[1]]) for step in steps]
    operands.append(tf.reshape(initial_state, columns))
    like = [*steps[1:], *([initial_state] if name else [])]
    results = xla.call_module(
        operands,
        version=_XLA_CALL_MODULE,
        module=_module(name, steps[0].dtype.name, **attributes),
        Sout=[[None] * (3 if i < len(steps) - 1 else 2) for i in range(len(like))],
        Tout=[steps[0].dtype] * len(like),
        platforms=["CPU"],
    )
    shaped = [
        tf.ensure_shape(tf.reshape(r, tf.shape(a)), a.shape)
        for r, a in zip(results, like, strict=True)
    ]
    return [tf.stop_gradient(r) for r in shaped]


@functools.cache
def _module(name: str, dtype: str, reverse: int, algorithm: int) -> bytes:
    """The call in StableHLO, for any sizes: XLA refines them before it compiles."""
    steps, columns = (f"tensor<{sizes}{_TYPES[dtype]}>" for sizes in ("?x?x?x", "?x?x"))
    operands = [steps, steps, steps, columns] if name else [steps, steps, columns]
    results = operands[1:] if name else [steps]
    numbers = range(1, len(results) + 1)  # Of the operands whose shapes the results have.
    ranks = [2 if of == columns else 3 for of in results]
    shapes = map(_shape_of, numbers, results, ranks)
    arguments = [f"%{i}" for i in range(len(operands))] + [f"%shape{i}" for i in numbers]
    types = operands + [f"tensor<{rank}xi32>" for rank in ranks]
    indices = [len(operands) + i - 1 for i in numbers]
    returned = [f"%results#{i - 1}" for i in numbers] if name else ["%results"]
    text = f"""
      module attributes {{jax.uses_shape_polymorphism = true}} {{
        func.func public @main({_listed(f"%{i}: {of}" for i, of in enumerate(operands))})
            -> ({_listed(results)}) {{
          {"".join(shapes)}
          %results{f":{len(results)}" if name else ""} = stablehlo.custom_call
              @"TfPlr>PortableLinearRecurrence{name}"({_listed(arguments)}) {{
            api_version = 4 : i32,
            backend_config = {{reverse = {reverse} : i64, algorithm = {algorithm} : i64}},
            indices_of_shape_operands = dense<{indices}> : tensor<{len(indices)}xi64>
          }} : ({_listed(types)}) -> ({_listed(results)})
          return {_listed(returned)} : {_listed(results)}
        }}
      }}"""
    version = stablehlo.get_current_version()
    return bytes(stablehlo.serialize_portable_artifact_str(text, version))


def _shape_of(number: int, of: str, rank: int) -> str:
    """What makes %shape<number> of an operand."""
    sizes = [f"%size{number}{axis}" for axis in range(rank)]
    lines = [
        f"%scalar{number}{axis} = stablehlo.get_dimension_size %{number}, dim = {axis}"
        f" : ({of}) -> tensor<i32>\n"
        f"{size} = stablehlo.reshape %scalar{number}{axis} : (tensor<i32>) -> tensor<1xi32>\n"
        for axis, size in enumerate(sizes)
    ]
    return "".join(lines) + (
        f"%shape{number} = stablehlo.concatenate {_listed(sizes)}, dim = 0"
        f" : ({_listed(['tensor<1xi32>'] * rank)}) -> tensor<{rank}xi32>\n"
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
