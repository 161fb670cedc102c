"""Nested columns: samples that are mappings of sub-samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import hangarlake as hl
from hangarlake.storage import MemoryStore
from hangarlake.testing import CountingStore

KEYS = st.one_of(st.integers(-3, 3), st.sampled_from(["a", "ab", "b", "0"]))


def new_repository(tmp_path: Path) -> hl.Repository:
    return hl.Repository.create(MemoryStore(), author="A <a@example.org>", cache_dir=tmp_path / "cache")


def test_a_sample_is_a_mapping_of_its_sub_samples(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    with repo.checkout(write=True) as w:
        boxes = w.add_ndarray_column("boxes", (4,), "int64", nested=True)
        boxes["img", 1] = np.array([1, 2, 3, 4])
        boxes["img"] = {"second": np.array([5, 6, 7, 8]), 0: np.arange(4)}
        boxes[7] = {7: np.zeros(4, "int64")}
        assert sorted(boxes["img"], key=str) == [0, 1, "second"]
        w.commit("boxes")
    column = repo.checkout()["boxes"]
    assert list(column) == [7, "img"]
    assert len(column) == 2
    assert list(column["img"]) == [0, 1, "second"]
    assert column["img"]["second"].tolist() == column["img", "second"].tolist() == [5, 6, 7, 8]
    assert len(column["img"]) == 3
    assert "img" in column
    assert ("img", 1) in column
    assert ("img", 2) not in column
    assert "im" not in column
    assert {k: dict(v).keys() for k, v in column.items()} == {7: {7}, "img": {0, 1, "second"}}
    assert column.batch([("img", 0), (7, 7)]).tolist() == [[0, 1, 2, 3], [0, 0, 0, 0]]
    assert repo.checkout()["boxes", "img", 1].tolist() == [1, 2, 3, 4]
    with pytest.raises(hl.SampleNotFoundError):
        column["img", 5]
    with pytest.raises(hl.SampleNotFoundError):
        column["none"]


def test_removing_a_sample_removes_its_sub_samples_and_no_others(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    with repo.checkout(write=True) as w:
        texts = w.add_str_column("texts", nested=True)
        texts.update({"a": {1: "one", 2: "two"}, "ab": {1: "x"}, 5: {"k": "v"}})
        del texts["a"]
        assert list(texts) == [5, "ab"]
        del texts["ab", 1]
        assert "ab" not in texts
        assert ("k", "v") in texts[5].items()
        assert ("k", "w") not in texts[5].items()
        assert "v" in texts[5].values()
        assert texts.pop(5) == {"k": "v"}
        assert len(texts) == 0
        with pytest.raises(hl.SampleNotFoundError):
            del texts["a"]


def test_flat_keys_and_plain_values_are_refused(tmp_path: Path) -> None:
    repo = new_repository(tmp_path)
    with repo.checkout(write=True) as w:
        texts = w.add_str_column("texts", nested=True)
        with pytest.raises(hl.SchemaError, match="nested"):
            texts["a"] = "text"
        with pytest.raises(hl.SchemaError, match="nested"):
            texts.extend(["a"], ["text"])
        with pytest.raises(hl.SchemaError, match="nested"):
            texts.append("text")
        with pytest.raises(hl.SchemaError):
            texts["a"] = {1: "fits", 2: b"does not"}
        assert len(texts) == 0
        flat = w.add_str_column("flat")
        with pytest.raises(hl.SchemaError, match="flat"):
            flat["a", 1] = "text"
        texts["a", 1] = flat["a"] = "text"
        w.commit("both")
        there = repo.checkout()
        for column, wrong, says in (
            (texts, "a", "nested"),
            (there["texts"], "a", "nested"),
            (flat, ("a", 1), "flat"),
            (there["flat"], ("a", 1), "flat"),
        ):
            for ask in (column.digest, column.shape_of):
                with pytest.raises(hl.SchemaError, match=says):
                    ask(wrong)
            for many in ([wrong], [wrong] * 5000):
                with pytest.raises(hl.SchemaError, match=says):
                    column.batch(many)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(KEYS, KEYS, st.text("xy", max_size=2), st.sampled_from(["set", "remove", "drop", "commit"])),
        max_size=25,
    )
)
def test_nested_columns_behave_as_a_dict_of_dicts(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[object, object, str, str]]
) -> None:
    repo = new_repository(tmp_path_factory.mktemp("nested"))
    model: dict[object, dict[object, str]] = {}
    with repo.checkout(write=True, staging="memory") as w:
        column = w.add_str_column("texts", nested=True)
        for sample, sub, value, action in steps:
            if action == "set":
                column[sample, sub] = value
                model.setdefault(sample, {})[sub] = value
            elif action == "remove" and sub in model.get(sample, {}):
                del column[sample, sub]
                del model[sample][sub]
                if not model[sample]:
                    del model[sample]
            elif action == "drop" and sample in model:
                del column[sample]
                del model[sample]
            elif action == "commit":
                w.commit("step", allow_empty=True)
            assert (sample in column) == (sample in model)
        w.commit("end", allow_empty=True)
    read = repo.checkout()["texts"]
    assert {sample: dict(subs) for sample, subs in read.items()} == model
    assert len(read) == len(model)


@pytest.mark.parametrize("portion", [None, 200_000])
def test_all_sub_samples_of_a_sample_are_read_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, portion: int | None
) -> None:
    if portion is not None:
        monkeypatch.setattr("hangarlake.columns.nested._AT_ONCE", portion)
    store = MemoryStore()
    frames = np.random.default_rng(0).integers(0, 256, (12, 300, 300), np.uint8)
    repo = hl.Repository.create(store, author="A <a@example.org>", cache_dir=tmp_path / "c")
    with repo.checkout(write=True) as w:
        column = w.add_ndarray_column("frames", (300, 300), "u1", nested=True)
        column["clip"] = dict(enumerate(frames))
        w.commit("a clip")
    counted = CountingStore(store, latency=0.05)
    clip = hl.Repository.open(counted, cache_dir=tmp_path / "d").checkout()["frames"]["clip"]
    assert len(clip) == 12  # the tree has been read
    counted.reset()
    for i, (sub, frame) in enumerate(clip.items()):
        assert sub == i
        np.testing.assert_array_equal(frame, frames[i])
    assert counted.round_trips() == (1 if portion is None else 6)
