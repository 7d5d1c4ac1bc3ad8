"""Multilayer perceptrons (and linear models, the depth 0) with their derivatives in closed form."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from study.compute.linear import Linear
from study.compute.networks import Network, Products


class Softplus(nn.Module):
    """log(1 + exp z), without torch's switch to z above a threshold, which would leave a jump in the curvature."""

    def forward(self, z: Tensor) -> Tensor:
        return torch.logaddexp(z, torch.zeros_like(z))


PRODUCTS = 50_000_000  # of inputs, in pairs, over all rows that are held at once: images have 300,000 of them a row
ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "selu": nn.SELU, "gelu": nn.GELU, "softplus": Softplus}


class Mlp(Network):
    """Fully connected network of `depth` hidden layers; layer k computes a_k = W_k h_{k−1} + b_k and h_k = φ(a_k)."""

    forms_cheaply = True

    def __init__(self, inputs: int, outputs: int, depth: int, width: int, activation: str):
        self.dimensions = [inputs, *[width] * depth, outputs]
        self.activation = activation
        self._activate = ACTIVATIONS[activation]()
        super().__init__(self._module)

    def _module(self) -> nn.Module:
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        pairs = list(zip(self.dimensions[:-1], self.dimensions[1:], strict=True))
        for k, (inputs, outputs) in enumerate(pairs[:-1], start=1):
            layers[f"layer{k}"] = nn.Linear(inputs, outputs)
            layers[f"activation{k}"] = ACTIVATIONS[self.activation]()
        layers["output"] = nn.Linear(*pairs[-1])
        return nn.Sequential(layers)

    def _layers(self, theta: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Weights [B, out, in] and biases [B, out], layer by layer, as views of theta."""
        start = 0
        for inputs, outputs in zip(self.dimensions[:-1], self.dimensions[1:], strict=True):
            middle, end = start + inputs * outputs, start + (inputs + 1) * outputs
            yield theta[:, start:middle].unflatten(1, (outputs, inputs)), theta[:, middle:end]
            start = end

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        h = x.expand(len(theta), *x.shape[-2:])
        *hidden, last = self._layers(theta)
        for weight, bias in hidden:
            h = self._activate(torch.baddbmm(bias[:, None], h, weight.mT))
        return torch.baddbmm(last[1][:, None], h, last[0].mT)

    @property
    def layers(self) -> list[str]:
        return ["input", *(f"layer{k}" for k in range(1, len(self.dimensions) - 1)), "output"]

    def _between(self, theta: Tensor, x: Tensor, layer: str) -> Tensor:
        """h_k of "layerk"."""
        return self._forward(theta[None], x)[0][self.layers.index(layer)][0]

    def _forward(self, theta: Tensor, x: Tensor) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Inputs h_{k−1} of every layer, and the slopes φ'(a_k) and curvatures φ''(a_k) of the hidden ones."""
        h = x.expand(len(theta), *x.shape[-2:])
        inputs, slopes, bends = [h], [], []
        for weight, bias in list(self._layers(theta))[:-1]:
            with torch.enable_grad():
                a = torch.baddbmm(bias[:, None], h, weight.mT).detach().requires_grad_()
                value = self._activate(a)
                (slope,) = torch.autograd.grad(value.sum(), a, create_graph=True)
                # ReLU's slope is piecewise constant: autograd then has no graph to differentiate
                bend = torch.autograd.grad(slope.sum(), a)[0] if slope.requires_grad else torch.zeros_like(a)
            h = value.detach()
            inputs.append(h)
            slopes.append(slope.detach())
            bends.append(bend.detach())
        return inputs, slopes, bends

    def _backward(self, theta: Tensor, slopes: list[Tensor], pull: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """δ_k = derivative by a_k for every layer, and W_{k+1}ᵀδ_{k+1} (before the slope) for the hidden ones."""
        weights = [weight for weight, _ in self._layers(theta)]
        deltas, backs = [pull], list[Tensor]()
        for k in range(len(slopes), 0, -1):
            back = deltas[0] @ weights[k]
            backs.insert(0, back)
            deltas.insert(0, back * slopes[k - 1])
        return deltas, backs

    @torch.no_grad()
    def row_gradients(self, theta: Tensor, x: Tensor, pull: Tensor) -> Tensor:
        inputs, slopes, _ = self._forward(theta, x)
        deltas, _ = self._backward(theta, slopes, pull)
        pieces = []
        for delta, h in zip(deltas, inputs, strict=True):
            pieces += [(delta[..., :, None] * h[..., None, :]).flatten(2), delta]
        return torch.cat(pieces, dim=2)

    @torch.no_grad()
    def hessian(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Tensor:
        """Block (m, l ≤ m) is Σ_i C_ml ⊗ h_{m−1}h_{l−1}ᵀ + Σ_i δ_m ⊗ R_ml ⊗ h_{l−1} with the per-row matrices

        C_ml = ∂δ_m/∂a_l and R_ml = ∂h_{m−1}/∂a_l. Both follow by C_m,l = C_m,l+1 W_{l+1} diag φ'(a_l), so that no Hv product
        is needed: two small matrix products a block, whatever P is.
        """
        inputs, slopes, bends = self._forward(theta, x)
        deltas, backs = self._backward(theta, slopes, pull)
        weights = [weight for weight, _ in self._layers(theta)]
        one = torch.ones_like(inputs[0][..., :1])
        augmented = [torch.cat([h, one], dim=2) for h in inputs]
        starts = [0]
        for inputs_, outputs_ in zip(self.dimensions[:-1], self.dimensions[1:], strict=True):
            starts.append(starts[-1] + (inputs_ + 1) * outputs_)
        total = theta.new_empty(len(theta), self.parameters, self.parameters)  # every block is written below
        within = curvature  # ∂²(loss)/∂a_m² through everything above layer m
        for m in range(len(weights) - 1, -1, -1):
            here = slice(starts[m], starts[m + 1])
            total[:, here, here] = _diagonal_block(within, augmented[m])
            across, reach = within, None
            for low in range(m - 1, -1, -1):
                across = _descend(across, weights[low + 1], slopes[low])
                reach = (
                    torch.diag_embed(slopes[low]) if reach is None else _descend(reach, weights[low + 1], slopes[low])
                )
                below = slice(starts[low], starts[low + 1])
                block = _block(across, augmented[m], augmented[low], deltas[m], reach)
                total[:, here, below], total[:, below, here] = block, block.mT
            if m:
                pulled = _descend(within, weights[m], slopes[m - 1])
                within = _descend(pulled.mT, weights[m], slopes[m - 1]) + torch.diag_embed(bends[m - 1] * backs[m - 1])
        return total.flatten(1).index_select(1, self._entries.to(theta.device)).view_as(total)

    @torch.no_grad()
    def products(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Products:
        """Pearlmutter's R{·} (1994): with R{a_k} = U_k h_{k−1} + u_k + W_k R{h_{k−1}} along a direction (U, u),

        R{δ_k} = (W_{k+1}ᵀR{δ_{k+1}} + U_{k+1}ᵀδ_{k+1}) φ'(a_k) + W_{k+1}ᵀδ_{k+1} φ''(a_k) R{a_k}, and for the last layer
        S R{f}; the product is Σ_i R{δ_k} h_{k−1}ᵀ + δ_k R{h_{k−1}}ᵀ. What does not depend on the direction is computed once.
        """
        state = _Evaluated(list(self._layers(theta)), *self._forward(theta, x), curvature, [], [])
        state.deltas[:], state.backs[:] = self._backward(theta, state.slopes, pull)

        def products(directions: Tensor) -> Tensor:
            networks, count, _ = directions.shape
            moved = [
                (weight.unflatten(0, (networks, count)), bias.unflatten(0, (networks, count)))
                for weight, bias in self._layers(directions.flatten(0, 1))
            ]
            return _products(state, moved)

        return products

    @cached_property
    def _entries(self) -> Tensor:
        """Where each entry of the matrix of flat parameters (weights, then bias, of a layer) stands among rows of [W | b]."""
        order, start = [], 0
        for inputs, outputs in zip(self.dimensions[:-1], self.dimensions[1:], strict=True):
            places = start + torch.arange(outputs * (inputs + 1)).view(outputs, inputs + 1)
            order += [places[:, :-1].flatten(), places[:, -1]]
            start += outputs * (inputs + 1)
        places = torch.cat(order)
        return (places[:, None] * len(places) + places).flatten()


@dataclass(frozen=True)
class _Evaluated:
    """A stack at its parameters: layers (W, b), inputs h_{k−1} [B, n, i], slopes and bends of the hidden layers, S, δ, W ᵀδ."""

    layers: list[tuple[Tensor, Tensor]]
    inputs: list[Tensor]
    slopes: list[Tensor]
    bends: list[Tensor]
    curvature: Tensor
    deltas: list[Tensor]
    backs: list[Tensor]


@torch.no_grad()
def _products(at: _Evaluated, moved: list[tuple[Tensor, Tensor]]) -> Tensor:
    """[B, K, P] along directions (U [B, K, o, i], u [B, K, o]) per layer; whatever is a row's own is [B, n, K, ·]."""
    changes, moved_inputs = _forward_along(at, moved)
    pieces: list[Tensor] = []
    delta = torch.einsum("bncd,bnkd->bnkc", at.curvature, changes[-1])
    for k in range(len(moved) - 1, -1, -1):
        networks, rows, count, outputs = delta.shape
        own = (delta.flatten(2).mT @ at.inputs[k]).view(networks, count, outputs, -1)
        if k:
            across = at.deltas[k].mT @ moved_inputs[k].flatten(2)
            own += across.view(networks, outputs, count, -1).transpose(1, 2)
        pieces = [own.flatten(2), delta.sum(dim=1), *pieces]
        if k:
            weight = moved[k][0]
            pulled = at.deltas[k] @ weight.transpose(1, 2).reshape(networks, outputs, -1)
            back = (delta.flatten(1, 2) @ at.layers[k][0]).view(networks, rows, count, -1) + pulled.view(
                networks, rows, count, -1
            )
            bent = (at.backs[k - 1] * at.bends[k - 1])[:, :, None] * changes[k - 1]
            delta = back.mul_(at.slopes[k - 1][:, :, None]).add_(bent)
    return torch.cat(pieces, dim=2)


def _forward_along(at: _Evaluated, moved: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    """R{a_k} and R{h_{k−1}} of every layer, [B, n, K, ·]; nothing moves the rows themselves."""
    changes: list[Tensor] = []
    inputs = [torch.empty(0)]
    for k, (weight, bias) in enumerate(moved):
        networks, count, outputs, width = weight.shape
        change = (at.inputs[k] @ weight.reshape(networks, count * outputs, width).mT).unflatten(2, (count, outputs))
        change = change + bias[:, None]
        if k:
            carried = inputs[k].flatten(1, 2) @ at.layers[k][0].mT
            change += carried.view_as(change)
        changes.append(change)
        if k < len(at.slopes):
            inputs.append(at.slopes[k][:, :, None] * change)
    return changes, inputs


def _descend(matrix: Tensor, weight: Tensor, slope: Tensor) -> Tensor:
    """M_i W diag(s_i) for every row i: [B, n, a, out] · [B, out, in] · [B, n, in]."""
    networks, rows, height, width = matrix.shape
    moved = (matrix.reshape(networks, rows * height, width) @ weight).view(networks, rows, height, -1)
    return moved.mul_(slope[:, :, None])


def _diagonal_block(within: Tensor, inputs: Tensor) -> Tensor:
    """Σ_i C_i ⊗ h_i h_iᵀ as [B, o·i, o·i] in the order of [W | b]: both factors are symmetric, half of each is enough."""
    outputs, width = within.shape[2], inputs.shape[2]
    halves = [torch.triu_indices(size, size, device=within.device) for size in (outputs, width)]
    if inputs.shape[1] * halves[1].shape[1] > PRODUCTS:
        found = inputs.new_empty(len(inputs), outputs * width, outputs * width)
        for matrix, own, curvature in zip(found, inputs, within, strict=True):
            Linear(width, outputs, intercept=False).fill(matrix, own, curvature)
        return found
    products = inputs.new_empty(*inputs.shape[:2], halves[1].shape[1])
    start = 0
    for k in range(width):
        torch.mul(inputs[..., k : k + 1], inputs[..., k:], out=products[..., start : start + width - k])
        start += width - k
    half = within[..., halves[0][0], halves[0][1]].mT @ products
    whole = half[:, _unfolded(halves[0])][..., _unfolded(halves[1])]  # [B, o, o, i, i]
    return whole.transpose(2, 3).reshape(len(within), outputs * width, outputs * width)


def _unfolded(half: Tensor) -> Tensor:
    """Where entry (a, b) of a symmetric matrix stands among those of its upper half: [size, size]."""
    places = torch.arange(half.shape[1], device=half.device)
    size = int(half.max()) + 1
    found = places.new_empty(size, size)
    found[half[0], half[1]] = found[half[1], half[0]] = places
    return found


def _block(across: Tensor, high: Tensor, low: Tensor, delta: Tensor, reach: Tensor) -> Tensor:
    """One Hessian block [B, o_m·(i_m+1), o_l·(i_l+1)] in the order of [W | b], summed over the rows."""
    networks, rows, tall, wide = across.shape
    products = (high[..., :, None] * low[..., None, :]).reshape(networks, rows, -1)
    block = across.reshape(networks, rows, -1).mT @ products
    block = block.view(networks, tall, wide, high.shape[2], low.shape[2]).transpose(2, 3).contiguous()
    left = (delta[..., :, None] * low[..., None, :]).reshape(networks, rows, -1)
    second = (left.mT @ reach.reshape(networks, rows, -1)).view(networks, tall, low.shape[2], -1, wide)
    block[:, :, :-1] += second.permute(0, 1, 3, 4, 2)
    return block.view(networks, tall * high.shape[2], wide * low.shape[2])
