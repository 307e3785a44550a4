"""One cycle of Tidemill: ingest, then build, then publish.

Each task is one verb of the binary. What to read and where it stopped is the lake's business: any run may be repeated.
Settings are Airflow Variables, all optional: `tidemill_bin`, `tidemill_project_dir`, `tidemill_target`.
"""

from datetime import datetime, timedelta

from airflow.providers.standard.hooks.subprocess import SubprocessHook
from airflow.sdk import DAG, BaseOperator, Context
from airflow.sdk.exceptions import AirflowException, AirflowFailException

TEMPORARY = 75  # the one exit code of Tidemill that asks for a retry


class TidemillOperator(BaseOperator):
    """Runs one verb; empty arguments are left out. A stopped task stops its process with SIGTERM."""

    template_fields = ("command",)

    def __init__(self, *, verb: str, **kwargs: object) -> None:
        super().__init__(task_id=verb, **kwargs)
        self.command = [
            "{{ var.value.get('tidemill_bin', 'tidemill') }}",
            "{% set dir = var.value.get('tidemill_project_dir', '') %}{{ '--project-dir=' ~ dir if dir }}",
            "{% set target = var.value.get('tidemill_target', '') %}{{ '--target=' ~ target if target }}",
            "--run-id={{ run_id }}",
            # A run that was asked for by hand or by an asset has no data interval: then the clock decides.
            "{{ '--as-of=' ~ data_interval_end.isoformat() if data_interval_end is defined and data_interval_end }}",
            verb,
        ]
        self.hook = SubprocessHook()

    def execute(self, context: Context) -> None:
        code = self.hook.run_command([part for part in self.command if part]).exit_code
        if code == TEMPORARY:
            raise AirflowException("temporary failure, to be retried")
        if code != 0:
            raise AirflowFailException(f"tidemill ended with {code}; a retry cannot help")

    def on_kill(self) -> None:
        self.hook.send_sigterm()


with DAG(
    "tidemill_cycle",
    description="Kafka to the lake, the lake to the warehouse.",
    schedule="*/5 * * * *",
    start_date=datetime(2025, 1, 1),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 5, "retry_delay": timedelta(seconds=30), "retry_exponential_backoff": True},
):
    TidemillOperator(verb="ingest") >> TidemillOperator(verb="build") >> TidemillOperator(verb="publish")
