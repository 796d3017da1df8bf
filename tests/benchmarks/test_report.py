import json

from tests.benchmarks.report import page


def line(name: str, value: float, date: str = "2026-01-01") -> str:
    told = {"name": name, "value": value, "unit": "s", "goal": "< 1", "reached": value < 1}
    return json.dumps({**told, "date": date, "commit": "abc"})


def test_a_new_figure_takes_the_place_of_the_old_one_and_those_of_other_machines_stay():
    before = page("", f"{line('a_card', 0.3)}\n{line('waiting', 2)}\n") + "\n## Evidence\n\n| name | b |\n"
    after = page(before, f"{line('waiting', 0.7)}\n{line('waiting', 0.5)}\n{line('between', 4)}\n")
    rows = [text for text in after.splitlines() if text.startswith("| ")]
    assert rows[1:] == [
        "| a_card | 0.3 | s | < 1 | yes | 2026-01-01 | abc |",
        "| between | 4 | s | < 1 | no | 2026-01-01 | abc |",
        "| waiting | 0.5 | s | < 1 | yes | 2026-01-01 | abc |",
    ]
    assert page(after, "") == after
    later = page(after, line("waiting", 0.9, "2026-02-01"))
    assert "| 0.9 |" in later and page(later, line("waiting", 0.5)) == later, "an old line beats no newer row"
