from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch

from finescale.errors import DataError, ImageReadError
from finescale.system.jobs import FileReport, find_namesakes, map_files, refuse_folders_of_inputs, refuse_namesake

PATHS = [Path(f"{number}.png") for number in range(20)]


@pytest.mark.parametrize("workers", [1, 3, 40])
def test_answers_come_in_the_order_of_the_files_and_failures_stand_at_their_places(workers: int) -> None:
    def work(path: Path) -> str:
        if path.stem == "7":
            raise ImageReadError("7.png: damaged")
        if path.stem == "9":
            raise MemoryError
        return path.stem

    answers = list(map_files(work, PATHS, workers=workers))
    assert answers[7] == FileReport(Path("7.png"), "failed", reason="7.png: damaged")
    assert answers[9] == FileReport(Path("9.png"), "failed", reason="9.png: too little memory; take fewer workers")
    assert [answer for answer in answers if isinstance(answer, str)] == [
        path.stem for path in PATHS if path.stem not in "79"
    ]


def test_a_mistake_of_ours_is_not_swallowed() -> None:
    with pytest.raises(ZeroDivisionError):
        list(map_files(lambda _path: 1 / 0, PATHS))


def test_only_a_few_results_wait_to_be_taken_and_closing_leaves_no_thread_behind() -> None:
    begun = []
    answers = map_files(begun.append, PATHS, workers=2)
    next(answers)
    answers.close()
    assert len(begun) <= 4
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("files")]


def test_each_worker_computes_in_one_thread_and_others_as_before() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert set(map_files(lambda _path: torch.get_num_threads(), PATHS, workers=2)) == {1}
        assert torch.get_num_threads() == 2
        later: list[int] = []
        thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
        thread.start()
        thread.join()
        assert later == [2]
    finally:
        torch.set_num_threads(before)


def test_no_worker_is_no_answer() -> None:
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        map_files(str, PATHS, workers=0)


def test_pictures_with_the_same_results_are_found_whatever_their_endings_folders_and_case() -> None:
    paths = [Path("a/cat.png"), Path("a/cat.jpg"), Path("b/Cat.png"), Path("b/dog.png")]
    namesakes = find_namesakes(paths)
    assert namesakes == {Path("a/cat.jpg"): Path("a/cat.png"), Path("b/Cat.png"): Path("a/cat.png")}
    refuse_namesake(paths[0], namesakes)
    with pytest.raises(DataError, match=r"a/cat\.jpg: .* those of a/cat\.png; rename one"):
        refuse_namesake(paths[1], namesakes)


def test_results_are_not_written_among_the_originals(tmp_path: Path) -> None:
    (tmp_path / "hr").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "hr")
    refuse_folders_of_inputs([tmp_path, tmp_path / "hr" / "below"], [tmp_path / "hr" / "a.png"])
    with pytest.raises(ValueError, match="link holds the originals; name another folder"):
        refuse_folders_of_inputs([tmp_path / "link"], [tmp_path / "hr" / "a.png"])
