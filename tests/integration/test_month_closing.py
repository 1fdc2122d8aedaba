"""Closing a month on a real PostgreSQL: what is frozen, what is refused, what becomes of late and corrected events."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import psycopg
import pytest

from schemas.codec import Codec
from schemas.contracts import load_contracts
from services.runtime.errors import ConflictError, InvalidError
from services.runtime.kafka.port import Kafka, Partition, Record
from services.runtime.positions import PartitionKey
from services.statistics.adjustments import adjustments
from services.statistics.announcing import Announcer
from services.statistics.closing import Closing, ClosingRefusedError, Signature, verify_digest
from services.statistics.definition import Metric
from services.statistics.export import ExportFormat, export
from services.statistics.figure import Month
from services.statistics.history import keep_aggregates, read_aggregates
from services.statistics.lineage import SAMPLE, explain
from services.statistics.loading import Group, Metrics, MetricsError
from services.statistics.store import in_schema
from tests.conftest import OwnTopics
from tests.fact_stores import ACCEPTED, CONSUMER, METRICS, SHAPES, WITHDRAWN, Day, OwnStore
from tests.fakes.schemas import MemorySchemas

pytestmark = pytest.mark.servers
SIGNED = Signature("张三", "按月关账")


@pytest.fixture
def store(database_dsn: str) -> Iterator[OwnStore]:
    """Return a store with a small December: two completions, one consultation, and a November case."""
    found = OwnStore(database_dsn)
    found.put(
        found.fact("a1", "2025-12-03T09:00:00", ACCEPTED, "A"),
        found.fact("a2", "2025-12-05T09:00:00", case="A"),
        found.fact("b2", "2025-12-06T09:00:00", case="B"),
        found.fact("n1", "2025-11-06T09:00:00", case="N"),
    )
    yield found
    found.store.close()


def closing(store: OwnStore, against: Sequence[str] = (), metrics: Metrics = METRICS) -> Closing:
    """Return closing with a log that has this against it."""

    def guard(_month: Month, _positions: Mapping[PartitionKey, int]) -> Sequence[str]:
        return against

    return Closing(store.dsn, CONSUMER, metrics, SHAPES, guard, Day())


def test_a_closed_month_keeps_its_figures_and_tells_what_is_known_now(store: OwnStore) -> None:
    """A late event, a correction and a withdrawal of a completion change nothing that was published, and are named."""
    outcome = closing(store).close("2025-12", SIGNED)
    assert len(outcome.digest) == 64
    store.put(
        store.fact("late", "2025-12-31T23:00:00", case="C"),
        store.fact("moved", "2025-11-30T12:00:00", case="B", follows="b2", recorded="2026-01-13T00:00:00"),
    )
    assert store.exact("items_handled", "2025-12") == 2
    assert store.exact("items_handled", "2025-12", department_code="D1") == 2
    assert store.exact("items_handled", "2025-12", now=True) == 2
    with store.reading() as reader:
        assert reader.figure("items_handled", "2025-12").basis == "closed"
        changed = {one.published.metric_id: one for one in adjustments(reader, "2025-12")}
        changes = {(c.change, c.event.event_id, c.late) for c in changed["items_handled"].changes}
        assert changes == {("added", "late", True), ("removed", "b2", False)}
        assert "hall_mailed" not in changed


def test_an_event_that_displaces_a_published_one_is_found(store: OwnStore) -> None:
    """A completion that happened earlier and came later takes the case out of the closed month."""
    closing(store).close("2025-12", SIGNED)
    store.put(store.fact("earlier", "2025-11-20T09:00:00", case="A"))
    with store.reading() as reader:
        (found,) = [one for one in adjustments(reader, "2025-12") if one.published.metric_id == "items_handled"]
    assert (found.published.exact, found.now_known.exact) == (2, 1)
    assert [(c.change, c.event.event_id) for c in found.changes] == [("removed", "a2")]


def test_what_stood_at_a_months_end_is_adjusted_too(store: OwnStore) -> None:
    """An item that expired late in the month and was told after the closing stands no more, as now known."""
    item = "cn.gov.sc.policy.item.published"
    said = {"division": "510000", "policy_no": "新“18条”第1项", "item_class": "award", "mode": "fast"}
    store.put(store.fact("p1", "2025-06-01T09:00:00", item, "I1", **said))
    closing(store).close("2025-12", SIGNED)
    store.put(store.fact("x1", "2025-12-20T00:00:00", "cn.gov.sc.policy.item.expired", "I1"))
    with store.reading() as reader:
        (found,) = [one for one in adjustments(reader, "2025-12") if one.published.metric_id == "policy_new18_items"]
    assert (found.published.exact, found.now_known.exact) == (1, 0)
    assert [(c.change, c.event.event_id) for c in found.changes] == [("removed", "p1")]


def test_restating_publishes_beside_what_was_published(store: OwnStore) -> None:
    """A second revision holds from then on; the first stays, and the change is an event."""
    closing(store).close("2025-12", SIGNED)
    with pytest.raises(ConflictError, match="不必更正"):
        closing(store).restate("2025-12", SIGNED)
    store.put(store.fact("late", "2025-12-31T23:00:00", case="C"))
    outcome = closing(store).restate("2025-12", Signature("李四", "迟到办件"))
    assert outcome.revision == 2
    assert "items_handled" in outcome.restated
    assert store.exact("items_handled", "2025-12") == 3
    with store.reading() as reader:
        kept = reader.frozen.value("items_handled", 202512, {}, revision=1)
        assert kept is not None
        assert kept.exact == 2
        assert reader.frozen.state(202512) == "restated"
        assert not adjustments(reader, "2025-12")


def test_closing_is_refused_and_says_why(store: OwnStore) -> None:
    """Lag, dead letters and a failing balance are listed; nothing is closed."""
    store.put(store.fact("w1", "2025-12-20T09:00:00", WITHDRAWN, "A"))
    with pytest.raises(ClosingRefusedError) as raised:
        closing(store, ["events.window.v1/3 还有 7 条记录未统计"]).close("2025-12", SIGNED)
    text = str(raised.value)
    assert "还有 7 条记录未统计" in text
    assert "平衡不成立 D1：期初 0 + 无受理 1 + 受理 1 − 撤回 1 − 办结 2 ≠ 期末 0" in text
    assert "A（D1 → D1，多次办结或撤回）" in text
    with store.reading() as reader:
        assert reader.frozen.state(202512) == "open"


def test_a_correction_that_meets_no_original_is_listed(store: OwnStore) -> None:
    """Published anew under another business key it corrects nothing: the original counts on, until it is withdrawn."""
    store.put(store.fact("b3", "2025-12-06T09:00:00", case="B2", follows="never-there"))
    with pytest.raises(ClosingRefusedError, match="更正 b3（B2）所指的原事件不在同一业务主键下"):
        closing(store).close("2025-12", SIGNED)


def test_an_override_is_kept_with_its_reason(store: OwnStore) -> None:
    """Who closed in spite of what, and why, stands beside the closing for the report to print."""
    signed = Signature("张三", "按月关账", "死信经核实与本月数字无关")
    closing(store, ["死信 router/3"]).close("2025-12", signed)
    with store.reading() as reader:
        decision = reader.frozen.decision(202512)
    assert decision is not None
    assert (decision.decided_by, decision.override) == ("张三", "死信经核实与本月数字无关")
    assert decision.refusals == ("死信 router/3",)


def test_a_decision_needs_a_name_a_reason_and_a_month_that_is_over(store: OwnStore) -> None:
    """And a month is closed once."""
    with pytest.raises(InvalidError, match="/by"):
        closing(store).close("2025-12", Signature(" ", "x"))
    with pytest.raises(ConflictError, match="还没有结束"):
        closing(store).close("2026-01", SIGNED)
    closing(store).make_provisional("2025-12", SIGNED)
    with store.reading() as reader:
        assert reader.frozen.state(202512) == "provisional"
    closing(store).close("2025-12", SIGNED)
    with pytest.raises(ConflictError, match="已经关账"):
        closing(store).close("2025-12", SIGNED)


def test_a_changed_definition_never_rewrites_a_closed_month(store: OwnStore) -> None:
    """Changing a version that counted a closed month is refused; another version leaves the month as it was."""
    closing(store).close("2025-12", SIGNED)
    first = METRICS.of("items_handled", "2025-12")
    changed = first.model_copy(update={"population": 'data.handling == "window"'})
    with pytest.raises(MetricsError, match="items_handled: 第 1 版已用于关账月份"), store.reading(only(changed)):
        pass
    second = changed.model_copy(update={"version": 2, "valid_from": "2025-01"})
    with store.reading(only(first, second)) as reader:
        assert reader.figure("items_handled", "2025-12").exact == 2
        assert reader.figure("items_handled", "2025-12", now=True).version == 1
        assert reader.figure("items_handled", "2025-11").version == 2


def only(*versions: Metric) -> Metrics:
    """Return definitions of one metric."""
    return Metrics({versions[0].id: versions}, [Group("own", "自定", "our own", (versions[0].id,))])


def test_counting_again_gives_the_digest(store: OwnStore) -> None:
    """The digest follows from figures, definitions and events; another event gives another."""
    outcome = closing(store).close("2025-12", SIGNED)
    with store.reading() as reader:
        definitions = reader.frozen.definitions(202512)
        assert verify_digest(reader, Month(2025, 12), definitions) == outcome.digest
    store.put(store.fact("late", "2025-12-31T23:00:00", case="C"))
    with store.reading() as reader:
        assert verify_digest(reader, Month(2025, 12), definitions) != outcome.digest


def test_a_figure_is_explained_down_to_its_events(store: OwnStore) -> None:
    """Definition, exact value, digest and ids; the digest is of these ids and of no others."""
    with store.reading() as reader:
        found = explain(reader, "items_handled", "2025-12")
        everything = explain(reader, "items_handled", "2025-12", all_ids=True)
        other = explain(reader, "items_handled", "2025-11")
    assert (found.figure.exact, found.definition["version"]) == (2, 1)
    assert [one.event_id for one in found.sample] == ["a2", "b2"]
    assert found.sample[0].log == "events.window.v1/0@1"
    assert [one.event_id for one in everything.sample] == ["a2", "b2"]
    assert found.digest == everything.digest != other.digest


def test_imported_history_is_marked_and_compared_with(store: OwnStore, tmp_path: Path) -> None:
    """A month with only a published aggregate has that figure, and what is computed from it follows."""
    file = tmp_path / "history.csv"
    file.write_text(
        "metric_id,month,exact,source\nitems_handled,2024-12,60000,月报 2024 年第 12 期\n", encoding="utf-8"
    )
    assert keep_aggregates(store.dsn, read_aggregates(file, METRICS), "张三") == 1
    with store.reading() as reader:
        series = reader.series("items_handled", "2025-12", 13)
    assert (series[0].exact, series[0].basis) == (60_000, "published")
    assert (series[-1].exact, series[-1].basis) == (2, "log")
    file.write_text("metric_id,month,exact,source\nnothing,2024-13,many,\n", encoding="utf-8")
    with pytest.raises(InvalidError) as raised:
        read_aggregates(file, METRICS)
    assert len(raised.value.problems) == 4


def test_closed_figures_go_out_as_csv_json_and_sdmx(store: OwnStore) -> None:
    """Each form holds every frozen figure with its meaning; an open month has none."""
    with store.reading() as reader, pytest.raises(ConflictError, match="尚未关账"):
        export(reader, "2025-12", ExportFormat.csv)
    outcome = closing(store).close("2025-12", SIGNED)
    with store.reading() as reader:
        table = list(csv.reader(io.StringIO(export(reader, "2025-12", ExportFormat.csv).lstrip("\ufeff"))))
        sdmx = list(csv.DictReader(io.StringIO(export(reader, "2025-12", ExportFormat.sdmx))))
        document = json.loads(export(reader, "2025-12", ExportFormat.json))
    assert len(table) - 1 == len(sdmx) == len(document["figures"]) == outcome.figures
    (handled,) = [row for row in sdmx if row["INDICATOR"] == "items_handled" and row["BREAKDOWN"] == "_T"]
    assert (handled["STRUCTURE"], handled["TIME_PERIOD"], handled["OBS_VALUE"]) == ("dataflow", "2025-12", "2")
    assert (document["digest"], document["decided_by"]) == (outcome.digest, "张三")
    assert {one["id"] for one in document["definitions"]} >= {"items_handled", "project_funds"}


def test_a_closing_is_published_as_an_event(store: OwnStore, kafka: Kafka, topics: OwnTopics) -> None:
    """The month's figures, and after a restatement each changed one, go onto the log once, with a stable id."""
    topics.ensure(topics.event_spec("statistics"))
    codec = Codec(MemorySchemas())
    announcer = Announcer(kafka, topics, load_contracts(), codec, store.dsn)
    closing(store).close("2025-12", SIGNED)
    assert (announcer.announce(), announcer.announce()) == (1, 0)
    store.put(store.fact("late", "2025-12-31T23:00:00", case="C"))
    outcome = closing(store).restate("2025-12", SIGNED)
    assert announcer.announce() == len(outcome.restated)
    with psycopg.connect(store.dsn) as connection:
        assert connection.execute("SELECT count(*) FROM statistics_outbox").fetchone() == (0,)
    reader = kafka.consumer(None)
    partitions = [Partition(topics.events("statistics"), number) for number in range(12)]
    reader.assign(partitions)
    found: dict[str, Record] = {}
    while len(found) < 1 + len(outcome.restated):
        for records in reader.poll(5, 50).values():
            found.update({dict(record.headers)["ce_id"].decode(): record for record in records})
    reader.close()
    closed = codec.decode(found["closed-2025-12"].value).data
    assert closed["closed_by"] == "张三"
    assert {one["metric_id"]: one["exact"] for one in closed["figures"]}["items_handled"] == "2"
    restated = codec.decode(found["restated-2025-12-2-items_handled"].value).data
    assert (restated["exact_before"], restated["exact_after"]) == ("2", "3")


