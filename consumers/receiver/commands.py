"""``hongyan receiver``: a sample receiver to try deliveries with, and the check that an agency's own must pass."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

receiver = typer.Typer(help="接收端：样例与上线前检查 (receivers: a sample, and the check)", no_args_is_help=True)

Keys = Annotated[
    list[str],
    typer.Option(
        "--secret",
        help="签名密钥 whsec_… 或公钥 whpk_…，换发期间新旧各给一次 (signing secret or public key; repeatable)",
        envvar="HONGYAN_RECEIVER_SECRET",
    ),
]


@receiver.command("run")
def receiver_run(
    port: Annotated[int, typer.Option(help="监听端口 (port)")],
    secret: Keys,
    host: Annotated[str, typer.Option(help="监听地址 (address)")] = "127.0.0.1",
    out: Annotated[Path | None, typer.Option(help="每个事件写一行 JSON (one JSON line an event)")] = None,
    seen: Annotated[
        Path | None, typer.Option(help="已处理事件的记录文件，重启后仍去重 (remembers over restarts)")
    ] = None,
    trials: Annotated[
        bool, typer.Option("--trials", help="试投递事件也写，检查的时间随之含处理 (note test events too)")
    ] = False,
) -> None:
    """样例接收端：验签、去重、应答 (a sample receiver: verifies, deduplicates, acknowledges)."""
    from consumers.receiver.process import run
    from services.runtime.errors import HongyanError

    try:
        run(host, port, secret, out, seen, trials)
    except HongyanError as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(1) from error


@receiver.command("check")
def receiver_check(
    url: Annotated[str, typer.Argument(help="接收端地址 (where the receiver listens)")],
    secret: Annotated[
        str,
        typer.Option(
            help="签名密钥 whsec_…，检查 ed25519 时给私钥 whsk_… (the key to sign with)",
            envvar="HONGYAN_RECEIVER_SECRET",
        ),
    ],
    agency: Annotated[str | None, typer.Option(help="把结果存入该单位的档案 (keep the result for this agency)")] = None,
    out: Annotated[Path | None, typer.Option(help="结果文件，含摘要 (evidence file, with its digest)")] = None,
    headers: Annotated[
        list[str] | None, typer.Option("--header", help="另加的头，例 'Authorization: Bearer …' (repeatable)")
    ] = None,
    ca: Annotated[Path | None, typer.Option(help="签发接收端证书的 CA，PEM (authority of its certificate)")] = None,
    certificate: Annotated[
        Path | None, typer.Option(help="双向 TLS 时出示的客户端证书，PEM (client certificate, for mutual TLS)")
    ] = None,
    private_key: Annotated[Path | None, typer.Option(help="它的私钥，PEM (its private key)")] = None,
    limit_s: Annotated[float, typer.Option(help="应答时限，秒 (seconds to answer within)")] = 10.0,
    as_json: Annotated[bool, typer.Option("--json", help="输出 JSON (print JSON)")] = False,
) -> None:
    """上线前检查：重复、乱序、错签名、旧时间戳、未知类型、慢应答、大正文、换密钥 (the check before going live)."""
    from consumers.receiver.checking import check
    from consumers.receiver.evidence import evidence_of, keep, registered
    from consumers.receiver.probing import Probe
    from consumers.receiver.telling import print_keeping, print_result

    with _told_in_a_line():
        # The variable may hold the old and the new key, as the receiver's own does.
        first, context = (secret.split() or [""])[0], _context(ca, certificate, private_key)
        probe = Probe(url, first, limit_s, _headers(headers or []), context)
        kept_for = None if agency is None else registered(agency)
        document = evidence_of(url, check(probe), limit_s, kept_for)
    text = json.dumps(document, ensure_ascii=False, indent=2)
    if as_json:
        typer.echo(text)
    else:
        print_result(document)
    for warning in document.get("warnings", ()):
        typer.secho(f"注意 (warning)：{warning}", fg=typer.colors.YELLOW, err=True)
    # After the result was shown: what can't be kept is not lost.
    with _told_in_a_line():
        if out is not None:
            out.write_text(text + "\n", encoding="utf-8")
        if agency is not None:
            keep(agency, document)
    print_keeping(agency, out, err=as_json)
    if not document["passed"]:
        raise typer.Exit(1)


@contextmanager
def _told_in_a_line() -> Iterator[None]:
    """End with 2 for what is no fault of the receiver's."""
    from services.runtime.errors import HongyanError

    try:
        yield
    except (HongyanError, OSError, ValueError) as error:
        typer.secho(str(error), fg=typer.colors.RED, err=True)
        raise typer.Exit(2) from error


def _context(ca: Path | None, certificate: Path | None, private_key: Path | None) -> ssl.SSLContext:
    """Return what a real delivery with these settings would trust and show; raises ValueError, OSError."""
    from services.delivery.profile import Tls
    from services.delivery.tls import context_of

    if (certificate is None) != (private_key is None):
        raise ValueError("--certificate 与 --private-key 须成对 (they go together)")
    named = {"ca": ca, "certificate": certificate, "private_key": private_key}
    given = {name: path.read_text(encoding="utf-8") for name, path in named.items() if path is not None}
    for name, text in given.items():
        if not text.lstrip().startswith("-----BEGIN "):
            raise ValueError(f"{named[name]} 不是 PEM (not PEM)")
    return context_of(Tls(**given))


def _headers(given: list[str]) -> dict[str, str]:
    parted = [text.partition(":") for text in given]
    if not all(colon for _, colon, _ in parted):
        raise ValueError("--header 形如 '名称: 值' (name, colon, value)")
    return {name.strip(): value.strip() for name, _, value in parted}
