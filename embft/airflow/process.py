"""One child process: its stderr passed on line by line, its stdout kept, its whole group ended with it."""

import os
import signal
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Airflow kills a task 5 s after it has told it to stop, so the child gets a little less.
GRACE_S = 4.0
_KEPT_LINES = 200


@dataclass(frozen=True)
class Ended:
    """How a child ended.

    Args:
        code: Exit code; negative where a signal ended it.
        output: All of its stdout.
        last_lines: The end of its stderr.
    """

    code: int
    output: bytes
    last_lines: tuple[str, ...]


class Child:
    """A command that runs in a session of its own, so that whatever it starts can be ended with it.

    Args:
        command: Program and arguments; no shell reads them.
        env: Its environment.
        folder: Its working folder.
    """

    def __init__(self, command: Sequence[str], *, env: dict[str, str], folder: Path) -> None:
        self._command = list(command)
        self._env = env
        self._folder = folder
        self._process: subprocess.Popen[str] | None = None

    def run(self, say: Callable[[str], None]) -> Ended:
        """Start the command and wait for its end.

        Args:
            say: Called with each line of stderr as it comes; a carriage return ends a line too (progress bars).

        Returns:
            How it ended.

        Raises:
            OSError: The program or the folder does not exist, or may not be run.
        """
        last_lines: deque[str] = deque(maxlen=_KEPT_LINES)
        # stdout goes to a file, so that a child with much to print never waits for a reader.
        with tempfile.TemporaryFile() as output:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.PIPE,
                env=self._env,
                cwd=self._folder,
                start_new_session=True,
                text=True,
                encoding="utf-8",
                errors="backslashreplace",
            )
            errors = self._process.stderr
            assert errors is not None
            try:
                for line in errors:
                    last_lines.append(line.rstrip())
                    say(last_lines[-1])
                code = self._process.wait()
            finally:
                # A time limit or an error here must not leave the child behind, nor a child its own children.
                self.stop()
                # Only now: a child that is told to stop may have more to say. The triggerer lives for weeks.
                errors.close()
            output.seek(0)
            return Ended(code, output.read(), tuple(last_lines))

    def stop(self) -> None:
        """End the child's whole process group: SIGTERM, `GRACE_S` to finish, SIGKILL. Does nothing after its end."""
        process = self._process
        if process is None:
            return
        if process.poll() is None:
            _signal_group(process.pid, signal.SIGTERM)
            # Never waits without a limit: this may run inside a signal handler that interrupted `wait` itself.
            with suppress(subprocess.TimeoutExpired):
                process.wait(timeout=GRACE_S)
        _signal_group(process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)


def _signal_group(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(group, number)
