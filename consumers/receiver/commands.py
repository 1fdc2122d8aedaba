"""``hongyan receiver``: a sample receiver, to try deliveries with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def receiver(
    port: Annotated[int, typer.Option(help="监听端口 (port)")],
    secret: Annotated[str, typer.Option(help="签名密钥 whsec_… (signing secret)", envvar="HONGYAN_RECEIVER_SECRET")],
    host: Annotated[str, typer.Option(help="监听地址 (address)")] = "127.0.0.1",
    out: Annotated[Path | None, typer.Option(help="每次投递写一行 JSON (one JSON line a delivery)")] = None,
) -> None:
    """样例接收端：验签、去重、记录到达时间 (a sample receiver: verifies, deduplicates, notes the time)."""
    from consumers.receiver.process import run

    run(host, port, secret, out)
