"""An Airflow of its own for the tests: a copy of the migrated database, offline, with our DAG folder."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

# Before anything imports Airflow, which reads these once.
HOME = Path(tempfile.mkdtemp(prefix="tidemill-airflow-"))
shutil.copy(Path(sys.prefix) / "template" / "airflow.db", HOME / "airflow.db")
os.environ |= {
    "AIRFLOW_HOME": str(HOME),
    "AIRFLOW__CORE__DAGS_FOLDER": str(Path(__file__).parents[1] / "dags"),
    "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
    "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
    "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{HOME}/airflow.db",
}


def pytest_unconfigure() -> None:
    shutil.rmtree(HOME, ignore_errors=True)
