"""A download that survives a faulty S3: resumed where it broke off, whole or not there.

Knows no S3: `embft.storage` says how bytes are had, and which of its errors may pass (`StorageUnavailable`).
"""

import threading
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NoReturn

from tenacity import RetryCallState, Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential
from tenacity.nap import sleep_using_event
from tenacity.stop import stop_when_event_set

from embft.errors import ObjectChanged, StorageUnavailable

# From an offset to the pieces from there on, each with its own offset: a server may take no range and start at 0.
ReadFrom = Callable[[int], Generator[tuple[int, bytes], None, None]]

# A connection that breaks now and then is no dead one: after this much more of an object, its tries are given anew.
_PROGRESS_BYTES = 1 << 20


@dataclass(frozen=True)
class Patience:
    """How long a download is tried: where one request in five fails, 10 tries lose one object in ten million.

    Where nothing ever answers, 10 tries take 40 s on average, and 100 s more if each of them stalls.
    """

    tries: int = 10  # in a row, without getting on
    first_wait_s: float = 0.5  # doubled each time; a random part of it is waited, so that readers do not come in step
    longest_wait_s: float = 15.0
    stall_s: float = 10.0  # without a byte, or without an answer

    def retrying(
        self,
        passes: Callable[[BaseException], bool],
        repeated: Callable[[], None],
        cancelled: threading.Event | None = None,
    ) -> Retrying:
        """Give a policy that repeats a call, and says at the end how often it tried.

        Args:
            passes: Whether an error may pass by itself.
            repeated: Called for every repetition.
            cancelled: Ends the waiting and the trying.

        Returns:
            The policy, to be called with a function.
        """
        cancelled = cancelled or threading.Event()
        return Retrying(
            retry=retry_if_exception(passes),
            stop=stop_after_attempt(self.tries) | stop_when_event_set(cancelled),
            wait=wait_random_exponential(multiplier=self.first_wait_s, max=self.longest_wait_s),
            sleep=sleep_using_event(cancelled),
            before_sleep=lambda _: repeated(),
            retry_error_callback=_give_up,
        )


PATIENCE = Patience()


def may_pass(error: BaseException) -> bool:
    """Whether a repetition may help."""
    return isinstance(error, StorageUnavailable) and not isinstance(error, ObjectChanged)


class Download:
    """One object of a known size on its way into a file.

    Args:
        read_from: Reads on from an offset; it raises `StorageUnavailable` where a repetition may help.
        uri: The object's, for messages.
        size_bytes: Of the whole object.
        patience: How often and how fast it is tried again.
        repeated: Called for every request that had to be repeated.
        cancelled: Ends it from another thread.
    """

    def __init__(
        self,
        read_from: ReadFrom,
        uri: str,
        size_bytes: int,
        *,
        patience: Patience,
        repeated: Callable[[], None],
        cancelled: threading.Event,
    ) -> None:
        self._read_from = read_from
        self._uri = uri
        self._size_bytes = size_bytes
        self._patience = patience
        self._repeated = repeated
        self._cancelled = cancelled
        self._furthest = 0

    def into(self, path: Path) -> None:
        """Write the object under its name once it is whole; on any error, nothing is left.

        Args:
            path: Where to; its folder is made.

        Raises:
            StorageUnavailable: S3 did not recover in time, or the download was cancelled.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.partial")
        try:
            with partial.open("wb") as file:
                again = self._patience.retrying(may_pass, self._repeated, self._cancelled)
                again(self._read_on, file)
                while file.tell() < self._size_bytes:
                    self._repeated()
                    again(self._read_on, file)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)

    def _read_on(self, file: BinaryIO) -> None:
        try:
            self._read_to_the_end(file)
        except ObjectChanged:
            raise
        except StorageUnavailable:
            # Measured from the furthest point, not from the last one: a server that takes no range starts again each
            # time, and must not go on so for ever.
            if self._cancelled.is_set() or file.tell() < self._furthest + _PROGRESS_BYTES:
                raise
            self._furthest = file.tell()

    def _read_to_the_end(self, file: BinaryIO) -> None:
        with closing(self._read_from(file.tell())) as pieces:
            for offset, piece in pieces:
                self._put(file, offset, piece)
        if file.tell() < self._size_bytes:
            raise StorageUnavailable(f"S3 broke off {self._uri} after {file.tell()} of {self._size_bytes} bytes")

    def _put(self, file: BinaryIO, offset: int, piece: bytes) -> None:
        if self._cancelled.is_set():
            raise StorageUnavailable(f"the download of {self._uri} was cancelled")
        if offset > file.tell():
            raise StorageUnavailable(f"S3 went on with {self._uri} at byte {offset}, not at {file.tell()}")
        if offset < file.tell():
            file.seek(offset)
            file.truncate()
        file.write(piece)
        if file.tell() > self._size_bytes:
            file.seek(0)
            file.truncate()
            raise StorageUnavailable(f"S3 sent more of {self._uri} than the {self._size_bytes} bytes it listed")


def _give_up(state: RetryCallState) -> NoReturn:
    error = state.outcome.exception() if state.outcome else None
    raise StorageUnavailable(f"{error}; tried {state.attempt_number} times") from error
