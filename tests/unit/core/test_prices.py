"""What a session costs, from the provider's counts."""

import pytest

from gateway.core.events import Usage
from gateway.core.prices import dollars

MIXED = Usage(
    input_text_tokens=1_000_000,
    input_audio_tokens=1_000_000,
    input_cached_tokens=750_000,
    input_cached_text_tokens=500_000,
    input_cached_audio_tokens=250_000,
    output_text_tokens=1_000_000,
    output_audio_tokens=1_000_000,
)


@pytest.mark.parametrize(
    ("model", "cost"),
    [
        ("gpt-realtime-2.1", 2 + 0.2 + 24 + 0.1 + 24 + 64),
        ("gpt-realtime-2.1-2026-08-01", 2 + 0.2 + 24 + 0.1 + 24 + 64),
        ("gpt-realtime-1.5", 2 + 0.2 + 24 + 0.1 + 16 + 64),
        ("gpt-realtime-2.1-mini", 0.3 + 0.03 + 7.5 + 0.075 + 2.4 + 20),
    ],
)
def test_each_kind_of_token_has_its_price(model: str, cost: float) -> None:
    assert dollars(model, MIXED) == pytest.approx(cost)


@pytest.mark.parametrize("model", ["", "gpt-realtime", "gpt-realtime-2.1-nano", "another"])
def test_what_has_no_known_price_has_no_cost(model: str) -> None:
    assert dollars(model, MIXED) is None


def test_nothing_costs_nothing() -> None:
    assert dollars("gpt-realtime-2.1", Usage()) == 0.0
