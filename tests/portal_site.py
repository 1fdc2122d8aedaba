"""The portal's pages in tests: the whole application on real servers, people of every role, and a browser.

``portal`` is one installation for a whole module; ``browser`` is Debian's Chromium, in which nothing but loopback is
reachable, a page that breaks its own content security policy fails the test, and so does a script's error.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import re
import secrets
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.cookies import SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from fastapi import FastAPI
from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright
from psycopg.conninfo import conninfo_to_dict
from psycopg_pool import ConnectionPool
from pydantic import SecretStr

from schemas.contracts import load_contracts
from services.identity.people import Person, PersonRepository, Role, new_person_key
from services.identity.sign_ins import SignInRepository
from services.portal.process import compose
from services.portal.web.passwords import Passwords
from services.runtime.database import open_pool
from services.runtime.embedded.servers import Servers
from services.runtime.kafka.port import Admin
from services.runtime.settings import DeliverySettings, KafkaSettings, OidcSettings, SecuritySettings, Settings
from tests.conftest import OwnTopics, dsn_of, execute
from tests.required import missing
from tests.webservers import serving_asgi

PASSWORD = "夜来风雨声 twelve geese"
ADMIN_KEY = "test-administration-key"
_CSRF = re.compile(r'name="csrf" value="([^"]+)"')
SIZES = {"wide": (1280, 800), "phone": (375, 812)}


class ShiftedClock:
    """The machine's clock, set ahead by as much as a test likes."""

    def __init__(self) -> None:
        self.ahead = timedelta()

    def now(self) -> datetime:
        """Return the wall time."""
        return datetime.now(UTC) + self.ahead

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        return datetime.now(UTC).timestamp() + self.ahead.total_seconds()


@dataclass
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    text: str

    @property
    def location(self) -> str:
        """Return where it sends the browser, as a path."""
        return self.headers.get("Location", "")

    def cookie(self, name: str) -> str:
        """Return the whole line that sets a cookie."""
        return next((one for one in self.headers.get_all("Set-Cookie", ()) if one.startswith(f"{name}=")), "")


