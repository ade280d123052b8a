"""Fixtures for every test: real servers, each test run's own; how such a server is run is in `servers`."""

import os
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests.servers.broker import Broker, start_broker
from tests.servers.database import Postgres, running_postgres
from tests.servers.hub import Hub, running_hub
from tests.servers.missing import IN_CI
from tests.servers.moto import Moto, running_moto
from tests.servers.oauth import OAuth, running_oauth
from tests.servers.verdaccio import Verdaccio, running_verdaccio

# A slow machine is no bug. In CI, Hypothesis's own profile also tries the same examples in every run.
hypothesis.settings.register_profile("laptop", deadline=None)
hypothesis.settings.register_profile(
    "fuzz",
    deadline=None,
    max_examples=int(os.environ.get("REVOQ_TEST_FUZZ", "2000")),
    suppress_health_check=list(hypothesis.HealthCheck),
)
hypothesis.settings.load_profile("fuzz" if "REVOQ_TEST_FUZZ" in os.environ else "ci" if IN_CI else "laptop")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Tests that use JupyterHub share one worker, so that it starts once; so do all others of one group."""
    for item in items:
        if "jupyterhub" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("jupyterhub"))
        groups = sorted({str(mark.args[0]) for mark in item.iter_markers("xdist_group")})
        if groups and config.getoption("loadgroup", default=False):
            # xdist 3.8 writes the group into an attribute that pytest 9.2 does not read any more.
            item._id = type(item._id).parse(f"{item.nodeid}@{'_'.join(groups)}")  # noqa: SLF001


@pytest.fixture
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A Redis of the test's own, which it may flush, kill and start again."""
    broker = start_broker(tmp_path_factory.mktemp("redis"))
    yield broker
    broker.stop()


@pytest.fixture(scope="session")
def session_redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One Redis for all tests of a worker. Ask for `shared_redis` instead, which is empty."""
    broker = start_broker(tmp_path_factory.mktemp("shared-redis"))
    yield broker
    broker.stop()


@pytest.fixture
def shared_redis(session_redis_server: Broker) -> Broker:
    """An empty Redis, for tests that leave it running; the next test finds it empty again."""
    session_redis_server.flushall()
    return session_redis_server


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """One PostgreSQL for all tests of a worker; each makes its own databases there."""
    with running_postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A fresh, empty PostgreSQL database."""
    url = postgres.create_database()
    yield url
    postgres.drop_database(url)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """A SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """A fresh, empty database, once of each kind: whatever asks for this holds on both."""
    url: str = request.getfixturevalue("sqlite_url" if request.param == "sqlite" else "postgres_url")
    return url


@pytest.fixture(scope="session")
def jupyterhub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hub]:
    """One JupyterHub for all tests of a run. Give users names of the test's own."""
    with running_hub(tmp_path_factory.mktemp("jupyterhub")) as hub:
        yield hub


@pytest.fixture(scope="module")
def verdaccio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Verdaccio]:
    """One Verdaccio for the tests of a module. Give users names of the test's own."""
    with running_verdaccio(tmp_path_factory.mktemp("verdaccio")) as registry:
        yield registry


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """One moto for all tests of a worker. Ask for `moto` instead, which is empty."""
    with running_moto(tmp_path_factory.mktemp("moto")) as server:
        yield server


@pytest.fixture
def moto(moto_server: Moto) -> Moto:
    """AWS, as moto pretends to be it: without users, and with no demand for signatures yet."""
    moto_server.reset()
    return moto_server


@pytest.fixture
def oauth_server() -> Iterator[OAuth]:
    """A real OAuth server of the test's own, without clients."""
    with running_oauth() as server:
        yield server
