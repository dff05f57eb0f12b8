"""Each record moves into its tables exactly once, whatever order, copies and damage the log has."""

from __future__ import annotations

import random
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from matinee.choices import Choice, Outcome
from matinee.exceptions import StorageError, TableBusyError
from matinee.ledger import Ledger, choice_from_row, recent, recover, seal, segments, streams
from matinee.ledger.lines import Record, encode, to_line
from matinee.locks import exclusive

from .records import NOW, Held, MemorySink, choice, outcome, run, sealed


def log(folder: Path, *records: Record, name: str = "web") -> str:
    """Append with a writer that ends; returns its stream."""
    with Ledger(folder, name) as ledger:
        for record in records:
            ledger.append(record)
    return ledger.stream


def test_choices_and_outcomes_become_rows_and_the_log_is_empty(tmp_path: Path) -> None:
    first = choice(id="c", unit=42)
    stream = log(tmp_path, first, outcome(id="o", choice="c", known=NOW + timedelta(seconds=5)))
    sink = sealed(tmp_path)
    assert [choice_from_row(r) for r in sink.tables["choices"]] == [first]
    assert sink.ids("outcomes") == ["o"]
    (row,) = sink.tables["played"]
    assert (row["member"], row["title"], row["seconds"], row["device"]) == (42, 8, 1800.0, None)
    assert (row["at"], row["known"], row["choice"], row["outcome"]) == (NOW, NOW + timedelta(seconds=5), "c", "o")
    assert sink.tables["outcomes"][0]["unit"] == "42"
    assert sink.sealed["choices"] == sink.sealed["outcomes"] == sink.sealed["played"] == {stream: 1}
    assert segments(tmp_path, stream) == []
    assert recent(tmp_path) == []


def test_the_report_says_what_moved(tmp_path: Path) -> None:
    held = Held()
    log(tmp_path, choice(), outcome(id="o"), outcome(id="o"), outcome(row={"member": "x"}))
    report = run(tmp_path, MemorySink(), held)
    assert report.written == {"choices": 1, "outcomes": 1, "played": 1}
    assert (report.segments, report.copies, report.quarantined) == (1, 1, 1)
    assert "1 copies of outcomes" in str(report)
    assert run(tmp_path, MemorySink()).segments == 0


def test_numbers_go_on_after_everything_was_sealed(tmp_path: Path) -> None:
    sink = MemorySink()
    for i in range(4):
        stream = log(tmp_path, choice(id=str(i)))
        sealed(tmp_path, sink)
        assert sink.sealed["choices"] == {stream: i + 1}
    assert sink.ids("choices") == ["0", "1", "2", "3"]
    assert [p.name for p in (tmp_path / stream).glob("*.sealed")] == ["000004.sealed"]


def test_a_log_folder_that_was_lost_and_made_again_is_not_taken_for_sealed(tmp_path: Path) -> None:
    sink = MemorySink()
    for folder in (tmp_path / "a", tmp_path / "b"):  # the second stands for the same path, emptied
        log(folder, choice(), choice())
        sealed(folder, sink)
    assert len(sink.ids("choices")) == 4


def test_of_a_living_stream_only_closed_segments_are_sealed(tmp_path: Path) -> None:
    with Ledger(tmp_path, "web") as ledger:
        ledger.append(choice(id="closed"))
        ledger.rotate()
        ledger.append(choice(id="open"))
        sink = MemorySink()
        report = run(tmp_path, sink)
        assert sink.ids("choices") == ["closed"]
        assert report.writing == (ledger.stream,)
        assert [r.id for r in recent(tmp_path)] == ["open"]
        ledger.append(choice(id="open too"))
    sealed(tmp_path, sink)
    assert sink.ids("choices") == ["closed", "open", "open too"]


def test_a_listing_that_misses_a_segment_does_not_let_the_mark_pass_over_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matinee.ledger import sealing

    plain = sealing.segments
    with Ledger(tmp_path, "web") as ledger:
        ledger.append(choice(id="1"))
        ledger.rotate()

        def racing(folder: Path, stream: str) -> Any:
            before = plain(folder, stream)
            if len(before) == 1:  # while the folder is listed, two more are closed and the second is seen first
                for i in ("2", "3"):
                    ledger.append(choice(id=i))
                    ledger.rotate()
                return before
            return [s for s in plain(folder, stream) if s.number != 2]

        with monkeypatch.context() as patched:
            patched.setattr(sealing, "segments", racing)
            sink = sealed(tmp_path)
        assert sink.ids("choices") == ["1"]
        sealed(tmp_path, sink)
        assert sink.ids("choices") == ["1", "2", "3"]


