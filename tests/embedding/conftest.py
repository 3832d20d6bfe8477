import pytest

from router_gateway.embedding.sentence import SentenceTransformerEmbedder


@pytest.fixture(scope="session")
def encoder() -> SentenceTransformerEmbedder:
    """The real encoder, loaded once: the import alone takes seconds."""
    embedder = SentenceTransformerEmbedder(threads=1)
    embedder.load()
    return embedder
