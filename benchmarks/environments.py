"""The virtual environments of the peers: made when first asked for, with pinned versions, kept until the pins change.

They lie in `.bench-venvs`, which git ignores by a `.gitignore` of its own. What cannot be installed is no error of the
benchmark: `python_of` raises `UnavailableError`, whose text becomes the table's reason.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / ".bench-venvs"
CONSTRAINTS = ROOT / "constraints.txt"

# one call of pip per tuple: torch goes first, so that the pinned build is what the rest sees
PEERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "numpyro": (("jax==0.10.2", "jaxlib==0.10.2", "numpyro==0.22.0"),),
    "pythae": (("torch==2.13.0",), ("pythae==0.1.2",)),
    "blackjax": (("jax==0.10.2", "jaxlib==0.10.2", "numpyro==0.22.0", "blackjax==1.7.1"),),
}


_failed: dict[str, str] = {}  # reasons, so that a run tries once


class UnavailableError(Exception):
    """An implementation cannot be measured; the text is the reason."""


def python_of(peer: str | None) -> str:
    """The interpreter of a peer, made if need be; our own for `None`."""
    if peer is None:
        return sys.executable
    home = FOLDER / peer
    stamp, pins = home / "installed", repr((sys.version_info[:2], PEERS[peer], CONSTRAINTS.read_text()))
    if not stamp.exists() or stamp.read_text() != pins:
        if peer in _failed:
            raise UnavailableError(_failed[peer])
        try:
            _make(peer, home)
        except UnavailableError as error:
            _failed[peer] = str(error)
            raise
        stamp.write_text(pins)
    return str(_python(home))


def versions() -> str:
    """The pins, for the head of a report."""
    pins = dict.fromkeys(pin for peer in PEERS.values() for some in peer for pin in some)  # each of them once
    return ", ".join(pin.replace("==", " ") for pin in pins)


def _make(peer: str, home: Path) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / ".gitignore").write_text("*\n")
    shutil.rmtree(home, ignore_errors=True)
    print(f"making .bench-venvs/{peer}, once", file=sys.stderr, flush=True)
    try:
        venv.create(home, with_pip=True)
    except (OSError, subprocess.CalledProcessError) as error:
        raise UnavailableError(f"no virtual environment: {type(error).__name__}") from error
    for pins in PEERS[peer]:
        install = [str(_python(home)), "-m", "pip", "install", "--quiet", "--constraint", str(CONSTRAINTS), *pins]
        found = subprocess.run(install, capture_output=True, text=True, check=False)
        (FOLDER / f"{peer}.log").write_text(found.stdout + found.stderr)
        if found.returncode:
            raise UnavailableError(f"pip install {' '.join(pins)} failed: {_last_error(found.stderr)}")


def _python(home: Path) -> Path:
    return home / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")


def _last_error(output: str) -> str:
    """The last line in which pip complains, without addresses."""
    errors = [line for line in output.splitlines() if line.startswith("ERROR")] or ["no message"]
    return re.sub(r"\S+://\S+", "...", errors[-1])[:160]
