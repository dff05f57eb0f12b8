"""The online store: generations that are read whole, swapped under readers, and erased for good."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matinee import online
from matinee.exceptions import MatineeError, StorageError, UnknownNameError
from matinee.online import OnlineStore, erase, publish


def test_what_was_published_is_read(tmp_path: Path) -> None:
    states = {"taste": [(7, b"drama"), (42, b"noir")], "device": [("tv", b"\x00")]}
    runtime = np.array([90, 120], np.int32)
    assert publish(tmp_path, states, {"runtime": runtime}, {"as_of": "2026-11-22T18:00:00Z", "sealed": {"web": 3}}) == 1
    store = OnlineStore(tmp_path)
    assert (store.get("taste", 7), store.get("taste", 42), store.get("taste", 8)) == (b"drama", b"noir", None)
    assert store.get("device", "tv") == b"\x00"
    assert store.items("runtime").tolist() == [90, 120]
    mapped = store.items("runtime")
    assert type(mapped) is np.ndarray, "the map itself runs code of its own at every slice"
    assert isinstance(mapped.base, np.memmap)
    assert (store.generation, store.features) == (1, ["device", "taste"])
    assert store.manifest == {"as_of": "2026-11-22T18:00:00Z", "sealed": {"web": 3}}


def test_before_anything_is_published_every_get_is_none(tmp_path: Path) -> None:
    store = OnlineStore(tmp_path / "nothing")
    assert (store.generation, store.get("taste", 1), store.manifest, store.refresh()) == (0, None, {}, False)
    assert erase(tmp_path, {"taste": [1]}) == 0


def test_names_that_are_not_there_are_named(tmp_path: Path) -> None:
    publish(tmp_path, {"taste": []}, {"runtime": np.zeros(1)})
    store = OnlineStore(tmp_path)
    assert store.get("taste", 1) is None
    with pytest.raises(UnknownNameError, match=r"features == 'tase', must be .* did you mean 'taste'"):
        store.get("tase", 1)
    with pytest.raises(UnknownNameError, match="items == 'run', must be"):
        store.items("run")


_ids = st.integers(-(2**63), 2**63 - 1) | st.text() | st.text(min_size=500).map(lambda t: t * 3)


@settings(deadline=None, max_examples=30)
@given(rows=st.dictionaries(_ids, st.binary(max_size=20), max_size=40), chunk=st.integers(1, 9))
def test_any_keys_in_any_order_come_back(
    rows: dict[int | str, bytes], chunk: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("online")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(online, "_CHUNK", chunk)
        publish(folder, {"f": iter(rows.items())})
    store = OnlineStore(folder)
    assert {key: store.get("f", key) for key in rows} == rows
    shutil.rmtree(folder)


def test_keys_that_look_alike_are_different(tmp_path: Path) -> None:
    long = "é" * 400
    rows: list[tuple[int | str, bytes]] = [
        (7, b"int"), ("7", b"str"), (-7, b"minus"), (0, b"zero"), ("", b"empty"), ("\x00" * 8, b"eight"),
        (int.from_bytes(b"abcdefgh", "big"), b"n"), ("abcdefgh", b"s"), ("x" * 510, b"510"), ("x" * 511, b"511"),
        (long, b"long"), (long + "!", b"longer"),
    ]  # fmt: skip
    publish(tmp_path, {"f": rows})
    store = OnlineStore(tmp_path)
    assert [store.get("f", key) for key, _ in rows] == [value for _, value in rows]
    assert store.get("f", np.int64(7)) == b"int"  # type: ignore[arg-type]  # NumPy integers pass
    assert store.get("f", long + "?") is None


def test_integers_are_kept_in_order_of_size() -> None:
    numbers = [-(2**63), -256, -1, 0, 1, 255, 256, 2**40, 2**63 - 1]
    keys = [online._key(n) for n in numbers]
    assert keys == sorted(keys)  # what is published in order is appended, several times as fast


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ({"f": [(1, b"a"), (1, b"b")]}, "1 keys are given twice"),
        ({"f": [(1, b"a"), (2, b"b"), (3, b"c"), (2, b"d")]}, "1 keys are given twice"),
        ({"f": [(3, b"a"), (1, b"b"), (2, b"c"), (3, b"d")]}, "1 keys are given twice"),
        ({"f": [(1.5, b"a")]}, "key == 1.5, must be int or str, not float"),
        ({"f": [(True, b"a")]}, "key == True, must be int or str"),
        ({"f": [(2**63, b"a")]}, "key == 9223372036854775808, must fit in 64 bits"),
        ({"f": [(1, "text")]}, r"f\[1\] == 'text', must be bytes, not str"),
        ({"a/b": []}, "name == 'a/b', must be letters"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 2, 1000])
def test_what_cannot_be_published_is_said_and_changes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, states: Any, words: str, chunk: int
) -> None:
    publish(tmp_path, {"f": [(1, b"before")]})
    monkeypatch.setattr(online, "_CHUNK", chunk)
    with pytest.raises(MatineeError, match=words):
        publish(tmp_path, states)
    assert OnlineStore(tmp_path).get("f", 1) == b"before"
    assert sorted(p.name for p in tmp_path.iterdir() if not p.name.startswith(".")) == ["000001", "CURRENT"]


def test_arrays_of_objects_and_odd_manifests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(MatineeError, match="has the type object, must be plain numbers"):
        publish(tmp_path, {}, {"x": np.array([{}], object)})
    with pytest.raises(MatineeError, match=r"manifest == .* must be plain values"):
        publish(tmp_path, {}, manifest={"x": object()})
    assert OnlineStore(tmp_path).generation == 0


def test_arrays_of_any_shape(tmp_path: Path) -> None:
    arrays = {
        "matrix": np.arange(6.0, dtype=np.float32).reshape(2, 3), "none": np.zeros(0), "one": np.array(3),
        "wide": np.zeros((0, 4), np.int64), "text": np.array(["a", "bcd"]),
    }  # fmt: skip
    publish(tmp_path, {}, arrays)
    store = OnlineStore(tmp_path)
    for name, array in arrays.items():
        assert np.array_equal(store.items(name), array)
        assert store.items(name).dtype == array.dtype
    with pytest.raises(ValueError, match="read-only"):
        store.items("matrix")[0, 0] = 1


def test_more_than_the_first_map_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(online, "_MAP", 1 << 16)
    publish(tmp_path, {"f": ((i, bytes(200)) for i in range(5000))})
    assert OnlineStore(tmp_path).get("f", 4999) == bytes(200)
    assert (tmp_path / "000001" / "states-f.mdb").stat().st_size < 2_000_000  # as long as its content


# Generations


def test_refresh_turns_to_the_newest_and_two_are_kept(tmp_path: Path) -> None:
    publish(tmp_path, {"f": [(1, b"1")]}, {"x": np.array([1])})
    store, other = OnlineStore(tmp_path), OnlineStore(tmp_path)
    first = store.items("x")
    for i in (2, 3, 4):
        assert publish(tmp_path, {"f": [(1, b"%d" % i)]}, {"x": np.array([i])}) == i
    assert store.get("f", 1) == b"1"  # until it is told
    assert sorted(online._generations(tmp_path)) == [3, 4]
    assert store.refresh()
    assert not store.refresh()
    assert (store.get("f", 1), store.items("x").tolist(), store.generation) == (b"4", [4], 4)
    assert first.tolist() == [1]  # what a request under way holds stays as it was, though its file is gone
    assert other.get("f", 1) == b"1"


def test_a_file_is_open_once_in_a_process_and_closed_when_nobody_reads_it(tmp_path: Path) -> None:
    publish(tmp_path, {"f": [(1, b"1")]})
    before = len(online._shared)
    one, two = OnlineStore(tmp_path), OnlineStore(tmp_path)
    assert len(online._shared) == before + 1
    publish(tmp_path, {"f": [(1, b"2")]})
    one.refresh()
    assert (one.get("f", 1), two.get("f", 1), len(online._shared)) == (b"2", b"1", before + 2)
    two.refresh()
    assert len(online._shared) == before + 1


def test_readers_are_not_disturbed_by_publishing(tmp_path: Path) -> None:
    def generation(i: int) -> None:
        publish(tmp_path, {"f": ((k, b"%d" % i) for k in range(50))}, {"x": np.full(5, i)})

    generation(1)
    store, stop, wrong = OnlineStore(tmp_path), threading.Event(), list[str]()

    def read() -> None:
        last = 0
        while not stop.is_set():
            now = int(store.get("f", 7) or b"0")
            if now < last or len(set(store.items("x").tolist())) != 1:
                wrong.append(f"{last} -> {now}")
            last = now

    readers = [threading.Thread(target=read) for _ in range(3)]
    for r in readers:
        r.start()
    for i in range(2, 12):
        generation(i)
        store.refresh()
    stop.set()
    for r in readers:
        r.join()
    assert not wrong
    assert store.get("f", 7) == b"11"


def test_a_publisher_that_removes_the_generation_being_opened_is_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(tmp_path, {"f": [(1, b"1")]})
    plain, left = online._current, [1]

    def current(folder: Path) -> int:
        number = plain(folder)
        if left:
            left.pop()
            publish(folder, {"f": [(1, b"2")]}, keep=1)
        return number

    monkeypatch.setattr(online, "_current", current)
    assert OnlineStore(tmp_path).get("f", 1) == b"2"


def test_a_forked_child_reads_on(tmp_path: Path) -> None:
    publish(tmp_path, {"f": [(1, b"1")]})
    store = OnlineStore(tmp_path)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if store.get("f", 1) == b"1" and OnlineStore(tmp_path).get("f", 1) == b"1" else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


# Damage


def damage_by_cutting(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 4096)


def damage_by_flipping(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["states-f.mdb", "items-x.npy", "manifest.json"])
@pytest.mark.parametrize("damage", [damage_by_cutting, damage_by_flipping, Path.unlink])
def test_a_damaged_generation_is_refused_by_number_and_the_old_one_read_on(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    for value in (b"old", b"new"):
        publish(tmp_path, {"f": [(1, value)]}, {"x": np.zeros(2000)}, {"about": "x" * 5000})
        if value == b"old":
            store = OnlineStore(tmp_path)
    damage(tmp_path / "000002" / name)
    with pytest.raises(StorageError, match=rf"generation 2 of .* is damaged .*{name.split('.')[0]}.*`matinee publish`"):
        store.refresh()
    assert (store.get("f", 1), store.generation) == (b"old", 1)
    with pytest.raises(StorageError, match=r"generation 2 .* is damaged"):
        OnlineStore(tmp_path)
    publish(tmp_path, {"f": [(1, b"third")]})
    assert store.refresh()
    assert store.get("f", 1) == b"third"


def test_without_verifying_a_cut_file_is_still_noticed(tmp_path: Path) -> None:
    publish(tmp_path, {"f": [(1, b"a")]})
    assert OnlineStore(tmp_path, verify=False).get("f", 1) == b"a"
    damage_by_cutting(tmp_path / "000001" / "states-f.mdb")
    with pytest.raises(StorageError, match="bytes, must have"):
        OnlineStore(tmp_path, verify=False)


def test_a_current_file_that_makes_no_sense_is_said_and_mended(tmp_path: Path) -> None:
    publish(tmp_path, {"f": [(1, b"a")]})
    (tmp_path / "CURRENT").write_text("../../etc")
    with pytest.raises(StorageError, match=r"CURRENT holds '../../etc', must be a number"):
        OnlineStore(tmp_path)
    publish(tmp_path, {"f": [(1, b"b")]})
    assert OnlineStore(tmp_path).get("f", 1) == b"b"


def test_a_full_disk_is_an_error_and_what_was_served_still_is(tmp_path: Path) -> None:
    publish(tmp_path, {"f": [(1, b"before")]})
    code = """
