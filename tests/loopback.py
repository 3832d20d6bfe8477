"""HTTP to servers on this machine, by one client: each new one would read all the authorities' certificates."""

import httpx

http = httpx.Client(
    trust_env=False,
    verify=False,
    timeout=30,
    limits=httpx.Limits(max_keepalive_connections=0),  # a server that was killed and started again is a new one
)
