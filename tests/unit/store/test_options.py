"""Options refuse what cannot work, and show no secret."""

from typing import Any

import pytest

from gateway.store.options import RedisOptions


@pytest.mark.parametrize("url", ["redis://h", "rediss://h:1/2", "unix:///tmp/s"])
def test_the_three_schemes_are_taken(url: str) -> None:
    assert RedisOptions(url=url).url == url


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"url": "http://:hunter2@h"}, "redis.url"),
        ({"url": "redis+cluster://:hunter2@h:1/0"}, "redis.url"),
        ({"url": "redis+cluster://:hunter2@h:1,"}, "redis.url"),
        ({"url": "redis+sentinel://:hunter2@h:1,h:2"}, "redis.url"),
        ({"url": "redis+sentinel://:hunter2@h:1,h:x/name"}, "redis.url"),
        ({"url": "redis+sentinel://h/name?password=hunter2"}, "redis.url"),
        ({"url": "redis://h", "replicas_wait": 1, "deadline_seconds": 0.2}, "deadline_seconds"),
        ({"url": "redis://h", "pending_max_bytes": 1000}, "pending_max_bytes"),
    ],
)
def test_what_cannot_work_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named) as raised:
        RedisOptions(**options)
    assert "hunter2" not in str(raised.value)


def test_options_show_no_secret() -> None:
    shown = repr(RedisOptions(url="redis://user:hunter2@h", password="hunter2"))
    assert "hunter2" not in shown
