"""Small PyTorch networks whose parameters, buffers and layers are known to the element.

Each callable gives a module and its example inputs. Whatever is called by `forward` is a module
wherever `torchsummary` is to see it; `functional` operations are marked where they are.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812  # as PyTorch's own documentation calls it
from torch import Tensor, nn

Made = tuple[nn.Module, tuple[Tensor, ...]]


def _image(channels: int = 3, *lengths: int) -> Tensor:
    return torch.randn(2, channels, *lengths)


class Residual(nn.Module):
    """Two convolutions and a way around them; the sum is functional."""

    def __init__(self, given: int, wanted: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(given, wanted, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(wanted)
        self.relu = nn.ReLU()
        self.conv2 = nn.Conv2d(wanted, wanted, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(wanted)
        self.downsample = (
            nn.Sequential(nn.Conv2d(given, wanted, 1, stride, bias=False), nn.BatchNorm2d(wanted))
            if stride != 1 or given != wanted
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        around = x if self.downsample is None else self.downsample(x)
        return self.relu(y + around)


class ResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(Residual(8, 8))
        self.layer2 = nn.Sequential(Residual(8, 16, 2), Residual(16, 16))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(16, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(x))))
        return self.fc(torch.flatten(self.avgpool(self.layer2(self.layer1(x))), 1))


def resnet() -> Made:
    return ResNet(), (_image(3, 32, 32),)


class Dense(nn.Module):
    """BatchNorm in front of each convolution, and the result beside the input; functional."""

    def __init__(self, given: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(given)
        self.conv1 = nn.Conv2d(given, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, 1, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(F.relu(self.norm2(y)))], 1)


def densenet() -> Made:
    stem = [nn.Conv2d(3, 8, 3, 1, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU()]
    block = [Dense(8, 4), Dense(12, 4)]
    transition = [nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 1, bias=False), nn.AvgPool2d(2)]
    head = [nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
    return nn.Sequential(*stem, *block, *transition, *head), (_image(3, 16, 16),)


class Inverted(nn.Module):
    """Wide, depthwise and narrow again; the sum is functional."""

    def __init__(self, given: int, wanted: int, stride: int, times: int) -> None:
        super().__init__()
        wide = given * times
        self.around = stride == 1 and given == wanted
        self.conv = nn.Sequential(
            nn.Conv2d(given, wide, 1, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wide, 3, stride, 1, groups=wide, bias=False),
            nn.BatchNorm2d(wide),
            nn.ReLU6(),
            nn.Conv2d(wide, wanted, 1, bias=False),
            nn.BatchNorm2d(wanted),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(x) if self.around else self.conv(x)


def mobilenet() -> Made:
    stem = [nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(12, 10)]
    blocks = [Inverted(8, 8, 1, 6), Inverted(8, 12, 2, 6)]
    return nn.Sequential(*stem, *blocks, *head), (_image(3, 32, 32),)


def conv1d() -> Made:
    """The second BatchNorm is behind the ReLU, where no exporter folds it."""
    net = nn.Sequential(
        nn.Conv1d(3, 6, 3),
        nn.BatchNorm1d(6),
        nn.ReLU(),
        nn.MaxPool1d(2),
        nn.Conv1d(6, 8, 3, dilation=2),
        nn.ReLU(),
        nn.BatchNorm1d(8),
        nn.Flatten(),
        nn.Linear(8 * 11, 4),
    )
    return net, (_image(3, 32),)


def conv3d() -> Made:
    net = nn.Sequential(
        nn.Conv3d(2, 4, 3),
        nn.BatchNorm3d(4),
        nn.ReLU(),
        nn.AvgPool3d(2),
        nn.Flatten(),
        nn.Linear(4 * 27, 3),
    )
    return net, (_image(2, 8, 8, 8),)


def no_affine() -> Made:
    """BatchNorms with neither scale nor bias, one that may be folded and one that may not."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3),
        nn.BatchNorm2d(6, affine=False),
        nn.ReLU(),
        nn.Conv2d(6, 6, 3),
        nn.ReLU(),
        nn.BatchNorm2d(6, affine=False),
        nn.Flatten(),
        nn.Linear(6 * 16, 5),
    )
    return net, (_image(3, 8, 8),)


def upwards() -> Made:
    """A transposed convolution with BatchNorm, PReLU for all channels and for each."""
    net = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.BatchNorm2d(6),
        nn.PReLU(6),
        nn.ConvTranspose2d(6, 4, 2, 2),
        nn.BatchNorm2d(4),
        nn.PReLU(),
        nn.Conv2d(4, 2, 1),
        nn.Sigmoid(),
    )
    return net, (_image(3, 8, 8),)


