"""What a person on call reads on a DAG's page and on a task's page."""

from embft.config import ModelConfig

TASK_DOCS = {
    "plan": """
Freezes the night: resolved config, window, champion to beat; finds the log days that were never pulled or have
changed.

**Red?** Most often the day has no logs yet. When they have arrived, clear this task.
""",
    "pull": """
Turns one log day in S3 into sessions; one mapped task for each day that `plan` listed, several for a big one
(`logs.max_task_bytes`). No day listed: skipped, and the night goes on. Every line ends up in a session, in quarantine
with its reason, or in a counter.

**Red?** S3 refused, or a log object went away while it was read; the message says which. Repair, then clear this task.
""",
    "validate_sessions": """
Great Expectations on the catalogue and the window's sessions, each log day also against the days before it. Rows that
break a rule are set aside; an earlier day that breaks one is left out, and the night goes on. The night stops, before
anything is trained, where the newest day or the catalogue is bad, or where more was set aside than
`validation.max_quarantined` allows.

**Red?** The log line names the day, the rule, its figure and its limit, and says what to do next; *Data Docs* shows it
first, with example rows and the sessions of each day and hour.

1. A fault in the data: mend the log objects or the catalogue, then clear `plan` with all that follows it.
2. The change is real (a sale, a new market): widen the rule by its name under `validation.overrides` in the model's
   config, or switch it `off` there, then clear `plan` with all that follows it.
3. No time tonight? Leave it: the model in service stays, and later nights leave this day out by themselves.

Try a file or a limit first, without a night:
`embft validate --suite sessions --input <file or s3://…> --model <model>`
""",
    "preprocess_ranks": """
Splits by time into train, validation and test, and fills every empty rank with the starting model's.
""",
    "validate_ranks": """
Great Expectations on the fine-tuning inputs: finite, in range, complete per session, no drift against the night that
the champion comes from. Ranks are the model's own work, so one broken session stops the night.

**Red?** The log line names the rule, its figure and its limit, and says why it matters; *Data Docs* shows it first,
with example sessions. Most often the starting model or `preprocess_ranks` is at fault, not the shop's data: look at
the champion's weights, then clear `preprocess_ranks` with all that follows it. A limit that does not fit this model is
changed by the rule's name under `validation.overrides`; then clear `plan` with all that follows it. By hand:
`embft validate --suite ranks --input <file or s3://…> --model <model>`
""",
    "search": """
Trains trials of the night's search, in as many tasks at once as `training.search.trials_in_parallel` says, each where
`fine_tune` runs. They share the trials through MLflow: none is trained twice, and together they keep to
`training.search.trials`. Interrupted, the next try goes on with its own trial from the last checkpoint. `fine_tune`
then trains what is left, and takes the best.

**Red?** The night goes on: `fine_tune` trains what this task left, which takes longer. The log line says what was
wrong, most often a pod that got no node, or MLflow away for longer than the retries. Nothing has to be cleared. If
`fine_tune` is red as well, repair what its log says, then clear `fine_tune` alone, or `search` with all that follows it
to train side by side again. Cleared when the night has its model, it does nothing and is green.

To end a search early, mark this task failed; marked *skipped*, it would take `fine_tune` with it.
""",
    "fine_tune": """
Trains the challenger; *MLflow run* shows its curves. In a pod or on the worker, as `runtime.stages` says: the command
is the same. Interrupted (a node drained, a pod evicted, a worker restarted), the next try goes on from the last
checkpoint, at most `runtime.checkpoint_minutes` back, and ends in the same model.

**Red?** The log line says what to do. Cleared, the task goes on where it was. Out of memory is named as such: raise
`runtime.kubernetes.memory` in the model's config and clear this task, or lower `training.settings.batch_size` and
clear `plan` with all that follows it.
""",
    "evaluate": """
The same measures for base, champion and challenger on the same held-out clicks.
""",
    "gate": """
Promote or reject, each rule with its figure and its limit. A rejected challenger is a normal end: this task stays
green, and the branch goes to `rejected`. *Report* shows the whole night.
""",
    "approve": """
Asks a person whether the model that passed the gate shall serve: *Required Actions*, on this task's page and on
Airflow's first, shows what the gate found. It holds no worker while it waits. Reject, or no answer within
`gate.approval.timeout_hours`, keeps the champion: `register` is skipped and the night stays green. Who approved stands
in the history of champions. A run that promotes nothing (`promote: never`, a backfill) asks nobody. The next night
begins when this one is over, unless `schedule.max_active_runs` allows two.

**Too late, or rejected by mistake?** Clear this task with all that follows it: it asks once more.

**Red?** Its log says why. The decision could not be read: repair what is named, then clear this task. Or the gate has
judged anew since the task was asked first: Airflow would show the old figures, so trigger the DAG with the night's day,
and answer there.
""",
    "register": """
Makes an MLflow model version of the challenger, loads it in a fresh process, and makes it the champion unless the run
promotes nothing, or a newer night's model serves. The log says which of these it was.

**Red?** MLflow away is temporary and retried. Cleared, the task goes on where it was: however often it runs, it makes
one version and one change of champion.
""",
    "publish": """
Writes the catalogue's vectors under the champion, then moves one pointer; readers see the old set or the new one. It
runs on every night that the gate has judged: where no new model serves, it encodes what changed in the catalogue.
Skipped: no pointer moved, and the log says why. Done: DAGs that are scheduled on the asset `<model>_vectors` run.

**Red?** The old vectors serve on. The log line says what to do; cleared, the task keeps what it has encoded. The
champion's weights are gone from S3? Roll back to a version that is still there: DAG `rollback_<model>`.
""",
    "rejected": """
The challenger was not better, so the champion stays. The log says why, rule by rule. Nothing to repair.

**Red?** The decision could not be read; clear this task, so that `publish` runs.
""",
    "monitor": """
Measures the champion and the base model on the day's clicks, as `evaluate` does, and adds the day to the monitoring
history. No training, no GPU; it runs whether or not the night succeeded.

**Red?** The next days go on without it, and its figures are missing from what they are held against. The log line says
what to do: most often the day has no logs yet, or S3 or MLflow was away for longer than the retries. Then clear this
task with `tell`; a day that was measured already returns its result without work. Days that are missing for longer come
by a backfill of this DAG.
""",
    "tell": """
Tells people what happened in this run, as `include/alerts.yaml` routes it, and sends what was kept because a channel
was away. It runs last whatever became of the rest: after the last retry, after failures and skips. A message is written
to S3 before it is sent, and each channel takes it once. A backfill tells nothing of its own runs.

**Red?** The run's own state is not touched, and no message that was written is lost: the next `tell` of any of the
model's DAGs sends it. The log line names the channel and what is wrong.

1. The channel was away: nothing to do; or clear this task to send at once.
2. A connection is missing or wrong: make it under *Admin*, *Connections*, as `include/alerts.yaml` names it; then clear
   this task. `embft alerts test` sends a sample to every channel.
3. `include/alerts.yaml` is wrong: correct it, then clear this task. It is read anew each time.
4. S3 was away, so nothing was written: clear this task when it is back.
""",
    "rollback": """
Brings the champion's predecessor back, or the version that the form names: MLflow's aliases and the pointer to the
vectors go back together, and the history of champions keeps who did it and why. The weights that were left do not come
back by themselves. Skipped: that version serves already.

**Red?** The log line says what to do. S3 or MLflow away: it was already retried; clear this task when they are back.
Cleared or retried, it completes the same rollback, and goes no further back.
""",
}