@dataclass
class Visitor:
    """Somebody with cookies and no scripts; ``csrf`` is the token of the last page that had a form."""

    url: str
    address: str = "192.0.2.1"
    cookies: dict[str, str] = field(default_factory=dict)
    csrf: str = ""

    def get(self, path: str, **headers: str) -> Answer:
        """Load a page."""
        return self.ask("GET", path, None, headers)

    def post(self, path: str, fields: dict[str, str | list[str]] | None = None, **headers: str) -> Answer:
        """Send a form, with the token of the last page unless the fields bring another."""
        body = urlencode({"csrf": self.csrf} | (fields or {}), doseq=True)
        return self.ask("POST", path, body, {"Content-Type": "application/x-www-form-urlencoded"} | headers)

    def ask(self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None) -> Answer:
        """Send one request and keep the cookies; an endless answer is read no further than its head."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        sent = {"Cookie": cookies, "X-Forwarded-For": self.address, "User-Agent": "test"} | (headers or {})
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            endless = answer.headers.get("Content-Type", "").startswith("text/event-stream")
            text = "" if endless else answer.read().decode(errors="replace")
        finally:
            connection.close()
        for line in answer.headers.get_all("Set-Cookie", ()):
            for name, morsel in SimpleCookie(line).items():
                self.cookies[name] = morsel.value
                if morsel["max-age"] == "0":
                    del self.cookies[name]
        if found := _CSRF.search(text):
            self.csrf = found[1]
        return Answer(answer.status, answer.headers, text)

    def live(self, path: str) -> str:
        """Open a live part of a page and return what it shows first."""
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=30)
        cookies = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        try:
            connection.request("GET", path, headers={"Cookie": cookies, "X-Forwarded-For": self.address})
            answer, shown = connection.getresponse(), ""
            while (line := answer.readline().decode()) and (line.strip() or not shown):
                shown += line if line.startswith("data:") else ""
        finally:
            connection.close()
        return shown

    def sign_in(self, account: str, password: str = PASSWORD, to: str = "/") -> Answer:
        """Fill in the sign-in form."""
        self.get("/login")
        answer = self.post("/login", {"account": account, "password": password, "next": to})
        if answer.status == 303 and answer.location.startswith("/") and not answer.location.startswith("/login"):
            self.get("/account")  # brings the session's own token
        return answer


@dataclass
class PortalSite:
    """A running portal, its people and its clock."""

    app: FastAPI
    url: str
    settings: Settings
    pool: ConnectionPool
    clock: ShiftedClock

    def person(self, person: str, *roles: Role, password: str = PASSWORD, **more: Any) -> Person:
        """Add somebody who can sign in; once is enough."""
        people, sign_ins = PersonRepository(self.pool), SignInRepository(self.pool)
        made = Person(person, more.pop("name", f"{person} 某"), roles=[role.value for role in roles], **more)
        if people.get(person) is None:
            people.add(made, new_person_key())
            sign_ins.set_password(person, Passwords().hash(password))
        return made

    def everyone(self) -> dict[str, str]:
        """Add one person of each kind; return the accounts by kind."""
        self.units()
        for role in Role:
            self.person(f"a-{role.value}", role)
        self.person("a-agency", agency="market")
        self.person("a-department", department="health")
        return {kind: f"a-{kind}" for kind in (*(role.value for role in Role), "agency", "department")}

    def units(self) -> None:
        """Add an agency and a department by the administration API; once is enough."""
        agency = {"id": "market", "name": "省市场监管局", "division": "510000", "sink": "http://127.0.0.1:9/hook"}
        types = ["cn.gov.sc.health.medical-ad-certificate.issued"]
        department = {"id": "health", "name": "省卫生健康委", "source": "urn:h", "types": types}
        for path, body in (("/v1/agencies", agency), ("/v1/departments", department)):
            assert self.api("POST", path, body).status in {201, 409}

    def api(self, method: str, path: str, body: object | None = None, key: str = ADMIN_KEY) -> Answer:
        """Call the administration API."""
        headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        return self.visitor().ask(method, path, None if body is None else json.dumps(body), headers)

    def visitor(self, address: str | None = None) -> Visitor:
        """Return somebody new, at an address that failures of others don't count for."""
        return Visitor(self.url, address or f"198.51.100.{secrets.randbelow(250)}-{secrets.token_hex(3)}")

    def signed_in(self, account: str, password: str = PASSWORD) -> Visitor:
        """Return somebody who has signed in."""
        visitor = self.visitor()
        answer = visitor.sign_in(account, password)
        assert answer.status == 303, answer.text
        return visitor


