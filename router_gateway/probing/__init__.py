"""Places a new endpoint: picks probes, asks them through the gateway, grades the answers, says where it stands."""
