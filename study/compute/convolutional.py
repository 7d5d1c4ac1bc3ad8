"""Convolutional networks, and stacks of them as one network whose groups of channels are the networks."""

from collections import OrderedDict
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, group_norm

from study.compute.mlp import ACTIVATIONS
from study.compute.modules import ModuleNetwork
from study.compute.networks import Products
from study.errors import StudyError
from study.specs import Model

TOGETHER = 8  # networks of one pass: a pass of another width rounds differently
DIRECTIONS = 8  # whose products with a Hessian are computed together
MOST_FORMED = 300_000_000  # of all layers' outputs that the products for a whole Hessian pass: a minute or two
NUMBERS = 8_000_000  # of all layers' outputs that go through a stack together
Shape = tuple[int, int, int]  # channels, height and width of an image


class Images(nn.Module):
    """Rows [n, d] as the images [n, C, H, W] that they are."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.shape = shape

    def forward(self, rows: Tensor) -> Tensor:
        return rows.unflatten(1, self.shape)


class Mean(nn.Module):
    """The mean over all pixels, [n, C]."""

    def forward(self, h: Tensor) -> Tensor:
        return h.mean(dim=(2, 3))


class Affine(nn.Module):
    """Batch normalisation with its statistics frozen at mean 0 and variance 1: each channel scaled and shifted."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, h: Tensor) -> Tensor:
        return h * self.weight[:, None, None] + self.bias[:, None, None]


class Residual(nn.Module):
    """body(h) + shortcut(h) (He et al. 2016)."""

    def __init__(self, body: nn.Module, shortcut: nn.Module):
        super().__init__()
        self.body, self.shortcut = body, shortcut

    def forward(self, h: Tensor) -> Tensor:
        return self.body(h) + self.shortcut(h)


def build(model: Model, shape: Shape, outputs: int) -> nn.Module:
    """The module of a `[model]` table for images of a shape; StudyError where they are too small for it."""
    layers = KINDS[model.kind](model, shape, outputs)
    module = nn.Sequential(OrderedDict([("images", Images(shape)), *layers]))
    try:
        module(torch.zeros(1, shape[0] * shape[1] * shape[2], dtype=next(module.parameters()).dtype))
    except (RuntimeError, ValueError):  # torch has both for what becomes empty, or one pixel to normalise
        size = f"{shape[1]} x {shape[2]}"
        raise StudyError(f'model.kind = "{model.kind}": images of {size} pixels are too small for it') from None
    return module


Layers = Iterator[tuple[str, nn.Module]]


def _koh_cnn(model: Model, shape: Shape, outputs: int) -> Layers:
    """All-convolutional, eight filters, 2,616 parameters on MNIST (Koh & Liang 2017, section 4.2; their released code)."""
    channels = shape[0]
    for number, stride in enumerate((1, 2, 1, 2, 1), start=1):
        yield f"conv{number}", nn.Conv2d(channels, 8, 3, stride)
        yield f"activation{number}", ACTIVATIONS[model.activation]()
        channels = 8
    yield "conv6", nn.Conv2d(8, 10, 1)
    yield "activation6", ACTIVATIONS[model.activation]()
    yield "mean", Mean()
    yield "output", nn.Linear(10, outputs)


