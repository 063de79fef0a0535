"""A DAG `retrain_<model>` for every config in `include/models/`: one night, from clicks to a gated model.

    plan ─► pull ─► validate_sessions ─► preprocess_ranks ─► validate_ranks ─► (search ─►) fine_tune ─► evaluate ─► gate
            (mapped: one per log day                                           (mapped: one per
             that needs it)                                                     worker, if several)

                                                         gate ─┬► (approve ─►) register ─┬► publish ─► tell
                                                               └► rejected ──────────────┘

What each stage reads and writes, and what to do when it is red, stands on its task's page.
"""

from embft.airflow.night import Night
from embft.airflow.project import read_project

project = read_project(__file__)

# A config that is wrong is left out here, and raised by check_configs.py: it must not stop the other models' nights.
for config in project.configs:
    night = Night(config, project.include)

    with night.dag():
        plan = night.stage("plan")
        pull = night.stage_for_each("pull", plan.output)
        # `pull` is skipped on a night for which every log day was pulled before.
        validate_sessions = night.stage("validate_sessions", trigger_rule="none_failed")
        preprocess_ranks = night.stage("preprocess_ranks")
        validate_ranks = night.stage("validate_ranks")
        # Workers of the search that fail stop no night: `fine_tune` trains what they leave. Rejected ranks stop it.
        rule = "all_done_min_one_success" if night.searches_in_parallel else "all_success"
        fine_tune = night.stage("fine_tune", trigger_rule=rule)
        evaluate = night.stage("evaluate")
        gate = night.stage("gate")
        register = night.stage("register")
        rejected = night.rejected()
        # On every night that the gate has judged: where nothing new serves, the champion's vectors follow the
        # catalogue. Both of its branches are skipped where a person said no, so one success is not asked for.
        publish = night.stage("publish", trigger_rule="none_failed")

        plan >> pull >> validate_sessions >> preprocess_ranks >> validate_ranks >> fine_tune >> evaluate >> gate
        if night.searches_in_parallel:
            validate_ranks >> night.search() >> fine_tune
        if night.asks_a_person:
            gate >> night.approve() >> register
        else:
            gate >> register
        gate >> rejected
        [register, rejected] >> publish
        # Where one day's `pull` fails, all that follows is off at once, while other days are still being pulled.
        [pull, publish] >> night.tell()
