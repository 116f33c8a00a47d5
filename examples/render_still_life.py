"""Render the still life in this folder: a small path tracer in torch; every texture is computed, no asset is read.

The scene is rendered four times larger than the picture that is kept, then reduced with an antialiased bicubic filter:
`python render_still_life.py [LARGE.png]`. Points are (3, n), the unit is about ten centimetres, y points up.
"""

import math
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont

WIDTH, HEIGHT, SAMPLES, STEP = 960, 720, 16, 0.004
rng = np.random.default_rng(20)
lattice = F.pad(torch.from_numpy(rng.random((1, 1, 32, 32, 32))).float(), (0, 1, 0, 1, 0, 1), mode="circular")


def vec(*values):
    """Make a column vector."""
    return torch.tensor(values, dtype=torch.float32)[:, None]


def unit(a):
    """Scale vectors to length one."""
    return a * (a * a).sum(0).clamp_min(1e-12).rsqrt()


def step(low, high, x):
    """Rise (or fall, if low > high) smoothly from 0 at `low` to 1 at `high`."""
    x = ((x - low) / (high - low)).clamp(0, 1)
    return x * x * (3 - 2 * x)


def lines(x, duty, soft=0.06):
    """Draw bands of period one, centred on the integers."""
    return step(duty / 2 + soft, duty / 2 - soft, (x - x.round()).abs())


def mix(a, b, w):
    """Blend colour `a` into colour `b` by the weight `w`; a colour is a triple or (3, n)."""
    a, b = (c if torch.is_tensor(c) else vec(*c) for c in (a, b))
    return a + (b - a) * w


def noise(p, *scale):
    """Smooth value noise in [0, 1] at the scaled points."""
    p = p * vec(*scale)
    f = p - p.floor()
    p = (torch.remainder(p.floor(), 32) + f * f * (3 - 2 * f)) / 16 - 1
    return F.grid_sample(lattice, p.T.reshape(1, -1, 1, 1, 3), align_corners=True).reshape(-1)


def frame(*y, spin=0.0):
    """Build the rotation into a frame whose second axis is `y` in the world, spun about it by `spin` radians."""
    y, x = unit(vec(*y)), vec(math.cos(spin), 0, -math.sin(spin))
    x = unit(x - y * (x * y).sum())
    return torch.cat([x, y, torch.linalg.cross(x, y, dim=0)], 1).T


def title(half, *words):
    """Draw words, (text, height, x) as fractions of the spine, into a mask for `grid_sample`."""
    image = Image.new("L", (1600, round(1600 * half[1] / half[0])))
    for word, size, x in words:
        font = ImageFont.load_default(size * image.height)
        ImageDraw.Draw(image).text((x * 1600, image.height / 2), word, fill=255, font=font, anchor="mm")
    return torch.from_numpy(np.array(image, dtype=np.float32) / 255)[None, None]


EYE, AIM, HALF_HEIGHT, LENS = vec(0, 2.55, 7.4), vec(0, 0.9, 0), 0.218, 0.035
LAMP, LAMP_U, LAMP_V = vec(-6, 5.6, 3.6), vec(0.62, 0, 1.03), vec(0.606, 0.97, -0.364)  # a window: centre, half sides
LAMP_LIGHT, ROOM_LIGHT = vec(3.0, 2.75, 2.4), vec(0.165, 0.18, 0.205)
GLOSS = {"wood": (0.04, 0.2), "peel": (0.035, 0.22), "lemon": (0.035, 0.22), "slice": (0.04, 0.15)}  # and roughness
GLOSS |= {"apple": (0.045, 0.06), "glaze": (0.06, 0.02)}
RELIEF = {"wood": (0.0012, 3, 0, 90), "slice": (0.004, 25), "red book": (0.003, 80), "blue book": (0.003, 80)}
CLOTH_AT, CLOTH_TURN = (-1.0, 0.0, 0.3), frame(0, 1, 0, spin=-0.12)
BOOKS = {"red book": ((0.74, 0.19, 0.62), (0.30, 0.018, 0.026), ("finescale", 0.56, 0.38), ("NO. 4", 0.3, 0.8))}
BOOKS["blue book"] = ((0.66, 0.13, 0.5), (0.02, 0.055, 0.13), ("of grain & thread", 0.44, 0.39), ("1897", 0.36, 0.82))
TITLES = {kind: title(half, *words) for kind, (half, _, *words) in BOOKS.items()}