def test_the_first_events_are_named_whatever_cells_they_lie_in(store: OwnStore) -> None:
    """Departments whose cases end at the same moment, and marked events: the sample is the beginning of the whole."""
    moments = ("2025-12-02T09:00:00", "2025-12-02T09:00:00", "2025-12-04T09:00:00", "2025-12-04T09:00:00")
    store.put(
        *(
            store.fact(f"m{n}", moments[n % 4], department_code=f"D{n % 7}", quality=["offset_assumed"] * (n % 3 == 0))
            for n in range(40)
        )
    )
    with store.reading() as reader:
        found = explain(reader, "items_handled", "2025-12")
        everything = explain(reader, "items_handled", "2025-12", all_ids=True)
    assert found.sample == everything.sample[:SAMPLE]
    assert (found.marked, everything.marked) == (14, 14)
    assert len(everything.sample) == 42


def test_the_digest_is_made_of_the_cells_digests_in_order(store: OwnStore) -> None:
    """By rows in this process as by the database: months closed before have the digest that they were closed with."""
    year = METRICS.of("items_handled", "2025-12").model_copy(update={"period": "year_to_date"})
    with store.reading(only(year)) as reader:
        found = explain(reader, "items_handled", "2025-12").digest
    with psycopg.connect(in_schema(store.dsn)) as connection:
        rows = connection.execute(
            "SELECT month, cell, cases_digest FROM month_cell JOIN cell ON cell.id = cell WHERE cell.type = %s",
            (year.types[0],),
        ).fetchall()
    said = b"".join(f"{at} {cell} ".encode() + bytes(digest) for at, cell, digest in sorted(rows))
    assert len(rows) == 2
    assert found == hashlib.sha256(said).hexdigest()


