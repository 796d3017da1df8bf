"""The learners' threads."""

from __future__ import annotations

from threadpoolctl import threadpool_info, threadpool_limits

from deployments.label_app.learning import Learners


def test_each_learner_computes_by_itself_and_others_have_their_threads_back() -> None:
    with threadpool_limits(2, user_api="blas"):
        learners = Learners()
        assert _threads() == {1}
        learners.close()
        assert _threads() == {2}


def _threads() -> set[int]:
    return {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"}