def weave(p):
    """Raise the strands of the basket, and the rope that is its rim."""
    row, turn = p[1] / 0.06, torch.atan2(p[2], p[0])
    strands = 0.02 * torch.cos(22 * turn + math.pi * row.floor()) * torch.sin(math.pi * row).abs()
    return torch.where(p[1] > 0.21, 0.012 * torch.cos(40 * turn + 50 * p[1]), strands)


def bump(kind, p):
    """Height of the fine relief that only bends the normals."""
    if kind in ("peel", "lemon"):
        return 0.012 * noise(p, 6) - 0.006 * step(0.45, 0.9, noise(p, 38))
    if kind == "linen":
        return 0.03 * noise(p, 3, 0, 3) + 0.0015 * noise(p, 160, 0, 40)
    return RELIEF[kind][0] * noise(p, *RELIEF[kind][1:]) if kind in RELIEF else 0


def paint(kind, p):
    """Colour of a material at points in the frame of its shape."""
    r, turn = (p[0] ** 2 + p[2] ** 2).sqrt(), torch.atan2(p[2], p[0]) / (2 * math.pi)
    if kind == "wood":  # planks, and on them the fringe of the cloth
        q = p + vec(3.7, 0, 1.3) * (p[2] / 0.62 + 0.3).floor()
        ring = lines(noise(q, 0.55, 1, 3.1) * 7 + noise(q, 1.5, 1, 14), 0.35, 0.3)
        c = mix((0.36, 0.185, 0.08), (0.15, 0.065, 0.025), 0.75 * ring + 0.4 * noise(q, 2.5, 1, 95))
        q = CLOTH_TURN @ (p - vec(*CLOTH_AT))
        fringe = lines(q[0] / 0.034 + noise(q, 9, 0, 9), 0.3, 0.12) * (q[0].abs() < 1.13) * (q[2] > 1)
        fringe = fringe * (q[2] < 1.27 + 0.06 * noise(q, 30, 0, 0))
        return mix(c * (1 - 0.8 * lines(p[2] / 0.62 + 0.3, 0.02, 0.01)), (0.72, 0.66, 0.55), fringe)
    if kind == "wallpaper":
        a, b = (p[0] + p[1]) / 0.23, (p[0] - p[1]) / 0.23
        spot = step(0.2, 0.14, (a - a.floor() - 0.5).abs() + (b - b.floor() - 0.5).abs())
        c = mix((0.125, 0.215, 0.20), (0.36, 0.42, 0.35), lines(a, 0.06).maximum(lines(b, 0.06)))
        return mix(c, (0.50, 0.39, 0.20), spot) * (0.9 + 0.25 * noise(p, 1))
    if kind == "linen":
        check = sum(0.5 * lines(v / 0.15, 0.3, 0.05) + 0.3 * lines(v / 0.15 + 0.5, 0.06, 0.03) for v in (p[0], p[2]))
        return mix((0.72, 0.68, 0.60), (0.07, 0.13, 0.32), (check + lines(p[2] / 2 - 0.5, 0.035, 0.004)).clamp(0, 1))
    if kind == "willow":
        shade = 0.7 + 0.6 * noise(p, 9, 30, 9)
        return mix((0.10, 0.045, 0.015), (0.52, 0.31, 0.13), step(-0.018, 0.016, weave(p))) * shade
    if kind == "peel":  # with the star of the stalk
        star = step(0.05, 0.03, r * (1 + 0.3 * torch.sin(10 * math.pi * turn))) * (p[1] > 0)
        return mix(mix((0.78, 0.21, 0.006), (0.86, 0.30, 0.012), noise(p, 5)), (0.22, 0.22, 0.05), star)
    if kind == "lemon":
        return mix((0.80, 0.52, 0.03), (0.78, 0.60, 0.07), noise(p, 4))
    if kind == "slice":  # juice sacs, membranes, pith, peel
        flesh = mix((0.74, 0.17, 0.008), (0.92, 0.42, 0.06), noise(torch.stack([10 * turn, r, p[1]]), 9, 24, 0))
        wall = lines(10 * turn + 0.2 * noise(p, 5, 0, 5), 0.02 / r.clamp_min(0.03), 0.03).maximum(step(0.05, 0.03, r))
        flesh = mix(flesh, (0.90, 0.72, 0.42), wall.maximum(step(0.295, 0.31, r)))
        return mix(flesh, (0.80, 0.24, 0.008), step(0.335, 0.35, r).maximum(step(-0.01, -0.02, p[1])))
    if kind == "apple":  # red streaks over yellow, pale specks
        q = unit(p - vec(0, 0.05, 0)) * vec(1, 0.12, 1)
        streaks = step(0.3, 0.62, 0.55 * noise(q, 4) + 0.3 * noise(q, 14) + 0.2 * noise(q, 34) + 0.3 * p[0])
        c = mix((0.74, 0.40, 0.06), (0.42, 0.014, 0.018), 0.2 + 0.8 * streaks)
        return mix(c, (0.80, 0.55, 0.30), 0.6 * step(0.78, 0.92, noise(p, 34)))
    if kind == "glaze":  # cobalt bands, zigzag and stripes on white
        y, zigzag = p[1], p[1] / 0.085 - 2.6 * (14 * turn - (14 * turn).round()).abs()
        blue = sum(lines((y - at) / 2, width, 0.003) for at, width in ((0.19, 0.008), (0.23, 0.018), (-0.4, 0.018)))
        blue = blue + ((y < 0.17) & (y > -0.37)) * lines(zigzag, 0.34, 0.08) + (y < -0.44) * lines(turn * 60, 0.3)
        return mix((0.74, 0.73, 0.68), (0.02, 0.06, 0.27), (blue + (y > 0.3) * lines(y / 0.05, 0.3)).clamp(0, 1))
    if kind in BOOKS:
        half, cover, *_ = BOOKS[kind]
        x, y, front = p[0] / half[0], p[1] / half[1], p[2] > half[2] - 0.005
        gold = F.grid_sample(TITLES[kind], torch.stack([x, -y], -1)[None, None], align_corners=False).reshape(-1)
        gold = (gold + lines(x / 1.84 + 0.5, 0.013, 0.003) + lines(x / 1.77 + 0.5, 0.006, 0.003)).clamp(0, 1) * front
        page = mix((0.70, 0.63, 0.49), (0.36, 0.30, 0.22), lines(p[1] / 0.024 + 0.6 * noise(p, 2, 6, 2), 0.3, 0.2))
        inside = (p[1].abs() < half[1] - 0.028) & (p[2] < half[2] - 0.03)
        return torch.where(inside, page, mix(vec(*cover) * (0.75 + 0.5 * noise(p, 60)), (0.78, 0.53, 0.19), gold))
    return mix((0.50, 0.32, 0.11), (0.66, 0.47, 0.21), noise(p, 14)) * (0.25 if kind == "stem" else 1)


