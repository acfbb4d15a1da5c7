from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from pathlib import Path
from typing import Any

import onnx
import pytest
from torch_checks import check_norms, copied, norms_of, ran

from inspector.errors import UnreadableError
from inspector.export import export_torch

torch = pytest.importorskip("torch", reason="this export needs it")
pytest.importorskip("onnxscript", reason="this export needs it")
nn = torch.nn

Pair = namedtuple("Pair", "low high")


@dataclasses.dataclass
class Found:
    boxes: Any
    more: Any
    loss: Any = None


class Answer(OrderedDict[str, Any]):
    """A mapping of a library's own, which PyTorch was not told of."""


class Gives(nn.Module):
    def __init__(self, give: Any) -> None:
        super().__init__()
        self.bn, self.give = nn.BatchNorm1d(4), give

    def forward(self, x: Any) -> Any:
        return self.give(self.bn(x), x)


NAMED = {
    "dict": (lambda y, _: {"boxes": y, "scores": y + 1, "none": None}, ["boxes", "scores"]),
    "nested": (lambda y, _: {"f": {"p4": y}, "l": [y + 1, y + 2]}, ["f.p4", "l.0", "l.1"]),
    "dataclass": (lambda y, _: Found(y, [y + 1, {"a": y + 2}]), ["boxes", "more.0", "more.1.a"]),
    "a mapping of its own": (lambda y, _: Answer(logits=y, aux=y + 1), ["logits", "aux"]),
    "in a tuple": (lambda y, _: (Answer(a=y), y + 1), ["0.a", None]),
    "namedtuple": (lambda y, _: Pair(y, y + 1), ["low", "high"]),
    "taken": (lambda y, _: {"x": y + 1, "bn.weight": y + 2}, ["x_1", "bn.weight_1"]),
    "the input itself": (lambda y, x: {"given": x, "made": y}, ["x", "made"]),
}


@pytest.mark.parametrize(("give", "names"), NAMED.values(), ids=NAMED.keys())
def test_outputs_are_called_what_the_source_calls_them(
    give: Any, names: list[str | None], torch_fill: Any, tmp_path: Path
) -> None:
    module = torch_fill(Gives(give)).eval()
    state, path = copied(module), tmp_path / "m.onnx"
    export_torch(module, path, input_shape=(3, 4))
    check_norms(path, norms_of(module), state)
    outputs = [each.name for each in onnx.load(str(path)).graph.output]
    assert len(outputs) == len(names)
    assert all(name in (None, found) for name, found in zip(names, outputs, strict=True))
    x = torch.rand(5, 4)
    with torch.no_grad():
        first = module.bn(x)
    got = ran(path, x.numpy())
    plain = x if names[0] == "x" else first + (names[0] == "x_1")
    torch.testing.assert_close(torch.from_numpy(got[0]), plain)
    assert not module._forward_hooks
    assert Found not in torch.utils._pytree.SUPPORTED_NODES


REFUSED = {
    "an int": (lambda y, _: (y, 3), "gives an int among its outputs"),
    "a str": (lambda y, _: {"y": y, "kind": "cat"}, "gives a str among its outputs"),
    "complex": (lambda y, _: torch.fft.rfft(y), r"complex.*torch\.view_as_real"),
    "nothing": (lambda *_: None, "gives no tensor"),
}


@pytest.mark.parametrize(("give", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_what_onnx_has_no_outputs_for(give: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=message):
        export_torch(Gives(give).eval(), tmp_path / "m.onnx", input_shape=(3, 4), verify=False)
    assert not list(tmp_path.iterdir())


def test_a_distribution_in_the_forward_pass(
    torch_fill: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    normal = torch.distributions.Normal
    # The first use of torch.compile in a process turns them off for good
    # (TorchPatcher.patch in torch/_dynamo/eval_frame.py).
    monkeypatch.setattr(torch.distributions.Distribution, "_validate_args", True)

    def give(y: Any, _: Any) -> Any:
        return normal(y, torch.exp(y)).mean, normal(y, torch.exp(y)).rsample()

    module = torch_fill(Gives(give)).eval()
    export = export_torch(module, tmp_path / "m.onnx", input_shape=(3, 4))
    assert any("random" in note for note in export.notes)
    assert [each.source for each in export.manifest.batchnorms] == ["bn"]
    with pytest.raises(ValueError, match="constraint"):
        normal(torch.zeros(1), torch.full((1,), -1.0))


def test_a_distribution_that_insists_on_its_checks(tmp_path: Path) -> None:
    def give(y: Any, _: Any) -> Any:
        return torch.distributions.Normal(y, torch.exp(y), validate_args=True).mean

    with pytest.raises(UnreadableError, match="validate_args=False"):
        export_torch(Gives(give).eval(), tmp_path / "m.onnx", input_shape=(3, 4))


class Packed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gru, self.bn = nn.GRU(3, 4, batch_first=True), nn.BatchNorm1d(4)

    def forward(self, x: Any, lengths: Any) -> Any:
        pack = nn.utils.rnn.pack_padded_sequence
        return self.bn(self.gru(pack(x, lengths, batch_first=True))[1][-1])


def test_packed_sequences_are_refused_by_name(tmp_path: Path) -> None:
    example = torch.rand(2, 5, 3), torch.tensor([5, 3])
    with pytest.raises(UnreadableError, match=r"packed sequences.*padded tensor"):
        export_torch(Packed().eval(), tmp_path / "m.onnx", example=example)
