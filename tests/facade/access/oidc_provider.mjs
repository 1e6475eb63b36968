// oidc-provider, a certified OpenID Connect server: node oidc_provider.mjs FOLDER PORT JWKS [SECONDS]
//
// FOLDER has node_modules. `agent` gets JWTs by client credentials for any resource (RFC 8707), with
// the role that its scope names; `mcp-discovery` is a public client whose users enter a code. `pages`
// and `public-pages`, which has no secret, are clients of a facade's pages at any port of this machine.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import { pathToFileURL } from "node:url";

const [folder, port, jwks, ttl = "300"] = process.argv.slice(2);
const { resolve } = createRequire(`${folder}/package.json`);
const { Provider } = await import(pathToFileURL(resolve("oidc-provider")));

const pages = {
  application_type: "native", // RFC 8252, 7.3: at a loopback address any port will do
  grant_types: ["authorization_code"],
  redirect_uris: ["http://127.0.0.1/ui/login/idp/callback"],
  post_logout_redirect_uris: ["http://127.0.0.1/ui/login"],
  response_types: ["code"],
  id_token_signed_response_alg: "ES256",
  scope: "openid reader registrar",
};
const provider = new Provider(`http://127.0.0.1:${port}`, {
  jwks: JSON.parse(readFileSync(jwks)),
  cookies: { keys: ["a key of the tests"] },
  scopes: ["openid", "offline_access", "reader", "registrar"],
  clients: [
    {
      client_id: "agent",
      client_secret: "a secret of the tests",
      grant_types: ["client_credentials"],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: "ES256",
      scope: "reader registrar",
    },
    {
      client_id: "mcp-discovery",
      token_endpoint_auth_method: "none",
      application_type: "native",
      grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
      redirect_uris: [],
      response_types: [],
      id_token_signed_response_alg: "ES256",
      scope: "openid offline_access reader registrar",
    },
    { ...pages, client_id: "pages", client_secret: "another secret of the tests" },
    { ...pages, client_id: "public-pages", token_endpoint_auth_method: "none" },
  ],
  claims: { openid: ["sub", "groups"] },
  conformIdTokenClaims: false,
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id, groups: [`${id}s`] }) }),
  extraTokenClaims: (_, token) => ({ roles: (token.scope ?? "").split(" ").filter(Boolean) }),
  features: {
    clientCredentials: { enabled: true },
    devInteractions: { enabled: true },
    deviceFlow: { enabled: true },
    revocation: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => "https://default.example.com",
      getResourceServerInfo: (_, resource) => ({
        scope: "reader registrar",
        audience: resource,
        accessTokenTTL: Number(ttl),
        accessTokenFormat: "jwt",
        jwt: { sign: { alg: "ES256" } },
      }),
    },
  },
});
provider.listen(Number(port), "127.0.0.1");
