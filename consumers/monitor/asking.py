"""Asks the monitor for its newest snapshot; where none answers, one look is taken from Kafka."""

from __future__ import annotations

import http.client
import threading
import urllib.error
from dataclasses import replace
from datetime import datetime

import orjson

from consumers.monitor.meter import LagMeter, known, suspended
from schemas.contracts import load_contracts
from schemas.times import shown_time
from schemas.topics import Topics
from services.delivery.lag import SNAPSHOT_PATH, ProbeLag, Snapshot, State
from services.runtime.clock import SystemClock
from services.runtime.direct import open_direct
from services.runtime.errors import UnavailableError
from services.runtime.kafka.client import connect
from services.runtime.settings import Settings
from services.subscriptions.follower import ControlFollower

ANSWER_S = 5.0
STALE_PERIODS = 10
"""A snapshot that is so many periods old, with nothing said of Kafka, is of a monitor that hangs."""


class MonitorAwayError(UnavailableError):
    """监视进程没有应答 (the monitor does not answer)"""


def ask(settings: Settings) -> Snapshot:
    """Return the monitor's newest snapshot; raises MonitorAwayError that says why there is none."""
    url = settings.monitor.url + SNAPSHOT_PATH
    try:
        with open_direct(url, ANSWER_S) as answer:
            found = Snapshot.from_json(orjson.loads(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            raise MonitorAwayError(f"监视进程答复 {error.code} (the monitor answered): {_detail(error)}") from error
    except (OSError, http.client.HTTPException) as error:
        raise MonitorAwayError(f"监视进程没有应答 (the monitor does not answer): {url}: {error}") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise MonitorAwayError(f"{url} 的答复不是延迟快照 (no snapshot there): {error!r}") from error
    age_s = (SystemClock().now() - datetime.fromisoformat(found.at)).total_seconds()
    if found.away_since is None and age_s > max(ANSWER_S, STALE_PERIODS * settings.monitor.period_s):
        since = shown_time(found.at)
        raise MonitorAwayError(f"监视进程自 {since} 起没有新的测量 (the monitor has measured nothing since)")
    return found


def measure_once(settings: Settings, why: str) -> Snapshot:
    """Measure everyone's lag now, from Kafka alone; raises KafkaUnavailableError.

    One look tells no state, and nothing of the probe: these are unknown. ``why`` the monitor gave none is kept there.
    """
    kafka, topics = connect(settings.kafka), Topics(settings.kafka.topic_prefix)
    stop = threading.Event()
    follower = ControlFollower(kafka, [topics.control_subscriptions], "lag")
    meter = LagMeter(kafka, topics, load_contracts(), SystemClock(), settings.monitor.objective_s)
    try:
        follower.start(stop)
        return untold(meter.measure(known(follower), held=suspended(follower.view)), why)
    finally:
        stop.set()
        meter.close()


def untold(found: Snapshot, why: str) -> Snapshot:
    """Return one look's figures with the states that it can't tell unknown; what stands in Kafka itself is known."""
    return replace(
        found,
        agencies=[replace(one, state=_told(one.state)) for one in found.agencies],
        groups=[replace(one, state=_told(one.state)) for one in found.groups],
        probe=ProbeLag("unknown", found.at, why),
    )


def _told(state: State) -> State:
    return state if state in {"held", "parked"} else "unknown"


def _detail(error: urllib.error.HTTPError) -> str:
    try:
        return str(orjson.loads(error.read()).get("detail", ""))
    except (ValueError, AttributeError):
        return ""