import resource, sys
import numpy as np
from matinee.exceptions import StorageError
from matinee.online import publish
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
for states, items in (({"f": ((i, bytes(200)) for i in range(5000))}, {}), ({}, {"x": np.zeros(100_000)})):
    try:
        publish(sys.argv[1], states, items)
    except StorageError as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    call = [sys.executable, "-c", code, str(tmp_path)]
    ran = subprocess.run(call, capture_output=True, text=True, check=True, env=environment)
    assert ran.stdout.count("nothing was changed") == 2
    assert OnlineStore(tmp_path).get("f", 1) == b"before"
    assert not list(tmp_path.glob("*.partial"))


# Erasure

SECRET = b"the taste of member forty-two"


def bytes_on_disk(folder: Path, needle: bytes) -> list[str]:
    return [str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and needle in p.read_bytes()]


def test_an_erased_key_is_gone_with_its_bytes_and_all_others_stay(tmp_path: Path) -> None:
    rows = [(i, SECRET if i == 42 else b"%d" % i) for i in range(2000)]
    publish(tmp_path, {"taste": rows, "other": [(42, b"stays")]}, {"x": np.array([1])}, {"as_of": "t"})
    publish(tmp_path, {"taste": rows, "other": [(42, b"stays")]}, {"x": np.array([1])}, {"as_of": "t"})
    assert len(bytes_on_disk(tmp_path, SECRET)) == 2
    store, elsewhere = OnlineStore(tmp_path), OnlineStore(tmp_path)
    assert store.erase_key("taste", 42)
    assert bytes_on_disk(tmp_path, SECRET) == []
    assert (store.generation, store.get("taste", 42), store.get("other", 42)) == (3, None, b"stays")
    assert [store.get("taste", i) for i in range(2000) if i != 42] == [b"%d" % i for i in range(2000) if i != 42]
    assert (store.items("x").tolist(), store.manifest) == ([1], {"as_of": "t"})
    assert elsewhere.get("taste", 42) == SECRET  # a server of its own keeps its files until it refreshes
    assert elsewhere.refresh()
    assert elsewhere.get("taste", 42) is None
    assert not store.erase_key("taste", 42)
    assert store.generation == 3


