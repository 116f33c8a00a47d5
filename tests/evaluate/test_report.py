from __future__ import annotations

import csv
import io
import json
import math

import pytest

from finescale.evaluate import PAPERS, PROTOCOLS, Failure, Model, Report, Score

BICUBIC = Model(name="bicubic", upscale=lambda lr, _: lr, conditions={"weights_sha256": None, "tiles": None})
CRAFT = Model(
    name="craft",
    upscale=lambda lr, _: lr,
    conditions={"weights_sha256": "ab", "tiles": "whole"},
    published={"Set5": (32.52, 0.8989), "Set14": (28.85, None)},
)
SCORES = [
    Score("bicubic", "Set5", "a", 28.0, 0.8),
    Score("craft", "Set5", "a", 32.0, 0.9),
    Score("bicubic", "Set5", "b", 30.0, 0.7),
    Score("craft", "Set5", "b", 33.0, 0.85),
    Score("bicubic", "Set14", "c", 25.0, 0.6),
]


def report(**changes: object) -> Report:
    failed = [Failure("Set14", "c", "craft", "Set14 c: not finite"), Failure("Set14", "d", None, "d.png: gone")]
    given = {"models": [BICUBIC, CRAFT], "scale": 4, "protocol": PAPERS, "scores": SCORES, "failures": failed}
    return Report(**{**given, **changes})  # type: ignore[arg-type]


def test_a_row_is_the_mean_over_pictures_beside_the_published() -> None:
    plain = report(made_lr=["Set14"]).as_json()
    assert [(row["model"], row["set"]) for row in plain["rows"]] == [
        ("bicubic", "Set5"),
        ("bicubic", "Set14"),
        ("craft", "Set5"),
        ("craft", "Set14"),
    ]
    craft = plain["rows"][2]
    assert craft["psnr"] == 32.5
    assert craft["psnr_difference"] == pytest.approx(-0.02)
    assert {key: craft[key] for key in craft if "difference" not in key} == {
        "model": "craft",
        "scale": 4,
        "set": "Set5",
        "psnr": 32.5,
        "ssim": 0.875,
        "published_psnr": 32.52,
        "published_ssim": 0.8989,
        "images": 2,
        "failed": 0,
        "protocol": "papers",
        "border": 4,
        "channel": "y",
        "rounding": "8-bit",
        "weights_sha256": "ab",
        "tiles": "whole",
        "weights_file": None,
        "low_resolution": "files",
        "metrics": {},
    }
    failed = plain["rows"][3]
    assert (failed["psnr"], failed["images"], failed["failed"]) == (None, 0, 2)
    assert failed["published_ssim"] is None
    assert failed["low_resolution"] == "made"
    assert plain["rows"][1]["failed"] == 1
    assert plain["failed"][1] == {"set": "Set14", "image": "d", "model": None, "reason": "d.png: gone"}


def test_published_values_stand_beside_their_own_protocol_alone() -> None:
    rows = report(protocol=PROTOCOLS["rgb"]).as_json()["rows"]
    assert {row["published_psnr"] for row in rows} == {None}


def test_models_are_compared_picture_by_picture() -> None:
    found = report().as_json()["differences"]
    assert [(one["set"], one["model"], one["other"], one["metric"]) for one in found] == [
        ("Set5", "craft", "bicubic", "psnr"),
        ("Set5", "craft", "bicubic", "ssim"),
    ]
    assert (found[0]["mean"], found[0]["images"]) == (3.5, 2)
    assert found[0]["low"] == pytest.approx(3.5 - 12.706 * 0.5)


def test_the_table_is_the_papers() -> None:
    main, differences = report().tables()
    assert main.header == ["model", "Set5", "Set14"]
    assert main.rows == [
        ["bicubic", "29.00 / 0.7500", "25.00 / 0.6000"],
        ["craft", "32.50 / 0.8750", "-"],
        ["  published", "32.52 / 0.8989", "28.85 / -"],
        ["  difference", "-0.02 / -0.0239", "-"],
    ]
    (row,) = differences.rows
    assert row == ["Set5", "craft - bicubic", "+3.500 [-2.853, +9.853]", "+0.1250 [-0.1927, +0.4427]", "2"]
    page = report(notes=["a note"]).as_markdown()
    assert "| craft | 32.50 / 0.8750 | - |" in page
    assert "- d.png: gone" in page
    assert "- a note" in page
    assert "weights_sha256 ab; tiles whole" in page


def test_every_picture_has_its_line() -> None:
    scores = [Score("bicubic", "Set5", "a,b", 28.12345678901234, 0.8, {"lpips": 0.25, "x": None})]
    lines = list(csv.reader(io.StringIO(report(scores=scores).as_csv())))
    assert lines == [
        ["model", "scale", "set", "image", "psnr", "ssim", "lpips", "x", "protocol"],
        ["bicubic", "4", "Set5", "a,b", "28.12345678901234", "0.8", "0.25", "", "papers"],
    ]


def test_further_metrics_have_tables_of_their_own() -> None:
    scores = [Score("bicubic", "Set5", name, None, None, {"niqe": value}) for name, value in (("a", 3.0), ("b", 4.0))]
    (table,) = report(models=[BICUBIC], scores=scores, failures=[]).tables()
    assert (table.title, table.rows) == ("niqe", [["bicubic", "3.5000"]])


def test_an_infinite_value_is_valid_json() -> None:
    plain = report(scores=[Score("bicubic", "Set5", "a", math.inf, 1.0)]).as_json()
    assert json.loads(json.dumps(plain, allow_nan=False))["rows"][0]["psnr"] == "inf"
    assert plain["images"][0]["psnr"] == "inf"
