"""The system user that PostgreSQL runs as when we are root, for it refuses to run as root."""

from __future__ import annotations

import logging
import os
import pwd
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tracker.errors import ConfigurationError

logger = logging.getLogger(__name__)

ACCOUNT_NAME = "flowtrail-postgres"


@dataclass(frozen=True)
class Account:
    """A system user other than the one we run as."""

    name: str
    uid: int
    gid: int


def server_account(data_dir: Path) -> Account | None:
    """Who shall own `data_dir` and run its server: None for ourselves, unless we are root.

    Root takes the user who already owns the directory, so that `sudo` leaves a cluster usable to
    its owner, and else creates one user for all clusters.

    Raises:
        ConfigurationError: The directory belongs to somebody else, or no user can be created.
    """
    owner = data_dir.stat().st_uid
    if os.geteuid() == 0:
        return _account_of(owner) if owner else _created_account()
    if owner != os.geteuid():
        raise ConfigurationError(
            f"{data_dir} belongs to user {owner}: run as that user, or remove the directory"
        )
    return None


def let_in(account: Account, path: Path) -> None:
    """Let `account` pass through every folder above `path`, by the search bit (x) alone."""
    for folder in path.resolve().parents:
        facts = folder.stat()
        if not facts.st_mode & stat.S_IXOTH and facts.st_uid != account.uid:
            logger.warning(
                "letting other users pass through %s, for PostgreSQL cannot run as root",
                folder,
                extra={"event": "embedded.folder_opened"},
            )
            folder.chmod(facts.st_mode | stat.S_IXOTH)


def _account_of(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        raise ConfigurationError(
            f"the data directory belongs to user {uid}, who does not exist here: remove it"
        ) from None
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _created_account() -> Account:
    if not _exists(ACCOUNT_NAME):
        command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin"]
        try:
            subprocess.run([*command, ACCOUNT_NAME], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ConfigurationError(
                "PostgreSQL cannot run as root and no system user could be created for it "
                f"({error}): run as an ordinary user"
            ) from error
    entry = pwd.getpwnam(ACCOUNT_NAME)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def _exists(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
