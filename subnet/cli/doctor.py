"""`icsim doctor`: whether this machine can run networks, and what it lacks.

Plumbing.
"""

from __future__ import annotations

import click


@click.command()
def doctor() -> int:
    """Check kernel, Python, libraries, limits and places, and say what each lack means.

    Exit code 1 when something is missing without which nothing runs.
    """
    try:
        from subnet.cli.tables import console, table
        from subnet.lab.machine import examine
    except ImportError as error:
        click.echo(f"icsim can't run here: a library is missing ({error}); `make setup` installs all into .venv", err=True)
        return 1

    findings = examine()
    marks = {True: "FAILS", False: "weaker"}
    rows = [("ok" if not one.lack else marks[one.fatal], one.name, one.found) for one in findings]
    console().print(table("this machine", ("", "what", "found"), rows))
    for one in findings:
        if one.lack:
            click.echo(f"{one.name}: {one.lack}")
    fatal = [one for one in findings if one.lack and one.fatal]
    lacking = [one for one in findings if one.lack and not one.fatal]
    if fatal:
        click.echo(f"icsim can't run here: {', '.join(one.name for one in fatal)}")
    elif lacking:
        click.echo(f"icsim runs here; what lacks only makes it slower or less safe: {', '.join(one.name for one in lacking)}")
    else:
        click.echo("icsim runs here, and nothing lacks")
    return 1 if fatal else 0
