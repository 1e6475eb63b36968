"""Tools across all servers: who offers each, and whether their definitions agree."""
