"""What a float conversion is found by again, and that a cache never changes a result."""

import importlib.metadata
import multiprocessing
import os
import shutil
from pathlib import Path

import pytest

from tfq.errors import UsageError
from tfq.sources import Cache, cache, client, load_source, open_cache

ANSWER = {"signature": None, "checks": {"max_abs_diff": 0.5}, "layers": ["a"], "timings": {"x": 1}}


@pytest.fixture
def saved_model(tmp_path):
    folder = tmp_path / "net"
    for name in ("saved_model.pb", "variables/variables.index", "assets/words.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())
    (folder / "assets.extra").mkdir()
    return folder


@pytest.fixture
def kept(tmp_path):
    return Cache(tmp_path / "cache")


@pytest.fixture
def converted(monkeypatch, files):
    """A converter that starts nothing; what it was asked for."""
    requests = []

    def run_worker(request, folder, progress=None):
        requests.append(request)
        Path(request["output"]).write_bytes(files.dense().to_bytes())
        return {**ANSWER, "warnings": [f"number {len(requests)}"]}

    monkeypatch.setattr(client, "run_worker", run_worker)
    return requests


def test_the_second_time_is_the_same_without_a_conversion(saved_model, kept, converted):
    first = load_source(saved_model, cache=kept)
    second = load_source(saved_model, cache=kept)
    assert len(converted) == 1
    assert (first.cached, second.cached) == (False, True)
    assert second.model == first.model
    assert second.warnings == first.warnings == ("number 1",)
    assert (second.checks, second.timings) == (ANSWER["checks"], ANSWER["timings"])
    assert second.layer_names == first.layer_names


def test_what_a_killed_process_left_there_goes_with_the_next_run(
    saved_model, kept, converted, tmp_path
):
    load_source(saved_model, cache=kept)
    left = tmp_path / "cache" / ".key.abcdefgh.tfq-tmp"
    left.write_bytes(b"half")
    assert load_source(saved_model, cache=kept).cached
    assert not left.exists()


def test_without_a_cache_nothing_is_kept(saved_model, converted, tmp_path):
    for _ in range(2):
        load_source(saved_model)
    assert len(converted) == 2
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "name", ["saved_model.pb", "variables/variables.index", "assets/words.txt"]
)
def test_a_changed_file_of_the_model_is_another_model(saved_model, kept, converted, name):
    load_source(saved_model, cache=kept)
    (saved_model / name).write_bytes(b"other")
    assert not load_source(saved_model, cache=kept).cached


def test_a_renamed_asset_is_another_model(saved_model, kept, converted):
    load_source(saved_model, cache=kept)
    (saved_model / "assets/words.txt").rename(saved_model / "assets/others.txt")
    assert not load_source(saved_model, cache=kept).cached


def test_samples_and_place_are_not_part_of_the_model(saved_model, kept, converted, tmp_path):
    load_source(saved_model, cache=kept)
    (saved_model / "assets.extra" / "tfq_representative_data.npz").write_bytes(b"x")
    (saved_model / "net_int8.tflite").write_bytes(b"x")
    moved = shutil.move(saved_model, tmp_path / "moved")
    again = load_source(moved, cache=kept)
    assert again.cached
    assert (again.path, again.representative_data.parent.parent) == (str(moved), moved)


def test_a_warning_that_names_the_old_place_is_not_repeated_elsewhere(
    saved_model, kept, monkeypatch, files, tmp_path
):
    def run_worker(request, folder, progress=None):
        Path(request["output"]).write_bytes(files.dense().to_bytes())
        return {**ANSWER, "warnings": [f"{request['shown']} is old."]}

    monkeypatch.setattr(client, "run_worker", run_worker)
    load_source(saved_model, cache=kept)
    assert load_source(saved_model, cache=kept).cached
    moved = shutil.move(saved_model, tmp_path / "moved")
    assert load_source(moved, cache=kept).warnings == (f"{moved} is old.",)


@pytest.mark.parametrize("options", [{"batch": 2}, {"signature": "other"}])
def test_other_options_are_another_conversion(saved_model, kept, converted, options):
    load_source(saved_model, cache=kept)
    assert not load_source(saved_model, cache=kept, **options).cached
    assert load_source(saved_model, cache=kept, **options).cached


@pytest.mark.parametrize(
    "what", ["tensorflow", "keras", "tf_keras", "code", "setting", "keras.json"]
)
def test_other_versions_code_and_settings_are_another_conversion(
    saved_model, kept, converted, what, monkeypatch, tmp_path
):
    load_source(saved_model, cache=kept)
    version = importlib.metadata.version
    if what == "code":
        monkeypatch.setattr(cache, "_code", lambda: "other")
    elif what == "setting":
        monkeypatch.setenv("TF_USE_LEGACY_KERAS", f"not {os.environ.get('TF_USE_LEGACY_KERAS')}")
    elif what == "keras.json":
        (tmp_path / "keras.json").write_text('{"floatx": "float16"}')
        monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    else:
        monkeypatch.setattr(
            importlib.metadata, "version", lambda p: "9.9" if p == what else version(p)
        )
    cache._versions.cache_clear()
    try:
        assert not load_source(saved_model, cache=kept).cached
    finally:
        cache._versions.cache_clear()


