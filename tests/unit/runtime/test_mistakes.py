"""What was sent and is not valid: told in Chinese first, whatever library found it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from services.delivery.acknowledgement import Acknowledgement
from services.delivery.profile import wishes_of
from services.runtime.errors import InvalidError
from services.runtime.mistakes import bad_fields


@pytest.mark.parametrize(
    ("body", "pointer", "detail"),
    [
        ('{"up_to": "x"}', "/up_to", "应为整数 (a whole number)"),
        ('{"up_to": -1}', "/up_to", "至少为 0 (at least)"),
        ('{"upto": 3}', "/upto", "没有这个字段 (no such field)"),
        ("garbage", "/", "不是 JSON (no JSON): expected value at line 1 column 1"),
        ("[]", "/", "应为对象 (an object)"),
        ("{}", "/", "给出 up_to 或 receipts (give up_to or receipts)"),
        ('{"receipts": [{}]}', "/receipts/0/cursor", "缺少 (required)"),
        ('{"receipts": [{"cursor": 1, "outcome": "ok"}]}', "/receipts/0/outcome", "应为 'accepted' or 'rejected'"),
        ('{"receipts": [{"cursor": 1, "outcome": "rejected"}]}', "/receipts/0", "rejected 须附 reason"),
    ],
)
def test_a_receipts_mistakes_are_told_by_field_in_chinese_first(body: str, pointer: str, detail: str) -> None:
    """No library's words, and no "Value error" before our own."""
    with pytest.raises(ValidationError) as refused:
        Acknowledgement.model_validate_json(body)
    found = bad_fields(refused.value.errors())[0]
    assert (found.pointer, found.detail[: len(detail)]) == (pointer, detail)


@pytest.mark.parametrize(
    ("document", "pointer", "detail"),
    [
        ({"batch": 0}, "/delivery/batch", "至少为 1 (at least)"),
        ({"rate_per_s": 0}, "/delivery/rate_per_s", "应大于 0.0 (greater than)"),
        ({"timeout_s": 301}, "/delivery/timeout_s", "至多为 300.0 (at most)"),
        ({"auth": {"kind": "basic"}}, "/delivery/auth", "'kind' 应为 'bearer', 'oauth2' (one of these)"),
        ({"tls": {"ca": "x"}}, "/delivery/tls/ca", "写法不符"),
    ],
)
def test_delivery_settings_mistakes_are_too(document: dict[str, object], pointer: str, detail: str) -> None:
    """With the limit that was passed, or the words there are."""
    with pytest.raises(InvalidError) as refused:
        wishes_of(document)
    found = refused.value.problems[0]
    assert (found.pointer, found.detail[: len(detail)]) == (pointer, detail)
