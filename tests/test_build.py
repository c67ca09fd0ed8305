# SPDX-License-Identifier: MIT
"""The decisions of setup.py before it compiles, and an installation without native code."""

import os
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import tensorflow as tf
from support import ROOT, run_program

from tf_plr._native import library as native

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="the sources are not there, only their tests"
)


@pytest.fixture
def setup(monkeypatch):
    """setup.py, imported anew, so that no cache or environment variable affects a test."""
    for name in ("TF_PLR_CUDA", "TF_PLR_CUDA_ARCHITECTURES", "CUDA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.syspath_prepend(str(ROOT))
    sys.modules.pop("setup", None)
    import setup

    yield setup
    sys.modules.pop("setup", None)


@pytest.fixture
def nvcc(tmp_path, monkeypatch):
    """Puts a fake nvcc of CUDA 12.3, which does not know Blackwell, in PATH."""
    program = tmp_path / "nvcc"
    program.write_text(
        "#!/bin/sh\n"
        'case "$1" in --version) echo "release 12.3, V12.3.1";; '
        "--list-gpu-arch) printf 'compute_80\\ncompute_90\\n';; esac\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    return str(program)


def test_whether_gpu_code_is_built(setup, nvcc, monkeypatch):
    assert setup.find_nvcc() == nvcc
    monkeypatch.setenv("TF_PLR_CUDA", "0")
    assert setup.find_nvcc() is None
    monkeypatch.setenv("TF_PLR_CUDA", "1")
    assert setup.find_nvcc() == nvcc
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SystemExit, match="TF_PLR_CUDA=1 asks for GPU code, but there is no nvcc"):
        setup.find_nvcc()
    monkeypatch.setenv("TF_PLR_CUDA", "yes")
    with pytest.raises(SystemExit, match='must be "0" or "1", but is \'yes\''):
        setup.find_nvcc()


def test_architectures(setup, nvcc, monkeypatch, capsys):
    monkeypatch.setattr(setup, "architectures_here", lambda: [])
    assert setup.cuda_architectures(nvcc) == ["80", "90"]  # Of all four.
    assert "does not know the GPU architectures 100, 120" in capsys.readouterr().err
    setup.cuda_architectures.cache_clear()
    monkeypatch.setattr(setup, "architectures_here", lambda: [90])
    assert setup.cuda_architectures(nvcc) == ["90"]
    # A GPU that is too new for the compiler, and one that is too old for the kernels.
    for here, expected in (([120], ["80", "90"]), ([75], ["80", "90"]), ([75, 90], ["90"])):
        setup.cuda_architectures.cache_clear()
        monkeypatch.setattr(setup, "architectures_here", lambda here=here: here)
        assert setup.cuda_architectures(nvcc) == expected
    for text, message in (
        ("100", "knows none of the GPU arch.* 100"),
        ("sm_90", "must be numbers"),
    ):
        setup.cuda_architectures.cache_clear()
        monkeypatch.setenv("TF_PLR_CUDA_ARCHITECTURES", text)
        with pytest.raises(SystemExit, match=message):
            setup.cuda_architectures(nvcc)


def test_architectures_of_gpus_here(setup, monkeypatch):
    said = SimpleNamespace(stdout="9.0\n9.0\n12.0\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: said)
    assert setup.architectures_here() == [90, 120]


@pytest.mark.parametrize("version", ["2.0.0", tf.__version__, None])
def test_beside_another_tensorflow(setup, monkeypatch, version):
    """An isolated build does not import the installed TensorFlow, but must match its version."""
    package = SimpleNamespace(metadata={"Name": "tensorflow_cpu"}, version=version)
    found = [package] if version else []
    monkeypatch.setattr(setup.importlib.metadata, "distributions", lambda path: found)
    if version == "2.0.0":
        with pytest.raises(SystemExit, match=r"tensorflow-cpu 2.0.0 is .*--no-build-isolation"):
            setup.check_installed_tensorflow()
    else:
        setup.check_installed_tensorflow()


def test_a_library_that_takes_cuda_from_elsewhere(setup, tmp_path):
    """Undefined CUDA symbols are reported: the library would need TensorFlow's GPU wheel."""
    for name, expected in (("cudaLaunchKernel", ["cudaLaunchKernel"]), ("other", [])):
        source, library = tmp_path / f"{name}.c", tmp_path / f"{name}.so"
        source.write_text(f"void {name}(void); void run(void) {{ {name}(); }}")
        subprocess.run(["cc", "-shared", "-fPIC", source, "-o", library], check=True)
        assert setup.undefined_cuda_symbols(library) == expected


def test_nor_does_the_one_that_was_built(setup):
    for library in (native.OPS, native.ENGINE):
        assert setup.undefined_cuda_symbols(library) == []


@pytest.mark.skipif(not (ROOT / "tf_plr").is_dir(), reason="the package is not beside the tests")
def test_python_alone(tmp_path):
    """TF_PLR_NATIVE=0 installs without a compiler, on any platform."""
    source = tmp_path / "source"
    ignored = shutil.ignore_patterns("*.so", "*.json", "__pycache__")
    shutil.copytree(ROOT / "tf_plr", source / "tf_plr", ignore=ignored)
    for name in (native.OPS.name, native.ENGINE.name):  # Of an earlier build.
        (source / "tf_plr" / "_native" / name).write_bytes(b"a library")
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "THIRD_PARTY_NOTICES"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps"]
    subprocess.run(
        [*command, "-w", tmp_path, source],
        check=True,
        env={**os.environ, "TF_PLR_NATIVE": "0", "CXX": "no-compiler"},
    )
    (wheel,) = tmp_path.glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    shutil.unpack_archive(wheel, tmp_path / "unpacked", "zip")
    assert not [*(tmp_path / "unpacked").rglob("*.so")]
    run_program(
        "python_alone.py",
        PYTHONPATH=str(tmp_path / "unpacked"),
    )
