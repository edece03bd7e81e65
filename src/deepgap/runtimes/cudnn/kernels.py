"""Triton kernels for inference on NHWC tensors, INT8 or FP16: what cuDNN lacks or does slowly.

In INT8 they compute what the Q/DQ graph says: INT32 accumulation, one FP32 multiply-add a value, rounding to the
nearest even integer, saturation. In FP16 sums are FP32, and a value is rounded once, when it is stored.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

PACK_BLOCK, MAXIMUM_BLOCK, AVERAGE_BLOCK = 64, 32, 64

SUMS = {torch.int8: tl.int32, torch.float16: tl.float32}
"""In what products of tensors of a type are summed."""

LOWEST = {torch.int8: -128, torch.float16: -65504.0}
"""The smallest number of a type."""


@triton.jit
def _requantize(value):
    # Adding 1.5 x 2^23 leaves no fraction bits, so the hardware rounds to the nearest even integer.
    clipped = tl.minimum(tl.maximum(value, -128.0), 127.0)
    return ((clipped + 12582912.0) - 12582912.0).to(tl.int8)


@triton.jit
def pack_input(
    images, packed, inverse_scale, height, width,
    BLOCK: tl.constexpr, CHANNELS: tl.constexpr, HALF: tl.constexpr,
):  # fmt: skip
    """Quantise float NCHW images, unless `packed` is FP16 (HALF), and lay 2 x 2 pixels of 3 channels side by side as
    12 (padded to 16) channels.

    This turns the 7 x 7 convolution of stride 2 into a 4 x 4 one of stride 1 whose rows of four pixels are 64
    contiguous bytes. `packed` has shape (batch, height / 2 + 3, width / 2 + 3, 16) with two zero rows and columns
    before the image and one after it. Grid: (packed rows, blocks of packed columns, batch).
    """
    row = tl.program_id(0)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    image = tl.program_id(2).to(tl.int64)
    packed_width = width // 2 + 3
    channel = tl.arange(0, CHANNELS)
    colour, shift = channel % 3, channel // 3
    y = 2 * (row - 2) + shift[None, :] // 2
    x = 2 * (column[:, None] - 2) + shift[None, :] % 2
    inside = (channel[None, :] < 12) & (y >= 0) & (y < height) & (x >= 0) & (x < width)
    source = images + image * 3 * height * width + (colour[None, :] * height + y) * width + x
    value = tl.load(source, mask=inside, other=0.0).to(tl.float32)
    target = ((image * (height // 2 + 3) + row) * packed_width + column[:, None]) * CHANNELS + channel[None, :]
    stored = value.to(tl.float16) if HALF else _requantize(value * inverse_scale)
    tl.store(packed + target, stored, mask=column[:, None] < packed_width)


@triton.jit
def convolve(
    x, weight, multiplier, offset, skip, skip_multiplier, y,
    rows, out_height, out_width, height, width, image_stride, row_stride, pixel_stride,
    N: tl.constexpr, C: tl.constexpr, R: tl.constexpr, S: tl.constexpr, STRIDE: tl.constexpr, PAD: tl.constexpr,
    SKIP: tl.constexpr, RELU: tl.constexpr, DENSE: tl.constexpr, HALF: tl.constexpr, SUM: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """y = saturate(round(relu((x * weight) multiplier + offset + skip skip_multiplier))), an implicit matrix product.

    `x` is NHWC int8 with the given strides in elements, `weight` (N, R, S, C) int8, `y` and `skip` (rows, N) int8,
    where a row is an output pixel. HALF: all of them are float16, and y = relu(x * weight + offset + skip), summed in
    float32. DENSE says that output row m reads input row m (1 x 1, stride 1).
    Grid: (row blocks x channel blocks,), channel blocks next to each other so that they share their rows in L2.
    """
    blocks_n: tl.constexpr = N // BLOCK_N
    pid = tl.program_id(0)
    m = (pid // blocks_n) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = (pid % blocks_n) * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    valid = m < rows
    target = m[:, None].to(tl.int64) * N + n[None, :]
    if SKIP:
        # Asked for before the products, which then hide the wait.
        skipped = tl.load(skip + target, mask=valid[:, None], other=0)
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), dtype=SUM)
    weights = weight + n[None, :] * (R * S * C) + k[:, None]
    if DENSE:
        pixels = x + m[:, None].to(tl.int64) * C + k[None, :]
        for start in tl.range(0, C, BLOCK_K):
            a = tl.load(pixels + start, mask=valid[:, None], other=0)
            b = tl.load(weights + start)
            accumulator = tl.dot(a, b, accumulator, out_dtype=SUM)
    else:
        column = m % out_width
        line = (m // out_width) % out_height
        image = m // (out_width * out_height)
        top, left = line * STRIDE - PAD, column * STRIDE - PAD
        origin = image.to(tl.int64) * image_stride + top * row_stride + left * pixel_stride
        steps: tl.constexpr = C // BLOCK_K
        for step in tl.range(0, R * S * steps):
            tap, start = step // steps, (step % steps) * BLOCK_K
            r, s = tap // S, tap % S
            inside = valid
            if PAD > 0:
                inside = valid & (top + r >= 0) & (top + r < height) & (left + s >= 0) & (left + s < width)
            pixels = x + (origin + r * row_stride + s * pixel_stride + start)[:, None] + k[None, :]
            a = tl.load(pixels, mask=inside[:, None], other=0)
            b = tl.load(weights + step * BLOCK_K)
            accumulator = tl.dot(a, b, accumulator, out_dtype=SUM)
    if HALF:
        value = accumulator + tl.load(offset + n)[None, :]
        if SKIP:
            value += skipped.to(tl.float32)
    else:
        value = accumulator.to(tl.float32) * tl.load(multiplier + n)[None, :] + tl.load(offset + n)[None, :]
        if SKIP:
            value += skipped.to(tl.float32) * skip_multiplier
    if RELU:
        value = tl.maximum(value, 0.0)
    stored = value.to(tl.float16) if HALF else _requantize(value)
    tl.store(y + target, stored, mask=valid[:, None])


@triton.jit
def max_pool(
    x, y, pixels, out_height, out_width, height, width,
    C: tl.constexpr, BLOCK: tl.constexpr, LEAST: tl.constexpr,
):  # fmt: skip
    """3 x 3 maximum with stride 2 and padding 1 on NHWC int8 or float16, whose smallest number is LEAST.

    `pixels` counts the output's. Grid: (blocks,).
    """
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    channel = tl.arange(0, C)
    column = pixel % out_width
    line = (pixel // out_width) % out_height
    image = (pixel // (out_width * out_height)).to(tl.int64)
    best = tl.full((BLOCK, C), LEAST, dtype=x.dtype.element_ty)
    for r in tl.static_range(3):
        for s in tl.static_range(3):
            top, left = 2 * line - 1 + r, 2 * column - 1 + s
            inside = (pixel < pixels) & (top >= 0) & (top < height) & (left >= 0) & (left < width)
            source = x + ((image * height + top) * width + left)[:, None] * C + channel[None, :]
            # Not `other=-128`: Triton 3.6 fills int8 values that are masked out with -1 then.
            value = tl.where(inside[:, None], tl.load(source, mask=inside[:, None], other=0), LEAST)
            best = tl.maximum(best, value.to(x.dtype.element_ty))
    tl.store(y + pixel[:, None].to(tl.int64) * C + channel[None, :], best, mask=(pixel < pixels)[:, None])


@triton.jit
def average_pool(
    x, y, scale, channels,
    PIXELS: tl.constexpr, PADDED: tl.constexpr, BLOCK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Mean over all pixels of an NHWC image, times `scale`, as float16. Grid: (images, channel blocks)."""
    image = tl.program_id(0).to(tl.int64)
    channel = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    pixel = tl.arange(0, PADDED)
    source = x + (image * PIXELS + pixel[:, None]) * channels + channel[None, :]
    value = tl.load(source, mask=(pixel < PIXELS)[:, None] & (channel < channels)[None, :], other=0)
    total = tl.sum(value.to(SUM), axis=0)
    mean = total.to(tl.float32) * (scale / PIXELS)
    tl.store(y + image * channels + channel, mean.to(tl.float16), mask=channel < channels)


