from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest

from inspector.compare.causes.candidate import Candidate
from inspector.compare.causes.differences import Differences
from inspector.compare.causes.explain import MOST_PROOFS, Trial, explain, without_effect
from inspector.compare.feeding.feeds import Plan
from inspector.compare.measuring.measured import Measured
from inspector.compare.verdict import judge
from inspector.errors import RunError
from inspector.facts.comparison import (
    CauseKind,
    Difference,
    PairedOutput,
    ParameterMatch,
    Proof,
    Verdict,
)
from inspector.facts.patch import Patch, SetAttribute


def candidate(name: str, *, patchable: bool = True) -> Candidate:
    return Candidate(
        kind=CauseKind.ATTRIBUTE,
        what=name,
        left_where="l",
        right_where="r",
        left="1",
        right="2",
        patches=(SetAttribute(node=name, name="a", value=1),) if patchable else (),
        reason="" if patchable else "no way",
    )


def world(harmful: Sequence[str], *, unknown: bool = False) -> Callable[..., Trial]:
    """An experiment in which the named differences matter, and possibly one nobody knows."""

    def experiment(patches: Sequence[Patch]) -> Trial:
        patched = {each.node for each in patches}
        wrong = [name for name in harmful if name not in patched]
        apart = 0.5 * len(wrong) + (9.0 if unknown else 0.0)
        return Trial(max_abs=apart, within=not apart)

    return experiment


class TestExplain:
    def test_each_cause_is_proved_by_leaving_it_alone(self) -> None:
        found = explain([candidate("a"), candidate("b"), candidate("c")], world(["a", "c"]))
        assert [(c.what, c.proof, c.effect) for c in found.causes] == [
            ("a", Proof.NECESSARY, 0.5),
            ("c", Proof.NECESSARY, 0.5),
        ]
        assert [(c.what, c.proof) for c in found.harmless] == [("b", Proof.HARMLESS)]
        assert found.explained
        assert found.explained_to == 0.0

    def test_what_cannot_be_patched_is_harmless_where_the_rest_explains_all(self) -> None:
        found = explain([candidate("a"), candidate("b", patchable=False)], world(["a"]))
        assert [c.what for c in found.causes] == ["a"]
        assert [c.what for c in found.harmless] == ["b"]

    def test_nothing_is_claimed_where_something_is_unexplained(self) -> None:
        found = explain([candidate("a")], world(["a"], unknown=True))
        assert [c.proof for c in found.causes] == [Proof.UNTESTED]
        assert not found.explained
        assert found.explained_to == 9.0

    def test_nothing_to_patch(self) -> None:
        found = explain([candidate("a", patchable=False)], world(["a"]))
        assert [(c.proof, c.reason) for c in found.causes] == [(Proof.UNTESTED, "no way")]
        assert explain([], world([])).causes == ()

    def test_a_copy_that_does_not_run_is_said(self) -> None:
        def broken(patches: Sequence[Patch]) -> Trial:
            raise RunError("it fell over")

        found = explain([candidate("a")], broken)
        assert "it fell over" in found.causes[0].reason

    def test_a_single_copy_that_does_not_run_is_said(self) -> None:
        def fragile(patches: Sequence[Patch]) -> Trial:
            if len(list(patches)) == 1:
                raise RunError("it fell over")
            return Trial(max_abs=0.0, within=True)

        found = explain([candidate("a"), candidate("b")], fragile)
        assert [c.proof for c in found.causes] == [Proof.UNTESTED] * 2

    def test_many_differences_are_tested_together(self) -> None:
        many = [candidate(str(n)) for n in range(MOST_PROOFS + 1)]
        runs = 0

        def counted(patches: Sequence[Patch]) -> Trial:
            nonlocal runs
            runs += 1
            return world(["1"])(patches)

        found = explain(many, counted)
        assert runs == 1
        assert len(found.causes) == len(many)
        assert found.explained

    def test_effects_that_only_show_together(self) -> None:
        def shared(patches: Sequence[Patch]) -> Trial:
            return Trial(max_abs=0.0, within=bool(list(patches)))

        found = explain([candidate("a"), candidate("b")], shared)
        assert [c.proof for c in found.causes] == [Proof.UNTESTED] * 2
        assert found.explained
        assert "together they do" in found.causes[0].reason

    def test_without_effect(self) -> None:
        found = without_effect([candidate("a")], "why")
        assert [(c.proof, c.reason) for c in found.harmless] == [(Proof.HARMLESS, "why")]