@contextmanager
def open_portal(
    servers: Servers,
    admin: Admin,
    template: str,
    registry_url: str,
    folder: Path,
    *,
    monitor_url: str = "http://127.0.0.1:9",
    database_port: int | None = None,
    oidc: OidcSettings | None = None,
    **portal: object,
) -> Iterator[PortalSite]:
    """Serve a whole portal on a database and topics of its own; ``portal`` are settings of that name.

    With ``database_port`` the portal itself reaches PostgreSQL by that port.
    """
    name, topics, clock = f"test_{secrets.token_hex(4)}", OwnTopics(admin), ShiftedClock()
    execute(servers.dsn, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
    topics.ensure_base(*load_contracts().domains())
    settings = Settings(data_dir=folder)
    settings.kafka = KafkaSettings(bootstrap_servers=servers.bootstrap_servers, topic_prefix=topics.prefix)
    dsn = dsn_of(servers, name)
    settings.database = settings.database.model_copy(update={"dsn": SecretStr(dsn)})
    settings.registry.url = registry_url
    settings.monitor = settings.monitor.model_copy(update={"url": monitor_url, "probe_every_s": 0.0})
    settings.delivery = DeliverySettings(allowed_networks=["127.0.0.0/8"], require_verification=False)
    settings.security = SecuritySettings(
        master_key=SecretStr(base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()),
        admin_key=SecretStr(ADMIN_KEY),
    )
    settings.portal = settings.portal.model_copy(update=portal)
    settings.oidc = oidc or settings.oidc
    stop = threading.Event()
    own = open_pool(settings.database)
    if database_port is not None:
        through = dsn.replace(f":{conninfo_to_dict(dsn)['port']}/", f":{database_port}/")
        settings.database = settings.database.model_copy(update={"dsn": SecretStr(through)})
    app, pool = compose(settings, clock, stop)
    with own, serving_asgi(app) as url:
        yield PortalSite(app, url.rstrip("/"), settings, own, clock)
        stop.set()
    pool.close()
    topics.remove()
    execute(servers.dsn, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def portal(
    servers: Servers,
    admin: Admin,
    template_database: str,
    registry_url: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[PortalSite]:
    """Return one portal for a whole module."""
    with open_portal(servers, admin, template_database, registry_url, tmp_path_factory.mktemp("portal")) as found:
        yield found


@dataclass
class Tabs:
    """A browser's tabs, and what went wrong in them."""

    chromium: Browser
    wrong: list[str] = field(default_factory=list)

    @contextmanager
    def page(self, url: str, size: str = "wide", theme: str = "light", **options: Any) -> Iterator[Page]:
        """Open a tab with cookies of its own; what its pages' consoles complain of fails the test at the end."""
        width, height = SIZES[size]
        context = self.chromium.new_context(
            base_url=url,
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            locale="zh-CN",
            **options,
        )
        context.set_default_timeout(15_000)
        page = context.new_page()
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        try:
            yield page
        finally:
            context.close()
        found, self.wrong = self.wrong, []
        assert found == []

    def _said(self, message: ConsoleMessage) -> None:
        """Note complaints; that a page was refused (401, 403 …) is told by the test itself."""
        if message.type == "error" and "the server responded with a status of" not in message.text:
            self.wrong.append(message.text)


@pytest.fixture(scope="module")
def browser() -> Iterator[Tabs]:
    """Return Debian's Chromium; where there is none, what needs one is skipped."""
    reason = missing("chromium", ("chromium",), "chromium fonts-noto-cjk")
    if reason is not None:
        pytest.skip(reason)
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1"],
        )
        yield Tabs(chromium)
        chromium.close()


def sign_in(page: Page, account: str, password: str = PASSWORD) -> None:
    """Fill in the sign-in form in a browser."""
    page.goto("/login")
    page.get_by_label("账号").or_(page.get_by_label("Account")).fill(account)
    page.get_by_label("密码").or_(page.get_by_label("Password")).fill(password)
    page.get_by_role("main").locator("form[action='/login'] button").click()
    page.wait_for_url(lambda url: "/login" not in url)


def assert_accessible(page: Page) -> None:
    """Fail with what axe finds wrong by WCAG 2.2 A and AA and by its best practices."""
    results = Axe().run(page)
    found = [
        f"{one['id']}: {one['help']} {[node['target'] for node in one['nodes']][:3]}"
        for one in results.response["violations"]
    ]
    assert found == [], page.url


def assert_fits(page: Page) -> None:
    """Fail where a page is wider than the screen."""
    width = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert width <= 0, f"{page.url} is {width} px too wide"


def shoot(page: Page, name: str) -> None:
    """Keep a screenshot where ``HONGYAN_SHOTS`` names a folder."""
    folder = os.environ.get("HONGYAN_SHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def looks() -> Sequence[tuple[str, str, str]]:
    """Return every language, theme and width that a page is looked at in: the four corners that differ."""
    if os.environ.get("HONGYAN_SHOTS"):
        return [(lang, theme, size) for lang in ("zh", "en") for theme in ("light", "dark") for size in SIZES]
    return [("zh", "light", "wide"), ("en", "dark", "phone")]