def pack(images: torch.Tensor, packed: torch.Tensor, inverse_scale: float) -> None:
    """`pack_input` of float images (batch, 3, height, width) into int8 or float16 of shape (batch, height / 2 + 3,
    width / 2 + 3, 16)."""
    batch, _, height, width = images.shape
    _, rows, columns, channels = packed.shape
    grid, half = (rows, triton.cdiv(columns, PACK_BLOCK), batch), packed.dtype == torch.float16
    pack_input[grid](images, packed, inverse_scale, height, width, PACK_BLOCK, channels, half, num_warps=2)


def pool_maximum(x: torch.Tensor, y: torch.Tensor) -> None:
    """`max_pool` of int8 or float16 (batch, height, width, channels); channels are a power of two."""
    _, height, width, channels = x.shape
    batch, out_height, out_width, _ = y.shape
    pixels = batch * out_height * out_width
    grid = (triton.cdiv(pixels, MAXIMUM_BLOCK),)
    geometry = (pixels, out_height, out_width, height, width)
    max_pool[grid](x, y, *geometry, channels, MAXIMUM_BLOCK, LOWEST[x.dtype], num_warps=2)


def pool_average(x: torch.Tensor, y: torch.Tensor, scale: float) -> None:
    """`average_pool` of int8 or float16 (batch, height, width, channels) into float16 (batch, channels)."""
    batch, height, width, channels = x.shape
    padded = triton.next_power_of_2(height * width)
    grid = (batch, triton.cdiv(channels, AVERAGE_BLOCK))
    constants = (height * width, padded, AVERAGE_BLOCK, SUMS[x.dtype])
    average_pool[grid](x, y, scale, channels, *constants, num_warps=4)