class Shape:
    """A thing in the scene: material, place, radius of a sphere that bounds it, distance function, rotation."""

    def __init__(self, kind, at, bound, distance, turn=None):
        self.kind, self.at, self.bound, self.distance = kind, vec(*at), bound, distance
        self.turn = torch.eye(3) if turn is None else turn

    def hit(self, o, d, best):
        """March along the rays; return those (indices) that meet the shape before `best`, and how far along."""
        o = o - self.at
        b = (o * d).sum(0)
        root = (b * b - (o * o).sum(0) + self.bound**2).sqrt()  # NaN, and so false below, for rays that pass by
        idx = ((root - b > 0) & (-b - root < best)).nonzero()[:, 0]
        t, end = (-b - root)[idx].clamp_min(0), (root - b)[idx].minimum(best[idx])
        o, d, found = self.turn @ o[:, idx], self.turn @ d[:, idx], []
        for _ in range(100):
            r = self.distance(o + d * t)
            found.append(torch.stack([idx, t.double()])[:, (r < 4e-4) & (t < end)])
            t = t + r
            go = (r >= 4e-4) & (t < end)
            o, d, t, end, idx = o[:, go], d[:, go], t[go], end[go], idx[go]
            if not len(idx):
                break
        idx, t = torch.cat(found, 1)
        return idx.long(), t.float()

    def look(self, p):
        """Return colour and normal at points of the shape."""
        p, corners = self.turn @ (p - self.at), (vec(1, -1, -1), vec(-1, -1, 1), vec(-1, 1, -1), vec(1, 1, 1))
        n = sum(k * (self.distance(p + STEP * k) - bump(self.kind, p + STEP * k)) for k in corners)
        return paint(self.kind, p), self.turn.T @ unit(n)


