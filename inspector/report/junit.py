"""A check as JUnit's XML, as Jenkins, GitLab and others read it: a suite a file, a case a rule.

There is no standard; this is what https://github.com/jenkinsci/xunit-plugin takes (junit-10.xsd).
"""

from __future__ import annotations

from collections.abc import Sequence
from xml.etree import ElementTree

from inspector.facts.finding import Check, CheckedFile, Finding
from inspector.report.checked import fails, sentences, shown, titles
from inspector.report.words import printable


def to_junit(check: Check) -> str:
    """An XML document of ``testsuites``, and a newline behind it."""
    suites = [_suite(file, check) for file in check.files]
    root = ElementTree.Element("testsuites", name="bninspect check")
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key, 0)) for suite in suites)))
    root.extend(suites)
    ElementTree.indent(root, " ")
    # Characters beyond ASCII are written as references: true in whatever encoding it is saved.
    text = ElementTree.tostring(root, encoding="us-ascii", xml_declaration=False).decode("ascii")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _suite(file: CheckedFile, check: Check) -> ElementTree.Element:
    path = shown(file.path)
    if file.unreadable:
        cases = [_case("readable", path)]
        error = ElementTree.SubElement(cases[0], "error", type="unreadable")
        error.set("message", printable(file.unreadable))
    else:
        cases = [
            _rule(code, title, path, file, check) for code, title in _rules(file, check).items()
        ]
    suite = ElementTree.Element("testsuite", name=path, file=path, tests=str(len(cases)))
    suite.set("failures", str(sum(case.find("failure") is not None for case in cases)))
    suite.set("errors", str(int(bool(file.unreadable))))
    suite.extend(cases)
    if file.notes:
        notes = "\n".join(printable(note) for note in file.notes)
        ElementTree.SubElement(suite, "system-out").text = notes
    return suite


def _rules(file: CheckedFile, check: Check) -> dict[str, str]:
    """Titles by code of the rules that ran, and of any other that found something."""
    known = titles(check)
    return known | {each.rule: each.rule for each in file.findings if each.rule not in known}


def _case(name: str, path: str) -> ElementTree.Element:
    return ElementTree.Element("testcase", name=name, classname=path)


def _rule(code: str, title: str, path: str, file: CheckedFile, check: Check) -> ElementTree.Element:
    """A rule's case: one failure, since readers show no second one."""
    case = _case(title, path)
    found = [each for each in file.findings if each.rule == code]
    failing = [each for each in found if fails(each, check)]
    if failing:
        failure = ElementTree.SubElement(case, "failure", type=_worst(failing))
        more = f" (and {len(failing) - 1} more)" if len(failing) > 1 else ""
        failure.set("message", printable(failing[0].message) + more)
        failure.text = "\n".join(map(_line, failing))
    told = [_line(each) for each in found if not fails(each, check)]
    told += [
        f"ignored ({printable(each.reason)}): {_line(each.finding)}"
        for each in file.ignored
        if each.finding.rule == code
    ]
    if told:
        ElementTree.SubElement(case, "system-out").text = "\n".join(told)
    return case


def _worst(findings: Sequence[Finding]) -> str:
    return max((each.severity for each in findings), key=lambda severity: severity.rank).value


def _line(finding: Finding) -> str:
    scope = "".join(f"{printable(part)} / " for part in finding.scope)
    return f"{finding.severity}: {scope}{sentences(finding)}"
