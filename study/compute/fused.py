"""The fused kernels: gradients, Hessians and training steps of stacked small perceptrons, and gradients of convolutional networks
that are plain chains, each in one compiled pass (*.cpp).

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
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from study import cache
from study.compute.convolutional import Convolutional
from study.compute.mlp import Mlp
from study.compute.networks import Network

GRADIENT, HESSIAN, STEPS, CONVOLUTION = (
    Path(__file__).with_name(name) for name in ("fused.cpp", "fused_hessian.cpp", "fused_steps.cpp", "fused_convolution.cpp")
)
LANES = Path(__file__).with_name("lanes.h")  # what most include
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
STEP = 1e-6  # of a parameter
MOVED = 64  # parameters moved in one call

Gradient = Callable[[Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]
Hessian = Callable[[Tensor, Tensor, Tensor, Tensor, bool], Tensor]


def kernel(network: Network, task: str, theta: Tensor) -> Gradient | None:
    """(x, y, weights, theta) → (data loss [B], its gradient [B, P]), or None where autograd has to do it."""
    if isinstance(network, Convolutional):
        library = _of_convolution(network, task, theta)
    else:
        library = _kernel(GRADIENT, network, task, theta)
    return None if library is None else functools.partial(_gradient, library)


def loss(network: Network, task: str, theta: Tensor) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor] | None:
    """(x, y, weights, theta) → data loss [B] alone, of convolutional networks; else None."""
    library = _of_convolution(network, task, theta) if isinstance(network, Convolutional) else None
    return None if library is None else functools.partial(_loss, library)


def outputs(network: Network, theta: Tensor, x: Tensor) -> Tensor:
    """f(x_i; θ_b) [B, n, C], not differentiable: by the kernel of a convolutional network, else by the network itself."""
    library = _of_convolution(network, "classification", theta) if isinstance(network, Convolutional) else None
    if library is None or not isinstance(network, Convolutional):
        return network.outputs(theta, x)
    return _outputs(library, network.classes, x, theta)


@torch.no_grad()
def row_gradients(network: Network, theta: Tensor, x: Tensor, pull: Tensor) -> Tensor | None:
    """J_iᵀv_i [n, P] of one convolutional network theta [P] for v = `pull` [n, C]; None where the network itself has to do it.

    v_i is the slope ∂/∂f of ½(f − y)² at the target y = f(x_i) − v_i; every row is a network of its own.
    """
    if not isinstance(network, Convolutional):
        return None
    library = _of_convolution(network, "regression", theta)
    if library is None:
        return None
    targets, same = _outputs(library, network.classes, x, theta[None])[0] - pull, theta.expand(len(x), -1)
    return _gradient(library, x[:, None], targets[:, None], torch.ones_like(x[:, :1]), same)[1]


def hessian(network: Network, task: str, theta: Tensor) -> Hessian | None:
    """(x, y, weights, theta, gauss_newton) → ∂²(data loss) [B, P, P], or None where `network.hessian` has to do it."""
    library = _kernel(HESSIAN, network, task, theta)
    return None if library is None else functools.partial(_hessian, library)


def _kernel(source: Path, network: Network, task: str, theta: Tensor) -> ctypes.CDLL | None:
    if not isinstance(network, Mlp) or theta.device.type != "cpu" or network.parameters > LARGEST[source]:
        return None
    dimensions = network.dimensions
    sizes = {
        "INPUTS": dimensions[0],
        "WIDTH": dimensions[1] if len(dimensions) > 2 else 1,
        "DEPTH": len(dimensions) - 2,
        "OUTPUTS": dimensions[-1],
        "ACTIVATION": ACTIVATIONS[network.activation],
        "LOSS": TASKS[task],
        "BIAS": 1,
    }
    return _library(source, tuple(sizes.items()), theta.dtype)


def _of_convolution(network: Convolutional, task: str, theta: Tensor) -> ctypes.CDLL | None:
    if theta.device.type != "cpu" or network.chain is None:
        return None
    channels, height, width = network.shape
    return _of_layers(network, network.chain, channels, channels * height * width, task, theta)


def _of_layers(
    network: Convolutional, chain: Sequence[tuple[object, list[str]]], channels: int, inputs: int, task: str, theta: Tensor
) -> ctypes.CDLL | None:
    """Of a network's last layers `chain`, for rows of so many numbers; channels: 1 where they stand by pixel already."""
    sizes = {
        "CHAIN": ",".join(type for _, types in chain for type in types),
        "CHANNELS": channels,
        "INPUTS": inputs,
        "WIDTH": 1,
        "DEPTH": 0,
        "OUTPUTS": network.classes,
        "ACTIVATION": ACTIVATIONS[network.activation],
        "LOSS": TASKS[task],
        "BIAS": 1,
    }
    return _library(CONVOLUTION, tuple(sizes.items()), theta.dtype)


