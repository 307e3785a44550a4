"""dbt's artifacts, judged by dbt: its own schemas, its own parser, a popular reader of artifacts."""

import json
from collections.abc import Callable

import jsonschema
import pytest
from conftest import Project
from dbt.artifacts.schemas.catalog import CatalogArtifact
from dbt.artifacts.schemas.freshness import FreshnessExecutionResultArtifact
from dbt.artifacts.schemas.manifest import WritableManifest
from dbt.artifacts.schemas.run import RunResultsArtifact
from dbt_artifacts_parser.parser import parse_catalog, parse_manifest, parse_run_results, parse_sources

SCHEMAS: dict[str, tuple[type, Callable]] = {
    "manifest.json": (WritableManifest, parse_manifest),
    "run_results.json": (RunResultsArtifact, parse_run_results),
    "catalog.json": (CatalogArtifact, parse_catalog),
    "sources.json": (FreshnessExecutionResultArtifact, parse_sources),
}


def check(project: Project, name: str) -> dict:
    artifact = project.artifact(name)
    kind, parse = SCHEMAS[name]
    validator = jsonschema.Draft202012Validator(kind.json_schema())
    faults = [f"{list(fault.absolute_path)}: {fault.message[:300]}" for fault in validator.iter_errors(artifact)]
    assert faults == [], name
    parse(artifact)
    return artifact


def statuses(project: Project) -> dict[str, str]:
    results = check(project, "run_results.json")["results"]
    return {result["unique_id"].split(".")[2]: result["status"] for result in results}


def test_artifacts_of_every_command_follow_dbts_schemas(shop: Project) -> None:
    shop.run("parse")
    manifest = check(shop, "manifest.json")
    assert manifest["metadata"]["dbt_schema_version"].endswith("manifest/v12.json")
    model = manifest["nodes"]["model.shop.fct_customers"]
    assert model["depends_on"] == {"macros": ["macro.shop.total"], "nodes": ["model.shop.stg_raw__orders"]}
    assert (model["access"], model["group"], model["tags"]) == ("public", "money", ["nightly"])
    assert manifest["child_map"]["model.shop.fct_daily"] == ["exposure.shop.board"]
    assert "unit_test.shop.stg_raw__orders.orders_pass_through" in manifest["unit_tests"]
    assert manifest["group_map"] == {"money": ["model.shop.fct_customers"]}
    for command in (["build"], ["test"], ["seed", "--full-refresh"], ["run-models", "--full-refresh"], ["compile"]):
        shop.run(*command)
        check(shop, "manifest.json")
        check(shop, "run_results.json")
    assert "sum(amount)" in check(shop, "manifest.json")["nodes"]["model.shop.fct_customers"]["compiled_code"]
    assert "sum(amount)" in (shop.folder / "target/compiled/shop/models/marts/fct_customers.sql").read_text()
    shop.run("docs", "generate")
    catalog = check(shop, "catalog.json")
    assert catalog["nodes"]["model.shop.fct_customers"]["columns"]["total"]["type"] == "bigint"
    assert catalog["sources"]["source.shop.raw.orders"]["stats"]["num_rows"]["value"] == 3


def test_batches_of_a_microbatch_model_stand_in_the_results(shop: Project) -> None:
    shop.run("build")
    results = check(shop, "run_results.json")["results"]
    (daily,) = [result for result in results if result["unique_id"] == "model.shop.fct_daily"]
    starts = [batch[0][:10] for batch in daily["batch_results"]["successful"]]
    assert starts == ["2025-01-01", "2025-01-03"]


def test_snapshots_are_nodes_of_their_own(shop: Project) -> None:
    (shop.folder / "snapshots").mkdir()
    (shop.folder / "snapshots/orders_history.sql").write_text(
        "{% snapshot orders_history %}{{ config(unique_key='id', strategy='check', check_cols='all') }}"
        "select * from {{ ref('orders') }}{% endsnapshot %}"
    )
    shop.run("seed")
    shop.run("snapshot")
    assert statuses(shop) == {"orders_history": "success"}
    node = check(shop, "manifest.json")["nodes"]["snapshot.shop.orders_history"]
    assert (node["resource_type"], node["config"]["strategy"]) == ("snapshot", "check")
    assert shop.run("ls", "--resource-type", "snapshot").stdout.split() == ["shop.orders_history"]
    shop.run("docs", "generate")
    assert "dbt_valid_from" in check(shop, "catalog.json")["nodes"]["snapshot.shop.orders_history"]["columns"]
    lineage = shop.artifact("column_lineage.json")["nodes"]["model.shop.fct_customers"]["columns"]["total"]
    assert lineage == {
        "derivation": "transformation",
        "from": [{"unique_id": "model.shop.stg_raw__orders", "column": "amount"}],
    }


def test_freshness_is_told_with_its_limits(shop: Project) -> None:
    shop.run("seed")
    # The second source is nowhere: it can be looked at no more than a table that was dropped.
    shop.run("source", "freshness", code=1)
    results = {result["unique_id"]: result for result in check(shop, "sources.json")["results"]}
    assert results["source.shop.raw.orders"]["status"] == "warn"
    assert results["source.shop.raw.orders"]["max_loaded_at"] == "2025-01-03T09:00:00.000000Z"
    assert results["source.shop.till.nothing"]["status"] == "runtime error"
    shop.run("source-freshness", "--select", "source:raw", "--as-of", "2025-01-03T12:00:00Z")
    assert [result["status"] for result in check(shop, "sources.json")["results"]] == ["pass"]
    shop.run("source-freshness", "--select", "source:raw", "--as-of", "3025-01-03T12:00:00Z", code=3)


