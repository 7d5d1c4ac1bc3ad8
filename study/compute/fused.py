"""The fused kernels: gradients, Hessians and training steps of stacked small perceptrons, each in one compiled pass (*.cpp).

They are compiled once per shape with the machine's own C++ compiler and cached on disk. Without a compiler the objective
uses torch, which agrees to rounding only; which of the two ran is therefore part of every record.
"""

import ctypes
import functools
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from study import cache
from study.compute.mlp import Mlp
from study.compute.networks import Network

GRADIENT, HESSIAN, STEPS = (Path(__file__).with_name(name) for name in ("fused.cpp", "fused_hessian.cpp", "fused_steps.cpp"))
LANES = Path(__file__).with_name("lanes.h")  # what both include
SCALARS = {torch.float32: "float", torch.float64: "double"}
ACTIVATIONS = {"tanh": 0, "relu": 1, "selu": 2, "gelu": 3, "softplus": 4}
TASKS = {"classification": 0, "regression": 1}
# parameters; beyond it a network per lane no longer fits the caches and batched matrix products win
LARGEST = {GRADIENT: 16_384, HESSIAN: 512}
BASE_FLAGS = [
    "-std=gnu++17", "-O3", "-march=native", "-ffp-contract=fast", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC"
]  # fmt: skip
# the vector functions of the C library, where it has them, are several times faster; tried first
VECTOR_FLAGS = ["-mprefer-vector-width=512", "-DVECTOR_MATH"]

# steps are to have the bits of torch's operations one by one: nothing may be contracted
STEP_FLAGS = ["-ffp-contract=off"]

Gradient = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Hessian = Callable[[Tensor, Tensor, Tensor, Tensor, bool], Tensor]


def kernel(network: Network, task: str, theta: Tensor) -> Gradient | None:
    """(x, y, weights, theta) → (data loss [B], its gradient [B, P]), or None where autograd has to do it."""
    library = _kernel(GRADIENT, network, task, theta)
    return None if library is None else functools.partial(_gradient, library)


def hessian(network: Network, task: str, theta: Tensor) -> Hessian | None:
    """(x, y, weights, theta, gauss_newton) → ∂²(data loss) [B, P, P], or None where `network.hessian` has to do it."""
    library = _kernel(HESSIAN, network, task, theta)
    return None if library is None else functools.partial(_hessian, library)


def _kernel(source: Path, network: Network, task: str, theta: Tensor) -> ctypes.CDLL | None:
    if not isinstance(network, Mlp) or theta.device.type != "cpu" or network.parameters > LARGEST[source]:
        return None
    return _library(source, tuple(network.dimensions), network.activation, task, theta.dtype)


def available(network: Network, task: str, dtype: torch.dtype, device: str) -> bool:
    """Whether training uses the compiled kernel: depends on the machine and the spec, never on pending work."""
    return kernel(network, task, torch.empty(0, dtype=dtype, device=device)) is not None


def steps(network: Network, task: str, theta: Tensor) -> tuple[Any, Any] | None:
    """The compiled functions stacked_steps and stacked_gradient (see `descent`), or None where torch has to do it."""
    gradient = _kernel(GRADIENT, network, task, theta)
    own = None if gradient is None else _steps(theta.dtype)
    return None if gradient is None or own is None else (own.stacked_steps, gradient.stacked_gradient)


@functools.cache
def _steps(dtype: torch.dtype) -> ctypes.CDLL | None:
    command = compiler()
    return _compile(STEPS, command, [*BASE_FLAGS, *STEP_FLAGS, f"-DSCALAR={SCALARS[dtype]}"]) if command else None


def _gradient(library: ctypes.CDLL, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
    loss, gradient = theta.new_empty(len(theta)), theta.new_empty(theta.shape)
    _call(library.stacked_gradient, x, [], [x, y, weights, theta], [loss, gradient])
    return loss, gradient


def _hessian(
    library: ctypes.CDLL, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor, gauss_newton: bool = False
) -> Tensor:
    matrix = theta.new_empty(*theta.shape, theta.shape[1])
    _call(library.stacked_hessian, x, [not gauss_newton], [x, y, weights, theta], [matrix])
    return matrix


def _call(function: Any, x: Tensor, options: list[bool], given: list[Tensor], found: list[Tensor]) -> None:
    """Both kernels take networks, rows, whether these share their rows, options, and pointers to what is given and found."""
    given = [t.detach().contiguous() for t in given]
    sizes = map(ctypes.c_long, given[2].shape)
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (*given, *found)]
    function(*sizes, ctypes.c_int(x.dim() == 2), *map(ctypes.c_int, options), *pointers)


@functools.cache
def _library(
    source: Path, dimensions: tuple[int, ...], activation: str, task: str, dtype: torch.dtype
) -> ctypes.CDLL | None:
    command = compiler()
    if not command or os.environ.get("STUDY_EAGER") == "1":
        return None
    sizes = {
        "INPUTS": dimensions[0],
        "WIDTH": dimensions[1] if len(dimensions) > 2 else 1,
        "DEPTH": len(dimensions) - 2,
        "OUTPUTS": dimensions[-1],
        "ACTIVATION": ACTIVATIONS[activation],
        "LOSS": TASKS[task],
        "BIAS": 1,
    }
    defines = [f"-DSCALAR={SCALARS[dtype]}", *(f"-D{name}={value}" for name, value in sizes.items())]
    for extra in (VECTOR_FLAGS, []):
        library = _compile(source, command, [*BASE_FLAGS, *extra, *defines])
        if library is not None:
            return library
    return None


def compiler() -> list[str]:
    """The C++ compiler as words of a command, `CXX` first; empty where there is none."""
    for name in (os.environ.get("CXX", ""), "c++", "g++", "clang++"):
        words = shlex.split(name)
        if words and shutil.which(words[0]):
            return words
    return []


def _compile(source: Path, compiler: list[str], flags: list[str]) -> ctypes.CDLL | None:
    """The shared library, from the cache or newly built; None where this compiler cannot build or load it."""
    identity = "\n".join([source.read_text(), LANES.read_text(), *compiler, *flags, _processor()])
    path = cache.folder() / f"fused-{hashlib.sha256(identity.encode()).hexdigest()[:32]}.so"
    for _ in range(2):  # a second time where the cached library turns out to be damaged
        if not path.exists() and not _build([*compiler, *flags, str(source), "-lm"], path):
            return None
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            path.unlink(missing_ok=True)
    return None


def _build(command: list[str], path: Path) -> bool:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        built = Path(folder) / path.name
        done = subprocess.run([*command, "-o", str(built)], capture_output=True, check=False)
        if done.returncode == 0:
            os.replace(built, path)  # two processes may build the same kernel at once
        return done.returncode == 0


@functools.lru_cache(maxsize=1)
def _processor() -> str:
    """-march=native is bound to a processor: its feature list keeps a cache shared between machines apart."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() + platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())
