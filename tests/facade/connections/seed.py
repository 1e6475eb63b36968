"""Requests and answers as the published description of the connections API gives them.

Copied letter for letter; the tests send the requests as they stand here.
"""

LISTED = b"""
{
"connections": [
{
"id": "mcp-conn-123",
"name": "filesystem-mcp",
"type": "server",
"protocol": "stdio",
"status": "active",
"capabilities": [
"read_file",
"write_file",
"list_directory"
],
"endpoint": {
"command": "npx",
"args": ["-y", "@modelcontextprotocol/server-filesystem", "/tmp"]
},
"health": {
"status": "healthy",
"lastCheck": "2025-01-15T10:00:00Z",
"uptime": 86400,
"errorRate": 0.001
},
"metrics": {
"requestsPerMinute": 45,
"averageLatency": 120,
"activeConnections": 5
}
}
],
"total": 127,
"filtered": 1
}
"""

REGISTER = b"""
{
"name": "gitlab-mcp",
"type": "server",
"protocol": "stdio",
"endpoint": {
"command": "npx",
"args": [
"-y",
"@modelcontextprotocol/server-gitlab",
"--token",
"${GITLAB_TOKEN}"
]
},
"capabilities": [
"create_issue",
"update_issue",
"list_projects",
"get_file_contents"
],
"metadata": {
"version": "1.0.0",
"owner": "llm-platform",
"environment": "production"
},
"healthCheck": {
"enabled": true,
"interval": 30,
"timeout": 5000
}
}
"""

REGISTERED = b"""
{
"id": "mcp-conn-456",
"name": "gitlab-mcp",
"status": "active",
"connection": {
"id": "mcp-conn-456",
"type": "server",
"protocol": "stdio",
"capabilities": ["create_issue", "update_issue", "list_projects", "get_file_contents"],
"health": {
"status": "initializing",
"lastCheck": "2025-01-15T10:05:00Z"
}
},
"createdAt": "2025-01-15T10:05:00Z"
}
"""

DETAILS = b"""
{
"id": "mcp-conn-456",
"name": "gitlab-mcp",
"type": "server",
"protocol": "stdio",
"status": "active",
"capabilities": [
{
"name": "create_issue",
"description": "Create a GitLab issue",
"schema": {
"type": "object",
"properties": {
"project": { "type": "string" },
"title": { "type": "string" },
"description": { "type": "string" }
}
}
}
],
"health": {
"status": "healthy",
"lastCheck": "2025-01-15T10:05:00Z",
"uptime": 300,
"checksPerformed": 10,
"failedChecks": 0
},
"metrics": {
"totalRequests": 523,
"successRate": 0.998,
"averageLatency": 150,
"p95Latency": 300,
"errorRate": 0.002
},
"createdAt": "2025-01-15T10:00:00Z",
"lastActiveAt": "2025-01-15T10:04:55Z"
}
"""

UPDATE = b"""
{
"status": "idle",
"metadata": {
"maintenance": true
},
"healthCheck": {
"interval": 60
}
}
"""

DISCONNECTED = b"""
{
"id": "mcp-conn-456",
"status": "disconnected",
"message": "Connection gracefully terminated",
"disconnectedAt": "2025-01-15T10:10:00Z"
}
"""

DISCOVER = b"""
{
"capabilities": ["read_file", "write_file"],
"filters": {
"status": "active",
"protocol": "stdio",
"minUptime": 3600
},
"loadBalancing": {
"strategy": "least-loaded",
"maxConnections": 3
}
}
"""

DISCOVERED = b"""
{
"connections": [
{
"id": "mcp-conn-123",
"name": "filesystem-mcp",
"capabilities": ["read_file", "write_file", "list_directory"],
"health": {
"status": "healthy",
"uptime": 86400
},
"load": 0.23,
"endpoint": {
"command": "npx",
"args": ["-y", "@modelcontextprotocol/server-filesystem"]
}
},
{
"id": "mcp-conn-789",
"name": "filesystem-mcp-backup",
"capabilities": ["read_file", "write_file"],
"health": {
"status": "healthy",
"uptime": 43200
},
"load": 0.15,
"endpoint": {
"command": "npx",
"args": ["-y", "@modelcontextprotocol/server-filesystem"]
}
}
],
"totalMatching": 2,
"loadBalanced": true,
"strategy": "least-loaded"
}
"""

CAPABILITIES = b"""
{
"capabilities": [
{
"name": "read_file",
"description": "Read file from filesystem",
"providers": 5,
"totalRequests": 15234,
"averageLatency": 120
},
{
"name": "create_issue",
"description": "Create GitLab issue",
"providers": 2,
"totalRequests": 523,
"averageLatency": 850
}
],
"totalCapabilities": 47
}
"""

CHECKED = b"""
{
"connectionId": "mcp-conn-456",
"health": {
"status": "healthy",
"responseTime": 45,
"timestamp": "2025-01-15T10:15:00Z"
},
"diagnostics": {
"processRunning": true,
"memoryUsage": "45MB",
"cpuUsage": 12.5,
"activeRequests": 3
}
}
"""

BATCH = b"""
{
"connectionIds": ["mcp-conn-123", "mcp-conn-456", "mcp-conn-789"],
"timeout": 5000
}
"""

BATCH_CHECKED = b"""
{
"results": [
{
"connectionId": "mcp-conn-123",
"status": "healthy",
"responseTime": 45
},
{
"connectionId": "mcp-conn-456",
"status": "healthy",
"responseTime": 52
},
{
"connectionId": "mcp-conn-789",
"status": "error",
"error": "Connection timeout after 5000ms"
}
],
"summary": {
"total": 3,
"healthy": 2,
"unhealthy": 1
}
}
"""

STATS = b"""
{
"timestamp": "2025-01-15T10:20:00Z",
"connections": {
"total": 127,
"active": 115,
"idle": 8,
"disconnected": 3,
"error": 1
},
"protocols": {
"stdio": 87,
"http": 32,
"websocket": 8
},
"capabilities": {
"total": 47,
"mostUsed": [
{ "name": "read_file", "requests": 15234 },
{ "name": "write_file", "requests": 8523 },
{ "name": "create_issue", "requests": 523 }
]
},
"performance": {
"averageLatency": 145,
"requestsPerSecond": 87.5,
"errorRate": 0.012
}
}
"""

EXPORTED = b"""
{
"version": "0.2.0",
"exportedAt": "2025-01-15T10:25:00Z",
"connections": [
{
"name": "filesystem-mcp",
"type": "server",
"protocol": "stdio",
"endpoint": {
"command": "npx",
"args": ["-y", "@modelcontextprotocol/server-filesystem", "/tmp"]
},
"capabilities": ["read_file", "write_file", "list_directory"]
}
],
"totalExported": 127
}
"""

DISTRIBUTION = b"""
{
"strategy": "least-loaded",
"connections": [
{
"id": "mcp-conn-123",
"name": "filesystem-mcp",
"load": 0.23,
"activeRequests": 5,
"capacity": 20
},
{
"id": "mcp-conn-789",
"name": "filesystem-mcp-backup",
"load": 0.15,
"activeRequests": 3,
"capacity": 20
}
],
"recommendations": [
{
"action": "scale-up",
"reason": "Load exceeding 80% on 2 connections",
"suggestedConnections": 1
}
]
}
"""

HEALTH = b"""
{
"status": "healthy",
"version": "0.2.0",
"uptime": 86400,
"registry": {
"connections": 127,
"healthy": 115,
"unhealthy": 12
},
"performance": {
"requestsPerSecond": 87.5,
"averageLatency": 145
}
}
"""
