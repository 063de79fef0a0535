"""Configs: what is accepted, and what a person is told when one is wrong."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from embft.alerts_config import AlertChannels, load_channels
from embft.cli import app
from embft.config import config_files, load_config
from embft.errors import ConfigError
from embft.monitoring_config import Monitoring
from embft.results import digest_of

REPOSITORY = Path(__file__).parent.parent.parent
MINIMAL = """\
name: shop
owner: search
schedule:
  start_date: 2026-01-01
storage:
  artifacts: s3://bucket/models
logs:
  uri: s3://bucket/logs/dt={day}
catalogue:
  uri: s3://bucket/items.jsonl
gate:
  max_val_loss: 1.0
mlflow:
  tracking_uri: sqlite:///mlflow.db
"""


@pytest.fixture
def include(tmp_path: Path) -> Path:
    folder = tmp_path / "include"
    (folder / "models").mkdir(parents=True)
    shutil.copytree(REPOSITORY / "include" / "expectations", folder / "expectations")
    return folder


def written(include: Path, text: str, name: str = "shop") -> Path:
    path = include / "models" / f"{name}.yaml"
    path.write_text(text)
    return path


def fault(include: Path, text: str) -> str:
    with pytest.raises(ConfigError) as error:
        load_config(written(include, text))
    return str(error.value)


def test_minimal_config_gets_defaults_and_the_shipped_suites(include: Path) -> None:
    config = load_config(written(include, MINIMAL))
    assert config.window.days == 14
    assert {name: bool(rules) for name, rules in config.validation.suites.items()} == {
        "catalogue": True,
        "sessions": True,
        "ranks": True,
    }


def test_unknown_key_names_file_line_key_and_the_close_match(include: Path) -> None:
    message = fault(include, MINIMAL.replace("  max_val_loss: 1.0", "  max_val_loss: 1.0\n  max_val_los: 2"))
    assert message == f"{include}/models/shop.yaml:13: gate.max_val_los: unknown key; did you mean 'max_val_loss'?"


def test_unknown_key_without_a_close_match_lists_the_known_ones(include: Path) -> None:
    message = fault(include, MINIMAL + "window:\n  zzz: 1\n")
    assert message.endswith(":16: window.zzz: unknown key; expected one of days, test_days")


def test_wrong_type_names_line_value_and_expectation(include: Path) -> None:
    message = fault(include, MINIMAL.replace("max_val_loss: 1.0", "max_val_loss: low"))
    assert "shop.yaml:12: gate.max_val_loss: Input should be a valid number" in message
    assert "'low'" in message


def test_every_fault_is_told_at_once(include: Path) -> None:
    message = fault(include, MINIMAL.replace("owner: search\n", "") + "window: {days: 1}\n")
    assert "owner: is missing" in message
    assert "window.days" in message


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("dt={day}", "today", "it must contain {day}"),
        ("s3://bucket/models", "/tmp/models", "expected s3://bucket/prefix"),
        ("sqlite:///mlflow.db", "http://user:secret@mlflow", "holds credentials"),
        ("name: shop", "name: other", "must equal the file's name"),
        ("max_val_loss: 1.0", "max_val_loss: [1", "not valid YAML"),
        ("owner: search", "owner: search\nowner: other", "shop.yaml:2: owner: is given again on line 3"),
        ("owner: search", "owner: search\nwindow: {days: 3, test_days: 3}", "test_days must be smaller than days"),
        ("owner: search", "owner: search\nruntime: {stages: {fine_tune: pod}}", "add the section runtime.kubernetes"),
        (
            "owner: search",
            "owner: search\nruntime: {kubernetes: {image: 'train:latest'}}",
            "pin it by digest: name@sha256:<64 hex digits>",
        ),
        (
            "owner: search",
            "owner: search\ntraining: {params: {query_learning_rate: 1}}",
            "training.params.query_learning_rate: unknown key",
        ),
        ("max_val_loss: 1.0", "max_val_loss: .inf", "shop.yaml:12: gate.max_val_loss: Input should be a finite number"),
        (
            "max_val_loss: 1.0",
            "max_val_loss: 1.0\n  rules:\n    - {name: mine, measure: val_los, at_most: 2}",
            "shop.yaml:14: gate.rules.mine.measure: there is no measure 'val_los'; did you mean 'val_loss'?",
        ),
        (
            "owner: search",
            "owner: search\nevaluation: {guards: [{name: staples, uri: s3://bucket/staples.xlsx}]}",
            "s3://bucket/staples.xlsx must end in .csv, .tsv, .jsonl or .parquet",
        ),
        (
            "owner: search",
            "owner: search\nevaluation: {slices: [{name: brands, uri: s3://bucket/q.txt, column: a, value: b}]}",
            "s3://bucket/q.txt must end in .csv",
        ),
        (
            "owner: search",
            "owner: search\nevaluation: {slices: [{name: brands, queries: [halo, '  ']}]}",
            "slice 'brands' has a blank query, or none",
        ),
    ],
)
def test_bad_settings_are_refused_with_the_rule(include: Path, old: str, new: str, said: str) -> None:
    assert said in fault(include, MINIMAL.replace(old, new))


def test_environment_fills_in_names_and_defaults(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_BUCKET", "filled")
    text = MINIMAL.replace("s3://bucket/models", "s3://${SHOP_BUCKET}/${SHOP_PREFIX:-models}")
    assert load_config(written(include, text)).storage.artifacts == "s3://filled/models"


def test_missing_environment_variable_is_named_with_its_key(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    message = fault(include, MINIMAL.replace("s3://bucket/models", "s3://${NOT_SET}/models"))
    assert "shop.yaml:6: storage.artifacts: environment variable NOT_SET is not set" in message


def test_wrong_expectation_in_a_suite_names_its_own_file(include: Path) -> None:
    (include / "expectations" / "ranks.yaml").write_text("- type: expect_x\n  why: because\n  severty: warning\n")
    message = fault(include, MINIMAL)
    assert "expectations/ranks.yaml:3: 0.severty: unknown key; did you mean 'severity'?" in message


def test_every_shipped_config_loads() -> None:
    assert len([load_config(path) for path in config_files(REPOSITORY / "include")]) >= 1


def test_config_check_reports_every_file_and_exits_2(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBFT_INCLUDE", str(include))
    written(include, MINIMAL)
    written(include, MINIMAL.replace("name: shop", "name: bad") + "extra: 1\n", "bad")
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2
    assert "shop.yaml: ok" in result.stdout
    assert "bad.yaml:15: extra: unknown key" in result.stderr


def test_config_check_goes_without_great_expectations_where_it_is_not_installed(
    include: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EMBFT_INCLUDE", str(include))
    monkeypatch.setattr("embft.cli.find_spec", lambda _: None)
    written(include, MINIMAL)
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 0
    assert "the suites were not built" in result.stderr


def test_config_check_misses_a_pod_template_before_airflow_does(include: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EMBFT_INCLUDE", str(include))
    pod = f"runtime: {{stages: {{fine_tune: pod}}, kubernetes: {{image: 'embft@sha256:{'a' * 64}'}}}}\n"
    written(include, MINIMAL + pod)
    result = CliRunner().invoke(app, ["config", "check"])
    assert result.exit_code == 2
    assert "kubernetes/finetune_pod.yaml does not exist" in result.stderr


def pod_config(setting: str) -> str:
    return f"{MINIMAL}runtime:\n  kubernetes:\n    image: embft@sha256:{'a' * 64}\n    {setting}\n"


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("memory: 16GB", "runtime.kubernetes.memory: expected an amount with Mi, Gi"),
        ("memory: 16 Gi", "runtime.kubernetes.memory: expected an amount with Mi, Gi"),
        ("memory: '16'", "(found '16')"),  # 16 bytes
        ("memory: 512m", "(found '512m')"),  # half a byte
        ("memory: 0Gi", "(found '0Gi')"),
        (
            "cpu: 4 cores",
            "runtime.kubernetes.cpu: expected a number of cores, such as 4, 0.5 or 500m (found '4 cores')",
        ),
        ("cpu: 4Gi", "(found '4Gi')"),
        ("cpu: 0", "expected a number of cores"),
        ("memory: 1\u0664Gi", "runtime.kubernetes.memory: expected an amount with Mi, Gi"),
        ("cpu: 0.0001", "runtime.kubernetes.cpu: expected a number of cores"),
        ("namespace: team.embft", "runtime.kubernetes.namespace: expected a namespace"),
        ("node_selector: {node pool: gpu}", "expected a label's key"),
        ("node_selector: {pool: gpu!}", "expected a label's value"),
        ("tolerations: [{key: gpu, value: a100}]", "operator is Exists, with value 'a100'; Equal needs a value"),
        ("tolerations: [{key: gpu, operator: Equal}]", "operator is Equal, with no value; Equal needs a value"),
        ("gpus: -1", "runtime.kubernetes.gpus"),
        ("service_account: Embft_Train", "expected a name of Kubernetes: small letters, digits, - and ."),
        ("priority_class: night jobs", "runtime.kubernetes.priority_class: expected a name of Kubernetes"),
        ("runtime_class: ''", "runtime.kubernetes.runtime_class: expected a name of Kubernetes"),
        ("grace_s: 0", "runtime.kubernetes.grace_s"),
    ],
)
def test_what_a_cluster_would_refuse_is_refused_in_the_config(include: Path, setting: str, said: str) -> None:
    assert said in fault(include, pod_config(setting))


@pytest.mark.parametrize("setting", ["cpu: 4", "cpu: 0.5", "cpu: 500m", "memory: 1.5Gi", "env_from_secret: null"])
def test_amounts_are_written_as_kubernetes_writes_them(include: Path, setting: str) -> None:
    name, value = setting.split(": ")
    kubernetes = load_config(written(include, pod_config(setting))).runtime.kubernetes
    assert getattr(kubernetes, name) == (None if value == "null" else value)


def test_the_pod_that_the_demos_config_shows_can_be_uncommented(include: Path) -> None:
    shown = (REPOSITORY / "include" / "models" / "demo.yaml").read_text()
    text = shown.replace("\n  # ", "\n  ").replace("name: demo", "name: shop", 1)
    assert text.count("kubernetes:") == 1
    config = load_config(written(include, text.replace("\n  Training in", "\n  # Training in")))
    assert config.runtime.stages == {"fine_tune": "pod"}
    assert config.runtime.kubernetes is not None


@pytest.mark.parametrize("section", ["Kubernetes", "Toleration"])
def test_every_key_of_a_pod_is_described(section: str) -> None:
    schema = json.loads(CliRunner().invoke(app, ["config", "schema"]).stdout)
    keys = schema["$defs"][section]["properties"]
    assert not [name for name, key in keys.items() if "description" not in key]


def test_schema_knows_every_section() -> None:
    schema = json.loads(CliRunner().invoke(app, ["config", "schema"]).stdout)
    assert {"gate", "logs", "window", "training", "runtime"} <= set(schema["properties"])
    assert schema["additionalProperties"] is False
    assert "query_lr" in schema["$defs"]["FineTuningParams"]["properties"]


def test_no_field_can_hold_a_secret() -> None:
    schema = CliRunner().invoke(app, ["config", "schema"]).stdout
    names = {name for part in json.loads(schema)["$defs"].values() for name in part.get("properties", {})}
    assert not {name for name in names if any(word in name for word in ("password", "token", "access_key"))}


def test_digest_does_not_depend_on_key_order() -> None:
    assert digest_of({"a": 1, "b": [2, None]}) == digest_of({"b": [2, None], "a": 1})


@pytest.mark.parametrize(
    "url", ["localhost:9000", "ftp://host", "http://", "http://host:99999", "http://host :80", '""']
)
def test_address_that_is_none_is_refused_before_any_client_sees_it(include: Path, url: str) -> None:
    text = MINIMAL.replace("artifacts: s3://bucket/models", f"artifacts: s3://bucket/models\n  endpoint_url: {url}")
    assert "storage.endpoint_url: expected http://host:port or https://host" in fault(include, text)


def test_catalogue_must_be_an_object_not_a_bucket(include: Path) -> None:
    assert "expected an object, s3://bucket/key" in fault(include, MINIMAL.replace("bucket/items.jsonl", "bucket"))


@pytest.mark.parametrize(
    ("ranges", "told"),
    [
        (
            "items_lt: {low: 1, high: 2}",
            "ranges.items_lt: there is no such setting in training.params; expected one of",
        ),
        (
            "items_lr: {low: 0.02, high: 0.002}",
            "ranges.items_lr: low is 0.02, high is 0.002; low must be well below high",
        ),
        ("items_lr: {low: -1, high: 2}", "ranges.items_lr: items_lr -1 would be tried, and cannot be: Input should be"),
        ("margin: {low: 0, high: 1, log: true}", "ranges.margin: low is 0; with log: true it must be above 0"),
        ("margin: {low: 0.1}", "ranges.margin: expected {low: …, high: …} with numbers"),
        ("margin: {choices: [0.1, 0.1]}", "ranges.margin: a value is there twice in choices"),
        ("margin: {choices: [0.1, 0.2], low: 0}", "ranges.margin: choices stand alone"),
        ("num_fixed_layers: {low: 0.5, high: 2}", "ranges.num_fixed_layers: counts, so low and high must be whole"),
        ("not_irrelevant_only: {low: 0, high: 1}", "ranges.not_irrelevant_only: is no number, so it takes {choices"),
        (
            "min_abs_difference_threshold: {low: 0, high: 0.9}, max_abs_difference_threshold: {low: 0.5, high: 2}",
            "min_abs_difference_threshold 0.9, max_abs_difference_threshold 0.5 would be tried, and cannot be",
        ),
    ],
)
def test_what_cannot_be_searched_is_told_before_a_night(include: Path, ranges: str, told: str) -> None:
    assert told in fault(include, f"{MINIMAL}training:\n  search:\n    ranges: {{{ranges}}}\n")


def test_a_search_survives_the_frozen_plan(include: Path) -> None:
    ranges = "{items_lr: {low: 0.002, high: 0.02, log: true}, num_fixed_layers: {low: 0, high: 1}, "
    ranges += (
        "examples_order: {choices: [[all_examples], [all_examples, hard_negatives]]}, query_lr: {choices: [null, 1]}}"
    )
    config = load_config(written(include, f"{MINIMAL}training: {{search: {{ranges: {ranges}}}}}\n"))
    assert config.training.search is not None
    assert (config.training.search.trials, config.training.search.trials_in_parallel) == (12, 1)
    again = type(config).model_validate_json(config.model_dump_json())
    assert again == config
    assert digest_of(again) == digest_of(config)


@pytest.mark.parametrize("text", [MINIMAL + "\0", "a: &a [*a]\n"], ids=["NUL", "list within itself"])
def test_yaml_that_the_parser_chokes_on_is_no_traceback(include: Path, text: str) -> None:
    assert "not valid YAML" in fault(include, text)


def test_windows_line_ends_and_a_byte_order_mark_are_read(include: Path) -> None:
    path = written(include, "")
    path.write_bytes(b"\xef\xbb\xbf" + MINIMAL.replace("\n", "\r\n").encode())
    assert load_config(path).name == "shop"


def test_include_folder_that_is_not_there_is_named_with_the_variable(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere does not exist.*EMBFT_INCLUDE"):
        config_files(tmp_path / "nowhere")


@pytest.mark.parametrize("page", ["README.md", "docs/promotion.md"])
def test_what_the_pages_show_of_evaluation_and_gate_is_a_valid_config(page: str, include: Path) -> None:
    text = (REPOSITORY / page).read_text(encoding="utf-8")
    shown: dict[str, Any] = {}
    for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL):
        shown |= {key: value for key, value in yaml.safe_load(block).items() if key in ("evaluation", "gate")}
    assert shown.keys() == {"evaluation", "gate"}
    config = yaml.safe_load(MINIMAL) | shown
    (include / "models" / "shop.yaml").write_text(yaml.safe_dump(config))
    assert load_config(include / "models" / "shop.yaml").gate.rules


def test_the_search_that_the_docs_show_is_a_valid_config(include: Path) -> None:
    shown = yaml.safe_load(MINIMAL) | {"training": _yaml_blocks("training.md")["training"]}
    (include / "models" / "shop.yaml").write_text(yaml.safe_dump(shown))
    assert load_config(include / "models" / "shop.yaml").training.search is not None


def test_the_rules_that_the_docs_show_are_the_default_ones() -> None:
    shown = _yaml_blocks("monitoring.md")["monitoring"]
    assert Monitoring.model_validate(shown) == Monitoring()


@pytest.mark.parametrize("page", ["alerts.md", "monitoring.md"])
def test_the_alerts_that_the_docs_show_can_be_read(tmp_path: Path, page: str) -> None:
    shown = {key: it for key, it in _yaml_blocks(page).items() if key in ("channels", "routes", "prometheus")}
    assert shown
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(shown))
    assert load_channels(tmp_path) != AlertChannels()


def test_the_alerts_of_the_project_are_read_as_they_are_and_with_what_they_suggest(tmp_path: Path) -> None:
    text = (REPOSITORY / "include" / "alerts.yaml").read_text()
    (tmp_path / "alerts.yaml").write_text(text)
    assert load_channels(tmp_path) == AlertChannels()
    suggested = re.sub(r"(channels: \{\}|routes: \[\])", lambda it: it[0].split()[0], text)
    (tmp_path / "alerts.yaml").write_text(re.sub(r"^#(  )", r"\1", suggested, flags=re.MULTILINE))
    assert load_channels(tmp_path).receivers("shop-de", "info") == ["search_mail"]


def _yaml_blocks(page: str) -> dict[str, Any]:
    text = (REPOSITORY / "docs" / page).read_text()
    blocks = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    return {key: it for block in blocks for key, it in yaml.safe_load(block).items()}
