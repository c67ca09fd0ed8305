# SPDX-License-Identifier: MIT
"""The recurrence where another TensorFlow runs than the native library was built for.

XLA's interface for custom calls is C: a library of handlers alone, built with one TensorFlow, runs
in later ones. A StableHLO module, written here, holds the call; TensorFlow's own XlaCallModule runs
it, under XLA or not.
"""

import ctypes
import functools
import json
import warnings
from collections.abc import Iterable
from typing import Any

import tensorflow as tf

from tf_plr import _library
from tf_plr._registration import register_gradient
from tf_plr.time_axis import TimeAxis, gradient_of_gradient

_XLA_CALL_MODULE = 9  # The version that TensorFlow 2.20 and all after it know.
_OURS = "tf_plr"
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

    Says so by a `RuntimeWarning`, once; where they cannot, the native library's error will say why.
    """
    try:
        _library.register()
    except _library.WrongTensorFlowError as error:
        _library.why_not_portable = _problem()
        if _library.why_not_portable:
            return False
        warnings.warn(
            f"{error.mismatch}. {_library.REBUILD} Meanwhile tf_plr is slower: recurrences run "
            "through XLA's interface, and layers are not fused.",
            RuntimeWarning,
            stacklevel=2,
        )
        return True
    except ImportError:
        pass
    return False


def _problem() -> str:
    """Why recurrences cannot run here, or ""."""
    if problem := register():
        return problem
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    if has_gpu and not _library.information(_library.PORTABLE)["cuda"]:
        return "it was built without code for GPUs (CUDA_VISIBLE_DEVICES=-1 hides them)"
    try:
        _module("", "float32", rank=1, axis=0, reverse=0, algorithm=0)
        _call_module()
    except Exception as error:  # What is used there is not public: it may become anything.
        return f"{type(error).__name__}: {error}"
    return ""


@functools.cache
def register() -> str:
    """Registers the handlers, which saved models may need, too; returns "" or what went wrong."""
    try:
        _library.check_whole(_library.PORTABLE)
        add_handlers = ctypes.CDLL(str(_library.PORTABLE)).TfPlrRegisterPortableHandlers
    except _library.LibraryError as error:
        return error.reason
    except OSError as error:
        return str(error)
    add_handlers.restype = ctypes.c_char_p
    return str(add_handlers().decode())


def linear_recurrence(
    decays: Any, impulses: Any, initial_state: Any, axis: int, *, reverse: bool, algorithm: str
) -> Any:
    """The recurrence and its derivatives, of any order.

    Arguments are tensors that `tf_plr.linear_recurrence` has checked; `axis` is not negative.
    """
    attributes = {"axis": axis, "reverse": int(reverse), "algorithm": _ALGORITHMS[algorithm]}
    if initial_state is None:
        shape = tf.shape(impulses)
        initial_state = tf.zeros(tf.concat([shape[:axis], shape[axis + 1 :]], 0), impulses.dtype)
    (states,) = _call("", [decays, impulses, initial_state], attributes)
    return tf.ensure_shape(states, decays.shape.merge_with(impulses.shape))


def _call(name: str, operands: list[Any], attributes: dict[str, int]) -> list[Any]:
    """Calls a handler, which checks that shapes fit."""
    rank = operands[0].shape.rank
    like = operands[1:] if name else operands[1:2]
    results = _call_module()(
        operands,
        version=_XLA_CALL_MODULE,
        module=_module(name, operands[0].dtype.name, rank, **attributes),
        Sout=[[None] * tensor.shape.rank for tensor in like],
        Tout=[operands[0].dtype] * len(like),
        platforms=["CPU", "CUDA"],
        # For the gradient: TensorFlow reads no check of this name, and keeps it in saved models.
        disabled_checks=[json.dumps({_OURS: name, **attributes})],
    )
    return [
        tf.ensure_shape(result, tensor.shape) for result, tensor in zip(results, like, strict=True)
    ]


@register_gradient("XlaCallModule")
def _call_gradient(op: Any, *gradients: Any) -> list[Any]:
    """Of any order. Not a custom gradient, which tf.vectorized_map would drop without a word."""
    said = [json.loads(check) for check in op.get_attr("disabled_checks") if _OURS in str(check)]
    if not said:
        raise LookupError("XlaCallModule has a gradient for the recurrences of tf_plr only")
    attributes = dict(said[0])
    name = attributes.pop(_OURS)
    if not name:
        decays, _, initial_state = op.inputs
        return _call("Grad", [decays, op.outputs[0], *gradients, initial_state], attributes)
    decays, states, _, initial_state = op.inputs
    u_decays, u_impulses, u_initial = gradients
    time = TimeAxis(attributes["axis"], bool(attributes["reverse"]))
    impulses = u_decays * time.previous(states, initial_state) + u_impulses
    (s,) = _call("", [decays, impulses, u_initial], attributes)
    by_decays, by_states, by_initial = gradient_of_gradient(
        time, op.outputs[1], u_decays, time.previous(s, u_initial)
    )
    return [by_decays, by_states, s, by_initial]


def _call_module() -> Any:
    from tensorflow.compiler.tf2xla.python import xla  # Not public.

    return xla.call_module


@functools.cache
def _module(name: str, dtype: str, rank: int, axis: int, reverse: int, algorithm: int) -> bytes:
    """The call in StableHLO, for any sizes: XLA refines them before it compiles."""
    from tensorflow.compiler.mlir.stablehlo import stablehlo  # Not public.

    steps, columns = (f"tensor<{'?x' * count}{_TYPES[dtype]}>" for count in (rank, rank - 1))
    operands = [steps, steps, steps, columns] if name else [steps, steps, columns]
    operand_ranks = [rank] * (len(operands) - 1) + [rank - 1]
    # The results have the shapes of operands 1 to 3, or 1.
    numbers = [1, 2, 3] if name else [1]
    results = [operands[number] for number in numbers]
    ranks = [operand_ranks[number] for number in numbers]
    shapes = map(_shape_of, numbers, results, ranks)
    arguments = [f"%{i}" for i in range(len(operands))] + [f"%shape{i}" for i in numbers]
    types = operands + [f"tensor<{rank}xi32>" for rank in ranks]
    indices = [len(operands) + i - 1 for i in numbers]
    # Row-major: on GPUs, XLA would choose.
    operand_layouts = _listed(map(_row_major, [*operand_ranks, *(1 for _ in numbers)]))
    result_layouts = _listed(map(_row_major, ranks))
    returned = [f"%results#{i - 1}" for i in numbers] if name else ["%results"]
    # Which of its platforms runs, XlaCallModule says first.
    declared = ["%platform: tensor<i32>", *(f"%{i}: {of}" for i, of in enumerate(operands))]
    text = f"""
      module attributes {{jax.uses_shape_polymorphism = true}} {{
        func.func public @main({_listed(declared)})
            -> ({_listed(results)}) {{
          {"".join(shapes)}
          %results{f":{len(results)}" if name else ""} = stablehlo.custom_call
              @"TfPlr>PortableLinearRecurrence{name}"({_listed(arguments)}) {{
            api_version = 4 : i32,
            backend_config = {{
              axis = {axis} : i64, reverse = {reverse} : i64, algorithm = {algorithm} : i64
            }},
            indices_of_shape_operands = dense<{indices}> : tensor<{len(indices)}xi64>,
            operand_layouts = [{operand_layouts}],
            result_layouts = [{result_layouts}]
          }} : ({_listed(types)}) -> ({_listed(results)})
          return {_listed(returned)} : {_listed(results)}
        }}
      }}"""
    version = stablehlo.get_current_version()
    return bytes(stablehlo.serialize_portable_artifact_str(text, version))


def _shape_of(number: int, of: str, rank: int) -> str:
    """What makes %shape<number> of an operand."""
    shape = f"%shape{number} = stablehlo"
    if rank == 0:
        return f"{shape}.constant dense<> : tensor<0xi32>\n"
    sizes = [f"%size{number}_{axis}" for axis in range(rank)]
    lines = [
        f"%scalar{number}_{axis} = stablehlo.get_dimension_size %{number}, dim = {axis}"
        f" : ({of}) -> tensor<i32>\n"
        f"{size} = stablehlo.reshape %scalar{number}_{axis} : (tensor<i32>) -> tensor<1xi32>\n"
        for axis, size in enumerate(sizes)
    ]
    return "".join(lines) + (
        f"{shape}.concatenate {_listed(sizes)}, dim = 0"
        f" : ({_listed(['tensor<1xi32>'] * rank)}) -> tensor<{rank}xi32>\n"
    )


def _row_major(rank: int) -> str:
    """The layout of a tensor: its axes, the one that varies fastest first."""
    return f"dense<{list(reversed(range(rank)))}> : tensor<{rank}xindex>"


def _listed(words: Iterable[str]) -> str:
    return ", ".join(words)
