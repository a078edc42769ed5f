"""The queue of a sweep: files in a folder, moved by atomic renames. No server, no database, no torch.

::

    claims/ADDRESS/OWNER     the run is in the hands of OWNER, who touches the file while alive
    ended/ADDRESS.STATE      the run has ended so; the file holds the name of the owner who ended it
    cancel/ADDRESS           asked to be cancelled
    runs/ADDRESS/            its files; `result-OWNER.json` says how it ended

A run that has neither claim nor end waits. To claim is to rename a folder that holds one's file to `claims/ADDRESS`,
which the file system refuses while another's file is in it; to end is to rename that file into `ended`; to take over
from a dead owner is to rename his file to one's own. Each of the three has one winner, so whoever has lost a run finds
that his file is gone before he can end it, and no run ends twice.

An owner on this machine is dead once its process is. Of an owner elsewhere that is known once its file has not changed
for `LEASE` seconds of the observer's own clock: no two clocks are compared.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import shutil
import socket
import time
from collections.abc import Collection
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from lehr.files import make_folder

LEASE = 60.0  # seconds without a sign of life
STATES = ("done", "diverged", "failed", "skipped", "cancelled")
ATTEMPTS, LET_GO = (
    "attempts",
    "let go",
)  # the record of goes at a run, and its line for one that ended in peace
FOLDERS = ("claims", "ended", "cancel", "runs")


@cache
def machine() -> str:
    """Hash of this machine since its last start, and of this view of its processes; 12 hexadecimal digits."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def started(pid: int) -> str:
    """When a process began, in ticks; "0" where that cannot be told, empty if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        if Path("/proc/self/stat").exists():
            return ""
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return ""
        except OSError:
            pass
        return "0"
    return "" if fields[0] in "ZX" else fields[19]


def new_owner() -> str:
    """Name for one claim of this process: machine, process, its beginning, and a number of the claim's own."""
    pid = os.getpid()
    return f"{machine()}-{pid}-{started(pid)}-{secrets.token_hex(6)}"


def alive(owner: str) -> bool | None:
    """Whether the process of an owner lives; None if it is on another machine."""
    where, _, rest = owner.partition("-")
    pid, _, rest = rest.partition("-")
    if where != machine() or not pid.isdigit():
        return None
    return started(int(pid)) == rest.partition("-")[0]


@dataclass(frozen=True)
class Claim:
    """A run that is in one's hands; `taken_over` if another's was broken off."""

    folder: Path
    address: str
    owner: str
    taken_over: bool = False

    @property
    def path(self) -> Path:
        """The file that is one's own while the claim holds."""
        return self.folder / "claims" / self.address / self.owner

    @property
    def result_path(self) -> Path:
        """Where to say how the run ended."""
        return self.folder / "runs" / self.address / f"result-{self.owner}.json"

    def touch(self) -> bool:
        """Show a sign of life; False if the claim is lost."""
        try:
            os.utime(self.path)
        except FileNotFoundError:
            return False
        return True

    def end(self, state: str) -> bool:
        """End the run in a state; False, and nothing has happened, if the claim is lost."""
        assert state in STATES
        try:
            os.rename(self.path, self.folder / "ended" / f"{self.address}.{state}")
        except FileNotFoundError:
            return False
        self._drop_folder()
        return True

    def release(self) -> None:
        """Let the run wait again."""
        self.path.unlink(missing_ok=True)
        self._drop_folder()

    def _drop_folder(self) -> None:
        with contextlib.suppress(OSError):  # another's file may be in it already
            self.path.parent.rmdir()