def test_a_key_that_only_an_older_generation_holds_is_gone_too(tmp_path: Path) -> None:
    publish(tmp_path, {"taste": [(42, SECRET)]})
    publish(tmp_path, {"taste": [(7, b"x")]})
    assert erase(tmp_path, {"taste": [42], "unknown": [1]}) == 0
    assert bytes_on_disk(tmp_path, SECRET) == []
    assert OnlineStore(tmp_path).get("taste", 7) == b"x"


def test_many_keys_are_erased_at_once(tmp_path: Path) -> None:
    publish(tmp_path, {"a": [(i, b"a%d" % i) for i in range(9)], "b": [("x" * 600, SECRET), ("y", b"y")]})
    assert erase(tmp_path, {"a": [1, 2, 77], "b": ["x" * 600]}) == 3
    store = OnlineStore(tmp_path)
    assert [i for i in range(9) if store.get("a", i) is None] == [1, 2]
    assert (store.get("b", "x" * 600), store.get("b", "y")) == (None, b"y")
    assert bytes_on_disk(tmp_path, SECRET) == []


# A process that dies anywhere


class KilledHereError(Exception):
    """Stands for the end of the process."""


def told_of_lines(tell: Callable[[int], None]) -> Callable[..., Any]:
    """A trace function that is told the number of each line of the module that runs."""

    def line(frame: types.FrameType, event: str, arg: Any) -> Any:
        if event == "line":
            tell(frame.f_lineno)
        return line

    return lambda frame, event, arg: line if frame.f_code.co_filename.endswith("matinee/online.py") else None