def test_retry_does_what_was_left_undone_with_the_same_arguments(shop: Project) -> None:
    shop.run("seed")
    shop.run("build", "--vars", "{with_broken: true}", "--select", "+after_broken", "unused_name", code=1)
    assert (statuses(shop)["broken"], statuses(shop)["after_broken"]) == ("error", "skipped")
    plan = json.loads(shop.run("retry", "--dry-run", "--format", "json").stdout)
    assert [model["model"] for model in plan["models"]] == ["broken", "after_broken"]
    shop.run("retry", code=1)
    assert statuses(shop) == {"broken": "error", "after_broken": "skipped"}
    (shop.folder / "models/marts/broken.sql").write_text("select 1 as number")
    again = shop.run("retry")
    assert "Done. PASS=2 WARN=0 ERROR=0 SKIP=0 TOTAL=2" in again.stdout
    assert "nothing to retry" in shop.run("retry").stderr


def test_retry_builds_exactly_the_batches_that_failed(shop: Project) -> None:
    model, seed = shop.folder / "models/marts/fct_daily.sql", shop.folder / "seeds/orders.csv"
    model.write_text(model.read_text().replace("count(*)", "sum(10 / (amount - 5))"))
    shop.run("seed")
    shop.run("run-models", "--select", "fct_daily", code=1)
    (result,) = check(shop, "run_results.json")["results"]
    assert result["status"] == "partial success"
    assert [[batch[0][:10] for batch in result["batch_results"][word]] for word in ("successful", "failed")] == [
        ["2025-01-01"],
        ["2025-01-03"],
    ]
    seed.write_text(seed.read_text().replace("bob,5", "bob,6"))
    shop.run("seed", "--target-path", str(shop.folder / "elsewhere"))
    shop.run("retry")
    (result,) = check(shop, "run_results.json")["results"]
    assert [batch[0][:10] for batch in result["batch_results"]["successful"]] == ["2025-01-03"]


def test_result_and_state_select_from_earlier_runs(shop: Project) -> None:
    shop.run("parse", "--target-path", str(shop.folder / "before"))
    shop.run("build")
    (shop.folder / "macros/total.sql").write_text("{% macro total(column) %}sum({{ column }} + 0){% endmacro %}")
    state = ["--state", str(shop.folder / "before")]
    listed = shop.run(
        "ls", "--select", "state:modified+", *state, "--output", "name", "--resource-type", "model", "exposure"
    )
    assert listed.stdout.split() == ["fct_customers", "board"]
    assert shop.run("ls", "--select", "state:new", *state).stdout == ""
    listed = shop.run("ls", "--select", "result:pass,test_type:singular", "--output", "name")
    assert listed.stdout.split() == ["no_negative_totals"]


def test_ls_prints_what_dbt_prints(shop: Project) -> None:
    listed = shop.run("ls", "--selector", "money", "--resource-type", "model", "exposure").stdout.split()
    assert listed == ["shop.staging.stg_raw__orders", "shop.marts.fct_customers"]
    listed = shop.run("ls", "--select", "+exposure:board", "--resource-type", "source", "exposure").stdout.split()
    assert listed == ["source:shop.raw.orders", "exposure:shop.board"]
    keys = shop.run(
        "ls", "-s", "fct_daily", "--resource-type", "model", "--output", "json", "--output-keys", "name", "tags"
    )
    assert json.loads(keys.stdout) == {"name": "fct_daily", "tags": ["nightly"]}
    assert "models/marts/fct_daily.sql" in shop.run("list", "-m", "fct_daily", "--output", "path").stdout


@pytest.mark.parametrize(
    ("command", "code", "told"),
    [
        (["ls", "--select", "tga:x"], 2, "did you mean `tag`?"),
        (["ls", "--select", "state:modified"], 2, "--state DIR"),
        (["ls", "--select", "state:modified", "--state", "nowhere"], 2, "the folder of earlier artifacts is not there"),
        (["ls", "--selector", "mony"], 2, "did you mean `money`?"),
        (["ls", "--output-keys", "name"], 2, "--output json"),
        (["retry"], 2, "run `tidemill build` first"),
        (["lint", "--off", "TL99"], 2, "no lint rule of that name"),
        (["clean", "--target-path", "/"], 2, "it is not inside of the project"),
        (["compile", "--inline", "select * from {{ ref('fct_custmers') }}"], 2, "fct_custmers"),
        (["build", "--select", "fct_custmers"], 0, "did you mean `fct_customers`?"),
    ],
)
def test_mistakes_are_told_with_the_way_out(shop: Project, command: list[str], code: int, told: str) -> None:
    done = shop.run(*command, code=code)
    assert told in done.stderr


def test_text_of_the_command_line_runs_like_a_model(shop: Project) -> None:
    shop.run("build")
    query = "select {{ total('amount') }} as spent from {{ source('raw', 'orders') }}"
    assert shop.run("compile", "--inline", query).stdout.strip() == "select sum(amount) as spent from raw.orders"
    assert json.loads(shop.run("show", "--inline", query, "--format", "json").stdout) == [{"spent": 12}]


def test_clean_deletes_the_target_folder_and_nothing_else(shop: Project) -> None:
    shop.run("build")
    assert "would delete" in shop.run("clean", "--dry-run").stdout
    assert (shop.folder / "target").is_dir()
    shop.run("clean")
    assert not (shop.folder / "target").exists()
    assert (shop.folder / "models").is_dir()
    assert shop.run("sql", "select count(*) as n from fct_customers", "--format", "csv").stdout == "n\n2\n"
    (shop.folder / "dbt_project.yml").write_text("name: shop\nclean-targets: [models]\n")
    assert "it holds files of the project" in shop.run("clean", code=2).stderr