def linear() -> Made:
    net = nn.Sequential(
        nn.Linear(7, 9),
        nn.BatchNorm1d(9),
        nn.ReLU(),
        nn.Linear(9, 5, bias=False),
        nn.BatchNorm1d(5),
        nn.Tanh(),
        nn.Dropout(),
        nn.Linear(5, 2),
    )
    return net, (torch.randn(2, 7),)


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.middle = nn.Linear(8, 8)
        self.act = nn.Tanh()
        self.out = nn.Linear(8, 20)
        self.out.weight = self.table.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.act(self.middle(self.table(x))))


def tied() -> Made:
    return Tied(), (torch.randint(0, 20, (2, 5)),)


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 7, num_layers=2, batch_first=True)
        self.fc = nn.Linear(7, 3)

    def forward(self, x: Tensor) -> Tensor:
        y, _ = self.lstm(x)
        return self.fc(y[:, -1])


def lstm() -> Made:
    return Lstm(), (torch.randn(2, 6, 5),)


class Bag(nn.Module):
    """The mean is functional."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(30, 6, padding_idx=0)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc(self.table(x).mean(1))


def embedding() -> Made:
    return Bag(), (torch.randint(0, 30, (2, 7)),)


class Transformer(nn.Module):
    """A block of a transformer with normalisation in front; the sums are functional."""

    def __init__(self) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(8)
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm2 = nn.LayerNorm(8)
        self.feed = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        return x + self.feed(self.norm2(x))


def transformer() -> Made:
    return Transformer(), (torch.randn(2, 5, 8),)


def group_norm() -> Made:
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.GroupNorm(4, 8),
        nn.ReLU(),
        nn.Conv2d(8, 6, 3),
        nn.InstanceNorm2d(6, affine=True),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 3),
    )
    return net, (_image(3, 8, 8),)


class Twice(nn.Module):
    """One BatchNorm behind two convolutions; ReLU and mean are functional."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.conv2 = nn.Conv2d(6, 6, 3, padding=1)
        self.bn = nn.BatchNorm2d(6)
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn(self.conv1(x)))
        x = self.bn(F.relu(self.conv2(x)))
        return self.fc(x.mean((2, 3)))


def twice() -> Made:
    return Twice(), (_image(3, 8, 8),)


class Unused(nn.Module):
    """A parameter, a layer and a BatchNorm that `forward` never uses."""

    def __init__(self) -> None:
        super().__init__()
        self.fc = nn.Linear(6, 4)
        self.act = nn.ReLU()
        self.bn = nn.BatchNorm1d(4)
        self.lonely = nn.Parameter(torch.randn(5))
        self.idle = nn.Linear(4, 3)
        self.idle_bn = nn.BatchNorm1d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.act(self.fc(x)))


def unused() -> Made:
    return Unused(), (torch.randn(2, 6),)


class Buffered(nn.Module):
    """Positions, positions' numbers and a factor that are buffers and no statistics; functional."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(20, 8)
        self.kind = nn.Embedding(6, 8)
        self.norm = nn.LayerNorm(8)
        self.fc = nn.Linear(8, 3)
        angles = torch.arange(6).unsqueeze(1) * torch.tensor([1.0, 0.1, 0.01, 0.001])
        waves = torch.stack([torch.sin(angles), torch.cos(angles)], dim=-1).flatten(1)
        self.register_buffer("waves", waves.unsqueeze(0))
        self.register_buffer("numbers", torch.arange(6))
        self.register_buffer("factor", torch.tensor(1.5))

    def forward(self, x: Tensor) -> Tensor:
        x = self.table(x) * self.factor + self.waves + self.kind(self.numbers)
        return self.fc(self.norm(x).mean(1))


def buffers() -> Made:
    return Buffered(), (torch.randint(0, 20, (2, 6)),)


def trained(module: nn.Module) -> nn.Module:
    """Give normalisations values as training leaves them; all else is random from the start."""
    generator = torch.Generator().manual_seed(5)

    def draw(values: Tensor, low: float, high: float) -> None:
        values.copy_(torch.rand(values.shape, generator=generator) * (high - low) + low)

    with torch.no_grad():
        for each in module.modules():
            if isinstance(each, nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d):
                draw(each.running_mean, -0.5, 0.5)
                draw(each.running_var, 0.5, 1.5)
                each.num_batches_tracked.fill_(17)
            if isinstance(each, nn.MultiheadAttention):
                draw(each.in_proj_bias, -0.5, 0.5)
                draw(each.out_proj.bias, -0.5, 0.5)
            if "Norm" in type(each).__name__ and each.weight is not None:
                draw(each.weight, 0.5, 1.5)
                draw(each.bias, -0.5, 0.5)
    return module


def made(name: str, state: str) -> Made:
    """A network by its name, ``fresh`` or ``trained``, ready to be exported."""
    torch.manual_seed(3)
    module, inputs = globals()[name]()
    if state == "trained":
        trained(module)
    module.example_input_array = inputs
    return module.eval(), inputs
