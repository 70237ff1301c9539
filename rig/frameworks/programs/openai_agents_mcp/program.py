"""An agent of the OpenAI Agents SDK whose tools are those of an MCP server, traced by OpenInference and MCP's SDK."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import agents
import openai
import shop
import tracing
from agents.mcp import MCPServerStdio, MCPServerStdioParams
from openinference.instrumentation import using_attributes
from openinference.instrumentation.openai_agents import OpenAIAgentsInstrumentor

OpenAIAgentsInstrumentor().instrument(tracer_provider=tracing.provider)
agents.set_default_openai_client(openai.AsyncOpenAI(max_retries=0), use_for_tracing=False)

SERVER = MCPServerStdioParams(
    command=sys.executable,
    args=[str(Path(__file__).with_name("server.py")), shop.CASE],
    env=dict(os.environ),
)
TIMEOUT_S = 60.0


async def main() -> str:
    # One trace for the connection to the server and the agent's run.
    with tracing.provider.get_tracer("shop").start_as_current_span("POST /ask"):
        return await answer()


async def answer() -> str:
    async with MCPServerStdio(SERVER, client_session_timeout_seconds=TIMEOUT_S) as server:
        desk = agents.Agent(
            name="order_desk",
            instructions=shop.INSTRUCTIONS,
            model=shop.MODELS["order_desk"],
            mcp_servers=[server],
        )
        with (
            using_attributes(session_id=shop.SESSION_ID, user_id=shop.USER_ID),
            agents.trace("shop", group_id=shop.SESSION_ID),
        ):
            done = await agents.Runner.run(desk, shop.question(), max_turns=shop.STEP_LIMIT)
        return str(done.final_output)


shop.run(main, tracing.flush)
