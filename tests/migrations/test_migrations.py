from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, text

from router_gateway.core.errors import ConfigError
from router_gateway.ledger.engine import alembic_config, migrate, migrations_dir, open_engine, schema_is_current
from router_gateway.ledger.tables import metadata


@pytest.fixture
def engine(empty_database_url: str) -> Iterator[Engine]:
    engine = open_engine(empty_database_url)
    yield engine
    engine.dispose()


def test_upgrading_an_empty_database_gives_exactly_the_tables_of_the_models(
    empty_database_url: str, engine: Engine
) -> None:
    assert not schema_is_current(engine)
    migrate(empty_database_url)
    assert schema_is_current(engine)
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []


def test_migrations_are_in_one_line_and_their_files_are_named_by_it() -> None:
    """Where a database stands is compared with the names of the files."""
    scripts = ScriptDirectory(str(migrations_dir()))
    revisions = [script.revision for script in scripts.walk_revisions()]
    assert scripts.get_heads() == [max(revisions)]
    assert revisions == sorted(revisions, reverse=True)
    files = sorted(file.name for file in (migrations_dir() / "versions").glob("*.py"))
    assert [name.partition("_")[0] for name in files] == sorted(revisions)


def test_a_start_on_a_current_database_does_without_alembic(empty_database_url: str) -> None:
    migrate(empty_database_url)
    program = "import sys; from router_gateway.ledger.engine import migrate; migrate(sys.argv[1]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program, empty_database_url], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert "sqlalchemy" in done.stdout.split()
    assert "alembic" not in done.stdout.split()


def test_a_database_of_a_newer_version_is_refused_in_words(empty_database_url: str, engine: Engine) -> None:
    migrate(empty_database_url)
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    assert not schema_is_current(engine)
    with pytest.raises(ConfigError, match=r"newer version \(migration 9999; here: 00"):
        migrate(empty_database_url)


def test_migrating_twice_changes_nothing_and_prints_nothing(
    empty_database_url: str, capfd: pytest.CaptureFixture[str]
) -> None:
    migrate(empty_database_url)
    migrate(empty_database_url)
    assert capfd.readouterr() == ("", "")


def test_downgrading_leaves_nothing_behind_and_upgrading_works_again(empty_database_url: str, engine: Engine) -> None:
    migrate(empty_database_url)
    command.downgrade(alembic_config(engine), "base")
    assert inspect(engine).get_table_names() == ["alembic_version"]
    assert not schema_is_current(engine)
    migrate(empty_database_url)
    assert schema_is_current(engine)


def test_gateways_that_start_together_migrate_once(empty_database_url: str, engine: Engine) -> None:
    program = "import sys; from router_gateway.ledger.engine import migrate; migrate(sys.argv[1])"
    starting = [
        subprocess.Popen([sys.executable, "-c", program, empty_database_url], stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    errors = [process.communicate(timeout=60)[1] for process in starting]
    assert [process.returncode for process in starting] == [0, 0], errors
    assert schema_is_current(engine)


def test_the_alembic_command_works_without_an_ini_file(empty_database_url: str, engine: Engine) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "alembic", "upgrade", "head"],
        cwd=migrations_dir().parent,
        env={**os.environ, "ROUTER_GATEWAY__LEDGER__URL": empty_database_url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert schema_is_current(engine)


def test_migrating_leaves_other_threads_and_the_import_path_alone(empty_database_url: str) -> None:
    path, threads = list(sys.path), threading.active_count()
    migrate(empty_database_url)
    assert sys.path == path
    assert threading.active_count() == threads
