"""What a running gateway follows of a changed configuration: every section is either followed or named."""

from typing import Any, Final

import pytest

from gateway.settings import Settings, needs_restart

TEMPLATE: Final = {"session": {"instructions": "Be brief."}, "recovery": {"user_turns": "none"}}
CALLER: Final = {"name": "bot", "tenant": "acme", "token_sha256_file": "/token"}
KEY: Final = {"id": "k1", "file": "/k1"}
TWO: Final[dict[str, Any]] = {"main": {}, "second": {}}

FOLLOWED: Final[dict[str, dict[str, Any]]] = {
    "callers": {"callers": [CALLER]},
    "a template": {"templates": {"default": TEMPLATE}},
    "another template": {"templates": {"default": {}, "other": TEMPLATE}},
    "a model": {"templates": {"default": {"model": "gpt-realtime"}}},
    "a target": {"targets": {"openai": {"url": "wss://elsewhere.example/v1/realtime"}}},
    "another target": {"targets": {"openai": {}, "other": {"url": "wss://elsewhere.example/v1/realtime"}}},
    "a pool": {"pools": {"default": {"floor": 3}}},
    "a key's place": {"accounts": {"main": {"key_file": "/key"}}},
    "sealing keys": {"store": {"sealing_keys": [KEY]}},
}
FIXED: Final[dict[str, tuple[dict[str, Any], list[str]]]] = {
    "profile": ({"profile": "production", "accounts": {"main": {"key_file": "/key"}}}, ["profile"]),
    "grpc": ({"grpc": {"address": "127.0.0.1:1"}}, ["grpc"]),
    "tls files": ({"grpc": {"tls": {"cert_file": "/c", "key_file": "/k"}}}, ["grpc"]),
    "ops": ({"ops": {"address": "127.0.0.1:1"}}, ["ops"]),
    "door": ({"door": {"address": "127.0.0.1:1"}}, ["door"]),
    "redis": ({"redis": {"url": "redis://h"}, "store": {"sealing_keys": [KEY]}}, ["redis"]),
    "retention": ({"store": {"replicas_wait": 1}}, ["store"]),
    "rotate": ({"rotate": {"before_seconds": 1}}, ["rotate"]),
    "limits": ({"limits": {"drain_seconds": 1}}, ["limits"]),
    "tracing": ({"tracing": {"sample_ratio": 0.5}}, ["tracing"]),
    "an account more": ({"accounts": TWO}, ["accounts"]),
    "another account": ({"accounts": {"other": {}}, "targets": {"openai": {"accounts": ["other"]}}}, ["accounts"]),
    "an account's places": ({"accounts": {"main": {"connections_max": 50}}}, ["accounts.main"]),
    "an account's safety": ({"accounts": {"main": {"safety": "end_user"}}}, ["accounts.main"]),
    "two at once": ({"ops": {"address": "127.0.0.1:1"}, "limits": {"drain_seconds": 1}}, ["ops", "limits"]),
}


@pytest.mark.parametrize("changed", list(FOLLOWED))
def test_what_can_be_followed_needs_no_restart(changed: str) -> None:
    assert needs_restart(Settings(), Settings(**FOLLOWED[changed])) == []


@pytest.mark.parametrize("changed", list(FIXED))
def test_what_cannot_be_followed_is_named(changed: str) -> None:
    sections, names = FIXED[changed]
    assert needs_restart(Settings(), Settings(**sections)) == names
    assert needs_restart(Settings(**sections), Settings(**sections)) == []


def test_no_section_is_forgotten() -> None:
    """One that is added must be decided about here."""
    tried = {name for sections in FOLLOWED.values() for name in sections}
    tried |= {name for sections, _ in FIXED.values() for name in sections}
    assert tried == set(Settings.model_fields)