# Outcomes count once


def test_an_outcome_counts_once_within_a_batch_across_segments_streams_and_seals(tmp_path: Path) -> None:
    sink = MemorySink()
    log(tmp_path, outcome(id="a"), outcome(id="a"), outcome(id="b"))
    with Ledger(tmp_path, "web") as one, Ledger(tmp_path, "other") as two:
        one.append(outcome(id="b"))
        one.rotate()
        one.append(outcome(id="c"))
        two.append(outcome(id="c"))
    sealed(tmp_path, sink)
    log(tmp_path, outcome(id="a"), outcome(id="d"), outcome(id="c"))
    sealed(tmp_path, sink)
    assert sorted(sink.ids("outcomes")) == sorted(sink.ids("played")) == ["a", "b", "c", "d"]


def test_the_first_copy_counts(tmp_path: Path) -> None:
    log(tmp_path, *(outcome(id="o", row={"member": 1, "title": t, "seconds": 0.0}) for t in (5, 6)))
    assert [r["title"] for r in sealed(tmp_path).tables["played"]] == [5]


def test_late_early_and_unanswered_outcomes_are_kept(tmp_path: Path) -> None:
    sink = MemorySink()
    log(tmp_path, outcome(id="early", choice="c"), outcome(id="unknown", choice="nobody knows it"))
    sealed(tmp_path, sink)
    log(tmp_path, choice(id="c"))
    sealed(tmp_path, sink)
    log(tmp_path, outcome(id="late", choice="c", at=NOW - timedelta(days=90)))
    sealed(tmp_path, sink)
    assert sink.ids("outcomes") == sink.ids("played") == ["early", "unknown", "late"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"member": 42, "title": 8, "seconds": -1.0}, "seconds == -1.0, must be >= 0"),
        ({"member": "42", "title": 8, "seconds": 1.0}, "member == '42', must be int, not str"),
        ({"member": 42.0, "title": 8, "seconds": 1.0}, "member == 42.0, must be int, not float"),
        ({"member": True, "title": 8, "seconds": 1.0}, "member == True, must be int, not bool"),
        ({"member": 2**63, "title": 8, "seconds": 1.0}, "member == 9223372036854775808, must be int"),
        ({"member": 42, "title": 8}, r"seconds is missing, must be given \(float\)"),
        ({"member": 42, "title": 8, "seconds": None}, "seconds is missing"),
        ({"member": 42, "title": 8, "seconds": 1.0, "second": 1}, "column == 'second', must be .*did you mean 'second"),
        ({"member": 42, "title": 8, "seconds": 1.0, "device": 3}, "device == 3, must be str, not int"),
    ],
)
def test_a_row_that_is_not_as_declared_is_held_back_and_its_id_may_come_again(
    tmp_path: Path, row: dict[str, Any], reason: str
) -> None:
    import re

    held = Held()
    stream = log(tmp_path, outcome(id="good"), outcome(id="bad", row=row), outcome(id="bad"))
    sink = sealed(tmp_path, held=held)
    ((fact, what, why, source),) = held
    assert (fact, what["outcome"], what["title"]) == ("played", "bad", 8)
    assert re.search(reason, why)
    assert source.startswith(f"{stream}/000001:")
    assert sink.ids("outcomes") == sink.ids("played") == ["good", "bad"]
    assert sink.tables["played"][1]["member"] == 42


def test_a_fact_nobody_declared_and_a_time_ahead_are_held_back(tmp_path: Path) -> None:
    held = Held()
    ahead = NOW + timedelta(hours=1)
    log(tmp_path, outcome(fact="plaid"), outcome(at=ahead, known=ahead))
    assert sealed(tmp_path, held=held).tables == {}
    assert "fact == 'plaid', must be one of this studio's (paid, played); did you mean 'paid'?" in held[0][2]
    assert "lies in the future" in held[1][2]
    assert all(segments(tmp_path, s) == [] for s in streams(tmp_path))


def paid(number: int, invoice: str = "i1", **given: Any) -> Outcome:
    return outcome(fact="paid", row={"invoice": invoice, "number": number}, **given)


