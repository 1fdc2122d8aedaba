"""Pages from templates: with the viewer's language, the navigation, what is away, and a note from the step before."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path

import jinja2
from fastapi import Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2.runtime import Context
from markupsafe import Markup

from schemas.times import SHANGHAI
from services.portal.web import cookies
from services.portal.web.cookies import Cookies
from services.portal.web.navigation import entries
from services.portal.web.outages import Outages
from services.portal.web.plain_words import in_language, label_in, type_name
from services.portal.web.sessions import Sessions
from services.portal.web.viewer import ROLE_NAMES, Viewer, Visitor
from services.portal.web.wording import Language, Text, english, say
from services.runtime.clock import Clock

FOLDER = Path(__file__).parent
NOTE_S = 60


class Statics:
    """The files that pages load: read once, each with a name that changes with its content."""

    def __init__(self, folder: Path) -> None:
        self.files = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}
        self.versions = {name: hashlib.sha256(content).hexdigest()[:12] for name, content in self.files.items()}

    def address(self, name: str) -> str:
        """Return the address of a file as it is now."""
        return f"/static/{name}?v={self.versions[name]}"


class Pages:
    """Renders pages and parts of pages, and sends people on."""

    def __init__(
        self,
        language: Language,
        statics: Statics,
        sessions: Sessions,
        outages: Outages,
        cookies: Cookies,
        clock: Clock,
    ) -> None:
        self.language = language
        self.clock = clock
        self.existing: Collection[str] = ()
        """Paths that the application has; the navigation shows no others."""
        self.alerts_open: Callable[[Viewer], object] = lambda _: None
        """How many alerts are open that concern somebody; the navigation shows it."""
        self._sessions = sessions
        self._outages = outages
        self._cookies = cookies
        self._environment = _environment(statics, clock)

    def page(self, viewer: Visitor, template: str, status: int = 200, **values: object) -> HTMLResponse:
        """Return a whole page."""
        shared = {
            "navigation": entries(viewer, self.existing) if isinstance(viewer, Viewer) else [],
            "alerts_open": self.alerts_open(viewer) if isinstance(viewer, Viewer) else None,
            "away": self._outages.away(),
            "note": self._note(viewer),
        }
        answer = HTMLResponse(self.part(viewer, template, **shared, **values), status)
        if viewer.note is not None:
            answer.delete_cookie(cookies.NOTE, path="/")
        if viewer.person is None:
            self._cookies.keep(answer, self._cookies.form, viewer.csrf)
        return answer

    def part(self, viewer: Visitor, template: str, **values: object) -> str:
        """Return a fragment of a page, as SSE sends it."""
        shared = {"viewer": viewer, "language": viewer.language, "now": self.clock.now(), "role_names": ROLE_NAMES}
        return self._environment.get_template(template).render(**shared, **values)

    def to(self, path: str, note: Text | None = None, **values: object) -> RedirectResponse:
        """Send somebody on after a form was taken; the next page shows the note once."""
        answer = RedirectResponse(path, 303)
        if note is not None:
            value = cookies.note_cookie(note, values)
            self._cookies.keep(answer, cookies.NOTE, value, NOTE_S)
        return answer

    def say(self, viewer: Visitor, text: Text, **values: object) -> str:
        """Return a text in the viewer's language."""
        return say(viewer.language, text, **values)

    def still(self, viewer: Viewer) -> bool:
        """Tell whether somebody is still signed in; a stream of live numbers asks now and then."""
        return self._sessions.still(viewer.session)

    @staticmethod
    def _note(viewer: Visitor) -> str | None:
        """Return the note of the step before, in the viewer's language; only texts of ours are shown."""
        if viewer.note is None or viewer.note.get("text") not in english():
            return None
        try:
            return say(viewer.language, viewer.note["text"], **viewer.note["values"])
        except (KeyError, IndexError, TypeError):
            return None


def drop(answer: Response, *names: str) -> Response:
    """Remove cookies with an answer."""
    for name in names:
        answer.delete_cookie(name, path="/")
    return answer


def _environment(statics: Statics, clock: Clock) -> jinja2.Environment:
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    made.globals |= {"_": _said, "static": statics.address}
    filters: Mapping[str, Callable[..., object]] = {
        "moment": moment,
        "instant": instant,
        "clock": lambda at: f"{at.astimezone(SHANGHAI):%H:%M}",
        "age": _age,
        "since": _since_of(clock),
        "count": count,
        "ms": ms,
        "half": _half,
        "type_name": _type_name,
        "labelled": _labelled,
    }
    made.filters |= filters
    return made


@jinja2.pass_context
def _said(context: Context, text: str, **values: object) -> Markup:
    language: Language = context["language"]
    said = {name: say(language, value) if isinstance(value, Text) else value for name, value in values.items()}
    return say(language, text, **said)


def moment(value: datetime | str | None) -> Markup:
    """Return a time for people (Shanghai, to the second) that machines can read too."""
    if value is None or value == "":
        return Markup("—")
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    shown = at.astimezone(SHANGHAI)
    return Markup('<time datetime="{}">{}</time>').format(shown.isoformat(), f"{shown:%Y-%m-%d %H:%M:%S}")


def instant(at: datetime) -> Markup:
    """Return a time for people to the millisecond."""
    shown = at.astimezone(SHANGHAI)
    text = f"{shown:%Y-%m-%d %H:%M:%S}.{shown.microsecond // 1000:03}"
    return Markup('<time datetime="{}">{}</time>').format(shown.isoformat(), text)


_UNITS = ((86400, Text("{n} 天")), (3600, Text("{n} 小时")), (60, Text("{n} 分钟")))
_SECONDS = Text("{n} 秒")


def age(language: Language, seconds: float | None) -> str:
    """Return a duration in its one or two largest units; a dash for none."""
    if seconds is None:
        return "—"
    left = max(seconds, 0.0)
    if left < 10:
        return say(language, _SECONDS, n=f"{left:.1f}".removesuffix(".0"))
    whole = int(left)
    for number, (size, unit) in enumerate(_UNITS):
        if whole >= size:
            many, rest = divmod(whole, size)
            below, smaller = _UNITS[number + 1] if number + 1 < len(_UNITS) else (1, _SECONDS)
            first = say(language, unit, n=many)
            return f"{first} {say(language, smaller, n=rest // below)}" if rest // below else first
    return say(language, _SECONDS, n=whole)


@jinja2.pass_context
def _age(context: Context, seconds: float | None) -> str:
    return age(context["language"], seconds)


@jinja2.pass_context
def _half(context: Context, text: str) -> str:
    return in_language(context["language"], text)


@jinja2.pass_context
def _type_name(context: Context, kind: str | None) -> str:
    return type_name(kind, context["language"])


@jinja2.pass_context
def _labelled(context: Context, label: str) -> str:
    return label_in(context["language"], label)


def _since_of(clock: Clock) -> Callable[..., str]:
    @jinja2.pass_context
    def since(context: Context, at: datetime | None) -> str:
        return age(context["language"], None if at is None else (clock.now() - at).total_seconds())

    return since


def count(value: float | None) -> str:
    """Return a number with its thousands parted; a dash for none."""
    return "—" if value is None else f"{value:,}"


def ms(seconds: float | None) -> str:
    """Return a duration in milliseconds, from a second on in seconds."""
    if seconds is None:
        return "—"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.2f} s"
