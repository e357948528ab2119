"""`watchword doctor`: what would keep `serve` from working, and what to do about it."""

import asyncio
import dataclasses
import json
import os
from typing import Annotated

import typer

from watchword.doctor.findings import Finding, Level, failure

app = typer.Typer()


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON value on stdout.")] = False,
) -> None:
    """Check everything that `serve` needs; exit 1 when something fails. No mail is sent."""
    found = _examine()
    failures = sum(finding.level is Level.FAILURE for finding in found)
    if as_json:
        findings = [
            {"check": it.check, "level": it.level, "message": it.message, "hint": it.hint}
            for it in found
        ]
        print(json.dumps({"ok": not failures, "findings": findings}, ensure_ascii=False, indent=2))
    else:
        for finding in found:
            print(f"{finding.level:<7}  {finding.check}: {finding.message}")
            if finding.hint:
                print(f"         hint: {finding.hint}")
        warnings = sum(finding.level is Level.WARNING for finding in found)
        print(f"{len(found)} findings: {failures} failures, {warnings} warnings")
    if failures:
        raise typer.Exit(1)


def _examine() -> list[Finding]:
    try:
        from watchword.doctor.checkup import examine  # noqa: PLC0415  # the core may be missing
    except ImportError as error:
        message, _, hint = str(error).partition("\nhint: ")
        if not hint:
            raise
        return [dataclasses.replace(failure(message, hint), check="core")]
    return asyncio.run(examine(os.environ))
