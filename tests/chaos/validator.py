"""What a caller's history must look like, whatever happened. Knows nothing of gateway or client."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from tests.chaos.talker import History


@dataclass
class Verdict:
    """What was found in many histories."""

    total: int = 0
    lost: int = 0
    duplicated: int = 0
    failed_calls: int = 0
    # In sentences, one for each fault.
    faults: list[str] = field(default_factory=list)


def judge(histories: Iterable[History]) -> Verdict:
    """Look at each: every word that was sent is an item, once, in order; every end was a goodbye."""
    verdict = Verdict()
    for number, history in enumerate(histories):
        _judge_one(history, f"caller {number}", verdict)
    return verdict


def _judge_one(history: History, who: str, verdict: Verdict) -> None:
    verdict.total += history.numbered
    # What was spoken has no words of its own.
    told = [text for _, role, text in history.items if role == "user" and text]
    counts = Counter(told)
    gaps = sum(
        resumed.gap.to - getattr(resumed.gap, "from") + 1 for _, resumed in history.resumed if resumed.HasField("gap")
    )
    lost = [words for words in history.sent if not counts[words]]
    twice = [words for words, count in counts.items() if count > 1]
    verdict.lost += len(lost) + gaps
    verdict.duplicated += sum(counts[words] - 1 for words in twice)
    if history.failure or history.closed is None:
        verdict.failed_calls += 1
        verdict.faults.append(f"{who} ended with {history.failure or 'no word'}")
    if lost:
        verdict.faults.append(f"{who} never heard of {len(lost)} of {len(history.sent)} items: {lost[:3]}")
    if twice:
        verdict.faults.append(f"{who} heard twice of {twice[:3]}")
    if gaps:
        verdict.faults.append(f"{who} was told of {gaps} lost events")
    order = [words for words in told if words in set(history.sent)]
    if order != [words for words in history.sent if counts[words]] and not twice:
        verdict.faults.append(f"{who} heard its words in another order")
    ids = Counter(item_id for item_id, _, _ in history.items)
    again = [item_id for item_id, count in ids.items() if count > 1]
    if again:
        verdict.duplicated += len(again)
        verdict.faults.append(f"{who} was told of items twice: {again[:3]}")
