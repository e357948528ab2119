"""`watchword config ...`: what the environment says, without starting anything."""

import json
import os

import typer

from watchword.cli.output import Json, errors_told
from watchword.config import PREFIX, REQUIRED_BY_SERVE, load_config
from watchword.reference import effective, json_schema

app = typer.Typer(help="The configuration that `serve` would read.", no_args_is_help=True)


@app.command("check")
def config_check() -> None:
    """Tell everything that is wrong with it, and exit with 2 then."""
    with errors_told():
        load_config(os.environ, required=REQUIRED_BY_SERVE)
        print("the configuration is complete")


@app.command("show")
def config_show(as_json: Json = False) -> None:
    """Show every value and where it comes from; of a secret only that there is one."""
    with errors_told():
        shown = list(effective(load_config(os.environ), os.environ))
    if as_json:
        values = {
            PREFIX + one.setting.variable: {"value": one.value, "source": one.source}
            for one in shown
        }
        print(json.dumps(values, ensure_ascii=False, indent=2))
        return
    rows = [(PREFIX + one.setting.variable, one.source, one.value or "-") for one in shown]
    wide = max(len(variable) for variable, _, _ in rows)
    for variable, source, value in rows:
        print(f"{variable:<{wide}}  {source:<11}  {value}")


@app.command("schema")
def config_schema() -> None:
    """Print the JSON Schema of all settings, by the names of their variables."""
    print(json.dumps(json_schema(), ensure_ascii=False, indent=2))
