from __future__ import annotations

from pathlib import Path

import pytest

from finescale.analyze.points import GivenPoint, point_from_text, read_points
from finescale.errors import DataError


def test_a_point_is_read_from_values_in_order_with_units() -> None:
    assert point_from_text("ELAN-light, 26.54, 601K, 43.2g, 247, 0.4K") == GivenPoint(
        name="ELAN-light", psnr_db=26.54, parameters=601_000, multiply_adds=43.2e9, time_ms=247, memory_mib=400
    )


def test_values_that_are_not_known_are_left_empty_or_out() -> None:
    point = point_from_text("mine,26.5,,43.2e9")
    assert (point.parameters, point.multiply_adds, point.time_ms) == (None, 43.2e9, None)
    assert point.costs == {"parameters": None, "multiply-adds": pytest.approx(43.2), "time": None, "memory": None}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mine", "a point needs a name and a PSNR, got no psnr in 'mine'"),
        (",26.5", "a point needs a name and a PSNR, got no name in ',26.5'"),
        ("mine,26.5,big", "parameters must be a positive number such as 26.8, 866K or 58.0G, got 'big'"),
        ("mine,-1", "psnr must be a positive number such as 26.8, 866K or 58.0G, got '-1'"),
        ("mine,26.5,0", "parameters must be a positive number"),
        ("mine,1,2,3,4,5,6", "a point has at most 6 values, name,psnr,parameters,multiply_adds,time_ms,memory_mib"),
    ],
)
def test_a_wrong_point_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        point_from_text(text)


def test_a_table_names_its_columns_in_any_order_and_spelling(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_text("\ufeffPSNR,Name,Multiply-Adds,Time ms,scale,set,family\n26.07,CARN,90.9G,,x4,urban100,CNN\n\n")
    (point,) = read_points(path)
    assert point == GivenPoint(name="CARN", psnr_db=26.07, multiply_adds=90.9e9, scale=4, set="Urban100", family="CNN")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("name,psnr,flops\n", "points.csv: no column is called 'flops'; use name, psnr, parameters, multiply_adds"),
        ("name,psnr,parameter\n", r"no column is called 'parameter' \(did you mean 'parameters'\?\)"),
        ("name,parameters\n", "points.csv: has no column 'psnr'; its first line must name the columns"),
        ("", "points.csv: has no column 'name'"),
        ("name,psnr\nA,26,5\n", "points.csv, line 2: has 3 values for 2 columns"),
        ("name,psnr\nA,26\nB,\n", "points.csv, line 3: a point needs a name and a PSNR, got no psnr"),
        ("name,psnr,scale\nA,26,8\n", "points.csv, line 2: scale must be 2, 3 or 4, got '8'"),
        ("name,psnr,set\nA,26,Set6\n", "line 2: set must be one of Set5, Set14, B100, Urban100, Manga109, got 'Set6'"),
    ],
)
def test_a_wrong_table_is_refused(tmp_path: Path, content: str, sentence: str) -> None:
    path = tmp_path / "points.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=sentence):
        read_points(path)


def test_what_is_no_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "points.csv"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(DataError, match="not a CSV file, because it is not text in UTF-8"):
        read_points(path)
    with pytest.raises(DataError, match="cannot be read"):
        read_points(tmp_path / "none.csv")
