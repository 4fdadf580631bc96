from refiner.search.scoring import Scored
from refiner.search.search import SearchResult


def test_a_result_survives_its_checkpoint() -> None:
    first = Scored(vector=(1, 0), score=0.5, agreement=-0.25)
    result = SearchResult(best=first, top_k=(first, Scored(vector=(0, 0), score=0.75)))
    assert SearchResult.of_state(result.state()) == result
