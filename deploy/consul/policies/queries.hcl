# ACL policy of a facade that keeps named queries (PUT /queries/{name}). Give it to the token of the
# facades that are asked to, beside facade.hcl, which is enough to answer them. Without, a PUT is
# refused with the name of this right.
#
# Use:
#   consul acl policy create -name mcp-queries -rules @queries.hcl
#   consul acl token create -description 'facade that keeps queries' -policy-name mcp-facade -policy-name mcp-queries

# What is asked by name.
key_prefix "mcp/queries/" {
  policy = "write"
}
