"""Going on with a run that was begun before: what `icsim run` and `icsim up` do with --resume.

Plumbing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from configs.digest import digest
from configs.loader import load_topology
from ic_types.errors import BadInput
from subnet.cli.options import run_options
from subnet.lab import run_dir
from subnet.lab.run_dir import RunFile
from subnet.lab.start import resumed_config
from subnet.network_config import CoordinatorConfig


def resumed(options: dict[str, Any]) -> tuple[CoordinatorConfig, Path, RunFile]:
    """Configuration, directory and description of the run in the directory that --resume names.

    Raises: BadInput when options would change what the run consists of, or the topology that is given is another one.
    """
    given = [name for name in ("out", "seed", "nodes", "overrides") if options[name] not in (None, ())]
    if given:
        shown = ", ".join("--set" if name == "overrides" else f"--{name}" for name in given)
        raise BadInput(f"{shown} can't be changed by --resume: a run goes on as it was begun")
    folder = run_dir.recorded_directory(options["resume"])
    about = run_dir.read_run_file(folder)
    if options["topology"] is not None and about.digest and digest(load_topology(options["topology"])) != about.digest:
        raise BadInput(
            f"{options['topology']} is not the topology of the run in {folder} (that was {about.topology}); leave it out: "
            f"the run directory knows its own"
        )
    return resumed_config(folder, run_options(options)), folder, about
