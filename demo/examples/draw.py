"""Draws the example pictures of the Classify tab: python demo/examples/draw.py"""

from pathlib import Path

from PIL import Image, ImageDraw, ImageFilter

SIDE = 512
HERE = Path(__file__).parent


def _scene(top: str, bottom: str, horizon: float) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("RGB", (SIDE, SIDE), top)
    canvas = ImageDraw.Draw(image)
    canvas.rectangle([0, SIDE * horizon, SIDE, SIDE], fill=bottom)
    return image, canvas


def airplane() -> Image.Image:
    image, d = _scene("#8fc1e8", "#8fc1e8", 1)
    d.ellipse([40, 330, 260, 420], fill="#dcecf7")
    d.ellipse([320, 60, 500, 130], fill="#dcecf7")
    d.polygon([(60, 250), (90, 150), (130, 150), (150, 240)], fill="#4d6a86")
    d.rounded_rectangle([60, 225, 450, 285], 30, fill="#f4f6f8")
    d.polygon([(450, 228), (490, 258), (450, 283)], fill="#d8dde2")
    d.polygon([(210, 265), (310, 265), (215, 400), (165, 400)], fill="#b5bec8")
    d.polygon([(230, 228), (300, 228), (225, 130), (190, 130)], fill="#c8d0d8")
    for x in range(140, 420, 28):
        d.ellipse([x, 240, x + 11, 252], fill="#38506a")
    return image


def ship() -> Image.Image:
    image, d = _scene("#cfe3ee", "#2f6d94", 0.62)
    d.polygon([(50, 300), (462, 300), (410, 390), (110, 390)], fill="#7c2d2d")
    d.rectangle([140, 235, 370, 300], fill="#f2f2ee")
    d.rectangle([190, 185, 320, 235], fill="#e2e2dc")
    d.rectangle([225, 100, 275, 185], fill="#c0463a")
    d.rectangle([225, 100, 275, 122], fill="#222222")
    for x in range(155, 360, 34):
        d.ellipse([x, 258, x + 16, 274], fill="#33566e")
    for x in range(0, SIDE, 64):
        d.arc([x, 385, x + 64, 425], 0, 180, fill="#9cc3d8", width=5)
    return image


def automobile() -> Image.Image:
    image, d = _scene("#d9e4ea", "#8b8d8f", 0.6)
    d.polygon([(150, 230), (200, 155), (340, 155), (400, 230)], fill="#a32a24")
    d.polygon([(172, 228), (210, 172), (262, 172), (262, 228)], fill="#bcd7e6")
    d.polygon([(278, 228), (278, 172), (332, 172), (374, 228)], fill="#bcd7e6")
    d.rounded_rectangle([60, 225, 460, 325], 36, fill="#c3352d")
    for x in (140, 370):
        d.ellipse([x - 45, 280, x + 45, 370], fill="#1d1d1f")
        d.ellipse([x - 20, 305, x + 20, 345], fill="#b9bcc0")
    d.ellipse([435, 245, 458, 270], fill="#ffe9a3")
    return image


def truck() -> Image.Image:
    image, d = _scene("#e6e9d8", "#77797b", 0.68)
    d.rectangle([40, 130, 325, 350], fill="#e9edf0", outline="#9aa3ab", width=6)
    d.polygon([(335, 350), (335, 200), (420, 200), (470, 270), (470, 350)], fill="#2b6cb0")
    d.polygon([(355, 265), (355, 218), (412, 218), (448, 265)], fill="#c9e2f2")
    d.rectangle([40, 340, 470, 365], fill="#33363a")
    for x in (110, 225, 405):
        d.ellipse([x - 40, 330, x + 40, 410], fill="#1b1c1e")
        d.ellipse([x - 16, 354, x + 16, 386], fill="#aab0b6")
    return image


def star() -> Image.Image:
    image, d = _scene("#24304f", "#24304f", 1)
    points = [
        (256, 90), (300, 205), (425, 208), (326, 284), (362, 404),
        (256, 334), (150, 404), (186, 284), (87, 208), (212, 205),
    ]  # fmt: skip
    d.polygon(points, fill="#f2c94c")
    return image


def ring() -> Image.Image:
    image, d = _scene("#eee5d5", "#eee5d5", 1)
    d.ellipse([96, 96, 416, 416], fill="#2a7f74")
    d.ellipse([180, 180, 332, 332], fill="#eee5d5")
    return image


if __name__ == "__main__":
    for draw in (airplane, automobile, ship, truck, star, ring):
        picture = draw().filter(ImageFilter.GaussianBlur(1.2))
        picture.save(HERE / f"{draw.__name__}.png", optimize=True)
