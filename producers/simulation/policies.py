"""Support for enterprises (惠企): items published, changed and expired; claims accepted, decided and paid."""

from __future__ import annotations

from datetime import timedelta

from producers.simulation.departments import departments
from producers.simulation.ground import PROVINCE, Ground
from producers.simulation.scribe import Period, Row, SimulatedFile, time_of
from schemas.times import SHANGHAI

START = "cn.gov.sc.policy"
NEW_18 = "新“18条” (synthetic)"
ITEM_FIELDS = ("item_code", "policy_no", "department_code", "department_name", "division")
EXPIRED, CHANGED, OF_CITIES, CITY_CLAIMS = 6, 10, 30, 8


def policies(ground: Ground) -> list[SimulatedFile]:
    """Return the files of items and of claims."""
    items, changed, expired = _items(ground)
    accepted, decided, paid = _claims(ground, items)
    write, repeats = ground.scribe.file, ground.scribe.with_repeats
    return [
        write(f"{START}.item.published", repeats(items, 0.01)),
        write(f"{START}.item.changed", changed),
        write(f"{START}.item.expired", expired, "expired_on"),
        write(f"{START}.claim.accepted", repeats(accepted, 0.1)),
        write(f"{START}.claim.decided", repeats(decided, 0.1)),
        write(f"{START}.claim.paid", paid),
    ]


def _items(ground: Ground) -> tuple[list[Row], list[Row], list[Row]]:
    """Return items, changes and expiries: those that stand at the month's end are as many as they should be."""
    new = min(ground.targets["policy_new18_items"], ground.targets["policy_items_in_windows"])
    others = ground.targets["policy_items_in_windows"] - new
    earlier: Period = (ground.before_year[0], ground.month[0])
    standing = [_item(ground, number, NEW_18, PROVINCE, ground.month) for number in range(new)]
    standing += [_item(ground, new + number, "", PROVINCE, earlier) for number in range(others)]
    serial = len(standing)
    gone = [_item(ground, serial + n, "" if n else NEW_18, PROVINCE, ground.before_year) for n in range(EXPIRED)]
    cities = [_item(ground, serial + EXPIRED + n, "", ground.choose(ground.cities), earlier) for n in range(OF_CITIES)]
    later = [_item(ground, serial + EXPIRED + OF_CITIES + n, NEW_18, PROVINCE, ground.after) for n in range(2)]
    changed = [
        {
            **row,
            "change": "办理时限缩短 (synthetic)",
            "occurred_at": ground.scribe.written(ground.scribe.moment((time_of(row), ground.month[1]))),
        }
        for row in ground.random.sample(standing, min(CHANGED, len(standing)))
    ]
    before_end: Period = (ground.year[0], ground.month[1] - timedelta(days=1))
    expired = [_expiry(ground, row, before_end) for row in gone]
    expired += [_expiry(ground, row, ground.after) for row in standing[:2]]
    return [*standing, *gone, *cities, *later], changed, expired


def _item(ground: Ground, number: int, policy: str, division: str, within: Period) -> Row:
    department = ground.random.choice(departments())
    at = ground.scribe.moment(within)
    return {
        "item_code": f"{ground.prefix}-P{number:04d}",
        "policy_no": policy or f"合成文号〔{at:%Y}〕{number}号",
        "title": f"合成惠企事项{number} (synthetic)",
        "department_code": department.code,
        "department_name": department.name,
        "item_class": ground.choose(("reduction", "award", "right", "qualification")),
        "mode": ground.choose(("automatic", "fast", "apply")),
        "conditions_text": "合成条件 (synthetic)",
        "division": division,
        "valid_from": at.astimezone(SHANGHAI).date().isoformat(),
        "occurred_at": ground.scribe.written(at),
    }


def _expiry(ground: Ground, item: Row, within: Period) -> Row:
    row = {name: item[name] for name in ITEM_FIELDS}
    return {**row, "reason": "有效期满 (synthetic)", "expired_on": ground.scribe.day(within).isoformat()}


def _claims(ground: Ground, items: list[Row]) -> tuple[list[Row], list[Row], list[Row]]:
    """Return claims accepted, decided and paid; the province's own reductions come to the sum that they should."""
    count = ground.targets["policy_items_accepted"]
    accepted = [_claim(ground, n, items, PROVINCE, ground.year) for n in range(count)]
    accepted += [
        _claim(ground, count + n, items, ground.choose(ground.cities), ground.year) for n in range(CITY_CLAIMS)
    ]
    earlier = _claim(ground, count + CITY_CLAIMS, items, PROVINCE, ground.before_year)
    decided, paid = [], []
    amounts = ground.parts(ground.targets["policy_fee_reduction"], count)
    for number, row in enumerate(accepted):
        amount = amounts[number] if number < len(amounts) else ground.random.randint(100_000, 9_000_000)
        at = ground.scribe.moment((time_of(row), ground.year[1]))
        decision = {**row, "result": "granted", "amount_fen": str(amount), "occurred_at": ground.scribe.written(at)}
        decided.append(decision)
        payment = {name: text for name, text in decision.items() if name != "result"}
        when = ground.scribe.moment((at, ground.year[1]))
        paid.append({**payment, "payment_mode": "deduction", "occurred_at": ground.scribe.written(when)})
    refused = {**earlier, "result": "refused", "amount_fen": ""}
    when = ground.scribe.moment(ground.year)
    decided.append({**refused, "occurred_at": ground.scribe.written(when)})
    return [*accepted, earlier], decided, paid


def _claim(ground: Ground, number: int, items: list[Row], division: str, within: Period) -> Row:
    item = ground.random.choice(items)
    return {
        "claim_no": f"{ground.prefix}-L{number:04d}",
        "item_code": item["item_code"],
        **ground.enterprise(900 + number),
        "department_code": item["department_code"],
        "department_name": item["department_name"],
        "division": division,
        "occurred_at": ground.scribe.written(ground.scribe.moment(within)),
    }
