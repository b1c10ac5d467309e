"""Classifies images with MediaPipe Tasks: MODEL IMAGES.npy SCORES.json. Knows no tfq.

Run in a Python of its own, since MediaPipe and TensorFlow may want other versions of packages.
"""

import json
import sys

import mediapipe
import numpy as np
from mediapipe.tasks.python import BaseOptions
from mediapipe.tasks.python.vision import ImageClassifier, ImageClassifierOptions


def main(model: str, images: str, scores: str) -> None:
    options = ImageClassifierOptions(base_options=BaseOptions(model_asset_path=model))
    found = []
    with ImageClassifier.create_from_options(options) as classifier:
        for pixels in np.load(images):
            image = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
            (answer,) = classifier.classify(image).classifications
            found.append({c.category_name: c.score for c in answer.categories})
    with open(scores, "w") as file:
        json.dump(found, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
