"""Who acts in a task: the DAG's run and the people behind it, as the history of champions keeps it."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from airflow.sdk import Context

ACTOR = "EMBFT_ACTOR"
_LONGEST = 200
_LONGEST_NAME = 60


def actor_of(context: "Context", approval: Any = None) -> str:
    """Name the run, and the people who started and approved it.

    Args:
        context: The task's context.
        approval: What the task `approve` returned, if there is one: its answer and who gave it.

    Returns:
        One printable line of at most 200 characters. Names are people's own words, so nothing may break out of it.
    """
    run = context["dag_run"]
    approver = (approval or {}).get("responded_by_user") or {}
    people = {"started by": run.triggering_user_name, "approved by": approver.get("name") or approver.get("id")}
    by = "".join(f", {deed} {_one_line(name)[:_LONGEST_NAME]}" for deed, name in people.items() if name)
    return _one_line(f"{context['ti'].dag_id} {context['run_id']}")[: _LONGEST - len(by)] + by


def _one_line(text: str) -> str:
    return "".join(it for it in " ".join(text.split()) if it.isprintable())
