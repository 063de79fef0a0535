"""The form that Airflow shows when a person triggers a night or starts a backfill."""

from airflow.sdk import Param

from embft.config import ModelConfig


def night_form(config: ModelConfig) -> dict[str, Param]:
    """Describe what a person may choose for one run.

    Args:
        config: The model's config; it gives the defaults and limits.

    Returns:
        Typed parameters, all valid as they stand.
    """
    window = config.window
    return {
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="Newest log day to learn from. Empty: the newest night that is over at the run's logical date. "
            "Leave it empty in a backfill, whose dates name its nights.",
        ),
        "promote": Param(
            "auto",
            type="string",
            enum=["auto", "never"],
            values_display={"auto": "auto: a model that passes the gate serves", "never": "never: register it only"},
            title="Promote",
            description="What becomes of a challenger that passes the gate.",
        ),
        "window_days": Param(
            None,
            type=["null", "integer"],
            minimum=window.test_days + 1,
            maximum=1000,
            title="Window in days",
            description=f"Length of the window for this run. Empty: {window.days}, as window.days says. "
            f"Held out of it: the newest {window.test_days}.",
        ),
        "force": Param(
            False,
            type="boolean",
            title="Recompute",
            description="Work again even where an up-to-date result exists. Off: only what is missing or changed.",
        ),
    }