def box(x, y, z, shift=0.0):
    """Distance to a box of the given half sides, its edges a little rounded."""
    half = vec(x, y, z) - 0.006
    at = vec(0, 0, shift)
    return lambda p: (q := (p - at).abs() - half).clamp_min(0).norm(dim=0) + q.amax(0).clamp_max(0) - 0.006


def bound_book(kind):
    """Distance to a book: a case around the pages."""
    x, y, z = BOOKS[kind][0]
    case, gap, pages = box(x, y, z), box(x + 1, y - 0.028, z, -0.04), box(x - 0.04, y - 0.02, z - 0.02, -0.03)
    return lambda p: case(p).maximum(-gap(p)).minimum(pages(p))


def lathe(thick, *profile):
    """Distance to a shell of revolution about y; the profile is a spline through (radius, height) in hundredths."""
    q = torch.tensor([*profile[:2], *profile, *profile[-2:]]).reshape(-1, 2) / 100
    a, b, c, e = (q[i : len(q) - 3 + i, None] for i in range(4))
    s, size = torch.linspace(0, 1, 40)[None, :, None], q.abs().max().item() + 0.2
    curve = b + s * (c - a) / 2 + s**2 * (a - 2.5 * b + 2 * c - e / 2) + s**3 * (1.5 * (b - c) + (e - a) / 2)
    axis = torch.linspace(-size, size, 400)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).reshape(-1, 2)
    table = torch.cdist(grid, curve.reshape(-1, 2)).amin(1).reshape(1, 1, 400, 400) - thick
    return lambda p: F.grid_sample(table, torch.stack([p[::2].norm(dim=0), p[1]], -1)[None, None] / size,
                                   align_corners=True, padding_mode="border").reshape(-1)  # fmt: skip


def rods(kind, rows):
    """Bundle thin capsules, rows of start, end and radius, into a shape."""
    rows = torch.tensor(np.array(rows)).float()
    at = (rows[:, :3] + rows[:, 3:6]).mean(0) / 2
    a, b, r = rows[:, :3] - at, rows[:, 3:6] - rows[:, :3], rows[:, 6:]
    aa, ab, bb = (a * a).sum(1, True), (a * b).sum(1, True), (b * b).sum(1, True)

    def distance(p):
        along = b @ p - ab
        h = (along / bb).clamp(0, 1)
        return (((p * p).sum(0) - 2 * (a @ p) + aa - h * (2 * along - h * bb)).clamp_min(0).sqrt() - r).amin(0)

    return Shape(kind, at.tolist(), a.norm(dim=1).maximum((a + b).norm(dim=1)).max().item() + 0.03, distance)


def wheat(x, z, *tip):
    """Grow an ear of wheat: a bent stalk, two rows of grains, and an awn on every grain."""
    root, tip, t = np.array((x, 0.6, z)), np.array(tip), np.linspace(0, 1, 10)[:, None]
    bend = root * (0.85, 0, 1) + tip * (0.15, 1, 0) - (0, 0.1, 0)
    path = (1 - t) ** 2 * root + 2 * t * (1 - t) * bend + t**2 * tip
    along = (path[-1] - path[-2]) / np.linalg.norm(path[-1] - path[-2])
    side, grains, awns = np.cross(along, [0.2, 0.1, 1.0]), [], []
    for k in range(16):
        a, flip = tip + along * 0.03 * k + side * 0.02 * (-1) ** k, side * (-1) ** k
        grains.append((*a, *(a + along * 0.06 + flip * 0.018), 0.018))
        fan = along + flip * rng.normal(0.33, 0.07) + (0, 0, rng.normal(0, 0.12))
        awns.append((*grains[-1][3:6], *(a + along * 0.06 + fan * (0.44 - 0.012 * k)), 0.004))
    stalk = [(*a, *b, 0.009) for a, b in pairwise(path)]
    return [rods("straw", part) for part in (stalk, grains, awns)]