def test_two_dimensions_at_once_are_frozen_too(store: OwnStore) -> None:
    """By department and division as published, in either order, and for rates; what comes late is as now known."""
    store.put(store.fact("s1", "2025-12-07T09:00:00", case="S", department_code="D2", division="510100"))
    outcome = closing(store).close("2025-12", SIGNED)
    store.put(store.fact("late", "2025-12-31T23:00:00", case="C", department_code="D2", division="510100"))
    both = {"department_code": "D2", "division": "510100"}
    turned = dict(reversed(both.items()))
    with store.reading() as reader:
        for where in (both, turned):
            figure = reader.figure("dept_completed", "2025-12", where)
            assert (figure.exact, figure.basis) == (1, "closed")
            assert reader.figure("dept_completed", "2025-12", where, now=True).exact == 2
        assert reader.figure("dept_online_share", "2025-12", both).exact == 1
        assert reader.figure("dept_completed", "2025-12", {**both, "division": "510300"}).exact == 0
        assert reader.figure("dept_mean_days", "2025-12", {**both, "division": "510300"}).exact is None
        listed = reader.breakdown("dept_completed", "2025-12", "division", where={"department_code": "D2"})
        assert [(one.dimensions["division"], one.exact, one.basis) for one in listed] == [("510100", 1, "closed")]
        restored = reader.frozen.definitions(202512)
        assert verify_digest(reader, Month(2025, 12), restored) != outcome.digest