def _lenet(model: Model, shape: Shape, outputs: int) -> Layers:
    """LeNet-5, its averages without weights of their own (LeCun et al. 1998); images below 32 x 32 get a margin of two pixels."""
    channels, height, width = shape
    margin = 2 if height < 32 else 0
    for number, filters in enumerate((6, 16), start=1):
        yield f"conv{number}", nn.Conv2d(channels, filters, 5, padding=margin)
        yield f"activation{number}", ACTIVATIONS[model.activation]()
        yield f"pool{number}", nn.AvgPool2d(2)
        height, width = ((side + 2 * margin - 4) // 2 for side in (height, width))
        channels, margin = filters, 0
    yield "flatten", nn.Flatten()
    size = 16 * max(height, 0) * max(width, 0)
    for number, units in enumerate((120, 84), start=3):
        yield f"layer{number}", nn.Linear(size, units)
        yield f"activation{number}", ACTIVATIONS[model.activation]()
        size = units
    yield "output", nn.Linear(size, outputs)


def _resnet(model: Model, shape: Shape, outputs: int) -> Layers:
    """Three stages of `depth` blocks of two convolutions, `width` channels doubled and images halved from one to the next (He et
    al. 2016, section 4.2, with a 1 x 1 convolution where the shape changes); normalised by groups of channels or by frozen
    statistics, as by others' statistics a row's removal would change every other row's features.
    """
    channels = model.width
    yield "conv", nn.Conv2d(shape[0], channels, 3, padding=1, bias=False)
    yield "norm", _norm(model, channels)
    yield "activation", ACTIVATIONS[model.activation]()
    for stage in range(3):
        for block in range(model.depth):
            stride, filters = (2 if stage and not block else 1), model.width * 2**stage
            yield f"stage{stage + 1}_block{block + 1}", _block(model, channels, filters, stride)
            yield f"stage{stage + 1}_activation{block + 1}", ACTIVATIONS[model.activation]()
            channels = filters
    yield "mean", Mean()
    yield "output", nn.Linear(channels, outputs)


def _block(model: Model, channels: int, filters: int, stride: int) -> nn.Module:
    body = nn.Sequential(
        nn.Conv2d(channels, filters, 3, stride, padding=1, bias=False), _norm(model, filters),
        ACTIVATIONS[model.activation](),
        nn.Conv2d(filters, filters, 3, padding=1, bias=False), _norm(model, filters),
    )  # fmt: skip
    same = stride == 1 and channels == filters
    return Residual(body, nn.Identity() if same else nn.Conv2d(channels, filters, 1, stride, bias=False))


def _norm(model: Model, channels: int) -> nn.Module:
    groups = next(size for size in (4, 2, 1) if channels % size == 0)
    return nn.GroupNorm(groups, channels) if model.normalization == "group" else Affine(channels)


KINDS: dict[str, Callable[[Model, Shape, int], Layers]] = {"koh_cnn": _koh_cnn, "lenet": _lenet, "resnet": _resnet}


def chain(module: nn.Sequential, shape: Shape) -> list[tuple[nn.Module, list[str]]] | None:
    """Every layer, from images of a shape up, as types of the fused kernel (fused_convolution.cpp), none for what only reshapes;
    None where there is no such type, as in a resnet.
    """
    found = []
    for layer in module:
        types, shape = _types(layer, *shape)
        if types is None:
            return None
        found.append((layer, types))
    return found


def _types(layer: nn.Module, channels: int, height: int, width: int) -> tuple[list[str] | None, Shape]:
    """Of one layer on images of a shape, and the shape of what it makes of them."""
    size = f"{channels},{height},{width}"
    if isinstance(layer, nn.Linear) and height == width:  # of a whole image, or of one pixel
        return [f"Conv<{channels},{layer.out_features},{height},1,{height},{width}>"], (layer.out_features, 1, 1)
    if isinstance(layer, nn.Conv2d) and layer.bias is not None:
        margin, side, stride = (int(pair[0]) for pair in (layer.padding, layer.kernel_size, layer.stride))
        height, width = height + 2 * margin, width + 2 * margin
        own = f"Conv<{channels},{layer.out_channels},{side},{stride},{height},{width}>"
        after = (layer.out_channels, (height - side) // stride + 1, (width - side) // stride + 1)
        return [f"Margin<{size},{margin}>"] * bool(margin) + [own], after
    if isinstance(layer, nn.Tanh | nn.ReLU):
        return [f"Activation<{channels * height * width}>"], (channels, height, width)
    if isinstance(layer, nn.AvgPool2d):
        return [f"Mean<{size},2,2>"], (channels, height // 2, width // 2)
    if isinstance(layer, Mean):
        return [f"Mean<{size},{height},{width}>"], (channels, 1, 1)
    return ([] if isinstance(layer, Images | nn.Flatten) else None), (channels, height, width)


class Convolutional(ModuleNetwork):
    """Outputs of a stack by grouped convolutions; everything else as of any module.

    numbers: of one row in all layers of one network. chain: the layers that the fused kernel of its gradients is compiled
    from, if there is one.
    """

    networks_together = TOGETHER

    def __init__(self, model: Model, shape: Shape, outputs: int):
        super().__init__(lambda: build(model, shape, outputs))
        self.shape, self.classes, self.activation = shape, outputs, model.activation
        assert isinstance(self._module, nn.Sequential)
        self.chain = chain(self._module, shape)
        self.numbers = 0
        self._stacked(self.initial(0)[None], torch.zeros(1, shape[0] * shape[1] * shape[2], dtype=torch.float64))

    def outputs(self, theta: Tensor, x: Tensor) -> Tensor:
        """TOGETHER networks at a time, the last of them filled up: the same bits for a network in whatever stack it is."""
        places = torch.arange(len(theta), device=theta.device)
        found = []
        for some in places.split(TOGETHER):
            filled = torch.cat([some, some[:1].expand(TOGETHER - len(some))])
            found.append(self._stacked(theta[filled], x if x.dim() == 2 else x[filled])[: len(some)])
        return torch.cat(found)

    def hessian(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Tensor:
        """By products with every direction: second derivatives along all of them at once would not fit in memory."""
        times = self.products(theta, x, pull, curvature)
        columns = torch.eye(self.parameters, dtype=theta.dtype, device=theta.device).split(DIRECTIONS)
        found = torch.cat([times(some.expand(len(theta), -1, -1)) for some in columns], dim=1)
        return (found + found.mT) / 2

    def products(self, theta: Tensor, x: Tensor, pull: Tensor, curvature: Tensor) -> Products:
        step = self.rows_together(len(theta))
        pieces = [slice(start, start + step) for start in range(0, x.shape[-2], step)]
        parts = [
            super(Convolutional, self).products(theta, x[..., some, :], pull[:, some], curvature[:, some])
            for some in pieces
        ]

        def products(directions: Tensor) -> Tensor:
            total = parts[0](directions)
            for part in parts[1:]:
                total = total + part(directions)
            return total

        return products

    def forms(self, rows: int) -> bool:
        return super().forms(rows) and self.parameters * rows * self.numbers <= MOST_FORMED

    def rows_together(self, networks: int) -> int:
        return max(1, NUMBERS // (self.numbers * TOGETHER))

    def _stacked(self, theta: Tensor, x: Tensor) -> Tensor:
        """[B, n, C]; images go through as [n, B·C, H, W], those of shared rows as [n, C, H, W] up to the first convolution."""
        pieces = zip(self.names, theta.split(self.sizes, dim=1), self.shapes, strict=True)
        run = _Run(len(theta), {name: piece.unflatten(1, shape) for name, piece, shape in pieces}, self._module)
        found = run.through(self._module, "", x)
        self.numbers = self.numbers or run.numbers
        return found


class _Run:
    """One pass of B networks with their parameters [B, ...] by name."""

    def __init__(self, networks: int, parameters: dict[str, Tensor], module: nn.Module):
        self.networks, self.parameters, self.numbers = networks, parameters, 0

    def through(self, module: nn.Module, name: str, h: Tensor) -> Tensor:
        """What the module at `name` makes of h."""
        if isinstance(module, nn.Sequential):
            for child, part in module.named_children():
                h = self.through(part, f"{name}.{child}" if name else child, h)
            return h
        if isinstance(module, Residual):
            body, shortcut = (self.through(getattr(module, part), f"{name}.{part}", h) for part in ("body", "shortcut"))
            return body + shortcut
        found = self._layer(module, name, h)
        self.numbers += found.numel()
        return found

    def _layer(self, module: nn.Module, name: str, h: Tensor) -> Tensor:
        if isinstance(module, Images):
            own = h.dim() == 3  # [B, n, d]: every network its own rows
            return h.unflatten(2, module.shape).transpose(0, 1).flatten(1, 2) if own else module(h)
        if isinstance(module, nn.Conv2d):
            shared = h.shape[1] == module.in_channels
            weight, bias = self._of(name, "weight"), self._of(name, "bias")
            groups = 1 if shared else self.networks
            return conv2d(h, weight, bias, module.stride, module.padding, groups=groups)  # type: ignore[arg-type]
        if isinstance(module, nn.GroupNorm):
            weight, bias = self._of(name, "weight"), self._of(name, "bias")
            return group_norm(h, self.networks * module.num_groups, weight, bias, module.eps)
        if isinstance(module, Affine):
            weight, bias = self.parameters[f"{name}.weight"].flatten(), self.parameters[f"{name}.bias"].flatten()
            return h * weight[:, None, None] + bias[:, None, None]
        if isinstance(module, nn.Linear):
            units = h.unflatten(1, (self.networks, -1)).transpose(0, 1) if h.dim() == 2 else h
            return torch.baddbmm(self.parameters[f"{name}.bias"][:, None], units, self.parameters[f"{name}.weight"].mT)
        return module(h)  # activations, averages and shapes: each channel by itself

    def _of(self, name: str, part: str) -> Tensor | None:
        found = self.parameters.get(f"{name}.{part}")
        return None if found is None else found.flatten(0, 1)