basket = lathe(0.028, 0, -25, 30, -25, 52, -25, 60, -21, 69, 0, 76, 20, 77, 25)
vase = lathe(0.015, 0, -70, 24, -70, 27, -66, 36, -42, 43, -12, 39, 12, 25, 32, 17, 46, 17, 53, 22, 60)
apple = lathe(0.015, 0, 27, 6, 33, 16, 37, 28, 33, 37, 18, 37, 0, 31, -20, 20, -32, 10, -34, 5, -32, 0, -30)
lemon = lathe(0.015, 0, 45, 5, 43, 10, 36, 22, 24, 27, 5, 25, -12, 14, -29, 0, -36)
half_orange = lathe(0.006, 0, 0, 15, 0, 30, 0, 33.5, -0.3, 35, -3, 34, -10, 25, -25, 10, -34, 0, -35)
SCENE = [
    Shape("wood", (0, -4, 0), 12, lambda p: p[1] - 4),
    Shape("wallpaper", (0, 2, -2.5), 9, lambda p: p[2]),
    Shape("linen", CLOTH_AT, 1.7, box(1.15, 0.015, 1.15), CLOTH_TURN),
    Shape("willow", (-1.05, 0.31, 0), 0.9, lambda p: 0.7 * (basket(p) - weave(p))),
    Shape("peel", (-1.40, 0.50, 0.22), 0.345, lambda p: p.norm(dim=0) - 0.345, frame(-0.5, 0.5, 0.7)),
    Shape("peel", (-0.70, 0.50, 0.20), 0.345, lambda p: p.norm(dim=0) - 0.345, frame(0.9, 0.7, 0.2)),
    Shape("peel", (-1.03, 0.52, -0.36), 0.345, lambda p: p.norm(dim=0) - 0.345),
    Shape("lemon", (-1.03, 0.91, 0.03), 0.5, lemon, frame(0.85, 0.22, 0.45)),
    Shape("glaze", (0.42, 0.72, -0.85), 0.78, vase),
    Shape("slice", (0.17, 0.345, 1.2), 0.38, half_orange, frame(-0.16, 0.5, 0.85)),
    Shape("red book", (1.17, 0.19, 0.12), 1.04, bound_book("red book"), frame(0, 1, 0, spin=0.26)),
    Shape("blue book", (1.25, 0.51, 0.05), 0.85, bound_book("blue book"), frame(0, 1, 0, spin=-0.05)),
    Shape("apple", (1.20, 0.99, 0.1), 0.47, apple, frame(0.12, 1, 0.2)),
    rods("stem", [(1.23, 1.23, 0.13, 1.27, 1.41, 0.15, 0.016), (1.27, 1.41, 0.15, 1.34, 1.49, 0.15, 0.018)]),
    *wheat(0.38, -0.85, -0.45, 1.62, -0.8), *wheat(0.42, -0.83, -0.02, 1.86, -0.75),
    *wheat(0.46, -0.9, 0.54, 1.82, -0.95), *wheat(0.44, -0.8, 1.0, 1.70, -0.7), *wheat(0.4, -0.9, -0.72, 1.22, -0.6),
]  # fmt: skip


def nearest(o, d, far):
    """Find the first shape along each ray, -1 for none, and its distance."""
    best, which = far.clone(), torch.full_like(far, -1)
    for k, shape in enumerate(SCENE):
        idx, t = shape.hit(o, d, best)
        best[idx], which[idx] = t, k
    return best, which


def ball(u):
    """Map two numbers in [0, 1) to a point of the unit sphere."""
    z, turn = 1 - 2 * u[0], 2 * math.pi * u[1]
    return torch.stack([(1 - z * z).sqrt() * turn.cos(), (1 - z * z).sqrt() * turn.sin(), z])


