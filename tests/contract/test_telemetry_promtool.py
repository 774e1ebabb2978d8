"""Prometheus' own tool finds nothing to say about a scrape of a gateway that has worked."""

import asyncio
import subprocess

import aiohttp

from tests.support.stack import stack
from tests.support.tools import tool

SECONDS = 20.0


async def scraped(url: str, accept: str) -> bytes:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(SECONDS)) as http,
        http.get(f"{url}/metrics", headers={"Accept": accept}) as answer,
    ):
        return await answer.read()


async def test_promtool_finds_nothing_wrong_with_a_scrape() -> None:
    promtool = tool("promtool")
    async with stack() as (running, _):
        await running.until_warm(1)
        caller = running.caller()
        await caller.open()
        await caller.say("Hello.")
        await caller.answer_please()
        await caller.until("response_done")
        await caller.bye()
        await caller.rest()
        await running.until_free()
        page = await scraped(running.ops_url, "text/plain")
    assert b"trunkline_first_audible_seconds_count" in page
    checked = await asyncio.to_thread(
        subprocess.run, [promtool, "check", "metrics"], input=page, capture_output=True, timeout=SECONDS, check=False
    )
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")
