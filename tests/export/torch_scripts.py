"""Networks for torch.jit.script, which reads annotations as they are: none may be a text."""

import torch
from torch import nn


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, eps=2e-4, momentum=0.15)
        self.plain = nn.BatchNorm2d(4, affine=False, momentum=0.3)
        self.fc, self.last = nn.Linear(4, 4, bias=False), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.plain(self.bn(self.conv(x)).relu()).mean((2, 3))
        return self.last(self.fc(x))


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table, self.norm = nn.Embedding(7, 4), nn.BatchNorm1d(4)
        self.out = nn.Linear(4, 7, bias=False)
        self.out.weight = self.table.weight

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.norm(self.norm(self.table(x).mean(1)).relu()))


class Ifs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.yes, self.no = nn.BatchNorm1d(4), nn.BatchNorm1d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if bool(x.sum() > 0):
            return self.yes(x)
        return self.no(x) * 2
