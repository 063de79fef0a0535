"""A model's suites built, and no data read: what Great Expectations refuses is found before a night."""

from embft.errors import ConfigError
from embft.validation import catalogue, day_figures, rank_frame, ranks, session_frame
from embft.validation.suites import SuiteRun
from embft.validation_config import SuiteName, Validation

_NAMES: dict[SuiteName, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "catalogue": (catalogue.COLUMNS, catalogue.FIGURES),
    "sessions": (session_frame.COLUMNS, day_figures.COLUMNS),
    "ranks": (rank_frame.COLUMNS, ranks.FIGURES),
}


def faults_of_suites(validation: Validation) -> list[str]:
    """Build every rule as a night would.

    Args:
        validation: The model's.

    Returns:
        A line for each fault: file, line, rule, key, what is wrong with it; none where all is well.
    """
    faults: list[str] = []
    for suite, (columns, figures) in _NAMES.items():
        try:
            SuiteRun(suite, validation.rules(suite), columns=columns, figures=figures, id_column=columns[0])
        except ConfigError as error:
            faults += str(error).splitlines()
    return faults
