"""When a file in the drop folder counts as complete."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from producers.files.drop import Settling
from producers.files.folder import DropFolder, Stamp, Waiting, being_written

NOW = datetime(2025, 12, 2, tzinfo=UTC)


def file(name: str, size: int) -> Waiting:
    """Return a file of a size, as it was seen."""
    return Waiting(Path(name), Stamp(1, size, 1))


def test_a_file_is_complete_when_it_has_not_changed_for_the_time() -> None:
    """Each change begins the time anew, and one file does not wait for another."""
    settling = Settling(5)
    assert settling.settled([file("a", 1), file("b", 1)], 0) == []
    assert settling.settled([file("a", 2), file("b", 1)], 4) == []
    assert settling.settled([file("a", 2), file("b", 1)], 5) == [file("b", 1)]
    assert settling.settled([file("a", 2)], 9) == [file("a", 2)]


def test_a_file_that_was_gone_begins_anew() -> None:
    """Even if it comes back the same."""
    settling = Settling(5)
    settling.settled([file("a", 1)], 0)
    settling.settled([], 3)
    assert settling.settled([file("a", 1)], 6) == []


def test_only_plain_files_that_are_not_on_their_way_are_waiting(tmp_path: Path) -> None:
    """Oldest first; what copying and office programs leave, folders and links are passed over."""
    folder = DropFolder(tmp_path)
    with folder.lock() as ours:
        assert ours
        for name in ("b.csv", "a.csv", ".c.csv", "~$d.xlsx", "e.csv.part"):
            (tmp_path / "in" / name).touch()
        (tmp_path / "in" / "folder").mkdir()
        (tmp_path / "in" / "link.csv").symlink_to(tmp_path / "in" / "a.csv")
        assert {one.path.name for one in folder.waiting()} == {"a.csv", "b.csv"}


def test_the_kernel_tells_who_still_writes(tmp_path: Path) -> None:
    """However long the writer has been quiet."""
    path = tmp_path / "a.csv"
    with path.open("w") as writer:
        writer.write("half a li")
        writer.flush()
        assert being_written(path)
    assert not being_written(path)


def test_a_second_process_does_not_get_the_lock(tmp_path: Path) -> None:
    """Until the first has let it go."""
    first, second = DropFolder(tmp_path), DropFolder(tmp_path)
    with first.lock() as ours, second.lock() as theirs:
        assert (ours, theirs) == (True, False)
    with second.lock() as theirs:
        assert theirs


def test_nothing_that_was_done_before_is_overwritten(tmp_path: Path) -> None:
    """The same name again gets the time in its own, and its reasons stay beside it."""
    folder = DropFolder(tmp_path)
    with folder.lock():
        for content in ("first", "second"):
            (tmp_path / "in" / "a.csv").write_text(content)
            folder.draft("a.csv").write_text(f"why {content}")
            folder.move(folder.waiting()[0], folder.place("rejected", "a.csv", NOW))
    found = {path.name: path.read_text() for path in (tmp_path / "rejected").iterdir()}
    assert found == {
        "a.csv": "first",
        "a.csv.rejects.csv": "why first",
        "a~20251202T000000000000.csv": "second",
        "a~20251202T000000000000.csv.rejects.csv": "why second",
    }
