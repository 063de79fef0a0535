"""What people may type into a search box, and messages that quote it everywhere."""

from datetime import UTC, date, datetime
from typing import Any

from embft.monitoring.message import Cause, Chart, Message, Words

HOSTILE = {
    "mention": "<!channel> @here <@U024BE7LH> <#C024BE7LR>",
    "script": "<script>alert(1)</script><img src=x onerror=alert(1)>",
    "formula": '=HYPERLINK("http://evil","x")',
    "header": "shoes\r\nBcc: x@y.example\r\n\r\nbody",
    "long": "shoes & <boots> " * 6_400,
    "bidi": "shoes \u202e\u2066gnp.exe\u200f",
    "jinja": "{{ var.value.secret }} {% for x in y %} {# z #} {{{{",
    "markup": "*bold* _it_ ~gone~ `code` ```block``` > quote",
    "link": "](http://evil) <http://evil|click> javascript:alert(1)",
    "emoji": "👟🏳️‍🌈 :tada: 靴 خف",
    "nul": "a\x00b\x1b[31mc\x7f\u2028d",
}
NOW = datetime(2026, 3, 11, 6, 20, tzinfo=UTC)
_PLAIN = Words(title="shop: nDCG@10 fell to 0.61, 15 % below the usual 0.72 (limit 5 %)")


def quoting(text: str) -> Words:
    """Give words that quote a text wherever a text can stand."""
    chart = Chart(
        label=text, days=(date(2026, 3, 8), date(2026, 3, 9), date(2026, 3, 10)), figures=(0.72, None, 0.61), limit=0.7
    )
    links = {text: "https://airflow.example.com/run?a=1&b=2", "bad": text, "script": "javascript:alert(1)"}
    return Words(
        title=text,
        details=(text, f"people searched for {text}"),
        causes=(Cause(what=text, evidence=text),),
        chart=chart,
        links=links,
        command=text,
    )


def message(words: Words = _PLAIN, **changes: Any) -> Message:
    """Make a message; what it says and is can be changed."""
    fields: dict[str, Any] = {
        "id": "0123456789abcdef01234567",
        "model": "shop",
        "incident": "regression_drop",
        "number": 1,
        "kind": "regression",
        "state": "opened",
        "severity": "warning",
        "day": date(2026, 3, 10),
        "since": date(2026, 3, 10),
        "at_utc": NOW,
        "words": words,
    }
    return Message(**{**fields, **changes})
