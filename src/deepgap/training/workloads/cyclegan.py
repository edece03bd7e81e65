"""CycleGAN of Zhu et al. (ICCV 2017): two generators of nine residual blocks, two 70 x 70 PatchGAN discriminators.

Losses: least squares against the discriminators, cycle consistency of weight 10, identity of weight 5. A sample is a
pair of images. The discriminators see images of a pool of 50 (section 4, after Shrivastava et al., CVPR 2017), which
starts full, so that every step does the same work; which images are swapped is drawn once and lies on the device.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from deepgap.training.images import draw_images, labels_of
from deepgap.training.workloads import Adam, Arrays, Group, Loss, Networks, Ops, Setup, Workload

FILTERS = 64
BLOCKS = 9
CYCLE, IDENTITY = 10.0, 0.5
POOL = 50
DRAWN_STEPS = 100
"""After so many steps the pool's draws are the same again."""
GENERATORS = ("generator_ab", "generator_ba")
DISCRIMINATORS = ("discriminator_a", "discriminator_b")
SLOPE = 0.2


def pytorch(dropout: float) -> Mapping[str, Any]:
    return {name: _pytorch_generator() for name in GENERATORS} | {
        name: _pytorch_discriminator() for name in DISCRIMINATORS
    }


def _pytorch_generator() -> Any:
    from torch import nn

    class Residual(nn.Module):
        def __init__(self, width: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.ReflectionPad2d(1),
                nn.Conv2d(width, width, 3),
                nn.InstanceNorm2d(width),
                nn.ReLU(inplace=True),
                nn.ReflectionPad2d(1),
                nn.Conv2d(width, width, 3),
                nn.InstanceNorm2d(width),
            )

        def forward(self, values: Any) -> Any:
            return values + self.body(values)

    def after(width: int) -> list[nn.Module]:
        return [nn.InstanceNorm2d(width), nn.ReLU(inplace=True)]

    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, FILTERS, 7), *after(FILTERS)]
    width = FILTERS
    for _ in range(2):
        layers += [nn.Conv2d(width, 2 * width, 3, 2, padding=1), *after(2 * width)]
        width *= 2
    layers += [Residual(width) for _ in range(BLOCKS)]
    for _ in range(2):
        up = nn.ConvTranspose2d(width, width // 2, 3, 2, padding=1, output_padding=1)
        layers += [up, *after(width // 2)]
        width //= 2
    return nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, 3, 7), nn.Tanh())


def _pytorch_discriminator() -> Any:
    from torch import nn

    layers: list[nn.Module] = [nn.Conv2d(3, FILTERS, 4, 2, padding=1), nn.LeakyReLU(SLOPE, inplace=True)]
    width = FILTERS
    for stride in (2, 2, 1):
        layers += [nn.Conv2d(width, 2 * width, 4, stride, padding=1), nn.InstanceNorm2d(2 * width)]
        layers.append(nn.LeakyReLU(SLOPE, inplace=True))
        width *= 2
    return nn.Sequential(*layers, nn.Conv2d(width, 1, 4, padding=1))


def keras(image_size: int, dropout: float) -> Mapping[str, Any]:
    return {name: _keras_generator(image_size) for name in GENERATORS} | {
        name: _keras_discriminator(image_size) for name in DISCRIMINATORS
    }


def _reflected(values: Any, size: int) -> Any:
    from keras import ops

    return ops.pad(values, [[0, 0], [size, size], [size, size], [0, 0]], mode="reflect")


def _keras_generator(image_size: int) -> Any:
    from keras import Model, layers

    def after(values: Any) -> Any:
        normalised = layers.GroupNormalization(-1, epsilon=1e-5, center=False, scale=False)(values)
        return layers.ReLU()(normalised)

    inputs = layers.Input((image_size, image_size, 3))
    values = after(layers.Conv2D(FILTERS, 7, name="1")(_reflected(inputs, 3)))
    width, place = FILTERS, 4
    for _ in range(2):
        width *= 2
        values = after(layers.Conv2D(width, 3, 2, name=f"{place}")(layers.ZeroPadding2D(1)(values)))
        place += 3
    for _ in range(BLOCKS):
        body = after(layers.Conv2D(width, 3, name=f"{place}.body.1")(_reflected(values, 1)))
        body = layers.Conv2D(width, 3, name=f"{place}.body.5")(_reflected(body, 1))
        body = layers.GroupNormalization(-1, epsilon=1e-5, center=False, scale=False)(body)
        values = layers.Add()([values, body])
        place += 1
    for _ in range(2):
        width //= 2
        values = layers.Conv2DTranspose(width, 3, 2, padding="valid", name=f"{place}")(values)
        # PyTorch's padding of 1 with an output padding of 1 takes the first row and column away, and no last one.
        values = after(layers.Cropping2D(((1, 0), (1, 0)))(values))
        place += 3
    return Model(inputs, layers.Conv2D(3, 7, activation="tanh", name=f"{place + 1}")(_reflected(values, 3)))


def _keras_discriminator(image_size: int) -> Any:
    from keras import Model, layers

    def convolved(values: Any, width: int, stride: int, place: int) -> Any:
        return layers.Conv2D(width, 4, stride, name=f"{place}")(layers.ZeroPadding2D(1)(values))

    inputs = layers.Input((image_size, image_size, 3))
    values = layers.LeakyReLU(SLOPE)(convolved(inputs, FILTERS, 2, 0))
    width, place = FILTERS, 2
    for stride in (2, 2, 1):
        width *= 2
        values = convolved(values, width, stride, place)
        values = layers.GroupNormalization(-1, epsilon=1e-5, center=False, scale=False)(values)
        values = layers.LeakyReLU(SLOPE)(values)
        place += 3
    return Model(inputs, convolved(values, 1, 1, place))


def generators_loss(networks: Networks, batch: Arrays, carry: Arrays, ops: Ops) -> Loss:
    a, b = batch["images_a"], batch["images_b"]
    to_b, to_a = (networks[name] for name in GENERATORS)
    of_a, of_b = (networks[name] for name in DISCRIMINATORS)
    fake_b, fake_a = to_b(a), to_a(b)
    deceived = ops.mean_square(of_b(fake_b), 1.0) + ops.mean_square(of_a(fake_a), 1.0)
    cycle = ops.mean_absolute(to_a(fake_b), a) + ops.mean_absolute(to_b(fake_a), b)
    identity = ops.mean_absolute(to_b(b), b) + ops.mean_absolute(to_a(a), a)
    fakes = {"fake_a": ops.detach(fake_a), "fake_b": ops.detach(fake_b)}
    return Loss(deceived + CYCLE * (cycle + IDENTITY * identity), {**carry, **fakes})


def discriminators_loss(networks: Networks, batch: Arrays, carry: Arrays, ops: Ops) -> Loss:
    slots, swaps = (ops.row(carry[name], carry["step"]) for name in ("slots", "swaps"))
    total, pools = 0.0, {}
    for name, domain in zip(DISCRIMINATORS, "ab", strict=True):
        pool, shown = ops.exchange(carry[f"pool_{domain}"], slots, swaps, carry[f"fake_{domain}"])
        pools[f"pool_{domain}"] = pool
        judged, real = networks[name](shown), networks[name](batch[f"images_{domain}"])
        total += 0.5 * (ops.mean_square(real, 1.0) + ops.mean_square(judged, 0.0))
    return Loss(total, {**carry, **pools, "step": (carry["step"] + 1) % DRAWN_STEPS})


def batch(batch_size: int, image_size: int, number: int) -> Arrays:
    """Domain a has the classes 0 to 4, domain b the others."""
    labels = labels_of(batch_size, number)
    return {
        "images_a": np.tanh(draw_images(labels % 5, image_size, seed=2 * number)),
        "images_b": np.tanh(draw_images(5 + labels % 5, image_size, seed=2 * number + 1)),
    }


def carry(batch_size: int, image_size: int) -> Arrays:
    draws = np.random.default_rng(0)
    pool = batch(POOL, image_size, number=1000)
    slots = [draws.permutation(POOL)[:batch_size] for _ in range(DRAWN_STEPS)]
    return {
        "pool_a": pool["images_a"],
        "pool_b": pool["images_b"],
        "fake_a": pool["images_a"][:batch_size],
        "fake_b": pool["images_b"][:batch_size],
        "slots": np.array(slots, dtype=np.int64),
        "swaps": draws.integers(0, 2, (DRAWN_STEPS, batch_size)).astype(np.float32),
        "step": np.zeros((), dtype=np.int64),
    }


WORKLOAD = Workload(
    label="CycleGAN",
    parameters=2 * 11_378_179 + 2 * 2_764_737,
    published=Setup(image_size=256, batch_size=1),
    native_size=256,
    optimizer=Adam(2e-4, beta1=0.5),
    groups=(Group(GENERATORS, generators_loss), Group(DISCRIMINATORS, discriminators_loss)),
    serves=GENERATORS[0],
    pytorch=pytorch,
    keras=keras,
    batch=batch,
    carry=carry,
    most=POOL,
)
