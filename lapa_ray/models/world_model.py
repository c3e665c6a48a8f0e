"""The world model: codes of the last pair and the action taken now in, codes of the next pair out.

The source's model: embeddings added, a GRU over the tokens of the grid, a linear head. Knows no
pictures, no dataset and no number of tokens.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from lapa_ray.core.artefact import Artefact
from lapa_ray.core.config import Config
from lapa_ray.models.checkpoint import load_checkpoint, load_weights


class WorldModelConfig(Config):
    """Sizes; the defaults are the source's."""

    embedding: int = Field(64, ge=1)
    """Dimensions of the code embedding and of the action embedding."""
    hidden: int = Field(512, ge=1)
    """Units of a GRU layer."""
    num_layers: int = Field(2, ge=1)
    """GRU layers."""


class WorldModel(nn.Module):
    """Codes of the pair (t−1 → t) and the action of step t → logits of the codes of the pair (t → t+1)."""

    def __init__(self, num_actions: int, codebook_size: int, config: WorldModelConfig) -> None:
        super().__init__()
        self.codes = nn.Embedding(codebook_size, config.embedding)
        self.actions = nn.Embedding(num_actions, config.embedding)
        self.gru = nn.GRU(config.embedding, config.hidden, config.num_layers, batch_first=True)
        self.head = nn.Linear(config.hidden, codebook_size)

    def forward(self, codes: Tensor, actions: Tensor) -> Tensor:
        """Codes int64 [B, tokens], actions int64 [B] → logits float [B, tokens, codebook_size]."""
        tokens = self.codes(codes) + self.actions(actions)[:, None]
        logits: Tensor = self.head(self.gru(tokens)[0])
        return logits


def load_world_model(artefact: Artefact) -> WorldModel:
    """The best checkpoint of a world_model artefact, on the CPU, in eval mode. Raises `LapaError` if none fits."""
    path = artefact.path / "checkpoints" / "best.pt"
    figures = artefact.manifest.figures
    model = WorldModel(
        int(figures["num_actions"] or 0),
        int(figures["codebook_size"] or 0),
        WorldModelConfig(**artefact.manifest.config["model"]),
    )
    load_weights(model, load_checkpoint(path)["model"], path)
    return model.eval()
