"""The text log of a training has the lines that users of BasicSR search."""

from __future__ import annotations

from finescale.train.published_log import step_message, validation_messages


def test_a_step_is_told_as_by_basicsr() -> None:
    message = step_message(
        "HiT_SRF_x2",
        step=12_400,
        epoch=7,
        rate=5e-4,
        seconds_left=93_784.4,
        seconds=0.5364,
        waited=0.0031,
        losses={"l1": 0.03, "mse": 0.01, "edge": 0.002},
    )
    assert message == (
        "[HiT_S..][epoch:  7, iter:  12,400, lr:(5.000e-04,)] [eta: 1 day, 2:03:04, time (data): 0.536 (0.003)] "
        "l_pix: 4.0000e-02 l_edge: 2.0000e-03"
    )


def test_a_validation_is_told_set_by_set_with_the_best_so_far() -> None:
    scores = {
        "psnr_y": 30.0,
        "ssim_y": 0.8,
        "psnr_y_Set5": 31.5,
        "ssim_y_Set5": 0.9,
        "psnr_y_Set14": 28.5,
        "images": 19,
    }
    best = {"psnr_y_Set5": (32.0, 5000), "ssim_y_Set5": (0.9, 10_000), "psnr_y_Set14": (28.5, 10_000)}
    assert validation_messages(["Set5", "Set14", "B100"], scores, best) == [
        "Validation Set5\n\t # psnr: 31.5000\tBest: 32.0000 @ 5000 iter\n\t # ssim: 0.9000\tBest: 0.9000 @ 10000 iter",
        "Validation Set14\n\t # psnr: 28.5000\tBest: 28.5000 @ 10000 iter",
    ]


def test_the_only_set_has_the_columns_of_all() -> None:
    scores, best = {"psnr_rgb": 30.0, "images": 5}, {"psnr_rgb": (30.0, 500)}
    assert validation_messages(["Set5"], scores, best) == [
        "Validation Set5\n\t # psnr: 30.0000\tBest: 30.0000 @ 500 iter"
    ]
