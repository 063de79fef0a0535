"""What rules on a private column may show: the texts that many people share, and no other.

A rule of a user's own on the column `query` makes Great Expectations list queries: unexpected values, the smallest,
the distinct ones, a text in an error message. Verdicts and rows come from the library's answer as it is; afterwards
the answer goes through here, before a page, a figure or a sentence is made of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from embft.validation.engine import ExpectationValidationResult, Finding
from embft.validation_config import Expectation

HIDDEN = "(rare, not shown)"
WITHHELD = "Great Expectations raised an error; its message may quote rare texts (logs.privacy) and is not shown"


@dataclass(frozen=True)
class Private:
    """A column whose texts are not for everyone.

    Args:
        column: Its name.
        shareable: Texts that may be shown; it grows while partitions are read.
    """

    column: str
    shareable: set[str]

    def masked(self, rule: Expectation, finding: Finding) -> Finding:
        """Hide in a finding every text that is not shareable, where its rule has to do with the column.

        What is not known to be harmless is hidden: in a rule on several columns, the other columns' texts as well.

        Args:
            rule: The rule.
            finding: What was found.

        Returns:
            A finding with the same verdict, rows and counts.
        """
        if not self._concerns(rule):
            return finding
        raw = finding.result.result.get("observed_value")
        # Without a value of the library's, what was observed is a sentence of ours.
        observed = finding.observed if raw is None else self._shareable_part(raw)
        error = WITHHELD if finding.error else None
        return replace(finding, observed=observed, error=error, result=self._result(finding))

    def _concerns(self, rule: Expectation) -> bool:
        """Whether the column is named anywhere: a `row_condition` can put its texts into an error as well."""
        return re.search(rf"\b{re.escape(self.column)}\b", repr(rule.kwargs)) is not None

    def _result(self, finding: Finding) -> ExpectationValidationResult:
        result = finding.result
        info = {"raised_exception": True, "exception_message": WITHHELD, "exception_traceback": ""}
        return ExpectationValidationResult(
            success=result.success,
            expectation_config=result.expectation_config,
            result={key: self._shareable_part(part) for key, part in result.result.items()},
            exception_info=info if finding.error else result.exception_info,
        )

    def _shareable_part(self, value: Any) -> Any:
        if isinstance(value, Mapping):  # its keys are the library's words and names of columns
            return {key: self._shareable_part(part) for key, part in value.items()}
        if isinstance(value, list | tuple | set | np.ndarray):
            return [self._shareable_part(part) for part in value]
        if value is None or isinstance(value, bool | int | float | np.number | np.bool_):
            return value
        return value if isinstance(value, str) and value in self.shareable else HIDDEN
