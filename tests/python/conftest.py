"""What the tests of other programs share: the binary and a small project that was built by it."""

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

FILES = {
    "dbt_project.yml": """
name: shop
version: "1.0"
vars: {lint_off: [TL005]}
models: {shop: {marts: {+materialized: table, +tags: [nightly]}}}
clean-targets: [target]
""",
    "models/staging/_shop__sources.yml": """
sources:
  - name: raw
    description: What the shop's till writes.
    tables:
      - name: orders
        description: Orders.
        loaded_at_field: ordered_at
        freshness: {warn_after: {count: 1, period: day}, error_after: {count: 365000, period: day}}
        columns: [{name: id, description: The order., data_tests: [unique, not_null]}]
  - name: till
    tables: [{name: nothing, loaded_at_field: at, freshness: {error_after: {count: 1, period: hour}}}]
""",
    "models/staging/stg_raw__orders.sql": """
select id, customer, amount, ordered_at from {{ source('raw', 'orders') }}
""",
    "models/staging/stg_raw__orders.yml": """
models:
  - name: stg_raw__orders
    description: Orders as they came.
    columns: [{name: customer, description: Who bought., data_tests: [not_null: {config: {severity: warn}}]}]
unit_tests:
  - name: orders_pass_through
    model: stg_raw__orders
    given: [{input: source('raw', 'orders'), rows: [{id: 1, customer: ann, amount: 2}]}]
    expect: {rows: [{id: 1, customer: ann, amount: 2}]}
""",
    "models/marts/fct_customers.sql": """
{{ config(unique_key='customer', meta={'owner': 'ann'}, pre_hook=none) }}
select customer, {{ total('amount') }} as total from {{ ref('stg_raw__orders') }} group by customer
""",
    "models/marts/fct_daily.sql": """
{{ config(materialized='incremental', incremental_strategy='microbatch', event_time='day', batch_size='day',
          begin='2025-01-01') }}
select date_trunc('day', ordered_at) as day, count(*) as orders from {{ ref('stg_raw__orders') }} group by 1
""",
    "models/marts/broken.sql": """
{{ config(enabled=var('with_broken', false)) }}
select cast(customer as bigint) as number from {{ ref('stg_raw__orders') }}
""",
    "models/marts/after_broken.sql": """
{{ config(enabled=var('with_broken', false)) }}
select number from {{ ref('broken') }}
""",
    "models/marts/_marts.yml": """
models:
  - name: fct_customers
    description: |
      Turnover. One row per `customer`. </script><img src=x onerror=alert(1)>
    access: public
    group: money
    config: {contract: {enforced: true}}
    columns:
      - {name: customer, data_type: varchar, description: Who bought., data_tests: [unique]}
      - name: total
        data_type: bigint
        description: What they spent.
        data_tests: [accepted_values: {arguments: {values: [7, 5]}}]
groups: [{name: money, owner: {name: Ann, email: ann@example.com}}]
exposures:
  - name: board
    type: dashboard
    maturity: high
    url: https://example.com/board
    owner: {name: Bob}
    depends_on: [ref('fct_customers'), ref('fct_daily')]
macros: [{name: total, description: Adds up.}]
""",
    "macros/total.sql": "{% macro total(column) %}sum({{ column }}){% endmacro %}",
    "tests/no_negative_totals.sql": "select * from {{ ref('fct_customers') }} where total < 0",
    "selectors.yml": """
selectors:
  - {name: money, definition: {union: [{method: group, value: money, parents: true}, {exclude: ['source:*']}]}}
""",
    "seeds/orders.csv": """id,customer,amount,ordered_at
1,ann,3,2025-01-01T10:00:00Z
2,ann,4,2025-01-01T11:00:00Z
3,bob,5,2025-01-03T09:00:00Z
""",
}


@dataclass(frozen=True)
class Project:
    """A project folder with its lake."""

    folder: Path
    binary: str

    def run(self, *command: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Calls the binary and expects its exit code."""
        arguments = [self.binary, "--project-dir", self.folder, "--lake", self.folder / "lake", *command]
        done = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert done.returncode == code, f"{command}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def artifact(self, name: str) -> dict:
        return json.loads((self.folder / "target" / name).read_text())


@pytest.fixture(scope="session")
def binary() -> str:
    path = os.environ.get("TIDEMILL_BIN")
    if path is None:
        pytest.fail("TIDEMILL_BIN is not set; tests/run sets it")
    return path


@pytest.fixture
def shop(binary: str, tmp_path: Path) -> Project:
    """The project, not built yet."""
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text.lstrip("\n"))
    return Project(tmp_path, binary)