_SYNTHETIC = "**Synthetic: all clicks of this model are simulated.**\n\n"

_NIGHT_PAGE = """
# Retrain `{name}`

{notice}{description}Owner: **{owner}**. Every night this learns from what people clicked in the last {days} days, and
lets the new model serve only when it is shown to be better on the newest of them ({test_days}), which
training never sees.

### Which day

A run retrains day **D**, the date on which its data interval starts ({timezone}). Tonight's run has yesterday's logs.
A backfill of D gives what the night after D would have given. Triggered by hand without a day: the newest night
that is over.

### When a task is red

1. Its last log line is the stage's own sentence: what was wrong, and what to change.
2. Temporary failures (S3 or MLflow away, a pod told to stop) were already retried {retries} times.
3. Repair, then **clear the red task**. Finished stages return their result in seconds, without work.
4. Changed the model's settings or its log objects? Then **clear `plan` with all that follows it**: a night keeps the
   settings and the listing that `plan` froze.
5. `rejected` green, `register` or `publish` skipped is no failure: the champion, or its vectors, stay.
6. A bad model serves? Trigger `rollback_{name}`.
7. `tell` alone red: the night is what its other tasks say; a channel did not take a message. Its page says what now.

### Who hears of it

The last task, `tell`, tells people as `include/alerts.yaml` routes it: once, when a stage has failed for good, data or
model were rejected, or a new champion serves; and once when it is over. {deadline}

### Backfills

A backfill computes old nights and registers their models, but promotes none of them, unless its form says
`promote: force`. {pool}

### By hand, from the project's folder

    python -m embft plan --model {name} --day 2011-10-20
    python -m embft gate --model {name} --day 2011-10-20 --explain

Results: `{artifacts}/{name}/runs/<day>/<stage>/result.json`. Settings: `include/models/{name}.yaml`.
"""

