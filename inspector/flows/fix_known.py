"""By what findings and changes are known again when others have been fixed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from inspector.facts.finding import Finding
from inspector.facts.fix import Unlist
from inspector.flows.fix_plan import Planned


def gone(before: Sequence[Finding], after: Sequence[Finding]) -> tuple[Finding, ...]:
    """The findings that are no longer there."""
    left = Counter(map(_key, after))
    return tuple(each for each in before if not _take(left, _key(each)))


def place_of(planned: Planned) -> tuple[object, ...]:
    """What a change is about."""
    change = planned.change
    if isinstance(change, Unlist):
        return planned.finding.rule, change.names
    return planned.finding.rule, change.scope, change.output


def _take(left: Counter[tuple[object, ...]], key: tuple[object, ...]) -> bool:
    """Whether one of these is left; it is then taken."""
    if not left[key]:
        return False
    left[key] -= 1
    return True


def _key(finding: Finding) -> tuple[object, ...]:
    """What a finding is known by after others have been fixed."""
    if finding.rule == "BN033":
        return (finding.rule,)
    if not finding.layer:
        numbers = [finding.evidence.get(each) for each in ("epsilon", "momentum")]
        return (finding.rule, *map(str, numbers))
    return finding.rule, finding.scope, finding.layer
