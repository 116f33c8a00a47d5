"""The pictures of README and docs/models.md, from the still life of examples/.

    python examples/render_still_life.py LARGE.png
    python experiments/pictures.py LARGE.png

LARGE is the still life four times as large as the one that is kept: the original that the details are compared with.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from photo_comparison import bicubic, score, stored

from finescale import Upscaler, read_image, write_image
from finescale.evaluate.picture import Crop, Panel, comparison_picture
from finescale.resize import downsample, round_half_up
from finescale.upscale import Tiling

SCALE = 4
ROOT = Path(__file__).parents[1]
PICTURES = ROOT / "docs" / "pictures"
PART = Crop(112, 52, 128, 112)  # of the small picture, for README: books, apple, vase
DETAILS = {"vase": Crop(500, 330, 120, 96), "books": Crop(790, 452, 120, 96)}  # of the original


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("large", type=Path, help="The still life as large as it was rendered.")
    hr = round_half_up(read_image(parser.parse_args().large).pixels * 255)
    default, photo = (
        Upscaler.from_pretrained(name, scale=SCALE, tiling=Tiling(tile=0)) for name in ("default", "default-photo")
    )

    small = read_image(ROOT / "examples" / "still_life.png").pixels
    enlarged = small.repeat_interleave(SCALE, 1).repeat_interleave(SCALE, 2)
    part = Crop(*(SCALE * length for length in (PART.x, PART.y, PART.width, PART.height)))
    write_image(PICTURES / "before.png", part.cut(enlarged))
    write_image(PICTURES / "after.png", part.cut(default(small)))

    models = {"bicubic": bicubic, "default": default, "default-photo": photo}
    inputs = {"clean": downsample(hr, scale=SCALE), "jpeg": stored(hr, 0, scale=SCALE, quality=50)}
    titles = {"clean": "reduced by the bicubic", "jpeg": "the same, as JPEG of quality 50"}
    for name, lr in inputs.items():
        results = {model: upscale(lr / 255) for model, upscale in models.items()}
        for detail, crop in DETAILS.items():
            panels = [Panel("original\nPSNR (dB) / SSIM", hr / 255)]
            for model, sr in results.items():
                psnr, ssim = score(sr, hr / 255, scale=SCALE)
                panels.append(Panel(f"{model}\n{psnr:.2f} / {ssim:.4f}", sr))
            picture = comparison_picture(hr / 255, titles[name], panels, crop)
            write_image(PICTURES / f"{detail}_{name}.png", picture)


if __name__ == "__main__":
    main()
