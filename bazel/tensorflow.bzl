# SPDX-License-Identifier: MIT
"""The TensorFlow of a Python interpreter, and how setup.py builds with it."""

_BUILD = """
load("@bazel_tools//tools/python:toolchain.bzl", "py_runtime_pair")

package(default_visibility = ["//visibility:public"])

exports_files(["description.json"])

cc_library(
    name = "headers",
    hdrs = glob(["include/**"]),
    includes = {includes},
)

py_runtime(
    name = "runtime",
    interpreter_path = "{python}",
    python_version = "PY3",
)

py_runtime_pair(
    name = "runtimes",
    py3_runtime = ":runtime",
)

toolchain(
    name = "python",
    toolchain = ":runtimes",
    toolchain_type = "@bazel_tools//tools/python:toolchain_type",
)
"""

def _local_tensorflow(ctx):
    python = ctx.os.environ.get("PYTHON_BIN_PATH") or ctx.which("python3")
    done = ctx.execute([python, ctx.path(Label("//bazel:locate.py"))])
    for read in ["//:setup.py", "//:tf_plr/version.py"]:
        ctx.path(Label(read))  # Rerun if it changes: locate.py reads it.
    if done.return_code != 0:
        fail("set PYTHON_BIN_PATH to a Python that has TensorFlow: {} says\n{}{}".format(
            python,
            done.stdout,
            done.stderr,
        ))
    found = json.decode(done.stdout)
    ctx.symlink(found["include"], "include")

    # Include folders become dependencies; the rest of the command stays flags.
    includes, flags, cxx = [], [], found["cxx"]
    for i, flag in enumerate(cxx):
        if i > 0 and cxx[i - 1] == "-isystem":
            includes.append("include" + flag[len(found["include"]):].rstrip("/"))
        elif flag != "-isystem":
            flags.append(flag)
    ctx.file("BUILD.bazel", _BUILD.format(includes = includes, python = found["python"]))
    ctx.file("description.json", json.encode(found["description"]))
    lines = ["CXX = {}".format(flags)]
    for name, key in [("ENGINE", "tf_plr_engine"), ("OPS", "tf_plr_ops")]:
        link = [flag.replace("$", "$$") for flag in found["link"][key] if "--version-script" not in flag]
        lines.append("LINK_{} = {}".format(name, link))
    ctx.file("flags.bzl", "\n".join(lines) + "\n")

local_tensorflow = repository_rule(
    _local_tensorflow,
    doc = "Finds the TensorFlow of the Python in PYTHON_BIN_PATH, or of python3.",
    environ = ["PYTHON_BIN_PATH", "PATH", "CXXFLAGS"],
    local = True,
)
