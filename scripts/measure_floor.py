"""How many rounding floors matched pairs lie apart, and how many a wrong epsilon does.

The numbers behind `FLOORS` and `ULPS` in inspector/compare/measuring/floor.py: run it again
when the way the floor is measured changes. Pairs are the question's small network as either
framework writes it (tests/compare/nets.py), deeper stacks of Conv, BatchNorm and Relu against the
same with BatchNorm folded, and copies in float16 and int8.

    python scripts/measure_floor.py [--pairs 100]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from compare import nets  # noqa: E402  # the path has to be set first

from inspector.compare.measuring import floor, judged  # noqa: E402  # as above

Pair = tuple[onnx.ModelProto, onnx.ModelProto]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One pair: the largest share of what it was allowed that any element took, in floors."""

    floors: float
    verdict: str


def small(seed: int, variance: tuple[float, float], **changes: object) -> Pair:
    rng = np.random.default_rng([seed, 1])
    size = nets.Size(
        height=int(rng.integers(4, 20)),
        width=int(rng.integers(4, 20)),
        channels=int(rng.choice([1, 1, 3, 8])),
        filters=int(rng.integers(2, 24)),
        hidden=int(rng.integers(3, 60)),
        classes=int(rng.integers(2, 12)),
    )
    net = nets.Net(
        weights=nets.weights(size, seed=seed, variance=variance),
        size=size,
        softmax=bool(rng.integers(0, 2)),
    )
    return nets.keras_like(net), nets.torch_like(net.but(**changes))


def half(seed: int, **changes: object) -> Pair:
    net = nets.Net(weights=nets.weights(seed=seed))
    return nets.torch_like(net), nets.torch_like(net.but(dtype=TensorProto.FLOAT16, **changes))


def deep(seed: int, layers: int, **changes: float) -> Pair:
    return nets.deep(seed=seed, layers=layers), nets.deep(
        seed=seed, layers=layers, folded=not changes, **changes
    )


def halved(model: onnx.ModelProto) -> onnx.ModelProto:
    """float16 inside, with float32 ends."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    graph = made.graph
    for each in graph.initializer:
        values = onnx.numpy_helper.to_array(each).astype(np.float16)
        each.CopyFrom(onnx.numpy_helper.from_array(values, each.name))
    x, y = graph.input[0].name, graph.output[0].name
    for node in graph.node:
        for names in (node.input, node.output):
            for at, name in enumerate(names):
                names[at] = f"{name}_half" if name in (x, y) else name
    cast = onnx.helper.make_node
    graph.node.insert(0, cast("Cast", [x], [f"{x}_half"], to=TensorProto.FLOAT16))
    graph.node.append(cast("Cast", [f"{y}_half"], [y], to=TensorProto.FLOAT))
    return made


def quantised(model: onnx.ModelProto, how: str, seed: int) -> onnx.ModelProto:
    """Quantised by ONNX Runtime's own tool: ``static`` (QDQ) or ``dynamic``."""
    from onnxruntime import quantization as q

    class Reader(q.CalibrationDataReader):
        def __init__(self) -> None:
            rng = np.random.default_rng(seed)
            self.left = [3 * rng.standard_normal((16, 3, 12, 12)) for _ in range(8)]

        def get_next(self) -> dict[str, np.ndarray] | None:
            return {"x": self.left.pop().astype(np.float32)} if self.left else None

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "plain.onnx", Path(folder) / "quantised.onnx"
        onnx.save(model, source)
        if how == "dynamic":
            q.quantize_dynamic(source, target, weight_type=q.QuantType.QUInt8)
        else:
            q.quantize_static(source, target, Reader(), quant_format=q.QuantFormat.QDQ)
        return onnx.load(target)


def coarse(seed: int, how: str, **changes: float) -> Pair:
    """A net of 8 layers, and the same in float16 or int8."""
    left = nets.deep(seed=seed, layers=8, folded=how != "half")
    right = nets.deep(seed=seed, layers=8, folded=how != "half", **changes)
    return left, halved(right) if how == "half" else quantised(right, how, seed)


def look(pair: Pair, folder: Path, seed: int) -> Seen:
    """Compare a pair, and note how far its worst element lies in floors."""
    from inspector.flows import compare_files

    paths = folder / "left.onnx", folder / "right.onnx"
    for model, path in zip(pair, paths, strict=True):
        onnx.save(model, path)
    ratios: list[float] = []
    plain = judged.allowance

    def watched(lefts, rights, *deviations, grain=floor.FINE):  # type: ignore[no-untyped-def]  # as the original
        made = plain(lefts, rights, *deviations, grain=grain)
        for a, b, bound in zip(lefts, rights, made.bounds, strict=True):
            apart = np.abs(a.astype(np.float64) - b.astype(np.float64))
            with np.errstate(divide="ignore", invalid="ignore"):
                shares = np.where(apart > 0, apart / bound, 0.0)
            ratios.append(grain.floors * float(np.nanmax(shares, initial=0)))
        return made

    judged.allowance = watched
    try:
        found = compare_files(*paths, seed=seed)
    finally:
        judged.allowance = plain
    outputs = len(found.outputs) * len(found.batch_sizes)
    return Seen(floors=max(ratios[:outputs], default=0.0), verdict=found.verdict)


def kinds() -> Iterator[tuple[str, Callable[[int], Pair], Callable[[int], Pair]]]:
    for name, variance in (
        ("var 0.33–1.98", nets.ORDINARY),
        ("var 0.0037–0.052", nets.REAL),
        ("var 0.001–0.0098", nets.TINY),
    ):
        yield (
            f"small, {name}",
            lambda seed, v=variance: small(seed, v),
            lambda seed, v=variance: small(seed, v, epsilon=1e-5),
        )
    for layers in (10, 25, 50):
        yield (
            f"{layers} layers, BN folded",
            lambda seed, n=layers: deep(seed, n),
            lambda seed, n=layers: deep(seed, n, epsilon=1e-5),
        )
    yield "float16 against float32", half, lambda seed: half(seed, epsilon=1e-5)
    for how in ("half", "static", "dynamic"):
        yield (
            f"8 layers, {how}",
            lambda seed, h=how: coarse(seed, h),
            lambda seed, h=how: coarse(seed, h, epsilon=0.02 if h == "half" else 0.3),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", type=int, default=100, help="pairs of each kind")
    count = parser.parse_args().pairs
    print("of the wrong pairs, the 1 % and the smallest stand in place of the 99 % and the largest")
    print(f"{'pairs, in floors':26}{'median':>12}{'99 %':>12}{'largest':>12}  verdicts")
    with tempfile.TemporaryDirectory() as folder:
        for name, matched, wrong in kinds():
            for words, make in ((name, matched), ("  epsilon alone wrong", wrong)):
                seen = [look(make(seed), Path(folder), seed) for seed in range(count)]
                report(words, seen)


def report(words: str, seen: list[Seen]) -> None:
    floors = np.array([each.floors for each in seen])
    verdicts = sorted({each.verdict for each in seen})
    counts = ", ".join(f"{sum(v == e.verdict for e in seen)} {v}" for v in verdicts)
    edge = np.percentile(floors, 99 if words[0] != " " else 1)
    end = floors.max() if words[0] != " " else floors.min()
    print(f"{words:26}{np.median(floors):12.2f}{edge:12.2f}{end:12.2f}  {counts}", flush=True)


if __name__ == "__main__":
    main()