def test_types_that_json_lacks_arrive_in_their_own(tmp_path: Path) -> None:
    row = {"invoice": "i", "number": 1, "receipt": b"\x00\xff", "due": NOW, "tags": ["a", "b"]}
    log(tmp_path, outcome(id="full", fact="paid", row=row), paid(2, id="empty"))
    full, empty = sealed(tmp_path).tables["paid"]
    assert (full["receipt"], full["due"], full["tags"]) == (b"\x00\xff", NOW, ["a", "b"])
    assert (empty["receipt"], empty["due"], empty["tags"]) == (None, None, None)
    held = Held()
    bad = [{"receipt": "!"}, {"tags": ["a", 1]}, {"due": "x"}]
    log(tmp_path, *(outcome(fact="paid", row={**row, **one}) for one in bad))
    assert sealed(tmp_path, held=held).tables == {}
    assert [h[2].split(" ")[0] for h in held] == ["receipt", "tags", "due"]


def test_unique_columns_are_kept_unique_and_copies_are_no_breach(tmp_path: Path) -> None:
    sink, held = MemorySink(), Held()
    log(tmp_path, paid(1, id="a"), paid(1, id="a"), paid(1, id="b"), paid(2, id="c"))
    sealed(tmp_path, sink, held)
    log(tmp_path, paid(2, id="d"), paid(1, invoice="i2", id="e"))
    sealed(tmp_path, sink, held)
    assert sink.ids("paid") == sink.ids("outcomes") == ["a", "c", "e"]
    assert [(h[1]["outcome"], h[2]) for h in held] == [
        (i, "duplicate key: the table already has this invoice, number, must be unique") for i in ("b", "d")
    ]


def test_what_was_erased_between_two_tries_of_a_seal_does_not_come_back(tmp_path: Path) -> None:
    class DiesAfterOutcomes(MemorySink):
        def write(self, table: str, *given: Any) -> None:
            if table == "played":
                raise StorageError("the process ends here")
            super().write(table, *given)

    first, second = DiesAfterOutcomes(), MemorySink()
    log(tmp_path, outcome(id="erased"), outcome(id="stays"))
    with pytest.raises(StorageError):
        sealed(tmp_path, first)
    second.sealed = first.sealed
    second.tables = {"outcomes": [r for r in first.tables["outcomes"] if r["id"] != "erased"]}
    sealed(tmp_path, second)
    assert second.ids("outcomes") == second.ids("played") == ["stays"]


# Damage


def test_damaged_lines_go_to_quarantine_with_their_place_and_the_rest_is_sealed(tmp_path: Path) -> None:
    stream = log(tmp_path, *(choice(id=str(i)) for i in range(5)))
    path = segments(tmp_path, stream)[0].path
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"home@13", b"home@14")
    lines[4] = b"ffffffff {}\n"  # the last line too: it is whole, so it is no torn tail
    path.write_bytes(b"".join(lines))
    held = Held()
    sink = sealed(tmp_path, held=held)
    assert sink.ids("choices") == ["0", "2", "3"]
    places = [f"{stream}/000001:{sum(map(len, lines[:i]))}" for i in (1, 4)]
    assert [(h[0], h[2], h[3]) for h in held] == [("log", "the checksum does not match", p) for p in places]
    assert held[0][1]["line"] == lines[1].decode().rstrip("\n")


def test_a_sound_line_that_is_no_record_is_held_back(tmp_path: Path) -> None:
    stream = log(tmp_path, choice(id="a", candidates=[1.5]), choice(id="b"))
    segment = segments(tmp_path, stream)[0].path
    with segment.open("ab") as file:
        file.write(to_line(b'{"type":"chance"}') + to_line(b"{") + to_line(b'{"type":"choice","id":1}'))
    held = Held()
    assert sealed(tmp_path, held=held).ids("choices") == ["b"]
    assert [h[0] for h in held] == ["log"] * 4
    assert "Expected `int | str`, got `float`" in held[0][2]


def test_a_torn_tail_is_cut_at_every_offset_and_nothing_before_it_is_lost(tmp_path: Path) -> None:
    whole, last = to_line(encode(choice(id="whole"))), to_line(encode(outcome(id="last")))
    for cut in range(len(last) + 1):
        folder = tmp_path / str(cut)
        stream = folder / "web-00000000"
        stream.mkdir(parents=True)
        (stream / "000001.wal").write_bytes(whole)
        (stream / "000002.open").write_bytes(whole.replace(b"", b"") + last[:cut])
        torn = recover(folder, stream.name)
        kept = (stream / "000002.wal").read_bytes()
        assert kept == whole + (last if cut == len(last) else b"")
        assert (torn is None) == (cut in (0, len(last)))
        if torn is not None:
            assert (torn.path.name, torn.offset, torn.line) == ("000002.wal", len(whole), last[:cut])
        assert recover(folder, stream.name) is None


