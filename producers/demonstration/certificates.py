"""Synthetic certificates for the demonstration: issued, corrected, revoked."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from schemas.contracts import Contracts

START = "cn.gov.sc.health.medical-ad-certificate"
CHENGDU = "510100"


@dataclass(frozen=True, slots=True)
class Publication:
    """One event to publish, as the body of a request, with a line for people."""

    body: Mapping[str, Any]
    title: str


def publications(contracts: Contracts, source: str, certificates: int, run: str) -> Sequence[Publication]:
    """Return what the health commission publishes: every certificate, then corrections and a revocation.

    Every third certificate is Chengdu's. The first two are corrected, the first is then revoked; both are Chengdu's and
    the province's, so that the follow-ups can be seen to reach whoever got the original.
    """
    issued = [_issued(contracts, source, number, run) for number in range(certificates)]
    corrected = [_follow_up(contracts, "corrected", one, {"beds": 260}) for one in issued[:2]]
    revoked = [_follow_up(contracts, "revoked", issued[0], {})]
    return [*issued, *corrected, *revoked]


def _issued(contracts: Contracts, source: str, number: int, run: str) -> Publication:
    data = dict(contracts.types[f"{START}.issued"].sample)
    is_chengdu = number % 3 == 0
    data["certificate_no"] = f"（川）医广〔2025〕第12{number + 1:05d}-{run}号"
    data["institution_name"] = f"合成样例医院 {number + 1}（synthetic）"
    if is_chengdu:
        data |= {"reviewer_division": CHENGDU, "reviewer_level": "city"}
    body = {
        "specversion": "1.0",
        "id": f"{run}-issued-{number + 1}",
        "source": source,
        "type": f"{START}.issued",
        "data": data,
    }
    return Publication(body, f"核发 {data['certificate_no']}")


def _follow_up(contracts: Contracts, verb: str, original: Publication, changes: Mapping[str, Any]) -> Publication:
    contract = contracts.types[f"{START}.{verb}"]
    names = {field["name"] for field in contract.fields()}
    first = original.body["data"]
    data = {**contract.sample, **{k: v for k, v in first.items() if k in names}, **changes}
    number = str(original.body["id"]).rsplit("-", 1)[-1]
    body = {
        **original.body,
        "id": f"{str(original.body['id']).split('-')[0]}-{verb}-{number}",
        "type": f"{START}.{verb}",
        "follows": original.body["id"],
        "data": json.loads(json.dumps(data)),
    }
    word = {"corrected": "更正", "revoked": "撤销"}[verb]
    return Publication(body, f"{word} {first['certificate_no']}")