@torch.no_grad()
def difference_hessian(network: Network, task: str, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor) -> Tensor | None:
    """∂²(data loss) [P, P] of one convolutional network theta [P], weights [n], by forward differences of its gradients: to about
    STEP; None without a kernel.

    What lies below a layer stays as it is when a parameter of the layer moves, so that only the layers from it up are computed,
    and of a symmetric matrix only what stands beside their parameters: for `koh_cnn` a quarter of a gradient a parameter.
    """
    if not isinstance(network, Convolutional) or _of_convolution(network, task, theta) is None:
        return None
    matrix, start, h = theta.new_zeros(len(theta), len(theta)), 0, x
    assert network.chain is not None
    for place, (layer, own) in enumerate(zip(network.chain, network.module(theta).children(), strict=True)):
        count = sum(p.numel() for p in layer[0].parameters())
        if count:
            by_pixel = (h.permute(0, 2, 3, 1) if h.dim() == 4 else h).flatten(1)
            library = _of_layers(network, network.chain[place:], 1, by_pixel.shape[1], task, theta)
            if library is None:
                return None
            rows = _moved(library, by_pixel, y, weights, theta[start:], count)
            matrix[start : start + count, start:], matrix[start:, start : start + count] = rows, rows.mT
            start += count
        if not isinstance(own, nn.Flatten):  # the kernel's next layer takes the image as it stands
            h = own(h.flatten(1) if isinstance(own, nn.Linear) else h)
    return (matrix + matrix.mT) / 2


def _moved(library: ctypes.CDLL, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor, count: int) -> Tensor:
    """Differences of the gradient [count, p] as each of the first parameters of theta [p] moves."""
    found, base = [], _gradient(library, x, y, weights[None], theta[None])[1]
    for some in torch.arange(count).split(MOVED):
        moved = theta.repeat(len(some), 1)
        moved[torch.arange(len(some)), some] += STEP
        found.append((_gradient(library, x, y, weights.expand(len(some), -1), moved)[1] - base) / STEP)
    return torch.cat(found)


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


def _outputs(library: ctypes.CDLL, classes: int, x: Tensor, theta: Tensor) -> Tensor:
    found = theta.new_empty(len(theta), x.shape[-2], classes)
    given = [x.detach().contiguous(), theta.detach().contiguous()]
    pointers = [ctypes.c_void_p(t.data_ptr()) for t in (*given, found)]
    library.stacked_outputs(*map(ctypes.c_long, found.shape[:2]), ctypes.c_int(x.dim() == 2), *pointers)
    return found


def _loss(library: ctypes.CDLL, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor) -> Tensor:
    loss = theta.new_empty(len(theta))
    _call(library.stacked_gradient, x, [], [x, y, weights, theta], [loss, None])
    return loss


def _hessian(
    library: ctypes.CDLL, x: Tensor, y: Tensor, weights: Tensor, theta: Tensor, gauss_newton: bool = False
) -> Tensor:
    matrix = theta.new_empty(*theta.shape, theta.shape[1])
    _call(library.stacked_hessian, x, [not gauss_newton], [x, y, weights, theta], [matrix])
    return matrix


def _call(function: Any, x: Tensor, options: list[bool], given: list[Tensor], found: Sequence[Tensor | None]) -> None:
    """Both kernels take networks, rows, whether these share their rows, options, and pointers to what is given and found."""
    given = [t.detach().contiguous() for t in given]
    sizes = map(ctypes.c_long, given[2].shape)
    pointers = [ctypes.c_void_p(None if t is None else t.data_ptr()) for t in (*given, *found)]
    function(*sizes, ctypes.c_int(x.dim() == 2), *map(ctypes.c_int, options), *pointers)


@functools.cache
def _library(source: Path, sizes: tuple[tuple[str, object], ...], dtype: torch.dtype) -> ctypes.CDLL | None:
    """sizes: the constants that the source is compiled with, by name."""
    command = compiler()
    if not command or os.environ.get("STUDY_EAGER") == "1":
        return None
    defines = [f"-DSCALAR={SCALARS[dtype]}", *(f"-D{name}={value}" for name, value in sizes)]
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
