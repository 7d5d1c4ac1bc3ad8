"""Any nn.Module as a stack of networks, by torch.func: slower than Mlp, right for every architecture."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, hessian, jacrev, jvp, vjp, vmap

from study.compute.networks import Network, Products


class ModuleNetwork(Network):
    """The network that `build` returns, called once per seed; it is used in evaluation mode, its buffers stay fixed."""

    def __init__(self, build: Callable[[], nn.Module]):
        super().__init__(build)
        self._module = self._seeded(0)
        self._module.requires_grad_(False)

    def _call(self, theta: Tensor, x: Tensor) -> Tensor:
        pieces = zip(self.names, theta.split(self.sizes), self.shapes, strict=True)
        # the module itself is float64 on the processor; torch.func swaps in theta's values, and buffers in theta's dtype
        state = {name: piece.view(shape) for name, piece, shape in pieces}
        for name, buffer in self._module.named_buffers():
            state[name] = buffer.to(theta.device, theta.dtype if buffer.is_floating_point() else buffer.dtype)
        outputs = functional_call(self._module, state, (x,))
        return outputs[:, None] if outputs.dim() == 1 else outputs

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        return vmap(self._call, in_dims=(0, 0 if x.dim() == 3 else None))(theta, x)

    @property
    def layers(self) -> list[str]:
        """Besides the two ends the module's own submodules; one that is called "input" or "output" is not reached by name."""
        own = [name for name, _ in self._module.named_modules() if name not in ("", "input", "output")]
        return ["input", *own, "output"]

    def _between(self, theta: Tensor, x: Tensor, layer: str) -> Tensor:
        """What the submodule returned in its last call."""
        returned: list[object] = []
        hook = self._module.get_submodule(layer).register_forward_hook(lambda *call: returned.append(call[2]))
        try:
            self._call(theta, x)
        finally:
            hook.remove()
        found = returned[-1] if returned else None
        if not isinstance(found, Tensor) or found.shape[:1] != x.shape[:1]:
            raise ValueError(f"layer {layer!r} gives no tensor with a row for each of {len(x)} rows")
        return found

    @torch.no_grad()
    def row_gradients(self, theta: Tensor, x: Tensor, pull: Tensor) -> Tensor:
        def pulled(parameters: Tensor, row: Tensor, weight: Tensor) -> Tensor:
            return (self._call(parameters, row[None])[0] * weight).sum()

        rows = vmap(grad(pulled), in_dims=(None, 0, 0))
        return vmap(rows, in_dims=(0, 0 if x.dim() == 3 else None, 0))(theta, x, pull)

    @torch.no_grad()
    def hessian(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Tensor:
        # one network at a time: the Jacobian [n, C, P] is the largest thing in memory
        rows = x if x.dim() == 3 else x.expand(len(theta), *x.shape)
        return torch.stack([self._hessian(*one) for one in zip(theta, rows, pull, curvature, strict=True)])

    def _hessian(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Tensor:
        jacobian = jacrev(self._call)(theta, x)
        gauss_newton = torch.einsum("ncp,ncd,ndq->pq", jacobian, curvature, jacobian)
        return gauss_newton + hessian(lambda parameters: (self._call(parameters, x) * pull).sum())(theta)

    def products(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Products:
        def one(theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor, direction: Tensor) -> Tensor:
            def outputs(parameters: Tensor) -> Tensor:
                return self._call(parameters, x)

            def pulled(parameters: Tensor) -> Tensor:
                return (self._call(parameters, x) * pull).sum()

            moved = jvp(outputs, (theta,), (direction,))[1]
            (gauss_newton,) = vjp(outputs, theta)[1](torch.einsum("ncd,nd->nc", curvature, moved))
            return gauss_newton + jvp(grad(pulled), (theta,), (direction,))[1]

        along = vmap(one, in_dims=(None, None, None, None, 0))
        stack = vmap(along, in_dims=(0, 0 if x.dim() == 3 else None, 0, 0, 0))

        @torch.no_grad()
        def products(directions: Tensor) -> Tensor:
            return stack(theta, x, pull, curvature, directions)

        return products
