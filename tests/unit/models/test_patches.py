"""Patches: which pixel goes where, at the edges too, and the way back."""

import pytest
import torch

from lapa_ray.models.patches import from_patches, to_patches
from lapa_ray.models.vqvae import VqvaeConfig


def test_the_pixels_of_a_patch_are_the_channels_of_a_place():
    picture = torch.arange(2 * 5 * 6).reshape(1, 2, 5, 6)
    patches = to_patches(picture, 4)
    assert patches.shape == (1, 2 * 16, 2, 2)
    assert patches[0, :16, 0, 0].reshape(4, 4).tolist() == picture[0, 0, :4, :4].tolist()
    assert patches[0, 16:, 0, 0].reshape(4, 4).tolist() == picture[0, 1, :4, :4].tolist()
    assert patches[0, :16, 1, 1].reshape(4, 4).tolist() == [
        [picture[0, 0, 4, 4], picture[0, 0, 4, 5], 0, 0],
        *[[0] * 4] * 3,
    ]


@pytest.mark.parametrize("size", [1, 2, 4])
@pytest.mark.parametrize("shape", [(210, 160), (105, 80), (53, 40)])
def test_there_and_back(size, shape):
    pictures = torch.randn(2, 3, *shape)
    assert torch.equal(from_patches(to_patches(pictures, size), size, shape), pictures)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64])
def test_numbers_of_pixels_too(dtype):
    pixels = torch.ones(1, 1, 3, 3).to(dtype)
    patches = to_patches(pixels, 2)
    assert patches.dtype == dtype
    assert patches[0, :, 1, 1].tolist() == [1, 0, 0, 0]


SOURCE = ((210, 160), (105, 80), (53, 40), (27, 20), (14, 10), (7, 5))
WIDTHS = (64, 128, 256, 512, 512)


@pytest.mark.parametrize(
    ("fields", "sizes", "widths"),
    [
        ({}, SOURCE, WIDTHS),
        ({"patch": 2}, SOURCE, WIDTHS),
        ({"patch": 4}, (SOURCE[0], *SOURCE[2:]), WIDTHS[1:]),
        ({"patch": 4, "shrink": 2, "grid": "4x3"}, (SOURCE[1], *SOURCE[3:], (4, 3)), WIDTHS[1:]),
    ],
)
def test_patches_stand_in_for_the_first_convolutions(fields, sizes, widths):
    config = VqvaeConfig(**fields)
    assert (config.sizes, config.widths) == (sizes, widths)
