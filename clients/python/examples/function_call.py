"""Let the model call a function of this program.

    python function_call.py 127.0.0.1:50051 "What is the weather in Lisbon?"

The token comes from TRUNKLINE_TOKEN.
"""

import argparse
import asyncio
import json
import os
import sys

from trunkline_client import AsyncClient, AsyncSession, SessionOverrides, TrunklineError
from trunkline_client.events import ResponseDone, ToolCall, TranscriptDelta
from trunkline_client.inputs import Tool, Tools

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = Tool(
    name="get_weather",
    description="Tells the weather in a city.",
    parameters_json=json.dumps(PARAMETERS),
)


async def get_weather(city: str) -> str:
    """Look it up; here would be a request to another service."""
    return json.dumps({"city": city, "weather": "sunny", "celsius": 24})


async def answer(session: AsyncSession, call: ToolCall) -> None:
    """Run what the model asks for. Its arguments are the model's words: check them as you would a user's."""
    print(f"{call.name}({call.arguments_json})")
    try:
        result = await get_weather(str(json.loads(call.arguments_json)["city"]))
    except (ValueError, KeyError) as error:
        result = json.dumps({"error": f"bad arguments: {error}"})
    # `create_response` is on: the model goes on with the result.
    await session.send_tool_result(call.call_id, result)


async def main() -> None:
    """Ask, answer the calls, and print what the model makes of the results."""
    parser = argparse.ArgumentParser(description="Let the model call a function.")
    for name in ("address", "question"):
        parser.add_argument(name)
    arguments = parser.parse_args()
    client = AsyncClient(arguments.address, token=os.environ.get("TRUNKLINE_TOKEN", ""))
    async with client, client.open(overrides=SessionOverrides(tools=Tools(tools=[WEATHER]))) as session:
        await session.send_text(arguments.question)
        await session.create_response()
        # An answer that calls a function is followed by another one.
        calls_open = False
        async for event in session:
            match event:
                case ToolCall():
                    calls_open = True
                    await answer(session, event)
                case TranscriptDelta():
                    print(event.delta, end="", flush=True)
                case ResponseDone() if calls_open:
                    calls_open = False
                case ResponseDone():
                    print()
                    break


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except TrunklineError as error:
        sys.exit(f"{error}\n{error.advice}")
    except (OSError, ValueError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
