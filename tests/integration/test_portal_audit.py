"""The audit log: what is kept, who reads it, that nobody changes it, and what becomes of pages without PostgreSQL."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from services.identity.audit import AuditFilter
from services.identity.people import Person, Role
from services.portal.web.audit import Audit
from services.portal.web.viewer import Viewer
from services.runtime.embedded.servers import Servers
from services.runtime.errors import ConflictError
from services.runtime.kafka.port import Admin
from tests.conditions import eventually
from tests.portal_site import PortalSite, open_portal
from tests.severable import Severable

pytestmark = pytest.mark.servers


def viewer(person: str) -> Viewer:
    """Return a viewer as pages have one."""
    return Viewer(
        language="zh",
        theme="auto",
        csrf="",
        path="/",
        address="192.0.2.5",
        person=Person(person, person, department="health"),
        session="",
    )


def test_nobody_changes_what_is_kept(portal: PortalSite) -> None:
    """Not even whoever has the database's own password, short of taking the guard away."""
    audit: Audit = portal.app.state.site.audit
    audit.record(viewer("li"), "grant.approve", "subscription/x", "同意")
    for attempt in ("UPDATE audit SET reason = ''", "DELETE FROM audit", "TRUNCATE audit"):
        with portal.pool.connection() as connection, pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            connection.execute(attempt)


def test_an_act_is_kept_before_it_is_done_and_then_how_it_ended(portal: PortalSite) -> None:
    """Whoever reads sees one line for each: how it ended, or that nobody knows."""
    audit: Audit = portal.app.state.site.audit
    with pytest.raises(ConflictError), audit.doing(viewer("li"), "grant.suspend", "subscription/y", "停", more=[1]):
        raise ConflictError("状态是 draft")
    with portal.pool.connection() as connection:
        kept = connection.execute(
            "SELECT outcome, detail FROM audit WHERE object = 'subscription/y' ORDER BY id"
        ).fetchall()
    assert kept == [("begun", {"more": [1]}), ("failed", {"more": [1], "error": "状态是 draft"})]
    with audit.doing(viewer("li"), "grant.suspend", "subscription/y"):
        pass
    with pytest.raises(ZeroDivisionError), audit.doing(viewer("li"), "grant.suspend", "subscription/y"):
        1 / 0  # noqa: B018
    shown = audit.repository.search(AuditFilter(object="subscription/y"), 10)
    assert [row["outcome"] for row in shown] == ["begun", "done", "failed"]


def test_looking_at_personal_data_is_kept_by_field(portal: PortalSite) -> None:
    """Where there is none, nothing is."""
    audit: Audit = portal.app.state.site.audit
    audit.viewed(viewer("li"), "event/1", ["data.holder", "data.id_number"])
    audit.viewed(viewer("li"), "event/2", [])
    with portal.pool.connection() as connection:
        kept = connection.execute("SELECT object, fields FROM audit WHERE action = 'view'").fetchall()
    assert kept == [("event/1", ["data.holder", "data.id_number"])]


def test_the_audit_administrator_finds_and_downloads(portal: PortalSite) -> None:
    """By person, action, object, outcome and day; page by page; and the file opens in a spreadsheet harmlessly."""
    audit: Audit = portal.app.state.site.audit
    for number in range(60):
        audit.record(viewer("wang"), "agency.pause", f"agency/{number}", "=1+1")
    audit.record(viewer("wang"), "agency_pause%", "agency/odd")
    portal.person("reader", Role.AUDIT)
    reader = portal.signed_in("reader")
    page = reader.get("/audit?person=wang&action=agency.").text
    assert page.count("agency.pause") == 50
    older = page.split('rel="next"')[0].rsplit('href="', 1)[1].split('"')[0].replace("&amp;", "&")
    assert reader.get(older).text.count('<td class="mono">agency.pause') == 10
    assert "agency_pause%" in reader.get("/audit?action=agency_pause%25").text
    assert "没有符合条件" in reader.get("/audit?action=agency%25").text
    assert "没有符合条件" in reader.get("/audit?until=2020-01-01").text
    assert reader.get("/audit?since=yesterday").status == 422
    answer = reader.get("/audit.csv?person=wang")
    rows = list(csv.DictReader(io.StringIO(answer.text.removeprefix("\ufeff"))))
    assert len(rows) == 61
    assert {row["reason"] for row in rows} == {"", "'=1+1"}
    assert "attachment" in answer.headers["Content-Disposition"]
    assert "audit.download" in reader.get("/audit?person=reader").text


def test_who_is_signed_in_reads_on_while_postgresql_is_away(
    servers: Servers,
    admin: Admin,
    template_database: str,
    registry_url: str,
    tmp_path: Path,
) -> None:
    """Each page says which server is away and since when; what needs it says so; nothing is done that can't be kept."""
    way = Severable(int(str(conninfo_to_dict(servers.dsn)["port"])))
    with open_portal(servers, admin, template_database, registry_url, tmp_path, database_port=way.port) as portal:
        portal.person("ops", Role.SECURITY)
        visitor = portal.signed_in("ops")
        assert "PostgreSQL 没有应答" not in visitor.get("/").text
        way.cut()
        eventually(lambda: "PostgreSQL 没有应答" in visitor.get("/").text, 15, "the banner")
        shown = visitor.get("/")
        assert shown.status == 200 and "<time" in shown.text.split("PostgreSQL 没有应答，自")[1][:40]
        people = visitor.get("/people")
        assert people.status == 503 and "没有应答" in people.text and "暂不可用" in people.text
        assert visitor.post("/people/ops/unlock", {"reason": "试"}).status == 503
        assert portal.visitor().get("/login").status == 200
        assert portal.visitor().sign_in("ops").status == 503
        way.mend()
        eventually(lambda: "PostgreSQL 没有应答" not in visitor.get("/").text, 15, "no banner")
        assert visitor.get("/people").status == 200
