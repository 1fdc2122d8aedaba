"""Every story of the monthly report has its events, each with what its story asks for (domain rules 8 and 9)."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from schemas.contracts import TYPE_START, load_contracts

PROJECT = Path(__file__).parents[3]
TYPES = load_contracts().types
PARTY = {"department_code", "department_name", "occurred_at"}
CASE = PARTY | {"project_no", "task_code"}
CERTIFICATE = {"certificate_no", "certificate_no_normalised", "reviewer_code", "reviewer_name", "institution_uscc"}
LISTED = {"subject_name", "subject_uscc", "list_type", "conduct", "basis_document", "decision_no", "decided_on"} | {
    "severity",
    "publish_from",
    "publish_until",
    "project",
    "division",
}
ENTRY = {"entry_no", "subject_name", "subject_uscc", "list_type", "decision_no", "decided_on", "division"}
ITEM = {"policy_no", "item_code", "department_name"}
CLAIM = {"item_code", "enterprise_uscc", "department_name", "amount_fen"}
REQUEST = {"request_no", "section", "enterprise_uscc", "project_code"}
PROJECT_CASE = {
    "project_code",
    "project_name",
    "key_project",
    "funds_fen",
    "enterprise_uscc",
    "section",
    "task_code",
} | {
    "legal_days",
    "promised_days",
    "occurred_at",
}
ARREARS = {"unit_uscc", "fee_kind", "period_from", "period_to", "amount_fen", "notice_no", "receivers"}
PERMIT = {"permit_no", "enterprise_uscc", "decision_no"}
VALID = PERMIT | {"scope", "valid_from", "valid_to"}
DRAMA = {"title", "filing_no", "producer", "requester_name"}
INVENTORY = {"owner_code", "owner_name", "level", "total", "keep", "merge", "retire", "systems"}

STORIES = {
    "window.case.accepted": CASE | {"handling", "intake"},
    "window.case.completed": CASE | {"handling", "intake", "result"},
    "window.case.withdrawn": CASE,
    "window.result.issued": PARTY | {"project_no", "outlet"},
    "window.result.mailed": PARTY | {"project_no", "origin"},
    "window.consultation.recorded": PARTY | {"mode", "count"},
    "activity.held": {"kind", "held_on", "organiser_name", "partners", "place", "attendance", "attendance_approximate"},
    "inventory.decided": INVENTORY,
    "inventory.revised": INVENTORY | {"reason"},
    "inventory.checked": {"owner_code", "level", "round", "conclusion"},
    "policy.item.published": ITEM | {"item_class", "conditions_text", "valid_from", "valid_to", "mode"},
    "policy.item.changed": ITEM | {"item_class", "conditions_text", "valid_from", "valid_to", "mode", "change"},
    "policy.item.expired": ITEM | {"expired_on"},
    "policy.claim.accepted": CLAIM,
    "policy.claim.decided": CLAIM | {"result"},
    "policy.claim.paid": CLAIM | {"payment_mode"},
    "enterprise.service.request.opened": REQUEST,
    "enterprise.service.request.closed": REQUEST | {"result"},
    "enterprise.project.case.accepted": PROJECT_CASE,
    "enterprise.project.case.completed": PROJECT_CASE | {"accepted_at", "actual_days"},
    "health.medical-ad-certificate.issued": CERTIFICATE | {"issued_on", "valid_from", "valid_to", "media_types"},
    "health.medical-ad-certificate.corrected": CERTIFICATE | {"corrected_on", "valid_to", "media_types"},
    "health.medical-ad-certificate.recalled": CERTIFICATE | {"reason_code", "decided_on"},
    "health.medical-ad-certificate.revoked": CERTIFICATE | {"reason_code", "decision_no", "decided_on", "bar_until"},
    "health.medical-ad-certificate.superseded": CERTIFICATE | {"superseded_by"},
    "health.medical-ad-review.rejected": {"reviewer_code", "institution_uscc", "rejected_on", "reasons"},
    "market.penalty.decided": {"decision_no", "institution_uscc", "certificate_no", "authority_name", "grave"},
    "market.clue.transferred": {"clue_no", "institution_uscc", "certificate_no", "authority_name", "facts"},
    "credit.listed": LISTED,
    "credit.updated": LISTED | {"change"},
    "credit.masked": ENTRY,
    "credit.restored": ENTRY,
    "credit.repaired": ENTRY,
    "credit.removed": ENTRY,
    "insurance.arrears.noticed": ARREARS | {"late_fee_from", "due_on"},
    "insurance.arrears.plan_agreed": ARREARS | {"plan_until"},
    "insurance.arrears.settled": ARREARS | {"paid_fen"},
    "safety.permit.granted": VALID,
    "safety.permit.changed": VALID | {"change"},
    "safety.permit.renewed": VALID,
    "safety.permit.suspended": PERMIT | {"reason", "suspended_until"},
    "safety.permit.revoked": PERMIT | {"reason"},
    "safety.review.opinion": {"enterprise_uscc", "review_kind", "conclusion", "opinion", "decision_no"},
    "drama.coreview.requested": DRAMA | {"episodes", "subject_matter", "reviewers", "reply_due", "version"},
    "drama.coreview.opinion_given": DRAMA | {"reviewer_name", "opinion", "version"},
    "drama.coreview.overdue": DRAMA | {"reviewer_name", "reply_due"},
    "drama.coreview.closed": DRAMA | {"conclusion", "version"},
}
SYSTEM = {"system_code", "system_name", "decision", "merge_into", "stop_on"} | {
    f"score_{dimension}" for dimension in ("foundation", "activity", "sharing", "support", "overlap")
}
REMOVALS = {"repaired", "removed", "masked", "restored", "recalled", "revoked", "superseded", "corrected", "expired"}


@pytest.mark.parametrize("name", sorted(STORIES))
def test_every_story_has_its_event_with_what_the_story_asks_for(name: str) -> None:
    """Sensitivity and doc of each field, catalogue and sample are held together when the contracts are loaded."""
    contract = TYPES[f"{TYPE_START}.{name}"]
    assert STORIES[name] <= {field["name"] for field in contract.fields()}
    assert (PROJECT / "docs" / "reference" / f"{contract.type}.md").exists()


@pytest.mark.parametrize("name", ["inventory.decided", "inventory.revised"])
def test_each_system_of_an_inventory_has_its_decision_and_five_scores(name: str) -> None:
    """Kept, merged or retired, with the target or the date, and the five dimensions."""
    systems = next(f for f in TYPES[f"{TYPE_START}.{name}"].fields() if f["name"] == "systems")
    assert {field["name"] for field in systems["type"]["items"]["fields"]} >= SYSTEM


def test_what_ends_or_corrects_goes_to_everyone_who_got_the_original() -> None:
    """A removal must reach all who received the listing (domain rule 9)."""
    ending = {name for name in TYPES if name.rsplit(".", 1)[1] in REMOVALS}
    assert len(ending) >= 10
    assert ending == {name for name in ending if TYPES[name].follow_up}


def test_arrears_and_alerts_go_to_named_receivers_only() -> None:
    """Collectors must keep employers' information confidential: no fan-out by topic (domain rule 8).

    And an agency hears of alerts about itself alone.
    """
    named = {name for name, contract in TYPES.items() if contract.catalogue.named_receivers}
    assert named == {name for name in TYPES if ".insurance.arrears." in name or ".ops.alert." in name}


MADE_UP = ("producers/simulation/", "producers/demonstration/", "services/statistics/shapes.py")
"""What makes synthetic data, or shows a sample, names the types that it makes."""


def test_no_code_of_the_product_names_an_event_type() -> None:
    """One more type is one folder: outside the folders a type stands only in explanations."""
    naming = set()
    for folder in ("producers", "consumers", "services", "schemas"):
        for file in (PROJECT / folder).rglob("*.py"):
            for text in _texts(ast.parse(file.read_text(encoding="utf-8"))):
                if text in TYPES:
                    naming.add(file.relative_to(PROJECT).as_posix())
    assert [file for file in naming if not file.startswith(MADE_UP)] == []


def _texts(tree: ast.AST) -> list[str]:
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
