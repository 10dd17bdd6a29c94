"""Small facts about processes of this machine: start times, parent-death signal, titles, socket folders.

Plumbing. Linux only, by /proc and prctl; no privilege needed.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

from ic_types.errors import BadInput
from subnet.zygote_protocol import OWNER_FILE

FOLDER_PREFIX = "icsim-"
_MAX_SOCKET_PATH = 107
_LONGEST_SOCKET_NAME = 24
_PR_SET_PDEATHSIG = 1
_UNCLAIMED_FOLDER_SECONDS = 60


def die_with_parent(parent_pid: int) -> None:
    """Have the kernel kill this process when its parent ends; ends it at once if that has happened already."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; None when it doesn't run (or is a zombie)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    fields = stat[stat.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else int(fields[19])


def is_alive(pid: int, started: int) -> bool:
    """Whether that very process still runs; a later one with the same pid doesn't count."""
    return start_time(pid) == started


def owner_of(folder: Path) -> tuple[int, int] | None:
    """Pid and start time of a folder's owner; None when it names none."""
    try:
        pid, started = (folder / OWNER_FILE).read_text().split()
        return int(pid), int(started)
    except (OSError, ValueError):
        return None


def claim_folder(folder: Path) -> None:
    """Make this process the owner of a socket folder."""
    draft = folder / f"{OWNER_FILE}.{os.getpid()}"
    draft.write_text(f"{os.getpid()} {start_time(os.getpid())}\n")
    draft.replace(folder / OWNER_FILE)


def make_socket_folder() -> Path:
    """Make a private folder for sockets under TMPDIR, owned by this process; removes those of dead owners.

    Raises: BadInput when TMPDIR is too long for socket addresses, or can't be written.
    """
    base = Path(tempfile.gettempdir())
    remove_stale_folders(base)
    try:
        folder = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))
    except OSError as error:
        raise BadInput(
            f"no socket folder can be made in {base}: {error.strerror}; set TMPDIR to a folder you may write"
        ) from error
    if len(str(folder)) + _LONGEST_SOCKET_NAME > _MAX_SOCKET_PATH:
        folder.rmdir()
        allowed = _MAX_SOCKET_PATH - _LONGEST_SOCKET_NAME - len(folder.name) - 1
        raise BadInput(
            f"TMPDIR {base} is too long for socket addresses: {len(str(base))} characters, at most {allowed} are allowed"
        )
    claim_folder(folder)
    return folder


def remove_stale_folders(base: Path) -> list[Path]:
    """Remove socket folders whose owner no longer runs; returns them."""
    removed = []
    for folder in sorted(base.glob(f"{FOLDER_PREFIX}*")):
        if _is_stale(folder):
            shutil.rmtree(folder, ignore_errors=True)
            removed.append(folder)
    return removed


def _is_stale(folder: Path) -> bool:
    try:
        status = folder.lstat()
    except OSError:
        return False
    if status.st_uid != os.getuid() or not folder.is_dir() or folder.is_symlink():
        return False
    owner = owner_of(folder)
    if owner is None:  # half made, perhaps right now; without our file in it we only remove it when it is empty
        return time.time() - status.st_mtime > _UNCLAIMED_FOLDER_SECONDS and not any(folder.iterdir())
    return not is_alive(*owner)


def set_title(title: str) -> None:
    """What `ps` shows for this process."""
    import setproctitle

    setproctitle.setproctitle(title)


def describe_status(status: int) -> str:
    """An exit status in words: `exit code 1`, `killed by SIGKILL`."""
    if status >= 0:
        return f"exit code {status}"
    try:
        return f"killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"killed by signal {-status}"


def flush_output() -> None:
    """Write out what is buffered, before `os._exit`."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
