"""``hongyan import``: files of events into Kafka."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from producers.client import Publisher
from producers.files.conflicts import conflicts
from producers.files.importing import Importer, Span, Tally, draft_of, type_in_name
from producers.files.reading import count_rows
from schemas.contracts import EventContract, load_contracts
from schemas.topics import Topics
from services.runtime.errors import HongyanError, InvalidError
from services.runtime.kafka.client import connect
from services.runtime.kafka.port import Partition
from services.runtime.settings import Settings, settings_for_cli

REJECTED = 3
AGAIN = "已写入的不会重复，可直接重新导入 (simply run it again)"
MEND_FIRST = "先改好文件再整个重新导入，已写入的不会重复 (mend the file, then import all of it again)"
CONFLICT = (
    "同一业务主键与时间已有另一内容，先到的有效，这些行没有生效；用 hongyan deadletter list --stage router 查看 "
    "(accepted before with other content; the first one stands)"
)
CONFLICTS_UNKNOWN = (
    "路由还没有处理完，冲突未知；稍后用 hongyan deadletter list --stage router 查看 (not routed yet; look later)"
)


def import_file(
    files: Annotated[
        list[Path], typer.Argument(help="CSV（UTF-8 或 GB18030）或 XLSX 文件 (files)", exists=True, dir_okay=False)
    ],
    type: Annotated[  # noqa: A002
        str | None,
        typer.Option(help="事件类型，例 cn.gov.sc.window.case.accepted；不给则取文件名的开头 (event type)"),
    ] = None,
    source: Annotated[str, typer.Option(help="CloudEvents source")] = "urn:sc:file-import",
    rejects: Annotated[
        Path | None, typer.Option(help="拒收行写到哪里，只用于一个文件 (rejects file)，默认 FILE.rejects.csv")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="每个文件输出一行 JSON (one JSON line a file)")] = False,
) -> None:
    """导入文件：列名为字段名或其中文标签；重复导入不会重复计数 (import files; running it again adds nothing)."""
    if rejects is not None and len(files) > 1:
        raise typer.BadParameter("--rejects 只用于一个文件 (for one file only)")
    wanted = [
        _Import(file, rejects or file.with_name(file.name + ".rejects.csv"), _contract(file, type)) for file in files
    ]
    _refuse_overwriting(wanted)
    settings, began_ms = settings_for_cli(), int(time.time() * 1000)
    try:
        try:
            with Publisher(settings, source, bulk=True) as publisher:
                for one in wanted:
                    one.run(publisher, quiet=as_json)
            _count_conflicts(settings, source, wanted, began_ms)
        finally:
            if as_json:
                for one in wanted:
                    one.tell_json()
    except InvalidError as error:
        typer.secho(f"{error}\n{MEND_FIRST}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    except HongyanError as error:
        typer.secho(f"{error}\n{AGAIN}", fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error
    if any(one.tally.rejected or one.conflicts for one in wanted):
        raise typer.Exit(REJECTED)


@dataclass(slots=True)
class _Import:
    """One file to import, and what came of it."""

    file: Path
    rejects: Path
    contract: EventContract
    tally: Tally = field(default_factory=Tally)
    seconds: float | None = None
    placed: Mapping[Partition, Span] = field(default_factory=dict)
    conflicts: int | None = None

    def run(self, publisher: Publisher, *, quiet: bool) -> None:
        """Import the file, and say in words what came of it; raises InvalidError or UnavailableError."""
        began = time.monotonic()
        importer = Importer(publisher, self.contract)
        with _progress(quiet) as progress:
            task = progress.add_task(self.file.name, total=count_rows(self.file), rate="")

            def show(tally: Tally) -> None:
                rate = tally.rows / max(0.001, time.monotonic() - began)
                progress.update(task, completed=tally.rows, rate=f"{rate:,.0f} 行/秒")

            self.tally = importer.run(self.file, self.rejects, show)
        self.placed, self.seconds = importer.placed, time.monotonic() - began
        if not quiet:
            self._tell()

    def _tell(self) -> None:
        tally = self.tally
        accepted = f"接收 {tally.accepted}，其中有质量标记 {tally.marked}"
        typer.echo(f"{self.file.name}: {tally.rows} 行：{accepted}；拒收 {tally.rejected}；{self.seconds:.1f} 秒")
        if tally.rejected:
            typer.echo(f"拒收的行和原因 (rejected rows and why): {self.rejects}")

    def tell_json(self) -> None:
        """Say it as JSON, if the file was imported to its end; ``conflicts`` is null where that is not known."""
        if self.seconds is not None:
            told = {"file": self.file.name, **asdict(self.tally), "conflicts": self.conflicts}
            typer.echo(json.dumps(told | {"seconds": round(self.seconds, 3)}, ensure_ascii=False))


def _refuse_overwriting(wanted: Sequence[_Import]) -> None:
    """Refuse a rejects file that is one of the files to import: it would be gone before, or after, it is read."""
    for one in wanted:
        for path in (one.rejects, draft_of(one.rejects)):
            if path.exists() and any(path.samefile(other.file) for other in wanted):
                raise typer.BadParameter(f"{path}: 拒收文件不能是要导入的文件 (the rejects file is one to import)")


def _count_conflicts(settings: Settings, source: str, wanted: Sequence[_Import], began_ms: int) -> None:
    """Note how many rows of each file stand on the log with other content, and say so."""
    topics = Topics(settings.kafka.topic_prefix)
    found = conflicts(connect(settings.kafka), topics, source, [one.placed for one in wanted], began_ms)
    if found is None:
        typer.echo(CONFLICTS_UNKNOWN, err=True)
        return
    for one, of_file in zip(wanted, found, strict=True):
        one.conflicts = of_file.count
        if of_file.count:
            typer.secho(f"{one.file.name}: 冲突 {of_file.count}：{CONFLICT}", fg=typer.colors.YELLOW, err=True)


def _contract(file: Path, named: str | None) -> EventContract:
    """Return the contract of the type that is named, or that the file is named after."""
    types = load_contracts().types
    if named is None:
        named = type_in_name(file.name, types)
        if named is None:
            raise typer.BadParameter(f"{file.name}: 文件名不以事件类型开头，请给出 --type (no type in the file's name)")
    if named not in types:
        known = "\n  ".join(sorted(types))
        raise typer.BadParameter(f"没有这个事件类型 (unknown type): {named}\n可用的有 (known):\n  {known}")
    return types[named]


def _progress(quiet: bool) -> Progress:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    progress = Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), disable=quiet)
    return progress