class Queue:
    """The queue in a sweep's folder."""

    def __init__(self, folder: Path | str, lease: float = LEASE) -> None:
        self.folder, self.lease = Path(folder), lease
        self._seen: dict[Path, tuple[float, float]] = {}

    def make(self) -> None:
        """Make its folders.

        Raises
        ------
        InputError, ResultError
            As `lehr.files.make_folder`.
        """
        for name in FOLDERS:
            make_folder(self.folder / name)
        for name in _names(self.folder / "claims"):  # half-made claims of those who were killed at it
            if name.startswith(".") and alive(name[1:]) is False:
                shutil.rmtree(self.folder / "claims" / name, ignore_errors=True)

    def run_folder(self, address: str) -> Path:
        """Where the files of a run are."""
        return self.folder / "runs" / address

    def ended(self) -> dict[str, str]:
        """State of every run that has ended, by address."""
        pairs = (name.split(".", 1) for name in _names(self.folder / "ended") if "." in name)
        return {address: state for address, state in pairs}

    def claimed(self) -> dict[str, str]:
        """Owner of every run that is in someone's hands, by address."""
        found = {}
        for address in _names(self.folder / "claims"):
            if not address.startswith("."):
                for owner in _names(self.folder / "claims" / address):
                    found[address] = owner
        return found

    def state(self, address: str) -> str | None:
        """How a run ended; None if it has not."""
        return next((s for s in STATES if os.path.lexists(self.folder / "ended" / f"{address}.{s}")), None)

    def ended_by(self, address: str, state: str) -> str:
        """Owner who ended a run; empty if that cannot be told."""
        try:
            return (self.folder / "ended" / f"{address}.{state}").read_text("ascii", "replace").strip()
        except OSError:
            return ""

    def ended_at(self, address: str, state: str) -> float:
        """When a run ended, in seconds since the epoch by the file system's clock; 0 if that cannot be told."""
        try:  # to end is to rename, which changes this time alone
            return (self.folder / "ended" / f"{address}.{state}").stat().st_ctime
        except OSError:
            return 0.0

    def claim(self, address: str) -> Claim | None:
        """Take a run that waits, or whose owner is dead; None if it has ended or is in living hands.

        Raises
        ------
        OSError
            If the disk refuses.
        """
        owner = new_owner()
        claim = self._take_free(address, owner) or self._take_over(address, owner)
        if claim and self.state(address) is not None:  # it ended between the look at it and the claim
            claim.release()
            return None
        return claim

    def _take_free(self, address: str, owner: str) -> Claim | None:
        made, place = self.folder / "claims" / f".{owner}", self.folder / "claims" / address
        if _names(place):
            return None
        try:
            made.mkdir()
            (made / owner).write_text(owner)
            os.rename(made, place)
        except OSError as error:
            shutil.rmtree(made, ignore_errors=True)
            if error.errno in (errno.ENOTEMPTY, errno.EEXIST):  # another was faster
                return None
            raise
        return Claim(self.folder, address, owner)

    def _take_over(self, address: str, owner: str) -> Claim | None:
        for other in _names(self.folder / "claims" / address):
            claim = Claim(self.folder, address, owner, taken_over=True)
            if not self.dead(address, other):
                continue
            try:
                os.rename(claim.path.with_name(other), claim.path)
                with claim.path.open("r+") as file:  # never makes the file: it may be lost again
                    file.write(owner)
                    file.truncate()
            except FileNotFoundError:  # another was faster
                return None
            return claim
        return None

    def dead(self, address: str, owner: str) -> bool:
        """Whether an owner has given no sign of life for a lease, or is known to be dead."""
        lives = alive(owner)
        if lives is not None:
            return not lives
        path = self.folder / "claims" / address / owner
        try:
            changed = path.stat().st_mtime
        except FileNotFoundError:
            return False
        now = time.monotonic()
        before, since = self._seen.get(path, (None, now))
        if before != changed:
            since = now
        self._seen[path] = (changed, since)
        return now - since >= self.lease

    def ask_cancel(self, addresses: Collection[str]) -> list[str]:
        """Ask for runs to be cancelled; those that wait are at once. Return those whose owner was found dead."""
        of_the_dead = []
        for address in addresses:
            (self.folder / "cancel" / address).touch()
            claim = self.claim(address)
            if claim:
                claim.end("cancelled")
                of_the_dead += [address] * claim.taken_over
        return of_the_dead

    def cancelling(self, address: str) -> bool:
        """Whether a run is asked to be cancelled."""
        return os.path.lexists(self.folder / "cancel" / address)

    def retry(self, address: str) -> bool:
        """Let a run wait again that ended without a result, or diverged; False if it did not end so."""
        state = self.state(address)
        if state is None or state == "done":
            return False
        (self.folder / "cancel" / address).unlink(missing_ok=True)
        if (self.run_folder(address) / ATTEMPTS).exists():
            note_attempt(self.run_folder(address), LET_GO)
        (self.folder / "ended" / f"{address}.{state}").unlink(missing_ok=True)
        return True


def note_attempt(folder: Path, line: str) -> None:
    """Add a line to the record of goes at the run of a folder."""
    with (folder / ATTEMPTS).open("a") as file:
        file.write(line + "\n")


def _names(folder: Path) -> list[str]:
    """Names in a folder; none if it does not exist."""
    try:
        return os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
