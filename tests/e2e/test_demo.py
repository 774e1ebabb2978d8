"""What a newcomer gets from `make demo`: calls over warm lines, WAV files with speech, figures, a plot."""

import json
import os
import subprocess
import sys
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

CALLS = 20
KEYS = {"calls", "ok", "failed", "warm_hits", "open_ms", "first_audio_ms", "response_ms"}
# A quiet room is below 100, the fixtures' speech above 2,000.
AUDIBLE_RMS = 1000


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    # A key that must not be touched: the simulator is what is called.
    environment = {**os.environ, "OPENAI_API_KEY": "sk-canary-must-not-be-used"}
    command = [sys.executable, "-m", "gateway", "demo", "--output", str(folder)]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=170, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    return folder


def _report(output: Path) -> dict[str, Any]:
    report = json.loads((output / "report.json").read_text("utf-8"))
    assert isinstance(report, dict)
    return report


@pytest.mark.heavy
def test_every_call_succeeds_and_every_warm_call_is_a_hit(output: Path) -> None:
    report = _report(output)
    assert set(report) == {"warm", "cold"}
    for figures in report.values():
        assert set(figures) == KEYS
        assert (figures["calls"], figures["ok"], figures["failed"]) == (CALLS, CALLS, 0)
    assert report["warm"]["warm_hits"] == CALLS
    assert report["cold"]["warm_hits"] == 0


@pytest.mark.heavy
def test_a_warm_line_opens_in_a_hundredth_of_the_time(output: Path) -> None:
    report = _report(output)
    warm, cold = report["warm"]["open_ms"], report["cold"]["open_ms"]
    assert warm["n"] == cold["n"] == CALLS
    assert warm["p50"] <= cold["p50"] / 100, (warm, cold)


@pytest.mark.heavy
def test_each_warm_call_leaves_audible_speech(output: Path) -> None:
    files = sorted(output.glob("warm-*.wav"))
    assert len(files) == CALLS
    for file in files:
        with wave.open(str(file)) as sound:
            assert (sound.getnchannels(), sound.getsampwidth(), sound.getframerate()) == (1, 2, 24_000)
            samples = np.frombuffer(sound.readframes(sound.getnframes()), dtype="<i2").astype(float)
        assert samples.size > 24_000 // 2, file.name
        assert np.sqrt(np.mean(samples**2)) > AUDIBLE_RMS, file.name


@pytest.mark.heavy
def test_the_plot_and_the_logs_are_there(output: Path) -> None:
    assert (output / "latency.png").read_bytes().startswith(b"\x89PNG")
    logs = (output / "gateway.log").read_text("utf-8")
    assert "sk-canary" not in logs
    sessions = [line for line in map(json.loads, logs.splitlines()) if line["event"] == "session"]
    # Warm, cold, and the rehearsal: one canonical line each.
    assert len(sessions) == 2 * CALLS + 2
