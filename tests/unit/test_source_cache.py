"""What a process keeps of the files that it has read."""

from __future__ import annotations

import weakref

from deepgap.measure.source_cache import SourceCache


class Model:
    """Something that can be watched."""


def test_what_was_used_last_is_kept():
    cache = SourceCache(limit_bytes=10)
    for key in "abc":
        cache.put(key, key.upper(), 4)
    assert [cache.get(key) for key in "abc"] == [None, "B", "C"]
    cache.get("b")
    cache.put("d", "D", 4)
    assert [cache.get(key) for key in "bcd"] == ["B", None, "D"]
    assert cache.held_bytes == 8


def test_what_is_forgotten_is_gone():
    cache, model = SourceCache(limit_bytes=10), Model()
    watched = weakref.ref(model)
    cache.put("a", model, 6)
    del model
    assert watched() is not None
    cache.put("b", "B", 6)
    assert watched() is None


def test_what_is_too_large_is_not_kept_and_drives_nothing_out():
    cache = SourceCache(limit_bytes=10)
    cache.put("a", "A", 6)
    cache.put("b", "B", 11)
    assert [cache.get(key) for key in "ab"] == ["A", None]


def test_a_value_put_again_counts_once():
    cache = SourceCache(limit_bytes=10)
    cache.put("a", "A", 6)
    cache.put("a", "new", 8)
    assert (cache.get("a"), cache.held_bytes) == ("new", 8)
