"""What a stage's end means to Airflow: its exit code decides whether a retry can help.

    0    done
    2    config or command line wrong     no retry
    3    data or model rejected           no retry (for `gate`: a normal end)
    75   temporary                        Airflow retries
    SIGTERM, SIGINT, SIGHUP, SIGKILL      Airflow retries: somebody, or the node, ended it
    anything else                         no retry: a bug

The message is the stage's own sentence, so that nobody has to dig for it.
"""

import re
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import NoReturn

from airflow.sdk.exceptions import AirflowException, AirflowFailException
from pydantic import ValidationError

from embft.errors import ConfigError, DataRejected, EmbftError, TemporaryError
from embft.results import StageResult

_INTERRUPTIONS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)
_ERROR = "error: "
_MAX_MESSAGE = 4000
# A night keeps the settings that `plan` froze: clearing the red task alone would run the same once more.
START_AGAIN = "clear plan with all that follows it"


def fail(code: int, sentence: str) -> NoReturn:
    """Raise a stage's failure as the exception that Airflow's retry policy understands.

    Args:
        code: Exit code, not 0; negative or above 128 where a signal ended the process.
        sentence: The stage's own words.

    Raises:
        AirflowException: A retry may help.
        AirflowFailException: A retry cannot help.
    """
    ended_by = _signal_of(code)
    if ended_by == signal.SIGKILL:
        hint = (
            "most often the machine ran out of memory: give it more, or lower training.settings.batch_size "
            f"and {START_AGAIN}"
        )
        raise AirflowException(f"the stage was killed (SIGKILL); {hint}. Its last line: {sentence}")
    if ended_by and ended_by in _INTERRUPTIONS:
        raise AirflowException(f"the stage was stopped by {ended_by.name}. Its last line: {sentence}")
    if code == TemporaryError.exit_code:
        raise AirflowException(sentence)
    if code in (ConfigError.exit_code, DataRejected.exit_code):
        raise AirflowFailException(sentence)
    how = f"crashed with {ended_by.name}" if ended_by else f"ended with exit code {code}"
    raise AirflowFailException(f"{sentence} (the stage {how}: a bug; the lines above this one show where)")


@contextmanager
def explained() -> Iterator[None]:
    """Give embft's own errors, raised in this process, the same meaning as a stage's exit codes."""
    try:
        yield
    except EmbftError as error:
        fail(error.exit_code, str(error))


def last_error(lines: Iterable[str]) -> str:
    """Find the sentence in which a stage says why it failed.

    Args:
        lines: The end of its stderr.

    Returns:
        From the last `error: ` on, else the last line with words in it.
    """
    kept = [_without_frame(line) for line in lines]
    for start in range(len(kept) - 1, -1, -1):
        if kept[start].startswith(_ERROR):
            return "\n".join(kept[start:]).removeprefix(_ERROR).strip()[:_MAX_MESSAGE]
    worded = [line for line in kept if re.search(r"\w", line)]
    return worded[-1][:_MAX_MESSAGE] if worded else "the stage said nothing on stderr"


def parse_result(printed: str | bytes) -> StageResult | None:
    """Read the result that a stage printed.

    Args:
        printed: The stage's stdout.

    Returns:
        The result, or None if that is not what was printed.
    """
    try:
        return StageResult.model_validate_json(printed)
    except ValidationError:
        return None


def _without_frame(line: str) -> str:
    # Errors of the command line come in a box drawn by typer.
    return line.strip("\u2500\u2502\u256d\u256e\u256f\u2570 \t")


def _signal_of(code: int) -> signal.Signals | None:
    number = -code if code < 0 else code - 128
    return signal.Signals(number) if number in set(signal.Signals) else None
