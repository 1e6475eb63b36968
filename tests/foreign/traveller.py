"""An agent on the A2A SDK for Python; its card is another after SIGUSR2.

``traveller.py PORT BINDING VERSION``: the binding of its interface and the version of A2A in its
card, 1.0 or 0.3.
"""
# mypy: ignore-errors

import signal
import sys

import uvicorn
from a2a.server.agent_execution.agent_executor import AgentExecutor
from a2a.server.request_handlers import DefaultRequestHandler
from a2a.server.routes import (
    create_agent_card_routes,
    create_jsonrpc_routes,
    create_rest_routes,
)
from a2a.server.tasks.inmemory_task_store import InMemoryTaskStore
from a2a.types import AgentCapabilities, AgentCard, AgentInterface, AgentSkill
from starlette.applications import Starlette

port, binding, version = int(sys.argv[1]), sys.argv[2], sys.argv[3]
path = "rest" if binding == "HTTP+JSON" else "rpc"


class Idle(AgentExecutor):
    """Does nothing: nobody gives it a task."""

    async def execute(self, context, event_queue):
        """Nothing."""

    async def cancel(self, context, event_queue):
        """Nothing."""


card = AgentCard(
    name="Travel Agent",
    description="Plans journeys.",
    version="1.0.0",
    capabilities=AgentCapabilities(streaming=True),
    default_input_modes=["text/plain"],
    default_output_modes=["text/plain"],
    skills=[
        AgentSkill(
            id="plan",
            name="Plan a journey",
            description="Finds trains and hotels.",
            tags=["travel"],
            examples=["How do I get to Lyon tomorrow?"],
        )
    ],
    supported_interfaces=[
        AgentInterface(
            url=f"http://127.0.0.1:{port}/{path}",
            protocol_binding=binding,
            protocol_version=version,
        )
    ],
)
handler = DefaultRequestHandler(
    agent_executor=Idle(), task_store=InMemoryTaskStore(), agent_card=card
)
legacy = version == "0.3"
app = Starlette(
    routes=[
        *create_agent_card_routes(card),
        *create_jsonrpc_routes(handler, "/rpc", enable_v0_3_compat=legacy),
        *create_rest_routes(handler, path_prefix="/rest", enable_v0_3_compat=legacy),
    ]
)


def change(*_):
    """Another version, with another skill."""
    card.version = "2.0.0"
    card.skills[0].name = "Long journey"


signal.signal(signal.SIGUSR2, change)
uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
