"""`make bench`: how fast the gateway is, beside other proxies and beside doing nothing (docs/performance.md)."""