def test_code_is_hashed_file_by_file(monkeypatch, tmp_path):
    (tmp_path / "tfq/sources").mkdir(parents=True)
    monkeypatch.setattr(cache, "__file__", str(tmp_path / "tfq/sources/cache.py"))
    found = set()
    for name, content in [("a.py", "1"), ("a.py", "2"), ("b.py", "2")]:
        (tmp_path / "tfq/sources" / name).write_text(content)
        found.add(cache._code.__wrapped__())
    assert len(found) == 3


def test_a_model_that_may_run_code_is_not_kept(saved_model):
    request = {"path": str(saved_model), "kind": "saved_model", "batch": 1}
    assert cache.key_of(request)
    assert cache.key_of({**request, "allow_code": True}) is None


def test_a_model_that_changes_while_it_is_converted_is_not_kept(
    saved_model, kept, monkeypatch, files
):
    def run_worker(request, folder, progress=None):
        (saved_model / "saved_model.pb").write_bytes(os.urandom(8))
        Path(request["output"]).write_bytes(files.dense().to_bytes())
        return {**ANSWER, "warnings": []}

    before = (saved_model / "saved_model.pb").read_bytes()
    monkeypatch.setattr(client, "run_worker", run_worker)
    load_source(saved_model, cache=kept)
    (saved_model / "saved_model.pb").write_bytes(before)
    assert not load_source(saved_model, cache=kept).cached


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-3], lambda b: b[:-1] + b"?", lambda b: b"", bytes.upper]
)
def test_a_damaged_entry_is_made_again(saved_model, kept, converted, tmp_path, damage):
    first = load_source(saved_model, cache=kept)
    (entry,) = (tmp_path / "cache").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert load_source(saved_model, cache=kept).model == first.model
    assert len(converted) == 2
    assert load_source(saved_model, cache=kept).cached


def test_the_least_recently_used_make_room(tmp_path):
    kept = Cache(tmp_path / "cache", limit=1300)
    answer = {**ANSWER, "warnings": []}
    for i, key in enumerate("abcd"):
        kept.store(key, "x", bytes(100), answer)
        path = tmp_path / "cache" / f"{key}.conversion"
        size = path.stat().st_size
        os.utime(path, ns=(i, i))
    assert 4 * size <= 1300 < 5 * size
    assert kept.load("a", "x") is not None  # Now "b" is the oldest.
    kept.store("e", "x", bytes(100), answer)
    assert sorted(p.stem for p in (tmp_path / "cache").iterdir()) == ["a", "c", "d", "e"]


def test_what_would_drive_out_all_others_is_not_kept_and_that_is_said(tmp_path):
    for asked in (False, True):
        kept = Cache(tmp_path / "cache", asked=asked, limit=4 << 20)
        why = kept.store("a", "x", bytes(3 << 20), {**ANSWER, "warnings": []})
        assert "/cache: it has 3 MB, and one of more than 1 MB would drive out the others" in why
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize("asked", [False, True])
def test_a_place_that_takes_nothing_is_said_to_who_asked_for_it(
    saved_model, converted, tmp_path, asked
):
    (tmp_path / "file").write_bytes(b"")
    loaded = load_source(saved_model, cache=Cache(tmp_path / "file" / "cache", asked=asked))
    assert ("is not kept in the cache" in loaded.unkept) == asked
    assert not loaded.cached


def _use(folder, source, barrier, results):
    kept = Cache(folder, limit=4000)
    barrier.wait()
    for i in range(60):
        model = bytes([i]) * 100
        kept.store(f"key{i % 7}", "x", model, {**ANSWER, "warnings": []})
        found = kept.load(f"key{i % 5}", "x")
        if found is not None and len(set(found[0])) != 1:
            results.put("half an entry")
    results.put("done")


def test_processes_share_a_folder(tmp_path, saved_model):
    context = multiprocessing.get_context("spawn")
    barrier, results = context.Barrier(2), context.Queue()
    arguments = (tmp_path / "cache", saved_model, barrier, results)
    processes = [context.Process(target=_use, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    said = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert said == ["done"] * 2
    left = list((tmp_path / "cache").iterdir())
    assert {p.suffix for p in left} == {".conversion"}
    assert sum(p.stat().st_size for p in left) <= 4000


def test_which_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert open_cache(None)._folder == tmp_path / "tfq"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert open_cache(None)._folder == tmp_path / "home/.cache/tfq"
    assert open_cache(tmp_path / "x")._folder == tmp_path / "x"
    assert open_cache("none") is None


def test_a_file_or_a_number_is_no_cache(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    for wrong in (tmp_path / "file", "", 7):
        with pytest.raises(UsageError, match="cache"):
            open_cache(wrong)
