"""What the classifiers share: one network, one loss, images with labels."""

from __future__ import annotations

from deepgap.training.images import draw_images, labels_of
from deepgap.training.workloads import Arrays, Group, Loss, Networks, Ops

CLASSES = 10
NETWORK = "classifier"


def loss(networks: Networks, batch: Arrays, carry: Arrays, ops: Ops) -> Loss:
    return Loss(ops.cross_entropy(networks[NETWORK](batch["images"]), batch["labels"]), carry)


def batch(batch_size: int, image_size: int, number: int) -> Arrays:
    labels = labels_of(batch_size, number)
    return {"images": draw_images(labels, image_size, seed=number), "labels": labels}


GROUPS = (Group((NETWORK,), loss),)
