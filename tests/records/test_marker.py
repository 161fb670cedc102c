from __future__ import annotations

import json
from datetime import timedelta

import pytest

from hangarlake.errors import CorruptionError, UnsupportedFormatError
from hangarlake.records.canonical import seal, unseal
from hangarlake.records.marker import Marker
from tests.records.histories import every_flipped_byte


def changed(**members):
    return seal({**unseal(Marker.new().to_bytes(), "marker"), **members})


def test_a_marker_comes_back_from_its_bytes():
    marker = Marker.new(default_branch="trunk", grace=timedelta(hours=2))
    assert Marker.parse(marker.to_bytes()) == marker
    assert marker.grace == timedelta(hours=2)
    marker.check_writable()


def test_two_repositories_have_two_ids():
    assert Marker.new().id != Marker.new().id


def test_a_marker_is_json_as_the_format_says():
    obj = json.loads(Marker.new().to_bytes())
    assert sorted(obj) == ["created", "default_branch", "features", "format", "grace_seconds", "id", "seal", "version"]
    assert (obj["format"], obj["version"], obj["features"]) == ("hangarlake", 1, {"read": [], "write": []})
    assert obj["grace_seconds"] == 86_400


def test_any_flipped_byte_of_a_marker_is_noticed():
    for damaged in every_flipped_byte(Marker.new().to_bytes()):
        with pytest.raises(CorruptionError, match=r"hangarlake\.json"):
            Marker.parse(damaged)


@pytest.mark.parametrize("version", [0, 2, "1", None, True])
def test_another_version_is_refused_with_the_remedy(version):
    with pytest.raises(UnsupportedFormatError, match="upgrade"):
        Marker.parse(changed(version=version))


def test_a_later_version_is_refused_even_if_nothing_else_in_it_makes_sense():
    with pytest.raises(UnsupportedFormatError, match="version 2"):
        Marker.parse(seal({"format": "hangarlake", "version": 2}))


def test_something_else_that_is_sealed_is_not_a_repository():
    with pytest.raises(UnsupportedFormatError, match="not the marker"):
        Marker.parse(changed(format="other"))


def test_an_unknown_read_feature_is_refused_by_name():
    with pytest.raises(UnsupportedFormatError, match="sharded-trees"):
        Marker.parse(changed(features={"read": ["sharded-trees"], "write": []}))


def test_an_unknown_write_feature_allows_reading_only():
    marker = Marker.parse(changed(features={"read": [], "write": ["signed-refs"]}))
    with pytest.raises(UnsupportedFormatError, match="signed-refs"):
        marker.check_writable()


def test_members_of_later_versions_are_ignored():
    assert Marker.parse(changed(colour="green")).version == 1


@pytest.mark.parametrize(
    "members",
    [
        {"id": "x"},
        {"id": "A" * 32},
        {"created": "yesterday"},
        {"grace_seconds": -1},
        {"grace_seconds": 10**15},
        {"default_branch": ""},
        {"default_branch": "../main"},
        {"features": []},
    ],
)
def test_malformed_members_are_corruption(members):
    with pytest.raises(CorruptionError, match="valid marker"):
        Marker.parse(changed(**members))
