"""Code that loads a classifier elsewhere and classifies a photo with it as Headstart does."""

from __future__ import annotations

from core.runs.run import Run

# What makes a photo a square, by the recipe's image.fit; as `core.data.augment.FITS` does.
SQUARES = {
    "crop": """\
    v2.Resize(prepared["short_side"], how, antialias=True),
    v2.CenterCrop(prepared["size"]),""",
    "squash": """\
    v2.Resize(prepared["short_side"], how, antialias=True),
    v2.Resize((prepared["size"], prepared["size"]), antialias=True),""",
    "letterbox": """\
    v2.Resize(prepared["short_side"], how, antialias=True),
    v2.Resize(None, max_size=prepared["size"], antialias=True),
    v2.Lambda(lambda x: v2.functional.pad(x, [  # left, top, right, bottom
        (prepared["size"] - x.shape[2]) // 2, (prepared["size"] - x.shape[1]) // 2,
        (prepared["size"] - x.shape[2] + 1) // 2, (prepared["size"] - x.shape[1] + 1) // 2,
    ], fill=127)),""",
}
PLAIN = """\
# pip install timm safetensors
import json

import timm
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file
from torchvision.transforms import InterpolationMode, v2

folder = "model"  # with config.json and model.safetensors
with open(f"{folder}/config.json", encoding="utf-8") as file:
    config = json.load(file)
own = config["headstart"]
network = timm.create_model(
    config["architecture"], num_classes=config["num_classes"], **own["model_args"]
)
network.load_state_dict(load_file(f"{folder}/model.safetensors"))
network.eval()

prepared = own["preprocessing"]
how = InterpolationMode(prepared["interpolation"])
prepare = v2.Compose([
    v2.PILToTensor(),
SQUARE
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize(prepared["mean"], prepared["std"]),
])

photo = ImageOps.exif_transpose(Image.open("photo.jpg")).convert("RGB")
with torch.inference_mode():
    logits = network(prepare(photo).unsqueeze(0))[0]
probabilities = (logits / own["temperature"]).softmax(dim=0)
for name, probability in zip(config["label_names"], probabilities.tolist()):
    print(f"{probability:.4f}  {name}")
"""
# A head that is not timm's own last layer is made by Headstart's own modules.
WITH_HEADSTART = """\
# In a folder with Headstart's code (its head is not one of timm's).
from pathlib import Path

from core.models import classifier

network = classifier.load(Path("model"))  # with config.json and model.safetensors
prediction = network.predict(Path("photo.jpg").read_bytes())
for name, probability in zip(prediction.classes, prediction.probabilities):
    print(f"{probability:.4f}  {name}")
"""


def is_plain(run: Run) -> bool:
    """Whether timm alone can load a run's classifier: one network with one linear layer last."""
    own = run.config["headstart"]
    return not (own.get("head") or own.get("members"))


def loading(run: Run) -> str:
    """Python that loads a run's classifier from its folder and classifies `photo.jpg`."""
    if not is_plain(run):
        return WITH_HEADSTART
    return PLAIN.replace("SQUARE", SQUARES[run.config["headstart"]["preprocessing"]["fit"]])
