"""The wrappings that UBI documents come in: lines of OpenSearch's _bulk form, its hits, and the exports of 2024."""

from typing import Any

from embft.clickstream.values import json_object

_BULK_KEYS = {"index", "create", "update", "delete"}
_SOURCE = "_source"


def ubi_document(raw: bytes) -> dict[str, Any] | None:
    """Read a line as the document that it wraps, or as what it is where it wraps none.

    Args:
        raw: The line, UTF-8.

    Returns:
        The document; None for a line of the _bulk form that only says what to do with the next one.

    Raises:
        BadLine: It is no JSON object.
    """
    if raw.startswith(b"ubi_"):
        # The exports of 2024: index, tab, document.
        raw = raw.partition(b"\t")[2] or raw
    line = json_object(raw)
    if len(line) == 1 and _BULK_KEYS & line.keys():
        return None
    source = line.get(_SOURCE)
    return dict(source) if isinstance(source, dict) else line