def each_line(work: Callable[[], object]) -> list[int]:
    """The first moment at which each line runs, counted as `dying` counts."""
    ran: list[int] = []
    sys.settrace(told_of_lines(ran.append))
    try:
        work()
    finally:
        sys.settrace(None)
    return [ran.index(number) + 1 for number in dict.fromkeys(ran)]


def dying(work: Callable[[], object], at: int) -> None:
    """Run until the nth line, and no further."""
    left = [at]

    def tell(number: int) -> None:
        left[0] -= 1
        if left[0] == 0:
            raise KilledHereError

    sys.settrace(told_of_lines(tell))
    try:
        with pytest.raises(KilledHereError):
            work()
    finally:
        sys.settrace(None)


@pytest.fixture
def unsynced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Syncs matter when the machine dies; here processes do, often, and should not take long over it."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


def test_what_a_killed_publisher_leaves_is_removed_by_the_next_one(tmp_path: Path) -> None:
    def rows() -> Iterator[tuple[int, bytes]]:
        yield 1, SECRET
        os.kill(os.getpid(), signal.SIGKILL)

    child = os.fork()
    if child == 0:
        try:
            publish(tmp_path, {"done": [(1, SECRET)], "f": rows()})
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert bytes_on_disk(tmp_path, SECRET)
    assert OnlineStore(tmp_path).generation == 0
    erase(tmp_path, {"done": [1]})
    assert bytes_on_disk(tmp_path, SECRET) == []
    assert publish(tmp_path, {"f": [(1, b"x")]}) == 1


@pytest.mark.usefixtures("unsynced")
def test_publishing_that_dies_at_any_line_leaves_one_whole_generation(tmp_path: Path) -> None:
    def begin(at: int) -> tuple[Path, Callable[[], object]]:
        folder = tmp_path / str(at)
        publish(folder, {"f": [(1, b"old")]}, {"x": np.array([1])})
        return folder, lambda: publish(folder, {"f": [(1, b"new")]}, {"x": np.array([2])})

    moments = each_line(begin(0)[1])
    assert len(moments) > 60
    for at in moments:
        folder, work = begin(at)
        dying(work, at)
        store = OnlineStore(folder)
        assert (store.get("f", 1), store.items("x").tolist()) in ((b"old", [1]), (b"new", [2]))
        publish(folder, {"f": [(1, b"newer")]})
        assert store.refresh()
        assert store.get("f", 1) == b"newer"


@pytest.mark.usefixtures("unsynced")
def test_an_erasure_that_dies_at_any_line_is_finished_by_repeating_it(tmp_path: Path) -> None:
    def begin(at: int) -> tuple[Path, Callable[[], object]]:
        folder = tmp_path / str(at)
        publish(folder, {"f": [(1, b"one"), (42, SECRET)], "g": [(42, b"g")]})
        return folder, lambda: erase(folder, {"f": [42]})

    moments = each_line(begin(0)[1])
    assert len(moments) > 60
    for at in moments:
        folder, work = begin(at)
        dying(work, at)
        assert OnlineStore(folder).get("f", 1) == b"one"
        erase(folder, {"f": [42]})
        assert bytes_on_disk(folder, SECRET) == []
        store = OnlineStore(folder)
        assert (store.get("f", 1), store.get("f", 42), store.get("g", 42)) == (b"one", None, b"g")