_DEADLINE = """A night that is not over {hours:g} hours after it was queued is told as late, by the triggerer; where
that fails, the triggerer's log says why, and `tell` sends what was written when the night is over."""
_NO_DEADLINE = "No night is told as late: `alerts.deadline_hours` sets no limit."

_POOL = """Its own limit of active runs counts, not the DAG's. Trainings wait in the pool `{pool}`: give the backfill
fewer active runs than the pool has slots, and one is always left for the night. A task that stays *scheduled* says
under *Details* what blocks it: most often the pool has to be made first (*Admin*, *Pools*)."""
_NO_POOL = """Its own limit of active runs counts, not the DAG's; set `runtime.pool` in the model's config where a
backfill and a night would train on the same GPU."""

_MONITOR_PAGE = """
# Monitor `{name}`

{notice}Owner: **{owner}**. Every day this measures the champion on the day's clicks, beside the base model, and tells
people when it gets worse by the rules of `monitoring.rules`. It trains nothing, and runs whether or not
`retrain_{name}` succeeded.

A run looks at day **D**, the date on which its data interval starts ({timezone}): yesterday's clicks. A backfill
measures old days, with the champion that no model of that day or later had replaced, and tells nobody about its runs.

### When a task is red

Its last log line says what was wrong, and its page what now. Nothing is lost meanwhile: the next days are measured
without it.

### By hand, from the project's folder

    python -m embft monitor --model {name} --day 2011-10-20
    python -m embft monitor --model {name} --replay

Results: `{artifacts}/{name}/monitoring/<day>/result.json`. Settings: `include/models/{name}.yaml`.
"""

_ROLLBACK_PAGE = """
# Roll back `{name}`

Owner: **{owner}**. A bad model serves, and the one before it shall come back.

1. **Trigger**, and say in *Why* what was seen. *To version* empty: the champion's predecessor.
2. Watch the task `rollback`. It takes seconds where the vectors of that version are still there (as many former ones as
   `publish.keep_previous` says), else as long as the catalogue takes to encode.
3. Its log ends with the version that serves now.

Its weights do not come back by themselves. Its night, run again with other logs or settings, makes other weights, and
the next night's model is measured against the version that serves then: either may serve. To keep them from that, pause
`retrain_{name}`, or run it with `promote: never`. A rollback without a version leaves whichever serves when it runs:
look first, where a night is about to end.

### By hand, from the project's folder

    python -m embft rollback --model {name} --why "…"
    python -m embft history --model {name}
"""


def night_page(config: ModelConfig) -> str:
    """Write the page of a model's nights.

    Args:
        config: The model's config.

    Returns:
        Markdown.
    """
    hours = config.alerts.deadline_hours
    return _NIGHT_PAGE.format(
        name=config.name,
        notice=_SYNTHETIC if config.synthetic else "",
        description=f"{config.description}\n\n" if config.description else "",
        owner=config.owner,
        days=config.window.days,
        test_days=config.window.test_days,
        timezone=config.schedule.timezone,
        retries=config.runtime.retries,
        artifacts=config.storage.artifacts,
        deadline=_DEADLINE.format(hours=hours) if hours else _NO_DEADLINE,
        pool=_POOL.format(pool=config.runtime.pool) if config.runtime.pool else _NO_POOL,
    ).strip()


def monitor_page(config: ModelConfig) -> str:
    """Write the page of a model's monitoring.

    Args:
        config: The model's config.

    Returns:
        Markdown.
    """
    return _MONITOR_PAGE.format(
        name=config.name,
        notice=_SYNTHETIC if config.synthetic else "",
        owner=config.owner,
        timezone=config.schedule.timezone,
        artifacts=config.storage.artifacts,
    ).strip()


def rollback_page(config: ModelConfig) -> str:
    """Write the page of a model's rollbacks.

    Args:
        config: The model's config.

    Returns:
        Markdown.
    """
    return _ROLLBACK_PAGE.format(name=config.name, owner=config.owner).strip()
