#!/bin/sh
# The same steps by hand. First, in two other terminals, at the root of the repository:
#   cargo run --release -p e2e --example http-proxy -- upstreams
#   cargo run --release -p tidegate -- serve -c examples/http-proxy/tidegate.yaml
# Then line by line, or all at once.
set -eu

gateway=http://127.0.0.1:8030
admin=http://127.0.0.1:8031
token=$(cargo run --quiet --release -p tidegate -- admin-token --name me -c examples/http-proxy/tidegate.yaml)

# What the model's API wants, as a secret: it goes in and never comes out.
curl -sS -X PUT "$admin/admin/secrets/MODEL_KEY" -H "Authorization: Bearer $token" \
  -H 'Content-Type: application/json' -d '{"value":"sk-example"}'

# A route to two services.
curl -sS -X POST "$admin/api/collections/_proxies/records" -H "Authorization: Bearer $token" \
  -H 'Content-Type: application/json' -d '{
    "path": "/services",
    "name": "services",
    "upstreams": ["http://127.0.0.1:8032", "http://127.0.0.1:8033"],
    "accessRule": "true",
    "allowPrivate": true,
    "circuitBreaker": {"enabled": true, "failureThreshold": 3, "recoveryTimeout": 1, "ramp": 3}
  }'
echo

# Traffic. Stop the first terminal and start it again to see the breaker at work.
for _ in 1 2 3 4 5 6; do curl -sS "$gateway/-/services/hello"; done

# An answer as a stream.
curl -sSN "$gateway/-/model/v1/chat/completions" -H 'Content-Type: application/json' \
  -d '{"model":"stub","stream":true,"messages":[{"role":"user","content":"what is it?"}]}'

# All routes, what a request would meet, and what was counted.
curl -sS "$admin/api/collections/_proxies/records" -H "Authorization: Bearer $token"
echo
id=$(curl -sS "$admin/api/collections/_proxies/records?search=services" -H "Authorization: Bearer $token" |
  sed 's/.*"id":"\([^"]*\)".*/\1/')
curl -sS "$admin/admin/proxies/$id/explain?path=/-/services/hello" -H "Authorization: Bearer $token"
echo
curl -sS "$admin/api/gateway/metrics" -H "Authorization: Bearer $token" | grep '^gateway_requests_total'

# A change that counts only if nobody was faster; then back to how it was; then away.
version=$(curl -sS "$admin/api/collections/_proxies/records/$id" -H "Authorization: Bearer $token" |
  sed 's/.*"version":\([0-9]*\).*/\1/')
curl -sS -X PATCH "$admin/api/collections/_proxies/records/$id" -H "Authorization: Bearer $token" \
  -H "If-Match: \"$version\"" -H 'Content-Type: application/json' -d '{"maxConcurrent":10}'
echo
curl -sS -X POST "$admin/admin/proxies/$id/rollback" -H "Authorization: Bearer $token" \
  -H 'Content-Type: application/json' -d "{\"version\":$version}"
echo
curl -sS -X DELETE "$admin/api/collections/_proxies/records/$id" -H "Authorization: Bearer $token"
