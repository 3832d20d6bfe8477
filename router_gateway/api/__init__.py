"""HTTP in, HTTP out: the only importer of fastapi."""