def test_a_figure_of_one_department_is_explained_by_its_own_events(store: OwnStore) -> None:
    """By a dimension or two, also one that is a detail: the events named and the digest are of that part alone."""
    store.put(
        store.fact("s1", "2025-12-07T09:00:00", case="S", department_code="D2", division="510100", task_code="T1"),
        store.fact("s2", "2025-12-08T09:00:00", case="R", department_code="D2", division="510300", task_code="T2"),
    )
    parts: dict[str, dict[str, str]] = {
        "s1,s2": {"department_code": "D2"},
        "s1": {"department_code": "D2", "division": "510100"},
        "s2": {"department_code": "D2", "task_code": "T2"},
        "a2,b2,s1,s2": {},
    }
    with store.reading() as reader:
        found = {name: explain(reader, "dept_completed", "2025-12", where=where) for name, where in parts.items()}
        share = explain(reader, "dept_online_share", "2025-12", where={"department_code": "D2"})
    for name, one in found.items():
        assert ",".join(event.event_id for event in one.sample) == name
        assert one.figure.exact == one.figure.count == len(one.sample)
    assert len({one.digest for one in found.values()}) == len(parts)
    assert [[event.event_id for event in part.sample] for part in share.parts] == [["s1", "s2"], ["s1", "s2"]]