def test_a_tail_is_cut_from_the_last_segment_only(tmp_path: Path) -> None:
    stream = tmp_path / "web-00000000"
    stream.mkdir()
    line = to_line(encode(choice(id="a")))
    for name in ("000001.wal", "000002.open", "000003.open"):
        (stream / name).write_bytes(line + line[:30])
    torn = recover(tmp_path, stream.name)
    assert torn is not None
    assert torn.path.name == "000003.wal"
    held = Held()
    sealed(tmp_path, held=held)
    assert [h[3] for h in held] == [f"web-00000000/{n:06d}:{len(line)}" for n in (1, 2)]
    assert {h[2] for h in held} == {"the line has no end"}


def test_one_sealer_at_a_time(tmp_path: Path) -> None:
    log(tmp_path, choice())
    alone = exclusive(tmp_path / ".sealer.lock", "the sealing of the log")
    with alone, pytest.raises(TableBusyError, match="the sealing of the log was held by"):
        sealed(tmp_path)
    assert len(sealed(tmp_path).ids("choices")) == 1


def test_a_writer_that_starts_during_a_seal_takes_another_stream(tmp_path: Path) -> None:
    stream = log(tmp_path, choice(id="a"))
    started: list[Ledger] = []

    class Starting(MemorySink):
        def write(self, *given: Any) -> None:
            super().write(*given)
            if not started:
                started.append(Ledger(tmp_path, "web"))
                started[0].append(choice(id="b"))

    sink = Starting()
    sealed(tmp_path, sink)
    assert started[0].stream != stream
    started[0].close()
    sealed(tmp_path, sink)
    assert sink.ids("choices") == ["a", "b"]


def test_small_batches_give_the_same_tables(tmp_path: Path) -> None:
    random.seed(7)
    for folder in (tmp_path / "one", tmp_path / "many"):
        state = random.Random(7)
        with Ledger(folder, "a", segment_bytes=600) as a, Ledger(folder, "b", segment_bytes=900) as b:
            for i in range(60):
                which = a if state.random() < 0.5 else b
                which.append(choice(id=f"c{i}"))
                which.append(outcome(id=f"o{state.randrange(30)}"))
    one = sealed(tmp_path / "one")
    many = sealed(tmp_path / "many", batch_bytes=1)
    assert len(one.commits) == 3 < len(many.commits)
    for table in ("choices", "outcomes", "played"):
        assert sorted(one.ids(table)) == sorted(many.ids(table))
        assert len(set(one.ids(table))) == len(one.ids(table))


def test_progress_is_told(tmp_path: Path) -> None:
    log(tmp_path, choice())
    log(tmp_path, choice())
    told: list[tuple[int, int]] = []
    sealed(tmp_path, batch_bytes=1, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 2), (2, 2)]


def test_rows_have_their_order_of_appending(tmp_path: Path) -> None:
    log(tmp_path, *(outcome(id=str(i)) for i in range(20)))
    sink = sealed(tmp_path)
    frame = pl.DataFrame(sink.tables["played"])
    assert frame.sort("seq")["outcome"].to_list() == [str(i) for i in range(20)]


def test_an_empty_folder_seals_to_nothing(tmp_path: Path) -> None:
    report = seal(tmp_path / "log", MemorySink(), quarantine=Held())
    assert (report.segments, dict(report.written)) == (0, {})
    assert isinstance(choice(), Choice)


def test_what_a_batch_holds_back_is_told_once_a_fact_and_before_outcomes_commit(tmp_path: Path) -> None:
    bad = {"member": 42, "title": 8, "seconds": -1.0}
    log(tmp_path, *(outcome(row=bad) for _ in range(50)), outcome(fact="plaid"), outcome(id="good"))
    sink, told = MemorySink(), list[tuple[str, int, int]]()

    def quarantine(fact: str, rows: Sequence[tuple[dict[str, Any], str, str]]) -> None:
        told.append((fact, len(rows), len(sink.commits)))

    report = seal(tmp_path, sink, quarantine=quarantine, clock=lambda: NOW + timedelta(minutes=1))
    assert told == [("plaid", 1, 0), ("played", 50, 0)]
    assert report.quarantined == 51
    assert sink.ids("played") == ["good"]
