"""Becomes another program that ends when its parent ends. Run as a script, never imported by us.

`python -I -S launch.py PARENT_PID DEATH_SIGNAL UID GID PROGRAM ARGUMENT…`; UID -1 keeps the user.
A script rather than Popen's `preexec_fn`, which may deadlock in a parent that has threads. It may
import the standard library only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# prctl(2); only Linux has it. Elsewhere an orphan is stopped by the next start in its directory.
PR_SET_PDEATHSIG = 1


def main(arguments: list[str]) -> None:
    parent, death_signal, uid, gid = (int(value) for value in arguments[:4])
    command = arguments[4:]
    # Python ignores SIGPIPE and a parent may block signals; both would survive the exec.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    if uid >= 0:
        become_user(uid, gid)
    # After the change of user, which clears the death signal.
    if sys.platform == "linux":
        end_with_parent(parent, death_signal)
    os.umask(0o077)
    os.execv(command[0], command)


def become_user(uid: int, gid: int) -> None:
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def end_with_parent(parent: int, death_signal: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, death_signal)
    # The parent may have ended before prctl took hold: then nobody would ever send the signal.
    if os.getppid() != parent:
        sys.exit(f"process {parent}, which started this one, is gone")


if __name__ == "__main__":
    main(sys.argv[1:])
