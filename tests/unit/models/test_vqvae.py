"""The VQ-VAE: shapes, gradients, token order, and one pair of pictures to its codes."""

import numpy as np
import pytest
import torch

from lapa_ray.models.colour import PaletteRgb
from lapa_ray.models.imagination import rollout
from lapa_ray.models.quantizer import QuantizerConfig
from lapa_ray.models.vqvae import PairEncoder, Vqvae, VqvaeConfig
from lapa_ray.models.world_model import WorldModel, WorldModelConfig
from tests.support.pictures import grey_palette, wandering_square

LEARNABLE = QuantizerConfig(codebook_size=8)
EMA = QuantizerConfig(codebook_size=8, kind="ema", cosine=True, codebook_dim=3, kmeans_init=True, revive_below=1)
BOTH = pytest.mark.parametrize("quantizer", [LEARNABLE, EMA], ids=["learnable", "ema"])


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def vqvae(quantizer: QuantizerConfig = LEARNABLE, width: int = 2) -> Vqvae:
    return Vqvae(VqvaeConfig(width=width, code_dim=4, quantizer=quantizer))


def pair(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    pictures = PaletteRgb(grey_palette())(torch.from_numpy(wandering_square(count + 1)))
    return pictures[:-1], pictures[1:]


@BOTH
def test_shapes_and_range(quantizer):
    model = vqvae(quantizer)
    output = model(*pair())
    assert model.picture(output).shape == (2, 3, 210, 160)
    assert model.picture(output).abs().max() <= 1
    assert output.codes.shape == (2, 35)
    assert output.codes.dtype == torch.int64
    assert output.codes.min() >= 0
    assert output.codes.max() < 8
    assert output.quantizer_loss.shape == ()


def test_the_encoder_halves_five_times_and_the_decoder_comes_back_exactly():
    model, sizes = vqvae(), []
    for layer in [*model.encoder, *model.decoder.convolutions]:
        if isinstance(layer, (torch.nn.Conv2d, torch.nn.ConvTranspose2d)) and layer.stride == (2, 2):
            layer.register_forward_hook(lambda _layer, _in, out: sizes.append(tuple(out.shape[2:])))
    model(*pair())
    down = [(105, 80), (53, 40), (27, 20), (14, 10), (7, 5)]
    assert sizes == [*down, *down[-2::-1], (210, 160)]


def test_the_default_has_the_channels_of_the_source():
    model = Vqvae(VqvaeConfig())
    convolutions = [layer for layer in model.encoder if isinstance(layer, torch.nn.Conv2d)]
    assert [layer.in_channels for layer in convolutions] == [6, 64, 128, 256, 512, 512]
    assert convolutions[-1].out_channels == 64
    assert model.quantizer.vq.codebook.shape == (256, 64)
    transposed = model.decoder.convolutions
    assert [layer.out_channels for layer in transposed] == [512, 256, 128, 64, 3]


@BOTH
def test_gradients_of_the_picture_reach_the_encoder(quantizer):
    model = vqvae(quantizer)
    output = model(*pair())
    model.picture(output).square().mean().backward()
    assert model.encoder[0].weight.grad.abs().sum() > 0


def test_gradients_of_the_loss_reach_learnable_codes_and_the_encoder():
    model = vqvae()
    model(*pair()).quantizer_loss.backward()
    assert model.quantizer.vq.codebook.requires_grad
    assert next(model.quantizer.vq.parameters()).grad.abs().sum() > 0
    assert model.encoder[0].weight.grad.abs().sum() > 0


def test_averaged_codes_move_in_training_mode_alone():
    model = vqvae(EMA)
    model(*pair())  # starts them by k-means
    before = model.quantizer.vq.codebook.clone()
    model.eval()(*pair())
    assert torch.equal(model.quantizer.vq.codebook, before)
    model.train()(*pair())
    assert not torch.equal(model.quantizer.vq.codebook, before)


@BOTH
def test_decoding_the_codes_gives_the_reconstruction(quantizer):
    model = vqvae(quantizer)
    model(*pair())
    output = model.eval()(*pair())
    torch.testing.assert_close(model.decode(output.codes), model.picture(output), atol=1e-5, rtol=0)
    assert torch.equal(model.encode_pair(*pair()), output.codes)


def test_tokens_are_row_major():
    """Token r·5 + c comes of the grid cell (r, c): the latents are the encoder's output read row by row."""
    model = vqvae().eval()
    frame_t, frame_t1 = pair(1)
    grid = model.encoder(torch.cat([frame_t, frame_t1], dim=1))
    latents = model.latents(frame_t, frame_t1)
    for row in range(7):
        for column in range(5):
            assert torch.equal(latents[0, row * 5 + column], grid[0, :, row, column])


def test_a_token_decodes_where_it_stands():
    """Changing the last token changes the lower right of the picture, and nothing in the upper left."""
    model = vqvae().eval()
    codes = torch.zeros((1, 35), dtype=torch.int64)
    other = codes.clone()
    other[0, -1] = 1
    difference = (model.decode(codes) - model.decode(other)).abs().sum(dim=(0, 1))
    assert difference[-20:, -20:].sum() > 0
    assert difference[:100, :60].sum() == 0


def test_one_pair_of_pictures_as_indices_and_as_rgb_and_as_arrays():
    palette = grey_palette()
    pictures = wandering_square(2)
    encoder = PairEncoder(vqvae(), PaletteRgb(palette))
    codes = encoder.encode_pair(torch.from_numpy(pictures[0]), torch.from_numpy(pictures[1]))
    assert codes.shape == (35,)
    assert torch.equal(codes, encoder.encode_pair(pictures[0], pictures[1]))
    assert torch.equal(codes, PairEncoder(encoder._model).encode_pair(palette[pictures[0]], palette[pictures[1]]))


@pytest.mark.parametrize(
    "picture", [np.zeros((84, 84), np.uint8), np.zeros((210, 160), np.float32), np.zeros((3, 210, 160), np.uint8)]
)
def test_a_picture_of_another_shape_or_type_is_refused(picture):
    with pytest.raises(ValueError, match=r"a picture is uint8 \[210, 160\]"):
        PairEncoder(vqvae(), PaletteRgb(grey_palette())).encode_pair(picture, picture)


def test_indices_without_a_palette_are_refused():
    picture = wandering_square(1)[0]
    with pytest.raises(ValueError, match="needs a palette"):
        PairEncoder(vqvae()).encode_pair(picture, picture)


def test_palette_colours_are_lossless():
    palette = np.random.default_rng(0).integers(0, 256, (256, 3), dtype=np.uint8)
    indices = np.arange(256, dtype=np.uint8).reshape(1, 16, 16)
    rgb = PaletteRgb(palette)(torch.from_numpy(indices))
    back = ((rgb + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(back, palette[indices])


def test_a_rollout_feeds_on_its_own_predictions():
    model = WorldModel(4, 8, WorldModelConfig(embedding=4, hidden=8)).eval()
    codes, actions = torch.randint(0, 8, (2, 35)), torch.randint(0, 4, (2, 3))
    imagined = rollout(model, codes, actions)
    assert imagined.shape == (2, 3, 35)
    second = model(imagined[:, 0], actions[:, 1]).argmax(dim=-1)
    assert torch.equal(imagined[:, 1], second)


def test_a_sampled_rollout_is_decided_by_its_generator():
    model = WorldModel(4, 8, WorldModelConfig(embedding=4, hidden=8)).eval()
    codes, actions = torch.randint(0, 8, (2, 35)), torch.randint(0, 4, (2, 3))

    def sample(seed: int) -> torch.Tensor:
        return rollout(model, codes, actions, temperature=1.0, generator=torch.Generator().manual_seed(seed))

    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))
