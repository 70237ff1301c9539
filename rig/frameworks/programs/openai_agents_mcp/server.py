"""An MCP server of the official SDK with the tools of the shop; the SDK traces it, in the trace of its client."""

from __future__ import annotations

import shop
import tracing  # noqa: F401 exports the server's spans
from mcp.server.mcpserver import MCPServer

server = MCPServer("shop")
server.tool()(shop.order_lookup)
server.tool()(shop.stock_level)
server.run(transport="stdio")