def output(**changes: object) -> PairedOutput:
    far = {
        "shape": (4, 3),
        "max_abs": 1e-7,
        "mean_abs": 1e-8,
        "scale": 1.0,
        "at": (0, 0),
        "left_at": 0.0,
        "right_at": 0.0,
        "left_non_finite": 0,
        "right_non_finite": 0,
        "both_non_finite": 0,
        "top1": 1.0,
    }
    paired = {
        "left": "y",
        "right": "y",
        "permutation": (0, 1),
        "floor": 1e-7,
        "tolerance": 1e-6,
        "within": True,
        "finite_within": True,
    }
    for name, value in changes.items():
        (far if name in far else paired)[name] = value
    return PairedOutput(difference=Difference(**far), **paired)  # type: ignore[arg-type]  # as above


def verdict(
    *outputs: PairedOutput,
    same: bool = False,
    asked: bool = False,
    candidates: int = 0,
    rounded: int = 0,
    **measured: str,
) -> tuple[Verdict, str]:
    found = judge(
        Measured(
            outputs=outputs,
            orders=(),
            batches=(),
            plan=Plan(),
            left_results=[],
            right_results=[],
            left_deviations={},
            **measured,  # type: ignore[arg-type]  # strings for the three sentences
        ),
        Differences(
            candidates=tuple(candidate(str(n)) for n in range(candidates)),
            information=(),
            norms=(),
            parameters=ParameterMatch(
                bitwise=3, rounded=rounded, differing=0, left_only=0, right_only=0
            ),
        ),
        same_digest=same,
        asked=asked,
    )
    return found.verdict, found.reason


BEYOND = output(within=False, finite_within=False, max_abs=0.5)
BOTH_NAN = output(
    within=False, max_abs=float("inf"), left_non_finite=2, right_non_finite=2, both_non_finite=2
)
ONE_NAN = output(within=False, max_abs=float("inf"), left_non_finite=2)


class TestVerdict:
    @pytest.mark.parametrize(
        ("found", "wanted"),
        [
            (verdict(output(), same=True), Verdict.IDENTICAL),
            (verdict(output()), Verdict.EQUIVALENT),
            (verdict(output(), candidates=1), Verdict.AGREES),
            (verdict(output(), rounded=1), Verdict.AGREES),
            (verdict(BEYOND), Verdict.DIFFERENT),
            (verdict(output(), BEYOND), Verdict.DIFFERENT),
            (verdict(BEYOND, same=True), Verdict.UNDECIDED),
            (verdict(BOTH_NAN), Verdict.UNDECIDED),
            (verdict(BOTH_NAN, same=True), Verdict.UNDECIDED),
            (verdict(ONE_NAN), Verdict.DIFFERENT),
            (verdict(BOTH_NAN, BEYOND), Verdict.DIFFERENT),
            (verdict(output(shape=(0, 3), max_abs=0.0)), Verdict.UNDECIDED),
            (verdict(output(shape=(0, 3), max_abs=0.0), same=True), Verdict.IDENTICAL),
            (verdict(output(tolerance=0.2)), Verdict.UNDECIDED),
            (verdict(output(tolerance=0.2, max_abs=0.0)), Verdict.EQUIVALENT),
            (verdict(output(tolerance=0.2), asked=True), Verdict.EQUIVALENT),
            (verdict(output(max_abs=0.01), asked=True), Verdict.AGREES),
            (verdict(output(), only_if="moved"), Verdict.UNDECIDED),
            (verdict(output(), limited="batches"), Verdict.AGREES),
            (verdict(output(), limited="batches", same=True), Verdict.IDENTICAL),
        ],
    )
    def test_table(self, found: tuple[Verdict, str], wanted: Verdict) -> None:
        assert found[0] is wanted
        assert found[1]

    def test_reasons_name_what_decided(self) -> None:
        assert "0.5, beyond the 1e-06" in verdict(BEYOND)[1]
        assert "2 NaN or infinite elements on the left alone" in verdict(ONE_NAN)[1]
        small = output(within=False, finite_within=False, beyond="1e-09 apart at [0][1]")
        assert "1e-09 apart at [0][1]" in verdict(small)[1]
        assert "--layout" in verdict(output(), only_if="x is moved")[1]
