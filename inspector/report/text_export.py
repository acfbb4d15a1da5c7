"""`bninspect export` on a terminal."""

from __future__ import annotations

from inspector.facts.export import Export
from inspector.report.page import DOUBT, GOOD, NAME, Page, Span
from inspector.report.words import listed, many, number, printable, size


def write_export(fact: Export, page: Page) -> None:
    """Write what an export did."""
    manifest = fact.manifest
    totals, check = manifest.totals, manifest.verification
    page.line(("wrote ", GOOD), (printable(fact.path), NAME))
    kept = many(len(manifest.batchnorms), "native BatchNormalization node")
    if not manifest.batchnorms:
        kept = "none with stored statistics in this model"
    beside = "non-trainable" if manifest.framework == "keras" else "in buffers"
    rows: list[tuple[str, list[Span]]] = [
        ("file", [f"{size(fact.size)}, opset {fact.opset}"]),
        ("from", [f"{manifest.framework} {manifest.framework_version}, {manifest.exporter}"]),
        ("BatchNorm", [kept]),
        (
            "parameters",
            [f"{totals.trainable:,} trainable, {totals.other:,} {beside}, as it counts them"],
        ),
    ]
    if check is None:
        rows.append(("verified", [("no: the exported model was not run", DOUBT)]))
    else:
        sizes = " and ".join(map(str, check.batch_sizes))
        if check.of:
            rows[2][1].append(
                f"; {check.bitwise} of {check.of} tensors equal to the framework's in every bit"
            )
        rows.append(
            (
                "verified",
                [
                    f"ONNX Runtime within {number(check.max_abs)} of the framework "
                    f"({number(check.relative)} of the output's spread), where rounding explains "
                    f"up to {number(check.tolerance)}; batches of {sizes}"
                ],
            )
        )
    if manifest.not_exported:
        names = listed(each.source for each in manifest.not_exported)
        why = manifest.not_exported[0].why
        rows.append(("left out", [f"{names}: {printable(why)}"]))
    page.pairs(rows)
    for note in fact.notes:
        page.line(("note: ", DOUBT), printable(note), indent=2, hang=6)
