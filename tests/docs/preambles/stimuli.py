"""Images, clips with speakers and sequences of tokens, with networks that take them."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import TensorDataset

Path("my_models.py").write_text("""
import numpy as np
from torch import nn


def net():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))


def voice():
    return nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3))


def crop(image):
    return np.asarray(image, dtype="float32").transpose(2, 0, 1)[:, :6, :6] / 255


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.token, self.hidden = nn.Embedding(10, 8), nn.Linear(8, 8)

    def forward(self, input_ids, attention_mask):
        return self.hidden(self.token(input_ids))
""")
import my_models  # noqa: E402

rng = np.random.default_rng(0)
n = 40
ids = [f"clip-{i + 1}" for i in range(n)]
split = [("train", "train", "train", "validation", "test")[i // 2 % 5] for i in range(n)]
speakers = [f"speaker-{i // 2 % 10}" for i in range(n)]
labels = [i % 2 for i in range(n)]

images = np.float32(rng.uniform(size=(n, 3, 8, 8)))
np.save("x.npy", images)
my_dataset = TensorDataset(torch.tensor(images), torch.tensor(labels))
for i, image in enumerate(images):
    folder = Path("photos", ("cat", "dog")[labels[i]])
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.uint8(255 * image.transpose(1, 2, 0))).save(folder / f"{i}.png")
torch.save(my_models.net().state_dict(), "net.pt")

sounds = np.float32(rng.normal(size=(n, 8)))
loudness = rng.normal(size=n)
np.savez("clips.npz", X=sounds, y=np.array(["word", "noise"])[labels], ids=ids)
rows = [f"{ids[i]},{('happy', 'sad')[i % 2]},{loudness[i]:.2f},{30 + i},{speakers[i]}" for i in range(n)]
Path("targets.csv").write_text("\n".join(["id,emotion,loudness,age:continuous,speaker", *rows]))

input_ids = rng.integers(0, 10, size=(n, 5))
attention_mask = np.int64(np.arange(5) < rng.integers(2, 6, size=(n, 1)))
part_of_speech = input_ids % 3
np.savez("text.npz", input_ids=input_ids, attention_mask=attention_mask, y=part_of_speech)
