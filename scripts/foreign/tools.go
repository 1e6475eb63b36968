//go:build tools

// Package tools names the programs that scripts/fetch-foreign builds.
package tools

import (
	_ "github.com/mark3labs/mcp-go/examples/conformance"
	_ "github.com/mark3labs/mcp-go/examples/everything"
	_ "github.com/modelcontextprotocol/go-sdk/conformance/everything-server"
	_ "github.com/modelcontextprotocol/go-sdk/examples/server/memory"
)
