"""The front door: the ``hongyan`` command, which composes everything below it.

Commands are imported when they are called: the help of one does not pay for the libraries of all.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.core import TyperGroup

if TYPE_CHECKING:
    from typer._click.core import Command, Context

LAZY = {
    "department": "services.portal.commands:department",
    "agency": "services.portal.access_commands:agency",
    "alerts": "services.portal.alert_commands:alerts",
    "deadletter": "services.portal.deadletter_commands:deadletter",
    "explain": "services.portal.explain_commands:explain",
    "follow-ups": "services.portal.explain_commands:follow_ups",
    "person": "services.portal.person_commands:person",
    "subscription": "services.portal.subscription_commands:subscription",
    "import": "producers.files.commands:import_file",
    "relay": "producers.outbox.commands:relay",
    "poller": "producers.poller.commands:poller",
    "ledger": "consumers.ledger.commands:ledger",
    "trace": "services.portal.trace_commands:trace",
    "parked": "consumers.pusher.commands:parked",
    "feed": "consumers.pusher.feed_commands:feed",
    "lag": "consumers.monitor.commands:lag",
    "top": "consumers.monitor.commands:top",
    "figure": "services.statistics.commands:figure",
    "statistics": "consumers.statistics.commands:statistics",
    "report": "services.reporting.commands:report",
    "simulate": "producers.simulation.commands:simulate",
    "demo": "producers.demonstration.commands:demo",
    "receiver": "consumers.receiver.commands:receiver",
    "fetch": "services.runtime.commands:fetch",
    "schema": "services.catalogue.commands:schema",
    "settings": "services.runtime.commands:show_settings",
}
"""Commands that are imported when they are called or listed."""


class LazyGroup(TyperGroup):
    """Finds the commands of :data:`LAZY` by importing what holds them."""

    def list_commands(self, ctx: Context) -> list[str]:
        """Return all command names."""
        return sorted([*super().list_commands(ctx), *LAZY])

    def get_command(self, ctx: Context, cmd_name: str) -> Command | None:
        """Return a command, imported if need be."""
        if cmd_name not in LAZY:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = LAZY[cmd_name].partition(":")
        found = getattr(import_module(module), attribute)
        if not isinstance(found, typer.Typer):
            single = typer.Typer(pretty_exceptions_enable=False)
            single.command(cmd_name)(found)
            found = single
        command = typer.main.get_command(found)
        command.name = cmd_name
        # Shell completion is installed for the whole command, at its root.
        command.params = [one for one in command.params if one.name not in COMPLETION]
        return command


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"hongyan {version('hongyan')}")
        raise typer.Exit


app = typer.Typer(
    name="hongyan",
    cls=LazyGroup,
    help="鸿雁：把审批结果即时、不漏地推送给有权的监管部门，并留下凭证。 "
    "(Pushes approval results between departments.)",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)

COMPLETION = {"install_completion", "show_completion"}
PROCESSES = {
    "registry": ("services.registry.process", 8081),
    "gateway": ("producers.gateway.process", 8080),
    "portal": ("services.portal.process", 8082),
    "feeds": ("consumers.feeds.process", 8083),
    "router": ("consumers.router.process", 8091),
    "pusher": ("consumers.pusher.process", 8092),
    "statistics": ("consumers.statistics.process", 8093),
    "monitor": ("consumers.monitor.process", 8094),
    "ledger": ("consumers.ledger.process", 8098),
    "alerter": ("consumers.alerter.process", 8100),
}
"""Every process of an installation, with its module and default port."""
GC_THRESHOLDS = (20_000, 20, 20)
"""Objects made before a collection: hundreds of events under way are no garbage, and the default, 700, looks at them
anew all the time (a fifth of a busy pusher's)."""
ATTACHED = {
    "relay": ("producers.outbox.process", 8095),
    "poller": ("producers.poller.process", 8096),
    "drop": ("producers.files.process", 8097),
    "table-sink": ("consumers.table_sink.process", 8099),
}
"""Processes that go with a department's or an agency's own system; `hongyan up` does not start them."""
SERVED = ("registry", "gateway", "portal", "feeds")
STANDS_BACK = {"statistics": 5, "alerter": 10, "ledger": 19}
"""What is read by people later stands back, where processors are short, for what delivers now."""

serve = typer.Typer(help="单独启动一个对外服务的进程。 (Start one process that serves others.)", no_args_is_help=True)
run = typer.Typer(help="单独启动一个消费进程。 (Start one consumer process.)", no_args_is_help=True)
app.add_typer(serve, name="serve")
app.add_typer(run, name="run")


def _starter(name: str) -> Callable[[int, str], None]:
    module, default_port = (PROCESSES | ATTACHED)[name]

    def start(
        port: Annotated[int, typer.Option(help="监听端口 (port)")] = default_port,
        slot: Annotated[str, typer.Option(help="同类进程中的编号 (name among its siblings)")] = "0",
    ) -> None:
        from schemas.contracts import ContractError
        from services.runtime.errors import HongyanError
        from services.runtime.settings import settings_for_cli

        settings = settings_for_cli()
        settings.router.slot = slot
        try:
            import_module(module).run(settings, port=port)
        except (HongyanError, ContractError) as error:
            # A setting or an event type that is not in order: one line for the operator, who needs no stack.
            typer.secho(f"{name}: {error}", fg=typer.colors.RED, err=True)
            raise typer.Exit(1) from error

    start.__doc__ = import_module_doc(module)
    return start


def import_module_doc(module: str) -> str:
    """Return the first line of a module's docstring without importing the module."""
    path = Path(__file__).parent / (module.replace(".", "/") + ".py")
    return path.read_text(encoding="utf-8").split('"""')[1].splitlines()[0]


@app.callback()
def _hongyan(
    _version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="版本 (print the version)")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def up(
    data: Annotated[Path | None, typer.Option(help="数据目录 (data folder)，默认 .hongyan")] = None,
    port: Annotated[int | None, typer.Option(help="网关端口，其余进程依次加一；默认取空闲端口 (first port)")] = None,
    kafka_port: Annotated[int | None, typer.Option(help="Kafka 端口 (port of Kafka)")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="输出一行 JSON (print one JSON line)")] = False,
) -> None:
    """启动一套完整系统：Kafka、PostgreSQL 与全部进程 (start everything on this machine)."""
    from services.portal.client import first_account
    from services.runtime.commands import run_up
    from services.runtime.stack import Process

    order = sorted(PROCESSES, key=lambda name: PROCESSES[name][1])
    processes = [Process(n, "serve" if n in SERVED else "run", niceness=STANDS_BACK.get(n, 0)) for n in order]
    run_up(processes, data, port, kafka_port, as_json, first_account)


for _name in (*PROCESSES, *ATTACHED):
    (serve if _name in SERVED else run).command(_name)(_starter(_name))


def main() -> None:
    """Run the command line. Processes configure their own logging; of a command only warnings are shown."""
    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from services.runtime.logging import configure
    from services.runtime.settings import LogSettings, problems_of

    gc.set_threshold(*GC_THRESHOLDS)
    configure(LogSettings(level="ERROR", json_lines=False), process="command")
    try:
        app()
    except (ValidationError, SettingsError) as error:
        problems = problems_of(error)
        if problems is None:
            raise
        for problem in problems:
            typer.secho(f"设置有误 (a bad setting): {problem}", fg=typer.colors.RED, err=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
