"""A test with pytest and testcontainers: pip install pytest testcontainers azure-identity 'psycopg[binary]'"""
import os

import pytest
from testcontainers.core.container import DockerContainer
from testcontainers.core.wait_strategies import HttpWaitStrategy

from log_in import environment, log_in

IMAGE = os.environ.get("STANDINS_IMAGE", "ghcr.io/aadpool/aadpool-standins")


@pytest.fixture(scope="session")
def standins(tmp_path_factory):
    container = (DockerContainer(IMAGE)
                 .with_env("AADPOOLTEST_HOST", "localhost")
                 .with_exposed_ports(8080, 8443, 5432)
                 .waiting_for(HttpWaitStrategy(8080, "/healthz").for_status_code(200)))
    with container:
        ports = {"control": 8080, "entra": 8443, "postgres": 5432}
        mapped = {name: container.get_exposed_port(port) for name, port in ports.items()}
        yield environment(mapped, str(tmp_path_factory.mktemp("standins")))


def test_the_service_logs_in(standins):
    assert log_in(standins) == "orders-api"
