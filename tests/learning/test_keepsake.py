import json
import logging
from decimal import Decimal
from uuid import UUID

import numpy as np

from router_gateway.core.types import Endpoint, Query
from router_gateway.learning.keepsake import Keepsake
from router_gateway.routing.streaming_cost import StreamingLengthCost

POOL = (
    Endpoint(
        name="small",
        model="m",
        price_input_usd_per_mtok=Decimal(1),
        price_output_usd_per_mtok=Decimal(10),
        price_cached_input_usd_per_mtok=Decimal(1),
        price_cache_write_usd_per_mtok=Decimal(2),
        context_tokens_max=8_000,
    ),
)
ASKED = [Query(id=UUID(int=i), text="Explain why." * (i + 1), tokens_input=10 * (i + 1)) for i in range(20)]


def test_the_next_process_knows_what_the_last_one_learned(tmp_path):
    path = tmp_path / "answer_lengths.json"
    last = StreamingLengthCost(endpoints=POOL).fit(ASKED, np.full((20, 1), 700.0))
    kept = Keepsake(path, last.state)
    kept.start()
    kept.close()
    after = StreamingLengthCost(endpoints=POOL)
    Keepsake(path, after.state).give_back(after.restore)
    np.testing.assert_allclose(after.expected_usd(ASKED), last.expected_usd(ASKED))
    assert after.expected_usd(ASKED)[0, 0] > 0.005
    assert [each.name for each in tmp_path.iterdir()] == [path.name], "written beside, then renamed"


def test_a_file_of_no_use_is_told_and_no_error(tmp_path, caplog):
    path, cost = tmp_path / "answer_lengths.json", StreamingLengthCost(endpoints=POOL)
    kept = Keepsake(path, cost.state)
    kept.give_back(cost.restore)
    assert caplog.text == ""
    for broken in ("{", json.dumps({"features": ["another"], "endpoints": {}})):
        path.write_text(broken)
        with caplog.at_level(logging.WARNING):
            kept.give_back(cost.restore)
        assert "answer_lengths.json is of no use" in caplog.text
        caplog.clear()
    Keepsake(tmp_path / "gone" / "x.json", cost.state).write()
    assert "could not be written" in caplog.text