def radiance(o, d, u, first=True, lamp=True):
    """Light that comes back along the rays; `u` holds the random numbers of each ray, two for each decision."""
    t, which = nearest(o, d, torch.full_like(o[0], torch.inf))
    a, b = (((o + d * 8.6 - LAMP) * side).sum(0) / 1.44 for side in (LAMP_U, LAMP_V))  # the window and its bars
    pane = (a.abs().maximum(b.abs()) < 1) & (a.abs() > 0.06) & ((b - 0.1).abs() > 0.05) & ((d * LAMP).sum(0) > 0)
    out = ROOM_LIGHT * (0.7 + 0.6 * d[1]) + LAMP_LIGHT * (8 * pane if lamp else 0)
    met = (which >= 0).nonzero()[:, 0]
    if not len(met):
        return out
    d, u, which, p = d[:, met], u[:, met], which[met], (o + d * t)[:, met]
    c, n, gloss = torch.empty_like(p), torch.empty_like(p), torch.zeros_like(p[:2])
    for k, shape in enumerate(SCENE):
        if len(idx := (which == k).nonzero()[:, 0]):
            c[:, idx], n[:, idx] = shape.look(p[:, idx])
            gloss[:, idx] = vec(*GLOSS.get(shape.kind, (0, 0)))
    n = unit(n - d * (n * d).sum(0).clamp_min(0) * 1.02)  # no bump may turn away from the eye
    p = p + n * 0.003
    to = LAMP + LAMP_U * (2 * u[0] - 1) + LAMP_V * (2 * u[1] - 1) - p
    power = (n * unit(to)).sum(0).clamp_min(0) * 75 / (to * to).sum(0) / math.pi
    seen = nearest(p, unit(to), torch.where(power > 0, torch.inf, -torch.inf))[1] < 0
    bounced = radiance(p, unit(n * 1.001 + ball(u[2:4])), u[4:], False, False) if first else 0.5 * ROOM_LIGHT
    light, idx = (LAMP_LIGHT * power * seen + bounced) * c, (gloss[0] > 0).nonzero()[:, 0]
    if first and len(idx):
        d, n, (shine, rough) = d[:, idx], n[:, idx], gloss[:, idx]
        cos = -(n * d).sum(0)
        fresnel = shine + (1 - shine) * (1 - cos.clamp(0, 1)) ** 5 * (1 - rough) ** 2
        mirrored = radiance(p[:, idx], unit(d + 2 * cos * n + rough * ball(u[6:8, idx])), u[4:, idx], False)
        light[:, idx] += fresnel * (mirrored - light[:, idx])
    out[:, met] = light
    return out


def render(seed=7):
    """Render the large picture, (3, height, width), in 0..255."""
    torch.manual_seed(seed)
    points = torch.quasirandom.SobolEngine(12, scramble=True, seed=seed).draw(SAMPLES)
    w = unit(AIM - EYE)
    right = unit(torch.linalg.cross(w, vec(0, 1, 0), dim=0))
    up, bands = torch.linalg.cross(right, w, dim=0), []
    for rows in torch.arange(HEIGHT).split(72):
        y, x = (v.reshape(-1) for v in torch.meshgrid(rows, torch.arange(WIDTH), indexing="ij"))
        shift, total = torch.rand(12, len(x)), 0
        for point in points:
            u = torch.remainder(point[:, None] + shift, 1)
            d = w + 2 * HALF_HEIGHT / HEIGHT * (right * (x + u[0] - WIDTH / 2) + up * (HEIGHT / 2 - y - u[1]))
            lens = LENS * u[3].sqrt() * (right * (2 * math.pi * u[2]).cos() + up * (2 * math.pi * u[2]).sin())
            total = total + radiance(EYE + lens, unit(d * 6.9 - lens), u[4:]).clamp_max(6) / SAMPLES
        bands.append(total.reshape(3, len(rows), WIDTH))
    c = torch.cat(bands, 1)
    c = (c * (2.51 * c + 0.03)) / (c * (2.43 * c + 0.59) + 0.14)  # a filmic curve
    return (c.clamp(0, 1) ** (1 / 2.2) * 255).round()


if __name__ == "__main__":
    torch.set_num_threads(1)
    large = render()
    small = F.interpolate(large[None], scale_factor=0.25, mode="bicubic", antialias=True)[0].round().clamp(0, 255)
    pictures = {Path(__file__).with_name("still_life.png"): small, **dict.fromkeys(sys.argv[1:], large)}
    for path, picture in pictures.items():
        Image.fromarray(picture.permute(1, 2, 0).byte().numpy()).save(path, optimize=True)
