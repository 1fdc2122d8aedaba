"""The checked formats that a field may name: codes and numbers of Chinese administration.

A format's check returns the value to keep and, where something is odd but no reason to refuse, a quality mark.
"""

from __future__ import annotations

import csv
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path

USCC_ALPHABET = "0123456789ABCDEFGHJKLMNPQRTUWXY"
_USCC_INDEX = {character: index for index, character in enumerate(USCC_ALPHABET)}
_USCC_WEIGHTS = tuple(pow(3, i, 31) for i in range(17))
_CERTIFICATE_NO = re.compile(
    r"^(?:[(](?P<r1>[\u4e00-\u9fff]{1,4})[)](?:[(](?P<r2>[\u4e00-\u9fff]{1,4})[)])?|(?P<r3>[\u4e00-\u9fff]{1,4}?))"
    r"(?P<tcm>中)?医广(?:字)?\[(?P<y>\d{4})\]第(?P<body>[0-9A-Z]+(?:-[0-9A-Z]+)*)号$"
)
_BRACKETS_AND_DASHES = str.maketrans(
    {"〔": "[", "【": "[", "〕": "]", "】": "]"}
    | dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\u2500", "-")
)
_REGISTRATION_NO = re.compile(r"^[0-9A-Z]{9}\d{8}[A-Z]\d{3}\d$")
_SM3_HEX = re.compile(r"^[0-9a-f]{64}$")
DIVISIONS_FILE = Path(__file__).parent / "data" / "divisions.csv"

Checked = tuple[str, str | None]


def normalise_code(text: str) -> str:
    """Return a code without white space around it, NFKC-normalised and in upper case."""
    return unicodedata.normalize("NFKC", text).strip().upper()


def uscc_check_character(body: str) -> str | None:
    """Return the check character of the first 17 characters, None when one is not in the alphabet (GB 32100)."""
    try:
        total = sum(_USCC_INDEX[c] * w for c, w in zip(body, _USCC_WEIGHTS, strict=True))
    except (KeyError, ValueError):
        return None
    return USCC_ALPHABET[(31 - total % 31) % 31]


def is_uscc(code: str) -> bool:
    """Tell whether a normalised code is a valid 统一社会信用代码 (GB 32100)."""
    return len(code) == 18 and uscc_check_character(code[:17]) == code[17]


@lru_cache(maxsize=4096)
def check_uscc(text: str) -> Checked:
    """Keep the normalised code; mark one whose check fails. Raises ValueError for what can't be a code at all."""
    code = normalise_code(text)
    if not re.fullmatch(r"[0-9A-Z]{18}", code):
        raise ValueError("应为 18 位数字或大写字母 (a USCC has 18 digits or capital letters)")
    return code, None if is_uscc(code) else "check-character"


def normalise_certificate_no(text: str) -> str:
    """Return a certificate number (文号) in the form that is compared (domain rule 2.5)."""
    folded = unicodedata.normalize("NFKC", text).translate(_BRACKETS_AND_DASHES)
    return "".join(folded.split()).upper()


def certificate_no_parts(normalised: str) -> Mapping[str, str | None] | None:
    """Return region, TCM mark, year and body for display and search, None for an unusual form."""
    match = _CERTIFICATE_NO.match(normalised)
    return match.groupdict() if match else None


def check_certificate_no(text: str) -> Checked:
    """Keep the number as written; mark an unusual form, which is never a reason to refuse (domain rule 2.5)."""
    if not text.strip():
        raise ValueError("不能为空 (empty)")
    return text, None if certificate_no_parts(normalise_certificate_no(text)) else "unusual-form"


def check_registration_no(text: str) -> Checked:
    """Keep the normalised 登记号; mark what is not in the common 22-character form (domain rule 3.2)."""
    code = normalise_code(text)
    if not code:
        raise ValueError("不能为空 (empty)")
    return code, None if _REGISTRATION_NO.match(code) else "unusual-form"


@cache
def divisions() -> Mapping[str, str]:
    """Return the table of divisions (GB/T 2260): code to name."""
    with DIVISIONS_FILE.open(encoding="utf-8", newline="") as file:
        return {row["code"]: row["name"] for row in csv.DictReader(file)}


@lru_cache(maxsize=1024)
def check_division(text: str) -> Checked:
    """Keep a division code; a county is known by its city. Raises ValueError for one of no division in the table."""
    code = normalise_code(text)
    if re.fullmatch(r"\d{6}", code) and (code in divisions() or f"{code[:4]}00" in divisions()):
        return code, None
    raise ValueError("不在行政区划表中 (not in the table of divisions, GB/T 2260)")


def division_prefix(code: str) -> str:
    """Return what the codes of a division and of all below it begin with: 510100 is 5101."""
    return re.sub("(00)+$", "", code.strip())


def is_division_prefix(code: str) -> bool:
    """Tell whether this is the code of a division in the table, or the start of one."""
    prefix = division_prefix(code)
    return bool(prefix) and any(known.startswith(prefix) for known in divisions())


def check_sm3(text: str) -> Checked:
    """Keep a SM3 digest as lower-case hex."""
    digest = text.strip().lower()
    if not _SM3_HEX.match(digest):
        raise ValueError("应为 64 位十六进制 (64 hex digits)")
    return digest, None


FORMATS: Mapping[str, Callable[[str], Checked]] = {
    "uscc": check_uscc,
    "certificate-no": check_certificate_no,
    "registration-no": check_registration_no,
    "division": check_division,
    "sm3": check_sm3,
}
"""Every format of text that a schema may name; ``time`` is read in :mod:`schemas.times`."""
