"""`make bench` runs the benchmarks, and neither their tests nor what they share."""

from __future__ import annotations

from pathlib import Path

from tests.benchmarks.__main__ import FOLDER, names

REPORTS, RUNS = "from tests.benchmarks.result import report\n", 'if __name__ == "__main__":\n    main()\n'


def test_all_that_report_figures_are_run_and_nothing_else() -> None:
    texts = {path.stem: [line.lstrip() for line in path.read_text().splitlines()] for path in FOLDER.glob("*.py")}
    reporters = {name for name, lines in texts.items() if any(line.startswith("report(") for line in lines)}
    assert set(names()) == reporters
    assert {"loader_wait", "whole_run"} <= reporters
    assert not {"gpu_kernels", "test_gpu_kernels", "test_report", "report", "cutana_run"} & reporters


def test_a_new_module_is_a_benchmark_by_what_it_does(tmp_path: Path) -> None:
    modules = {
        "fast": REPORTS + RUNS,
        "helper": "def shared(): ...\n",
        "test_fast": "def test_it(): ...\n",
        "reports_but_cannot_be_run": REPORTS,
        "runs_but_reports_nothing": RUNS,
    }
    for name, text in modules.items():
        (tmp_path / f"{name}.py").write_text(text)
    assert names(tmp_path) == ["fast"]
