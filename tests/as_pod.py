"""A command under what the pod template allows: user 10001, no capabilities, no file system to write to but one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

# In a mount namespace of its own, so that nothing of this machine changes.
_SCRIPT = """
set -e
# An interpreter below a folder that only root may enter is shown at the same place, with that folder otherwise empty.
if [ -n "$CLOSED" ]; then
  mkdir -p "$HOME/keep"; mount --bind "$BASE" "$HOME/keep"
  mount -t tmpfs -o mode=0755 tmpfs "$CLOSED"; mkdir -p "$BASE"; mount --bind "$HOME/keep" "$BASE"
fi
for mount in $(awk '{print $2}' /proc/self/mounts | sort -u); do
  case $mount in /proc*|/sys*|/dev*) ;; *) mount -o remount,ro,bind "$mount" ;; esac
done
mount -t tmpfs -o mode=0770,uid=10001,gid=10001 tmpfs "$HOME"
exec setpriv --reuid 10001 --regid 10001 --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all "$@"
"""


def possible() -> bool:
    """Say whether this machine lets us: it takes root and the right to mount."""
    if os.getuid() != 0 or not shutil.which("setpriv"):
        return False
    return subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode == 0


def as_pod(command: list[str], variables: dict[str, str], home: Path) -> tuple[list[str], dict[str, str]]:
    """Wrap a command.

    Args:
        command: The command.
        variables: Its environment.
        home: An empty folder; the command's own, and the only one that it can write to, lies over it.

    Returns:
        The command that sets the conditions and runs it, and its environment.
    """
    base = Path(sys.base_prefix).resolve()
    closed = next((str(folder) for folder in reversed(base.parents) if not folder.stat().st_mode & 0o001), "")
    wrapped = ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh", *command]
    return wrapped, {**variables, "HOME": str(home), "TMPDIR": str(home), "BASE": str(base), "CLOSED": closed}
