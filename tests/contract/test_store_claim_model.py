"""append.lua and claim.lua do what the model of the protocol does, in the same random schedules, step by step."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from gateway.store.scripts import APPEND, CLAIM
from tests.support.protocol_model import Schedule
from tests.support.protocol_model_caller import Violation
from tests.support.protocol_model_lua import BothRecords, Difference
from tests.support.protocol_model_record import ALL_RULES
from tests.support.redis_server import redis_server

SEEDS = 500
# A fault is noticed within these; about ten times as many as it takes.
FAULT_SEEDS = 300
# What each rule is in the scripts, and the same without it.
FAULTS = {
    "later_epoch": ("claim", "moment >= above and moment or above + microseconds", "above"),
    "drop_stale_tail": ("claim", "if seq > last_seq then return not is_stale(seq, epoch) end", ""),
    "epoch_table": ("claim", "return seen == nil or seen == epoch", "return true"),
    "seq_floor": ("claim", "seq = math.max(seq, last_seq, ", "seq = math.max(seq, 0, "),
    "reinstall": ("append", "if stored_epoch < epoch then", "if stored_epoch == 0 then"),
    "cas": ("append", "if own_from > 1 and (stored_epoch < epoch or anew) and not half_is_gone then", "if false then"),
    "cas_of_controls": ("append", "number >= own_from or given >= given_from", "number >= own_from"),
    "cseq_of_what_is_left": ("append", "left.cseq_after(cseq), left.bytes", "cseq, left.bytes"),
    "bytes_of_what_is_left": ("append", "left.cseq_after(cseq), left.bytes", "left.cseq_after(cseq), bytes"),
    "fence": ("append", "if stored_epoch > epoch then", "if false then"),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator["redis.Redis"]:
    with redis_server(Path(tmp_path_factory.mktemp("r"))) as running, running.client() as client:
        yield client


def is_noticed(seed: int, record: BothRecords) -> bool:
    try:
        Schedule(seed, ALL_RULES, waits=False, record=record).run()
    except (Difference, Violation, redis.ResponseError):
        return True
    return False


@pytest.mark.parametrize("seeds", [SEEDS // 5, pytest.param(SEEDS, marks=pytest.mark.heavy)])
def test_the_scripts_do_what_the_model_does(server: "redis.Redis", seeds: int) -> None:
    for seed in range(seeds):
        Schedule(seed, ALL_RULES, waits=seed % 4 == 0, record=BothRecords(server)).run()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rule_that_is_missing_in_a_script_is_noticed(server: "redis.Redis", fault: str) -> None:
    script, old, new = FAULTS[fault]
    texts = {"append": APPEND.text, "claim": CLAIM.text}
    assert texts[script].count(old) == 1
    texts[script] = texts[script].replace(old, new)
    assert any(is_noticed(seed, BothRecords(server, **texts)) for seed in range(FAULT_SEEDS))
