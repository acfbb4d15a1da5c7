"""The commands that check models before deployment, and say what is checked."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspector.cli import check_options as options
from inspector.cli.check_options import (
    BaselineOption,
    CheckFormatOption,
    ConfigOption,
    DiffOption,
    ExtendSelectOption,
    FailOnOption,
    FixOption,
    FoldOption,
    FullOption,
    IgnoreOption,
    IsolatedOption,
    JobsOption,
    NoBackupOption,
    PathsArgument,
    QuietOption,
    ReportsOption,
    SelectOption,
    SetEpsilonOption,
    SetMomentumOption,
    SetOption,
    SeverityOption,
    ShowIgnoredOption,
)
from inspector.cli.collector import collect_cycles
from inspector.cli.options import ExternalDirOption, Format, FormatOption
from inspector.cli.outputs import CheckFormat, outputs, refuse_inputs, write_outputs
from inspector.cli.terminal import (
    counted_progress,
    print_report,
    progress,
    wants_color,
    width,
)
from inspector.cli.usage import Command
from inspector.errors import UnreadableError, UsageError

if TYPE_CHECKING:
    from inspector.check.settings import Configuration
    from inspector.facts.fix import FixedFile
    from inspector.report.page import Page


def add_check(app: typer.Typer) -> None:
    """Add the commands to the application."""
    app.command(cls=Command, short_help="Check models before deployment, as a gate in CI.")(check)
    app.command(cls=Command, short_help="List the rules that check goes by.")(rules)
    app.command(cls=Command, short_help="What a rule looks for, why, and what to do.")(explain)


def check(
    paths: PathsArgument,
    select: SelectOption = None,
    extend_select: ExtendSelectOption = None,
    ignore: IgnoreOption = None,
    severity: SeverityOption = None,
    set: SetOption = None,  # the option's name
    fail_on: FailOnOption = None,
    baseline: BaselineOption = None,
    external_dir: ExternalDirOption = None,
    config: ConfigOption = None,
    isolated: IsolatedOption = False,
    jobs: JobsOption = None,
    format: CheckFormatOption = CheckFormat.text,
    output: ReportsOption = None,
    full: FullOption = False,
    show_ignored: ShowIgnoredOption = False,
    quiet: QuietOption = False,
    fix: FixOption = False,
    diff: DiffOption = False,
    no_backup: NoBackupOption = False,
    fold: FoldOption = False,
    set_epsilon: SetEpsilonOption = None,
    set_momentum: SetMomentumOption = None,
) -> None:
    """Check models for what makes their BatchNorms wrong, unstable or slow once deployed.

    Exits with 1 where something is found of the severity of --fail-on or above; else with 3 where
    a file could not be read (the others are checked all the same); else with 0. With --fix, what
    is left counts; with --diff, it is 1 where something would change.
    """
    from inspector.check.settings import Asked, with_asked
    from inspector.cli.fixing import (
        fix_exit_code,
        fix_options,
        refuse_unselected,
        show_diff,
        show_fixes,
    )
    from inspector.flows.check import check_files
    from inspector.flows.discover import discover
    from inspector.report import render

    reports = outputs(output or ())
    asked = Asked(
        select=None if select is None else options.codes(select),
        extend_select=options.codes(extend_select),
        ignore=options.codes(ignore),
        severities=options.severities(severity),
        thresholds=options.numbers(set),
        fail_on=fail_on or "",
    )
    fixes = fix_options(
        fix=fix,
        diff=diff,
        no_backup=no_backup,
        fold=fold,
        epsilon=set_epsilon,
        momentum=set_momentum,
        selected=(*(asked.select or ()), *asked.extend_select),
    )
    if diff and (output or format is not CheckFormat.text):
        raise UsageError("--diff writes no reports", hint="leave out --output and --format")
    configured = _configured(config, isolated=isolated)
    models = discover(paths)
    if len(models) > 1 or fixes is not None:
        collect_cycles()  # of one model there is nothing to be given back before the end
    settings = with_asked(configured.settings, asked)
    if fixes is not None:
        refuse_unselected(fixes, settings)
    baseline = baseline or configured.baseline or None
    refuse_inputs(reports, models if baseline is None else (*models, baseline))
    external_dirs = (*(external_dir or ()), *configured.external_dirs)
    with counted_progress("checking") as counted:
        fact = check_files(
            models,
            settings,
            baseline=baseline,
            external_dirs=external_dirs,
            jobs=jobs or configured.jobs,
            progress=counted,
        )
    done: tuple[FixedFile, ...] = ()
    if fixes is not None:
        from inspector.flows.fix import fix_files

        with progress() as stage:
            fact, done = fix_files(
                fact,
                settings,
                fixes,
                baseline=baseline,
                external_dirs=external_dirs,
                progress=stage,
            )
    if diff:
        show_diff(fact, done, quiet=quiet)
        raise typer.Exit(int(fix_exit_code(fact, done, diff=True)))
    try:
        write_outputs(fact, reports)
    except UnreadableError:
        show_fixes(done, aside=True, quiet=quiet)  # the files are fixed all the same
        raise
    if format is CheckFormat.text:
        from inspector.report.text_check import write_check

        page = _page()
        write_check(fact, page, quiet=quiet, full=full, ignored=show_ignored)
        print_report(page.text() if page.lines else "")
    else:
        print_report(render(fact, format))
    show_fixes(done, aside=format is not CheckFormat.text, quiet=quiet)
    raise typer.Exit(int(fix_exit_code(fact, done, diff=False)))


def rules(format: FormatOption = Format.text) -> None:
    """List the rules that check goes by: code, severity, name, and what each looks for."""
    from inspector.check.rules import RULES

    infos = [rule.info for rule in RULES]
    if format is Format.json:
        from inspector.report.json import to_object
        from inspector.report.json_check import rules_body

        print_report(to_object("rules", rules_body(infos)))
        return
    from inspector.report.text_rules import write_rules

    page = _page()
    write_rules(infos, page)
    print_report(page.text())


def explain(
    code: Annotated[str, typer.Argument(metavar="CODE", help="A rule's code, as BN011.")],
    format: FormatOption = Format.text,
) -> None:
    """Say what a rule looks for, why it matters and what to do, with a model that it finds."""
    from inspector.check.rules import RULES
    from inspector.check.select import named

    rule = named(RULES, code).info
    if format is Format.json:
        from inspector.report.json import to_object
        from inspector.report.json_check import rules_body

        print_report(to_object("rules", rules_body([rule])))
        return
    from inspector.report.text_rules import write_rule

    page = _page()
    write_rule(rule, page)
    print_report(page.text())


def _configured(config: str | None, *, isolated: bool) -> Configuration:
    """The configuration that is asked for, or the nearest."""
    from inspector.check.configuration import find_configuration, read_configuration
    from inspector.check.rules import RULES
    from inspector.check.settings import Configuration

    if config is not None and isolated:
        raise UsageError("--config and --isolated exclude each other", hint="give one of them")
    if isolated:
        return Configuration()
    if config is not None:
        return read_configuration(Path(config), RULES)
    return find_configuration(Path.cwd(), RULES)


def _page() -> Page:
    from inspector.report.page import Page

    return Page(width=width(), color=wants_color(sys.stdout))
