"""Which rules run, how severe they are, and what is not to be told."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from inspector.check.rule import Rule, Thresholds
from inspector.errors import UsageError
from inspector.facts.finding import CheckSettings, Ignore, Severity

_T = TypeVar("_T")


def selected(rules: Sequence[Rule], settings: CheckSettings) -> tuple[Rule, ...]:
    """The rules that are asked for, in their order.

    Raises
    ------
    inspector.errors.UsageError
        A code is no rule's and no beginning of one, or nothing is left.
    """
    codes = [rule.info.code for rule in rules]
    check_settings(rules, settings)
    chosen = tuple(
        rule
        for rule, code in zip(rules, codes, strict=True)
        if _longest(settings.select, code) > _longest(settings.ignore, code)
    )
    if not chosen:
        raise UsageError("no rule is selected", hint="see `bninspect rules` for their codes")
    return chosen


def check_settings(rules: Sequence[Rule], settings: CheckSettings) -> None:
    """Refuse codes that are no rule's, and thresholds that are none or out of their range.

    Raises
    ------
    inspector.errors.UsageError
        See above; the message suggests what may have been meant.
    """
    codes = [rule.info.code for rule in rules]
    by_code = {rule.info.code: rule.info for rule in rules}
    ignored = [code for each in settings.ignores for code in each.rules]
    for prefix in (*settings.select, *settings.ignore, *settings.severities, *ignored):
        if not prefix or not any(code.startswith(prefix) for code in codes):
            raise UsageError(f"no rule has the code {prefix!r}", hint=_like_code(prefix, rules))
    for code, numbers in settings.thresholds.items():
        if code not in by_code:
            raise UsageError(f"no rule has the code {code!r}", hint=_like_code(code, rules))
        known = {each.name: each for each in by_code[code].thresholds}
        for name, value in numbers.items():
            if name not in known:
                if not known:
                    raise UsageError(
                        f"{code} has no options", hint=f"see `bninspect explain {code}`"
                    )
                raise UsageError(
                    f"{code} has no option {name!r}",
                    hint=_like(name, known, f"it has {', '.join(known)}"),
                )
            least, most = known[name].least, known[name].most
            if not least <= value <= most:
                raise UsageError(
                    f"option {name!r} of {code} is {value:g}", hint=f"give {least:g} to {most:g}"
                )


def named(rules: Sequence[Rule], word: str) -> Rule:
    """The rule of a code or a name.

    Raises
    ------
    inspector.errors.UsageError
        There is none; the message suggests what may have been meant.
    """
    for rule in rules:
        if word.upper() == rule.info.code or word.lower() == rule.info.name:
            return rule
    within = [rule.info.code for rule in rules if rule.info.code.startswith(word.upper())]
    if word and within:
        raise UsageError(f"there is no rule {word!r}", hint=f"name one of {', '.join(within)}")
    raise UsageError(f"there is no rule {word!r}", hint=_like_code(word, rules))


def thresholds(rule: Rule, settings: CheckSettings) -> Thresholds:
    """A rule's numbers: the user's, or else the defaults."""
    defaults = {each.name: each.default for each in rule.info.thresholds}
    return {**defaults, **settings.thresholds.get(rule.info.code, {})}


def severity(code: str, own: Severity, settings: CheckSettings) -> Severity:
    """A finding's severity: the user's, by the longest beginning of its code, or else its own."""
    return _nearest(settings.severities, code, own)


def ignores_of(path: str, ignores: Iterable[Ignore]) -> tuple[Ignore, ...]:
    """Those that are about a file."""
    return tuple(each for each in ignores if not each.files or _is_file(path, each.files))


def reason_to_ignore(code: str, layer: str, ignores: Iterable[Ignore]) -> str | None:
    """Why a rule's finding about a layer is not to be told; None where it is.

    `ignores` are those that are about the file.
    """
    for each in ignores:
        if each.rules and not code.startswith(each.rules):
            continue
        if each.layers and not fnmatchcase(layer, each.layers):
            continue
        return each.reason or "ignored"
    return None


def _is_file(path: str, pattern: str) -> bool:
    """Whether a pattern is of the whole path, or of its end from a folder on.

    One that begins at the root is of the path from there, be it given so or not.
    """
    if os.path.isabs(pattern):
        places = {os.path.abspath(path), os.path.realpath(path)}
        return any(fnmatchcase(each.replace("\\", "/"), pattern) for each in places)
    path = path.replace("\\", "/")
    return fnmatchcase(path, pattern) or fnmatchcase(path, f"*/{pattern}")


def _longest(prefixes: Sequence[str], code: str) -> int:
    """The length of the longest of `prefixes` that a code begins with; -1 where none is."""
    return max((len(each) for each in prefixes if code.startswith(each)), default=-1)


def _nearest(by_prefix: Mapping[str, _T], code: str, otherwise: _T) -> _T:
    fitting = [prefix for prefix in by_prefix if code.startswith(prefix)]
    return by_prefix[max(fitting, key=len)] if fitting else otherwise


def _like_code(given: str, rules: Sequence[Rule]) -> str:
    """What may have been meant by a word that is no code; of other numbers nothing tells."""
    for rule in rules:
        if given.lower() == rule.info.name:
            return f"that is {rule.info.code}"
    if len(given.split()) > 1:
        return "separate codes with commas"
    if given.upper().startswith("BN") and given[2:].isdecimal() and len(given) <= len("BN000"):
        return "see `bninspect rules`"
    if given.upper().startswith("BN"):
        return _like(given.upper(), [rule.info.code for rule in rules])
    return _like(given.lower(), [rule.info.name for rule in rules])


def _like(given: str, known: Iterable[str], otherwise: str = "see `bninspect rules`") -> str:
    near = difflib.get_close_matches(given, list(known), n=1)
    return f"did you mean {near[0]!r}?" if near else otherwise
