"""Predictions from a matrix of low rank; arnoldi and nystrom differ in how they find it."""

import time

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, eigsh
from torch import Tensor

from study.compute.estimators.prediction import Prediction
from study.compute.estimators.through_tests import System
from study.compute.problems import Fitted
from study.specs import Arnoldi, Nystrom


def arnoldi(fitted: Fitted, settings: Arnoldi) -> Prediction:
    """s_t = U (diag μ + δI)⁻¹ Uᵀ∇L_t with the r eigenpairs of largest |μ| (Schioppa et al. 2022, by ARPACK).

    What of ∇L_t lies outside U is dropped: captured_gradient is the smallest ‖UᵀL_t‖²/‖∇L_t‖², captured_spectrum
    Σ|μ_kept|/Σ|μ| (NaN where the matrix is too large to know). Negative μ are kept, and flagged "indefinite";
    numerically zero ones are dropped, and flagged "singular".
    """
    system = System.of(fitted, settings.matrix, settings.parameters)
    size = len(system.positions)
    if not torch.isfinite(fitted.theta).all():
        return system.undefined(settings.damping)
    values, vectors = fitted.once(_undamped(settings), lambda: _eigenpairs(system, settings))
    inside, damped = system.right @ vectors, values + settings.damping
    floor = size * torch.finfo(values.dtype).eps * damped.abs().max()
    dropped = damped.abs() <= floor  # numerically zero, as for `exact`: dividing by it would return rounding
    solution = torch.where(dropped, 0.0, inside / damped) @ vectors.T
    captured = (inside.square().sum(dim=1) / system.right.square().sum(dim=1)).nan_to_num(1.0)
    share, seconds = _share(system, values)
    evidence = {
        "rank": settings.rank,
        "captured_gradient": captured.min().item(),
        "captured_spectrum": share,
        "smallest_kept": values.abs().min().item(),
        "negative_eigenvalues": int((values < 0).sum()),
        "dropped_directions": int(dropped.sum()),
    }
    flags = ["indefinite"] * bool((damped < -floor).any()) + ["singular"] * bool(dropped.any())
    return system.prediction(solution, settings.damping, {**evidence}, flags, seconds)


def nystrom(fitted: Fitted, settings: Nystrom) -> Prediction:
    """s_t = (Ĥ + δI)⁻¹∇L_t with Ĥ = (HΩ)(ΩᵀHΩ)⁺(HΩ)ᵀ for r random orthonormal directions Ω (Frangella, Tropp & Udell 2023).

    By Woodbury's identity. Outside the r directions the matrix counts as δI alone, so δ must be above 0. captured_spectrum:
    tr Ĥ/Σ|μ| (NaN where the matrix is too large to know). A negative part is kept, and flagged "indefinite".
    """
    system = System.of(fitted, settings.matrix, settings.parameters)
    directions, images = fitted.once(_undamped(settings), lambda: _random_images(system, settings))
    if not torch.isfinite(images).all():
        return system.undefined(settings.damping)
    values, vectors = torch.linalg.eigh((directions.T @ images + images.T @ directions) / 2)
    kept = values.abs() > settings.rank * torch.finfo(values.dtype).eps * values.abs().max()
    tall, core = images @ vectors[:, kept], values[kept]
    inner = settings.damping * torch.diag(core) + tall.T @ tall
    solution = (system.right - (tall @ torch.linalg.solve(inner, tall.T @ system.right.T)).T) / settings.damping
    share, seconds = _share(system, tall.square().sum(dim=0) / core)
    evidence = {
        "rank": settings.rank,
        "kept_directions": int(kept.sum()),
        "captured_spectrum": share,
        "negative_eigenvalues": int((core < 0).sum()),
    }
    indefinite = bool((core < 0).any())
    return system.prediction(solution, settings.damping, {**evidence}, ["indefinite"] * indefinite, seconds)


def _undamped(settings: Arnoldi | Nystrom) -> tuple[object, ...]:
    """All that tells one low-rank matrix from another: one serves every damping."""
    return (settings.model_dump_json(exclude={"name", "damping"}),)


def _eigenpairs(system: System, settings: Arnoldi) -> tuple[Tensor, Tensor]:
    """The r eigenvalues of largest size [r], and eigenvectors [p, r]."""
    size = len(system.positions)
    start = system.generator(settings.seed).normal(size=size)
    operator = LinearOperator((size, size), matvec=lambda v: _numpy_product(system, v), dtype=np.float64)
    values, vectors = eigsh(operator, k=settings.rank, which="LM", v0=start)
    device = system.right.device
    return torch.as_tensor(values, device=device), torch.as_tensor(vectors, device=device)


def _random_images(system: System, settings: Nystrom) -> tuple[Tensor, Tensor]:
    """Random orthonormal Ω [p, r], and HΩ [p, r]."""
    drawn = system.generator(settings.seed).normal(size=(len(system.positions), settings.rank))
    directions = torch.as_tensor(np.linalg.qr(drawn)[0], device=system.right.device)
    return directions, system.products(directions.T.contiguous()).T


def _numpy_product(system: System, vector: np.ndarray) -> np.ndarray:
    direction = torch.as_tensor(vector.reshape(1, -1), dtype=torch.float64, device=system.right.device)
    return system.products(direction)[0].cpu().numpy()


def _share(system: System, values: Tensor) -> tuple[float, float]:
    """Σ|values|/Σ|μ|, NaN where the matrix is too large to know, and the seconds that it took to know."""
    started = time.perf_counter()
    whole = system.spectrum(system.gauss_newton)
    share = float("nan") if whole is None else (values.abs().sum() / whole.values.abs().sum()).item()
    return share, time.perf_counter() - started
