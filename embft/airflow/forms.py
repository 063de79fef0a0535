"""The forms that Airflow shows when a person triggers a run, starts a backfill, or rolls back."""

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
            enum=["auto", "never", "force"],
            values_display={
                "auto": "auto: it serves, unless a newer night's model does; in a backfill it is registered only",
                "never": "never: register it only",
                "force": "force: it serves, in a backfill too, and in place of a newer night's model",
            },
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


def monitor_form() -> dict[str, Param]:
    """Describe what a person may choose for one run of the monitoring.

    Returns:
        Typed parameters, all valid as they stand.
    """
    return {
        "day": Param(
            None,
            type=["null", "string"],
            format="date",
            title="Day",
            description="Log day to look at. Empty: the newest one that is over at the run's logical date. Leave it "
            "empty in a backfill, whose dates name its days.",
        ),
        "force": Param(
            False,
            type="boolean",
            title="Recompute",
            description="Measure again even where an up-to-date result exists.",
        ),
    }


def rollback_form() -> dict[str, Param]:
    """Describe what a person says who brings a former champion back.

    Returns:
        Typed parameters; `why` has no default, so Airflow asks for it.
    """
    return {
        "why": Param(
            type="string",
            minLength=1,
            maxLength=500,
            title="Why",
            description="Kept in the history of champions, for whoever asks later.",
        ),
        "to": Param(
            None,
            type=["null", "string"],
            pattern=r"^[1-9][0-9]{0,8}$",
            title="To version",
            description="MLflow version that shall serve. Empty: the champion's predecessor.",
        ),
    }
