"""The command lines are those of the design, hold no secret, and are written so that the supervisor reads them back."""

from __future__ import annotations

import configparser
import os
import shlex
import sys
from pathlib import Path

import pytest

from scheduler.errors import NotStarted
from scheduler.processes import FLOWER_CONF, Process, commands, config_text, environment, find_server
from worker.settings import Settings

CELERY = (sys.executable, "-P", "-m", "celery", "--quiet", "-A")


def settings(**given: object) -> Settings:
    """Settings with a short data folder."""
    return Settings.model_validate({"data_dir": Path("/srv/revoq"), **given})


def lines(chosen: Settings) -> dict[str, tuple[str, ...]]:
    """The command lines by the processes' names."""
    return {process.name: process.argv for process in commands(chosen)}


def test_the_processes_of_the_design() -> None:
    """Six processes, each with its app and its queues, under the Python that runs revoq."""
    found = lines(settings(broker_url="redis://broker/0", urgent_threads=3, bulk_threads=5, log_level="warning"))

    assert list(found) == ["urgent", "bulk", "clock", "beat", "flower", "metrics"]
    work = ("worker", "--without-gossip", "--without-mingle", "--loglevel=warning")
    assert found["urgent"] == (
        *CELERY,
        "worker.app",
        *work,
        *("-Q", "urgent", "-P", "threads", "-c", "3", "-n", "urgent@%h"),
    )
    assert found["bulk"] == (
        *CELERY,
        "worker.app",
        *work,
        *("-Q", "bulk,rotation", "-P", "threads", "-c", "5", "-n", "bulk@%h"),
    )
    assert found["clock"] == (*CELERY, "scheduler.app", *work, "-Q", "clock", "-P", "solo", "-n", "clock@%h")
    assert found["beat"] == (*CELERY, "scheduler.app", "beat", "--loglevel=warning")
    assert found["metrics"] == (sys.executable, "-P", "-m", "scheduler.cli", "metrics")
    assert found["flower"][5:8] == ("-A", "worker.app", "flower")


def test_flower_is_on_loopback_and_read_only() -> None:
    """And reads our configuration, and none that happens to lie about."""
    assert lines(settings(broker_url="redis://broker/0", flower_port=5999))["flower"][8:] == (
        "--address=127.0.0.1",
        "--port=5999",
        "--read-only=True",
        "--persistent=False",
        f"--conf={FLOWER_CONF}",
    )


def test_the_embedded_broker() -> None:
    """It comes first, listens on no port, and its socket is its owner's."""
    found = lines(settings())

    assert next(iter(found)) == "broker"
    words = found["broker"]
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    assert pairs == {
        "--port": "0",
        "--unixsocket": "/srv/revoq/run/broker.sock",
        "--unixsocketperm": "700",
        "--dir": "/srv/revoq/broker",
        "--appendonly": "yes",
        "--save": "",
        "--daemonize": "no",
    }


def test_no_secret_is_in_a_command_line() -> None:
    """URLs with passwords and keys reach a process by its environment."""
    chosen = settings(
        broker_url="redis://:hunter2@broker/0", database_url="postgresql+psycopg://revoq:hunter2@db/revoq"
    )

    assert "hunter2" not in str(commands(chosen))
    assert "hunter2" not in config_text(chosen, commands(chosen))


def test_a_request_outlives_the_order_to_end() -> None:
    """A worker gets more time to end than a request may take."""
    chosen = settings(request_timeout="50s")

    assert all(process.patience > 50 for process in commands(chosen) if process.name in {"urgent", "bulk"})


def test_the_server_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """valkey-server on the PATH, then redis-server, then the one that comes along."""
    monkeypatch.setenv("PATH", str(tmp_path))
    packaged = find_server()
    (tmp_path / "redis-server").touch(mode=0o755)
    redis = find_server()
    (tmp_path / "valkey-server").touch(mode=0o755)
    valkey = find_server()

    assert Path(packaged).name == "valkey-server"
    assert os.access(packaged, os.X_OK)
    assert (redis, valkey) == (str(tmp_path / "redis-server"), str(tmp_path / "valkey-server"))


def test_a_path_that_no_socket_can_have() -> None:
    """Said before anything is started, with the setting that changes it."""
    with pytest.raises(NotStarted, match="REVOQ_DATA_DIR"):
        commands(settings(data_dir=Path("/srv") / ("x" * 90)))


def test_houses_are_found_first() -> None:
    """Before a folder of the same name that the command was given in, and before what was on the path already."""
    path = environment({"PYTHONPATH": "/other", "HOME": "/root"})["PYTHONPATH"].split(os.pathsep)

    assert (Path(path[0]) / "worker" / "app.py").is_file()
    assert path[1:] == ["/other", str(Path.cwd())]


# ── what the supervisor is told ───────────────────────────────────────────────────────────────────────────────────────


def read_back(text: str) -> configparser.RawConfigParser:
    """The text as supervisord reads it: `%` doubled, comments behind a blank."""
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=True)
    parser.read_string(text)
    return parser


def test_everything_is_started_again_and_ended_with_all_it_started() -> None:
    """For every process; the workers end together, and the broker after them."""
    chosen = settings()
    found = read_back(config_text(chosen, commands(chosen)))

    for process in commands(chosen):
        entries = found[f"program:{process.name}"]
        assert (entries["autorestart"], entries["stopasgroup"], entries["killasgroup"]) == ("true", "true", "true")
        assert entries["stopwaitsecs"] == str(process.patience)
        assert tuple(shlex.split(entries["command"].replace("%%", "%"))) == process.argv
    assert found["group:revoq"]["programs"] == "urgent,bulk,clock,beat,flower,metrics"
    assert int(found["group:revoq"]["priority"]) > int(found["program:broker"]["priority"])
    assert found["unix_http_server"]["chmod"] == "0700"
    assert not any(name.startswith("inet") for name in found.sections())


@pytest.mark.parametrize("path", ["/srv/a b", "/srv/50%", "/srv/it's", '/srv/"x"', "/srv/a;b"])
def test_odd_paths_survive(path: str) -> None:
    """Blanks, quotes and per cent signs come through as they are."""
    chosen = settings(data_dir=Path(path))
    process = Process("echo", ("/bin/echo", path, "%h"))

    command = read_back(config_text(chosen, [process]))["program:echo"]["command"]

    assert tuple(shlex.split(command.replace("%%", "%"))) == process.argv


@pytest.mark.parametrize("path", ["/srv/a #b", "/srv/a ;b", "/srv/a\nb"])
def test_paths_that_cannot_be_said(path: str) -> None:
    """What the supervisor would cut off is refused."""
    with pytest.raises(NotStarted, match="choose another folder"):
        config_text(settings(), [Process("echo", ("/bin/echo", path))])
