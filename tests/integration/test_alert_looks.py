"""What the alerter looks at beyond Kafka: PostgreSQL and its size, and a monitor that is not there."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from pydantic import SecretStr

from consumers.alerter.looking import Look
from consumers.alerter.process import database_size, newest_snapshot
from services.alerting import rules
from services.alerting.rules import Volume
from services.runtime.clock import SystemClock
from services.runtime.embedded.ports import free_port
from services.runtime.errors import DatabaseUnavailableError
from services.runtime.settings import Settings

pytestmark = pytest.mark.servers


def test_a_growing_database_is_told_against_its_limit(installation: Settings, database_dsn: str) -> None:
    """Filled beyond what is left of the limit, and made small again."""
    before = database_size(installation)
    limit = int(before * 1.2)

    def found() -> list[str]:
        volume = Volume("postgresql", database_size(installation), limit)
        return [one.weight for one in rules.filling([volume], 10, 5, datetime.now(UTC))]

    assert found() == []
    with closing(psycopg.connect(database_dsn, autocommit=True)) as connection:
        connection.execute("CREATE TABLE ballast AS SELECT repeat(md5(n::text), 30) FROM generate_series(1, 20000) n")
        assert found() == ["critical"]
        connection.execute("DROP TABLE ballast")
    assert found() == []


def test_a_database_that_is_away_and_a_monitor_that_is_not_there_are_since_when_and_why(installation: Settings) -> None:
    """And over at the next look that finds them."""
    gone = installation.model_copy(deep=True)
    gone.database.dsn = SecretStr(f"postgresql://nobody@127.0.0.1:{free_port()}/x")
    with pytest.raises(DatabaseUnavailableError):
        database_size(gone)
    used = gone
    look = Look("database", 1.0, lambda: database_size(used), SystemClock())
    look.once()
    first = look.trouble
    look.once()
    assert first is not None
    assert look.trouble is not None
    assert look.trouble.since == first.since
    used = installation
    look.once()
    assert look.trouble is None
    assert (look.found or 0) > 0
    monitor = Look("monitor", 1.0, lambda: newest_snapshot(f"http://127.0.0.1:{free_port()}"), SystemClock())
    monitor.once()
    assert monitor.trouble is not None
